"""`gapgrid status` against Snakemake's own plan: what it calls stale or missing is what the next run makes anew."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.workflow.conftest import Project
from tests.workflow.test_staleness import append, bump, delete, drop, set_key, several

GAPGRID = Path(sys.executable).parent / "gapgrid"
WITHOUT_MANIFEST = ("request/",)  # jobs that the plan names and status tells of through the jobs that read them


def told(project: Project) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", "from gapgrid.cli import main; raise SystemExit(main())", "status", "--json", project.grid],
        cwd=project.folder,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(project.path("workflow"))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def to_be_made(project: Project) -> set[str]:
    """What status says is not as it should be, named as Snakemake names jobs."""
    found = told(project)
    return {f"{one['stage']}/{one['name']}".rstrip("/") for one in found["results"]} | set(found["missing"])


CHANGES: dict[str, Callable[[Project], object]] = {
    "nothing": lambda project: None,
    "a learning rate": set_key("recipes", "sft", "learning_rate", value=0.5),
    "another pretraining": set_key("recipes", "pretrain", "epochs", value=2),
    "a cap": set_key("benchmarks", "hard", "max_tokens", value=7),
    "a grader": set_key("benchmarks", "hard", "grader", value="boxed_or_last_number"),
    "a judge prompt": append("config/stub/prompts/judge.txt", "\nBe strict.\n"),
    "a task file": append("config/stub/tasks/story.yaml", "\n# another\n"),
    "a version of score": bump("score"),
    "a version of evaluate": bump("evaluate"),
    "a label": set_key("models", "small", "label", value="tiny"),
    "a score deleted": delete("score/small/short/0/easy/score.json"),
    "all of a score deleted": delete("score/small/short/0/easy"),
    "all of a grading deleted": delete("grade/small/short/0/easy"),
    "a trained student deleted": delete("train/small/short/0"),
    "a mix and a source deleted": delete("mixes/mixed", "sources/long"),
    "a table deleted": delete("tables/gap.estimates.csv"),
    "a caption": set_key("experiments", "gap", "caption", value="Another."),
    "an experiment less": drop("experiments", "accuracy"),
    "two at once": several(set_key("recipes", "sft", "learning_rate", value=0.5), set_key("benchmarks", "hard", "max_tokens", value=7)),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_status_calls_stale_is_what_the_next_run_makes(built: Project, name: str) -> None:
    CHANGES[name](built)
    planned = {job for job in built.plan() if not job.startswith(WITHOUT_MANIFEST)}
    assert to_be_made(built) == planned


def test_a_failed_job_is_told_with_the_end_of_its_log(built: Project) -> None:
    built.edit("recipes", lambda document: document["sft"].update(learning_rate=0.5))
    built.replace(
        "workflow/gapgrid/train.py",
        "    base = manifest.read",
        "    raise InputError('[red]no[/] \\x1b[2J luck')\n    base = manifest.read",
    )
    assert built.snakemake().returncode != 0
    failed = [one for one in told(built)["results"] if one["state"] == "failed"]
    assert {one["name"] for one in failed} == {"small/short/0", "small/mixed/0"}
    assert all("error: [red]no[/]  luck" in one["log"] for one in failed)
    assert told(built)["cells"]["small/short/0/easy"] == "failed"
    assert told(built)["cells"]["small/none/0/easy"] == "fresh"
    shown = subprocess.run([GAPGRID, "status", "stub"], cwd=built.folder, capture_output=True, text=True, check=False)
    assert shown.returncode == 0 and "✕ failed train small/short/0" in shown.stdout
    assert "error: [red]no[/]  luck" in shown.stdout and "\x1b[2J" not in shown.stdout


def test_what_runs_and_what_was_cut_off(built: Project) -> None:
    """A student in training is running; killed with its controller it was cut off."""
    built.edit("recipes", lambda document: document["sft"].update(learning_rate=0.5))
    wait = "    import time, pathlib\n    while pathlib.Path('hold').exists(): time.sleep(0.05)\n    base = manifest.read"
    built.replace("workflow/gapgrid/train.py", "    base = manifest.read", wait)
    built.path("hold").touch()
    command = [str(Path(sys.executable).parent / "snakemake"), "--profile", "profiles/demo", "--config", "grid=stub"]
    with subprocess.Popen(command, cwd=built.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        try:
            for _ in range(200):
                states = {one["name"]: one["state"] for one in told(built)["results"] if one["stage"] == "train"}
                if "running" in states.values():
                    break
            assert "running" in states.values()
            running.kill()
            running.wait()
            after = {one["name"]: one for one in told(built)["results"] if one["stage"] == "train"}
            cut = [one for one in after.values() if one["state"] == "failed"]
            assert cut and all("cut off" in one["reasons"][0] for one in cut)
            assert not [one for one in after.values() if one["state"] == "running"]
        finally:
            built.path("hold").unlink()


def test_an_empty_folder_and_an_unknown_grid(built: Project, tmp_path: Path) -> None:
    empty = Project.create(tmp_path / "empty", "stub", built.folder / "config" / "stub")
    shown = subprocess.run([GAPGRID, "status", "stub"], cwd=empty.folder, capture_output=True, text=True, check=False)
    assert shown.returncode == 0 and "stub: 9 cells" in shown.stdout
    assert set(told(empty)["cells"].values()) == {"missing"}
    unknown = subprocess.run([GAPGRID, "status", "stubb"], cwd=empty.folder, capture_output=True, text=True, check=False)
    assert unknown.returncode == 1 and "no such grid (did you mean 'stub'?)" in unknown.stderr
