"""Extract, normalise, compare: pure text functions, and nothing from an answer is ever evaluated.

`extract` finds the answer in a response and says by which rule; `equal` compares it with the reference answer by named
rules, cheapest first. Rules that need a computer algebra system are not here; see `symbolic`.
"""

import re
from fractions import Fraction
from typing import NamedTuple

MOST_CHARACTERS = 2000  # a longer answer is no answer but a text


class Extracted(NamedTuple):
    """An answer, or None, and the rule that found it or found none."""

    answer: str | None
    rule: str


_BOX = re.compile(r"\\f?box(?:ed)?\s*\{")
_FINAL = re.compile(r"final answer\s*(?:is)?\s*:?\s*([^\n]+)", re.IGNORECASE)
_NUMBER = re.compile(r"-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|-?\.\d+")


def boxes(text: str) -> list[str]:
    r"""The contents of every closed `\boxed{}` or `\fbox{}`, outermost ones, in order; braces may nest."""
    found: list[str] = []
    position = 0
    while (match := _BOX.search(text, position)) is not None:
        end = _closing(text, match.end())
        if end is None:
            position = match.end()
        else:
            found.append(text[match.end() : end])
            position = end
    return found


def _closing(text: str, start: int) -> int | None:
    """Index of the brace that closes the one before `start`; an escaped brace does not count."""
    depth, index = 1, start
    while index < len(text):
        character = text[index]
        if character == "\\":
            index += 1
        elif character == "{":
            depth += 1
        elif character == "}":
            depth -= 1
            if depth == 0:
                return index
        index += 1
    return None


def extract(response: str, grader: str) -> Extracted:
    """The answer in a response, for the graders `boxed` and `boxed_or_last_number`.

    The last closed box that is not empty; else what follows the last "Final Answer:"; else, for the second grader, the
    last number. A text over the length limit counts as no answer.
    """
    full = [box.strip() for box in boxes(response) if box.strip()]
    if full:
        return _limited(full[-1], "boxed")
    final = [match.strip(" .*$") for match in _FINAL.findall(response)]
    # An unclosed box is a cut-off answer, not an answer.
    final = [text for text in final if text and not _BOX.search(text)]
    if final:
        return _limited(final[-1], "final_answer")
    if grader == "boxed_or_last_number":
        numbers = _NUMBER.findall(response)
        if numbers:
            return _limited(numbers[-1], "last_number")
    return Extracted(None, "no_answer")


def _limited(answer: str, rule: str) -> Extracted:
    return Extracted(answer, rule) if len(answer) <= MOST_CHARACTERS else Extracted(None, "too_long")


_DROPPED = re.compile(r"\\(?:left|right|,|;|!|:|displaystyle)(?![a-zA-Z])|\$|\\\(|\\\)|\s+")


def normalise(answer: str) -> str:
    r"""One spelling for one answer: no spaces, `$`, `\left`, `\right` or trailing full stop; `\dfrac` is `\frac`."""
    text = answer.strip().rstrip(".")
    text = re.sub(r"\\[dt]frac", r"\\frac", text)
    text = _DROPPED.sub("", text)
    while (inner := re.fullmatch(r"\\(?:text|mathrm|mathbf|textbf)\{([^{}]*)\}", text)) is not None:
        text = inner[1]
    return text


_PLAIN = re.compile(r"[+-]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d*)?|[+-]?\.\d+")
_RATIO = re.compile(r"([+-]?)(?:\\frac\{(-?\d+)\}\{(-?\d+)\}|\\frac(\d)(\d)|(\d+)/(\d+))")
_MOST_DIGITS = 60


def number(answer: str) -> Fraction | None:
    """The exact value of a plain number (integer, decimal, thousands separators) or fraction, else None."""
    text = normalise(answer)
    if len(text) > _MOST_DIGITS:
        return None
    if _PLAIN.fullmatch(text):
        return Fraction(text.replace(",", ""))
    if (ratio := _RATIO.fullmatch(text)) is not None:
        top, bottom = [int(part) for part in ratio.groups()[1:] if part is not None]
        if bottom:
            return Fraction(top, bottom) * (-1 if ratio[1] == "-" else 1)
    return None


def equal(gold: str, answer: str) -> str | None:
    """The rule by which `answer` equals `gold` without algebra: `identical`, `number`, or None for no such rule."""
    if normalise(gold) == normalise(answer):
        return "identical"
    value = number(gold)
    if value is not None and value == number(answer):
        return "number"
    return None


def both_numbers(gold: str, answer: str) -> bool:
    """Whether both are plain numbers, so that `equal` has said all there is to say."""
    return number(gold) is not None and number(answer) is not None
