"""grading: every answer gets one row, by rules alone, and what rules leave open is kept for a judge."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gapgrid import answers
from gapgrid.grading import counts, grade, pending, reference
from gapgrid.maths.symbolic import Questions, Verifier
from gapgrid.records import Row, write_jsonl

COLUMNS = {"doc_id", "repeat", "gold", "answer", "found_by", "rule_correct", "rule", "rejected_by"}


class Oracle(Verifier):
    """Replies from a list, and keeps what it was asked."""

    def __init__(self, replies: dict[tuple[str, str], str] | None = None) -> None:
        super().__init__()
        self.replies = replies or {}
        self.asked: list[Questions] = []

    def compare_all(self, asked: Iterable[Questions]) -> dict[Questions, tuple[str, float]]:
        """The reply to the first question of each group."""
        self.asked = list(asked)
        return {group: (self.replies.get(group[0], "different"), 0.1) for group in self.asked}


def sample(doc_id: int, gold: object, response: str, repeat: int = 0, problem: str = "How many?") -> Row:
    """One answer of a student."""
    return {"doc_id": doc_id, "repeat": repeat, "problem": problem, "gold": gold, "response": response}


def graded(*samples: Row, grader: str = "boxed", oracle: Verifier | None = None, items: dict[int, Row] | None = None) -> list[Row]:
    """The rows that grading writes."""
    return grade(list(samples), grader, oracle or Oracle(), items)


def test_a_row_says_how_the_answer_was_found_and_which_rule_took_it() -> None:
    rows = graded(
        sample(0, "0.5", r"So \boxed{\frac12}."),
        sample(1, 27.0, "Final Answer: 27"),
        sample(2, ["$3$"], r"\boxed{4}"),
        sample(3, r"\text{even}", r"\boxed{odd}"),
        sample(4, "1", "I give up"),
        sample(5, "1", r"\boxed{" + "1" * 3000 + "}"),
    )
    assert all(row.keys() == COLUMNS for row in rows)
    assert [(row["gold"], row["answer"], row["found_by"], row["rule_correct"], row["rule"], row["rejected_by"]) for row in rows] == [
        ("0.5", r"\frac12", "boxed", True, "number", None),
        ("27.0", "27", "final_answer", True, "number", None),
        ("$3$", "4", "boxed", False, "different", "number"),
        (r"\text{even}", "odd", "boxed", False, "different", None),
        ("1", None, "no_answer", False, "no_answer", None),
        ("1", None, "too_long", False, "too_long", None),
    ]


def test_the_last_number_counts_only_where_the_benchmark_says_so() -> None:
    asked = sample(0, "1200", "That makes 1,200 in all")
    assert graded(asked)[0]["rule"] == "no_answer"
    assert graded(asked, grader="boxed_or_last_number")[0]["found_by"] == "last_number"


def test_a_reference_may_be_a_solution_that_holds_its_answer() -> None:
    rows = graded(sample(0, r"We see $x=2$, so it is $\boxed{\frac{3}{4}}$.", r"\boxed{0.75}"), sample(1, "2+3=5\n#### 5", r"\boxed{5}"))
    assert [row["gold"] for row in rows] == [r"\frac{3}{4}", "5"] and all(row["rule_correct"] for row in rows)


def test_algebra_is_asked_once_about_each_pair() -> None:
    integral = r"\int_0^1 x dx"
    question = (r"\frac{1}{2}", integral)
    oracle = Oracle({question: "math_verify"})
    samples = [sample(number, r"\frac{1}{2}", rf"\boxed{{{integral}}}", repeat) for number in range(3) for repeat in range(2)]
    rows = graded(*samples, sample(9, "7", r"\boxed{7}"), oracle=oracle)
    assert set(oracle.asked) == {(question,)}
    assert [row["rule"] for row in rows] == ["math_verify"] * 6 + ["identical"]


@pytest.mark.parametrize("reply", ["different", "rule_timeout", "rule_crash"])
def test_what_algebra_cannot_say_is_left_to_a_judge(reply: str) -> None:
    question = (r"\frac{1}{2}", r"\int_0^1 x dx")
    samples = [sample(0, question[0], rf"\boxed{{{question[1]}}}")]
    rows = grade(samples, "boxed", Oracle({question: reply}))
    assert (rows[0]["rule_correct"], rows[0]["rule"], rows[0]["rejected_by"]) == (False, reply, None)
    assert len(pending(samples, rows)) == 1


def test_items_say_what_unit_tolerance_and_order_count() -> None:
    asked = [
        sample(0, "6.3", r"\boxed{6.25}"),
        sample(1, "6.3", r"\boxed{6.25}"),
        sample(2, "90", r"\boxed{90 \text{ seconds}}"),
        sample(3, "2,6", r"\boxed{6,2}"),
        sample(4, "2,6", r"\boxed{6,2}", problem="What are the values of $a$ and $b$?"),
    ]
    items = {0: {"error": "1e-1"}, 1: {"error": None, "unit": None}, 2: {"unit": "minute"}}
    assert [row["rule_correct"] for row in graded(*asked, items=items)] == [True, False, False, True, False]


def test_pending_holds_every_answer_that_no_rule_accepted() -> None:
    samples = [sample(0, "1", r"\boxed{1}"), sample(1, "1", r"\boxed{2}"), sample(2, "1", "nothing"), sample(3, "cat", r"\boxed{dog}", 1)]
    rows = grade(samples, "boxed", Oracle())
    assert pending(samples, rows) == [
        {"doc_id": 1, "repeat": 0, "gold": "1", "answer": "2", "rejected_by": "number", "problem": "How many?"},
        {"doc_id": 3, "repeat": 1, "gold": "cat", "answer": "dog", "rejected_by": None, "problem": "How many?"},
    ]


def test_lone_surrogates_and_control_characters_are_graded_and_written(tmp_path: Path) -> None:
    samples = [sample(0, "1", "\\boxed{\ud800}"), sample(1, "1", "\\boxed{1\x00}"), sample(2, "\ud800", "\\boxed{\ud800}")]
    rows = grade(samples, "boxed", Oracle())
    assert [row["rule_correct"] for row in rows] == [False, False, True]
    assert write_jsonl(tmp_path / "graded.jsonl", rows) == 3


def test_counts_say_how_the_rule_step_ended() -> None:
    rows = graded(sample(0, "1", r"\boxed{1}"), sample(1, "1", r"\boxed{2}"), sample(2, "1", "nothing"), sample(3, "cat", r"\boxed{dog}"))
    assert counts(rows) == {"n": 4, "n_accepted": 1, "n_no_answer": 1, "n_pending": 2}
    assert counts([]) == {"n": 0, "n_accepted": 0, "n_no_answer": 0, "n_pending": 0}


@given(st.lists(st.sampled_from([r"\boxed{1}", r"\boxed{2}", r"\boxed{dog}", "nothing", r"\boxed{" + "1" * 3000 + "}"]), max_size=8))
def test_each_answer_is_counted_once(responses: list[str]) -> None:
    asked = [sample(doc_id, "1", response) for doc_id, response in enumerate(responses)]
    rows = graded(*asked)
    found = counts(rows)
    assert found["n"] == len(responses) == found["n_accepted"] + found["n_no_answer"] + found["n_pending"]
    assert found["n_pending"] == len(pending(asked, rows))
    assert found["n_accepted"] == responses.count(r"\boxed{1}")


@pytest.mark.parametrize(
    ("gold", "expected"),
    [
        ("7", "7"),
        (27.0, "27.0"),
        (0, "0"),
        (["$3$"], "$3$"),
        (["1", "2"], "1, 2"),
        (r"It is $1+1$, so $\boxed{2}$.", "2"),
        (r"$\boxed{1}$, no: $\boxed{\frac{3}{4}}$", r"\frac{3}{4}"),
        ("2+3=5\n#### 5", "5"),
        (r"\text{even}", r"\text{even}"),
    ],
)
def test_a_reference_is_what_stands_in_its_box_or_all_of_it(gold: object, expected: str) -> None:
    assert reference(gold) == expected


def test_a_pair_is_compared_once_for_each_thing_that_items_say(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[str, str | None]] = []
    decide = answers.decide

    def counting(gold: str, answer: str | None, options: Any) -> answers.Decision:
        compared.append((gold, answer))
        return decide(gold, answer, options)

    monkeypatch.setattr(answers, "decide", counting)
    asked = [sample(doc_id, "1", r"\boxed{2}", repeat) for doc_id in range(3) for repeat in range(4)]
    assert len(graded(*asked)) == 12
    assert compared == [("1", "2")]
    compared.clear()
    assert len(graded(*asked, items={0: {"unit": "km"}, 1: {"unit": "km", "level": 3}})) == 12
    assert compared == [("1", "2")] * 2
