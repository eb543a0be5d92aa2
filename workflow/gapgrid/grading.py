"""The rule step on many answers: extraction, comparison by rules, algebra where it is needed, what is left for a judge."""

from collections.abc import Mapping
from typing import Any

from gapgrid import answers
from gapgrid.answers import Decision, gold_text
from gapgrid.maths.symbolic import Verifier
from gapgrid.records import Row

ITEM_COLUMNS = ("unit", "error", "tolerance", "is_multiple_answer")  # what an item may say about its answer


def grade(samples: list[Row], grader: str, verifier: Verifier, items: Mapping[int, Row] | None = None) -> list[Row]:
    """One row per sample: the extracted answer or null, whether a rule accepted it, and which one.

    `rule` names the accepting rule, or why none did: `no_answer`, `too_long`, `different`, `rule_timeout`, `rule_crash`.
    `rejected_by` names the rule by which reference and answer are both understood and differ, else null. `items` maps a
    doc_id to what the item says about its answer. Identical pairs are compared once.
    """
    found = [answers.extract(sample["response"], grader) for sample in samples]
    asked = [
        _question(sample, extracted.answer, (items or {}).get(sample["doc_id"], {}))
        for sample, extracted in zip(samples, found, strict=True)
    ]
    decided = {key: answers.decide(key[0], key[1], answers.options_of(dict(key[2]))) for key in dict.fromkeys(asked) if key[1] is not None}
    decided = _settled(decided, verifier)
    graded = []
    for sample, extracted, key in zip(samples, found, asked, strict=True):
        decision = decided.get(key, Decision(False, extracted.rule))
        graded.append(
            {
                "doc_id": sample["doc_id"],
                "repeat": sample["repeat"],
                "gold": key[0],
                "answer": extracted.answer,
                "found_by": extracted.rule,
                "rule_correct": decision.is_correct,
                "rule": decision.rule,
                "rejected_by": decision.rejected_by,
            }
        )
    return graded


def reference(gold: Any) -> str:
    """The reference answer as text; of a worked solution what stands in its box."""
    text = gold_text(gold)
    return answers.answer_in(text) or text


Question = tuple[str, str | None, tuple[tuple[str, Any], ...]]


def _question(sample: Row, answer: str | None, item: Row) -> Question:
    """What a decision depends on: the pair, and what the item says of it."""
    said = {key: item[key] for key in ITEM_COLUMNS if isinstance(item.get(key), str | int | float)}
    return reference(sample["gold"]), answer, tuple({**said, "problem": sample["problem"]}.items())


def _settled(decided: dict[Question, Decision], verifier: Verifier) -> dict[Question, Decision]:
    """The decisions, with algebra's replies where it had to be asked."""
    replies = verifier.compare_all(decision.questions for decision in decided.values() if decision.questions)
    return {
        key: answers.settle(decision, replies[decision.questions][0]) if decision.questions else decision
        for key, decision in decided.items()
    }


def pending(samples: list[Row], graded: list[Row]) -> list[Row]:
    """What a judge may look at: answers that no rule accepted, with their problem and the rule that rejected them, if one did."""
    return [
        {**{key: row[key] for key in ("doc_id", "repeat", "gold", "answer", "rejected_by")}, "problem": sample["problem"]}
        for sample, row in zip(samples, graded, strict=True)
        if row["answer"] is not None and not row["rule_correct"]
    ]


def counts(graded: list[Row]) -> dict[str, int]:
    """How the rule step ended, for the judge's account."""
    accepted = sum(row["rule_correct"] for row in graded)
    unanswered = sum(row["answer"] is None for row in graded)
    return {"n": len(graded), "n_accepted": accepted, "n_no_answer": unanswered, "n_pending": len(graded) - accepted - unanswered}
