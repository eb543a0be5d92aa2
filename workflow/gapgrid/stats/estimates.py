"""An experiment's accuracies, gaps and what follows from them, as tidy rows with intervals.

Quantities: `accuracy`; `gap`, the experiment's contrast; `gain`, trained less untouched (before
SFT); `mix_minus_best`, a mix less the best of its single sources; `sign_flip`, the size above which
every student of a family gains (billions of parameters); `best_guess`, the best constant guess. All
but `sign_flip` are shares of right answers, or differences of them. What is missing stays missing.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gapgrid.core.cells import AVERAGE, UNTOUCHED, Cell
from gapgrid.core.records import Row
from gapgrid.core.spec_types import TableSpec
from gapgrid.stats import bootstrap, significance

# Outcome per question: the share of its repeats that are right, NaN if none has a verdict.
CellOutcomes = Mapping[Cell, NDArray[np.float64]]
COLUMNS = (
    *("quantity", "model", "family", "params_b", "mix", "minus", "benchmark", "unit"),
    *("estimate", "low", "high"),
    *("p", "p_holm", "settled", "check", "p_check", "n_first", "n_second"),
    *("share_best", "bias", "crosses", "below", "above", "differs", "n_questions", "n_seeds"),
)
SHARE, BILLIONS = "share", "billion parameters"


class Quantity(NamedTuple):
    """One quantity of one student: an accuracy after `mix`, or less that after `minus`."""

    kind: str
    model: str
    mix: str
    minus: str | None = None

    @property
    def mixes(self) -> list[str]:
        """Its sides."""
        return [self.mix] if self.minus is None else [self.mix, self.minus]


class Measurement(NamedTuple):
    """A quantity's outcomes by benchmark, a side each, the seeds behind them, and its resamples.

    `available` are the benchmarks with a value; `average` is one of them if none is missing.
    """

    sides: dict[str, list[bootstrap.Outcomes]]
    seeds: dict[str, list[int]]
    resampled: bootstrap.Resampled
    available: frozenset[str]


def names(spec: TableSpec, kind: str) -> list[str]:
    """Return the names of an experiment's models, mixes or benchmarks in reading order."""
    return [name for name, _ in spec["shown"][kind]]


def quantities(spec: TableSpec) -> list[Quantity]:
    """Return every accuracy, gap and gain of an experiment, student by student."""
    mixes, contrast = names(spec, "mixes"), spec["contrast"]
    trained = [mix for mix in mixes if mix != UNTOUCHED] if UNTOUCHED in mixes else []
    result = []
    for model in names(spec, "models"):
        result += [Quantity("accuracy", model, mix) for mix in mixes]
        result += [Quantity("gap", model, *contrast)] if contrast else []
        result += [Quantity("gain", model, mix, UNTOUCHED) for mix in trained]
    return result


def paired(
    cells: Collection[Cell], benchmarks: Sequence[str], outcomes: CellOutcomes, quantity: Quantity
) -> tuple[dict[str, list[bootstrap.Outcomes]], dict[str, list[int]]]:
    """Return seeds x questions of each side, by benchmark, and the seeds.

    A cell without any known outcome counts as one without outcomes. Benchmarks without a common
    seed are left out. The seeds are those with all benchmarks, so that an average is the mean of
    what is shown beside it; where there is none, those that each benchmark has. `cells` are those
    of the experiment, whether they have outcomes or not.
    """
    training = {*quantity.mixes} - {UNTOUCHED} or {UNTOUCHED}
    own = (cell for cell in cells if cell.model == quantity.model)
    all_seeds = sorted({cell.seed for cell in own if cell.mix in training})

    def cell_of(mix: str, seed: int, benchmark: str) -> Cell:
        cell = Cell(quantity.model, mix, seed, benchmark)
        # A student with one untouched state has it for each seed.
        return cell if cell in cells or mix != UNTOUCHED else cell._replace(seed=0)

    def has_outcomes(seed: int, benchmark: str) -> bool:
        of_sides = [outcomes.get(cell_of(mix, seed, benchmark)) for mix in quantity.mixes]
        return all(side is not None and not np.isnan(side).all() for side in of_sides)

    available = {
        name: [seed for seed in all_seeds if has_outcomes(seed, name)] for name in benchmarks
    }
    complete = [seed for seed in all_seeds if all(seed in has for has in available.values())]
    seeds = {name: complete or has for name, has in available.items() if complete or has}
    sides = {
        name: [
            np.vstack([outcomes[cell_of(mix, seed, name)] for seed in used]).astype(float)
            for mix in quantity.mixes
        ]
        for name, used in seeds.items()
    }
    return sides, seeds


