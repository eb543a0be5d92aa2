"""What all figures share: one style, panels, intervals, lines of text above, a legend below, and the table of what is drawn.

Told apart without colour: each series has a marker, a dash or a hatch of its own. The same numbers give the same bytes.
"""

import textwrap
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from gapgrid.records import InputError, atomic, read_json

# Okabe and Ito's palette, told apart with every common colour blindness; neighbours differ in lightness too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#999999")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 3)))
HATCHES = ("", "///", "...", "\\\\\\", "xxx", "++", "oo")
UNTOUCHED = "none"
WIDEST = 12.0  # inches of a row of panels
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "gapgrid",
    "svg.fonttype": "path",
    "font.size": 10,
    "text.parse_math": False,  # names are text: a dollar sign in one starts no formula
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.3,
    "hatch.linewidth": 0.6,
    "legend.frameon": False,
    "legend.handlelength": 3,
    "figure.constrained_layout.use": True,
}
GREY, WARNING = "0.45", "#9B1C1C"
NOTES = ("caption", "protocol", "differs", "varies", "between_students", "n_missing")
MARGIN = 0.08  # inches around text
COLUMNS = [
    "panel",
    "series",
    "x",
    "model",
    "mix",
    "minus",
    "benchmark",
    "value",
    "low",
    "high",
    "unit",
    "settled",
    "n_questions",
    "n_seeds",
]


class Drawn(NamedTuple):
    """A figure before its texts, what is drawn in it as tidy rows (`COLUMNS`, in per cent or points), and what is not there to draw."""

    figure: Figure
    points: pd.DataFrame
    missing: list[str]


# ---- what is drawn ----


def known(estimates: pd.DataFrame, quantity: str, benchmark: str | None = "average") -> pd.DataFrame:
    """The rows of one quantity that have a value, on one benchmark or (None) on all and their average."""
    rows = estimates[(estimates["quantity"] == quantity) & estimates["estimate"].notna()]
    return rows if benchmark is None else rows[rows["benchmark"] == benchmark]


def points(rows: pd.DataFrame, panel: str, series: str, x: Any) -> pd.DataFrame:
    """Tidy rows of one series, in per cent or, of gaps, in points; `x` is a value or one for each row."""
    found = rows.reindex(columns=COLUMNS[3:])
    found[["value", "low", "high"]] = 100 * rows[["estimate", "low", "high"]]
    found["unit"] = np.where(rows["quantity"] == "gap", "points", "%")
    found.insert(0, "panel", panel)
    found.insert(1, "series", series)
    found.insert(2, "x", x)
    return found


