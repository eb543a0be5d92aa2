"""The grammar of formulas: LaTeX or plain arithmetic, read into a small tree. Nothing is ever run as code.

Whatever the grammar does not know, or could be read in two ways, is no formula.
"""

import re
from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from gapgrid.maths.spelling import FUNCTIONS, GREEK, NO_PRODUCT

MOST_CHARACTERS = 2000
_MOST_TOKENS = 300
_MOST_DEPTH = 40


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


_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3}(?![0-9.]))?)"
    r"|(?P<command>\\[A-Za-z]+)|(?P<word>[A-Za-z]+)|(?P<symbol>\^\\circ(?![A-Za-z])|[-+*/^_!|(){}\[\]]))"
)
_CONSTANTS = {"pi": "pi", "e": "e", "i": "i", "infty": "inf"}
_NAMED = {*GREEK, *_CONSTANTS}
_TIMES = {"*", r"\cdot", r"\times"}
_OVER = {"/", r"\div"}
_CLOSING = {"(": ")", "[": "]", "{": "}", r"\lfloor": r"\rfloor", r"\lceil": r"\rceil"}
_GROUPS = {"(": "", "[": "", "{": "", r"\lfloor": "floor", r"\lceil": "ceil"}


def number(text: str) -> Node:
    """A literal number."""
    mantissa = re.split("[eE]", text)[0]
    digits = len(mantissa.replace(".", "").lstrip("0"))
    return Node("number", value=Fraction(text), decimals=len(mantissa.partition(".")[2]) if "." in mantissa else -1, digits=digits)


@lru_cache(4096)
def read(text: str) -> Node | None:
    """The formula that a cleaned text is, or None."""
    if not text or len(text) > MOST_CHARACTERS:
        return None
    try:
        return _Parser(text).whole()
    except (_NotAFormulaError, RecursionError):
        return None


def walk(node: Node) -> Iterator[Node]:
    """A formula and all its parts."""
    yield node
    for part in node.args:
        yield from walk(part)


@lru_cache(4096)
def variables(node: Node) -> frozenset[str]:
    """The names of the variables in a formula."""
    return frozenset(part.name for part in walk(node) if part.op == "variable")


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


