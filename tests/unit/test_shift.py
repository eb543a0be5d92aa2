"""Stage shift: which answers are read, what is counted of each token type, and what is said of answers left out."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gapgrid import manifest, shift
from gapgrid.records import InputError, Row, read_json, read_jsonl, write_json, write_jsonl, write_text

Runner = Callable[..., int]
SPEC = {"stage": "shift", "version": 1, "problems": 4, "asked_by": "stub", "engine": {"name": "stub"}}


class Known:
    """An engine whose ranks are given."""

    def __init__(self, ranked: list[tuple[list[int] | None, list[int]]]) -> None:
        self.ranked = ranked

    def rank(self, task: Path, problems: list[Row], request: Row, samples: list[Row]) -> list[tuple[list[int] | None, list[int]]]:
        return self.ranked[: len(samples)]

    def text(self, token: int) -> str:
        return {1: "wait", 2: "$\\frac{", 3: "\ud800"}.get(token, f"t{token}")


def sample(number: int, **changes: Any) -> Row:
    """A row of samples.jsonl."""
    row = {"doc_id": number, "repeat": 0, "problem": f"{number} + 1", "response": f"okay , {number} .", "n_tokens": 5, "finish": "stop"}
    return {**row, "gold": "1", "prompt_sha": "x", **changes}


@pytest.fixture
def files(tmp_path: Path, student: Path) -> list[Path]:
    """The stage's arguments: eight answers of a stub's student."""
    write_jsonl(tmp_path / "samples.jsonl", [sample(number) for number in range(8)])
    write_jsonl(tmp_path / "problems.jsonl", [{"doc_id": number, "problem": f"{number} + 1"} for number in range(8)])
    write_text(tmp_path / "easy.spec", json.dumps({"max_tokens": 9}) + "\ndigest\n")
    write_text(tmp_path / "task.yaml", "task: task\n")
    names = ("easy.spec", "task.yaml", "problems.jsonl", "samples.jsonl", "shift/manifest.json")
    return [student / "model", student / "manifest.json", *(tmp_path / name for name in names)]


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Claims are kept in the working directory."""
    monkeypatch.chdir(tmp_path)


def test_problems_are_spread_over_all() -> None:
    samples = [sample(number) for number in range(10)]
    assert [row["doc_id"] for row in shift.spread(samples, 4)] == [0, 2, 5, 7]
    assert shift.spread(samples, 10) == samples
    with pytest.raises(InputError, match="11 problems asked for, but there are 10 answers"):
        shift.spread(samples, 11)


def test_each_token_type_is_counted() -> None:
    types = shift.token_types([([1, 2, 1], [1, 4, 3]), (None, []), ([1], [10]), ([], [])])
    assert types == {
        1: {"token_id": 1, "n": 3, "n_shifted": 2, "n_far": 1, "shift_sum": 11, "shift_max": 9},
        2: {"token_id": 2, "n": 1, "n_shifted": 1, "n_far": 1, "shift_sum": 3, "shift_max": 3},
    }


def test_an_untouched_student_against_itself_shifts_nothing() -> None:
    ranked = [([1, 2, 3], [1, 1, 1]), ([1], [1])]
    types = shift.token_types(ranked)
    found = shift.summary([sample(0), sample(1)], ranked, types)
    assert found["n_tokens"] == 4 and found["n_shifted"] == found["n_far"] == found["shift_sum"] == 0
    assert found["share_shifted"] == found["mean_shift"] == 0


def test_nothing_to_count_is_null_and_not_zero() -> None:
    found = shift.summary([sample(0)], [([], [])], {})
    assert found["share_shifted"] is None and found["mean_shift"] is None and found["n_tokens"] == 0


def test_the_stage_writes_types_summary_and_manifest(run: Runner, files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    ranked = [([1, 2], [5, 1]), (None, []), ([2, 3], [2, 2]), ([1], [2])]
    monkeypatch.setattr(shift, "load_engine", lambda *_: Known(ranked))
    assert run(shift, SPEC, *files) == 0
    folder = files[-1].parent
    rows = read_jsonl(folder / "shift.jsonl")
    assert [(row["token"], row["n"], row["n_shifted"], row["shift_sum"]) for row in rows] == [
        ("wait", 2, 2, 5),
        ("$\\frac{", 2, 1, 1),
        ("?", 1, 1, 1),  # a lone surrogate, which no file can hold
    ]
    found = read_json(folder / "shift.json")
    assert (found["n_answers"], found["n_mismatched"], found["n_tokens"], found["n_types"]) == (4, 1, 5, 3)
    assert found["share_shifted"] == 4 / 5 and found["mean_shift"] == 7 / 5
    written = manifest.read(files[-1])
    assert written["inputs"].keys() == {"train", "request", "problems", "samples"} and manifest.mismatches(files[-1]) == []
    assert written["facts"] == found


def test_answers_left_out_are_said(
    run: Runner, files: list[Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(shift, "load_engine", lambda *_: Known([([1], [2]), (None, []), (None, []), ([1], [1])]))
    assert run(shift, SPEC, *files) == 0
    assert "2 of 4 answers left out" in caplog.text


def test_no_answer_left_is_an_error(
    run: Runner, files: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shift, "load_engine", lambda *_: Known([(None, [])] * 4))
    assert run(shift, SPEC, *files) == 1
    assert "samples.jsonl: no answer gives back the tokens it was generated as" in capsys.readouterr().err
    assert not files[-1].exists()


def test_the_stub_ranks_words_and_gives_the_same_bytes(run: Runner, files: list[Path]) -> None:
    assert run(shift, SPEC, *files) == 0
    folder = files[-1].parent
    first = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert {row["token"] for row in read_jsonl(folder / "shift.jsonl")} == {"okay", ",", ".", "0", "2", "4", "6"}
    assert run(shift, SPEC, *files) == 0
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == first


def test_the_untouched_student_decides(run: Runner, files: list[Path]) -> None:
    assert run(shift, SPEC, *files) == 0
    before = (files[-1].parent / "shift.jsonl").read_bytes()
    write_json(files[0] / "config.json", {"stub": "another"})
    assert run(shift, SPEC, *files) == 0
    assert (files[-1].parent / "shift.jsonl").read_bytes() != before
