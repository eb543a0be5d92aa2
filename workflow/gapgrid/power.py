"""How many repeats, training seeds and questions a gap needs to be seen: `gapgrid power`.

The variance of a paired gap between two training sets, with n questions, k repeats and S training seeds, is

    seeds / S + (questions + interaction / S + answers / (k S)) / n

Repeats wear down only `answers`, seeds all but `questions`, questions all but `seeds`. Gaps are shares, not points.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from gapgrid.statistics import Outcomes

MOST_REPEATS, MOST_SEEDS, MOST_QUESTIONS = 64, 64, 1_000_000
N_NODES = 60  # of each numerical integral
KINDS = ("repeats", "seeds", "questions")


class Components(NamedTuple):
    """What a gap's variance is made of; all in squared shares, for one question, one seed and one repeat.

    questions: between questions, of the gap expected on each. answers: of both sides' single answers. interaction: of
    seeds by question. seeds: between training seeds, of the gap over all questions. `is_split` is False where there is one
    repeat, and answers cannot be told from what stands beside them: repeats then look worthless, which may be wrong.
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
    """Power now and the gap seen at the wanted power; then the least of each that suffices, the rest as it is, or None."""

    power: float
    detectable: float
    repeats: int | None
    seeds: int | None
    questions: int | None


def from_rates(flip_rate: float, gap: float, seed_sd: float = 0.0, within: float = 0.0) -> Components:
    """Components without any grid, from guesses.

    flip_rate is the chance that the two students' single answers to a question differ in being right; a gap takes its square off
    its variance. `within` is the share of the rest that more repeats would wear down, 0 for greedy answers; seed_sd the
    standard deviation of the gap between training seeds.
    """
    if not abs(gap) <= flip_rate <= 1 or not 0 <= within <= 1 or seed_sd < 0:
        raise ValueError(f"expected |gap| <= flip_rate <= 1, 0 <= within <= 1 and seed_sd >= 0: {gap}, {flip_rate}, {within}, {seed_sd}")
    variance = flip_rate - gap**2
    return Components(variance * (1 - within), variance * within, 0.0, seed_sd**2)


def from_grid(pairs: Sequence[tuple[Outcomes, Outcomes]], repeats: int) -> Components:
    """Components from cells there are: pairs of (seeds x questions) arrays of one benchmark, e.g. a pair a student; their mean.

    Unbiased by two-way analysis of variance, each component at least 0. Questions without an outcome on both sides in every
    seed are left out. A pair with one seed tells nothing of seeds, and is left out of that mean and the interaction's.
    """
    if not pairs:
        raise ValueError("no cells to learn from")
    found = [_components(first, second, repeats) for first, second in pairs]
    questions, answers = (float(np.mean([one[i] for one in found])) for i in (0, 1))
    seeded = [one for one, (first, _) in zip(found, pairs, strict=True) if len(first) > 1]
    interaction, seeds = (float(np.mean([one[i] for one in seeded])) if seeded else 0.0 for i in (2, 3))
    return Components(questions, answers, interaction, seeds, repeats > 1)


def _components(first: Outcomes, second: Outcomes, repeats: int) -> Components:
    gaps = first - second
    known = ~np.isnan(gaps).any(axis=0)
    gaps, sides = gaps[:, known], np.stack([first, second])[:, :, known]
    n_seeds, n = gaps.shape
    if n < 2:
        raise ValueError("components need two questions with outcomes")
    answers = float(np.mean(sides * (1 - sides)) * 2 * repeats / (repeats - 1)) if repeats > 1 else 0.0
    by_question, by_seed = gaps.mean(axis=0), gaps.mean(axis=1)
    between = float(by_question.var(ddof=1))
    if n_seeds < 2:
        return Components(max(between - answers / repeats, 0.0), answers, 0.0, 0.0)
    residual = gaps - by_question - by_seed[:, None] + gaps.mean()
    noise = float(np.sum(residual**2)) / ((n_seeds - 1) * (n - 1))
    seeds = max(float(by_seed.var(ddof=1)) - noise / n, 0.0)
    return Components(max(between - noise / n_seeds, 0.0), answers, max(noise - answers / repeats, 0.0), seeds)


def of_average(parts: Mapping[str, Components], questions: Mapping[str, int], seeds: float) -> Components:
    """Components of the plain mean over benchmarks, for one question of all of them together; `seeds` is the mean's own.

    A design's questions are then their sum; more of them are more of each benchmark in proportion.
    """
    weights = {name: sum(questions.values()) / (questions[name] * len(parts) ** 2) for name in parts}
    between, answers, interaction = (sum(weights[name] * one[i] for name, one in parts.items()) for i in range(3))
    return Components(between, answers, interaction, seeds, all(one.is_split for one in parts.values()))


def seeds_of_average(gaps: Sequence[Mapping[str, Outcomes]]) -> float:
    """Variance between training seeds of the gap averaged over benchmarks, a mapping of (seeds x questions) gaps a student.

    The noise of the seeds' means is taken off, as in `from_grid`; students with one seed tell nothing, and without any it is 0.
    """
    found = []
    for of_student in gaps:
        known = [array[:, ~np.isnan(array).any(axis=0)] for array in of_student.values()]
        if min(map(len, known)) < 2:
            continue
        noise = 0.0
        for array in known:
            residual = array - array.mean(axis=0) - array.mean(axis=1, keepdims=True) + array.mean()
            noise += float(np.sum(residual**2)) / ((array.shape[0] - 1) * (array.shape[1] - 1) * array.shape[1] * len(known) ** 2)
        average = np.mean([array.mean(axis=1) for array in known], axis=0)
        found.append(max(float(average.var(ddof=1)) - noise, 0.0))
    return float(np.mean(found)) if found else 0.0


