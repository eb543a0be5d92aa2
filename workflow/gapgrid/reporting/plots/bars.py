"""Figures with names on the x axis: a student's training sets, or partners of one size."""

import textwrap
from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import Patch

from gapgrid.core.spec_types import FigureSpec
from gapgrid.reporting.plots import curves, style
from gapgrid.reporting.plots.style import Drawn

NOT_SIGNIFICANT = "sign not significant"
PALE = f"pale, dashed: {NOT_SIGNIFICANT}"


def bars(estimates: pd.DataFrame, spec: FigureSpec) -> Drawn:
    """Draw a panel per student: a bar per training set, and the contrast's gap as an arrow."""
    averages = style.known(estimates, "accuracy")
    models, mixes = spec["shown"]["models"], spec["shown"]["mixes"]
    titles = [_title(estimates, model, label) for model, label in models]
    figure, panels = style.panels(titles, [1.2 + 0.66 * len(mixes)] * len(models))
    looks, parts, tops = style.look_of_mixes(mixes), [], []
    tick_labels = [textwrap.fill(label, 12, break_long_words=False) for _, label in mixes]
    for (model, _), title, axes in zip(models, titles, panels, strict=True):
        if len(models) == 1:
            axes.set_title(title, fontsize=10)
        for x, (mix, label) in enumerate(mixes):
            rows = averages[(averages["model"] == model) & (averages["mix"] == mix)]
            tops.append(_bar(axes, x, looks[mix], rows))
            parts.append(style.points(rows, title, label, label))
        axes.set_xticks(range(len(mixes)), tick_labels)
        axes.set_xlim(-0.6, len(mixes) - 0.4)
        axes.grid(axis="x", visible=False)
    curves.finish_accuracy(figure, estimates, averages)
    # Leaves space for the numbers, and for the arrow of a contrast.
    panels[0].set_ylim(0, (1.34 if spec["contrast"] else 1.12) * max(tops))
    missing = curves.missing_of(style.joined(parts), "mix", models, mixes)
    if spec["contrast"]:
        gaps, label = style.known(estimates, "gap"), curves.gap_label(spec)
        sides = [[mix for mix, _ in mixes].index(side) for side in spec["contrast"]]
        for (model, _), title, axes in zip(models, titles, panels, strict=True):
            rows = gaps[gaps["model"] == model]
            _gap_arrow(axes, rows, sides, max(tops))
            parts.append(style.points(rows, title, label, label))
    handles = [item for item in curves.legend_of(figure) if item.get_label() == curves.GUESS]
    return Drawn(figure, style.joined(parts), missing, handles)


def _families(estimates: pd.DataFrame) -> pd.Series:
    """Return each student's family."""
    students = estimates.dropna(subset=["family"]).drop_duplicates("model")
    return students.set_index("model")["family"]


def _title(estimates: pd.DataFrame, model: str, label: str) -> str:
    """Return a student's label, after its family where there are several."""
    families = _families(estimates)
    return f"{families[model]}, {label}" if families.nunique() > 1 and model in families else label


def _bar(axes: Axes, x: int, look: int, rows: pd.DataFrame) -> float:
    """Draw a bar with its interval and number; return how high it reaches, in per cent."""
    if rows.empty:
        _write_not_built(axes, x)
        return 1.0
    value, high = (100 * float(rows[column].iloc[0]) for column in ("estimate", "high"))
    colour = style.cycled(style.COLOURS, look)
    hatch = style.cycled(style.HATCHES, look)
    fill: dict[str, Any] = {"color": _pale(colour), "edgecolor": colour, "hatch": hatch}
    axes.bar(x, value, width=0.72, linewidth=1.2, **fill)
    style.whiskers(axes, [x], rows, ecolor="black", elinewidth=1.3, capsize=4)
    # The guess's line ends at the number.
    behind = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.5}
    top = (x, max(high, value))
    _annotate(axes, f"{value:.1f}", top, (0, 2), ha="center", va="bottom", bbox=behind)
    return max(high, value)


def _write_not_built(axes: Axes, x: float) -> None:
    _annotate(axes, "no score", (x, 0), (0, 3), rotation=90, ha="center", va="bottom")


def _annotate(
    axes: Axes, text: str, xy: tuple[float, float], offset: tuple[float, float], **style: Any
) -> None:
    """Write small text at an offset in points."""
    axes.annotate(text, xy, offset, textcoords="offset points", fontsize=8, **style)


