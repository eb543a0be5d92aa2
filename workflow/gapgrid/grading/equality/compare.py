"""Whether two answers are the same: by the structure of their forms and the values in them.

Where that comes down to formulas which cannot be told apart by value, the comparison returns them
for a computer algebra system; it asks none itself.
"""

import re
from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import Any, NamedTuple

from gapgrid.grading.equality import answer_forms, latex_parser, numeric
from gapgrid.grading.equality.answer_forms import (
    Based,
    Equation,
    Form,
    Group,
    Matrix,
    Opaque,
    Union,
    Value,
    is_constant,
)
from gapgrid.grading.equality.latex_parser import Node
from gapgrid.grading.equality.math_verify_pool import FormulaPairs
from gapgrid.grading.equality.numeric import DIFFERENT, SAME, UNKNOWN, UNLIKE, Finding, Outcome


class Options(NamedTuple):
    """What an item declares about its answer.

    Its unit, how far off a number may be, whether the order of a list counts, and whether an
    equation's coefficients are to be without a common factor.
    """

    unit: str = ""
    tolerance: Fraction = Fraction(0)
    is_ordered: bool = False
    is_reduced: bool = False


class Comparison(NamedTuple):
    """An outcome, the rule that found it, and the formulas that it depends on.

    If the outcome is `UNKNOWN`, the forms are the same if both formulas of each pair are equal;
    without any pair, the answers as a whole have to be compared.
    """

    outcome: Outcome
    rule: str
    open_pairs: FormulaPairs = ()


def compare(gold: str, answer: str, options: Options) -> Comparison:
    """Compare two answers in all their readings; the best outcome counts."""
    comparisons = [
        _compare(gold_form, answer_form, options)
        for gold_form in answer_forms.readings(gold)
        for answer_form in answer_forms.readings(answer)
    ]
    for outcome in (SAME, UNKNOWN, UNLIKE, DIFFERENT):
        for comparison in comparisons:
            if comparison.outcome is outcome:
                return comparison
    return Comparison(UNLIKE, "unreadable")


def _compare(gold: Form, answer: Form, options: Options) -> Comparison:
    if isinstance(gold, Group) and isinstance(answer, Group):
        return _compare_groups(gold, answer, options)
    if isinstance(gold, Group):
        return _compare_with_group(gold, answer, lambda item: _compare(item, answer, options))
    if isinstance(answer, Group):
        return _compare_with_group(answer, gold, lambda item: _compare(gold, item, options))
    if type(gold) is type(answer) and not isinstance(gold, Opaque):
        return _SAME_KIND[type(gold)](gold, answer, options)
    return _compare_kinds(gold, answer, options)


def _are_constant(*forms: Form) -> bool:
    return all(is_constant(form) for form in forms)


def _different_if(is_certain: bool, rule: str) -> Comparison:
    """Return `DIFFERENT` if it is certain that two forms differ, else `UNLIKE`."""
    return Comparison(DIFFERENT if is_certain else UNLIKE, rule)


def _compare_kinds(gold: Form, answer: Form, options: Options) -> Comparison:
    """Compare forms of two kinds, or two that are opaque."""
    if isinstance(gold, Opaque | Value) and isinstance(answer, Opaque | Value):
        is_hopeless = (is_constant(gold) and _has_free_letters(answer)) or (
            is_constant(answer) and _has_free_letters(gold)
        )
        if is_hopeless:
            return Comparison(UNLIKE, "kind")
        return Comparison(UNKNOWN, "kind", ((gold.text, answer.text),))
    if isinstance(gold, Opaque) or isinstance(answer, Opaque):
        return Comparison(UNKNOWN, "kind")
    if isinstance(gold, Equation) and isinstance(answer, Value):
        return _compare_equation_with_value(gold, answer, options)
    if isinstance(answer, Equation) and isinstance(gold, Value):
        return _compare_equation_with_value(answer, gold, options)
    has_value = isinstance(gold, Value) or isinstance(answer, Value)
    return _different_if(has_value and _are_constant(gold, answer), "kind")


_BINDING = re.compile(r"\\(?:sum|prod|int|lim)(?![A-Za-z])")
_BOUND_LETTERS = re.compile(r"\\[A-Za-z]+|(?<![A-Za-z])(?:sqrt|pi|[ei])(?![A-Za-z])")


def _has_free_letters(form: Opaque | Value) -> bool:
    """Return whether a text has variables or words that no sum or integral binds.

    It is then no way to write a number.
    """
    return (
        _BINDING.search(form.text) is None
        and re.search("[A-Za-z]", _BOUND_LETTERS.sub(" ", form.text)) is not None
    )


