"""dashboard: what the page holds, and that nothing in it can be taken for markup."""

import base64
import hashlib
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pytest

from gapgrid.core.cells import Cell
from gapgrid.core.records import sha256_file, write_json, write_text
from gapgrid.reporting.dashboard import cards, heatmap, page
from gapgrid.reporting.dashboard.heatmap import CellState
from gapgrid.state import status

HOSTILE = "</script><script>x</script><!-- \u2028 \ud800 & <img src=x onerror=y>"


def cell_state(acc: float | None, state: str = "fresh", *reasons: str) -> CellState:
    """A cell with that accuracy, without a score for None."""
    return CellState(None if acc is None else {"acc": acc, "n": 200}, state, reasons)


def figure_of(
    grid: dict[str, Any],
    states: dict[str, CellState],
    benchmark: str,
    intervals: heatmap.Intervals | None = None,
) -> tuple[list[list[float | None]], list[str], dict[str, Any]]:
    """Scores by student and mix, the first column's texts on hover, and the figure."""
    names = {name: name.split("/") for name in states}
    cells = {Cell(m, x, int(s), b): states[name] for name, (m, x, s, b) in names.items()}
    figure = heatmap.figures(grid, cells, intervals or {})[benchmark]
    go.Figure(figure)  # raises where Plotly does not know a key
    return figure["data"][1]["z"], [row[0] for row in figure["data"][0]["text"]], figure


def test_embedded_values_are_ascii_and_hold_no_markup() -> None:
    text = cards.as_script("f", HOSTILE, {"a": [float("nan"), HOSTILE]})
    assert text.isascii() and not re.search("[<>&]", text) and "\n" not in text[:-1]
    assert json.loads(f"[{text[2:-3]}]") == [HOSTILE, {"a": [None, HOSTILE]}]


def test_the_policy_knows_the_scripts_of_the_page(demo: dict[str, Any], tmp_path: Path) -> None:
    statuses = status.assess(demo, tmp_path, tmp_path, status.work_in(tmp_path))
    data = page.content(demo, tmp_path, status.cell_steps(demo, statuses))
    text = page.page(demo, statuses, data, datetime(2026, 1, 1, tzinfo=UTC))
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    assert len(scripts) == 2
    policy = re.search(r'content="(default-src[^"]*)"', text)
    assert policy is not None and policy[1].startswith("default-src 'none'")
    for script in scripts:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy[1]
    assert not re.search("http|unsafe-eval|connect-src", policy[1])


def test_maps_hold_means_over_seeds_and_say_what_is_missing(demo: dict[str, Any]) -> None:
    states = {
        "xs/long/0/k2": cell_state(0.5),
        "xs/long/1/k2": cell_state(0.7, "stale", "train stale: recipe.learning_rate 1 → 2"),
        "m/long/0/k2": cell_state(None, "missing"),
    }
    intervals = {("xs", "long", "k2"): (0.4, 0.8, 0.95)}
    scores, hover, figure = figure_of(demo, states, "k2", intervals)
    assert scores == [[pytest.approx(60.0)], [None]]
    assert "accuracy 60.0 % [40.0, 80.0] (95 % interval), 2 seeds" in hover[0]
    assert "seed 1: 70.0 % (n = 200), stale" in hover[0]
    assert "recipe.learning_rate 1 → 2" in hover[0]
    assert "no score, missing" in hover[1]
    assert figure["data"][2]["text"] == ["60.0 △", "–"]


def test_an_average_is_of_all_benchmarks_or_none(demo: dict[str, Any]) -> None:
    states = {
        "xs/long/0/k2": cell_state(0.5),
        "xs/long/0/k4": cell_state(0.1),
        "m/long/0/k2": cell_state(0.5),
        "m/long/0/k4": cell_state(None, "missing"),
        "l/long/0/k2": cell_state(0.5),
    }
    scores, hover, _ = figure_of(demo, states, "average")
    assert scores == [[pytest.approx(30.0)], [None], [None]]
    assert "no table of these scores yet" in hover[0]
    assert "no score of 1 of 2 benchmarks" in hover[1]
    assert "has 1 of these 2 benchmarks" in hover[2]


def test_names_and_reasons_are_escaped_in_a_map(demo: dict[str, Any]) -> None:
    demo["models"]["xs"]["label"] = demo["mixes"]["long"]["label"] = "<b>&</b>"
    states = {"xs/long/0/k2": cell_state(0.5, "stale", "<i>why</i>")}
    _, _, figure = figure_of(demo, states, "k2")
    text = json.dumps(figure)
    assert "<b>&</b>" not in text and "<i>why" not in text and "&lt;i&gt;why" in text
    assert figure["layout"]["yaxis"]["ticktext"] == ["&lt;b&gt;&amp;&lt;/b&gt;"]


