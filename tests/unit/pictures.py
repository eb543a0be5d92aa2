"""Made-up estimates of any experiment, as stage `table` writes them, and the texts of figures."""

import json
from collections.abc import Iterator, Set
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox

from gapgrid.core.cells import AVERAGE
from gapgrid.grid.cells import Grid
from gapgrid.grid.specs import figure_spec
from gapgrid.reporting.plots import style
from gapgrid.stages import figure
from tests.unit.conftest import loaded

GRIDS: dict[str, Grid] = {name: loaded(name) for name in ("demo", "paper")}
DEMO, PAPER = GRIDS.values()
Missing = tuple[str, str]  # student and mix without a value
NOTES: dict[str, Any] = {
    "caption": "What it shows.",
    "protocol": [],
    "differs": [],
    "varies": "the mix differs",
    "between_students": [],
    "n_missing": 0,
}


@pytest.fixture(autouse=True)
def drawing_style() -> Iterator[None]:
    """Draw as the stages do and close every figure, in modules that import this name."""
    with plt.rc_context(style.STYLE):
        yield
    plt.close("all")


def spec_of(grid: Grid, experiment: str) -> Any:
    """The spec of an experiment's figure."""
    return json.loads(figure_spec(grid, experiment))


def estimates(
    grid: Grid, experiment: str, missing: Set[Missing] = frozenset(), seeds: int = 1
) -> pd.DataFrame:
    """Accuracies from 5 to 95 % and gaps of either sign, significant for every second student.

    Missing values are empty rows.
    """
    spec = spec_of(grid, experiment)
    random = np.random.default_rng(0)
    benchmarks = [*(name for name, _ in spec["shown"]["benchmarks"]), AVERAGE]
    rows: list[dict[str, Any]] = []
    for rank, (model, _) in enumerate(spec["shown"]["models"]):
        student = {"model": model, "n_seeds": seeds, "n_questions": 100}
        student |= {key: grid["models"][model][key] for key in ("family", "params_b")}
        for benchmark in benchmarks:
            values = {mix: random.uniform(0.05, 0.95) for mix, _ in spec["shown"]["mixes"]}
            for mix, value in values.items():
                low, high = max(value - 0.1, 0), min(value + 0.1, 1)
                row = {"quantity": "accuracy", "mix": mix, "minus": None, "settled": None}
                row |= {"benchmark": benchmark, "estimate": value, "low": low, "high": high}
                rows.append(student | row)
            if spec["contrast"]:
                first, second = spec["contrast"]
                gap = values[first] - values[second]
                row = {"quantity": "gap", "mix": first, "minus": second, "settled": rank % 2 == 0}
                row |= {
                    "benchmark": benchmark,
                    "estimate": gap,
                    "low": gap - 0.2,
                    "high": gap + 0.2,
                }
                rows.append(student | row)
    for row in rows:
        if {(row["model"], row["mix"]), (row["model"], row["minus"])} & missing:
            columns = ("estimate", "low", "high", "settled", "n_questions", "n_seeds")
            row.update(dict.fromkeys(columns))
    guess = {"quantity": "best_guess", "estimate": 0.09, "n_questions": 100}
    rows += [{**guess, "benchmark": benchmark} for benchmark in benchmarks]
    return pd.DataFrame(rows)


def drawn(
    grid: Grid, experiment: str, notes: dict[str, Any] = NOTES, **options: Any
) -> tuple[Figure, pd.DataFrame, list[str]]:
    """The figure of made-up estimates, its points, and the lines above it."""
    table = estimates(grid, experiment, **options)
    return figure.draw(table, spec_of(grid, experiment), notes)


def texts(picture: Figure) -> dict[str, Bbox]:
    """Every text that is seen outside legends, and every legend, with its box in pixels."""
    picture.draw_without_rendering()
    boxes = {f"figure text {text.get_text()}": text.get_window_extent() for text in picture.texts}
    for number, legend in enumerate(picture.legends):
        boxes[f"legend {number}"] = legend.get_window_extent()
    for panel, axes in enumerate(picture.axes):
        labels = [axes.xaxis.label, axes.yaxis.label, axes.title, *axes.texts]
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            ticks = [tick for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
            # The box of a turned label is larger than its text.
            if is_level(axis.get_ticklabels()):
                labels += [tick.label1 for tick in ticks]
        for number, label in enumerate(labels):
            if label.get_visible() and label.get_text():
                # Of an annotation the text alone, without its arrow.
                kind = Text if isinstance(label, Annotation) else type(label)
                box = kind.get_window_extent(label)
                boxes[f"panel {panel} {number} {label.get_text()}"] = box
    return boxes


def is_level(labels: list[Text]) -> bool:
    """Whether tick labels are not turned."""
    return all(label.get_rotation() == 0 for label in labels)


def collisions(picture: Figure) -> list[tuple[str, str]]:
    """Pairs of texts that overlap, and texts that leave the figure."""
    boxes = texts(picture)
    pairs = [pair for pair in combinations(boxes, 2) if _overlap(*map(boxes.__getitem__, pair))]
    width, height = picture.get_size_inches() * picture.dpi
    return pairs + [
        (text, "edge")
        for text, box in boxes.items()
        if min(box.x0, box.y0) < -1 or box.x1 > width + 1 or box.y1 > height + 1
    ]


def _overlap(one: Bbox, other: Bbox) -> bool:
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    return width > 1 and height > 1
