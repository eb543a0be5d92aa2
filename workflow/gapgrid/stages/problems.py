"""Stage `problems`: a benchmark's problems in one file.

Planning, grading and nodes without network access then need no hub.
"""

from argparse import Namespace
from pathlib import Path
from typing import Any

from gapgrid.core import manifest
from gapgrid.core.records import InputError, Row, fail_if, read_table, write_jsonl
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
    from jinja2 import TemplateError
    from jinja2.sandbox import SandboxedEnvironment

    try:
        return SandboxedEnvironment().from_string(column).render(row).strip()
    except TemplateError as error:
        raise InputError(f"columns in benchmarks.yaml: '{column}': {error}") from None


def normalised(origin: str, rows: list[Row], n_rows: int, columns: dict[str, str]) -> list[Row]:
    """Return the rows with `doc_id`, `problem` and `gold` added, see `ProblemRow`.

    Raises an `InputError` unless there are exactly `n_rows` of them, each with a problem and a
    reference answer.
    """
    messages = []
    if len(rows) != n_rows:
        messages = [f"{origin}: {len(rows)} rows, expected {n_rows} (rows in benchmarks.yaml)"]
    source = {"problem": columns.get("problem", "problem"), "gold": columns.get("gold", "answer")}
    result = []
    for index, row in enumerate(rows):
        added = {key: value(row, column) for key, column in source.items()}
        messages += [
            f"{origin}: row {index + 1}: no {key} in column '{column}', "
            f"found {', '.join(sorted(row))}"
            for key, column in source.items()
            if added[key] in (None, "", [])
        ]
        result.append({**row, **added, "doc_id": index})
    fail_if(messages)
    return result


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
