"""estimates: all gaps that stand together in a figure or a table are one family of tests."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gapgrid.core.cells import AVERAGE, Cell
from gapgrid.core.records import Row
from gapgrid.stats import estimates, significance
from tests.unit.stats.builders import coin

MODELS, MIXES = ("small", "big"), ("none", "long", "short", "mixed")
BENCHMARKS = ("a", "b", "c", "d", "e")
KINDS = ("gap", "gain", "mix_minus_best")
Chance = Callable[[Cell], float]


def experiment(benchmarks: tuple[str, ...]) -> Any:
    """An experiment with every quantity."""
    return {
        "shown": {"models": pairs(MODELS), "mixes": pairs(MIXES), "benchmarks": pairs(benchmarks)},
        "models": {
            model: {"family": "f", "params_b": size} for size, model in enumerate(MODELS, 1)
        },
        "cells": [[*cell] for cell in cells(benchmarks)],
        "contrast": ["long", "short"],
        "singles": {"mixed": ["long", "short"]},
        "statistics": {"resamples": 999, "confidence": 0.95, "seed": 0},
    }


def pairs(names: tuple[str, ...]) -> list[list[str]]:
    return [[name, name] for name in names]


def cells(benchmarks: tuple[str, ...]) -> list[Cell]:
    return [Cell(m, mix, 0, name) for m in MODELS for mix in MIXES for name in benchmarks]


def rows(trial: int, chance: Chance, benchmarks: tuple[str, ...] = BENCHMARKS) -> list[Row]:
    """The rows of an experiment whose students are right with these chances, on 60 questions."""
    rng = np.random.default_rng(trial)
    outcomes = {cell: coin(rng, chance(cell), 1, 60)[0] for cell in cells(benchmarks)}
    return list(estimates.rows(experiment(benchmarks), outcomes))


def family_of(rows: list[Row], kind: str, *benchmarks: str) -> list[Row]:
    """The rows of a quantity that have a p, on these benchmarks or on all."""
    of_kind = [row for row in rows if row["quantity"] == kind and "p" in row]
    return [row for row in of_kind if not benchmarks or row["benchmark"] in benchmarks]


def is_claimed(rows: list[Row]) -> bool:
    """Whether any sign is called significant."""
    return any(row["settled"] for row in rows)


def test_a_figure_rarely_claims_a_sign_that_does_not_exist() -> None:
    n_figures = 150
    figures = [rows(trial, lambda _: 0.5) for trial in range(n_figures)]
    chance_error = 2 * np.sqrt(0.05 * 0.95 / n_figures)
    for kind in KINDS:
        claims = [is_claimed(family_of(figure, kind)) for figure in figures]
        assert np.mean(claims) <= 0.05 + chance_error, kind
    gaps = [family_of(figure, "gap") for figure in figures]
    assert np.mean([is_claimed(figure) for figure in gaps]) > 0  # a test that can claim one
    assert np.mean([min(row["p"] for row in figure) <= 0.05 for figure in gaps]) > 0.25


@pytest.mark.parametrize("kind", KINDS)
def test_a_family_is_a_quantity_of_all_students_and_benchmarks_and_the_average(kind: str) -> None:
    good = {"mixed": 0.9, "long": 0.6, "short": 0.4, "none": 0.2}
    family = family_of(rows(0, lambda cell: good[cell.mix]), kind)
    n_rows = {"gap": 2 * 6, "gain": 2 * 3 * 6, "mix_minus_best": 2 * 6}[kind]
    assert len(family) == n_rows
    assert [row["p_holm"] for row in family] == significance.holm([row["p"] for row in family])
    assert [row["settled"] for row in family] == [row["p_holm"] <= 0.05 for row in family]
    assert is_claimed(family)


@pytest.mark.parametrize("kind", KINDS)
def test_the_average_of_one_benchmark_is_the_same_gap_and_counts_once(kind: str) -> None:
    of_one = rows(0, lambda cell: 0.7 if cell.model == "big" else 0.5, ("a",))
    alone, average = (family_of(of_one, kind, name) for name in ("a", AVERAGE))
    assert [row["p"] for row in alone] == [row["p"] for row in average]
    once = significance.holm([row["p"] for row in alone])
    assert [row["p_holm"] for row in alone] == once == [row["p_holm"] for row in average]


def test_what_is_missing_is_no_part_of_a_family() -> None:
    rng = np.random.default_rng(1)
    lost = Cell("big", "long", 0, "e")
    outcomes = {cell: coin(rng, 0.5, 1, 60)[0] for cell in cells(BENCHMARKS) if cell != lost}
    built = list(estimates.rows(experiment(BENCHMARKS), outcomes))
    gaps = family_of(built, "gap")
    assert len(gaps) == 2 * 6 - 2  # without the benchmark and without the average
    assert [row["p_holm"] for row in gaps] == significance.holm([row["p"] for row in gaps])
