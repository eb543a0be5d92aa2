"""A grid's `reference.csv`: numbers that others have published, shown beside the grid's own.

One row a number: model, mix, minus, benchmark, score, source, note. Names are the grid's own.
`benchmark` is one, or several joined by + for their plain mean. With `minus`, a second mix, the
number is a gap in points; otherwise it is an accuracy in per cent. Lines that start with # are
comments.
"""

import csv
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from gapgrid.config.checks import did_you_mean
from gapgrid.core.cells import UNTOUCHED
from gapgrid.core.records import InputError, Row, fail_if
from gapgrid.core.rows import REFERENCE_COLUMNS
from gapgrid.grid.cells import Grid

MAY_BE_EMPTY = ("minus", "note")
REQUIRED = [name for name in REFERENCE_COLUMNS if name not in MAY_BE_EMPTY]


def read_reference(path: Path) -> list[Row]:
    """Return the rows with their line numbers and with scores as numbers; none without a file.

    An `InputError` lists every bad row.
    """
    if not path.is_file():
        return []
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: invalid UTF-8 ({error.reason} at byte {error.start})") from None
    parsed = [
        (number, next(csv.reader([line])))
        for number, line in enumerate(lines, 1)
        if line.strip() and not line.startswith("#")
    ]
    if not parsed:
        raise InputError(f"{path}: no header, expected {','.join(REFERENCE_COLUMNS)}")
    (_, header), *body = parsed
    problems = [
        f"{path}: unknown column '{name}'{did_you_mean(name, REFERENCE_COLUMNS)}; "
        f"expected {', '.join(REFERENCE_COLUMNS)}"
        for name in header
        if name not in REFERENCE_COLUMNS
    ]
    problems += [f"{path}: no column '{name}'" for name in REQUIRED if name not in header]
    fail_if(problems)
    rows: list[Row] = []
    for number, values in body:
        where = f"{path}:{number}"
        if len(values) != len(header):
            n, expected = len(values), len(header)
            problems.append(f"{where}: {n} values, expected {expected}, as many as columns")
            continue
        given = dict(zip(header, (value.strip() for value in values), strict=True))
        row = {**dict.fromkeys(MAY_BE_EMPTY, ""), **given, "line": number}
        problems += [f"{where}: no {name}" for name in REQUIRED if not row[name]]
        problems += _score_problems(where, row)
        rows.append(row)
    fail_if(problems)
    return [{**row, "score": float(row["score"])} for row in rows]


def _score_problems(where: str, row: Row) -> Iterator[str]:
    low, unit = (-100, "points") if row["minus"] else (0, "per cent")
    try:
        score = float(row["score"] or low)  # a missing score has a message of its own
    except ValueError:
        score = math.nan
    if not low <= score <= 100:
        yield f"{where}: score {row['score']}, expected a number from {low} to 100 ({unit})"


def reference_problems(grid: Grid, rows: Sequence[Row], path: Path) -> Iterator[str]:
    """Yield a message for each name that the grid does not have and each number given twice."""
    mixes = [*grid["mixes"], UNTOUCHED]
    known = {
        "model": list(grid["models"]),
        "mix": mixes,
        "minus": [*mixes, ""],
        "benchmark": list(grid["benchmarks"]),
    }
    first: dict[Any, int] = {}
    for row in rows:
        where = f"{path}:{row['line']}"
        benchmarks = row["benchmark"].split("+")
        for key, names in known.items():
            for name in benchmarks if key == "benchmark" else [row[key]]:
                if name not in names:
                    hint = did_you_mean(name, names)
                    yield f"{where}: {key} '{name}' is none of the grid's{hint}"
        if row["mix"] == row["minus"]:
            yield f"{where}: '{row['mix']}' minus itself"
        number = (row["model"], row["mix"], row["minus"], row["source"], frozenset(benchmarks))
        if first.setdefault(number, row["line"]) != row["line"]:
            yield f"{where}: the same number from the same source as in line {first[number]}"
