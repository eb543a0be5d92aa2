"""gapgrid audit report: rates that contradict decisions, in intervals that cover the truth."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from gapgrid.commands import labelling
from gapgrid.commands.error_rates import OVERALL, Rate, rates, wilson
from gapgrid.core.records import Row, write_jsonl
from tests.unit.commands.conftest import CELL, Command, build

ACCEPTED = "rules: false accept"


def rows(
    decision: str, n_pairs: int = 100, benchmark: str = "b", **labels: int
) -> list[labelling.LabelRow]:
    """Rows of a labels file: so many of each label, in a stratum of `n_pairs`."""
    values = [label for label, n in labels.items() for _ in range(n)]
    return [
        {
            "problem": f"{decision}{benchmark}{number}",
            "gold": "1",
            "answer": "2",
            "stratum": f"{decision}/{benchmark}",
            "stratum_n": 1000,
            "stratum_pairs": n_pairs,
            "decided_by": "x",
            "decision": decision,
            "seed": 0,
            "label": value,
        }
        for number, value in enumerate(values)
    ]


def rate_of(labels: list[labelling.LabelRow], name: str, stratum: str = OVERALL) -> Rate:
    """One rate."""
    return next(rate for rate in rates(labels) if (rate.name, rate.stratum) == (name, stratum))


def wilson_of_scipy(k: int, n: int, confidence: float = 0.95) -> object:
    """The interval of `k` errors in `n` labels, for comparison."""
    interval = binomtest(k, n).proportion_ci(confidence, method="wilson")
    return pytest.approx((interval.low, interval.high), abs=1e-12)


@given(st.integers(1, 500), st.data(), st.sampled_from([0.8, 0.95, 0.99]))
def test_wilson_is_scipys(n: int, data: st.DataObject, confidence: float) -> None:
    k = data.draw(st.integers(0, n))
    assert wilson(k / n, n, confidence) == wilson_of_scipy(k, n, confidence)


def test_wilson_solves_its_equation() -> None:
    z, n, share = 1.959963984540054, 37.5, 0.2  # an effective sample size need not be whole
    for limit in wilson(share, n):
        assert abs(share - limit) == pytest.approx(z * (limit * (1 - limit) / n) ** 0.5)


def test_rates_of_a_stratum_leave_unsure_labels_out() -> None:
    labels = rows("judge_correct", same=7, different=3, unsure=2)
    rate = rate_of(labels, "judge: false accept", "judge_correct/b")
    assert rate[2:6] == (10, 3, 2, 0.3) and rate[6:] == wilson_of_scipy(3, 10)
    # One stratum is the whole.
    assert rate_of(labels, "judge: false accept")[2:] == pytest.approx(rate[2:])
    assert rate_of(labels, "rules: not accepted, yet the same").rate == 0.7


@pytest.mark.parametrize("label", ["same", "different"])
def test_an_error_contradicts_the_decision(label: str) -> None:
    decisions = [name for name in labelling.DECISIONS if name not in ("unparsed", "undecided")]
    labels = [row for decision in decisions for row in rows(decision, **{label: 1})]
    overall = {rate.name: rate.rate for rate in rates(labels) if rate.stratum == OVERALL}
    assert overall == {
        ACCEPTED: float(label == "different"),
        "rules: not accepted, yet the same": float(label == "same"),
        "decisive rejections: false reject": float(label == "same"),
        "judge: false accept": float(label == "different"),
        "judge: false reject": float(label == "same"),
    }


def test_the_overall_rate_is_weighted_by_unique_pairs() -> None:
    labels = rows("accepted_rule", 900, different=1, same=9)
    labels += rows("accepted_algebra", 100, different=5, same=5)
    rate = rate_of(labels, ACCEPTED)
    assert rate.rate == pytest.approx(0.9 * 0.1 + 0.1 * 0.5)
    assert (rate.n, rate.n_errors) == (20, 6)
    effective = 1 / (0.9**2 / 10 + 0.1**2 / 10)
    assert rate[6:] == pytest.approx(wilson(0.14, effective))


def test_strata_of_equal_weight_and_size_give_the_plain_interval() -> None:
    labels = [row for name in "ab" for row in rows("accepted_rule", 50, name, different=4, same=16)]
    assert rate_of(labels, ACCEPTED)[6:] == wilson_of_scipy(8, 40)


def test_an_interval_without_errors_has_a_width_and_without_labels_there_is_no_rate() -> None:
    name = "decisive rejections: false reject"
    rate = rate_of(rows("rejected", different=30), name)
    assert rate.rate == rate.low == 0 and rate.high is not None and 0.1 < rate.high < 0.12
    assert rate_of(rows("rejected", unsure=1), name)[2:] == (0, 0, 1, None, None, None)
    assert rate_of([], "judge: false accept").rate is None


def test_the_overall_interval_covers_the_truth() -> None:
    truth = {"accepted_rule": 0.02, "accepted_algebra": 0.2}
    n_pairs = {"accepted_rule": 2000, "accepted_algebra": 300}
    whole = sum(truth[name] * n_pairs[name] for name in truth) / sum(n_pairs.values())
    source, n_covered = random.Random(0), 0
    for _ in range(300):
        labels = []
        for name in truth:
            n_errors = sum(source.random() < truth[name] for _ in range(60))
            labels += rows(name, n_pairs[name], different=n_errors, same=60 - n_errors)
        rate = rate_of(labels, ACCEPTED)
        n_covered += rate.low <= whole <= rate.high  # type: ignore[operator]
    assert n_covered / 300 > 0.92


# ---- the command ----


def test_a_report_shows_the_rates_of_the_labels(
    gapgrid: Command, results: Path, typed: Callable[[str], None]
) -> None:
    build(results, CELL, *["rule_only"] * 2, *["judge_only"] * 2, "no_answer")
    typed("n\nn\nn\nn\n")
    gapgrid("audit", "sample", "demo")
    report = gapgrid("audit", "report", "demo")
    assert (report.status, report.err) == (0, [])
    for text in (ACCEPTED, "judge: false accept", "overall", "100.0 [", "no label"):
        assert text in report.text
    assert all(len(line) <= 100 for line in report.out)
    Path("labels/demo.jsonl").rename("mine.jsonl")
    assert gapgrid("audit", "report", "demo", "--labels", "mine.jsonl") == report
    assert gapgrid("audit", "report", "demo").err == ["error: labels/demo.jsonl: no such file"]


def test_a_row_that_is_no_label_is_named(gapgrid: Command) -> None:
    row: Row = dict.fromkeys(labelling.COLUMNS, "x") | {"stratum": "rejected/k2", "label": "maybe"}
    write_jsonl("labels/demo.jsonl", [row])
    text = "label 1 is 'maybe', expected one of same, different, unsure"
    message = f"error: labels/demo.jsonl: {text}"
    assert gapgrid("audit", "report", "demo") == (1, [], [message])
