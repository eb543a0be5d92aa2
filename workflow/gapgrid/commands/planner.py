"""`gapgrid power`: plan what it takes to detect a gap, by a grid's scores or by declared rates."""

from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console

from gapgrid.commands import power_report
from gapgrid.commands.grid_args import console, grid_of
from gapgrid.config.checks import did_you_mean
from gapgrid.core import layout
from gapgrid.core.cells import AVERAGE, UNTOUCHED
from gapgrid.core.records import InputError, fail_if
from gapgrid.grid.cells import Grid, cells_of, label, named
from gapgrid.stages import table
from gapgrid.stats import bootstrap, estimates, power
from gapgrid.stats.power import Components, Design

Sides = Mapping[str, Sequence[bootstrap.Outcomes]]  # benchmark -> both sides, seeds x questions


class Wanted(NamedTuple):
    """The options: gaps are points, rates and levels shares; None is what the grid has."""

    gap: float
    contrast: Sequence[str] | None = None
    benchmark: str = AVERAGE
    models: Sequence[str] | None = None
    repeats: int | None = None
    n_seeds: int | None = None
    n_questions: int | None = None
    flip_rate: float | None = None
    seed_sd: float = 0.0
    within: float = 0.0
    power: float = 0.8
    alpha: float = 0.05


class Rates(NamedTuple):
    """By benchmark, the components and the flip rate; the seeds' variance of the average.

    `source` is a line on where they come from.
    """

    parts: dict[str, Components]
    flips: dict[str, float]
    seeds: float
    source: str


def run(args: Namespace) -> int:
    """Print what it takes to detect a gap, by the grid's scores or a declared flip rate."""
    grid, results = grid_of(args)
    plan(grid, results, Wanted(**{key: getattr(args, key) for key in Wanted._fields}), console())
    return 0


def plan(grid: Grid, results: Path, wanted: Wanted, console: Console) -> power.Plan:
    """Check the options, get the rates, print and return the plan.

    Raises `InputError` with everything that is wrong with the options, or if nothing is scored.
    """
    fail_if(problems(grid, wanted))
    contrast = list(wanted.contrast or default_contrast(grid) or ())
    benchmarks = [wanted.benchmark]
    if wanted.benchmark == AVERAGE:
        benchmarks = benchmarks_of(grid, contrast)
    if wanted.flip_rate is None:
        rates = measured(grid, results, contrast, benchmarks, wanted)
    else:
        rates = declared(benchmarks, wanted.flip_rate, wanted)
    rows = {name: int(grid["benchmarks"][name]["rows"]) for name in benchmarks}
    repeats = _repeats(grid, benchmarks)
    # Where benchmarks differ in repeats, more of them are counted in multiples of what each has.
    is_alike = len(set(repeats.values())) == 1
    k = repeats[benchmarks[0]] if is_alike else 1
    parts = {
        name: part._replace(answers=part.answers * k / repeats[name])
        for name, part in rates.parts.items()
    }
    whole = power.of_average(parts, rows, rates.seeds) if len(parts) > 1 else parts[benchmarks[0]]
    n_questions, n_seeds = wanted.n_questions or sum(rows.values()), wanted.n_seeds
    design = Design(n_questions, wanted.repeats or k, n_seeds or len(grid["seeds"]))
    labels = {name: label(grid, "benchmarks", name) for name in benchmarks}
    console.print(rates.source, markup=False, highlight=False)
    console.print(power_report.benchmark_table(labels, rows, repeats, rates.flips, parts))
    if not is_alike:
        text = "Benchmarks have unlike repeats: below, repeats are multiples of what each has."
        console.print(text, markup=False, highlight=False)
    difference = " − ".join(label(grid, "mixes", mix) for mix in contrast)
    mean = f"mean of {len(benchmarks)} benchmarks" if len(benchmarks) > 1 else labels[benchmarks[0]]
    title = f"{difference}, {mean}"
    gap = wanted.gap / 100
    return power_report.report(console, title, whole, design, gap, wanted.power, wanted.alpha)


def _repeats(grid: Grid, benchmarks: Sequence[str]) -> dict[str, int]:
    return {name: int(grid["benchmarks"][name].get("repeats", 1)) for name in benchmarks}


# ---- the options ----


def problems(grid: Grid, wanted: Wanted) -> list[str]:
    """Return all that is wrong with the options, before any score is read."""
    gap, share = abs(wanted.gap), "a share between 0 and 1"
    above_alpha = f"a share above alpha ({wanted.alpha:g}) and below 1"
    checks = [
        ("gap", wanted.gap, 0 < gap <= 100, "points, more than 0 and at most 100"),
        ("alpha", wanted.alpha, 0 < wanted.alpha < 1, share),
        ("power", wanted.power, wanted.alpha < wanted.power < 1, above_alpha),
        ("within", wanted.within, 0 <= wanted.within <= 1, share),
        ("seed-sd", wanted.seed_sd, wanted.seed_sd >= 0, "points, 0 or more"),
    ]
    for option, count, least in (
        ("repeats", wanted.repeats, 1),
        ("n-seeds", wanted.n_seeds, 1),
        ("n-questions", wanted.n_questions, 2),
    ):
        if count is not None:
            checks.append((option, count, count >= least, f"{least} or more"))
    if wanted.flip_rate is not None:
        expected = f"a share of at least the gap ({gap / 100:g}) and at most 1"
        is_right = gap / 100 <= wanted.flip_rate <= 1
        checks.append(("flip-rate", wanted.flip_rate, is_right, expected))
    result = [
        f"--{option}: found {value:g}, expected {expected}"
        for option, value, is_right, expected in checks
        if not is_right
    ]
    if wanted.flip_rate is None and (wanted.seed_sd or wanted.within):
        result.append("--seed-sd and --within go with --flip-rate; without it they are measured")
    return [*result, *_name_problems(grid, wanted)]


