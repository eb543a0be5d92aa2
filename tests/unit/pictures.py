"""Made-up estimates of any experiment of a grid, as stage `table` writes them, and what is in a picture."""

import json
from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox

from gapgrid import config, figure, grid

GRIDS = {name: config.load(name, root=config.REPOSITORY / "config") for name in ("demo", "paper")}
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
def closed() -> Iterator[None]:
    """No figure stays open; for the modules that take this name in."""
    yield
    plt.close("all")


def spec_of(name: str, experiment: str) -> dict[str, Any]:
    """The spec of a figure of `config/<name>`."""
    return dict(json.loads(grid.figure_spec(GRIDS[name], experiment)))


def estimates(of: grid.Grid, experiment: str, missing: set[Missing] = frozenset(), seeds: int = 1) -> pd.DataFrame:  # type: ignore[assignment]
    """Accuracies from 5 to 95 %, gaps of either sign, settled for every second student; missing values as empty rows."""
    spec = json.loads(grid.figure_spec(of, experiment))
    shown, contrast = spec["shown"], spec["contrast"]
    random = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    for rank, (model, _) in enumerate(shown["models"]):
        entry = of["models"][model]
        about = {"model": model, "family": entry["family"], "params_b": entry["params_b"], "n_seeds": seeds, "minus": None}
        for benchmark in (*(name for name, _ in shown["benchmarks"]), "average"):
            values = {mix: float(random.uniform(0.05, 0.95)) for mix, _ in shown["mixes"]}
            for mix, value in values.items():
                row = {"quantity": "accuracy", "mix": mix, "estimate": value, "low": max(value - 0.1, 0), "high": min(value + 0.1, 1)}
                rows.append({**about, **row, "benchmark": benchmark, "n_questions": 100, "settled": None})
            if contrast:
                gap = values[contrast[0]] - values[contrast[1]]
                row = {"quantity": "gap", "mix": contrast[0], "minus": contrast[1], "estimate": gap, "low": gap - 0.2, "high": gap + 0.2}
                rows.append({**about, **row, "benchmark": benchmark, "n_questions": 100, "settled": rank % 2 == 0})
    for row in rows:
        if any((row["model"], mix) in missing for mix in (row["mix"], row["minus"])):
            row.update(estimate=None, low=None, high=None, settled=None, n_questions=None, n_seeds=None)
    for benchmark in (*(name for name, _ in shown["benchmarks"]), "average"):
        rows.append({"quantity": "best_guess", "benchmark": benchmark, "estimate": 0.09, "n_questions": 100})
    return pd.DataFrame(rows)


def drawn(of: grid.Grid, experiment: str, notes: dict[str, Any] = NOTES, **options: Any) -> tuple[Figure, pd.DataFrame, list[str]]:
    """The figure of made-up estimates, its points, and the lines above it."""
    return figure.draw(estimates(of, experiment, **options), json.loads(grid.figure_spec(of, experiment)), notes)


def texts(picture: Figure) -> dict[str, Bbox]:
    """Every text that is seen outside legends, and every legend, with its box in pixels."""
    picture.draw_without_rendering()
    found: list[tuple[str, Bbox]] = [(f"figure text {text.get_text()}", text.get_window_extent()) for text in picture.texts]
    found += [(f"legend {place}", legend.get_window_extent()) for place, legend in enumerate(picture.legends)]
    for place, axes in enumerate(picture.axes):
        low, high = axes.get_ylim()
        labels = [axes.xaxis.label, axes.yaxis.label, axes.title, *axes.texts]
        labels += [tick.label1 for tick in axes.yaxis.get_major_ticks() if low <= tick.get_loc() <= high]
        labels += axes.get_xticklabels() if is_level(axes.get_xticklabels()) else []
        for number, label in enumerate(labels):
            if label.get_visible() and label.get_text():
                box = Text.get_window_extent(label) if isinstance(label, Annotation) else label.get_window_extent()
                found.append((f"panel {place} {number} {label.get_text()}", box))
    return dict(found)


def is_level(labels: list[Text]) -> bool:
    """Whether tick labels are not turned."""
    return all(label.get_rotation() == 0 for label in labels)


def collisions(picture: Figure) -> list[tuple[str, str]]:
    """Pairs of texts that lie on each other, and texts that leave the sheet."""
    boxes = texts(picture)
    found = [(one, other) for one, other in combinations(boxes, 2) if _overlap(boxes[one], boxes[other])]
    width, height = picture.get_size_inches() * picture.dpi
    outside = [(one, "edge") for one, box in boxes.items() if min(box.x0, box.y0) < -1 or box.x1 > width + 1 or box.y1 > height + 1]
    return found + outside


def _overlap(one: Bbox, other: Bbox) -> bool:
    return min(one.x1, other.x1) - max(one.x0, other.x0) > 1 and min(one.y1, other.y1) - max(one.y0, other.y0) > 1
