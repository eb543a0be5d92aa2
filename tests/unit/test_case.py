"""Stage case: the rule chooses, in a stable order and by one seed; counts are all there; no text of a model becomes markup."""

from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from gapgrid import case, manifest
from gapgrid.records import InputError, Row, write_json, write_jsonl

Runner = Callable[..., int]
HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</style></title></pre></div><svg/onload=alert(1)>",
    "]]><!-- --><?php ?>&lt;script&gt;<iframe src=javascript:alert(1)>",
    "a\x00b\x1b[2J\r\n\u202e24\u200b\u2028",
    "\ud800 alone \udfff",
    "{{ snakemake }} {% raw %} ${x}",
]
Verdicts = dict[tuple[str, int], list[str]]  # mix and seed -> verdict of each problem


def spec(cells: list[tuple[str, str, int, str]], **changes: Any) -> dict[str, Any]:
    """A spec over these cells, all mixes and benchmarks in the order of their first mention."""
    shown = {
        kind: [[name, name.upper()] for name in dict.fromkeys(cell[place] for cell in cells)]
        for place, kind in ((0, "models"), (1, "mixes"))
    }
    shown["benchmarks"] = [[name, f"the {name}"] for name in dict.fromkeys(cell[3] for cell in cells)]
    choose = {"long": "wrong", "short": "wrong", "mixed": "right"}
    content = {
        "stage": "case",
        "version": 1,
        "cells": sorted(cells),
        "choose": choose,
        "problems": 3,
        "caption": "A caption.",
        "shown": shown,
    }
    return {**content, **changes}


def write_cell(results: Path, cell: tuple[str, str, int, str], verdicts: list[str], **changes: Any) -> Path:
    """The files of one cell as grade and score leave them; `changes` are of every answer. Returns the score's manifest."""
    where = Path(*map(str, cell))
    samples, graded, judged = [], [], []
    for number, verdict in enumerate(verdicts):
        place = {"doc_id": number, "repeat": 0}
        answer = None if verdict == "no_answer" else f"{number}"
        samples.append(
            {
                **place,
                "problem": f"problem {number} ?",
                "gold": f"{number}",
                "response": f"{cell[1]} says {number}",
                "n_tokens": 7,
                "finish": "stop",
            }
        )
        graded.append(
            {**place, "gold": f"{number}", "answer": answer, "rule": "number", "rule_correct": verdict == "correct", "rejected_by": None}
        )
        judged.append({**place, "verdict": verdict, "by": "number", "raw": None})
    for rows in (samples, graded, judged):
        for row in rows:
            row.update({key: value for key, value in changes.items() if key in row})
    write_jsonl(results / "grade" / where / "samples.jsonl", samples)
    write_jsonl(results / "grade" / where / "graded.jsonl", graded)
    folder = results / "score" / where
    write_jsonl(folder / "verdicts.jsonl", judged)
    write_json(folder / "score.json", {})
    manifest.write(folder / "manifest.json", "score", {}, {}, ["verdicts.jsonl", "score.json"])
    return folder / "manifest.json"


@pytest.fixture
def study(tmp_path: Path, run: Runner) -> Callable[..., str]:
    """`study(verdicts, **changes)`: the page over one student's cells; `spec_` changes the spec, other keys every answer."""

    def inner(verdicts: Verdicts, spec_: dict[str, Any] | None = None, benchmarks: tuple[str, ...] = ("easy",), **changes: Any) -> str:
        cells = [("m", mix, seed, benchmark) for mix, seed in verdicts for benchmark in benchmarks]
        content = spec(cells, **(spec_ or {}))
        files = {cell: write_cell(tmp_path, cell, verdicts[cell[1], cell[2]], **changes) for cell in cells}
        page = tmp_path / "cases" / "one.html"
        assert run(case, content, page, page.with_name("one.manifest.json"), *(files[cell] for cell in sorted(cells))) == 0
        assert manifest.mismatches(page.with_name("one.manifest.json")) == []
        return page.read_text(encoding="utf-8")

    return inner


