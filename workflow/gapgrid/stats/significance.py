"""What a gap is worth: p-values, families of gaps, sign-flip sizes, a mix against its best source.

Everything here reads `bootstrap.Resampled`, so a p-value agrees with the interval: a gap is
significant at 5 % where its 95 % interval leaves out 0, before the correction for a family of gaps.

A family of tests is all values of one quantity in an experiment: every `gap` of its students on its
benchmarks and on their average; every `gain`, also of all training sets; every `mix_minus_best`. A
figure and the tables beside it show them together, and a reader picks the signs that stand out from
all of them: corrected per benchmark, a figure of ten benchmarks without any gap shows a significant
sign four times in ten. It is one family also where a plot or a text shows averages alone, so that a
sign is worth the same everywhere. Different quantities answer different questions in sections of
their own, and are families of their own; so are experiments. An average is not independent of its
benchmarks, nor are students that answer the same questions, which Holm allows. With one benchmark
the average is the same gap and counts once. What is missing is in no family. As p is at least
1 / (resamples + 1), m gaps need about m / (1 - confidence) resamples for any significant sign.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

from gapgrid.stats.bootstrap import Outcomes, Resampled, agresti_min

ENUMERATED = 16  # differing questions up to which all sign flips are counted


def p_value(gap: Resampled, benchmark: str) -> float:
    """Return the two-sided p of no gap: 1 - the confidence at which `interval` touches 0.

    With R resamples it is at least 1 / (R + 1), counting the data as one of them (Davison and
    Hinkley 1997, Bootstrap Methods and their Application, section 4.2).
    """
    value, flip_rate = gap.values[benchmark], gap.second_moments[benchmark]
    if value == 0:
        return 1.0
    ratio = _ratio_touching_zero(value, flip_rate)
    deviations = np.abs(gap.draws[benchmark] - np.float32(value))
    single = flip_rate - value**2
    if single <= 1e-9 or deviations.max() <= 1e-6:
        # Nothing varies: each question is one answer, as in `bootstrap.interval`.
        n = gap.n[benchmark]
        return float(2 * stats.t.sf(np.sqrt(ratio * n), max(n - 1, 1)))
    return float((1 + np.sum(deviations >= np.sqrt(ratio * single))) / (1 + len(deviations)))


def _ratio_touching_zero(value: float, flip_rate: float) -> float:
    """Return the z^2 / n at which a gap's interval touches 0."""

    def nearer_end(ratio: float) -> float:
        return agresti_min(abs(value), flip_rate, ratio)[0]

    far = 1.0
    while nearer_end(far) > 0:
        far *= 2
    return float(optimize.brentq(nearer_end, 0.0, far, xtol=1e-12))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the adjusted p-values of a family, in its order.

    Holm (1979), A simple sequentially rejective procedure, Scand. J. Stat. 6:65-70. Raises
    `ValueError` if a value is not between 0 and 1.
    """
    p = np.asarray(p_values, dtype=float)
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"p-values are between 0 and 1, not {p_values}")
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(stepped, 1)
    return adjusted.tolist()


class Check(NamedTuple):
    """A paired test over questions alone: name, p, and the questions that each side does better."""

    name: str
    p: float
    n_first: int
    n_second: int


def paired_check(
    first: Outcomes, second: Outcomes, resamples: int = 10_000, seed: int = 0
) -> Check:
    """Return McNemar's exact test of single answers, right or wrong; else a sign-flip test.

    McNemar (1947, Psychometrika 12:153-157) as the binomial test of the questions that differ. With
    repeats or seeds: without a gap a question's difference is as likely with either sign (Fisher
    1935, The Design of Experiments, section 21); all flips are counted where at most `ENUMERATED`
    questions differ, else `resamples` are drawn. It says nothing about other training seeds: with
    several, a gap may be significant by this check and not by its interval. Questions of which a
    side is unknown are left out.
    """
    with np.errstate(invalid="ignore"):
        gaps = np.where(np.isnan(first) | np.isnan(second), np.nan, first - second)
    is_known = ~np.isnan(gaps).all(axis=0)
    differences = np.nanmean(gaps[:, is_known], axis=0)
    differences = differences[np.abs(differences) > 1e-12]
    n_first, n_second = int(np.sum(differences > 0)), int(np.sum(differences < 0))
    outcomes = np.concatenate([first, second])[:, is_known]
    is_binary = len(first) == 1 and bool(np.isin(outcomes, (0.0, 1.0)).all())
    if not len(differences):
        p = 1.0
    elif is_binary:
        p = float(stats.binomtest(n_first, n_first + n_second).pvalue)
    else:
        p = _sign_flip_p(np.sort(differences), resamples, seed)
    return Check("mcnemar" if is_binary else "sign-flip", p, n_first, n_second)


def _sign_flip_p(differences: NDArray[np.float64], resamples: int, seed: int) -> float:
    n, observed = len(differences), abs(differences.sum()) - 1e-9
    if n <= ENUMERATED:
        bits = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
        return float(np.mean(np.abs((2 * bits - 1) @ differences) >= observed))
    flips = np.random.default_rng(seed).integers(0, 2, size=(resamples, n), dtype=np.int8) * 2 - 1
    return float((1 + np.sum(np.abs(flips @ differences) >= observed)) / (1 + resamples))


class Significance(NamedTuple):
    """One gap of a family: p adjusted by Holm, and whether its sign is significant."""

    p_holm: float
    is_significant: bool


def family_significance(p_values: Sequence[float], confidence: float) -> list[Significance]:
    """Return which gaps of a family have a sign, by the p of each.

    The chance of any wrong claim among them is at most 1 - `confidence`.
    """
    return [Significance(p_holm, p_holm <= 1 - confidence) for p_holm in holm(p_values)]


class SignFlip(NamedTuple):
    """The size above which every student of a family gains, in billions of parameters.

    None is an open end: of `low`, below the smallest student, of `high`, above the largest, of
    `size`, no crossing within the family. `crosses`, `below` and `above` are the shares of
    resamples with a crossing within, all gaps positive, and the largest student's gap not positive.
    """

    size: float | None
    low: float | None
    high: float | None
    crosses: float
    below: float
    above: float


def crossings(sizes: Sequence[float], gaps: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the size at which gaps turn positive for good, for each resample.

    `gaps` is students x resamples, students by size. The size is the last crossing upwards, by
    straight lines between students on a log scale; -inf where all gaps are positive, +inf where the
    largest student's is not. Raises `ValueError` if the sizes do not grow or match the gaps.
    """
    logs = np.log(np.asarray(sizes, dtype=float))
    if len(logs) != len(gaps) or not (np.diff(logs) > 0).all():
        raise ValueError(f"sizes must grow and match the gaps: {list(sizes)}, {len(gaps)} gaps")
    is_loss = np.asarray(gaps) <= 0
    largest_loss = len(logs) - 1 - np.argmax(is_loss[::-1], axis=0)
    result = np.full(gaps.shape[1], -np.inf)
    result[is_loss[-1]] = np.inf
    is_inside = is_loss.any(axis=0) & ~is_loss[-1]
    student, column = largest_loss[is_inside], np.flatnonzero(is_inside)
    below, above = gaps[student, column].astype(float), gaps[student + 1, column].astype(float)
    step = logs[student + 1] - logs[student]
    result[is_inside] = logs[student] + step * -below / (above - below)
    return np.exp(result, out=result, where=np.isfinite(result))


