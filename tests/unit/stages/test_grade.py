"""grade: a cell is graded out of its store, or the message says how to rebuild it."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gapgrid.core import manifest
from gapgrid.core.records import Row, read_json, read_jsonl, sha256_file, write_json, write_jsonl
from gapgrid.stages import grade
from gapgrid.stores.responses import (
    Completion,
    GenerationRequest,
    Store,
    checksum,
    model_digest,
    request_digest,
)

Runner = Callable[..., int]
SPEC = {"stage": "grade", "version": 1, "grader": "boxed"}


class Cell:
    """A cell's files, as the stages before left them."""

    def __init__(
        self, folder: Path, student: Path, problems: list[Row], responses: list[str]
    ) -> None:
        self.train_manifest = student / "manifest.json"
        self.problems = folder / "problems" / "problems.jsonl"
        self.problems_manifest = self.problems.with_name("manifest.json")
        self.request = folder / "request.spec"
        self.batch_manifest = folder / "evaluate" / "manifest.json"
        self.manifest = folder / "grade" / "manifest.json"
        write_jsonl(self.problems, problems)
        manifest.write(self.problems_manifest, "problems", {}, {}, ["problems.jsonl"])
        self.request.write_text('{"stage": "request"}\n')
        digest = request_digest(sha256_file(self.request), sha256_file(self.problems))
        name = model_digest(manifest.read(self.train_manifest))
        requests = [
            GenerationRequest(row["doc_id"], 0, row["problem"], row["gold"], row["problem"], {})
            for row in problems
        ]
        completions = (Completion(text, "stop", 9) for text in responses)
        self.store = self.batch_manifest.parent / "responses" / f"{name}.sqlite"
        with Store(self.store) as store:
            store.add_completions(zip((row.key for row in requests), completions, strict=True))
            store.set_requests(digest, requests)
            self.write_batch_manifest({digest: {"sha256": checksum(store.rows(digest))}})

    def write_batch_manifest(self, entries: Row) -> None:
        """Write what `evaluate` says of its store."""
        manifest.write(self.batch_manifest, "evaluate", {}, {}, [], facts={"requests": entries})

    @property
    def arguments(self) -> list[Path]:
        """What the rule passes to the stage."""
        inputs = [self.train_manifest, self.batch_manifest, self.request]
        return [*inputs, self.problems, self.problems_manifest, self.manifest]

    def read(self, name: str) -> list[Row]:
        """Rows that the stage wrote."""
        return read_jsonl(self.manifest.with_name(f"{name}.jsonl"))


def problems(*golds: Any) -> list[Row]:
    """Problems with these reference answers."""
    return [
        {"doc_id": doc_id, "problem": f"Problem {doc_id}", "gold": gold}
        for doc_id, gold in enumerate(golds)
    ]


@pytest.fixture
def cell(tmp_path: Path, student: Path) -> Cell:
    """A cell of five answers: two accepted, one not there, one rejected, one undecided."""
    rows = problems("6.3", [r"$\frac{1}{2}$"], "7", "2", "cat")
    rows[0]["error"] = "1e-1"
    answers = ["6.35", r"\int_0^1 x\,dx", None, "3", "dog"]
    responses = [rf"\boxed{{{answer}}}" if answer else "no idea" for answer in answers]
    return Cell(tmp_path, student, rows, responses)


def test_the_stage_grades_a_cell_out_of_its_store(cell: Cell, run: Runner) -> None:
    assert run(grade, SPEC, *cell.arguments) == 0
    assert [row["rule"] for row in cell.read("graded")] == [
        *("tolerance", "math_verify", "no_answer", "different", "different")
    ]
    shared = {"repeat": 0, "gold": "2", "answer": "3", "rejected_by": "number"}
    assert cell.read("pending") == [
        {**shared, "doc_id": 3, "problem": "Problem 3"},
        {
            "doc_id": 4,
            "repeat": 0,
            "problem": "Problem 4",
            "gold": "cat",
            "answer": "dog",
            "rejected_by": None,
        },
    ]
    written = read_json(cell.manifest)
    n_rows = {name: entry["rows"] for name, entry in written["outputs"].items()}
    assert n_rows == {"graded.jsonl": 5, "pending.jsonl": 2, "samples.jsonl": 5}
    assert written["facts"] == {"n": 5, "n_accepted": 2, "n_no_answer": 1, "n_pending": 2}
    assert manifest.mismatches(cell.manifest) == []


def test_the_same_answers_give_the_same_bytes(cell: Cell, run: Runner) -> None:
    assert run(grade, SPEC, *cell.arguments) == 0
    before = {file.name: file.read_bytes() for file in cell.manifest.parent.iterdir()}
    assert run(grade, SPEC, *cell.arguments) == 0
    assert {file.name: file.read_bytes() for file in cell.manifest.parent.iterdir()} == before


def remove(cell: Cell) -> None:
    """Delete the store."""
    cell.store.unlink()


def change_request(cell: Cell) -> None:
    """Change the request, which the store was not filled for."""
    cell.request.write_text('{"stage": "request", "max_tokens": 1}\n')


def change_checksum(cell: Cell) -> None:
    """Change the checksums that the batch manifest holds."""
    entries = read_json(cell.batch_manifest)["facts"]["requests"]
    cell.write_batch_manifest({digest: {"sha256": "0" * 64} for digest in entries})


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (remove, "no such response store"),
        (change_request, "holds no answers to request"),
        (change_checksum, "differ from the batch manifest's checksum"),
    ],
)
def test_a_store_that_does_not_fit_is_an_error_that_says_how_to_rebuild_it(
    cell: Cell,
    run: Runner,
    capsys: pytest.CaptureFixture[str],
    harm: Callable[[Cell], None],
    message: str,
) -> None:
    harm(cell)
    assert run(grade, SPEC, *cell.arguments) == 1
    error = capsys.readouterr().err
    assert message in error
    batch = cell.batch_manifest
    assert f"rebuild it with: snakemake --forcerun {batch} -- {batch}, then run again" in error
    assert not cell.manifest.exists()


def test_too_few_answers_are_an_error(
    cell: Cell, run: Runner, capsys: pytest.CaptureFixture[str]
) -> None:
    written = read_json(cell.problems_manifest)
    written["outputs"]["problems.jsonl"]["rows"] = 6
    write_json(cell.problems_manifest, written)
    assert run(grade, SPEC, *cell.arguments) == 1
    assert "5 answers to 5 requests, expected 6" in capsys.readouterr().err


def test_a_cell_of_numbers_needs_no_algebra(tmp_path: Path, student: Path) -> None:
    """A paper-sized grid has hundreds of such jobs, so none may load a computer algebra system."""
    golds = [f"{number % 17}" for number in range(200)]
    responses = [f"So we have \\boxed{{{number % 13}}}." for number in range(200)]
    cell = Cell(tmp_path, student, problems(*golds), responses)
    command = [sys.executable, "-v", "-m", "gapgrid.stages.grade", "--spec", json.dumps(SPEC)]
    done = subprocess.run(
        [*command, *map(str, cell.arguments)], check=True, capture_output=True, text=True
    )
    assert len(cell.read("graded")) == 200
    assert "import 'gapgrid.grading.decide'" in done.stderr
    assert "import 'sympy'" not in done.stderr and "import 'math_verify'" not in done.stderr
