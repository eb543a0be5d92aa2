"""What the tests of interop share: lm-eval's sample files, and `gapgrid samples`."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from gapgrid.cli import main
from gapgrid.core.records import Row

RUN, LATER = "2025-01-01T00-00-00.000000", "2025-02-01T00-00-00.000001"


def row(doc_id: Any = 0, answer: Any = "25", response: Any = r"\boxed{25}", **more: Any) -> Row:
    """Return one line as lm-eval writes it."""
    return {
        "doc_id": doc_id,
        "doc": {"problem": f"p{doc_id}", "answer": answer},
        "target": "25",
        "resps": [[response]],
        "filtered_resps": [response],
        "filter": "none",
        **more,
    }


# One answer is correct, one is rejected, one is missing.
OK = (row(0), row(1, "7", r"\boxed{8}"), row(2, "3", "no box"))


def write_samples(folder: Path, *rows: Row, task: str = "AIME", run: str = RUN) -> Path:
    """Write a sample file and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"samples_{task}_{run}.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in rows), encoding="ascii")
    return path


class Output(NamedTuple):
    """What `gapgrid samples` printed.

    `table` maps (model, task) to problems, n, correct, %, rejected, undecided, no answer,
    truncated; the total stands under ("total", "").
    """

    status: int
    out: str
    err: str

    @property
    def table(self) -> dict[tuple[str, str], list[str]]:
        lines = [line.split() for line in self.out.split("\n\n")[0].splitlines()[1:]]
        return {(line[0], " ".join(line[1:-8])): line[-8:] for line in lines}

    @property
    def total(self) -> list[str]:
        return self.table["total", ""]


Grade = Callable[..., Output]


@pytest.fixture
def grade(capsys: pytest.CaptureFixture[str]) -> Grade:
    """`grade(*arguments)`: run `gapgrid samples`; a refusal is one message and no output."""

    def run(*arguments: object) -> Output:
        capsys.readouterr()
        status = main(["samples", *map(str, arguments)])
        output = Output(status, *capsys.readouterr())
        assert status == 0 or (output.out == "" and "error: " in output.err)
        return output

    return run
