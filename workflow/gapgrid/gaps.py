"""Gaps between training sets: what a sign is worth, over a figure's gaps, by size of student, and against the best source.

All of it reads `statistics.Resampled`, so a p-value is the interval's own: a gap is settled at 5 % where its 95 % interval
leaves out 0, before the correction for a family of gaps.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

from gapgrid.statistics import Draws, Outcomes, Resampled, agresti_min

ENUMERATED = 16  # differing questions up to which all sign flips are counted


def p_value(found: Resampled, benchmark: str) -> float:
    """Two-sided p of no gap: 1 less the confidence at which `statistics.interval` touches 0.

    With R resamples it is at least 1 / (R + 1), counting the data as one of them (Davison and Hinkley 1997, Bootstrap
    Methods and their Application, section 4.2).
    """
    value, spread, n = found.values[benchmark], found.spreads[benchmark], found.n[benchmark]
    if value == 0:
        return 1.0
    touching = _touching(value, spread)
    deviations = np.abs(found.draws[benchmark] - np.float32(value))
    single = spread - value**2
    if single <= 1e-9 or deviations.max() <= 1e-6:  # nothing varies: each question is one answer, as in `crowding`
        return float(2 * stats.t.sf(np.sqrt(touching * n), max(n - 1, 1)))
    return float((1 + np.sum(deviations >= np.sqrt(touching * single))) / (1 + len(deviations)))


def _touching(value: float, spread: float) -> float:
    """The crowding at which a gap's interval touches 0."""

    def nearer(crowd: float) -> float:
        return agresti_min(abs(value), spread, crowd)[0]

    far = 1.0
    while nearer(far) > 0:
        far *= 2
    return float(optimize.brentq(nearer, 0.0, far, xtol=1e-12))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values of a family, in its order (Holm 1979, A simple sequentially rejective procedure, Scand. J. Stat. 6:65-70)."""
    p = np.asarray(p_values, dtype=float)
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"p-values are between 0 and 1, not {p_values}")
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(stepped, 1)
    return adjusted.tolist()


class Check(NamedTuple):
    """A paired test over questions alone: its name, p, and on how many questions each side is better."""

    name: str
    p: float
    n_first: int
    n_second: int


def paired_check(first: Outcomes, second: Outcomes, resamples: int = 10_000, seed: int = 0) -> Check:
    """McNemar's exact test where every question has one answer, right or wrong, on both sides; else a sign-flip test.

    McNemar (1947, Psychometrika 12:153-157) as the binomial test of the questions that differ. With repeats or seeds: under
    no gap a question's difference is as likely with either sign (Fisher 1935, The Design of Experiments, section 21); all
    flips are counted where at most `ENUMERATED` questions differ, else `resamples` are drawn. It tells nothing of other
    training seeds: with several, a gap may be sure by this check and open by its interval. Questions of which a side is
    unknown are left out.
    """
    with np.errstate(invalid="ignore"):
        paired = np.where(np.isnan(first) | np.isnan(second), np.nan, first - second)
    known = ~np.isnan(paired).all(axis=0)
    differences = np.nanmean(paired[:, known], axis=0)
    differences = differences[np.abs(differences) > 1e-12]
    n_first, n_second = int(np.sum(differences > 0)), int(np.sum(differences < 0))
    binary = len(first) == 1 and bool(np.isin(np.concatenate([first, second])[:, known], (0.0, 1.0)).all())
    name = "mcnemar" if binary else "sign-flip"
    if not len(differences):
        return Check(name, 1.0, 0, 0)
    if binary:
        return Check(name, float(stats.binomtest(n_first, n_first + n_second).pvalue), n_first, n_second)
    return Check(name, _sign_flip_p(np.sort(differences), resamples, seed), n_first, n_second)


def _sign_flip_p(differences: NDArray[np.float64], resamples: int, seed: int) -> float:
    n, observed = len(differences), abs(differences.sum()) - 1e-9
    if n <= ENUMERATED:
        bits = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
        return float(np.mean(np.abs((2 * bits - 1) @ differences) >= observed))
    flips = np.random.default_rng(seed).integers(0, 2, size=(resamples, n), dtype=np.int8) * 2 - 1
    return float((1 + np.sum(np.abs(flips @ differences) >= observed)) / (1 + resamples))


class Settled(NamedTuple):
    """One gap of a family: p, p adjusted by Holm, and whether its sign is settled; a figure greys those that are not."""

    p: float
    p_holm: float
    is_settled: bool


def settle(found: Sequence[Resampled], benchmark: str, confidence: float) -> list[Settled]:
    """Which gaps of a figure have a sign, with the chance of any wrong claim among them at most 1 - `confidence`."""
    p = [p_value(one, benchmark) for one in found]
    return [Settled(raw, adjusted, adjusted <= 1 - confidence) for raw, adjusted in zip(p, holm(p), strict=True)]


class SignFlip(NamedTuple):
    """The size above which every student of a family gains, in billions of parameters, and its interval.

    None is an open end: of `low`, below the smallest student, of `high`, above the largest, of `size`, no crossing within the
    family. `crosses`, `below` and `above` are the shares of resamples with a crossing within, all gaps positive, and the
    largest student's gap not positive.
    """

    size: float | None
    low: float | None
    high: float | None
    crosses: float
    below: float
    above: float


def crossings(sizes: Sequence[float], gaps: NDArray[np.floating]) -> NDArray[np.float64]:
    """Where gaps (students x resamples, students by size) turn positive for good, on a log scale, by straight lines between students.

    It is the last crossing upwards; -inf where all gaps are positive, +inf where the largest student's is not.
    """
    logs = np.log(np.asarray(sizes, dtype=float))
    if len(logs) != len(gaps) or not (np.diff(logs) > 0).all():
        raise ValueError(f"sizes must grow and match the gaps: {list(sizes)}, {len(gaps)} gaps")
    negative = np.asarray(gaps) <= 0
    last = len(logs) - 1 - np.argmax(negative[::-1], axis=0)  # the largest student that does not gain
    found = np.full(gaps.shape[1], -np.inf)
    found[negative[-1]] = np.inf
    inside = negative.any(axis=0) & ~negative[-1]
    at, where = last[inside], np.flatnonzero(inside)
    below, above = gaps[at, where].astype(float), gaps[at + 1, where].astype(float)
    found[inside] = logs[at] + (logs[at + 1] - logs[at]) * -below / (above - below)
    return np.exp(found, out=found, where=np.isfinite(found))


def sign_flip(sizes: Sequence[float], found: Sequence[Resampled], benchmark: str, confidence: float) -> SignFlip:
    """The sign-flip size of one family, students in any order; its interval are quantiles of the resamples' own sizes.

    Each resample asks the same questions of all students, and draws each student's seeds apart (`Contrast.stream`).
    """
    order = np.argsort(sizes, kind="stable")
    ordered = [float(sizes[i]) for i in order]
    value = crossings(ordered, np.array([[found[i].values[benchmark]] for i in order]))[0]
    drawn = crossings(ordered, np.stack([found[i].draws[benchmark] for i in order]))
    # Order statistics, as no straight line leads to infinity.
    low, high = (np.quantile(drawn, share, method="nearest") for share in ((1 - confidence) / 2, (1 + confidence) / 2))
    crosses, below, above = (float(kind(drawn).mean()) for kind in (np.isfinite, np.isneginf, np.isposinf))
    return SignFlip(_closed(value), _closed(low), _closed(high), crosses, below, above)


def _closed(end: float) -> float | None:
    return float(end) if np.isfinite(end) else None


class BestGap(NamedTuple):
    """A mix less the best single source: its value and interval, which source is best, and how often it is in the resamples.

    `bias` is the mean of the draws less the value: what choosing the best on the same data costs, once more. `p` is one-sided.
    """

    value: float
    low: float
    high: float
    best: str
    share_best: float
    bias: float
    p: float


def mix_minus_best(mix: Resampled, singles: dict[str, Resampled], benchmark: str, confidence: float) -> BestGap:
    """A mix's accuracy less the highest of its single sources'.

    The best source is chosen on the data that score it, so its accuracy is flattered and the gap is biased downwards, the
    more the closer the sources. The best is chosen anew within each resample; the interval is of percentiles, its upper end
    too low where sources tie. `p` is of no gain over the best: the largest of the one-sided p over each source, which needs
    no choice (Berger 1982, Technometrics 24:295-300, intersection-union test). All accuracies must be of one stream.
    """
    if mix.gap or any(one.gap for one in singles.values()) or not singles:
        raise ValueError("a mix and its single sources are accuracies, and there is at least one source")
    names = sorted(singles)
    values = np.array([singles[name].values[benchmark] for name in names])
    drawn: list[Draws] = [singles[name].draws[benchmark] for name in names]
    chosen = np.argmax(drawn, axis=0)
    gaps = mix.draws[benchmark] - np.max(drawn, axis=0)
    value, best = float(mix.values[benchmark] - values.max()), int(np.argmax(values))
    low, high = np.clip(np.quantile(gaps, [(1 - confidence) / 2, (1 + confidence) / 2]), -1, 1)
    p = max((1 + np.sum(mix.draws[benchmark] <= one)) / (1 + len(gaps)) for one in drawn)
    share, bias = float(np.mean(chosen == best)), float(gaps.mean() - value)
    return BestGap(value, float(min(low, value)), float(max(high, value)), names[best], share, bias, float(p))
