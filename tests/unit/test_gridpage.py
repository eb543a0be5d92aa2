"""gridpage, gridcards, heatmap: what the page holds, and that nothing in it can be taken for markup."""

import base64
import hashlib
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pytest

from gapgrid.commands import status
from gapgrid.grid import Cell
from gapgrid.page import gridcards, gridpage, heatmap
from gapgrid.records import write_json

HOSTILE = "</script><script>x</script><!-- \u2028 \ud800 & <img src=x onerror=y>"


def score(acc: float, n: int = 200) -> dict[str, Any]:
    return {"acc": acc, "n": n}


def seen(**cells: heatmap.Seen) -> dict[Cell, heatmap.Seen]:
    """`xs_long_0_k2=…` -> cell."""
    return {Cell(m, x, int(s), b): what for (m, x, s, b), what in ((key.split("_"), what) for key, what in cells.items())}


FRESH = heatmap.Seen(score(0.5), "fresh", ())


def test_embedded_values_are_ascii_and_hold_no_markup() -> None:
    text = gridcards.as_script("f", HOSTILE, {"a": [float("nan"), HOSTILE]})
    assert text.isascii() and not re.search("[<>&]", text) and "\n" not in text[:-1]
    inner = text[2:-3]
    assert json.loads(f"[{inner}]") == [HOSTILE, {"a": [None, HOSTILE]}]


def test_the_policy_knows_the_scripts_of_the_page(demo: dict[str, Any], tmp_path: Path) -> None:
    statuses = status.assess(demo, tmp_path, tmp_path, status.work_in(tmp_path))
    known = gridpage.content(demo, tmp_path, status.cell_steps(demo, statuses))
    text = gridpage.page(demo, statuses, known, datetime(2026, 1, 1, tzinfo=UTC))
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    assert len(scripts) == 2
    for script in scripts:
        assert f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" in text
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"|content="([^"]*default-src[^"]*)"', text)
    assert policy is not None and "default-src 'none'" in policy[0] and "http" not in policy[0].split("content=")[1]
    assert "unsafe-eval" not in text.split("</head>")[0] and "connect-src" not in text.split("</head>")[0]


def test_maps_hold_means_over_seeds_and_say_what_is_missing(demo: dict[str, Any]) -> None:
    cells = seen(
        xs_long_0_k2=FRESH,
        xs_long_1_k2=heatmap.Seen(score(0.7), "stale", ("train stale: recipe.learning_rate 1 → 2",)),
        m_long_0_k2=heatmap.Seen(None, "missing", ()),
    )
    figure = heatmap.figures(demo, cells, {("xs", "long", "k2"): (0.4, 0.8, 0.95)})["k2"]
    go.Figure(figure)  # raises where Plotly does not know a key
    assert figure["data"][1]["z"] == [[pytest.approx(60.0)], [None]]
    hover = figure["data"][0]["text"][0][0]
    assert "accuracy 60.0 % [40.0, 80.0] (95 % interval), 2 seeds" in hover and "seed 1: 70.0 % (n = 200), stale" in hover
    assert "recipe.learning_rate 1 → 2" in hover and figure["data"][2]["text"] == ["60.0 △", "–"]
    assert "no score, missing" in figure["data"][0]["text"][1][0]


def test_an_average_is_of_all_benchmarks_or_none(demo: dict[str, Any]) -> None:
    cells = seen(
        xs_long_0_k2=FRESH,
        xs_long_0_k4=heatmap.Seen(score(0.1), "fresh", ()),
        m_long_0_k2=FRESH,
        m_long_0_k4=heatmap.Seen(None, "missing", ()),
    )
    cells |= seen(l_long_0_k2=FRESH)
    figure = heatmap.figures(demo, cells, {})["average"]
    assert figure["data"][1]["z"] == [[pytest.approx(30.0)], [None], [None]]
    hover = [row[0] for row in figure["data"][0]["text"]]
    assert "no table of these scores yet" in hover[0]
    assert "no score of 1 of 2 benchmarks" in hover[1] and "is asked 1 of these 2 benchmarks" in hover[2]


def test_names_and_reasons_are_escaped_in_a_map(demo: dict[str, Any]) -> None:
    demo["models"]["xs"]["label"] = demo["mixes"]["long"]["label"] = "<b>&</b>"
    figure = heatmap.figures(demo, seen(xs_long_0_k2=heatmap.Seen(score(0.5), "stale", ("<i>why</i>",))), {})["k2"]
    text = json.dumps(figure)
    assert "<b>&</b>" not in text and "<i>why" not in text and "&lt;i&gt;why" in text
    assert figure["layout"]["yaxis"]["ticktext"] == ["&lt;b&gt;&amp;&lt;/b&gt;"]