def sign_flip(
    sizes: Sequence[float], gaps: Sequence[Resampled], benchmark: str, confidence: float
) -> SignFlip:
    """Return the sign-flip size of one family, students in any order.

    The interval is of quantiles of the resamples' own sizes. Each resample has the same questions
    for all students, and draws each student's seeds independently (`Contrast.stream`).
    """
    order = np.argsort(sizes, kind="stable")
    ordered = [float(sizes[i]) for i in order]
    value = crossings(ordered, np.array([[gaps[i].values[benchmark]] for i in order]))[0]
    drawn = crossings(ordered, np.stack([gaps[i].draws[benchmark] for i in order]))
    # Order statistics, as infinity cannot be interpolated.
    tails = (1 - confidence) / 2, (1 + confidence) / 2
    low, high = (np.quantile(drawn, share, method="nearest") for share in tails)
    ends = [float(end) if np.isfinite(end) else None for end in (value, low, high)]
    return SignFlip(
        ends[0],
        ends[1],
        ends[2],
        crosses=float(np.isfinite(drawn).mean()),
        below=float(np.isneginf(drawn).mean()),
        above=float(np.isposinf(drawn).mean()),
    )


class BestGap(NamedTuple):
    """A mix less the best single source: value, interval, the best source, its share of resamples.

    `bias` is the mean of the draws less the value: the cost, once more, of choosing the best on the
    data that score it. `p` is one-sided.
    """

    value: float
    low: float
    high: float
    best: str
    share_best: float
    bias: float
    p: float


def mix_minus_best(
    mix: Resampled, singles: dict[str, Resampled], benchmark: str, confidence: float
) -> BestGap:
    """Return a mix's accuracy less the highest of its single sources'.

    The best source is chosen on the data that score it, so its accuracy is flattered and the gap is
    biased downwards, the more the closer the sources. The best is chosen anew within each resample;
    the interval is of percentiles, its upper end too low where sources tie. `p` is of no gain over
    the best: the largest of the one-sided p over each source, which needs no choice (Berger 1982,
    Technometrics 24:295-300, intersection-union test). All accuracies must be of one stream. Raises
    `ValueError` for gaps, or without a source.
    """
    if mix.gap or any(single.gap for single in singles.values()) or not singles:
        raise ValueError(
            "a mix and its single sources are accuracies, and there is at least one source"
        )
    names = sorted(singles)
    values = np.array([singles[name].values[benchmark] for name in names])
    draws = [singles[name].draws[benchmark] for name in names]
    gaps = mix.draws[benchmark] - np.max(draws, axis=0)
    value, best = float(mix.values[benchmark] - values.max()), int(np.argmax(values))
    low, high = np.clip(np.quantile(gaps, [(1 - confidence) / 2, (1 + confidence) / 2]), -1, 1)
    return BestGap(
        value,
        float(min(low, value)),
        float(max(high, value)),
        names[best],
        share_best=float(np.mean(np.argmax(draws, axis=0) == best)),
        bias=float(gaps.mean() - value),
        p=float(
            max((1 + np.sum(mix.draws[benchmark] <= draw)) / (1 + len(gaps)) for draw in draws)
        ),
    )
