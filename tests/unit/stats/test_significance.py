"""significance: p-values agree with intervals and closed forms, families are corrected."""

from itertools import pairwise
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from gapgrid.stats import bootstrap, significance
from gapgrid.stats.bootstrap import Contrast, Resampled, resample
from tests.unit.stats.builders import GAP, coin, flipped, gaps


@pytest.mark.parametrize("n_first", [0, 4, 6, 8, 10, 12, 15, 20, 30])
@pytest.mark.parametrize("seeds", [1, 2])
def test_a_gap_is_significant_where_its_interval_leaves_out_zero(n_first: int, seeds: int) -> None:
    sides = [np.repeat(side, seeds, axis=0) for side in flipped(100, n_first, 3)]
    gap, mirrored = gaps([sides, sides[::-1]])
    low, high = bootstrap.interval(gap, "b", 0.95)
    p = significance.p_value(gap, "b")
    assert (p < 0.05) == (low > 0 or high < 0)
    assert significance.p_value(mirrored, "b") == pytest.approx(p, abs=0.002)


def test_no_gap_has_p_one_and_a_sure_one_the_least() -> None:
    pairs = [flipped(50, 5, 5), flipped(500, 300, 10), [np.ones((1, 50)), np.zeros((1, 50))]]
    none, sure, total = (significance.p_value(gaps([pair])[0], "b") for pair in pairs)
    assert none == 1.0
    assert sure == pytest.approx(1 / 2001)
    assert total < 1e-6


def test_p_is_evenly_distributed_where_there_is_no_gap() -> None:
    rng = np.random.default_rng(0)
    chances = rng.random((500, 1, 200))
    pairs = [[(rng.random((1, 200)) < chance).astype(float) for _ in GAP] for chance in chances]
    p = np.array([significance.p_value(gap, "b") for gap in gaps(pairs, 1000)])
    for level in (0.05, 0.2, 0.5):
        tolerance = 3 * np.sqrt(level * (1 - level) / 500) + 0.01
        assert np.mean(p <= level) == pytest.approx(level, abs=tolerance)


@pytest.mark.parametrize(
    ("n_first", "n_second"), [(0, 0), (1, 0), (5, 0), (10, 3), (7, 7), (40, 20)]
)
def test_single_answers_are_checked_by_mcnemars_exact_test(n_first: int, n_second: int) -> None:
    check = significance.paired_check(*flipped(100, n_first, n_second))
    n = n_first + n_second
    p = min(1.0, 2 * stats.binom.cdf(min(n_first, n_second), n, 0.5)) if n else 1.0
    assert check == ("mcnemar", pytest.approx(p), n_first, n_second)


def test_repeats_are_checked_by_flipping_signs() -> None:
    first, second = np.array([[[0.75, 0.5, 1, 0.25, 0.5]], [[0.25, 0.25, 0.75, 0, 0.5]]])
    # Four questions differ, all one way: two of sixteen sign patterns are as far out.
    assert significance.paired_check(first, second) == ("sign-flip", 2 / 16, 4, 0)


@pytest.mark.parametrize("n", [12, 60])
def test_flipping_signs_is_scipys_permutation_test(n: int) -> None:
    rng = np.random.default_rng(n)
    first, second = rng.integers(0, 5, (2, n)) / 4, rng.integers(0, 4, (2, n)) / 4
    expected = stats.permutation_test(
        (first.mean(axis=0), second.mean(axis=0)),
        lambda x, y, axis: np.mean(x - y, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=20_000,
        rng=np.random.default_rng(1),
    )
    check = significance.paired_check(first, second, 20_000)
    assert check.p == pytest.approx(expected.pvalue, abs=0.012)


def test_a_check_ignores_the_order_and_what_is_unknown() -> None:
    single = flipped(40, 12, 3)
    repeated = [np.random.default_rng(1).integers(0, 3, (3, 40)) / 2 for _ in GAP]
    order = np.random.default_rng(0).permutation(40)
    for sides in (single, repeated):
        reordered = [side[::-1, order] for side in sides]
        assert significance.paired_check(*reordered) == significance.paired_check(*sides)
    single[0][0, 0] = np.nan
    name, _, *counts = significance.paired_check(*single)
    assert (name, counts) == ("mcnemar", [11, 3])


@pytest.mark.parametrize(
    ("p", "adjusted"),
    [
        ([], []),
        ([0.03], [0.03]),
        # The worked case of R's p.adjust(method = "holm").
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.5, 0.5], [1.0, 1.0]),
        ([0.02, 0.02, 0.02], [0.06, 0.06, 0.06]),
    ],
)
def test_holm_in_closed_cases(p: list[float], adjusted: list[float]) -> None:
    assert significance.holm(p) == pytest.approx(adjusted)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.randoms())
