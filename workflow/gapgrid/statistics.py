"""Intervals for accuracies and gaps: a bootstrap over questions, and over training seeds where there are two or more.

Outcomes of a cell are an array, seeds x questions: the share of right answers among the repeats, NaN where no verdict
could be had. An unknown outcome is left out of both sides of the ratio, right answers and answers, never counted as wrong.
Every quantity here is a `Contrast`, a weighted sum of accuracies, paired over questions and seeds.

What a plain percentile bootstrap gets wrong on benchmarks of 30 questions and with 3 seeds, and what is done about it:

- It is too narrow by sqrt((n - 1) / n), and by normal quantiles where t's are due; deviations are stretched by both
  (Hesterberg 2015, What teachers should know about the bootstrap, Am. Stat. 69:371-386).
- Three drawn seeds have ten distinct samples. Seeds are drawn from a t distribution with S - 1 degrees of freedom around
  their mean instead, which with the questions' part gives the interval of Behrens and Fisher.
- Resampling both ways counts the noise of single answers up to three times (Owen 2007, The pigeonhole bootstrap, Ann.
  Appl. Stat. 1:386-411). The noise within seeds' means is taken off their spread (two-way random effects).
- Near 0 and 1 it shrinks to nothing. The half-width of the draws fixes an effective number of answers, and the interval is
  Wilson's for an accuracy (Franco et al. 2019, J. Surv. Stat. Methodol. 7:334-364) and that of Agresti and Min for
  a gap (2005, Statist. Med. 24:729-740). Its length is never 0 where a benchmark is finite.
- A spread estimated from few informative questions is too small on average. A pseudo-question as spread as a single answer
  is mixed into it (`PSEUDO`); that, and `LEFT`, are no theorem: they were chosen by simulation, see the tests.

Simulated grids of 30 to 500 questions, 1 or 16 repeats, 1 to 3 seeds: 92 to 99 % for 95, lowest where seeds differ and single
answers hide it, highest where seeds do not differ; seeds in two camps are beyond any interval from three. Questions must be
in the same order in all arrays; another order gives other draws of the same distribution, so sort by id for the same bytes.
"""

import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

Outcomes = NDArray[np.float64]  # seeds x questions, in [0, 1] or NaN
Draws = NDArray[np.float32]  # one quantity in every resample
BLOCK = 1000  # resamples whose weights are held in memory at once: 4 bytes each and per question
PSEUDO = {1: 2, 2: 4}  # one pseudo-question among so many times the informative ones, of an accuracy and of a gap
LEFT = 0.2  # what is left of the spread of seeds' means at least, however much of it is noise
AVERAGE = "average"


class Estimate(NamedTuple):
    """A value and its interval."""

    value: float
    low: float
    high: float


class Contrast(NamedTuple):
    """A weighted sum of accuracies: per benchmark one array a side, and the sides' weights; [1] or [1, -1] as a rule.

    `stream` names whose training seeds these are, a student: contrasts of one stream draw the same seeds, others do not.
    Benchmarks' questions are drawn alike for all, so draws of several contrasts may be combined resample by resample.
    """

    sides: Mapping[str, Sequence[Outcomes]]
    weights: Sequence[float]
    stream: str = ""


class Effect(NamedTuple):
    """One contrast on one benchmark: its value and what it varies by.

    `questions` and `seeds` are deviations from the value, so scaled that their means in a resample are its draw; `spread`
    is the second moment of a single answer or pair of answers (see `spread_of`), `n` the questions with an outcome.
    """

    value: float
    questions: NDArray[np.float64]
    seeds: NDArray[np.float64]
    spread: float
    n: int


class Resampled(NamedTuple):
    """One contrast in every resample: by benchmark, and as `average`, the value, its spread, its questions and its draws."""

    values: dict[str, float]
    spreads: dict[str, float]
    n: dict[str, int]
    draws: dict[str, Draws]
    gap: bool


def mean(array: Outcomes) -> float:
    """Mean over all known outcomes; a `ValueError` if there is none."""
    if np.isnan(array).all():
        raise ValueError("no outcome is known")
    return float(np.nanmean(array))


def spread_of(sides: Sequence[Outcomes]) -> float:
    """Second moment of a single answer's contrast.

    Of an accuracy p (an answer is right or wrong) it is p. Of a gap it is the flip rate, the chance that two answers to one
    question differ: p1 (1 - p2) + p2 (1 - p1), averaged over seeds and questions.
    """
    if len(sides) == 1:
        return mean(sides[0])
    first, second = sides
    flips = first * (1 - second) + second * (1 - first)
    return float(np.nanmean(flips)) if not np.isnan(flips).all() else 1.0


