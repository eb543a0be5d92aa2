"""bootstrap: values are plain means, gaps are paired, intervals cover as often as they say."""

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import optimize, special, stats

from gapgrid.stats import bootstrap
from gapgrid.stats.bootstrap import Contrast, Outcomes
from tests.unit.stats.builders import GAP, coin, estimate, estimates, flipped

OUTCOMES = arrays.arrays(
    float,
    arrays.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=5),
    elements=st.sampled_from([0.0, 0.5, 1.0]),
)
NAN = float("nan")


@given(OUTCOMES)
def test_a_value_is_the_plain_mean_and_lies_in_its_interval(outcomes: Outcomes) -> None:
    result = estimate(outcomes, resamples=200)
    assert result.value == pytest.approx(outcomes.mean())
    assert 0 <= result.low <= result.value <= result.high <= 1
    assert result.width > 0  # a finite benchmark never makes sure


def test_an_average_is_the_mean_of_benchmarks_whatever_their_size() -> None:
    result = estimates({"small": [np.ones((1, 10))], "large": [np.zeros((1, 90))]})
    assert result["average"].value == 0.5
    assert list(result) == ["small", "large", "average"]


def test_an_unknown_outcome_is_left_out_of_both_sides() -> None:
    assert estimate([[1, 1, 0, NAN]]).value == pytest.approx(2 / 3)
    assert estimate([[1, NAN], [NAN, 0]]).value == pytest.approx(0.5)
    known = estimate([[1.0, 0.0] * 50], resamples=1000)
    padded = estimate([[1.0, 0.0] * 50 + [NAN] * 100], resamples=1000)
    assert padded.value == known.value
    assert padded.width == pytest.approx(known.width, rel=0.2)


def test_one_known_outcome_tells_next_to_nothing() -> None:
    result = estimate([[1, NAN, NAN, NAN]])
    assert (result.value, result.high) == (1.0, 1.0)
    assert result.low < 0.05


def test_a_gap_is_the_difference_of_means() -> None:
    rng = np.random.default_rng(1)
    first, second = coin(rng, 0.7, 2, 50), coin(rng, 0.4, 2, 50)
    gap, mirrored = estimate(first, second), estimate(second, first)
    assert gap.value == pytest.approx(first.mean() - second.mean())
    assert (-mirrored.value, -mirrored.high, -mirrored.low) == pytest.approx(gap)


@pytest.mark.parametrize("seeds", [1, 3])
def test_equal_sides_have_no_gap_and_a_narrow_interval(seeds: int) -> None:
    outcomes = coin(np.random.default_rng(2), 0.5, seeds, 60)
    gap = estimate(outcomes, outcomes)
    assert gap.value == 0
    assert gap.low == pytest.approx(-gap.high)
    assert gap.high < 0.06  # of 60 pairs none differs


def test_a_gap_is_paired_by_question() -> None:
    base = np.zeros((1, 100))
    base[0, :45] = 1
    better = base.copy()
    better[0, 45:55] = 1  # on ten questions more
    shuffled = np.random.default_rng(2).permuted(better, axis=1)
    paired, unpaired = estimate(better, base), estimate(shuffled, base)
    assert paired.value == pytest.approx(unpaired.value) == pytest.approx(0.1)
    assert paired.width < 0.75 * unpaired.width


def test_less_confidence_is_narrower() -> None:
    sides = {"b": [coin(np.random.default_rng(4), 0.3, 1, 100)]}
    widths = [estimates(sides, 1000, level)["b"].width for level in (0.5, 0.8, 0.95)]
    assert widths == sorted(widths)
    assert widths[0] < 0.5 * widths[2]


class Design(NamedTuple):
    """One kind of simulated grid: accuracies of the sides, counts, how seeds differ in logits."""

    sides: tuple[float, ...]
    questions: int
    repeats: int
    seeds: int
    apart: float = 0.0


SPREAD, NOISE = 2.0, 0.7  # logits: how questions differ, and how seeds differ on each question
N_GRIDS, N_RESAMPLES = 1000, 2000


