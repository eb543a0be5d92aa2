"""What all figures share: one style, panels, intervals, texts around the panels, drawn points.

Series can be told apart without colour: each has its own marker, dash or hatch. The same numbers
give the same bytes.
"""

import textwrap
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import matplotlib as mpl
import numpy as np
import pandas as pd

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from gapgrid.core.cells import AVERAGE, UNTOUCHED
from gapgrid.core.records import InputError, Row, atomic, read_json

# Okabe and Ito's palette is safe for common colour blindness; neighbours differ in lightness too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#999999")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 3)))
HATCHES = ("", "///", "...", "\\\\\\", "xxx", "++", "oo")
GREY, WARNING = "0.45", "#9B1C1C"
WIDEST = 12.0  # inches of a row of panels
MARGIN = 0.08  # inches around text
LINE_HEIGHT = 0.17  # inches of a line of small text
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "gapgrid",
    "svg.fonttype": "path",
    "font.size": 10,
    "text.parse_math": False,  # a dollar sign in a name starts no formula
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
NOTES = ("caption", "protocol", "differs", "varies", "between_students", "n_missing")
COPIED = ("model", "mix", "minus", "benchmark")
COUNTED = ("settled", "n_questions", "n_seeds")
COLUMNS = ["panel", "series", "x", *COPIED, "value", "low", "high", "unit", *COUNTED]
HOLLOW = "hollow: sign not significant"
Option = TypeVar("Option")


class Drawn(NamedTuple):
    """A figure before its texts.

    `points` are the drawn values (`COLUMNS`, in per cent or points), `missing` names those without
    a value, `handles` are the legend's.
    """

    figure: Figure
    points: pd.DataFrame
    missing: list[str]
    handles: Sequence[Artist]


# ---- what is drawn ----


def known(estimates: pd.DataFrame, quantity: str, benchmark: str | None = AVERAGE) -> pd.DataFrame:
    """Return the rows of a quantity that have a value; `benchmark` None: all and their average."""
    rows = estimates[(estimates["quantity"] == quantity) & estimates["estimate"].notna()]
    return rows if benchmark is None else rows[rows["benchmark"] == benchmark]


def points(rows: pd.DataFrame, panel: str, series: str, x: Any) -> pd.DataFrame:
    """Return one series' drawn points, of gaps in points, else in per cent.

    `x` is one value for all rows or a value for each.
    """
    drawn = rows.reindex(columns=COLUMNS[3:])
    drawn[["value", "low", "high"]] = 100 * rows[["estimate", "low", "high"]]
    drawn["unit"] = np.where(rows["quantity"] == "gap", "points", "%")
    for index, (column, value) in enumerate({"panel": panel, "series": series, "x": x}.items()):
        drawn.insert(index, column, value)
    return drawn


