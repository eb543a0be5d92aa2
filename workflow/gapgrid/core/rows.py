"""The rows of result files, the words of a verdict, and the pair that a judge compares."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, NotRequired, TypedDict, TypeVar

from gapgrid.core import layout
from gapgrid.core.cells import Cell
from gapgrid.core.records import InputError, Row, read_json, read_jsonl

CORRECT, INCORRECT, UNPARSED, NO_ANSWER = "correct", "incorrect", "unparsed", "no_answer"
# Columns of reference.csv, the published numbers.
REFERENCE_COLUMNS = ("model", "mix", "minus", "benchmark", "score", "source", "note")


class TrainingRow(TypedDict):
    """A row of rows.jsonl or train.jsonl."""

    id: str
    source: str
    prompt: str
    response: str


class ProblemRow(TypedDict):
    """A row of problems.jsonl, which keeps a data set's other columns as well."""

    doc_id: int
    problem: str
    gold: Any


class ResponseRow(TypedDict):
    """A student's response to a problem, as the rule step takes it."""

    doc_id: int
    repeat: int
    problem: str
    gold: Any
    response: str


class SampleRow(ResponseRow):
    """A row of samples.jsonl; `finish` is `stop`, or `length` if `max_tokens` was reached."""

    prompt_sha: str
    n_tokens: int
    finish: str


class GradedRow(TypedDict):
    """A row of graded.jsonl: the result of the rule step, see `grading.rule_step.grade`."""

    doc_id: int
    repeat: int
    gold: str
    answer: str | None
    found_by: str
    rule_correct: bool
    rule: str
    rejected_by: str | None


class PendingRow(TypedDict):
    """A row of pending.jsonl: an extracted answer that no rule accepted."""

    doc_id: int
    repeat: int
    problem: str
    gold: str
    answer: str
    rejected_by: str | None


class VerdictRow(TypedDict):
    """A row of verdicts.jsonl; `by` names the rule or the judge, `raw` is the judge's reply."""

    doc_id: int
    repeat: int
    verdict: str
    by: str
    raw: str | None
    judge_verdict: NotRequired[str]


def outcome(verdict: VerdictRow) -> str:
    """Return `right`, `wrong` (no answer too), or `unparsed` where nobody can tell."""
    return {CORRECT: "right", UNPARSED: UNPARSED}.get(verdict["verdict"], "wrong")


AnyResponseRow = TypeVar("AnyResponseRow", bound=ResponseRow)
CellRows = tuple[SampleRow, GradedRow, VerdictRow]


class Pair(NamedTuple):
    """A problem, its reference answer, and the answer that a judge compares with it."""

    problem: str
    gold: str
    answer: str


def pair_of(row: PendingRow) -> Pair:
    """Return the pair of a row of pending.jsonl."""
    return Pair(row["problem"], row["gold"], row["answer"])


def matched(
    where: object,
    samples: Sequence[AnyResponseRow],
    graded: Sequence[GradedRow],
    verdicts: Sequence[VerdictRow],
) -> list[tuple[AnyResponseRow, GradedRow, VerdictRow]]:
    """Return one (sample, graded row, verdict row) per response of a cell.

    Raises `InputError`, which names `where`, unless all three hold the same responses in the same
    order.
    """
    tables = (samples, graded, verdicts)
    keys = [[(row.get("doc_id"), row.get("repeat")) for row in rows] for rows in tables]
    if not keys[0] == keys[1] == keys[2]:
        counts = ", ".join(str(len(rows)) for rows in keys)
        raise InputError(
            f"{where}: samples, graded and verdicts are not of the same answers "
            f"in the same order ({counts} rows)"
        )
    return list(zip(samples, graded, verdicts, strict=True))


def read_score(file: Path) -> Row:
    """Return the content of a score.json; raise `InputError` if it is not a cell's score."""
    score = read_json(file)
    fields = dict(zip(Cell._fields, (str, str, int, str), strict=True))
    needed: dict[str, Any] = {**fields, "n": int, "n_problems": int, "acc_best_guess": float | int}
    needed["acc"] = float | int | None
    entries = score if isinstance(score, dict) else {}
    if bad := [key for key, kind in needed.items() if not isinstance(entries.get(key, ...), kind)]:
        raise InputError(
            f"{file}: not the score of a cell (see {', '.join(bad)}); "
            "delete it, the next run makes it anew"
        )
    return entries


def read_cell(score: Path) -> list[CellRows]:
    """Return the rows of a scored cell, see `matched`; `score` is any file of its score stage."""
    samples = read_jsonl(layout.same_cell(score, "grade", "samples.jsonl"))
    graded = read_jsonl(layout.same_cell(score, "grade", "graded.jsonl"))
    return matched(score, samples, graded, read_jsonl(score.with_name("verdicts.jsonl")))
