"""What the cap on answers may hide: cap hits, accuracy among finished answers, bounds, lengths by right and wrong.

The standard library alone, as every cell's score needs it.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

QUARTILES = (0.25, 0.5, 0.75)


class Lengths(NamedTuple):
    """Lengths of some answers in tokens; all None where there is no such answer."""

    mean: float | None
    p25: float | None
    p50: float | None
    p75: float | None


class Truncation(NamedTuple):
    """One cell, honest about answers that reached the cap; a share is None where there is nothing to divide by.

    `low` counts truncated answers as wrong, `high` as right; unparsed verdicts are in none of the accuracies, nor their
    lengths among `right` or `wrong`.
    """

    accuracy: float | None
    cap_hits: float | None
    finished: float | None
    no_answer: float | None
    low: float | None
    high: float | None
    right: Lengths
    wrong: Lengths


def truncation(verdicts: Sequence[str], finish: Sequence[str], lengths: Sequence[int]) -> Truncation:
    """From one cell's answers: verdict (`correct`, `incorrect`, `no_answer`, `unparsed`, …), `stop` or `length`, and tokens."""
    if not len(verdicts) == len(finish) == len(lengths):
        raise ValueError(f"{len(verdicts)} verdicts, {len(finish)} finishes and {len(lengths)} lengths")
    answers = list(zip(verdicts, (word == "stop" for word in finish), lengths, strict=True))
    counted = [answer for answer in answers if answer[0] != "unparsed"]
    ended = [answer for answer in counted if answer[1]]
    n_right = sum(said == "correct" for said, _, _ in counted)
    n_right_ended = sum(said == "correct" for said, _, _ in ended)
    return Truncation(
        ratio(n_right, len(counted)),
        ratio(sum(not is_ended for _, is_ended, _ in answers), len(answers)),
        ratio(n_right_ended, len(ended)),
        ratio(sum(said == "no_answer" for said in verdicts), len(answers)),
        ratio(n_right_ended, len(counted)),
        ratio(n_right_ended + len(counted) - len(ended), len(counted)),
        summarise([tokens for said, _, tokens in counted if said == "correct"]),
        summarise([tokens for said, _, tokens in counted if said != "correct"]),
    )


def ratio(part: float, whole: int) -> float | None:
    """`part / whole`, or None where there is nothing to divide by."""
    return part / whole if whole else None


def summarise(tokens: Sequence[int]) -> Lengths:
    """Mean and quartiles."""
    ordered = sorted(tokens)
    return Lengths(ratio(sum(ordered), len(ordered)), *(quantile(ordered, share) for share in QUARTILES))


def quantile(ordered: Sequence[Any], share: float) -> float | None:
    """A quantile of sorted numbers, by straight lines between neighbours (type 7 of Hyndman and Fan 1996, NumPy's default)."""
    if not ordered:
        return None
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return float(ordered[below] + (ordered[above] - ordered[below]) * (place - below))
