"""Formulas: LaTeX or plain arithmetic, read into a small tree and compared by value. Nothing is ever run as code.

A formula is evaluated exactly, in fractions, where it is rational, and else to 80 digits, at fixed values of its variables.
Whatever the grammar does not know, or reads in two ways, is no formula.
"""

import re
from collections.abc import Iterator
from enum import Enum
from fractions import Fraction
from functools import lru_cache
from math import comb, factorial, isqrt
from typing import Any, NamedTuple

MOST_CHARACTERS = 2000
_MOST_DEPTH = 60
_MOST_BITS = 50_000  # of a number; a power or factorial beyond is not computed
_MOST_FACTORIAL = 5_000


class Outcome(Enum):
    """What comparing two answers found."""

    SAME = "same"
    DIFFERENT = "different"  # both fully understood
    UNLIKE = "unlike"  # algebra cannot make them equal, but rounding or the problem's wording might
    UNKNOWN = "unknown"


class Finding(NamedTuple):
    """An outcome and the rule that found it."""

    outcome: Outcome
    rule: str = ""


class Node(NamedTuple):
    """A formula: an operation with arguments, a number (`value`, with its count of decimals) or a named quantity."""

    op: str
    args: "tuple[Node, ...]" = ()
    name: str = ""
    value: Fraction = Fraction(0)
    decimals: int = -1  # -1: written without a decimal point
    digits: int = 0


class _NotAFormulaError(ValueError):
    """The text is not in the grammar, or could be read in two ways."""


class _OutOfReachError(ArithmeticError):
    """A value too large to compute, not a real or complex number, or not known."""


# --------------------------------------------------------------------------- reading

_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4}(?![0-9.]))?)"
    r"|(?P<command>\\[A-Za-z]+)|(?P<word>[A-Za-z]+)|(?P<symbol>\^\\circ(?![A-Za-z])|[-+*/^_!|(){}\[\]]))"
)
_TRIGONOMETRIC = ("sin", "cos", "tan", "cot", "sec", "csc")
_FUNCTIONS = {
    *_TRIGONOMETRIC,
    *(f"arc{name}" for name in _TRIGONOMETRIC),
    *("sinh", "cosh", "tanh", "ln", "log", "lg", "exp"),
}
_CONSTANTS = {"pi": "pi", "e": "e", "i": "i", "infty": "inf"}
_GREEK = set(
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi rho sigma tau upsilon phi chi psi omega"
    " Gamma Delta Theta Lambda Xi Sigma Phi Psi Omega".split()
)
_TIMES = {"*", r"\cdot", r"\times"}
_OVER = {"/", r"\div"}
_NOT_A_PRODUCT = set("all and any are but for has its not now odd one the two was yes if in is no of on or so to we".split())
_CLOSING = {"(": ")", "[": "]", "{": "}", r"\lfloor": r"\rfloor", r"\lceil": r"\rceil"}
_GROUPS = {"(": "", "[": "", "{": "", r"\lfloor": "floor", r"\lceil": "ceil"}


