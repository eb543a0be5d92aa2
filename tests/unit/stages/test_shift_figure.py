"""shift_figure: counts add up, tokens stay text, equal counts give equal bytes."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from gapgrid.core import manifest
from gapgrid.core.cells import Cell
from gapgrid.core.records import Row, write_json, write_jsonl
from gapgrid.reporting.plots.token_shift import draw, token_text
from gapgrid.stages import shift_figure
from tests.unit import pictures
from tests.unit.pictures import NOTES

drawing_style = pictures.drawing_style
HOSTILE = [
    *("$\\frac{", "<script>alert(1)</script>", "a\x00\x1b[2J\r\nb", "\u202e42", "但"),
    *("=cmd|' /C calc'!A0", "x" * 300, " wait", "\ud83d\ude00"),
]
CELLS = [Cell("m", mix, seed, "k4") for mix in ("long", "short") for seed in (0, 1)]
ORDER = [("m", "short"), ("m", "long")]


def shown(mixes: list[list[str]]) -> dict[str, Any]:
    """What a spec says of the figure's panels."""
    return {"models": [["m", "103k"]], "mixes": mixes, "benchmarks": [["k4", "4 events"]]}


SPEC: Any = {
    "stage": "shift_figure",
    "version": 1,
    "cells": CELLS,
    "shown": shown([["short", "short $CoT$"], ["long", "long CoT"]]),
}


def token(number: int, text: str, n: int, n_shifted: int, shift_sum: int) -> Row:
    """A row of shift.jsonl."""
    row = {"token_id": number, "token": text, "n": n, "n_shifted": n_shifted, "n_far": 0}
    return {**row, "shift_sum": shift_sum, "shift_max": shift_sum}


ROWS = {
    ("long", 0): [token(1, "wait", 4, 3, 30), token(2, ".", 6, 1, 1)],
    ("long", 1): [token(1, "wait", 2, 1, 2), token(3, " So ", 2, 2, 4)],
    ("short", 0): [token(2, ".", 5, 0, 0)],
    ("short", 1): [token(2, ".", 5, 0, 0)],
}


def write_cells(folder: Path, rows: dict[tuple[str, int], list[Row]] = ROWS) -> list[Path]:
    """Write what stage shift leaves of each cell of the spec; the manifests."""
    files = []
    for cell in CELLS:
        where = folder / "shift" / str(cell)
        write_jsonl(where / "shift.jsonl", rows[cell.mix, cell.seed])
        n_mismatched = 1 if cell.mix == "long" else 0
        write_json(where / "shift.json", {"n_answers": 5, "n_mismatched": n_mismatched})
        manifest.write(where / "manifest.json", "shift", {}, {}, ["shift.jsonl", "shift.json"])
        files.append(where / "manifest.json")
    return files


@pytest.fixture
def call(tmp_path: Path, run: Callable[..., int]) -> Callable[..., int]:
    """`call(rows, notes, out, **spec)`: the stage over cells with these rows, into `out`."""

    def inner(
        rows: dict[tuple[str, int], list[Row]] = ROWS,
        notes: Row = NOTES,
        out: str = "out",
        **changes: Any,
    ) -> int:
        files, notes_file = write_cells(tmp_path, rows), tmp_path / "notes.json"
        write_json(notes_file, notes)
        ends = ("pdf", "svg", "csv", "manifest.json")
        outputs = [tmp_path / out / f"tokens.{end}" for end in ends]
        return run(shift_figure, {**SPEC, **changes}, notes_file, *outputs, *files)

    return inner


def read_points(folder: Path, mix: str) -> list[dict[str, str]]:
    """The rows of one mix in the CSV file."""
    with (folder / "out" / "tokens.csv").open(encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if row["mix"] == mix]


def test_counts_add_up_over_seeds(call: Callable[..., int], tmp_path: Path) -> None:
    assert call() == 0
    rows = read_points(tmp_path, "long")
    pooled = {row["kind"]: row for row in rows if row["seed"] == "" and row["kind"] != "type"}
    columns = ("n", "n_shifted", "shift_sum", "share_shifted", "mean_shift")
    assert [pooled["all"][key] for key in columns] == ["14", "7", "37", "0.5", "2.64286"]
    connectors = pooled["connectors"]
    assert (connectors["n_shifted"], connectors["share_of_shifts"]) == ("6", "0.857143")
    by_seed = [row for row in rows if row["seed"] and row["kind"] == "connectors"]
    assert {row["seed"]: row["share_of_shifts"] for row in by_seed} == {"0": "0.75", "1": "1"}
    columns = ("token", "n", "n_shifted", "mean_shift")
    assert [tuple(row[key] for key in columns) for row in rows if row["kind"] == "type"] == [
        ("wait", "6", "4", "5.33333"),
        (" So ", "2", "2", "2"),
        (".", "6", "1", "0.166667"),
    ]


