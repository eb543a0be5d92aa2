"""An experiment's accuracies, gaps and what follows from them, as tidy rows with intervals. What is missing stays missing.

Quantities: `accuracy`; `gap`, the experiment's contrast; `gain`, trained less untouched; `mix_minus_best`, a mix less the best
of its single sources; `sign_flip`, the size above which every student of a family gains (billions of parameters);
`best_guess`, the best constant guess. All others are shares of right answers, or differences of them.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gapgrid import gaps, statistics
from gapgrid.records import Row
from gapgrid.statistics import AVERAGE

Cell = tuple[str, str, int, str]
Verdicts = Mapping[Cell, NDArray[np.float64]]  # outcome per question: share of its repeats that are right, NaN if none has a verdict
UNTOUCHED = "none"
COLUMNS = (
    *("quantity", "model", "family", "params_b", "mix", "minus", "benchmark", "unit", "estimate", "low", "high"),
    *("p", "p_holm", "settled", "check", "p_check", "n_first", "n_second"),
    *("share_best", "bias", "crosses", "below", "above", "differs", "n_questions", "n_seeds"),
)
SHARE, BILLIONS = "share", "billion parameters"


class Asked(NamedTuple):
    """One quantity of one student: an accuracy after `mix`, or less that after `minus`."""

    quantity: str
    model: str
    mix: str
    minus: str | None = None

    @property
    def mixes(self) -> list[str]:
        """Its sides."""
        return [self.mix] if self.minus is None else [self.mix, self.minus]


class Found(NamedTuple):
    """Its outcomes by benchmark, a side each, the seeds behind them, and its resamples; `average` only where no benchmark lacks."""

    sides: dict[str, list[statistics.Outcomes]]
    seeds: dict[str, list[int]]
    resampled: statistics.Resampled


def names(spec: Row, kind: str) -> list[str]:
    """Names of an experiment's models, mixes or benchmarks in reading order."""
    return [name for name, _ in spec["shown"][kind]]


def asked(spec: Row) -> list[Asked]:
    """Every accuracy, gap and gain of an experiment, student by student."""
    mixes, contrast = names(spec, "mixes"), spec.get("contrast")
    found = []
    for model in names(spec, "models"):
        found += [Asked("accuracy", model, mix) for mix in mixes]
        found += [Asked("gap", model, *contrast)] if contrast else []
        found += [Asked("gain", model, mix, UNTOUCHED) for mix in mixes if UNTOUCHED in mixes and mix != UNTOUCHED]
    return found


def paired(spec: Row, outcomes: Verdicts, one: Asked) -> tuple[dict[str, list[statistics.Outcomes]], dict[str, list[int]]]:
    """Seeds x questions of each side, by benchmark, and the seeds; benchmarks without a common seed are left out.

    The seeds are those with all benchmarks, so that an average is the mean of what stands beside it; where there is none,
    those that each benchmark has.
    """
    wanted = {tuple(cell) for cell in spec["cells"]}
    training = {UNTOUCHED} if one.mixes == [UNTOUCHED] else {*one.mixes} - {UNTOUCHED}
    own = sorted({cell[2] for cell in wanted if cell[0] == one.model and cell[1] in training})

    def at(mix: str, seed: int, benchmark: str) -> Cell:
        """A student with one untouched state has it for each seed."""
        cell = (one.model, mix, seed, benchmark)
        return cell if cell in wanted or mix != UNTOUCHED else (one.model, mix, 0, benchmark)

    benchmarks = names(spec, "benchmarks")
    there = {name: [seed for seed in own if all(at(mix, seed, name) in outcomes for mix in one.mixes)] for name in benchmarks}
    complete = [seed for seed in own if all(seed in seeds for seeds in there.values())]
    seeds = {name: complete or found for name, found in there.items() if complete or found}
    sides = {
        name: [np.vstack([outcomes[at(mix, seed, name)] for seed in found]).astype(float) for mix in one.mixes]
        for name, found in seeds.items()
    }
    return sides, seeds


def measured(spec: Row, outcomes: Verdicts) -> dict[Asked, Found]:
    """All that can be had of what is asked, in one go: all share their resamples."""
    wanted = {one: paired(spec, outcomes, one) for one in asked(spec)}
    known = {one: (sides, seeds) for one, (sides, seeds) in wanted.items() if sides}
    weights = [[1.0], [1.0, -1.0]]
    contrasts = [statistics.Contrast(sides, weights[len(one.mixes) - 1], one.model) for one, (sides, _) in known.items()]
    options = spec["statistics"]
    resampled = statistics.resample(contrasts, options["resamples"], options["seed"])
    return {one: Found(*known[one], found) for one, found in zip(known, resampled, strict=True)}


def rows(spec: Row, outcomes: Verdicts) -> Iterator[Row]:
    """Tidy rows, per benchmark and as their average; without a value where cells are missing.

    `p` is of no gap (of mix_minus_best: of no gain, one-sided); `p_holm` is corrected for all gaps of that quantity on that
    benchmark; `settled` says whether the sign is. `check` is a paired test over questions alone, `n_first` and `n_second`
    the questions on which each side is better.
    """
    found = measured(spec, outcomes)
    signs = _signs(found, spec)
    for one in asked(spec):
        for benchmark in [*names(spec, "benchmarks"), AVERAGE]:
            base = _about(spec, one, benchmark)
            is_there = one in found and _has(found[one], benchmark, spec)
            yield {**base, **_values(found[one], benchmark, spec), **signs.get((one, benchmark), {})} if is_there else base
    yield from _mixes(spec, found)
    yield from _sizes(spec, found)


def _about(spec: Row, one: Asked, benchmark: str) -> Row:
    about = {key: spec["models"][one.model][key] for key in ("family", "params_b")}
    return {**one._asdict(), **about, "benchmark": benchmark, "unit": SHARE}


