"""Whether two answers are the same, by the structure of their forms and the values of their formulas.

Where that comes down to formulas which cannot be told apart by value, the comparison returns them as questions for a
computer algebra system; it asks none itself.
"""

import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any, NamedTuple

from gapgrid.maths import formulas, mathforms, sampling
from gapgrid.maths.formulas import Node
from gapgrid.maths.mathforms import Based, Equation, Form, Group, Matrix, Opaque, Union, Value, is_constant
from gapgrid.maths.sampling import DIFFERENT, SAME, UNKNOWN, UNLIKE, Finding, Outcome


class Options(NamedTuple):
    """What an item says about its answer.

    `unit`, how far off a number may be, whether the order of a list counts, whether an equation's coefficients are to be
    without a common factor.
    """

    unit: str = ""
    tolerance: Fraction = Fraction(0)
    is_ordered: bool = False
    is_reduced: bool = False


class Comparison(NamedTuple):
    """An outcome, the rule that found it, and the pairs of formulas that would have to be equal for the forms to be."""

    outcome: Outcome
    rule: str
    questions: tuple[tuple[str, str], ...] = ()


def compare(gold: str, answer: str, options: Options) -> Comparison:
    """How two answers relate, over all their readings."""
    found = [_compare(one, other, options) for one in mathforms.readings(gold) for other in mathforms.readings(answer)]
    for outcome in (SAME, UNKNOWN, UNLIKE, DIFFERENT):
        for comparison in found:
            if comparison.outcome is outcome:
                return comparison
    return Comparison(UNLIKE, "unreadable")


def _compare(gold: Form, answer: Form, options: Options) -> Comparison:
    """How two forms relate."""
    if isinstance(gold, Group) and isinstance(answer, Group):
        return _compare_groups(gold, answer, options)
    if isinstance(gold, Group):
        return _compare_with_group(gold, answer, options, lambda item: _compare(item, answer, options))
    if isinstance(answer, Group):
        return _compare_with_group(answer, gold, options, lambda item: _compare(gold, item, options))
    if type(gold) is type(answer) and not isinstance(gold, Opaque):
        return _SAME_KIND[type(gold)](gold, answer, options)
    return _compare_kinds(gold, answer, options)


def _compare_kinds(gold: Form, answer: Form, options: Options) -> Comparison:
    """Forms of two kinds."""
    if isinstance(gold, Opaque | Value) and isinstance(answer, Opaque | Value):
        is_hopeless = (is_constant(gold) and _has_free_letters(answer)) or (is_constant(answer) and _has_free_letters(gold))
        return Comparison(UNLIKE, "kind") if is_hopeless else Comparison(UNKNOWN, "kind", ((gold.text, answer.text),))
    if isinstance(gold, Opaque) or isinstance(answer, Opaque):
        return Comparison(UNKNOWN, "kind")
    if isinstance(gold, Equation) and isinstance(answer, Value):
        return _compare_equation_with_value(gold, answer, options)
    if isinstance(answer, Equation) and isinstance(gold, Value):
        return _compare_equation_with_value(answer, gold, options)
    is_certain = (isinstance(gold, Value) or isinstance(answer, Value)) and is_constant(gold) and is_constant(answer)
    return Comparison(DIFFERENT if is_certain else UNLIKE, "kind")


_BINDING = re.compile(r"\\(?:sum|prod|int|lim)(?![A-Za-z])")
_BOUND_LETTERS = re.compile(r"\\[A-Za-z]+|(?<![A-Za-z])(?:sqrt|pi|[ei])(?![A-Za-z])")


def _has_free_letters(form: Opaque | Value) -> bool:
    """Whether a text holds variables or words that no sum or integral binds: it is then no way to write a number."""
    return _BINDING.search(form.text) is None and re.search("[A-Za-z]", _BOUND_LETTERS.sub(" ", form.text)) is not None


def _compare_equation_with_value(equation: Equation, value: Value, options: Options) -> Comparison:
    """An equation may be solved for the name of a value, or state it on its right; but 8 = 7 is no way to say 7."""
    name = formulas.read(value.name)
    if name is not None and name.op == "variable" and formulas.variables(value.node):
        return _compare_equations(equation, Equation(name, value.node), options)
    if not formulas.variables(equation.left):
        return Comparison(UNLIKE, "equation")
    found = sampling.compare(value.node, equation.right)
    return Comparison(UNKNOWN if found.outcome in (SAME, UNKNOWN) else UNLIKE, "equation")