def _gap_arrow(axes: Axes, rows: pd.DataFrame, sides: list[int], top: float) -> None:
    """Draw an arrow above all bars from the contrast's second side to its first, with the gap.

    It is grey and dashed where the gap's sign is not significant; without a gap there is none.
    """
    if rows.empty:
        return
    row = rows.iloc[0]
    is_significant = style.is_significant(row["settled"])
    colour, dash, weight = (
        ("black", "-", "bold") if is_significant else (style.GREY, "--", "normal")
    )
    first, second = sides
    arrow = {"arrowstyle": "-|>", "linewidth": 1.5, "shrinkA": 0, "shrinkB": 0}
    arrow |= {"color": colour, "linestyle": dash}
    axes.annotate("", (first, 1.12 * top), (second, 1.12 * top), arrowprops=arrow)
    for x in sides:
        axes.plot([x, x], [1.10 * top, 1.14 * top], color=colour, linewidth=1.5)
    value, low, high = (100 * float(row[key]) for key in ("estimate", "low", "high"))
    text = f"{value:+.1f} [{low:+.1f}, {high:+.1f}]".replace("-", "−")
    text += "" if is_significant else f"\n{NOT_SIGNIFICANT}"
    n_bars = len(axes.get_xticks())
    middle = (n_bars - 1) / 2 if n_bars < 4 else (first + second) / 2
    look: dict[str, Any] = {"fontsize": 8.5, "color": colour, "weight": weight}
    axes.text(middle, 1.155 * top, text, ha="center", va="bottom", **look)


def _pale(colour: str, share: float = 0.45) -> tuple[float, float, float]:
    """Return a colour mixed with white, on which a hatch of the colour itself is seen."""
    red, green, blue = (1 - share * (1 - part) for part in to_rgb(colour))
    return red, green, blue


# ---- partners ----


def pairs(estimates: pd.DataFrame, spec: FigureSpec) -> Drawn:
    """Draw the contrast's average gap of partners of one size side by side, a bar per group.

    Bars are pale and dashed where a gap's sign is not significant.
    """
    gaps = style.known(estimates, "gap")
    groups, labels = spec["groups"], dict(spec["shown"]["models"])
    names = _partner_names(labels, estimates, [models for _, models in groups])
    figure, (axes,) = style.panels([""], [max(4.8, 1.6 + 0.5 * len(groups) * len(names))])
    width, parts = 0.8 / len(groups), []
    for index, (group, models) in enumerate(groups):
        for x, model in enumerate(models):
            rows = gaps[gaps["model"] == model]
            _gap_bar(axes, x + width * (index - (len(groups) - 1) / 2), width, rows, index)
            parts.append(style.points(rows, "", group, names[x].replace("\n", " ")))
    axes.axhline(0, color="0.2", linewidth=1)
    axes.set_xticks(range(len(names)), names)
    axes.set_xlim(-0.6, len(names) - 0.4)
    axes.grid(axis="x", visible=False)
    axes.set_xlabel("student size (parameters)")
    axes.set_ylabel(style.wrapped(f"{curves.gap_label(spec)}, mean of benchmarks (points)"))
    points = style.joined(parts)
    drawn = set(points["model"])
    students = [(group, model) for group, models in groups for model in models]
    missing = [f"{group} {labels[model]}" for group, model in students if model not in drawn]
    return Drawn(figure, points, missing, _legend_of_pairs(groups, points))


def _gap_bar(axes: Axes, x: float, width: float, rows: pd.DataFrame, index: int) -> None:
    if rows.empty:
        _write_not_built(axes, x)
        return
    colour, hatch = style.cycled(style.COLOURS, index), style.cycled(style.HATCHES, index)
    if style.is_significant(rows["settled"].iloc[0]):
        fill, edge, dash, whisker = _pale(colour, 0.55), to_rgb(colour), "-", "black"
    else:
        fill, edge, dash, whisker = _pale(colour, 0.12), _pale(colour, 0.7), "--", style.GREY
    look: dict[str, Any] = {"color": fill, "edgecolor": edge, "hatch": hatch, "linestyle": dash}
    value = 100 * float(rows["estimate"].iloc[0])
    axes.bar(x, value, width=0.9 * width, linewidth=1.2, **look)
    style.whiskers(axes, [x], rows, ecolor=whisker, elinewidth=1.3, capsize=4)


def _partner_names(
    labels: dict[str, str], estimates: pd.DataFrame, groups: Sequence[Sequence[str]]
) -> list[str]:
    """Return partners' common labels; equal ones with the first partner's family."""
    families = _families(estimates)
    partners = list(zip(*groups, strict=True))
    names = ["/".join(dict.fromkeys(labels[model] for model in models)) for models in partners]
    return [
        name if names.count(name) == 1 else f"{name}\n{families.get(models[0], models[0])}"
        for name, models in zip(names, partners, strict=True)
    ]


def _legend_of_pairs(groups: Sequence[Sequence[Any]], points: pd.DataFrame) -> list[Artist]:
    """Return a patch per group, and what pale means where a bar is."""
    handles: list[Artist] = []
    for index, (name, _) in enumerate(groups):
        colour, hatch = style.cycled(style.COLOURS, index), style.cycled(style.HATCHES, index)
        fill = _pale(colour, 0.55)
        handles.append(Patch(facecolor=fill, edgecolor=colour, hatch=hatch, label=name))
    if not all(map(style.is_significant, points["settled"])):
        handles.append(Patch(facecolor="white", edgecolor=style.GREY, linestyle="--", label=PALE))
    return handles
