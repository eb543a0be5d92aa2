"""Stage shift: which responses are read, what is counted per token, which ones are left out."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gapgrid.core import manifest
from gapgrid.core.records import (
    InputError,
    Row,
    read_json,
    read_jsonl,
    write_json,
    write_jsonl,
    write_text,
)
from gapgrid.core.rows import SampleRow
from gapgrid.stages import shift

Runner = Callable[..., int]
Ranked = list[tuple[list[int] | None, list[int]]]
SPEC: Row = {"stage": "shift", "version": 1, "problems": 4, "asked_by": "stub"}
SPEC["engine"] = {"name": "stub"}


def sample(number: int) -> SampleRow:
    return {
        "doc_id": number,
        "repeat": 0,
        "problem": f"{number} + 1",
        "gold": "1",
        "prompt_sha": "x",
        "response": f"okay , {number} .",
        "n_tokens": 5,
        "finish": "stop",
    }


@pytest.fixture
def files(tmp_path: Path, student: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The stage's arguments: eight responses of a stub's student."""
    monkeypatch.chdir(tmp_path)  # locks are kept in the working directory
    samples = [sample(number) for number in range(8)]
    write_jsonl(tmp_path / "samples.jsonl", samples)
    problems = ({"doc_id": row["doc_id"], "problem": row["problem"]} for row in samples)
    write_jsonl(tmp_path / "problems.jsonl", problems)
    write_text(tmp_path / "easy.spec", json.dumps({"max_tokens": 9}) + "\ndigest\n")
    write_text(tmp_path / "task.yaml", "task: task\n")
    names = ("easy.spec", "task.yaml", "problems.jsonl", "samples.jsonl", "shift/manifest.json")
    return [student / "model", student / "manifest.json", *(tmp_path / name for name in names)]


@pytest.fixture
def run_ranked(run: Runner, files: list[Path], monkeypatch: pytest.MonkeyPatch) -> Runner:
    """`run_ranked(ranked)`: run the stage with an engine that gives these ranks."""

    class Engine:
        def rank(self, task: Path, problems: Any, request: Any, samples: list[Any]) -> Ranked:
            assert len(samples) == len(self.ranked)
            return self.ranked

        def text(self, token: int) -> str:
            return {1: "wait", 2: "$\\frac{", 3: "\ud800"}[token]

        ranked: Ranked

    def inner(ranked: Ranked) -> int:
        Engine.ranked = ranked
        monkeypatch.setattr(shift, "load_engine", lambda *_: Engine())
        return run(shift, SPEC, *files)

    return inner


def test_responses_are_evenly_spaced() -> None:
    samples = [sample(number) for number in range(10)]
    assert [row["doc_id"] for row in shift.evenly_spaced(samples, 4)] == [0, 2, 5, 7]
    assert shift.evenly_spaced(samples, 10) == samples
    with pytest.raises(InputError, match="11 problems asked for, but there are 10 answers"):
        shift.evenly_spaced(samples, 11)


def test_each_token_is_counted() -> None:
    types = shift.token_types([([1, 2, 1], [1, 4, 3]), (None, []), ([1], [10]), ([], [])])
    assert types == {
        1: {"token_id": 1, "n": 3, "n_shifted": 2, "n_far": 1, "shift_sum": 11, "shift_max": 9},
        2: {"token_id": 2, "n": 1, "n_shifted": 1, "n_far": 1, "shift_sum": 3, "shift_max": 3},
    }


@pytest.mark.parametrize(
    ("ranked", "n_tokens", "share"),
    [
        ([([1, 2, 3], [1, 1, 1]), ([1], [1])], 4, 0),  # a student against itself
        ([([], [])], 0, None),  # nothing to count is null and not zero
    ],
)
def test_a_summary_of_no_shifts(ranked: Ranked, n_tokens: int, share: float | None) -> None:
    counts = shift.summary([sample(0)], ranked, shift.token_types(ranked))
    assert counts["n_tokens"] == n_tokens
    assert counts["n_shifted"] == counts["n_far"] == counts["shift_sum"] == 0
    assert counts["share_shifted"] == counts["mean_shift"] == share


def test_the_stage_writes_tokens_summary_and_manifest(
    run_ranked: Runner, files: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    assert run_ranked([([1, 2], [5, 1]), (None, []), ([2, 3], [2, 2]), ([1], [2])]) == 0
    assert "1 of 4 answers left out" in caplog.text
    folder = files[-1].parent
    rows = read_jsonl(folder / "shift.jsonl")
    assert [(row["token"], row["n"], row["n_shifted"], row["shift_sum"]) for row in rows] == [
        ("wait", 2, 2, 5),
        ("$\\frac{", 2, 1, 1),
        ("?", 1, 1, 1),  # a lone surrogate, which no file can hold
    ]
    expected = {"n_answers": 4, "n_mismatched": 1, "n_tokens": 5, "n_types": 3}
    expected |= {"share_shifted": 4 / 5, "mean_shift": 7 / 5}
    counts = read_json(folder / "shift.json")
    assert counts == {**counts, **expected}
    written = manifest.read(files[-1])
    assert written["inputs"].keys() == {"train", "request", "problems", "samples"}
    assert written["facts"] == counts
    assert manifest.mismatches(files[-1]) == []


def test_no_response_left_is_an_error(
    run_ranked: Runner, files: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_ranked([(None, [])] * 4) == 1
    message = "samples.jsonl: no answer gives back the tokens it was generated as"
    assert message in capsys.readouterr().err
    assert not files[-1].exists()


def test_the_stub_ranks_words_by_the_untouched_student(run: Runner, files: list[Path]) -> None:
    folder = files[-1].parent

    def written() -> dict[str, bytes]:
        assert run(shift, SPEC, *files) == 0
        return {file.name: file.read_bytes() for file in folder.iterdir()}

    first = written()
    words = {row["token"] for row in read_jsonl(folder / "shift.jsonl")}
    assert words == {"okay", ",", ".", "0", "2", "4", "6"}
    assert written() == first
    write_json(files[0] / "config.json", {"stub": "another"})
    assert written()["shift.jsonl"] != first["shift.jsonl"]
