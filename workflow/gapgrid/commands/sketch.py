"""Figures from tables that were made while part of the grid is still to be built: `gapgrid figures`, after `gapgrid tables`.

They are drawn by the functions of the stage `figure`, and written elsewhere, so that no rule takes them for its own.
"""

import json
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

from gapgrid import closeups, figure
from gapgrid import grid as g
from gapgrid.grid import Grid
from gapgrid.records import InputError, fail_if

FILES = {"pdf": "pdf", "svg": "svg", "points": "csv", "caption": "caption.txt", "manifest": "manifest.json"}


def draw_figures(grid: Grid, results: Path, tables: Path, out: Path) -> Iterator[str]:
    """Draw all experiments that have a figure of the common kinds; yields a file's path each."""
    if out.resolve() == (results / "figures").resolve():
        raise InputError(f"{out}: holds the workflow's own figures; choose another folder")
    experiments = closeups.drawn_by(grid, "figure")
    needed = [tables / f"{name}.{suffix}" for name in experiments for suffix in ("estimates.csv", "notes.json")]
    fail_if([f"{file}: no such file; gapgrid tables writes it" for file in needed if not file.is_file()])
    for name in experiments:
        files = {key: out / f"{name}.{suffix}" for key, suffix in FILES.items()}
        read = {"estimates": tables / f"{name}.estimates.csv", "notes": tables / f"{name}.notes.json"}
        figure.work(Namespace(spec=json.loads(g.figure_spec(grid, name)), **read, **files))
        yield f"{files['svg']}"