def test_intervals_only_of_scores_that_lie_there(demo: dict[str, Any], tmp_path: Path) -> None:
    demo["experiments"] = {"one": {"models": ["xs"], "mixes": ["long"], "benchmarks": ["k2"]}}
    file = tmp_path / "score/xs/long/0/k2/score.json"
    write_json(file, score(0.5))
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables/one.estimates.csv").write_text(
        "quantity,model,mix,benchmark,low,high\naccuracy,xs,long,k2,0.4,0.6\naccuracy,xs,long,average,,\n"
    )
    write_json(tmp_path / "tables/one.manifest.json", {"inputs": {"xs/long/0/k2": gridcards.sha256_text(file.read_text())}})
    assert heatmap.intervals(demo, tmp_path) == {("xs", "long", "k2"): (0.4, 0.6, demo["statistics"]["confidence"])}
    write_json(file, score(0.6))
    assert heatmap.intervals(demo, tmp_path) == {}


def answers(n: int, **more: Any) -> list[gridcards.Graded]:
    row = {"repeat": 0, "problem": "p", "gold": 1, "response": "r", "n_tokens": 7, "finish": "stop", "answer": None, **more}
    return [
        gridcards.Graded({**row, "doc_id": i}, row, {"verdict": more.get("verdict", "incorrect"), "by": "judge", "raw": None})
        for i in range(n)
    ]


def test_samples_are_capped_in_number_and_length_and_always_the_same() -> None:
    many = gridcards.samples(answers(3000))
    assert many["n"] == 3000 and len(many["samples"]) == gridcards.MOST_SAMPLES and many == gridcards.samples(answers(3000)[::-1])
    long = gridcards.samples(answers(3000, response="x" * 100_000))
    assert len(json.dumps(long)) < 1.5 * gridcards.MOST_CHARACTERS
    assert "[… 96000 characters left out …]" in long["samples"][0]["response"]
    mixed = gridcards.samples(
        [*answers(1000), *(one._replace(sample={**one.sample, "doc_id": 5000 + i}) for i, one in enumerate(answers(3, verdict="correct")))]
    )
    assert sum("right" in row["kinds"] for row in mixed["samples"]) == 3, "rare kinds are not crowded out"
    assert mixed["counts"] == {"right": 3, "wrong": 1000, "unparsed": 0, "truncated": 0, "judged": 1003}


def test_lengths_count_every_answer_once() -> None:
    figure = gridcards.length_figure(
        [*answers(5), *answers(4, verdict="correct", n_tokens=900), *answers(2, verdict="correct", finish="length")]
    )
    assert figure is not None
    go.Figure(figure)
    assert {trace["name"]: sum(trace["y"]) for trace in figure["data"]} == {"right (4)": 4, "wrong (5)": 5, "truncated (2)": 2}
    assert gridcards.length_figure([]) is None


def test_loss_is_drawn_where_there_was_training() -> None:
    figure = gridcards.loss_figure([{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}, {"eval": 1}])
    assert figure is not None and figure["data"][0]["y"] == [2.0, 1.0]
    go.Figure(figure)
    assert gridcards.loss_figure([]) is None


def test_a_side_file_is_made_anew_only_when_its_cell_is_another(
    demo: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    demo["experiments"] = {"one": {"models": ["xs"], "mixes": ["long"], "benchmarks": ["k2"], "plot": "bars", "caption": "One."}}
    results = tmp_path / "results"
    for name in ("grade", "score"):
        write_json(results / f"{name}/xs/long/0/k2/manifest.json", {"a": 1})

    def write() -> int:
        statuses = status.assess(demo, results, tmp_path / "logs", status.Work(False, {}))
        at = gridcards.Folders(results, tmp_path / "logs", tmp_path / "times")
        return gridcards.write_all(demo, at, results / "cells", status.cell_steps(demo, statuses))

    assert write() == 2 and write() == 0
    write_json(results / "score/xs/long/0/k2/manifest.json", {"a": 2})
    assert write() == 1
    stray = results / "cells/xs/short/0/k2.js"
    stray.parent.mkdir(parents=True)
    stray.touch()
    assert gridcards.stale_files(results / "cells", ["xs/long/0/k2"]) == [stray]
