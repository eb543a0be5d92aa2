"""Figures with a number on the x axis: gaps and accuracies by student size, accuracy by weight."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from gapgrid.core.cells import AVERAGE, UNTOUCHED
from gapgrid.core.spec_types import FigureSpec
from gapgrid.reporting.plots import style
from gapgrid.reporting.plots.style import Drawn

NOT_SIGNIFICANT = "average's sign not significant"
GUESS = "best constant guess"
LEVEL = "level line: untouched"
DOTTED = (0, (1, 2))
OFFSET = 0.014  # between series at one size, as a share of the axis


def gap_by_size(estimates: pd.DataFrame, spec: FigureSpec) -> Drawn:
    """Draw the contrast's gap by student size: a panel per family, a line per benchmark.

    Their average is a bold line, on a grey ground where its sign is not significant.
    """
    gaps = style.known(estimates, "gap", None)
    shown = spec["shown"]
    series = [*shown["benchmarks"], [AVERAGE, AVERAGE]]
    figure, panels = _by_family(gaps, estimates)
    parts = []
    for family, axes in panels.items():
        rows = gaps[gaps["family"] == family]
        scale = _size_axis(axes, estimates, family, shown["models"], len(series))
        axes.axhline(0, color="0.3", linewidth=1)
        ground: dict[str, Any] = {"color": "0.9", "zorder": 0, "linewidth": 0}
        for _, row in rows[rows["benchmark"] == AVERAGE].iterrows():
            if not style.is_significant(row["settled"]):
                ends = (scale.at(row["params_b"], index) for index in (-1, len(series)))
                axes.axvspan(*ends, label=NOT_SIGNIFICANT, **ground)
        for index, (benchmark, label) in enumerate(series):
            line = rows[rows["benchmark"] == benchmark].sort_values("params_b")
            x = [scale.at(size, index) for size in line["params_b"]]
            is_average = benchmark == AVERAGE
            style.line(axes, x, line, index, label, is_gap=True, is_average=is_average)
            parts.append(style.points(line, family, label, line["params_b"]))
    for axes in _first_column(figure):
        axes.set_ylabel(style.wrapped(f"{gap_label(spec)} (points)"))
    points = style.joined(parts)
    missing = missing_of(points, "benchmark", shown["models"], series)
    return Drawn(figure, points, missing, legend_of(figure))


def accuracy_by_mix(estimates: pd.DataFrame, spec: FigureSpec) -> Drawn:
    """Draw average accuracy by student size: a line per mix, and the best constant guess."""
    averages = style.known(estimates, "accuracy")
    figure, panels = _by_family(averages, estimates)
    shown, parts = spec["shown"], []
    looks = style.look_of_mixes(shown["mixes"])
    for family, axes in panels.items():
        rows = averages[averages["family"] == family]
        scale = _size_axis(axes, estimates, family, shown["models"], len(shown["mixes"]))
        for index, (mix, label) in enumerate(shown["mixes"]):
            line = rows[rows["mix"] == mix].sort_values("params_b")
            x = [scale.at(size, index) for size in line["params_b"]]
            style.line(axes, x, line, looks[mix], label)
            parts.append(style.points(line, family, label, line["params_b"]))
    finish_accuracy(figure, estimates, averages)
    points = style.joined(parts)
    missing = missing_of(points, "mix", shown["models"], shown["mixes"])
    return Drawn(figure, points, missing, legend_of(figure))


def by_weight(estimates: pd.DataFrame, spec: FigureSpec) -> Drawn:
    """Draw average accuracy by the weight of one source in the mix, a line per student.

    A student before SFT is a level line.
    """
    weights, shown = spec["weights"]["of"], spec["shown"]
    names = dict(shown["mixes"])
    averages = style.known(estimates, "accuracy")
    figure, (axes,) = style.panels([""], [6.4])
    parts = []
    for index, (model, label) in enumerate(shown["models"]):
        rows = averages[averages["model"] == model]
        line = rows[rows["mix"].isin(weights)]
        line = line.assign(weight=line["mix"].map(weights).astype(float)).sort_values("weight")
        x = line["weight"] + OFFSET * (index - (len(shown["models"]) - 1) / 2)
        style.line(axes, x, line, index, label)
        parts.append(style.points(line, "", label, line["weight"]))
        level: dict[str, Any] = {"linestyle": DOTTED, "linewidth": 1.3, "label": LEVEL}
        untouched = rows[rows["mix"] == UNTOUCHED]
        for value in untouched["estimate"]:
            axes.axhline(100 * value, color=style.cycled(style.COLOURS, index), **level)
        parts.append(style.points(untouched, "", f"{label} {names.get(UNTOUCHED)}", None))
    _weight_axis(axes, spec["weights"], names)
    finish_accuracy(figure, estimates, averages, is_cut=True)
    points = style.joined(parts)
    missing = missing_of(points, "mix", shown["models"], shown["mixes"])
    return Drawn(figure, points, missing, legend_of(figure))


def _weight_axis(axes: Axes, weights: dict[str, Any], names: dict[str, str]) -> None:
    """Put ticks at the weights tried; 0 and 1 are single sources and carry their names."""
    ends = {weight: f"\n{names[mix]}" for mix, weight in weights["of"].items() if weight in (0, 1)}
    ticks = sorted(set(weights["of"].values()))
    axes.set_xticks(ticks, [f"{weight:g}{ends.get(weight, '')}" for weight in ticks])
    axes.set_xlim(min(ticks) - 0.06, max(ticks) + 0.06)
    axes.set_xlabel(f"weight of {weights['source']} in the mix (share of its {weights['by']})")


# ---- what they share ----


class Scale:
    """Where a series stands at a size: side by side on the log axis, so that no interval hides."""

    def __init__(self, sizes: np.ndarray, n_series: int) -> None:
        logs = np.log(sizes)
        self.span = 1.16 * float(np.ptp(logs)) or 1.0
        nearest = float(np.diff(np.unique(logs)).min()) if len(logs) > 1 else self.span
        self.step = min(OFFSET * self.span, 0.7 * nearest / (n_series + 1))
        self.middle = (n_series - 1) / 2

    def at(self, size: float, index: int) -> float:
        """Return the x of series `index` in parameters; `size` is in billions."""
        return float(size * 1e9 * np.exp(self.step * (index - self.middle)))


def _by_family(rows: pd.DataFrame, estimates: pd.DataFrame) -> tuple[Figure, dict[str, Axes]]:
    """Return a panel for each family, smallest student first, wider for more sizes."""
    source = rows if len(rows) else estimates[estimates["family"].notna()]
    families = list(dict.fromkeys(source.sort_values("params_b")["family"])) or [""]
    sizes = source.groupby("family")["params_b"].nunique()
    widths = [1.4 + 0.62 * max(2, sizes.get(family, 0)) for family in families]
    figure, axes = style.panels(families, widths if len(families) > 1 else [6.4])
    return figure, dict(zip(families, axes, strict=True))


def _size_axis(
    axes: Axes, estimates: pd.DataFrame, family: str, models: list[list[str]], n_series: int
) -> Scale:
    """Make the x axis a log axis with a tick per student; students of one size share theirs."""
    labels = dict(models)
    students = estimates[estimates["family"] == family].drop_duplicates("model")
    students = students[students["model"].isin(labels)].sort_values("params_b")
    ticks: dict[float, dict[str, None]] = {}
    for model, size in zip(students["model"], students["params_b"], strict=True):
        ticks.setdefault(size, {})[labels[model]] = None
    sizes = students["params_b"].unique()
    scale = Scale(sizes, n_series)
    axes.set_xscale("log")
    axes.set_xticks(sizes * 1e9, ["\n".join(ticks[size]) for size in sizes])
    axes.set_xticks([], minor=True)
    edge = np.exp(0.08 * scale.span)
    axes.set_xlim(sizes.min() * 1e9 / edge, sizes.max() * 1e9 * edge)
    is_wide = axes.get_gridspec().ncols == 1  # type: ignore[union-attr]
    axes.set_xlabel(f"student size{' (parameters, log scale)' if is_wide else ''}")
    return scale


def _first_column(figure: Figure) -> list[Axes]:
    cells = [(axes, axes.get_subplotspec()) for axes in figure.axes]
    return [axes for axes, cell in cells if cell and cell.is_first_col()]


def gap_label(spec: FigureSpec) -> str:
    """Return `first − second` of the contrast, by the mixes' labels."""
    names = dict(spec["shown"]["mixes"])
    return " − ".join(names[mix] for mix in spec["contrast"] or ())


