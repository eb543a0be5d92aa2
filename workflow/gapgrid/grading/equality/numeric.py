"""Formulas compared by value: in fractions where they are rational, else to 80 digits.

A formula with variables is compared at fixed values of them. Formulas that agree to 50 digits, or
exactly, everywhere are the same; those that differ everywhere by far more than the arithmetic's
error are different; all others are left open.
"""

import operator
from enum import Enum
from fractions import Fraction
from functools import lru_cache
from math import comb, factorial, isqrt, prod
from typing import Any, NamedTuple

from gapgrid.grading.equality.latex_parser import Node, literal, variables, walk


class Outcome(Enum):
    """How two formulas relate."""

    SAME = "same"
    DIFFERENT = "different"  # both fully understood
    UNLIKE = "unlike"  # algebra cannot make them equal, but rounding or the problem's wording might
    UNKNOWN = "unknown"


SAME, DIFFERENT, UNLIKE, UNKNOWN = Outcome.SAME, Outcome.DIFFERENT, Outcome.UNLIKE, Outcome.UNKNOWN


class Finding(NamedTuple):
    """An outcome and the rule that found it."""

    outcome: Outcome
    rule: str


Values = dict[str, Fraction]


class _OutOfReachError(ArithmeticError):
    """A value too large to compute, not a number, or not known."""


# --------------------------------------------------------------------------- exact values

_MOST_BITS = 30_000  # of a number; a power or factorial beyond is not computed
_MOST_FACTORIAL = 3_000


def exact(node: Node, values: Values) -> Fraction | None:
    """Return the value as a fraction; None if it is irrational or unknown.

    Raises `ArithmeticError` where there is none.
    """
    if node.op == "number":
        return node.value
    if node.op == "variable":
        return values[node.name]
    if node.op not in _EXACT:
        return None
    parts = []
    for argument in node.args:
        part = exact(argument, values)
        if part is None:
            return None
        parts.append(part)
    result: Fraction | None = _EXACT[node.op](*parts)
    if result is not None and _bits(result) > _MOST_BITS:
        raise _OutOfReachError
    return result


def _bits(value: Fraction) -> int:
    return max(value.numerator.bit_length(), value.denominator.bit_length())


def _power(base: Fraction, exponent: Fraction) -> Fraction | None:
    if exponent.denominator != 1:
        return None
    if base in (0, 1, -1):
        return base ** (int(exponent) % 2) if base else base ** int(exponent)
    if abs(exponent) * _bits(base) > _MOST_BITS:
        raise _OutOfReachError
    return base ** int(exponent)


def _root(radicand: Fraction, index: Fraction) -> Fraction | None:
    if index != 2 or radicand < 0:
        return None
    top, bottom = isqrt(radicand.numerator), isqrt(radicand.denominator)
    value = Fraction(top, bottom)
    return value if value * value == radicand else None


def _factorial(n: Fraction) -> Fraction:
    if n.denominator != 1 or not 0 <= n <= _MOST_FACTORIAL:
        raise _OutOfReachError
    return Fraction(factorial(int(n)))


def _binomial(n: Fraction, k: Fraction) -> Fraction:
    if n.denominator != 1 or k.denominator != 1 or n < 0 or k < 0:
        raise _OutOfReachError
    if min(k, abs(n - k)) * int(n).bit_length() > _MOST_BITS:
        raise _OutOfReachError
    return Fraction(comb(int(n), int(k)))


_EXACT: dict[str, Any] = {
    "add": lambda *parts: sum(parts, Fraction(0)),
    "neg": operator.neg,
    "mul": lambda *parts: prod(parts, start=Fraction(1)),
    "div": operator.truediv,
    "pow": _power,
    "root": _root,
    "abs": abs,
    "floor": lambda part: Fraction(part.__floor__()),
    "ceil": lambda part: Fraction(part.__ceil__()),
    "factorial": _factorial,
    "binomial": _binomial,
}

# --------------------------------------------------------------------------- values to 80 digits

_DIGITS = 80
_SAME_BITS = 166  # 50 digits
_DIFFERENT_BITS = 60
_CANCELLED_BITS = 60  # a result this far below what it was computed from has too few digits left
_FLOAT = 10**13  # what a double holds is surely right to one in this
_MOST_MAGNITUDE = 12_000
_SAFE_MAGNITUDE = 130  # beyond 10^±39, 80 digits may not hold what tells two values apart


