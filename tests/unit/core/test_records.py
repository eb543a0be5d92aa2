"""records: rows survive the disk, errors name file and line, a broken write keeps the old file."""

import hashlib
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from gapgrid.core import records
from gapgrid.core.records import InputError

SCALARS = st.none() | st.booleans() | st.integers() | st.text()
JSON = st.recursive(
    SCALARS | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def reversed_keys(value: Any) -> Any:
    """Return the same value with every object's keys in the opposite order."""
    if isinstance(value, dict):
        return {key: reversed_keys(value[key]) for key in reversed(value)}
    return [reversed_keys(entry) for entry in value] if isinstance(value, list) else value


# ---- canonical text and digests ----


@given(JSON)
def test_canonical_text_ignores_key_order_and_loses_nothing(value: Any) -> None:
    text = records.canonical(value)
    assert text == records.canonical(reversed_keys(value))
    assert json.loads(text) == value


def test_canonical_text_is_compact_and_sorted() -> None:
    assert records.canonical({"b": [1, 2.5], "a": "é"}) == '{"a":"é","b":[1,2.5]}'


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_canonical_text_refuses_numbers_that_json_lacks(value: float) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        records.canonical(value)


def test_digests_are_plain_sha256(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"abc" * 100_000)
    assert records.sha256_file(file) == hashlib.sha256(b"abc" * 100_000).hexdigest()
    assert records.sha256_text("é") == hashlib.sha256("é".encode()).hexdigest()
    assert records.sha256_text("\ud800") != records.sha256_text("\ud801")


# ---- atomic writes ----


@pytest.fixture
def final(tmp_path: Path) -> Path:
    """A file with the text `old`, alone in its folder."""
    file = tmp_path / "final"
    file.write_text("old")
    return file


def other_files(file: Path) -> list[str]:
    """Return the names beside a file."""
    return [entry.name for entry in file.parent.iterdir() if entry != file]


def test_an_atomic_write_replaces_the_file(tmp_path: Path) -> None:
    final = tmp_path / "deep" / "final"
    for text in ("old", "new"):
        with records.atomic(final) as side:
            side.write_text(text)
    assert final.read_text() == "new"
    assert other_files(final) == []


def test_an_atomic_write_replaces_a_folder_whole(tmp_path: Path) -> None:
    final = tmp_path / "final"
    for name in ("old", "new"):
        with records.atomic(final) as side:
            side.mkdir()
            (side / name).write_text(name)
    assert [entry.name for entry in final.iterdir()] == ["new"]
    assert other_files(final) == []


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_exception_keeps_the_old_file(final: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), records.atomic(final) as side:
        side.write_text("half")
        raise error
    assert final.read_text() == "old"
    assert other_files(final) == []


def test_rows_that_break_midway_keep_the_old_file(final: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        records.write_jsonl(final, [{"a": 2}, {"a": float("nan")}])
    assert final.read_text() == "old"
    assert other_files(final) == []


def child(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run Python code in a process of its own."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


KILLED = """
import os, signal, sys
from gapgrid.core.records import atomic
with atomic(sys.argv[1]) as side:
    with open(side, "w") as file:
        file.write("half")
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_discarded_folder_is_never_half_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    records.discard(scratch)
    (scratch / "checkpoint-3").mkdir(parents=True)

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(shutil, "rmtree", killed)
        records.discard(scratch)
    assert not scratch.exists()
    records.discard(scratch)
    assert not list(tmp_path.iterdir())


def test_a_killed_process_keeps_the_old_file(final: Path) -> None:
    assert child(KILLED, final).returncode == -signal.SIGKILL
    assert final.read_text() == "old"
    assert other_files(final) == [".final.part"], "the process died before it wrote"
    records.write_text(final, "new")
    assert final.read_text() == "new"
    assert other_files(final) == []


FULL_DISK = """
import resource, sys
from gapgrid.core import records
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    if sys.argv[2] == "text":
        records.write_text(sys.argv[1], "new" * 10_000)
    else:
        records.write_jsonl(sys.argv[1], ({"row": number} for number in range(10_000)))
except OSError as error:
    print(error.strerror)
"""


@pytest.mark.parametrize("kind", ["text", "rows"])
def test_a_full_disk_keeps_the_old_file(final: Path, kind: str) -> None:
    done = child(FULL_DISK, final, kind)
    assert (done.returncode, done.stdout) == (0, "File too large\n"), done.stderr
    assert final.read_text() == "old"
    assert other_files(final) == []


# ---- JSON lines ----


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The path of a JSON lines file."""
    return tmp_path / "rows.jsonl"


@given(rows=st.lists(st.dictionaries(st.text(), SCALARS, max_size=3), max_size=5))
def test_rows_come_back_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]]
) -> None:
    file = tmp_path_factory.getbasetemp() / "rows.jsonl"
    assert records.write_jsonl(file, rows) == len(rows)
    assert records.read_jsonl(file) == rows


