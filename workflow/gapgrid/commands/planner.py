"""`gapgrid power`: a plan for seeing a gap, from the flip rates of the scores that a grid has, or from declared ones."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gapgrid import estimating, power, statistics, table
from gapgrid.crosschecks import did_you_mean
from gapgrid.grid import UNTOUCHED, Cell, Grid, base_seed, label
from gapgrid.power import Components, Design
from gapgrid.records import InputError, fail_if
from gapgrid.statistics import AVERAGE

if TYPE_CHECKING:
    from rich.console import Console

Sides = Mapping[str, Sequence[statistics.Outcomes]]  # benchmark -> both sides, seeds x questions


class Wanted(NamedTuple):
    """What is asked: gaps are points, rates and levels shares; None is what the grid says."""

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


class Learnt(NamedTuple):
    """By benchmark, components and flip rate; the seeds' part of the average; and a line on where they come from."""

    parts: dict[str, Components]
    flips: dict[str, float]
    seeds: float
    source: str


def run(grid: Grid, results: Path, wanted: Wanted, console: "Console") -> power.Plan:
    """Check, learn, print; the plan. An `InputError` lists everything that is wrong with what is asked."""
    fail_if(problems(grid, wanted))
    contrast = list(wanted.contrast or default_contrast(grid) or ())
    benchmarks = benchmarks_of(grid, contrast) if wanted.benchmark == AVERAGE else [wanted.benchmark]
    learnt = declared(benchmarks, wanted) if wanted.flip_rate is not None else measured(grid, results, contrast, benchmarks, wanted)
    rows = {name: int(grid["benchmarks"][name]["rows"]) for name in benchmarks}
    repeats = {name: int(grid["benchmarks"][name].get("repeats", 1)) for name in benchmarks}
    # Where benchmarks have unlike repeats, what more of them buy is counted in multiples of what each has.
    k = set(repeats.values()).pop() if len(set(repeats.values())) == 1 else 1
    parts = {name: one._replace(answers=one.answers * k / repeats[name]) for name, one in learnt.parts.items()}
    whole = power.of_average(parts, rows, learnt.seeds) if len(parts) > 1 else parts[benchmarks[0]]
    design = Design(wanted.n_questions or sum(rows.values()), wanted.repeats or k, wanted.n_seeds or len(grid["seeds"]))
    names = {name: label(grid, "benchmarks", name) for name in benchmarks}
    sides = " − ".join(label(grid, "mixes", mix) for mix in contrast)
    where = f"mean of {len(benchmarks)} benchmarks" if len(benchmarks) > 1 else names[benchmarks[0]]
    _say(console, learnt.source)
    _show_benchmarks(console, names, rows, repeats, learnt, parts)
    if len(set(repeats.values())) > 1:
        _say(console, "Benchmarks have unlike repeats: below, repeats are multiples of what each has.")
    return report(console, f"{sides}, {where}", whole, design, wanted.gap / 100, wanted.power, wanted.alpha)


# ---- what is asked ----


def problems(grid: Grid, wanted: Wanted) -> list[str]:
    """All that is wrong with what is asked, before any score is read."""
    found = [
        f"--{option}: found {value:g}, expected {expected}"
        for option, value, is_right, expected in (
            ("gap", wanted.gap, 0 < abs(wanted.gap) <= 100, "points, more than 0 and at most 100"),
            ("alpha", wanted.alpha, 0 < wanted.alpha < 1, "a share between 0 and 1"),
            ("power", wanted.power, wanted.alpha < wanted.power < 1, f"a share above alpha ({wanted.alpha:g}) and below 1"),
            ("within", wanted.within, 0 <= wanted.within <= 1, "a share between 0 and 1"),
            ("seed-sd", wanted.seed_sd, wanted.seed_sd >= 0, "points, 0 or more"),
        )
        if not is_right
    ]
    for option, count, least in (("repeats", wanted.repeats, 1), ("n-seeds", wanted.n_seeds, 1), ("n-questions", wanted.n_questions, 2)):
        if count is not None and count < least:
            found.append(f"--{option}: found {count}, expected {least} or more")
    rate = wanted.flip_rate
    if rate is not None and not abs(wanted.gap) / 100 <= rate <= 1:
        found.append(f"--flip-rate: found {rate:g}, expected a share of at least the gap ({abs(wanted.gap) / 100:g}) and at most 1")
    if rate is None and (wanted.seed_sd or wanted.within):
        found.append("--seed-sd and --within go with --flip-rate; without it they are measured")
    return [*found, *_unknown(grid, wanted)]


