"""Stage shift_figure: counts add up, connectors are found, hostile tokens are text, the same counts give the same bytes."""

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from matplotlib import pyplot as plt

from gapgrid import manifest, shift_figure
from gapgrid.plots import drawing
from gapgrid.records import Row, write_json, write_jsonl

Runner = Callable[..., int]
HOSTILE = [
    "$\\frac{",
    "<script>alert(1)</script>",
    "a\x00\x1b[2J\r\nb",
    "\u202e42",
    "=cmd|' /C calc'!A0",
    "但",
    "x" * 300,
    " wait",
    "\ud83d\ude00",
]
CELLS = [["m", mix, seed, "k4"] for mix in ("long", "short") for seed in (0, 1)]
SPEC: dict[str, Any] = {
    "stage": "shift_figure",
    "version": 1,
    "cells": CELLS,
    "shown": {"models": [["m", "103k"]], "mixes": [["short", "short $CoT$"], ["long", "long CoT"]], "benchmarks": [["k4", "4 events"]]},
}
NOTES = {"caption": "c", "protocol": [], "differs": [], "varies": "the mix differs", "between_students": [], "n_missing": 0}


def token(number: int, text: str, n: int, n_shifted: int, shift_sum: int) -> Row:
    """A row of shift.jsonl."""
    return {"token_id": number, "token": text, "n": n, "n_shifted": n_shifted, "n_far": 0, "shift_sum": shift_sum, "shift_max": shift_sum}


ROWS = {
    ("long", 0): [token(1, "wait", 4, 3, 30), token(2, ".", 6, 1, 1)],
    ("long", 1): [token(1, "wait", 2, 1, 2), token(3, " So ", 2, 2, 4)],
    ("short", 0): [token(2, ".", 5, 0, 0)],
    ("short", 1): [token(2, ".", 5, 0, 0)],
}


def write_cells(folder: Path, rows: dict[tuple[str, int], list[Row]]) -> list[Path]:
    """The files of stage shift for each cell of the spec; returns their manifests."""
    files = []
    for model, mix, seed, benchmark in CELLS:
        where = folder / "shift" / model / mix / str(seed) / benchmark
        write_jsonl(where / "shift.jsonl", rows[mix, seed])
        write_json(where / "shift.json", {"n_answers": 5, "n_mismatched": 1 if mix == "long" else 0})
        manifest.write(where / "manifest.json", "shift", {}, {}, ["shift.jsonl", "shift.json"])
        files.append(where / "manifest.json")
    return files


@pytest.fixture
def call(tmp_path: Path, run: Runner) -> Callable[..., int]:
    """`call(rows, **spec)`: the stage over cells with these rows, into `out`."""

    def inner(rows: dict[tuple[str, int], list[Row]], notes: Row = NOTES, out: str = "out", **changes: Any) -> int:
        files = write_cells(tmp_path, rows)
        write_json(tmp_path / "notes.json", notes)
        outputs = [tmp_path / out / f"tokens.{kind}" for kind in ("pdf", "svg", "csv", "manifest.json")]
        return run(shift_figure, {**SPEC, **changes}, tmp_path / "notes.json", *outputs, *files)

    return inner


def read_points(folder: Path) -> list[dict[str, str]]:
    """The rows of the CSV file."""
    return list(csv.DictReader(io.StringIO((folder / "tokens.csv").read_text(encoding="utf-8"))))


def test_counts_add_up_over_seeds(call: Callable[..., int], tmp_path: Path) -> None:
    assert call(ROWS) == 0
    rows = [row for row in read_points(tmp_path / "out") if row["mix"] == "long"]
    pooled = {row["kind"]: row for row in rows if row["seed"] == "" and row["kind"] != "type"}
    assert (pooled["all"]["n"], pooled["all"]["n_shifted"], pooled["all"]["shift_sum"]) == ("14", "7", "37")
    assert (pooled["all"]["share_shifted"], pooled["all"]["mean_shift"]) == ("0.5", "2.64286")
    assert (pooled["connectors"]["n_shifted"], pooled["connectors"]["share_of_shifts"]) == ("6", "0.857143")
    by_seed = {row["seed"]: row["share_of_shifts"] for row in rows if row["seed"] and row["kind"] == "connectors"}
    assert by_seed == {"0": "0.75", "1": "1"}
    types = [(row["token"], row["n"], row["n_shifted"], row["mean_shift"]) for row in rows if row["kind"] == "type"]
    assert types == [("wait", "6", "4", "5.33333"), (" So ", "2", "2", "2"), (".", "6", "1", "0.166667")]


def test_where_nothing_is_shifted_no_share_is_made_up(call: Callable[..., int], tmp_path: Path) -> None:
    assert call(ROWS) == 0
    rows = [row for row in read_points(tmp_path / "out") if row["mix"] == "short"]
    assert {row["share_of_shifts"] for row in rows} == {""}
    assert {row["share_shifted"] for row in rows if row["kind"] == "all"} == {"0"}
    assert {row["share_shifted"] for row in rows if row["kind"] == "connectors"} == {""}  # there is none


def test_connectors_are_those_of_the_experiment_or_english_ones(tmp_path: Path) -> None:
    files = write_cells(tmp_path, ROWS)
    found = {row["token"]: row["is_connector"] for row in shift_figure.read_cells(files, shift_figure.CONNECTORS)}
    assert found == {"wait": True, " So ": True, ".": False}
    found = {row["token"]: row["is_connector"] for row in shift_figure.read_cells(files, [" SO"])}
    assert found == {"wait": False, " So ": True, ".": False}


