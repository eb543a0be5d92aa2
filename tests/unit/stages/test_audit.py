"""audit: answers are counted once, all disagreements are listed, no text becomes markup."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gapgrid.core import manifest
from gapgrid.core.cells import Cell
from gapgrid.core.records import Row, write_json, write_jsonl
from gapgrid.core.text import HIDDEN
from gapgrid.stages import audit
from tests.unit.pages import HOSTILE, Page, answer, write_cell

OUTPUTS = ("audit.csv", "rules.csv", "disagreements.csv", "audit.html", "manifest.json")
CELL = Cell("m", "x", 0, "b")
JUDGED = {"rule": "different", "by": "judge"}
ACCEPTED: Row = {"rule_correct": True, "verdict": "correct"}
# By category: an answer's columns, and which rule decided and how.
CATEGORIES: dict[str, tuple[Row, tuple[str, str]]] = {
    "both": ({**ACCEPTED, "by": "judge", "raw": "True"}, ("judge", "judge_correct")),
    "rule_only": (ACCEPTED, ("number", "accepted")),
    "judge_only": ({**JUDGED, "verdict": "correct"}, ("judge", "judge_correct")),
    "neither": ({**JUDGED, "raw": "False"}, ("judge", "judge_incorrect")),
    "decisively_rejected": ({"rejected_by": "number"}, ("number", "rejected")),
    "undecided": ({"rule": "different", "by": "undecided"}, ("different", "undecided")),
    "unparsed": ({**JUDGED, "verdict": "unparsed", "raw": "hm"}, ("judge", "unparsed")),
    "no_answer": (
        {"answer": None, "rule": "no_answer", "by": "no_answer", "verdict": "no_answer"},
        ("no_answer", "no_answer"),
    ),
}


def answer_of(category: str, number: int = 0, **changes: Any) -> Row:
    """An answer that is counted in `category`."""
    return answer(number, **{**CATEGORIES[category][0], **changes})


@pytest.fixture
def run_audit(run: Callable[..., int], tmp_path: Path) -> Callable[..., int]:
    """`run_audit(rows by cell, out="audit")`: the stage on these cells, its files in `out`."""

    def inner(cells: dict[Cell, list[Row]], out: str = "audit") -> int:
        scores = [write_cell(tmp_path, *item) / "score.json" for item in cells.items()]
        files = [tmp_path / out / name for name in OUTPUTS]
        return run(audit, {"stage": "audit", "version": 1}, *files, "--", *scores)

    return inner


def read_csv(file: Path) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    with file.open(encoding="utf-8", newline="") as opened:
        return list(csv.DictReader(opened))


# ---- counts ----


@pytest.mark.parametrize("category", audit.CATEGORIES)
def test_each_category_is_what_it_says(category: str) -> None:
    row = answer_of(category)
    assert (audit.category(row), audit.decided(row)) == (category, CATEGORIES[category][1])


@pytest.mark.parametrize(
    ("base", "changes", "signs", "category", "kinds"),
    [
        ("rule_only", {"judge_verdict": "correct"}, [], "both", []),
        ("rule_only", {"judge_verdict": "incorrect"}, [], "rule_only", ["judge_rejected"]),
        ("decisively_rejected", {"judge_verdict": "correct"}, [], "judge_only", ["overruled"]),
        ("decisively_rejected", {"judge_verdict": "incorrect"}, [], "decisively_rejected", []),
        ("judge_only", {"rejected_by": "number"}, ["tag"], "judge_only", ["overruled", "flagged"]),
        ("judge_only", {}, [], "judge_only", ["judge_accepted"]),
        ("judge_only", {"answer": None}, [], "no_answer", []),
        ("unparsed", {}, [], "unparsed", ["unparsed"]),
    ],
)
def test_a_judge_asked_besides_a_rule_counts_too(
    base: str, changes: Row, signs: list[str], category: str, kinds: list[str]
) -> None:
    row = answer_of(base, **changes)
    assert (audit.category(row), audit.kinds(row, signs)) == (category, kinds)


rows_of_any_kind = st.builds(
    lambda category, changes, rejected: answer_of(category, **changes, **rejected),
    st.sampled_from(list(CATEGORIES)),
    st.fixed_dictionaries(
        {
            "benchmark": st.sampled_from(["b", "c"]),
            "model": st.sampled_from(["m", "n"]),
            "finish": st.sampled_from(["stop", "length"]),
        }
    ),
    st.sampled_from([{}, {"rejected_by": "number"}]),
)


@given(st.lists(rows_of_any_kind, min_size=1))
def test_categories_add_up_and_totals_are_sums(rows: list[Row]) -> None:
    counts = audit.Counts()
    for row in rows:
        counts.add(row, [])
    table = {(line["benchmark"], line["model"]): line for line in counts.audit_rows()}
    for line in table.values():
        assert sum(line[category] for category in audit.CATEGORIES) == line["n"]
        assert line["rule_accepted"] == line["both"] + line["rule_only"]
        assert line["judge_accepted"] == line["both"] + line["judge_only"]
    assert list(table)[-1] == ("all", "all") and table["all", "all"]["n"] == len(rows)
    for name in audit.AUDIT_COLUMNS[2:]:
        parts = [line[name] for key, line in table.items() if "all" not in key]
        assert sum(parts) == table["all", "all"][name]
    for benchmark in {benchmark for benchmark, _ in table}:
        decided = [line for line in counts.rule_rows() if line["benchmark"] == benchmark]
        assert sum(line["n"] for line in decided) == table[benchmark, "all"]["n"]
        assert sum(line["share"] for line in decided) == pytest.approx(1)


# ---- the stage ----


def test_the_stage_writes_tables_page_and_manifest(
    run_audit: Callable[..., int], tmp_path: Path
) -> None:
    rejected = {"answer": "<answer>True</answer>", "finish": "length"}
    cells = {
        CELL: [answer_of(category, i) for i, category in enumerate(audit.CATEGORIES)],
        CELL._replace(model="n"): [answer_of("decisively_rejected", i, **rejected) for i in (0, 1)],
    }
    assert run_audit(cells) == 0
    out = tmp_path / "audit"
    table = {(row["benchmark"], row["model"]): row for row in read_csv(out / "audit.csv")}
    assert list(table) == [(name, model) for name in ("b", "all") for model in ("m", "n", "all")]
    assert all(table["b", "m"][category] == "1" for category in audit.CATEGORIES)
    assert table["all", "all"]["n"] == "10"
    assert table["all", "n"]["flagged"] == table["all", "n"]["truncated"] == "2"
    kinds = [(row["kinds"], row["doc_id"]) for row in read_csv(out / "disagreements.csv")]
    assert kinds == [("judge_accepted", "2"), ("unparsed", "6"), ("flagged", "0"), ("flagged", "1")]
    flagged = read_csv(out / "disagreements.csv")[2]
    assert flagged["flags"] == "verdict tag"
    assert flagged["link"] == "../grade/n/x/0/b/samples.jsonl#L1"
    assert (out / flagged["link"].partition("#")[0]).is_file()
    assert manifest.mismatches(out / "manifest.json") == []
    assert set(manifest.read(out / "manifest.json")["inputs"]) == {"m/x/0/b", "n/x/0/b"}


def test_the_order_of_the_files_changes_no_byte_and_an_input_changes_the_manifest(
    run_audit: Callable[..., int], tmp_path: Path
) -> None:
    rows = [answer_of("judge_only", i) for i in range(250)]
    cells = {CELL._replace(model=model): rows for model in ("m", "n")}
    assert run_audit(cells, "one") == run_audit(dict(reversed(cells.items())), "two") == 0
    for name in OUTPUTS:
        first, second = ((tmp_path / out / name).read_bytes() for out in ("one", "two"))
        assert first == second, name
    assert run_audit({**cells, CELL: [{**row, "problem": "other"} for row in rows]}, "two") == 0
    before, after = (
        manifest.read(tmp_path / out / OUTPUTS[-1])["inputs"] for out in ("one", "two")
    )
    assert before["n/x/0/b"] == after["n/x/0/b"] and before["m/x/0/b"] != after["m/x/0/b"]


def test_a_page_shows_some_of_many_from_anywhere_and_the_csv_all(
    run_audit: Callable[..., int], tmp_path: Path
) -> None:
    rows = [answer_of("judge_only", i) for i in range(150)]
    assert run_audit({CELL._replace(model=f"m{i}"): rows for i in range(4)}) == 0
    assert len(read_csv(tmp_path / "audit" / "disagreements.csv")) == 600
    page = Page((tmp_path / "audit" / "audit.html").read_text(encoding="utf-8"))
    shown = [link for link in page.links if not link.startswith("#")]
    assert len(shown) == len(set(shown)) == audit.MOST_SHOWN
    assert {link.split("/")[2] for link in shown} == {"m0", "m1", "m2", "m3"}
    assert any("100 of 600" in text for text in page.texts)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda score: write_jsonl(score.with_name("verdicts.jsonl"), []),
            "not of the same answers in the same order",
        ),
        (lambda score: write_json(score, {"model": "m"}), "no column 'mix'"),
        (lambda score: score.with_name("verdicts.jsonl").unlink(), "no such file"),
        (
            lambda score: write_cell(score.parents[5], CELL, [{"doc_id": 0, "repeat": 0}]),
            "no column 'rejected_by'",
        ),
    ],
)
def test_broken_cells_are_one_clear_error(
    spoil: Callable[[Path], object],
    message: str,
    tmp_path: Path,
    run: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    score = write_cell(tmp_path, CELL, [answer(0)]) / "score.json"
    spoil(score)
    outputs = [tmp_path / "audit" / name for name in OUTPUTS]
    assert run(audit, {}, *outputs, "--", score) == 1
    assert message in capsys.readouterr().err
    assert not outputs[-1].exists()
    assert run(audit, {}, *outputs, "--", tmp_path / "score.json") == 1
    assert "expected …/score/MODEL/MIX/SEED/BENCHMARK/score.json" in capsys.readouterr().err


def test_hostile_text_stays_text(run_audit: Callable[..., int], tmp_path: Path) -> None:
    keys = ("problem", "gold", "answer", "raw")
    texts = [*HOSTILE, "x" * 3_000_000]
    rows = [
        answer_of("unparsed", number, **dict.fromkeys(keys, text))
        for number, text in enumerate(texts)
    ]
    assert run_audit({CELL: [answer_of("unparsed", **dict.fromkeys(keys, "x"))]}, "plain") == 0
    assert run_audit({CELL: rows}) == 0
    plain, content = ((tmp_path / out / "audit.html").read_bytes() for out in ("plain", "audit"))
    assert len(content) < 200_000
    text = content.decode("utf-8")  # valid, though a lone surrogate went in
    assert not HIDDEN.search(text) and "\r" not in text
    page, plain_page = Page(text), Page(plain.decode())
    assert set(page.tags) == set(plain_page.tags) and page.tags.count("style") == 1
    assert {name for name, _ in page.attributes} == {name for name, _ in plain_page.attributes}
    assert all(link.startswith(("#", "../grade/")) for link in page.links)
    assert page.others == plain_page.others == ["DOCTYPE html"]
    escaped = (r"a\u{0000}b\u{001B}[2J\u{000D}", r"\u{D800} alone \u{DFFF}")
    for shown in (*HOSTILE[:2], HOSTILE[4], *escaped, "… [2999700 more characters]"):
        assert any(shown in part for part in page.texts), shown
    table = read_csv(tmp_path / "audit" / "disagreements.csv")
    assert len(table) == len(texts)
    assert table[-2]["answer"] == f"'{HOSTILE[-1]}" and len(table[-1]["answer"]) < 2100
