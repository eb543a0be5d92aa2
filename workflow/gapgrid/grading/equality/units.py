"""Units behind numbers: what words are a unit, and one spelling for each."""

import re

from gapgrid.grading.equality.normalize import word_map, word_set

_SCALES = word_map(
    "dozen 12 hundred 100 thousand 1000 million 1000000 billion 1000000000 trillion 1000000000000"
)
_UNITS = word_map(
    "mm millimeter cm centimeter km kilometer kg kilogram ft foot feet foot inches inch mi mile"
    " yd yard lb pound lbs pound ml milliliter min minute mins minute hr hour hrs hour sec second"
    " secs second deg degree pct percent percentage percent dollar $ usd $ metre meter"
    " centimetre centimeter kilometre kilometer litre liter yr year day day way way men man"
    " sq square cu cubic"
)
_LETTER_UNITS = word_map("m meter g gram s second h hour l liter")
_POWERS = word_map("square ^2 cubic ^3 squared ^2 cubed ^3")
_NO_UNIT = word_set(
    "or and if when where for with without not no none except unless than but mod less more times"
    " plus minus over half factorial choose approximately about maybe nearly almost around roughly"
    " is are was only otherwise else to such that which both either neither can cannot there true"
    " false least most up down negative positive root"
)
_PIECE = (
    r"(?:\\text\{[^{}]*\}|(?<![A-Za-z\\_])[A-Za-z]{2,})(?:\s*\^\s*(?:\{\s*-?[1-9]\s*\}|-?[1-9]))?"
)
_TAIL = re.compile(rf"\s*(?:{_PIECE}|%)(?:{_PIECE}|%|/\s*[A-Za-z]|[\s/.])*\Z")
_TOKEN = re.compile(
    r"\\text\{([^{}]*)\}|\^\\circ|\^\s*\{?\s*(-?[1-9])\s*\}?|([A-Za-z]+)|([%/])|[\s.]"
)
_WORD_OF_UNIT = re.compile(r"[A-Za-z]+|/|\^[2-9]|[^\sA-Za-z/^.,]+")


def split_unit(text: str) -> tuple[str, str]:
    """Return a text without the words and signs at its end that may be a unit, and those."""
    tail = _TAIL.search(text)
    if tail is None or not tail.start():
        return text, ""
    return text[: tail.start()].strip(), tail[0]


def unit_of(text: str) -> tuple[int, str] | None:
    """Return the scale and the name of the unit behind a number; None if the text is none."""
    words: list[str] = []
    for match in _TOKEN.finditer(text):
        inside, power, word, sign = match.groups()
        if word is not None:
            is_letters = word.lower() not in _UNITS and len(word) < 4 and words[-1:] != ["/"]
            if match.start() == 0 or is_letters:
                return None  # 3ab is a product
        if match[0].startswith("^\\"):
            words.append("degree")
        elif power is not None:
            words.append(f"^{power}")
        elif sign is not None:
            words.append("percent" if sign == "%" else "/")
        else:
            words += _WORD_OF_UNIT.findall(inside if inside is not None else word or "")
    if len(words) > 6 or any(
        word.lower() in _NO_UNIT or not re.match(r"[A-Za-z/^]", word) for word in words
    ):
        return None
    scale = int(_SCALES.get(words[0].lower().removesuffix("s"), 1)) if words else 1
    return scale, _unit_name(words[scale != 1 :])


def _unit_name(words: list[str]) -> str:
    """Return one spelling of a unit: singular, in full, squares and cubes as powers.

    Mere "units" and the endings of ordinal numbers are no unit.
    """
    names, power = [], ""
    for word in map(str.lower, words):
        for spelling in (word, word.removesuffix("s")):
            word = _UNITS.get(spelling, _LETTER_UNITS.get(spelling, word))
        word = word if len(word) < 4 else word.removesuffix("s")
        if word in ("square", "cubic"):
            power = _POWERS[word]
        elif word not in ("unit", "th"):
            names.append(_POWERS.get(word, word) + power)
            power = ""
    return "".join(names) if names and not names[0].startswith("^") else ""
