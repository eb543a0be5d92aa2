"""`gapgrid status` against Snakemake: what it calls stale or missing is what the next run makes."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.workflow.conftest import Project
from tests.workflow.test_staleness import append, bump, delete, drop, set_key, several

# Jobs that a plan names, and status only through the jobs that read their files.
WITHOUT_MANIFEST = "request/"


def status(project: Project) -> dict[str, Any]:
    done = project.gapgrid("status", "--json")
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def of_training(project: Project) -> dict[str, Any]:
    """Training cell -> its result, of those that are not fresh."""
    results = status(project)["results"]
    return {result["name"]: result for result in results if result["stage"] == "train"}


def not_fresh(project: Project) -> set[str]:
    """What status says is not as it should be, named as Snakemake names jobs."""
    shown = status(project)
    stale = {f"{result['stage']}/{result['name']}".rstrip("/") for result in shown["results"]}
    return stale | set(shown["missing"])


CHANGES: dict[str, Callable[[Project], object]] = {
    "nothing": lambda project: None,
    "a learning rate": set_key("recipes.sft.learning_rate", 0.5),
    "another pretraining": set_key("recipes.pretrain.epochs", 2),
    "a cap": set_key("benchmarks.hard.max_tokens", 7),
    "a grader": set_key("benchmarks.hard.grader", "boxed_or_last_number"),
    "a judge prompt": append("config/stub/prompts/judge.txt", "\nBe strict.\n"),
    "a task file": append("config/stub/tasks/story.yaml", "\n# another\n"),
    "a version of score": bump("score"),
    "a version of evaluate": bump("evaluate"),
    "a label": set_key("models.small.label", "tiny"),
    "a score deleted": delete("score/small/short/0/easy/score.json"),
    "all of a score deleted": delete("score/small/short/0/easy"),
    "all of a grading deleted": delete("grade/small/short/0/easy"),
    "a trained student deleted": delete("train/small/short/0"),
    "a mix and a source deleted": delete("mixes/mixed", "sources/long"),
    "a table deleted": delete("tables/gap.estimates.csv"),
    "a caption": set_key("experiments.gap.caption", "Another."),
    "an experiment less": drop("experiments.accuracy"),
    "two at once": several(
        set_key("recipes.sft.learning_rate", 0.5), set_key("benchmarks.hard.max_tokens", 7)
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_status_calls_stale_is_what_the_next_run_makes(built: Project, name: str) -> None:
    CHANGES[name](built)
    planned = {job for job in built.plan() if not job.startswith(WITHOUT_MANIFEST)}
    assert not_fresh(built) == planned


def test_a_failed_job_is_told_with_the_end_of_its_log(built: Project) -> None:
    built.edit("recipes", lambda document: document["sft"].update(learning_rate=0.5))
    built.replace(
        "workflow/gapgrid/stages/train.py",
        "    base = manifest.read",
        "    raise InputError('[red]no[/] \\x1b[2J luck')\n    base = manifest.read",
    )
    assert built.snakemake().returncode != 0
    shown = status(built)
    failed = [result for result in shown["results"] if result["state"] == "failed"]
    assert {result["name"] for result in failed} == {"small/short/0", "small/mixed/0"}
    assert all("error: [red]no[/]  luck" in result["log"] for result in failed)
    assert shown["cells"]["small/short/0/easy"] == "failed"
    assert shown["cells"]["small/none/0/easy"] == "fresh"
    text = built.gapgrid("status")
    assert text.returncode == 0 and "✕ failed train small/short/0" in text.stdout
    assert "error: [red]no[/]  luck" in text.stdout and "\x1b[2J" not in text.stdout


def test_what_runs_and_what_was_cut_off(built: Project) -> None:
    """A student in training is running; killed with its controller it was cut off."""
    built.edit("recipes", lambda document: document["sft"].update(learning_rate=0.5))
    wait = (
        "    import time, pathlib\n"
        "    while pathlib.Path('hold').exists(): time.sleep(0.05)\n"
        "    base = manifest.read"
    )
    built.replace("workflow/gapgrid/stages/train.py", "    base = manifest.read", wait)
    built.path("hold").touch()
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(built.command(), cwd=built.folder, **silent) as running:  # type: ignore[call-overload]
        try:
            states: set[str] = set()
            while "running" not in states:
                assert running.poll() is None, "the run ended before a student trained"
                states = {result["state"] for result in of_training(built).values()}
            running.kill()
            running.wait()
            after = of_training(built).values()
            cut = [result for result in after if result["state"] == "failed"]
            assert cut and all("cut off" in result["reasons"][0] for result in cut)
            assert "running" not in {result["state"] for result in after}
        finally:
            built.path("hold").unlink()


def test_an_empty_folder_and_an_unknown_grid(built: Project, tmp_path: Path) -> None:
    empty = Project.create(tmp_path / "empty", "stub", built.folder / "config" / "stub")
    shown = empty.gapgrid("status")
    assert shown.returncode == 0 and "stub: 9 cells" in shown.stdout
    assert set(status(empty)["cells"].values()) == {"missing"}
    unknown = Project(empty.folder, "stubb").gapgrid("status")
    assert unknown.returncode == 1 and "no such grid (did you mean 'stub'?)" in unknown.stderr