class _Parser:
    """Recursive descent over the tokens of one formula."""

    def __init__(self, text: str) -> None:
        self.tokens: list[tuple[str, str]] = []
        self.at = 0
        self.depth = 0
        self.bars = 0
        position, end = 0, len(text.rstrip())
        while position < end:
            match = _TOKEN.match(text, position)
            if match is None or match.lastgroup is None:
                raise _NotAFormulaError
            self.tokens.append((match.lastgroup, match[match.lastgroup]))
            position = match.end()

    def peek(self) -> tuple[str, str]:
        """The next token, or an empty one at the end."""
        return self.tokens[self.at] if self.at < len(self.tokens) else ("", "")

    def take(self, *wanted: str) -> str:
        """Consume and return the next token if it is one of `wanted`, else return nothing."""
        text = self.peek()[1]
        if text and text in wanted:
            self.at += 1
            return text
        return ""

    def need(self, wanted: str) -> None:
        """Consume `wanted` or give up."""
        if not self.take(wanted):
            raise _NotAFormulaError

    def whole(self) -> Node:
        """The formula that the whole text is."""
        node = self.sum()
        if self.at != len(self.tokens):
            raise _NotAFormulaError
        return node

    def sum(self) -> Node:
        """Terms with signs between them."""
        self.depth += 1
        if self.depth > _MOST_DEPTH:
            raise _NotAFormulaError
        terms = [self.signed_term(self.take("+", "-"))]
        while sign := self.take("+", "-"):
            terms.append(self.signed_term(sign))
        self.depth -= 1
        return terms[0] if len(terms) == 1 else Node("add", tuple(terms))

    def signed_term(self, sign: str) -> Node:
        """A term, negated after a minus."""
        term = self.term()
        return Node("neg", (term,)) if sign == "-" else term

    def term(self) -> Node:
        """Products and quotients. What follows a slash must be one factor: 1/2x is read both ways."""
        left, _ = self.factors()
        while operator := self.take(*_TIMES, *_OVER):
            is_negative = operator in _TIMES and self.take("-")
            right, count = self.factors()
            if operator in _OVER:
                if count > 1:
                    raise _NotAFormulaError
                left = Node("div", (left, right))
            else:
                left = Node("mul", (left, Node("neg", (right,)) if is_negative else right))
        return left

    def factors(self) -> tuple[Node, int]:
        """Factors written side by side, and how many."""
        found = [self.power()]
        while self.starts_factor():
            found.append(self.power())
        return (found[0] if len(found) == 1 else Node("mul", tuple(found))), len(found)

    def starts_factor(self) -> bool:
        """Whether the next token can begin a factor that follows another."""
        kind, text = self.peek()
        if kind == "command":
            return text not in _TIMES | _OVER and text not in _CLOSING.values()
        return kind == "word" or text in ("(", "[", "{") or (text == "|" and not self.bars)

    def power(self) -> Node:
        """A factor, perhaps with an exponent."""
        base = self.postfix()
        if not self.take("^"):
            return base
        power = Node("pow", (base, self.exponent()))
        if self.peek()[1] in ("^", "!", "^\\circ"):
            raise _NotAFormulaError
        return power

    def exponent(self) -> Node:
        """A group, a signed number, or a single sign."""
        if self.take("{"):
            return self.group("{")
        if self.take("-"):
            return Node("neg", (self.exponent(),))
        kind, text = self.peek()
        if kind == "number":
            self.at += 1
            return _number(text)
        return self.group("(") if self.take("(") else self.single()

    def postfix(self) -> Node:
        """A primary with factorial or degree signs behind it."""
        node = self.primary()
        while sign := self.take("!", "^\\circ"):
            if sign == "!" and self.peek()[1] == "!":
                raise _NotAFormulaError
            node = Node("factorial" if sign == "!" else "degree", (node,))
        return node

    def group(self, opening: str) -> Node:
        """What stands between `opening`, already consumed, and its counterpart."""
        bars, self.bars = self.bars, 0
        node = self.sum()
        self.bars = bars
        self.need(_CLOSING[opening])
        return Node(_GROUPS[opening], (node,)) if _GROUPS[opening] else node

    def primary(self) -> Node:
        """A number, a name, a group, a fraction, a root or a function."""
        kind, text = self.peek()
        self.at += 1
        if kind == "number":
            return self.mixed(text)
        if kind == "word":
            return self.word(text)
        if text == "|":
            self.bars += 1
            node = self.sum()
            self.bars -= 1
            self.need("|")
            return Node("abs", (node,))
        if text in _GROUPS:
            return self.group(text)
        if kind == "command":
            return self.command(text[1:])
        raise _NotAFormulaError

    def mixed(self, text: str) -> Node:
        r"""A number; with a proper fraction right behind it, as in 1\frac{1}{2} or 1 1/2, a mixed number."""
        whole = _number(text)
        start = self.at
        top = bottom = None
        if text.isdigit() and self.take(r"\frac"):
            top, bottom = self.argument(), self.argument()
        elif text.isdigit() and self.peek()[0] == "number":
            top, bottom = self.single(), self.single() if self.take("/") else None
        if top is None:
            return whole
        if bottom is not None and top.op == bottom.op == "number" and top.value < bottom.value and top.decimals == bottom.decimals == -1:
            return Node("number", value=whole.value + top.value / bottom.value, digits=whole.digits)
        if bottom is not None and top.op == bottom.op == "number" or self.tokens[start][0] == "number":
            raise _NotAFormulaError  # 2\frac{3}{2}: a product or a slip
        self.at = start
        return whole

    def single(self) -> Node:
        """One number, name or command without a sign."""
        kind, text = self.peek()
        self.at += 1
        if kind == "number":
            return _number(text)
        if kind == "word":
            return self.word(text)
        if kind == "command" and text[1:] in _GREEK | _CONSTANTS.keys() | {"frac", "sqrt"}:
            return self.command(text[1:])
        raise _NotAFormulaError

    def argument(self) -> Node:
        r"""A group in braces, or one sign: `\frac12` is a half."""
        if self.take("{"):
            return self.group("{")
        kind, text = self.peek()
        if kind == "number" and len(text) > 1:
            if not text.isdigit():
                raise _NotAFormulaError
            self.tokens[self.at] = ("number", text[1:])
            return _number(text[0])
        return self.single()

    def word(self, text: str) -> Node:
        """A function or constant of that name, else the first letter as a variable; the others follow as factors."""
        if text in _FUNCTIONS:
            return self.function(text)
        if text in ("sqrt", "binom"):
            return self.command(text)
        if text == "pi":
            return Node("constant", name="pi")
        if len(text) > 3 or text.lower() in _NOT_A_PRODUCT:
            raise _NotAFormulaError
        if len(text) > 1:
            self.at -= 1
            self.tokens[self.at] = ("word", text[1:])
            return self.letter(text[0])
        return self.letter(text, self.subscript())

    def letter(self, text: str, subscript: str = "") -> Node:
        """A variable or a constant; a letter that usually names a function must not stand before a bracket."""
        if not subscript and text in _CONSTANTS:
            return Node("constant", name=_CONSTANTS[text])
        if text in "fghFGPQ" and self.peek()[1] == "(":
            raise _NotAFormulaError
        return Node("variable", name=text + subscript)

    def subscript(self) -> str:
        """The text of a subscript, if there is one."""
        if not self.take("_"):
            return ""
        start = self.at
        if self.take("{"):
            while not self.take("}"):
                if self.peek()[1] in ("", "{"):
                    raise _NotAFormulaError
                self.at += 1
            return "_" + "".join(text for _, text in self.tokens[start + 1 : self.at - 1])
        kind, text = self.peek()
        if kind not in ("number", "word", "command"):
            raise _NotAFormulaError
        if len(text) > 1 and kind != "command":  # TeX takes one sign
            self.tokens[self.at] = (kind, text[1:])
            if kind == "number":
                raise _NotAFormulaError
            return "_" + text[0]
        self.at += 1
        return "_" + text

    def command(self, name: str) -> Node:
        """The formula that a LaTeX command, already consumed, begins."""
        if name == "frac":
            return Node("div", (self.argument(), self.argument()))
        if name == "binom":
            return Node("binomial", (self.argument(), self.argument()))
        if name == "sqrt":
            return self.root()
        if name in _FUNCTIONS:
            return self.function(name)
        if name in _CONSTANTS:
            return Node("constant", name=_CONSTANTS[name])
        if name in _GREEK:
            return Node("variable", name=name + self.subscript())
        raise _NotAFormulaError

    def root(self) -> Node:
        """A root's index, if any, and radicand."""
        index = self.group("[") if self.take("[") else _number("2")
        if self.take("("):
            return Node("root", (self.group("("), index))
        kind, text = self.peek()
        if kind == "number" and len(text) > 1:
            raise _NotAFormulaError  # TeX takes the first digit only, people mean all
        return Node("root", (self.argument(), index))

    def function(self, name: str) -> Node:
        """A function with its power, base and argument; without brackets the argument is short."""
        base = self.log_base() if name == "log" else None
        power = self.exponent() if self.take("^") else None
        if base is None and name == "log":
            base = self.log_base()
        if power == Node("neg", (_number("1"),)) and name in _TRIGONOMETRIC:
            name, power = f"arc{name}", None
        argument = self.function_argument()
        args = (argument,) if base is None else (argument, base)
        node = Node("function", args, name)
        return node if power is None else Node("pow", (node, power))

    def log_base(self) -> Node | None:
        """The base of a logarithm, if it is written."""
        return self.argument() if self.take("_") else None

    def function_argument(self) -> Node:
        r"""A group; or a number, letters and powers of them, as in `\sin 2x`; or a single fraction or root."""
        for opening in ("(", "{", "["):
            if self.take(opening):
                return self.group(opening)
        kind, text = self.peek()
        if kind == "command" and text[1:] not in _GREEK | _CONSTANTS.keys():
            if text not in (r"\frac", r"\sqrt"):
                raise _NotAFormulaError
            found = [self.postfix()]
        else:
            found = [self.power()]
            while self.peek()[0] == "word" and self.peek()[1] not in _FUNCTIONS or self.peek()[1][1:] in _GREEK | {"pi"}:
                found.append(self.power())
        if self.peek()[1] in _OVER | {"(", "!"} and found[-1].op != "degree":
            raise _NotAFormulaError
        return found[0] if len(found) == 1 else Node("mul", tuple(found))


