"""The rule step on one answer: find it in a response, compare it with the reference answer by named rules, cheapest first.

Pure functions on text; nothing from an answer is ever run as code. What these rules leave open may be asked of a computer
algebra system, which lives in processes of its own (`symbolic`). On its own: `python -m gapgrid.answers --pairs FILE`.
"""

import re
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from gapgrid.maths.equality import Options

MOST_CHARACTERS = 2000  # a longer answer is no answer but a text

# --------------------------------------------------------------------------- extraction


class Extracted(NamedTuple):
    """An answer, or None, and the rule that found it or found none."""

    answer: str | None
    rule: str


class Box(NamedTuple):
    """A closed box: where it starts and ends, and what is in it."""

    start: int
    end: int
    content: str


_BOX = re.compile(r"\\(?:boxed|fbox|framebox|box)\s*(?=\{)")
_BOX_TOKEN = re.compile(rf"(?P<box>{_BOX.pattern}\{{)|\\\\(?=[{{}}])|\\[{{}}]|(?P<open>\{{)|(?P<close>\}})")
_BLANK = re.compile(r"(?:\\(?:text|mathrm|mbox|textbf|quad|qquad)(?![A-Za-z])|\\[,;:! ]|[\s{}$~])*")
_TIE = re.compile(r"[\s$)\]\\]*(?:[,;]|(?:[,;]\s*)?(?:\\text\{\s*)?\b(?:and|or)\b\s*\}?)[\s$(\[\\]*")
_MOST_TIE = 40
_FINAL = re.compile(r"final answer[\s:*]{0,20}(?:is\b[\s:*]{0,20})?(?:\$\$\s|\\\[\s)?([^\n]+)", re.IGNORECASE)
_ANSWER_IS = re.compile(r"answer(?:\s+is\b|\s*[:=])[\s:*]{0,20}(?:\$\$\s|\\\[\s)?([^\n]+)|(?:\A|\n)\s*#{4}\s*([^\n]+)", re.IGNORECASE)
_TAIL = 400  # characters; only an ending says "the answer is", in the middle of a thought it may be taken back
_NUMBER = re.compile(r"(?<![0-9A-Za-z])-?(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?|-?\.[0-9]+")


def closed_boxes(text: str) -> list[Box]:
    r"""Every closed `\boxed{}` or `\fbox{}`, outermost ones, in order; one pass, braces may nest."""
    found: list[tuple[int, int, int, int]] = []
    stack: list[tuple[int, int] | None] = []
    for match in _BOX_TOKEN.finditer(text):
        if match["box"]:
            stack.append(match.span())
        elif match["open"]:
            stack.append(None)
        elif match["close"] and stack:
            span = stack.pop()
            if span is not None:
                while found and found[-1][0] > span[0]:
                    found.pop()
                found.append((*span, match.start(), match.end()))
    return [Box(start, end, text[inside:outside]) for start, inside, outside, end in found]


def extract(response: str | None, grader: str) -> Extracted:
    """The answer in a response, for the graders `boxed` and `boxed_or_last_number`, and by which rule it was found.

    What stands before the end of a `</think>` is not looked at. `boxed`: the last closed box that is not empty; boxes
    joined by commas, "and" or "or" are one answer (`boxed_list`). Without one, what follows "Final Answer"
    (`final_answer`), or, in the last lines, "the answer is" or "####" (`answer_is`). For the second grader also the last
    number (`last_number`). An answer over the length limit counts as none (`too_long`).
    """
    text = (response or "").rpartition("</think>")[2]
    found = [box for box in closed_boxes(text) if not _BLANK.fullmatch(box.content)]
    if found:
        return _limited(*_last_boxes(text, found))
    stated = None if _BOX.search(text) else _stated(text)  # an unclosed box is a cut-off answer, not an answer
    if stated is not None:
        return _limited(*stated)
    numbers = _NUMBER.findall(text) if grader == "boxed_or_last_number" else []
    return _limited(numbers[-1], "last_number") if numbers else Extracted(None, "no_answer")


def _limited(answer: str, rule: str) -> Extracted:
    return Extracted(answer, rule) if len(answer) <= MOST_CHARACTERS else Extracted(None, "too_long")


