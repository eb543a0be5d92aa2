"""exports: the paper's files, with the paper's keys, and nothing in them that nobody has decided."""

import json
from pathlib import Path
from typing import Any

import pytest

from gapgrid import manifest
from gapgrid.exports import export_grid, instances, problematic, summary, write_exports
from gapgrid.records import InputError, Row, read_json, sha256_file, write_jsonl

INSTANCE = ["index", "problem", "resp_answer", "answer", "exact_match", "llm_check_result", "llm_check_result_reason"]
SUMMARY = ["none_resp_answer_count", "exact_match_accuracy", "llm_check_result_accuracy", "none_llm_check_result_count"]

# answer, rule_correct, rejected_by, verdict, by, raw; then llm_check_result and its reason
CASES: list[tuple[tuple[Any, ...], tuple[Any, ...]]] = [
    (("1", True, None, "correct", "number", None), (1, "No need to check")),
    ((None, False, None, "no_answer", "no_answer", None), (0, "No need to check")),
    (("2", False, "number", "incorrect", "number", None), (0, "Rejected by rule: number")),
    (("x", False, None, "correct", "judge", "True"), (1, "LLM check result: True")),
    (("y", False, None, "incorrect", "judge", "False."), (0, "LLM check result: False.")),
    (("z", False, None, "unparsed", "judge", "Well"), (None, "LLM check result: Well")),
    (("3", False, "number", "correct", "judge", "True"), (1, "LLM check result: True")),
]
UNDECIDED = ("w", False, None, "incorrect", "undecided", None)

Rows = tuple[list[Row], list[Row], list[Row]]


