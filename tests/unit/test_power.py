"""power: plans agree with closed forms and with simulation, and grids give back the components that made them."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import special, stats

from gapgrid import gaps, power, statistics
from gapgrid.power import Components, Design

PARTS = Components(questions=0.05, answers=0.3, interaction=0.02, seeds=0.0004)


# ---- closed forms ----


@pytest.mark.parametrize(("flip_rate", "gap"), [(0.2, 0.03), (0.2, 0.05), (0.3, 0.1), (0.1, 0.02)])
def test_questions_of_single_answers_are_mcnemars(flip_rate: float, gap: float) -> None:
    found = power.plan(power.from_rates(flip_rate, gap), Design(100), gap).questions
    assert found == pytest.approx(power.mcnemar_questions(flip_rate, gap), rel=0.03, abs=4)


def test_mcnemars_questions_in_a_worked_case() -> None:
    # z = 1.959964 and 0.841621: (1.959964 * sqrt(0.3) + 0.841621 * sqrt(0.3 - 0.01)) ** 2 / 0.01 = 233.08
    assert power.mcnemar_questions(0.3, 0.1) == 234


@pytest.mark.parametrize("n", [10, 30, 500])
def test_one_seed_is_the_paired_t_test(n: int) -> None:
    found = power.power(Components(0.09, 0.0, 0.0, 0.0), Design(n), 0.05)
    away, edge = 0.05 / (0.3 / math.sqrt(n)), stats.t.ppf(0.975, n - 1)
    assert found == pytest.approx(stats.nct.sf(edge, n - 1, away) + stats.nct.cdf(-edge, n - 1, away), abs=0.002)


def test_without_a_gap_power_is_alpha_or_less_where_seeds_and_questions_join() -> None:
    only_questions = PARTS._replace(seeds=0.0)
    assert power.power(only_questions, Design(30), 0.0) == pytest.approx(0.05, abs=0.002)
    assert power.power(only_questions, Design(500, 16, 3), 0.0) == pytest.approx(0.05, abs=0.002)
    assert 0.02 < power.power(PARTS, Design(500, 16, 3), 0.0) < 0.052


def test_the_variance_adds_up() -> None:
    assert power.variance(PARTS, Design(100, 4, 2)) == pytest.approx(0.0004 / 2 + (0.05 + 0.02 / 2 + 0.3 / 8) / 100)


# ---- plans ----


def test_a_plan_names_the_least_that_suffices() -> None:
    design, gap = Design(200, 2, 2), 0.06
    found = power.plan(PARTS, design, gap)
    assert found.power < 0.8 < power.power(PARTS, design, found.detectable + 1e-4)
    for kind, least in zip(power.KINDS, found[2:], strict=True):
        if least is not None:
            assert power.power(PARTS, design._replace(**{kind: least}), gap) >= 0.8
            assert power.power(PARTS, design._replace(**{kind: least - 1}), gap) < 0.8
    assert found.seeds is not None and found.seeds > 2


def test_what_no_count_can_do_is_none() -> None:
    found = power.plan(Components(0.1, 0.1, 0.0, 0.01), Design(30, 1, 2), 0.03)
    assert found.repeats is None  # questions and seeds remain
    assert found.questions is None  # seeds remain
    assert power.plan(Components(0.1, 0.0, 0.0, 0.0), Design(30, 1, 2), 0.03).seeds is None


@settings(max_examples=50)
@given(st.integers(10, 800), st.integers(1, 20), st.integers(1, 5), st.floats(0.03, 0.3))
def test_more_of_anything_never_costs_power(n: int, k: int, seeds: int, gap: float) -> None:
    here = power.power(PARTS, Design(n, k, seeds), gap)
    for design in (Design(2 * n, k, seeds), Design(n, 2 * k, seeds), Design(n, k, 2 * seeds if seeds > 1 else 1)):
        assert power.power(PARTS, design, gap) >= here - 1e-3
    assert power.power(PARTS, Design(n, k, seeds), gap + 0.02) >= here - 1e-3


def test_each_doubling_says_what_it_buys() -> None:
    steps = power.doublings(PARTS, Design(100, 2, 2), 0.05)
    assert [step.what for step in steps][:4] == ["as it is", "repeats x 2", "repeats x 4", "seeds x 2"]
    first = steps[0]
    assert first.answers == 2 * 100 * 2 * 2
    assert steps[1].answers == steps[3].answers == steps[5].answers == 2 * first.answers
    assert all(step.detectable <= first.detectable and step.power >= first.power for step in steps)


@pytest.mark.parametrize("gap", [0.0, 1.5])
def test_a_plan_for_no_gap_is_an_error(gap: float) -> None:
    with pytest.raises(ValueError, match="gap"):
        power.plan(PARTS, Design(30), gap)


@pytest.mark.parametrize(
    "rates", [{"flip_rate": 0.02, "gap": 0.03}, {"flip_rate": 1.2, "gap": 0.1}, {"flip_rate": 0.2, "gap": 0.1, "within": 2}]
)
def test_rates_that_cannot_be_are_an_error(rates: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="flip_rate"):
        power.from_rates(**rates)


# ---- against simulation ----


def grid(
    rng: np.random.Generator, design: Design, shift: float, apart: float = 0.0, spread: float = 1.5
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Two sides of shared questions; the first better by `shift` logits, seeds `apart` in logits."""
    n, k, seeds = design
    hard = rng.normal(0, spread, n)
    found = []
    for moved in (shift, 0.0):
        own = rng.normal(0, 0.5, n)  # what this training does to each question
        logits = hard + own + moved + rng.normal(0, apart, (seeds, 1))
        found.append(rng.binomial(k, special.expit(np.broadcast_to(logits, (seeds, n)))) / k)
    return found[0], found[1]