# --------------------------------------------------------------------------- values


def _compare_values(gold: Value, answer: Value, options: Options) -> Comparison:
    """Two values: of the same name or one of none, in the same unit or one in none."""
    if gold.name and answer.name and gold.name != answer.name:
        pair = _under_one_name(gold, answer)
        if pair is None:
            return Comparison(UNLIKE, "name")
        gold, answer = pair
    unit = gold.unit or options.unit
    finding = _with_tolerance(sampling.compare(gold.node, answer.node), gold.node, answer.node, options.tolerance)
    is_written = bool(gold.unit or answer.unit)
    if unit == answer.unit or (not is_written and (finding.outcome is not DIFFERENT or unit not in _ONE_UNIT)):
        return _asked(finding, gold, answer, finding.rule)
    if unit and answer.unit:
        return Comparison(UNLIKE, "unit")
    written = unit or answer.unit
    if finding.outcome is SAME:
        return Comparison(SAME, written if written in _ONE_UNIT else "unit")
    if written in _ONE_UNIT:
        return _compare_written_out(finding, gold, answer, written, bool(unit))
    if finding.outcome is DIFFERENT and _may_convert(gold.node, answer.node):
        return Comparison(UNLIKE, "unit")
    return _asked(finding, gold, answer, "unit")


def _asked(finding: Finding, gold: Value, answer: Value, rule: str) -> Comparison:
    """The comparison that a finding is, with the question it leaves."""
    return Comparison(finding.outcome, rule, ((gold.text, answer.text),) if finding.outcome is UNKNOWN else ())


_ONE_UNIT = {
    "percent": Node("number", value=Fraction(1, 100)),
    "degree": Node("div", (Node("constant", name="pi"), Node("number", value=Fraction(180)))),
}


def _compare_written_out(finding: Finding, gold: Value, answer: Value, unit: str, is_gold: bool) -> Comparison:
    """A percentage or an angle on one side, which may be written out as a number on the other."""
    nodes = [gold.node, answer.node]
    scaled = 0 if is_gold else 1
    nodes[scaled] = Node("mul", (nodes[scaled], _ONE_UNIT[unit]))
    outcome = sampling.compare(*nodes).outcome
    if outcome is SAME:
        return Comparison(SAME, unit)
    if finding.outcome is UNKNOWN:
        return _asked(finding, gold, answer, unit)
    is_certain = finding.outcome is outcome is DIFFERENT and not sampling.are_near(*nodes)  # 33 % may be a third
    return Comparison(DIFFERENT if is_certain else UNLIKE, unit)


def _may_convert(gold: Node, answer: Node) -> bool:
    """Whether one number may be the other in a smaller unit: as 2 and 2000, or 3 and 180."""
    one, other = formulas.literal(gold), formulas.literal(answer)
    if not one or not other:
        return one is None or other is None
    return any(ratio.denominator == 1 and abs(ratio) >= 7 for ratio in (one / other, other / one))


def _with_tolerance(finding: Finding, gold: Node, answer: Node, tolerance: Fraction) -> Finding:
    """The finding, under an item's declared tolerance."""
    one, other = formulas.literal(gold), formulas.literal(answer)
    if not tolerance or finding.outcome is SAME:
        return finding
    if one is None or other is None:
        return finding if finding.outcome is not DIFFERENT else Finding(UNLIKE, "tolerance")
    return Finding(SAME if abs(one - other) <= tolerance else DIFFERENT, "tolerance")


_FUNCTION = re.compile(r"(\\?[A-Za-z]+(?:_[A-Za-z0-9]|_\{[^{}]*\})?)'*\(([A-Za-z])\)")


def _under_one_name(gold: Value, answer: Value) -> tuple[Value, Value] | None:
    """Two functions with their arguments called alike, or a function f(x) and y or f; None if the names tell them apart."""
    names = [_FUNCTION.fullmatch(value.name) for value in (gold, answer)]
    if names[0] and names[1]:
        return _with_argument(gold, names[0][2]), _with_argument(answer, names[1][2])
    function, other = (names[0], answer.name) if names[0] else (names[1], gold.name)
    return (gold, answer) if function and other in ("y", function[1]) else None


def _with_argument(value: Value, name: str) -> Value:
    return value._replace(node=_renamed(value.node, name))


