"""One spelling for an answer: commands, fonts, spaces and signs of one meaning become the same."""

import re
from functools import lru_cache


def word_set(text: str) -> frozenset[str]:
    """Return the words of a text."""
    return frozenset(text.split())


def word_map(text: str) -> dict[str, str]:
    """Return a dictionary from a text of alternating keys and values."""
    words = text.split()
    return dict(zip(words[::2], words[1::2], strict=True))


GREEK = word_set(
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi rho sigma tau upsilon"
    " phi chi psi omega Gamma Delta Theta Lambda Xi Sigma Phi Psi Omega"
)
FUNCTIONS = word_set(
    "sin cos tan cot sec csc arcsin arccos arctan arccot arcsec arccsc sinh cosh tanh ln log lg exp"
)
# Short words; other letters side by side are a product of variables.
NO_PRODUCT = word_set(
    "all and any are but for has its not now odd one the two was yes if in is no of on or so to we"
)

# --------------------------------------------------------------------------- signs beyond ASCII

_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n")
_SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
_COMMANDS = word_map(
    "α alpha β beta γ gamma δ delta θ theta λ lambda μ mu φ phi ω omega π pi ∞ infty × times · cdot"
    " ⋅ cdot ± pm √ sqrt ≤ le ≥ ge ≠ ne ≈ approx ∪ cup ∩ cap ∈ in ∅ emptyset ⌊ lfloor ⌋ rfloor"
    " ⌈ lceil ⌉ rceil … ldots ℝ mathbb{R} ℤ mathbb{Z} ℕ mathbb{N} ℚ mathbb{Q} ℂ mathbb{C}"
)
_VULGAR = word_map("½ 12 ⅓ 13 ⅔ 23 ¼ 14 ¾ 34 ⅕ 15 ⅖ 25 ⅗ 35 ⅘ 45 ⅙ 16 ⅚ 56 ⅛ 18 ⅜ 38 ⅝ 58 ⅞ 78")
_CHARACTERS = str.maketrans(
    {sign: f"\\{command} " for sign, command in _COMMANDS.items()}
    | {sign: rf"\frac{{{parts[0]}}}{{{parts[1]}}}" for sign, parts in _VULGAR.items()}
    | word_map(r"− - – - ‐ - ÷ / ⁄ / ′ ' ⟨ ( ⟩ ) € \text{euro} £ \text{pound}")
    | {"°": r"^\circ "}
    | {chr(code): chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)}  # full-width ASCII
    | dict.fromkeys("\u00a0\u2002\u2003\u2007\u2009\u200a\u202f\t\n\r", " ")
    | dict.fromkeys("\u200b\u2060\ufeff", "")
)
UNREADABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ud800-\udfff]")

# --------------------------------------------------------------------------- commands

_SYNONYMS = word_map(
    "dfrac frac tfrac frac cfrac frac dbinom binom tbinom binom leq le leqslant le leqq le geq ge"
    " geqslant ge geqq ge dots ldots cdots ldots dotsc ldots dotsb ldots dotsm ldots sim approx"
    " simeq approx thickapprox approx neq ne varnothing emptyset varphi phi varepsilon epsilon"
    " vartheta theta ast cdot degree circ infin infty tg tan ctg cot arctg arctan arcctg arccot"
)
_ASCII = word_map(
    r"lt < gt > lbrace \{ rbrace \} lbrack [ rbrack ] colon : vert | lvert | rvert | mid |"
    r" langle ( rangle ) lparen ( rparen )"
)
_DROPPED = word_set(
    "left right middle big Big bigg Bigg bigl bigr Bigl Bigr biggl biggr Biggl Biggr displaystyle"
    " textstyle limits mathstrut rm bf it"
)
_SPACES = word_set("quad qquad thinspace enspace medspace thickspace space hfill")
_WORD_FONTS = word_set("text mbox hbox textrm textnormal textup")
_LETTER_FONTS = word_set(
    "textbf textit textsf texttt mathrm mathbf mathit mathsf boldsymbol bm mathop"
)
_FONT = re.compile(
    rf"\\({'|'.join(sorted(_WORD_FONTS | _LETTER_FONTS))}|operatorname\*?)\s*\{{([^{{}}]*)\}}"
)
_COMMAND = re.compile(r"\\([A-Za-z]+)")
_THOUSANDS_COMMA = re.compile(
    r"(?<=[0-9])\s*(?:,\s*\\!|\\!\s*,|\{\s*,\s*\}|,\\,)\s*(?=[0-9]{3}(?![0-9]))"
)
_THOUSANDS_SPACE = re.compile(r"(?<![0-9.,])[0-9]{1,3}(?: [0-9]{3})+(?![0-9])")
_ORDINAL = re.compile(
    r"(?<=[0-9])\s*(?:\^\s*\{?\s*)?\\(?:text|mathrm|textrm)\s*\{\s*(?:st|nd|rd|th)\s*\}\s*\}?"
    r"|(?<=[0-9])(?:st|nd|rd|th)(?![A-Za-z])"
)


