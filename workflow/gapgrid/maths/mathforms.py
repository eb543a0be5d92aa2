"""Answers as mathematical forms: values with units, lists, tuples, sets, intervals, unions, matrices and equations."""

import re
from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from gapgrid.maths import formulas, sampling
from gapgrid.maths.formulas import MOST_CHARACTERS, Node
from gapgrid.maths.spelling import GREEK, UNREADABLE, clean
from gapgrid.maths.units import split_unit, unit_of

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
    """Several forms; `opening` and `closing` are the brackets, empty for a bare list; `variable` if it was an inequality."""

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
    """Whether a form holds nothing but formulas without variables."""
    if isinstance(form, Value):
        return not formulas.variables(form.node)
    if isinstance(form, Group):
        return all(is_constant(item) for item in form.items)
    if isinstance(form, Matrix):
        return all(is_constant(item) for row in form.rows for item in row)
    return isinstance(form, Union) and all(is_constant(piece) for piece in form.pieces)


# --------------------------------------------------------------------------- brackets and separators

_OPENING = ("(", "[", "{", r"\{", r"\lfloor", r"\lceil", r"\begin")
_CLOSING = (")", "]", "}", r"\}", r"\rfloor", r"\rceil", r"\end")
_SCAN = re.compile(r"\\[A-Za-z]+|\\.|[()\[\]{}]", re.DOTALL)


def _step(token: str) -> int:
    """How a token changes the depth of brackets; any kind closes any kind, as in [0, 1)."""
    return (token in _OPENING) - (token in _CLOSING)


def _split(text: str, separator: re.Pattern[str]) -> tuple[list[str], list[str]]:
    """The parts of a text between separators outside all brackets, and the separators."""
    parts, separators = [], []
    depth = start = at = 0
    while at < len(text):
        match = separator.match(text, at) if depth == 0 else None
        if match is not None and match.end() > at:
            parts.append(text[start:at].strip())
            separators.append(match[0])
            start = at = match.end()
            continue
        token = _SCAN.match(text, at)
        if token is not None:
            depth += _step(token[0])
        at = token.end() if token is not None else at + 1
    return [*parts, text[start:].strip()], separators


def _pieces(text: str) -> Iterator[str]:
    """The text cut into runs outside and inside brackets."""
    depth = start = 0
    for match in _SCAN.finditer(text):
        step = _step(match[0])
        if depth == 0 and step > 0:
            yield text[start : match.start()]
            start = match.start()
        depth = max(0, depth + step)
        if depth == 0 and step < 0:
            yield text[start : match.end()]
            start = match.end()
    yield text[start:]


def _closes_at_end(text: str) -> bool:
    """Whether the first bracket closes with the last character only."""
    depth = 0
    for match in _SCAN.finditer(text):
        depth += _step(match[0])
        if depth == 0:
            return match.end() == len(text)
    return False


def _nesting(text: str) -> int:
    depth = deepest = 0
    for match in _SCAN.finditer(text):
        depth += _step(match[0])
        deepest = max(deepest, depth)
    return deepest


# --------------------------------------------------------------------------- reading

_THOUSANDS = re.compile(r"(?<![0-9.,])([0-9]{1,3}(?:,[0-9]{3})+)(?![0-9,])")
_APPROXIMATELY = re.compile(r"\\approx(?![A-Za-z])")


@lru_cache(4096)
def readings(text: str) -> tuple[Form, ...]:
    """The forms that an answer may be: two where a comma may group digits or separate items, none if it is unreadable."""
    cleaned = clean(text)
    if not cleaned or len(cleaned) > MOST_CHARACTERS or UNREADABLE.search(cleaned) or _nesting(cleaned) > _MOST_NESTED:
        return ()
    # Inside brackets a comma separates.
    joined = "".join(
        part if part.startswith(_OPENING) else _THOUSANDS.sub(lambda match: match[1].replace(",", ""), part) for part in _pieces(cleaned)
    )
    return tuple(_read(reading) for reading in dict.fromkeys((joined, cleaned)))


