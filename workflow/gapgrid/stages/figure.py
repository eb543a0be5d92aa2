"""Stage `figure`: one experiment's figure as PDF and SVG, with its drawn points and its caption.

It is drawn from the experiment's table of estimates. Where the table's notes list confounders, the
figure has a warning banner that names them.
"""

import textwrap
from argparse import Namespace
from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from gapgrid.core import manifest
from gapgrid.core.records import Row, sha256_file, write_text
from gapgrid.core.spec_types import FigureSpec
from gapgrid.core.stage_cli import run_stage, stage_parser
from gapgrid.reporting.plots import bars, curves, style
from gapgrid.reporting.plots.style import Drawn

PLOTS: dict[str, Callable[[pd.DataFrame, FigureSpec], Drawn]] = {
    "gap_by_size": curves.gap_by_size,
    "accuracy_by_mix": curves.accuracy_by_mix,
    "by_weight": curves.by_weight,
    "bars": bars.bars,
    "pairs": bars.pairs,
}
LEGEND_TITLES = {
    "gap_by_size": "benchmark",
    "accuracy_by_mix": "trained on",
    "by_weight": "student",
}


def draw(
    estimates: pd.DataFrame, spec: FigureSpec, notes: Row
) -> tuple[Figure, pd.DataFrame, list[str]]:
    """Return the finished figure, its points, and the lines of text above it."""
    drawn = PLOTS[spec["plot"]](estimates, spec)
    lines = style.summary(drawn.points, spec["confidence"], drawn.missing)
    title = LEGEND_TITLES.get(spec["plot"])
    style.finish(drawn.figure, lines, style.warning(notes), drawn.handles, title)
    return drawn.figure, drawn.points, lines


def caption(notes: Row, lines: Iterable[str], points: str) -> str:
    """Return a figure's caption: what it shows, which confounders it has, under which protocol."""
    parts = [[notes["caption"]], lines]
    for title, key in (
        (f"Not only {notes['varies']}", "differs"),
        ("Between students", "between_students"),
        ("Protocol", "protocol"),
    ):
        if notes[key]:
            parts.append([f"{title}:", *(f"- {line}" for line in notes[key])])
    parts.append([f"Drawn points: {points}"])
    wrapper = textwrap.TextWrapper(100, subsequent_indent="  ", break_long_words=False)
    return "\n\n".join("\n".join(map(wrapper.fill, part)) for part in parts if part) + "\n"


def work(args: Namespace) -> None:
    """Draw the figure; write both pictures, points, caption and the manifest."""
    spec: FigureSpec = args.spec
    estimates = pd.read_csv(args.estimates, keep_default_na=False, na_values=[""])
    notes = style.read_notes(args.notes)
    with plt.rc_context(style.STYLE):
        figure, points, lines = draw(estimates, spec, notes)
        style.save(figure, args.pdf, args.svg)
    write_text(args.points, points.to_csv(index=False, lineterminator="\n", float_format="%.6g"))
    write_text(args.caption, caption(notes, lines, args.points.name))
    names = [path.name for path in (args.pdf, args.svg, args.points, args.caption)]
    inputs = {"estimates": sha256_file(args.estimates), "notes": sha256_file(args.notes)}
    manifest.write(args.manifest, "figure", args.spec, inputs, names)


def main(argv: list[str] | None = None) -> int:
    """Run `--spec … ESTIMATES NOTES PDF SVG POINTS CAPTION MANIFEST`."""
    parser = stage_parser("figure", __doc__)
    for name in ("estimates", "notes", "pdf", "svg", "points", "caption", "manifest"):
        parser.add_argument(name, type=Path)
    return run_stage(parser, work, argv)


if __name__ == "__main__":
    raise SystemExit(main())
