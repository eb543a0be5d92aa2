"""gaps: p-values agree with intervals and closed forms, families are corrected, crossings and best sources are found."""

from itertools import pairwise
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from gapgrid import gaps, statistics
from gapgrid.statistics import Contrast, Outcomes, Resampled, resample


def coin(rng: np.random.Generator, p: float, seeds: int, questions: int) -> Outcomes:
    """Outcomes that are 1 with chance `p`."""
    return (rng.random((seeds, questions)) < p).astype(float)


def flipped(n: int, n_first: int, n_second: int) -> list[Outcomes]:
    """Two sides of single answers that differ on so many questions, in favour of the one and the other."""
    first, second = np.zeros((1, n)), np.zeros((1, n))
    first[0, :n_first] = 1
    second[0, n_first : n_first + n_second] = 1
    return [first, second]


def resampled(sides: list[Outcomes], resamples: int = 2000) -> Resampled:
    """The gap between two sides."""
    return resample([Contrast({"b": sides}, [1.0, -1.0])], resamples, 0)[0]


def drawn(draws: list[float] | NDArray[np.float64], value: float) -> Resampled:
    """An accuracy, or a gap, with these draws."""
    return Resampled({"b": value}, {"b": value}, {"b": 10}, {"b": np.asarray(draws, dtype=np.float32)}, False)


# ---- is a gap one ----


@pytest.mark.parametrize("n_first", [0, 4, 6, 8, 10, 12, 15, 20, 30])
@pytest.mark.parametrize("seeds", [1, 2])
def test_a_gap_is_settled_where_its_interval_leaves_out_zero(n_first: int, seeds: int) -> None:
    sides = [np.repeat(side, seeds, axis=0) for side in flipped(100, n_first, 3)]
    found = resampled(sides)
    low, high = statistics.interval(found, "b", 0.95)
    p = gaps.p_value(found, "b")
    assert (p < 0.05) == (low > 0 or high < 0)
    assert gaps.p_value(resampled(sides[::-1]), "b") == pytest.approx(p, abs=0.002)


def test_no_gap_has_p_one_and_an_endless_one_the_least() -> None:
    assert gaps.p_value(resampled(flipped(50, 5, 5)), "b") == 1.0
    assert gaps.p_value(resampled(flipped(500, 300, 10)), "b") == pytest.approx(1 / 2001)
    assert gaps.p_value(resampled([np.ones((1, 50)), np.zeros((1, 50))]), "b") < 1e-6


def test_p_is_evenly_spread_where_there_is_no_gap() -> None:
    rng = np.random.default_rng(0)
    hard = rng.random((500, 1, 200))
    pairs = [[(rng.random((1, 200)) < one).astype(float) for _ in range(2)] for one in hard]
    found = resample([Contrast({"b": pair}, [1.0, -1.0]) for pair in pairs], 1000, 0)
    p = np.array([gaps.p_value(one, "b") for one in found])
    for level in (0.05, 0.2, 0.5):
        assert np.mean(p <= level) == pytest.approx(level, abs=3 * np.sqrt(level * (1 - level) / 500) + 0.01)


# ---- checks ----


@pytest.mark.parametrize(("n_first", "n_second"), [(0, 0), (1, 0), (5, 0), (10, 3), (7, 7), (40, 20)])
def test_single_answers_are_checked_by_mcnemars_exact_test(n_first: int, n_second: int) -> None:
    found = gaps.paired_check(*flipped(100, n_first, n_second))
    n = n_first + n_second
    closed = min(1.0, 2 * stats.binom.cdf(min(n_first, n_second), n, 0.5)) if n else 1.0
    assert found == ("mcnemar", pytest.approx(closed), n_first, n_second)


def test_repeats_are_checked_by_flipping_signs() -> None:
    first, second = np.array([[0.75, 0.5, 1.0, 0.25, 0.5]]), np.array([[0.25, 0.25, 0.75, 0.0, 0.5]])
    found = gaps.paired_check(first, second)
    # Four questions differ, all one way: two of sixteen sign patterns are as far out.
    assert found == ("sign-flip", 2 / 16, 4, 0)


