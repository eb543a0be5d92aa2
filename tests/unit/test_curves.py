"""curves: heights, axes and marks are those of the estimates; what is not settled is hollow and grey."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes

from gapgrid.plots import curves
from tests.unit import pictures
from tests.unit.pictures import GRIDS, spec_of

closed = pictures.closed


def lines(axes: Axes) -> dict[str, list[float]]:
    """Label of each line with markers -> its heights."""
    return {
        str(line.get_label()): [round(float(y), 6) for y in line.get_ydata()]  # type: ignore[union-attr]
        for line in axes.lines
        if line.get_marker() not in ("None", "") and not str(line.get_label()).startswith("_")
    }


def heights(table: pd.DataFrame, **where: Any) -> list[float]:
    """Estimates in per cent, by size."""
    for key, value in where.items():
        table = table[table[key] == value]
    return [round(100 * value, 6) for value in table.sort_values("params_b")["estimate"]]


def test_a_gap_is_drawn_in_points_by_size() -> None:
    table = pictures.estimates(GRIDS["demo"], "long-gap")
    drawn = curves.gap_by_size(table, spec_of("demo", "long-gap"))
    (axes,) = drawn.figure.axes
    names = {"2 events": "k2", "4 events": "k4", "6 events": "k6", "average": "average"}
    assert lines(axes) == {label: heights(table, quantity="gap", benchmark=name) for label, name in names.items()}
    assert axes.get_ylabel() == "long CoT − short CoT (points)"
    assert axes.get_xscale() == "log"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["7k", "26k", "103k", "451k"]
    sizes = [entry["params_b"] * 1e9 for entry in GRIDS["demo"]["models"].values()]
    assert list(axes.get_xticks()) == pytest.approx(sorted(sizes))
    assert len(drawn.points) == 16 and drawn.missing == []


def test_intervals_are_those_given() -> None:
    table = pictures.estimates(GRIDS["demo"], "accuracy")
    axes = curves.accuracy_by_mix(table, spec_of("demo", "accuracy")).figure.axes[0]
    found = sorted(tuple(np.round(segment[:, 1], 6)) for bars in axes.collections for segment in bars.get_segments())  # type: ignore[attr-defined]
    rows = table[(table["quantity"] == "accuracy") & (table["benchmark"] == "average")]
    assert found == sorted((round(100 * low, 6), round(100 * high, 6)) for low, high in zip(rows["low"], rows["high"], strict=True))


def test_series_stand_side_by_side_without_reaching_the_next_size() -> None:
    table = pictures.estimates(GRIDS["paper"], "figure2")
    figure = curves.gap_by_size(table, spec_of("paper", "figure2")).figure
    for axes in figure.axes:
        at = {str(line.get_label()): np.log(line.get_xdata()) for line in axes.lines if str(line.get_label()) in lines(axes)}
        stacked = np.array(list(at.values()))
        assert (np.diff(stacked, axis=0) > 0).all() and len(at) == 6
        assert (stacked[0][1:] > stacked[-1][:-1]).all()


def test_a_gap_whose_sign_is_open_is_hollow_and_its_average_grey() -> None:
    table = pictures.estimates(GRIDS["demo"], "long-gap")
    axes = curves.gap_by_size(table, spec_of("demo", "long-gap")).figure.axes[0]
    spans = [patch for patch in axes.patches if patch.get_label() == curves.OPEN or patch.get_facecolor()[0] == 0.9]
    open_sizes = [GRIDS["demo"]["models"][model]["params_b"] * 1e9 for model in ("s", "l")]  # every second one
    assert len(spans) == 2
    assert all(span.get_x() < size < span.get_x() + span.get_width() for span, size in zip(spans, open_sizes, strict=True))  # type: ignore[attr-defined]
    hollow = [line for line in axes.lines if line.get_markerfacecolor() == "white"]
    assert [len(line.get_xdata()) for line in hollow] == [2] * 4  # type: ignore[arg-type]
    assert [handle.get_label() for handle in curves.legend_of(axes.figure)][-2:] == ["hollow: sign not settled", curves.OPEN]  # type: ignore[arg-type]


def test_a_settled_figure_has_neither() -> None:
    table = pictures.estimates(GRIDS["demo"], "long-gap").assign(settled=True)
    figure = curves.gap_by_size(table, spec_of("demo", "long-gap")).figure
    assert [handle.get_label() for handle in curves.legend_of(figure)] == ["2 events", "4 events", "6 events", "average"]


def test_a_panel_for_each_family_in_order_of_size() -> None:
    figure = curves.gap_by_size(pictures.estimates(GRIDS["paper"], "figure2"), spec_of("paper", "figure2")).figure
    assert [axes.get_title() for axes in figure.axes] == ["Qwen2.5", "Llama-3"]
    assert [[label.get_text() for label in axes.get_xticklabels()] for axes in figure.axes] == [
        ["0.5B", "1.5B", "3B", "7B", "14B", "32B"],
        ["1B", "3B", "8B", "70B"],
    ]


def test_accuracies_are_drawn_from_0_with_the_best_guess() -> None:
    table = pictures.estimates(GRIDS["demo"], "accuracy")
    axes = curves.accuracy_by_mix(table, spec_of("demo", "accuracy")).figure.axes[0]
    labels = {"untouched": "none", "short CoT": "short", "mix-long 1:4": "mix-long", "long CoT": "long"}
    assert lines(axes) == {label: heights(table, quantity="accuracy", benchmark="average", mix=mix) for label, mix in labels.items()}
    (guess,) = [line for line in axes.lines if line.get_label() == curves.GUESS]
    assert list(guess.get_ydata()) == pytest.approx([9, 9])  # type: ignore[arg-type]
    assert axes.get_ylim()[0] == 0


def test_an_unknown_guess_is_no_line() -> None:
    table = pictures.estimates(GRIDS["demo"], "accuracy")
    table.loc[table["quantity"] == "best_guess", "estimate"] = None
    axes = curves.accuracy_by_mix(table, spec_of("demo", "accuracy")).figure.axes[0]
    assert not [line for line in axes.lines if line.get_label() == curves.GUESS]


def test_weights_are_read_from_the_mixes() -> None:
    table = pictures.estimates(GRIDS["paper"], "figure6-long")
    drawn = curves.by_weight(table, spec_of("paper", "figure6-long"))
    (axes,) = drawn.figure.axes
    (line,) = [line for line in axes.lines if line.get_label() == "3B"]
    assert list(line.get_xdata()) == pytest.approx(np.arange(11) / 10)  # type: ignore[arg-type]
    rows = table[(table["quantity"] == "accuracy") & (table["benchmark"] == "average")].set_index("mix")["estimate"]
    wanted = [rows[mix] for mix in GRIDS["paper"]["experiments"]["figure6-long"]["mixes"]]
    assert list(line.get_ydata()) == pytest.approx([100 * value for value in wanted])  # type: ignore[arg-type]
    ticks = [label.get_text() for label in axes.get_xticklabels()]
    assert (ticks[0], ticks[2], ticks[-1]) == ("0\nshort CoT", "0.2", "1\nlong CoT")
    assert axes.get_xlabel() == "weight of long CoT in the mix (share of its rows)"
    assert list(drawn.points["x"]) == pytest.approx(np.arange(11) / 10)


def test_untouched_students_are_level_lines_in_their_colour() -> None:
    table = pictures.estimates(GRIDS["demo"], "weights")
    drawn = curves.by_weight(table, spec_of("demo", "weights"))
    levels = [line for line in drawn.figure.axes[0].lines if line.get_label() == curves.LEVEL]
    students = [line for line in drawn.figure.axes[0].lines if line.get_label() in ("7k", "26k", "103k", "451k")]
    assert [line.get_color() for line in levels] == [line.get_color() for line in students]
    models = ("xs", "s", "m", "l")
    wanted = [heights(table, quantity="accuracy", benchmark="average", mix="none", model=model)[0] for model in models]
    assert [float(line.get_ydata()[0]) for line in levels] == pytest.approx(wanted)  # type: ignore[index]
    assert [handle.get_label() for handle in curves.legend_of(drawn.figure)].count(curves.LEVEL) == 1
    assert len(drawn.points) == 16


def test_a_sweep_far_from_0_is_shown_from_near_its_lowest_point() -> None:
    table = pictures.estimates(GRIDS["paper"], "figure6-long")
    for column, value in (("estimate", 0.4), ("low", 0.38), ("high", 0.43)):
        table.loc[table["quantity"] == "accuracy", column] = value
    axes = curves.by_weight(table, spec_of("paper", "figure6-long")).figure.axes[0]
    assert 30 < axes.get_ylim()[0] < 38 and 43 < axes.get_ylim()[1] < 50
    assert not [line for line in axes.lines if line.get_label() == curves.GUESS]


@pytest.mark.parametrize(
    ("experiment", "missing", "said"),
    [
        ("long-gap", {("xs", "long")}, ["7k 2 events", "7k 4 events", "7k 6 events", "7k average"]),
        ("accuracy", {("xs", "long"), ("l", "none")}, ["7k long CoT", "451k untouched"]),
        ("weights", {("xs", "mix-long"), ("s", "none")}, ["7k mix-long 1:4", "26k untouched"]),
    ],
)
def test_what_is_missing_is_left_out_and_named(experiment: str, missing: set[pictures.Missing], said: list[str]) -> None:
    plot = {"long-gap": curves.gap_by_size, "accuracy": curves.accuracy_by_mix, "weights": curves.by_weight}[experiment]
    drawn = plot(pictures.estimates(GRIDS["demo"], experiment, missing), spec_of("demo", experiment))
    assert drawn.missing == said
    assert len(drawn.points) == 16 - len(said)
    # Rows that are not there are as good as empty ones.
    table = pictures.estimates(GRIDS["demo"], experiment, missing).dropna(subset=["estimate"])
    assert plot(table, spec_of("demo", experiment)).missing == said