@pytest.fixture
def one_cell(demo: dict[str, Any]) -> dict[str, Any]:
    """A grid of the cell xs/long/0/k2."""
    one = {"models": ["xs"], "mixes": ["long"], "benchmarks": ["k2"], "plot": "bars"}
    demo["experiments"] = {"one": {**one, "caption": "One."}}
    return demo


def test_intervals_only_of_present_scores(one_cell: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "score/xs/long/0/k2/score.json"
    write_json(file, {"acc": 0.5})
    write_text(
        tmp_path / "tables/one.estimates.csv",
        "quantity,model,mix,benchmark,low,high\n"
        "accuracy,xs,long,k2,0.4,0.6\naccuracy,xs,long,average,,\n",
    )
    inputs = {"xs/long/0/k2": sha256_file(file)}
    write_json(tmp_path / "tables/one.manifest.json", {"inputs": inputs})
    confidence = one_cell["statistics"]["confidence"]
    expected = {("xs", "long", "k2"): (0.4, 0.6, confidence)}
    assert heatmap.intervals(one_cell, tmp_path) == expected
    write_json(file, {"acc": 0.6})
    assert heatmap.intervals(one_cell, tmp_path) == {}


def answers(n: int, first: int = 0, verdict: str = "incorrect", **more: Any) -> list[cards.Graded]:
    """Answers of one kind to the problems from `first` on, all judged."""
    sample = {"repeat": 0, "problem": "p", "gold": 1, "response": "r", "n_tokens": 7}
    sample |= {"finish": "stop", **more}
    by_judge: Any = {"verdict": verdict, "by": "judge", "raw": None}
    grade: Any = {"answer": None}
    numbers: Any = ({**sample, "doc_id": first + i} for i in range(n))
    return [cards.Graded(row, grade, by_judge) for row in numbers]


def test_samples_are_capped_in_number_and_length_and_always_the_same() -> None:
    many = cards.samples(answers(3000))
    assert many["n"] == 3000 and len(many["samples"]) == cards.MOST_SAMPLES
    assert many == cards.samples(answers(3000)[::-1])
    long = cards.samples(answers(3000, response="x" * 100_000))
    assert len(json.dumps(long)) < 1.5 * cards.MOST_CHARACTERS
    assert "[… 96000 characters left out …]" in long["samples"][0]["response"]


def test_rare_kinds_are_among_the_samples() -> None:
    mixed = cards.samples([*answers(1000), *answers(3, 5000, "correct")])
    assert sum("right" in row["kinds"] for row in mixed["samples"]) == 3
    counts = {"right": 3, "wrong": 1000, "unparsed": 0, "truncated": 0, "judged": 1003}
    assert mixed["counts"] == counts


def test_lengths_count_every_answer_once() -> None:
    right = answers(4, verdict="correct", n_tokens=900)
    truncated = answers(2, verdict="correct", finish="length")
    figure = cards.length_figure([*answers(5), *right, *truncated])
    assert figure is not None
    go.Figure(figure)
    heights = {trace["name"]: sum(trace["y"]) for trace in figure["data"]}
    assert heights == {"right (4)": 4, "wrong (5)": 5, "truncated (2)": 2}
    assert cards.length_figure([]) is None


def test_loss_is_drawn_where_there_was_training() -> None:
    figure = cards.loss_figure([{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}, {"eval": 1}])
    assert figure is not None and figure["data"][0]["y"] == [2.0, 1.0]
    go.Figure(figure)
    assert cards.loss_figure([]) is None


def test_a_side_file_is_written_again_only_when_its_cell_changes(
    one_cell: dict[str, Any], tmp_path: Path
) -> None:
    results, folder = tmp_path / "results", tmp_path / "results" / "cells"
    for name in ("grade", "score"):
        write_json(results / f"{name}/xs/long/0/k2/manifest.json", {"a": 1})

    def write() -> int:
        statuses = status.assess(one_cell, results, tmp_path, status.Work(False, {}))
        steps = status.cell_steps(one_cell, statuses)
        return cards.write_all(one_cell, results, tmp_path / "times", folder, steps)

    assert write() == 2 and write() == 0
    write_json(results / "score/xs/long/0/k2/manifest.json", {"a": 2})
    assert write() == 1
    stray = folder / "xs/short/0/k2.js"
    write_text(stray, "")
    assert cards.stale_files(folder, [Cell("xs", "long", 0, "k2")]) == [stray]
