"""Decisions on pairs: equal answers are accepted by a named rule, and no wrong one ever."""

import re
import time
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given

from gapgrid.core.records import Row, read_jsonl
from gapgrid.grading.decide import Decision, asks_in_order, decide, is_formula, options_of
from gapgrid.grading.equality.compare import Options
from gapgrid.grading.equality.math_verify_pool import FormulaPairs
from gapgrid.grading.extract import MOST_CHARACTERS
from tests.unit.grading.strategies import texts

CASES = read_jsonl(Path(__file__).parents[1] / "cases" / "pairs.jsonl")


@pytest.mark.parametrize("row", CASES, ids=range(1, len(CASES) + 1))
def test_a_pair_is_decided_by_the_named_rule(row: Row) -> None:
    decision = decide(row["gold"], row["answer"], options_of(row))
    rule = row.get("accepted_by", row.get("reason", "different"))
    assert decision[:3] == ("accepted_by" in row, rule, row.get("rejected_by"))


def test_the_cases_hold_every_documented_rule() -> None:
    documented = set(re.findall(r"`([a-z_]+)`", decide.__doc__ or ""))
    assert documented == {row["accepted_by"] for row in CASES if "accepted_by" in row}


def test_an_answer_is_accepted_for_itself() -> None:
    for row in CASES:
        for text in (row["gold"], row["answer"]):
            if text.strip():
                assert decide(text, f" {text}\n").is_correct, text


def test_what_is_rejected_is_accepted_for_no_answer_that_is_accepted() -> None:
    """An answer that is rejected for a reference is equal to none of those accepted for it."""
    plain = [row for row in CASES if row.keys() <= {"gold", "answer", "accepted_by", "rejected_by"}]
    accepted = [row for row in plain if "accepted_by" in row]
    for rejected in plain:
        if "rejected_by" in rejected:
            for row in accepted:
                if row["gold"] == rejected["gold"]:
                    assert not decide(row["answer"], rejected["answer"]).is_correct, (row, rejected)


@given(texts, texts)
def test_no_text_breaks_the_rules_or_takes_long(parts: list[str], other_parts: list[str]) -> None:
    start = time.process_time()
    for space in ("", " "):
        gold, answer = space.join(parts), space.join(other_parts)
        assert isinstance(decide(gold, answer), Decision)
        assert isinstance(decide("7", answer), Decision)
        assert not gold.strip() or decide(gold, gold).is_correct
    assert time.process_time() - start < 2


DEEP = {
    "brackets": "(" * 990 + "5" + ")" * 990,
    "braces": "{" * 990 + "5" + "}" * 990,
    "sets": r"\{" * 400 + "5" + r"\}" * 400,
    "roots": r"\sqrt" * 300 + "2",
    "root groups": r"\sqrt{" * 250 + "2" + "}" * 250,
    "fractions": r"\frac" * 300 + "12",
    "sums": "1+" * 900 + "1",
    "quotients": "1/" * 900 + "1",
    "powers": "2^" * 600 + "2",
    "signs": "x^" + "-" * 900 + "2",
    "bars": "|" * 1500,
    "list": "1," * 900 + "1",
    "words": "5 " + "ab/ " * 400,
    "unit": "5" + r"\text{ a}" * 150 + "?",
    "factorials": "+".join(f"{2900 - step}!" for step in range(200)),
    "big powers": "+".join(f"3^{{{4000 - step}}}/7^{{{5000 + step}}}" for step in range(25)),
    "polynomials": "(x+1)^{5000}(y+2)^{5000}(x-y)^{3000}",
    "functions": "+".join(rf"\sin({step}x+\sqrt{{{step}}})" for step in range(2, 60)),
    "equations": "x=" * 600 + "1",
    "unions": r"[1,2]\cup" * 150 + "[1,2]",
    "signs of both kinds": r"\pm 1," * 59 + r"\pm 1",
    "tuples": ",".join(f"({step},{step + 1})" for step in range(60)),
    "tower": "2^{2^{2^{49}}}",
    "binomial": r"\binom{10000000}{5000000}",
    "exponent": "1e999999999",
    "controls": "\x00" * 100,
}