def mean_logit(accuracy: float, apart: float) -> float:
    """The mean of normal logits at which the mean accuracy is `accuracy`."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    deviation = np.sqrt(SPREAD**2 + NOISE**2 + apart**2)

    def excess(centre: float) -> float:
        return weights @ special.expit(centre + deviation * nodes) / weights.sum() - accuracy

    return float(optimize.brentq(excess, -20, 20))


def simulated(design: Design, rng: np.random.Generator) -> list[Outcomes]:
    """Per side grids x seeds x questions; sides share the questions' difficulty alone."""
    shape = (N_GRIDS, design.seeds, design.questions)
    difficulty = rng.normal(0, SPREAD, (N_GRIDS, 1, design.questions))
    sides = []
    for accuracy in design.sides:
        seed = rng.normal(0, design.apart, (N_GRIDS, design.seeds, 1))
        logits = mean_logit(accuracy, design.apart) + difficulty + seed
        chances = special.expit(logits + rng.normal(0, NOISE, shape))
        sides.append(rng.binomial(design.repeats, chances) / design.repeats)
    return sides


def coverage(contrasts: list[Contrast], truth: float, benchmark: str) -> float:
    """How often the intervals hold the truth."""
    results = bootstrap.resample(contrasts, N_RESAMPLES, 0)
    intervals = np.array([bootstrap.interval(result, benchmark, 0.95) for result in results])
    return float(np.mean((intervals[:, 0] <= truth) & (truth <= intervals[:, 1])))


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
    sides = simulated(design, np.random.default_rng(5))
    weights = GAP[: len(sides)]
    contrasts = [Contrast({"b": arrays}, weights) for arrays in zip(*sides, strict=True)]
    assert 0.93 <= coverage(contrasts, float(np.dot(weights, design.sides)), "b") <= 0.97


def test_an_averages_interval_covers_too_when_one_training_answers_all_benchmarks() -> None:
    rng = np.random.default_rng(6)
    shift = rng.normal(0, 0.06, (N_GRIDS, 3, 1))
    accuracies = {"small": (0.2, 30), "middle": (0.5, 40), "large": (0.6, 200)}
    answered = {
        name: (rng.random((N_GRIDS, 3, n)) < p + shift).astype(float)
        for name, (p, n) in accuracies.items()
    }
    contrasts = [
        Contrast({name: [grids[i]] for name, grids in answered.items()}, [1.0])
        for i in range(N_GRIDS)
    ]
    truth = float(np.mean([p for p, _ in accuracies.values()]))
    assert 0.93 <= coverage(contrasts, truth, "average") <= 0.97


@given(st.integers(1, 500), st.data(), st.sampled_from([0.8, 0.95, 0.99]))
def test_wilsons_interval_is_scipys(n: int, data: st.DataObject, confidence: float) -> None:
    n_right = data.draw(st.integers(0, n))
    expected = stats.binomtest(n_right, n).proportion_ci(confidence, method="wilson")
    limits = bootstrap.wilson(n_right / n, special.ndtri((1 + confidence) / 2) ** 2 / n)
    assert limits == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize(
    ("n_right", "n"), [(0, 30), (1, 30), (3, 40), (15, 30), (30, 30), (250, 500)]
)
def test_single_answers_have_about_wilsons_interval(n_right: int, n: int) -> None:
    """Student's t and the bootstrap make the difference."""
    result = estimate([[1.0] * n_right + [0.0] * (n - n_right)], resamples=4000)
    wilson = stats.binomtest(n_right, n).proportion_ci(method="wilson")
    tolerance = 0.025 if n < 100 else 0.004
    assert result[1:] == pytest.approx((wilson.low, wilson.high), abs=tolerance)


def test_a_gap_of_single_answers_is_as_wide_as_theory_says() -> None:
    result = estimate(*flipped(1000, 120, 60), resamples=4000)
    half = 1.96 * np.sqrt((0.18 - 0.06**2) / 1000)
    assert result[1:] == pytest.approx((0.06 - half, 0.06 + half), abs=0.002)


def test_an_interval_of_many_questions_is_scipys() -> None:
    values = np.random.default_rng(3).beta(2, 3, (1, 300))
    rng = np.random.default_rng(0)
    expected = stats.bootstrap((values[0],), np.mean, n_resamples=4000, rng=rng)
    result = estimate(values, resamples=4000)
    assert result[1:] == pytest.approx(tuple(expected.confidence_interval), abs=0.005)


def test_two_seeds_that_disagree_tell_nothing() -> None:
    result = estimate(np.vstack([np.zeros((1, 50)), np.ones((1, 50))]), resamples=1000)
    assert result == pytest.approx((0.5, 0.0, 1.0), abs=0.01)