def variance(parts: Components, design: Design) -> float:
    """Variance of the gap under a design."""
    within = parts.questions + parts.interaction / design.seeds + parts.answers / (design.repeats * design.seeds)
    return parts.seeds / design.seeds + within / design.questions


def power(parts: Components, design: Design, gap: float, alpha: float = 0.05) -> float:
    """Chance that a two-sided test at `alpha` settles a gap of that size, with the right sign or the wrong one.

    The test's half-width joins those of seeds (t with S - 1 degrees of freedom) and of questions (n - 1) by squares; power is
    its mean over both variances' chi-squared estimates. Without spread of seeds it is the non-central t distribution's;
    with two or three seeds that differ it is cautious, up to 10 points below what simulation gives. With one seed the seeds'
    part stays in the variance although no test could see it.
    """
    total = variance(parts, design)
    if total <= 0:
        return 1.0 if gap else alpha
    seeds = parts.seeds / design.seeds if design.seeds > 1 else 0.0
    half = np.sqrt(
        seeds * _squared_edges(design.seeds - 1, alpha, N_NODES)[:, None]
        + (total - seeds) * _squared_edges(design.questions - 1, alpha, N_NODES)
    )
    away = np.array([abs(gap), -abs(gap)])[:, None, None]
    return float(stats.norm.cdf((away - half) / math.sqrt(total)).mean(axis=(1, 2)).sum())


def _squared_edges(freedom: int, alpha: float, nodes: int) -> NDArray[np.float64]:
    """Squared half-widths, in variances, of a t test when its estimate of the variance is at evenly spread quantiles."""
    if freedom < 1:
        return np.zeros(1)
    shares = (np.arange(nodes) + 0.5) / nodes
    return stats.t.ppf(1 - alpha / 2, freedom) ** 2 * special.chdtri(freedom, 1 - shares) / freedom


def detectable(parts: Components, design: Design, wanted: float = 0.8, alpha: float = 0.05) -> float:
    """The smallest gap seen with the wanted power, at most 1; by halving."""
    low, high = 0.0, 1.0
    while high - low > 1e-4:
        middle = (low + high) / 2
        low, high = (low, middle) if power(parts, design, middle, alpha) >= wanted else (middle, high)
    return high


def plan(parts: Components, design: Design, gap: float, wanted: float = 0.8, alpha: float = 0.05) -> Plan:
    """What it takes to see a gap: the least repeats (to 64), seeds (to 64) or questions, each with the others as in `design`."""
    if not 0 < abs(gap) <= 1 or not 0 < alpha < wanted < 1 or min(design) < 1:
        raise ValueError(f"expected 0 < |gap| <= 1, 0 < alpha < power < 1 and counts of 1 or more: {gap}, {alpha}, {wanted}, {design}")
    most = dict(zip(KINDS, (MOST_REPEATS, MOST_SEEDS, MOST_QUESTIONS), strict=True))
    least = {kind: _least(parts, design, kind, most[kind], gap, wanted, alpha) for kind in KINDS}
    return Plan(power(parts, design, gap, alpha), detectable(parts, design, wanted, alpha), **least)


def _least(parts: Components, design: Design, kind: str, most: int, gap: float, wanted: float, alpha: float) -> int | None:
    def suffices(count: int) -> bool:
        return power(parts, design._replace(**{kind: count}), gap, alpha) >= wanted

    # From two seeds on: with one, power is not that of a test that anyone could make. More of anything never costs power.
    low, high = (2 if kind == "questions" or (kind == "seeds" and parts.seeds > 0) else 1), most
    if not suffices(high):
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if suffices(middle) else (middle + 1, high)
    return low


def mcnemar_questions(flip_rate: float, gap: float, wanted: float = 0.8, alpha: float = 0.05) -> int:
    """Questions for McNemar's test of single answers (Connor 1987, Biometrics 43:207-211)."""
    at_null, at_gap = stats.norm.ppf(1 - alpha / 2) * math.sqrt(flip_rate), stats.norm.ppf(wanted) * math.sqrt(flip_rate - gap**2)
    return math.ceil(((at_null + at_gap) / gap) ** 2)


class Step(NamedTuple):
    """One design, the answers it generates (both sides), the gap it sees at the wanted power, and its power for the wanted gap."""

    what: str
    design: Design
    answers: int
    detectable: float
    power: float


def doublings(parts: Components, design: Design, gap: float, wanted: float = 0.8, alpha: float = 0.05) -> list[Step]:
    """What each doubling buys: the design as it is, then twice and four times the repeats, the seeds, the questions."""
    steps = [("as it is", design)]
    for kind in KINDS:
        steps += [(f"{kind} x {times}", design._replace(**{kind: times * getattr(design, kind)})) for times in (2, 4)]
    return [
        Step(what, one, 2 * math.prod(one), detectable(parts, one, wanted, alpha), power(parts, one, gap, alpha)) for what, one in steps
    ]
