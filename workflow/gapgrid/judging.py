"""What the judge's stage, its backends and those who read its verdicts agree on."""

from typing import Protocol

from gapgrid.records import InputError, Row

NO_ANSWER = "no_answer"
Prompt = list[dict[str, str]]  # chat messages: role and content


class Backend(Protocol):
    """Sends prompts to a judge."""

    batch_pairs: int  # how many prompts one `ask` should get; a kill loses at most the replies to these

    def ask(self, prompts: list[Prompt]) -> list[str]:
        """The judge's reply to each prompt, in order."""


def is_judged(row: Row, policy: str) -> bool:
    """Whether the judge sees a row of pending.jsonl: under `undecided` not what rules rejected knowing both sides, under `all` each."""
    return policy == "all" or row["rejected_by"] is None


def verdict_rows(samples: list[Row], graded: list[Row], judged: dict[tuple[int, int], tuple[str, str]]) -> list[Row]:
    """One row a sample: its verdict, who gave it and the judge's words.

    `by` names the rule that accepted, that rejected or that found no answer, or is `judge`, or `undecided`: no rule could
    tell and there is no judge to ask. `judged` maps (doc_id, repeat) to a verdict and the judge's reply.
    """
    rows = []
    for sample, grade in zip(samples, graded, strict=True):
        place = (sample["doc_id"], sample["repeat"])
        raw = None
        if grade["answer"] is None:
            verdict, by = NO_ANSWER, grade["rule"]
        elif grade["rule_correct"]:
            verdict, by = "correct", grade["rule"]
        elif place in judged:
            (verdict, raw), by = judged[place], "judge"
        else:
            verdict, by = "incorrect", grade["rejected_by"] or "undecided"
        rows.append({"doc_id": place[0], "repeat": place[1], "verdict": verdict, "by": by, "raw": raw})
    return rows


class JudgeError(InputError):
    """The judge gives no more replies; `replies` maps the place of a prompt in this `ask` to what came back before."""

    def __init__(self, message: str, replies: dict[int, str] | None = None) -> None:
        super().__init__(message)
        self.replies = replies or {}


class JudgeUnreachable(JudgeError):  # noqa: N818 - what happened, not that it did
    """The judge's server is gone, too busy or broken, after all retries: the same run may succeed later."""
