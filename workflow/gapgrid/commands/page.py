"""`gapgrid page`: write the grid page, a heat map of scores and states with details per cell."""

from argparse import Namespace

from gapgrid.commands.grid_args import grid_of
from gapgrid.reporting.dashboard import page
from gapgrid.state.status import status_of


def run(args: Namespace) -> int:
    """Write the page and print its path."""
    grid, results = grid_of(args)
    print(page.write(grid, results, status_of(grid, results)))
    return 0
