"""The rule step: every answer gets one row, and what rules leave open is kept for a judge."""

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gapgrid.core.rows import GradedRow, ResponseRow
from gapgrid.grading import rule_step
from gapgrid.grading.decide import Decision
from gapgrid.grading.equality.math_verify_pool import FormulaPairs, Verifier
from gapgrid.grading.rule_step import counts, grade, pending, reference

INTEGRAL, HALF = r"\int_0^1 x dx", r"\frac{1}{2}"


class Oracle(Verifier):
    """Gives one reply to everything, and keeps what it was sent."""

    def __init__(self, reply: str = "different") -> None:
        super().__init__()
        self.fixed_reply = reply
        self.comparisons: list[FormulaPairs] = []

    def compare_all(
        self, comparisons: Iterable[FormulaPairs]
    ) -> dict[FormulaPairs, tuple[str, float]]:
        """Return the reply to each comparison."""
        self.comparisons = list(comparisons)
        return dict.fromkeys(self.comparisons, (self.fixed_reply, 0.1))


def sample(
    doc_id: int, gold: object, response: str, repeat: int = 0, problem: str = "How many?"
) -> ResponseRow:
    """Return one response of a student."""
    return {
        "doc_id": doc_id,
        "repeat": repeat,
        "problem": problem,
        "gold": gold,
        "response": response,
    }


def graded(*samples: ResponseRow, items: Any = None) -> list[GradedRow]:
    """Return the rows of the rule step, to which algebra contributes nothing."""
    return grade(samples, "boxed", Oracle(), items)


def test_a_row_holds_how_the_answer_was_found_and_which_rule_accepted_it() -> None:
    samples = [
        sample(0, "0.5", r"So \boxed{\frac12}."),
        sample(1, 27.0, "Final Answer: 27"),
        sample(2, ["$3$"], r"\boxed{4}"),
        sample(3, r"\text{even}", r"\boxed{odd}", repeat=1),
        sample(4, "1", "I give up"),
        sample(5, "1", r"\boxed{" + "1" * 3000 + "}"),
    ]
    rows = graded(*samples)
    assert [tuple(row.values()) for row in rows] == [
        (0, 0, "0.5", r"\frac12", "boxed", True, "number", None),
        (1, 0, "27.0", "27", "final_answer", True, "number", None),
        (2, 0, "$3$", "4", "boxed", False, "different", "number"),
        (3, 1, r"\text{even}", "odd", "boxed", False, "different", None),
        (4, 0, "1", None, "no_answer", False, "no_answer", None),
        (5, 0, "1", None, "too_long", False, "too_long", None),
    ]
    assert list(rows[0]) == list(GradedRow.__annotations__)
    assert pending(samples, rows) == [
        {
            "doc_id": row["doc_id"],
            "repeat": row["repeat"],
            "problem": "How many?",
            "gold": row["gold"],
            "answer": row["answer"],
            "rejected_by": row["rejected_by"],
        }
        for row in rows[2:4]
    ]
    assert counts(rows) == {"n": 6, "n_accepted": 2, "n_no_answer": 2, "n_pending": 2}


def test_algebra_is_asked_once_about_each_pair() -> None:
    oracle = Oracle("math_verify")
    repeats = range(2)
    samples = [sample(n, HALF, rf"\boxed{{{INTEGRAL}}}", k) for n in range(3) for k in repeats]
    rows = grade([*samples, sample(9, "7", r"\boxed{7}")], "boxed", oracle)
    assert set(oracle.comparisons) == {((HALF, INTEGRAL),)}
    assert [row["rule"] for row in rows] == ["math_verify"] * 6 + ["identical"]


@pytest.mark.parametrize("reply", ["different", "rule_timeout", "rule_crash"])
def test_what_algebra_cannot_accept_is_left_to_a_judge(reply: str) -> None:
    samples = [sample(0, HALF, rf"\boxed{{{INTEGRAL}}}")]
    rows = grade(samples, "boxed", Oracle(reply))
    assert list(rows[0].values())[-3:] == [False, reply, None]
    assert len(pending(samples, rows)) == 1


def test_items_declare_unit_tolerance_and_order() -> None:
    samples = [
        sample(0, "6.3", r"\boxed{6.25}"),
        sample(1, "6.3", r"\boxed{6.25}"),
        sample(2, "90", r"\boxed{90 \text{ seconds}}"),
        sample(3, "2,6", r"\boxed{6,2}"),
        sample(4, "2,6", r"\boxed{6,2}", problem="What are the values of $a$ and $b$?"),
    ]
    items = {0: {"error": "1e-1"}, 1: {"error": None, "unit": None}, 2: {"unit": "minute"}}
    rows = graded(*samples, items=items)
    assert [row["rule_correct"] for row in rows] == [True, False, False, True, False]


RESPONSES = [r"\boxed{1}", r"\boxed{2}", r"\boxed{dog}", "nothing", rf"\boxed{{{'1' * 3000}}}"]


@given(st.lists(st.sampled_from(RESPONSES), max_size=8))
def test_each_answer_is_counted_once(responses: list[str]) -> None:
    samples = [sample(doc_id, "1", response) for doc_id, response in enumerate(responses)]
    rows = graded(*samples)
    n, n_accepted, n_no_answer, n_pending = counts(rows).values()
    assert n == len(responses) == n_accepted + n_no_answer + n_pending
    assert n_pending == len(pending(samples, rows))
    assert n_accepted == responses.count(r"\boxed{1}")


@pytest.mark.parametrize(
    ("gold", "expected"),
    [
        (["1", 2.0], "1, 2.0"),
        (r"It is $1+1$, so $\boxed{2}$.", "2"),
        (r"$\boxed{1}$, no: $\boxed{\frac{3}{4}}$", r"\frac{3}{4}"),
        ("2+3=5\n#### 5", "5"),
        (r"\text{even}", r"\text{even}"),
    ],
)
def test_a_reference_is_what_stands_in_its_box_or_all_of_it(gold: object, expected: str) -> None:
    assert reference(gold) == expected


def test_a_pair_is_compared_once_for_each_item_that_declares_something(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compared: list[tuple[str, str]] = []

    def counting(gold: str, answer: str, options: object) -> Decision:
        compared.append((gold, answer))
        return Decision(False, "different")

    monkeypatch.setattr(rule_step, "decide", counting)
    samples = [sample(n, "1", r"\boxed{2}", repeat) for n in range(3) for repeat in range(4)]
    assert len(graded(*samples)) == 12
    assert compared == [("1", "2")]
    compared.clear()
    assert len(graded(*samples, items={0: {"unit": "km"}, 1: {"unit": "km", "level": 3}})) == 12
    assert compared == [("1", "2")] * 2
