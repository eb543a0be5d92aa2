"""Stage `table`: an experiment's score rows, its accuracies and gaps with intervals, and both as text for people and papers.

Files, named after the experiment: `.csv` (score rows, one a cell, and their averages), `.estimates.csv`, `.md`, `.tex`,
`.notes.json` (caption, protocol and what spoils the comparison), and, if others have published numbers, `.paper.csv`.
"""

import csv
import io
import json
from argparse import Namespace
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gapgrid import comparability, estimating, manifest
from gapgrid.command import run_stage, stage_parser
from gapgrid.estimating import Verdicts, names
from gapgrid.records import InputError, Row, fail_if, read_json, read_jsonl, remove, sha256_file, write_text
from gapgrid.statistics import AVERAGE
from gapgrid.tables import published, sheets, typeset

CELL = ("model", "mix", "seed", "benchmark")
# First what people look for; then whatever else a score holds, by name.
FIRST = (*CELL, "acc", "acc_low", "acc_high", "acc_finished", "share_truncated", "share_no_answer", "n", "n_problems")
LAST = ("differs", "verdicts_sha256")
SUFFIXES = (".csv", ".estimates.csv", ".md", ".tex", ".notes.json")
PAPER = ".paper.csv"


class Made(NamedTuple):
    """An experiment's files by suffix, and how many of its cells are missing."""

    files: dict[str, str]
    n_missing: int


def read_scores(files: Iterable[Path]) -> list[Row]:
    """Score rows, one a cell, sorted by coordinates."""
    return sorted((read_json(file) for file in files), key=lambda row: tuple(row[key] for key in CELL))


def read_outcomes(files: Iterable[Path]) -> Verdicts:
    """Cell -> outcome per question: the share of its repeats that are right, NaN if none has a verdict; by question."""
    outcomes: dict[estimating.Cell, Any] = {}
    for file in files:
        score = read_json(file)
        answers: dict[int, list[float]] = {}
        for row in read_jsonl(file.with_name("verdicts.jsonl")):
            said = answers.setdefault(row["doc_id"], [])
            if row["verdict"] != "unparsed":
                said.append(float(row["verdict"] == "correct"))
        model, mix, seed, benchmark = (score[key] for key in CELL)
        outcomes[model, mix, seed, benchmark] = np.array([np.mean(said) if said else np.nan for _, said in sorted(answers.items())])
    return outcomes


def averages(scores: Sequence[Row], benchmarks: Sequence[str]) -> list[Row]:
    """Per training cell with all benchmarks: plain means of its shares, accuracies and lengths, sums of its counts.

    A mean of something that a benchmark has not (the length of right answers where none is right) is missing.
    """
    groups: dict[tuple[Any, ...], dict[str, Row]] = {}
    for row in scores:
        groups.setdefault(tuple(row[key] for key in CELL[:3]), {})[row["benchmark"]] = row
    found = []
    for cell, rows in groups.items():
        if not set(benchmarks) <= rows.keys():
            continue
        values: Row = {**dict(zip(CELL, cell, strict=False)), "benchmark": AVERAGE}
        for key in rows[benchmarks[0]].keys() - {*CELL, "verdicts_sha256"}:
            parts = [rows[name].get(key) for name in benchmarks]
            known = [part for part in parts if part is not None]
            is_count = key == "n" or key.startswith("n_")
            values[key] = (sum(known) if is_count else float(np.mean(known))) if len(known) == len(parts) else None
        found.append(values)
    return found


def score_rows(spec: Row, scores: Sequence[Row], differs: str) -> list[Row]:
    """One row a cell, empty where it is missing, then the averages; sorted by coordinates."""
    known = {tuple(row[key] for key in CELL): row for row in scores}
    cells = [known.get(tuple(cell), dict(zip(CELL, cell, strict=True))) for cell in spec["cells"]]
    rows = [*cells, *averages(scores, names(spec, "benchmarks"))]
    rows.sort(key=lambda row: (*(row[key] for key in CELL[:3]), row["benchmark"] == AVERAGE, row["benchmark"]))
    return [{**row, "differs": differs} for row in rows]


def csv_text(columns: Sequence[str], rows: Iterable[Row], floats: str = "") -> str:
    """Rows as CSV; what is not there is empty. `floats` is their format."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        values = (row.get(column) for column in columns)
        writer.writerow([format(value, floats) if isinstance(value, float) and floats else value for value in values])
    return file.getvalue()


def trained(files: Iterable[Path], spec: Row) -> list[comparability.Settings]:
    """What the manifests of the experiment's training cells say of steps and engine; an untouched student has neither."""
    wanted = {tuple(cell[:3]) for cell in spec["cells"]}
    found = {}
    for file in files:
        model, mix, seed = file.parts[-4:-1]
        content = manifest.read(file)
        if mix == estimating.UNTOUCHED or (model, mix, int(seed)) not in wanted or "adopt" in content["spec"]:
            continue
        values: dict[comparability.Key, Any] = {}
        if "n_steps" in content.get("facts", {}):
            values[comparability.STEPS] = content["facts"]["n_steps"]
        if content.get("engines"):
            values["engine", "versions that trained"] = dict(content["engines"])
        student = spec["models"][model]["student"]
        found[model, mix, int(seed)] = comparability.Settings(student, model, mix, values)
    models, mixes = names(spec, "models"), names(spec, "mixes")
    return [found[key] for key in sorted(found, key=lambda key: (models.index(key[0]), mixes.index(key[1]), key[2]))]