@lru_cache(1)
def _context() -> Any:
    import mpmath

    context = mpmath.mp.clone()
    context.dps = _DIGITS
    return context


class _Numeric:
    """Evaluates one formula to 80 digits and keeps the range of magnitudes on the way.

    Raises an `ArithmeticError` where it cannot. `log` without a base has the base `log_base`, or e
    if that is 0.
    """

    def __init__(self, values: Values, log_base: int) -> None:
        self.mp = _context()
        self.values = values
        self.log_base = log_base
        self.largest = -_MOST_MAGNITUDE
        self.is_safe = True

    def value(self, node: Node) -> Any:
        """Return the value, if it is within the magnitudes that can be handled."""
        result = self.compute(node)
        if not self.mp.isfinite(result):
            raise _OutOfReachError
        if result:
            magnitude = int(self.mp.mag(result))
            if abs(magnitude) > _MOST_MAGNITUDE:
                raise _OutOfReachError
            self.largest = max(self.largest, magnitude)
            self.is_safe &= abs(magnitude) <= _SAFE_MAGNITUDE
        return result

    def compute(self, node: Node) -> Any:
        """Return the value of a number, a name or an operation."""
        if node.op in ("number", "variable", "factorial", "binomial"):
            return self.fraction(exact(node, self.values))
        if node.op == "constant":
            return self.constant(node.name)
        if node.op in ("floor", "ceil"):
            return self.rounded(node)
        parts = [self.value(part) for part in node.args]
        if node.op == "function":
            return self.function(node.name, *parts)
        if node.op in ("add", "mul"):
            return (self.mp.fsum if node.op == "add" else self.mp.fprod)(parts)
        return getattr(self, node.op)(*parts)

    neg = staticmethod(operator.neg)
    abs = staticmethod(operator.abs)
    div = staticmethod(operator.truediv)

    def fraction(self, value: Fraction | None) -> Any:
        """Return a fraction as a number of the context."""
        if value is None or _bits(value) > _MOST_MAGNITUDE:
            raise _OutOfReachError
        return self.mp.mpf(value.numerator) / value.denominator

    def constant(self, name: str) -> Any:
        """Return pi, e or i."""
        if name == "inf":
            raise _OutOfReachError
        return {"pi": +self.mp.pi, "e": +self.mp.e, "i": self.mp.mpc(0, 1)}[name]

    def degree(self, part: Any) -> Any:
        """Return an angle."""
        return part * self.mp.pi / 180

    def pow(self, base: Any, exponent: Any) -> Any:
        """Return a power; of a negative number only with a whole exponent.

        With another one, the real and the principal root differ.
        """
        if not base:
            if self.mp.re(exponent) <= 0:
                raise _OutOfReachError
            return base
        is_negative = self.mp.im(base) == 0 and self.mp.re(base) < 0
        if is_negative and not self.mp.isint(exponent):
            raise _OutOfReachError
        if abs(exponent) * (abs(self.mp.mag(base)) + 1) > _MOST_MAGNITUDE:
            raise _OutOfReachError
        return base**exponent

    def root(self, radicand: Any, index: Any) -> Any:
        """Return the principal square root, or the real root with an odd index."""
        if not self.mp.isint(index) or not 2 <= self.mp.re(index) <= 1000:
            raise _OutOfReachError
        n, is_negative = int(self.mp.re(index)), self.mp.re(radicand) < 0
        if n > 2 and (self.mp.im(radicand) != 0 or (is_negative and n % 2 == 0)):
            raise _OutOfReachError
        return -self.mp.root(-radicand, n) if is_negative and n % 2 else self.mp.root(radicand, n)

    def rounded(self, node: Node) -> Any:
        """Return floor or ceiling of a fraction, or of a real number that is clearly not whole."""
        rational = exact(node, self.values)
        if rational is not None:
            return self.fraction(rational)
        value = self.value(node.args[0])
        gap = value - self.mp.nint(value)
        if self.mp.im(value) != 0 or abs(gap) < self.mp.mpf(2) ** -_DIFFERENT_BITS:
            raise _OutOfReachError
        return self.mp.floor(value) if node.op == "floor" else self.mp.ceil(value)

    def function(self, name: str, argument: Any, base: Any = None) -> Any:
        """Return a function of a real or complex number."""
        if name in ("ln", "log", "lg"):
            if base is None:
                base = self.mp.mpf(self.log_base) if self.log_base and name != "ln" else +self.mp.e
            if not argument or base in (0, 1):
                raise _OutOfReachError
            return self.mp.log(argument) / self.mp.log(base)
        if name in ("exp", "sinh", "cosh") and abs(argument) > _MOST_MAGNITUDE / 2:
            raise _OutOfReachError
        return getattr(self.mp, name.replace("arc", "a"))(argument)


