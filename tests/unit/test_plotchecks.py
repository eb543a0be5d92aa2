"""plotchecks: what a plot needs and lacks, or cannot use, is one message with file, key, found and expected."""

from copy import deepcopy
from typing import Any

import pytest

from gapgrid import config, crosschecks, plotchecks

GRIDS = {name: config.load(name, root=config.REPOSITORY / "config") for name in ("demo", "paper")}
PAIRS = GRIDS["paper"]["experiments"]["figure4-long"]
SWEEP = GRIDS["paper"]["experiments"]["figure6-long"]
GAP = GRIDS["paper"]["experiments"]["figure2"]


def said(entry: dict[str, Any], **changes: Any) -> list[str]:
    """Problems of an entry with some keys changed; None takes a key out."""
    changed = {key: value for key, value in {**deepcopy(entry), **changes}.items() if value is not None}
    return list(plotchecks.plot_problems(GRIDS["paper"], "e.yaml: x", changed))


@pytest.mark.parametrize("name", GRIDS)
def test_the_grids_that_come_along_are_right(name: str) -> None:
    for entry in GRIDS[name]["experiments"].values():
        assert list(plotchecks.plot_problems(GRIDS[name], "e.yaml: x", entry)) == []


def test_crosschecks_ask_it() -> None:
    wrong = {**GRIDS["demo"], "experiments": {"x": {**GRIDS["demo"]["experiments"]["long-gap"], "plot": "by_weight"}}}
    assert any("x: key 'weight_of' is missing" in problem for problem in crosschecks.cross_problems(wrong))


@pytest.mark.parametrize(
    ("entry", "changes", "expected"),
    [
        (GAP, {"contrast": None}, ["e.yaml: x: key 'contrast' is missing; plot gap_by_size needs it"]),
        (PAIRS, {"contrast": None}, ["e.yaml: x: key 'contrast' is missing; plot pairs needs it"]),
        (PAIRS, {"groups": None}, ["e.yaml: x: key 'groups' is missing; plot pairs needs it"]),
        (SWEEP, {"weight_of": None}, ["e.yaml: x: key 'weight_of' is missing; plot by_weight needs it"]),
        (PAIRS, {"plot": "bars"}, ["e.yaml: x: key 'groups' goes with plot pairs, found plot bars"]),
        (SWEEP, {"plot": "bars"}, ["e.yaml: x: key 'weight_of' goes with plot by_weight, found plot bars"]),
        (
            PAIRS,
            {"groups": {"a": ["qwen2.5-1.5b", "qwen2.5-7b"], "b": ["qwen2.5-math-1.5b", "qwen2.5-1.5b"]}},
            [
                "e.yaml: x.groups: 'qwen2.5-1.5b' is given 2 times, expected once",
                "e.yaml: x.groups: 'qwen2.5-7b' is not among the experiment's models "
                "(qwen2.5-1.5b, qwen2.5-math-1.5b-instruct, qwen2.5-1.5b-base, qwen2.5-math-1.5b)",
                "e.yaml: x.groups: no group for qwen2.5-math-1.5b-instruct, qwen2.5-1.5b-base; "
                "expected each of the experiment's models in one",
                "e.yaml: x.groups: partners differ in params_b (qwen2.5-7b 7, qwen2.5-1.5b 1.5), expected one size",
            ],
        ),
        (
            PAIRS,
            {"groups": {"a": ["qwen2.5-1.5b"], "b": ["qwen2.5-math-1.5b-instruct", "qwen2.5-1.5b-base", "qwen2.5-math-1.5b"]}},
            ["e.yaml: x.groups: a has 1, b has 3 students, expected as many in each group: partners stand at the same place"],
        ),
        (SWEEP, {"weight_of": "large"}, ["e.yaml: x.weight_of: 'large' is in none of the experiment's mixes, expected one of long, short"]),
        (
            SWEEP,
            {"mixes": ["long", "short", "small", "published-mix-long"]},
            [
                "e.yaml: x.weight_of: the mixes hold published-mix-long, short, small besides long, expected one other source",
                "e.yaml: x.weight_of: short and small and published-mix-long have weight 0, expected each weight once",
            ],
        ),
    ],
)
def test_what_a_plot_lacks_or_cannot_use_is_said(entry: dict[str, Any], changes: dict[str, Any], expected: list[str]) -> None:
    assert sorted(said(entry, **changes)) == sorted(expected)


def test_weights_that_count_differently_are_no_sweep() -> None:
    of = deepcopy(GRIDS["demo"])
    of["mixes"]["by-tokens"] = {"parts": {"long": 0.5, "short": 0.5}, "by": "tokens"}
    entry = {**of["experiments"]["weights"], "mixes": ["short", "mix-long", "by-tokens", "long"]}
    found = list(plotchecks.plot_problems(of, "e.yaml: x", entry))
    assert found == ["e.yaml: x.weight_of: some mixes count rows and some tokens, expected one of them"]


def test_students_and_mixes_may_be_all() -> None:
    of = deepcopy(GRIDS["demo"])
    assert list(plotchecks.plot_problems(of, "x", {**of["experiments"]["weights"], "models": "all", "mixes": "all"})) == []
