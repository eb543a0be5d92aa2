"""`gapgrid tables` and `gapgrid figures`: previews of a grid that is only partly built.

The functions of the stages `table` and `figure` write them, but to another folder, so that no rule
takes them for its own outputs.
"""

import json
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

from gapgrid.commands.grid_args import grid_of
from gapgrid.core import layout, manifest
from gapgrid.core.cells import UNTOUCHED, Cell
from gapgrid.core.records import InputError, fail_if
from gapgrid.core.spec_types import FigureSpec, TableSpec
from gapgrid.grid.cells import Grid
from gapgrid.grid.qualitative import drawn_by
from gapgrid.grid.specs import base_spec, figure_spec, grade_spec, score_spec, train_spec
from gapgrid.grid.table_spec import table_spec
from gapgrid.stages import figure, table

# Argument of the stage `figure` -> ending of its file.
INPUTS = {"estimates": ".csv", "notes": ".json"}
OUTPUTS = {
    "pdf": "pdf",
    "svg": "svg",
    "points": "csv",
    "caption": "caption.txt",
    "manifest": "manifest.json",
}


def run_tables(args: Namespace) -> int:
    """Write every experiment's tables from the cells that are scored."""
    grid, results = grid_of(args)
    out = args.out or results / "preview"
    for line in write_tables(grid, results, out):
        print(line)
    print(f"written to {out}/")
    return 0


def run_figures(args: Namespace) -> int:
    """Draw every experiment's figure from the tables that `run_tables` wrote."""
    grid, results = grid_of(args)
    tables = args.tables or results / "preview"
    for line in draw_figures(grid, results, tables, args.out or tables / "figures"):
        print(line)
    return 0


def write_tables(grid: Grid, results: Path, out: Path) -> Iterator[str]:
    """Write all experiments' files to `out`; yield for each how many of its cells are scored."""
    if out.resolve() == (results / "tables").resolve():
        raise InputError(f"{out}: holds the workflow's own tables; choose another folder")
    for experiment in grid["experiments"]:
        spec: TableSpec = json.loads(table_spec(grid, experiment))
        cells = [Cell(*cell) for cell in spec["cells"]]
        scored = [cell for cell in cells if score_file(results, cell).is_file()]
        trained = dict.fromkeys(_train_manifest(results, cell) for cell in cells)
        n_stale = sum(is_stale(grid, results, cell) for cell in scored)
        notes = []
        if n_stale:
            text = f"{n_stale} of the cells shown were made under another configuration"
            notes.append(f"{text}; `gapgrid status` says which")
        files = table.build(
            spec,
            [score_file(results, cell) for cell in scored],
            [path for path in trained if path.is_file()],
            notes,
        )
        table.write(files, out, experiment)
        stale = f", {n_stale} of another configuration" if n_stale else ""
        yield f"{experiment}: {len(scored)} of {len(cells)} cells{stale}"


def score_file(results: Path, cell: Cell) -> Path:
    """Return the path of a cell's score."""
    return results / layout.path("score", *cell, file="score.json")


def _train_manifest(results: Path, cell: Cell) -> Path:
    return results / layout.path("train", *cell.trained)


def is_stale(grid: Grid, results: Path, cell: Cell) -> bool:
    """Return whether a manifest of a cell has another spec than the configuration gives now."""
    model, mix, seed, benchmark = cell
    trained = (
        base_spec(grid, model, seed) if mix == UNTOUCHED else train_spec(grid, model, mix, seed)
    )
    specs = {
        _train_manifest(results, cell): trained,
        results / layout.path("grade", *cell): grade_spec(grid, benchmark),
        results / layout.path("score", *cell): score_spec(grid),
    }
    return any(
        path.is_file() and manifest.read(path)["spec"] != json.loads(spec)
        for path, spec in specs.items()
    )


def draw_figures(grid: Grid, results: Path, tables: Path, out: Path) -> Iterator[str]:
    """Draw the figures of the stage `figure`; yield the path of each.

    Raises `InputError` if a table is missing, or if `out` is the workflow's own folder.
    """
    if out.resolve() == (results / "figures").resolve():
        raise InputError(f"{out}: holds the workflow's own figures; choose another folder")
    experiments = drawn_by(grid, "figure")
    inputs = {
        name: {kind: tables / f"{name}.{kind}{ending}" for kind, ending in INPUTS.items()}
        for name in experiments
    }
    missing = [file for files in inputs.values() for file in files.values() if not file.is_file()]
    fail_if([f"{file}: no such file; gapgrid tables writes it" for file in missing])
    for name in experiments:
        outputs = {key: out / f"{name}.{ending}" for key, ending in OUTPUTS.items()}
        spec: FigureSpec = json.loads(figure_spec(grid, name))
        figure.work(Namespace(spec=spec, **inputs[name], **outputs))
        yield f"{outputs['svg']}"