def _read(text: str) -> Form:
    """The form of a cleaned text."""
    stated = _APPROXIMATELY.split(text)
    if len(stated) > 1:  # an exact value and its decimals; or a name and the decimals
        text = stated[-1] if not stated[0].strip() or _is_name(stated[0]) else stated[0]
    text = text.strip().rstrip(" .,;")
    for reader in (_all_reals, _matrix, _list, _union, _membership, _inequality, _equation, _labelled, _bracketed, _based, _value):
        form = reader(text)
        if form is not None:
            return form
    return Opaque(text)


def _all_reals(text: str) -> Form | None:
    if text != r"\mathbb{R}":
        return None
    return Group((Value(Node("neg", (_INFINITY,)), r"-\infty"), Value(_INFINITY, r"\infty")), "(", ")")


def _matrix(text: str) -> Form | None:
    environment = r"pmatrix|bmatrix|Bmatrix|matrix|smallmatrix|array"
    match = re.fullmatch(rf"[(\[]?\s*\\begin\{{({environment})\}}(?:\s*\{{[lcr| ]*\}})?(.*?)\\end\{{\1\}}\s*[)\]]?", text)
    if match is None or r"\begin" in match[2]:
        return None
    lines = [line.strip() for line in re.split(r"\\\\(?:\[[^\]]*\])?", match[2])]
    rows = tuple(tuple(_read(cell.strip()) for cell in line.split("&")) for line in lines if line)
    return Matrix(rows) if rows else None


_LIST = re.compile(r"[,;]|\\text\{\s*(?:[,;]\s*)?(?:and|or)\s*\}|\\text\{\s*[,;]\s*\}|(?<![A-Za-z\\])(?:and|or)(?![A-Za-z])")


def _list(text: str) -> Form | None:
    r"""Several forms with commas, semicolons, "and" or "or" between them, or one with a `\pm`."""
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
    intervals = [item for item in items if isinstance(item, Group) and item.variable]
    if intervals:
        return Union(tuple(intervals)) if kinds == {"or"} and len(intervals) == len(items) else Opaque(text)
    return Group(tuple(_flat(items)))


_SOLUTION_END = re.compile(r";|\\text\{\s*(?:,\s*)?or\s*\}|(?<![A-Za-z\\])or(?![A-Za-z])")


def _solutions(text: str) -> list[str]:
    """Solutions with their coordinates between commas: apart by semicolons; or by "or" if the coordinates are named."""
    solutions, separators = _split(text, _SOLUTION_END)
    solutions = [solution for solution in solutions if solution]
    coordinates = [[part for part in _split(solution, _LIST)[0] if part] for solution in solutions]
    is_named = all(len(parts) > 1 and all("=" in part for part in parts) for parts in coordinates)
    return solutions if len(solutions) > 1 and (";" in separators or is_named) else []


def _flat(items: list[Form]) -> Iterator[Form]:
    """The items, those of bare lists among them in their place."""
    for item in items:
        if isinstance(item, Group) and not item.opening:
            yield from item.items
        else:
            yield item


def _both_signs(text: str) -> Form | None:
    r"""The two values of a text with one `\pm`."""
    if text.count(r"\pm") != 1 or r"\mp" in text:
        return None
    both = [_read(re.sub(r"\\pm\s*", sign, text).strip()) for sign in ("+", "-")]
    return Group(tuple(both)) if all(isinstance(form, Value) for form in both) else None


_CUP = re.compile(r"\\cup(?![A-Za-z])|(?<=[\])}]) ?U ?(?=[\[({\\])")


def _union(text: str) -> Form | None:
    parts, separators = _split(text, _CUP)
    if not separators:
        return None
    pieces = [_read(part) for part in parts]
    found = tuple(piece for piece in pieces if isinstance(piece, Group) and piece.opening)
    return Union(found) if len(found) == len(pieces) else Opaque(text)


def _membership(text: str) -> Form | None:
    parts = re.split(r"\\in(?![A-Za-z])", text)
    if len(parts) != 2 or not _is_name(parts[0]):
        return None
    form = _read(parts[1].strip())
    return form if isinstance(form, Group | Union) else Opaque(text)


