"""Figures with names on the x axis: a student's training sets side by side, and partners of one size side by side."""

import textwrap
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import Patch

from gapgrid.plots import drawing
from gapgrid.plots.curves import finish_accuracy, missing_accuracies
from gapgrid.plots.drawing import Drawn

Spec = dict[str, Any]
PALE = "pale, dashed: sign not settled"


def bars(estimates: pd.DataFrame, spec: Spec) -> Drawn:
    """A panel a student: a bar for each training set with its interval, and the contrast's gap as an arrow with its number."""
    averages = drawing.known(estimates, "accuracy")
    models, mixes, contrast = spec["shown"]["models"], spec["shown"]["mixes"], spec["contrast"]
    titles = [_student(estimates, model, label) for model, label in models]
    figure, panels = drawing.sheet(titles, [1.2 + 0.66 * len(mixes)] * len(models))
    look, parts, tops = drawing.looks(mixes), [], []
    for (model, _), title, axes in zip(models, titles, panels, strict=True):
        rows = averages[averages["model"] == model]
        if len(models) == 1:
            axes.set_title(title, fontsize=10)
        tops += [_bar(axes, place, look[mix], rows[rows["mix"] == mix]) for place, (mix, _) in enumerate(mixes)]
        parts += [drawing.points(rows[rows["mix"] == mix], title, label, label) for mix, label in mixes]
        axes.set_xticks(range(len(mixes)), [textwrap.fill(label, 12, break_long_words=False) for _, label in mixes])
        axes.set_xlim(-0.6, len(mixes) - 0.4)
        axes.grid(axis="x", visible=False)
    finish_accuracy(figure, estimates, averages)
    panels[0].set_ylim(0, 1.12 * max(tops))  # room for the numbers
    points = drawing.gathered(parts)
    missing = missing_accuracies(spec, points)
    if contrast:
        gaps = drawing.known(estimates, "gap")
        places = [[mix for mix, _ in mixes].index(side) for side in contrast]
        parts += [_gap(axes, gaps[gaps["model"] == model], places, max(tops)) for (model, _), axes in zip(models, panels, strict=True)]
        panels[0].set_ylim(0, 1.34 * max(tops))  # room for the arrow
        label = " − ".join(dict(mixes)[side] for side in contrast)
        for part, title in zip(parts[-len(models) :], titles, strict=True):
            part["panel"], part["series"], part["x"] = title, label, label
        points = drawing.gathered(parts)
    return Drawn(figure, points, missing)


def _student(estimates: pd.DataFrame, model: str, label: str) -> str:
    """A student's label, after its family where there are several."""
    families = estimates.dropna(subset=["family"]).drop_duplicates("model").set_index("model")["family"]
    return f"{families[model]}, {label}" if families.nunique() > 1 and model in families else label


def _bar(axes: Axes, place: int, look: int, rows: pd.DataFrame) -> float:
    """One bar with its interval and number; where there is no value a word says so. How high it reaches, in per cent."""
    if rows.empty:
        axes.annotate("not built", (place, 0), (0, 3), textcoords="offset points", rotation=90, ha="center", va="bottom", fontsize=8)
        return 1.0
    value, high = 100 * float(rows["estimate"].iloc[0]), 100 * float(rows["high"].iloc[0])
    colour, hatch = drawing.COLOURS[look % len(drawing.COLOURS)], drawing.HATCHES[look % len(drawing.HATCHES)]
    axes.bar(place, value, width=0.72, color=_pale(colour), edgecolor=colour, hatch=hatch, linewidth=1.2)
    drawing.whiskers(axes, [place], rows, ecolor="black", elinewidth=1.3, capsize=4)
    above: dict[str, Any] = {"textcoords": "offset points", "ha": "center", "va": "bottom", "fontsize": 8}
    behind = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.5}  # the guess's line ends at the number
    axes.annotate(f"{value:.1f}", (place, max(high, value)), (0, 2), bbox=behind, **above)
    return max(high, value)


def _gap(axes: Axes, rows: pd.DataFrame, places: list[int], top: float) -> pd.DataFrame:
    """An arrow above all bars from the contrast's second side to its first, with the gap and its interval; grey where not settled."""
    if not rows.empty:
        row = rows.iloc[0]
        is_settled = drawing.is_settled(row["settled"])
        colour = "black" if is_settled else drawing.GREY
        first, second = places
        style = {
            "arrowstyle": "-|>",
            "color": colour,
            "linewidth": 1.5,
            "linestyle": "-" if is_settled else "--",
            "shrinkA": 0,
            "shrinkB": 0,
        }
        axes.annotate("", (first, 1.12 * top), (second, 1.12 * top), arrowprops=style)
        for place in places:
            axes.plot([place, place], [1.10 * top, 1.14 * top], color=colour, linewidth=1.5)
        value, low, high = (100 * float(row[key]) for key in ("estimate", "low", "high"))
        text = f"{value:+.1f} [{low:+.1f}, {high:+.1f}]" + ("" if is_settled else "\nsign not settled")
        weight = "bold" if is_settled else "normal"
        middle = (len(axes.get_xticks()) - 1) / 2 if len(axes.get_xticks()) < 4 else (first + second) / 2
        axes.text(middle, 1.155 * top, text.replace("-", "−"), ha="center", va="bottom", fontsize=8.5, color=colour, weight=weight)
    return drawing.points(rows, "", "", None)