def without_degrees(node: Node) -> Node:
    """The formula without its degree signs, but for those in the arguments of functions."""
    if node.op == "degree":
        return without_degrees(node.args[0])
    return node if node.op == "function" else node._replace(args=tuple(without_degrees(part) for part in node.args))


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
            if match is None or match.lastgroup is None or len(self.tokens) == _MOST_TOKENS:
                raise _NotAFormulaError
            self.tokens.append((match.lastgroup, match[match.lastgroup]))
            position = match.end()

    # -- tokens

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

    def leave(self, text: str) -> None:
        """Shorten the next token to `text`, after taking what stood before."""
        self.tokens[self.at] = (self.tokens[self.at][0], text)

    # -- sums, products, powers

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
        """Products and quotients; what follows a slash must be one factor, since 1/2x is read in two ways."""
        left, _ = self.factors()
        while operator := self.take(*_TIMES, *_OVER):
            is_negative = operator in _TIMES and self.take("-")
            right, count = self.factors()
            if operator in _OVER and count > 1:
                raise _NotAFormulaError
            right = Node("neg", (right,)) if is_negative else right
            left = Node("div" if operator in _OVER else "mul", (left, right))
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
        if kind == "number":
            return self.tokens[self.at - 1][1] == ")"  # (n-2)2^n
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
        """A group, a number, perhaps negative, or a single sign."""
        if self.take("{"):
            return self.group("{")
        if self.take("("):
            return self.group("(")
        is_negative = self.take("-")
        node = self.single()
        return Node("neg", (node,)) if is_negative else node

    def postfix(self) -> Node:
        """A primary with factorial or degree signs behind it."""
        node = self.primary()
        while sign := self.take("!", "^\\circ"):
            if sign == "!" and self.peek()[1] == "!":
                raise _NotAFormulaError
            node = Node("factorial" if sign == "!" else "degree", (node,))
        return node

    # -- primaries

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

    def group(self, opening: str) -> Node:
        """What stands between `opening`, already consumed, and its counterpart."""
        bars, self.bars = self.bars, 0
        node = self.sum()
        self.bars = bars
        self.need(_CLOSING[opening])
        return Node(_GROUPS[opening], (node,)) if _GROUPS[opening] else node

    def mixed(self, text: str) -> Node:
        r"""A number; with a proper fraction right behind it, as in 1\frac{1}{2} or 1 1/2, a mixed number."""
        whole, start = number(text), self.at
        if not text.isdigit():
            return whole
        if self.take(r"\frac"):
            top, bottom = self.argument(), self.argument()
        elif self.peek()[0] == "number":
            top = self.single()
            self.need("/")
            bottom = self.single()
        else:
            return whole
        if not (top.op == bottom.op == "number" and top.decimals == bottom.decimals == -1):
            if self.tokens[start][0] == "number":
                raise _NotAFormulaError
            self.at = start  # a product, as in 2\frac{x}{3}
            return whole
        if not top.value < bottom.value:
            raise _NotAFormulaError  # 2\frac{3}{2}: a product or a slip
        return Node("number", value=whole.value + top.value / bottom.value, digits=whole.digits)

    def single(self) -> Node:
        """One number, name, fraction or root without a sign."""
        kind, text = self.peek()
        self.at += 1
        if kind == "number":
            return number(text)
        if kind == "word":
            return self.word(text)
        if kind == "command" and text[1:] in {*_NAMED, "frac", "sqrt"}:
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
            self.leave(text[1:])
            return number(text[0])
        return self.single()

    def word(self, text: str) -> Node:
        """A function or constant of that name, else the first letter as a variable; the others follow as factors."""
        if text in FUNCTIONS:
            return self.function(text)
        if text in ("sqrt", "pi"):
            return self.command(text)
        if text in ("oo", "inf", "infty", "infinity"):
            return self.command("infty")
        if len(text) > 3 or text.lower() in NO_PRODUCT:
            raise _NotAFormulaError
        if len(text) > 1:
            self.at -= 1
            self.leave(text[1:])
        subscript = "" if len(text) > 1 else self.subscript()
        if not subscript and text[0] in _CONSTANTS:
            return Node("constant", name=_CONSTANTS[text[0]])
        if text in tuple("fghFGPQ") and self.peek()[1] == "(":
            raise _NotAFormulaError  # a function of that name, or a product
        return Node("variable", name=text[0] + subscript)

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
        if kind not in ("number", "word", "command") or (kind == "number" and len(text) > 1):
            raise _NotAFormulaError
        if kind == "word" and len(text) > 1:  # TeX takes one sign
            self.leave(text[1:])
            return "_" + text[0]
        self.at += 1
        return "_" + text

    def command(self, name: str) -> Node:
        """The formula that a command, already consumed, begins."""
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

    # -- roots and functions

    def root(self) -> Node:
        """A root's index, if any, and radicand."""
        index = self.group("[") if self.take("[") else number("2")
        if self.take("("):
            return Node("root", (self.group("("), index))
        kind, text = self.peek()
        if kind == "number" and len(text) > 1:
            raise _NotAFormulaError  # TeX takes the first digit only, people mean all
        return Node("root", (self.argument(), index))

    def function(self, name: str) -> Node:
        """A function with its base, power and argument."""
        base = self.log_base() if name == "log" else None
        power = self.exponent() if self.take("^") else None
        if base is None and name == "log":
            base = self.log_base()
        if power == Node("neg", (number("1"),)) and f"arc{name}" in FUNCTIONS:
            name, power = f"arc{name}", None
        argument = self.function_argument()
        node = Node("function", (argument,) if base is None else (argument, base), name)
        return node if power is None else Node("pow", (node, power))

    def log_base(self) -> Node | None:
        """The base of a logarithm, if it is written."""
        if not self.take("_"):
            return None
        kind, text = self.peek()
        if kind == "number":  # log_10: people mean ten
            self.at += 1
            return number(text)
        return self.argument()

    def function_argument(self) -> Node:
        r"""A group; or a number, letters and powers of them, as in `\sin 2x`; or a single fraction or root."""
        for opening in ("(", "{", "["):
            if self.take(opening):
                return self.group(opening)
        kind, text = self.peek()
        if text in (r"\frac", r"\sqrt"):
            found = [self.postfix()]
        elif kind == "command" and text[1:] not in _NAMED:
            raise _NotAFormulaError
        else:
            found = [self.power()]
            while self.continues_argument():
                found.append(self.power())
        if self.peek()[1] in _OVER | {"(", "!"} and found[-1].op != "degree":
            raise _NotAFormulaError
        return found[0] if len(found) == 1 else Node("mul", tuple(found))

    def continues_argument(self) -> bool:
        """Whether the next token still belongs to an argument without brackets."""
        kind, text = self.peek()
        return (kind == "word" and text not in FUNCTIONS) or (kind == "command" and text[1:] in _NAMED)
