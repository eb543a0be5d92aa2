"""Texts of unknown origin: hidden characters are written out, cells hold no formula, cuts show."""

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gapgrid.core.text import HIDDEN, capped, cell_text, visible

any_text = st.text(st.characters(codec=None), max_size=300)


def test_hidden_characters_are_those_without_a_glyph() -> None:
    hidden = {"Cc", "Cf", "Cs", "Zl", "Zp"}
    for code in range(0x110000):
        if unicodedata.category(chr(code)) in hidden and chr(code) not in "\t\n\r":
            assert HIDDEN.match(chr(code)), hex(code)
    assert not any(HIDDEN.match(char) for char in "\t\n\r aé中½π\u00a0\u202f😀")


@given(any_text)
def test_visible_text_is_valid_and_hides_nothing(text: str) -> None:
    shown = visible(text)
    shown.encode("utf-8")
    assert not HIDDEN.search(shown)
    assert json.loads(json.dumps(shown)) == shown


@given(any_text)
def test_a_cell_of_any_text_is_no_formula_and_keeps_the_text(text: str) -> None:
    cell = cell_text(text, 1000)
    assert visible(text) in (cell, cell.removeprefix("'"))
    assert cell.lstrip()[:1] not in ("=", "@", "＝", "＠")


@pytest.mark.parametrize(
    "number", ["-5", "+3", "-1,234.5", "-.5", "-2e10", "-50%", "7", "1/2", r"\frac{1}{2}"]
)
def test_numbers_stay_readable_in_a_spreadsheet(number: str) -> None:
    assert cell_text(number, 100) == number


@pytest.mark.parametrize(
    "formula", ["=1+1", "+cmd", "-2+3", "@SUM(A1)", " =1", "\t=1", "'=1", "＝1", "-1\n=2"]
)
def test_formulas_are_marked(formula: str) -> None:
    assert cell_text(formula, 100) == f"'{formula}"


def test_a_cut_says_how_much_is_missing() -> None:
    assert capped("abc", 3) == "abc" and capped("abcdef", 2) == "ab… [4 more characters]"
