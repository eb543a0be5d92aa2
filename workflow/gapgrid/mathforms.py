"""Answers as mathematical forms: cleaned text, read into values, lists, tuples, sets, intervals and matrices, compared by structure.

Where two forms come down to formulas that this module cannot tell apart, the comparison returns them as questions for a
computer algebra system; it asks none itself.
"""

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

from gapgrid import formulas
from gapgrid.formulas import MOST_CHARACTERS, Finding, Node, Outcome

SAME, DIFFERENT, UNLIKE, UNKNOWN = Outcome.SAME, Outcome.DIFFERENT, Outcome.UNLIKE, Outcome.UNKNOWN
_MOST_ITEMS = 60

# --------------------------------------------------------------------------- one spelling

_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n")
_SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
_GREEK = {"α": "alpha", "β": "beta", "γ": "gamma", "θ": "theta", "λ": "lambda", "μ": "mu", "φ": "phi", "ω": "omega", "π": "pi"}
_SIGNS = {"∞": "infty", "×": "times", "·": "cdot", "⋅": "cdot", "∪": "cup", "∩": "cap", "∈": "in", "∅": "emptyset", "±": "pm"}
_SIGNS |= {"≤": "le", "≥": "ge", "≠": "ne", "≈": "approx", "√": "sqrt", "⌊": "lfloor", "⌋": "rfloor", "⌈": "lceil", "⌉": "rceil", "…": "ldots"}
_VULGAR = {"½": "12", "⅓": "13", "⅔": "23", "¼": "14", "¾": "34", "⅕": "15", "⅖": "25", "⅗": "35", "⅘": "45", "⅙": "16", "⅚": "56", "⅛": "18"}
_CHARACTERS = str.maketrans(
    {sign: f"\\{name} " for sign, name in (_GREEK | _SIGNS).items()}
    | {sign: rf"\frac{{{parts[0]}}}{{{parts[1]}}}" for sign, parts in _VULGAR.items()}
    | {"−": "-", "–": "-", "°": r"^\circ ", "÷": "/", "′": "'", "‖": "|", "€": r"\text{euro}", "£": r"\text{pound}", "，": ",", "（": "(", "）": ")"}
    | dict.fromkeys("\u00a0\u2002\u2003\u2007\u2009\u200a\u202f\t\n\r", " ")
)
_SYNONYMS = {
    **dict.fromkeys(("dfrac", "tfrac", "cfrac"), "frac"),
    **dict.fromkeys(("dbinom", "tbinom"), "binom"),
    **dict.fromkeys(("leq", "leqslant", "leqq"), "le"),
    **dict.fromkeys(("geq", "geqslant", "geqq"), "ge"),
    **dict.fromkeys(("dots", "cdots", "dotsc", "dotsb", "dotsm"), "ldots"),
    **dict.fromkeys(("bmatrix", "Bmatrix", "smallmatrix"), "pmatrix"),
    **{"neq": "ne", "varnothing": "emptyset", "varphi": "phi", "varepsilon": "epsilon", "ast": "cdot", "degree": "circ"},
    **{"arcctg": "arccot", "tg": "tan", "ctg": "cot", "sim": "approx", "simeq": "approx", "infin": "infty"},
}
_ASCII = {"lt": "<", "gt": ">", "lbrace": r"\{", "rbrace": r"\}", "vert": "|", "lvert": "|", "rvert": "|", "mid": "|", "colon": ":"}
_ASCII |= dict.fromkeys(("lbrack",), "[") | dict.fromkeys(("rbrack",), "]") | {"langle": "(", "rangle": ")", "lparen": "(", "rparen": ")"}
_DROPPED = "left right big Big bigg Bigg bigl bigr Bigl Bigr biggl biggr displaystyle textstyle limits mathstrut rm bf it".split()
_SPACES = "quad qquad thinspace enspace medspace thickspace space hfill".split()
_FONTS = "text|textbf|textit|textrm|textnormal|textup|textsf|texttt|mbox|hbox|mathrm|mathbf|mathit|mathsf|boldsymbol|bm|operatorname\\*?|mathop"

