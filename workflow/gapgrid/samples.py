"""Grade the sample files that lm-eval leaves, without a grid: `python -m gapgrid.grade --samples FOLDER`.

The rule step is the workflow's own. Files are named `samples_{task}_{timestamp}.jsonl` and lie in a folder per model. What is
broken or ambiguous in them is an error that names file and line; nothing is written before all of it is graded.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from gapgrid import exports
from gapgrid.command import run_stage
from gapgrid.grading import grade, pending
from gapgrid.judging import verdict_rows
from gapgrid.lmeval import GOLD_COLUMNS, PROBLEM_COLUMNS, Entry, SampleFile, choose, find, models, note, read, sample_rows
from gapgrid.maths.symbolic import Verifier
from gapgrid.records import InputError, Row, fail_if, remove, sha256_file, write_json, write_jsonl

GRADERS = ("boxed", "boxed_or_last_number")


class Graded(NamedTuple):
    """A graded file: its rows, their verdicts by rules alone, and how many were cut off, if the file says so."""

    model: str
    file: SampleFile
    samples: list[Row]
    graded: list[Row]
    pending: list[Row]
    n_truncated: int | None
    notes: list[str]


def grader_of(task: str) -> str:
    """The grader of a task whose name is all that is known."""
    return "boxed_or_last_number" if task.startswith("gsm8k") else "boxed"


def grade_entries(model: str, file: SampleFile, entries: list[Entry], notes: list[str], grader: str, verifier: Verifier) -> Graded:
    """Apply the workflow's rule step to the entries of one file."""
    samples = sample_rows(entries)
    graded = grade(samples, grader, verifier, {entry.doc_id: entry.item for entry in entries})
    finishes = [entry.finishes for entry in entries]
    n_truncated = None if None in finishes else sum(one == "length" for said in finishes for one in said or ())
    return Graded(model, file, samples, graded, pending(samples, graded), n_truncated, notes)


def tally(done: Graded) -> Row:
    """The counts of one file. Every answer is one of: correct, rejected (decisively, by a rule), undecided, no answer."""
    left = [row for row in done.graded if row["answer"] is not None and not row["rule_correct"]]
    return {
        "model": done.model,
        "task": done.file.task,
        "run": done.file.run,
        "n_problems": len({row["doc_id"] for row in done.samples}),
        "n": len(done.samples),
        "n_correct": sum(row["rule_correct"] for row in done.graded),
        "n_rejected": sum(row["rejected_by"] is not None for row in left),
        "n_undecided": sum(row["rejected_by"] is None for row in left),
        "n_no_answer": sum(row["answer"] is None for row in done.graded),
        "n_truncated": done.n_truncated,
    }


def judge_cost(graded: Sequence[Graded]) -> dict[str, int]:
    """What the judge step would ask, and what a script would that judges every boxed answer that no rule accepted.

    The script loads its judge once per model and task, and knows neither rejections by rules nor that it has seen a pair before.
    """
    rows = [(sample["problem"], row) for done in graded for sample, row in zip(done.samples, done.graded, strict=True)]
    left = [(problem, row) for problem, row in rows if row["answer"] is not None and not row["rule_correct"]]
    undecided = [(problem, row["gold"], row["answer"]) for problem, row in left if row["rejected_by"] is None]
    return {
        "n": len(rows),
        "n_correct": sum(row["rule_correct"] for _, row in rows),
        "n_rejected": len(left) - len(undecided),
        "n_undecided": len(undecided),
        "n_calls": len(set(undecided)),
        "n_loads": int(bool(undecided)),
        "n_script_calls": sum(row["found_by"] in ("boxed", "boxed_list") for _, row in left),
        "n_script_loads": len(graded),
    }


# --------------------------------------------------------------------------- output

_COLUMNS = ("model", "task", "problems", "n", "correct", "%", "rejected", "undecided", "no answer", "truncated")


