"""case: the rule chooses in a stable order and by one seed, counts are complete, text is text."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gapgrid.core import manifest
from gapgrid.core.cells import Cell
from gapgrid.core.records import InputError, Row, write_jsonl
from gapgrid.stages import case
from tests.unit.pages import HOSTILE, Page, answer, write_cell

RIGHT, WRONG = "correct", "incorrect"
Verdicts = dict[tuple[str, int], list[str]]  # mix and seed -> verdict of each problem
ONE_SEED: Verdicts = {
    ("short", 0): [WRONG, WRONG, RIGHT, "no_answer", WRONG, "unparsed"],
    ("long", 0): [WRONG, WRONG, WRONG, WRONG, RIGHT, WRONG],
    ("mixed", 0): [RIGHT, WRONG, RIGHT, RIGHT, RIGHT, RIGHT],
}
CELLS = [Cell("m", mix, 0, "easy") for mix in ("short", "long", "mixed")]


def spec_of(cells: list[Cell], **changes: Any) -> Any:
    """A spec over these cells; mixes and benchmarks in the order of their first mention."""
    models, mixes, _, benchmarks = (
        list(dict.fromkeys(names)) for names in zip(*cells, strict=True)
    )
    shown = {
        "models": [[name, name.upper()] for name in models],
        "mixes": [[name, name.upper()] for name in mixes],
        "benchmarks": [[name, f"the {name}"] for name in benchmarks],
    }
    choose = {"long": "wrong", "short": "wrong", "mixed": "right"}
    content = {"stage": "case", "version": 1, "cells": sorted(cells), "choose": choose}
    return {**content, "problems": 3, "caption": "A caption.", "shown": shown, **changes}


def write(results: Path, cell: Cell, verdicts: list[str], **changes: Any) -> Path:
    """Write one cell, `changes` are of every answer; its score's manifest."""
    rows = []
    for number, verdict in enumerate(verdicts):
        row = answer(number, response=f"{cell.mix} says {number}", verdict=verdict)
        row["answer"] = None if verdict == "no_answer" else f"{number}"
        rows.append({**row, "rule_correct": verdict == RIGHT, **changes})
    return write_cell(results, cell, rows) / "manifest.json"


@pytest.fixture
def study(tmp_path: Path, run: Callable[..., int]) -> Callable[..., str]:
    """`study(verdicts, spec, **changes)`: the page over one student's cells.

    `spec` changes the spec, `changes` every answer.
    """

    def inner(
        verdicts: Verdicts,
        spec: Row | None = None,
        benchmarks: tuple[str, ...] = ("easy",),
        **changes: Any,
    ) -> str:
        cells = [Cell("m", *key, name) for key in verdicts for name in benchmarks]
        scores = [write(tmp_path, cell, verdicts[cell[1:3]], **changes) for cell in sorted(cells)]
        page, record = (tmp_path / "cases" / f"one.{end}" for end in ("html", "manifest.json"))
        assert run(case, spec_of(cells, **(spec or {})), page, record, *scores) == 0
        assert manifest.mismatches(record) == []
        return page.read_text(encoding="utf-8")

    return inner


def headings(page: str) -> list[str]:
    """The cases shown; a heading may hold no other element."""
    return [heading for heading in Page(page).headings if "problem" in heading]


def test_the_rule_chooses(study: Callable[..., str], tmp_path: Path) -> None:
    page = study(ONE_SEED)
    # No answer is wrong, unparsed is not.
    assert headings(page) == ["the easy, problem 0, seed 0", "the easy, problem 3, seed 0"]
    assert "2 of 6 problems of the easy match. Shown: all of them" in page
    assert "SHORT wrong; LONG wrong; MIXED right" in page
    assert "mixed says 0" in page and "mixed says 1" not in page
    assert "default-src 'none'" in page and "http://" not in page and "https://" not in page
    content = manifest.read(tmp_path / "cases" / "one.manifest.json")
    assert content["facts"] == {"n_matching": 2, "n_problems": 6}
    assert set(content["inputs"]) == set(map(str, CELLS))