_DIGIT_GROUP = re.compile(r"(?<=[0-9])\s*(?:,\s*\\!|\\!\s*,|\{\s*,\s*\}|,\\,)\s*(?=[0-9]{3}(?![0-9]))")
_SPACED_DIGITS = re.compile(r"(?<![0-9.,])[0-9]{1,3}(?: [0-9]{3})+(?![0-9])")
_FONT = re.compile(rf"\\(?:{_FONTS})\s*\{{([^{{}}]*)\}}")
_COMMAND = re.compile(r"\\([A-Za-z]+)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")


def _font(match: re.Match[str]) -> str:
    """A single letter is that letter in another font; a function's name is the function; all else is words."""
    inside = match[1].strip()
    if re.fullmatch("[A-Za-z]", inside):
        return inside
    if inside in ("arcsin", "arccos", "arctan", "sin", "cos", "tan", "cot", "sec", "csc", "ln", "log"):
        return f"\\{inside} "
    return rf"\text{{{match[1]}}}"


def _command(match: re.Match[str]) -> str:
    name = match[1]
    if name in _ASCII:
        return _ASCII[name]
    if name in _DROPPED:
        return ""
    return " " if name in _SPACES else f"\\{_SYNONYMS.get(name, name)}"


@lru_cache(4096)
def clean(text: str) -> str:
    """The answer in one spelling: one command for one meaning, no delimiters of mathematics, no spacing commands."""
    text = text.translate(_CHARACTERS)
    text = re.sub("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ]+", lambda match: "^{" + match[0].translate(_SUPERSCRIPTS) + "}", text)
    text = re.sub("[₀₁₂₃₄₅₆₇₈₉]+", lambda match: "_{" + match[0].translate(_SUBSCRIPTS) + "}", text)
    text = re.sub(r"(\\sqrt )([0-9]+)", r"\1{\2}", text) if "\\sqrt " in text and "√" not in text else text
    if r"\begin" not in text:
        text = re.sub(r"\\\\(?=[A-Za-z]{2})", r"\\", text)  # JSON escaped twice
    text = _DIGIT_GROUP.sub("", text)
    text = re.sub(r"(?<!\\)\\[,;:> ]|~", " ", text)
    text = re.sub(r"(?<!\\)\\!|(?<!\\)\\(?:left|right)\s*\.", "", text)
    text = re.sub(r"(?<!\\)\\[()\[\]]|(?<!\\)\$", " ", text)
    text = _COMMAND.sub(_command, text)
    text = re.sub(r"\^\s*\{?\s*\\circ\s*\}?", r"^\\circ ", text)
    for _ in range(3):
        text = _FONT.sub(_font, text)
    text = text.replace("**", "^").replace("<=", r"\le ").replace(">=", r"\ge ").replace("==", "=").replace(r"\%", "%")
    text = re.sub(r"\s+", " ", text)
    text = _SPACED_DIGITS.sub(lambda match: match[0].replace(" ", ""), text)
    return re.sub(r"(?:\s|\\|(?<!\\)[.,;:])+$", "", text).strip()


def identity(text: str) -> str:
    """The cleaned text without the spaces that carry no meaning: all but those between two digits or two letters."""
    return re.sub(r"(?<![A-Za-z]) (?=[A-Za-z])|(?<=[A-Za-z]) (?![A-Za-z])|(?<![0-9A-Za-z]) | (?![0-9A-Za-z])", "", clean(text))


def words(text: str) -> str:
    """The answer as words: lower case, no text command, no punctuation around; empty if it holds no word."""
    plain = re.sub(r"\\text\{([^{}]*)\}", r"\1", clean(text))
    plain = re.sub(r"\s+", " ", plain).strip(" .!:;,")
    if not re.search(r"[A-Za-z]{2}", plain) or "\\" in plain:
        return ""
    return plain.lower() if re.search("[A-Za-z]{3}", plain) or plain.lower() == "no" else plain


_CHOICE = re.compile(r"(\()?([A-Z])(?(1)\))")


def choice(text: str) -> str:
    """The letter of a multiple-choice answer, with or without brackets, else nothing."""
    match = _CHOICE.fullmatch(re.sub(r"\\text\{([^{}]*)\}", r"\1", clean(text)).strip())
    return match[2] if match else ""


