"""The jobs and specs of experiments on single answers: token rank shift and case study."""

from typing import Any

from gapgrid.core.cells import UNTOUCHED, Cell
from gapgrid.core.spec_types import CaseSpec, ShiftFigureSpec, ShiftSpec
from gapgrid.grid.cells import Grid, experiment_cells, shown
from gapgrid.grid.specs import engine_of, spec_text

# Plots with a rule of their own; rule figure draws all others.
RULES = {"token_shift": "shift_figure", "case_study": "case"}
PROBLEMS = {"token_shift": 50, "case_study": 3}  # the default of `problems`


def drawn_by(grid: Grid, rule: str) -> list[str]:
    """Return the experiments that a rule draws: `figure`, `shift_figure` or `case`."""
    experiments = grid["experiments"].items()
    return [name for name, entry in experiments if RULES.get(entry["plot"], "figure") == rule]


def problems_of(entry: dict[str, Any]) -> int:
    """Return how many problems an experiment reads (token_shift) or shows (case_study)."""
    return int(entry.get("problems", PROBLEMS[entry["plot"]]))


def shift_cells(grid: Grid, experiment: str | None = None) -> list[Cell]:
    """Return the cells whose answers are ranked under the untouched student, sorted.

    They are those of one experiment, or of all.
    """
    names = drawn_by(grid, "shift_figure") if experiment is None else [experiment]
    cells = {cell for name in names for cell in experiment_cells(grid, name)}
    return sorted(cell for cell in cells if cell.mix != UNTOUCHED)


def shift_spec(grid: Grid, model: str, mix: str, seed: int, benchmark: str) -> str:
    """Return the spec of one cell's ranks.

    Students, request and problems are input files; connectors belong to the figure.
    """
    cell = Cell(model, mix, seed, benchmark)
    names = drawn_by(grid, "shift_figure")
    experiment = next(name for name in names if cell in shift_cells(grid, name))
    asked_by = grid["engine"]["evaluate"]
    spec = ShiftSpec(
        problems=problems_of(grid["experiments"][experiment]),
        asked_by=asked_by,
        engine=engine_of(grid, "stub" if asked_by == "stub" else "ranks"),
    )
    return spec_text("shift", spec)


def shift_figure_spec(grid: Grid, experiment: str) -> str:
    """Return the spec of one experiment's shift figure: its cells, names and own connectors."""
    entry = grid["experiments"][experiment]
    cells = [list(cell) for cell in shift_cells(grid, experiment)]
    spec = ShiftFigureSpec(cells=cells, shown=shown(grid, experiment))
    if "connectors" in entry:
        spec["connectors"] = entry["connectors"]
    return spec_text("shift_figure", spec)


def case_spec(grid: Grid, experiment: str) -> str:
    """Return the spec of one experiment's page of cases: its cells, and what is chosen how."""
    entry = grid["experiments"][experiment]
    spec = CaseSpec(
        cells=[list(cell) for cell in experiment_cells(grid, experiment)],
        choose=entry["choose"],
        problems=problems_of(entry),
        caption=entry["caption"],
        shown=shown(grid, experiment),
    )
    return spec_text("case", spec)
