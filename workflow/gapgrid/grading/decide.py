"""The rule step on one pair: an answer and its reference are compared by rules, cheapest first.

Functions on text; nothing from an answer is ever run as code. What these rules leave open is a
question for a computer algebra system, which has processes of its own, see `math_verify_pool`.
"""

import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

from gapgrid.grading.equality import compare, normalize
from gapgrid.grading.equality.compare import Options
from gapgrid.grading.equality.math_verify_pool import EQUAL, FormulaPairs, Verifier
from gapgrid.grading.equality.numeric import DIFFERENT, SAME, UNKNOWN
from gapgrid.grading.equality.units import unit_of
from gapgrid.grading.extract import MOST_CHARACTERS


class Decision(NamedTuple):
    """What the rules decide about a pair.

    `rule` accepted it, or says why none did. `rejected_by` names the rule by which gold and answer
    are both fully understood and differ. `open_pairs` are formulas that are left to algebra: if
    the two of each pair are equal, so are gold and answer.
    """

    is_correct: bool
    rule: str
    rejected_by: str | None = None
    open_pairs: FormulaPairs = ()


def decide(gold: str, answer: str | None, options: Options | None = None) -> Decision:
    """Compare an answer with the reference answer, without algebra.

    Rules, in order: `identical` in one spelling; `choice` and `text` for letters and words;
    `number`, `float`, `value` and `formula` by value; `unit`, `percent`, `degree`, `tolerance` and
    `base` where one is written or declared; `tuple`, `list`, `names`, `set`, `interval`, `matrix`
    and `equation` by structure. A percent sign may be left out, and may be written out: 20 % is 20
    and is 0.2. A list without brackets may come in any order, unless the item asks for its entries
    one by one.
    """
    if answer is None or not answer.strip():
        return Decision(False, "no_answer")
    if not gold.strip():
        return Decision(False, "no_gold")
    if gold.strip() == answer.strip():
        return Decision(True, "identical")
    if max(len(gold), len(answer)) > MOST_CHARACTERS:
        return Decision(False, "too_long")
    return _decide_by_text(gold, answer) or _decide_by_form(gold, answer, options or Options())


_SPELLINGS = (
    ("identical", normalize.compact),
    ("choice", normalize.choice),
    ("text", normalize.plain),
    ("text", normalize.words),
)


def _decide_by_text(gold: str, answer: str) -> Decision | None:
    for rule, spell in _SPELLINGS:
        spelled = spell(gold)
        if spelled and spelled == spell(answer):
            return Decision(True, rule)
    if normalize.is_marked_choice(gold):
        letter = normalize.choice(answer) or normalize.chosen(answer)
        if letter == normalize.choice(gold):
            return Decision(True, "choice")
        if letter:
            return Decision(False, "different", "choice")
    return None


def _decide_by_form(gold: str, answer: str, options: Options) -> Decision:
    outcome, rule, open_pairs = compare.compare(gold, answer, options)
    if outcome is SAME:
        return Decision(True, rule)
    if outcome is DIFFERENT:
        return Decision(False, "different", rule)
    if outcome is not UNKNOWN:
        return Decision(False, "different")
    open_pairs = open_pairs or ((normalize.clean(gold), normalize.clean(answer)),)
    is_verifiable = len(open_pairs) <= _MOST_PAIRS and all(
        is_formula(text) for pair in open_pairs for text in pair
    )
    return Decision(False, "different", open_pairs=open_pairs if is_verifiable else ())


# --------------------------------------------------------------------------- algebra

_MOST_PAIRS = 8
_MOST_FORMULA_CHARACTERS = 300
_COMMANDS = re.compile(r"\\(?:begin|end|mathbb)\{[^{}]*\}|\\[A-Za-z]+|\\.")
_FORMULA = re.compile(r"[0-9A-Za-z\s{}()\[\]^_+\-*/=<>|.,:;!'&%]*")
_FUNCTION_WORD = re.compile(r"arc(?:sin|cos|tan|cot|sec|csc)|(?:sin|cos|tan)h|sqrt")


def is_formula(text: str) -> bool:
    """Return whether algebra may be asked about a text: it is short, no prose, no mere name."""
    if not text.strip() or len(text) > _MOST_FORMULA_CHARACTERS:
        return False
    rest = _COMMANDS.sub(" ", text)
    if r"\ldots" in text or ".." in text or "__" in rest or not _FORMULA.fullmatch(rest):
        return False
    if re.fullmatch(r"[A-Za-z]{2,}", rest.strip()):
        return False
    if not rest.strip(" ()[]{}.,"):
        return re.search(r"\\(?!text)[A-Za-z]", text) is not None
    return not any(
        word in normalize.NO_PRODUCT or (len(word) > 3 and not _FUNCTION_WORD.fullmatch(word))
        for word in re.findall("[A-Za-z]{2,}", rest)
    )


def ask_algebra(decisions: Sequence[Decision], verifier: Verifier) -> list[tuple[Decision, float]]:
    """Return each decision, or algebra's where one was left open, and the seconds that it took.

    The rule is then `math_verify`, `different`, `rule_timeout` or `rule_crash`.
    """
    replies = verifier.compare_all(
        decision.open_pairs for decision in decisions if decision.open_pairs
    )
    final = []
    for decision in decisions:
        seconds = 0.0
        if decision.open_pairs:
            reply, seconds = replies[decision.open_pairs]
            decision = Decision(reply == EQUAL, reply)
        final.append((decision, seconds))
    return final


# --------------------------------------------------------------------------- items

_NAMED = r"(?:\\?[A-Za-z](?:_\{?\w+\}?)?(?:\([^()]{1,12}\))?|\\angle(?:\s*[A-Z](?:_\{?\d\}?)?){3})"
_ASKS = re.compile(
    r"(?:values?\s+of|determine|find|compute|calculate|evaluate|what\s+(?:are|is))\s+"
    r"(?:(?:all|both|the|possible|exact|real|positive|integers?|numbers?|values?|of|constants?"
    r"|angles?|coefficients?)\s+)*"
    rf"{_NAMED}(?:\s*,\s*{_NAMED})*\s*,?\s+and\s+{_NAMED}(?![A-Za-z])",
    re.IGNORECASE,
)
_REDUCED = re.compile(r"gcd|greatest common divisor|relatively prime|coprime|lowest terms")


def asks_in_order(problem: str) -> bool:
    """Return whether a problem asks for several named quantities: then a list's order counts."""
    return _ASKS.search(problem.replace("$", "")[-1500:]) is not None


def options_of(row: Mapping[str, Any]) -> Options:
    """Return what an item declares, and what its `problem` asks for.

    It may declare a `unit`, an `error` or `tolerance`, and `is_multiple_answer`.
    """
    unit = unit_of(f" {normalize.clean(row['unit'])}") if isinstance(row.get("unit"), str) else None
    try:
        # Through a float: as a fraction, 1e99999999 would have a hundred million digits.
        tolerance = abs(Fraction(str(float(str(row.get("tolerance", row.get("error")))))))
    except (ValueError, OverflowError):
        tolerance = Fraction(0)
    problem = str(row.get("problem") or "")
    return Options(
        unit[1] if unit else "",
        tolerance,
        is_ordered=row.get("is_multiple_answer") is False or asks_in_order(problem),
        is_reduced=_REDUCED.search(problem) is not None,
    )
