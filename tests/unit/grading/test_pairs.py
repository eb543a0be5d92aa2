"""`gapgrid pairs`, and the labelled pairs and real answers that grading is measured on."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gapgrid.cli import main
from gapgrid.core.records import Row, read_jsonl, write_jsonl
from gapgrid.grading.decide import Decision, decide, options_of
from gapgrid.grading.extract import closed_boxes, extract, gold_text
from gapgrid.grading.pairs import decide_row, grade_pairs

DOG = r"\text{a dog}"


def test_the_command_prints_a_line_for_each_pair_and_counts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # A row, and its `correct`, `rule` and `rejected_by`.
    cases: list[tuple[Row, tuple[bool, str, str | None]]] = [
        ({"gold": "1/2", "pred": "0.5", "expected": True}, (True, "number", None)),
        (
            {"gold": 8, "pred": r"The answer is \boxed{9}", "expected": False},
            (False, "different", "number"),
        ),
        ({"gold": ["$3$"], "response": r"It is \boxed{3}"}, (True, "identical", None)),
        (
            {"gold": "3", "pred": "Therefore the answer is 3", "expected": True},
            (True, "identical", None),
        ),
        (
            {"gold": r"\frac{1}{2}", "pred": r"\int_0^1 x\,dx", "expected": True},
            (True, "math_verify", None),
        ),
        (
            {"gold": DOG, "pred": "cat", "expected": True, "contested": True},
            (False, "different", None),
        ),
        ({"gold": DOG, "pred": "hound", "expected": True}, (False, "different", None)),
        ({"gold": "1", "pred": None}, (False, "no_answer", None)),
        ({"gold": None, "pred": "1"}, (False, "no_gold", None)),
        ({"gold": "1", "pred": "\ud800"}, (False, "different", None)),
    ]
    file = tmp_path / "pairs.jsonl"
    write_jsonl(file, [{"id": number, **row} for number, (row, _) in enumerate(cases)])
    assert main(["pairs", str(file)]) == 0
    *lines, last = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["correct"], line["rule"], line["rejected_by"]) for line in lines] == [
        expected for _, expected in cases
    ]
    assert [line["id"] for line in lines] == list(range(len(cases)))
    assert all(0 <= line["seconds"] < 10 for line in lines)
    assert last["counts"] == {
        "n": 10,
        "n_correct": 4,
        "n_rejected": 1,
        "rules": {"number": 1, "different": 4, "identical": 2, "math_verify": 1}
        | {"no_answer": 1, "no_gold": 1},
        "rejected_by": {"number": 1},
        "n_missed": 1,
        "n_wrongly_accepted": 0,
    }


def test_the_command_names_a_file_that_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pairs", str(tmp_path / "none.jsonl")]) == 1
    assert "none.jsonl: no such file" in capsys.readouterr().err


# --------------------------------------------------------------------------- the shared data


@pytest.fixture(scope="module")
def core_rows(shared_data: Path) -> list[Row]:
    """Labelled pairs that are not contested."""
    rows = read_jsonl(shared_data / "grading/cases.jsonl")
    return [row for row in rows if row["group"] == "core" and not row["contested"]]


def test_labelled_pairs_are_decided_as_labelled(core_rows: list[Row]) -> None:
    decisions = [decision for decision, _ in grade_pairs(core_rows)]
    graded = list(zip(core_rows, decisions, strict=True))
    assert not [row["id"] for row, d in graded if d.is_correct and not row["expected"]]
    assert not [row["id"] for row, d in graded if d.rule in ("rule_crash", "rule_timeout")]
    missed = [row["id"] for row, d in graded if row["expected"] and not d.is_correct]
    assert len(missed) <= 0.025 * sum(row["expected"] for row in core_rows), missed
    wrong = [d for row, d in graded if not row["expected"] and d.rule != "no_answer"]
    assert sum(d.rejected_by is not None for d in wrong) > 0.75 * len(wrong)


def test_no_pair_labelled_equal_is_decisively_rejected(shared_data: Path) -> None:
    rows = read_jsonl(shared_data / "grading/cases.jsonl")
    equal = [row for row in rows if row["expected"] and row["group"] == "core"]
    assert not [row["id"] for row in equal if decide_row(row).rejected_by]


def test_algebra_is_seldom_asked(core_rows: list[Row]) -> None:
    """The cheap rules decide nearly all; algebra takes 0.05 to 0.5 s for a pair."""
    open_pairs = {decide_row(row).open_pairs for row in core_rows} - {()}
    assert len(open_pairs) < 0.02 * len(core_rows)


def test_hostile_answers_neither_hang_nor_crash_nor_are_accepted(shared_data: Path) -> None:
    rows = [row for row in read_jsonl(shared_data / "grading/hostile.jsonl") if "reply" not in row]
    markers = [Path(row["marker"]) for row in rows if row.get("marker")]
    before = [marker.exists() for marker in markers]
    graded = list(zip(rows, grade_pairs(rows), strict=True))
    assert [marker.exists() for marker in markers] == before
    assert not [row["id"] for row, (_, seconds) in graded if seconds > row["max_seconds"]]
    assert not [row["id"] for row, (decision, _) in graded if decision.rule == "rule_crash"]
    labelled = [(row, d) for row, (d, _) in graded if isinstance(row["expected"], bool)]
    assert not [row["id"] for row, d in labelled if d.is_correct != row["expected"]]


GOLDS: dict[str, Callable[[Row], Any]] = {
    "aime24": lambda row: row["answer"],
    "amc23": lambda row: row["answer"],
    "gsm8k": lambda row: row["answer"].split("####")[-1].strip(),
    "math": lambda row: closed_boxes(row["solution"])[-1].content,
    "math500": lambda row: row["answer"],
    "olympiadbench": lambda row: row["final_answer"],
}


@pytest.mark.parametrize("benchmark", GOLDS)
def test_every_reference_answer_is_accepted_and_no_other_one(
    benchmark: str, shared_data: Path
) -> None:
    rows = read_jsonl(shared_data / f"benchmarks/{benchmark}/test.jsonl")
    golds = [gold_text(GOLDS[benchmark](row)) for row in rows]

    def own(gold: str, row: Row) -> Decision:
        answer = extract(f"Final Answer: \\boxed{{{gold}}}", "boxed").answer
        return decide(gold, answer, options_of(row))

    pairs = zip(golds, rows, strict=True)
    assert not [gold for gold, row in pairs if not own(gold, row).is_correct]
    others = random.Random(1).sample(golds, len(golds))
    shuffled = [pair for pair in zip(golds[:800], others, strict=False) if pair[0] != pair[1]]
    decisions = [decide(*pair) for pair in shuffled]
    accepting = {decision.rule for decision in decisions if decision.is_correct}
    assert not accepting & {"value", "formula", "set", "list"}
    assert sum(d.rejected_by is not None for d in decisions) > 0.75 * len(decisions)
