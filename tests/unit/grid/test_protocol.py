"""methods: every setting that decides a number is in the text, and nothing of other grids is."""

import json
from typing import Any

import pytest

from gapgrid.grid.cells import Grid
from gapgrid.grid.protocol import methods
from gapgrid.grid.specs import train_spec


def text_of(grid: Grid) -> str:
    return "\n".join(line for heading, lines in methods(grid) for line in (heading, *lines))


def test_students_and_sources_are_named_with_their_revision(paper: Grid) -> None:
    text = text_of(paper)
    sources = [paper["sources"][name] for name in ("long", "short", "large", "small")]
    for entry in [*paper["models"].values(), *sources]:
        assert f"{entry['hub']} at {entry.get('revision', 'main')}" in text


def test_what_no_experiment_shows_is_left_out(paper: Grid) -> None:
    assert "data/math_r1_distill" not in text_of(paper)
    paper["experiments"] = {"table1": paper["experiments"]["table1"]}
    text = text_of(paper)
    assert "Qwen/Qwen2.5-3B-Instruct" in text
    assert "Qwen2.5-Math" not in text and "large_teacher" not in text


def test_every_setting_of_every_recipe_is_in_the_text(demo: Grid) -> None:
    text = text_of(demo)
    for model in demo["models"]:
        for key, value in json.loads(train_spec(demo, model, "long", 0))["recipe"].items():
            assert key in text
            assert str(value) in text or f"{value:g}" in text, (model, key)


@pytest.mark.parametrize(
    ("section", "name", "key", "value", "expected"),
    [
        ("mixes", "mix-long", "by", "tokens", "0.2 long CoT, 0.8 short CoT, shares by tokens"),
        ("mixes", "mix-long", "size", 77, "0.2 long CoT, 0.8 short CoT, size 77, shares by rows"),
        ("models", "xs", "pretrain", "pretrain-s", "recipe pretrain-s, recipe sft-xs"),
        ("benchmarks", "k2", "max_tokens", 123, "at most 123 tokens"),
    ],
)
def test_a_changed_setting_is_in_the_text(
    demo: Grid, section: str, name: str, key: str, value: Any, expected: str
) -> None:
    assert expected not in text_of(demo)
    demo[section][name][key] = value
    assert expected in text_of(demo)


def test_seeds_are_in_the_text(demo: Grid) -> None:
    assert "each with training seed 0\n" in text_of(demo)
    demo["seeds"] = [0, 2]
    assert "each with training seeds 0, 2\n" in text_of(demo)
