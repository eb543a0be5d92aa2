"""Which answers a judge sees, and the verdict on every answer of a cell."""

from collections.abc import Mapping, Sequence

from gapgrid.core.rows import (
    CORRECT,
    INCORRECT,
    NO_ANSWER,
    GradedRow,
    PendingRow,
    ResponseRow,
    VerdictRow,
)


def is_judged(row: PendingRow, policy: str) -> bool:
    """Return whether the judge sees a row of pending.jsonl.

    Under the policy `undecided` it sees only what no rule rejected, under `all` every row.
    """
    return policy == "all" or row["rejected_by"] is None


def verdict_rows(
    samples: Sequence[ResponseRow],
    graded: Sequence[GradedRow],
    judged: Mapping[tuple[int, int], tuple[str, str]],
) -> list[VerdictRow]:
    """Return one row per sample: its verdict, what gave it, and the judge's reply.

    `by` is the rule that accepted, rejected or found no answer, or `judge`, or `undecided` where
    no rule could decide and no judge was asked. `judged` maps (doc_id, repeat) to a verdict and
    the judge's reply.
    """
    rows: list[VerdictRow] = []
    for sample, grade in zip(samples, graded, strict=True):
        key = (sample["doc_id"], sample["repeat"])
        reply = None
        if grade["answer"] is None:
            verdict, by = NO_ANSWER, grade["rule"]
        elif grade["rule_correct"]:
            verdict, by = CORRECT, grade["rule"]
        elif key in judged:
            (verdict, reply), by = judged[key], "judge"
        else:
            verdict, by = INCORRECT, grade["rejected_by"] or "undecided"
        rows.append(
            {"doc_id": key[0], "repeat": key[1], "verdict": verdict, "by": by, "raw": reply}
        )
    return rows
