"""The reduced miniature on SLURM: real training and generation, the same bytes as without it."""

from pathlib import Path
from typing import Any

import pytest

from tests.slurm.conftest import WORKFLOW_TESTS, SlurmProject, built_locally
from tests.workflow.conftest import Project

pytestmark = pytest.mark.slow

# The first attempt hangs once it has a checkpoint, and reaches its time limit.
HANG = """
            if "lora/short" in str(whole) and Path("faults/hang").exists():
                Path("faults/hang").unlink()
                import time

                time.sleep(900)
"""


def manifests(project: Project) -> dict[str, bytes]:
    """Manifests, tables and scores by path: all but blobs, whose digests are in the manifests."""
    root, endings = project.result(""), ("manifest.json", "round.json", ".csv", "score.json")
    files = [file for file in root.rglob("*") if file.name.endswith(endings)]
    return {file.relative_to(root).as_posix(): file.read_bytes() for file in files}


def test_same_bytes_as_locally_and_a_job_over_its_time_limit(slurm: Any, tmp_path: Path) -> None:
    local = built_locally(Project.create(tmp_path / "local", "mini", WORKFLOW_TESTS / "mini"))

    project = SlurmProject.make(tmp_path / "project", "mini")
    for key, value in (("gpu_model", "fake"), ("constraint", "fast")):
        project.choose(key, value)
    project.edit("hardware", lambda document: document["tiny"].update(mem_mb=1500, gpus=1))
    line = "write_json(whole / COMPLETE, self.layout)\n"
    project.replace("workflow/gapgrid/engines/progress.py", line, line + HANG)
    hang = project.path("faults/hang")
    hang.touch()
    run = project.start()
    slurm.wait_for(lambda: not hang.exists(), "a checkpoint", 200)
    name = "rule_train_wildcards_lora_short_0"
    jobs = slurm.jobs("%A|%k")
    hanging = next(line.split("|")[0] for line in jobs if line.endswith(name))
    # A limit of a minute instead of the five minutes of hardware.yaml.
    slurm.run("scontrol", "update", f"JobId={hanging}", "TimeLimit=1")
    assert "SLURM status is: 'TIMEOUT'" in project.finish(run, 400)
    log = project.path("logs/mini/train/lora/short/0.log").read_text()
    assert "resuming from checkpoint-" in log
    jobs = slurm.run("scontrol", "show", "job", "-o").splitlines()
    attempts = [line for line in jobs if name in line]
    # The second attempt has more time.
    assert ["TimeLimit=00:10:00" in line for line in attempts] == [False, True]
    for line in attempts:
        assert "TresPerJob=gres:gpu:fake:1" in line and "Features=fast" in line
    assert manifests(project) == manifests(local)
    assert "train/lora/short/0/manifest.json" in manifests(project)
    assert not list(project.result("").rglob("scratch"))
    logs = project.path("logs/slurm")
    rules = {file.relative_to(logs).parts[0] for file in logs.rglob("*.log")}
    assert rules == {"rule_base", "rule_train", "rule_evaluate", "rule_shift"}
