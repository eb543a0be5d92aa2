"""Answers as forms: values with units, lists, sets, intervals, matrices and equations."""

import re
from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from gapgrid.grading.equality import latex_parser, numeric
from gapgrid.grading.equality.latex_parser import Node
from gapgrid.grading.equality.normalize import GREEK, UNREADABLE, clean
from gapgrid.grading.equality.units import split_unit, unit_of
from gapgrid.grading.extract import MOST_CHARACTERS

_MOST_ITEMS = 60
_MOST_NESTED = 20


class Value(NamedTuple):
    """A formula with its unit and the name it was given, if any."""

    node: Node
    text: str
    unit: str = ""
    name: str = ""


class Based(NamedTuple):
    """A number written in a base, such as 204_5."""

    digits: str
    base: int


class Group(NamedTuple):
    """Several forms: a list, set, tuple or interval.

    `opening` and `closing` are its brackets, empty for a bare list; `variable` is the one that an
    inequality is about.
    """

    items: "tuple[Form, ...]"
    opening: str = ""
    closing: str = ""
    name: str = ""
    variable: str = ""


class Union(NamedTuple):
    """Intervals and sets joined together."""

    pieces: tuple[Group, ...]


class Matrix(NamedTuple):
    """Rows of forms."""

    rows: "tuple[tuple[Form, ...], ...]"


class Equation(NamedTuple):
    """Two formulas set equal, none of them a mere name."""

    left: Node
    right: Node


class Opaque(NamedTuple):
    """Anything else."""

    text: str


Form = Value | Based | Group | Union | Matrix | Equation | Opaque


def is_constant(form: Form) -> bool:
    """Return whether a form holds nothing but formulas without variables."""
    if isinstance(form, Value):
        return not latex_parser.variables(form.node)
    if isinstance(form, Group):
        return all(is_constant(item) for item in form.items)
    if isinstance(form, Matrix):
        return all(is_constant(item) for row in form.rows for item in row)
    return isinstance(form, Union) and all(is_constant(piece) for piece in form.pieces)


# --------------------------------------------------------------------------- separators

_OPENING = ("(", "[", "{", r"\{", r"\lfloor", r"\lceil", r"\begin")
_CLOSING = (")", "]", "}", r"\}", r"\rfloor", r"\rceil", r"\end")
_TOKEN = re.compile(r"\\[A-Za-z]+|\\.|[()\[\]{}]", re.DOTALL)


def _step(token: str) -> int:
    """Return how a token changes the depth of brackets; any kind closes any kind, as in [0, 1)."""
    return (token in _OPENING) - (token in _CLOSING)


def _depths(text: str) -> Iterator[tuple[int, int]]:
    """Yield the depth behind each bracket or command, and where that ends."""
    depth = 0
    for token in _TOKEN.finditer(text):
        depth += _step(token[0])
        yield depth, token.end()


def _closes_at_end(text: str) -> bool:
    """Return whether the first bracket closes with the last character only."""
    return next((end for depth, end in _depths(text) if depth == 0), -1) == len(text)


def _separator(pattern: str) -> re.Pattern[str]:
    """Return a pattern for `_split`."""
    return re.compile(f"(?P<separator>{pattern})|{_TOKEN.pattern}", re.DOTALL)


def _split(text: str, separator: re.Pattern[str]) -> tuple[list[str], list[str]]:
    """Return the parts of a text between separators outside all brackets, and the separators."""
    parts, separators = [], []
    depth = start = position = 0
    while token := (separator if depth == 0 else _TOKEN).search(text, position):
        position = token.end()
        if depth == 0 and token["separator"] is not None:
            parts.append(text[start : token.start()].strip())
            separators.append(token[0])
            start = position
        else:
            depth += _step(token[0])
    return [*parts, text[start:].strip()], separators


# --------------------------------------------------------------------------- reading

_THOUSANDS = re.compile(r"(?<![0-9.,])[0-9]{1,3}(?:,[0-9]{3})+(?![0-9,])")
_APPROXIMATELY = re.compile(r"\\approx(?![A-Za-z])")


@lru_cache(4096)
def readings(text: str) -> tuple[Form, ...]:
    """Return the forms that an answer may be.

    Two where a comma may group digits or separate items, none if the answer is unreadable.
    """
    cleaned = clean(text)
    if not cleaned or len(cleaned) > MOST_CHARACTERS or UNREADABLE.search(cleaned):
        return ()
    if max((depth for depth, _ in _depths(cleaned)), default=0) > _MOST_NESTED:
        return ()
    joined = _THOUSANDS.sub(_without_commas, cleaned)
    return tuple(_read(reading) for reading in dict.fromkeys((joined, cleaned)))


