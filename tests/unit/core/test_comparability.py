"""comparability: differences within a student, differences between students, declared ones."""

from typing import Any

import pytest

from gapgrid.core.comparability import STEPS, Difference, Settings, between, within

KEYS = {"lr": ("recipe", "learning_rate"), "batch": ("recipe", "global_batch"), "steps": STEPS}


def cell(model: str, mix: str, student: str = "3b", **values: Any) -> Settings:
    """Return a training cell; `lr`, `batch` and `steps` stand for their settings."""
    settings = {KEYS[name]: value for name, value in values.items()}
    return Settings(student, model, mix, {("mix", "mix"): mix, **settings})


def lines(differences: list[Difference]) -> list[str]:
    return [difference.line() for difference in differences]


@pytest.mark.parametrize(
    "cells",
    [
        [cell("a", "long", lr=1e-5, steps=100), cell("a", "short", lr=1e-5, steps=100)],
        [cell("a", "none"), cell("a", "long", lr=1.0)],  # a missing setting is no difference
        [cell("a", "long", lr=1), cell("a", "short", lr=1.0)],
    ],
)
def test_nothing_but_the_mix_differs(cells: list[Settings]) -> None:
    assert within(cells, ["mix"]) == between(cells) == []


def test_another_entry_for_the_same_student_is_compared() -> None:
    same = [cell("a", mix, lr=1e-5, batch=8) for mix in ("long", "short")]
    cells = [*same, cell("a-packed", "long", lr=1e-5, batch=80)]
    (difference,) = within(cells, ["mix"])
    values = "8 (a); 80 (a-packed)"
    assert difference == Difference("a, a-packed", "recipe", "global_batch", values)
    assert difference.line() == f"a, a-packed: global_batch {values}"
    assert within(cells, ["mix", "recipe"]) == []


def test_a_mix_that_is_not_declared_is_a_difference() -> None:
    cells = [cell("a", "long"), cell("a", "short")]
    assert lines(within(cells, ["recipe"])) == ["a: mix long (long); short (short)"]


def test_steps_of_sets_of_unequal_size_are_listed_with_their_numbers() -> None:
    steps = {"long": 1346, "large": 1134, "short": 1346}
    cells = [cell("a", mix, steps=n) for mix, n in steps.items()]
    expected = ["a: optimiser steps 1,346 (long, short); 1,134 (large)"]
    assert lines(within(cells, ["mix"])) == expected
    assert within(cells, ["mix", "steps"]) == within(cells, ["mix", "recipe"]) == []


@pytest.mark.parametrize(
    ("steps", "is_listed"), [(1346, False), (1340, False), (1320, True), (1, True)]
)
def test_a_few_steps_fewer_are_no_difference(steps: int, is_listed: bool) -> None:
    cells = [cell("a", "long", steps=steps), cell("a", "short", steps=1346)]
    assert bool(within(cells, ["mix"])) == is_listed


def test_students_are_compared_apart() -> None:
    small = [cell("small", mix, "3b", lr=1e-5) for mix in ("long", "short")]
    cells = [*small, cell("large", "long", "14b", lr=1e-4)]
    assert within(cells, ["mix"]) == []
    assert lines(between(cells)) == ["learning_rate: 1e-05 (small); 0.0001 (large)"]


def test_what_differs_within_a_student_is_not_listed_between_students_again() -> None:
    students = (("a", "3b", 1.0), ("b", "3b", 2.0), ("c", "7b", 3.0))
    cells = [cell(model, "long", student, lr=lr) for model, student, lr in students]
    assert [difference.name for difference in within(cells, ["mix"])] == ["learning_rate"]
    assert between(cells) == []


def test_holders_are_named_by_model_and_mix_where_neither_alone_tells_them_apart() -> None:
    rates = {("a", "long"): 1.0, ("a", "short"): 2.0, ("b", "long"): 2.0, ("b", "short"): 2.0}
    cells = [cell(model, mix, lr=lr) for (model, mix), lr in rates.items()]
    (difference,) = within(cells, ["mix"])
    assert difference.values == "1 (a/long); 2 (a/short, b/long, b/short)"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1e-5, "1e-05"),
        (16384, "16,384"),
        ("packed", "packed"),
        ({}, "none"),
        ({"rank": 8}, '{"rank": 8}'),
        (True, "true"),
        ([0.9], "[0.9]"),
    ],
)
def test_values_are_written_for_people(value: Any, text: str) -> None:
    (difference,) = within([cell("a", "long", lr=value), cell("b", "long", lr="other")], ["mix"])
    assert difference.values == f"{text} (a); other (b)"
