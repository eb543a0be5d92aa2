"""verdicts: a verdict says what gave it, and a judge counts only where it was asked."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gapgrid.core.rows import NO_ANSWER
from gapgrid.judging.verdicts import is_judged, verdict_rows

Judged = dict[tuple[int, int], tuple[str, str]]

# How the rule step ended: answer, whether a rule accepted it, which one, the rule that rejected it.
GRADED: dict[str, tuple[str | None, bool, str, str | None]] = {
    "accepted": ("1", True, "identical", None),
    "by algebra": ("1", True, "math_verify", None),
    "open": ("one", False, "different", None),
    "timeout": ("two", False, "rule_timeout", None),
    "rejected": ("5", False, "different", "number"),
    "none": (None, False, "no_answer", None),
    "too long": (None, False, "too_long", None),
}


def cell(*kinds: str) -> tuple[list[Any], list[Any]]:
    """Samples and graded rows, two repeats a problem."""
    keys = [{"doc_id": index // 2, "repeat": index % 2} for index in range(len(kinds))]
    columns = ("answer", "rule_correct", "rule", "rejected_by")
    return keys, [
        {**key, **dict(zip(columns, GRADED[kind], strict=True))}
        for key, kind in zip(keys, kinds, strict=True)
    ]


def verdicts(*kinds: str, judged: Judged | None = None) -> list[tuple[str, str, str | None]]:
    """Verdict, what gave it and the judge's reply, of answers (0, 0), (0, 1), (1, 0) …"""
    rows = verdict_rows(*cell(*kinds), judged or {})
    assert [(row["doc_id"], row["repeat"]) for row in rows] == [
        (index // 2, index % 2) for index in range(len(kinds))
    ]
    return [(row["verdict"], row["by"], row["raw"]) for row in rows]


def test_without_a_judge_rules_decide_and_the_rest_is_undecided() -> None:
    assert verdicts(*GRADED) == [
        ("correct", "identical", None),
        ("correct", "math_verify", None),
        ("incorrect", "undecided", None),
        ("incorrect", "undecided", None),
        ("incorrect", "number", None),
        ("no_answer", "no_answer", None),
        ("no_answer", "too_long", None),
    ]


def test_a_judge_decides_what_it_was_asked_even_what_a_rule_rejected() -> None:
    judged = {
        (0, 0): ("correct", "True"),
        (0, 1): ("unparsed", "Well"),
        (1, 0): ("incorrect", "False"),
        (2, 0): ("correct", "True"),
    }
    assert verdicts("open", "timeout", "open", "rejected", "rejected", judged=judged) == [
        ("correct", "judge", "True"),
        ("unparsed", "judge", "Well"),
        ("incorrect", "judge", "False"),
        ("incorrect", "number", None),
        ("correct", "judge", "True"),
    ]


def test_a_judge_does_not_count_where_a_rule_accepted_or_there_is_no_answer() -> None:
    judged = dict.fromkeys([(0, 0), (0, 1), (1, 0)], ("incorrect", "False"))
    assert verdicts("accepted", "none", "too long", judged=judged) == [
        ("correct", "identical", None),
        ("no_answer", "no_answer", None),
        ("no_answer", "too_long", None),
    ]


def test_samples_and_graded_rows_must_be_as_many() -> None:
    samples, graded = cell("accepted", "accepted")
    with pytest.raises(ValueError, match="zip"):
        verdict_rows(samples, graded[:1], {})


@pytest.mark.parametrize("policy", ["undecided", "all"])
@pytest.mark.parametrize("rejected_by", ["set", None])
def test_a_policy_says_which_rows_are_judged(policy: str, rejected_by: str | None) -> None:
    row: Any = {"rejected_by": rejected_by}
    assert is_judged(row, policy) is (policy == "all" or not rejected_by)


@given(st.lists(st.sampled_from(sorted(GRADED)), max_size=8), st.sampled_from(["undecided", "all"]))
def test_what_the_judge_sees_is_what_it_decides(kinds: list[str], policy: str) -> None:
    samples, graded = cell(*kinds)
    pending = [row for row in graded if row["answer"] is not None and not row["rule_correct"]]
    judged = {
        (row["doc_id"], row["repeat"]): ("incorrect", "False")
        for row in pending
        if is_judged(row, policy)
    }
    rows = verdict_rows(samples, graded, judged)
    assert sum(row["by"] == "judge" for row in rows) == len(judged)
    assert all((row["raw"] is None) == (row["by"] != "judge") for row in rows)
    assert not [row for row in rows if row["by"] == "undecided"], "a judge leaves nothing undecided"
    n_without = kinds.count("none") + kinds.count("too long")
    assert sum(row["verdict"] == NO_ANSWER for row in rows) == n_without
