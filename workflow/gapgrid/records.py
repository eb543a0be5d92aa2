"""Rows on disk: JSON lines in and out, atomic writes, digests, and the one error users see."""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

Row = dict[str, Any]
MAX_PROBLEMS_SHOWN = 20


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
    """One text for one value: sorted keys, no spaces; the form in which specs travel and are hashed."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def sha256_text(text: str) -> str:
    """Hex SHA-256 of a text's UTF-8 bytes (a lone surrogate, which some models emit, is kept as such)."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def sha256_file(path: str | os.PathLike[str]) -> str:
    """Hex SHA-256 of a file's bytes, read in blocks."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def atomic(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a side path to write a file or folder at; it becomes `path` only if the block succeeds.

    A crash leaves at most the side path, which the next run overwrites, never half of `path`.
    """
    final = Path(path)
    side = final.with_name(f".{final.name}.part")
    final.parent.mkdir(parents=True, exist_ok=True)
    remove(side)
    try:
        yield side
        _to_disk(side)
        if side.is_dir():
            remove(final)
        side.replace(final)
    except BaseException:
        remove(side)
        raise


def _to_disk(path: Path) -> None:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    for file in files:
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def remove(path: str | os.PathLike[str]) -> None:
    """Delete a file, a link or a folder, if it is there."""
    target = Path(path)
    if target.is_dir() and not target.is_symlink():
        shutil.rmtree(target)
    else:
        target.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a UTF-8 text file atomically."""
    with atomic(path) as side:
        side.write_text(text, encoding="utf-8", errors="surrogatepass")


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write one JSON value atomically, keys sorted, for people and for `diff`."""
    write_text(path, json.dumps(value, sort_keys=True, indent=1, allow_nan=False) + "\n")


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read one JSON file; an `InputError` names the file and the place where it breaks."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path}: not valid JSON ({error})") from None


def write_jsonl(path: str | os.PathLike[str], rows: Iterable[Row]) -> int:
    """Write rows as JSON lines atomically; returns how many. ASCII-escaped, so any text survives."""
    count = 0
    with atomic(path) as side, open(side, "w", encoding="ascii", newline="\n") as file:
        for row in rows:
            file.write(json.dumps(row, sort_keys=True, allow_nan=False) + "\n")
            count += 1
    return count


def read_jsonl(path: str | os.PathLike[str]) -> list[Row]:
    """Read all rows of a JSON lines file; see `read_numbered`."""
    return [row for _, row in read_numbered(path)]


def read_numbered(path: str | os.PathLike[str]) -> list[tuple[int, Row]]:
    """Read (line number, row) of a JSON lines file; an `InputError` lists every broken line by number.

    Blank lines and a byte order mark are passed over; a line that is not UTF-8 or not a JSON object is not.
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
            if isinstance(row, dict):
                rows.append((number, row))
            else:
                problems.append(f"{path}:{number}: found a {type(row).__name__}, expected a JSON object")
    fail_if(problems)
    return rows


def read_table(path: str | Path) -> tuple[list[Row], Callable[[int], str]]:
    """Rows of a local .jsonl or .parquet file, and a function that says where row `index` stands."""
    if str(path).endswith(".parquet"):
        import pyarrow
        from pyarrow import parquet

        try:
            rows = parquet.read_table(path).to_pylist()  # plain lists and None, where pandas gives arrays and NaN
        except FileNotFoundError:
            raise InputError(f"{path}: no such file") from None
        except pyarrow.ArrowInvalid as error:
            raise InputError(f"{path}: not a Parquet file ({error})") from None
        return rows, lambda index: f"{path}: row {index + 1}"
    numbered = read_numbered(path)
    return [row for _, row in numbered], lambda index: f"{path}:{numbered[index][0]}"


def _lines(path: str | os.PathLike[str]) -> Iterator[tuple[int, bytes]]:
    try:
        with open(path, "rb") as file:
            for number, line in enumerate(file, 1):
                line = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
                if line.strip():
                    yield number, line
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None


def check_training_rows(path: str | os.PathLike[str], rows: list[Row], where: Callable[[int], str]) -> None:
    """Raise an `InputError` naming every bad row of training data: column missing or not text, response empty, id twice.

    `where(index)` says where row `index` came from, `file:line` or the like.
    """
    problems: list[str] = []
    first_seen: dict[str, int] = {}
    for index, row in enumerate(rows):
        for column in ("id", "prompt", "response"):
            if column not in row:
                problems.append(f"{where(index)}: no column '{column}', found {', '.join(sorted(row)) or 'none'}")
            elif not isinstance(row[column], str):
                problems.append(f"{where(index)}: column '{column}' is {type(row[column]).__name__}, expected text")
        if isinstance(row.get("response"), str) and not row["response"].strip():
            problems.append(f"{where(index)}: empty response")
        if isinstance(row.get("id"), str) and first_seen.setdefault(row["id"], index) != index:
            problems.append(f"{where(index)}: id '{row['id']}' was already used at {where(first_seen[row['id']])}")
    if not rows:
        problems.append(f"{path}: no rows")
    fail_if(problems)
