"""qualitative: which rule draws what, what the specs hold, and which entries are refused."""

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from gapgrid.config.load import load_grid
from gapgrid.core.cells import Cell
from gapgrid.core.records import InputError
from gapgrid.grid.cells import Grid, all_cells
from gapgrid.grid.qualitative import case_spec, drawn_by, shift_cells, shift_figure_spec, shift_spec
from gapgrid.grid.specs import VERSIONS, figure_spec

ON_K4 = {"models": ["m"], "mixes": ["short", "long"], "benchmarks": ["k4"]}
SHIFT = {**ON_K4, "plot": "token_shift", "caption": "Tokens."}
UNCHOSEN = {**ON_K4, "plot": "case_study", "caption": "Cases."}
CASE = {**UNCHOSEN, "choose": {"long": "right"}}
GAP = {
    "models": "all",
    "mixes": ["long", "short"],
    "benchmarks": "all",
    "contrast": ["long", "short"],
    "plot": "gap_by_size",
    "caption": "Gap.",
}
LONG = Cell("m", "long", 0, "k4")


@pytest.fixture
def small(demo: Grid) -> Grid:
    """The demo's names with one experiment of each kind."""
    return {**demo, "experiments": copy.deepcopy({"gap": GAP, "tokens": SHIFT, "cases": CASE})}


def specs(of: Grid) -> dict[str, str]:
    """Return one spec of each stage that draws or ranks."""
    return {
        "shift": shift_spec(of, *LONG),
        "shift_figure": shift_figure_spec(of, "tokens"),
        "case": case_spec(of, "cases"),
        "figure": figure_spec(of, "gap"),
    }


def changed(before: dict[str, str], of: Grid) -> set[str]:
    after = specs(of)
    return {stage for stage, text in before.items() if after[stage] != text}


def test_each_experiment_is_drawn_by_one_rule(small: Grid) -> None:
    drawn = {rule: drawn_by(small, rule) for rule in ("figure", "shift_figure", "case")}
    assert drawn == {"figure": ["gap"], "shift_figure": ["tokens"], "case": ["cases"]}


def test_cells_to_rank_are_of_token_shifts_alone(small: Grid) -> None:
    small["experiments"]["more"] = {**SHIFT, "models": ["s", "m"], "mixes": ["long"]}
    small["seeds"] = [0, 1]
    tokens, more = shift_cells(small, "tokens"), shift_cells(small, "more")
    assert tokens == [Cell("m", mix, seed, "k4") for mix in ("long", "short") for seed in (0, 1)]
    assert shift_cells(small) == sorted({*tokens, *more})


def test_ranks_depend_on_how_many_problems_and_on_engines(small: Grid) -> None:
    before = json.loads(shift_spec(small, *LONG))
    assert before["problems"] == 50 and before["asked_by"] == "hf"
    packages = ("lm_eval", "torch", "transformers")
    versions = {name: small["versions"][name] for name in packages}
    assert before["engine"] == {"name": "ranks", **versions}
    small["experiments"]["tokens"].update(problems=7, connectors=["wait"], caption="Another.")
    assert json.loads(shift_spec(small, *LONG)) == {**before, "problems": 7}
    small["engine"]["evaluate"] = "stub"
    assert json.loads(shift_spec(small, *LONG))["engine"] == {"name": "stub"}


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("connectors", ["wait"], {"shift_figure"}),
        ("caption", "Another.", {"case"}),
        ("mixes", ["long", "short"], {"shift_figure", "case"}),
        ("problems", 9, {"shift", "case"}),
        ("choose", {"long": "wrong"}, {"case"}),
    ],
)
def test_a_key_changes_what_it_decides(
    small: Grid, key: str, value: Any, expected: set[str]
) -> None:
    before = specs(small)
    for name in ("tokens", "cases"):
        small["experiments"][name][key] = value
    assert changed(before, small) == expected


def test_a_default_written_out_changes_no_spec(small: Grid) -> None:
    before = specs(small)
    small["experiments"]["tokens"]["problems"] = 50
    small["experiments"]["cases"]["problems"] = 3
    assert changed(before, small) == set()


