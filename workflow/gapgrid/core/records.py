"""Rows on disk: JSON lines in and out, atomic writes, digests, and the one error users see."""

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

Row = dict[str, Any]
AnyPath = str | os.PathLike[str]
MAX_PROBLEMS_SHOWN = 20
LONE_SURROGATE = re.compile("[\ud800-\udfff]")  # half a character, in no valid UTF-8


class InputError(Exception):
    """Something the user gave is wrong; the message names the file and the row or key."""


def fail_if(problems: list[str]) -> None:
    """Raise one `InputError` that lists all `problems`, the first twenty in full."""
    if problems:
        shown = problems[:MAX_PROBLEMS_SHOWN]
        if len(problems) > len(shown):
            shown.append(f"… and {len(problems) - len(shown)} more")
        raise InputError("\n".join(shown))


def canonical(value: Any) -> str:
    """Return the one text of a value, in which specs travel and are hashed: sorted, no spaces."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def sha256_text(text: str) -> str:
    """Return the hex SHA-256 of a text's UTF-8 bytes.

    A lone surrogate, which some models emit, is kept as such.
    """
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def sha256_file(path: AnyPath) -> str:
    """Return the hex SHA-256 of a file's bytes, read in blocks."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def atomic(path: AnyPath) -> Iterator[Path]:
    """Yield a side path to write a file or folder at; it becomes `path` only if the block succeeds.

    A crash leaves at most the side path, which the next run overwrites, never half of `path`.
    """
    final = Path(path)
    side = final.with_name(f".{final.name}.part")
    final.parent.mkdir(parents=True, exist_ok=True)
    remove(side)
    try:
        yield side
        to_disk(side)
        if side.is_dir():
            remove(final)
        side.replace(final)
    except BaseException:
        remove(side)
        raise


def to_disk(path: Path) -> None:
    """Return when a file, or a folder with all that is in it, is on the disk."""
    for entry in [path, *path.rglob("*")]:
        if not entry.exists():
            continue  # a link to nothing
        descriptor = os.open(entry, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        except OSError:
            if not entry.is_dir():  # some file systems cannot sync a folder
                raise
        finally:
            os.close(descriptor)


def remove(path: AnyPath) -> None:
    """Delete a file, a link or a folder, if it exists."""
    target = Path(path)
    if target.is_dir() and not target.is_symlink():
        shutil.rmtree(target)
    else:
        target.unlink(missing_ok=True)


def discard(folder: Path) -> None:
    """Delete a folder, if it exists, under another name: a kill leaves no half of it under its own.

    What a kill leaves under the other name goes with the next call.
    """
    other = folder.with_name(f".{folder.name}.discarded")
    remove(other)
    if folder.is_dir():
        folder.replace(other)
        remove(other)


def write_text(path: AnyPath, text: str) -> None:
    """Write a UTF-8 text file atomically."""
    with atomic(path) as side:
        side.write_text(text, encoding="utf-8", errors="surrogatepass")


def write_json(path: AnyPath, value: Any) -> None:
    """Write one JSON value atomically, keys sorted, for people and for `diff`."""
    write_text(path, json.dumps(value, sort_keys=True, indent=1, allow_nan=False) + "\n")


def read_json(path: AnyPath) -> Any:
    """Return the value of a JSON file; an `InputError` names the file and where it is broken."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path}: not valid JSON ({error})") from None


def write_jsonl(path: AnyPath, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write rows as JSON lines atomically and return how many; ASCII-escaped: any text survives."""
    count = 0
    with atomic(path) as side, open(side, "w", encoding="ascii", newline="\n") as file:
        for row in rows:
            file.write(json.dumps(row, sort_keys=True, allow_nan=False) + "\n")
            count += 1
    return count


def read_jsonl(path: AnyPath) -> list[Any]:
    """Return all rows of a JSON lines file; see `read_numbered`."""
    return [row for _, row in read_numbered(path)]


def read_numbered(path: AnyPath) -> list[tuple[int, Row]]:
    """Return the (line number, row) pairs of a JSON lines file.

    Blank lines and a byte order mark are skipped. Raises one `InputError` that lists every line
    which is not UTF-8 or not a JSON object.
    """
    rows: list[tuple[int, Row]] = []
    problems: list[str] = []
    for number, line in _lines(path):
        try:
            row = json.loads(line.decode("utf-8"))
        except UnicodeDecodeError as error:
            problems.append(f"{path}:{number}: invalid UTF-8 at byte {error.start + 1} of the line")
        except (ValueError, RecursionError) as error:
            problems.append(f"{path}:{number}: not valid JSON ({error})")
        else:
            rows.append((number, row))
            if not isinstance(row, dict):
                kind = type(row).__name__
                problems.append(f"{path}:{number}: found a {kind}, expected a JSON object")
    fail_if(problems)
    return rows


def read_table(path: AnyPath) -> tuple[list[Row], Callable[[int], str]]:
    """Return the rows of a local .jsonl or .parquet file, and a function that locates row `index`.

    The location is text for messages: `file:line`, or `file: row N` for Parquet.
    """
    if str(path).endswith(".parquet"):
        import pyarrow
        from pyarrow import parquet

        try:
            table = parquet.read_table(path)
        except FileNotFoundError:
            raise InputError(f"{path}: no such file") from None
        except pyarrow.ArrowInvalid as error:
            raise InputError(f"{path}: not a Parquet file ({error})") from None
        try:
            # Plain lists and None, where pandas gives arrays and NaN.
            rows = table.to_pylist()
        except (ValueError, OverflowError) as error:  # such as a date after the year 9999
            raise InputError(f"{path}: a value cannot be read ({error})") from None
        return rows, lambda index: f"{path}: row {index + 1}"
    numbered = read_numbered(path)
    return [row for _, row in numbered], lambda index: f"{path}:{numbered[index][0]}"


def _lines(path: AnyPath) -> Iterator[tuple[int, bytes]]:
    try:
        with open(path, "rb") as file:
            for number, line in enumerate(file, 1):
                line = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
                if line.strip():
                    yield number, line
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None


def text_problem(value: Any) -> str:
    """Return what keeps a value from being text that tokenizers and stores take; "" if nothing."""
    if not isinstance(value, str):
        return f"is {type(value).__name__}, expected text"
    if match := LONE_SURROGATE.search(value):
        return f"holds a lone surrogate (U+{ord(match[0]):04X}), expected valid text"
    return ""


def check_training_rows(path: AnyPath, rows: list[Row], where: Callable[[int], str]) -> None:
    """Raise one `InputError` that names every bad row of training data.

    A row is bad if id, prompt or response is missing or not valid text, if the response is empty,
    or if the id was used before. `where(index)` locates a row in a message, see `read_table`.
    """
    problems = [] if rows else [f"{path}: no rows"]
    first_use: dict[str, int] = {}
    for index, row in enumerate(rows):
        at = where(index)
        for column in ("id", "prompt", "response"):
            if column not in row:
                columns = ", ".join(sorted(row)) or "none"
                problems.append(f"{at}: no column '{column}', found {columns}")
            elif problem := text_problem(row[column]):
                problems.append(f"{at}: column '{column}' {problem}")
        name, response = row.get("id"), row.get("response")
        if isinstance(response, str) and not response.strip():
            problems.append(f"{at}: empty response")
        if isinstance(name, str) and (first := first_use.setdefault(name, index)) != index:
            problems.append(f"{at}: id '{name}' was already used at {where(first)}")
    fail_if(problems)