def _compare_equation_with_value(equation: Equation, value: Value, options: Options) -> Comparison:
    """Compare an equation with a value that it may be solved for or may state on its right.

    But 8 = 7 is no way to say 7.
    """
    name = latex_parser.read(value.name)
    if name is not None and name.op == "variable" and latex_parser.variables(value.node):
        return _compare_equations(equation, Equation(name, value.node), options)
    if not latex_parser.variables(equation.left):
        return Comparison(UNLIKE, "equation")
    outcome = numeric.compare(value.node, equation.right).outcome
    return Comparison(UNKNOWN if outcome in (SAME, UNKNOWN) else UNLIKE, "equation")


# --------------------------------------------------------------------------- values


def _compare_values(gold: Value, answer: Value, options: Options) -> Comparison:
    """Compare two values: of the same name or one of none, in the same unit or one in none."""
    if gold.name and answer.name and gold.name != answer.name:
        values = _under_one_name(gold, answer)
        if values is None:
            return Comparison(UNLIKE, "name")
        gold, answer = values
    finding = _with_tolerance(gold.node, answer.node, options.tolerance)
    unit = gold.unit or options.unit
    is_written = bool(gold.unit or answer.unit)
    if unit == answer.unit or (
        not is_written and (finding.outcome is not DIFFERENT or unit not in _ONE_UNIT)
    ):
        return _with_pair(finding, gold, answer, finding.rule)
    if unit and answer.unit:
        return Comparison(UNLIKE, "unit")
    written = unit or answer.unit
    if finding.outcome is SAME:
        return Comparison(SAME, written if written in _ONE_UNIT else "unit")
    if written in _ONE_UNIT:
        return _compare_written_out(finding, gold, answer, written, bool(unit))
    if finding.outcome is DIFFERENT and _may_convert(gold.node, answer.node):
        return Comparison(UNLIKE, "unit")
    return _with_pair(finding, gold, answer, "unit")


def _with_pair(finding: Finding, gold: Value, answer: Value, rule: str) -> Comparison:
    """Return the comparison that a finding is; if it is unknown, algebra may compare the two."""
    is_unknown = finding.outcome is UNKNOWN
    return Comparison(finding.outcome, rule, ((gold.text, answer.text),) if is_unknown else ())


_ONE_UNIT = {
    "percent": Node("number", value=Fraction(1, 100)),
    "degree": Node("div", (Node("constant", name="pi"), Node("number", value=Fraction(180)))),
}


def _compare_written_out(
    finding: Finding, gold: Value, answer: Value, unit: str, is_gold: bool
) -> Comparison:
    """Compare a percentage or an angle with a number as which it may be written out."""
    scaled = Node("mul", ((gold if is_gold else answer).node, _ONE_UNIT[unit]))
    nodes = (scaled, answer.node) if is_gold else (gold.node, scaled)
    outcome = numeric.compare(*nodes).outcome
    if outcome is SAME:
        return Comparison(SAME, unit)
    if finding.outcome is UNKNOWN:
        return _with_pair(finding, gold, answer, unit)
    is_different = finding.outcome is outcome is DIFFERENT
    return _different_if(is_different and not numeric.are_near(*nodes), unit)  # 33 % for a third


def _may_convert(gold: Node, answer: Node) -> bool:
    """Return whether one number may be the other in a smaller unit: as 2 and 2000, or 3 and 180."""
    values = latex_parser.literal(gold), latex_parser.literal(answer)
    if not values[0] or not values[1]:
        return None in values
    ratio = values[0] / values[1]
    return any(part.denominator == 1 and abs(part) >= 7 for part in (ratio, 1 / ratio))


def _with_tolerance(gold: Node, answer: Node, tolerance: Fraction) -> Finding:
    """Compare two formulas under an item's declared tolerance."""
    finding = numeric.compare(gold, answer)
    if not tolerance or finding.outcome is SAME:
        return finding
    values = latex_parser.literal(gold), latex_parser.literal(answer)
    if values[0] is None or values[1] is None:
        return finding if finding.outcome is not DIFFERENT else Finding(UNLIKE, "tolerance")
    is_near = abs(values[0] - values[1]) <= tolerance
    return Finding(SAME if is_near else DIFFERENT, "tolerance")


_FUNCTION = re.compile(r"(\\?[A-Za-z]+(?:_[A-Za-z0-9]|_\{[^{}]*\})?)'*\(([A-Za-z])\)")


