"""The grammar of formulas: LaTeX or plain arithmetic, read into a small tree.

Nothing is ever run as code. What the grammar does not know, or what could be read in two ways, is
no formula.
"""

import re
from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from gapgrid.grading.equality.normalize import FUNCTIONS, GREEK, NO_PRODUCT
from gapgrid.grading.extract import MOST_CHARACTERS

_MOST_TOKENS = 300
_MOST_DEPTH = 40


class Node(NamedTuple):
    """A formula: an operation with arguments, a number or a named quantity.

    Of a number `decimals` is -1 if it is written without a point, `digits` counts all but leading
    zeros.
    """

    op: str
    args: "tuple[Node, ...]" = ()
    name: str = ""
    value: Fraction = Fraction(0)
    decimals: int = -1
    digits: int = 0


class _NotAFormulaError(ValueError):
    """The text is not in the grammar, or could be read in two ways."""


_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3}(?![0-9.]))?)"
    r"|(?P<command>\\[A-Za-z]+)|(?P<word>[A-Za-z]+)"
    r"|(?P<symbol>\^\\circ(?![A-Za-z])|[-+*/^_!|(){}\[\]]))"
)
_CONSTANTS = {"pi": "pi", "e": "e", "i": "i", "infty": "inf"}
_NAMED = {*GREEK, *_CONSTANTS}
_TIMES = {"*", r"\cdot", r"\times"}
_OVER = {"/", r"\div"}
_CLOSING = {"(": ")", "[": "]", "{": "}", r"\lfloor": r"\rfloor", r"\lceil": r"\rceil"}
_GROUPS = {"(": "", "[": "", "{": "", r"\lfloor": "floor", r"\lceil": "ceil"}


def number(text: str) -> Node:
    """Return a literal number."""
    mantissa = re.split("[eE]", text)[0]
    _, point, fraction = mantissa.partition(".")
    digits = len(mantissa.replace(".", "").lstrip("0"))
    decimals = len(fraction) if point else -1
    return Node("number", value=Fraction(text), decimals=decimals, digits=digits)


@lru_cache(4096)
def read(text: str) -> Node | None:
    """Return the formula that a cleaned text is, or None."""
    if not text or len(text) > MOST_CHARACTERS:
        return None
    try:
        return _Parser(text).whole()
    except (_NotAFormulaError, RecursionError):
        return None


def walk(node: Node) -> Iterator[Node]:
    """Yield a formula and all its parts."""
    yield node
    for part in node.args:
        yield from walk(part)


@lru_cache(4096)
def variables(node: Node) -> frozenset[str]:
    """Return the names of the variables in a formula."""
    return frozenset(part.name for part in walk(node) if part.op == "variable")


def literal(node: Node) -> Fraction | None:
    """Return the value of a number as it is written, or None.

    That is an integer, a decimal or a fraction of such, perhaps negative.
    """
    if node.op == "number":
        return node.value
    if node.op == "neg":
        value = literal(node.args[0])
        return None if value is None else -value
    if node.op == "div" and all(part.op in ("number", "neg") for part in node.args):
        top, bottom = (literal(part) for part in node.args)
        return top / bottom if top is not None and bottom else None
    return None


def without_degrees(node: Node) -> Node:
    """Return the formula without degree signs, but for those in the arguments of functions."""
    if node.op == "degree":
        return without_degrees(node.args[0])
    if node.op == "function":
        return node
    return node._replace(args=tuple(without_degrees(part) for part in node.args))


def _product(factors: list[Node]) -> Node:
    return factors[0] if len(factors) == 1 else Node("mul", tuple(factors))


