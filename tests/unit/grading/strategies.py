"""Random texts, and random formulas in random spellings, for property tests."""

import random
from collections.abc import Callable
from fractions import Fraction

from hypothesis import strategies as st

_PARTS = (
    r"1 2 0 7.5 1,000 x y n e i \pi \frac \sqrt \left \right ( ) [ ] { } \{ \} + - * / ^ _ = < \le"
    r" , ; | ! % $ \$ ^\circ \cup \in \pm \text{ \text{and} and or \boxed{ \fbox{ \begin{pmatrix}"
    r" \end{pmatrix} & \\ \, \! \infty \sin \log \lfloor \rceil \binom . : ' é ½ ² √"
)
_MORE = (" ", "\n", "cm", "</think>", "final answer:", "the answer is", "####")
# Lists of what answers are made of, and of what has a meaning in them.
texts = st.lists(st.sampled_from([*_PARTS.split(), *_MORE]), max_size=40)

Formula = Callable[[random.Random], str]  # spells a formula in a style


def _atom(text: str) -> Formula:
    return lambda style: text


def grouped(part: Formula) -> Formula:
    """Return the formula in brackets of some size."""
    brackets = ["({})", r"\left({}\right)", r"\bigl( {} \bigr)"]
    return lambda style: style.choice(brackets).format(part(style))


def _space(style: random.Random) -> str:
    return style.choice(["", " ", r"\,", r"\ ", r"\;"])


def _in_any_order(style: random.Random, *parts: Formula) -> list[str]:
    spelled = [part(style) for part in parts]
    style.shuffle(spelled)
    return spelled


def _sum(*parts: Formula) -> Formula:
    return lambda style: (
        "(" + f"{_space(style)}+{_space(style)}".join(_in_any_order(style, *parts)) + ")"
    )


def _product(*parts: Formula) -> Formula:
    signs = ["", r"\cdot ", r" \times ", "*", " "]
    return lambda style: style.choice(signs).join(_in_any_order(style, *map(grouped, parts)))


def _spelled(*spellings: str) -> Callable[..., Formula]:
    """Return a builder of operations that can be spelled in these ways."""
    return lambda *parts: lambda style: style.choice(spellings).format(*(p(style) for p in parts))


_quotient = _spelled(r"\frac{{{}}}{{{}}}", r"\dfrac{{{}}}{{{}}}", "({})/({})")
_square = _spelled("({})^2", "({})^{{2}}", "({0})({0})")
_root = _spelled(r"\sqrt{{{}}}", r"\sqrt{{ {} }}", "sqrt({})", "√({})", r"\sqrt[2]{{{}}}")

formulas = st.recursive(
    st.integers(-9, 99).map(lambda value: _atom(f"{value}" if value >= 0 else f"({value})"))
    | st.sampled_from(["x", "y", r"\pi ", "n"]).map(_atom),
    lambda part: (
        st.builds(_sum, part, part)
        | st.builds(_product, part, part)
        | st.builds(_quotient, part, st.integers(2, 9).map(lambda value: _atom(str(value))))
        | part.map(_square)
        | part.map(_root)
    ),
    max_leaves=6,
)
styles = st.integers(0, 10**6).map(random.Random)


def spelled_number(value: Fraction, style: random.Random) -> str:
    """Return a number as people write it."""
    top, bottom = abs(value.numerator), value.denominator
    scale = style.randint(2, 5)
    spellings = [f"{top}/{bottom}", rf"\frac{{{top}}}{{{bottom}}}"]
    spellings.append(rf"\dfrac{{{top * scale}}}{{{bottom * scale}}}")
    if bottom == 1:
        spellings = [str(top), f"{top}.0", f"0{top}", f"${top}$"]
    elif top > bottom:
        whole, rest = divmod(top, bottom)
        spellings += [rf"{whole}\frac{{{rest}}}{{{bottom}}}", f"{whole} {rest}/{bottom}"]
    return ("-" if value < 0 else style.choice(["", "+"])) + style.choice(spellings)
