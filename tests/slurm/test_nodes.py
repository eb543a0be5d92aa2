"""One training on two machines of the cluster: the same weights as on one, rounding apart."""

from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

from tests.slurm.conftest import WORKFLOW_TESTS, SlurmProject
from tests.workflow.conftest import Project

pytestmark = pytest.mark.slow
CELL = "train/full/short/0"


def test_two_machines_train_what_one_does(slurm: Any, tmp_path: Path) -> None:
    local = Project.create(tmp_path / "local", "mini", WORKFLOW_TESTS / "mini")
    done = local.snakemake("--", f"results/mini/{CELL}/manifest.json")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]

    project = SlurmProject.make(tmp_path / "project", "mini")
    project.edit("hardware", lambda document: document["tiny"].update(gpus=1, nodes=2, mem_mb=1500))
    project.run("--", f"results/mini/{CELL}/manifest.json", seconds=200)
    log = project.path(f"logs/mini/{CELL}.log").read_text()
    assert "1 processes on each of 2 machines" in log and "global batch 8 = 2 devices" in log
    shown = slurm.run("scontrol", "show", "job", "-o")
    assert any("rule_train_wildcards_full_short_0" in line and "NumNodes=2" in line for line in shown.splitlines())
    here, there = (load_file(one.result(f"{CELL}/model/model.safetensors")) for one in (local, project))
    assert here.keys() == there.keys()
    assert max(float(abs(here[name] - there[name]).max()) for name in here) < 1e-4