@pytest.mark.parametrize("n", [12, 60])
def test_flipping_signs_is_scipys_permutation_test(n: int) -> None:
    rng = np.random.default_rng(n)
    first, second = rng.integers(0, 5, (2, n)) / 4, rng.integers(0, 4, (2, n)) / 4
    theirs = stats.permutation_test(
        (first.mean(axis=0), second.mean(axis=0)),
        lambda x, y, axis: np.mean(x - y, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=20_000,
        rng=np.random.default_rng(1),
    )
    assert gaps.paired_check(first, second, 20_000).p == pytest.approx(theirs.pvalue, abs=0.012)


def test_a_check_leaves_out_what_is_unknown_and_the_order() -> None:
    first, second = flipped(40, 12, 3)
    order = np.random.default_rng(0).permutation(40)
    assert gaps.paired_check(first[:, order], second[:, order]) == gaps.paired_check(first, second)
    first[0, 0] = np.nan
    assert gaps.paired_check(first, second)[:1] + gaps.paired_check(first, second)[2:] == ("mcnemar", 11, 3)
    repeats = [np.random.default_rng(1).integers(0, 3, (3, 40)) / 2 for _ in range(2)]
    turned = [side[::-1, order] for side in repeats]
    assert gaps.paired_check(*turned) == gaps.paired_check(*repeats)


# ---- families ----


@pytest.mark.parametrize(
    ("p", "adjusted"),
    [
        ([], []),
        ([0.03], [0.03]),
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),  # the worked case of R's p.adjust(method = "holm")
        ([0.5, 0.5], [1.0, 1.0]),
        ([0.02, 0.02, 0.02], [0.06, 0.06, 0.06]),
    ],
)
def test_holm_in_closed_cases(p: list[float], adjusted: list[float]) -> None:
    assert gaps.holm(p) == pytest.approx(adjusted)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.randoms())
def test_holm_lies_between_none_and_bonferroni_in_any_order(p: list[float], random: Random) -> None:
    adjusted = gaps.holm(p)
    assert all(raw <= found <= min(1, raw * len(p)) + 1e-12 for raw, found in zip(p, adjusted, strict=True))
    assert all(one[1] <= two[1] for one, two in pairwise(sorted(zip(p, adjusted, strict=True))))
    order = random.sample(range(len(p)), len(p))
    assert gaps.holm([p[i] for i in order]) == pytest.approx([adjusted[i] for i in order])


def test_what_is_no_p_value_is_an_error() -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        gaps.holm([0.5, 1.5])
    with pytest.raises(ValueError, match="between 0 and 1"):
        gaps.holm([float("nan")])


def test_a_family_rarely_claims_what_is_not_there() -> None:
    rng = np.random.default_rng(3)
    n_families, n_gaps = 600, 6
    pairs = [[coin(rng, 0.5, 1, 80) for _ in range(2)] for _ in range(n_families * n_gaps)]
    found = resample([Contrast({"b": pair}, [1.0, -1.0]) for pair in pairs], 2000, 0)
    settled = [gaps.settle(found[start : start + n_gaps], "b", 0.95) for start in range(0, len(found), n_gaps)]
    wrong = np.mean([any(one.is_settled for one in family) for family in settled])
    assert wrong == pytest.approx(0.05, abs=3 * np.sqrt(0.05 * 0.95 / n_families))
    assert np.mean([any(one.p <= 0.05 for one in family) for family in settled]) > 0.15


# ---- where the sign flips ----


def test_a_crossing_is_found_on_the_log_scale() -> None:
    shown = np.array([[-0.1], [-0.1], [0.1], [0.3]])
    assert gaps.crossings([1, 2, 8, 16], shown) == pytest.approx([4.0])
    assert gaps.crossings([1, 10], np.array([[-0.1], [0.3]])) == pytest.approx([10**0.25])


def test_without_a_crossing_the_end_is_open() -> None:
    shown = np.array([[0.1, -0.2, -0.1, 0.3], [0.2, -0.1, 0.0, -0.1], [0.1, -0.1, 0.0, 0.1]])
    found = gaps.crossings([1, 2, 4], shown)
    assert found[0] == -np.inf
    assert found[1] == found[2] == np.inf
    assert found[3] == pytest.approx(2 * np.sqrt(2))  # the last of two


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=6))
def test_a_crossing_lies_between_a_student_that_does_not_gain_and_one_that_does(values: list[float]) -> None:
    sizes = [2.0**i for i in range(len(values))]
    found = gaps.crossings(sizes, np.array(values)[:, None])[0]
    if np.isfinite(found):
        last = max(i for i, value in enumerate(values) if value <= 0)
        assert sizes[last] * (1 - 1e-9) <= found <= sizes[last + 1] * (1 + 1e-9)
    else:
        assert (found < 0) == all(value > 0 for value in values)