def _without_commas(number: re.Match[str]) -> str:
    depth = 0
    for token in _TOKEN.finditer(number.string, 0, number.start()):
        depth = max(0, depth + _step(token[0]))
    return number[0] if depth else number[0].replace(",", "")  # inside brackets a comma separates


def _read(text: str) -> Form:
    """Return the form of a cleaned text."""
    stated = _APPROXIMATELY.split(text)
    if len(stated) > 1:  # an exact value and its decimals; or a name and the decimals
        text = stated[-1] if not stated[0].strip() or _is_name(stated[0]) else stated[0]
    text = text.strip().rstrip(" .,;")
    for reader in _READERS:
        form = reader(text)
        if form is not None:
            return form
    return Opaque(text)


_PLUS_INFINITY = Node("constant", name="inf")
_MINUS_INFINITY = Node("neg", (_PLUS_INFINITY,))
_TO_INFINITY = Value(_PLUS_INFINITY, r"\infty")
_FROM_INFINITY = Value(_MINUS_INFINITY, r"-\infty")


def _all_reals(text: str) -> Form | None:
    if text != r"\mathbb{R}":
        return None
    return Group((_FROM_INFINITY, _TO_INFINITY), "(", ")")


_MATRIX = re.compile(
    r"[(\[]?\s*\\begin\{(pmatrix|bmatrix|Bmatrix|matrix|smallmatrix|array)\}"
    r"(?:\s*\{[lcr| ]*\})?(.*?)\\end\{\1\}\s*[)\]]?"
)


def _matrix(text: str) -> Form | None:
    match = _MATRIX.fullmatch(text)
    if match is None or r"\begin" in match[2]:
        return None
    lines = [line.strip() for line in re.split(r"\\\\(?:\[[^\]]*\])?", match[2])]
    rows = tuple(tuple(_read(cell.strip()) for cell in line.split("&")) for line in lines if line)
    return Matrix(rows) if rows else None


_LIST = _separator(
    r"[,;]|\\text\{\s*(?:[,;]\s*)?(?:and|or)\s*\}|\\text\{\s*[,;]\s*\}"
    r"|(?<![A-Za-z\\])(?:and|or)(?![A-Za-z])"
)


def _list(text: str) -> Form | None:
    r"""Read forms with commas, semicolons, "and" or "or" between them, or one with a `\pm`."""
    parts, separators = _split(text, _LIST)
    if not separators:
        return _both_signs(text)
    parts = [part for part in parts if part]
    if not parts or len(parts) > _MOST_ITEMS:
        return Opaque(text)
    kinds = {re.sub(r"\\text|[{} ]", "", separator) for separator in separators}
    if len(kinds) > 1 and (solutions := _solutions(text)):
        return Group(tuple(_read(solution) for solution in solutions))
    items = [_read(part) for part in parts]
    if len(items) == 1:
        return items[0]
    intervals = tuple(item for item in items if isinstance(item, Group) and item.variable)
    if not intervals:
        return Group(_flat(items))
    is_union = kinds == {"or"} and len(intervals) == len(items)
    return Union(intervals) if is_union else Opaque(text)


_SOLUTION_END = _separator(r";|\\text\{\s*(?:,\s*)?or\s*\}|(?<![A-Za-z\\])or(?![A-Za-z])")


def _solutions(text: str) -> list[str]:
    """Return solutions whose coordinates are separated by commas, if that is what a text lists.

    They are separated by semicolons; or by "or", if the coordinates are named.
    """
    solutions, separators = _split(text, _SOLUTION_END)
    solutions = [solution for solution in solutions if solution]
    coordinates = [[part for part in _split(solution, _LIST)[0] if part] for solution in solutions]
    is_named = all(len(parts) > 1 and all("=" in part for part in parts) for parts in coordinates)
    return solutions if len(solutions) > 1 and (";" in separators or is_named) else []


def _flat(items: list[Form]) -> tuple[Form, ...]:
    """Return the items, in place of a bare list among them its own."""
    flat: list[Form] = []
    for item in items:
        if isinstance(item, Group) and not item.opening:
            flat += item.items
        else:
            flat.append(item)
    return tuple(flat)


def _both_signs(text: str) -> Form | None:
    r"""Read a text with one `\pm` as its two values."""
    if text.count(r"\pm") != 1 or r"\mp" in text:
        return None
    both = tuple(_read(re.sub(r"\\pm\s*", sign, text).strip()) for sign in ("+", "-"))
    return Group(both) if all(isinstance(form, Value) for form in both) else None


_CUP = _separator(r"\\cup(?![A-Za-z])|(?<=[\])}]) ?U ?(?=[\[({\\])")


def _union(text: str) -> Form | None:
    parts, separators = _split(text, _CUP)
    if not separators:
        return None
    forms = [_read(part) for part in parts]
    pieces = tuple(form for form in forms if isinstance(form, Group) and form.opening)
    return Union(pieces) if len(pieces) == len(forms) else Opaque(text)


