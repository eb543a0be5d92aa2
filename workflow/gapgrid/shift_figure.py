"""Stage `shift_figure`: which token types are shifted most after each training set, and how many of them are connectors.

A type's bar is its share of all shifted tokens; the number beside it is the mean shift of all its tokens. Seeds and
benchmarks are pooled by counts. What a token is called comes from a model's vocabulary and answers: it is shown as text.
"""

import csv
import io
import textwrap
from argparse import Namespace
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.patches import Patch

from gapgrid import manifest
from gapgrid.command import run_stage, stage_parser
from gapgrid.injections import cell_text, visible
from gapgrid.plots import drawing
from gapgrid.records import InputError, Row, read_json, read_jsonl, sha256_file, write_text

# Words that turn, open or weigh a thought, where an experiment names none; a word of several tokens is not found.
CONNECTORS = (
    *("actually", "alternatively", "another", "because", "but", "finally", "first", "hence", "hmm", "however", "let", "maybe"),
    *("next", "now", "ok", "okay", "perhaps", "second", "similarly", "since", "so", "then", "therefore", "thus", "wait", "well", "yes"),
)
COUNTS = ("n", "n_shifted", "n_far", "shift_sum")
SHOWN = 12  # types a panel
LONGEST, LONGEST_CELL = 18, 200  # characters of a token on the axis, in the CSV file
COLUMNS = (
    *("model", "mix", "seed", "kind", "token", "token_id", "is_connector"),
    *(*COUNTS, "shift_max", "mean_shift", "share_shifted", "share_of_shifts"),
)
OTHER: dict[str, Any] = {"facecolor": drawing.COLOURS[0], "edgecolor": drawing.COLOURS[0]}
CONNECTOR: dict[str, Any] = {"facecolor": drawing.COLOURS[1], "edgecolor": "white", "hatch": "///"}


# ---- what is counted ----


def read_cells(files: list[Path], connectors: Iterable[str]) -> Iterator[Row]:
    """A row per token type of each cell: its coordinates, counts, and whether it is a connector, spaces and case aside."""
    words = {word.strip().casefold() for word in connectors}
    for file in files:
        model, mix, seed, benchmark = file.parts[-5:-1]
        cell = {"model": model, "mix": mix, "seed": int(seed), "benchmark": benchmark}
        for row in read_jsonl(file.with_name("shift.jsonl")):
            yield {**cell, **row, "is_connector": row["token"].strip().casefold() in words}


def points(rows: list[Row], order: list[tuple[str, str]]) -> list[Row]:
    """Tidy rows by student and mix: all tokens and the connectors, of several seeds each too, then every type, most shifted first.

    `share_of_shifts` is of all shifted tokens of the same student, mix and, where one is given, seed; null where there is none.
    """
    out = []
    for model, mix in order:
        own = [row for row in rows if (row["model"], row["mix"]) == (model, mix)]
        seeds = sorted({row["seed"] for row in own})
        for seed in [None, *(seeds if len(seeds) > 1 else ())]:
            part = [row for row in own if seed in (None, row["seed"])]
            whole = sum(row["n_shifted"] for row in part)
            name = {"model": model, "mix": mix, "seed": seed}
            out.append({**name, "kind": "all", **_tally(part, whole)})
            out.append({**name, "kind": "connectors", **_tally([row for row in part if row["is_connector"]], whole)})
        out += [{"model": model, "mix": mix, "seed": None, "kind": "type", **row} for row in _types(own)]
    return out


def _types(rows: list[Row]) -> list[Row]:
    types: dict[int, list[Row]] = {}
    for row in rows:
        types.setdefault(row["token_id"], []).append(row)
    whole = sum(row["n_shifted"] for row in rows)
    found = [{**{key: of[0][key] for key in ("token", "token_id", "is_connector")}, **_tally(of, whole)} for of in types.values()]
    return sorted(found, key=lambda row: (-row["n_shifted"], -row["shift_sum"], row["token_id"]))


def _tally(rows: list[Row], whole: int) -> Row:
    total: Row = {key: sum(row[key] for row in rows) for key in COUNTS}
    n = total["n"]
    return {
        **total,
        "shift_max": max((row["shift_max"] for row in rows), default=None),
        "mean_shift": total["shift_sum"] / n if n else None,
        "share_shifted": total["n_shifted"] / n if n else None,
        "share_of_shifts": total["n_shifted"] / whole if whole else None,
    }