def _renamed(node: Node, name: str) -> Node:
    if node.op == "variable":
        return node._replace(name="?") if node.name == name else node
    return node._replace(args=tuple(_renamed(part, name) for part in node.args))


def _compare_based(gold: Based, answer: Based, _: Options) -> Comparison:
    if gold == answer:
        return Comparison(SAME, "base")
    return Comparison(DIFFERENT if gold.base == answer.base else UNLIKE, "base")


def _compare_equations(gold: Equation, answer: Equation, options: Options) -> Comparison:
    """The same equation, perhaps with its sides exchanged or all signs turned; a multiple of it only if algebra says so."""
    one, other = (Node("add", (form.left, Node("neg", (form.right,)))) for form in (gold, answer))
    is_same = any(sampling.compare(side, other).outcome is SAME for side in (one, Node("neg", (one,))))
    return Comparison(SAME if is_same else UNLIKE if options.is_reduced else UNKNOWN, "equation")


# --------------------------------------------------------------------------- groups


def _all_of(found: list[Comparison], rule: str) -> Comparison:
    """The comparison of wholes whose parts, one by one, compare like this."""
    for outcome in (DIFFERENT, UNLIKE):
        if any(comparison.outcome is outcome for comparison in found):
            return Comparison(outcome, rule)
    unknown = [comparison for comparison in found if comparison.outcome is UNKNOWN]
    if not unknown:
        return Comparison(SAME, rule)
    questions = tuple(question for comparison in unknown for question in comparison.questions)
    return Comparison(UNKNOWN, rule, questions if all(comparison.questions for comparison in unknown) else ())


def _in_order(gold: Group, answer: Group, rule: str, options: Options) -> Comparison:
    """Item by item."""
    if len(gold.items) != len(answer.items):
        return Comparison(DIFFERENT if is_constant(gold) and is_constant(answer) else UNLIKE, rule)
    return _all_of([_compare(one, other, options) for one, other in zip(gold.items, answer.items, strict=True)], rule)


def _in_any_order(gold: Group, answer: Group, options: Options) -> Comparison:
    """Every item of one has its like in the other; an item may be repeated."""
    table = [[_compare(one, other, options) for other in answer.items] for one in gold.items]
    lines = [*table, *(list(column) for column in zip(*table, strict=True))]
    if all(any(cell.outcome is SAME for cell in line) for line in lines):
        return Comparison(SAME, "set")
    for outcomes in ({DIFFERENT}, {DIFFERENT, UNLIKE}):
        if any(all(cell.outcome in outcomes for cell in line) for line in lines):
            return Comparison(DIFFERENT if outcomes == {DIFFERENT} else UNLIKE, "set")
    return _one_left(table)


def _one_left(table: list[list[Comparison]]) -> Comparison:
    """If a single pair of items remains that nothing has matched, that pair is the question."""
    rows = [row for row, line in enumerate(table) if not any(cell.outcome is SAME for cell in line)]
    columns = [column for column in range(len(table[0])) if not any(line[column].outcome is SAME for line in table)]
    if len(rows) == len(columns) == 1:
        return table[rows[0]][columns[0]]._replace(rule="set")
    return Comparison(UNKNOWN, "set")


def _compare_groups(gold: Group, answer: Group, options: Options) -> Comparison:
    """Lists and sets in any order unless the order counts; tuples in order; intervals with their brackets."""
    if all(group.opening in ("", r"\{") for group in (gold, answer)):
        return _compare_lists(gold, answer, options)
    if r"\{" in (gold.opening, answer.opening):
        return Comparison(UNLIKE, "set")
    if gold.variable and answer.variable and gold.variable != answer.variable:
        return Comparison(UNLIKE, "name")
    found = _in_order(gold, answer, "tuple", options)
    if not gold.opening or not answer.opening:
        is_permuted = found.outcome is DIFFERENT and _in_any_order(gold, answer, options).outcome is not DIFFERENT
        return Comparison(UNLIKE, "tuple") if is_permuted else found
    has_same_brackets = (gold.opening, gold.closing) == (answer.opening, answer.closing)
    if len(gold.items) != 2 or has_same_brackets or found.outcome is DIFFERENT:
        return found
    is_certain = found.outcome is SAME and any(_is_interval(group) for group in (gold, answer))
    return Comparison(DIFFERENT if is_certain else UNLIKE, "interval")