def effect(sides: Sequence[Outcomes], weights: Sequence[float]) -> Effect:
    """What one contrast on one benchmark is, and what it varies by.

    Each side's mean is over its own known outcomes, so that a gap is the difference of the accuracies shown beside it.
    Deviations are exact where all outcomes are known and of first order (a ratio's influence) elsewhere.
    """
    shape = sides[0].shape
    if any(side.shape != shape for side in sides) or len(sides) != len(weights) or len(sides) not in (1, 2):
        raise ValueError(f"a contrast has one or two sides of the same seeds and questions, not {[side.shape for side in sides]}")
    value, part, known = 0.0, np.zeros(shape), np.ones(shape[1], dtype=bool)
    for side, weight in zip(sides, weights, strict=True):
        has, centre = ~np.isnan(side), mean(side)
        value += weight * centre
        part += weight * np.where(has, side - centre, 0.0) * (side.size / has.sum())
        known &= has.any(axis=0)
    n = max(int(known.sum()), 1)
    by_question, by_seed = part.mean(axis=0), part.mean(axis=1)
    spread = spread_of(sides)
    # What tells something of a share is what is rare: right answers near 0, wrong ones near 1.
    informative = _informative(by_question + value)
    if len(sides) == 1:
        informative = min(informative, _informative(by_question + value - 1))
    stretch = _stretch(float(np.mean(by_question**2)), spread - value**2, informative, n, len(sides))
    return Effect(value, by_question * stretch, _without_noise(part, by_question, by_seed), spread, n)


def _stretch(variance: float, single: float, informative: float, n: int, n_sides: int) -> float:
    """By how much the questions' deviations must be stretched for normal quantiles of resampled means to cover."""
    if n < 2 or variance <= 0:
        return 1.0
    small = n / (n - 1) * (special.stdtrit(n - 1, 0.975) / special.ndtri(0.975)) ** 2
    prior = max(single / variance - 1, 0) / (informative * PSEUDO[n_sides] + 1)
    return float(np.sqrt(small * (1 + prior)))


def _informative(values: NDArray[np.float64]) -> float:
    """How many questions carry a sum, in effect (Kish 1965, Survey Sampling, on weights)."""
    square = float(np.sum(values**2))
    return float(np.sum(np.abs(values)) ** 2 / square) if square > 0 else 0.0


def _without_noise(part: Outcomes, by_question: NDArray[np.float64], by_seed: NDArray[np.float64]) -> NDArray[np.float64]:
    """Seeds' deviations, shrunk to the spread that is left when the noise of their means is taken off."""
    n_seeds, n_questions = part.shape
    total = float(np.sum(by_seed**2)) / max(n_seeds - 1, 1)
    if n_seeds < 2 or n_questions < 2 or total <= 0:
        return by_seed * float(n_seeds > 1)
    residual = part - by_question - by_seed[:, None]
    noise = float(np.sum(residual**2)) / ((n_seeds - 1) * (n_questions - 1) * n_questions)
    return by_seed * np.sqrt(max(total - noise, LEFT * total) / total)


def question_weights(n: int, resamples: int, seed: int, benchmark: str) -> Iterator[Draws]:
    """By how much more than once, as a share, each of `n` questions is drawn; blocks of resamples x n."""
    # By name, so that a new benchmark leaves the others' draws as they are.
    random = np.random.default_rng([seed, zlib.crc32(benchmark.encode())])
    for start in range(0, resamples, BLOCK):
        counts = random.multinomial(n, np.full(n, 1 / n), size=min(BLOCK, resamples - start)).astype(np.float32)
        yield (counts - np.float32(1)) / np.float32(n)


def seed_weights(n: int, resamples: int, seed: int, stream: str) -> Draws:
    """Weights of `n` seeds whose sum with deviations is t with n - 1 degrees of freedom, times the standard error; resamples x n."""
    random = np.random.default_rng([seed, n, zlib.crc32(stream.encode()), 1])
    tails = np.sqrt((n - 1) / random.chisquare(n - 1, size=(resamples, 1)))
    return (random.standard_normal((resamples, n)) * tails / np.sqrt(n * (n - 1))).astype(np.float32)


