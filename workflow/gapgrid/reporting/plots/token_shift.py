"""The token rank shift figure: a panel for each student and training set."""

import textwrap
from typing import Any

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.patches import Patch

from gapgrid.core.records import Row
from gapgrid.core.spec_types import ShiftFigureSpec
from gapgrid.core.text import visible
from gapgrid.reporting.plots import style

MOST_TYPES = 12  # in a panel
LONGEST = 18  # characters of a token on the axis
OTHER: dict[str, Any] = {"facecolor": style.COLOURS[0], "edgecolor": style.COLOURS[0]}
CONNECTOR: dict[str, Any] = {"facecolor": style.COLOURS[1], "edgecolor": "white", "hatch": "///"}


def token_text(token: str) -> str:
    r"""Return a token as one line of text: spaces as ␣, long ones cut.

    Characters for which the figure's font has no glyph become \u{…}.
    """
    font = get_font(findfont(FontProperties(family="DejaVu Sans")))
    text = visible(token).replace("\n", "\\n").replace("\t", "\\t").replace(" ", "␣")
    text = "".join(
        char if font.get_char_index(ord(char)) else f"\\u{{{ord(char):04X}}}" for char in text
    )
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def panel(axes: Axes, rows: list[Row], title: str) -> None:
    """Draw a student after one mix: a bar per token type with its mean shift beside it."""
    total, connectors = (
        next(row for row in rows if row["kind"] == kind and row["seed"] is None)
        for kind in ("all", "connectors")
    )
    types = [row for row in rows if row["kind"] == "type" and row["n_shifted"]][:MOST_TYPES]
    shares = [100 * row["share_of_shifts"] for row in types]
    beside: dict[str, Any] = {"textcoords": "offset points", "va": "center", "fontsize": 8}
    for y, (row, share) in enumerate(zip(types, shares, strict=True)):
        axes.barh(y, share, height=0.75, **(CONNECTOR if row["is_connector"] else OTHER))
        axes.annotate(f"+{row['mean_shift']:.1f}", (share, y), (3, 0), **beside)
    axes.set_yticks(range(len(types)), [token_text(row["token"]) for row in types], fontsize=9)
    axes.set_ylim(MOST_TYPES - 0.4, -0.6)
    axes.set_xlim(0, 1.22 * max(shares, default=1))
    axes.grid(axis="y", visible=False)
    lines = [textwrap.fill(title, 28), "no tokens"]
    if total["n"]:
        lines[1] = f"{total['n']:,} tokens, {100 * total['share_shifted']:.1f} % shifted"
    if connectors["share_of_shifts"] is not None:
        lines.append(f"of these {100 * connectors['share_of_shifts']:.1f} % connectors")
    axes.set_title("\n".join(lines), fontsize=9)


def draw(points: list[Row], spec: ShiftFigureSpec, lines: list[str], warning: str | None) -> Figure:
    """Draw a panel for each student (down) and mix (across); `lines` stand above them."""
    models, mixes = spec["shown"]["models"], spec["shown"]["mixes"]
    size = (3.4 * max(2, len(mixes)), 3.7 * len(models))
    figure, grid = plt.subplots(len(models), len(mixes), figsize=size, squeeze=False)
    for down, (model, student) in enumerate(models):
        for across, (mix, label) in enumerate(mixes):
            rows = [row for row in points if (row["model"], row["mix"]) == (model, mix)]
            panel(grid[down, across], rows, f"{student}, {label}" if len(models) > 1 else label)
    for axes in grid[-1]:
        axes.set_xlabel("share of shifted tokens (%)")
    handles = [Patch(label="stylistic connector", **CONNECTOR), Patch(label="other token", **OTHER)]
    style.finish(figure, lines, warning, handles)
    return figure