def _unknown(grid: Grid, wanted: Wanted) -> list[str]:
    """Names that the grid has not."""
    asked = [("contrast", mix, [*grid["mixes"], UNTOUCHED]) for mix in wanted.contrast or ()]
    asked += [("benchmark", wanted.benchmark, [AVERAGE, *grid["benchmarks"]])]
    asked += [("models", model, list(grid["models"])) for model in wanted.models or ()]
    found = [
        f"--{option}: '{name}' is not in the grid{did_you_mean(name, known)}; expected one of {', '.join(known)}"
        for option, name, known in asked
        if name not in known
    ]
    if wanted.contrast and len(set(wanted.contrast)) == 1:
        found.append(f"--contrast: '{wanted.contrast[0]}' twice, expected two different mixes")
    if not wanted.contrast and default_contrast(grid) is None:
        found.append("--contrast is missing: no experiment of the grid has a contrast")
    return found


def default_contrast(grid: Grid) -> list[str] | None:
    """The contrast of the first experiment that has one."""
    return next((entry["contrast"] for entry in grid["experiments"].values() if "contrast" in entry), None)


def benchmarks_of(grid: Grid, contrast: Sequence[str]) -> list[str]:
    """Benchmarks of the first experiment with that contrast; of a contrast that none has, all."""
    for entry in grid["experiments"].values():
        if entry.get("contrast") == list(contrast) and entry["benchmarks"] != "all":
            return list(entry["benchmarks"])
    return list(grid["benchmarks"])


# ---- what is known ----


def declared(benchmarks: Sequence[str], wanted: Wanted) -> Learnt:
    """From a flip rate that is declared, alike for all benchmarks."""
    assert wanted.flip_rate is not None
    one = power.from_rates(wanted.flip_rate, wanted.gap / 100, wanted.seed_sd / 100, wanted.within)
    source = f"Declared: flip rate {wanted.flip_rate:.0%}, the gap's spread between seeds {wanted.seed_sd:g} points"
    parts, flips = dict.fromkeys(benchmarks, one), dict.fromkeys(benchmarks, wanted.flip_rate)
    return Learnt(parts, flips, one.seeds, f"{source}, {wanted.within:.0%} of the rest from single answers.")


def measured(grid: Grid, results: Path, contrast: Sequence[str], benchmarks: Sequence[str], wanted: Wanted) -> Learnt:
    """From the scores of every student that has both sides on all these benchmarks; an `InputError` if none has."""
    pairs = scored(grid, results, contrast, benchmarks, list(wanted.models or grid["models"]))
    if not pairs:
        raise InputError(
            f"{results}/score: no student is scored on {' and '.join(contrast)} in {', '.join(benchmarks)} yet; "
            "build some of these cells, or declare a rate, e.g. --flip-rate 0.25"
        )
    by_benchmark = {name: [(sides[name][0], sides[name][1]) for sides in pairs.values()] for name in benchmarks}
    repeats = {name: int(grid["benchmarks"][name].get("repeats", 1)) for name in benchmarks}
    parts = {name: power.from_grid(both, repeats[name]) for name, both in by_benchmark.items()}
    flips = {name: float(np.mean([statistics.spread_of(both) for both in found])) for name, found in by_benchmark.items()}
    gaps = [{name: sides[name][0] - sides[name][1] for name in benchmarks} for sides in pairs.values()]
    seeds = [len(next(iter(of_one.values()))) for of_one in gaps]
    said = f"{min(seeds)}" if len(set(seeds)) == 1 else f"{min(seeds)} to {max(seeds)}"
    source = f"Measured on {len(pairs)} student(s) with {said} training seed(s), averaged: {', '.join(pairs)}."
    return Learnt(parts, flips, power.seeds_of_average(gaps), source)


def scored(grid: Grid, results: Path, contrast: Sequence[str], benchmarks: Sequence[str], models: Sequence[str]) -> dict[str, Sides]:
    """Student -> its sides, of the cells whose scores are there."""
    cells = [
        Cell(model, mix, base_seed(grid, model, seed) if mix == UNTOUCHED else seed, benchmark)
        for model in models
        for mix in contrast
        for seed in grid["seeds"]
        for benchmark in benchmarks
    ]
    files = [results / "score" / "/".join(map(str, cell)) / "score.json" for cell in dict.fromkeys(cells)]
    outcomes = table.read_outcomes([file for file in files if file.is_file()])
    spec = {"cells": cells, "shown": {"benchmarks": [[name, name] for name in benchmarks]}}
    found: dict[str, Sides] = {}
    for model in models:
        sides, _ = estimating.paired(spec, outcomes, estimating.Asked("gap", model, *contrast))
        if len(sides) == len(benchmarks):
            found[model] = sides
    return found


# ---- what is said ----


