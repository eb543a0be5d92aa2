"""Made-up outcomes, and what the bootstrap says of them."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from gapgrid.stats.bootstrap import Contrast, Outcomes, Resampled, interval, resample

GAP = [1.0, -1.0]


class Estimate(NamedTuple):
    """A value and its interval."""

    value: float
    low: float
    high: float

    @property
    def width(self) -> float:
        return self.high - self.low


def coin(rng: np.random.Generator, p: float, seeds: int, questions: int) -> Outcomes:
    """Outcomes that are 1 with chance `p`."""
    return (rng.random((seeds, questions)) < p).astype(float)


def flipped(n: int, n_first: int, n_second: int) -> list[Outcomes]:
    """Two sides of single answers that differ on `n_first` + `n_second` of `n` questions."""
    first, second = np.zeros((1, n)), np.zeros((1, n))
    first[0, :n_first] = 1
    second[0, n_first : n_first + n_second] = 1
    return [first, second]


def gaps(pairs: Sequence[Sequence[Outcomes]], resamples: int = 2000) -> list[Resampled]:
    """The gap between the two sides of each pair, on benchmark `b`."""
    return resample([Contrast({"b": pair}, GAP) for pair in pairs], resamples, 0)


def estimates(
    sides: Mapping[str, Sequence[Outcomes]],
    resamples: int = 400,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, Estimate]:
    """An accuracy's or a gap's estimate per benchmark and as `average`."""
    weights = GAP[: len(next(iter(sides.values())))]
    result = resample([Contrast(sides, weights)], resamples, seed)[0]
    return {
        name: Estimate(value, *interval(result, name, confidence))
        for name, value in result.values.items()
    }


def estimate(*sides: Sequence[Sequence[float]] | Outcomes, resamples: int = 400) -> Estimate:
    """The accuracy of one array, or the gap between two."""
    return estimates({"b": [np.asarray(side, dtype=float) for side in sides]}, resamples)["b"]
