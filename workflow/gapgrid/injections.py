r"""Signs that an answer speaks to whoever grades it, or hides something from them; a sign is no verdict.

The patterns hold what attacks on judges are known to look like, in English and for the commonest words in a few other
languages. They find the clumsy ones: an answer without a sign may still be one, and a true-or-false question has answers
with one. What an answer says is never run, only matched, and matching takes time in proportion to
the text (a test holds this).
"""

import base64
import binascii
import re
import unicodedata
from xml.etree import ElementTree

MOST_LOOKED_AT = 20_000  # characters; a longer answer has the flag `long` in any case
LONG = 1000  # characters; real final answers are far shorter

# Unicode's Cc, Cf, Cs, Zl and Zp (a test holds this), letters without a glyph, and the selectors that can carry bytes.
_HIDDEN = (
    "\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u115f\u1160\u180e\u200b-\u200f"
    "\u2028-\u202e\u2060-\u206f\u2800\u3164\ud800-\udfff\ufeff\uffa0\ufff9-\ufffb\ufffe\uffff\U000110bd\U000110cd"
    "\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
HIDDEN = re.compile(f"[{_HIDDEN}]")
_WRITTEN_OUT = re.compile(r"\\u00[0-9A-Fa-f]{2}|\\u20[0-6][0-9A-Fa-f]|\\x[01][0-9A-Fa-f]")  # backslash, u, digits: as text

_YES = r"(?:true|correct|right|yes|same|equivalent|equal|pass(?:ed)?|full\s+(?:marks?|credit|score))"
_SIGNS = {
    "instruction": re.compile(
        r"\b(?:ignore|ignora|ignorez|ignoriere|disregard|overrid(?:e|ing))\b|игнориру|忽略|无视|無視|指令|直接(?:回答|输出)|请(?:回答|输出)"
        r"|\bforget\b.{0,40}\b(?:above|before|instructions?|previous|everything|rules?)\b"
        rf"|(?<![</])\b(?:reply|respond|answer|output|print|say|return|write|vote|emit)\b(?!\s+(?:is|was)\b)[^\n]{{0,40}}?\b{_YES}\b"
        rf"|\b(?:grade|mark|score|rate|accept|count|label|deem|treat|consider|judge)(?:e?d)?\b[^\n]{{0,60}}?\b{_YES}\b"
        r"|\b(?:you|u)\s+(?:must|should|are\s+(?:to|now|an?|the)|have\s+to|need\s+to|will|shall)\b|\bas\s+an?\s+(?:ai|llm|language)\b"
        r"|\b(?:new|these|following|previous|prior|above|your)\s+(?:instructions?|prompts?|rules?|orders?)\b|\bsystem\s+(?:prompt|message)\b",
        re.IGNORECASE,
    ),
    "judge": re.compile(
        r"\b(?:judge|judging|judge?ments?|grader|grading|evaluator|examiner|auto-?grader|answer\s+key|ground\s+truth|rubric)\b|评分|裁判|判(?:为|定)"
        r"|\b(?:reference|gold|expected)\s+(?:answer|solution)\b"
        r"|\b(?:same|identical|equal|equivalent|match(?:es)?|agrees?)\b.{0,30}\b(?:correct|reference|given|right|true)\s+(?:answer|one|solution)\b",
        re.IGNORECASE,
    ),
    "role": re.compile(
        r"<\|[^|<>\n]{1,40}\|>|</s>|(?<!\S)<s>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>|<(?:bos|eos)>|\[/?(?:system|user|assistant)\]"
        r"|\b(?:assistant|user|human|developer)\s{0,9}:|(?:^|[\n.!?;])[ \t*]{0,9}(?:#{1,6}[ \t]{0,9})?(?:system|instructions?)\s{0,9}:"
        r"|##[ \t]{0,9}(?:instructions?|response)\b",
        re.IGNORECASE,
    ),
    "verdict": re.compile(
        r"\b(?:True|TRUE|False|FALSE)\b|(?i:['\"](?:judg\w{0,9}|verdict|grade|score|(?:is_)?correct|result)['\"]\s{0,9}:)"
        r"|(?i:\b(?:verdict|final\s+judge?ment)\s*(?:is|:|=))"
    ),
    "tag": re.compile(
        r"<\s{0,9}/?\s{0,9}(?:problem|question|reference|gold|answer|student|solution|response|reply|output|judge?ment|verdict|think|system|prompt"
        r"|instructions?|script|iframe)\b[^<>]{0,40}>",
        re.IGNORECASE,
    ),
}
_ENCODED = re.compile(r"(?<![A-Za-z0-9+/])[A-Za-z0-9+/]{16,4000}={0,2}")
_TEXT_COMMAND = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|mbox|boxed)(?![A-Za-z])")


