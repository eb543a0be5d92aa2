"""curves: heights, axes and markers are those of the estimates, and show what is significant."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes

from gapgrid.grid.cells import Grid
from gapgrid.reporting.plots import curves
from gapgrid.reporting.plots.style import Drawn
from tests.unit import pictures
from tests.unit.pictures import DEMO, PAPER, Missing, spec_of

drawing_style = pictures.drawing_style


def draw(
    plot: Callable[..., Drawn], grid: Grid, experiment: str, **changes: Any
) -> tuple[Drawn, pd.DataFrame]:
    """A figure, and the estimates behind it; `changes` are values of columns."""
    table = pictures.estimates(grid, experiment).assign(**changes)
    return plot(table, spec_of(grid, experiment)), table


def lines(axes: Axes) -> dict[str, list[float]]:
    """Label of each line with markers -> its heights."""
    labelled: dict[str, Any] = {str(line.get_label()): line for line in axes.lines}
    return {
        label: [round(float(y), 6) for y in line.get_ydata()]
        for label, line in labelled.items()
        if line.get_marker() not in ("None", "") and not label.startswith("_")
    }


def lines_called(drawn: Drawn, *labels: str) -> list[Any]:
    """The first panel's lines with one of these labels."""
    return [line for line in drawn.figure.axes[0].lines if line.get_label() in labels]


def heights(table: pd.DataFrame, **chosen: Any) -> list[float]:
    """Estimates in per cent, by size."""
    for key, value in chosen.items():
        table = table[table[key] == value]
    return [round(100 * value, 6) for value in table.sort_values("params_b")["estimate"]]


def legend(drawn: Drawn) -> list[Any]:
    """The labels in the legend."""
    return [handle.get_label() for handle in drawn.handles]


def test_a_gap_is_drawn_in_points_by_size() -> None:
    drawn, table = draw(curves.gap_by_size, DEMO, "long-gap")
    (axes,) = drawn.figure.axes
    names = {"2 events": "k2", "4 events": "k4", "6 events": "k6", "average": "average"}
    assert lines(axes) == {
        label: heights(table, quantity="gap", benchmark=name) for label, name in names.items()
    }
    assert axes.get_ylabel() == "long CoT − short CoT (points)"
    assert axes.get_xscale() == "log"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["7k", "26k", "103k", "451k"]
    sizes = sorted(entry["params_b"] * 1e9 for entry in DEMO["models"].values())
    assert list(axes.get_xticks()) == pytest.approx(sizes)
    assert len(drawn.points) == 16 and drawn.missing == []


def test_intervals_are_those_given() -> None:
    drawn, table = draw(curves.accuracy_by_mix, DEMO, "accuracy")
    collections: list[Any] = list(drawn.figure.axes[0].collections)
    segments = [segment[:, 1] for bars in collections for segment in bars.get_segments()]
    rows = table[(table["quantity"] == "accuracy") & (table["benchmark"] == "average")]
    expected = 100 * rows[["low", "high"]].sort_values("low").to_numpy()
    assert np.array(sorted(segments, key=lambda ends: ends[0])) == pytest.approx(expected)


def test_a_panel_per_family_in_order_of_size_and_series_side_by_side() -> None:
    drawn, _ = draw(curves.gap_by_size, PAPER, "figure2")
    panels = drawn.figure.axes
    assert [axes.get_title() for axes in panels] == ["Qwen2.5", "Llama-3"]
    assert [[label.get_text() for label in axes.get_xticklabels()] for axes in panels] == [
        ["0.5B", "1.5B", "3B", "7B", "14B", "32B"],
        ["1B", "3B", "8B", "70B"],
    ]
    for axes in panels:
        labelled = [line for line in axes.lines if line.get_label() in lines(axes)]
        x = np.array([np.log(line.get_xdata()) for line in labelled])
        assert (np.diff(x, axis=0) > 0).all() and len(x) == 6
        # No series reaches the next size.
        assert (x[0][1:] > x[-1][:-1]).all()


def test_a_gap_without_significance_is_hollow_and_its_average_on_grey() -> None:
    drawn, _ = draw(curves.gap_by_size, DEMO, "long-gap")
    (axes,) = drawn.figure.axes
    spans: list[Any] = [patch for patch in axes.patches if patch.get_facecolor()[0] == 0.9]
    for span, model in zip(spans, ("s", "l"), strict=True):  # every second one
        size = DEMO["models"][model]["params_b"] * 1e9
        assert span.get_x() < size < span.get_x() + span.get_width()
    hollow: list[Any] = [line for line in axes.lines if line.get_markerfacecolor() == "white"]
    assert [len(line.get_xdata()) for line in hollow] == [2] * 4
    expected = ["hollow: sign not significant", "average's sign not significant"]
    assert legend(drawn)[-2:] == expected
    significant, _ = draw(curves.gap_by_size, DEMO, "long-gap", settled=True)
    assert legend(significant) == ["2 events", "4 events", "6 events", "average"]


