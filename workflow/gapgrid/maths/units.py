"""Units behind numbers: what words are a unit, and one spelling for each."""

import re

from gapgrid.maths.spelling import table, word_set

_SCALES = {"dozen": 12, "hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_UNITS = table(
    "mm millimeter cm centimeter km kilometer kg kilogram ft foot feet foot inches inch mi mile yd yard lb pound lbs pound"
    " ml milliliter min minute mins minute hr hour hrs hour sec second secs second deg degree pct percent percentage percent"
    " dollar $ usd $ metre meter centimetre centimeter kilometre kilometer litre liter yr year day day way way men man"
    " sq square cu cubic"
)
_LETTER_UNITS = table("m meter g gram s second h hour l liter")
_POWERS = table("square ^2 cubic ^3 squared ^2 cubed ^3")
_NO_UNIT = word_set(
    "or and if when where for with without not no none except unless than but mod less more times plus minus over half"
    " factorial choose approximately about maybe nearly almost around roughly is are was only otherwise else to such that"
    " which both either neither can cannot there true false least most up down negative positive root"
)
_PIECE = r"(?:\\text\{[^{}]*\}|(?<![A-Za-z\\_])[A-Za-z]{2,})(?:\s*\^\s*(?:\{\s*-?[1-9]\s*\}|-?[1-9]))?"
_TAIL = re.compile(rf"\s*(?:{_PIECE}|%)(?:{_PIECE}|%|/\s*[A-Za-z]|[\s/.])*\Z")
_UNIT_TOKEN = re.compile(r"\\text\{([^{}]*)\}|\^\\circ|\^\s*\{?\s*(-?[1-9])\s*\}?|([A-Za-z]+)|([%/])|[\s.]")


def split_unit(text: str) -> tuple[str, str]:
    """A text without the words and percent signs at its end that may be a unit, and those."""
    tail = _TAIL.search(text)
    return (text, "") if tail is None or not tail.start() else (text[: tail.start()].strip(), tail[0])


def unit_of(text: str) -> tuple[int, str] | None:
    """The scale and the name of the unit that a text behind a number is; None if it is none."""
    found: list[str] = []
    for match in _UNIT_TOKEN.finditer(text):
        inside, power, word, sign = match.groups()
        if word is not None and match.start() == 0:
            return None  # 3ab is a product
        if word is not None and word.lower() not in _UNITS and len(word) < 4 and found[-1:] != ["/"]:
            return None
        if match[0].startswith("^\\"):
            found.append("degree")
        elif power is not None:
            found.append(f"^{power}")
        elif sign is not None:
            found.append("percent" if sign == "%" else "/")
        else:
            found.extend(re.findall(r"[A-Za-z]+|/|\^[2-9]|[^\sA-Za-z/^.,]+", inside if inside is not None else word or ""))
    if len(found) > 6 or any(word.lower() in _NO_UNIT or not re.match(r"[A-Za-z/^]", word) for word in found):
        return None
    scale = _SCALES.get(found[0].lower().removesuffix("s"), 1) if found else 1
    return scale, _unit_name(found[scale != 1 :])


def _unit_name(found: list[str]) -> str:
    """One spelling of a unit: singular, in full, squares and cubes as powers; mere "units" and ordinal endings are none."""
    names, power = [], ""
    for word in found:
        word = word.lower()
        for spelling in (word, word.removesuffix("s")):
            word = _UNITS.get(spelling, _LETTER_UNITS.get(spelling, word))
        word = word if len(word) < 4 else word.removesuffix("s")
        if word in ("square", "cubic"):
            power = _POWERS[word]
        elif word not in ("unit", "th"):
            names.append(_POWERS.get(word, word) + power)
            power = ""
    return "".join(names) if names and not names[0].startswith("^") else ""
