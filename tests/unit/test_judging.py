"""judging: a verdict says who gave it, and a judge is heard only where it was asked."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gapgrid.judging import NO_ANSWER, is_judged, verdict_rows
from gapgrid.records import Row

Judged = dict[tuple[int, int], tuple[str, str]]

# What the rule step left: (answer, whether a rule took it, the rule, the rule that rejected it).
GRADED: dict[str, tuple[str | None, bool, str, str | None]] = {
    "taken": ("1", True, "identical", None),
    "by algebra": ("1", True, "math_verify", None),
    "open": ("one", False, "different", None),
    "timeout": ("two", False, "rule_timeout", None),
    "rejected": ("5", False, "different", "number"),
    "none": (None, False, "no_answer", None),
    "too long": (None, False, "too_long", None),
}


def rows(*kinds: str) -> tuple[list[Row], list[Row]]:
    """Samples and graded rows, two repeats a problem."""
    places = [{"doc_id": index // 2, "repeat": index % 2} for index in range(len(kinds))]
    columns = ("answer", "rule_correct", "rule", "rejected_by")
    return places, [{**place, **dict(zip(columns, GRADED[kind], strict=True))} for place, kind in zip(places, kinds, strict=True)]


def verdicts(*kinds: str, judged: Judged | None = None) -> list[tuple[str, str, str | None]]:
    """Verdict, who gave it and the judge's words."""
    return [(row["verdict"], row["by"], row["raw"]) for row in verdict_rows(*rows(*kinds), judged or {})]


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


def test_a_judge_decides_what_it_was_asked() -> None:
    said = {(0, 0): ("correct", "True"), (0, 1): ("unparsed", "Well"), (1, 0): ("incorrect", "False")}
    assert verdicts("open", "timeout", "open", "rejected", judged=said) == [
        ("correct", "judge", "True"),
        ("unparsed", "judge", "Well"),
        ("incorrect", "judge", "False"),
        ("incorrect", "number", None),
    ]


def test_a_judge_that_saw_what_a_rule_rejected_has_the_last_word() -> None:
    assert verdicts("rejected", "rejected", judged={(0, 1): ("correct", "True")}) == [
        ("incorrect", "number", None),
        ("correct", "judge", "True"),
    ]


def test_a_judge_is_not_heard_on_what_a_rule_took_nor_where_there_is_no_answer() -> None:
    said = {(0, 0): ("incorrect", "False"), (0, 1): ("correct", "True"), (1, 0): ("correct", "True")}
    assert verdicts("taken", "none", "too long", judged=said) == [
        ("correct", "identical", None),
        ("no_answer", "no_answer", None),
        ("no_answer", "too_long", None),
    ]


def test_each_repeat_has_its_own_verdict() -> None:
    found = verdict_rows(*rows("open", "open", "open"), {(0, 1): ("correct", "True"), (1, 0): ("incorrect", "False")})
    assert [(row["doc_id"], row["repeat"], row["verdict"], row["by"]) for row in found] == [
        (0, 0, "incorrect", "undecided"),
        (0, 1, "correct", "judge"),
        (1, 0, "incorrect", "judge"),
    ]


def test_samples_and_graded_rows_must_be_as_many() -> None:
    samples, graded = rows("taken", "taken")
    with pytest.raises(ValueError, match="zip"):
        verdict_rows(samples, graded[:1], {})


@given(st.lists(st.sampled_from(sorted(GRADED)), max_size=8), st.sampled_from(["undecided", "all"]))
def test_what_the_judge_sees_is_what_it_decides(kinds: list[str], policy: str) -> None:
    samples, graded = rows(*kinds)
    pending = [row for row in graded if row["answer"] is not None and not row["rule_correct"]]
    judged = {(row["doc_id"], row["repeat"]): ("incorrect", "False") for row in pending if is_judged(row, policy)}
    found = verdict_rows(samples, graded, judged)
    assert sum(row["by"] == "judge" for row in found) == len(judged)
    assert all((row["raw"] is None) == (row["by"] != "judge") for row in found)
    assert not [row for row in found if row["by"] == "undecided"], "with a judge nothing is left undecided"
    assert sum(row["verdict"] == NO_ANSWER for row in found) == kinds.count("none") + kinds.count("too long")