# --------------------------------------------------------------------------- forms


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
    """Several forms; `opening` and `closing` are the brackets, empty for a bare list."""

    items: "tuple[Form, ...]"
    opening: str = ""
    closing: str = ""
    name: str = ""


class Union(NamedTuple):
    """Intervals and sets joined together."""

    pieces: "tuple[Group, ...]"


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


_OPENING = ("(", "[", "{", r"\{", r"\lfloor", r"\lceil", r"\begin")
_CLOSING = (")", "]", "}", r"\}", r"\rfloor", r"\rceil", r"\end")
_SCAN = re.compile(r"\\[A-Za-z]+|\\.|[()\[\]{}]", re.DOTALL)
_LIST = re.compile(r"[,;]|\\text\{\s*[,;]?\s*(?:and|or)?\s*\}|(?<![A-Za-z\\])(?:and|or)(?![A-Za-z])")
_CUP = re.compile(r"\\cup(?![A-Za-z])|(?<=[\])}]) ?U ?(?=[\[({\\])")
_EQUALS = re.compile("=")
_ORDER = re.compile(r"<|>|\\le(?![A-Za-z])|\\ge(?![A-Za-z])")


def split(text: str, separator: re.Pattern[str]) -> tuple[list[str], list[str]]:
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
            depth += (token[0] in _OPENING) - (token[0] in _CLOSING)
        at = token.end() if token is not None else at + 1
    return [*parts, text[start:].strip()], separators


_THOUSANDS = re.compile(r"(?<![0-9.,])([0-9]{1,3}(?:,[0-9]{3})+)(?![0-9,])")


@lru_cache(4096)
def readings(text: str) -> tuple[Form, ...]:
    """The forms that an answer may be: more than one where a comma may group digits or separate items."""
    cleaned = clean(text)
    if not cleaned or len(cleaned) > MOST_CHARACTERS or _CONTROL.search(cleaned):
        return ()
    forms = [_read(cleaned)]
    if _THOUSANDS.search(cleaned):
        # Inside brackets a comma separates.
        joined = "".join(part if part[:1] in ("(", "[", "{") else _THOUSANDS.sub(lambda m: m[1].replace(",", ""), part) for part in _pieces(cleaned))
        if joined != cleaned:
            forms.insert(0, _read(joined))
    return tuple(forms)


def _pieces(text: str) -> Iterator[str]:
    """The text cut into runs outside and inside brackets."""
    depth = start = 0
    for match in re.finditer(r"[(\[{]|[)\]}]", text):
        if match[0] in "([{":
            if depth == 0:
                yield text[start : match.start()]
                start = match.start()
            depth += 1
        elif depth:
            depth -= 1
            if depth == 0:
                yield text[start : match.end()]
                start = match.end()
    yield text[start:]


def _read(text: str) -> Form:
    """The form of a cleaned text."""
    exact_part = re.split(r"\\approx(?![A-Za-z])", text)
    text = (exact_part[0].strip() or exact_part[-1]).strip().rstrip(" .,;")
    for reader in (_matrix, _list, _union, _membership, _inequality, _equation, _bracketed, _based, _value):
        form = reader(text)
        if form is not None:
            return form
    return Opaque(text)


def _matrix(text: str) -> Form | None:
    match = re.fullmatch(r"[(\[]?\s*\\begin\{(pmatrix|matrix|bmatrix|array)\}(?:\s*\{[lcr| ]*\})?(.*?)\\end\{\1\}\s*[)\]]?", text)
    if match is None or r"\begin" in match[2]:
        return None
    lines = [line.strip() for line in re.split(r"\\\\(?:\[[^\]]*\])?", match[2])]
    rows = tuple(tuple(_read(cell.strip()) for cell in line.split("&")) for line in lines if line)
    return Matrix(rows) if rows else None