# --------------------------------------------------------------------------- written numbers


def _compare_numbers(gold: Node, answer: Node, value: Fraction, other: Fraction) -> Finding:
    """Compare numbers as they are written, with the values `value` and `other`."""
    if value == other:
        return Finding(SAME, "number")
    if _is_float_of(gold, value, other) or _is_float_of(answer, other, value):
        return Finding(SAME, "float")
    return Finding(UNLIKE if _is_rounding(gold, answer, value, other) else DIFFERENT, "number")


def _unsigned(node: Node) -> Node:
    return node.args[0] if node.op == "neg" else node


def _is_printed_float(node: Node) -> bool:
    """Return whether a number looks as a computer prints it in double precision."""
    node = _unsigned(node)
    return node.op == "number" and node.decimals >= 1 and 14 <= node.digits <= 20


def _is_float_of(node: Node, value: Fraction, other: Fraction) -> bool:
    return _is_printed_float(node) and abs(value - other) * _FLOAT <= abs(other)


def _agree_as_floats(gold: Node, answer: Node) -> bool:
    """Return whether formulas without variables agree to the digits of double precision."""
    try:
        value, other = (_Numeric({}, 0).value(node) for node in (gold, answer))
    except (ArithmeticError, ValueError, KeyError):
        return False
    return bool(abs(value - other) * _FLOAT <= abs(other))


def _is_rounding(gold: Node, answer: Node, value: Fraction, other: Fraction) -> bool:
    """Return whether one number may be the other, rounded to the decimals that it has.

    A whole number rounds only what is within 1 % of it.
    """
    written = [
        max(node.decimals, 0) for node in map(_unsigned, (gold, answer)) if node.op == "number"
    ]
    if not any(written):
        return False
    gap, coarsest = abs(value - other), min(written)
    is_near = coarsest > 0 or 100 * gap <= max(abs(value), abs(other))
    return gap * 2 * 10**coarsest <= 1 and is_near


def are_near(gold: Node, answer: Node) -> bool:
    """Return whether two formulas have rational values within 2 % of each other."""
    try:
        value, other = exact(gold, {}), exact(answer, {})
    except (ArithmeticError, KeyError):
        return False
    if value is None or other is None:
        return False
    return 50 * abs(value - other) <= max(abs(value), abs(other))


# --------------------------------------------------------------------------- formulas


def compare(gold: Node, answer: Node) -> Finding:
    """Compare two formulas; the rule is `number`, `float`, `value` (no variables) or `formula`."""
    value, other = literal(gold), literal(answer)
    if value is not None and other is not None:
        return _compare_numbers(gold, answer, value, other)
    signs = _infinity(gold), _infinity(answer)
    if any(signs):
        return _compare_infinite(gold, answer, signs)
    # Some write log for base 10, some for base e.
    log_bases = (0, 10) if _has_plain_log(gold, answer) else (0,)
    outcomes = {_compare_at_points(gold, answer, log_base) for log_base in log_bases}
    outcome = outcomes.pop() if len(outcomes) == 1 else UNKNOWN
    if outcome is DIFFERENT and variables(gold) != variables(answer):
        outcome = UNLIKE
    is_float = _is_printed_float(gold) or _is_printed_float(answer)
    if outcome is UNLIKE and is_float and _agree_as_floats(gold, answer):
        return Finding(SAME, "float")
    return Finding(outcome, "formula" if variables(gold) | variables(answer) else "value")


def _has_plain_log(*nodes: Node) -> bool:
    return any(
        part.op == "function" and part.name in ("log", "lg") and len(part.args) == 1
        for node in nodes
        for part in walk(node)
    )


def _infinity(node: Node) -> int:
    """Return 1 or -1 for an infinity, else 0."""
    if node.op == "neg":
        return -_infinity(node.args[0])
    return int(node.op == "constant" and node.name == "inf")