def test_seeds_are_drawn_from_students_distribution() -> None:
    means = np.array([0.3, 0.5, 0.55])
    weights = bootstrap.seed_weights(3, 20_000, 0, "student")
    half = stats.t.ppf(0.975, 2) * means.std(ddof=1) / np.sqrt(3)
    drawn = np.abs(weights @ (means - means.mean()))
    assert np.quantile(drawn, 0.95) == pytest.approx(half, rel=0.05)
    assert not np.array_equal(weights, bootstrap.seed_weights(3, 20_000, 0, "another"))


def test_seeds_alike_but_for_noise_widen_an_interval_little() -> None:
    rng = np.random.default_rng(8)
    three, single = (
        np.mean([estimate(coin(rng, 0.5, n, 400)).width for _ in range(30)]) for n in (3, 1)
    )
    assert three < 0.85 * single


def test_the_same_seed_gives_the_same_interval() -> None:
    sides = {"b": [coin(np.random.default_rng(9), 0.5, 2, 50)]}
    assert estimates(sides, seed=1) == estimates(sides, seed=1) != estimates(sides, seed=2)


def test_many_contrasts_at_once_are_each_as_alone() -> None:
    rng = np.random.default_rng(12)
    sides = [coin(rng, 0.5, 2, 50) for _ in range(3)]
    contrasts = [
        Contrast({"b": [sides[0]]}, [1.0]),
        Contrast({"a": sides[:2]}, GAP),
        Contrast({"a": sides[:2], "b": sides[1:]}, GAP),
    ]
    together = bootstrap.resample(contrasts, 500, 0)
    for contrast, result in zip(contrasts, together, strict=True):
        alone = bootstrap.resample([contrast], 500, 0)[0]
        assert result.values == alone.values
        for name, draws in alone.draws.items():
            assert result.draws[name] == pytest.approx(draws, abs=1e-6)
    assert np.array_equal(together[1].draws["a"], together[2].draws["a"]), "whatever is beside it"


def test_a_gaps_draws_are_the_difference_of_its_sides_draws_where_nothing_is_corrected() -> None:
    rng = np.random.default_rng(13)
    first, second = coin(rng, 0.6, 1, 5000), coin(rng, 0.4, 1, 5000)
    contrasts = [Contrast({"b": [side]}, [1.0]) for side in (first, second)]
    contrasts.append(Contrast({"b": [first, second]}, GAP))
    of_first, of_second, of_gap = (
        result.draws["b"] for result in bootstrap.resample(contrasts, 300, 0)
    )
    assert of_gap == pytest.approx(of_first - of_second, abs=1e-4)


def test_weights_are_counts_of_questions_less_one() -> None:
    weights = np.concatenate(list(bootstrap.question_weights(7, 50, 0, "b")))
    counts = weights * 7 + 1
    assert counts.shape == (50, 7)
    assert counts.sum(axis=1) == pytest.approx(7, abs=1e-4)
    assert counts == pytest.approx(counts.round(), abs=1e-5)


def test_a_block_more_or_less_gives_as_many_resamples() -> None:
    for resamples in (1, bootstrap.BLOCK, bootstrap.BLOCK + 1, 2 * bootstrap.BLOCK):
        result = bootstrap.resample([Contrast({"b": [np.eye(3)[:1]]}, [1.0])], resamples, 0)[0]
        assert result.draws["b"].shape == result.draws["average"].shape == (resamples,)


def test_mistakes_are_named() -> None:
    sides = {n: np.ones((1, n)) for n in (3, 4)}
    with pytest.raises(ValueError, match="no outcome"):
        estimate([[NAN] * 3])
    with pytest.raises(ValueError, match="b: contrasts differ in their number of questions"):
        bootstrap.resample([Contrast({"b": [side]}, [1.0]) for side in sides.values()], 10, 0)
    for wrong in ([sides[3]], [sides[3], sides[4]]):
        with pytest.raises(ValueError, match="one or two sides"):
            bootstrap.resample([Contrast({"b": wrong}, GAP)], 10, 0)


def test_the_order_of_questions_and_seeds_does_not_matter() -> None:
    rng = np.random.default_rng(11)
    first, second = coin(rng, 0.6, 2, 120), coin(rng, 0.4, 2, 120)
    order = rng.permutation(120)
    gap = estimate(first, second, resamples=4000)
    reordered = estimate(first[::-1, order], second[::-1, order], resamples=4000)
    assert gap.value == pytest.approx(reordered.value)
    assert gap[1:] == pytest.approx(reordered[1:], abs=0.02)
