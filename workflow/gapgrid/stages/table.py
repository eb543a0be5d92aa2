"""Stage `table`: an experiment's score rows, accuracies and gaps, for programs and for people.

Files, named after the experiment: `.csv` (score rows, one per cell, and their averages),
`.estimates.csv` (accuracies and gaps with intervals), `.md`, `.tex`, `.notes.json` (caption,
protocol and confounders) and, if others have published numbers, `.paper.csv`.
"""

import csv
import io
import json
from argparse import Namespace
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gapgrid.core import comparability, manifest
from gapgrid.core.cells import AVERAGE, UNTOUCHED, Cell, TrainingCell
from gapgrid.core.comparability import Difference, Settings
from gapgrid.core.records import (
    InputError,
    Row,
    fail_if,
    read_jsonl,
    remove,
    sha256_file,
    write_text,
)
from gapgrid.core.rows import CORRECT, UNPARSED, VerdictRow, read_score
from gapgrid.core.spec_types import TableSpec
from gapgrid.core.stage_cli import run_stage, stage_parser
from gapgrid.reporting.tables import layout, published, render
from gapgrid.stats import estimates
from gapgrid.stats.estimates import CellOutcomes

# First the columns that people look for; then whatever else a score holds, by name; then the last.
FIRST = (
    *(*Cell._fields, "acc", "acc_low", "acc_high", "acc_finished"),
    *("share_truncated", "share_no_answer", "n", "n_problems"),
)
LAST = ("differs", "verdicts_sha256")
SUFFIXES = (".csv", ".estimates.csv", ".md", ".tex", ".notes.json")
PAPER = ".paper.csv"


class Tables(NamedTuple):
    """An experiment's files by suffix, and how many of its cells are missing."""

    files: dict[str, str]
    n_missing: int


def cell_of(row: Row) -> Cell:
    """Return the cell of a score row."""
    return Cell(*(row[key] for key in Cell._fields))


def read_scores(files: Iterable[Path]) -> list[Row]:
    """Return score rows, one per cell, sorted by cell."""
    return sorted((read_score(file) for file in files), key=cell_of)


def read_outcomes(files: Iterable[Path]) -> CellOutcomes:
    """Return each cell's outcome per question, by question.

    It is the share of its repeats that are right; NaN if none has a verdict.
    """
    outcomes: dict[Cell, Any] = {}
    for file in files:
        answers: dict[int, list[float]] = {}
        verdicts: list[VerdictRow] = read_jsonl(file.with_name("verdicts.jsonl"))
        for row in verdicts:
            repeats = answers.setdefault(row["doc_id"], [])
            if row["verdict"] != UNPARSED:
                repeats.append(float(row["verdict"] == CORRECT))
        shares = [np.mean(repeats) if repeats else np.nan for _, repeats in sorted(answers.items())]
        outcomes[cell_of(read_score(file))] = np.array(shares)
    return outcomes


def averages(scores: Sequence[Row], benchmarks: Sequence[str]) -> list[Row]:
    """Return a row per training cell with all benchmarks: sums of counts, plain means of the rest.

    A mean of something that a benchmark lacks (the length of right answers where none is right) is
    None.
    """
    groups: dict[TrainingCell, dict[str, Row]] = {}
    for row in scores:
        groups.setdefault(cell_of(row).trained, {})[row["benchmark"]] = row
    means = []
    for cell, rows in groups.items():
        if not set(benchmarks) <= rows.keys():
            continue
        values: Row = {**cell._asdict(), "benchmark": AVERAGE}
        for key in rows[benchmarks[0]].keys() - {*Cell._fields, "verdicts_sha256"}:
            parts: list[Any] = [rows[name].get(key) for name in benchmarks]
            if None in parts:
                values[key] = None
            else:
                is_count = key == "n" or key.startswith("n_")
                values[key] = sum(parts) if is_count else float(np.mean(parts))
        means.append(values)
    return means


def score_rows(spec: TableSpec, scores: Sequence[Row], differs: str) -> list[Row]:
    """Return a row per cell, empty where its score is missing, then averages; sorted by cell."""
    known = {cell_of(row): row for row in scores}
    cells = [Cell(*cell) for cell in spec["cells"]]
    rows = [known.get(cell, cell._asdict()) for cell in cells]
    rows += averages(scores, estimates.names(spec, "benchmarks"))

    def key(row: Row) -> tuple[TrainingCell, bool, str]:
        return cell_of(row).trained, row["benchmark"] == AVERAGE, row["benchmark"]

    return [{**row, "differs": differs} for row in sorted(rows, key=key)]


