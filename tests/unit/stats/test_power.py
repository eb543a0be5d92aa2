"""power: plans agree with closed forms and simulation; components of simulated grids are right."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from gapgrid.stats import power, significance
from gapgrid.stats.bootstrap import Outcomes
from gapgrid.stats.power import Components, Design
from tests.unit.stats.builders import gaps

PARTS = Components(questions=0.05, answers=0.3, interaction=0.02, seeds=0.0004)


@pytest.mark.parametrize(("flip_rate", "gap"), [(0.2, 0.03), (0.2, 0.05), (0.3, 0.1), (0.1, 0.02)])
def test_questions_of_single_answers_are_those_of_mcnemars_test(
    flip_rate: float, gap: float
) -> None:
    """By Connor (1987), Biometrics 43:207-211."""
    z_alpha, z_power = special.ndtri(0.975), special.ndtri(0.8)
    root = z_alpha * math.sqrt(flip_rate) + z_power * math.sqrt(flip_rate - gap**2)
    questions = power.plan(power.from_rates(flip_rate, gap), Design(100), gap).questions
    assert questions == pytest.approx((root / gap) ** 2, rel=0.03, abs=4)


@pytest.mark.parametrize("n", [10, 30, 500])
def test_one_seed_is_the_paired_t_test(n: int) -> None:
    away, edge = 0.05 / (0.3 / math.sqrt(n)), stats.t.ppf(0.975, n - 1)
    expected = stats.nct.sf(edge, n - 1, away) + stats.nct.cdf(-edge, n - 1, away)
    parts = Components(0.09, 0.0, 0.0, 0.0)
    assert power.power(parts, Design(n), 0.05) == pytest.approx(expected, abs=0.002)


def test_without_a_gap_power_is_alpha_or_less_where_seeds_and_questions_join() -> None:
    only_questions = PARTS._replace(seeds=0.0)
    for design in (Design(30), Design(500, 16, 3)):
        assert power.power(only_questions, design, 0.0) == pytest.approx(0.05, abs=0.002)
    assert 0.02 < power.power(PARTS, Design(500, 16, 3), 0.0) < 0.052


def test_the_variance_adds_up() -> None:
    expected = 0.0004 / 2 + (0.05 + 0.02 / 2 + 0.3 / 8) / 100
    assert power.variance(PARTS, Design(100, 4, 2)) == pytest.approx(expected)


def test_a_plan_names_the_least_that_suffices() -> None:
    design, gap = Design(200, 2, 2), 0.06
    plan = power.plan(PARTS, design, gap)
    assert plan.power < 0.8 < power.power(PARTS, design, plan.detectable + 1e-4)
    for kind, least in zip(power.KINDS, plan[2:], strict=True):
        if least is not None:
            assert power.power(PARTS, design._replace(**{kind: least}), gap) >= 0.8
            assert power.power(PARTS, design._replace(**{kind: least - 1}), gap) < 0.8
    assert plan.seeds is not None and plan.seeds > 2


def test_what_no_count_can_do_is_none() -> None:
    plan = power.plan(Components(0.1, 0.1, 0.0, 0.01), Design(30, 1, 2), 0.03)
    assert plan.repeats is None  # questions and seeds remain
    assert plan.questions is None  # seeds remain
    assert power.plan(Components(0.1, 0.0, 0.0, 0.0), Design(30, 1, 2), 0.03).seeds is None


@settings(max_examples=50)
@given(st.integers(10, 800), st.integers(1, 20), st.integers(1, 5), st.floats(0.03, 0.3))
def test_more_of_anything_never_costs_power(n: int, k: int, seeds: int, gap: float) -> None:
    least = power.power(PARTS, Design(n, k, seeds), gap) - 1e-3
    assert power.power(PARTS, Design(2 * n, k, seeds), gap) >= least
    assert power.power(PARTS, Design(n, 2 * k, seeds), gap) >= least
    assert seeds == 1 or power.power(PARTS, Design(n, k, 2 * seeds), gap) >= least
    assert power.power(PARTS, Design(n, k, seeds), gap + 0.02) >= least


def test_each_doubling_says_what_it_buys() -> None:
    steps = power.doublings(PARTS, Design(100, 2, 2), 0.05)
    first, *more = steps
    changed = [f"{kind} x {times}" for kind in power.KINDS for times in (2, 4)]
    assert [step.what for step in steps] == ["as it is", *changed]
    assert [step.answers for step in steps] == [800, *([1600, 3200] * 3)]
    assert all(step.detectable <= first.detectable for step in more)
    assert all(step.power >= first.power for step in more)


@pytest.mark.parametrize("gap", [0.0, 1.5])
def test_a_plan_for_no_gap_is_an_error(gap: float) -> None:
    with pytest.raises(ValueError, match="gap"):
        power.plan(PARTS, Design(30), gap)


@pytest.mark.parametrize("rates", [(0.02, 0.03), (1.2, 0.1), (0.2, 0.1, 0.0, 2)])
def test_impossible_rates_are_an_error(rates: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="flip_rate"):
        power.from_rates(*rates)


def sides(
    rng: np.random.Generator, design: Design, shift: float, apart: float = 0.0
) -> tuple[Outcomes, Outcomes]:
    """Two sides of shared questions; `shift` and the seeds' `apart` are in logits."""
    n, k, seeds = design
    difficulty = rng.normal(0, 1.5, n)

    def side(moved: float) -> Outcomes:
        own = rng.normal(0, 0.5, n)  # the effect of this training on each question
        logits = difficulty + own + moved + rng.normal(0, apart, (seeds, 1))
        return rng.binomial(k, special.expit(np.broadcast_to(logits, (seeds, n)))) / k

    return side(shift), side(0.0)


