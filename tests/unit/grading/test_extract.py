"""Extraction: an answer is found where it stands, by a named rule, in linear time."""

import re
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gapgrid.core.records import Row, read_jsonl
from gapgrid.grading.extract import extract, gold_text
from tests.unit.grading.strategies import texts

CASES = read_jsonl(Path(__file__).parents[1] / "cases" / "extraction.jsonl")


@pytest.mark.parametrize("row", CASES, ids=range(1, len(CASES) + 1))
def test_an_answer_is_found_by_the_declared_rule(row: Row) -> None:
    assert extract(row["response"], row["grader"]) == (row["answer"], row["rule"])


def test_the_cases_hold_every_documented_rule() -> None:
    documented = set(re.findall(r"`([a-z_]+)`", extract.__doc__ or ""))
    assert documented - {"boxed_or_last_number"} | {"no_answer"} == {row["rule"] for row in CASES}


@given(texts, st.sampled_from(["boxed", "boxed_or_last_number"]), st.sampled_from(["", " "]))
def test_the_last_box_is_found_after_any_text(parts: list[str], grader: str, space: str) -> None:
    text = space.join(parts)
    extracted = extract(text, grader)
    assert (extracted.answer is None) == (extracted.rule in ("no_answer", "too_long"))
    assert extract(f"{text}\n\nSo it is \\boxed{{42}}. Done.", grader) == ("42", "boxed")


LONG = {
    "open boxes": "\\boxed{" * 150_000,
    "boxes": "\\boxed{1}, " * 100_000,
    "boxes in boxes": "\\boxed{" * 70_000 + "1" + "}" * 70_000,
    "boxes far apart": "\\boxed{1}" + " " * 10**6 + "\\boxed{2}",
    "box and space": "\\boxed" + " " * 10**6,
    "braces": "{" * 10**6,
    "closing braces": "}" * 10**6,
    "backslashes": "\\" * 10**6,
    "spaces": "final answer" + " " * 10**6,
    "full stops": "Final Answer: " + ". " * 400_000,
    "final answers": "final answer " * 80_000,
    "answers": "answer is " * 80_000,
    "digits": "1" * 10**6,
    "minus signs": "-" * 10**6,
    "thoughts": "</think>" * 100_000,
    "hashes": "####" * 200_000,
}


@pytest.mark.parametrize("text", LONG.values(), ids=LONG)
def test_extraction_takes_linear_time(text: str) -> None:
    start = time.process_time()
    extract(text, "boxed_or_last_number")
    assert time.process_time() - start < 2


@pytest.mark.parametrize(
    ("gold", "text"),
    [
        (["$1$,$2$"], "$1$,$2$"),
        (["1", "2"], "1, 2"),
        (27.0, "27.0"),
        (5, "5"),
        (None, ""),
        (True, "True"),
        ([], ""),
    ],
)
def test_a_reference_answer_of_any_type_becomes_text(gold: object, text: str) -> None:
    assert gold_text(gold) == text