def joined(parts: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Return the points of all series in the order drawn; of none, a table without rows."""
    filled = [part.astype(object) for part in parts if len(part)]
    drawn = pd.concat(filled, ignore_index=True) if filled else pd.DataFrame(columns=COLUMNS)
    types = dict.fromkeys(("value", "low", "high"), "float")
    return drawn.astype({**types, "n_questions": "Int64", "n_seeds": "Int64"})


def is_significant(flag: Any) -> bool:
    """Return whether a gap's sign is significant, from the CSV column `settled`, maybe empty."""
    return str(flag) == "True"


def summary(points: pd.DataFrame, confidence: float, missing: Sequence[str]) -> list[str]:
    """Return the lines above a figure: questions and seeds, intervals, and what is missing."""
    lines = []
    if len(points):
        questions, seeds = points["n_questions"].dropna(), points["n_seeds"].dropna()
        units = "questions and seeds" if len(seeds) and seeds.max() > 1 else "questions"
        text = f"n = {_range(questions, 'question')}, {_range(seeds, 'training seed')}"
        lines.append(f"{text}; {100 * confidence:g} % intervals over {units}")
    if missing:
        share = f"{len(missing)} of {len(points) + len(missing)} points missing"
        lines.append(f"{share}, their cells have no score: {', '.join(missing)}")
    return lines


def _range(values: pd.Series, unit: str) -> str:
    if values.empty:
        return f"? {unit}s"
    low, high = int(values.min()), int(values.max())
    return f"{low}{'' if low == high else f' to {high}'} {unit}{'' if high == 1 else 's'}"


def look_of_mixes(mixes: Sequence[Sequence[str]]) -> dict[str, int]:
    """Return the index of each mix's colour, marker, dash and hatch.

    `none` has the last ones, so that it changes no other mix.
    """
    trained = [mix for mix, _ in mixes if mix != UNTOUCHED]
    return {UNTOUCHED: len(COLOURS) - 1, **{mix: index for index, mix in enumerate(trained)}}


def cycled(options: Sequence[Option], index: int) -> Option:
    """Return option number `index`, from the start again after the last."""
    return options[index % len(options)]


# ---- primitives ----


def panels(
    titles: Sequence[str], widths: Sequence[float], height: float = 3.6
) -> tuple[Figure, list[Axes]]:
    """Return a figure with panels side by side on one scale; a single panel has no title.

    They stand in as few even rows as are no wider than `WIDEST`. Sizes are in inches.
    """
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
    """Draw intervals as bars, without a line or a marker."""
    values = 100 * rows[["estimate", "low", "high"]].astype(float)
    sides = (values["estimate"] - values["low"], values["high"] - values["estimate"])
    errors = [side.clip(lower=0) for side in sides]
    axes.errorbar(x, values["estimate"], yerr=errors, fmt="none", **style)


def line(
    axes: Axes,
    x: Any,
    rows: pd.DataFrame,
    index: int,
    label: str,
    is_gap: bool = False,
    is_average: bool = False,
) -> None:
    """Draw a line with a marker per point, hollow where a gap's sign is not significant.

    `index` is the series'; an average is black and wide.
    """
    colour = "black" if is_average else cycled(COLOURS, index)
    marker, dash = ("o", "-") if is_average else (cycled(MARKERS, index), cycled(DASHES, index))
    size, order = (6.5, 5) if is_average else (5.5, 3)
    width, bar_width, cap, alpha = (2.4, 1.6, 3, 1) if is_average else (1.4, 1, 2, 0.6)
    points: dict[str, Any] = {"marker": marker, "markersize": size}
    style: dict[str, Any] = {"color": colour, "linestyle": dash, "linewidth": width, **points}
    if rows.empty:
        axes.plot([], [], label=label, **style)
        return
    bars = {"ecolor": colour, "elinewidth": bar_width, "capsize": cap, "alpha": alpha}
    whiskers(axes, x, rows, zorder=order, **bars)
    values = 100 * rows["estimate"].astype(float)
    # Unclipped, so that a marker on the axis is seen whole.
    axes.plot(x, values, label=label, zorder=order, clip_on=False, **style)
    is_open = np.array([is_gap and not is_significant(flag) for flag in rows["settled"]])
    if is_open.any():
        style = {"linestyle": "none", "zorder": order + 1, **points, **_hollow(colour)}
        axes.plot(np.asarray(x)[is_open], values[is_open], **style)


def _hollow(colour: str) -> dict[str, Any]:
    return {"markerfacecolor": "white", "markeredgecolor": colour, "markeredgewidth": 1.3}


def hollow_handle() -> Line2D:
    """Return the legend's handle for hollow markers."""
    return Line2D([], [], linestyle="none", marker="o", label=HOLLOW, **_hollow(GREY))


# ---- texts around the panels ----


def wrapped(text: str, inches: float = 3.0) -> str:
    """Return a label in lines of about so many inches."""
    return textwrap.fill(text, int(10 * inches), break_long_words=False)


def extent(figure: Figure, artist: Text | Legend) -> Bbox:
    """Return where an artist will be, in inches."""
    box = artist.get_window_extent(figure.canvas.get_renderer())  # type: ignore[attr-defined]
    return Bbox(box.get_points() / figure.dpi)


def fitted(figure: Figure, text: str, width: float, most: int, **style: Any) -> list[str]:
    """Return `text` in at most `most` lines of at most `width` inches.

    What does not fit is cut, with an ellipsis.
    """

    def fits(words: list[str]) -> bool:
        probe = figure.text(0, 0, " ".join(words), **style)
        used = extent(figure, probe).width
        probe.remove()
        return used <= width

    lines: list[list[str]] = [[]]
    for word in text.split():
        if lines[-1] and not fits([*lines[-1], word]):
            if len(lines) == most:
                while len(lines[-1]) > 1 and not fits([*lines[-1], "…"]):
                    lines[-1].pop()
                lines[-1].append("…")
                break
            lines.append([])
        lines[-1].append(word)
    return [" ".join(line) for line in lines if line]


def finish(
    figure: Figure,
    lines: Sequence[str],
    warning: str | None,
    handles: Sequence[Artist],
    title: str | None = None,
) -> None:
    """Put texts above and the legend below the panels, each in a strip of its own.

    `warning` becomes a framed banner of at most two lines. The figure grows by the strips, so the
    panels keep their size and nothing can overlap.
    """
    width, height = figure.get_size_inches()
    small: dict[str, Any] = {"fontsize": 9, "color": "0.3"}
    bold: dict[str, Any] = {"fontsize": 9, "weight": "bold"}
    texts = [
        part for text in lines for part in fitted(figure, text, width - 4 * MARGIN, 2, **small)
    ]
    banner = fitted(figure, warning, width - 4 * MARGIN, 2, **bold) if warning else []
    legend = _legend(figure, handles, title, width) if handles else None
    banner_height = LINE_HEIGHT * len(banner) + 3 * MARGIN if banner else 0
    above = LINE_HEIGHT * len(texts) + banner_height + MARGIN
    below = extent(figure, legend).height + MARGIN if legend else 0.0
    total = height + above + below
    figure.set_size_inches(width, total)
    layout: Any = figure.get_layout_engine()
    layout.set(rect=(0, below / total, 1, height / total))
    top = 1 - MARGIN / total
    centred: dict[str, Any] = {"ha": "center", "va": "top", "linespacing": 1.2}
    if banner:
        frame: dict[str, Any] = {"boxstyle": "square,pad=0.35", "facecolor": "white"}
        frame |= {"edgecolor": WARNING, "linewidth": 1.6}
        style = {**bold, **centred, "color": WARNING, "bbox": frame}
        figure.text(0.5, top - MARGIN / total, "\n".join(banner), **style)
        top -= banner_height / total
    if texts:
        figure.text(0.5, top, "\n".join(texts), **small, **centred)
    for axes in figure.axes:
        turn_labels(figure, axes)
    _freeze(figure)


def read_notes(path: Path) -> Row:
    """Return the notes of an experiment's table; an `InputError` names the missing keys."""
    notes = read_json(path)
    missing = [key for key in NOTES if not isinstance(notes, dict) or key not in notes]
    if missing:
        expected = "expected the notes that stage table writes"
        raise InputError(f"{path}: no key {', '.join(missing)}; {expected}")
    return dict(notes)


def warning(notes: Row) -> str | None:
    """Return the warning banner, which lists the confounders; None if there are none."""
    if not notes["differs"]:
        return None
    return f"not only {notes['varies']}: {'; '.join(notes['differs'])}"


def save(figure: Figure, pdf: Path, svg: Path) -> None:
    """Write a figure as PDF and SVG, without a date in them, and close it."""
    for path, metadata in ((pdf, {"CreationDate": None}), (svg, {"Date": None})):
        with atomic(path) as side:
            figure.savefig(side, format=path.suffix[1:], metadata=metadata)
    plt.close(figure)


def _freeze(figure: Figure) -> None:
    """Fix the panels where the layout has put them, rounded.

    It solves its equations in any order, so last digits differ from run to run.
    """
    figure.draw_without_rendering()
    bounds = [axes.get_position().bounds for axes in figure.axes]
    figure.set_layout_engine("none")
    for axes, (x, y, width, height) in zip(figure.axes, bounds, strict=True):
        axes.set_position((round(x, 6), round(y, 6), round(width, 6), round(height, 6)))


def _legend(figure: Figure, handles: Sequence[Artist], title: str | None, width: float) -> Legend:
    """Put the legend at the foot of the figure, in as few rows as its width allows."""
    style: dict[str, Any] = {"loc": "lower center", "bbox_to_anchor": (0.5, 0.0), "fontsize": 9}
    for columns in range(len(handles), 0, -1):
        legend = figure.legend(handles=handles, title=title, ncols=columns, **style)
        if columns == 1 or extent(figure, legend).width <= width:
            break
        legend.remove()
    return legend


def turn_labels(figure: Figure, axes: Axes) -> None:
    """Turn the labels of an x axis until none overlaps its neighbour."""
    for angle, style in (
        (0, {}),
        (30, {"rotation": 30, "ha": "right", "rotation_mode": "anchor"}),
        (90, {"rotation": 90, "ha": "center", "rotation_mode": None}),
    ):
        labels = [label for label in axes.get_xticklabels() if label.get_text()]
        if style:
            plt.setp(labels, **style)
        figure.draw_without_rendering()
        if not _overlap([label.get_window_extent() for label in labels], angle):
            return


def _overlap(boxes: list[Bbox], angle: int) -> bool:
    """Return whether neighbours overlap; turned ones by their anchors, the boxes' right ends."""
    boxes = sorted(boxes, key=lambda box: box.x1)
    if angle:
        return any(after.x1 - before.x1 < 16 for before, after in pairwise(boxes))
    return any(after.x0 - before.x1 < 4 for before, after in pairwise(boxes))
