"""Intervals for accuracies and gaps: a bootstrap over questions, and over training seeds where there are two or more.

Arrays hold one outcome per seed and question (the mean over repeats, NaN where no verdict could be had). Questions are
resampled within their benchmark and, in a gap, the same ones on both sides: the gap is paired.
"""

import zlib
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Outcomes = NDArray[np.float64]  # seeds x questions, in [0, 1] or NaN
BLOCK = 500  # resamples held in memory at once


class Estimate(NamedTuple):
    """A value and its interval."""

    value: float
    low: float
    high: float


def draws(n: int, resamples: int, random: np.random.Generator) -> NDArray[np.float64]:
    """How often each of `n` units is drawn in each resample; resamples x n."""
    return random.multinomial(n, np.full(n, 1 / n), size=resamples).astype(np.float64)


def resampled_means(outcomes: list[Outcomes], resamples: int, random: np.random.Generator) -> NDArray[np.float64]:
    """Mean outcome of each of several paired arrays in each resample; arrays x resamples.

    All arrays share their seeds and questions, and every resample draws the same of both for each array.
    """
    n_seeds, n_questions = outcomes[0].shape
    blocks = []
    for start in range(0, resamples, BLOCK):
        size = min(BLOCK, resamples - start)
        questions = draws(n_questions, size, random)
        seeds = draws(n_seeds, size, random) if n_seeds > 1 else np.ones((size, 1))
        blocks.append(np.stack([_weighted_mean(array, questions, seeds) for array in outcomes]))
    return np.concatenate(blocks, axis=1)


def _weighted_mean(array: Outcomes, questions: NDArray[np.float64], seeds: NDArray[np.float64]) -> NDArray[np.float64]:
    known = ~np.isnan(array)
    total = np.einsum("rs,rs->r", questions @ np.where(known, array, 0.0).T, seeds)
    weight = np.einsum("rs,rs->r", questions @ known.T.astype(np.float64), seeds)
    return np.divide(total, weight, out=np.full(len(total), np.nan), where=weight > 0)


def mean(array: Outcomes) -> float:
    """Mean over all known outcomes."""
    return float(np.nanmean(array))


def interval(values: NDArray[np.float64], confidence: float) -> tuple[float, float]:
    """Percentile interval of bootstrap values."""
    low, high = np.nanquantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def estimates(
    by_benchmark: dict[str, list[Outcomes]], weights: list[float], resamples: int, confidence: float, seed: int
) -> dict[str, Estimate]:
    """A weighted sum of paired accuracies per benchmark and, as `average`, over benchmarks (their plain mean).

    `by_benchmark` maps a benchmark to one array per side; weights [1] give an accuracy, [1, -1] a gap.
    """
    sides = np.asarray(weights)
    found: dict[str, Estimate] = {}
    values, samples = [], []
    for benchmark, arrays in by_benchmark.items():
        # By name, so that a new benchmark leaves the others' intervals as they are.
        random = np.random.default_rng([seed, zlib.crc32(benchmark.encode())])
        value = float(sides @ np.array([mean(array) for array in arrays]))
        sample = sides @ resampled_means(arrays, resamples, random)
        found[benchmark] = Estimate(value, *interval(sample, confidence))
        values.append(value)
        samples.append(sample)
    found["average"] = Estimate(float(np.mean(values)), *interval(np.mean(samples, axis=0), confidence))
    return found
