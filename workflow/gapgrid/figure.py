"""Stage `figure`: one experiment's figure from its table of estimates, as PDF and SVG, with its drawn points and its caption.

Where the table's notes list anything besides the contrast that differs between the cells, the figure is stamped with it.
"""

import textwrap
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from gapgrid import manifest
from gapgrid.command import run_stage, stage_parser
from gapgrid.plots import bars, curves, drawing
from gapgrid.plots.drawing import Drawn
from gapgrid.records import sha256_file, write_text

Spec = dict[str, Any]
PLOTS: dict[str, Callable[[pd.DataFrame, Spec], Drawn]] = {
    "gap_by_size": curves.gap_by_size,
    "accuracy_by_mix": curves.accuracy_by_mix,
    "by_weight": curves.by_weight,
    "bars": bars.bars,
    "pairs": bars.pairs,
}
LEGEND_TITLES = {"gap_by_size": "benchmark", "accuracy_by_mix": "trained on", "by_weight": "student"}


def draw(estimates: pd.DataFrame, spec: Spec, notes: dict[str, Any]) -> tuple[Figure, pd.DataFrame, list[str]]:
    """The finished figure, its points, and the lines of text above it."""
    drawn = PLOTS[spec["plot"]](estimates, spec)
    plot, lines = spec["plot"], drawing.counts(drawn.points, spec["confidence"], drawn.missing)
    if plot == "pairs":
        handles = bars.legend_of_pairs(spec, drawn.points)
    elif plot == "bars":
        handles = [handle for handle in curves.legend_of(drawn.figure) if handle.get_label() == curves.GUESS]
    else:
        handles = curves.legend_of(drawn.figure)
    drawing.finish(drawn.figure, lines, drawing.stamp(notes), handles, LEGEND_TITLES.get(plot))
    return drawn.figure, drawn.points, lines


def caption(notes: dict[str, Any], lines: list[str], points: str) -> str:
    """The text that goes with a figure: what it shows, under which protocol, and what is not alike in it."""
    parts = [[notes["caption"]], lines]
    for title, key in (
        (f"Not only {notes['varies']}", "differs"),
        ("Between students", "between_students"),
        ("Protocol", "protocol"),
    ):
        if notes[key]:
            parts.append([f"{title}:", *(f"- {line}" for line in notes[key])])
    parts.append([f"Drawn points: {points}"])
    wrapped = [[textwrap.fill(line, 100, subsequent_indent="  ", break_long_words=False) for line in part] for part in parts if part]
    return "\n\n".join("\n".join(part) for part in wrapped) + "\n"


def work(args: Namespace) -> None:
    """Draw; save both pictures, points, caption and the manifest."""
    spec: Spec = args.spec
    estimates = pd.read_csv(args.estimates, keep_default_na=False, na_values=[""])
    notes = drawing.read_notes(args.notes)
    with plt.rc_context(drawing.STYLE):
        figure, points, lines = draw(estimates, spec, notes)
        drawing.save(figure, args.pdf, args.svg)
    write_text(args.points, points.to_csv(index=False, lineterminator="\n", float_format="%.6g"))
    write_text(args.caption, caption(notes, lines, args.points.name))
    names = [path.name for path in (args.pdf, args.svg, args.points, args.caption)]
    inputs = {"estimates": sha256_file(args.estimates), "notes": sha256_file(args.notes)}
    manifest.write(args.manifest, "figure", spec, inputs, names)


def main(argv: list[str] | None = None) -> int:
    """`python -m gapgrid.figure --spec … ESTIMATES NOTES PDF SVG POINTS CAPTION MANIFEST`."""
    parser = stage_parser("figure", __doc__)
    for name in ("estimates", "notes", "pdf", "svg", "points", "caption", "manifest"):
        parser.add_argument(name, type=Path)
    return run_stage(parser, work, argv)


if __name__ == "__main__":
    raise SystemExit(main())
