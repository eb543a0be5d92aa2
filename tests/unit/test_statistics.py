"""statistics: values are plain means, gaps are paired, intervals cover what they say."""

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import optimize, special, stats

from gapgrid import statistics
from gapgrid.statistics import Contrast, Estimate, Outcomes, estimates

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
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert found.high > found.low  # a finite benchmark never makes sure


def test_an_average_is_the_mean_of_benchmarks_whatever_their_size() -> None:
    by_benchmark = {"small": [np.ones((1, 10))], "large": [np.zeros((1, 90))]}
    found = estimates(by_benchmark, [1.0], 200, 0.95, 0)
    assert found["average"].value == 0.5
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


def test_one_known_outcome_tells_next_to_nothing() -> None:
    found = one([[1, float("nan"), float("nan"), float("nan")]])
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low < 0.05  # one question tells next to nothing


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
        none = gap(same, same)
        assert none.value == 0
        assert none.low == pytest.approx(-none.high)
        assert none.high < 0.06  # of 60 pairs none differs
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


class Design(NamedTuple):
    """One kind of simulated grid: accuracies of the sides, questions, repeats, seeds, spread of seeds in logits."""

    sides: tuple[float, ...]
    questions: int
    repeats: int
    seeds: int
    apart: float = 0.0


SPREAD, NOISE = 2.0, 0.7  # how far questions differ, and how differently seeds take each, in logits
N_GRIDS, N_RESAMPLES = 1000, 2000


