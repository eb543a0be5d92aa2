"""Token rank shift and case study in the configuration: which rule draws what, what is in a spec, and what an entry may not say."""

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from gapgrid import closeups, config, grid
from gapgrid.grid import Cell, Grid
from gapgrid.records import InputError

SHIFT = {"models": ["m"], "mixes": ["short", "long"], "benchmarks": ["k4"], "plot": "token_shift", "caption": "Tokens."}
CASE = {
    "models": ["m"],
    "mixes": ["short", "long"],
    "benchmarks": ["k4"],
    "plot": "case_study",
    "choose": {"long": "right"},
    "caption": "Cases.",
}
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


def test_each_experiment_is_drawn_by_one_rule(small: Grid) -> None:
    found = {rule: closeups.drawn_by(small, rule) for rule in ("figure", "shift_figure", "case")}
    assert found == {"figure": ["gap"], "shift_figure": ["tokens"], "case": ["cases"]}


def test_cells_to_rank_are_of_token_shifts_alone(small: Grid) -> None:
    small["experiments"]["more"] = {**SHIFT, "models": ["s", "m"], "mixes": ["long"]}
    small["seeds"] = [0, 1]
    assert closeups.shift_cells(small, "tokens") == [Cell("m", mix, seed, "k4") for mix in ("long", "short") for seed in (0, 1)]
    assert closeups.shift_cells(small) == sorted({*closeups.shift_cells(small, "tokens"), *closeups.shift_cells(small, "more")})


def test_ranks_depend_on_how_many_problems_and_on_engines(small: Grid) -> None:
    before = json.loads(closeups.shift_spec(small, LONG))
    assert before["problems"] == 50 and before["asked_by"] == "hf"
    assert before["engine"] == {"name": "ranks", **{name: small["versions"][name] for name in ("lm_eval", "torch", "transformers")}}
    small["experiments"]["tokens"].update(problems=7, connectors=["wait"], caption="Another.")
    assert json.loads(closeups.shift_spec(small, LONG)) == {**before, "problems": 7}
    small["engine"]["evaluate"] = "stub"
    assert json.loads(closeups.shift_spec(small, LONG))["engine"] == {"name": "stub"}


@pytest.mark.parametrize(
    ("key", "value", "shift_changes", "case_changes"),
    [
        ("connectors", ["wait"], True, False),
        ("caption", "Another.", False, True),
        ("mixes", ["long", "short"], True, True),
        ("problems", 9, False, True),
        ("choose", {"long": "wrong"}, False, True),
    ],
)
def test_what_is_in_the_specs_of_the_leaves(small: Grid, key: str, value: Any, shift_changes: bool, case_changes: bool) -> None:
    before = closeups.shift_figure_spec(small, "tokens"), closeups.case_spec(small, "cases")
    for name in ("tokens", "cases"):
        small["experiments"][name][key] = value
    after = closeups.shift_figure_spec(small, "tokens"), closeups.case_spec(small, "cases")
    assert [old != new for old, new in zip(before, after, strict=True)] == [shift_changes, case_changes]


def test_a_default_written_out_changes_no_spec(small: Grid) -> None:
    before = closeups.shift_spec(small, LONG), closeups.case_spec(small, "cases")
    small["experiments"]["tokens"]["problems"] = 50
    small["experiments"]["cases"]["problems"] = 3
    assert (closeups.shift_spec(small, LONG), closeups.case_spec(small, "cases")) == before


def test_a_case_study_keeps_the_order_of_the_entry(small: Grid) -> None:
    shown = json.loads(closeups.case_spec(small, "cases"))["shown"]
    assert shown == {"models": [["m", "103k"]], "mixes": [["short", "short CoT"], ["long", "long CoT"]], "benchmarks": [["k4", "4 events"]]}