def flags(answer: str) -> list[str]:
    """Which signs an answer has, in a fixed order: none for nearly every ordinary answer.

    `instruction`: it tells someone what to reply or how to grade. `judge`: it speaks of the judge or the reference.
    `role`: markers of a chat template or a speaker. `verdict`: the words True or False, alone or capitalised anywhere,
    or a verdict as JSON. `tag`: delimiters of a prompt. `hidden`: characters without a glyph, that turn the direction of
    writing or that control a terminal, also written out as escapes. `encoded`: Base64 of a text with one of these signs.
    `long`: over 1000 characters. Only the first 20,000 characters are looked at.
    """
    text = answer[:MOST_LOOKED_AT]
    found = _said(text)
    if HIDDEN.search(text) or _WRITTEN_OUT.search(text):
        found.append("hidden")
    if any(_said(decoded) for decoded in _decoded(text)):
        found.append("encoded")
    if len(answer) > LONG:
        found.append("long")
    return found


def _said(text: str) -> list[str]:
    # Without what is hidden and in one form of each letter, so that neither can be used to break up a word.
    plain = unicodedata.normalize("NFKC", HIDDEN.sub("", _WRITTEN_OUT.sub(" ", text)))
    found = [name for name, pattern in _SIGNS.items() if pattern.search(plain)]
    if "verdict" not in found and _is_verdict_alone(plain):
        found.append("verdict")
    return found


def _is_verdict_alone(text: str) -> bool:
    words = re.findall(r"\w+", _TEXT_COMMAND.sub(" ", text))
    return bool(words) and all(word.casefold() in ("true", "false") for word in words)


def _decoded(text: str) -> list[str]:
    """The readable texts among what may be Base64."""
    texts = []
    for match in _ENCODED.finditer(text):
        try:
            decoded = base64.b64decode(match[0].rstrip("=") + "=" * (-len(match[0].rstrip("=")) % 4)).decode("ascii")
        except (binascii.Error, UnicodeDecodeError):
            continue
        if decoded.isprintable():
            texts.append(decoded)
    return texts


def visible(text: str) -> str:
    r"""The text with every hidden character, carriage returns too, written out as `\u{202E}`; new lines and tabs stay.

    What comes out is valid UTF-8, moves no cursor and turns no direction; it is as safe as its letters, so it still has
    to be escaped for the place it goes to.
    """
    return re.sub(f"[{_HIDDEN}\r]", lambda match: f"\\u{{{ord(match[0]):04X}}}", text)


def capped(text: str, most: int) -> str:
    """At most `most` characters of a text, and how many were cut off."""
    return text if len(text) <= most else f"{text[:most]}… [{len(text) - most} more characters]"


_NUMBER = re.compile(r"[+-]?(?:[0-9][0-9,]*(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?%?")
_FORMULA = ("=", "+", "-", "@", "\t", "'", "＝", "＋", "－", "＠")


def cell_text(text: str, most: int) -> str:
    """A text of unknown origin as a CSV cell: capped, hidden characters written out, and no spreadsheet's formula.

    A text that is no plain number and starts, spaces aside, with = + - @ (wide ones too), a tab or ' gets a ' in front:
    a spreadsheet shows it as text, and taking that ' off gives the text back. Numbers such as -5 or +1,234.5 stay as they are.
    """
    shown = visible(capped(text, most))
    is_risky = shown.lstrip(" \n").startswith(_FORMULA) and not _NUMBER.fullmatch(shown.strip())
    return f"'{shown}" if is_risky else shown


def element(tag: str, *children: ElementTree.Element | str, **attributes: str) -> ElementTree.Element:
    """An HTML element, for `ElementTree.tostring(…, method="html")`: a text in it stays text, as the tree escapes it."""
    made = ElementTree.Element(tag, {key.rstrip("_"): value for key, value in attributes.items()})
    for child in children:
        if isinstance(child, ElementTree.Element):
            made.append(child)
        elif len(made):
            made[-1].tail = (made[-1].tail or "") + visible(child)
        else:
            made.text = (made.text or "") + visible(child)
    return made
