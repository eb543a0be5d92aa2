"""grade: a cell is graded out of its store, or the message says how to rebuild it; sample files need no grid."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gapgrid import grade, manifest, samples
from gapgrid.records import read_json, read_jsonl, sha256_file, write_json, write_jsonl
from gapgrid.responses import Answer, Question, Store, checksum, model_digest, request_digest

Row = dict[str, Any]
Runner = Callable[..., int]
SPEC = {"stage": "grade", "version": 1, "grader": "boxed"}


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
    assert written["facts"] == {"n": 3, "n_accepted": 2, "n_no_answer": 1, "n_pending": 0}
    assert manifest.mismatches(cell.manifest) == []


def test_pending_rows_say_which_rule_rejected_them_and_facts_count_them(tmp_path: Path, student: Path, run: Runner) -> None:
    golds, responses = ["1", "2", "cat", "3", "4"], [r"\boxed{1}", r"\boxed{3}", r"\boxed{dog}", "no idea", r"\boxed{4}"]
    cell = Cell(tmp_path, student, [problem(doc_id, gold) for doc_id, gold in enumerate(golds)], responses)
    assert run(grade, SPEC, *cell.arguments) == 0
    assert cell.read("pending") == [
        {"doc_id": 1, "repeat": 0, "gold": "2", "answer": "3", "rejected_by": "number", "problem": "Problem 1"},
        {"doc_id": 2, "repeat": 0, "gold": "cat", "answer": "dog", "rejected_by": None, "problem": "Problem 2"},
    ]
    assert read_json(cell.manifest)["facts"] == {"n": 5, "n_accepted": 2, "n_no_answer": 1, "n_pending": 2}


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


# --------------------------------------------------------------------------- without a grid


@pytest.mark.parametrize("given", [["--samples", "a", "--out", "b"], ["--samples=a"], ["--task", "AIME", "--samples", "a"]])
def test_sample_files_are_graded_without_a_spec(monkeypatch: pytest.MonkeyPatch, given: list[str]) -> None:
    seen: list[list[str]] = []
    monkeypatch.setattr(samples, "main", lambda arguments: seen.append(arguments) or 7)
    assert grade.main(given) == 7
    monkeypatch.setattr(sys, "argv", ["grade", *given])
    assert grade.main() == 7
    assert seen == [given, given]


def test_without_samples_a_spec_is_needed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(samples, "main", lambda arguments: pytest.fail("not asked for"))
    with pytest.raises(SystemExit):
        grade.main(["a", "--out", "samples"])
    assert "--spec" in capsys.readouterr().err


def test_the_command_grades_a_folder(tmp_path: Path) -> None:
    line = {"doc_id": 0, "doc": {"problem": "p", "answer": "25"}, "resps": [["So 25: \\boxed{25}"]], "filter": "none"}
    write_jsonl(tmp_path / "samples_AIME_2025-01-01T00-00-00.000000.jsonl", [line])
    environment = {**os.environ, "PYTHONPATH": str(Path(grade.__file__).parents[1])}
    command = [sys.executable, "-m", "gapgrid.grade", "--samples", tmp_path]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-4].split() == ["total", "1", "1", "1", "100.0", "0", "0", "0", "-"]