def _has(found: Found, benchmark: str, spec: Row) -> bool:
    return benchmark in found.sides if benchmark != AVERAGE else len(found.sides) == len(spec["shown"]["benchmarks"])


def _values(found: Found, benchmark: str, spec: Row) -> Row:
    options = spec["statistics"]
    low, high = statistics.interval(found.resampled, benchmark, options["confidence"])
    values: Row = {"estimate": found.resampled.values[benchmark], "low": low, "high": high, **_counts(found, benchmark)}
    if found.resampled.gap and benchmark != AVERAGE:
        first, second = found.sides[benchmark]
        check = gaps.paired_check(first, second, options["resamples"], options["seed"])
        values |= {"check": check.name, "p_check": check.p, "n_first": check.n_first, "n_second": check.n_second}
    return values


def _counts(found: Found, benchmark: str) -> Row:
    n_seeds = min(map(len, found.seeds.values())) if benchmark == AVERAGE else len(found.seeds[benchmark])
    return {"n_questions": found.resampled.n[benchmark], "n_seeds": n_seeds}


def _signs(found: Mapping[Asked, Found], spec: Row) -> dict[tuple[Asked, str], Row]:
    """What each gap's sign is worth, among the gaps of that quantity on that benchmark."""
    signs = {}
    for quantity in ("gap", "gain"):
        for benchmark in [*names(spec, "benchmarks"), AVERAGE]:
            family = [one for one in found if one.quantity == quantity and _has(found[one], benchmark, spec)]
            settled = gaps.settle([found[one].resampled for one in family], benchmark, spec["statistics"]["confidence"])
            for one, sign in zip(family, settled, strict=True):
                signs[one, benchmark] = {"p": sign.p, "p_holm": sign.p_holm, "settled": sign.is_settled}
    return signs


def _mixes(spec: Row, found: Mapping[Asked, Found]) -> Iterator[Row]:
    """Each mix less the best of its single sources, where all of them have the same seeds."""
    confidence = spec["statistics"]["confidence"]
    for benchmark in [*names(spec, "benchmarks"), AVERAGE]:
        known: list[tuple[Row, gaps.BestGap | None, Row]] = []
        for model in names(spec, "models"):
            for mix, singles in spec["singles"].items():
                base = _about(spec, Asked("mix_minus_best", model, mix), benchmark)
                sides = {name: found.get(Asked("accuracy", model, name)) for name in (mix, *singles)}
                have = {name: one for name, one in sides.items() if one is not None and _has(one, benchmark, spec)}
                if len(have) < len(sides) or any(one.seeds != have[mix].seeds for one in have.values()):
                    known.append((base, None, {}))
                    continue
                of_singles = {name: have[name].resampled for name in singles}
                gap = gaps.mix_minus_best(have[mix].resampled, of_singles, benchmark, confidence)
                known.append((base, gap, _counts(have[mix], benchmark)))
        adjusted = iter(gaps.holm([gap.p for _, gap, _ in known if gap is not None]))
        for base, best, counts in known:
            if best is None:
                yield base
                continue
            values = {"minus": best.best, "estimate": best.value, "low": best.low, "high": best.high, "share_best": best.share_best}
            p_holm = next(adjusted)
            yield {**base, **values, "bias": best.bias, "p": best.p, "p_holm": p_holm, "settled": p_holm <= 1 - confidence, **counts}


def _sizes(spec: Row, found: Mapping[Asked, Found]) -> Iterator[Row]:
    """Sign-flip sizes of families with two sizes or more, each of one student; missing where a student of the family is."""
    if not spec.get("contrast"):
        return
    for family in dict.fromkeys(spec["models"][model]["family"] for model in names(spec, "models")):
        models = [model for model in names(spec, "models") if spec["models"][model]["family"] == family]
        sizes = [spec["models"][model]["params_b"] for model in models]
        if len(sizes) < 2 or len(set(sizes)) < len(sizes):
            continue
        for benchmark in [*names(spec, "benchmarks"), AVERAGE]:
            mix, minus = spec["contrast"]
            base = {"quantity": "sign_flip", "family": family, "mix": mix, "minus": minus, "benchmark": benchmark, "unit": BILLIONS}
            those = [found.get(Asked("gap", model, mix, minus)) for model in models]
            have = [one for one in those if one is not None and _has(one, benchmark, spec)]
            if len(have) < len(models):
                yield base
                continue
            flip = gaps.sign_flip(sizes, [one.resampled for one in have], benchmark, spec["statistics"]["confidence"])
            shares = {"crosses": flip.crosses, "below": flip.below, "above": flip.above}
            yield {
                **base,
                "estimate": flip.size,
                "low": flip.low,
                "high": flip.high,
                **shares,
                "n_questions": have[0].resampled.n[benchmark],
            }


def guess_rows(spec: Row, scores: Sequence[Row]) -> Iterator[Row]:
    """Accuracy of the best constant guess per benchmark and on average."""
    known = {row["benchmark"]: row for row in reversed(scores)}
    there = [name for name in names(spec, "benchmarks") if name in known]
    for name in there:
        about = {"quantity": "best_guess", "benchmark": name, "unit": SHARE}
        yield {**about, "estimate": known[name]["acc_best_guess"], "n_questions": known[name]["n_problems"]}
    if there and len(there) == len(spec["shown"]["benchmarks"]):
        guess = float(np.mean([known[name]["acc_best_guess"] for name in there]))
        n = sum(known[name]["n_problems"] for name in there)
        yield {"quantity": "best_guess", "benchmark": AVERAGE, "unit": SHARE, "estimate": guess, "n_questions": n}