def test_holm_lies_between_none_and_bonferroni_in_any_order(p: list[float], random: Random) -> None:
    adjusted = significance.holm(p)
    both = sorted(zip(p, adjusted, strict=True))
    assert all(raw <= value <= min(1, raw * len(p)) + 1e-12 for raw, value in both)
    assert all(lower[1] <= higher[1] for lower, higher in pairwise(both))
    order = random.sample(range(len(p)), len(p))
    assert significance.holm([p[i] for i in order]) == pytest.approx([adjusted[i] for i in order])


@pytest.mark.parametrize("wrong", [1.5, float("nan")])
def test_what_is_no_p_value_is_an_error(wrong: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        significance.holm([0.5, wrong])


def test_a_family_rarely_claims_a_gap_that_does_not_exist() -> None:
    rng = np.random.default_rng(3)
    n_families, n_gaps = 600, 6
    all_gaps = gaps([[coin(rng, 0.5, 1, 80) for _ in GAP] for _ in range(n_families * n_gaps)])
    p = np.reshape([significance.p_value(gap, "b") for gap in all_gaps], (n_families, n_gaps))
    families = [significance.family_significance(of_family, 0.95) for of_family in p.tolist()]
    wrong = np.mean([any(gap.is_significant for gap in family) for family in families])
    assert wrong == pytest.approx(0.05, abs=3 * np.sqrt(0.05 * 0.95 / n_families))
    assert np.mean(p.min(axis=1) <= 0.05) > 0.15


@pytest.mark.parametrize(
    ("sizes", "of_students", "size"),
    [
        ([1, 2, 8, 16], [-0.1, -0.1, 0.1, 0.3], 4.0),
        ([1, 10], [-0.1, 0.3], 10**0.25),
        ([1, 2, 4], [0.3, -0.1, 0.1], 2 * np.sqrt(2)),  # the last of two
        ([1, 2, 4], [0.1, 0.2, 0.1], -np.inf),
        ([1, 2, 4], [-0.2, -0.1, -0.1], np.inf),
        ([1, 2, 4], [-0.1, 0.0, 0.0], np.inf),
    ],
)
def test_a_crossing_is_located_on_the_log_scale(
    sizes: list[float], of_students: list[float], size: float
) -> None:
    assert significance.crossings(sizes, np.array(of_students)[:, None]) == pytest.approx([size])


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=6))
def test_a_crossing_lies_between_a_student_that_does_not_gain_and_one_that_does(
    values: list[float],
) -> None:
    sizes = [2.0**i for i in range(len(values))]
    crossing = significance.crossings(sizes, np.array(values)[:, None])[0]
    if np.isfinite(crossing):
        last = max(i for i, value in enumerate(values) if value <= 0)
        assert sizes[last] * (1 - 1e-9) <= crossing <= sizes[last + 1] * (1 + 1e-9)
    else:
        assert (crossing < 0) == all(value > 0 for value in values)


def students(
    rng: np.random.Generator, chances: list[float], n: int, resamples: int, seed: int = 0
) -> list[Resampled]:
    """Gaps of students that are right with these chances, and with 0.5 after the other mix."""
    contrasts = [
        Contrast({"b": [coin(rng, p, 1, n), coin(rng, 0.5, 1, n)]}, GAP, str(i))
        for i, p in enumerate(chances)
    ]
    return resample(contrasts, resamples, seed)