def test_only_the_first_few_are_shown_and_all_are_counted(study: Callable[..., str]) -> None:
    outcomes = {"short": WRONG, "long": WRONG, "mixed": RIGHT}
    many = {(mix, 0): [outcome] * 9 for mix, outcome in outcomes.items()}
    page = study(many, {"problems": 2}, ("easy", "hard"))
    assert headings(page) == ["the easy, problem 0, seed 0", "the easy, problem 1, seed 0"]
    matching = "9 of 9 problems of the easy, 9 of 9 problems of the hard match"
    assert f"{matching}. Shown: the first 2 of 18" in page


def test_nothing_matches_is_said_with_counts(study: Callable[..., str]) -> None:
    page = study({key: [WRONG] * 4 for key in ONE_SEED})
    assert "No problem matches: 0 of 4 problems of the easy match. So nothing is shown." in page
    assert headings(page) == [] and "says" not in page


def test_patterns_are_counted_over_problems_and_seeds(study: Callable[..., str]) -> None:
    table = study(ONE_SEED).split("<tbody>")[1].split("</tbody>")[0]
    rows = [row.split("</td>")[:-1] for row in table.split("</tr>")[:-1]]
    assert sorted(" ".join(cell.rsplit(">", 1)[1] for cell in row) for row in rows) == [
        "right wrong right 1 16.7 %",
        "unparsed wrong right 1 16.7 %",
        "wrong right right 1 16.7 %",
        "wrong wrong right 2 33.3 %",
        "wrong wrong wrong 1 16.7 %",
    ]
    (chosen,) = [row for row in table.split("</tr>") if 'class="chosen"' in row]
    assert "33.3 %" in chosen


def test_the_first_seed_in_which_a_problem_matches_is_shown(study: Callable[..., str]) -> None:
    verdicts: Verdicts = {("short", 0): [RIGHT, WRONG, WRONG], ("short", 1): [WRONG, WRONG, RIGHT]}
    for seed in (0, 1):
        verdicts |= {("long", seed): [WRONG] * 3, ("mixed", seed): [RIGHT] * 3}
    page = study(verdicts)
    assert headings(page) == [
        "the easy, problem 0, seed 1, matches in 1 of 2 seeds",
        "the easy, problem 1, seed 0, matches in 2 of 2 seeds",
        "the easy, problem 2, seed 0, matches in 1 of 2 seeds",
    ]
    assert "3 of 3 problems of the easy match in at least one of the seeds" in page


def test_one_seed_must_do_it_alone(study: Callable[..., str]) -> None:
    # Long wrong in seed 0 and mix right in seed 1 are no case.
    mixes = ("short", "long", "mixed")
    verdicts = {(mix, seed): [(WRONG, RIGHT)[seed]] for mix in mixes for seed in (0, 1)}
    assert headings(study(verdicts)) == []


def test_a_student_of_one_state_before_sft_stands_beside_every_seed(
    study: Callable[..., str],
) -> None:
    verdicts = {("none", 0): [RIGHT], ("long", 1): [WRONG], ("long", 2): [WRONG]}
    page = study(verdicts, {"choose": {"none": "right", "long": "wrong"}})
    assert headings(page) == ["the easy, problem 0, seed 1, matches in 2 of 2 seeds"]
    assert all(f"7 tokens, ended by itself; seed {seed}" in page for seed in (0, 1))


def test_states_before_sft_alone_have_a_seed_each(study: Callable[..., str]) -> None:
    page = study({("none", 0): [WRONG], ("none", 1): [RIGHT]}, {"choose": {"none": "right"}})
    assert headings(page) == ["the easy, problem 0, seed 1, matches in 1 of 2 seeds"]


def test_mixes_that_the_rule_leaves_open_are_shown_too(study: Callable[..., str]) -> None:
    page = study(ONE_SEED, {"choose": {"short": "right"}})
    assert headings(page) == ["the easy, problem 2, seed 0"]
    assert all(f"{mix} says 2" in page for mix in ("short", "long", "mixed"))


