"""What each kind of plot needs of an experiment's entry."""

from collections.abc import Iterator
from typing import Any

from gapgrid.core.cells import UNTOUCHED, Cell
from gapgrid.core.spec_types import with_defaults
from gapgrid.grid.cells import Grid, named
from gapgrid.grid.qualitative import drawn_by, problems_of, shift_cells

# Keys that only some plots take, and keys that a plot cannot do without.
OWN_KEYS = {
    "groups": ("pairs",),
    "weight_of": ("by_weight",),
    "problems": ("token_shift", "case_study"),
    "connectors": ("token_shift",),
    "choose": ("case_study",),
}
NEEDED_BY = {
    "gap_by_size": ("contrast",),
    "pairs": ("contrast", "groups"),
    "by_weight": ("weight_of",),
    "case_study": ("choose",),
}


def plot_problems(grid: Grid, where: str, entry: dict[str, Any]) -> Iterator[str]:
    """Yield a message for each key that the experiment's plot lacks, does not take or cannot use.

    `where` names the file and the experiment.
    """
    plot = entry["plot"]
    for key in NEEDED_BY.get(plot, ()):
        if key not in entry:
            yield f"{where}: key '{key}' is missing; plot {plot} needs it"
    for key, plots in OWN_KEYS.items():
        if key in entry and plot not in plots:
            yield f"{where}: key '{key}' goes with plot {' or '.join(plots)}, found plot {plot}"
    if "groups" in entry:
        yield from _group_problems(grid, f"{where}.groups", entry)
    if "weight_of" in entry:
        yield from _weight_problems(grid, f"{where}.weight_of", entry)
    if plot == "token_shift":
        yield from _shift_problems(grid, where, entry)
    if plot == "case_study":
        yield from outside_mixes(grid, f"{where}.choose", entry, entry.get("choose", ()))


def outside_mixes(grid: Grid, where: str, entry: dict[str, Any], listed: Any) -> Iterator[str]:
    """Yield a message for each mix of `listed` that the experiment does not have."""
    mixes = named(entry["mixes"], grid["mixes"])
    for mix in listed:
        if mix not in mixes:
            yield f"{where}: '{mix}' is not among the experiment's mixes ({', '.join(mixes)})"


def _group_problems(grid: Grid, where: str, entry: dict[str, Any]) -> Iterator[str]:
    """Partners have the same position in each group's list and are of one size."""
    groups: dict[str, list[str]] = entry["groups"]
    models = named(entry["models"], grid["models"])
    listed = [model for group in groups.values() for model in group]
    for model in dict.fromkeys(listed):
        if model not in models:
            yield f"{where}: '{model}' is not among the experiment's models ({', '.join(models)})"
        if listed.count(model) > 1:
            yield f"{where}: '{model}' is given {listed.count(model)} times, expected once"
    left_out = ", ".join(model for model in models if model not in listed)
    if left_out:
        yield (f"{where}: no group for {left_out}; expected each of the experiment's models in one")
    if len({len(group) for group in groups.values()}) > 1:
        counts = ", ".join(f"{name} has {len(group)}" for name, group in groups.items())
        yield (
            f"{where}: {counts} students, expected as many in each group: "
            "partners have the same position"
        )
        return
    for partners in zip(*groups.values(), strict=True):
        known = [model for model in partners if model in grid["models"]]
        sizes = {model: grid["models"][model]["params_b"] for model in known}
        if len(set(sizes.values())) > 1:
            listing = ", ".join(f"{model} {size:g}" for model, size in sizes.items())
            yield f"{where}: partners differ in params_b ({listing}), expected one size"


def _weight_problems(grid: Grid, where: str, entry: dict[str, Any]) -> Iterator[str]:
    """The mixes hold the source and one other, each weight once, all counted alike."""
    source = entry["weight_of"]
    mixes = {
        name: with_defaults("mix", grid["mixes"][name])
        for name in named(entry["mixes"], grid["mixes"])
        if name in grid["mixes"] and name != UNTOUCHED
    }
    parts = {part for mix in mixes.values() for part in mix["parts"] if part in grid["sources"]}
    besides = ", ".join(sorted(parts - {source}))
    if source not in parts:
        yield (
            f"{where}: '{source}' is in none of the experiment's mixes, expected one of {besides}"
        )
        return
    if len(parts) > 2:
        yield f"{where}: the mixes hold {besides} besides {source}, expected one other source"
    by_weight: dict[float, list[str]] = {}
    for name, mix in mixes.items():
        by_weight.setdefault(float(mix["parts"].get(source, 0.0)), []).append(name)
    for weight, names in by_weight.items():
        if len(names) > 1:
            listing = " and ".join(names)
            yield f"{where}: {listing} have weight {weight:g}, expected each weight once"
    units = sorted({mix["by"] for mix in mixes.values() if len(mix["parts"]) > 1})
    if len(units) > 1:
        yield f"{where}: some mixes count {' and some '.join(units)}, expected one of them"


def _shift_problems(grid: Grid, where: str, entry: dict[str, Any]) -> Iterator[str]:
    if UNTOUCHED in entry["mixes"]:
        yield (
            f"{where}.mixes: '{UNTOUCHED}' is what the other answers are ranked under; leave it out"
        )
    for name in named(entry["benchmarks"], grid["benchmarks"]):
        benchmark = with_defaults("benchmark", grid["benchmarks"].get(name, {}))
        temperature, repeats = benchmark["sampling"].get("temperature", 0), benchmark["repeats"]
        if temperature > 0 or repeats > 1:
            yield (
                f"{where}.benchmarks: {name} is answered with temperature {temperature:g} and "
                f"repeats {repeats}; plot token_shift needs greedy answers, expected temperature 0 "
                "and repeats 1"
            )
        if "rows" in benchmark and problems_of(entry) > benchmark["rows"]:
            yield f"{where}.problems: {problems_of(entry)}, but {name} has {benchmark['rows']}"


def shared_cell_problems(grid: Grid) -> Iterator[str]:
    """Yield a message for each token_shift experiment that reads more or fewer problems of a cell.

    A cell is ranked once, so experiments that share one must give the same number of problems.
    """
    first: dict[Cell, str] = {}
    for name in drawn_by(grid, "shift_figure"):
        if not _is_known(grid, name):
            continue
        n_problems = problems_of(grid["experiments"][name])
        for cell in shift_cells(grid, name):
            other = first.setdefault(cell, name)
            expected = problems_of(grid["experiments"][other])
            if n_problems != expected:
                yield (
                    f"{grid['folder']}/experiments.yaml: {name}.problems: {n_problems}, "
                    f"but {other}, which shares cells with it, has {expected}"
                )
                break


def _is_known(grid: Grid, experiment: str) -> bool:
    """Whether all names of an experiment exist; if not, another message names them."""
    entry = grid["experiments"][experiment]
    return all(
        name in (*grid[kind], UNTOUCHED)
        for kind in ("models", "mixes", "benchmarks")
        for name in named(entry[kind], grid[kind])
    )
