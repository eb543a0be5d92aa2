"""What the tests of commands share: a small demo grid, and a way to call `gapgrid`."""

import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from gapgrid import cli
from gapgrid.config.load import REPOSITORY
from gapgrid.core import manifest
from gapgrid.core.cells import Cell
from gapgrid.core.records import sha256_file
from tests.unit.pages import write_cell
from tests.unit.stages.test_audit import answer_of

CELL = Cell("xs", "long", 0, "k2")


class Result(NamedTuple):
    """What a command returns, and the lines that it prints."""

    status: int
    out: list[str]
    err: list[str]

    @property
    def text(self) -> str:
        """The standard output on one line, as a table may be wrapped."""
        return " ".join(" ".join(self.out).split())


Command = Callable[..., Result]


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The results folder, not there yet, of the demo grid with one benchmark.

    Its project is the working directory.
    """
    folder = Path(shutil.copytree(REPOSITORY / "config" / "demo", tmp_path / "config" / "demo"))
    experiments = folder / "experiments.yaml"
    text = experiments.read_text()
    for benchmarks in ("all", "[k4]"):
        text = text.replace(f"benchmarks: {benchmarks}", "benchmarks: [k2]")
    experiments.write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "results" / "demo"


@pytest.fixture
def gapgrid(results: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run a command in the project of `results`."""

    def call(*arguments: object) -> Result:
        status = cli.main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Result(status, captured.out.splitlines(), captured.err.splitlines())

    return call


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Type these lines, then close the terminal."""
    return lambda lines: monkeypatch.setattr("sys.stdin", io.StringIO(lines))


def build(results: Path, cell: Cell, *categories: str) -> None:
    """Write a cell as the stages grade and score leave it: an answer of each of the categories."""
    rows = [answer_of(category, number) for number, category in enumerate(categories)]
    score = write_cell(results, cell, rows) / "manifest.json"
    grade = results / "grade" / str(cell) / "manifest.json"
    manifest.write(grade, "grade", {}, {}, ["samples.jsonl", "graded.jsonl"])
    manifest.write(score, "score", {}, {"grade": sha256_file(grade)}, ["verdicts.jsonl"])