def test_several_students_must_all_do_it(tmp_path: Path) -> None:
    verdicts = {"a": [RIGHT, RIGHT, WRONG], "b": [WRONG, RIGHT, RIGHT]}
    cells = [Cell(model, "long", 0, "easy") for model in verdicts]
    answers = {cell: case.read_cell(write(tmp_path, cell, verdicts[cell.model])) for cell in cells}
    spec = spec_of(cells, choose={"long": "right"})
    assert [chosen.doc_id for chosen in case.choose(answers, spec).cases] == [1]
    assert [column.label for column in case.columns(spec)] == ["A, LONG", "B, LONG"]


def test_the_order_of_files_and_rows_changes_nothing(tmp_path: Path) -> None:
    answers = {cell: case.read_cell(write(tmp_path, cell, ONE_SEED[cell.mix, 0])) for cell in CELLS}
    turned = {cell: dict(reversed(rows.items())) for cell, rows in reversed(answers.items())}
    assert case.choose(answers, spec_of(CELLS)) == case.choose(turned, spec_of(CELLS))


@pytest.mark.parametrize("key", ["response", "problem", "gold", "answer", "by"])
def test_hostile_answers_are_text(study: Callable[..., str], key: str) -> None:
    plain = Page(study(ONE_SEED, **{key: "plain"}))
    assert {name for name, _ in plain.attributes} == {
        *("charset", "http-equiv", "content", "lang", "class")
    }
    page = Page(study(ONE_SEED, **{key: " ".join(HOSTILE)}))
    assert (page.tags, page.attributes) == (plain.tags, plain.attributes)
    assert not {"\x1b", "\x00", "\u202e", "\u2028"} & set("".join(page.texts))


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_each_hostile_label_and_response_is_text(study: Callable[..., str], text: str) -> None:
    mixes = [[mix, text] for mix, _ in ONE_SEED]
    shown = {"models": [["m", text]], "mixes": mixes, "benchmarks": [["easy", text]]}
    page = Page(study(ONE_SEED, {"caption": text, "shown": shown}, response=text))
    assert page.tags == Page(study(ONE_SEED)).tags


def test_what_the_page_says_of_an_answer(study: Callable[..., str]) -> None:
    page = study(ONE_SEED, finish="length", response="", n_tokens=16000)
    assert "16,000 tokens, cut off at the cap; seed 0" in page and "(empty)" in page
    assert "no answer found" in page and "✗ wrong: no answer found" in page and "✓ right" in page
    page = study(ONE_SEED, response="x" * 100_000)
    assert "… [60000 more characters]" in page and len(page) < 300_000


def test_files_about_other_answers_are_an_error(tmp_path: Path) -> None:
    score = write(tmp_path, CELLS[0], [RIGHT, WRONG])
    write_jsonl(score.with_name("verdicts.jsonl"), [answer(0)])
    with pytest.raises(InputError, match="not of the same answers in the same order"):
        case.read_cell(score)


def test_a_missing_answer_is_an_error_and_no_wrong_one(tmp_path: Path) -> None:
    counts = {"short": 1, "long": 2, "mixed": 1}
    answers = {
        cell: case.read_cell(write(tmp_path, cell, [RIGHT] * counts[cell.mix])) for cell in CELLS
    }
    spec = spec_of([CELLS[1], CELLS[0], CELLS[2]])
    answers = {cell: answers[cell] for cell in (CELLS[1], CELLS[0], CELLS[2])}
    with pytest.raises(InputError, match="m/short/0/easy has no answer to problem 1, repeat 0"):
        case.choose(answers, spec)


def test_a_score_of_another_cell_is_refused(
    tmp_path: Path, run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    scores = [write(tmp_path, cell, [RIGHT]) for cell in CELLS]
    assert run(case, spec_of(CELLS), tmp_path / "a.html", tmp_path / "a.json", *scores) == 1
    assert "expected the score of m/long/0/easy" in capsys.readouterr().err