def _under_one_name(gold: Value, answer: Value) -> tuple[Value, Value] | None:
    """Return two functions with one name for their arguments; None if their names differ.

    A function f(x) may also be called y or f.
    """
    names = [_FUNCTION.fullmatch(value.name) for value in (gold, answer)]
    if names[0] and names[1]:
        return _with_argument(gold, names[0][2]), _with_argument(answer, names[1][2])
    function, other_name = (names[0], answer.name) if names[0] else (names[1], gold.name)
    return (gold, answer) if function and other_name in ("y", function[1]) else None


def _with_argument(value: Value, name: str) -> Value:
    return value._replace(node=_renamed(value.node, name))


def _renamed(node: Node, name: str) -> Node:
    if node.op == "variable":
        return node._replace(name="?") if node.name == name else node
    return node._replace(args=tuple(_renamed(part, name) for part in node.args))


def _compare_based(gold: Based, answer: Based, _: Options) -> Comparison:
    if gold == answer:
        return Comparison(SAME, "base")
    return _different_if(gold.base == answer.base, "base")


def _compare_equations(gold: Equation, answer: Equation, options: Options) -> Comparison:
    """Compare equations, whose sides may be exchanged and whose signs may all be turned.

    Whether one is a multiple of the other is left to algebra.
    """
    gold_difference, answer_difference = (
        Node("add", (equation.left, Node("neg", (equation.right,)))) for equation in (gold, answer)
    )
    for difference in (gold_difference, Node("neg", (gold_difference,))):
        if numeric.compare(difference, answer_difference).outcome is SAME:
            return Comparison(SAME, "equation")
    return Comparison(UNLIKE if options.is_reduced else UNKNOWN, "equation")


# --------------------------------------------------------------------------- groups


def _all_of(parts: list[Comparison], rule: str) -> Comparison:
    """Return the comparison of wholes whose parts, one by one, compare like this."""
    for outcome in (DIFFERENT, UNLIKE):
        if any(part.outcome is outcome for part in parts):
            return Comparison(outcome, rule)
    unknown = [part.open_pairs for part in parts if part.outcome is UNKNOWN]
    if not unknown:
        return Comparison(SAME, rule)
    is_verifiable = all(unknown)
    pairs = tuple(pair for open_pairs in unknown for pair in open_pairs)
    return Comparison(UNKNOWN, rule, pairs if is_verifiable else ())


def _in_order(gold: Group, answer: Group, rule: str, options: Options) -> Comparison:
    """Compare item by item."""
    if len(gold.items) != len(answer.items):
        return _different_if(_are_constant(gold, answer), rule)
    return _all_of_pairs(zip(gold.items, answer.items, strict=True), rule, options)


def _all_of_pairs(pairs: Iterable[tuple[Form, Form]], rule: str, options: Options) -> Comparison:
    return _all_of([_compare(*pair, options) for pair in pairs], rule)


def _in_any_order(gold: Group, answer: Group, options: Options) -> Comparison:
    """Compare so that every item of one has its like in the other; an item may be repeated."""
    rows = [[_compare(item, other, options) for other in answer.items] for item in gold.items]
    by_row = [{cell.outcome for cell in row} for row in rows]
    by_column = [{cell.outcome for cell in column} for column in zip(*rows, strict=True)]
    if all(SAME in outcomes for outcomes in by_row + by_column):
        return Comparison(SAME, "set")
    if any(outcomes <= {DIFFERENT} for outcomes in by_row + by_column):
        return Comparison(DIFFERENT, "set")
    if any(outcomes <= {DIFFERENT, UNLIKE} for outcomes in by_row + by_column):
        return Comparison(UNLIKE, "set")
    # If a single item of each is matched by none, all depends on these two.
    open_rows = [row for row, outcomes in enumerate(by_row) if SAME not in outcomes]
    open_columns = [column for column, outcomes in enumerate(by_column) if SAME not in outcomes]
    if len(open_rows) == len(open_columns) == 1:
        return rows[open_rows[0]][open_columns[0]]._replace(rule="set")
    return Comparison(UNKNOWN, "set")


def _compare_groups(gold: Group, answer: Group, options: Options) -> Comparison:
    """Compare lists and sets in any order unless it counts, tuples and intervals in order."""
    if all(group.opening in ("", r"\{") for group in (gold, answer)):
        return _compare_lists(gold, answer, options)
    if r"\{" in (gold.opening, answer.opening):
        return Comparison(UNLIKE, "set")
    if gold.variable and answer.variable and gold.variable != answer.variable:
        return Comparison(UNLIKE, "name")
    in_order = _in_order(gold, answer, "tuple", options)
    is_different = in_order.outcome is DIFFERENT
    if not gold.opening or not answer.opening:
        if is_different and _in_any_order(gold, answer, options).outcome is not DIFFERENT:
            return Comparison(UNLIKE, "tuple")
        return in_order
    has_same_brackets = (gold.opening, gold.closing) == (answer.opening, answer.closing)
    if len(gold.items) != 2 or has_same_brackets or is_different:
        return in_order
    is_interval = _is_interval(gold) or _is_interval(answer)
    return _different_if(in_order.outcome is SAME and is_interval, "interval")


