"""What all packages share: cells, paths of results, rows, specs and manifests."""