def _last_boxes(text: str, found: list[Box]) -> tuple[str, str]:
    """What is in the last box and in those that a comma, "and" or "or" ties to it."""
    last = [found[-1]]
    for box in reversed(found[:-1]):
        between = text[box.end : last[-1].start]
        if len(between) > _MOST_TIE or not _TIE.fullmatch(between):
            break
        last.append(box)
    contents = list(dict.fromkeys(_BOX.sub("", box.content).strip() for box in reversed(last)))
    return ", ".join(contents), "boxed" if len(contents) == 1 else "boxed_list"


def _stated(text: str) -> tuple[str, str] | None:
    """What a text without a box says is its answer."""
    for pattern, part, rule in ((_FINAL, text, "final_answer"), (_ANSWER_IS, text[-_TAIL:], "answer_is")):
        answers = [answer for match in pattern.finditer(part) if (answer := _tidy(match[match.lastindex or 0]))]
        if answers and len(_PROSE_WORD.findall(answers[-1])) <= _MOST_PROSE_WORDS:
            return answers[-1], rule
    return None


_PROSE_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{3,}")
_MOST_PROSE_WORDS = 5  # "after solving the system you will find the value" states none
_MATH = re.compile(r"\$\$?([^$]+)\$\$?|\\\(((?:(?!\\\)).)+)\\\)|\\\[((?:(?!\\\]).)+)\\\]", re.DOTALL)
_SENTENCE_END = re.compile(r"(?<=[^0-9])\.\s|\.$|,?\s(?:because|since|which|so|as|I hope)\s")


def _tidy(sentence: str) -> str:
    """The answer in what follows "the answer is": what is after a last "is", up to the end of the sentence."""
    text = _SENTENCE_END.split(sentence[: MOST_CHARACTERS + 100].strip(" *_\t\r"))[0]
    text = re.split(r"\b(?:is|are)\b", text)[-1].strip(" *_:")
    spans = _MATH.findall(text)
    return ("".join(spans[0]) if len(spans) == 1 else text.removesuffix(r"\]")).strip(" .*_$")


# --------------------------------------------------------------------------- decision


class Decision(NamedTuple):
    """What the rules say of a pair.

    `rule` accepted it, or says why none did. `rejected_by` names the rule by which gold and answer are both fully
    understood and differ. `questions`: pairs of formulas; if all of them are equal, so are gold and answer.
    """

    is_correct: bool
    rule: str
    rejected_by: str | None = None
    questions: tuple[tuple[str, str], ...] = ()


def decide(gold: str, answer: str | None, options: "Options | None" = None) -> Decision:
    """Compare an answer with the reference answer, without algebra.

    Rules, in order: `identical` in one spelling; `choice` and `text` for letters and words; `number`, `float`, `value` and
    `formula` by value; `unit`, `percent`, `degree`, `tolerance` and `base` where one is written or declared; `tuple`,
    `list`, `names`, `set`, `interval`, `matrix` and `equation` by structure. A percent sign may be left out, and may be
    written out: 20 % is 20 and is 0.2. A list without brackets may come in any order, unless the item asks for its
    entries one by one.
    """
    if answer is None or not answer.strip():
        return Decision(False, "no_answer")
    if not gold.strip():
        return Decision(False, "no_gold")
    if gold.strip() == answer.strip():
        return Decision(True, "identical")
    if max(len(gold), len(answer)) > MOST_CHARACTERS:
        return Decision(False, "too_long")
    return _decide_by_text(gold, answer) or _decide_by_form(gold, answer, options)


def _decide_by_text(gold: str, answer: str) -> Decision | None:
    from gapgrid.maths import spelling

    for rule, spell in (("identical", spelling.compact), ("choice", spelling.choice), ("text", spelling.plain), ("text", spelling.words)):
        ours = spell(gold)
        if ours and ours == spell(answer):
            return Decision(True, rule)
    if spelling.is_marked_choice(gold) and (letter := spelling.choice(answer) or spelling.chosen(answer)):
        is_chosen = letter == spelling.choice(gold)
        return Decision(is_chosen, "choice" if is_chosen else "different", None if is_chosen else "choice")
    return None


