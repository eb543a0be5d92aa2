"""Figures with a number on the x axis: a gap or an accuracy against student size, and accuracy against a mix's weight."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from gapgrid.plots import drawing
from gapgrid.plots.drawing import Drawn

Spec = dict[str, Any]
OPEN = "average's sign not settled"
GUESS = "best constant guess"
LEVEL = "level line: untouched"
DOTTED = (0, (1, 2))
SPREAD = 0.014  # between series at one size, as a share of the axis


def gap_by_size(estimates: pd.DataFrame, spec: Spec) -> Drawn:
    """The contrast's gap against student size: a panel a family, a line a benchmark, and their average in bold."""
    gaps = drawing.known(estimates, "gap", None)
    series = [*spec["shown"]["benchmarks"], ["average", "average"]]
    figure, panels = _by_family(gaps, estimates)
    parts = []
    for family, axes in panels.items():
        rows = gaps[gaps["family"] == family]
        scale = _size_axis(axes, estimates[estimates["family"] == family], dict(spec["shown"]["models"]), len(series))
        axes.axhline(0, color="0.3", linewidth=1)
        for size in _open_averages(rows):
            axes.axvspan(scale.at(size, -1), scale.at(size, len(series)), color="0.9", zorder=0, linewidth=0, label=OPEN)
        for index, (benchmark, label) in enumerate(series):
            found = rows[rows["benchmark"] == benchmark].sort_values("params_b")
            x = [scale.at(size, index) for size in found["params_b"]]
            drawing.line(axes, x, found, index, label, strong=benchmark == "average", is_gap=True)
            parts.append(drawing.points(found, family, label, found["params_b"]))
    mixes = dict(spec["shown"]["mixes"])
    for axes in figure.axes:
        if axes.get_subplotspec().is_first_col():  # type: ignore[union-attr]
            axes.set_ylabel(drawing.wrapped(f"{mixes[spec['contrast'][0]]} − {mixes[spec['contrast'][1]]} (points)"))
    points = drawing.gathered(parts)
    return Drawn(figure, points, _missing_gaps(spec, points, series))


def _open_averages(rows: pd.DataFrame) -> list[float]:
    averages = rows[rows["benchmark"] == "average"]
    return [size for size, settled in zip(averages["params_b"], averages["settled"], strict=True) if not drawing.is_settled(settled)]


def _missing_gaps(spec: Spec, points: pd.DataFrame, series: list[list[str]]) -> list[str]:
    there = set(zip(points["model"], points["benchmark"], strict=True))
    return [f"{label} {name}" for model, label in spec["shown"]["models"] for key, name in series if (model, key) not in there]


def accuracy_by_mix(estimates: pd.DataFrame, spec: Spec) -> Drawn:
    """Average accuracy against student size, a line a mix, with the best constant guess."""
    averages = drawing.known(estimates, "accuracy")
    figure, panels = _by_family(averages, estimates)
    mixes, parts = spec["shown"]["mixes"], []
    look = drawing.looks(mixes)
    for family, axes in panels.items():
        rows = averages[averages["family"] == family]
        scale = _size_axis(axes, estimates[estimates["family"] == family], dict(spec["shown"]["models"]), len(mixes))
        for index, (mix, label) in enumerate(mixes):
            found = rows[rows["mix"] == mix].sort_values("params_b")
            drawing.line(axes, [scale.at(size, index) for size in found["params_b"]], found, look[mix], label)
            parts.append(drawing.points(found, family, label, found["params_b"]))
    finish_accuracy(figure, estimates, averages)
    points = drawing.gathered(parts)
    return Drawn(figure, points, missing_accuracies(spec, points))


def by_weight(estimates: pd.DataFrame, spec: Spec) -> Drawn:
    """Average accuracy against the weight of one source in the mix, a line a student, which untouched is a level line."""
    weights, names = spec["weights"]["of"], dict(spec["shown"]["mixes"])
    averages = drawing.known(estimates, "accuracy")
    figure, (axes,) = drawing.sheet([""], [6.4])
    parts = []
    for index, (model, label) in enumerate(spec["shown"]["models"]):
        rows = averages[averages["model"] == model]
        found = rows[rows["mix"].isin(weights)]
        found = found.assign(weight=found["mix"].map(weights).astype(float)).sort_values("weight")
        drawing.line(axes, found["weight"] + SPREAD * (index - (len(spec["shown"]["models"]) - 1) / 2), found, index, label)
        parts.append(drawing.points(found, "", label, found["weight"]))
        untouched = rows[rows["mix"] == drawing.UNTOUCHED]
        for value in untouched["estimate"]:
            axes.axhline(100 * value, color=drawing.COLOURS[index % len(drawing.COLOURS)], linestyle=DOTTED, linewidth=1.3, label=LEVEL)
        parts.append(drawing.points(untouched, "", f"{label} {names.get(drawing.UNTOUCHED)}", None))
    _weight_axis(axes, spec["weights"], names)
    finish_accuracy(figure, estimates, averages, is_cut=True)
    points = drawing.gathered(parts)
    return Drawn(figure, points, missing_accuracies(spec, points))


