"""methods: every setting that decides a number is in the text, and nothing is that does not belong to the grid."""

import json
from typing import Any

import pytest

from gapgrid import config, methods
from gapgrid.grid import Grid, train_spec


@pytest.fixture
def paper() -> Grid:
    return config.load("paper", root=config.REPOSITORY / "config")


def text_of(grid: Grid) -> str:
    return "\n".join(line for heading, lines in methods.methods(grid) for line in (heading, *lines))


def test_students_and_sources_are_named_with_their_revision(paper: Grid) -> None:
    text = text_of(paper)
    for entry in [*paper["models"].values(), *(paper["sources"][name] for name in ("long", "short", "large", "small"))]:
        assert f"{entry['hub']} at {entry.get('revision', 'main')}" in text


def test_what_no_experiment_asks_for_is_left_out(paper: Grid) -> None:
    assert "data/math_r1_distill" not in text_of(paper)
    paper["experiments"] = {"table1": paper["experiments"]["table1"]}
    text = text_of(paper)
    assert "Qwen/Qwen2.5-3B-Instruct" in text and "Qwen2.5-Math" not in text and "large_teacher" not in text


def test_every_setting_of_every_recipe_is_there(demo: Grid) -> None:
    text = text_of(demo)
    for model in demo["models"]:
        for key, value in json.loads(train_spec(demo, model, "long", 0))["recipe"].items():
            assert key in text
            assert str(value) in text or f"{value:g}" in text, (model, key)


@pytest.mark.parametrize(
    ("section", "name", "key", "value", "said"),
    [
        ("mixes", "mix-long", "by", "tokens", "0.2 long CoT, 0.8 short CoT, shares by tokens"),
        ("mixes", "mix-long", "size", 77, "0.2 long CoT, 0.8 short CoT, size 77, shares by rows"),
        ("models", "xs", "pretrain", "pretrain-s", "recipe pretrain-s, recipe sft-xs"),
        ("benchmarks", "k2", "max_tokens", 123, "at most 123 tokens"),
    ],
)
def test_a_changed_setting_is_said(demo: Grid, section: str, name: str, key: str, value: Any, said: str) -> None:
    assert said not in text_of(demo)
    demo[section][name][key] = value
    assert said in text_of(demo)


def test_seeds_are_said(demo: Grid) -> None:
    assert "each with training seed 0\n" in text_of(demo)
    demo["seeds"] = [0, 2]
    assert "each with training seeds 0, 2\n" in text_of(demo)
