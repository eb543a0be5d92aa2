"""A file of labelled pairs, graded without a grid; see `gapgrid pairs`."""

import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from gapgrid.grading.decide import Decision, ask_algebra, decide, options_of
from gapgrid.grading.equality.math_verify_pool import Verifier
from gapgrid.grading.extract import BOX, MATH, answer_in, extract, gold_text


def decide_row(row: dict[str, Any]) -> Decision:
    """Return the decision on one row, without algebra.

    A row holds `gold`, and `response` or `pred` (an answer, or a text that states one).
    """
    gold, options = answer_in(gold_text(row.get("gold"))) or "", options_of(row)
    if "response" in row:
        return decide(gold, extract(row["response"], "boxed").answer, options)
    text = gold_text(row.get("pred"))
    decision = decide(gold, answer_in(text), options)
    if decision.is_correct or decision.rejected_by or decision.open_pairs or BOX.search(text):
        return decision
    spans = MATH.findall(text)
    answer = extract(text, "boxed").answer or ("".join(spans[-1]) if spans else None)
    return decide(gold, answer, options) if answer else decision


def grade_pairs(rows: Sequence[dict[str, Any]]) -> list[tuple[Decision, float]]:
    """Return the final decision on every row and the seconds that it took."""
    decisions, times = [], []
    for row in rows:
        start = time.perf_counter()
        decisions.append(decide_row(row))
        times.append(time.perf_counter() - start)
    with Verifier() as verifier:
        final = ask_algebra(decisions, verifier)
    return [
        (decision, seconds + more) for (decision, more), seconds in zip(final, times, strict=True)
    ]


def counts(rows: Sequence[dict[str, Any]], decisions: Sequence[Decision]) -> dict[str, Any]:
    """Return how many pairs each rule decided.

    If rows have a label, `expected`, also how many were missed and how many wrongly accepted.
    """
    rejections = [decision.rejected_by for decision in decisions if decision.rejected_by]
    summary: dict[str, Any] = {
        "n": len(rows),
        "n_correct": sum(decision.is_correct for decision in decisions),
        "n_rejected": len(rejections),
        "rules": dict(Counter(decision.rule for decision in decisions)),
        "rejected_by": dict(Counter(rejections)),
    }
    labelled = [
        (row["expected"], decision.is_correct)
        for row, decision in zip(rows, decisions, strict=True)
        if isinstance(row.get("expected"), bool) and not row.get("contested")
    ]
    if labelled:
        summary["n_missed"] = labelled.count((True, False))
        summary["n_wrongly_accepted"] = labelled.count((False, True))
    return summary