def _number(text: str) -> Node:
    """A literal number."""
    mantissa = re.split("[eE]", text)[0]
    digits = len(mantissa.replace(".", "").lstrip("0"))
    decimals = len(mantissa.partition(".")[2]) if "." in mantissa else -1
    return Node("number", value=Fraction(text), decimals=decimals, digits=digits)


@lru_cache(4096)
def read(text: str) -> Node | None:
    """The formula that a cleaned text is, or None."""
    if not text or len(text) > MOST_CHARACTERS:
        return None
    try:
        return _Parser(text).whole()
    except _NotAFormulaError:
        return None


# --------------------------------------------------------------------------- values


def _walk(node: Node) -> Iterator[Node]:
    yield node
    for part in node.args:
        yield from _walk(part)


@lru_cache(4096)
def variables(node: Node) -> frozenset[str]:
    """The names of the variables in a formula."""
    return frozenset(part.name for part in _walk(node) if part.op == "variable")


def literal(node: Node) -> Fraction | None:
    """The value of a number as it is written: an integer, a decimal, a fraction of such, perhaps negative."""
    if node.op == "number":
        return node.value
    if node.op == "neg":
        value = literal(node.args[0])
        return None if value is None else -value
    if node.op == "div" and all(part.op in ("number", "neg") for part in node.args):
        top, bottom = (literal(part) for part in node.args)
        return top / bottom if top is not None and bottom else None
    return None