def report(counts: Sequence[Row], cost: dict[str, int]) -> str:
    """A line per model and task, their totals, and what a judge would cost; plain text, columns aligned."""
    names = ("n_problems", "n", "n_correct", "n_rejected", "n_undecided", "n_no_answer")
    total: Row = {"model": "total", "task": "", **{name: sum(row[name] for row in counts) for name in names}}
    said = [row["n_truncated"] for row in counts]
    total["n_truncated"] = None if None in said else sum(said)
    lines = [_COLUMNS, *(_cells(row) for row in [*counts, total])]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_COLUMNS))]
    table = [
        "  ".join(
            cell.ljust(width) if column < 2 else cell.rjust(width) for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    ]
    judge = (
        f"judge: {cost['n_undecided']} of {cost['n']} answers undecided, {cost['n_calls']} unique (problem, reference, answer):"
        f" {cost['n_calls']} calls, {cost['n_loads']} load(s); rules accepted {cost['n_correct']}, rejected {cost['n_rejected']}"
    )
    script = (
        f"a script that judges every boxed answer that no rule accepted, once per model and task:"
        f" {cost['n_script_calls']} calls, {cost['n_script_loads']} load(s)"
    )
    text = "\n".join([*(line.rstrip() for line in table), "", judge, script])
    return text.encode("utf-8", "backslashreplace").decode()  # a file's name may be no UTF-8


def _cells(row: Row) -> tuple[str, ...]:
    truncated = "-" if row["n_truncated"] is None else str(row["n_truncated"])
    counts = (str(row[name]) for name in ("n_rejected", "n_undecided", "n_no_answer"))
    share = f"{100 * row['n_correct'] / row['n']:.1f}"
    return row["model"], row["task"], str(row["n_problems"]), str(row["n"]), str(row["n_correct"]), share, *counts, truncated


def write(out: Path, graded: Sequence[Graded], counts: Sequence[Row], cost: dict[str, int]) -> None:
    """Write `{model}/{task}/graded.jsonl` and `pending.jsonl` and the exports; last `grading.json`, without which it is unfinished."""
    remove(out / "grading.json")
    for done in graded:
        folder = out / done.model
        write_jsonl(folder / done.file.task / "graded.jsonl", done.graded)
        write_jsonl(folder / done.file.task / "pending.jsonl", done.pending)
        exports.write_exports(folder, done.file.task, done.samples, done.graded, verdict_rows(done.samples, done.graded, {}))
    tasks = [
        {
            **row,
            "sha256": sha256_file(done.file.path),
            "file": done.file.path.name,
            "notes": [text.rpartition("/")[2] for text in done.notes],
        }
        for row, done in zip(counts, graded, strict=True)
    ]
    write_json(out / "grading.json", {"tasks": tasks, "judge": cost})


def work(args: argparse.Namespace) -> None:
    """Find, read, grade, print, write."""
    files = choose(find(args.samples), args.task, args.run)
    names = models(files)
    entries: list[tuple[list[Entry], list[str]]] = []
    problems: list[str] = []
    for file in files:
        try:
            entries.append(read(file.path, args.filter, args.gold_column, args.problem_column))
        except InputError as error:
            problems += str(error).splitlines()
    fail_if(problems)
    for _, notes in entries:
        for text in notes:
            note(text)
    with Verifier() as verifier:
        graded = [
            grade_entries(names[file.folder], file, found, notes, args.grader or grader_of(file.task), verifier)
            for file, (found, notes) in zip(files, entries, strict=True)
        ]
    counts, cost = [tally(done) for done in graded], judge_cost(graded)
    if args.out:
        write(args.out, graded, counts, cost)
    print(report(counts, cost))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m gapgrid.grade", description=__doc__)
    parser.add_argument("--samples", type=Path, action="append", required=True, metavar="FOLDER", help="sample files, or folders of them")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="write graded and pending rows and the paper's files there")
    parser.add_argument("--task", action="extend", nargs="+", metavar="NAME", help="only these tasks")
    parser.add_argument("--run", metavar="TIMESTAMP", help="which run to take where there are several: its timestamp, or latest")
    parser.add_argument("--filter", metavar="NAME", help="only rows of this filter, if filters differ in their responses")
    parser.add_argument(
        "--gold-column", metavar="NAME", help=f"the reference answer in doc (default: the first of {', '.join(GOLD_COLUMNS)})"
    )
    parser.add_argument("--problem-column", metavar="NAME", help=f"the problem in doc (default: the first of {', '.join(PROBLEM_COLUMNS)})")
    parser.add_argument("--grader", choices=GRADERS, help="default: boxed_or_last_number for gsm8k*, else boxed")
    return parser


def main(argv: list[str] | None = None) -> int:
    """`python -m gapgrid.grade --samples FOLDER… [--out FOLDER]`."""
    return run_stage(_parser(), work, argv)


if __name__ == "__main__":
    raise SystemExit(main())