def _show_benchmarks(
    console: "Console",
    names: Mapping[str, str],
    rows: Mapping[str, int],
    repeats: Mapping[str, int],
    learnt: Learnt,
    parts: Mapping[str, Components],
) -> None:
    """A line a benchmark: how much it asks, how often the two sides differ, its share of what questions add to the variance."""
    from rich.markup import escape
    from rich.table import Table

    noise = {name: (one.questions + one.interaction + one.answers) / rows[name] for name, one in parts.items()}
    total = sum(noise.values()) or 1.0
    shown = Table()
    for column in ("benchmark", "questions", "repeats", "flip rate", "share of the questions' variance"):
        shown.add_column(column, justify="left" if column == "benchmark" else "right")
    for name, called in names.items():
        shown.add_row(escape(called), f"{rows[name]:,}", str(repeats[name]), f"{learnt.flips[name]:.0%}", f"{noise[name] / total:.0%}")
    console.print(shown)


def report(
    console: "Console", title: str, parts: Components, design: Design, gap: float, wanted: float = 0.8, alpha: float = 0.05
) -> power.Plan:
    """Print the plan for a gap (a share), what each doubling buys and what the variance is made of; the plan."""
    found = power.plan(parts, design, gap, wanted, alpha)
    points, counted = f"{100 * abs(gap):.1f} points", _counted(design)
    lines = [
        title,
        f"Plan: {counted['questions']}, {counted['repeats']}, {counted['seeds']}: {2 * math.prod(design):,} answers of the two students.",
        f"A gap of {points} is seen with {found.power:.0%} power, a gap of {100 * found.detectable:.1f} points with {wanted:.0%}.",
        f"To see {points} with {wanted:.0%} power, changing one thing alone:",
        *(f"  {kind + ':':<11}{_least_said(kind, least, parts, design)}" for kind, least in zip(power.KINDS, found[2:], strict=True)),
    ]
    for line in lines:
        _say(console, line)
    _show_doublings(console, parts, design, gap, wanted, alpha)
    for line in _remarks(parts, design):
        _say(console, line)
    return found


def _counted(design: Design) -> dict[str, str]:
    """A design in words."""
    words = {"questions": "question", "repeats": "answer to each", "seeds": "training seed"}
    plurals = {"questions": "questions", "repeats": "answers to each", "seeds": "training seeds"}
    return {kind: f"{count:,} {(words if count == 1 else plurals)[kind]}" for kind, count in design._asdict().items()}


def _least_said(kind: str, least: int | None, parts: Components, design: Design) -> str:
    most = dict(zip(power.KINDS, (power.MOST_REPEATS, power.MOST_SEEDS, power.MOST_QUESTIONS), strict=True))[kind]
    if kind == "repeats" and not parts.is_split and least is None:
        return "not known, as one answer to each question does not show what another would be"
    if least is None:
        return f"even {most:,} are not enough"
    return f"{least:,}" + (" (as planned or fewer)" if least <= getattr(design, kind) else "")


def _show_doublings(console: "Console", parts: Components, design: Design, gap: float, wanted: float, alpha: float) -> None:
    from rich.table import Table

    table = Table(title=f"What each doubling buys (two-sided test at {alpha:g})", title_justify="left")
    columns = (
        "",
        "questions",
        "repeats",
        "seeds",
        "answers",
        f"gap seen\nat {wanted:.0%} (points)",
        f"power for\n{100 * abs(gap):.1f} points",
    )
    for column in columns:
        table.add_column(column, justify="left" if not column else "right")
    for step in power.doublings(parts, design, gap, wanted, alpha):
        counts = [f"{count:,}" for count in (*step.design, step.answers)]
        table.add_row(step.what, *counts, f"{100 * step.detectable:.1f}", f"{step.power:.0%}")
    console.print(table)


def _remarks(parts: Components, design: Design) -> list[str]:
    """What the variance is made of, and what nobody can know from what there is."""
    shares = {
        "training seeds": parts.seeds / design.seeds,
        "questions": parts.questions / design.questions,
        "seeds by question": parts.interaction / (design.seeds * design.questions),
        "single answers": parts.answers / (design.repeats * design.seeds * design.questions),
    }
    total = sum(shares.values()) or 1.0
    lines = ["The gap's variance: " + ", ".join(f"{name} {share / total:.0%}" for name, share in shares.items()) + "."]
    if not parts.is_split:
        lines.append("One answer to each question: their noise is in the other parts, so what more repeats buy is not known.")
    if design.seeds == 1:
        one = "One training seed: a gap that is seen is one of these two trained students. "
        lines.append(one + "With more seeds the question is whether other seeds show it too, which is harder: power may fall at first.")
    if parts.seeds == 0:
        lines.append("No spread between training seeds was found or given: what more seeds buy is known only if they were measured.")
    return lines


def _say(console: "Console", text: str) -> None:
    console.print(text, markup=False, highlight=False)