Values = dict[str, Fraction]


def exact(node: Node, values: Values) -> Fraction | None:
    """The value as a fraction; None if it is irrational or unknown. Raises `ArithmeticError` where there is none."""
    if node.op == "number":
        return node.value
    if node.op == "variable":
        return values[node.name]
    if node.op in ("constant", "function", "degree"):
        return None
    parts = [exact(part, values) for part in node.args]
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    result = _EXACT[node.op](*known)
    if result is not None and max(result.numerator.bit_length(), result.denominator.bit_length()) > _MOST_BITS:
        raise _OutOfReachError
    return result


def _add(*parts: Fraction) -> Fraction:
    return sum(parts, Fraction(0))


def _mul(*parts: Fraction) -> Fraction:
    product = Fraction(1)
    for part in parts:
        product *= part
    return product


def _pow(base: Fraction, exponent: Fraction) -> Fraction | None:
    if exponent.denominator != 1:
        return None
    size = max(base.numerator.bit_length(), base.denominator.bit_length())
    if base not in (0, 1, -1) and abs(exponent) * size > _MOST_BITS:
        raise _OutOfReachError
    if base in (1, -1):
        return base ** (int(exponent) % 2)
    return base ** int(exponent)


def _root(radicand: Fraction, index: Fraction) -> Fraction | None:
    if index != 2 or radicand < 0:
        return None
    top, bottom = isqrt(radicand.numerator), isqrt(radicand.denominator)
    return Fraction(top, bottom) if top * top == radicand.numerator and bottom * bottom == radicand.denominator else None


def _factorial(n: Fraction) -> Fraction:
    if n.denominator != 1 or not 0 <= n <= _MOST_FACTORIAL:
        raise _OutOfReachError
    return Fraction(factorial(int(n)))


