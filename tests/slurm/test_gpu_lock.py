"""gpu_lock without SLURM or a GPU: a job's GPUs, its single start, its output's only writer."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gapgrid.core import gpu_lock
from gapgrid.core.records import InputError


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith(("SLURM", "CUDA"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GAPGRID_CARDS", str(tmp_path / "cards"))
    monkeypatch.chdir(tmp_path)


def under_slurm(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    job = {"SLURM_JOB_ID": "7", "SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"}
    for name, value in {**job, **variables}.items():
        monkeypatch.setenv(name, value)


def test_slurm_allocated_what_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    under_slurm(monkeypatch, CUDA_VISIBLE_DEVICES="2,3")
    gpu_lock.acquire(2)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "2,3"


@pytest.mark.parametrize(("visible", "n"), [("0", 1), ("0,1,2", 3), ("", 0), ("NoDevFiles", 0)])
def test_slurm_allocated_something_else(
    monkeypatch: pytest.MonkeyPatch, visible: str, n: int
) -> None:
    under_slurm(monkeypatch, CUDA_VISIBLE_DEVICES=visible)
    with pytest.raises(InputError, match=f"2 GPUs asked for, but SLURM gave {n} "):
        gpu_lock.acquire(2)


def test_a_job_started_several_times_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    under_slurm(monkeypatch, SLURM_STEP_NUM_TASKS="2")
    with pytest.raises(InputError, match="started this job 2 times at once"):
        gpu_lock.acquire(0)


def test_a_job_without_gpus_sees_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    gpu_lock.acquire(0)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""


@pytest.mark.parametrize(("visible", "n_gpus", "n"), [("0,1", 3, 2), ("", 1, 0)])
def test_more_gpus_than_the_machine_has_are_refused(
    monkeypatch: pytest.MonkeyPatch, visible: str, n_gpus: int, n: int
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with pytest.raises(InputError, match=f"{n_gpus} GPUs asked for, but there are {n} here"):
        gpu_lock.acquire(n_gpus)


# Prints its GPUs, when it began and when it ended.
JOB = """
import os, sys, time
print(os.environ["CUDA_VISIBLE_DEVICES"], time.time(), flush=True)
time.sleep(float(sys.argv[1]))
print(time.time())
"""


def start(n_gpus: int, seconds: float, *options: str) -> "subprocess.Popen[str]":
    lock = [sys.executable, "-m", "gapgrid.core.gpu_lock", "--gpus", str(n_gpus), *options]
    command = [*lock, "--", sys.executable, "-c", JOB, str(seconds)]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "4,5,6"}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True)


def first_line(job: "subprocess.Popen[str]") -> str:
    assert job.stdout is not None
    return job.stdout.readline()


def test_two_jobs_never_share_a_gpu() -> None:
    jobs = [start(n_gpus, 1.0) for n_gpus in (2, 1, 2, 1, 3)]
    spans = []
    for job in jobs:
        out, err = job.communicate(timeout=60)
        assert job.returncode == 0, err
        gpus, begin, end = out.split()
        spans.append((set(gpus.split(",")), float(begin), float(end)))
    assert sorted(len(gpus) for gpus, _, _ in spans) == [1, 1, 2, 2, 3]
    for index, (gpus, begin, end) in enumerate(spans):
        for other_gpus, other_begin, other_end in spans[:index]:
            assert not gpus & other_gpus or end <= other_begin or other_end <= begin, "shared"


def test_a_killed_job_releases_its_gpus() -> None:
    first = start(3, 600)
    assert first_line(first).startswith("4,5,6")
    second = start(1, 0)
    time.sleep(0.5)
    assert second.poll() is None, "it did not wait"
    first.kill()
    first.communicate()
    out, err = second.communicate(timeout=30)
    assert out.startswith("4 ")
    assert err == "waiting for 1 free GPUs of 4, 5, 6\n"


def test_an_output_has_one_writer(monkeypatch: pytest.MonkeyPatch) -> None:
    output = Path("results/manifest.json")
    first = start(1, 600, "--output", str(output))
    assert first_line(first)
    monkeypatch.setattr(gpu_lock, "OUTPUT_TIMEOUT", 0.5)
    with pytest.raises(InputError, match=f"another job writes it .process {first.pid} on "):
        gpu_lock.acquire(0, output)
    gpu_lock.acquire(0, output.with_name("other.json"))
    first.kill()
    first.communicate()
    gpu_lock.acquire(0, output)
    gpu_lock.acquire(0, output)  # again by the same process
