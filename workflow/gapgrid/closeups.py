"""Experiments that look at the answers themselves: token rank shift and case study. Which jobs they need, and what fixes them.

Like `grid`: a config dict in, strings out, the standard library alone.
"""

from collections.abc import Iterator
from typing import Any

from gapgrid import grid as g
from gapgrid.grid import Cell, Grid

# Plots with a rule of their own; rule figure draws all others.
RULES = {"token_shift": "shift_figure", "case_study": "case"}
PROBLEMS = {"token_shift": 50, "case_study": 3}  # where the entry does not say how many
OWN_KEYS = {"problems": ("token_shift", "case_study"), "connectors": ("token_shift",), "choose": ("case_study",)}
VERDICTS = ("right", "wrong")


def drawn_by(grid: Grid, rule: str) -> list[str]:
    """The experiments that a rule draws: `figure`, `shift_figure` or `case`."""
    return [name for name, entry in grid["experiments"].items() if RULES.get(entry["plot"], "figure") == rule]


def problems_of(entry: dict[str, Any]) -> int:
    """How many problems an experiment reads (token_shift) or shows (case_study)."""
    return int(entry.get("problems", PROBLEMS[entry["plot"]]))


def shift_cells(grid: Grid, experiment: str | None = None) -> list[Cell]:
    """The cells whose answers are ranked under the untouched student, sorted: one experiment's, or all."""
    names = drawn_by(grid, "shift_figure") if experiment is None else [experiment]
    return sorted({cell for name in names for cell in g.experiment_cells(grid, name) if cell.mix != g.UNTOUCHED})


def shift_spec(grid: Grid, cell: Cell) -> str:
    """Of one cell's ranks. Students, request and problems come in as files; which words are connectors is the figure's affair."""
    named = next(name for name in drawn_by(grid, "shift_figure") if cell in shift_cells(grid, name))
    asked_by = grid["engine"]["evaluate"]
    engine = g.engine(grid, "stub" if asked_by == "stub" else "ranks")
    return g.spec("shift", problems=problems_of(grid["experiments"][named]), asked_by=asked_by, engine=engine)


def shift_figure_spec(grid: Grid, experiment: str) -> str:
    """Of one experiment's figure of shifts: its cells, names in the order given, and its own connectors."""
    entry = grid["experiments"][experiment]
    own = {"connectors": entry["connectors"]} if "connectors" in entry else {}
    return g.spec("shift_figure", cells=shift_cells(grid, experiment), shown=g.shown(grid, experiment), **own)


def case_spec(grid: Grid, experiment: str) -> str:
    """Of one experiment's page of cases: its cells, which problems are chosen, how many, and what the page calls things."""
    entry = grid["experiments"][experiment]
    return g.spec(
        "case",
        cells=g.experiment_cells(grid, experiment),
        choose=entry["choose"],
        problems=problems_of(entry),
        caption=entry["caption"],
        shown=g.shown(grid, experiment),
    )


# ---- what an entry may say ----


def closeup_problems(grid: Grid) -> Iterator[str]:
    """Every key of an experiment that goes with another plot, is missing or contradicts itself."""
    for name, entry in grid["experiments"].items():
        where = f"{grid['folder']}/experiments.yaml: {name}"
        for key, plots in OWN_KEYS.items():
            if key in entry and entry["plot"] not in plots:
                yield f"{where}: key '{key}' goes with plot {' or '.join(plots)}, found plot {entry['plot']}"
        if entry["plot"] == "token_shift":
            yield from _shift_problems(grid, where, entry)
        elif entry["plot"] == "case_study":
            yield from _case_problems(grid, where, entry)
    yield from _contradictions(grid)


def _shift_problems(grid: Grid, where: str, entry: dict[str, Any]) -> Iterator[str]:
    if g.UNTOUCHED in entry["mixes"]:
        yield f"{where}.mixes: '{g.UNTOUCHED}' is what the other answers are ranked under; leave it out"
    for name in g.named(entry["benchmarks"], grid["benchmarks"]):
        asked = grid["benchmarks"].get(name, {})
        temperature, repeats = asked.get("sampling", {}).get("temperature", 0), asked.get("repeats", 1)
        if temperature > 0 or repeats > 1:
            yield (
                f"{where}.benchmarks: {name} is answered with temperature {temperature:g} and repeats {repeats}; "
                "plot token_shift needs greedy answers, expected temperature 0 and repeats 1"
            )
        if "rows" in asked and problems_of(entry) > asked["rows"]:
            yield f"{where}.problems: {problems_of(entry)}, but {name} has {asked['rows']}"


def _case_problems(grid: Grid, where: str, entry: dict[str, Any]) -> Iterator[str]:
    if "choose" not in entry:
        yield f"{where}: key 'choose' is missing; plot case_study needs it"
    mixes = g.named(entry["mixes"], grid["mixes"])
    for mix in entry.get("choose", ()):
        if mix not in mixes:
            yield f"{where}.choose: '{mix}' is not among the experiment's mixes ({', '.join(mixes)})"


def _contradictions(grid: Grid) -> Iterator[str]:
    """One cell is ranked once, so experiments that share one must ask for as many problems."""
    asked: dict[Cell, str] = {}
    for name in drawn_by(grid, "shift_figure"):
        if _is_known(grid, name):
            for cell in shift_cells(grid, name):
                other = asked.setdefault(cell, name)
                found, expected = (problems_of(grid["experiments"][one]) for one in (name, other))
                if found != expected:
                    where = f"{grid['folder']}/experiments.yaml: {name}.problems"
                    yield f"{where}: {found}, but {other}, which shares cells with it, has {expected}"
                    break


def _is_known(grid: Grid, experiment: str) -> bool:
    """Whether all names of an experiment lead somewhere; if not, another message says so."""
    entry = grid["experiments"][experiment]
    return all(
        name in (*grid[kind], g.UNTOUCHED) for kind in ("models", "mixes", "benchmarks") for name in g.named(entry[kind], grid[kind])
    )
