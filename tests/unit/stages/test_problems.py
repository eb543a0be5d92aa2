"""Stage problems: as many rows as declared, each with a problem and a reference answer."""

import json
import math
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from gapgrid.core import manifest
from gapgrid.core.records import read_jsonl
from gapgrid.demo import arithmetic
from gapgrid.stages import problems

GOOD = {"problem": "one ?", "answer": "1"}


@pytest.fixture
def stage(run: Callable[..., int], tmp_path: Path) -> Callable[..., list[dict[str, Any]] | None]:
    """Run the stage on a benchmark's data: its rows, or None if it refused."""

    def inner(data: dict[str, Any], rows: int, **columns: str) -> list[dict[str, Any]] | None:
        spec = {"stage": "problems", "version": 1, "data": data, "rows": rows, "columns": columns}
        file, path = tmp_path / "out" / "problems.jsonl", tmp_path / "out" / "manifest.json"
        if run(problems, spec, file, path):
            assert not path.exists()
            return None
        assert manifest.mismatches(path) == []
        assert manifest.read(path)["outputs"]["problems.jsonl"]["rows"] == len(read_jsonl(file))
        return read_jsonl(file)

    return inner


@pytest.fixture
def rows_of(stage: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    """Run the stage on a local file of these rows, as many as declared."""

    def inner(*rows: Any, **columns: str) -> Any:
        (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return stage({"path": str(tmp_path / "rows.jsonl")}, len(rows), **columns)

    return inner


def test_a_generator_gives_its_problems(stage: Any) -> None:
    rows = stage({"builtin": {"events": 4, "seed": 5}}, 20)
    expected = [(row["problem"], row["answer"]) for row in arithmetic.benchmark(20, 4, 5)]
    assert [(row["problem"], row["gold"]) for row in rows] == expected
    assert [row["doc_id"] for row in rows] == list(range(20))


def test_more_problems_than_a_generator_has_is_one_message(
    stage: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stage({"builtin": {"events": 1, "seed": 5}}, 100) is None
    assert capsys.readouterr().err.startswith("error: builtin: found only ")


def test_rows_keep_their_own_columns(rows_of: Any) -> None:
    row = {**GOOD, "level": 3}
    assert rows_of(row) == [{**row, "gold": "1", "doc_id": 0}]
    row = {"question": "one ?", "final": "1", "problem": "no"}
    expected = {**row, "problem": "one ?", "gold": "1", "doc_id": 0}
    assert rows_of(row, problem="question", gold="final") == [expected]


@pytest.mark.parametrize("gold", [["1", "2"], ["1"], 0, 1.5, False, "0"])
def test_a_reference_answer_keeps_its_type(rows_of: Any, gold: Any) -> None:
    (row,) = rows_of({"problem": "one ?", "answer": gold})
    assert row["gold"] == gold
    assert type(row["gold"]) is type(gold)


def test_a_list_in_a_parquet_file_is_kept(stage: Any, tmp_path: Path) -> None:
    file = tmp_path / "rows.parquet"
    rows = [{**GOOD, "answer": ["1", "2"], "unit": None}, {**GOOD, "answer": ["3"], "unit": "m"}]
    parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    written = stage({"path": str(file)}, 2)
    assert [(row["gold"], row["unit"]) for row in written] == [(["1", "2"], None), (["3"], "m")]


def test_columns_that_json_cannot_hold_are_text_or_missing(stage: Any, tmp_path: Path) -> None:
    file = tmp_path / "rows.parquet"
    rare = {
        "score": math.nan,
        "most": math.inf,
        "day": date(2024, 1, 2),
        "time": datetime(2024, 1, 2, 3, 4, 5),
        "price": Decimal("1.50"),
        "image": {"bytes": b"\xff", "path": "a.png"},
        "marks": [1.5, math.nan],
    }
    parquet.write_table(pyarrow.Table.from_pylist([{**GOOD, **rare}]), file)
    (row,) = stage({"path": str(file)}, 1)
    assert {name: row[name] for name in rare} == {
        "score": None,
        "most": None,
        "day": "2024-01-02",
        "time": "2024-01-02 03:04:05",
        "price": "1.50",
        "image": {"bytes": None, "path": "a.png"},
        "marks": [1.5, None],
    }


def test_a_lone_surrogate_in_another_column_is_replaced(rows_of: Any) -> None:
    (row,) = rows_of({**GOOD, "source": "a\ud800b", "emoji": "\U0001f600"})
    assert (row["source"], row["emoji"]) == ("a\ufffdb", "\U0001f600")


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({**GOOD, "problem": 7}, "column 'problem' (as problem) is int, expected text"),
        ({**GOOD, "problem": ["p"]}, "column 'problem' (as problem) is list, expected text"),
        ({**GOOD, "problem": math.nan}, "no problem in column 'problem', found answer, problem"),
        ({**GOOD, "answer": math.nan}, "no gold in column 'answer', found answer, problem"),
        (
            {**GOOD, "problem": "a\udc00"},
            "column 'problem' (as problem) holds a lone surrogate (U+DC00), expected valid text",
        ),
        (
            {**GOOD, "answer": ["1", "\ud800"]},
            "column 'answer' (as gold) holds a lone surrogate (U+D800), expected valid text",
        ),
    ],
)
def test_a_problem_that_is_no_valid_text_is_named(
    rows_of: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    row: dict[str, Any],
    expected: str,
) -> None:
    assert rows_of(GOOD, row) is None
    assert capsys.readouterr().err == f"error: {tmp_path}/rows.jsonl: row 2: {expected}\n"


def test_a_template_makes_a_reference_answer(rows_of: Any) -> None:
    columns = {"problem": "{{ question }} Think.", "gold": "{{ answer.split('####')[-1] }}"}
    (row,) = rows_of({"question": "one ?", "answer": "so\n#### 1"}, **columns)
    assert (row["problem"], row["gold"]) == ("one ? Think.", "1")


@pytest.mark.parametrize(
    "template",
    [
        "{{ answer",
        "{{ answer + 1 }}",
        "{{ 1 / 0 }}",
        "{{ answer | no_such_filter }}",
        "{{ ''.__class__.__mro__ }}",
    ],
)
def test_a_template_that_is_broken_or_leaves_the_row_is_named(
    rows_of: Any, capsys: pytest.CaptureFixture[str], template: str
) -> None:
    assert rows_of(GOOD, gold=template) is None
    assert capsys.readouterr().err.startswith(f"error: columns in benchmarks.yaml: '{template}': ")


@pytest.mark.parametrize("n_rows", [1, 3])
def test_another_number_of_rows_is_refused(
    stage: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], n_rows: int
) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(f"{json.dumps(GOOD)}\n" * 2)
    assert stage({"path": str(file)}, n_rows) is None
    message = f"error: {file}: 2 rows, expected {n_rows} (rows in benchmarks.yaml)\n"
    assert capsys.readouterr().err == message


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"problem": "p"}, "no gold in column 'answer', found problem"),
        ({"problem": "p", "answer": ""}, "no gold in column 'answer', found answer, problem"),
        ({"problem": "p", "answer": None}, "no gold in column 'answer', found answer, problem"),
        ({"problem": "p", "answer": []}, "no gold in column 'answer', found answer, problem"),
        ({"answer": "1"}, "no problem in column 'problem', found answer"),
        ({"problem": "", "answer": "1"}, "no problem in column 'problem', found answer, problem"),
    ],
)
def test_a_row_without_problem_or_answer_is_named(
    rows_of: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    row: dict[str, Any],
    expected: str,
) -> None:
    assert rows_of(GOOD, row) is None
    assert capsys.readouterr().err == f"error: {tmp_path}/rows.jsonl: row 2: {expected}\n"


def test_a_misspelt_column_is_named_for_each_row(
    rows_of: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert rows_of(GOOD, GOOD, gold="{{ anwser }}") is None
    message = "no gold in column '{{ anwser }}', found answer, problem"
    assert capsys.readouterr().err.count(message) == 2


def test_a_broken_line_is_named(
    stage: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rows.jsonl").write_text("{\n")
    assert stage({"path": str(tmp_path / "rows.jsonl")}, 1) is None
    assert capsys.readouterr().err.startswith(f"error: {tmp_path}/rows.jsonl:1: not valid JSON")
