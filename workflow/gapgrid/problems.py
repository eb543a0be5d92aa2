"""Stage `problems`: a benchmark's problems in one file, so that planning, grading and offline nodes need no hub."""

from argparse import Namespace
from pathlib import Path
from typing import Any

from gapgrid import manifest
from gapgrid.command import run_stage, stage_parser
from gapgrid.records import InputError, Row, fail_if, read_table, write_jsonl


def load(data: dict[str, Any], n_rows: int) -> tuple[str, list[Row]]:
    """The benchmark's own rows, and what to call their origin in messages."""
    if "builtin" in data:
        from gapgrid.demo import arithmetic

        chosen = data["builtin"]
        try:
            return "builtin", list(arithmetic.benchmark(n_rows, chosen["events"], chosen["seed"]))
        except ValueError as error:
            raise InputError(f"builtin: {error} (rows in benchmarks.yaml)") from None
    if "path" in data:
        return data["path"], read_table(data["path"])[0]
    from gapgrid.engines import hub

    return data["hub"], hub.dataset_rows(data["hub"], data.get("revision"), data.get("split", "test"), data.get("configs"))


def value(row: Row, column: str) -> Any:
    """A column's value, or, where `column` holds `{{ }}`, the text of that Jinja template over the row."""
    if "{{" not in column:
        return row.get(column)
    from jinja2 import TemplateError
    from jinja2.sandbox import SandboxedEnvironment

    try:
        return SandboxedEnvironment().from_string(column).render(row).strip()
    except TemplateError as error:
        raise InputError(f"columns in benchmarks.yaml: '{column}': {error}") from None


def normalised(origin: str, rows: list[Row], n_rows: int, columns: dict[str, str]) -> list[Row]:
    """The rows with `doc_id`, `problem` and `gold` added.

    Raises an `InputError` unless there are exactly `n_rows` of them, each with a problem and a reference answer.
    """
    wrong = [] if len(rows) == n_rows else [f"{origin}: {len(rows)} rows, expected {n_rows} (rows in benchmarks.yaml)"]
    wanted = {"problem": columns.get("problem", "problem"), "gold": columns.get("gold", "answer")}
    done = []
    for index, row in enumerate(rows):
        found = {ours: value(row, theirs) for ours, theirs in wanted.items()}
        for ours, theirs in wanted.items():
            if found[ours] in (None, "", []):
                wrong.append(f"{origin}: row {index + 1}: no {ours} in column '{theirs}', found {', '.join(sorted(row))}")
        done.append({**row, **found, "doc_id": index})
    fail_if(wrong)
    return done


def work(args: Namespace) -> None:
    """Read, check, write the rows as they are with ours added, then the manifest."""
    spec = args.spec
    origin, rows = load(spec["data"], spec["rows"])
    write_jsonl(args.problems, normalised(origin, rows, spec["rows"], spec["columns"]))
    manifest.write(args.manifest, "problems", spec, {}, [args.problems.name])


def main(argv: list[str] | None = None) -> int:
    """`python -m gapgrid.problems --spec … PROBLEMS MANIFEST`."""
    parser = stage_parser("problems", __doc__)
    parser.add_argument("problems", type=Path)
    parser.add_argument("manifest", type=Path)
    return run_stage(parser, work, argv)


if __name__ == "__main__":
    raise SystemExit(main())
