"""Texts of unknown origin made safe to show: hidden characters, lengths, spreadsheet formulas."""

import re

# Unicode's Cc, Cf, Cs, Zl and Zp (a test holds this), letters without a glyph, and the variation
# selectors, which can carry bytes.
_HIDDEN = (
    "\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2"
    "\u115f\u1160\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\u2800\u3164\ud800-\udfff\ufeff\uffa0"
    "\ufff9-\ufffb\ufffe\uffff\U000110bd\U000110cd\U00013430-\U0001343f"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
HIDDEN = re.compile(f"[{_HIDDEN}]")
_NUMBER = re.compile(r"[+-]?(?:[0-9][0-9,]*(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?%?")
_FORMULA = ("=", "+", "-", "@", "\t", "'", "＝", "＋", "－", "＠")


def visible(text: str) -> str:
    r"""Return the text with hidden characters, carriage returns too, written as `\u{202E}`.

    New lines and tabs stay. The result is valid UTF-8, moves no cursor and turns no direction; its
    letters are as they were, so it still has to be escaped for HTML, LaTeX or a terminal's markup.
    """
    return re.sub(f"[{_HIDDEN}\r]", lambda match: f"\\u{{{ord(match[0]):04X}}}", text)


def capped(text: str, most: int) -> str:
    """Return at most `most` characters of a text, and how many were cut off."""
    return text if len(text) <= most else f"{text[:most]}… [{len(text) - most} more characters]"


def cell_text(text: str, most: int) -> str:
    """Return a text as a CSV cell: capped, hidden characters written out, never a formula.

    A text that is no plain number and starts, spaces aside, with = + - @ (wide ones too), a tab or
    a ' gets a ' in front: a spreadsheet shows it as text, and dropping that ' restores it. Numbers
    such as -5 or +1,234.5 stay as they are.
    """
    shown = visible(capped(text, most))
    is_risky = shown.lstrip(" \n").startswith(_FORMULA) and not _NUMBER.fullmatch(shown.strip())
    return f"'{shown}" if is_risky else shown