def test_a_case_study_keeps_the_order_of_the_entry(small: Grid) -> None:
    assert json.loads(case_spec(small, "cases"))["shown"] == {
        "models": [["m", "103k"]],
        "mixes": [["short", "short CoT"], ["long", "long CoT"]],
        "benchmarks": [["k4", "4 events"]],
    }


@pytest.mark.parametrize("stage", ["shift", "shift_figure", "case"])
def test_a_new_version_changes_the_stage_alone(
    small: Grid, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    before = specs(small)
    monkeypatch.setitem(VERSIONS, stage, VERSIONS[stage] + 1)
    assert changed(before, small) == {stage}


# ---- mistakes ----

Load = Callable[..., Grid]


@pytest.fixture
def load(tmp_path: Path, repository: Path) -> Load:
    """`load(k4, **experiments)`: the demo grid with these experiments, and keys of k4 replaced."""

    def load_with(k4: dict[str, Any] | None = None, **experiments: dict[str, Any]) -> Grid:
        folder = tmp_path / "config" / "demo"
        shutil.copytree(repository / "config" / "demo", folder)
        (folder / "experiments.yaml").write_text(yaml.safe_dump(experiments))
        file = folder / "benchmarks.yaml"
        benchmarks = yaml.safe_load(file.read_text())
        benchmarks["k4"] = {**benchmarks["k4"], **(k4 or {})}
        file.write_text(yaml.safe_dump(benchmarks))
        return load_grid("demo", root=tmp_path / "config")

    return load_with


def test_good_entries_are_read(load: Load) -> None:
    tokens = {**SHIFT, "problems": 200, "connectors": ["wait", "so"]}
    grid = load(tokens=tokens, cases={**CASE, "problems": 1})
    assert all_cells(grid) == [LONG, Cell("m", "short", 0, "k4")]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            SHIFT | {"choose": {"long": "right"}},
            ": key 'choose' goes with plot case_study, found plot token_shift",
        ),
        (
            CASE | {"connectors": ["so"]},
            ": key 'connectors' goes with plot token_shift, found plot case_study",
        ),
        (
            GAP | {"problems": 3},
            ": key 'problems' goes with plot token_shift or case_study, found plot gap_by_size",
        ),
        (
            SHIFT | {"mixes": ["none", "long"]},
            ".mixes: 'none' is what the other answers are ranked under; leave it out",
        ),
        (SHIFT | {"problems": 201}, ".problems: 201, but k4 has 200"),
        (UNCHOSEN, ": key 'choose' is missing; plot case_study needs it"),
        (
            CASE | {"choose": {"mix-long": "right"}},
            ".choose: 'mix-long' is not among the experiment's mixes (short, long)",
        ),
        (
            CASE | {"choose": {"long": "perhaps"}},
            ".choose.long: found 'perhaps', expected one of right, wrong",
        ),
        (CASE | {"choose": {}}, ".choose: found {}, expected at least 1 of them"),
        (CASE | {"problems": 0}, ".problems: found 0, expected at least 1"),
        (
            SHIFT | {"connectors": ["so", "so"]},
            ".connectors: found ['so', 'so'], expected each entry once",
        ),
        (SHIFT | {"mixes": ["logn"]}, ".mixes: 'logn' is not in mixes.yaml (did you mean 'long'?)"),
    ],
)
def test_mistakes_are_named(load: Load, entry: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        load(one=entry)
    assert f"one{message}" in str(error.value)


@pytest.mark.parametrize("repeats", [1, 4])
def test_sampled_answers_are_not_ranked(load: Load, repeats: int) -> None:
    answered = f"k4 is answered with temperature 0.7 and repeats {repeats}"
    message = f"one.benchmarks: {answered}; plot token_shift needs greedy"
    with pytest.raises(InputError, match=message):
        load({"sampling": {"temperature": 0.7}, "repeats": repeats}, one=SHIFT)


def test_two_experiments_that_share_a_cell_read_as_many_problems(load: Load) -> None:
    other = {**SHIFT, "mixes": ["long"], "problems": 20}
    with pytest.raises(InputError) as error:
        load(one=SHIFT, two=other, three={**other, "models": ["s"]})
    (line,) = str(error.value).splitlines()
    assert line.endswith(
        "experiments.yaml: two.problems: 20, but one, which shares cells with it, has 50"
    )
