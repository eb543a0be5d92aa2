"""Stage `source`: rows to train on, from a generator, a local file or the hub, as `TrainingRow`."""

from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gapgrid.core import manifest
from gapgrid.core.records import (
    InputError,
    Row,
    check_training_rows,
    fail_if,
    read_table,
    sha256_text,
    write_jsonl,
)
from gapgrid.core.spec_types import SourceSpec, with_defaults
from gapgrid.core.stage_cli import run_stage, stage_parser


def load(entry: dict[str, Any]) -> tuple[str, list[Row], Callable[[int], str]]:
    """Return a source's name for messages, its rows and a function that locates row `index`.

    `entry` is complete, see `with_defaults`; the rows have the columns of their origin.
    """
    if "builtin" in entry:
        from gapgrid.demo import arithmetic

        builtin = entry["builtin"]
        style, n_rows, seed = builtin["style"], builtin["rows"], builtin["seed"]
        if style == "corpus":
            rows: list[Row] = list(arithmetic.corpus(n_rows, seed))
        else:
            rows = list(arithmetic.answered(style, n_rows, seed))
        return "builtin", rows, lambda index: f"builtin {style}: row {index + 1}"
    if "path" in entry:
        return entry["path"], *read_table(entry["path"])
    if "hub" in entry:
        from gapgrid.engines import hub

        rows = hub.dataset_rows(entry["hub"], entry.get("revision"), entry["split"], None)
        return entry["hub"], rows, lambda index: f"{entry['hub']}: row {index + 1}"
    raise InputError("a source needs one of builtin, path, hub")


def rename(row: Row, columns: dict[str, str]) -> Row:
    """Return the row's id, prompt and response; `columns` gives other names of these columns.

    Without an id column the prompt's digest identifies the problem.
    """
    names = {key: columns.get(key, key) for key in ("id", "prompt", "response")}
    renamed = {key: row[column] for key, column in names.items() if column in row}
    if "id" in renamed:
        renamed["id"] = None if renamed["id"] is None else str(renamed["id"])
    elif "id" not in columns and isinstance(renamed.get("prompt"), str):
        renamed["id"] = sha256_text(renamed["prompt"])[:16]
    return renamed


def work(args: Namespace) -> None:
    """Read, rename and check the rows, then write them and the manifest."""
    spec: SourceSpec = args.spec
    entry = with_defaults("source", spec["source"])
    origin, originals, where = load(entry)
    columns = entry["columns"]
    fail_if(
        [
            f"{where(index)}: no column '{column}' (as {key}), "
            f"found {', '.join(sorted(row)) or 'none'}"
            for index, row in enumerate(originals)
            for key, column in columns.items()
            if column not in row
        ]
    )
    rows = [rename(row, columns) for row in originals]
    check_training_rows(origin, rows, where)
    write_jsonl(args.rows, ({**row, "source": spec["name"]} for row in rows))
    manifest.write(args.manifest, "source", spec, {}, [args.rows.name], facts={"rows": len(rows)})


def main(argv: list[str] | None = None) -> int:
    """`python -m gapgrid.stages.source --spec … ROWS MANIFEST`."""
    parser = stage_parser("source", __doc__)
    parser.add_argument("rows", type=Path)
    parser.add_argument("manifest", type=Path)
    return run_stage(parser, work, argv)


if __name__ == "__main__":
    raise SystemExit(main())
