"""Each thing that a plot needs or cannot use is one message with file, key, found and expected."""

from copy import deepcopy
from typing import Any

import pytest

from gapgrid.config.checks import cross_problems
from gapgrid.config.load import REPOSITORY, load_grid
from gapgrid.config.plot_checks import plot_problems

GRIDS = {name: load_grid(name, root=REPOSITORY / "config") for name in ("demo", "paper")}
PAIRS, SWEEP, GAP = (
    GRIDS["paper"]["experiments"][name] for name in ("figure4-long", "figure6-long", "figure2")
)
# The students of PAIRS.
BASE, OTHER, INSTRUCT, MATH = (
    "qwen2.5-1.5b-base", "qwen2.5-1.5b", "qwen2.5-math-1.5b-instruct", "qwen2.5-math-1.5b"
)  # fmt: skip


@pytest.mark.parametrize("name", GRIDS)
def test_the_grids_of_the_repository_have_no_mistake(name: str) -> None:
    for entry in GRIDS[name]["experiments"].values():
        assert list(plot_problems(GRIDS[name], "e.yaml: x", entry)) == []


def test_cross_problems_hold_those_of_plots() -> None:
    entry = {**GRIDS["demo"]["experiments"]["long-gap"], "plot": "by_weight"}
    problems = cross_problems({**GRIDS["demo"], "experiments": {"x": entry}})
    assert any("x: key 'weight_of' is missing" in problem for problem in problems)


@pytest.mark.parametrize(
    ("entry", "changes", "expected"),
    [
        (GAP, {"contrast": None}, [": key 'contrast' is missing; plot gap_by_size needs it"]),
        (PAIRS, {"contrast": None}, [": key 'contrast' is missing; plot pairs needs it"]),
        (PAIRS, {"groups": None}, [": key 'groups' is missing; plot pairs needs it"]),
        (SWEEP, {"weight_of": None}, [": key 'weight_of' is missing; plot by_weight needs it"]),
        (PAIRS, {"plot": "bars"}, [": key 'groups' goes with plot pairs, found plot bars"]),
        (SWEEP, {"plot": "bars"}, [": key 'weight_of' goes with plot by_weight, found plot bars"]),
        (
            PAIRS,
            {"groups": {"a": [OTHER, "qwen2.5-7b"], "b": [MATH, OTHER]}},
            [
                f".groups: '{OTHER}' is given 2 times, expected once",
                ".groups: 'qwen2.5-7b' is not among the experiment's models "
                f"({OTHER}, {INSTRUCT}, {BASE}, {MATH})",
                f".groups: no group for {INSTRUCT}, {BASE}; "
                "expected each of the experiment's models in one",
                f".groups: partners differ in params_b (qwen2.5-7b 7, {OTHER} 1.5), "
                "expected one size",
            ],
        ),
        (
            PAIRS,
            {"groups": {"a": [OTHER], "b": [INSTRUCT, BASE, MATH]}},
            [
                ".groups: a has 1, b has 3 students, expected as many in each group: "
                "partners have the same position"
            ],
        ),
        (
            SWEEP,
            {"weight_of": "large"},
            [
                ".weight_of: 'large' is in none of the experiment's mixes, "
                "expected one of long, short"
            ],
        ),
        (
            SWEEP,
            {"mixes": ["long", "short", "small", "published-mix-long"]},
            [
                ".weight_of: the mixes hold published-mix-long, short, small besides long, "
                "expected one other source",
                ".weight_of: short and small and published-mix-long have weight 0, "
                "expected each weight once",
            ],
        ),
    ],
)
def test_what_a_plot_lacks_or_cannot_use_is_named(
    entry: dict[str, Any], changes: dict[str, Any], expected: list[str]
) -> None:
    changed = {key: value for key, value in {**entry, **changes}.items() if value is not None}
    problems = plot_problems(GRIDS["paper"], "e.yaml: x", changed)
    assert sorted(problems) == sorted(f"e.yaml: x{message}" for message in expected)


@pytest.mark.parametrize(
    ("mixes", "expected"),
    [
        ("all", []),
        (
            ["short", "mix-long", "by-tokens", "long"],
            ["x.weight_of: some mixes count rows and some tokens, expected one of them"],
        ),
    ],
)
def test_a_sweep_counts_all_its_mixes_alike(mixes: Any, expected: list[str]) -> None:
    grid = deepcopy(GRIDS["demo"])
    entry = {**grid["experiments"]["weights"], "models": "all", "mixes": mixes}
    if mixes != "all":
        grid["mixes"]["by-tokens"] = {"parts": {"long": 0.5, "short": 0.5}, "by": "tokens"}
    assert list(plot_problems(grid, "x", entry)) == expected
