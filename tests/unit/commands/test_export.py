"""gapgrid export: the paper's files of all that is built, under names that do not collide."""

from pathlib import Path

import pytest

from gapgrid.core.records import read_json
from tests.unit.commands.conftest import CELL, Command, build

EXPORT = ("export", "demo", "--out", "out")
TWO_FILES = (0, ["2 files written to out/"])


def test_an_export_writes_the_papers_files_of_what_is_built(
    gapgrid: Command, results: Path
) -> None:
    build(results, CELL, "rule_only", "judge_only", "decisively_rejected", "no_answer")
    result = gapgrid(*EXPORT)
    assert result[:2] == TWO_FILES
    assert "xs/short/0/k2: not built yet, left out" in result.err and len(result.err) == 15
    folder = Path("out/xs/long/0")
    assert len(list(folder.iterdir())) == 2
    assert read_json(folder / "summary_results_k2.json") == {
        "none_resp_answer_count": 1,
        "exact_match_accuracy": 0.25,
        "llm_check_result_accuracy": 0.5,
        "none_llm_check_result_count": 0,
    }
    assert len(read_json(folder / "problematic_instances_k2.json")) == 2


def test_an_export_of_nothing_fails(gapgrid: Command) -> None:
    result = gapgrid(*EXPORT)
    assert result[:2] == (1, ["0 files written to out/"])
    assert len(result.err) == 16 and not Path("out").exists()


def test_an_export_uses_the_given_results_and_seeds(gapgrid: Command, results: Path) -> None:
    build(results, CELL._replace(seed=3), "rule_only")
    results.parent.rename("elsewhere")
    export = (*EXPORT, "--results", "elsewhere")
    assert gapgrid(*export).status == 1
    assert gapgrid(*export, "--seeds", 3, 4)[:2] == TWO_FILES
    assert Path("out/xs/long/3/summary_results_k2.json").is_file()


def set_task_of_k4(task: str) -> None:
    """Have all benchmarks in the demo grid's experiments, k4 with a task of its own."""
    folder = Path("config/demo")
    for file, old, new in (
        ("benchmarks.yaml", "k4: {<<: *story,", f"k4: {{<<: *story, task: {task},"),
        ("experiments.yaml", "benchmarks: [k2]", "benchmarks: all"),
    ):
        (folder / file).write_text((folder / file).read_text().replace(old, new))
    story = (folder / "tasks/story.yaml").read_text()
    (folder / f"tasks/{task}.yaml").write_text(story.replace("task: story", f"task: {task}"))


@pytest.mark.parametrize(("task", "name"), [("story", "k4"), ("tale", "tale")])
def test_a_task_that_benchmarks_share_is_named_by_each_of_them(
    gapgrid: Command, results: Path, task: str, name: str
) -> None:
    set_task_of_k4(task)
    for n, benchmark in enumerate(("k2", "k4", "k6")):
        build(results, CELL._replace(benchmark=benchmark), "rule_only", *["no_answer"] * n)
    assert gapgrid(*EXPORT)[:2] == (0, ["6 files written to out/"])
    summaries = Path("out/xs/long/0").glob("summary_results_*.json")
    counts = {file.stem: read_json(file)["none_resp_answer_count"] for file in summaries}
    assert counts == {
        "summary_results_k2": 0,
        f"summary_results_{name}": 1,
        "summary_results_k6": 2,
    }


def test_names_that_would_overwrite_each_other_are_refused(gapgrid: Command, results: Path) -> None:
    set_task_of_k4("k2")
    build(results, CELL, "rule_only")
    result = gapgrid(*EXPORT)
    assert result[:2] == (1, []) and not Path("out").exists()
    assert result.err[0].startswith("error: ")
    assert all("benchmarks 'k2' and 'k4' both are task 'k2'" in line for line in result.err)
