"""Stage `figure`: one experiment's figure from its table of estimates, as PDF and SVG.

Readable in grey and by the colour-blind: lines differ in marker and dash too. The same table gives the same bytes.
"""

from argparse import Namespace
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd

from gapgrid import manifest
from gapgrid.command import run_stage, stage_parser
from gapgrid.records import atomic, sha256_file

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito's palette, told apart with every common colour blindness.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), "-")
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "gapgrid",
    "svg.fonttype": "path",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
}
Shown = dict[str, list[list[str]]]


def _panels(rows: pd.DataFrame) -> tuple[Figure, dict[str, Axes]]:
    """A panel for each family of students, side by side on one scale; panels of a grid with one family have no title."""
    families = list(dict.fromkeys(rows.sort_values("params_b")["family"]))
    width = 6.4 if len(families) == 1 else 4.6 * len(families)
    figure, axes = plt.subplots(1, len(families), figsize=(width, 4.2), sharey=True, squeeze=False)
    panels = dict(zip(families, axes[0], strict=True))
    if len(families) > 1:
        for family, panel in panels.items():
            panel.set_title(family)
    return figure, panels


def _line(axes: Axes, rows: pd.DataFrame, index: int, label: str, strong: bool = False) -> None:
    rows = rows.sort_values("params_b")
    percent = rows[["estimate", "low", "high"]] * 100
    errors = [(percent["estimate"] - percent["low"]).clip(lower=0), (percent["high"] - percent["estimate"]).clip(lower=0)]
    axes.errorbar(
        rows["params_b"] * 1e9 * (1 + 0.03 * index),  # side by side, so that no interval hides another
        percent["estimate"],
        yerr=errors,
        label=label,
        color="black" if strong else COLOURS[index % len(COLOURS)],
        marker=MARKERS[index % len(MARKERS)],
        linestyle="-" if strong else DASHES[index % len(DASHES)],
        capsize=3,
        linewidth=2.6 if strong else 1.6,
        markersize=5,
    )


def _size_axis(axes: Axes, rows: pd.DataFrame, labels: dict[str, str]) -> None:
    sizes = rows.drop_duplicates("model").sort_values("params_b")
    axes.set_xscale("log")
    axes.set_xticks(sizes["params_b"] * 1e9, [labels[model] for model in sizes["model"]])
    axes.set_xticks([], minor=True)
    axes.margins(x=0.08)
    axes.set_xlabel("student size (parameters, log scale)")


def gap_by_size(estimates: pd.DataFrame, shown: Shown, contrast: list[str]) -> Figure:
    """The contrast's gap against student size: one line a benchmark, and their average."""
    gaps = estimates[estimates["quantity"] == "gap"]
    figure, panels = _panels(gaps)
    for family, axes in panels.items():
        rows = gaps[gaps["family"] == family]
        axes.axhline(0, color="0.3", linewidth=1)
        open_ones = rows[(rows["benchmark"] == "average") & (rows["settled"] != True)]  # noqa: E712 - read from a CSV file, may be empty
        for index, size in enumerate(open_ones["params_b"]):
            axes.axvspan(size * 1e9 / 1.25, size * 1e9 * 1.25, color="0.9", zorder=0, label=OPEN if index == 0 else None)
        for index, (benchmark, label) in enumerate(shown["benchmarks"]):
            _line(axes, rows[rows["benchmark"] == benchmark], index, label)
        _line(axes, rows[rows["benchmark"] == "average"], len(shown["benchmarks"]), "average", strong=True)
        _size_axis(axes, rows, dict(shown["models"]))
    mixes = dict(shown["mixes"])
    first, last = figure.axes[0], figure.axes[-1]
    first.set_ylabel(f"{mixes[contrast[0]]} − {mixes[contrast[1]]} (percentage points)")
    last.legend(title="benchmark")
    figure.suptitle(_counts(gaps), fontsize=9, color="0.3")
    return figure


def accuracy_by_mix(estimates: pd.DataFrame, shown: Shown, contrast: list[str] | None) -> Figure:
    """Average accuracy against student size, one line a mix, with the best constant guess."""
    averages = estimates[(estimates["quantity"] == "accuracy") & (estimates["benchmark"] == "average")]
    guess = estimates[(estimates["quantity"] == "best_guess") & (estimates["benchmark"] == "average")]["estimate"].iloc[0]
    figure, panels = _panels(averages)
    for family, axes in panels.items():
        rows = averages[averages["family"] == family]
        for index, (mix, label) in enumerate(shown["mixes"]):
            _line(axes, rows[rows["mix"] == mix], index, label)
        axes.axhline(100 * guess, color="0.3", linewidth=1, linestyle=(0, (2, 2)), label="best constant guess")
        axes.set_ylim(0, 102)
        _size_axis(axes, rows, dict(shown["models"]))
    first, last = figure.axes[0], figure.axes[-1]
    first.set_ylabel("accuracy, mean of benchmarks (%)")
    last.legend(title="trained on")
    figure.suptitle(_counts(averages), fontsize=9, color="0.3")
    return figure


def _counts(rows: pd.DataFrame) -> str:
    questions = int(rows[rows["benchmark"] == "average"]["n_questions"].max())
    seeds = int(rows["n_seeds"].max())
    return f"n = {questions} questions, {seeds} training seed{'s' if seeds > 1 else ''}, bars: bootstrap interval"


OPEN = "sign of the average not settled"
PLOTS = {"gap_by_size": gap_by_size, "accuracy_by_mix": accuracy_by_mix}


def work(args: Namespace) -> None:
    """Draw, save both files and the manifest."""
    spec: dict[str, Any] = args.spec
    estimates = pd.read_csv(args.estimates, keep_default_na=False, na_values=[""])
    with plt.rc_context(STYLE):
        figure = PLOTS[spec["plot"]](estimates, spec["shown"], spec["contrast"])
        for path, metadata in ((args.pdf, {"CreationDate": None}), (args.svg, {"Date": None})):
            with atomic(path) as side:
                figure.savefig(side, format=path.suffix[1:], metadata=metadata)
        plt.close(figure)
    manifest.write(args.manifest, "figure", spec, {"estimates": sha256_file(args.estimates)}, [args.pdf.name, args.svg.name])


def main(argv: list[str] | None = None) -> int:
    """`python -m gapgrid.figure --spec … ESTIMATES PDF SVG MANIFEST`."""
    parser = stage_parser("figure", __doc__)
    for name in ("estimates", "pdf", "svg", "manifest"):
        parser.add_argument(name, type=Path)
    return run_stage(parser, work, argv)


if __name__ == "__main__":
    raise SystemExit(main())
