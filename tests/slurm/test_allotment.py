"""A job has the GPUs that it asked for, is started once, and alone writes its output. No SLURM and no GPU here."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gapgrid import allotment
from gapgrid.records import InputError


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith(("SLURM", "CUDA"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GAPGRID_CARDS", str(tmp_path / "cards"))
    monkeypatch.chdir(tmp_path)


def under_slurm(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    for name, value in {"SLURM_JOB_ID": "7", "SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1", **variables}.items():
        monkeypatch.setenv(name, value)


def test_slurm_gave_what_was_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    under_slurm(monkeypatch, CUDA_VISIBLE_DEVICES="2,3")
    allotment.claim(2)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "2,3"


@pytest.mark.parametrize("given, n_given", [("0", 1), ("0,1,2", 3), ("", 0), ("NoDevFiles", 0)])
def test_slurm_gave_something_else(monkeypatch: pytest.MonkeyPatch, given: str, n_given: int) -> None:
    under_slurm(monkeypatch, CUDA_VISIBLE_DEVICES=given)
    with pytest.raises(InputError, match=f"2 GPUs asked for, but SLURM gave {n_given} "):
        allotment.claim(2)


def test_started_several_times(monkeypatch: pytest.MonkeyPatch) -> None:
    under_slurm(monkeypatch, SLURM_STEP_NUM_TASKS="2")
    with pytest.raises(InputError, match="started this job 2 times at once"):
        allotment.claim(0)


def test_no_gpu_asked_none_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    allotment.claim(0)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""


def test_more_than_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    with pytest.raises(InputError, match="3 GPUs asked for, but there are 2 here"):
        allotment.claim(3)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(InputError, match="1 GPUs asked for, but there are 0 here"):
        allotment.claim(1)


SHOW = "import os, sys, time; print(os.environ['CUDA_VISIBLE_DEVICES'], time.time(), flush=True); time.sleep({}); print(time.time())"


def start(gpus: int, seconds: float, *options: str) -> "subprocess.Popen[str]":
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "4,5,6"}
    command = [sys.executable, "-m", "gapgrid.allotment", "--gpus", str(gpus), *options, "--", sys.executable, "-c", SHOW.format(seconds)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_two_jobs_never_share_a_card() -> None:
    jobs = [start(gpus, 1.0) for gpus in (2, 1, 2, 1, 3)]
    spans = []
    for job in jobs:
        out, err = job.communicate(timeout=60)
        assert job.returncode == 0, err
        cards, begin, end = out.split()
        spans.append((set(cards.split(",")), float(begin), float(end)))
    assert sorted(len(cards) for cards, _, _ in spans) == [1, 1, 2, 2, 3]
    for index, (cards, begin, end) in enumerate(spans):
        for others, other_begin, other_end in spans[:index]:
            assert not cards & others or end <= other_begin or other_end <= begin, "a card shared"


def test_a_killed_job_lets_go_of_its_cards() -> None:
    first = start(3, 600)
    assert first.stdout is not None and first.stdout.readline().startswith("4,5,6")
    second = start(1, 0)
    time.sleep(0.5)
    assert second.poll() is None, "it did not wait"
    first.kill()
    first.communicate()
    out, _ = second.communicate(timeout=30)
    assert out.startswith("4 ")


def test_one_writer(monkeypatch: pytest.MonkeyPatch) -> None:
    first = start(1, 600, "--output", "results/manifest.json")
    assert first.stdout is not None and first.stdout.readline()
    monkeypatch.setattr(allotment, "PATIENCE", 0.5)
    with pytest.raises(InputError, match=f"another job writes it .process {first.pid} on "):
        allotment.claim(0, Path("results/manifest.json"))
    allotment.claim(0, Path("results/other.json"))
    first.kill()
    first.communicate()
    allotment.claim(0, Path("results/manifest.json"))
    allotment.claim(0, Path("results/manifest.json"))  # again by the same process