def test_the_components_of_a_simulated_grid_are_estimated() -> None:
    rng = np.random.default_rng(0)
    design, apart = Design(400, 8, 3), 0.3
    parts = power.from_grid([sides(rng, design, 0.3, apart) for _ in range(100)], design.repeats)
    # The truth, from many seeds and endless repeats.
    difficulty, own = rng.normal(0, 1.5, (1, 40_000)), rng.normal(0, 0.5, (2, 1, 40_000))
    shift = np.array([0.3, 0.0])[:, None, None] + rng.normal(0, apart, (2, 200, 1))
    chances = special.expit(difficulty + own + shift)
    gap = chances[0] - chances[1]
    residual = gap - gap.mean(axis=0) - gap.mean(axis=1, keepdims=True)
    assert parts.answers == pytest.approx(2 * np.mean(chances * (1 - chances)), rel=0.02)
    assert parts.seeds == pytest.approx(gap.mean(axis=1).var(ddof=1), rel=0.35)
    assert parts.questions == pytest.approx(gap.mean(axis=0).var(), rel=0.1)
    assert parts.interaction == pytest.approx(residual.var(), abs=0.002)
    assert parts.is_split


def test_one_repeat_of_one_seed_is_all_questions() -> None:
    first, second = sides(np.random.default_rng(1), Design(500), 0.3)
    expected = ((first - second).var(ddof=1), 0.0, 0.0, 0.0, False)
    assert power.from_grid([(first, second)], 1) == pytest.approx(expected)


def test_components_ignore_the_order_of_rows_and_what_is_unknown() -> None:
    first, second = sides(np.random.default_rng(2), Design(60, 4, 3), 0.3, 0.3)
    order = np.random.default_rng(3).permutation(60)
    parts = power.from_grid([(first, second)], 4)
    reordered = power.from_grid([(first[::-1, order], second[::-1, order])], 4)
    assert reordered == pytest.approx(parts)
    unknown = np.full((3, 1), np.nan)
    padded = (np.hstack([first, unknown]), np.hstack([second, unknown]))
    assert power.from_grid([padded], 4) == pytest.approx(parts)
    with pytest.raises(ValueError, match="no cells"):
        power.from_grid([], 4)
    with pytest.raises(ValueError, match="two questions"):
        power.from_grid([(first[:, :1], second[:, :1])], 4)


@pytest.mark.parametrize(
    ("design", "apart"), [(Design(100, 1), 0.0), (Design(40, 16), 0.0), (Design(200, 4, 3), 0.25)]
)
def test_power_is_how_often_a_gap_is_significant(design: Design, apart: float) -> None:
    rng = np.random.default_rng(4)
    pairs = [sides(rng, design, 0.5 if design.repeats < 16 else 0.35, apart) for _ in range(400)]
    gap = float(np.mean([first.mean() - second.mean() for first, second in pairs]))
    share = np.mean([significance.p_value(result, "b") <= 0.05 for result in gaps(pairs, 1000)])
    predicted = power.power(power.from_grid(pairs, design.repeats), design, gap)
    assert share - (0.12 if apart else 0.07) <= predicted <= share + 0.05
    assert 0.2 < share < 0.95


def test_an_average_over_benchmarks_has_their_variance() -> None:
    parts = {"a": PARTS, "b": Components(0.2, 0.1, 0.0, 0.001)}
    n = {"a": 30, "b": 500}
    whole = power.of_average(parts, n, 0.0003)
    for factor, k, seeds in ((1, 1, 1), (2, 4, 3)):
        alone = [
            power.variance(part._replace(seeds=0.0), Design(factor * n[name], k, seeds))
            for name, part in parts.items()
        ]
        expected = sum(alone) / 4 + 0.0003 / seeds
        assert power.variance(whole, Design(factor * 530, k, seeds)) == pytest.approx(expected)
    assert not power.of_average({"a": PARTS, "b": PARTS._replace(is_split=False)}, n, 0.0).is_split
    assert power.of_average({"a": PARTS}, {"a": 30}, PARTS.seeds) == pytest.approx(PARTS)


def test_the_variance_between_an_averages_seeds_is_estimated() -> None:
    rng = np.random.default_rng(6)

    def student(sd: float) -> dict[str, Outcomes]:
        shift = rng.normal(0, sd, (3, 1))  # one training answers all benchmarks
        return {
            name: shift + rng.normal(0.1, 0.5, n) + rng.normal(0, 0.4, (3, n))
            for name, n in (("a", 40), ("b", 300))
        }

    apart, alike = ([student(sd) for _ in range(400)] for sd in (0.1, 0.0))
    assert power.seeds_of_average(apart) == pytest.approx(0.01, rel=0.12)
    assert power.seeds_of_average(alike) < 0.002
    assert power.seeds_of_average([{"a": rng.normal(0, 1, (1, 30))}]) == 0
