"""Stage source: rows from anywhere in one shape, bad ones named with file and line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from gapgrid.core import manifest
from gapgrid.core.records import read_jsonl, sha256_text
from gapgrid.demo import arithmetic
from gapgrid.stages import source

GOOD = {"id": "a", "prompt": "one ?", "response": "one ."}


@pytest.fixture
def rows_of(run: Callable[..., int], tmp_path: Path) -> Callable[..., Any]:
    """Run the stage on a config entry: its rows, or None if it refused."""

    def inner(**entry: Any) -> list[dict[str, Any]] | None:
        rows, path = tmp_path / "out" / "rows.jsonl", tmp_path / "out" / "manifest.json"
        path.unlink(missing_ok=True)
        if run(
            source, {"stage": "source", "version": 1, "name": "web", "source": entry}, rows, path
        ):
            assert not path.exists()
            return None
        assert manifest.mismatches(path) == []
        assert manifest.read(path)["facts"] == {"rows": len(read_jsonl(rows))}
        return read_jsonl(rows)

    return inner


def write(folder: Path, *rows: Any) -> str:
    """Write a local file of rows; text and bytes go in as they are."""
    lines = [json.dumps(row) if isinstance(row, dict) else row for row in rows]
    file = folder / "rows.jsonl"
    file.write_bytes(
        b"".join((line if isinstance(line, bytes) else line.encode()) + b"\n" for line in lines)
    )
    return str(file)


def write_parquet(folder: Path, *rows: dict[str, Any]) -> str:
    file = folder / "rows.parquet"
    parquet.write_table(pyarrow.Table.from_pylist(list(rows)), file)
    return str(file)


@pytest.mark.parametrize("style", ["short", "long", "corpus"])
def test_a_generator_gives_its_rows(rows_of: Any, style: str) -> None:
    rows = rows_of(builtin={"style": style, "rows": 20, "seed": 5})
    expected = arithmetic.corpus(20, 5) if style == "corpus" else arithmetic.answered(style, 20, 5)
    assert rows == [{**row, "source": "web"} for row in expected]


def test_columns_are_renamed_and_others_left_out(rows_of: Any, tmp_path: Path) -> None:
    file = write(tmp_path, {"n": 7, "question": "one ?", "chain": "one .", "level": 3})
    rows = rows_of(path=file, columns={"id": "n", "prompt": "question", "response": "chain"})
    assert rows == [{"id": "7", "source": "web", "prompt": "one ?", "response": "one ."}]


def test_without_an_id_the_prompt_names_the_problem(rows_of: Any, tmp_path: Path) -> None:
    file = write(
        tmp_path,
        {"question": "one ?", "response": "a"},
        {"question": "two ?", "response": "b"},
        {"id": "c", "question": "three ?", "response": "c"},
    )
    rows = rows_of(path=file, columns={"prompt": "question"})
    expected = [sha256_text("one ?")[:16], sha256_text("two ?")[:16], "c"]
    assert [row["id"] for row in rows] == expected


def test_a_parquet_file_is_read(rows_of: Any, tmp_path: Path) -> None:
    rows = [{**GOOD, "id": 1, "prompt": "é ?"}, {**GOOD, "id": 2}]
    assert rows_of(path=write_parquet(tmp_path, *rows)) == [
        {**row, "id": str(row["id"]), "source": "web"} for row in rows
    ]


@pytest.mark.parametrize(
    ("rows", "columns", "expected"),
    [
        ([GOOD, {"id": "b", "prompt": "p"}], {}, [":2: no column 'response', found id, prompt"]),
        ([GOOD, {**GOOD, "id": "b", "response": " "}], {}, [":2: empty response"]),
        ([GOOD, "", GOOD], {}, [":3: id 'a' was already used at {file}:1"]),
        ([GOOD, '{"id": "b', '{"'], {}, [":2: not valid JSON (", ":3: not valid JSON ("]),
        ([GOOD, b'{"id": "b\xff"}'], {}, [":2: invalid UTF-8 at byte 10 of the line"]),
        ([GOOD, "[]"], {}, [":2: found a list, expected a JSON object"]),
        ([GOOD, {**GOOD, "id": None}], {}, [":2: column 'id' is NoneType, expected text"]),
        (
            [GOOD, {**GOOD, "id": "b", "response": ["r"]}],
            {},
            [":2: column 'response' is list, expected text"],
        ),
        (
            [GOOD],
            {"response": "chain"},
            [":1: no column 'chain' (as response), found id, prompt, response"],
        ),
        ([GOOD], {"id": "n"}, [":1: no column 'n' (as id), found id, prompt, response"]),
        (
            [{"prompt": "one ?", "response": "a"}] * 2,
            {},
            [f":2: id '{sha256_text('one ?')[:16]}' was already used at {{file}}:1"],
        ),
        (
            [{"id": "b"}, {**GOOD, "response": ""}],
            {},
            [":1: no column 'prompt', found id", ":1: no column 'response'", ":2: empty response"],
        ),
        (
            [GOOD, {"prompt": "one ?", "response": "a\ud800"}],
            {},
            [":2: column 'response' holds a lone surrogate (U+D800), expected valid text"],
        ),
        ([], {}, [": no rows"]),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(
    rows_of: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    rows: list[Any],
    columns: dict[str, str],
    expected: list[str],
) -> None:
    file = write(tmp_path, *rows)
    assert rows_of(path=file, columns=columns) is None
    messages = capsys.readouterr().err.removeprefix("error: ").splitlines()
    for message, start in zip(messages, expected, strict=True):
        assert message.startswith(file + start.replace("{file}", file)), message


def test_a_bad_parquet_row_and_a_missing_file_are_named(
    rows_of: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_parquet(tmp_path, GOOD, {**GOOD, "id": "b", "response": None})
    for path, expected in (
        (file, f"{file}: row 2: column 'response' is NoneType, expected text"),
        (f"{tmp_path}/absent.jsonl", f"{tmp_path}/absent.jsonl: no such file"),
    ):
        assert rows_of(path=path) is None
        assert capsys.readouterr().err == f"error: {expected}\n"


def test_old_rows_stay_if_new_ones_are_bad(rows_of: Any, tmp_path: Path) -> None:
    assert rows_of(path=write(tmp_path, GOOD)) is not None
    assert rows_of(path=write(tmp_path, GOOD, GOOD)) is None
    assert len(read_jsonl(tmp_path / "out" / "rows.jsonl")) == 1