class Reader(HTMLParser):
    """Tags, attributes, headings and texts of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.texts: list[str] = []
        self.headings: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
        if self.tags[-1:] == ["h2"] and data.strip():
            self.headings.append(data)


RIGHT, WRONG = "correct", "incorrect"
ONE_SEED: Verdicts = {
    ("short", 0): [WRONG, WRONG, RIGHT, "no_answer", WRONG, "unparsed"],
    ("long", 0): [WRONG, WRONG, WRONG, WRONG, RIGHT, WRONG],
    ("mixed", 0): [RIGHT, WRONG, RIGHT, RIGHT, RIGHT, RIGHT],
}


def headings(page: str) -> list[str]:
    """The cases shown; a heading may hold no other element."""
    return [heading for heading in Reader(page).headings if "problem" in heading]


def test_the_rule_chooses(study: Callable[..., str]) -> None:
    page = study(ONE_SEED)
    assert headings(page) == ["the easy, problem 0, seed 0", "the easy, problem 3, seed 0"]  # no answer is wrong, unparsed is not
    assert "2 of 6 problems of the easy match. Shown: all of them" in page
    assert "SHORT wrong; LONG wrong; MIXED right" in page
    assert "mixed says 0" in page and "mixed says 1" not in page


def test_only_the_first_few_are_shown_and_all_are_counted(study: Callable[..., str]) -> None:
    many: Verdicts = {("short", 0): [WRONG] * 9, ("long", 0): [WRONG] * 9, ("mixed", 0): [RIGHT] * 9}
    page = study(many, {"problems": 2}, ("easy", "hard"))
    assert headings(page) == ["the easy, problem 0, seed 0", "the easy, problem 1, seed 0"]
    assert "9 of 9 problems of the easy, 9 of 9 problems of the hard match. Shown: the first 2 of 18" in page


def test_nothing_matches_is_said_with_counts(study: Callable[..., str]) -> None:
    page = study({key: [WRONG] * 4 for key in ONE_SEED})
    assert "No problem matches: 0 of 4 problems of the easy match. So nothing is shown." in page
    assert headings(page) == [] and "says" not in page


def test_patterns_are_counted_over_problems_and_seeds(study: Callable[..., str]) -> None:
    table = study(ONE_SEED).split("<tbody>")[1].split("</tbody>")[0]
    rows = [tuple(cell.rsplit(">", 1)[1] for cell in row.split("</td>")[:-1]) for row in table.split("</tr>")[:-1]]
    assert sorted(rows) == sorted(
        [
            ("wrong", "wrong", "right", "2", "33.3 %"),
            ("wrong", "wrong", "wrong", "1", "16.7 %"),
            ("right", "wrong", "right", "1", "16.7 %"),
            ("wrong", "right", "right", "1", "16.7 %"),
            ("unparsed", "wrong", "right", "1", "16.7 %"),
        ]
    )
    assert table.index('class="chosen"') < table.index("33.3 %") < table.index('class="other"')


def test_the_first_seed_in_which_a_problem_matches_is_shown(study: Callable[..., str]) -> None:
    verdicts: Verdicts = {
        ("short", 0): [RIGHT, WRONG, WRONG],
        ("long", 0): [WRONG, WRONG, WRONG],
        ("mixed", 0): [RIGHT, RIGHT, RIGHT],
        ("short", 1): [WRONG, WRONG, RIGHT],
        ("long", 1): [WRONG, WRONG, WRONG],
        ("mixed", 1): [RIGHT, RIGHT, RIGHT],
    }
    page = study(verdicts)
    assert headings(page) == [
        "the easy, problem 0, seed 1, matches in 1 of 2 seeds",
        "the easy, problem 1, seed 0, matches in 2 of 2 seeds",
        "the easy, problem 2, seed 0, matches in 1 of 2 seeds",
    ]
    assert "3 of 3 problems of the easy match in at least one of the seeds" in page


def test_one_seed_must_do_it_alone(study: Callable[..., str]) -> None:
    # Long wrong in seed 0 and mix right in seed 1 are no case.
    verdicts: Verdicts = {("short", 0): [WRONG], ("long", 0): [WRONG], ("mixed", 0): [WRONG]}
    verdicts |= {("short", 1): [RIGHT], ("long", 1): [RIGHT], ("mixed", 1): [RIGHT]}
    assert headings(study(verdicts)) == []


def test_an_untouched_student_of_one_state_stands_beside_every_seed(study: Callable[..., str]) -> None:
    verdicts = {("none", 0): [RIGHT], ("long", 1): [WRONG], ("long", 2): [WRONG]}
    page = study(verdicts, {"choose": {"none": "right", "long": "wrong"}})
    assert headings(page) == ["the easy, problem 0, seed 1, matches in 2 of 2 seeds"]
    assert "7 tokens, ended by itself; seed 0" in page and "7 tokens, ended by itself; seed 1" in page


def test_mixes_that_the_rule_leaves_open_are_shown_too(study: Callable[..., str]) -> None:
    page = study(ONE_SEED, {"choose": {"short": "right"}})
    assert headings(page) == ["the easy, problem 2, seed 0"]
    assert all(f"{mix} says 2" in page for mix in ("short", "long", "mixed"))


def test_several_students_must_all_do_it(tmp_path: Path) -> None:
    cells = [(model, "long", 0, "easy") for model in ("a", "b")]
    verdicts = {"a": [RIGHT, RIGHT, WRONG], "b": [WRONG, RIGHT, RIGHT]}
    answers: case.Answers = {cell: case.read_cell(write_cell(tmp_path, cell, verdicts[cell[0]])) for cell in cells}
    content = spec(cells, choose={"long": "right"})
    assert [one.doc_id for one in case.choose(answers, content).cases] == [1]
    assert list(case.labels(content)) == ["A, LONG", "B, LONG"]


def test_the_order_of_files_and_rows_changes_nothing(tmp_path: Path) -> None:
    cells = [("m", mix, seed, "easy") for mix, seed in ONE_SEED]
    answers: case.Answers = {cell: case.read_cell(write_cell(tmp_path, cell, ONE_SEED[cell[1], 0])) for cell in cells}
    turned: case.Answers = {cell: dict(reversed(rows.items())) for cell, rows in reversed(answers.items())}
    assert case.choose(answers, spec(cells)) == case.choose(turned, spec(cells))


@pytest.mark.parametrize("key", ["response", "problem", "gold", "answer", "by"])
def test_hostile_text_is_text(study: Callable[..., str], key: str) -> None:
    text = " ".join(HOSTILE)
    plain, page = (Reader(study(ONE_SEED, **{key: value})) for value in ("plain", text))
    assert page.tags == plain.tags
    assert page.attributes == plain.attributes <= {"charset", "http-equiv", "content", "lang", "class"}
    assert not {"\x1b", "\x00", "\u202e", "\u2028"} & set("".join(page.texts))


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_each_hostile_response_is_text(study: Callable[..., str], text: str) -> None:
    assert Reader(study(ONE_SEED, response=text)).tags == Reader(study(ONE_SEED)).tags


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_labels_are_text(study: Callable[..., str], text: str) -> None:
    shown = {"models": [["m", text]], "mixes": [[mix, text] for mix, _ in ONE_SEED], "benchmarks": [["easy", text]]}
    page = Reader(study(ONE_SEED, {"caption": text, "shown": shown}))
    assert page.tags == Reader(study(ONE_SEED)).tags


def test_the_page_asks_for_nothing(study: Callable[..., str]) -> None:
    page = study(ONE_SEED)
    assert "default-src 'none'" in page and "http://" not in page and "https://" not in page


def test_what_the_page_says_of_an_answer(study: Callable[..., str]) -> None:
    page = study(ONE_SEED, finish="length", response="", n_tokens=16000)
    assert "16,000 tokens, cut off at the cap; seed 0" in page and "(empty)" in page
    assert "no answer found" in page and "✗ wrong: no answer found" in page and "✓ right" in page


def test_a_very_long_answer_is_cut_and_said(study: Callable[..., str]) -> None:
    page = study(ONE_SEED, response="x" * 100_000)
    assert "… [60000 more characters]" in page and len(page) < 300_000


def test_files_about_other_answers_are_an_error(tmp_path: Path) -> None:
    cell = ("m", "long", 0, "easy")
    score = write_cell(tmp_path, cell, [RIGHT, WRONG])
    write_jsonl(score.with_name("verdicts.jsonl"), [{"doc_id": 0, "repeat": 0, "verdict": RIGHT, "by": "number", "raw": None}])
    with pytest.raises(InputError, match="not about the same answers in the same order"):
        case.read_cell(score)


def test_a_missing_answer_is_an_error_and_no_wrong_one(tmp_path: Path) -> None:
    cells = [("m", "long", 0, "easy"), ("m", "short", 0, "easy"), ("m", "mixed", 0, "easy")]
    answers: case.Answers = {cell: case.read_cell(write_cell(tmp_path, cell, [RIGHT] * (2 if cell[1] == "long" else 1))) for cell in cells}
    with pytest.raises(InputError, match="m/short/0/easy has no answer to problem 1, repeat 0"):
        case.choose(answers, spec(cells))


def test_the_manifest_counts(study: Callable[..., str], tmp_path: Path) -> None:
    study(ONE_SEED)
    found: Row = manifest.read(tmp_path / "cases" / "one.manifest.json")
    assert found["facts"] == {"n_matching": 2, "n_problems": 6}
    assert set(found["inputs"]) == {"m/short/0/easy", "m/long/0/easy", "m/mixed/0/easy"}
