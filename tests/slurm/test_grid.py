"""The reduced miniature through SLURM: real training and answering, the same bytes as on one machine."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.slurm.conftest import WORKFLOW_TESTS, SlurmProject
from tests.workflow.conftest import Project

pytestmark = pytest.mark.slow

# The first attempt stands still once it has a checkpoint, and reaches its time limit.
HANG = """
            if "lora/short" in str(whole) and Path("faults/hang").exists():
                Path("faults/hang").unlink()
                import time

                time.sleep(900)
"""


def manifests(project: Project) -> dict[str, bytes]:
    """All that a result vouches for, by name."""
    root = project.result("")
    files = [file for file in root.rglob("*") if file.name.endswith(("manifest.json", "round.json", ".csv", "score.json"))]
    return {file.relative_to(root).as_posix(): file.read_bytes() for file in files}


def test_same_bytes_as_locally_and_a_job_over_its_time_limit(slurm: Any, tmp_path: Path) -> None:
    local = Project.create(tmp_path / "local", "mini", WORKFLOW_TESTS / "mini")
    done = local.snakemake()
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]

    project = SlurmProject.make(tmp_path / "project", "mini")
    for key, value in (("gpu_model", "fake"), ("constraint", "fast")):
        project.choose(key, value)
    project.edit("hardware", lambda document: document["tiny"].update(mem_mb=1500, gpus=1))
    mark = "write_json(whole / COMPLETE, self.layout)\n"
    project.replace("workflow/gapgrid/engines/progress.py", mark, mark + HANG)
    project.path("faults/hang").touch()
    run = project.start()
    slurm.wait_for(lambda: not project.path("faults/hang").exists(), "a checkpoint", 200)
    hanging = next(line.split("|")[0] for line in slurm.jobs("%A|%k") if line.endswith("rule_train_wildcards_lora_short_0"))
    slurm.run("scontrol", "update", f"JobId={hanging}", "TimeLimit=1")  # instead of the five minutes of hardware.yaml
    words = project.finish(run, 400)
    assert "SLURM status is: 'TIMEOUT'" in words
    assert "resuming from checkpoint-" in project.path("logs/mini/train/lora/short/0.log").read_text()
    tried = [line for line in slurm.run("scontrol", "show", "job", "-o").splitlines() if "rule_train_wildcards_lora_short_0" in line]
    assert ["TimeLimit=00:10:00" in line for line in tried] == [False, True], "no more time for the second attempt"
    assert all("TresPerJob=gres:gpu:fake:1" in line and "Features=fast" in line for line in tried)
    assert manifests(project) == manifests(local)
    assert json.loads(project.result("train/lora/short/0/manifest.json").read_text())["stage"] == "train"
    assert not list(project.result("").rglob("scratch"))
    logs = [file.relative_to(project.path("logs/slurm")).parts for file in project.path("logs/slurm").rglob("*.log")]
    assert {parts[0] for parts in logs} == {"rule_base", "rule_train", "rule_evaluate", "rule_shift"}
