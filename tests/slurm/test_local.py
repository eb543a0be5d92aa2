"""One machine with GPUs and no SLURM: jobs side by side, each with cards of its own. The cards are only numbers here."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.slurm.conftest import SlurmProject, cut_down

NOTE = "open('faults/seen', 'a').write(os.environ['CUDA_VISIBLE_DEVICES'] + '\\n')\nimport time\ntime.sleep(3)"


def run(project: SlurmProject, cards: str, *targets: str) -> "subprocess.CompletedProcess[str]":
    snakemake = str(Path(sys.executable).parent / "snakemake")
    command = [snakemake, "--profile", "local", "--config", "grid=stub", "--", *targets]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": cards, "GAPGRID_CARDS": str(project.folder / "cards")}
    return subprocess.run(command, cwd=project.folder, env=environment, capture_output=True, text=True, check=False, timeout=300)


@pytest.fixture
def here(tmp_path: Path) -> SlurmProject:
    project = SlurmProject.make(tmp_path / "project", "stub")
    cut_down(project)
    (project.folder / "local").symlink_to("profiles/local")
    return project


def test_each_job_has_cards_of_its_own(here: SlurmProject) -> None:
    for cell in ("small-short-0", "small-mixed-0"):
        here.fault(cell, NOTE)
    targets = [f"results/stub/train/small/{mix}/0/manifest.json" for mix in ("short", "mixed")]
    done = run(here, "3,4,5,7", *targets)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert all(here.path(target).exists() for target in targets)
    seen = here.path("faults/seen").read_text().split()
    assert len(seen) == 2 and all(len(cards.split(",")) == 2 for cards in seen)
    assert {card for cards in seen for card in cards.split(",")} <= {"3", "4", "5", "7"}


def test_more_cards_than_there_are_is_one_message_before_any_job(here: SlurmProject) -> None:
    done = run(here, "3", "all")
    assert done.returncode != 0 and "Traceback" not in done.stderr
    assert "config/stub/hardware.yaml: tiny.gpus: 2, but this machine has 1 GPUs" in done.stderr
    assert not here.path("results").exists()
