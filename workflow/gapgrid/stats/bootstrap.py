"""Intervals of accuracies and gaps: a bootstrap over questions, and over training seeds if several.

Outcomes of a cell are an array, seeds x questions: the share of right answers among the repeats,
NaN where no answer has a verdict. An unknown outcome is left out of both sides of the ratio, right
answers and answers, and never counted as wrong. Every quantity here is a `Contrast`, a weighted sum
of accuracies, paired over questions and seeds.

A plain percentile bootstrap fails on benchmarks of 30 questions and with 3 seeds. The corrections:

- It is too narrow by sqrt((n - 1) / n), and uses normal quantiles instead of t's; deviations are
  stretched by both (Hesterberg 2015, What teachers should know about the bootstrap, Am. Stat.
  69:371-386).
- Three resampled seeds have ten distinct samples. Seeds are drawn from a t distribution with S - 1
  degrees of freedom around their mean instead, which together with the questions' part gives the
  interval of Behrens and Fisher.
- Resampling both ways counts the noise of single answers up to three times (Owen 2007, The
  pigeonhole bootstrap, Ann. Appl. Stat. 1:386-411). The noise within seeds' means is subtracted
  from their variance (two-way random effects).
- Near 0 and 1 it shrinks to nothing. The half-width of the draws fixes an effective number of
  answers, and the interval is Wilson's for an accuracy (Franco et al. 2019, J. Surv. Stat.
  Methodol. 7:334-364) and that of Agresti and Min for a gap (2005, Statist. Med. 24:729-740). Its
  length is never 0 where a benchmark is finite.
- A variance estimated from few informative questions is too small on average. A pseudo-question
  with the variance of a single answer is mixed into it (`INFORMATIVE_QUESTION_WEIGHT`). That
  constant and `MIN_SEED_VARIANCE_SHARE` follow from no theorem: they were chosen by simulation, see
  the tests.

Coverage of 95 % intervals on simulated grids of 30 to 500 questions, 1 or 16 repeats and 1 to 3
seeds: 92 to 99 %, lowest where seeds differ and the noise of single answers hides it, highest where
seeds do not differ. Seeds in two groups far apart are beyond any interval from three. Questions
must be in the same order in all arrays; another order gives other draws of the same distribution,
so sort by id for the same bytes.
"""

import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from gapgrid.core.cells import AVERAGE

Outcomes = NDArray[np.float64]  # seeds x questions, in [0, 1] or NaN
Draws = NDArray[np.float32]  # one quantity in every resample
BLOCK = 1000  # resamples whose weights are in memory at once: 4 bytes each and per question
# By number of sides (accuracy, gap): the weight of an informative question in the estimate of the
# questions' variance, where the pseudo-question has weight 1.
INFORMATIVE_QUESTION_WEIGHT = {1: 2, 2: 4}
# The share of the variance of seeds' means that is kept at least, however much of it is noise.
MIN_SEED_VARIANCE_SHARE = 0.2


class Contrast(NamedTuple):
    """A weighted sum of accuracies: per benchmark one array a side, and the sides' weights.

    `weights` are [1] for an accuracy and [1, -1] for a gap. `stream` names whose training seeds
    these are, a student: contrasts of one stream draw the same seeds, others do not. Benchmarks'
    questions are drawn alike for all, so draws of several contrasts may be combined resample by
    resample.
    """

    sides: Mapping[str, Sequence[Outcomes]]
    weights: Sequence[float]
    stream: str = ""


class Effect(NamedTuple):
    """One contrast on one benchmark: its value and its sources of variation.

    `questions` and `seeds` are deviations from the value, scaled so that their means in a resample
    are its draw; `second_moment` is that of a single answer or pair of answers (see the function),
    `n` the questions with an outcome.
    """

    value: float
    questions: NDArray[np.float64]
    seeds: NDArray[np.float64]
    second_moment: float
    n: int


class Resampled(NamedTuple):
    """One contrast in every resample; all by benchmark, and under `average` over benchmarks.

    `n` is the number of questions with an outcome; `gap` is whether the contrast has two sides.
    """

    values: dict[str, float]
    second_moments: dict[str, float]
    n: dict[str, int]
    draws: dict[str, Draws]
    gap: bool


def mean(array: Outcomes) -> float:
    """Return the mean over all known outcomes. Raises `ValueError` if there is none."""
    if np.isnan(array).all():
        raise ValueError("no outcome is known")
    return float(np.nanmean(array))


def second_moment(sides: Sequence[Outcomes]) -> float:
    """Return the second moment of a single answer's contrast.

    For an accuracy p (an answer is right or wrong) it is p. For a gap it is the flip rate, the
    chance that two answers to one question differ: p1 (1 - p2) + p2 (1 - p1), averaged over seeds
    and questions; 1 if no question has an outcome on both sides.
    """
    if len(sides) == 1:
        return mean(sides[0])
    first, second = sides
    flips = first * (1 - second) + second * (1 - first)
    return float(np.nanmean(flips)) if not np.isnan(flips).all() else 1.0


