"""Which cells a grid has, and what its students, mixes and benchmarks are called."""

from collections.abc import Iterable
from itertools import product
from typing import Any

from gapgrid.core.cells import UNTOUCHED, Cell, TrainingCell

Grid = dict[str, Any]
KINDS = ("models", "mixes", "benchmarks")


def named(listed: str | list[str], everything: Iterable[str]) -> list[str]:
    """Return the names that an experiment lists, in its order; `all` is `everything` in order."""
    return list(everything) if listed == "all" else list(listed)


def base_seed(grid: Grid, model: str, seed: int) -> int:
    """Return the seed of a student before SFT.

    A tiny student is pretrained per seed, so it is `seed`; any other student has one, 0.
    """
    return seed if grid["models"][model]["kind"] == "tiny" else 0


def cells_of(
    grid: Grid, models: Iterable[str], mixes: Iterable[str], benchmarks: Iterable[str]
) -> list[Cell]:
    """Return the cells of these names with every seed of the grid, sorted, each once.

    A student before SFT has the seed that `base_seed` gives.
    """
    cells = {
        Cell(model, mix, base_seed(grid, model, seed) if mix == UNTOUCHED else seed, benchmark)
        for model, mix, benchmark in product(models, mixes, benchmarks)
        for seed in grid["seeds"]
    }
    return sorted(cells)


def experiment_cells(grid: Grid, experiment: str) -> list[Cell]:
    """Return the cells that one experiment shows, sorted, each once."""
    entry = grid["experiments"][experiment]
    return cells_of(grid, *(named(entry[kind], grid[kind]) for kind in KINDS))


def all_cells(grid: Grid) -> list[Cell]:
    """Return the cells that all experiments need together, sorted, each once."""
    return sorted({cell for name in grid["experiments"] for cell in experiment_cells(grid, name)})


def benchmarks_of(cells: Iterable[Cell]) -> dict[TrainingCell, list[str]]:
    """Return the benchmarks of each training cell, in the order of `cells`."""
    benchmarks: dict[TrainingCell, list[str]] = {}
    for cell in cells:
        benchmarks.setdefault(cell.trained, []).append(cell.benchmark)
    return benchmarks


def shown(grid: Grid, experiment: str) -> dict[str, list[list[str]]]:
    """Return the [name, label] pairs of an experiment's students, mixes and benchmarks.

    They are in the order in which the experiment names them.
    """
    entry = grid["experiments"][experiment]
    return {
        kind: [[name, label(grid, kind, name)] for name in named(entry[kind], grid[kind])]
        for kind in KINDS
    }


def label(grid: Grid, kind: str, name: str) -> str:
    """Return how tables and figures call a student, mix or benchmark."""
    return "untouched" if name == UNTOUCHED else grid[kind][name].get("label", name)
