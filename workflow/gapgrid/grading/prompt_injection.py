r"""Signs that an answer speaks to whoever grades it, or hides something from them.

A sign is no verdict. The patterns hold what attacks on judges are known to look like, in English
and for the commonest words in a few other languages. They find the clumsy ones: an answer without
a sign may still be one, and a true-or-false question has answers with one. What an answer says is
never run, only matched, and matching takes time in proportion to the text (a test holds this).
"""

import base64
import binascii
import re
import unicodedata

from gapgrid.core.text import HIDDEN

MOST_LOOKED_AT = 20_000  # characters; a longer answer has the flag `long` in any case
LONG = 1000  # characters; real final answers are far shorter

# Escapes written out as text: a backslash, a letter, digits.
_WRITTEN_OUT = re.compile(r"\\u00[0-9A-Fa-f]{2}|\\u20[0-6][0-9A-Fa-f]|\\x[01][0-9A-Fa-f]")
_YES = (
    r"(?:true|correct|right|yes|same|equivalent|equal|pass(?:ed)?|full\s+(?:marks?|credit|score))"
)
_SIGNS = {
    "instruction": re.compile(
        r"\b(?:ignore|ignora|ignorez|ignoriere|disregard|overrid(?:e|ing))\b"
        r"|игнориру|忽略|无视|無視|指令|直接(?:回答|输出)|请(?:回答|输出)"
        r"|\bforget\b.{0,40}\b(?:above|before|instructions?|previous|everything|rules?)\b"
        r"|(?<![</])\b(?:reply|respond|answer|output|print|say|return|write|vote|emit)\b"
        rf"(?!\s+(?:is|was)\b)[^\n]{{0,40}}?\b{_YES}\b"
        r"|\b(?:grade|mark|score|rate|accept|count|label|deem|treat|consider|judge)(?:e?d)?\b"
        rf"[^\n]{{0,60}}?\b{_YES}\b"
        r"|\b(?:you|u)\s+(?:must|should|are\s+(?:to|now|an?|the)|have\s+to|need\s+to|will|shall)\b"
        r"|\bas\s+an?\s+(?:ai|llm|language)\b"
        r"|\b(?:new|these|following|previous|prior|above|your)"
        r"\s+(?:instructions?|prompts?|rules?|orders?)\b"
        r"|\bsystem\s+(?:prompt|message)\b",
        re.IGNORECASE,
    ),
    "judge": re.compile(
        r"\b(?:judge|judging|judge?ments?|grader|grading|evaluator|examiner|auto-?grader"
        r"|answer\s+key|ground\s+truth|rubric)\b|评分|裁判|判(?:为|定)"
        r"|\b(?:reference|gold|expected)\s+(?:answer|solution)\b"
        r"|\b(?:same|identical|equal|equivalent|match(?:es)?|agrees?)\b"
        r".{0,30}\b(?:correct|reference|given|right|true)\s+(?:answer|one|solution)\b",
        re.IGNORECASE,
    ),
    "role": re.compile(
        r"<\|[^|<>\n]{1,40}\|>|</s>|(?<!\S)<s>|\[/?INST\]|<</?SYS>>"
        r"|<(?:start|end)_of_turn>|<(?:bos|eos)>|\[/?(?:system|user|assistant)\]"
        r"|\b(?:assistant|user|human|developer)\s{0,9}:"
        r"|(?:^|[\n.!?;])[ \t*]{0,9}(?:#{1,6}[ \t]{0,9})?(?:system|instructions?)\s{0,9}:"
        r"|##[ \t]{0,9}(?:instructions?|response)\b",
        re.IGNORECASE,
    ),
    "verdict": re.compile(
        r"\b(?:True|TRUE|False|FALSE)\b"
        r"|(?i:['\"](?:judg\w{0,9}|verdict|grade|score|(?:is_)?correct|result)['\"]\s{0,9}:)"
        r"|(?i:\b(?:verdict|final\s+judge?ment)\s*(?:is|:|=))"
    ),
    "tag": re.compile(
        r"<\s{0,9}/?\s{0,9}(?:problem|question|reference|gold|answer|student|solution|response|reply"
        r"|output|judge?ment|verdict|think|system|prompt|instructions?|script|iframe)\b[^<>]{0,40}>",
        re.IGNORECASE,
    ),
}
_ENCODED = re.compile(r"(?<![A-Za-z0-9+/])([A-Za-z0-9+/]{16,4000})={0,2}")
_TEXT_COMMAND = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|mbox|boxed)(?![A-Za-z])")


def flags(answer: str) -> list[str]:
    """Return which signs an answer has, in a fixed order: none for nearly every ordinary answer.

    `instruction`: it tells someone what to reply or how to grade. `judge`: it speaks of the judge
    or the reference. `role`: markers of a chat template or a speaker. `verdict`: the words True or
    False, alone or capitalised anywhere, or a verdict as JSON. `tag`: delimiters of a prompt.
    `hidden`: characters without a glyph, that turn the direction of writing or that control a
    terminal, also written out as escapes. `encoded`: Base64 of a text with one of these signs.
    `long`: over 1000 characters. Only the first 20,000 characters are looked at.
    """
    text = answer[:MOST_LOOKED_AT]
    signs = _signs(text)
    if HIDDEN.search(text) or _WRITTEN_OUT.search(text):
        signs.append("hidden")
    if any(_signs(decoded) for decoded in _decoded(text)):
        signs.append("encoded")
    if len(answer) > LONG:
        signs.append("long")
    return signs


def _signs(text: str) -> list[str]:
    # Without hidden characters and in one form of each letter: neither can break up a word.
    plain = unicodedata.normalize("NFKC", HIDDEN.sub("", _WRITTEN_OUT.sub(" ", text)))
    signs = [name for name, pattern in _SIGNS.items() if pattern.search(plain)]
    words = {word.casefold() for word in re.findall(r"\w+", _TEXT_COMMAND.sub(" ", plain))}
    if "verdict" not in signs and words and words <= {"true", "false"}:
        signs.append("verdict")
    return signs


def _decoded(text: str) -> list[str]:
    """Return the readable texts among what may be Base64."""
    texts = []
    for match in _ENCODED.finditer(text):
        padding = "=" * (-len(match[1]) % 4)
        try:
            decoded = base64.b64decode(match[1] + padding).decode("ascii")
        except (binascii.Error, UnicodeDecodeError):
            continue
        if decoded.isprintable():
            texts.append(decoded)
    return texts