_ORDER = re.compile(r"<|>|\\le(?![A-Za-z])|\\ge(?![A-Za-z])")
_FLIPPED = {"<": ">", ">": "<", r"\le": r"\ge", r"\ge": r"\le"}
_INFINITY = Node("constant", name="inf")


def _inequality(text: str) -> Form | None:
    """An inequality on one variable, as the interval it describes."""
    parts, signs = _split(text, _ORDER)
    if not signs:
        return None
    nodes = [formulas.read(part) for part in parts]
    at = next((index for index, node in enumerate(nodes) if node is not None and node.op == "variable"), None)
    if at is None or len(parts) > 3 or (len(parts) == 3 and at != 1):
        return Opaque(text)
    # Read from the variable outwards.
    bounds = [(_FLIPPED[signs[at - 1]], parts[at - 1])] if at else []
    bounds += [(signs[at], parts[at + 1])] if at + 1 < len(parts) else []
    ends = {"<": (Value(_INFINITY, r"\infty"), ")"), ">": (Value(Node("neg", (_INFINITY,)), r"-\infty"), "(")}
    for sign, part in bounds:
        bound = _value(part)
        if not isinstance(bound, Value):
            return Opaque(text)
        is_upper = sign in ("<", r"\le")
        ends["<" if is_upper else ">"] = bound, sign if sign in "<>" else ("]" if is_upper else "[")
    if len(bounds) == 2 and any(value.node in (_INFINITY, Node("neg", (_INFINITY,))) for value, _ in ends.values()):
        return Opaque(text)
    (low, opening), (high, closing) = ends[">"], ends["<"]
    if not is_constant(low) or not is_constant(high):
        return Opaque(text)  # it may be read as one on another variable
    return Group((low, high), opening.replace(">", "("), closing.replace("<", ")"), variable=parts[at])


# --------------------------------------------------------------------------- names

_SUBSCRIPT = r"(?:_(?:\{[^{}]*\}|[A-Za-z0-9]))?"
_NAME = re.compile(
    rf"(?:[A-Za-z]|\\(?:{'|'.join(sorted(GREEK, key=len, reverse=True))})(?![A-Za-z])){_SUBSCRIPT}'*(?:\([^()]*\))?"  # x, m_{max}, f'(x)
    r"|\|?[A-Z]{2,4}\|?|[A-Z][:/][A-Z]|(?:[A-Za-z]_)?\\text\{[^{}]*\}"  # AB, A:B, words
    r"|\\(?:angle|triangle|overline|widehat|measuredangle|max|min|vec).*"
)
_EQUALS = re.compile("=")
_NEXT_NAME = re.compile(r"[^ +\-*/]\s+[A-Za-z]$")  # x=2 y=3


def _is_name(text: str) -> bool:
    """Whether a text can only be a name for a value: a letter, f(x), a segment or an angle, a word."""
    return _NAME.fullmatch(text.strip().replace(" ", "")) is not None


def _equation(text: str) -> Form | None:
    """A named value or several; or two formulas set equal."""
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
    left = _read(parts[0])
    if isinstance(left, Group):
        return _named_group(parts[0], _read(parts[-1])) or Opaque(text)
    nodes = [node for part in parts if (node := formulas.read(part)) is not None]
    if formulas.read(parts[0]) is None and re.search("[A-Za-z]", parts[0]):
        return _named(parts[0], _read(parts[-1])) or Opaque(text)
    if len(nodes) < len(parts):
        return Opaque(text)
    if all(sampling.compare(one, other).outcome is sampling.SAME for one, other in pairwise(nodes)):
        return Value(nodes[-1], parts[-1])
    return Equation(nodes[0], nodes[1]) if len(parts) == 2 else Opaque(text)


_LABEL = re.compile(r"(?:([A-Za-z][A-Za-z ]{0,20}|\\text\{[^{}0-9:]+\})\s*:|\\text\{([^{}0-9:]+):\s*\})\s*([^:]+)")