def _membership(text: str) -> Form | None:
    parts = re.split(r"\\in(?![A-Za-z])", text)
    if len(parts) != 2 or not _is_name(parts[0]):
        return None
    form = _read(parts[1].strip())
    return form if isinstance(form, Group | Union) else Opaque(text)


_ORDER = _separator(r"<|>|\\le(?![A-Za-z])|\\ge(?![A-Za-z])")
_FLIPPED = {"<": ">", ">": "<", r"\le": r"\ge", r"\ge": r"\le"}


def _inequality(text: str) -> Form | None:
    """Read an inequality on one variable as the interval that it describes."""
    parts, signs = _split(text, _ORDER)
    if not signs:
        return None
    nodes = [latex_parser.read(part) for part in parts]
    indexes = [i for i, node in enumerate(nodes) if node is not None and node.op == "variable"]
    if not indexes or len(parts) > 3 or (len(parts) == 3 and indexes[0] != 1):
        return Opaque(text)
    index = indexes[0]
    # Read from the variable outwards.
    bounds = [(_FLIPPED[signs[index - 1]], parts[index - 1])] if index else []
    bounds += [(signs[index], parts[index + 1])] if index + 1 < len(parts) else []
    low, high, opening, closing = _FROM_INFINITY, _TO_INFINITY, "(", ")"
    for sign, part in bounds:
        bound = _value(part)
        if not isinstance(bound, Value):
            return Opaque(text)
        if sign in ("<", r"\le"):
            high, closing = bound, ")" if sign == "<" else "]"
        else:
            low, opening = bound, "(" if sign == ">" else "["
    infinities = (_PLUS_INFINITY, _MINUS_INFINITY)
    if len(bounds) == 2 and (low.node in infinities or high.node in infinities):
        return Opaque(text)
    if not is_constant(low) or not is_constant(high):
        return Opaque(text)  # it may be read as an inequality on another variable
    return Group((low, high), opening, closing, variable=parts[index])


# --------------------------------------------------------------------------- names

_SUBSCRIPT = r"(?:_(?:\{[^{}]*\}|[A-Za-z0-9]))?"
_GREEK = "|".join(sorted(GREEK, key=len, reverse=True))
_NAME = re.compile(
    # x, m_{max}, f'(x); AB, A:B; words; \angle ABC
    rf"(?:[A-Za-z]|\\(?:{_GREEK})(?![A-Za-z])){_SUBSCRIPT}'*(?:\([^()]*\))?"
    r"|\|?[A-Z]{2,4}\|?|[A-Z][:/][A-Z]|(?:[A-Za-z]_)?\\text\{[^{}]*\}"
    r"|\\(?:angle|triangle|overline|widehat|measuredangle|max|min|vec).*"
)
_EQUALS = _separator("=")
_NEXT_NAME = re.compile(r"[^ +\-*/]\s+[A-Za-z]$")  # x=2 y=3


def _is_name(text: str) -> bool:
    """Return whether a text can only name a value: a letter, f(x), a segment, an angle, a word."""
    return _NAME.fullmatch(text.strip().replace(" ", "")) is not None


def _equation(text: str) -> Form | None:
    """Read a named value or several, or two formulas set equal."""
    parts, separators = _split(text, _EQUALS)
    if not separators:
        return None
    if not all(parts):
        return Opaque(text)
    if len(parts) == 2 and _is_name(parts[1]) and not _is_name(parts[0]):
        parts.reverse()
    if _is_name(parts[0]):
        is_two = any(_NEXT_NAME.search(part) for part in parts[1:-1])
        return Opaque(text) if is_two else _named(parts[0], _read(parts[-1])) or Opaque(text)
    if isinstance(_read(parts[0]), Group):
        return _named_group(parts[0], _read(parts[-1])) or Opaque(text)
    nodes = [node for part in parts if (node := latex_parser.read(part)) is not None]
    if latex_parser.read(parts[0]) is None and re.search("[A-Za-z]", parts[0]):
        return _named(parts[0], _read(parts[-1])) or Opaque(text)
    if len(nodes) < len(parts):
        return Opaque(text)
    if all(numeric.compare(*pair).outcome is numeric.SAME for pair in pairwise(nodes)):
        return Value(nodes[-1], parts[-1])
    return Equation(nodes[0], nodes[1]) if len(parts) == 2 else Opaque(text)


_LABEL = re.compile(
    r"(?:([A-Za-z][A-Za-z ]{0,20}|\\text\{[^{}0-9:]+\})\s*:|\\text\{([^{}0-9:]+):\s*\})\s*([^:]+)"
)


def _labelled(text: str) -> Form | None:
    """Read a value behind a label and a colon; a:b is a ratio."""
    match = _LABEL.fullmatch(text)
    if match is None or _is_name(match[3]):
        return None
    return _named(match[1] or match[2], _read(match[3]))


