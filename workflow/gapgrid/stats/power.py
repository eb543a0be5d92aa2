"""How many repeats, training seeds and questions it takes to see a gap: `gapgrid power`.

The variance of a paired gap between two training sets, n questions, k repeats and S training seeds:

    seeds / S + (questions + interaction / S + answers / (k S)) / n

Repeats reduce only `answers`, seeds all but `questions`, questions all but `seeds`. All gaps are
shares, not points.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from gapgrid.stats.bootstrap import Outcomes

MOST_REPEATS, MOST_SEEDS, MOST_QUESTIONS = 64, 64, 1_000_000
N_NODES = 60  # of each numerical integral
KINDS = ("repeats", "seeds", "questions")


class Components(NamedTuple):
    """The parts of a gap's variance, in squared shares, for one question, one seed and one repeat.

    questions: between questions, of the gap expected on each. answers: of both sides' single
    answers. interaction: of seeds by question. seeds: between training seeds, of the gap over all
    questions. `is_split` is False where there is one repeat, and answers cannot be told from the
    other parts: repeats then look worthless, which may be wrong.
    """

    questions: float
    answers: float
    interaction: float
    seeds: float
    is_split: bool = True


class Design(NamedTuple):
    """How much is measured."""

    questions: int
    repeats: int = 1
    seeds: int = 1


class Plan(NamedTuple):
    """Power now, and the gap seen at the target power; then the least of each kind that suffices.

    The others stay as they are; None if no count suffices.
    """

    power: float
    detectable: float
    repeats: int | None
    seeds: int | None
    questions: int | None


def from_rates(
    flip_rate: float, gap: float, seed_sd: float = 0.0, within: float = 0.0
) -> Components:
    """Return components from guesses, without any grid.

    `flip_rate` is the chance that the two students' single answers to a question differ in being
    right; a gap subtracts its square from its variance. `within` is the share of the rest that more
    repeats would reduce, 0 for greedy answers; `seed_sd` the standard deviation of the gap between
    training seeds. Raises `ValueError` for impossible rates.
    """
    if not abs(gap) <= flip_rate <= 1 or not 0 <= within <= 1 or seed_sd < 0:
        expected = "|gap| <= flip_rate <= 1, 0 <= within <= 1 and seed_sd >= 0"
        raise ValueError(f"expected {expected}: {gap}, {flip_rate}, {within}, {seed_sd}")
    variance = flip_rate - gap**2
    return Components(variance * (1 - within), variance * within, 0.0, seed_sd**2)


def from_grid(pairs: Sequence[tuple[Outcomes, Outcomes]], repeats: int) -> Components:
    """Return the mean components of existing cells.

    `pairs` are (seeds x questions) arrays of one benchmark, e.g. a pair a student. Unbiased by
    two-way analysis of variance, each component at least 0. Questions without an outcome on both
    sides in every seed are left out. A pair with one seed says nothing of seeds, and is left out of
    that mean and the interaction's. Raises `ValueError` without pairs or with one question.
    """
    if not pairs:
        raise ValueError("no cells to learn from")
    parts = [_components(first, second, repeats) for first, second in pairs]
    seeded = [part for part, (first, _) in zip(parts, pairs, strict=True) if len(first) > 1]
    return Components(
        float(np.mean([part.questions for part in parts])),
        float(np.mean([part.answers for part in parts])),
        float(np.mean([part.interaction for part in seeded])) if seeded else 0.0,
        float(np.mean([part.seeds for part in seeded])) if seeded else 0.0,
        repeats > 1,
    )


def _components(first: Outcomes, second: Outcomes, repeats: int) -> Components:
    is_known = ~np.isnan(first - second).any(axis=0)
    sides = np.stack([first, second])[:, :, is_known]
    gaps = sides[0] - sides[1]
    n_seeds, n = gaps.shape
    if n < 2:
        raise ValueError("components need two questions with outcomes")
    answers = 0.0
    if repeats > 1:
        answers = float(np.mean(sides * (1 - sides)) * 2 * repeats / (repeats - 1))
    between = float(gaps.mean(axis=0).var(ddof=1))
    if n_seeds < 2:
        return Components(max(between - answers / repeats, 0.0), answers, 0.0, 0.0)
    noise = _residual_variance(gaps)
    seeds = max(float(gaps.mean(axis=1).var(ddof=1)) - noise / n, 0.0)
    interaction = max(noise - answers / repeats, 0.0)
    return Components(max(between - noise / n_seeds, 0.0), answers, interaction, seeds)


def _residual_variance(gaps: Outcomes) -> float:
    """Return the variance that neither seeds (rows) nor questions (columns) explain."""
    residual = gaps - gaps.mean(axis=0) - gaps.mean(axis=1, keepdims=True) + gaps.mean()
    return float(np.sum(residual**2)) / ((gaps.shape[0] - 1) * (gaps.shape[1] - 1))


def of_average(
    parts: Mapping[str, Components], questions: Mapping[str, int], seeds: float
) -> Components:
    """Return components of the plain mean over benchmarks, for one question of all together.

    `seeds` is the mean's own variance. A design's questions are then their sum; more of them are
    more of each benchmark in proportion.
    """
    total = sum(questions.values())
    weights = {name: total / (questions[name] * len(parts) ** 2) for name in parts}
    between, answers, interaction = (
        sum(weights[name] * part[i] for name, part in parts.items()) for i in range(3)
    )
    is_split = all(part.is_split for part in parts.values())
    return Components(between, answers, interaction, seeds, is_split)


def seeds_of_average(gaps: Sequence[Mapping[str, Outcomes]]) -> float:
    """Return the variance between training seeds of the gap averaged over benchmarks.

    `gaps` are a mapping of (seeds x questions) gaps a student. The noise of the seeds' means is
    subtracted, as in `from_grid`; students with one seed say nothing, and without any it is 0.
    """
    variances = []
    for by_benchmark in gaps:
        known = [array[:, ~np.isnan(array).any(axis=0)] for array in by_benchmark.values()]
        if min(map(len, known)) < 2:
            continue
        noise = sum(
            _residual_variance(array) / (array.shape[1] * len(known) ** 2) for array in known
        )
        average = np.mean([array.mean(axis=1) for array in known], axis=0)
        variances.append(max(float(average.var(ddof=1)) - noise, 0.0))
    return float(np.mean(variances)) if variances else 0.0


def variance(parts: Components, design: Design) -> float:
    """Return the variance of the gap under a design."""
    within = parts.questions + parts.interaction / design.seeds
    within += parts.answers / (design.repeats * design.seeds)
    return parts.seeds / design.seeds + within / design.questions


def power(parts: Components, design: Design, gap: float, alpha: float = 0.05) -> float:
    """Return the chance that a two-sided test at `alpha` finds a gap of that size significant.

    Its sign may be the right or the wrong one. The test's half-width joins those of seeds (t with
    S - 1 degrees of freedom) and of questions (n - 1) by squares; power is its mean over both
    variances' chi-squared estimates. Where seeds do not differ it is the non-central t
    distribution's; with two or three seeds that differ it is cautious, up to 10 points below what
    simulation gives. With one seed the seeds' part stays in the variance although no test could see
    it.
    """
    total = variance(parts, design)
    if total <= 0:
        return 1.0 if gap else alpha
    seeds = parts.seeds / design.seeds if design.seeds > 1 else 0.0
    half = np.sqrt(
        seeds * _squared_half_widths(design.seeds - 1, alpha)[:, None]
        + (total - seeds) * _squared_half_widths(design.questions - 1, alpha)
    )
    away = np.array([abs(gap), -abs(gap)])[:, None, None]
    return float(stats.norm.cdf((away - half) / math.sqrt(total)).mean(axis=(1, 2)).sum())


def _squared_half_widths(freedom: int, alpha: float) -> NDArray[np.float64]:
    """Return squared half-widths, in variances, of a t test.

    Its estimates of the variance are at evenly spaced quantiles.
    """
    if freedom < 1:
        return np.zeros(1)
    shares = (np.arange(N_NODES) + 0.5) / N_NODES
    return stats.t.ppf(1 - alpha / 2, freedom) ** 2 * special.chdtri(freedom, 1 - shares) / freedom


def detectable(
    parts: Components, design: Design, wanted: float = 0.8, alpha: float = 0.05
) -> float:
    """Return the smallest gap, at most 1, that is seen with the power `wanted`; by bisection."""
    low, high = 0.0, 1.0
    while high - low > 1e-4:
        middle = (low + high) / 2
        if power(parts, design, middle, alpha) >= wanted:
            high = middle
        else:
            low = middle
    return high


def plan(
    parts: Components, design: Design, gap: float, wanted: float = 0.8, alpha: float = 0.05
) -> Plan:
    """Return what it takes to see a gap with the power `wanted`.

    The least repeats (to 64), seeds (to 64) or questions, each with the others as in `design`.
    Raises `ValueError` for arguments out of range.
    """
    if not 0 < abs(gap) <= 1 or not 0 < alpha < wanted < 1 or min(design) < 1:
        expected = "0 < |gap| <= 1, 0 < alpha < power < 1 and counts of 1 or more"
        raise ValueError(f"expected {expected}: {gap}, {alpha}, {wanted}, {design}")
    most = dict(zip(KINDS, (MOST_REPEATS, MOST_SEEDS, MOST_QUESTIONS), strict=True))
    least = {kind: _least(parts, design, kind, most[kind], gap, wanted, alpha) for kind in KINDS}
    return Plan(power(parts, design, gap, alpha), detectable(parts, design, wanted, alpha), **least)


def _least(
    parts: Components, design: Design, kind: str, most: int, gap: float, wanted: float, alpha: float
) -> int | None:
    def suffices(count: int) -> bool:
        return power(parts, design._replace(**{kind: count}), gap, alpha) >= wanted

    # From two seeds on: with one, power is that of no possible test. More never costs power.
    low, high = (2 if kind == "questions" or (kind == "seeds" and parts.seeds > 0) else 1), most
    if not suffices(high):
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if suffices(middle) else (middle + 1, high)
    return low


class Step(NamedTuple):
    """One design, the answers it generates (both sides), the gap it sees and its power."""

    what: str
    design: Design
    answers: int
    detectable: float
    power: float


def doublings(
    parts: Components, design: Design, gap: float, wanted: float = 0.8, alpha: float = 0.05
) -> list[Step]:
    """Return what each doubling buys, as a gap seen with the power `wanted` and as power.

    First the design as it is, then twice and four times the repeats, the seeds, the questions.
    """
    designs = {"as it is": design}
    for kind in KINDS:
        for times in (2, 4):
            count = times * getattr(design, kind)
            designs[f"{kind} x {times}"] = design._replace(**{kind: count})
    return [
        Step(
            what,
            step,
            2 * math.prod(step),
            detectable(parts, step, wanted, alpha),
            power(parts, step, gap, alpha),
        )
        for what, step in designs.items()
    ]
