"""A grid's `reference.csv`: numbers that others have published for its cells, shown beside ours.

One row a number: model, mix, minus, benchmark, score, source, note. Names are the grid's own. `benchmark` is one, or
several joined by + for their plain mean. With `minus`, a second mix, the number is a gap in points; otherwise it is an
accuracy in per cent. Lines that start with # are comments.
"""

import csv
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from gapgrid.crosschecks import did_you_mean
from gapgrid.grid import UNTOUCHED, Grid
from gapgrid.records import InputError, Row, fail_if

COLUMNS = ("model", "mix", "minus", "benchmark", "score", "source", "note")
MAY_BE_EMPTY = ("minus", "note")
AVERAGE = "average"


def read(path: Path) -> list[Row]:
    """Rows with their line numbers, scores as numbers; none if there is no file. An `InputError` lists every bad row."""
    if not path.is_file():
        return []
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: invalid UTF-8 ({error.reason} at byte {error.start})") from None
    numbered = [(number, line) for number, line in enumerate(lines, 1) if line.strip() and not line.startswith("#")]
    if not numbered:
        raise InputError(f"{path}: no header, expected {','.join(COLUMNS)}")
    (_, header), *body = [(number, next(csv.reader([line]))) for number, line in numbered]
    wrong = [f"{path}: unknown column '{name}'{did_you_mean(name, COLUMNS)}; expected {', '.join(COLUMNS)}" for name in header]
    problems = [text for name, text in zip(header, wrong, strict=True) if name not in COLUMNS]
    problems += [f"{path}: no column '{name}'" for name in COLUMNS if name not in header and name not in MAY_BE_EMPTY]
    fail_if(problems)
    rows = []
    for number, values in body:
        if len(values) != len(header):
            problems.append(f"{path}:{number}: {len(values)} values, expected {len(header)}, as many as columns")
            continue
        row: Row = {**dict.fromkeys(MAY_BE_EMPTY, ""), **dict(zip(header, (value.strip() for value in values), strict=True))}
        problems += [f"{path}:{number}: no {name}" for name in COLUMNS if not row[name] and name not in MAY_BE_EMPTY]
        problems += _score_problems(f"{path}:{number}", row)
        rows.append({**row, "line": number})
    fail_if(problems)
    return [{**row, "score": float(row["score"])} for row in rows]


def _score_problems(where: str, row: Row) -> Iterator[str]:
    if not row["score"]:
        return
    try:
        score = float(row["score"])
    except ValueError:
        score = math.nan
    low = -100 if row["minus"] else 0
    if not low <= score <= 100:
        unit = "points" if row["minus"] else "per cent"
        yield f"{where}: score {row['score']}, expected a number from {low} to 100 ({unit})"


def problems(grid: Grid, rows: Sequence[Row], path: Path) -> Iterator[str]:
    """Names that the grid does not know, and numbers given twice."""
    mixes = [*grid["mixes"], UNTOUCHED]
    known = {"model": list(grid["models"]), "mix": mixes, "minus": [*mixes, ""], "benchmark": list(grid["benchmarks"])}
    first: dict[Any, int] = {}
    for row in rows:
        where = f"{path}:{row['line']}"
        for key, names in known.items():
            for found in row[key].split("+") if key == "benchmark" else [row[key]]:
                if found not in names:
                    hint = did_you_mean(found, names)
                    yield f"{where}: {key} '{found}' is none of the grid's{hint}"
        if row["mix"] == row["minus"]:
            yield f"{where}: '{row['mix']}' minus itself"
        about = (*(row[key] for key in ("model", "mix", "minus", "source")), frozenset(row["benchmark"].split("+")))
        if first.setdefault(about, row["line"]) != row["line"]:
            yield f"{where}: the same number from the same source as in line {first[about]}"


def shown(rows: Sequence[Row], models: Sequence[str], mixes: Sequence[str], benchmarks: Sequence[str], contrast: Any) -> list[Row]:
    """The rows about an experiment's cells, and about their average where it is over the experiment's own benchmarks."""
    found = []
    for row in rows:
        names = row["benchmark"].split("+")
        is_average = len(names) > 1 and set(names) == set(benchmarks)
        if row["model"] not in models or row["mix"] not in mixes or not (is_average or (len(names) == 1 and names[0] in benchmarks)):
            continue
        if row["minus"] and [row["mix"], row["minus"]] != contrast:
            continue
        kept = {key: row[key] for key in COLUMNS}
        found.append({**kept, "benchmark": AVERAGE if is_average else names[0]})
    return found
