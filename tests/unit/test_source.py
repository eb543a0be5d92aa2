"""source: rows from anywhere in one shape, bad ones named with file and line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from gapgrid import manifest, source
from gapgrid.demo import arithmetic
from gapgrid.records import read_jsonl, sha256_text

Runner = Callable[..., int]


def spec(entry: dict[str, Any]) -> dict[str, Any]:
    """A source's spec."""
    return {"stage": "source", "version": 1, "name": "web", "source": entry}


@pytest.fixture
def made(run: Runner, tmp_path: Path) -> Callable[[dict[str, Any]], list[dict[str, Any]] | None]:
    """Run the stage on a config entry: its rows, or None if it refused."""

    def make(entry: dict[str, Any]) -> list[dict[str, Any]] | None:
        rows, written = tmp_path / "out" / "rows.jsonl", tmp_path / "out" / "manifest.json"
        if run(source, spec(entry), rows, written):
            assert not written.exists()
            return None
        assert manifest.mismatches(written) == []
        assert manifest.read(written)["facts"] == {"rows": len(read_jsonl(rows))}
        return read_jsonl(rows)

    return make


def written(folder: Path, *rows: Any) -> str:
    """A local file of rows; text goes in as it is."""
    file = folder / "rows.jsonl"
    file.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return str(file)


@pytest.mark.parametrize("style", ["short", "long", "corpus"])
def test_a_generator_gives_its_rows(made: Any, style: str) -> None:
    rows = made({"builtin": {"style": style, "rows": 20, "seed": 5}})
    expected = arithmetic.corpus(20, 5) if style == "corpus" else arithmetic.answered(style, 20, 5)
    assert rows == [{**row, "source": "web"} for row in expected]


def test_columns_are_renamed_and_others_left_out(made: Any, tmp_path: Path) -> None:
    file = written(tmp_path, {"n": 7, "question": "one ?", "chain": "one .", "level": 3})
    rows = made({"path": file, "columns": {"id": "n", "prompt": "question", "response": "chain"}})
    assert rows == [{"id": "7", "source": "web", "prompt": "one ?", "response": "one ."}]


def test_without_an_id_the_prompt_names_the_problem(made: Any, tmp_path: Path) -> None:
    file = written(tmp_path, {"question": "one ?", "response": "a"}, {"question": "two ?", "response": "b"})
    rows = made({"path": file, "columns": {"prompt": "question"}})
    assert [row["id"] for row in rows] == [sha256_text("one ?")[:16], sha256_text("two ?")[:16]]


def test_an_id_column_of_the_usual_name_is_taken(made: Any, tmp_path: Path) -> None:
    assert made({"path": written(tmp_path, {"id": "a", "prompt": "p", "response": "r"})})[0]["id"] == "a"


def test_a_parquet_file_is_read(made: Any, tmp_path: Path) -> None:
    file = tmp_path / "rows.parquet"
    rows = [{"id": 1, "prompt": "é ?", "response": "a"}, {"id": 2, "prompt": "two ?", "response": "b"}]
    parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    assert made({"path": str(file)}) == [{**row, "id": str(row["id"]), "source": "web"} for row in rows]


GOOD = {"id": "a", "prompt": "one ?", "response": "one ."}


@pytest.mark.parametrize(
    ("rows", "columns", "expected"),
    [
        ([GOOD, {"id": "b", "prompt": "p"}], {}, [":2: no column 'response', found id, prompt"]),
        ([GOOD, {**GOOD, "id": "b", "response": " "}], {}, [":2: empty response"]),
        ([GOOD, "", GOOD], {}, [":3: id 'a' was already used at {file}:1"]),
        ([GOOD, '{"id": "b", '], {}, [":2: not valid JSON (Expecting property name"]),
        ([GOOD, "[]"], {}, [":2: found a list, expected a JSON object"]),
        ([GOOD, {**GOOD, "id": None}], {}, [":2: column 'id' is NoneType, expected text"]),
        ([GOOD, {**GOOD, "id": "b", "response": ["r"]}], {}, [":2: column 'response' is list, expected text"]),
        ([GOOD], {"response": "chain"}, [":1: no column 'chain' (as response), found id, prompt, response"]),
        ([GOOD], {"id": "n"}, [":1: no column 'n' (as id), found id, prompt, response"]),
        ([{"prompt": "one ?", "response": "a"}] * 2, {}, [f":2: id '{sha256_text('one ?')[:16]}' was already used at {{file}}:1"]),
        (
            [{"id": "b"}, {**GOOD, "response": ""}],
            {},
            [":1: no column 'prompt', found id", ":1: no column 'response'", ":2: empty response"],
        ),
        ([], {}, [": no rows"]),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(
    made: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: list[Any], columns: dict[str, str], expected: list[str]
) -> None:
    file = written(tmp_path, *rows)
    assert made({"path": file, "columns": columns}) is None
    found = capsys.readouterr().err.removeprefix("error: ").splitlines()
    assert len(found) == len(expected), found
    for line, wanted in zip(found, expected, strict=True):
        assert line.startswith(file + wanted.replace("{file}", file)), line


def test_invalid_utf8_is_named_by_file_and_line(made: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_bytes(json.dumps(GOOD).encode() + b'\n{"id": "b\xff"}\n')
    assert made({"path": str(file)}) is None
    assert capsys.readouterr().err == f"error: {file}:2: invalid UTF-8 at byte 10 of the line\n"


def test_a_bad_parquet_row_is_named_by_number(made: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "rows.parquet"
    parquet.write_table(pyarrow.Table.from_pylist([GOOD, {**GOOD, "id": "b", "response": None}]), file)
    assert made({"path": str(file)}) is None
    assert capsys.readouterr().err == f"error: {file}: row 2: column 'response' is NoneType, expected text\n"


def test_a_missing_file_is_named(made: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert made({"path": str(tmp_path / "absent.jsonl")}) is None
    assert capsys.readouterr().err == f"error: {tmp_path}/absent.jsonl: no such file\n"


def test_old_rows_stay_if_new_ones_are_bad(made: Any, tmp_path: Path) -> None:
    assert made({"path": written(tmp_path, GOOD)}) is not None
    (tmp_path / "out" / "manifest.json").unlink()
    assert made({"path": written(tmp_path, GOOD, GOOD)}) is None
    assert len(read_jsonl(tmp_path / "out" / "rows.jsonl")) == 1