def test_accuracies_are_drawn_from_0_with_the_best_guess() -> None:
    drawn, table = draw(curves.accuracy_by_mix, DEMO, "accuracy")
    (axes,) = drawn.figure.axes
    mixes = {"untouched": "none", "short CoT": "short", "long CoT": "long"}
    mixes["mix-long 1:4"] = "mix-long"
    assert lines(axes) == {
        label: heights(table, quantity="accuracy", benchmark="average", mix=mix)
        for label, mix in mixes.items()
    }
    (guess,) = lines_called(drawn, curves.GUESS)
    assert list(guess.get_ydata()) == pytest.approx([9, 9])
    assert axes.get_ylim()[0] == 0
    table.loc[table["quantity"] == "best_guess", "estimate"] = None
    unknown = curves.accuracy_by_mix(table, spec_of(DEMO, "accuracy"))
    assert lines_called(unknown, curves.GUESS) == []


def test_weights_are_read_from_the_mixes() -> None:
    drawn, table = draw(curves.by_weight, PAPER, "figure6-long")
    (line,) = lines_called(drawn, "3B")
    weights = np.arange(11) / 10
    assert list(line.get_xdata()) == pytest.approx(weights)
    rows = table[(table["quantity"] == "accuracy") & (table["benchmark"] == "average")]
    values = rows.set_index("mix")["estimate"]
    expected = [100 * values[mix] for mix in PAPER["experiments"]["figure6-long"]["mixes"]]
    assert list(line.get_ydata()) == pytest.approx(expected)
    (axes,) = drawn.figure.axes
    ticks = [label.get_text() for label in axes.get_xticklabels()]
    assert (ticks[0], ticks[2], ticks[-1]) == ("0\nshort CoT", "0.2", "1\nlong CoT")
    assert axes.get_xlabel() == "weight of long CoT in the mix (share of its rows)"
    assert list(drawn.points["x"]) == pytest.approx(weights)


def test_untouched_students_are_level_lines_in_their_colour() -> None:
    drawn, table = draw(curves.by_weight, DEMO, "weights")
    levels = lines_called(drawn, curves.LEVEL)
    students = lines_called(drawn, "7k", "26k", "103k", "451k")
    assert [line.get_color() for line in levels] == [line.get_color() for line in students]
    expected = heights(table, quantity="accuracy", benchmark="average", mix="none")
    assert [float(line.get_ydata()[0]) for line in levels] == pytest.approx(expected)
    assert legend(drawn).count(curves.LEVEL) == 1
    assert len(drawn.points) == 16


def test_a_sweep_far_from_0_is_shown_from_near_its_lowest_point() -> None:
    table = pictures.estimates(PAPER, "figure6-long")
    table.loc[table["quantity"] == "accuracy", ["estimate", "low", "high"]] = [0.4, 0.38, 0.43]
    drawn = curves.by_weight(table, spec_of(PAPER, "figure6-long"))
    low, high = drawn.figure.axes[0].get_ylim()
    assert 30 < low < 38 and 43 < high < 50
    assert lines_called(drawn, curves.GUESS) == []


@pytest.mark.parametrize(
    ("plot", "experiment", "missing", "named"),
    [
        (
            curves.gap_by_size,
            "long-gap",
            {("xs", "long")},
            ["7k 2 events", "7k 4 events", "7k 6 events", "7k average"],
        ),
        (
            curves.accuracy_by_mix,
            "accuracy",
            {("xs", "long"), ("l", "none")},
            ["7k long CoT", "451k untouched"],
        ),
        (
            curves.by_weight,
            "weights",
            {("xs", "mix-long"), ("s", "none")},
            ["7k mix-long 1:4", "26k untouched"],
        ),
    ],
)
def test_what_is_missing_is_left_out_and_named(
    plot: Callable[..., Drawn], experiment: str, missing: set[Missing], named: list[str]
) -> None:
    table = pictures.estimates(DEMO, experiment, missing)
    drawn = plot(table, spec_of(DEMO, experiment))
    assert drawn.missing == named and len(drawn.points) == 16 - len(named)
    # A row that is not there counts like an empty one.
    table = table.dropna(subset=["estimate"])
    assert plot(table, spec_of(DEMO, experiment)).missing == named
