"""statistics: values are plain means, gaps are paired, intervals cover what they say."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from gapgrid import statistics
from gapgrid.statistics import Estimate, Outcomes, estimates

OUTCOMES = arrays.arrays(
    float, arrays.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=5), elements=st.sampled_from([0.0, 0.5, 1.0])
)


def one(outcomes: list[list[float]] | Outcomes, resamples: int = 400, seed: int = 0) -> Estimate:
    """The accuracy of one array."""
    return estimates({"b": [np.asarray(outcomes, dtype=float)]}, [1.0], resamples, 0.95, seed)["b"]


def gap(first: Outcomes, second: Outcomes, resamples: int = 400) -> Estimate:
    """The gap between two arrays."""
    return estimates({"b": [first, second]}, [1.0, -1.0], resamples, 0.95, 0)["b"]


def coin(rng: np.random.Generator, p: float, seeds: int, questions: int) -> Outcomes:
    """Outcomes that are 1 with chance `p`."""
    return (rng.random((seeds, questions)) < p).astype(float)


# ---- values ----


@given(OUTCOMES)
def test_a_value_is_the_plain_mean_and_lies_in_its_interval(outcomes: Outcomes) -> None:
    found = one(outcomes, resamples=200)
    assert found.value == pytest.approx(outcomes.mean())
    assert 0 <= found.low <= found.high <= 1
    if outcomes.std() == 0:
        assert found.low == pytest.approx(found.high)


def test_an_average_is_the_mean_of_benchmarks_whatever_their_size() -> None:
    by_benchmark = {"small": [np.ones((1, 10))], "large": [np.zeros((1, 90))]}
    found = estimates(by_benchmark, [1.0], 200, 0.95, 0)
    assert found["average"] == Estimate(0.5, 0.5, 0.5)
    assert list(found) == ["small", "large", "average"]


def test_an_average_is_surer_than_its_benchmarks() -> None:
    rng = np.random.default_rng(0)
    found = estimates({name: [coin(rng, 0.5, 1, 100)] for name in "abcd"}, [1.0], 1000, 0.95, 0)
    widths = {name: entry.high - entry.low for name, entry in found.items()}
    assert widths["average"] == pytest.approx(np.mean([widths[name] for name in "abcd"]) / 2, rel=0.2)


def test_an_unknown_outcome_is_left_out_of_both_sides() -> None:
    nan = float("nan")
    assert one([[1, 1, 0, nan]]).value == pytest.approx(2 / 3)
    assert one([[1, nan], [nan, 0]]).value == pytest.approx(0.5)
    known = one([[1.0, 0.0] * 50], resamples=1000)
    padded = one([[1.0, 0.0] * 50 + [nan] * 100], resamples=1000)
    assert padded.value == known.value
    assert padded.high - padded.low == pytest.approx(known.high - known.low, rel=0.2)


def test_resamples_without_any_outcome_are_left_out() -> None:
    found = one([[1, float("nan"), float("nan"), float("nan")]])
    assert found == Estimate(1.0, 1.0, 1.0)


# ---- gaps ----


def test_a_gap_is_the_difference_of_means() -> None:
    rng = np.random.default_rng(1)
    first, second = coin(rng, 0.7, 2, 50), coin(rng, 0.4, 2, 50)
    assert gap(first, second).value == pytest.approx(first.mean() - second.mean())
    mirrored = gap(second, first)
    assert (-mirrored.value, -mirrored.high, -mirrored.low) == pytest.approx(gap(first, second))


def test_a_gap_is_paired_by_question_and_by_seed() -> None:
    rng = np.random.default_rng(2)
    for seeds in (1, 3):
        same = coin(rng, 0.5, seeds, 60)
        assert gap(same, same) == Estimate(0.0, 0.0, 0.0)
    # One side is right on ten questions more, wherever the other stands: the pairs know that, the sides do not.
    base = np.zeros((1, 100))
    base[0, :45] = 1
    better = base.copy()
    better[0, 45:55] = 1
    shuffled = rng.permuted(better, axis=1)
    paired, unpaired = gap(better, base, 1000), gap(shuffled, base, 1000)
    assert paired.value == pytest.approx(unpaired.value) == pytest.approx(0.1)
    assert paired.high - paired.low < 0.75 * (unpaired.high - unpaired.low)


# ---- intervals ----


def test_an_interval_is_as_wide_as_theory_says() -> None:
    found = one(coin(np.random.default_rng(3), 0.3, 1, 400), resamples=4000)
    standard_error = np.sqrt(found.value * (1 - found.value) / 400)
    assert found.high - found.low == pytest.approx(2 * 1.96 * standard_error, rel=0.08)


def test_less_confidence_is_narrower() -> None:
    outcomes = [coin(np.random.default_rng(4), 0.3, 1, 100)]
    widths = [(entry := estimates({"b": outcomes}, [1.0], 1000, level, 0)["b"]).high - entry.low for level in (0.5, 0.8, 0.95)]
    assert widths == sorted(widths)
    assert widths[0] < 0.5 * widths[2]


@pytest.mark.parametrize(("p", "questions"), [(0.3, 60), (0.5, 200)])
def test_an_interval_covers_the_truth_as_often_as_it_says(p: float, questions: int) -> None:
    rng = np.random.default_rng(5)
    found = [one(coin(rng, p, 1, questions), resamples=300, seed=trial) for trial in range(300)]
    coverage = np.mean([entry.low <= p <= entry.high for entry in found])
    assert 0.90 <= coverage <= 0.985


def test_a_gaps_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(6)
    hits = []
    for _ in range(300):
        easy = rng.random(80)  # how easy each question is, to both
        sides = [(rng.random((1, 80)) < easy * skill).astype(float) for skill in (0.9, 0.7)]
        truth = 0.5 * 0.2
        found = gap(*sides, resamples=300)
        hits.append(found.low <= truth <= found.high)
    assert 0.90 <= np.mean(hits) <= 0.985


def test_seeds_that_differ_widen_an_interval() -> None:
    rng = np.random.default_rng(7)
    alike = coin(rng, 0.5, 3, 200)
    apart = np.vstack([coin(rng, p, 1, 200) for p in (0.2, 0.5, 0.8)])
    narrow, wide = one(alike, 1000), one(apart, 1000)
    assert wide.value == pytest.approx(narrow.value, abs=0.06)
    assert wide.high - wide.low > 3 * (narrow.high - narrow.low)


def test_two_seeds_are_drawn_with_replacement() -> None:
    found = one(np.vstack([np.zeros((1, 50)), np.ones((1, 50))]), 1000)
    assert found == Estimate(0.5, 0.0, 1.0)


def test_one_seed_is_resampled_over_questions_alone() -> None:
    outcomes = [coin(np.random.default_rng(8), 0.5, 1, 40)]
    means = statistics.resampled_means(outcomes, 700, np.random.default_rng(0))
    assert means.shape == (1, 700)
    assert set(np.round(means[0] * 40, 6)) <= set(range(41))


# ---- what it must not depend on ----


def test_the_same_seed_gives_the_same_interval() -> None:
    outcomes = coin(np.random.default_rng(9), 0.5, 2, 50)
    assert one(outcomes, seed=1) == one(outcomes, seed=1) != one(outcomes, seed=2)


def test_a_gap_does_not_depend_on_what_stands_beside_it() -> None:
    rng = np.random.default_rng(10)
    first, second, third = (coin(rng, 0.5, 2, 50) for _ in range(3))
    alone = estimates({"a": [first, second]}, [1.0, -1.0], 300, 0.95, 0)["a"]
    beside = estimates({"a": [first, second], "b": [third, first]}, [1.0, -1.0], 300, 0.95, 0)["a"]
    assert alone == beside


def test_draws_are_counts_of_units() -> None:
    counts = statistics.draws(7, 50, np.random.default_rng(0))
    assert counts.shape == (50, 7)
    assert (counts.sum(axis=1) == 7).all()
    assert (counts >= 0).all()


def test_a_block_more_or_less_gives_as_many_resamples() -> None:
    for resamples in (1, statistics.BLOCK, statistics.BLOCK + 1, 2 * statistics.BLOCK):
        assert statistics.resampled_means([np.ones((1, 3))], resamples, np.random.default_rng(0)).shape == (1, resamples)


def test_the_order_of_questions_and_seeds_is_of_no_account() -> None:
    rng = np.random.default_rng(11)
    first, second = coin(rng, 0.6, 2, 120), coin(rng, 0.4, 2, 120)
    order = rng.permutation(120)
    here, there = gap(first, second, 4000), gap(first[::-1, order], second[::-1, order], 4000)
    assert here.value == pytest.approx(there.value)
    assert (here.low, here.high) == pytest.approx((there.low, there.high), abs=0.02)
