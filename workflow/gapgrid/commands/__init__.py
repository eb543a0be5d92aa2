"""What people ask of a grid that is no rule of it: one module for each command of `gapgrid`, and for pinning."""
