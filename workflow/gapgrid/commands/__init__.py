"""The commands of `gapgrid`, a module each, and `pin`, which `make pin` calls."""