def _pale(colour: str, share: float = 0.45) -> tuple[float, float, float]:
    """A colour mixed with white, on which a hatch of the colour itself is seen."""
    red, green, blue = (1 - share * (1 - part) for part in to_rgb(colour))
    return red, green, blue


# ---- partners ----


def pairs(estimates: pd.DataFrame, spec: Spec) -> Drawn:
    """The contrast's average gap of partners of one size side by side, a bar a group; pale and dashed where its sign is not settled."""
    gaps = drawing.known(estimates, "gap").set_index("model", drop=False)
    groups, labels = spec["groups"], dict(spec["shown"]["models"])
    partners = list(zip(*(models for _, models in groups), strict=True))
    figure, (axes,) = drawing.sheet([""], [max(4.8, 1.6 + 0.5 * len(groups) * len(partners))])
    width, parts = 0.8 / len(groups), []
    for index, (name, models) in enumerate(groups):
        for place, model in enumerate(models):
            rows = gaps[gaps["model"] == model]
            at = place + width * (index - (len(groups) - 1) / 2)
            _gap_bar(axes, at, width, rows, index)
            parts.append(drawing.points(rows, "", name, _partners(labels, estimates, partners, place).replace("\n", " ")))
    axes.axhline(0, color="0.2", linewidth=1)
    axes.set_xticks(range(len(partners)), [_partners(labels, estimates, partners, place) for place in range(len(partners))])
    axes.set_xlim(-0.6, len(partners) - 0.4)
    axes.grid(axis="x", visible=False)
    axes.set_xlabel("student size (parameters)")
    mixes = dict(spec["shown"]["mixes"])
    axes.set_ylabel(drawing.wrapped(f"{mixes[spec['contrast'][0]]} − {mixes[spec['contrast'][1]]}, mean of benchmarks (points)"))
    points = drawing.gathered(parts)
    there = set(points["model"])
    return Drawn(figure, points, [f"{name} {labels[model]}" for name, models in groups for model in models if model not in there])


def _gap_bar(axes: Axes, at: float, width: float, rows: pd.DataFrame, index: int) -> None:
    if rows.empty:
        axes.annotate("not built", (at, 0), (0, 3), textcoords="offset points", rotation=90, ha="center", va="bottom", fontsize=8)
        return
    colour, hatch = drawing.COLOURS[index % len(drawing.COLOURS)], drawing.HATCHES[index % len(drawing.HATCHES)]
    is_settled = drawing.is_settled(rows["settled"].iloc[0])
    fill, dash = (_pale(colour, 0.55), "-") if is_settled else (_pale(colour, 0.12), "--")
    value = 100 * float(rows["estimate"].iloc[0])
    edge = colour if is_settled else _pale(colour, 0.7)
    axes.bar(at, value, width=0.9 * width, color=fill, edgecolor=edge, hatch=hatch, linestyle=dash, linewidth=1.2)
    drawing.whiskers(axes, [at], rows, ecolor="black" if is_settled else drawing.GREY, elinewidth=1.3, capsize=4)


def _partners(labels: dict[str, str], estimates: pd.DataFrame, partners: list[tuple[str, ...]], place: int) -> str:
    """Partners' common label; where other partners have it too, with the first one's family."""
    names = ["/".join(dict.fromkeys(labels[model] for model in some)) for some in partners]
    if names.count(names[place]) == 1:
        return names[place]
    families = estimates.dropna(subset=["family"]).drop_duplicates("model").set_index("model")["family"]
    return f"{names[place]}\n{families.get(partners[place][0], partners[place][0])}"


def legend_of_pairs(spec: Spec, points: pd.DataFrame) -> list[Patch]:
    """A patch a group, and what pale means where a bar is."""
    found = []
    for index, (name, _) in enumerate(spec["groups"]):
        colour = drawing.COLOURS[index % len(drawing.COLOURS)]
        hatch = drawing.HATCHES[index % len(drawing.HATCHES)]
        found.append(Patch(facecolor=_pale(colour, 0.55), edgecolor=colour, hatch=hatch, label=name))
    if not all(map(drawing.is_settled, points["settled"])):
        found.append(Patch(facecolor="white", edgecolor=drawing.GREY, linestyle="--", label=PALE))
    return found