def effect(sides: Sequence[Outcomes], weights: Sequence[float]) -> Effect:
    """Return one contrast's effect on one benchmark.

    Each side's mean is over its own known outcomes, so that a gap is the difference of the
    accuracies shown beside it. Deviations are exact where all outcomes are known and of first order
    (a ratio's influence) elsewhere. Raises `ValueError` if the sides' shapes differ.
    """
    shapes = [side.shape for side in sides]
    if len(sides) not in (1, 2) or len(sides) != len(weights) or len(set(shapes)) > 1:
        raise ValueError(
            f"a contrast has one or two sides of the same seeds and questions, not {shapes}"
        )
    value, deviations, is_known = 0.0, np.zeros(shapes[0]), np.ones(shapes[0][1], dtype=bool)
    for side, weight in zip(sides, weights, strict=True):
        has_outcome, centre = ~np.isnan(side), mean(side)
        value += weight * centre
        scale = side.size / has_outcome.sum()
        deviations += weight * np.where(has_outcome, side - centre, 0.0) * scale
        is_known &= has_outcome.any(axis=0)
    n = max(int(is_known.sum()), 1)
    by_question, by_seed = deviations.mean(axis=0), deviations.mean(axis=1)
    moment = second_moment(sides)
    # The rare outcomes are informative: right answers near 0, wrong ones near 1.
    n_informative = _effective_number(by_question + value)
    if len(sides) == 1:
        n_informative = min(n_informative, _effective_number(by_question + value - 1))
    weight_of_data = n_informative * INFORMATIVE_QUESTION_WEIGHT[len(sides)]
    stretch = _stretch(float(np.mean(by_question**2)), moment - value**2, weight_of_data, n)
    seeds = _without_noise(deviations, by_question, by_seed)
    return Effect(value, by_question * stretch, seeds, moment, n)


def _stretch(variance: float, single: float, weight_of_data: float, n: int) -> float:
    """Return the factor on the questions' deviations with which normal quantiles cover.

    `variance` is that of the questions, `single` that of a single answer.
    """
    if n < 2 or variance <= 0:
        return 1.0
    small = n / (n - 1) * (special.stdtrit(n - 1, 0.975) / special.ndtri(0.975)) ** 2
    prior = max(single / variance - 1, 0) / (weight_of_data + 1)
    return float(np.sqrt(small * (1 + prior)))


def _effective_number(values: NDArray[np.float64]) -> float:
    """Return the effective number of terms in a sum (Kish 1965, Survey Sampling, on weights)."""
    square = float(np.sum(values**2))
    return float(np.sum(np.abs(values)) ** 2 / square) if square > 0 else 0.0


