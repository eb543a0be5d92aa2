"""comparability: what differs within a student stamps, what differs between students is noted, what is declared is neither."""

from typing import Any

import pytest

from gapgrid.comparability import STEPS, Difference, Settings, between, within

LR, BATCH = ("recipe", "learning_rate"), ("recipe", "global_batch")


def cell(model: str, mix: str, student: str = "3b", **values: Any) -> Settings:
    """A training cell; `lr`, `batch` and `steps` stand for their settings."""
    names = {"lr": LR, "batch": BATCH, "steps": STEPS}
    return Settings(student, model, mix, {("mix", "mix"): mix, **{names[key]: value for key, value in values.items()}})


def test_nothing_but_the_mix_differs() -> None:
    cells = [cell("a", "long", lr=1e-5, steps=100), cell("a", "short", lr=1e-5, steps=100)]
    assert within(cells, ["mix"]) == between(cells) == []


def test_another_entry_for_the_same_student_is_compared() -> None:
    cells = [cell("a", "long", lr=1e-5, batch=8), cell("a", "short", lr=1e-5, batch=8), cell("a-packed", "long", lr=1e-5, batch=80)]
    (found,) = within(cells, ["mix"])
    assert found == Difference("a, a-packed", "recipe", "global_batch", "8 (a); 80 (a-packed)")
    assert found.line() == "a, a-packed: global_batch 8 (a); 80 (a-packed)"
    assert within(cells, ["mix", "recipe"]) == []


def test_a_mix_that_is_not_declared_is_a_difference() -> None:
    cells = [cell("a", "long"), cell("a", "short")]
    assert [found.line() for found in within(cells, ["recipe"])] == ["a: mix long (long); short (short)"]


def test_steps_of_sets_of_unequal_size_are_listed_with_their_numbers() -> None:
    cells = [cell("a", "long", steps=1346), cell("a", "large", steps=1134), cell("a", "short", steps=1346)]
    assert [found.line() for found in within(cells, ["mix"])] == ["a: optimiser steps 1,346 (long, short); 1,134 (large)"]
    assert within(cells, ["mix", "steps"]) == within(cells, ["mix", "recipe"]) == []


@pytest.mark.parametrize(("steps", "is_listed"), [(1346, False), (1340, False), (1320, True), (1, True)])
def test_a_few_steps_fewer_are_no_other_budget(steps: int, is_listed: bool) -> None:
    cells = [cell("a", "long", steps=steps), cell("a", "short", steps=1346)]
    assert bool(within(cells, ["mix"])) == is_listed


def test_students_are_not_held_against_each_other() -> None:
    cells = [cell("small", "long", "3b", lr=1e-5), cell("small", "short", "3b", lr=1e-5), cell("large", "long", "14b", lr=1e-4)]
    assert within(cells, ["mix"]) == []
    assert [found.line() for found in between(cells)] == ["learning_rate: 1e-05 (small); 0.0001 (large)"]


def test_what_differs_within_a_student_is_not_noted_between_students_again() -> None:
    cells = [cell("a", "long", "3b", lr=1.0), cell("b", "long", "3b", lr=2.0), cell("c", "long", "7b", lr=3.0)]
    assert [found.name for found in within(cells, ["mix"])] == ["learning_rate"]
    assert between(cells) == []


def test_a_cell_that_lacks_a_setting_says_nothing_of_it() -> None:
    cells = [cell("a", "none"), cell("a", "long", lr=1.0)]
    assert within(cells, ["mix"]) == between(cells) == []


def test_holders_are_named_as_far_as_it_takes() -> None:
    cells = [cell("a", "long", lr=1.0), cell("a", "short", lr=2.0), cell("b", "long", lr=2.0), cell("b", "short", lr=2.0)]
    (found,) = within(cells, ["mix"])
    assert found.said == "1 (a/long); 2 (a/short, b/long, b/short)"


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
    (found,) = within([cell("a", "long", lr=value), cell("b", "long", lr="other")], ["mix"])
    assert found.said == f"{text} (a); other (b)"


def test_values_written_alike_are_the_same_value() -> None:
    assert within([cell("a", "long", lr=1), cell("a", "short", lr=1.0)], ["mix"]) == []