def _list(text: str) -> Form | None:
    parts, separators = split(text, _LIST)
    parts = [part for part in parts if part]
    if not separators or not parts or len(parts) > _MOST_ITEMS:
        return _signs(text)
    kinds = {re.sub(r"\\text|[{} ]", "", separator) for separator in separators}
    if ";" in kinds and len(kinds) > 1:  # solutions between semicolons, their coordinates between commas
        return Group(tuple(_read(part) for part in split(text, re.compile(";"))[0] if part))
    items = [_read(part) for part in parts]
    if any(isinstance(item, Group) and item.name and not item.opening.startswith("\\") for item in items) and _is_inequality(items):
        return Union(tuple(item for item in items if isinstance(item, Group))) if kinds == {"or"} else Opaque(text)
    flat: list[Form] = []
    for item in items:
        flat.extend(item.items if isinstance(item, Group) and not item.opening else (item,))
    return Group(tuple(flat))


def _is_inequality(items: list[Form]) -> bool:
    return all(isinstance(item, Group) and item.name.startswith("<") for item in items)


def _signs(text: str) -> Form | None:
    r"""The two values of a text with one `\pm`."""
    if text.count(r"\pm") != 1 or r"\mp" in text or "=" in text.partition(r"\pm")[2]:
        return None
    both = [_read(re.sub(r"\\pm\s*", sign, text).strip()) for sign in ("+", "-")]
    if any(not isinstance(form, Value) for form in both):
        return None
    return Group(tuple(both))


def _union(text: str) -> Form | None:
    parts, separators = split(text, _CUP)
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


_FLIPPED = {"<": ">", ">": "<", r"\le": r"\ge", r"\ge": r"\le"}
_INFINITY = Node("constant", name="inf")


def _inequality(text: str) -> Form | None:
    """An inequality on one variable, as the interval it describes."""
    parts, signs = split(text, _ORDER)
    if not signs:
        return None
    nodes = [formulas.read(part) for part in parts]
    middle = next((at for at, node in enumerate(nodes) if node is not None and node.op == "variable"), None)
    if middle is None or len(parts) > 3 or (len(parts) == 3 and middle != 1) or any(node is None for node in nodes):
        return Opaque(text)
    name = parts[middle]
    low, high = Value(Node("neg", (_INFINITY,)), "-\\infty"), Value(_INFINITY, "\\infty")
    opening, closing = "(", ")"
    for at, sign in enumerate(signs):
        other = at + 1 if at == middle else at
        bound = _value(parts[other])
        sign = sign if at == middle else _FLIPPED[sign]  # read from the variable outwards
        if not isinstance(bound, Value) or name in formulas.variables(bound.node):
            return Opaque(text)
        if sign in ("<", r"\le"):
            high, closing = bound, "]" if sign == r"\le" else ")"
        else:
            low, opening = bound, "[" if sign == r"\ge" else "("
    if len(signs) == 2 and (low.text == "-\\infty" or high.text == "\\infty"):
        return Opaque(text)
    return Group((low, high), opening, closing, name=f"<{name}")


_LETTER = r"(?:\\?[A-Za-z]+|[A-Za-z])(?:_(?:\{[^{}]*\}|[A-Za-z0-9]))?'*"
_SIMPLE_NAME = re.compile(
    rf"(?:[A-Za-z]|\\(?:{'|'.join(sorted(formulas.GREEK))}))(?:_(?:\{{[^{{}}]*\}}|[A-Za-z0-9]))?'*(?:\([^()]*\))?"
    r"|\|?[A-Z]{2,4}\|?|\\(?:angle|triangle|overline|widehat|measuredangle|max|min|vec)\b.*|(?:[A-Za-z]_)?\\text\{[^{}]*\}|[A-Z]:[A-Z]|[A-Z]/[A-Z]"
)


def _is_name(text: str) -> bool:
    """Whether a text can only be a name for a value: a letter, f(x), a segment or an angle, a word."""
    return _SIMPLE_NAME.fullmatch(text.strip().replace(" ", "")) is not None


