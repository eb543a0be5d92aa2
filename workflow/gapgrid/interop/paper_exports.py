"""Results in the files of the paper's scripts.

`summary_results_{task}.json` and `problematic_instances_{task}.json`: keys, order and meaning are
those of the paper's `math_metric_llm_eval_general.py`. What it could not say is null here: the
verdict on an answer that neither rules nor a judge decided, and the accuracy after judging as long
as there is such an answer.
"""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gapgrid.core import layout
from gapgrid.core.cells import Cell, TrainingCell
from gapgrid.core.records import LONE_SURROGATE, Row, fail_if, read_json, sha256_file, write_text
from gapgrid.core.rows import (
    CORRECT,
    INCORRECT,
    GradedRow,
    ResponseRow,
    VerdictRow,
    matched,
    read_cell,
)

NO_NEED = "No need to check"
NOT_CHECKED = "Not checked"


def instances(
    samples: Sequence[ResponseRow], graded: Sequence[GradedRow], verdicts: Sequence[VerdictRow]
) -> list[Row]:
    """Return one entry per answer, in order.

    exact_match is 1 where a rule accepted the answer. llm_check_result is 1 or 0, None if the
    judge's reply could not be parsed or nobody decided; its reason names who did. Raises an
    `InputError` where the rows do not belong together.
    """
    entries = []
    for index, (sample, grade, verdict) in enumerate(matched("export", samples, graded, verdicts)):
        result, reason = _check(grade, verdict)
        entries.append(
            {
                "index": index,
                "problem": sample["problem"],
                "resp_answer": grade["answer"],
                "answer": grade["gold"],
                "exact_match": int(grade["rule_correct"]),
                "llm_check_result": result,
                "llm_check_result_reason": reason,
            }
        )
    return entries


def _check(grade: GradedRow, verdict: VerdictRow) -> tuple[int | None, str]:
    """Return the result of the check that follows the rules, and its reason."""
    if grade["rule_correct"] or grade["answer"] is None:
        return int(grade["rule_correct"]), NO_NEED
    if verdict["by"] == "judge":
        result = {CORRECT: 1, INCORRECT: 0}.get(verdict["verdict"])
        return result, f"LLM check result: {verdict['raw']}"
    if grade["rejected_by"]:
        return 0, f"Rejected by rule: {grade['rejected_by']}"
    return None, NOT_CHECKED


def problematic(entries: Iterable[Row]) -> list[Row]:
    """Return the entries with an answer that no rule accepted: the paper's judge gets these."""
    return [
        entry for entry in entries if entry["exact_match"] == 0 and entry["resp_answer"] is not None
    ]


def summary(entries: Sequence[Row]) -> dict[str, Any]:
    """Return two accuracies as shares of all answers, 0 to 1, and two counts.

    As in the paper, a reply that could not be parsed counts as wrong in llm_check_result_accuracy
    (`score.json` leaves it out of both sides). That accuracy is None while an answer is undecided,
    and both are without any answers.
    """
    results = [entry["llm_check_result"] for entry in entries]
    is_decided = all(entry["llm_check_result_reason"] != NOT_CHECKED for entry in entries)
    exact, judged = sum(entry["exact_match"] for entry in entries), results.count(1)
    return {
        "none_resp_answer_count": sum(entry["resp_answer"] is None for entry in entries),
        "exact_match_accuracy": exact / len(entries) if entries else None,
        "llm_check_result_accuracy": judged / len(entries) if entries and is_decided else None,
        "none_llm_check_result_count": results.count(None),
    }


def write_exports(
    folder: Path,
    task: str,
    samples: Sequence[ResponseRow],
    graded: Sequence[GradedRow],
    verdicts: Sequence[VerdictRow],
) -> list[Path]:
    """Write both files of one task into `folder`, each atomically; return their paths."""
    entries = instances(samples, graded, verdicts)
    contents = {"problematic_instances": problematic(entries), "summary_results": summary(entries)}
    paths = []
    for name, content in contents.items():
        text = json.dumps(content, ensure_ascii=False, indent=4, allow_nan=False)
        text = LONE_SURROGATE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)  # no UTF-8
        paths.append(folder / f"{name}_{task}.json")
        write_text(paths[-1], text)
    return paths


def export_grid(
    results: Path, cells: Iterable[Cell], out: Path, tasks: Mapping[str, str]
) -> list[Path]:
    """Write both files of every built cell into `out/{model}/{mix}/{seed}/`; return their paths.

    `results` is a grid's folder; `tasks` maps a benchmark to the name of its task. Cells that are
    not built, or whose score is of an older grading, are left out and named on stderr. Raises an
    `InputError` if two benchmarks of a cell have one task name.
    """
    unique = list(dict.fromkeys(cells))
    _check_names(unique, tasks)
    written: list[Path] = []
    for cell in unique:
        score = results / layout.path("score", *cell)
        problem = _why_not(results / layout.path("grade", *cell), score)
        if problem:
            print(f"{cell}: {problem}, left out", file=sys.stderr)
            continue
        samples, graded, verdicts = zip(*read_cell(score), strict=True)
        folder, task = out / str(cell.trained), tasks[cell.benchmark]
        written += write_exports(folder, task, samples, graded, verdicts)
    return written


def _check_names(cells: list[Cell], tasks: Mapping[str, str]) -> None:
    """Raise an `InputError` for benchmarks without a task, or of one cell with one task name."""
    benchmarks = dict.fromkeys(cell.benchmark for cell in cells)
    problems = [f"benchmark '{name}': no task given" for name in benchmarks if name not in tasks]
    first: dict[tuple[TrainingCell, str | None], str] = {}
    for cell in cells:
        task = tasks.get(cell.benchmark)
        other = first.setdefault((cell.trained, task), cell.benchmark)
        if other != cell.benchmark and task:
            names = f"'{other}' and '{cell.benchmark}' both are task '{task}'"
            problems.append(f"{cell.trained}: benchmarks {names}; export one at a time")
    fail_if(problems)


def _why_not(grade: Path, score: Path) -> str:
    """Return why a cell cannot be exported, or nothing; given the manifests of its stages."""
    if not (grade.is_file() and score.is_file()):
        return "not built yet"
    is_current = read_json(score).get("inputs", {}).get("grade") == sha256_file(grade)
    return "" if is_current else "its score is of an older grading"