def notes(spec: Row, scores: Sequence[Row], manifests: Iterable[Path], extra: Sequence[str] = ()) -> Row:
    """Caption, protocol, what differs within and between students, and how many cells are missing."""
    seen = trained(manifests, spec)
    differs = [*(comparability.Difference(*one) for one in spec["differs"]), *comparability.within(seen, spec["varies"])]
    between = [*(comparability.Difference(*one) for one in spec["between"]), *comparability.between(seen)]
    n_missing = len(spec["cells"]) - len(scores)
    missing = [f"{n_missing} of {len(spec['cells'])} cells are missing; they are shown as –"] if n_missing else []
    return {
        "caption": " ".join([spec["caption"], *(f"{line}." for line in missing)]).strip(),
        "protocol": [*spec["protocol"], _counts(spec, scores), *missing, *extra],
        "differs": [one.line() for one in differs],
        "varies": " and ".join(f"the {name}" for name in spec["varies"]) + (" differ" if len(spec["varies"]) > 1 else " differs"),
        "differs_in": sorted({one.name for one in differs}),
        "between_students": [one.line() for one in between],
        "n_missing": n_missing,
    }


def _counts(spec: Row, scores: Sequence[Row]) -> str:
    seeds = sorted({cell[2] for cell in spec["cells"] if cell[1] != estimating.UNTOUCHED} or {cell[2] for cell in spec["cells"]})
    n = sum({row["benchmark"]: row["n_problems"] for row in scores}.values())
    return f"training seeds: {', '.join(map(str, seeds))}; {n:,} questions over {len(spec['shown']['benchmarks'])} benchmark(s)"


def build(spec: Row, files: Sequence[Path], manifests: Iterable[Path], extra: Sequence[str] = ()) -> Made:
    """All files of an experiment from the scores that there are; `extra` are lines for the protocol."""
    wanted = {tuple(cell) for cell in spec["cells"]}
    scores = [row for row in read_scores(files) if tuple(row[key] for key in CELL) in wanted]
    said = notes(spec, scores, manifests, extra)
    differs = "; ".join(said["differs_in"])
    estimates = [*estimating.rows(spec, read_outcomes(files)), *estimating.guess_rows(spec, scores)]
    shown = score_rows(spec, scores, differs)
    columns = [*FIRST, *sorted({key for row in shown for key in row} - {*FIRST, *LAST}), *LAST]
    beside = published.beside(spec, estimates)
    sheet = sheets.sheet(spec, estimates, shown, beside, said)
    made = {
        ".csv": csv_text(columns, shown),
        ".estimates.csv": csv_text(estimating.COLUMNS, ({**row, "differs": differs} for row in estimates), ".9g"),
        ".md": typeset.markdown(sheet),
        ".tex": typeset.latex(sheet),
        ".notes.json": json.dumps(said, indent=1, ensure_ascii=False, sort_keys=True) + "\n",
    }
    return Made({**made, **({PAPER: csv_text(published.COLUMNS, beside, ".9g")} if beside else {})}, said["n_missing"])


def write(made: Made, folder: Path, experiment: str) -> list[str]:
    """Write the files; a comparison with published numbers of which there are none any more goes. Returns their names."""
    for suffix, text in made.files.items():
        write_text(folder / f"{experiment}{suffix}", text)
    if PAPER not in made.files:
        remove(folder / f"{experiment}{PAPER}")
    return [f"{experiment}{suffix}" for suffix in made.files]


def work(args: Namespace) -> None:
    """Read the cells' scores, write the tables and the manifest; here no score may be missing."""
    if not args.manifest.name.endswith(".manifest.json"):
        raise InputError(f"{args.manifest}: expected EXPERIMENT.manifest.json")
    there = {tuple(row[key] for key in CELL) for row in read_scores(args.scores)}
    fail_if([f"table: no score of {'/'.join(map(str, cell))}" for cell in args.spec["cells"] if tuple(cell) not in there])
    made = build(args.spec, args.scores, args.trained)
    written = write(made, args.manifest.parent, args.manifest.name.removesuffix(".manifest.json"))
    inputs = {"/".join(file.parts[-5:-1]): sha256_file(file) for file in args.scores}
    manifest.write(args.manifest, "table", args.spec, inputs, written)


def main(argv: list[str] | None = None) -> int:
    """`python -m gapgrid.table --spec … [--trained MANIFESTS…] -- MANIFEST SCORES…`; the other files go beside the manifest."""
    parser = stage_parser("table", __doc__)
    parser.add_argument("--trained", type=Path, nargs="*", default=[], help="manifests of the training cells")
    parser.add_argument("manifest", type=Path)
    parser.add_argument("scores", type=Path, nargs="+")
    return run_stage(parser, work, argv)


if __name__ == "__main__":
    raise SystemExit(main())