def test_the_sign_flip_size_has_an_interval_that_holds_the_truth() -> None:
    rng, hits = np.random.default_rng(4), []
    for trial in range(100):
        by_size = students(rng, [0.35, 0.45, 0.55, 0.65], 300, 500, trial)  # crosses at 4
        flip = significance.sign_flip([0.5, 2.0, 8.0, 32.0], by_size, "b", 0.95)
        hits.append((flip.low or 0) <= 4 <= (flip.high or np.inf))
    assert 0.91 <= np.mean(hits) <= 0.99


def test_a_sign_flip_does_not_depend_on_the_order_of_students_and_says_how_sure_it_is() -> None:
    sizes, by_size = [1.0, 3.0, 9.0], students(np.random.default_rng(5), [0.3, 0.5, 0.62], 100, 999)
    flip = significance.sign_flip(sizes, by_size, "b", 0.95)
    assert flip == significance.sign_flip(sizes[::-1], by_size[::-1], "b", 0.95)
    assert flip.size is not None and 1 < flip.size < 9
    assert flip.crosses + flip.below + flip.above == pytest.approx(1)
    assert flip.above > 0.025 and flip.high is None
    with pytest.raises(ValueError, match="sizes must grow"):
        significance.sign_flip([1.0, 1.0, 2.0], by_size, "b", 0.95)


def accuracy(draws: list[float], value: float) -> Resampled:
    """An accuracy with these draws."""
    by_benchmark = {"b": np.array(draws, dtype=np.float32)}
    return Resampled({"b": value}, {"b": value}, {"b": 10}, by_benchmark, False)


def test_a_mix_is_compared_with_the_best_of_each_resample() -> None:
    singles = {
        "short": accuracy([0.4, 0.6, 0.4, 0.5], 0.5),
        "long": accuracy([0.5, 0.3, 0.4, 0.4], 0.4),
    }
    mix = accuracy([0.5, 0.6, 0.7, 0.6], 0.6)
    gap = significance.mix_minus_best(mix, singles, "b", 0.95)
    assert (gap.value, gap.best) == (pytest.approx(0.1), "short")
    assert gap.share_best == 0.5  # the second, the last, and by name not the tie of the third
    assert gap.bias == pytest.approx(np.mean([0, 0, 0.3, 0.1]) - 0.1)
    assert gap.p == pytest.approx(2 / 5)


def test_one_source_is_an_ordinary_gap_and_more_of_them_bias_it_downwards() -> None:
    rng = np.random.default_rng(6)
    half, mixed = coin(rng, 0.5, 1, 300), coin(rng, 0.6, 1, 300)
    sides = [mixed, *(rng.permuted(half, axis=1) for _ in "abc")]  # three sources that tie
    results = resample([Contrast({"b": [side]}, [1.0]) for side in sides], 2000, 0)
    mix, singles = results[0], dict(zip("abc", results[1:], strict=True))
    alone = significance.mix_minus_best(mix, {"a": singles["a"]}, "b", 0.95)
    gap = gaps([sides[:2]])[0]
    assert (alone.low, alone.high) == pytest.approx(bootstrap.interval(gap, "b", 0.95), abs=0.01)
    assert abs(alone.bias) < 0.003
    best = significance.mix_minus_best(mix, singles, "b", 0.95)
    assert best.bias < -0.003
    assert best.p >= alone.p or best.best != "a"
    with pytest.raises(ValueError, match="accuracies"):
        significance.mix_minus_best(gap, {"a": singles["a"]}, "b", 0.95)
    with pytest.raises(ValueError, match="at least one"):
        significance.mix_minus_best(mix, {}, "b", 0.95)


def test_a_mix_no_better_than_its_best_source_is_rarely_claimed_to_be() -> None:
    rng, claims = np.random.default_rng(7), []
    for trial in range(100):
        sides = [coin(rng, p, 1, 150) for p in (0.5, 0.5, 0.5, 0.3)]
        mix, *singles = resample([Contrast({"b": [side]}, [1.0]) for side in sides], 1000, trial)
        gap = significance.mix_minus_best(mix, dict(zip("abc", singles, strict=True)), "b", 0.95)
        claims.append((gap.p <= 0.05, gap.low > 0))
    assert np.mean(claims, axis=0) == pytest.approx([0.025, 0.01], abs=0.035)
