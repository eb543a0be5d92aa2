"""Stage `problems`: a benchmark's problems in one file.

Planning, grading and nodes without network access then need no hub.
"""

import json
import math
from argparse import Namespace
from datetime import date, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from gapgrid.core import manifest
from gapgrid.core.records import (
    LONE_SURROGATE,
    InputError,
    Row,
    fail_if,
    read_table,
    text_problem,
    write_jsonl,
)
from gapgrid.core.spec_types import ProblemsSpec
from gapgrid.core.stage_cli import run_stage, stage_parser


def load(data: dict[str, Any], n_rows: int) -> tuple[str, list[Row]]:
    """Return the name of a benchmark's origin, for messages, and the rows as they are there."""
    if "builtin" in data:
        from gapgrid.demo import arithmetic

        builtin = data["builtin"]
        try:
            return "builtin", list(arithmetic.benchmark(n_rows, builtin["events"], builtin["seed"]))
        except ValueError as error:
            raise InputError(f"builtin: {error} (rows in benchmarks.yaml)") from None
    if "path" in data:
        return data["path"], read_table(data["path"])[0]
    from gapgrid.engines import hub

    split, configs = data.get("split", "test"), data.get("configs")
    return data["hub"], hub.dataset_rows(data["hub"], data.get("revision"), split, configs)


def value(row: Row, column: str) -> Any:
    """Return a column's value; a `column` with `{{ }}` is a Jinja template over the row."""
    if "{{" not in column:
        return row.get(column)
    from jinja2.sandbox import SandboxedEnvironment

    try:
        return SandboxedEnvironment().from_string(column).render(row).strip()
    except Exception as error:  # an expression may raise anything, such as a ZeroDivisionError
        raise InputError(f"columns in benchmarks.yaml: '{column}': {error}") from None


def storable(value: Any) -> Any:
    """Return a column's value as JSON can hold it; what it holds already stays as it is.

    Dates, times and decimal numbers become text. Bytes (such as images), NaN, infinities and
    objects of any other kind become null. A lone surrogate becomes U+FFFD.
    """
    match value:
        case str():
            return LONE_SURROGATE.sub("\ufffd", value)
        case float():
            return value if math.isfinite(value) else None
        case None | bool() | int():
            return value
        case dict():
            return {storable(str(key)): storable(inner) for key, inner in value.items()}
        case list() | tuple():
            return [storable(inner) for inner in value]
        case date() | time() | timedelta() | Decimal():
            return str(value)
        case _:
            return None


def normalised(origin: str, rows: list[Row], n_rows: int, columns: dict[str, str]) -> list[Row]:
    """Return the rows with `doc_id`, `problem` and `gold` added, see `ProblemRow`.

    Other columns are kept as far as JSON can hold them, see `storable`. Raises an `InputError`
    unless there are exactly `n_rows` of them, each with a problem, which is text, and a reference
    answer.
    """
    messages = []
    if len(rows) != n_rows:
        messages = [f"{origin}: {len(rows)} rows, expected {n_rows} (rows in benchmarks.yaml)"]
    source = {"problem": columns.get("problem", "problem"), "gold": columns.get("gold", "answer")}
    result = []
    for index, row in enumerate(rows):
        added = {key: value(row, column) for key, column in source.items()}
        for key, column in source.items():
            where = f"{origin}: row {index + 1}"
            if storable(added[key]) in (None, "", []):
                columns_there = ", ".join(sorted(row))
                messages.append(f"{where}: no {key} in column '{column}', found {columns_there}")
            elif problem := _problem_of(key, added[key]):
                messages.append(f"{where}: column '{column}' (as {key}) {problem}")
        result.append(storable({**row, **added, "doc_id": index}))
    fail_if(messages)
    return result


def _problem_of(key: str, value: Any) -> str:
    """Return what is wrong with a problem or with the texts in a reference answer, or ""."""
    if key == "gold":  # may also be a number or a list
        value = json.dumps(value, ensure_ascii=False, skipkeys=True, default=str)
    return text_problem(value)


def work(args: Namespace) -> None:
    """Read and check the problems, then write them and the manifest."""
    spec: ProblemsSpec = args.spec
    origin, rows = load(spec["data"], spec["rows"])
    write_jsonl(args.problems, normalised(origin, rows, spec["rows"], spec["columns"]))
    manifest.write(args.manifest, "problems", spec, {}, [args.problems.name])


def main(argv: list[str] | None = None) -> int:
    """`python -m gapgrid.stages.problems --spec … PROBLEMS MANIFEST`."""
    parser = stage_parser("problems", __doc__)
    parser.add_argument("problems", type=Path)
    parser.add_argument("manifest", type=Path)
    return run_stage(parser, work, argv)


if __name__ == "__main__":
    raise SystemExit(main())
