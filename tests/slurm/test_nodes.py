"""One training on two nodes of the cluster: the weights of one machine, but for rounding."""

from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

from tests.slurm.conftest import WORKFLOW_TESTS, SlurmProject, built_locally
from tests.workflow.conftest import Project

pytestmark = pytest.mark.slow
CELL = "train/full/short/0"


def test_two_nodes_train_the_weights_of_one(slurm: Any, tmp_path: Path) -> None:
    target = ("--", f"results/mini/{CELL}/manifest.json")
    local = Project.create(tmp_path / "local", "mini", WORKFLOW_TESTS / "mini")
    built_locally(local, *target)

    project = SlurmProject.make(tmp_path / "project", "mini")
    project.edit("hardware", lambda document: document["tiny"].update(gpus=1, nodes=2, mem_mb=1500))
    project.finish(project.start(*target), seconds=200)
    log = project.path(f"logs/mini/{CELL}.log").read_text()
    assert "1 processes on each of 2 machines" in log and "global batch 8 = 2 devices" in log
    jobs = slurm.run("scontrol", "show", "job", "-o").splitlines()
    assert any("rule_train_wildcards_full_short_0" in job and "NumNodes=2" in job for job in jobs)
    weights = f"{CELL}/model/model.safetensors"
    expected, trained = load_file(local.result(weights)), load_file(project.result(weights))
    assert expected.keys() == trained.keys()
    assert max(float(abs(expected[name] - trained[name]).max()) for name in expected) < 1e-4