def _is_interval(group: Group) -> bool:
    """Return whether a pair can be nothing but an interval."""
    return bool(group.variable) or (group.opening, group.closing) in (("(", "]"), ("[", ")"))


def _compare_lists(gold: Group, answer: Group, options: Options) -> Comparison:
    """Compare by names where both have them; in order where it counts; else in any order."""
    gold_names, answer_names = _item_names(gold), _item_names(answer)
    if gold_names and answer_names:
        if sorted(gold_names) != sorted(answer_names):
            return Comparison(UNLIKE, "names")
        by_name = dict(zip(answer_names, answer.items, strict=True))
        pairs = [(item, by_name[name]) for name, item in zip(gold_names, gold.items, strict=True)]
        return _all_of_pairs(pairs, "names", options)
    in_any_order = _in_any_order(gold, answer, options)
    is_ordered = gold_names or answer_names or options.is_ordered or _has_order(gold)
    if in_any_order.outcome is DIFFERENT or not is_ordered:
        return in_any_order
    in_order = _in_order(gold, answer, "list", options)
    is_unverifiable = in_order.outcome is UNKNOWN and not in_order.open_pairs
    if in_order.outcome is DIFFERENT or is_unverifiable:
        return Comparison(UNLIKE, "list")
    return in_order


def _item_names(group: Group) -> list[str]:
    """Return the names of the items if each has one of its own.

    Roots called x_1 and x_2 are not told apart by it.
    """
    names = [item.name for item in group.items if isinstance(item, Value | Group)]
    plain = {re.sub(r"_.*|\(.*", "", name) for name in names}
    return names if len(names) == len(group.items) == len(plain) > 1 and all(names) else []


def _has_order(gold: Group) -> bool:
    """Return whether a bare list of numbers seems to answer several questions in turn.

    Who lists a set of solutions sorts it, by value or by size, and repeats none. A list that does
    neither names quantities in the order in which the problem asks for them.
    """
    numbers = [
        latex_parser.literal(item.node) if isinstance(item, Value) else None for item in gold.items
    ]
    known = [number for number in numbers if number is not None]
    if gold.opening or len(known) < len(numbers) or len(known) < 2:
        return False
    sizes = [abs(number) for number in known]
    is_sorted = any(row in (sorted(row), sorted(row, reverse=True)) for row in (known, sizes))
    return not is_sorted or len(set(known)) < len(known)


def _compare_with_group(
    group: Group, other: Form, compare_item: Callable[[Form], Comparison]
) -> Comparison:
    """Compare a group with something else.

    A set or list of one is its item; else they differ if both are constant.
    """
    if isinstance(other, Opaque):
        return Comparison(UNKNOWN, "kind")
    if isinstance(other, Union):
        return _different_if(_are_constant(group, other), "interval")
    if group.opening in ("", r"\{"):
        items = [compare_item(item) for item in group.items]
        if len(items) == 1:
            return items[0]
        # All the same, or named and one of them the right one: more than asked, but not wrong.
        outcomes = {item.outcome for item in items}
        if DIFFERENT not in outcomes or (SAME in outcomes and _item_names(group)):
            return Comparison(UNLIKE, "set")
    # A named value may be one coordinate of several.
    is_certain = isinstance(other, Value) and not other.name and _are_constant(group, other)
    return _different_if(is_certain, "kind")


def _compare_unions(gold: Union, answer: Union, options: Options) -> Comparison:
    """Compare unions piece by piece, in any order."""
    if len(gold.pieces) != len(answer.pieces):
        return Comparison(UNLIKE, "interval")
    comparison = _in_any_order(Group(gold.pieces), Group(answer.pieces), options)
    return comparison._replace(rule="interval")


def _compare_matrices(gold: Matrix, answer: Matrix, options: Options) -> Comparison:
    if [len(row) for row in gold.rows] != [len(row) for row in answer.rows]:
        return _different_if(_are_constant(gold, answer), "matrix")
    pairs = [
        pair
        for rows in zip(gold.rows, answer.rows, strict=True)
        for pair in zip(*rows, strict=True)
    ]
    return _all_of_pairs(pairs, "matrix", options)


_SAME_KIND: dict[type, Callable[[Any, Any, Options], Comparison]] = {
    Value: _compare_values,
    Based: _compare_based,
    Union: _compare_unions,
    Matrix: _compare_matrices,
    Equation: _compare_equations,
}
