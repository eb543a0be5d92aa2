"""Grading of the sample files that lm-eval leaves, without a grid; see `gapgrid samples`.

The rule step is the workflow's own. Nothing is written before all files are graded.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from gapgrid.core.records import Row, remove, sha256_file, write_json, write_jsonl
from gapgrid.core.rows import GradedRow, PendingRow, ResponseRow, pair_of
from gapgrid.grading.equality.math_verify_pool import Verifier
from gapgrid.grading.rule_step import grade, pending
from gapgrid.interop import paper_exports
from gapgrid.interop.lm_eval_samples import Entry, SampleFile, sample_rows
from gapgrid.judging.verdicts import verdict_rows


class GradedFile(NamedTuple):
    """A sample file with its rows, and how many answers were cut off, if the file tells."""

    model: str
    file: SampleFile
    samples: list[ResponseRow]
    graded: list[GradedRow]
    pending: list[PendingRow]
    n_truncated: int | None
    notes: list[str]


def grader_of(task: str) -> str:
    """Return the grader of a task whose name is all that is known."""
    return "boxed_or_last_number" if task.startswith("gsm8k") else "boxed"


def grade_entries(
    model: str,
    file: SampleFile,
    entries: list[Entry],
    notes: list[str],
    grader: str,
    verifier: Verifier,
) -> GradedFile:
    """Apply the workflow's rule step to the entries of one file."""
    samples = sample_rows(entries)
    graded = grade(samples, grader, verifier, {entry.doc_id: entry.item for entry in entries})
    known = [entry.finishes for entry in entries if entry.finishes is not None]
    n_truncated = sum(finishes.count("length") for finishes in known)
    return GradedFile(
        model,
        file,
        samples,
        graded,
        pending(samples, graded),
        n_truncated if len(known) == len(entries) else None,
        notes,
    )


def tally(result: GradedFile) -> Row:
    """Return the counts of one file.

    Every answer is one of: correct, rejected (decisively, by a rule), undecided, no answer.
    """
    n_rejected = sum(row["rejected_by"] is not None for row in result.pending)
    return {
        "model": result.model,
        "task": result.file.task,
        "run": result.file.run,
        "n_problems": len({row["doc_id"] for row in result.samples}),
        "n": len(result.samples),
        "n_correct": sum(row["rule_correct"] for row in result.graded),
        "n_rejected": n_rejected,
        "n_undecided": len(result.pending) - n_rejected,
        "n_no_answer": sum(row["answer"] is None for row in result.graded),
        "n_truncated": result.n_truncated,
    }


def judge_cost(results: Sequence[GradedFile]) -> dict[str, int]:
    """Return what the judge step would ask, and what a script would that judges more.

    The script judges every boxed answer that no rule accepted. It loads its judge once per model
    and task, and knows neither rejections by rules nor that it has seen a pair before.
    """
    graded = [row for result in results for row in result.graded]
    left = [row for result in results for row in result.pending]
    undecided = [pair_of(row) for row in left if row["rejected_by"] is None]
    is_boxed = [row["found_by"] in ("boxed", "boxed_list") for row in graded]
    is_correct = [row["rule_correct"] for row in graded]
    return {
        "n": len(graded),
        "n_correct": sum(is_correct),
        "n_rejected": len(left) - len(undecided),
        "n_undecided": len(undecided),
        "n_calls": len(set(undecided)),
        "n_loads": int(bool(undecided)),
        "n_script_calls": sum(
            boxed and not correct for boxed, correct in zip(is_boxed, is_correct, strict=True)
        ),
        "n_script_loads": len(results),
    }


# --------------------------------------------------------------------------- output

# Heading of a column -> the key of its count.
_COLUMNS = {
    "model": "model",
    "task": "task",
    "problems": "n_problems",
    "n": "n",
    "correct": "n_correct",
    "%": "percent",
    "rejected": "n_rejected",
    "undecided": "n_undecided",
    "no answer": "n_no_answer",
    "truncated": "n_truncated",
}


def report(counts: Sequence[Row], cost: dict[str, int]) -> str:
    """Return a line per model and task, their totals, and what a judge would cost, as text."""
    summed = ("n_problems", "n", "n_correct", "n_rejected", "n_undecided", "n_no_answer")
    truncated = [row["n_truncated"] for row in counts]
    total: Row = {
        "model": "total",
        "task": "",
        **{name: sum(row[name] for row in counts) for name in summed},
        "n_truncated": None if None in truncated else sum(truncated),
    }
    lines = [list(_COLUMNS)]
    for row in [*counts, total]:
        cells = {**row, "percent": f"{100 * row['n_correct'] / row['n']:.1f}"}
        lines.append(["-" if cells[key] is None else str(cells[key]) for key in _COLUMNS.values()])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    table = [
        "  ".join(
            cell.ljust(width) if index < 2 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    judge = (
        f"judge: {cost['n_undecided']} of {cost['n']} answers undecided,"
        f" {cost['n_calls']} unique (problem, reference, answer):"
        f" {cost['n_calls']} calls, {cost['n_loads']} load(s);"
        f" rules accepted {cost['n_correct']}, rejected {cost['n_rejected']}"
    )
    script = (
        "a script that judges every boxed answer that no rule accepted, once per model and task:"
        f" {cost['n_script_calls']} calls, {cost['n_script_loads']} load(s)"
    )
    text = "\n".join([*table, "", judge, script])
    return text.encode("utf-8", "backslashreplace").decode()  # a file's name may be no UTF-8


def write(
    out: Path, results: Sequence[GradedFile], counts: Sequence[Row], cost: dict[str, int]
) -> None:
    """Write `{model}/{task}/graded.jsonl` and `pending.jsonl` and the exports.

    Last comes `grading.json`; without it, `out` is unfinished.
    """
    remove(out / "grading.json")
    tasks = []
    for result, row in zip(results, counts, strict=True):
        folder, task = out / result.model, result.file.task
        write_jsonl(folder / task / "graded.jsonl", result.graded)
        write_jsonl(folder / task / "pending.jsonl", result.pending)
        verdicts = verdict_rows(result.samples, result.graded, {})
        paper_exports.write_exports(folder, task, result.samples, result.graded, verdicts)
        notes = [text.rpartition("/")[2] for text in result.notes]
        path = result.file.path
        tasks.append({**row, "sha256": sha256_file(path), "file": path.name, "notes": notes})
    write_json(out / "grading.json", {"tasks": tasks, "judge": cost})
