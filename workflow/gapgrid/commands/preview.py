"""Every experiment's tables from the cells that are there, while the rest of the grid is still to be built: `gapgrid tables`.

They are made by the functions of the stage `table`, and written elsewhere, so that no rule takes them for its own.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from gapgrid import claims, manifest, table
from gapgrid import grid as g
from gapgrid.grid import Grid
from gapgrid.records import InputError


def write_tables(grid: Grid, results: Path, out: Path) -> Iterator[str]:
    """Write all experiments' files to `out`; yields a line each, with how many of its cells are missing."""
    if out.resolve() == (results / "tables").resolve():
        raise InputError(f"{out}: holds the workflow's own tables; choose another folder")
    for experiment in grid["experiments"]:
        spec = json.loads(claims.table_spec(grid, experiment))
        cells = [g.Cell(*cell) for cell in spec["cells"]]
        there = [cell for cell in cells if score_of(results, cell).is_file()]
        trained = [path for path in dict.fromkeys(_trained(results, cell) for cell in cells) if path.is_file()]
        n_other = sum(is_other(grid, results, cell) for cell in there)
        other = [f"{n_other} of the cells shown were made under another configuration; `gapgrid status` says which"] if n_other else []
        made = table.build(spec, [score_of(results, cell) for cell in there], trained, other)
        table.write(made, out, experiment)
        yield f"{experiment}: {len(there)} of {len(cells)} cells{f', {n_other} of another configuration' if n_other else ''}"


def score_of(results: Path, cell: g.Cell) -> Path:
    """Where a cell's score is."""
    return results / "score" / "/".join(map(str, cell)) / "score.json"


def _trained(results: Path, cell: g.Cell) -> Path:
    return results / "train" / "/".join(map(str, cell[:3])) / "manifest.json"


def is_other(grid: Grid, results: Path, cell: g.Cell) -> bool:
    """Whether one of a cell's manifests was made under another spec than the configuration gives now."""
    model, mix, seed, benchmark = cell
    before = g.base_spec(grid, model, seed) if mix == g.UNTOUCHED else g.train_spec(grid, model, mix, seed)
    wanted = {
        _trained(results, cell): before,
        results / "grade" / "/".join(map(str, cell)) / "manifest.json": g.grade_spec(grid, benchmark),
        score_of(results, cell).with_name("manifest.json"): g.score_spec(grid),
    }
    return any(path.is_file() and manifest.read(path)["spec"] != json.loads(spec) for path, spec in wanted.items())
