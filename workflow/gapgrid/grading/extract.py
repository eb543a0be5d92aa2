"""Extraction: the answer in a response, or the reference answer in a text."""

import re
from typing import NamedTuple

MOST_CHARACTERS = 2000  # a longer answer is a text and no answer
# "The answer is" counts in this many last characters only: in the middle of a thought it may be
# taken back.
_TAIL = 400
_MOST_BETWEEN_BOXES = 40
_MOST_PROSE_WORDS = 5  # "after solving the system you will find the value" states no answer

BOX = re.compile(r"\\(?:boxed|fbox|framebox|box)\s*(?=\{)")
_BOX_TOKEN = re.compile(
    rf"(?P<box>{BOX.pattern}\{{)|\\\\(?=[{{}}])|\\[{{}}]|(?P<open>\{{)|(?P<close>\}})"
)
_BLANK = re.compile(r"(?:\\(?:text|mathrm|mbox|textbf|quad|qquad)(?![A-Za-z])|\\[,;:! ]|[\s{}$~])*")
_BETWEEN_BOXES = re.compile(
    r"[\s$)\]\\]*(?:[,;]|(?:[,;]\s*)?(?:\\text\{\s*)?\b(?:and|or)\b\s*\}?)[\s$(\[\\]*"
)
_FINAL_ANSWER = re.compile(
    r"final answer[\s:*]{0,20}(?:is\b[\s:*]{0,20})?(?:\$\$\s|\\\[\s)?([^\n]+)", re.IGNORECASE
)
_ANSWER_IS = re.compile(
    r"answer(?:\s+is\b|\s*[:=])[\s:*]{0,20}(?:\$\$\s|\\\[\s)?([^\n]+)|(?:\A|\n)\s*#{4}\s*([^\n]+)",
    re.IGNORECASE,
)
_NUMBER = re.compile(
    r"(?<![0-9A-Za-z])-?(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?|-?\.[0-9]+"
)
_PROSE_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{3,}")
_SENTENCE_END = re.compile(r"(?<=[^0-9])\.\s|\.$|,?\s(?:because|since|which|so|as|I hope)\s")
MATH = re.compile(r"\$\$?([^$]+)\$\$?|\\\(((?:(?!\\\)).)+)\\\)|\\\[((?:(?!\\\]).)+)\\\]", re.DOTALL)


class Extracted(NamedTuple):
    """An answer, or None, and the rule that found it or why none did."""

    answer: str | None
    rule: str


class Box(NamedTuple):
    """A closed box: where it starts and ends, and what is in it."""

    start: int
    end: int
    content: str


def closed_boxes(text: str) -> list[Box]:
    r"""Return every closed `\boxed{}` or `\fbox{}` that is in no other one, in order.

    One pass over the text; braces may nest.
    """
    boxes: list[tuple[re.Match[str], re.Match[str]]] = []
    stack: list[re.Match[str]] = []
    for token in _BOX_TOKEN.finditer(text):
        if token["box"] or token["open"]:
            stack.append(token)
        elif token["close"] and stack:
            opening = stack.pop()
            if opening["box"]:
                while boxes and boxes[-1][0].start() > opening.start():
                    boxes.pop()
                boxes.append((opening, token))
    # Sliced only now: of boxes in boxes each one would be copied.
    return [
        Box(left.start(), right.end(), text[left.end() : right.start()]) for left, right in boxes
    ]


def extract(response: str | None, grader: str) -> Extracted:
    """Return the answer in a response, for the graders `boxed` and `boxed_or_last_number`.

    What stands before the end of a `</think>` is not looked at. `boxed`: the last closed box that
    is not empty; boxes joined by commas, "and" or "or" are one answer (`boxed_list`). Without one,
    what follows "Final Answer" (`final_answer`), or, in the last lines, "the answer is" or "####"
    (`answer_is`). For the second grader also the last number (`last_number`). An answer over the
    length limit counts as none (`too_long`).
    """
    text = (response or "").rpartition("</think>")[2]
    extracted = _boxed(text)
    if extracted is None and not BOX.search(text):  # an unclosed box is a cut-off answer
        extracted = _stated(text)
    if extracted is None and grader == "boxed_or_last_number":
        numbers = _NUMBER.findall(text)
        extracted = Extracted(numbers[-1], "last_number") if numbers else None
    if extracted is None:
        return Extracted(None, "no_answer")
    is_too_long = len(extracted.answer or "") > MOST_CHARACTERS
    return Extracted(None, "too_long") if is_too_long else extracted


def _boxed(text: str) -> Extracted | None:
    """Return what is in the last box and in those that a comma, "and" or "or" joins to it."""
    boxes = [box for box in closed_boxes(text) if not _BLANK.fullmatch(box.content)]
    last = boxes[-1:]
    for box in reversed(boxes[:-1]):
        between = text[box.end : last[-1].start]
        if len(between) > _MOST_BETWEEN_BOXES or not _BETWEEN_BOXES.fullmatch(between):
            break
        last.append(box)
    contents = list(dict.fromkeys(BOX.sub("", box.content).strip() for box in reversed(last)))
    rule = "boxed" if len(contents) == 1 else "boxed_list"
    return Extracted(", ".join(contents), rule) if contents else None


def _stated(text: str) -> Extracted | None:
    """Return what a text without a box says is its answer."""
    patterns = (_FINAL_ANSWER, text, "final_answer"), (_ANSWER_IS, text[-_TAIL:], "answer_is")
    for pattern, part, rule in patterns:
        answers = [_tidy(match[match.lastindex or 0]) for match in pattern.finditer(part)]
        answers = [answer for answer in answers if answer]
        if answers and len(_PROSE_WORD.findall(answers[-1])) <= _MOST_PROSE_WORDS:
            return Extracted(answers[-1], rule)
    return None


def _tidy(sentence: str) -> str:
    """Return what is after the last "is" of the sentence that follows "the answer is"."""
    text = _SENTENCE_END.split(sentence[: MOST_CHARACTERS + 100].strip(" *_\t\r"))[0]
    text = re.split(r"\b(?:is|are)\b", text)[-1].strip(" *_:")
    spans = MATH.findall(text)
    return ("".join(spans[0]) if len(spans) == 1 else text.removesuffix(r"\]")).strip(" .*_$")


def gold_text(gold: object) -> str:
    """Return a reference answer as text, empty if there is none.

    A list is joined by commas: an answer has to hold all of its entries.
    """
    if isinstance(gold, list):
        return ", ".join(gold_text(entry) for entry in gold)
    return "" if gold is None else str(gold)


def answer_in(text: str) -> str | None:
    """Return the answer in a text that is one, or that holds it in a box or behind "####".

    None if the box is empty or not closed, or if nothing but a thought holds an answer.
    """
    rest = text.rpartition("</think>")[2]
    boxed = _boxed(rest)
    if boxed is not None:
        return boxed.answer
    return None if BOX.search(rest) or rest != text else rest.rpartition("####")[2].strip()
