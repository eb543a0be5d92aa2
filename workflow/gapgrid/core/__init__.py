"""What all packages share: cells, paths of results, rows, specs, manifests; standard library alone."""