def test_the_paper_s_connectors_are_among_the_english_ones() -> None:
    assert {"but", "wait", "let", "alternatively", "so"} <= set(shift_figure.CONNECTORS)
    assert all(word == word.strip().casefold() for word in shift_figure.CONNECTORS)


def test_same_counts_same_bytes(call: Callable[..., int], tmp_path: Path) -> None:
    assert call(ROWS, out="one") == call(ROWS, out="two") == 0
    for file in sorted((tmp_path / "one").iterdir()):
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes(), file.name
    assert manifest.mismatches(tmp_path / "one" / "tokens.manifest.json") == []


def test_hostile_tokens_are_text(call: Callable[..., int], tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    tokens = [token(number, text.encode("utf-8", "replace").decode(), 5, 5, 5) for number, text in enumerate(HOSTILE)]
    assert call({**ROWS, ("long", 0): tokens}) == 0
    assert not [warning for warning in recwarn if "Glyph" in str(warning.message)]
    svg = (tmp_path / "out" / "tokens.svg").read_text(encoding="utf-8")
    assert "<script" not in svg.lower()
    assert not [part for part in ElementTree.fromstring(svg).iter() if part.tag.endswith("script")]
    text = (tmp_path / "out" / "tokens.csv").read_text(encoding="utf-8")
    assert "\x1b" not in text and "\x00" not in text and "\u202e" not in text
    shown = [row["token"] for row in read_points(tmp_path / "out") if row["kind"] == "type" and row["mix"] == "long"]
    assert "'=cmd|' /C calc'!A0" in shown and "$\\frac{" in shown


@pytest.mark.parametrize(
    ("token", "shown"),
    [
        ("wait", "wait"),
        (" wait", "␣wait"),
        ("\n\n", "\\n\\n"),
        ("\t", "\\t"),
        ("$x$", "$x$"),
        ("a\x1bb", "a\\u{001B}b"),
        ("\u202e", "\\u{202E}"),
        ("但", "\\u{4F46}"),
        ("x" * 19, "x" * 17 + "…"),
    ],
)
def test_a_token_is_one_line_that_the_font_has(token: str, shown: str) -> None:
    assert shift_figure.token_text(token) == shown


def test_what_spoils_the_comparison_is_stamped(tmp_path: Path, call: Callable[..., int]) -> None:
    assert call(ROWS, out="plain") == 0
    assert call(ROWS, notes={**NOTES, "differs": ["learning_rate 1e-5 (long), 2e-5 (short)"]}, out="stamped") == 0
    assert (tmp_path / "plain/tokens.svg").read_bytes() != (tmp_path / "stamped/tokens.svg").read_bytes()
    found = shift_figure.points(list(shift_figure.read_cells(write_cells(tmp_path, ROWS), ["so"])), [("m", "short"), ("m", "long")])
    with plt.rc_context(drawing.STYLE):
        figure = shift_figure.draw(found, SPEC, ["lines"], "not only the mix differs: cap")
        assert "not only the mix differs: cap" in [text.get_text() for text in figure.texts]
        assert [axes.get_title().splitlines()[0] for axes in figure.axes] == ["short $CoT$", "long CoT"]
        assert [label.get_text() for label in figure.axes[1].get_yticklabels()] == ["wait", "␣So␣", "."]
        plt.close(figure)


def test_notes_that_are_none_are_one_message(call: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert call(ROWS, notes={"caption": "c"}) == 1
    assert "no key protocol, differs, varies, between_students, n_missing" in capsys.readouterr().err


def test_lines_above_say_whose_answers_and_how_many_are_left_out(tmp_path: Path) -> None:
    asked, _ = shift_figure.counts(write_cells(tmp_path, ROWS), SPEC)
    assert asked == "student 103k, 4 events: 20 greedy answers of 2 training seeds, 2 left out, as their text gives back other tokens"


def test_shifts_of_another_cell_are_refused(call: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert call(ROWS, cells=[CELLS[1], CELLS[0], *CELLS[2:]]) == 1
    assert "no shifts of m/long/1/k4 at its place" in capsys.readouterr().err


@pytest.mark.parametrize("n_mixes", [1, 2, 4])
def test_no_label_lies_on_another(tmp_path: Path, n_mixes: int) -> None:
    names = [f"mix-{index}" for index in range(n_mixes)]
    rows = [
        {
            "model": "m",
            "mix": mix,
            "seed": 0,
            "is_connector": index % 2 == 0,
            **token(index, f"␣alternatively{index}", 9000, 8000 - index, 10**7),
        }
        for mix in names
        for index in range(20)
    ]
    shown = {"models": [["m", "Qwen2.5-3B"]], "mixes": [[name, f"long CoT {name}"] for name in names], "benchmarks": [["b", "MATH"]]}
    with plt.rc_context(drawing.STYLE):
        figure = shift_figure.draw(
            shift_figure.points(rows, [("m", name) for name in names]), {"shown": shown}, ["a line", "and another"], None
        )
        figure.draw_without_rendering()
        texts = [text for axes in figure.axes for text in (*axes.get_yticklabels(), axes.title, axes.xaxis.label, *axes.texts)]
        boxes = [text.get_window_extent() for text in texts if text.get_text()]
        sheet = figure.bbox
        for index, one in enumerate(boxes):
            assert sheet.x0 <= one.x0 and one.x1 <= sheet.x1 + 1 and sheet.y0 <= one.y0 and one.y1 <= sheet.y1, texts[index].get_text()
            for other in boxes[index + 1 :]:
                assert not one.shrunk(0.98, 0.9).overlaps(other.shrunk(0.98, 0.9)), n_mixes
        plt.close(figure)