@pytest.mark.parametrize(
    "text", ["\ud800", "line\u2028separator\x85", "a\nb\r\n", "\x00", "∑ 😀", "NaN"]
)
def test_awkward_text_survives(file: Path, text: str) -> None:
    records.write_jsonl(file, [{"text": text}])
    assert file.read_bytes().isascii()
    assert file.read_bytes().count(b"\n") == 1
    assert records.read_jsonl(file) == [{"text": text}]


def test_rows_are_written_with_sorted_keys(file: Path) -> None:
    records.write_jsonl(file, [{"y": 2, "x": 1}])
    assert file.read_bytes() == b'{"x": 1, "y": 2}\n'


def test_blank_lines_and_a_byte_order_mark_are_skipped(file: Path) -> None:
    file.write_bytes(b'\xef\xbb\xbf{"a": 1}\n\n  \r\n{"a": 2}\r\n{"a": 3}')
    assert records.read_numbered(file) == [(1, {"a": 1}), (4, {"a": 2}), (5, {"a": 3})]


def problems_of(file: Path, content: bytes) -> list[str]:
    """Return the lines of the error that reading `content` raises, without the file's name."""
    file.write_bytes(content)
    with pytest.raises(InputError) as caught:
        records.read_jsonl(file)
    return [line.removeprefix(str(file)) for line in str(caught.value).splitlines()]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'{"a": 1}\n{"a": "\xff"}\n', ":2: invalid UTF-8 at byte 8 of the line"),
        (b'{"a": 1}\n\n{"a": \n', ":3: not valid JSON (Expecting value"),
        (b'{"a": 1} {"b": 2}\n', ":1: not valid JSON (Extra data"),
        (b"[1, 2]\n", ":1: found a list, expected a JSON object"),
        (b'{"a": 1}\n"text"\n', ":2: found a str, expected a JSON object"),
        (b"null\n", ":1: found a NoneType, expected a JSON object"),
        (b"[" * 100_000 + b"\n", ":1: not valid JSON ("),
    ],
)
def test_a_broken_line_is_named(file: Path, content: bytes, expected: str) -> None:
    (line,) = problems_of(file, content)
    assert line.startswith(expected)


def test_all_broken_lines_are_named_at_once(file: Path) -> None:
    problems = problems_of(file, b'\xff\n{"a": 1}\n[]\n{\n')
    assert [line[:3] for line in problems] == [":1:", ":3:", ":4:"]


def test_a_long_list_of_mistakes_is_counted(file: Path) -> None:
    problems = problems_of(file, b"[]\n" * 25)
    assert len(problems) == 21
    assert problems[-1] == "… and 5 more"


@pytest.mark.parametrize("read", [records.read_jsonl, records.read_json, records.read_table])
@pytest.mark.parametrize("name", ["absent.jsonl", "absent.parquet"])
def test_a_missing_file_is_named(tmp_path: Path, read: Any, name: str) -> None:
    with pytest.raises(InputError, match=f"{name}: no such file"):
        read(tmp_path / name)