def gathered(parts: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """All points in the order drawn; none is a table of columns alone."""
    there = [part.astype(object) for part in parts if len(part)]
    found = pd.concat(there, ignore_index=True) if there else pd.DataFrame(columns=COLUMNS)
    return found.astype({"value": float, "low": float, "high": float, "n_questions": "Int64", "n_seeds": "Int64"})


def is_settled(row: Any) -> bool:
    """Whether a gap's sign is settled; read from a CSV file, where it may be empty."""
    return str(row) == "True"


def counts(found: pd.DataFrame, confidence: float, missing: Sequence[str]) -> list[str]:
    """Lines above a figure: how much was asked and of how many seeds, what the bars are, and how much is missing."""
    lines = []
    if len(found):
        questions, seeds = found["n_questions"].dropna(), found["n_seeds"].dropna()
        kinds = "questions and seeds" if len(seeds) and seeds.max() > 1 else "questions"
        text = f"n = {_range(questions, 'question')}, {_range(seeds, 'training seed')}"
        lines.append(f"{text}; {100 * confidence:g} % intervals over {kinds}")
    if missing:
        lines.append(f"{len(missing)} of {len(found) + len(missing)} points missing, their cells are not built: {', '.join(missing)}")
    return lines


def _range(values: pd.Series, unit: str) -> str:
    if values.empty:
        return f"? {unit}s"
    low, high = int(values.min()), int(values.max())
    return f"{low}{'' if low == high else f' to {high}'} {unit}{'' if high == 1 else 's'}"


def looks(mixes: Sequence[Sequence[str]]) -> dict[str, int]:
    """By mix, the place of its colour, marker, dash and hatch; the untouched student has the last ones, so that it moves no other."""
    trained = [mix for mix, _ in mixes if mix != UNTOUCHED]
    return {UNTOUCHED: len(COLOURS) - 1, **{mix: place for place, mix in enumerate(trained)}}


# ---- primitives ----


def sheet(titles: Sequence[str], widths: Sequence[float], height: float = 3.6) -> tuple[Figure, list[Axes]]:
    """Panels side by side on one scale, in as few even rows as are no wider than `WIDEST`; a single panel has no title. All in inches."""
    n_rows = -(-sum(widths) // WIDEST)
    n_columns = int(-(-len(titles) // n_rows))
    n_rows = -(-len(titles) // n_columns)
    size = (max(sum(widths[:n_columns]), 4.8), height * n_rows)
    shape: dict[str, Any] = {"width_ratios": widths[:n_columns], "sharey": True, "squeeze": False}
    figure, grid = plt.subplots(n_rows, n_columns, figsize=size, **shape)
    axes = list(grid.flat)
    for spare in axes[len(titles) :]:
        spare.remove()
    if len(titles) > 1:
        for axis, title in zip(axes, titles, strict=False):
            axis.set_title(wrapped(title, widths[0]), fontsize=10)
    return figure, axes[: len(titles)]


def whiskers(axes: Axes, x: Any, rows: pd.DataFrame, **style: Any) -> None:
    """Intervals as bars, without a line or a marker."""
    values = 100 * rows[["estimate", "low", "high"]].astype(float)
    errors = [(values["estimate"] - values["low"]).clip(lower=0), (values["high"] - values["estimate"]).clip(lower=0)]
    axes.errorbar(x, values["estimate"], yerr=errors, fmt="none", **style)


def line(axes: Axes, x: Any, rows: pd.DataFrame, index: int, label: str, strong: bool = False, is_gap: bool = False) -> None:
    """A line with a marker a point, hollow where a gap's sign is not settled; `strong`, the average, is black and wide."""
    colour = "black" if strong else COLOURS[index % len(COLOURS)]
    marker, dash = ("o", "-") if strong else (MARKERS[index % len(MARKERS)], DASHES[index % len(DASHES)])
    size, order = (6.5, 5) if strong else (5.5, 3)
    style: dict[str, Any] = {"color": colour, "linestyle": dash, "linewidth": 2.4 if strong else 1.4, "marker": marker, "markersize": size}
    if rows.empty:
        axes.plot([], [], label=label, **style)
        return
    width, cap, alpha = (1.6, 3, 1) if strong else (1, 2, 0.6)
    whiskers(axes, x, rows, ecolor=colour, elinewidth=width, capsize=cap, zorder=order, alpha=alpha)
    values = 100 * rows["estimate"].astype(float)
    axes.plot(x, values, label=label, zorder=order, clip_on=False, **style)  # a marker on the axis is seen whole
    is_open = np.array([is_gap and not is_settled(flag) for flag in rows["settled"]])
    if is_open.any():
        hollow: dict[str, Any] = {"markerfacecolor": "white", "markeredgecolor": colour, "markeredgewidth": 1.3}
        axes.plot(np.asarray(x)[is_open], values[is_open], linestyle="none", marker=marker, markersize=size, zorder=order + 1, **hollow)


def hollow_handle() -> Line2D:
    """The legend's word for a hollow marker."""
    hollow: dict[str, Any] = {"markerfacecolor": "white", "markeredgecolor": GREY, "markeredgewidth": 1.3}
    return Line2D([], [], linestyle="none", marker="o", label="hollow: sign not settled", **hollow)


# ---- texts around the panels ----


def wrapped(text: str, inches: float = 3.0) -> str:
    """A label in lines of about so many inches."""
    return textwrap.fill(text, int(10 * inches), break_long_words=False)


def extent(figure: Figure, artist: Text | Legend) -> Bbox:
    """Where an artist will be, in inches."""
    box = artist.get_window_extent(figure.canvas.get_renderer())  # type: ignore[attr-defined]
    return Bbox(box.get_points() / figure.dpi)


def fitted(figure: Figure, text: str, width: float, most: int, **style: Any) -> list[str]:
    """`text` in lines of at most `width` inches; what does not fit into `most` of them is cut, with an ellipsis."""

    def is_narrow(words: list[str]) -> bool:
        probe = figure.text(0, 0, " ".join(words), **style)
        found = extent(figure, probe).width
        probe.remove()
        return found <= width

    lines: list[list[str]] = [[]]
    for word in text.split():
        if lines[-1] and not is_narrow([*lines[-1], word]):
            if len(lines) == most:
                while len(lines[-1]) > 1 and not is_narrow([*lines[-1], "…"]):
                    lines[-1].pop()
                lines[-1].append("…")
                break
            lines.append([])
        lines[-1].append(word)
    return [" ".join(line) for line in lines if line]


def finish(figure: Figure, lines: Sequence[str], stamp: str | None, handles: Sequence[Any], title: str | None = None) -> None:
    """Put texts above and the legend below the panels, each in a strip of its own, so that nothing can overlap.

    `stamp` is a warning in a frame, of two lines at most. The sheet grows by the strips; the panels keep their size.
    """
    width, height = figure.get_size_inches()
    room = width - 4 * MARGIN
    small = {"fontsize": 9, "color": "0.3"}
    shown = [part for text in lines for part in fitted(figure, text, room, 2, **small)]
    warned = fitted(figure, stamp, room, 2, fontsize=9, weight="bold") if stamp else []
    legend = _legend(figure, handles, title, width) if handles else None
    above = 0.17 * len(shown) + (0.17 * len(warned) + 3 * MARGIN if warned else 0) + MARGIN
    below = extent(figure, legend).height + MARGIN if legend else 0.0
    total = height + above + below
    figure.set_size_inches(width, total)
    figure.get_layout_engine().set(rect=(0, below / total, 1, height / total))  # type: ignore[union-attr, call-arg]
    top = 1 - MARGIN / total
    if warned:
        frame = {"boxstyle": "square,pad=0.35", "facecolor": "white", "edgecolor": WARNING, "linewidth": 1.6}
        style = {"fontsize": 9, "weight": "bold", "color": WARNING, "linespacing": 1.2, "bbox": frame}
        figure.text(0.5, top - MARGIN / total, "\n".join(warned), ha="center", va="top", **style)  # type: ignore[arg-type]
        top -= (0.17 * len(warned) + 3 * MARGIN) / total
    if shown:
        figure.text(0.5, top, "\n".join(shown), ha="center", va="top", linespacing=1.2, **small)  # type: ignore[arg-type]
    for axes in figure.axes:
        spread_labels(figure, axes)
    _settle(figure)


def read_notes(path: Path) -> dict[str, Any]:
    """The notes of an experiment's table; an `InputError` names the keys that are missing."""
    notes = read_json(path)
    missing = [key for key in NOTES if not isinstance(notes, dict) or key not in notes]
    if missing:
        raise InputError(f"{path}: no key {', '.join(missing)}; expected the notes that stage table writes")
    return notes


def stamp(notes: dict[str, Any]) -> str | None:
    """What spoils the comparison, in the words of a table's notes; None if nothing does."""
    return f"not only {notes['varies']}: {'; '.join(notes['differs'])}" if notes["differs"] else None


def save(figure: Figure, pdf: Path, svg: Path) -> None:
    """Write a figure as PDF and SVG without a date, so that the same figure is the same bytes, and close it."""
    for path, metadata in ((pdf, {"CreationDate": None}), (svg, {"Date": None})):
        with atomic(path) as side:
            figure.savefig(side, format=path.suffix[1:], metadata=metadata)
    plt.close(figure)


def _settle(figure: Figure) -> None:
    """Fix the panels where the layout has put them: it solves its equations in any order, and their last digits differ from run to run."""
    figure.draw_without_rendering()
    places = [axes.get_position().bounds for axes in figure.axes]
    figure.set_layout_engine("none")
    for axes, place in zip(figure.axes, places, strict=True):
        axes.set_position([round(part, 6) for part in place])  # type: ignore[arg-type]


def _legend(figure: Figure, handles: Sequence[Any], title: str | None, width: float) -> Legend:
    """The legend at the foot of the sheet in as few rows as its width allows."""
    for columns in range(len(handles), 0, -1):
        legend = figure.legend(handles=handles, title=title, loc="lower center", bbox_to_anchor=(0.5, 0.0), ncols=columns, fontsize=9)
        if columns == 1 or extent(figure, legend).width <= width:
            break
        legend.remove()
    return legend


def spread_labels(figure: Figure, axes: Axes) -> None:
    """Turn the labels of an x axis until none lies on its neighbour."""
    for angle in (0, 30, 90):
        labels = [label for label in axes.get_xticklabels() if label.get_text()]
        if angle:
            plt.setp(labels, rotation=angle, ha="right" if angle < 90 else "center", rotation_mode="anchor" if angle < 90 else None)
        figure.draw_without_rendering()
        if not _touching([label.get_window_extent() for label in labels], angle):
            return


def _touching(boxes: list[Bbox], angle: int) -> bool:
    """Whether neighbours lie on each other; turned ones are as far apart as their anchors, the right ends of their boxes."""
    boxes = sorted(boxes, key=lambda box: box.x1)
    if angle:
        return any(after.x1 - before.x1 < 16 for before, after in pairwise(boxes))
    return any(after.x0 - before.x1 < 4 for before, after in pairwise(boxes))
