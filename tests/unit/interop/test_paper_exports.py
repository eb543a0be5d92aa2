"""The paper's files: its keys, and no verdict that nobody has given."""

import json
from pathlib import Path
from typing import Any

import pytest

from gapgrid.core import layout, manifest
from gapgrid.core.cells import Cell
from gapgrid.core.records import InputError, read_json, sha256_file, write_jsonl
from gapgrid.interop.paper_exports import (
    export_grid,
    instances,
    problematic,
    summary,
    write_exports,
)

SUMMARY = [
    "none_resp_answer_count",
    "exact_match_accuracy",
    "llm_check_result_accuracy",
    "none_llm_check_result_count",
]
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
ANSWERS = [answer for answer, _ in CASES]
UNDECIDED = ("w", False, None, "incorrect", "undecided", None)

Rows = tuple[list[Any], list[Any], list[Any]]


def rows(*answers: tuple[Any, ...]) -> Rows:
    """Return samples, graded and verdict rows of answers, two repeats per problem."""
    samples, graded, verdicts = [], [], []
    for index, (answer, rule_correct, rejected_by, verdict, by, raw) in enumerate(answers):
        key = {"doc_id": index // 2, "repeat": index % 2}
        samples.append({**key, "problem": f"p{index // 2}", "gold": "$1$", "response": "…"})
        decision = {"rule_correct": rule_correct, "rejected_by": rejected_by}
        graded.append({**key, "gold": "1", "answer": answer, **decision})
        verdicts.append({**key, "verdict": verdict, "by": by, "raw": raw})
    return samples, graded, verdicts


def test_every_answer_has_an_entry_that_names_who_decided_it() -> None:
    entries = instances(*rows(*ANSWERS))
    assert [tuple(entry.values())[-2:] for entry in entries] == [result for _, result in CASES]
    assert [entry["index"] for entry in entries] == list(range(len(CASES)))
    expected = {
        "index": 3,
        "problem": "p1",
        "resp_answer": "x",
        "answer": "1",
        "exact_match": 0,
        "llm_check_result": 1,
        "llm_check_result_reason": "LLM check result: True",
    }
    assert entries[3] == expected
    assert all(list(entry) == list(expected) for entry in entries)
    assert [entry["index"] for entry in problematic(entries)] == [2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        (ANSWERS, [1, 1 / 7, 3 / 7, 1]),
        ([ANSWERS[0], UNDECIDED], [0, 0.5, None, 1]),
        ([], [0, None, None, 0]),
    ],
)
def test_the_summary_counts_as_the_paper_does(
    answers: list[tuple[Any, ...]], expected: list[float | None]
) -> None:
    assert summary(instances(*rows(*answers))) == dict(zip(SUMMARY, expected, strict=True))


def test_an_undecided_answer_is_neither_right_nor_wrong() -> None:
    (entry,) = instances(*rows(UNDECIDED))
    assert entry["llm_check_result"] is None
    assert entry["llm_check_result_reason"] == "Not checked"


def test_rows_of_other_answers_are_refused() -> None:
    samples, graded, verdicts = rows(*ANSWERS)
    for wrong in (
        (samples, graded[:-1], verdicts),
        (samples, graded, verdicts[::-1]),
        ([], graded, verdicts),
    ):
        with pytest.raises(InputError, match="not of the same answers"):
            instances(*wrong)


def test_files_are_named_and_laid_out_as_the_papers(tmp_path: Path) -> None:
    samples, graded, verdicts = rows(ANSWERS[0], UNDECIDED)
    graded[1]["answer"] = "½ \ud800"
    written = write_exports(tmp_path / "new", "AIME", samples, graded, verdicts)
    names = ["problematic_instances_AIME.json", "summary_results_AIME.json"]
    assert [path.name for path in written] == names
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == names
    text = written[0].read_text(encoding="utf-8")
    assert '\n        "resp_answer": "½ \\ud800",\n' in text
    assert json.loads(text)[0]["resp_answer"] == "½ \ud800"
    assert list(json.loads(written[1].read_text())) == SUMMARY


# --------------------------------------------------------------------------- of a grid

STUDENT, TEACHER = Cell("student", "long", 0, "aime"), Cell("teacher", "none", 1, "aime")
TASKS = {"aime": "AIME", "aime-again": "AIME", "amc": "AMC"}


def build(results: Path, cell: Cell, *answers: tuple[Any, ...]) -> Path:
    """Write a cell's rows as its stages do, and return the path of its verdicts."""
    samples, graded, verdicts = rows(*answers)
    grade, score = (results / layout.path(stage, *cell) for stage in ("grade", "score"))
    write_jsonl(grade.with_name("samples.jsonl"), samples)
    write_jsonl(grade.with_name("graded.jsonl"), graded)
    write_jsonl(score.with_name("verdicts.jsonl"), verdicts)
    manifest.write(grade, "grade", {}, {}, ["samples.jsonl", "graded.jsonl"])
    manifest.write(score, "score", {}, {"grade": sha256_file(grade)}, ["verdicts.jsonl"])
    return score.with_name("verdicts.jsonl")


def test_each_cell_has_its_folder_and_one_that_is_not_built_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build(tmp_path / "results", STUDENT, ANSWERS[0])
    build(tmp_path / "results", TEACHER, ANSWERS[3], ANSWERS[4])
    cells = [STUDENT, TEACHER, STUDENT._replace(benchmark="amc"), STUDENT]
    written = export_grid(tmp_path / "results", cells, tmp_path / "out", TASKS)
    assert [path.relative_to(tmp_path / "out").as_posix() for path in written] == [
        "student/long/0/problematic_instances_AIME.json",
        "student/long/0/summary_results_AIME.json",
        "teacher/none/1/problematic_instances_AIME.json",
        "teacher/none/1/summary_results_AIME.json",
    ]
    assert capsys.readouterr().err == "student/long/0/amc: not built yet, left out\n"
    assert read_json(written[-1])["llm_check_result_accuracy"] == 0.5


def test_a_score_of_an_older_grading_is_not_exported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build(tmp_path, STUDENT, ANSWERS[0])
    grade = tmp_path / layout.path("grade", *STUDENT)
    manifest.write(grade, "grade", {"version": 2}, {}, ["samples.jsonl", "graded.jsonl"])
    assert export_grid(tmp_path, [STUDENT], tmp_path / "out", TASKS) == []
    assert "its score is of an older grading" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_files_of_one_name_and_unknown_tasks_are_refused(tmp_path: Path) -> None:
    cells = [STUDENT._replace(benchmark=name) for name in ("aime", "aime-again", "new")]
    with pytest.raises(InputError) as error:
        export_grid(tmp_path, [*cells, TEACHER], tmp_path / "out", TASKS)
    assert str(error.value).splitlines() == [
        "benchmark 'new': no task given",
        "student/long/0: benchmarks 'aime' and 'aime-again' both are task 'AIME';"
        " export one at a time",
    ]


def test_rows_that_do_not_fit_name_their_cell(tmp_path: Path) -> None:
    write_jsonl(build(tmp_path, STUDENT, ANSWERS[0]), [])
    with pytest.raises(InputError, match=r"long/0/aime/manifest\.json: samples, graded"):
        export_grid(tmp_path, [STUDENT], tmp_path / "out", TASKS)