def test_a_grid_gives_back_its_components() -> None:
    rng = np.random.default_rng(0)
    design, apart = Design(400, 8, 3), 0.3
    found = power.from_grid([grid(rng, design, 0.3, apart) for _ in range(100)], design.repeats)
    # What they are, from many seeds and endless repeats.
    hard, own = rng.normal(0, 1.5, (1, 40_000)), rng.normal(0, 0.5, (2, 1, 40_000))
    shown = special.expit(hard + own + np.array([0.3, 0.0])[:, None, None] + rng.normal(0, apart, (2, 200, 1)))
    gap = shown[0] - shown[1]
    assert found.answers == pytest.approx(2 * np.mean(shown * (1 - shown)), rel=0.02)
    assert found.seeds == pytest.approx(gap.mean(axis=1).var(ddof=1), rel=0.35)
    assert found.questions == pytest.approx(gap.mean(axis=0).var(), rel=0.1)
    assert found.interaction == pytest.approx((gap - gap.mean(axis=0) - gap.mean(axis=1, keepdims=True) + gap.mean()).var(), abs=0.002)
    assert found.is_split


def test_one_repeat_of_one_seed_is_all_questions() -> None:
    rng = np.random.default_rng(1)
    pair = grid(rng, Design(500), 0.3)
    found = power.from_grid([pair], 1)
    assert found == pytest.approx(((pair[0] - pair[1]).var(ddof=1), 0.0, 0.0, 0.0, False))


def test_components_do_not_depend_on_the_order_of_rows_and_leave_out_what_is_unknown() -> None:
    first, second = grid(np.random.default_rng(2), Design(60, 4, 3), 0.3, 0.3)
    order = np.random.default_rng(3).permutation(60)
    here = power.from_grid([(first, second)], 4)
    assert power.from_grid([(first[::-1, order], second[::-1, order])], 4) == pytest.approx(here)
    padded = [np.hstack([side, np.full((3, 1), np.nan)]) for side in (first, second)]
    assert power.from_grid([(padded[0], padded[1])], 4) == pytest.approx(here)
    with pytest.raises(ValueError, match="no cells"):
        power.from_grid([], 4)
    with pytest.raises(ValueError, match="two questions"):
        power.from_grid([(first[:, :1], second[:, :1])], 4)


@pytest.mark.parametrize(("design", "apart"), [(Design(100, 1), 0.0), (Design(40, 16), 0.0), (Design(200, 4, 3), 0.25)])
def test_power_is_how_often_a_gap_is_settled(design: Design, apart: float) -> None:
    rng = np.random.default_rng(4)
    shift = 0.5 if design.repeats < 16 else 0.35
    pairs = [grid(rng, design, shift, apart) for _ in range(400)]
    parts = power.from_grid(pairs, design.repeats)
    gap = float(np.mean([first.mean() - second.mean() for first, second in pairs]))
    found = statistics.resample([statistics.Contrast({"b": pair}, [1.0, -1.0]) for pair in pairs], 1000, 0)
    settled = np.mean([gaps.p_value(one, "b") <= 0.05 for one in found])
    cautious = 0.12 if apart else 0.07
    assert settled - cautious <= power.power(parts, design, gap) <= settled + 0.05
    assert 0.2 < settled < 0.95


# ---- averages over benchmarks ----


def test_an_average_over_benchmarks_has_their_variance() -> None:
    parts = {"a": PARTS, "b": Components(0.2, 0.1, 0.0, 0.001)}
    n = {"a": 30, "b": 500}
    whole = power.of_average(parts, n, 0.0003)
    for factor, k, seeds in ((1, 1, 1), (2, 4, 3)):
        alone = [power.variance(one._replace(seeds=0.0), Design(factor * n[name], k, seeds)) for name, one in parts.items()]
        assert power.variance(whole, Design(factor * 530, k, seeds)) == pytest.approx(sum(alone) / 4 + 0.0003 / seeds)
    assert not power.of_average({"a": PARTS, "b": PARTS._replace(is_split=False)}, n, 0.0).is_split
    assert power.of_average({"a": PARTS}, {"a": 30}, PARTS.seeds) == pytest.approx(PARTS)


def test_the_spread_of_an_averages_seeds_is_found_again() -> None:
    rng = np.random.default_rng(6)

    def student(sd: float) -> dict[str, NDArray[np.float64]]:
        shift = rng.normal(0, sd, (3, 1))  # one training answers all benchmarks
        return {name: shift + rng.normal(0.1, 0.5, n) + rng.normal(0, 0.4, (3, n)) for name, n in (("a", 40), ("b", 300))}

    assert power.seeds_of_average([student(0.1) for _ in range(400)]) == pytest.approx(0.01, rel=0.12)
    assert power.seeds_of_average([student(0.0) for _ in range(400)]) < 0.002
    assert power.seeds_of_average([{"a": rng.normal(0, 1, (1, 30))}]) == 0