def _labelled(text: str) -> Form | None:
    """A value behind a label and a colon; a:b is a ratio."""
    match = _LABEL.fullmatch(text)
    if match is None or _is_name(match[3]):
        return None
    return _named(match[1] or match[2], _read(match[3]))


def _named(name: str, form: Form) -> Form | None:
    """The form with a name; None if it cannot have one."""
    name = name.replace(" ", "")
    if isinstance(form, Value | Group):
        return form._replace(name=name)
    return form if isinstance(form, Union | Matrix | Based) else None


def _named_group(text: str, values: Form) -> Form | None:
    """(p,q)=(3,2): the tuple, each item with its name."""
    names = [part for part in _split(text.strip()[1:-1], _LIST)[0] if part]
    if not isinstance(values, Group) or len(names) != len(values.items) or not all(_is_name(name) for name in names):
        return None
    named = [_named(name, item) for name, item in zip(names, values.items, strict=True)]
    return values._replace(items=tuple(item for item in named if item is not None))


# --------------------------------------------------------------------------- brackets


def _bracketed(text: str) -> Form | None:
    """A tuple, an interval, a set, or a form in superfluous brackets."""
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
        is_idle = (opening, closing) in (("(", ")"), ("{", "}")) and formulas.read(inside) is None
        return _read(inside) if is_idle else None
    if not all(parts) or len(parts) > _MOST_ITEMS:
        return Opaque(text)
    return Group(tuple(_read(part) for part in parts), opening, closing)


_CONDITION = re.compile(r"\\\{\s*([A-Za-z])\s*(?:\\in\s*\\mathbb\{R\}\s*)?[|:](.*)\\\}")


def _set(parts: list[str], text: str) -> Form:
    """A set; one that is described instead of listed is opaque, unless an inequality describes it."""
    condition = _CONDITION.fullmatch(text)
    if condition is not None:
        form = _read(condition[2].strip())
        return form if isinstance(form, Union) or (isinstance(form, Group) and form.variable) else Opaque(text)
    is_described = any(len(_split(part, re.compile(r"\||:"))[0]) % 2 == 0 or r"\in" in part for part in parts)
    if not all(parts) or len(parts) > _MOST_ITEMS or is_described:
        return Opaque(text)
    return Group(tuple(_flat([_read(part) for part in parts])), r"\{", r"\}")


def _based(text: str) -> Form | None:
    match = re.fullmatch(r"(-?)0*([0-9][0-9A-F.]*)_(?:\{?\(?([0-9]{1,2})\)?\}?)", text.replace(" ", ""))
    return Based(match[1] + match[2], int(match[3])) if match is not None and 2 <= int(match[3]) <= 16 else None


# --------------------------------------------------------------------------- values


def _value(text: str) -> Form | None:
    """A formula, perhaps with a currency before or behind it, or a unit behind it."""
    currency = re.match(r"(-?)\s*(?:\\\$|\\text\{(euro|pound)\})", text)
    unit = "" if currency is None else currency[2] or "$"
    text = text if currency is None else currency[1] + text[currency.end() :].strip()
    if text.endswith(r"\$"):
        text, unit = text[:-2].strip(), "$"
    number, tail = split_unit(text)
    found = unit_of(tail) if tail else None
    if found is not None and formulas.read(number) is not None and (not unit or found[1] in ("", unit)):
        return _with_unit(number, unit or found[1], found[0])
    # Capitals side by side are an order of names or a segment, and no product.
    return None if re.fullmatch("[A-Z]{2,}", text) else _with_unit(text, unit, 1)


def _with_unit(text: str, unit: str, scale: int) -> Value | None:
    """The value of a formula; degree signs outside of functions are its unit."""
    node = formulas.read(text)
    if node is None:
        return None
    bare = formulas.without_degrees(node)
    unit = unit if bare == node else f"degree{unit}"
    return Value(bare if scale == 1 else Node("mul", (bare, Node("number", value=Fraction(scale)))), text, unit)
