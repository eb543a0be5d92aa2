"""What the commands about one grid share: its configuration, its results folder, a console."""

import sys
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from gapgrid.config.load import load_grid
from gapgrid.grid.cells import Grid

if TYPE_CHECKING:
    from rich.console import Console


def grid_of(args: Namespace) -> tuple[Grid, Path]:
    """Return the grid, loaded and checked, and the folder of its results."""
    grid = load_grid(args.grid, {"seeds": args.seeds} if args.seeds else {})
    return grid, args.results / args.grid


def console() -> "Console":
    """Return a console for tables: 100 columns wide where there is no terminal."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 100)
