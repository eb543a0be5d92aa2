"""The prompt of the judge, and the verdict in its reply."""

import re
import unicodedata

from gapgrid.core.rows import CORRECT, INCORRECT, UNPARSED, Pair
from gapgrid.core.spec_types import JudgeIdentity, with_defaults
from gapgrid.judging.backends import Prompt

CAPS = {"problem": 8000, "gold": 2000, "answer": 2000}  # characters shown to the judge

# `<` and `[` begin a tag of the prompt, or a control token of some model, only when something
# follows at once.
_OPENING = re.compile(r"<(?=\S|\Z)|\[(?=/?[A-Z_]{3,}\])")


def as_data(text: str, cap: int) -> str:
    """Return text of a student or a data set that cannot command the judge.

    It holds no tag, no control token, no invisible character, and at most `cap` characters.
    """
    visible = "".join(
        c for c in text if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cf", "Cs")
    )
    shown = visible if len(visible) <= cap else f"{visible[:cap]} […]"
    return _OPENING.sub(lambda match: f"{match[0]} ", shown)


def render(template: str, pair: Pair) -> Prompt:
    """Return the prompt for one pair as chat messages.

    The texts of the pair are data: none can close its own delimiter. Reference and answer are
    put on one line each.
    """
    texts = {
        "problem": pair.problem,
        "gold": " ".join(pair.gold.split()),
        "answer": " ".join(pair.answer.split()),
    }
    parts = {name: as_data(text, CAPS[name]) for name, text in texts.items()}
    text = re.sub(r"\{(problem|gold|answer)\}", lambda match: parts[match[1]], template)
    return [{"role": "user", "content": text}]


def parse(reply: str, identity: JudgeIdentity) -> str:
    """Return the verdict in a reply: `unparsed` for all but the judge's words, never a guess.

    `verdict: first_word` takes the first word, which punctuation may follow; "True/False" and
    "True or False?" repeat the question and say nothing. `whole_reply` takes the reply as a whole.
    """
    words = {
        word: verdict for verdict in (CORRECT, INCORRECT) for word in identity["replies"][verdict]
    }
    longest_first = sorted(words, key=len, reverse=True)
    word = rf"\s*({'|'.join(map(re.escape, longest_first))})[.,;:!]*"
    if with_defaults("judge", identity)["verdict"] == "whole_reply":
        match = re.fullmatch(rf"{word}\s*", reply)
    else:
        match = re.match(rf"{word}(?=\s|$)(?!\s*[/|]|\s+(?i:or)\b)", reply)
    return words[match[1]] if match else UNPARSED