def _without_noise(
    deviations: Outcomes, by_question: NDArray[np.float64], by_seed: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return seeds' deviations, shrunk to the variance that is left without their means' noise."""
    n_seeds, n_questions = deviations.shape
    total = float(np.sum(by_seed**2)) / max(n_seeds - 1, 1)
    if n_seeds < 2 or n_questions < 2 or total <= 0:
        return by_seed * float(n_seeds > 1)
    residual = deviations - by_question - by_seed[:, None]
    noise = float(np.sum(residual**2)) / ((n_seeds - 1) * (n_questions - 1) * n_questions)
    return by_seed * np.sqrt(max(total - noise, MIN_SEED_VARIANCE_SHARE * total) / total)


def question_weights(n: int, resamples: int, seed: int, benchmark: str) -> Iterator[Draws]:
    """Yield blocks of resamples x `n`: how often a question is drawn, less 1, divided by `n`."""
    # By name, so that a new benchmark leaves the others' draws as they are.
    random = np.random.default_rng([seed, zlib.crc32(benchmark.encode())])
    for start in range(0, resamples, BLOCK):
        size = min(BLOCK, resamples - start)
        counts = random.multinomial(n, np.full(n, 1 / n), size=size).astype(np.float32)
        yield (counts - np.float32(1)) / np.float32(n)


def seed_weights(n: int, resamples: int, seed: int, stream: str) -> Draws:
    """Return weights of `n` seeds, resamples x `n`.

    Their sum with deviations follows the t distribution with n - 1 degrees of freedom, times the
    standard error.
    """
    random = np.random.default_rng([seed, n, zlib.crc32(stream.encode()), 1])
    tails = np.sqrt((n - 1) / random.chisquare(n - 1, size=(resamples, 1)))
    weights = random.standard_normal((resamples, n)) * tails / np.sqrt(n * (n - 1))
    return weights.astype(np.float32)


def resample(contrasts: Sequence[Contrast], resamples: int, seed: int) -> list[Resampled]:
    """Return every contrast in every resample.

    In an average over benchmarks (their plain mean) questions are drawn independently and seeds
    together, as one training answers all benchmarks. Raises `ValueError` if contrasts differ in a
    benchmark's number of questions.
    """
    effects = [
        {name: effect(sides, contrast.weights) for name, sides in contrast.sides.items()}
        for contrast in contrasts
    ]
    draws: list[dict[str, Draws]] = [{} for _ in contrasts]
    for benchmark in dict.fromkeys(name for by_name in effects for name in by_name):
        # A benchmark's weights are drawn once and multiply all contrasts at once.
        indices = [i for i, by_name in enumerate(effects) if benchmark in by_name]
        columns = [effects[i][benchmark].questions for i in indices]
        rows = _questions_drawn(columns, resamples, seed, benchmark)
        for i, row in zip(indices, rows, strict=True):
            draws[i][benchmark] = row
    for contrast, by_name, drawn in zip(contrasts, effects, draws, strict=True):
        for name, entry in by_name.items():
            if (n_seeds := len(entry.seeds)) > 1:
                weights = seed_weights(n_seeds, resamples, seed, contrast.stream)
                drawn[name] += weights @ entry.seeds.astype(np.float32)
            drawn[name] += np.float32(entry.value)
    return [_with_average(*parts) for parts in zip(contrasts, effects, draws, strict=True)]


def _questions_drawn(
    columns: list[NDArray[np.float64]], resamples: int, seed: int, benchmark: str
) -> Draws:
    n = len(columns[0])
    if any(len(column) != n for column in columns):
        raise ValueError(f"{benchmark}: contrasts differ in their number of questions")
    deviations = np.stack(columns, axis=1).astype(np.float32)
    blocks = [weights @ deviations for weights in question_weights(n, resamples, seed, benchmark)]
    return np.ascontiguousarray(np.concatenate(blocks).T)


def _with_average(
    contrast: Contrast, effects: dict[str, Effect], draws: dict[str, Draws]
) -> Resampled:
    values = {name: entry.value for name, entry in effects.items()}
    moments = {name: entry.second_moment for name, entry in effects.items()}
    n = {name: entry.n for name, entry in effects.items()}
    values[AVERAGE] = float(np.mean(list(values.values())))
    moments[AVERAGE] = float(np.mean(list(moments.values())))
    n[AVERAGE] = sum(n.values())
    draws[AVERAGE] = np.mean(list(draws.values()), axis=0)
    return Resampled(values, moments, n, draws, len(contrast.weights) > 1)


def interval(resampled: Resampled, benchmark: str, confidence: float) -> tuple[float, float]:
    """Return the interval of one contrast on one benchmark, or `average`.

    It lies within [0, 1] for an accuracy, within [-1, 1] for a gap.
    """
    value, moment = resampled.values[benchmark], resampled.second_moments[benchmark]
    deviations = np.abs(resampled.draws[benchmark] - np.float32(value))
    half = float(np.quantile(deviations, confidence))
    ratio = _z2_over_effective_n(half, moment - value**2, resampled.n[benchmark], confidence)
    low, high = agresti_min(value, moment, ratio) if resampled.gap else wilson(value, ratio)
    return max(min(low, value), -1.0), min(max(high, value), 1.0)


def _z2_over_effective_n(half: float, single: float, n: int, confidence: float) -> float:
    """Return z^2 / N, where N independent answers of variance `single` have the half-width `half`.

    Where nothing varies each of the `n` questions counts as one answer.
    """
    if half <= 1e-6 or single <= 1e-9:
        return float(special.stdtrit(max(n - 1, 1), (1 + confidence) / 2) ** 2 / n)
    return half**2 / single


def wilson(share: float, z2_over_n: float) -> tuple[float, float]:
    """Return Wilson's score interval of a share; n may be an effective sample size, not whole.

    Wilson (1927), Probable inference, the law of succession, and statistical inference, JASA
    22:209-212.
    """
    centre = (share + z2_over_n / 2) / (1 + z2_over_n)
    variance = max(z2_over_n * share * (1 - share), 0.0) + z2_over_n**2 / 4
    half = np.sqrt(variance) / (1 + z2_over_n)
    return float(centre - half) if share > 0 else 0.0, float(centre + half) if share < 1 else 1.0


def agresti_min(gap: float, flip_rate: float, z2_over_n: float) -> tuple[float, float]:
    """Return the interval of a paired difference, with z^2 / 8 added to each cell of its table."""
    scale = 1 + z2_over_n / 2
    centre, flips = gap / scale, (flip_rate + z2_over_n / 4) / scale
    half = float(np.sqrt(z2_over_n * max(flips - centre**2, 0.0) / scale))
    return centre - half, centre + half
