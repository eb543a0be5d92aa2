"""Requests that no node could meet are refused before anything is queued."""

from typing import Any

import pytest

pytest.importorskip("snakemake_executor_plugin_gapgrid_slurm")

from snakemake_executor_plugin_gapgrid_slurm.cluster import (
    impossible_requests,
    minutes,
    parse,
    problem,
)
from tests.slurm.conftest import SlurmProject

SINFO = """\
cpu*|8|16000|infinite|(null)|(null)
gpu|32|500000|2-00:00:00|gpu:a100:4(S:0-1)|fast,ib
gpu|64|250000|2-00:00:00|gpu:h100:8,tmpdisk:100|ib
old|16|64000|30:00|gpu:2|(null)"""
NODES = [parse(line) for line in SINFO.splitlines()]


def request(partition: str = "gpu", threads: int = 1, **resources: Any) -> tuple[Any, int]:
    """Resources on a partition, and threads."""
    return {"slurm_partition": partition, **resources}, threads


@pytest.mark.parametrize(
    "possible",
    [
        request(gpu=8, mem_mb=250000, runtime=2880, nodes=1, threads=64),
        request(gpu=4, gpu_model="a100", constraint="fast", threads=32),
        request("old", gpu=2, threads=16),
        request(gpu=16, nodes=2),
        request(constraint="slow|ib", mem_mb="<TBD>"),
        ({}, 8),
    ],
    ids=str,
)
def test_a_possible_request(possible: tuple[Any, int]) -> None:
    assert problem(NODES, *possible) is None


@pytest.mark.parametrize(
    ("impossible", "expected"),
    [
        (request("gqu"), "there is no partition 'gqu'; there are cpu, gpu, old"),
        (request(gpu=9), "9 GPUs, but no node of partition gpu has more than 8"),
        (
            request(gpu=5, gpu_model="a100"),
            "5 a100 GPUs, but no node of partition gpu has more than 4",
        ),
        (request("cpu", gpu=1), "1 GPUs, but no node of partition cpu has more than 0"),
        (({"gpu": 1}, 1), "1 GPUs, but no node of partition cpu has more than 0"),
        (
            request(mem_mb=600000),
            "600000 MB of memory, but no node of partition gpu has more than 500000",
        ),
        (request(threads=65), "65 CPUs, but no node of partition gpu has more than 64"),
        (
            request(gpu=8, mem_mb=300000),
            "no node of partition gpu has 8 GPUs, 300000 MB of memory, 1 CPUs together",
        ),
        (request(constraint="slow"), "no node of partition gpu has the feature 'slow'"),
        (
            request(gpu=8, constraint="fast"),
            "no node of partition gpu has 8 GPUs, 0 MB of memory, 1 CPUs together",
        ),
        (request(runtime=2881), "runtime 2881 minutes, but partition gpu allows 2880"),
        (request("old", runtime=31), "runtime 31 minutes, but partition old allows 30"),
    ],
    ids=str,
)
def test_an_impossible_request(impossible: tuple[Any, int], expected: str) -> None:
    assert problem(NODES, *impossible) == expected


def test_a_problem_is_named_once() -> None:
    wrong, right = request("x"), ({}, 1)
    requests = [("train", *wrong), ("train", *wrong), ("base", *right), ("evaluate", *wrong)]
    lines = impossible_requests(NODES, requests)
    assert [line.split(":")[0] for line in lines] == ["train", "evaluate"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("infinite", None), ("30:00", 30), ("1:00:00", 60), ("2-00:30:00", 2910), ("n/a", None)],
)
def test_time_limits(text: str, expected: int | None) -> None:
    assert minutes(text) == expected


def refused(project: SlurmProject, *arguments: str) -> str:
    """The output of a call that must fail."""
    done = project.call(*project.slurm_command(*arguments))
    assert done.returncode != 0
    return done.stdout


def test_bad_requests_queue_nothing(slurm: Any, project: SlurmProject) -> None:
    before = slurm.run("squeue", "-h", "-t", "all")
    project.edit("hardware", lambda document: document["tiny"].update(gpus=5))
    text = refused(project)
    assert "base: 5 GPUs, but no node of partition gpu has more than 4" in text
    assert "Traceback" not in text
    project.choose("slurm_partition", "gqu")
    partitions = "there are all, cpu, gpu, spot, urgent"
    assert f"there is no partition 'gqu'; {partitions}" in refused(project)
    assert slurm.run("squeue", "-h", "-t", "all") == before


def test_options_of_the_stock_executor_and_job_arrays(slurm: Any, project: SlurmProject) -> None:
    assert "here it is --gapgrid-slurm-qos" in refused(project, "--slurm-qos=high")
    assert "job arrays lose finished outputs" in refused(project, "--gapgrid-slurm-array-jobs=all")
