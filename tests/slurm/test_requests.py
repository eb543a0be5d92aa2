"""Requests that no node could meet are told before anything is queued; options of other executors are refused."""

import subprocess
from typing import Any

import pytest

plugin = pytest.importorskip("snakemake_executor_plugin_gapgrid_slurm")

from snakemake_executor_plugin_gapgrid_slurm.cluster import complaint, complaints, minutes, parse  # noqa: E402
from tests.slurm.conftest import SlurmProject  # noqa: E402

SINFO = """\
cpu*|8|16000|infinite|(null)|(null)
gpu|32|500000|2-00:00:00|gpu:a100:4(S:0-1)|fast,ib
gpu|64|250000|2-00:00:00|gpu:h100:8,tmpdisk:100|ib
old|16|64000|30:00|gpu:2|(null)"""
NODES = [parse(line) for line in SINFO.splitlines()]


@pytest.mark.parametrize(
    "resources, threads, wanted",
    [
        ({"slurm_partition": "gpu", "gpu": 8, "mem_mb": 250000, "runtime": 2880, "nodes": 1}, 64, None),
        ({"slurm_partition": "gpu", "gpu": 4, "gpu_model": "a100", "constraint": "fast"}, 32, None),
        ({"slurm_partition": "old", "gpu": 2}, 16, None),
        ({"slurm_partition": "gpu", "gpu": 16, "nodes": 2}, 1, None),
        ({}, 8, None),
        ({"slurm_partition": "gqu"}, 1, "there is no partition 'gqu'; there are cpu, gpu, old"),
        ({"slurm_partition": "gpu", "gpu": 9}, 1, "9 GPUs, but no node of partition gpu has more than 8"),
        ({"slurm_partition": "gpu", "gpu": 5, "gpu_model": "a100"}, 1, "5 a100 GPUs, but no node of partition gpu has more than 4"),
        ({"slurm_partition": "cpu", "gpu": 1}, 1, "1 GPUs, but no node of partition cpu has more than 0"),
        ({"gpu": 1}, 1, "1 GPUs, but no node of partition cpu has more than 0"),
        ({"slurm_partition": "gpu", "mem_mb": 600000}, 1, "600000 MB of memory, but no node of partition gpu has more than 500000"),
        ({"slurm_partition": "gpu"}, 65, "65 CPUs, but no node of partition gpu has more than 64"),
        (
            {"slurm_partition": "gpu", "gpu": 8, "mem_mb": 300000},
            1,
            "no node of partition gpu has 8 GPUs, 300000 MB of memory, 1 CPUs together",
        ),
        ({"slurm_partition": "gpu", "constraint": "slow"}, 1, "no node of partition gpu has the feature 'slow'"),
        (
            {"slurm_partition": "gpu", "gpu": 8, "constraint": "fast"},
            1,
            "no node of partition gpu has 8 GPUs, 0 MB of memory, 1 CPUs together",
        ),
        ({"slurm_partition": "gpu", "runtime": 2881}, 1, "runtime 2881 minutes, but partition gpu allows 2880"),
        ({"slurm_partition": "old", "runtime": 31}, 1, "runtime 31 minutes, but partition old allows 30"),
        ({"slurm_partition": "gpu", "constraint": "slow|ib", "mem_mb": "<TBD>"}, 1, None),
    ],
)
def test_complaint(resources: dict[str, Any], threads: int, wanted: str | None) -> None:
    assert complaint(NODES, resources, threads) == wanted


def test_a_complaint_comes_once() -> None:
    requests = [("train", {"slurm_partition": "x"}, 1)] * 3 + [("base", {}, 1), ("evaluate", {"slurm_partition": "x"}, 1)]
    assert [line.split(":")[0] for line in complaints(NODES, requests)] == ["train", "evaluate"]


def test_time_limits() -> None:
    assert [minutes(text) for text in ("infinite", "30:00", "1:00:00", "2-00:30:00", "n/a")] == [None, 30, 60, 2910, None]


def refused(project: SlurmProject, *arguments: str) -> str:
    done = subprocess.run(project.command(*arguments), cwd=project.folder, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode != 0
    return done.stdout + done.stderr


def test_bad_requests_queue_nothing(slurm: Any, project: SlurmProject) -> None:
    before = slurm.run("squeue", "-h", "-t", "all")
    project.edit("hardware", lambda document: document["tiny"].update(gpus=5))
    words = refused(project)
    assert "base: 5 GPUs, but no node of partition gpu has more than 4" in words
    assert "Traceback" not in words
    project.choose("slurm_partition", "gqu")
    words = refused(project)
    assert "there is no partition 'gqu'; there are all, cpu, gpu, spot, urgent" in words
    assert slurm.run("squeue", "-h", "-t", "all") == before


def test_options_of_the_stock_executor_and_job_arrays(slurm: Any, project: SlurmProject) -> None:
    assert "here it is --gapgrid-slurm-qos" in refused(project, "--slurm-qos=high")
    assert "job arrays lose finished outputs" in refused(project, "--gapgrid-slurm-array-jobs=all")
