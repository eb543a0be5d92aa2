"""Stage `shift_figure`: which token types each training set shifts most, and which are connectors.

A type's bar is its share of all shifted tokens; the number beside it is the mean shift of all its
tokens. Counts are pooled over seeds and benchmarks. A token's name comes from a model's vocabulary
and answers, so it is shown as text.
"""

import csv
import io
from argparse import Namespace
from collections.abc import Iterable, Iterator
from pathlib import Path

from matplotlib import pyplot as plt

from gapgrid.core import manifest
from gapgrid.core.cells import Cell
from gapgrid.core.records import InputError, Row, read_json, read_jsonl, sha256_file, write_text
from gapgrid.core.spec_types import ShiftFigureSpec
from gapgrid.core.stage_cli import run_stage, stage_parser
from gapgrid.core.text import cell_text
from gapgrid.reporting.plots import style
from gapgrid.reporting.plots.token_shift import draw

# Words that turn, open or weigh a thought: the default of an experiment that names none. A word of
# several tokens is never counted.
CONNECTORS = (
    *("actually", "alternatively", "another", "because", "but", "finally", "first", "hence", "hmm"),
    *("however", "let", "maybe", "next", "now", "ok", "okay", "perhaps", "second", "similarly"),
    *("since", "so", "then", "therefore", "thus", "wait", "well", "yes"),
)
COUNTS = ("n", "n_shifted", "n_far", "shift_sum")
MOST_TOKEN = 200  # characters of a token in the CSV file
COLUMNS = (
    *("model", "mix", "seed", "kind", "token", "token_id", "is_connector"),
    *(*COUNTS, "shift_max", "mean_shift", "share_shifted", "share_of_shifts"),
)


# ---- what is counted ----


def read_cells(files: Iterable[Path], connectors: Iterable[str]) -> Iterator[Row]:
    """Yield a row per token type of each cell: its coordinates, counts, and `is_connector`.

    Connectors are compared without regard to spaces around them and case.
    """
    words = {word.strip().casefold() for word in connectors}
    for file in files:
        cell = Cell.of_file(file)._asdict()
        for row in read_jsonl(file.with_name("shift.jsonl")):
            yield {**cell, **row, "is_connector": row["token"].strip().casefold() in words}


def points(rows: list[Row], order: list[tuple[str, str]]) -> list[Row]:
    """Return tidy rows by student and mix, in this order.

    First all tokens and the connectors, pooled and, of several seeds, by seed; then every type,
    most shifted first. `share_of_shifts` is of all shifted tokens of the same student, mix and, if
    given, seed; None where none is shifted.
    """
    out = []
    for model, mix in order:
        own = [row for row in rows if (row["model"], row["mix"]) == (model, mix)]
        seeds = sorted({row["seed"] for row in own})
        for seed in [None, *(seeds if len(seeds) > 1 else ())]:
            part = [row for row in own if seed in (None, row["seed"])]
            n_shifted = sum(row["n_shifted"] for row in part)
            name = {"model": model, "mix": mix, "seed": seed}
            out.append({**name, "kind": "all", **_pooled(part, n_shifted)})
            part = [row for row in part if row["is_connector"]]
            out.append({**name, "kind": "connectors", **_pooled(part, n_shifted)})
        name = {"model": model, "mix": mix, "seed": None, "kind": "type"}
        out += [name | row for row in _types(own)]
    return out


def _types(rows: list[Row]) -> list[Row]:
    types: dict[int, list[Row]] = {}
    for row in rows:
        types.setdefault(row["token_id"], []).append(row)
    n_shifted = sum(row["n_shifted"] for row in rows)
    pooled = []
    for same in types.values():
        name = {key: same[0][key] for key in ("token", "token_id", "is_connector")}
        pooled.append(name | _pooled(same, n_shifted))
    return sorted(pooled, key=lambda row: (-row["n_shifted"], -row["shift_sum"], row["token_id"]))