def test_where_nothing_is_shifted_no_share_is_made_up(
    call: Callable[..., int], tmp_path: Path
) -> None:
    assert call() == 0
    rows = read_points(tmp_path, "short")
    assert {row["share_of_shifts"] for row in rows} == {""}
    assert {row["share_shifted"] for row in rows if row["kind"] == "all"} == {"0"}
    # There is no connector.
    assert {row["share_shifted"] for row in rows if row["kind"] == "connectors"} == {""}


@pytest.mark.parametrize(
    ("words", "connectors"), [(shift_figure.CONNECTORS, {"wait", " So "}), ([" SO"], {" So "})]
)
def test_connectors_are_those_of_the_experiment_or_english_ones(
    tmp_path: Path, words: list[str], connectors: set[str]
) -> None:
    rows = list(shift_figure.read_cells(write_cells(tmp_path), words))
    assert {row["token"] for row in rows} == {"wait", " So ", "."}
    assert {row["token"] for row in rows if row["is_connector"]} == connectors


def test_the_papers_connectors_are_among_the_english_ones() -> None:
    assert {"but", "wait", "let", "alternatively", "so"} <= set(shift_figure.CONNECTORS)
    assert all(word == word.strip().casefold() for word in shift_figure.CONNECTORS)


def test_equal_counts_give_equal_bytes(call: Callable[..., int], tmp_path: Path) -> None:
    assert call(out="one") == call(out="two") == 0
    for file in sorted((tmp_path / "one").iterdir()):
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes(), file.name
    assert manifest.mismatches(tmp_path / "one" / "tokens.manifest.json") == []


def test_hostile_tokens_are_text(
    call: Callable[..., int], tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    texts = [text.encode("utf-8", "replace").decode() for text in HOSTILE]
    tokens = [token(number, text, 5, 5, 5) for number, text in enumerate(texts)]
    assert call({**ROWS, ("long", 0): tokens}) == 0
    assert not [warning for warning in recwarn if "Glyph" in str(warning.message)]
    svg = (tmp_path / "out" / "tokens.svg").read_text(encoding="utf-8")
    assert "<script" not in svg.lower()
    assert not [part for part in ElementTree.fromstring(svg).iter() if part.tag.endswith("script")]
    text = (tmp_path / "out" / "tokens.csv").read_text(encoding="utf-8")
    assert not {"\x1b", "\x00", "\u202e"} & set(text)
    assert {"'=cmd|' /C calc'!A0", "$\\frac{"} <= {
        row["token"] for row in read_points(tmp_path, "long") if row["kind"] == "type"
    }


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
    assert token_text(token) == shown


def test_confounders_are_a_warning_banner(tmp_path: Path, call: Callable[..., int]) -> None:
    differs = ["learning_rate 1e-5 (long), 2e-5 (short)"]
    assert call(out="plain") == call(notes={**NOTES, "differs": differs}, out="warned") == 0
    plain, warned = ((tmp_path / out / "tokens.svg").read_bytes() for out in ("plain", "warned"))
    assert plain != warned
    rows = shift_figure.points(list(shift_figure.read_cells(write_cells(tmp_path), ["so"])), ORDER)
    figure = draw(rows, SPEC, ["lines"], "not only the mix differs: cap")
    assert "not only the mix differs: cap" in [text.get_text() for text in figure.texts]
    titles = [axes.get_title().splitlines()[0] for axes in figure.axes]
    assert titles == ["short $CoT$", "long CoT"]
    tokens = [label.get_text() for label in figure.axes[1].get_yticklabels()]
    assert tokens == ["wait", "␣So␣", "."]


def test_broken_notes_and_shifts_of_another_cell_are_refused(
    call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(notes={"caption": "c"}) == 1
    expected = "no key protocol, differs, varies, between_students, n_missing"
    assert expected in capsys.readouterr().err
    assert call(cells=[CELLS[1], CELLS[0], *CELLS[2:]]) == 1
    assert "shift_figure: expected the shifts of m/long/1/k4, found" in capsys.readouterr().err


def test_lines_above_say_whose_answers_and_how_many_are_left_out(tmp_path: Path) -> None:
    first, _ = shift_figure.header(write_cells(tmp_path), SPEC)
    answers = "student 103k, 4 events: 20 greedy answers of 2 training seeds"
    assert first == f"{answers}, 2 left out, as their text gives back other tokens"


@pytest.mark.parametrize("n_mixes", [1, 2, 4])
def test_no_text_overlaps_another(n_mixes: int) -> None:
    names = [f"mix-{index}" for index in range(n_mixes)]
    rows = []
    for mix in names:
        for index in range(20):
            row = token(index, f"␣alternatively{index}", 9000, 8000 - index, 10**7)
            rows.append(
                {"model": "m", "mix": mix, "seed": 0, "is_connector": index % 2 == 0, **row}
            )
    points = shift_figure.points(rows, [("m", name) for name in names])
    spec: Any = {"shown": shown([[name, f"long CoT {name}"] for name in names])}
    figure = draw(points, spec, ["a line", "and another"], None)
    assert pictures.collisions(figure) == []
    assert len(pictures.texts(figure)) >= 2 + n_mixes * (12 + 12 + 2)