def _equation(text: str) -> Form | None:
    """A named value or several; or two formulas set equal."""
    parts, separators = split(text, _EQUALS)
    if not separators:
        return None
    if any(not part for part in parts):
        return Opaque(text)
    if not _is_name(parts[0]) and len(parts) == 2 and _is_name(parts[1]):
        parts.reverse()
    if _is_name(parts[0]):
        return _named(parts[0].replace(" ", ""), _read(parts[-1])) or Opaque(text)
    left = _read(parts[0])
    if isinstance(left, Group):
        return _named_group(parts[0], left, _read(parts[-1])) or Opaque(text)
    nodes = [formulas.read(part) for part in parts]
    if nodes[0] is None and re.search("[A-Za-z]", parts[0]):
        return _named(parts[0], _read(parts[-1])) or Opaque(text)
    known = [node for node in nodes if node is not None]
    if len(known) < len(parts):
        return Opaque(text)
    if all(formulas.compare(one, other).outcome is SAME for one, other in zip(known, known[1:], strict=False)):
        return Value(known[-1], parts[-1])
    return Equation(known[0], known[1]) if len(parts) == 2 else Opaque(text)


def _named(name: str, form: Form) -> Form | None:
    if isinstance(form, Value):
        return form._replace(name=name)
    if isinstance(form, Group):
        return form._replace(name=name)
    return form if isinstance(form, Union | Matrix | Based) else None


def _named_group(text: str, names: Group, values: Form) -> Form | None:
    """(p,q)=(3,2): the tuple, each item with its name."""
    parts = [part for part in split(text.strip()[1:-1] if names.opening else text, _LIST)[0] if part]
    if not isinstance(values, Group) or len(parts) != len(values.items) or not all(_is_name(part) for part in parts):
        return None
    named = [_named(part.replace(" ", ""), item) for part, item in zip(parts, values.items, strict=True)]
    return values._replace(items=tuple(item for item in named if item is not None))


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
    parts, separators = split(inside, _LIST)
    if not separators:
        if opening != r"\{":
            return _read(inside) if (opening, closing) in (("(", ")"), ("{", "}")) and formulas.read(inside) is None else None
        if not inside or "|" in inside or ":" in inside:
            return Opaque(text)
        form = _read(inside)
        items = form.items if isinstance(form, Group) and not form.opening else (form,)
        return Group(items, r"\{", r"\}")
    if "" in parts or len(parts) > _MOST_ITEMS or "|" in inside.replace("||", "") and is_set:
        return Opaque(text)
    items_read: list[Form] = []
    for part in parts:
        form = _read(part)
        items_read.extend(form.items if is_set and isinstance(form, Group) and not form.opening else (form,))
    return Group(tuple(items_read), r"\{" if is_set else opening, r"\}" if is_set else closing)


def _closes_at_end(text: str) -> bool:
    """Whether the first bracket closes with the last character only."""
    depth = 0
    for match in _SCAN.finditer(text):
        depth += (match[0] in _OPENING) - (match[0] in _CLOSING)
        if depth == 0:
            return match.end() == len(text)
    return False


def _based(text: str) -> Form | None:
    match = re.fullmatch(r"([0-9][0-9A-F]*)_(?:\{?\(?([0-9]{1,2})\)?\}?)", text.replace(" ", ""))
    if match is None or not 2 <= int(match[2]) <= 16:
        return None
    return Based(match[1].lstrip("0") or "0", int(match[2]))


# --------------------------------------------------------------------------- values and units

_SCALES = {"dozen": 12, "hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_UNIT_SYNONYMS = {
    **{"min": "minute", "mins": "minute", "hr": "hour", "hrs": "hour", "h": "hour", "sec": "second", "secs": "second", "s": "second"},
    **{"mm": "millimeter", "cm": "centimeter", "m": "meter", "km": "kilometer", "kg": "kilogram", "g": "gram", "ft": "foot", "feet": "foot"},
    **{"in": "inch", "inches": "inch", "mi": "mile", "mph": "mile/hour", "yd": "yard", "lb": "pound", "lbs": "pound", "l": "liter", "ml": "milliliter"},
    **{"pct": "percent", "percentage": "percent", "deg": "degree", "dollar": "$", "usd": "$", "sq": "square", "cu": "cubic", "yr": "year"},
    **{"unit": "", "metre": "meter", "centimetre": "centimeter", "litre": "liter", "rs": "rupee", "centimeter": "centimeter", "cents": "cent"},
}
_SHORT_UNITS = set("mm cm km kg ft mi mph yd lb lbs ml hr hrs min mins sec secs pct deg sq cu cm km days day men year years ways way m in".split()) - {"m", "in"}
_NO_UNIT = set(
    "or and if when where for with without not no none except unless than but mod less more times plus minus over half squared cubed"
    " factorial choose approximately about maybe nearly almost around roughly is are was the a any all each per only otherwise else to"
    " such that which both either neither can cannot there true false least most up down negative positive root log sin cos tan".split()
) - {"any", "per", "a", "the", "all", "each"}
_PIECE = r"(?:\\text\{[^{}]*\}|(?<![A-Za-z\\_])(?:\\mu )?[A-Za-z]+)(?:\s*\^\s*(?:\{\s*-?[0-9]\s*\}|-?[0-9]))?"
_WITH_UNIT = re.compile(rf"(?P<value>.*?)(?P<unit>(?:{_PIECE}|%|\^\\circ)(?:[\s/.]*(?:{_PIECE}))*)\s*\.?")