def finish_accuracy(
    figure: Figure, estimates: pd.DataFrame, averages: pd.DataFrame, is_cut: bool = False
) -> None:
    """Start an accuracy's axis at 0 and draw the best constant guess, if known and on the axis.

    With `is_cut` the axis starts near the lowest value if all values are far above 0.
    """
    highest = max(100 * float(averages["high"].max()), 5.0) if len(averages) else 100.0
    lowest = 100 * float(averages["low"].min()) if is_cut and len(averages) else 0.0
    foot = lowest - 0.15 * (highest - lowest) if lowest > highest / 3 else 0.0
    guesses = 100 * style.known(estimates, "best_guess")["estimate"]
    dashed: dict[str, Any] = {"color": "0.3", "linewidth": 1, "linestyle": (0, (6, 2)), "zorder": 1}
    for axes in figure.axes:
        for guess in guesses[guesses >= foot].head(1):
            axes.axhline(guess, label=GUESS, **dashed)
    for axes in _first_column(figure):
        axes.set_ylabel("accuracy, mean of benchmarks (%)")
    figure.axes[0].set_ylim(foot, min(102.0, highest + 0.12 * (highest - foot)))


def missing_of(
    points: pd.DataFrame,
    column: str,
    models: Sequence[Sequence[str]],
    series: Sequence[Sequence[str]],
) -> list[str]:
    """Return the labels of students and series (mixes or benchmarks, by `column`) not drawn."""
    drawn = set(zip(points["model"], points[column], strict=True))
    return [
        f"{label} {series_label}"
        for model, label in models
        for name, series_label in series
        if (model, name) not in drawn
    ]


def legend_of(figure: Figure) -> list[Artist]:
    """Return a handle per label, then what hollow markers, a grey ground and level lines mean."""
    handles: dict[str, Any] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    last = [label for label in handles if label in (NOT_SIGNIFICANT, GUESS, LEVEL)]
    lines = [line for axes in figure.axes for line in axes.lines]
    is_hollow = any(line.get_markerfacecolor() == "white" for line in lines)
    own = {
        NOT_SIGNIFICANT: Patch(color="0.9", label=NOT_SIGNIFICANT),
        LEVEL: Line2D([], [], color=style.GREY, linestyle=DOTTED, label=LEVEL),
    }
    first = [handles[label] for label in handles if label not in last]
    first += [style.hollow_handle()] if is_hollow else []
    return first + [own.get(label, handles[label]) for label in last]
