"""One machine with GPUs and no SLURM: parallel jobs, each with GPUs of its own (here numbers)."""

import subprocess
from pathlib import Path

import pytest

from tests.slurm.conftest import SlurmProject, cut_down
from tests.workflow.conftest import SNAKEMAKE

RECORD_GPUS = """
import os, time
open('faults/gpus', 'a').write(os.environ['CUDA_VISIBLE_DEVICES'] + '\\n')
time.sleep(3)
"""


def run(
    project: SlurmProject, monkeypatch: pytest.MonkeyPatch, gpus: str, *targets: str
) -> "subprocess.CompletedProcess[str]":
    """Run Snakemake with the profile `local` on a machine with these GPUs."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", gpus)
    monkeypatch.setenv("GAPGRID_CARDS", str(project.folder / "cards"))
    command = [str(SNAKEMAKE), "--profile", "local", "--config", "grid=stub", "--", *targets]
    return project.call(*command, seconds=300)


@pytest.fixture
def project(tmp_path: Path) -> SlurmProject:
    """The cut-down stub grid, for this machine."""
    project = cut_down(SlurmProject.make(tmp_path / "project", "stub"))
    (project.folder / "local").symlink_to("profiles/local")
    return project


def test_each_job_has_gpus_of_its_own(
    project: SlurmProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    for cell in ("small-short-0", "small-mixed-0"):
        project.fault(cell, RECORD_GPUS)
    targets = [f"results/stub/train/small/{mix}/0/manifest.json" for mix in ("short", "mixed")]
    done = run(project, monkeypatch, "3,4,5,7", *targets)
    assert done.returncode == 0, done.stdout[-6000:]
    assert all(project.path(target).exists() for target in targets)
    by_job = [set(line.split(",")) for line in project.path("faults/gpus").read_text().split()]
    assert [len(gpus) for gpus in by_job] == [2, 2]
    assert set.union(*by_job) <= {"3", "4", "5", "7"}


def test_more_gpus_than_the_machine_has_are_one_message_before_any_job(
    project: SlurmProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = run(project, monkeypatch, "3", "all")
    assert done.returncode != 0 and "Traceback" not in done.stdout
    assert "config/stub/hardware.yaml: tiny.gpus: 2, but this machine has 1 GPUs" in done.stdout
    assert not project.path("results").exists()