@pytest.mark.parametrize("stage", ["shift", "shift_figure", "case"])
def test_a_new_version_changes_the_stage_alone(small: Grid, monkeypatch: pytest.MonkeyPatch, stage: str) -> None:
    def specs() -> dict[str, str]:
        leaves = {"shift_figure": closeups.shift_figure_spec(small, "tokens"), "case": closeups.case_spec(small, "cases")}
        return {"shift": closeups.shift_spec(small, LONG), "figure": grid.figure_spec(small, "gap"), **leaves}

    before = specs()
    monkeypatch.setitem(grid.VERSIONS, stage, grid.VERSIONS[stage] + 1)
    assert {name for name, text in specs().items() if text != before[name]} == {stage}


# ---- mistakes ----


def load(tmp_path: Path, repository: Path, experiments: dict[str, Any], benchmark: dict[str, Any] | None = None) -> Grid:
    """The demo grid with these experiments instead of its own."""
    folder = tmp_path / "config" / "demo"
    shutil.copytree(repository / "config" / "demo", folder)
    (folder / "experiments.yaml").write_text(yaml.safe_dump(experiments))
    if benchmark:
        file = folder / "benchmarks.yaml"
        document = yaml.safe_load(file.read_text())
        document["k4"] = {**document["k4"], **benchmark}
        file.write_text(yaml.safe_dump(document))
    return config.load("demo", root=tmp_path / "config")


def test_good_entries_are_read(tmp_path: Path, repository: Path) -> None:
    more = {**SHIFT, "problems": 200, "connectors": ["wait", "so"]}
    found = load(tmp_path, repository, {"tokens": more, "cases": {**CASE, "problems": 1}})
    assert grid.all_cells(found) == [LONG, Cell("m", "short", 0, "k4")]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({**SHIFT, "choose": {"long": "right"}}, "one: key 'choose' goes with plot case_study, found plot token_shift"),
        ({**CASE, "connectors": ["so"]}, "one: key 'connectors' goes with plot token_shift, found plot case_study"),
        ({**GAP, "problems": 3}, "one: key 'problems' goes with plot token_shift or case_study, found plot gap_by_size"),
        ({**SHIFT, "mixes": ["none", "long"]}, "one.mixes: 'none' is what the other answers are ranked under; leave it out"),
        ({**SHIFT, "problems": 201}, "one.problems: 201, but k4 has 200"),
        ({key: CASE[key] for key in CASE if key != "choose"}, "one: key 'choose' is missing; plot case_study needs it"),
        ({**CASE, "choose": {"mix-long": "right"}}, "one.choose: 'mix-long' is not among the experiment's mixes (short, long)"),
        ({**CASE, "choose": {"long": "perhaps"}}, "one.choose.long: found 'perhaps', expected one of right, wrong"),
        ({**CASE, "choose": {}}, "one.choose: found {}, expected at least 1 of them"),
        ({**CASE, "problems": 0}, "one.problems: found 0, expected at least 1"),
        ({**SHIFT, "connectors": ["so", "so"]}, "one.connectors: found ['so', 'so'], expected each entry once"),
        ({**SHIFT, "mixes": ["logn"]}, "one.mixes: 'logn' is not in mixes.yaml (did you mean 'long'?)"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, repository: Path, entry: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        load(tmp_path, repository, {"one": entry})
    assert message in str(error.value)


@pytest.mark.parametrize("asked", [{"sampling": {"temperature": 0.7}}, {"sampling": {"temperature": 0.7}, "repeats": 4}])
def test_sampled_answers_are_not_ranked(tmp_path: Path, repository: Path, asked: dict[str, Any]) -> None:
    with pytest.raises(
        InputError, match=r"one.benchmarks: k4 is answered with temperature 0.7 and repeats \d; plot token_shift needs greedy"
    ):
        load(tmp_path, repository, {"one": SHIFT}, asked)


def test_two_experiments_that_share_a_cell_read_as_many_problems(tmp_path: Path, repository: Path) -> None:
    other = {**SHIFT, "mixes": ["long"], "problems": 20}
    with pytest.raises(InputError) as error:
        load(tmp_path, repository, {"one": SHIFT, "two": other, "three": {**other, "models": ["s"]}})
    (line,) = str(error.value).splitlines()
    assert line.endswith("experiments.yaml: two.problems: 20, but one, which shares cells with it, has 50")
