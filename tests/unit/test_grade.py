"""grade: every answer gets one row, by rules alone, and what rules leave open is kept for a judge."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from gapgrid import grade, manifest
from gapgrid.records import read_json, read_jsonl, sha256_file, write_json, write_jsonl
from gapgrid.responses import Answer, Question, Store, checksum, model_digest, request_digest
from gapgrid.symbolic import Questions, Verifier

Row = dict[str, Any]
Runner = Callable[..., int]
SPEC = {"stage": "grade", "version": 1, "grader": "boxed"}
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
    return grade.grade(list(samples), grader, oracle or Oracle(), items)


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
    rows = grade.grade(samples, "boxed", Oracle({question: reply}))
    assert (rows[0]["rule_correct"], rows[0]["rule"], rows[0]["rejected_by"]) == (False, reply, None)
    assert len(grade.pending(samples, rows)) == 1


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
    rows = grade.grade(samples, "boxed", Oracle())
    assert grade.pending(samples, rows) == [
        {"doc_id": 1, "repeat": 0, "gold": "1", "answer": "2", "problem": "How many?"},
        {"doc_id": 3, "repeat": 1, "gold": "cat", "answer": "dog", "problem": "How many?"},
    ]


def test_lone_surrogates_and_control_characters_are_graded_and_written(tmp_path: Path) -> None:
    samples = [sample(0, "1", "\\boxed{\ud800}"), sample(1, "1", "\\boxed{1\x00}"), sample(2, "\ud800", "\\boxed{\ud800}")]
    rows = grade.grade(samples, "boxed", Oracle())
    assert [row["rule_correct"] for row in rows] == [False, False, True]
    assert write_jsonl(tmp_path / "graded.jsonl", rows) == 3


# --------------------------------------------------------------------------- the stage


class Cell:
    """A cell's files, as the stages before left them."""

    def __init__(self, folder: Path, student: Path, problems: list[Row], responses: list[str]) -> None:
        self.folder, self.student = folder, student
        self.problems, self.request = folder / "problems" / "problems.jsonl", folder / "request.spec"
        self.stamp, self.manifest = folder / "evaluate" / "manifest.json", folder / "grade" / "manifest.json"
        write_jsonl(self.problems, problems)
        manifest.write(folder / "problems/manifest.json", "problems", {"version": 1}, {}, ["problems.jsonl"])
        self.request.write_text('{"stage": "request"}\n')
        digest = request_digest(sha256_file(self.request), sha256_file(self.problems))
        name = model_digest(manifest.read(student / "manifest.json"))
        asked = [Question(row["doc_id"], 0, row["problem"], row["gold"], row["problem"], {}) for row in problems]
        self.store = self.stamp.parent / "responses" / f"{name}.sqlite"
        with Store(self.store) as store:
            store.add_answers(zip((question.key for question in asked), (Answer(text, "stop", 9) for text in responses), strict=True))
            store.set_questions(digest, asked)
            served = {digest: {"benchmark": "b", "rows": len(asked), "sha256": checksum(store.rows(digest))}}
        manifest.write(self.stamp, "evaluate", {"version": 1}, {}, [], facts={"requests": served})

    @property
    def arguments(self) -> list[Path]:
        """What the rule passes to the stage."""
        inputs = [self.student / "manifest.json", self.stamp, self.request, self.problems, self.problems.with_name("manifest.json")]
        return [*inputs, self.manifest]

    def read(self, name: str) -> list[Row]:
        """Rows that the stage wrote."""
        return read_jsonl(self.manifest.parent / f"{name}.jsonl")


def problem(doc_id: int, gold: object, **more: Any) -> Row:
    """One problem of a benchmark."""
    return {"doc_id": doc_id, "problem": f"Problem {doc_id}", "gold": gold, **more}


@pytest.fixture
def cell(tmp_path: Path, student: Path) -> Cell:
    """A cell of three answers."""
    problems = [problem(0, "6.3", error="1e-1"), problem(1, [r"$\frac{1}{2}$"]), problem(2, "7")]
    return Cell(tmp_path, student, problems, [r"\boxed{6.35}", r"\boxed{\int_0^1 x\,dx}", "no idea"])


def test_the_stage_grades_a_cell_out_of_its_store(cell: Cell, run: Runner) -> None:
    assert run(grade, SPEC, *cell.arguments) == 0
    assert [row["rule"] for row in cell.read("graded")] == ["tolerance", "math_verify", "no_answer"]
    assert cell.read("pending") == [] and len(cell.read("samples")) == 3
    written = read_json(cell.manifest)
    assert {name: entry["rows"] for name, entry in written["outputs"].items()} == {
        "graded.jsonl": 3,
        "pending.jsonl": 0,
        "samples.jsonl": 3,
    }
    assert manifest.mismatches(cell.manifest) == []


def test_the_same_answers_give_the_same_bytes(cell: Cell, run: Runner) -> None:
    assert run(grade, SPEC, *cell.arguments) == 0
    before = {file.name: file.read_bytes() for file in cell.manifest.parent.iterdir()}
    assert run(grade, SPEC, *cell.arguments) == 0
    assert {file.name: file.read_bytes() for file in cell.manifest.parent.iterdir()} == before


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda cell: cell.store.unlink(), "no such response store"),
        (lambda cell: cell.request.write_text('{"stage": "request", "max_tokens": 1}\n'), "holds no answers to request"),
        (
            lambda cell: write_json(cell.stamp, {**read_json(cell.stamp), "facts": {"requests": _altered(cell)}}),
            "differ from the stamp's checksum",
        ),
    ],
)
def test_a_store_that_does_not_fit_is_an_error_that_says_how_to_rebuild_it(
    cell: Cell, run: Runner, capsys: pytest.CaptureFixture[str], harm: Callable[[Cell], Any], message: str
) -> None:
    harm(cell)
    assert run(grade, SPEC, *cell.arguments) == 1
    error = capsys.readouterr().err
    assert message in error and "rebuild it with: snakemake --forcerun" in error
    assert not cell.manifest.exists()


def _altered(cell: Cell) -> Row:
    requests = read_json(cell.stamp)["facts"]["requests"]
    return {digest: {**entry, "sha256": "0" * 64} for digest, entry in requests.items()}


def test_too_few_answers_are_an_error(cell: Cell, run: Runner, capsys: pytest.CaptureFixture[str]) -> None:
    known = read_json(cell.problems.with_name("manifest.json"))
    known["outputs"]["problems.jsonl"]["rows"] = 4
    write_json(cell.problems.with_name("manifest.json"), known)
    assert run(grade, SPEC, *cell.arguments) == 1
    assert "3 answers to 3 questions, expected 4" in capsys.readouterr().err


def test_a_cell_of_numbers_needs_no_algebra(tmp_path: Path, student: Path) -> None:
    """A paper-sized grid has hundreds of such jobs, so none may load a computer algebra system."""
    problems = [problem(number, f"{number % 17}") for number in range(200)]
    cell = Cell(tmp_path, student, problems, [f"So we have \\boxed{{{number % 13}}}." for number in range(200)])
    command = [sys.executable, "-v", "-m", "gapgrid.grade", "--spec", '{"grader": "boxed", "version": 1}', *map(str, cell.arguments)]
    environment = {**os.environ, "PYTHONPATH": str(Path(grade.__file__).parents[1])}
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    assert len(cell.read("graded")) == 200
    assert "import 'gapgrid.grade'" in done.stderr or "gapgrid.answers" in done.stderr
    assert "import 'sympy'" not in done.stderr and "import 'math_verify'" not in done.stderr