def resample(contrasts: Sequence[Contrast], resamples: int, seed: int) -> list[Resampled]:
    """Every contrast in every resample; a benchmark's weights are made once and multiply all contrasts at once.

    In an average over benchmarks (their plain mean) questions are drawn apart and seeds together: one training answers all.
    """
    effects = [{name: effect(sides, contrast.weights) for name, sides in contrast.sides.items()} for contrast in contrasts]
    found: list[dict[str, Draws]] = [{} for _ in contrasts]
    for name in dict.fromkeys(name for of_one in effects for name in of_one):
        rows = [i for i, of_one in enumerate(effects) if name in of_one]
        for i, drawn in zip(rows, _questions_drawn([effects[i][name] for i in rows], resamples, seed, name), strict=True):
            found[i][name] = drawn
    for contrast, of_one, drawn in zip(contrasts, effects, found, strict=True):
        for name, entry in of_one.items():
            if (n_seeds := len(entry.seeds)) > 1:
                drawn[name] += seed_weights(n_seeds, resamples, seed, contrast.stream) @ entry.seeds.astype(np.float32)
            drawn[name] += np.float32(entry.value)
    return [_gathered(*entry) for entry in zip(contrasts, effects, found, strict=True)]


def _questions_drawn(effects: list[Effect], resamples: int, seed: int, benchmark: str) -> Draws:
    n = len(effects[0].questions)
    if any(len(entry.questions) != n for entry in effects):
        raise ValueError(f"{benchmark}: contrasts differ in their number of questions")
    columns = np.stack([entry.questions for entry in effects], axis=1).astype(np.float32)
    return np.ascontiguousarray(np.concatenate([weights @ columns for weights in question_weights(n, resamples, seed, benchmark)]).T)


def _gathered(contrast: Contrast, effects: dict[str, Effect], draws: dict[str, Draws]) -> Resampled:
    values, spreads, n = ({name: getattr(e, key) for name, e in effects.items()} for key in ("value", "spread", "n"))
    values[AVERAGE], spreads[AVERAGE] = float(np.mean(list(values.values()))), float(np.mean(list(spreads.values())))
    n[AVERAGE] = sum(n.values())
    draws[AVERAGE] = np.mean(list(draws.values()), axis=0)
    return Resampled(values, spreads, n, draws, len(contrast.weights) > 1)


def interval(found: Resampled, benchmark: str, confidence: float) -> tuple[float, float]:
    """Interval of one contrast on one benchmark, or `average`, within [0, 1] or, of a gap, [-1, 1]."""
    value, spread = found.values[benchmark], found.spreads[benchmark]
    half = float(np.quantile(np.abs(found.draws[benchmark] - np.float32(value)), confidence))
    crowd = crowding(half, spread - value**2, found.n[benchmark], confidence)
    low, high = (agresti_min if found.gap else wilson)(value, spread, crowd)
    return max(min(low, value), -1.0), min(max(high, value), 1.0)


def crowding(half: float, single: float, n: int, confidence: float) -> float:
    """z^2 / n for the number n of independent answers, each with variance `single`, that would have this half-width.

    Where nothing varies each question counts as one answer.
    """
    if half <= 1e-6 or single <= 1e-9:
        return float(special.stdtrit(max(n - 1, 1), (1 + confidence) / 2) ** 2 / n)
    return half**2 / single


def wilson(value: float, spread: float, crowd: float) -> tuple[float, float]:
    """Wilson's score interval of a share; `crowd` is z^2 / n."""
    centre = (value + crowd / 2) / (1 + crowd)
    half = np.sqrt(max(crowd * value * (1 - value), 0.0) + crowd**2 / 4) / (1 + crowd)
    return float(centre - half) if value > 0 else 0.0, float(centre + half) if value < 1 else 1.0


def agresti_min(value: float, spread: float, crowd: float) -> tuple[float, float]:
    """Interval of a paired difference, with z^2 / 8 added to each cell of the table of pairs; `spread` is the flip rate."""
    scale = 1 + crowd / 2
    centre, flips = value / scale, (spread + crowd / 4) / scale
    half = float(np.sqrt(crowd * max(flips - centre**2, 0.0) / scale))
    return centre - half, centre + half


def estimates_of(contrasts: Sequence[Contrast], resamples: int, confidence: float, seed: int) -> list[dict[str, Estimate]]:
    """Each contrast's estimate per benchmark and, as `average`, over benchmarks; all share their resamples."""
    found = resample(contrasts, resamples, seed)
    return [{name: Estimate(one.values[name], *interval(one, name, confidence)) for name in one.values} for one in found]


def estimates(
    by_benchmark: Mapping[str, Sequence[Outcomes]], weights: Sequence[float], resamples: int, confidence: float, seed: int
) -> dict[str, Estimate]:
    """One contrast's estimates. Of many, `estimates_of` makes the resamples only once."""
    return estimates_of([Contrast(by_benchmark, weights)], resamples, confidence, seed)[0]