def _pooled(rows: list[Row], n_shifted: int) -> Row:
    """Return the sums of rows and what follows from them; `n_shifted` is of all types."""
    total: Row = {key: sum(row[key] for row in rows) for key in COUNTS}
    n = total["n"]
    return {
        **total,
        "shift_max": max((row["shift_max"] for row in rows), default=None),
        "mean_shift": total["shift_sum"] / n if n else None,
        "share_shifted": total["n_shifted"] / n if n else None,
        "share_of_shifts": total["n_shifted"] / n_shifted if n_shifted else None,
    }


def as_csv(rows: Iterable[Row]) -> str:
    """Return points as CSV; a token that a spreadsheet takes for a formula gets a ' in front."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        token = {"token": cell_text(row["token"], MOST_TOKEN)} if "token" in row else {}
        numbers = {key: f"{value:.6g}" for key, value in row.items() if isinstance(value, float)}
        writer.writerow({**row, **numbers, **token})
    return text.getvalue()


# ---- what is drawn ----


def header(files: list[Path], spec: ShiftFigureSpec) -> list[str]:
    """Return the lines above the figure: whose answers, how many, and what the numbers are."""
    cells = [read_json(file.with_name("shift.json")) for file in files]
    n_answers, n_lost = (sum(cell[key] for cell in cells) for key in ("n_answers", "n_mismatched"))
    n_seeds = len({Cell.of_file(file).seed for file in files})
    benchmarks = ", ".join(label for _, label in spec["shown"]["benchmarks"])
    students = [label for _, label in spec["shown"]["models"]]
    whose = f"student {students[0]}, {benchmarks}" if len(students) == 1 else benchmarks
    seeds = f"{n_seeds} training seed{'s' if n_seeds > 1 else ''}"
    lost = f", {n_lost} left out, as their text gives back other tokens" if n_lost else ""
    return [
        f"{whose}: {n_answers} greedy answers of {seeds}{lost}",
        "shifted: not the untouched student's first choice; "
        "beside each bar the mean shift (rank − 1) of the type",
    ]


def work(args: Namespace) -> None:
    """Count and draw; write both pictures, the points and the manifest."""
    spec: ShiftFigureSpec = args.spec
    notes = style.read_notes(args.notes)
    cells = [Cell.of_file(file) for file in args.shifts]
    for expected, cell, file in zip(spec["cells"], cells, args.shifts, strict=True):
        if cell != Cell(*expected):
            raise InputError(
                f"shift_figure: expected the shifts of {Cell(*expected)}, found {file}"
            )
    shown = spec["shown"]
    order = [(model, mix) for model, _ in shown["models"] for mix, _ in shown["mixes"]]
    rows = points(list(read_cells(args.shifts, spec.get("connectors", CONNECTORS))), order)
    with plt.rc_context(style.STYLE):
        figure = draw(rows, spec, header(args.shifts, spec), style.warning(notes))
        style.save(figure, args.pdf, args.svg)
    write_text(args.points, as_csv(rows))
    inputs = {str(cell): sha256_file(file) for cell, file in zip(cells, args.shifts, strict=True)}
    inputs["notes"] = sha256_file(args.notes)
    outputs = [file.name for file in (args.pdf, args.svg, args.points)]
    manifest.write(args.manifest, "shift_figure", args.spec, inputs, outputs)


def main(argv: list[str] | None = None) -> int:
    """Run `--spec … NOTES PDF SVG POINTS MANIFEST SHIFT_MANIFESTS…`."""
    parser = stage_parser("shift_figure", __doc__)
    for name in ("notes", "pdf", "svg", "points", "manifest"):
        parser.add_argument(name, type=Path)
    in_order = "the manifests of stage shift, in the order of the spec's cells"
    parser.add_argument("shifts", type=Path, nargs="+", help=in_order)
    return run_stage(parser, work, argv)


if __name__ == "__main__":
    raise SystemExit(main())