def as_csv(found: list[Row]) -> str:
    """The points as CSV. A token that a spreadsheet would take for a formula has a ' in front."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in found:
        shown = {"token": cell_text(row["token"], LONGEST_CELL)} if "token" in row else {}
        numbers = {key: f"{value:.6g}" for key, value in row.items() if isinstance(value, float)}
        writer.writerow({**row, **numbers, **shown})
    return text.getvalue()


# ---- what is drawn ----


def token_text(token: str) -> str:
    r"""A token as one line of text that the figure's font has: spaces as ␣, what has no glyph as \u{…}, long ones cut."""
    font = get_font(findfont(FontProperties(family="DejaVu Sans")))
    text = visible(token).replace("\n", "\\n").replace("\t", "\\t").replace(" ", "␣")
    text = "".join(char if font.get_char_index(ord(char)) else f"\\u{{{ord(char):04X}}}" for char in text)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def panel(axes: Axes, rows: list[Row], title: str) -> None:
    """One student after one mix: a bar a type, connectors hatched, the mean shift beside it."""
    total, connectors = (next(row for row in rows if row["kind"] == kind and row["seed"] is None) for kind in ("all", "connectors"))
    types = [row for row in rows if row["kind"] == "type" and row["n_shifted"]][:SHOWN]
    for place, row in enumerate(types):
        share = 100 * row["share_of_shifts"]
        axes.barh(place, share, height=0.75, **(CONNECTOR if row["is_connector"] else OTHER))
        axes.annotate(f"+{row['mean_shift']:.1f}", (share, place), (3, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_yticks(range(len(types)), [token_text(row["token"]) for row in types], fontsize=9)
    axes.set_ylim(SHOWN - 0.4, -0.6)
    axes.set_xlim(0, 1.22 * max((100 * row["share_of_shifts"] for row in types), default=1))
    axes.grid(axis="y", visible=False)
    said = f"{total['n']:,} tokens, {100 * total['share_shifted']:.1f} % shifted" if total["n"] else "no tokens"
    if connectors["share_of_shifts"] is not None:
        said += f"\nof these {100 * connectors['share_of_shifts']:.1f} % connectors"
    axes.set_title(f"{textwrap.fill(title, 28)}\n{said}", fontsize=9)


def draw(found: list[Row], spec: dict[str, Any], lines: list[str], stamp: str | None) -> Figure:
    """A panel for each student (down) and mix (across)."""
    models, mixes = spec["shown"]["models"], spec["shown"]["mixes"]
    figure, axes = plt.subplots(len(models), len(mixes), figsize=(3.4 * max(2, len(mixes)), 3.7 * len(models)), squeeze=False)
    for down, (model, student) in enumerate(models):
        for across, (mix, label) in enumerate(mixes):
            own = [row for row in found if (row["model"], row["mix"]) == (model, mix)]
            panel(axes[down, across], own, f"{student}, {label}" if len(models) > 1 else label)
    for axis in axes[-1]:
        axis.set_xlabel("share of shifted tokens (%)")
    handles = [Patch(label="stylistic connector", **CONNECTOR), Patch(label="other token", **OTHER)]
    drawing.finish(figure, lines, stamp, handles)
    return figure


def counts(files: list[Path], spec: dict[str, Any]) -> list[str]:
    """Lines above the figure: whose answers, how many, how many are left out, and what the numbers are."""
    cells = [read_json(file.with_name("shift.json")) for file in files]
    n_answers, n_lost = (sum(cell[key] for cell in cells) for key in ("n_answers", "n_mismatched"))
    seeds = len({file.parts[-3] for file in files})
    names = ", ".join(label for _, label in spec["shown"]["benchmarks"])
    students = [label for _, label in spec["shown"]["models"]]
    whose = f"student {students[0]}, " if len(students) == 1 else ""
    left_out = f", {n_lost} left out, as their text gives back other tokens" if n_lost else ""
    asked = f"{whose}{names}: {n_answers} greedy answers of {seeds} training seed{'s' if seeds > 1 else ''}{left_out}"
    return [asked, "shifted: not the untouched student's first choice; beside each bar the mean shift (rank − 1) of the type"]


def work(args: Namespace) -> None:
    """Count, draw; save both pictures, the numbers and the manifest."""
    spec, notes = args.spec, drawing.read_notes(args.notes)
    if missing := [cell for cell, file in zip(spec["cells"], args.shifts, strict=True) if [*file.parts[-5:-1]] != list(map(str, cell))]:
        raise InputError(f"shift_figure: no shifts of {'/'.join(map(str, missing[0]))} at its place on the command line")
    order = [(model, mix) for model, _ in spec["shown"]["models"] for mix, _ in spec["shown"]["mixes"]]
    found = points(list(read_cells(args.shifts, spec.get("connectors", CONNECTORS))), order)
    with plt.rc_context(drawing.STYLE):
        figure = draw(found, spec, counts(args.shifts, spec), drawing.stamp(notes))
        drawing.save(figure, args.pdf, args.svg)
    write_text(args.points, as_csv(found))
    inputs = {"/".join(file.parts[-5:-1]): sha256_file(file) for file in args.shifts} | {"notes": sha256_file(args.notes)}
    manifest.write(args.manifest, "shift_figure", spec, inputs, [args.pdf.name, args.svg.name, args.points.name])


def main(argv: list[str] | None = None) -> int:
    """`python -m gapgrid.shift_figure --spec … NOTES PDF SVG POINTS MANIFEST SHIFT_MANIFESTS…`."""
    parser = stage_parser("shift_figure", __doc__)
    for name in ("notes", "pdf", "svg", "points", "manifest"):
        parser.add_argument(name, type=Path)
    parser.add_argument("shifts", type=Path, nargs="+", help="the manifests of stage shift, in the order of the spec's cells")
    return run_stage(parser, work, argv)


if __name__ == "__main__":
    raise SystemExit(main())
