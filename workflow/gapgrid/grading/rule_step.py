"""The rule step on many answers: extraction, comparison by rules, algebra where it is needed."""

from collections.abc import Mapping, Sequence
from typing import Any

from gapgrid.core.rows import GradedRow, PendingRow, ResponseRow
from gapgrid.grading.decide import Decision, ask_algebra, decide, options_of
from gapgrid.grading.equality.math_verify_pool import Verifier
from gapgrid.grading.extract import answer_in, extract, gold_text

# What an item may declare about its answer.
ITEM_COLUMNS = ("unit", "error", "tolerance", "is_multiple_answer")


def grade(
    samples: Sequence[ResponseRow],
    grader: str,
    verifier: Verifier,
    items: Mapping[int, Any] | None = None,
) -> list[GradedRow]:
    """Return one row per sample: its answer or None, whether a rule accepted it, and which one.

    `rule` names the accepting rule, or says why none did: `no_answer`, `too_long`, `different`,
    `rule_timeout`, `rule_crash`. `rejected_by` names the rule by which reference and answer are
    both understood and differ, else it is None. `items` maps a doc_id to what the item declares
    about its answer. Identical pairs are compared once.
    """
    extracted = [extract(sample["response"], grader) for sample in samples]
    # What a decision depends on: the pair, and what the item declares.
    keys = [
        (reference(sample["gold"]), answer, _declared(sample, items or {}))
        for sample, (answer, _) in zip(samples, extracted, strict=True)
    ]
    unique = list(dict.fromkeys(key for key in keys if key[1] is not None))
    by_rules = [decide(gold, answer, options_of(dict(item))) for gold, answer, item in unique]
    final = [decision for decision, _ in ask_algebra(by_rules, verifier)]
    decisions = dict(zip(unique, final, strict=True))
    graded: list[GradedRow] = []
    for sample, (answer, found_by), key in zip(samples, extracted, keys, strict=True):
        decision = decisions.get(key, Decision(False, found_by))
        graded.append(
            {
                "doc_id": sample["doc_id"],
                "repeat": sample["repeat"],
                "gold": key[0],
                "answer": answer,
                "found_by": found_by,
                "rule_correct": decision.is_correct,
                "rule": decision.rule,
                "rejected_by": decision.rejected_by,
            }
        )
    return graded


def reference(gold: Any) -> str:
    """Return the reference answer as text; of a worked solution what stands in its box."""
    text = gold_text(gold)
    return answer_in(text) or text


def _declared(sample: ResponseRow, items: Mapping[int, Any]) -> tuple[tuple[str, Any], ...]:
    """Return what `options_of` reads of a sample's item, as something that can be hashed."""
    item = items.get(sample["doc_id"], {})
    declared = [
        (key, item[key]) for key in ITEM_COLUMNS if isinstance(item.get(key), str | int | float)
    ]
    return (*declared, ("problem", sample["problem"]))


def pending(samples: Sequence[ResponseRow], graded: list[GradedRow]) -> list[PendingRow]:
    """Return a row per answer that no rule accepted, which is all that a judge may look at."""
    return [
        {
            "doc_id": row["doc_id"],
            "repeat": row["repeat"],
            "problem": sample["problem"],
            "gold": row["gold"],
            "answer": row["answer"],
            "rejected_by": row["rejected_by"],
        }
        for sample, row in zip(samples, graded, strict=True)
        if row["answer"] is not None and not row["rule_correct"]
    ]


def counts(graded: list[GradedRow]) -> dict[str, int]:
    """Return how many answers the rules accepted, how many are missing, how many are pending."""
    accepted = sum(row["rule_correct"] for row in graded)
    unanswered = sum(row["answer"] is None for row in graded)
    return {
        "n": len(graded),
        "n_accepted": accepted,
        "n_no_answer": unanswered,
        "n_pending": len(graded) - accepted - unanswered,
    }