@pytest.mark.parametrize("content", [b"{", b"\xff", b""])
def test_broken_json_is_named(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "value.json"
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"value\.json: not valid JSON"):
        records.read_json(file)


# ---- tables ----


def test_a_table_of_lines_locates_its_rows(file: Path) -> None:
    file.write_text('{"a": 1}\n\n{"a": 2}\n')
    rows, where = records.read_table(file)
    assert rows == [{"a": 1}, {"a": 2}]
    assert [where(0), where(1)] == [f"{file}:1", f"{file}:3"]


def test_a_parquet_table_keeps_lists_and_gaps(tmp_path: Path) -> None:
    file = tmp_path / "rows.parquet"
    rows = [
        {"id": 1, "gold": ["7", "8"], "note": None, "level": None},
        {"id": 2, "gold": [], "note": "n", "level": 3},
    ]
    parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    table, where = records.read_table(file)
    assert table == rows
    assert where(1) == f"{file}: row 2"
    assert records.write_jsonl(tmp_path / "out.jsonl", table) == 2


def test_a_parquet_value_that_python_cannot_hold_is_named(tmp_path: Path) -> None:
    file = tmp_path / "rows.parquet"
    array = pyarrow.array([10**17], pyarrow.timestamp("ms"))
    parquet.write_table(pyarrow.table({"day": array}), file)
    with pytest.raises(InputError, match=r"rows.parquet: a value cannot be read \(.+\)"):
        records.read_table(file)


def test_a_broken_parquet_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "rows.parquet"
    file.write_text("no parquet")
    with pytest.raises(InputError, match=r"rows\.parquet: not a Parquet file"):
        records.read_table(file)


# ---- training rows ----

FIRST = {"id": "p1", "source": "s", "prompt": "one ?", "response": "one ."}
ROW = {**FIRST, "id": "p2"}
USED = "id 'p1' was already used at rows.jsonl:10"


def mistakes(*rows: dict[str, Any]) -> list[str]:
    """Return the lines of the error that these rows raise; none if they are good."""
    try:
        records.check_training_rows(
            "rows.jsonl", list(rows), lambda index: f"rows.jsonl:{10 * (index + 1)}"
        )
    except InputError as error:
        return str(error).splitlines()
    return []


@pytest.mark.parametrize("column", ["id", "prompt", "response"])
def test_a_missing_column_is_named(column: str) -> None:
    row = {key: value for key, value in ROW.items() if key != column}
    columns = ", ".join(sorted(row))
    assert mistakes(FIRST, row) == [f"rows.jsonl:20: no column '{column}', found {columns}"]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({**ROW, "response": None}, ["column 'response' is NoneType, expected text"]),
        ({**FIRST, "id": 7}, ["column 'id' is int, expected text"]),
        ({**ROW, "response": ""}, ["empty response"]),
        ({**ROW, "response": " \n\t"}, ["empty response"]),
        (FIRST, [USED]),
        ({**FIRST, "response": ""}, ["empty response", USED]),
        ({**ROW, "prompt": ""}, []),
        (
            {**ROW, "prompt": "a\ud800"},
            ["column 'prompt' holds a lone surrogate (U+D800), expected valid text"],
        ),
        (
            {**ROW, "id": "\udfff"},
            ["column 'id' holds a lone surrogate (U+DFFF), expected valid text"],
        ),
    ],
)
def test_a_bad_training_row_is_named(row: dict[str, Any], expected: list[str]) -> None:
    assert mistakes(FIRST, row) == [f"rows.jsonl:20: {text}" for text in expected]


def test_a_third_use_of_an_id_names_the_first() -> None:
    assert mistakes(FIRST, FIRST, FIRST)[1] == f"rows.jsonl:30: {USED}"


def test_no_training_rows_is_a_mistake() -> None:
    assert mistakes() == ["rows.jsonl: no rows"]
