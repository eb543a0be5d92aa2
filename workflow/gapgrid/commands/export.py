"""`gapgrid export`: results in the files of the paper's scripts."""

from argparse import Namespace
from collections import Counter

from gapgrid.commands.grid_args import grid_of
from gapgrid.grid.cells import all_cells
from gapgrid.interop.paper_exports import export_grid


def run(args: Namespace) -> int:
    """Write both files of every training cell, named by task or, if tasks repeat, by benchmark."""
    grid, results = grid_of(args)
    tasks = {name: entry["task"] for name, entry in grid["benchmarks"].items()}
    uses = Counter(tasks.values())
    names = {name: task if uses[task] == 1 else name for name, task in tasks.items()}
    written = export_grid(results, all_cells(grid), args.out, names)
    print(f"{len(written)} files written to {args.out}/")
    return 0 if written else 1
