"""Results in the files of the paper's scripts: `summary_results_{task}.json` and `problematic_instances_{task}.json`.

Pure functions from the house's rows (samples, graded, verdicts) to those files' content, and their writers. Keys, order and
meaning are those of the paper's `math_metric_llm_eval_general.py`. What it could not say is null here: the verdict on an
answer that neither rules nor a judge decided, and the accuracy after judging as long as there is such an answer.
"""

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gapgrid.records import InputError, Row, fail_if, read_json, read_jsonl, sha256_file, write_text

NO_NEED = "No need to check"
NOT_CHECKED = "Not checked"
_PLACE = ("doc_id", "repeat")
_SURROGATE = re.compile("[\ud800-\udfff]")


def instances(samples: Sequence[Row], graded: Sequence[Row], verdicts: Sequence[Row]) -> list[Row]:
    """One entry per answer, in order: index, problem, answer (the reference), resp_answer, exact_match and llm_check_result.

    exact_match is 1 where a rule accepted the answer. llm_check_result is 1 or 0, null if the judge's reply could not be
    parsed or nobody decided; `llm_check_result_reason` says who did. Raises an `InputError` where the rows do not belong together.
    """
    places = [[tuple(row.get(key) for key in _PLACE) for row in rows] for rows in (samples, graded, verdicts)]
    if not places[0] == places[1] == places[2]:
        raise InputError(f"samples, graded and verdicts are not of the same answers: {', '.join(str(len(rows)) for rows in places)} rows")
    entries = []
    for index, (sample, grade, verdict) in enumerate(zip(samples, graded, verdicts, strict=True)):
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


def _check(grade: Row, verdict: Row) -> tuple[int | None, str]:
    """The result of the check that follows the rules, and why it is that."""
    if grade["rule_correct"] or grade["answer"] is None:
        return int(grade["rule_correct"]), NO_NEED
    if verdict["by"] == "judge":
        return {"correct": 1, "incorrect": 0}.get(verdict["verdict"]), f"LLM check result: {verdict['raw']}"
    if grade.get("rejected_by"):
        return 0, f"Rejected by rule: {grade['rejected_by']}"
    return None, NOT_CHECKED


def problematic(entries: Iterable[Row]) -> list[Row]:
    """The entries with an answer that no rule accepted, which the paper gives to its judge."""
    return [entry for entry in entries if entry["exact_match"] == 0 and entry["resp_answer"] is not None]


def summary(entries: Sequence[Row]) -> dict[str, Any]:
    """Two accuracies as shares of all answers, 0 to 1, and two counts.

    As in the paper, a reply that could not be parsed counts as wrong in llm_check_result_accuracy (`score.json` leaves it
    out of both sides). That accuracy is null while an answer is undecided, and both are without any answers.
    """
    results = [entry["llm_check_result"] for entry in entries]
    is_decided = all(entry["llm_check_result_reason"] != NOT_CHECKED for entry in entries)
    return {
        "none_resp_answer_count": sum(entry["resp_answer"] is None for entry in entries),
        "exact_match_accuracy": sum(entry["exact_match"] for entry in entries) / len(entries) if entries else None,
        "llm_check_result_accuracy": results.count(1) / len(entries) if entries and is_decided else None,
        "none_llm_check_result_count": results.count(None),
    }


def write_exports(folder: Path, task: str, samples: Sequence[Row], graded: Sequence[Row], verdicts: Sequence[Row]) -> list[Path]:
    """Write both files of one task into `folder`, each atomically; returns their paths."""
    entries = instances(samples, graded, verdicts)
    contents = {"problematic_instances": problematic(entries), "summary_results": summary(entries)}
    paths = []
    for name, content in contents.items():
        text = json.dumps(content, ensure_ascii=False, indent=4, allow_nan=False)
        paths.append(folder / f"{name}_{task}.json")
        write_text(paths[-1], _SURROGATE.sub(lambda match: f"\\u{ord(match[0]):04x}", text))  # UTF-8 has no lone surrogates
    return paths


Coordinates = tuple[str, str, int, str]  # model, mix, seed, benchmark


def export_grid(results: Path, cells: Iterable[Coordinates], out: Path, tasks: Mapping[str, str]) -> list[Path]:
    """Write both files of every built cell into `out/{model}/{mix}/{seed}/`; returns their paths.

    `results` is a grid's folder; `tasks` maps a benchmark to the name of its task. Cells that are not built, or whose
    score is of an older grading, are left out and named on stderr. Two benchmarks of a cell with one task name are an `InputError`.
    """
    listed = list(dict.fromkeys(cells))
    _check_names(listed, tasks)
    written: list[Path] = []
    for model, mix, seed, benchmark in listed:
        cell = f"{model}/{mix}/{seed}/{benchmark}"
        grade, score = (results / stage / cell for stage in ("grade", "score"))
        state = _state(grade / "manifest.json", score / "manifest.json")
        if state:
            print(f"{cell}: {state}, left out", file=sys.stderr)
            continue
        rows = [read_jsonl(grade / "samples.jsonl"), read_jsonl(grade / "graded.jsonl"), read_jsonl(score / "verdicts.jsonl")]
        try:
            written += write_exports(out / model / mix / str(seed), tasks[benchmark], *rows)
        except InputError as error:
            raise InputError(f"{cell}: {error}") from None
    return written


def _check_names(cells: list[Coordinates], tasks: Mapping[str, str]) -> None:
    """Raise an `InputError` for benchmarks without a task, and for those of one cell whose files would have one name."""
    benchmarks = list(dict.fromkeys(cell[3] for cell in cells))
    problems = [f"benchmark '{name}': no task given" for name in benchmarks if name not in tasks]
    first: dict[tuple[Any, ...], str] = {}
    for *student, benchmark in cells:
        other = first.setdefault((*student, tasks.get(benchmark)), benchmark)
        if other != benchmark and benchmark in tasks:
            student_name = "/".join(map(str, student))
            problems.append(
                f"{student_name}: benchmarks '{other}' and '{benchmark}' both are task '{tasks[benchmark]}'; export one at a time"
            )
    fail_if(problems)


def _state(grade: Path, score: Path) -> str | None:
    """Why a cell cannot be exported, if so; given the manifests of its two stages."""
    if not (grade.is_file() and score.is_file()):
        return "not built yet"
    return None if read_json(score).get("inputs", {}).get("grade") == sha256_file(grade) else "its score is of an older grading"