def csv_text(columns: Sequence[str], rows: Iterable[Row], floats: str = "") -> str:
    """Return rows as CSV; what is missing is empty. `floats` is their format."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        values = [row.get(column) for column in columns]
        if floats:
            values = [
                format(value, floats) if isinstance(value, float) else value for value in values
            ]
        writer.writerow(values)
    return file.getvalue()


def trained_settings(files: Iterable[Path], spec: TableSpec) -> list[Settings]:
    """Return the steps and the engine of the experiment's trained cells, by their manifests.

    Students before SFT and adopted ones have neither.
    """
    wanted = {Cell(*cell).trained for cell in spec["cells"]}
    settings: dict[TrainingCell, Settings] = {}
    for file in files:
        cell, content = TrainingCell.of_file(file), manifest.read(file)
        if cell.mix == UNTOUCHED or cell not in wanted or "adopt" in content["spec"]:
            continue
        values: dict[comparability.Key, Any] = {}
        if "n_steps" in content.get("facts", {}):
            values[comparability.STEPS] = content["facts"]["n_steps"]
        if content.get("engines"):
            values["engine", "versions that trained"] = dict(content["engines"])
        student = spec["models"][cell.model]["student"]
        settings[cell] = Settings(student, cell.model, cell.mix, values)
    models, mixes = estimates.names(spec, "models"), estimates.names(spec, "mixes")

    def key(cell: TrainingCell) -> tuple[int, int, int]:
        return models.index(cell.model), mixes.index(cell.mix), cell.seed

    return [settings[cell] for cell in sorted(settings, key=key)]


def notes(
    spec: TableSpec, scores: Sequence[Row], manifests: Iterable[Path], extra: Sequence[str] = ()
) -> Row:
    """Return caption, protocol, what differs within and between students, and missing cells."""
    settings = trained_settings(manifests, spec)
    differs = [Difference(*entry) for entry in spec["differs"]]
    differs += comparability.within(settings, spec["varies"])
    between = [Difference(*entry) for entry in spec["between"]]
    between += comparability.between(settings)
    n_cells = len(spec["cells"])
    n_missing = n_cells - len(scores)
    missing = f"{n_missing} of {n_cells} cells are missing; they are shown as –"
    n_unparsed = sum(row.get("acc", 0.0) is None for row in scores)
    unparsed = f"no verdict of {n_unparsed} of {n_cells} cells could be parsed"
    varies = " and ".join(f"the {name}" for name in spec["varies"])
    return {
        "caption": f"{spec['caption']} {f'{missing}.' if n_missing else ''}".strip(),
        "protocol": [
            *spec["protocol"],
            _seeds_and_questions(spec, scores),
            *([missing] if n_missing else []),
            *([f"{unparsed}; their accuracy is missing"] if n_unparsed else []),
            *extra,
        ],
        "differs": [difference.line() for difference in differs],
        "varies": f"{varies} {'differ' if len(spec['varies']) > 1 else 'differs'}",
        "differs_in": sorted({difference.name for difference in differs}),
        "between_students": [difference.line() for difference in between],
        "n_missing": n_missing,
    }


def _seeds_and_questions(spec: TableSpec, scores: Sequence[Row]) -> str:
    cells = [Cell(*cell) for cell in spec["cells"]]
    trained = [cell for cell in cells if cell.mix != UNTOUCHED]
    seeds = ", ".join(map(str, sorted({cell.seed for cell in trained or cells})))
    n = sum({row["benchmark"]: row["n_problems"] for row in scores}.values())
    n_benchmarks = len(spec["shown"]["benchmarks"])
    return f"training seeds: {seeds}; {n:,} questions over {n_benchmarks} benchmark(s)"


def build(
    spec: TableSpec, files: Sequence[Path], manifests: Iterable[Path], extra: Sequence[str] = ()
) -> Tables:
    """Return an experiment's files from those scores that exist.

    `manifests` are those of its training cells, `extra` are lines for the protocol.
    """
    wanted = {Cell(*cell) for cell in spec["cells"]}
    scores = [row for row in read_scores(files) if cell_of(row) in wanted]
    noted = notes(spec, scores, manifests, extra)
    differs = "; ".join(noted["differs_in"])
    rows = [*estimates.rows(spec, read_outcomes(files)), *estimates.guess_rows(spec, scores)]
    cells = score_rows(spec, scores, differs)
    columns = [*FIRST, *sorted({key for row in cells for key in row} - {*FIRST, *LAST}), *LAST]
    compared = published.compare(spec, rows)
    document = layout.document(spec, rows, cells, compared, noted)
    estimated = ({**row, "differs": differs} for row in rows)
    texts = {
        ".csv": csv_text(columns, cells),
        ".estimates.csv": csv_text(estimates.COLUMNS, estimated, ".9g"),
        ".md": render.markdown(document),
        ".tex": render.latex(document),
        ".notes.json": json.dumps(noted, indent=1, ensure_ascii=False, sort_keys=True) + "\n",
    }
    if compared:
        texts[PAPER] = csv_text(published.COLUMNS, compared, ".9g")
    return Tables(texts, noted["n_missing"])


def write(tables: Tables, folder: Path, experiment: str) -> list[str]:
    """Write the files and return their names.

    A comparison with published numbers of an earlier run is removed where there are none any more.
    """
    for suffix, text in tables.files.items():
        write_text(folder / f"{experiment}{suffix}", text)
    if PAPER not in tables.files:
        remove(folder / f"{experiment}{PAPER}")
    return [f"{experiment}{suffix}" for suffix in tables.files]


def work(args: Namespace) -> None:
    """Read the cells' scores, of which none may be missing; write the tables and the manifest."""
    if not args.manifest.name.endswith(".manifest.json"):
        raise InputError(f"{args.manifest}: expected EXPERIMENT.manifest.json")
    scored = {cell_of(row) for row in read_scores(args.scores)}
    cells = [Cell(*cell) for cell in args.spec["cells"]]
    fail_if([f"table: no score of {cell}" for cell in cells if cell not in scored])
    tables = build(args.spec, args.scores, args.trained)
    experiment = args.manifest.name.removesuffix(".manifest.json")
    outputs = write(tables, args.manifest.parent, experiment)
    inputs = {str(Cell.of_file(file)): sha256_file(file) for file in args.scores}
    manifest.write(args.manifest, "table", args.spec, inputs, outputs)


def main(argv: list[str] | None = None) -> int:
    """Run `--spec … [--trained MANIFESTS…] -- MANIFEST SCORES…`.

    The other files go beside MANIFEST.
    """
    parser = stage_parser("table", __doc__)
    of_training = "manifests of the training cells"
    parser.add_argument("--trained", type=Path, nargs="*", default=[], help=of_training)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("scores", type=Path, nargs="+")
    return run_stage(parser, work, argv)


if __name__ == "__main__":
    raise SystemExit(main())