def _weight_axis(axes: Axes, weights: dict[str, Any], names: dict[str, str]) -> None:
    """Ticks at the weights that are tried; the ends are single sources and carry their names."""
    ends = {weight: names[mix] for mix, weight in weights["of"].items() if weight in (0, 1)}
    at = sorted(set(weights["of"].values()))
    axes.set_xticks(at, [f"{weight:g}\n{ends[weight]}" if weight in ends else f"{weight:g}" for weight in at])
    axes.set_xlim(min(at) - 0.06, max(at) + 0.06)
    axes.set_xlabel(f"weight of {weights['source']} in the mix (share of its {weights['by']})")


# ---- what they share ----


class Scale:
    """Where a series stands at a size: side by side around it on the log axis, so that no interval hides another."""

    def __init__(self, sizes: np.ndarray, n_series: int) -> None:
        logs = np.log(sizes)
        self.span = 1.16 * float(np.ptp(logs)) or 1.0
        nearest = float(np.diff(np.unique(logs)).min()) if len(logs) > 1 else self.span
        self.step = min(SPREAD * self.span, 0.7 * nearest / (n_series + 1))
        self.middle = (n_series - 1) / 2

    def at(self, size: float, index: int) -> float:
        """In parameters; `index` is the series'."""
        return float(size * 1e9 * np.exp(self.step * (index - self.middle)))


def _by_family(rows: pd.DataFrame, estimates: pd.DataFrame) -> tuple[Figure, dict[str, Axes]]:
    """A panel for each family of students, smallest student first, wider for more sizes."""
    source = rows if len(rows) else estimates[estimates["family"].notna()]
    families = list(dict.fromkeys(source.sort_values("params_b")["family"])) or [""]
    sizes = [max(2, source[source["family"] == family]["params_b"].nunique()) for family in families]
    widths = [6.4] if len(families) == 1 else [1.4 + 0.62 * n for n in sizes]
    figure, axes = drawing.sheet(families, widths)
    return figure, dict(zip(families, axes, strict=True))


def _size_axis(axes: Axes, rows: pd.DataFrame, labels: dict[str, str], n_series: int) -> Scale:
    """A log axis with a tick for each student; students of one size share theirs."""
    students = rows.drop_duplicates("model")
    students = students[students["model"].isin(labels)].sort_values("params_b")
    sizes = students["params_b"].unique()
    scale = Scale(sizes, n_series)
    names = ["\n".join(dict.fromkeys(labels[model] for model in students[students["params_b"] == size]["model"])) for size in sizes]
    axes.set_xscale("log")
    axes.set_xticks(sizes * 1e9, names)
    axes.set_xticks([], minor=True)
    edge = np.exp(0.08 * scale.span)
    axes.set_xlim(sizes.min() * 1e9 / edge, sizes.max() * 1e9 * edge)
    axes.set_xlabel("student size (parameters, log scale)" if axes.get_subplotspec().get_gridspec().ncols == 1 else "student size")  # type: ignore[union-attr]
    return scale


def finish_accuracy(figure: Figure, estimates: pd.DataFrame, averages: pd.DataFrame, is_cut: bool = False) -> None:
    """An accuracy's axis from 0, with the best constant guess if known; `is_cut`: from near the lowest if all are far above 0."""
    highest = max(100 * float(averages["high"].max()), 5.0) if len(averages) else 100.0
    lowest = 100 * float(averages["low"].min()) if is_cut and len(averages) else 0.0
    foot = lowest - 0.15 * (highest - lowest) if lowest > highest / 3 else 0.0
    guesses = [100 * guess for guess in drawing.known(estimates, "best_guess")["estimate"] if 100 * guess >= foot]
    for axes in figure.axes:
        for guess in guesses[:1]:
            axes.axhline(guess, color="0.3", linewidth=1, linestyle=(0, (6, 2)), label=GUESS, zorder=1)
        if axes.get_subplotspec().is_first_col():  # type: ignore[union-attr]
            axes.set_ylabel("accuracy, mean of benchmarks (%)")
    figure.axes[0].set_ylim(foot, min(102.0, highest + 0.12 * (highest - foot)))


def missing_accuracies(spec: Spec, points: pd.DataFrame) -> list[str]:
    """Students and mixes without an average."""
    there = set(zip(points["model"], points["mix"], strict=True))
    shown = spec["shown"]
    return [f"{label} {name}" for model, label in shown["models"] for mix, name in shown["mixes"] if (model, mix) not in there]


def legend_of(figure: Figure) -> list[Any]:
    """Every labelled line once, the rest last; what hollow markers and grey mean where there are any."""
    found: dict[str, Any] = {}
    for axes in figure.axes:
        handles, labels = axes.get_legend_handles_labels()
        for handle, label in zip(handles, labels, strict=True):
            found.setdefault(label, handle)
    last = [label for label in found if label in (OPEN, GUESS, LEVEL)]
    marks = {OPEN: Patch(color="0.9", label=OPEN), LEVEL: Line2D([], [], color=drawing.GREY, linestyle=DOTTED, label=LEVEL)}
    handles = [found[label] for label in found if label not in last]
    is_hollow = any(line.get_markerfacecolor() == "white" for axes in figure.axes for line in axes.lines)
    handles += [drawing.hollow_handle()] if is_hollow else []
    return handles + [marks.get(label, found[label]) for label in last]