def _binomial(n: Fraction, k: Fraction) -> Fraction:
    if n.denominator != 1 or k.denominator != 1 or n < 0 or k < 0 or min(k, abs(n - k)) * int(n).bit_length() > _MOST_BITS:
        raise _OutOfReachError
    return Fraction(comb(int(n), int(k)))


_EXACT: dict[str, Any] = {
    "add": _add,
    "neg": lambda part: -part,
    "mul": _mul,
    "div": lambda top, bottom: top / bottom,
    "pow": _pow,
    "root": _root,
    "abs": abs,
    "floor": lambda part: Fraction(part.__floor__()),
    "ceil": lambda part: Fraction(part.__ceil__()),
    "factorial": _factorial,
    "binomial": _binomial,
}

_DIGITS = 80
_SAME_BITS = 166  # 50 digits
_DIFFERENT_BITS = 60
_CANCELLED_BITS = 60  # a result this far below what it was computed from has too few digits left
_MOST_MAGNITUDE = 12_000
_SAFE_MAGNITUDE = 130  # beyond 10^±39, 80 digits may not hold what tells two values apart


class _Numeric:
    """Evaluates one formula to 80 digits and keeps the range of magnitudes it met."""

    def __init__(self, values: Values, log_base: int) -> None:
        self.mp = _context()
        self.values = values
        self.log_base = log_base
        self.largest = -_MOST_MAGNITUDE
        self.is_safe = True

    def value(self, node: Node) -> Any:
        """The value, or an `ArithmeticError`."""
        known = exact(node, self.values) if node.op in ("floor", "ceil", "factorial", "binomial") else None
        if known is not None:
            result = self.fraction(known)
        elif node.op in ("number", "variable"):
            result = self.fraction(node.value if node.op == "number" else self.values[node.name])
        elif node.op == "constant":
            if node.name == "inf":
                raise _OutOfReachError
            result = {"pi": self.mp.pi, "e": self.mp.e, "i": self.mp.mpc(0, 1)}[node.name] * 1
        else:
            result = self.apply(node, [self.value(part) for part in node.args])
        if not self.mp.isfinite(result):
            raise _OutOfReachError
        if result:
            magnitude = int(self.mp.mag(result))
            if abs(magnitude) > _MOST_MAGNITUDE:
                raise _OutOfReachError
            self.largest = max(self.largest, magnitude)
            self.is_safe &= abs(magnitude) <= _SAFE_MAGNITUDE
        return result

    def fraction(self, value: Fraction) -> Any:
        """A fraction as a number of the context."""
        if max(value.numerator.bit_length(), value.denominator.bit_length()) > _MOST_MAGNITUDE:
            raise _OutOfReachError
        return self.mp.mpf(value.numerator) / value.denominator

    def apply(self, node: Node, parts: list[Any]) -> Any:
        """One operation on values."""
        mp = self.mp
        if node.op == "add":
            return mp.fsum(parts)
        if node.op == "mul":
            return mp.fprod(parts)
        if node.op == "neg":
            return -parts[0]
        if node.op == "div":
            return parts[0] / parts[1]
        if node.op == "pow":
            return self.power(parts[0], parts[1])
        if node.op == "root":
            return self.root(parts[0], parts[1])
        if node.op == "abs":
            return abs(parts[0])
        if node.op == "degree":
            return parts[0] * mp.pi / 180
        if node.op in ("floor", "ceil"):
            return self.rounded(parts[0], node.op)
        if node.op == "function":
            return self.function(node.name, parts)
        raise _OutOfReachError

    def power(self, base: Any, exponent: Any) -> Any:
        """A power; of a negative number only with a whole exponent, since the real and the principal root differ."""
        if not base:
            if self.mp.re(exponent) <= 0:
                raise _OutOfReachError
            return base
        if abs(exponent) * (abs(self.mp.mag(base)) + 1) > _MOST_MAGNITUDE:
            raise _OutOfReachError
        if self.mp.im(base) == 0 and self.mp.re(base) < 0 and not self.mp.isint(exponent):
            raise _OutOfReachError
        return base**exponent

    def root(self, radicand: Any, index: Any) -> Any:
        """The principal square root, or the real root with an odd index."""
        if not self.mp.isint(index) or not 2 <= self.mp.re(index) <= 1000:
            raise _OutOfReachError
        n = int(self.mp.re(index))
        if n > 2 and (self.mp.im(radicand) != 0 or (self.mp.re(radicand) < 0 and n % 2 == 0)):
            raise _OutOfReachError
        if self.mp.re(radicand) < 0 and n % 2 == 1:
            return -self.mp.root(-radicand, n)
        return self.mp.root(radicand, n)

    def rounded(self, value: Any, op: str) -> Any:
        """Floor or ceiling of a real number that is clearly not a whole one."""
        if self.mp.im(value) != 0 or abs(value - self.mp.nint(value)) < self.mp.mpf(2) ** -_DIFFERENT_BITS:
            raise _OutOfReachError
        return self.mp.floor(value) if op == "floor" else self.mp.ceil(value)

    def function(self, name: str, parts: list[Any]) -> Any:
        """A function of real or complex numbers; `log` without a base has the base that is being tried."""
        mp, argument = self.mp, parts[0]
        if name in ("ln", "log", "lg"):
            if not argument:
                raise _OutOfReachError
            base = parts[1] if len(parts) > 1 else mp.e if name == "ln" or not self.log_base else mp.mpf(self.log_base)
            return mp.log(argument) / mp.log(base)
        if name == "exp" and abs(argument) > _MOST_MAGNITUDE:
            raise _OutOfReachError
        return getattr(mp, {"exp": "exp"}.get(name, name.replace("arc", "a")))(argument)


