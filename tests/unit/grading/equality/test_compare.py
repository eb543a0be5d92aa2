"""Comparison: equal answers are the same in any spelling, and different ones are never the same."""

import random
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gapgrid.grading.equality import answer_forms, latex_parser, normalize, numeric
from gapgrid.grading.equality.compare import Comparison, Options, compare
from gapgrid.grading.equality.numeric import DIFFERENT, SAME
from tests.unit.grading.strategies import Formula, formulas, grouped, spelled_number, styles


def compared(gold: str, answer: str) -> Comparison:
    """Return the comparison of two answers to an item that declares nothing."""
    return compare(gold, answer, Options())


def is_same(gold: str, answer: str) -> bool:
    return compared(gold, answer).outcome is SAME


@given(formulas, styles, styles)
def test_a_formula_is_equal_to_itself_in_any_spelling(
    formula: Formula, style: random.Random, other_style: random.Random
) -> None:
    gold, answer = formula(style), formula(other_style)
    assert is_same(gold, answer), (gold, answer)


CHANGES = ["+1", r"+\frac{1}{1000}", "-x", r"+\sqrt{2}", r"\cdot 3+1"]


@given(formulas, styles, styles, st.sampled_from(CHANGES))
def test_a_formula_is_not_equal_to_another_one(
    formula: Formula, style: random.Random, other_style: random.Random, change: str
) -> None:
    gold, answer = formula(style), f"{grouped(formula)(other_style)}{change}"
    assert not is_same(gold, answer) or agree_at_a_point(gold, answer), (gold, answer)


def agree_at_a_point(gold: str, answer: str) -> bool:
    """Return whether formulas have one exact value; zero times three and one is not zero."""
    nodes = [latex_parser.read(normalize.clean(text)) for text in (gold, answer)]
    assert nodes[0] is not None and nodes[1] is not None
    names = sorted(latex_parser.variables(nodes[0]) | latex_parser.variables(nodes[1]))
    values = {name: Fraction(index + 5, 7) for index, name in enumerate(names)}
    value, other = (numeric.exact(node, values) for node in nodes if node is not None)
    return value is not None and value == other


@given(formulas, formulas, styles)
def test_values_are_compared_alike_in_both_directions(
    formula: Formula, other: Formula, style: random.Random
) -> None:
    gold, answer = formula(style), other(style)
    forth, back = compared(gold, answer), compared(answer, gold)
    assert (forth.outcome, forth.rule) == (back.outcome, back.rule), (gold, answer)


fractions = st.fractions(-500, 500, max_denominator=60)


@given(fractions, fractions, styles)
def test_numbers_are_the_same_exactly_if_they_are_equal(
    value: Fraction, other: Fraction, style: random.Random
) -> None:
    for gold, answer in ((value, other), (value, value), (other, value + 1)):
        texts = spelled_number(gold, style), spelled_number(answer, style)
        comparison = compared(*texts)
        assert (comparison.outcome is SAME) == (gold == answer), (texts, comparison)
        # 19/20 may be what was rounded to 1.0.
        is_certain = "." not in "".join(texts)
        assert not is_certain or comparison.outcome in (SAME, DIFFERENT), (texts, comparison)
        assert comparison.rule == "number"


@given(st.lists(st.integers(-40, 40), min_size=2, max_size=6, unique=True), styles)
def test_sets_come_in_any_order_and_tuples_in_one(numbers: list[int], style: random.Random) -> None:
    mixed = style.sample(numbers, len(numbers))
    ordered, shuffled = (", ".join(map(str, row)) for row in (numbers, mixed))
    assert is_same(rf"\{{{ordered}\}}", rf"\{{{shuffled}\}}")
    assert is_same(rf"\{{{ordered}\}}", shuffled)
    assert is_same(f"({ordered})", f"({shuffled})") == (numbers == mixed)
    assert is_same(", ".join(map(str, sorted(numbers))), shuffled)
    comparison = compared(rf"\{{{ordered}\}}", rf"\{{{shuffled}, 77\}}")
    assert (comparison.outcome, comparison.rule) == (DIFFERENT, "set")


# --------------------------------------------------------------------------- parsing


AMBIGUOUS = r"1/2x|2\frac{3}{2}|3 4|\sqrt12|f(x+1)|2^3^4|\ln 2/3|n!!|x_12|abcd|not|1/2(3)"


@pytest.mark.parametrize("text", AMBIGUOUS.split("|"))
def test_a_formula_that_could_be_read_in_two_ways_is_none(text: str) -> None:
    assert latex_parser.read(normalize.clean(text)) is None


def test_a_comma_between_digits_is_read_in_two_ways() -> None:
    assert len(answer_forms.readings("2,500")) == 2
    assert len(answer_forms.readings("2, 500")) == 1