def _named(name: str, form: Form) -> Form | None:
    """Return the form with a name; None if it cannot have one."""
    name = name.replace(" ", "")
    if isinstance(form, Value | Group):
        return form._replace(name=name)
    return form if isinstance(form, Union | Matrix | Based) else None


def _named_group(text: str, values: Form) -> Form | None:
    """Read (p,q)=(3,2) as a tuple of named items."""
    names = [part for part in _split(text.strip()[1:-1], _LIST)[0] if part]
    if not isinstance(values, Group) or len(names) != len(values.items):
        return None
    if not all(_is_name(name) for name in names):
        return None
    items = (_named(name, item) for name, item in zip(names, values.items, strict=True))
    return values._replace(items=tuple(item for item in items if item is not None))


# --------------------------------------------------------------------------- brackets


def _bracketed(text: str) -> Form | None:
    """Read a tuple, an interval, a set, or a form in superfluous brackets."""
    opening = next((sign for sign in (r"\{", "(", "[", "{") if text.startswith(sign)), None)
    closing = next((sign for sign in (r"\}", ")", "]", "}") if text.endswith(sign)), None)
    if opening is None or closing is None or not _closes_at_end(text):
        return None
    is_set = opening in (r"\{", "{")
    if is_set != (closing in (r"\}", "}")):
        return None
    inside = text[len(opening) : -len(closing)].strip()
    parts, separators = _split(inside, _LIST)
    if is_set and (opening == r"\{" or separators):
        return _set(parts, text)
    if not separators:
        is_superfluous = opening + closing in ("()", "{}") and latex_parser.read(inside) is None
        return _read(inside) if is_superfluous else None
    if not all(parts) or len(parts) > _MOST_ITEMS:
        return Opaque(text)
    return Group(tuple(_read(part) for part in parts), opening, closing)


_CONDITION = re.compile(r"\\\{\s*([A-Za-z])\s*(?:\\in\s*\\mathbb\{R\}\s*)?[|:](.*)\\\}")
_BAR_OR_COLON = _separator(r"\||:")


def _set(parts: list[str], text: str) -> Form:
    """Read a set whose elements are listed, or described by an inequality; others are opaque."""
    condition = _CONDITION.fullmatch(text)
    if condition is not None:
        form = _read(condition[2].strip())
        is_inequality = isinstance(form, Group) and form.variable
        return form if is_inequality or isinstance(form, Union) else Opaque(text)
    is_described = any(
        len(_split(part, _BAR_OR_COLON)[0]) % 2 == 0 or r"\in" in part for part in parts
    )
    if not all(parts) or len(parts) > _MOST_ITEMS or is_described:
        return Opaque(text)
    return Group(_flat([_read(part) for part in parts]), r"\{", r"\}")


_BASED = re.compile(r"(-?)0*([0-9][0-9A-F.]*)_(?:\{?\(?([0-9]{1,2})\)?\}?)")


def _based(text: str) -> Form | None:
    match = _BASED.fullmatch(text.replace(" ", ""))
    if match is None or not 2 <= int(match[3]) <= 16:
        return None
    return Based(match[1] + match[2], int(match[3]))


# --------------------------------------------------------------------------- values


def _value(text: str) -> Form | None:
    """Read a formula, perhaps with a currency before or behind it, or a unit behind it."""
    currency = re.match(r"(-?)\s*(?:\\\$|\\text\{(euro|pound)\})", text)
    unit = "" if currency is None else currency[2] or "$"
    text = text if currency is None else currency[1] + text[currency.end() :].strip()
    if text.endswith(r"\$"):
        text, unit = text[:-2].strip(), "$"
    number, tail = split_unit(text)
    scale_and_name = unit_of(tail) if tail else None
    if scale_and_name is not None and latex_parser.read(number) is not None:
        scale, name = scale_and_name
        if not unit or name in ("", unit):
            return _with_unit(number, unit or name, scale)
    # Capitals side by side are an order of names or a segment, and no product.
    return None if re.fullmatch("[A-Z]{2,}", text) else _with_unit(text, unit, 1)


def _with_unit(text: str, unit: str, scale: int) -> Value | None:
    """Return the value of a formula; degree signs outside of functions are its unit."""
    node = latex_parser.read(text)
    if node is None:
        return None
    bare = latex_parser.without_degrees(node)
    unit = unit if bare == node else f"degree{unit}"
    scaled = Node("mul", (bare, Node("number", value=Fraction(scale)))) if scale != 1 else bare
    return Value(scaled, text, unit)


_READERS = (
    _all_reals,
    _matrix,
    _list,
    _union,
    _membership,
    _inequality,
    _equation,
    _labelled,
    _bracketed,
    _based,
    _value,
)