def test_the_sign_flip_size_has_an_interval_that_holds_the_truth() -> None:
    rng = np.random.default_rng(4)
    sizes, hits = [0.5, 2.0, 8.0, 32.0], []
    truth = [-0.15, -0.05, 0.05, 0.15]  # crosses at 4
    for trial in range(100):
        pairs = [[coin(rng, 0.5 + gap, 1, 300), coin(rng, 0.5, 1, 300)] for gap in truth]
        found = resample([Contrast({"b": pair}, [1.0, -1.0], str(i)) for i, pair in enumerate(pairs)], 500, trial)
        flip = gaps.sign_flip(sizes, found, "b", 0.95)
        hits.append((flip.low or 0) <= 4 <= (flip.high or np.inf))
    assert 0.91 <= np.mean(hits) <= 0.99


def test_a_sign_flip_does_not_depend_on_the_order_of_students_and_says_how_sure_it_is() -> None:
    rng = np.random.default_rng(5)
    pairs = {size: [coin(rng, p, 1, 100), coin(rng, 0.5, 1, 100)] for size, p in ((1.0, 0.3), (3.0, 0.5), (9.0, 0.62))}
    found = {size: resample([Contrast({"b": pair}, [1.0, -1.0], str(size))], 1000, 0)[0] for size, pair in pairs.items()}
    here = gaps.sign_flip(list(found), list(found.values()), "b", 0.95)
    there = gaps.sign_flip(list(found)[::-1], list(found.values())[::-1], "b", 0.95)
    assert here == there
    assert here.size is not None and 1 < here.size < 9
    assert here.crosses + here.below + here.above == pytest.approx(1)
    assert here.above > 0.025
    assert here.high is None
    with pytest.raises(ValueError, match="sizes must grow"):
        gaps.sign_flip([1.0, 1.0, 2.0], list(found.values()), "b", 0.95)


# ---- a mix and its best source ----


def test_a_mix_is_held_against_the_best_of_each_resample() -> None:
    mix = drawn([0.5, 0.6, 0.7, 0.6], 0.6)
    singles = {"short": drawn([0.4, 0.6, 0.4, 0.5], 0.5), "long": drawn([0.5, 0.3, 0.4, 0.4], 0.4)}
    found = gaps.mix_minus_best(mix, singles, "b", 0.95)
    assert (found.value, found.best) == (pytest.approx(0.1), "short")
    assert found.share_best == 0.5  # the second, the last, and by name not the tie of the third
    assert found.bias == pytest.approx(np.mean([0, 0, 0.3, 0.1]) - 0.1)
    assert found.p == pytest.approx(2 / 5)


def test_one_source_is_an_ordinary_gap_and_more_of_them_bias_it_downwards() -> None:
    rng = np.random.default_rng(6)
    half = coin(rng, 0.5, 1, 300)
    accuracies = {"mix": coin(rng, 0.6, 1, 300), **{name: rng.permuted(half, axis=1) for name in "abc"}}  # three that tie
    found = dict(zip(accuracies, resample([Contrast({"b": [side]}, [1.0]) for side in accuracies.values()], 2000, 0), strict=True))
    alone = gaps.mix_minus_best(found["mix"], {"a": found["a"]}, "b", 0.95)
    gap = resampled([accuracies["mix"], accuracies["a"]])
    assert (alone.low, alone.high) == pytest.approx(statistics.interval(gap, "b", 0.95), abs=0.01)
    assert abs(alone.bias) < 0.003
    best = gaps.mix_minus_best(found["mix"], {name: found[name] for name in "abc"}, "b", 0.95)
    assert best.bias < -0.003
    assert best.p >= alone.p or best.best != "a"
    with pytest.raises(ValueError, match="accuracies"):
        gaps.mix_minus_best(gap, {"a": found["a"]}, "b", 0.95)
    with pytest.raises(ValueError, match="at least one"):
        gaps.mix_minus_best(found["mix"], {}, "b", 0.95)


def test_a_mix_no_better_than_its_best_source_is_rarely_claimed_to_be() -> None:
    rng = np.random.default_rng(7)
    claims = []
    for trial in range(100):
        sides = [coin(rng, p, 1, 150) for p in (0.5, 0.5, 0.5, 0.3)]
        mix, *singles = resample([Contrast({"b": [side]}, [1.0]) for side in sides], 1000, trial)
        found = gaps.mix_minus_best(mix, dict(zip("abc", singles, strict=True)), "b", 0.95)
        claims.append((found.p <= 0.05, found.low > 0))
    assert np.mean(claims, axis=0) == pytest.approx([0.025, 0.01], abs=0.035)