def _value(text: str) -> Form | None:
    """A formula, perhaps with a currency before or a unit after it."""
    unit = ""
    currency = re.match(r"\\\$|\\text\{(euro|pound)\}", text)
    if currency is not None:
        text, unit = text[currency.end() :].strip(), currency[1] or "$"
    ends = re.fullmatch(r"(.*?)\s*\\\$", text)
    if ends is not None and not unit:
        text, unit = ends[1], "$"
    node = None if re.search(r"[0-9}] [A-Za-z]{2}|\^\\circ$", text) else formulas.read(text)
    if node is not None:
        return Value(node, text, unit)
    return _with_unit(text, unit)


def _with_unit(text: str, currency: str) -> Form | None:
    match = _WITH_UNIT.fullmatch(text)
    start = 0
    while match is not None:
        node = formulas.read(match["value"].strip())
        unit = None if node is None else _unit(match["unit"], match["value"])
        if node is not None and unit is not None and not (currency and unit[1] not in ("", currency)):
            scaled = node if unit[0] == 1 else Node("mul", (node, Node("number", value=formulas.Fraction(unit[0]))))
            return Value(scaled, match["value"].strip(), currency or unit[1])
        start = match.start("unit") + 1
        match = _WITH_UNIT_FROM(text, start)
    node = formulas.read(text)
    return None if node is None else Value(node, text, currency)


def _WITH_UNIT_FROM(text: str, start: int) -> re.Match[str] | None:  # noqa: N802
    match = _WITH_UNIT.search(text, start) if start < len(text) else None
    return None if match is None else re.compile(rf"(?P<value>.{{{match.start('unit')}}})(?P<unit>.*)").fullmatch(text)


def _unit(text: str, value: str) -> tuple[int, str] | None:
    """The scale and the name of a unit; None if the words behind a value are none."""
    plain_words = re.sub(r"\\text\{[^{}]*\}|\^\\circ", "", text)
    for word in re.findall("[A-Za-z]+", plain_words):
        if word.lower() not in _SHORT_UNITS and len(word) < 4:
            return None
    if plain_words[:1].isalpha() and not value.endswith(" "):
        return None
    text = text.replace("^\\circ", " degree ").replace("%", " percent ")
    text = re.sub(r"\\text\{([^{}]*)\}", r" \1 ", text)
    found = re.findall(r"[A-Za-z$]+|/|\^\s*\{?\s*-?[0-9]", text)
    if re.sub(r"[A-Za-z$/.\s]|\^\s*\{?\s*-?[0-9]\s*\}?", "", text) or len(found) > 6:
        return None
    if any(word.lower() in _NO_UNIT for word in found):
        return None
    scale = _SCALES.get(found[0].lower().rstrip("s"), 1) if found else 1
    named = [_unit_name(word) for word in (found[1:] if scale != 1 else found)]
    return scale, "".join(named)


def _unit_name(word: str) -> str:
    word = re.sub(r"[\s{]", "", word.lower())
    word = _UNIT_SYNONYMS.get(word, word)
    word = word[:-1] if len(word) > 3 and word.endswith("s") else word
    word = _UNIT_SYNONYMS.get(word, word)
    return "" if word in ("square", "cubic") else re.sub(r"\^.*", "", word)