@lru_cache(1)
def _context() -> Any:
    import mpmath

    context = mpmath.mp.clone()
    context.dps = _DIGITS
    return context


# --------------------------------------------------------------------------- comparing


def compare(gold: Node, answer: Node) -> Finding:
    """How two formulas relate, by their values; `rule` is `number`, `float`, `value` or `identity`."""
    numbers = literal(gold), literal(answer)
    if numbers[0] is not None and numbers[1] is not None:
        return _compare_numbers(gold, answer, numbers[0], numbers[1])
    infinite = [_infinity(node) for node in (gold, answer)]
    if any(infinite):
        return _compare_infinite(gold, answer, infinite)
    has_variables = bool(variables(gold) | variables(answer))
    is_log = any(part.op == "function" and part.name in ("log", "lg") and len(part.args) == 1 for node in (gold, answer) for part in _walk(node))
    found = {_compare_values(gold, answer, log_base) for log_base in ((0, 10) if is_log else (0,))}
    outcome = found.pop() if len(found) == 1 else Outcome.UNKNOWN
    if outcome is Outcome.DIFFERENT and variables(gold) != variables(answer):
        outcome = Outcome.UNLIKE
    return Finding(outcome, "identity" if has_variables else "value")


def _compare_numbers(gold: Node, answer: Node, one: Fraction, other: Fraction) -> Finding:
    if one == other:
        return Finding(Outcome.SAME, "number")
    if _is_float_of(gold, one, other) or _is_float_of(answer, other, one):
        return Finding(Outcome.SAME, "float")
    return Finding(Outcome.UNLIKE if _is_rounding(gold, answer, one, other) else Outcome.DIFFERENT, "number")


def _unsigned(node: Node) -> Node:
    return node.args[0] if node.op == "neg" else node


def _is_float_of(node: Node, value: Fraction, exact_value: Fraction) -> bool:
    """Whether a number is the printed double-precision value of another one."""
    return _unsigned(node).decimals >= 1 and 14 <= _unsigned(node).digits <= 20 and abs(value - exact_value) * 10**13 <= abs(exact_value)


def _is_rounding(gold: Node, answer: Node, one: Fraction, other: Fraction) -> bool:
    """Whether a decimal is so near that rounding may explain the difference."""
    decimals = [_unsigned(node).decimals for node in (gold, answer) if _unsigned(node).decimals >= 1]
    if not decimals:
        return False
    gap = abs(one - other)
    return 200 * gap <= max(abs(one), abs(other)) or gap * 2 * 10 ** min(decimals) <= 1


