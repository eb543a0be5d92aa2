"""Stage `source`: rows to train on, from a generator, a local file or the hub, in one shape: id, source, prompt, response."""

from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gapgrid import manifest
from gapgrid.command import run_stage, stage_parser
from gapgrid.records import InputError, Row, check_training_rows, fail_if, read_table, sha256_text, write_jsonl


def load(entry: dict[str, Any]) -> tuple[str, list[Row], Callable[[int], str]]:
    """A source's own rows under its own column names, what to call it in messages, and where each row stands."""
    if "builtin" in entry:
        from gapgrid.demo import arithmetic

        chosen = entry["builtin"]
        if chosen["style"] == "corpus":
            rows: list[Row] = list(arithmetic.corpus(chosen["rows"], chosen["seed"]))
        else:
            rows = list(arithmetic.answered(chosen["style"], chosen["rows"], chosen["seed"]))
        return "builtin", rows, lambda index: f"builtin {chosen['style']}: row {index + 1}"
    if "path" in entry:
        rows, where = read_table(entry["path"])
        return entry["path"], rows, where
    if "hub" in entry:
        from gapgrid.engines import hub

        rows = hub.dataset_rows(entry["hub"], entry.get("revision"), entry.get("split", "train"), None)
        return entry["hub"], rows, lambda index: f"{entry['hub']}: row {index + 1}"
    raise InputError("a source needs one of builtin, path, hub")


def rename(row: Row, columns: dict[str, str]) -> Row:
    """The row under our column names. Without a named id column the prompt's digest identifies the problem."""
    renamed = {ours: row[columns.get(ours, ours)] for ours in ("prompt", "response") if columns.get(ours, ours) in row}
    id_column = columns.get("id", "id")
    if id_column in row:
        renamed["id"] = None if row[id_column] is None else str(row[id_column])
    elif "id" not in columns and isinstance(renamed.get("prompt"), str):
        renamed["id"] = sha256_text(renamed["prompt"])[:16]
    return renamed


def work(args: Namespace) -> None:
    """Read, rename, check every row, write rows and manifest."""
    spec = args.spec
    called, found, where = load(spec["source"])
    columns = spec["source"].get("columns", {})
    problems = [
        f"{where(index)}: no column '{theirs}' (as {ours}), found {', '.join(sorted(row)) or 'none'}"
        for index, row in enumerate(found)
        for ours, theirs in columns.items()
        if theirs not in row
    ]
    fail_if(problems)
    rows = [rename(row, columns) for row in found]
    check_training_rows(called, rows, where)
    write_jsonl(args.rows, ({**row, "source": spec["name"]} for row in rows))
    manifest.write(args.manifest, "source", spec, {}, [args.rows.name], facts={"rows": len(rows)})


def main(argv: list[str] | None = None) -> int:
    """`python -m gapgrid.source --spec … ROWS MANIFEST`."""
    parser = stage_parser("source", __doc__)
    parser.add_argument("rows", type=Path)
    parser.add_argument("manifest", type=Path)
    return run_stage(parser, work, argv)


if __name__ == "__main__":
    raise SystemExit(main())