def _decide_by_form(gold: str, answer: str, options: "Options | None") -> Decision:
    from gapgrid.maths import equality, spelling
    from gapgrid.maths.sampling import Outcome

    found = equality.compare(gold, answer, options or equality.Options())
    if found.outcome is Outcome.SAME:
        return Decision(True, found.rule)
    if found.outcome is Outcome.DIFFERENT:
        return Decision(False, "different", found.rule)
    questions: tuple[tuple[str, str], ...] = ()
    if found.outcome is Outcome.UNKNOWN:
        questions = found.questions or ((spelling.clean(gold), spelling.clean(answer)),)
    is_askable = len(questions) <= _MOST_QUESTIONS and all(may_ask(text) for question in questions for text in question)
    return Decision(False, "different", None, questions if is_askable else ())


_MOST_QUESTIONS = 8
_MOST_ASKED = 300  # characters
_COMMANDS = re.compile(r"\\(?:begin|end|mathbb)\{[^{}]*\}|\\[A-Za-z]+|\\.")
_FORMULA = re.compile(r"[0-9A-Za-z\s{}()\[\]^_+\-*/=<>|.,:;!'&%]*")
_FUNCTION_WORD = re.compile(r"arc(?:sin|cos|tan|cot|sec|csc)|(?:sin|cos|tan)h|sqrt")


def may_ask(text: str) -> bool:
    """Whether a text is a formula that algebra may be asked about: short, no prose, no mere words or names."""
    from gapgrid.maths.spelling import NO_PRODUCT

    if not text.strip() or len(text) > _MOST_ASKED or r"\ldots" in text or ".." in text:
        return False
    rest = _COMMANDS.sub(" ", text)
    if _FORMULA.fullmatch(rest) is None or "__" in rest or re.fullmatch(r"[A-Za-z]{2,}", rest.strip()):
        return False
    if not rest.strip(" ()[]{}.,"):
        return re.search(r"\\(?!text)[A-Za-z]", text) is not None
    found = re.findall("[A-Za-z]{2,}", rest)
    return not any(word in NO_PRODUCT or (len(word) > 3 and not _FUNCTION_WORD.fullmatch(word)) for word in found)


def settle(decision: Decision, reply: str) -> Decision:
    """The decision with algebra's reply to its questions: `math_verify`, `different`, `rule_timeout` or `rule_crash`."""
    return Decision(reply == "math_verify", reply)


# --------------------------------------------------------------------------- items

_NAMED = r"(?:\\?[A-Za-z](?:_\{?\w+\}?)?(?:\([^()]{1,12}\))?|\\angle(?:\s*[A-Z](?:_\{?\d\}?)?){3})"
_ASKS = re.compile(
    r"(?:values?\s+of|determine|find|compute|calculate|evaluate|what\s+(?:are|is))\s+"
    r"(?:(?:all|both|the|possible|exact|real|positive|integers?|numbers?|values?|of|constants?|angles?|coefficients?)\s+)*"
    rf"{_NAMED}(?:\s*,\s*{_NAMED})*\s*,?\s+and\s+{_NAMED}(?![A-Za-z])",
    re.IGNORECASE,
)


def asks_in_order(problem: str) -> bool:
    """Whether a problem asks for several named quantities: then the order of a list of values counts."""
    return _ASKS.search(problem.replace("$", "")[-1500:]) is not None


_REDUCED = re.compile(r"gcd|greatest common divisor|relatively prime|coprime|lowest terms")


def options_of(row: dict[str, Any]) -> "Options":
    """What an item declares: `unit`, `error` or `tolerance`, `is_multiple_answer`, and what its `problem` asks for."""
    from fractions import Fraction

    from gapgrid.maths.equality import Options
    from gapgrid.maths.spelling import clean
    from gapgrid.maths.units import unit_of

    unit = row.get("unit")
    found = unit_of(f" {clean(unit)}") if isinstance(unit, str) else None
    try:
        # Through a float, which has no exponent that takes for ever.
        tolerance = abs(Fraction(str(float(str(row.get("tolerance", row.get("error")))))))
    except (ValueError, OverflowError):
        tolerance = Fraction(0)
    problem = str(row.get("problem") or "")
    is_ordered = row.get("is_multiple_answer") is False or asks_in_order(problem)
    return Options(found[1] if found else "", tolerance, is_ordered, _REDUCED.search(problem) is not None)