def _name_problems(grid: Grid, wanted: Wanted) -> list[str]:
    """Return the problems with names of mixes, benchmarks and models."""
    names = [("contrast", mix, [*grid["mixes"], UNTOUCHED]) for mix in wanted.contrast or ()]
    names += [("benchmark", wanted.benchmark, [AVERAGE, *grid["benchmarks"]])]
    names += [("models", model, list(grid["models"])) for model in wanted.models or ()]
    result = [
        f"--{option}: '{name}' is not in the grid{did_you_mean(name, known)}; "
        f"expected one of {', '.join(known)}"
        for option, name, known in names
        if name not in known
    ]
    if wanted.contrast and len(set(wanted.contrast)) == 1:
        result.append(f"--contrast: '{wanted.contrast[0]}' twice, expected two different mixes")
    if not wanted.contrast and default_contrast(grid) is None:
        result.append("--contrast is missing: no experiment of the grid has a contrast")
    return result


def default_contrast(grid: Grid) -> list[str] | None:
    """Return the contrast of the first experiment that has one."""
    contrasts = (entry.get("contrast") for entry in grid["experiments"].values())
    return next((contrast for contrast in contrasts if contrast), None)


def benchmarks_of(grid: Grid, contrast: Sequence[str]) -> list[str]:
    """Return the benchmarks of the first experiment that has this contrast and not all of them.

    Without such an experiment, return all benchmarks.
    """
    for entry in grid["experiments"].values():
        if entry.get("contrast") == list(contrast) and entry["benchmarks"] != "all":
            return named(entry["benchmarks"], grid["benchmarks"])
    return list(grid["benchmarks"])


# ---- the rates ----


def declared(benchmarks: Sequence[str], flip_rate: float, wanted: Wanted) -> Rates:
    """Return rates by a declared flip rate, the same for all benchmarks."""
    part = power.from_rates(flip_rate, wanted.gap / 100, wanted.seed_sd / 100, wanted.within)
    parts, flips = dict.fromkeys(benchmarks, part), dict.fromkeys(benchmarks, flip_rate)
    seeds = f"the gap's standard deviation between seeds {wanted.seed_sd:g} points"
    source = f"Declared: flip rate {flip_rate:.0%}, {seeds}"
    answers = f"{wanted.within:.0%} of the rest from single answers"
    return Rates(parts, flips, part.seeds, f"{source}, {answers}.")


def measured(
    grid: Grid, results: Path, contrast: Sequence[str], benchmarks: Sequence[str], wanted: Wanted
) -> Rates:
    """Return rates by the scores of every student with both sides on all these benchmarks.

    Raises `InputError` if there is no such student.
    """
    models = list(wanted.models or grid["models"])
    sides_of = scored(grid, results, contrast, benchmarks, models)
    if not sides_of:
        where = f"{' and '.join(contrast)} in {', '.join(benchmarks)}"
        raise InputError(
            f"{results}/score: no student is scored on {where} yet; "
            "build some of these cells, or declare a rate, e.g. --flip-rate 0.25"
        )
    repeats = _repeats(grid, benchmarks)
    parts, flips = {}, {}
    for name in benchmarks:
        pairs = [(sides[name][0], sides[name][1]) for sides in sides_of.values()]
        parts[name] = power.from_grid(pairs, repeats[name])
        flips[name] = float(np.mean([bootstrap.second_moment(pair) for pair in pairs]))
    gaps = [
        {name: sides[name][0] - sides[name][1] for name in benchmarks}
        for sides in sides_of.values()
    ]
    n_seeds = [len(gap[benchmarks[0]]) for gap in gaps]
    least, most = min(n_seeds), max(n_seeds)
    seeds = f"{least} training seed(s)" if least == most else f"{least} to {most} training seed(s)"
    source = f"Measured on {len(gaps)} student(s) with {seeds}, averaged: {', '.join(sides_of)}."
    return Rates(parts, flips, power.seeds_of_average(gaps), source)


def scored(
    grid: Grid,
    results: Path,
    contrast: Sequence[str],
    benchmarks: Sequence[str],
    models: Sequence[str],
) -> dict[str, Sides]:
    """Return both sides of every student that is scored on all these benchmarks.

    On each of them two questions must have an outcome on both sides in every seed.
    """
    cells = cells_of(grid, models, contrast, benchmarks)
    files = [results / layout.path("score", *cell, file="score.json") for cell in cells]
    outcomes = table.read_outcomes([file for file in files if file.is_file()])
    result: dict[str, Sides] = {}
    for model in models:
        gap = estimates.Quantity("gap", model, *contrast)
        sides, _ = estimates.paired(cells, benchmarks, outcomes, gap)
        known = (~np.isnan(first - second).any(axis=0) for first, second in sides.values())
        if len(sides) == len(benchmarks) and all(questions.sum() >= 2 for questions in known):
            result[model] = sides
    return result