def _infinity(node: Node) -> int:
    """1 or -1 for an infinity, else 0."""
    if node.op == "neg":
        return -_infinity(node.args[0])
    return int(node.op == "constant" and node.name == "inf")


def _compare_infinite(gold: Node, answer: Node, signs: list[int]) -> Finding:
    if signs[0] == signs[1]:
        return Finding(Outcome.SAME, "value")
    is_known = all(sign or not variables(node) for sign, node in zip(signs, (gold, answer), strict=True))
    return Finding(Outcome.DIFFERENT if is_known else Outcome.UNLIKE, "value")


def _needs_integers(node: Node) -> bool:
    """Whether the formula is meant for whole numbers: floors, factorials, alternating signs."""
    return any(
        part.op in ("floor", "ceil", "factorial", "binomial")
        or (part.op == "pow" and variables(part.args[1]) and not variables(part.args[0]) and (literal(part.args[0]) or 1) < 0)
        for part in _walk(node)
    )


def _points(names: list[str], integers: bool) -> list[Values]:
    """Values for the variables: where whole numbers are meant the first forty, else positive, small and negative ones."""
    if not names:
        return [{}]
    if integers:
        return [{name: Fraction((step * (2 * index + 1) + 5 * index) % 41 + 1) for index, name in enumerate(names)} for step in range(40)]
    primes = (53, 31, 47, 11, 43, 17, 37, 59, 29, 13, 41, 23, 61, 19, 67, 71)
    chosen = [[primes[(5 * index + 3 * step) % len(primes)] + 2 * (index // len(primes)) for index in range(len(names))] for step in range(7)]
    scales = [Fraction(1, size) for size in (1, 7, 3, 101, -1, -10, -102)]
    return [dict(zip(names, (scale * value for value in row), strict=True)) for scale, row in zip(scales, chosen, strict=True)]


def _compare_values(gold: Node, answer: Node, log_base: int) -> Outcome:
    """Compare at the sample points; formulas that agree at some and not at others are not decided."""
    names = sorted(variables(gold) | variables(answer))
    integers = _needs_integers(gold) or _needs_integers(answer)
    has_decimal = any(part.decimals >= 1 for node in (gold, answer) for part in _walk(node))
    found: list[Outcome] = []
    for values in _points(names, integers):
        try:
            outcome = _compare_at(gold, answer, values, log_base, has_decimal)
        except (ArithmeticError, ValueError):
            continue
        if outcome is Outcome.UNKNOWN:
            return outcome
        found.append(outcome)
        if Outcome.SAME in found and len(set(found)) > 1:
            # As functions of whole numbers they differ; elsewhere it may hang on a sign or a branch.
            return Outcome.UNLIKE if integers else Outcome.UNKNOWN
    if not found or (names and len(found) < (3 if Outcome.SAME in found else 2)):
        return Outcome.UNKNOWN
    return Outcome.DIFFERENT if Outcome.DIFFERENT in found else found[0]


def _compare_at(gold: Node, answer: Node, values: Values, log_base: int, has_decimal: bool) -> Outcome:
    one, other = exact(gold, values), exact(answer, values)
    if one is not None and other is not None:
        if one == other:
            return Outcome.SAME
        is_near = has_decimal and 200 * abs(one - other) <= max(abs(one), abs(other))
        return Outcome.UNLIKE if is_near else Outcome.DIFFERENT
    left, right = _Numeric(values, log_base), _Numeric(values, log_base)
    a, b = left.value(gold), right.value(answer)
    if not a and not b:
        return Outcome.UNKNOWN
    mag = left.mp.mag
    size, gap = max(mag(part) for part in (a, b) if part), a - b
    if size < max(left.largest, right.largest) - _CANCELLED_BITS:
        return Outcome.UNKNOWN
    if not gap or mag(gap) < size - _SAME_BITS:
        return Outcome.SAME if left.is_safe and right.is_safe else Outcome.UNKNOWN
    if mag(gap) < size - _DIFFERENT_BITS:
        return Outcome.UNKNOWN
    if has_decimal and 200 * abs(gap) <= max(abs(a), abs(b)):
        return Outcome.UNLIKE
    return Outcome.DIFFERENT