def measure(spec: TableSpec, outcomes: CellOutcomes) -> dict[Quantity, Measurement]:
    """Return the measurements of all quantities that have outcomes; all share their resamples."""
    cells, benchmarks = {Cell(*cell) for cell in spec["cells"]}, names(spec, "benchmarks")
    data = {
        quantity: paired(cells, benchmarks, outcomes, quantity) for quantity in quantities(spec)
    }
    data = {quantity: (sides, seeds) for quantity, (sides, seeds) in data.items() if sides}
    contrasts = [
        bootstrap.Contrast(sides, [1.0, -1.0][: len(quantity.mixes)], quantity.model)
        for quantity, (sides, _) in data.items()
    ]
    options = spec["statistics"]
    resampled = bootstrap.resample(contrasts, options["resamples"], options["seed"])
    result = {}
    for (quantity, (sides, seeds)), draws in zip(data.items(), resampled, strict=True):
        available = frozenset({*sides, AVERAGE} if len(sides) == len(benchmarks) else sides)
        result[quantity] = Measurement(sides, seeds, draws, available)
    return result


def rows(spec: TableSpec, outcomes: CellOutcomes) -> Iterator[Row]:
    """Yield tidy rows, per benchmark and as their average; without a value where cells are missing.

    `p` is of no gap (of mix_minus_best: of no gain, one-sided); `p_holm` is corrected for all rows
    of that quantity, over students, training sets, benchmarks and their average; `settled` is
    whether the sign is significant. `check` is a paired test over questions alone, `n_first` and
    `n_second` the questions on which each side is better.
    """
    measured = measure(spec, outcomes)
    of_students = [*_quantities(spec, measured), *_mixes(spec, measured)]
    _correct(spec, of_students)
    yield from of_students
    yield from _sizes(spec, measured)


def _quantities(spec: TableSpec, measured: Mapping[Quantity, Measurement]) -> Iterator[Row]:
    for quantity in quantities(spec):
        for benchmark in _benchmarks(spec):
            row, measurement = _about(spec, quantity, benchmark), measured.get(quantity)
            if measurement is not None and benchmark in measurement.available:
                row |= _values(measurement, benchmark, spec)
            yield row


def _correct(spec: TableSpec, values: Sequence[Row]) -> None:
    """Add to all rows with a p their significance within their family (see `significance`)."""
    benchmarks = names(spec, "benchmarks")
    # The average of one benchmark is its gap once more, and no further test.
    together = [[*benchmarks, AVERAGE]] if len(benchmarks) > 1 else [benchmarks, [AVERAGE]]
    for kind, shown in product(("gap", "gain", "mix_minus_best"), together):
        of_kind = (row for row in values if row["quantity"] == kind and row["benchmark"] in shown)
        family = [row for row in of_kind if "p" in row]
        confidence = spec["statistics"]["confidence"]
        signs = significance.family_significance([row["p"] for row in family], confidence)
        for row, sign in zip(family, signs, strict=True):
            row |= {"p_holm": sign.p_holm, "settled": sign.is_significant}


def _benchmarks(spec: TableSpec) -> list[str]:
    return [*names(spec, "benchmarks"), AVERAGE]


def _about(spec: TableSpec, quantity: Quantity, benchmark: str) -> Row:
    row = {key: spec["models"][quantity.model][key] for key in ("family", "params_b")}
    row |= {"quantity": quantity.kind, "model": quantity.model}
    row |= {"mix": quantity.mix, "minus": quantity.minus}
    return row | {"benchmark": benchmark, "unit": SHARE}