def at_zero(accuracy: float, apart: float) -> float:
    """The logit at which a mean over normal logits is `accuracy`."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    spread = np.sqrt(SPREAD**2 + NOISE**2 + apart**2)
    return float(optimize.brentq(lambda centre: weights @ special.expit(centre + spread * nodes) / weights.sum() - accuracy, -20, 20))


def simulated(design: Design, grids: int, rng: np.random.Generator) -> list[Outcomes]:
    """Per side grids x seeds x questions; sides share how hard questions are, and neither their seeds nor their answers."""
    shape = (grids, design.seeds, design.questions)
    hard = rng.normal(0, SPREAD, (grids, 1, design.questions))
    found = []
    for accuracy in design.sides:
        seed = rng.normal(0, design.apart, (grids, design.seeds, 1))
        logits = at_zero(accuracy, design.apart) + hard + seed + rng.normal(0, NOISE, shape)
        found.append(rng.binomial(design.repeats, special.expit(logits)) / design.repeats)
    return found


def coverage(contrasts: list[Contrast], truth: float, benchmark: str) -> float:
    """How often the intervals hold the truth."""
    found = [one[benchmark] for one in statistics.estimates_of(contrasts, N_RESAMPLES, 0.95, 0)]
    return float(np.mean([one.low <= truth <= one.high for one in found]))


DESIGNS = [
    Design((0.1,), 30, 1, 1),
    Design((0.5,), 30, 1, 1),
    Design((0.1,), 30, 16, 1),
    Design((0.5,), 40, 16, 1),
    Design((0.05,), 500, 1, 1),
    Design((0.9,), 500, 16, 1),
    Design((0.1,), 40, 16, 3, 0.4),
    Design((0.5,), 500, 1, 3, 0.4),
    Design((0.9,), 500, 16, 3, 0.8),
    Design((0.6, 0.4), 30, 1, 1),
    Design((0.9, 0.8), 40, 16, 1),
    Design((0.5, 0.5), 500, 1, 1),
    Design((0.6, 0.4), 40, 16, 3, 0.4),
    Design((0.5, 0.5), 500, 16, 3, 0.4),
]


@pytest.mark.parametrize("design", DESIGNS, ids=lambda design: "-".join(map(str, design)))
def test_an_interval_covers_the_truth_as_often_as_it_says(design: Design) -> None:
    sides = simulated(design, N_GRIDS, np.random.default_rng(5))
    weights = [1.0, -1.0][: len(sides)]
    contrasts = [Contrast({"b": arrays}, weights) for arrays in zip(*sides, strict=True)]
    assert 0.93 <= coverage(contrasts, float(np.dot(weights, design.sides)), "b") <= 0.97


def test_an_averages_interval_covers_too_when_one_training_answers_all_benchmarks() -> None:
    rng = np.random.default_rng(6)
    shift = rng.normal(0, 0.06, (N_GRIDS, 3, 1))
    accuracies = {"small": (0.2, 30), "middle": (0.5, 40), "large": (0.6, 200)}
    answered = {name: (rng.random((N_GRIDS, 3, n)) < p + shift).astype(float) for name, (p, n) in accuracies.items()}
    contrasts = [Contrast({name: [grids[i]] for name, grids in answered.items()}, [1.0]) for i in range(N_GRIDS)]
    truth = float(np.mean([p for p, _ in accuracies.values()]))
    assert 0.93 <= coverage(contrasts, truth, "average") <= 0.97


@pytest.mark.parametrize(("n_right", "n"), [(0, 30), (1, 30), (3, 40), (15, 30), (30, 30), (250, 500)])
def test_single_answers_have_wilsons_interval_but_for_student_and_bootstrap(n_right: int, n: int) -> None:
    found = one([[1.0] * n_right + [0.0] * (n - n_right)], resamples=4000)
    wilson = stats.binomtest(n_right, n).proportion_ci(method="wilson")
    assert (found.low, found.high) == pytest.approx((wilson.low, wilson.high), abs=0.025 if n < 100 else 0.004)


def test_a_gap_of_single_answers_is_as_wide_as_theory_says() -> None:
    first = np.zeros((1, 1000))
    second = first.copy()
    first[0, :120] = second[0, 120:180] = 1
    found = gap(first, second, 4000)
    standard_error = np.sqrt((0.18 - 0.06**2) / 1000)
    assert (found.low, found.high) == pytest.approx((0.06 - 1.96 * standard_error, 0.06 + 1.96 * standard_error), abs=0.002)


def test_an_interval_of_many_questions_is_scipys() -> None:
    values = np.random.default_rng(3).beta(2, 3, (1, 300))
    found = one(values, resamples=4000)
    theirs = stats.bootstrap((values[0],), np.mean, n_resamples=4000, rng=np.random.default_rng(0)).confidence_interval
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=0.005)


def test_seeds_that_differ_widen_an_interval() -> None:
    rng = np.random.default_rng(7)
    alike = coin(rng, 0.5, 3, 200)
    apart = np.vstack([coin(rng, p, 1, 200) for p in (0.2, 0.5, 0.8)])
    narrow, wide = one(alike, 1000), one(apart, 1000)
    assert wide.value == pytest.approx(narrow.value, abs=0.06)
    assert wide.high - wide.low > 3 * (narrow.high - narrow.low)


def test_two_seeds_that_disagree_tell_nothing() -> None:
    found = one(np.vstack([np.zeros((1, 50)), np.ones((1, 50))]), 1000)
    assert found == pytest.approx((0.5, 0.0, 1.0), abs=0.01)


def test_seeds_are_drawn_from_students_distribution() -> None:
    means = np.array([0.3, 0.5, 0.55])
    weights = statistics.seed_weights(3, 20_000, 0, "student")
    drawn = weights @ (means - means.mean())
    assert np.quantile(np.abs(drawn), 0.95) == pytest.approx(stats.t.ppf(0.975, 2) * means.std(ddof=1) / np.sqrt(3), rel=0.05)
    assert not np.array_equal(weights, statistics.seed_weights(3, 20_000, 0, "another"))


def test_seeds_alike_but_for_noise_widen_an_interval_little() -> None:
    rng = np.random.default_rng(8)
    three, single = (np.mean([np.ptp(one(coin(rng, 0.5, n, 400))[1:]) for _ in range(30)]) for n in (3, 1))
    assert three < 0.85 * single


def test_one_seed_is_resampled_over_questions_alone() -> None:
    outcomes = coin(np.random.default_rng(8), 0.5, 1, 40)
    found = statistics.resample([Contrast({"b": [outcomes]}, [1.0])], 2000, 0)[0]
    assert found.draws["b"].dtype == np.float32
    assert found.draws["b"].std() == pytest.approx(stats.sem(outcomes[0]) * stats.t.ppf(0.975, 39) / 1.96, rel=0.05)


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


def test_many_contrasts_at_once_are_each_as_alone() -> None:
    rng = np.random.default_rng(12)
    sides = [coin(rng, 0.5, 2, 50) for _ in range(3)]
    contrasts = [Contrast({"b": [sides[0]]}, [1.0]), Contrast({"a": [sides[1]], "b": sides[1:]}, [1.0, -1.0])]
    with pytest.raises(ValueError, match="one or two sides"):
        statistics.resample(contrasts, 10, 0)
    contrasts[1] = Contrast({"a": sides[:2], "b": sides[1:]}, [1.0, -1.0])
    together = statistics.estimates_of(contrasts, 500, 0.95, 0)
    for contrast, found in zip(contrasts, together, strict=True):
        alone = estimates(contrast.sides, contrast.weights, 500, 0.95, 0)
        assert {name: pytest.approx(entry, abs=1e-6) for name, entry in alone.items()} == found


def test_a_gaps_draws_are_the_difference_of_its_sides_draws_where_nothing_is_corrected() -> None:
    rng = np.random.default_rng(13)
    first, second = coin(rng, 0.6, 1, 5000), coin(rng, 0.4, 1, 5000)
    contrasts = [Contrast({"b": [first]}, [1.0]), Contrast({"b": [second]}, [1.0]), Contrast({"b": [first, second]}, [1.0, -1.0])]
    one_side, other, both = (found.draws["b"] for found in statistics.resample(contrasts, 300, 0))
    assert both == pytest.approx(one_side - other, abs=1e-4)


def test_weights_are_counts_of_questions_less_one() -> None:
    weights = np.concatenate(list(statistics.question_weights(7, 50, 0, "b")))
    counts = weights * 7 + 1
    assert counts.shape == (50, 7)
    assert counts.sum(axis=1) == pytest.approx(7, abs=1e-4)
    assert counts == pytest.approx(counts.round(), abs=1e-5)


def test_a_block_more_or_less_gives_as_many_resamples() -> None:
    for resamples in (1, statistics.BLOCK, statistics.BLOCK + 1, 2 * statistics.BLOCK):
        found = statistics.resample([Contrast({"b": [np.eye(3)[:1]]}, [1.0])], resamples, 0)[0]
        assert found.draws["b"].shape == found.draws["average"].shape == (resamples,)


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="no outcome"):
        one([[float("nan")] * 3])
    with pytest.raises(ValueError, match="b: contrasts differ in their number of questions"):
        statistics.resample([Contrast({"b": [np.ones((1, n))]}, [1.0]) for n in (3, 4)], 10, 0)


def test_the_order_of_questions_and_seeds_is_of_no_account() -> None:
    rng = np.random.default_rng(11)
    first, second = coin(rng, 0.6, 2, 120), coin(rng, 0.4, 2, 120)
    order = rng.permutation(120)
    here, there = gap(first, second, 4000), gap(first[::-1, order], second[::-1, order], 4000)
    assert here.value == pytest.approx(there.value)
    assert (here.low, here.high) == pytest.approx((there.low, there.high), abs=0.02)