class _Parser:
    """Recursive descent over the tokens of one formula.

    Its methods raise `_NotAFormulaError` where the text does not fit.
    """

    def __init__(self, text: str) -> None:
        self.tokens: list[tuple[str, str]] = []
        self.position = self.depth = self.bars = 0
        start, end = 0, len(text.rstrip())
        while start < end:
            match = _TOKEN.match(text, start)
            if match is None or match.lastgroup is None or len(self.tokens) == _MOST_TOKENS:
                raise _NotAFormulaError
            self.tokens.append((match.lastgroup, match[match.lastgroup]))
            start = match.end()

    def peek(self) -> tuple[str, str]:
        """Return the kind and the text of the next token, empty at the end."""
        return self.tokens[self.position] if self.position < len(self.tokens) else ("", "")

    def accept(self, *wanted: str) -> str:
        """Consume and return the next token if it is one of `wanted`, else return nothing."""
        text = self.peek()[1]
        if text and text in wanted:
            self.position += 1
            return text
        return ""

    def expect(self, wanted: str) -> None:
        """Consume `wanted` or raise `_NotAFormulaError`."""
        if not self.accept(wanted):
            raise _NotAFormulaError

    def shorten(self, text: str) -> None:
        """Leave only `text`, its ending, of the next token."""
        self.tokens[self.position] = (self.tokens[self.position][0], text)

    def whole(self) -> Node:
        """Parse the whole text."""
        node = self.sum()
        if self.position != len(self.tokens):
            raise _NotAFormulaError
        return node

    def sum(self) -> Node:
        """Parse terms with signs between them."""
        self.depth += 1
        if self.depth > _MOST_DEPTH:
            raise _NotAFormulaError
        sign, terms = self.accept("+", "-"), list[Node]()
        while sign or not terms:
            term = self.term()
            terms.append(Node("neg", (term,)) if sign == "-" else term)
            sign = self.accept("+", "-")
        self.depth -= 1
        return terms[0] if len(terms) == 1 else Node("add", tuple(terms))

    def term(self) -> Node:
        """Parse products and quotients.

        What follows a slash must be one factor, since 1/2x is read in two ways.
        """
        left, _ = self.factors()
        while operator := self.accept(*_TIMES, *_OVER):
            is_negative = operator in _TIMES and self.accept("-")
            right, count = self.factors()
            if operator in _OVER and count > 1:
                raise _NotAFormulaError
            right = Node("neg", (right,)) if is_negative else right
            left = Node("div" if operator in _OVER else "mul", (left, right))
        return left

    def factors(self) -> tuple[Node, int]:
        """Parse factors written side by side; return their product and how many they are."""
        parts = [self.power()]
        while self.starts_factor():
            parts.append(self.power())
        return _product(parts), len(parts)

    def starts_factor(self) -> bool:
        """Return whether the next token can begin a factor that follows another."""
        kind, text = self.peek()
        if kind == "command":
            return text not in _TIMES | _OVER and text not in _CLOSING.values()
        if kind == "number":
            return self.tokens[self.position - 1][1] == ")"  # (n-2)2^n
        return kind == "word" or text in ("(", "[", "{") or (text == "|" and not self.bars)

    def power(self) -> Node:
        """Parse a factor, perhaps with an exponent."""
        base = self.postfix()
        if not self.accept("^"):
            return base
        power = Node("pow", (base, self.exponent()))
        if self.peek()[1] in ("^", "!", "^\\circ"):
            raise _NotAFormulaError
        return power

    def exponent(self) -> Node:
        """Parse a group, a number, perhaps negative, or a single sign."""
        if opening := self.accept("{", "("):
            return self.group(opening)
        is_negative = self.accept("-")
        node = self.single()
        return Node("neg", (node,)) if is_negative else node

    def postfix(self) -> Node:
        """Parse a primary with factorial or degree signs behind it."""
        node = self.primary()
        while sign := self.accept("!", "^\\circ"):
            if sign == "!" and self.peek()[1] == "!":
                raise _NotAFormulaError
            node = Node("factorial" if sign == "!" else "degree", (node,))
        return node

    def primary(self) -> Node:
        """Parse a number, a name, a group, a fraction, a root or a function."""
        kind, text = self.peek()
        self.position += 1
        if kind == "number":
            return self.mixed(text)
        if kind == "word":
            return self.word(text)
        if text == "|":
            self.bars += 1
            node = self.sum()
            self.bars -= 1
            self.expect("|")
            return Node("abs", (node,))
        if text in _GROUPS:
            return self.group(text)
        if kind == "command":
            return self.command(text[1:])
        raise _NotAFormulaError

    def group(self, opening: str) -> Node:
        """Parse what stands between `opening`, already consumed, and its counterpart."""
        bars, self.bars = self.bars, 0
        node = self.sum()
        self.bars = bars
        self.expect(_CLOSING[opening])
        return Node(_GROUPS[opening], (node,)) if _GROUPS[opening] else node

    def mixed(self, text: str) -> Node:
        r"""Parse a number, or a mixed one: with a proper fraction, as in 1\frac{1}{2} or 1 1/2."""
        whole, start = number(text), self.position
        if not text.isdigit():
            return whole
        if self.accept(r"\frac"):
            top, bottom = self.argument(), self.argument()
        elif self.peek()[0] == "number":
            top = self.single()
            self.expect("/")
            bottom = self.single()
        else:
            return whole
        if not (top.op == bottom.op == "number" and top.decimals == bottom.decimals == -1):
            if self.tokens[start][0] == "number":
                raise _NotAFormulaError
            self.position = start  # a product, as in 2\frac{x}{3}
            return whole
        if not top.value < bottom.value:
            raise _NotAFormulaError  # 2\frac{3}{2}: a product or a slip
        return Node("number", value=whole.value + top.value / bottom.value, digits=whole.digits)

    def single(self) -> Node:
        """Parse one number, name, fraction or root without a sign."""
        kind, text = self.peek()
        self.position += 1
        if kind == "number":
            return number(text)
        if kind == "word":
            return self.word(text)
        if kind == "command" and text[1:] in {*_NAMED, "frac", "sqrt"}:
            return self.command(text[1:])
        raise _NotAFormulaError

    def argument(self) -> Node:
        r"""Parse a group in braces, or one sign: `\frac12` is a half."""
        if self.accept("{"):
            return self.group("{")
        kind, text = self.peek()
        if kind == "number" and len(text) > 1:
            if not text.isdigit():
                raise _NotAFormulaError
            self.shorten(text[1:])
            return number(text[0])
        return self.single()

    def word(self, text: str) -> Node:
        """Parse a function or a constant, else the first letter as a variable.

        The other letters follow as factors.
        """
        if text in FUNCTIONS:
            return self.function(text)
        if text in ("sqrt", "pi"):
            return self.command(text)
        if text in ("oo", "inf", "infty", "infinity"):
            return self.command("infty")
        if len(text) > 3 or text.lower() in NO_PRODUCT:
            raise _NotAFormulaError
        if len(text) > 1:
            self.position -= 1
            self.shorten(text[1:])
        subscript = "" if len(text) > 1 else self.subscript()
        if not subscript and text[0] in _CONSTANTS:
            return Node("constant", name=_CONSTANTS[text[0]])
        if text in tuple("fghFGPQ") and self.peek()[1] == "(":
            raise _NotAFormulaError  # a function of that name, or a product
        return Node("variable", name=text[0] + subscript)

    def subscript(self) -> str:
        """Return the text of a subscript, if there is one."""
        if not self.accept("_"):
            return ""
        start = self.position
        if self.accept("{"):
            while not self.accept("}"):
                if self.peek()[1] in ("", "{"):
                    raise _NotAFormulaError
                self.position += 1
            return "_" + "".join(text for _, text in self.tokens[start + 1 : self.position - 1])
        kind, text = self.peek()
        if kind not in ("number", "word", "command") or (kind == "number" and len(text) > 1):
            raise _NotAFormulaError
        if kind == "word" and len(text) > 1:  # TeX takes one sign
            self.shorten(text[1:])
            return "_" + text[0]
        self.position += 1
        return "_" + text

    def command(self, name: str) -> Node:
        """Parse the formula that a command, already consumed, begins."""
        if name in ("frac", "binom"):
            return Node("div" if name == "frac" else "binomial", (self.argument(), self.argument()))
        if name == "sqrt":
            return self.root()
        if name in FUNCTIONS:
            return self.function(name)
        if name in _CONSTANTS:
            return Node("constant", name=_CONSTANTS[name])
        if name in GREEK:
            return Node("variable", name=name + self.subscript())
        raise _NotAFormulaError

    def root(self) -> Node:
        """Parse a root's index, if any, and radicand."""
        index = self.group("[") if self.accept("[") else number("2")
        if self.accept("("):
            return Node("root", (self.group("("), index))
        kind, text = self.peek()
        if kind == "number" and len(text) > 1:
            raise _NotAFormulaError  # TeX takes the first digit only, people mean all
        return Node("root", (self.argument(), index))

    def function(self, name: str) -> Node:
        """Parse a function's base, power and argument."""
        base = self.log_base() if name == "log" else None
        power = self.exponent() if self.accept("^") else None
        if base is None and name == "log":
            base = self.log_base()
        if power == Node("neg", (number("1"),)) and f"arc{name}" in FUNCTIONS:
            name, power = f"arc{name}", None
        argument = self.function_argument()
        node = Node("function", (argument,) if base is None else (argument, base), name)
        return node if power is None else Node("pow", (node, power))

    def log_base(self) -> Node | None:
        """Parse the base of a logarithm, if it is written."""
        if not self.accept("_"):
            return None
        kind, text = self.peek()
        if kind == "number":  # log_10: people mean ten
            self.position += 1
            return number(text)
        return self.argument()

    def function_argument(self) -> Node:
        r"""Parse a group; or one fraction or root; or numbers, letters and powers: `\sin 2x`."""
        if opening := self.accept("(", "{", "["):
            return self.group(opening)
        kind, text = self.peek()
        if text in (r"\frac", r"\sqrt"):
            parts = [self.postfix()]
        elif kind == "command" and text[1:] not in _NAMED:
            raise _NotAFormulaError
        else:
            parts = [self.power()]
            while self.continues_argument():
                parts.append(self.power())
        if self.peek()[1] in _OVER | {"(", "!"} and parts[-1].op != "degree":
            raise _NotAFormulaError
        return _product(parts)

    def continues_argument(self) -> bool:
        """Return whether the next token still belongs to an argument without brackets."""
        kind, text = self.peek()
        if kind == "command":
            return text[1:] in _NAMED
        return kind == "word" and text not in FUNCTIONS