def _values(measurement: Measurement, benchmark: str, spec: TableSpec) -> Row:
    options, resampled = spec["statistics"], measurement.resampled
    low, high = bootstrap.interval(resampled, benchmark, options["confidence"])
    values: Row = {"estimate": resampled.values[benchmark], "low": low, "high": high}
    values |= _counts(measurement, benchmark)
    if resampled.gap:
        values["p"] = significance.p_value(resampled, benchmark)
    if resampled.gap and benchmark != AVERAGE:
        first, second = measurement.sides[benchmark]
        check = significance.paired_check(first, second, options["resamples"], options["seed"])
        values |= {"check": check.name, "p_check": check.p}
        values |= {"n_first": check.n_first, "n_second": check.n_second}
    return values


def _counts(measurement: Measurement, benchmark: str) -> Row:
    seeds = measurement.seeds
    n_seeds = min(map(len, seeds.values())) if benchmark == AVERAGE else len(seeds[benchmark])
    return {"n_questions": measurement.resampled.n[benchmark], "n_seeds": n_seeds}


def _mixes(spec: TableSpec, measured: Mapping[Quantity, Measurement]) -> Iterator[Row]:
    """Yield each mix less the best of its single sources, where all of them have the same seeds."""
    for benchmark, model, mix in product(_benchmarks(spec), names(spec, "models"), spec["singles"]):
        yield _mix_row(spec, measured, model, mix, benchmark)


def _mix_row(
    spec: TableSpec, measured: Mapping[Quantity, Measurement], model: str, mix: str, benchmark: str
) -> Row:
    row = _about(spec, Quantity("mix_minus_best", model, mix), benchmark)
    singles = spec["singles"][mix]
    sides = [measured.get(Quantity("accuracy", model, name)) for name in (mix, *singles)]
    known = [side for side in sides if side is not None and benchmark in side.available]
    if len(known) < len(sides) or any(side.seeds != known[0].seeds for side in known):
        return row
    of_mix, *of_singles = (side.resampled for side in known)
    best = significance.mix_minus_best(
        of_mix,
        dict(zip(singles, of_singles, strict=True)),
        benchmark,
        spec["statistics"]["confidence"],
    )
    row |= {"minus": best.best, "estimate": best.value, "low": best.low, "high": best.high}
    row |= {"share_best": best.share_best, "bias": best.bias, "p": best.p}
    return row | _counts(known[0], benchmark)


def _sizes(spec: TableSpec, measured: Mapping[Quantity, Measurement]) -> Iterator[Row]:
    """Yield sign-flip sizes of families with two sizes or more, each of one student.

    A family of which a student is missing has no value.
    """
    if not (contrast := spec["contrast"]):
        return
    families: dict[str, list[str]] = {}
    for model in names(spec, "models"):
        families.setdefault(spec["models"][model]["family"], []).append(model)
    mix, minus = contrast
    for family, models in families.items():
        sizes = [spec["models"][model]["params_b"] for model in models]
        if len(sizes) < 2 or len(set(sizes)) < len(sizes):
            continue
        gaps = [measured.get(Quantity("gap", model, mix, minus)) for model in models]
        for benchmark in _benchmarks(spec):
            row: Row = {"quantity": "sign_flip", "family": family, "mix": mix, "minus": minus}
            row |= {"benchmark": benchmark, "unit": BILLIONS}
            known = [gap.resampled for gap in gaps if gap and benchmark in gap.available]
            if len(known) == len(models):
                confidence = spec["statistics"]["confidence"]
                flip = significance.sign_flip(sizes, known, benchmark, confidence)._asdict()
                row |= {"estimate": flip.pop("size"), **flip, "n_questions": known[0].n[benchmark]}
            yield row


def guess_rows(spec: TableSpec, scores: Sequence[Row]) -> Iterator[Row]:
    """Yield the accuracy of the best constant guess per benchmark and, if all have one, on average.

    `scores` are contents of score.json.
    """
    by_benchmark = {row["benchmark"]: row for row in reversed(scores)}
    known = [by_benchmark[name] for name in names(spec, "benchmarks") if name in by_benchmark]
    guesses = [(row["benchmark"], row["acc_best_guess"], row["n_problems"]) for row in known]
    if known and len(known) == len(spec["shown"]["benchmarks"]):
        average = float(np.mean([guess for _, guess, _ in guesses]))
        guesses.append((AVERAGE, average, sum(n for _, _, n in guesses)))
    for benchmark, guess, n in guesses:
        about = {"quantity": "best_guess", "benchmark": benchmark, "unit": SHARE}
        yield {**about, "estimate": guess, "n_questions": n}