def gold_text(gold: object) -> str:
    """A reference answer as text, empty if there is none; the entries of a list must all be given."""
    if isinstance(gold, list):
        return ", ".join(gold_text(entry) for entry in gold)
    return "" if gold is None else str(gold)


# --------------------------------------------------------------------------- on its own


def answer_in(text: str) -> str | None:
    """The answer in a text that is one, or that holds it in a box or behind "####"; None if the box is empty or not closed."""
    rest = text.rpartition("</think>")[2]
    found = [box for box in closed_boxes(rest) if not _BLANK.fullmatch(box.content)]
    if found:
        return _last_boxes(rest, found)[0]
    return None if _BOX.search(rest) or rest != text else rest.rpartition("####")[2].strip()


def decide_row(row: dict[str, Any]) -> Decision:
    """The decision on one row of a file of pairs: `gold`, and `pred` (an answer, or a text that states one) or `response`."""
    gold, options = answer_in(gold_text(row.get("gold"))) or "", options_of(row)
    if "response" in row:
        return decide(gold, extract(row["response"], "boxed").answer, options)
    text = gold_text(row.get("pred"))
    decision = decide(gold, answer_in(text), options)
    if decision.is_correct or decision.rejected_by or decision.questions or _BOX.search(text):
        return decision
    spans = _MATH.findall(text)
    found = extract(text, "boxed").answer or ("".join(spans[-1]) if spans else None)
    return decide(gold, found, options) if found else decision


def grade_pairs(rows: Sequence[dict[str, Any]]) -> list[tuple[Decision, float]]:
    """The settled decision on every row and the seconds it took; what has to be asked of algebra is asked at the end."""
    import time

    from gapgrid.maths.symbolic import Verifier

    timed = []
    for row in rows:
        start = time.perf_counter()
        timed.append((decide_row(row), time.perf_counter() - start))
    with Verifier() as verifier:
        replies = verifier.compare_all([decision.questions for decision, _ in timed if decision.questions])
    settled = []
    for decision, seconds in timed:
        if decision.questions:
            reply, more = replies[decision.questions]
            decision, seconds = settle(decision, reply), seconds + more
        settled.append((decision, seconds))
    return settled


def counts(rows: Sequence[dict[str, Any]], decisions: Sequence[Decision]) -> dict[str, Any]:
    """How many pairs each rule decided; of rows with a label, `expected`, also how many were missed or wrongly accepted."""
    summary: dict[str, Any] = {
        "n": len(rows),
        "n_correct": sum(decision.is_correct for decision in decisions),
        "n_rejected": sum(decision.rejected_by is not None for decision in decisions),
        "rules": dict(Counter(decision.rule for decision in decisions)),
        "rejected_by": dict(Counter(decision.rejected_by for decision in decisions if decision.rejected_by)),
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


def main(argv: list[str] | None = None) -> int:
    """`python -m gapgrid.answers --pairs FILE.jsonl`: one JSON line a pair, then one with counts."""
    import argparse
    import json

    from gapgrid.records import InputError, read_jsonl

    parser = argparse.ArgumentParser(prog="python -m gapgrid.answers", description="Compare reference answers and answers by rules.")
    parser.add_argument("--pairs", type=Path, required=True, help="JSON lines with id, gold, and pred or response")
    args = parser.parse_args(argv)
    try:
        rows = read_jsonl(args.pairs)
        graded = grade_pairs(rows)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for row, (decision, seconds) in zip(rows, graded, strict=True):
        line = {"id": row.get("id"), "correct": decision.is_correct, "rule": decision.rule, "rejected_by": decision.rejected_by}
        print(json.dumps({**line, "seconds": round(seconds, 6)}))
    print(json.dumps({"counts": counts(rows, [decision for decision, _ in graded])}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