@pytest.mark.parametrize("text", DEEP.values(), ids=DEEP)
def test_no_answer_takes_long_to_compare(text: str) -> None:
    text = text[:MOST_CHARACTERS]
    start = time.process_time()
    for gold in ("1", text[:-1], text.replace("1", "2", 1), "x^2+y"):
        decide(gold, text)
    assert time.process_time() - start < 2


# --------------------------------------------------------------------------- algebra

INTEGRAL, HALF = r"\int_0^1 x dx", r"\frac{1}{2}"


@pytest.mark.parametrize(
    ("gold", "answer", "open_pairs"),
    [
        (HALF, INTEGRAL, ((HALF, INTEGRAL),)),
        (f"(1, {HALF})", f"(1, {INTEGRAL})", ((HALF, INTEGRAL),)),
        (f"(2, {HALF})", f"(1, {INTEGRAL})", ()),
        (HALF, f"the integral {INTEGRAL}", ()),
        ("x", r"\sqrt{x^2}", (("x", r"\sqrt{x^2}"),)),  # equal on positive numbers only
    ],
)
def test_algebra_is_left_the_formulas_that_rules_cannot_compare(
    gold: str, answer: str, open_pairs: FormulaPairs
) -> None:
    assert decide(gold, answer).open_pairs == open_pairs


PROSE_OR_CODE = r"|exec(open(1))|__class__|one or two|1,2,\ldots,n|ABC|\text{no}|a;b" + "\x00"
PROSE_OR_CODE += r"|\text{There is no } m|sin # x|" + "x" * 400
FORMULAS = r"x^2|\mathbb{R}|\sum_{k=1}^{n} k|arcsin x|1:2|(0,1]"


@pytest.mark.parametrize(("texts", "expected"), [(PROSE_OR_CODE, False), (FORMULAS, True)])
def test_algebra_is_asked_about_formulas_and_never_about_prose_or_code(
    texts: str, expected: bool
) -> None:
    for text in texts.split("|"):
        assert is_formula(text) == expected, text


# --------------------------------------------------------------------------- items


@pytest.mark.parametrize(
    ("problem", "expected"),
    [
        ("What are the values of $a, h$ and $k$?", True),
        ("Determine the values of $T(10), T(11)$ and $T(12)$.", True),
        ("Find $x$ and $y$.", True),
        (r"Determine the angles $\angle A B C$ and $\angle A C B$.", True),
        ("For real numbers $m$ and $n$ find all possible values of $m$.", False),
        ("Find all solutions of $x^2=1$.", False),
        ("What are the minimum and maximum values of $f(x)$?", False),
        ("", False),
    ],
)
def test_a_problem_that_asks_for_several_quantities_asks_in_order(
    problem: str, expected: bool
) -> None:
    assert asks_in_order(problem) == expected


def test_options_come_from_what_an_item_declares() -> None:
    row = {"unit": "$cm^2$", "error": "1e-1", "is_multiple_answer": False}
    row["problem"] = r"with $\gcd(a,b)=1$"
    assert options_of(row) == Options("centimeter^2", Fraction(1, 10), True, True)
    assert options_of({"unit": None, "error": "none", "tolerance": None}) == Options()
    assert options_of({"unit": r"^{\circ}"}).unit == "degree"


@pytest.mark.parametrize("key", ["error", "tolerance"])
@pytest.mark.parametrize(
    ("value", "tolerance"),
    [
        ("1e-1", Fraction(1, 10)),
        (0.01, Fraction(1, 100)),
        ("-1e-2", Fraction(1, 100)),
        (1, Fraction(1)),
        ("1/2", 0),
        ("", 0),
        (True, 0),
        # As fractions they would have a hundred million digits.
        *((value, 0) for value in ("1e99999999", "-1e99999999", "1e-99999999", "inf", "9" * 5000)),
    ],
)
def test_a_tolerance_is_read_exactly(key: str, value: object, tolerance: Fraction) -> None:
    assert options_of({key: value}).tolerance == tolerance