def _compare_infinite(gold: Node, answer: Node, signs: tuple[int, int]) -> Finding:
    if signs[0] == signs[1]:
        return Finding(SAME, "value")
    is_certain = all(
        sign or not variables(node) for sign, node in zip(signs, (gold, answer), strict=True)
    )
    return Finding(DIFFERENT if is_certain else UNLIKE, "value")


def _needs_integers(node: Node) -> bool:
    """Return whether a formula is meant for whole numbers: floors, factorials, changing signs."""
    for part in walk(node):
        if part.op in ("floor", "ceil", "factorial", "binomial") and variables(part):
            return True
        if part.op == "pow" and variables(part.args[1]) and (literal(part.args[0]) or 0) < 0:
            return True
    return False


_PRIMES = (53, 31, 47, 11, 43, 17, 37, 59, 29, 13, 41, 23, 61, 19, 67, 71)
_SCALES = [Fraction(1, divisor) for divisor in (1, 7, 3, 101, -1, -10, -102)]


def _points(names: list[str], needs_integers: bool) -> list[Values]:
    """Return values for the variables: whole numbers up to 41, or large and small ones."""
    if needs_integers:
        return [
            {
                name: Fraction((step * (2 * index + 1) + 5 * index) % 41 + 1)
                for index, name in enumerate(names)
            }
            for step in range(40)
        ]
    return [
        {
            name: scale * (_PRIMES[(5 * index + 3 * step) % 16] + 2 * (index // 16))
            for index, name in enumerate(names)
        }
        for step, scale in enumerate(_SCALES if names else [Fraction(1)])
    ]


def _compare_at_points(gold: Node, answer: Node, log_base: int) -> Outcome:
    """Compare at the sample points; what agrees at some and not at others is not decided."""
    names = sorted(variables(gold) | variables(answer))
    needs_integers = _needs_integers(gold) or _needs_integers(answer)
    has_decimal = any(part.decimals >= 1 for node in (gold, answer) for part in walk(node))
    outcomes: set[Outcome] = set()
    n_compared = 0
    for values in _points(names, needs_integers):
        try:
            outcomes.add(_compare_at(gold, answer, values, log_base, has_decimal))
        except (ArithmeticError, ValueError, RecursionError):
            continue  # not defined there, or out of reach
        n_compared += 1
        if UNKNOWN in outcomes:
            return UNKNOWN
        if SAME in outcomes and len(outcomes) > 1:
            # As functions of whole numbers, or of other variables, they differ; else it may hang
            # on a sign or a branch.
            is_unlike = needs_integers or variables(gold) != variables(answer)
            return UNLIKE if is_unlike else UNKNOWN
    if not names and not outcomes:
        return UNLIKE  # too large, or not defined
    if not outcomes or (names and n_compared < (3 if SAME in outcomes else 2)):
        return UNKNOWN
    return DIFFERENT if DIFFERENT in outcomes else outcomes.pop()


def _compare_at(
    gold: Node, answer: Node, values: Values, log_base: int, has_decimal: bool
) -> Outcome:
    value, other = exact(gold, values), exact(answer, values)
    if value is not None and other is not None:
        return SAME if value == other else _different(value, other, has_decimal)
    left, right = _Numeric(values, log_base), _Numeric(values, log_base)
    a, b = left.value(gold), right.value(answer)
    mag, gap, is_safe = left.mp.mag, a - b, left.is_safe and right.is_safe
    # Numbers too large for this arithmetic are too large for algebra.
    undecided = UNKNOWN if values or is_safe else UNLIKE
    same = SAME if is_safe else undecided
    if not a and not b:
        return same
    size = max(mag(part) for part in (a, b) if part)
    if size < max(left.largest, right.largest) - _CANCELLED_BITS:
        return undecided
    if not gap or mag(gap) < size - _SAME_BITS:
        return same
    if mag(gap) < size - _DIFFERENT_BITS:
        return undecided
    return _different(a, b, has_decimal)


def _different(value: Any, other: Any, has_decimal: bool) -> Outcome:
    """Return `UNLIKE` for values within 0.5 % of each other, one of which may be rounded."""
    is_near = has_decimal and 200 * abs(value - other) <= max(abs(value), abs(other))
    return UNLIKE if is_near else DIFFERENT