def rows(*cases: tuple[Any, ...]) -> Rows:
    """Samples, graded and verdict rows of cases, two repeats a problem."""
    places = [{"doc_id": index // 2, "repeat": index % 2} for index in range(len(cases))]
    samples = [{**place, "problem": f"p{place['doc_id']}", "gold": "$1$", "response": "…"} for place in places]
    graded = [
        {**place, "gold": "1", "answer": a, "rule_correct": c, "rejected_by": r} for place, (a, c, r, *_) in zip(places, cases, strict=True)
    ]
    verdicts = [{**place, "verdict": v, "by": by, "raw": raw} for place, (*_, v, by, raw) in zip(places, cases, strict=True)]
    return samples, graded, verdicts


def test_every_answer_has_an_entry_that_says_who_decided_it() -> None:
    entries = instances(*rows(*(case for case, _ in CASES)))
    assert all(list(entry) == INSTANCE for entry in entries)
    assert [entry["index"] for entry in entries] == list(range(len(CASES)))
    assert [(entry["llm_check_result"], entry["llm_check_result_reason"]) for entry in entries] == [expected for _, expected in CASES]
    assert entries[3] == {
        "index": 3,
        "problem": "p1",
        "resp_answer": "x",
        "answer": "1",
        "exact_match": 0,
        "llm_check_result": 1,
        "llm_check_result_reason": "LLM check result: True",
    }
    assert [entry["index"] for entry in problematic(entries)] == [2, 3, 4, 5, 6]


def test_the_summary_counts_as_the_paper_does() -> None:
    found = summary(instances(*rows(*(case for case, _ in CASES))))
    assert list(found) == SUMMARY
    assert list(found.values()) == [1, 1 / 7, 3 / 7, 1]


def test_an_undecided_answer_is_neither_right_nor_wrong() -> None:
    entries = instances(*rows(CASES[0][0], UNDECIDED))
    assert (entries[1]["llm_check_result"], entries[1]["llm_check_result_reason"]) == (None, "Not checked")
    assert list(summary(entries).values()) == [0, 0.5, None, 1]
    assert list(summary([]).values()) == [0, None, None, 0]


def test_rows_of_other_answers_are_refused() -> None:
    samples, graded, verdicts = rows(*(case for case, _ in CASES))
    for wrong in ((samples, graded[:-1], verdicts), (samples, graded, verdicts[::-1]), ([], graded, verdicts)):
        with pytest.raises(InputError, match="not of the same answers"):
            instances(*wrong)


def test_files_are_named_and_laid_out_as_the_papers(tmp_path: Path) -> None:
    samples, graded, verdicts = rows(CASES[0][0], UNDECIDED)
    graded[1]["answer"] = "½ \ud800"
    written = write_exports(tmp_path / "new", "AIME", samples, graded, verdicts)
    assert {path.name for path in written} == {"summary_results_AIME.json", "problematic_instances_AIME.json"}
    assert {path.name for path in (tmp_path / "new").iterdir()} == {path.name for path in written}
    text = (tmp_path / "new/problematic_instances_AIME.json").read_text(encoding="utf-8")
    assert '\n        "resp_answer": "½ \\ud800",\n' in text
    assert json.loads(text)[0]["resp_answer"] == "½ \ud800"
    assert list(read_json(tmp_path / "new/summary_results_AIME.json")) == SUMMARY


# --------------------------------------------------------------------------- of a grid


def build(results: Path, cell: tuple[str, str, int, str], *cases: tuple[Any, ...]) -> None:
    """A cell's grade and score folders, as the stages leave them."""
    grade, score = (results / stage / "/".join(map(str, cell)) for stage in ("grade", "score"))
    samples, graded, verdicts = rows(*cases)
    for folder, name, content in ((grade, "samples", samples), (grade, "graded", graded), (score, "verdicts", verdicts)):
        write_jsonl(folder / f"{name}.jsonl", content)
    manifest.write(grade / "manifest.json", "grade", {}, {}, ["samples.jsonl", "graded.jsonl"])
    manifest.write(score / "manifest.json", "score", {}, {"grade": sha256_file(grade / "manifest.json")}, ["verdicts.jsonl"])


ONE, TWO = ("student", "long", 0, "aime"), ("teacher", "none", 1, "aime")
TASKS = {"aime": "AIME", "aime-again": "AIME", "amc": "AMC"}


def test_each_cell_has_its_folder_and_one_that_is_not_built_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build(tmp_path / "results", ONE, CASES[0][0])
    build(tmp_path / "results", TWO, CASES[3][0], CASES[4][0])
    lacking = ("student", "long", 0, "amc")
    written = export_grid(tmp_path / "results", [ONE, TWO, lacking, ONE], tmp_path / "out", TASKS)
    assert sorted(path.relative_to(tmp_path / "out").as_posix() for path in written) == [
        "student/long/0/problematic_instances_AIME.json",
        "student/long/0/summary_results_AIME.json",
        "teacher/none/1/problematic_instances_AIME.json",
        "teacher/none/1/summary_results_AIME.json",
    ]
    assert capsys.readouterr().err == "student/long/0/amc: not built yet, left out\n"
    assert read_json(tmp_path / "out/teacher/none/1/summary_results_AIME.json")["llm_check_result_accuracy"] == 0.5


def test_a_score_of_an_older_grading_is_not_exported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build(tmp_path, ONE, CASES[0][0])
    folder = tmp_path / "grade/student/long/0/aime"
    write_jsonl(folder / "graded.jsonl", [])
    manifest.write(folder / "manifest.json", "grade", {}, {}, ["samples.jsonl", "graded.jsonl"])
    assert export_grid(tmp_path, [ONE], tmp_path / "out", TASKS) == []
    assert "its score is of an older grading" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_files_of_one_name_and_unknown_tasks_are_refused(tmp_path: Path) -> None:
    cells = [ONE, (*ONE[:3], "aime-again"), (*ONE[:3], "new"), TWO]
    with pytest.raises(InputError) as error:
        export_grid(tmp_path, cells, tmp_path / "out", TASKS)
    assert str(error.value).splitlines() == [
        "benchmark 'new': no task given",
        "student/long/0: benchmarks 'aime' and 'aime-again' both are task 'AIME'; export one at a time",
    ]


def test_rows_that_do_not_fit_name_their_cell(tmp_path: Path) -> None:
    build(tmp_path, ONE, CASES[0][0])
    write_jsonl(tmp_path / "score/student/long/0/aime/verdicts.jsonl", [])
    with pytest.raises(InputError, match="student/long/0/aime: samples, graded and verdicts"):
        export_grid(tmp_path, [ONE], tmp_path / "out", TASKS)