def _is_interval(group: Group) -> bool:
    """Whether a pair can be nothing but an interval."""
    return bool(group.variable) or (group.opening, group.closing) in (("(", "]"), ("[", ")"))


def _compare_lists(gold: Group, answer: Group, options: Options) -> Comparison:
    """By names where both have them; in order where the order counts; else in any order."""
    names = [_item_names(group) for group in (gold, answer)]
    if names[0] and names[1]:
        if sorted(names[0]) != sorted(names[1]):
            return Comparison(UNLIKE, "names")
        by_name = dict(zip(names[1], answer.items, strict=True))
        return _in_order(gold, answer._replace(items=tuple(by_name[name] for name in names[0])), "names", options)
    found = _in_any_order(gold, answer, options)
    if found.outcome is DIFFERENT or not (names[0] or names[1] or options.is_ordered or _has_order(gold)):
        return found
    in_order = _in_order(gold, answer, "list", options)
    is_lost = in_order.outcome is DIFFERENT or (in_order.outcome is UNKNOWN and not in_order.questions)
    return Comparison(UNLIKE, "list") if is_lost else in_order


def _item_names(group: Group) -> list[str]:
    """The names of the items where each has one of its own; roots called x_1 and x_2 are not told apart by it."""
    names = [item.name for item in group.items if isinstance(item, Value | Group)]
    plain = {re.sub(r"_.*|\(.*", "", name) for name in names}
    return names if len(names) == len(group.items) == len(plain) > 1 and all(names) else []


def _has_order(gold: Group) -> bool:
    """Whether a bare list of numbers seems to answer several questions in turn.

    Who lists a set of solutions sorts it, by value or by size, and repeats none. A list that does neither names
    quantities in the order in which the problem asks for them.
    """
    numbers = [formulas.literal(item.node) if isinstance(item, Value) else None for item in gold.items]
    known = [number for number in numbers if number is not None]
    if gold.opening or len(known) < len(numbers) or len(known) < 2:
        return False
    sizes = [abs(number) for number in known]
    is_sorted = any(row in (sorted(row), sorted(row, reverse=True)) for row in (known, sizes))
    return not is_sorted or len(set(known)) < len(known)


def _compare_with_group(group: Group, other: Form, options: Options, compare_item: Callable[[Form], Comparison]) -> Comparison:
    """A group with something else: a set or list of one is its item; else they differ if both are constant."""
    if isinstance(other, Opaque):
        return Comparison(UNKNOWN, "kind")
    if isinstance(other, Union):
        return Comparison(DIFFERENT if is_constant(group) and is_constant(other) else UNLIKE, "interval")
    if group.opening in ("", r"\{"):
        found = [compare_item(item) for item in group.items]
        if len(found) == 1:
            return found[0]
        # All the same, or the value asked for among others by name: more than asked, but not wrong.
        is_named = bool(_item_names(group)) and any(comparison.outcome is SAME for comparison in found)
        if is_named or not any(comparison.outcome is DIFFERENT for comparison in found):
            return Comparison(UNLIKE, "set")
    # A named value may be a coordinate, told one by one.
    is_certain = isinstance(other, Value) and not other.name and is_constant(group) and is_constant(other)
    return Comparison(DIFFERENT if is_certain else UNLIKE, "kind")


def _compare_unions(gold: Union, answer: Union, options: Options) -> Comparison:
    """Unions piece by piece, in any order."""
    if len(gold.pieces) != len(answer.pieces):
        return Comparison(UNLIKE, "interval")
    return _in_any_order(Group(gold.pieces), Group(answer.pieces), options)._replace(rule="interval")


def _compare_matrices(gold: Matrix, answer: Matrix, options: Options) -> Comparison:
    shapes = [[len(row) for row in matrix.rows] for matrix in (gold, answer)]
    if shapes[0] != shapes[1]:
        return Comparison(DIFFERENT if is_constant(gold) and is_constant(answer) else UNLIKE, "matrix")
    pairs = [pair for rows in zip(gold.rows, answer.rows, strict=True) for pair in zip(*rows, strict=True)]
    return _all_of([_compare(one, other, options) for one, other in pairs], "matrix")


_SAME_KIND: dict[type, Callable[[Any, Any, Options], Comparison]] = {
    Value: _compare_values,
    Based: _compare_based,
    Union: _compare_unions,
    Matrix: _compare_matrices,
    Equation: _compare_equations,
}