def _replace_font(match: re.Match[str]) -> str:
    """Return a number or letter as such, a function's name as its command, all else as words."""
    name, inside = match[2].strip(), match[2]
    if re.fullmatch(r"[0-9.,/]+", name):
        return inside
    if name in FUNCTIONS:
        return f"\\{name} "
    if len(inside) == 1 and inside.isalpha() and match[1] not in _WORD_FONTS:
        return inside
    return rf"\text{{{inside}}}"


def _replace_command(match: re.Match[str]) -> str:
    name = match[1]
    if name in _ASCII:
        return _ASCII[name]
    if name in _DROPPED:
        return ""
    return " " if name in _SPACES else f"\\{_SYNONYMS.get(name, name)}"


@lru_cache(4096)
def clean(text: str) -> str:
    """Return the answer in one spelling, without math delimiters and spacing commands."""
    text = re.sub("√([0-9]+)", r"\\sqrt{\1}", text)
    text = re.sub(
        "[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ]+", lambda match: f"^{{{match[0].translate(_SUPERSCRIPTS)}}}", text
    )
    text = re.sub("[₀₁₂₃₄₅₆₇₈₉]+", lambda match: f"_{{{match[0].translate(_SUBSCRIPTS)}}}", text)
    text = text.translate(_CHARACTERS)
    if r"\begin" not in text:
        text = re.sub(r"\\\\(?=[A-Za-z]{2})", r"\\", text)  # escaped once too often
    text = _THOUSANDS_COMMA.sub("", text)
    text = re.sub(r"(?<!\\)\\[,;:> ]|~", " ", text)
    text = re.sub(r"(?<!\\)\\!|(?<!\\)\\(?:left|right)\s*\.", "", text)
    text = re.sub(r"(?<!\\)\\[()\[\]]|(?<!\\)\$", " ", text)
    text = _COMMAND.sub(_replace_command, text)
    text = re.sub(r"\^\s*(?:\{\s*\\circ\s*\}|\\circ(?![A-Za-z]))", r"^\\circ ", text)
    text = _ORDINAL.sub(r"\\text{th}", text)
    for _ in range(3):  # fonts in fonts
        text = _FONT.sub(_replace_font, text)
    for old, new in (("**", "^"), ("<=", r"\le "), (">=", r"\ge "), ("==", "="), (r"\%", "%")):
        text = text.replace(old, new)
    text = re.sub(r"\s+", " ", re.sub(r"\\\{\s*\\\}", r"\\emptyset ", text))
    text = _THOUSANDS_SPACE.sub(lambda match: match[0].replace(" ", ""), text)
    return _trimmed(text)


def _trimmed(text: str) -> str:
    """Return the text without the punctuation and stray backslashes at its end."""
    end = len(text)
    while end and (
        text[end - 1] in " \\" or (text[end - 1] in ".,;:" and text[end - 2 : end - 1] != "\\")
    ):
        end -= 1
    return text[:end].strip()


# --------------------------------------------------------------------------- comparison as text

_IDLE_SPACE = re.compile(
    r"(?<![A-Za-z]) (?=[A-Za-z])|(?<=[A-Za-z]) (?![A-Za-z])|(?<![0-9A-Za-z]) | (?![0-9A-Za-z])"
)


def compact(text: str) -> str:
    """Return the cleaned text with spaces only where they mean something.

    That is between two digits or two letters.
    """
    return _IDLE_SPACE.sub("", clean(text))


def plain(text: str) -> str:
    """Return the cleaned text with its words out of their commands."""
    return re.sub(r"\s+", " ", re.sub(r"\\text\{([^{}]*)\}", r"\1", clean(text))).strip(" .!:;,")


def words(text: str) -> str:
    """Return the answer as words, in lower case; empty if it is a formula.

    The letters of several choices are sorted.
    """
    shown = plain(text)
    is_marked = "\\text" in clean(text)
    if "\\" in shown or not re.search("[A-Za-z]" if is_marked else "[A-Za-z]{2}", shown):
        return ""
    parts = [part for part in re.split(r"\s*,\s*(?:and\b)?\s*|\s+and\s+", shown) if part]
    if all(len(part) == 1 for part in parts):
        return ",".join(sorted(parts))
    # Of few letters the case may matter: segments and variables.
    is_word = re.search("[A-Za-z]{3}", shown) is not None or shown.lower() == "no"
    return ",".join(parts).lower() if is_word else ",".join(parts)


_CHOICE = re.compile(r"(\()?([A-Z])(?(1)\))")
_CHOICE_AND_MORE = re.compile(r"\(([A-Z])\)(?!.*\([A-Z]\)).*")


def choice(text: str) -> str:
    """Return the letter that a multiple-choice answer is, with or without brackets, or nothing."""
    match = _CHOICE.fullmatch(plain(text))
    return match[2] if match else ""


def chosen(text: str) -> str:
    """Return the letter in brackets that an answer begins with, if it holds no other one."""
    match = _CHOICE_AND_MORE.fullmatch(plain(text))
    return match[1] if match else ""


def is_marked_choice(text: str) -> bool:
    """Return whether a letter stands for a choice and not for a variable."""
    return bool(choice(text)) and clean(text).startswith(("\\text", "("))
