"""The parent of a training run: which command it starts, and what it makes of the endings."""

import itertools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gapgrid.core.records import InputError, Row, read_json, write_json
from gapgrid.engines import launch
from gapgrid.engines.memory import DeviceOutOfMemoryError, Hardware

JOB = Path("job.json")
NAMES = ("base", "data", "out", "metrics", "scratch")


def test_one_machine_needs_no_scheduler() -> None:
    assert launch.torchrun(JOB, 4, 1, {}) == [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
        *("--nproc-per-node", "4", "-m", "gapgrid.engines.launch", "job.json"),
    ]


def test_more_machines_meet_at_the_first_node_of_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    slurm = {
        "squeue": "node[7-8]",
        "hostnames": "node7 node8",
        "node": "NodeName=node7 NodeAddr=10.0.0.7 State=MIXED",
    }
    calls: list[str] = []

    def words_of(*command: str) -> list[str]:
        calls.append(" ".join(command))
        return slurm["squeue" if command[0] == "squeue" else command[2]].split()

    monkeypatch.setattr(launch, "_words_of", words_of)
    environment = {"SLURM_JOB_ID": "123456"}

    def endpoint() -> str:
        command = launch.torchrun(JOB, 8, 2, environment)
        assert command[0] == "srun" and {"--nodes=2", "--ntasks-per-node=1"} <= set(command)
        options = dict(itertools.pairwise(command))
        assert (options["--nnodes"], options["--nproc-per-node"]) == ("2", "8")
        return options["--rdzv-endpoint"]

    assert endpoint() == "10.0.0.7:23456"
    assert calls[1:] == ["scontrol show hostnames node[7-8]", "scontrol show node node7 --oneliner"]
    slurm["node"] = "slurm_load_node error"
    assert endpoint() == "node7:23456"
    slurm["squeue"] = ""
    with pytest.raises(InputError, match="SLURM job 123456: squeue and scontrol name no node"):
        endpoint()
    environment.clear()
    with pytest.raises(InputError, match="2 nodes: only inside a SLURM job"):
        endpoint()


class FakeTorchrun:
    """Instead of torchrun: keeps each job, and ends its processes as given."""

    def __init__(self, *endings: list[Row]) -> None:
        self.endings = list(endings)
        self.jobs: list[Row] = []

    def __call__(self, command: list[str], **named: Any) -> subprocess.CompletedProcess[str]:
        job = Path(command[-1])
        self.jobs.append(read_json(job))
        endings = self.endings.pop(0)
        for rank, ending in enumerate(endings):
            write_json(job.with_name(f"ended-{rank:05d}.json"), ending)
        self.threads = named["env"]["OMP_NUM_THREADS"]
        status = 0 if all("facts" in ending for ending in endings) else 1
        return subprocess.CompletedProcess(command, status)


@pytest.fixture
def train(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[FakeTorchrun], Row]:
    def train(torchrun: FakeTorchrun) -> Row:
        monkeypatch.setattr(subprocess, "run", torchrun)
        hardware = Hardware(8, tokens_per_device=99)
        files = {name: tmp_path / name for name in NAMES}
        return launch.fine_tune(files, [], {"seed": 0}, hardware, 2, 1, threads=6)

    return train


def test_facts_of_the_first_process(train: Callable[..., Row], tmp_path: Path) -> None:
    torchrun = FakeTorchrun([{"facts": {"n": 1}}, {"facts": {"n": 1}}])
    assert train(torchrun) == {"n": 1}
    assert torchrun.threads == "3"
    (job,) = torchrun.jobs
    assert job["hardware"]["tokens_per_device"] == 99 and job["limit"] is None
    assert list(tmp_path.iterdir()) == []


SHORT = {"out_of_memory_with": 4}


@pytest.mark.parametrize(
    ("endings", "message"),
    [
        ([[SHORT, {"error": "row 3 is bad"}]], r"^row 3 is bad$"),
        ([[SHORT], [{"out_of_memory_with": 2}]], "micro-batch of 2 sequences"),
        ([[{"facts": {}}]], "1 of 2 processes finished"),
    ],
    ids=["error", "out of memory twice", "no ending"],
)
def test_how_processes_end_badly(
    train: Callable[..., Row], endings: list[list[Row]], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        train(FakeTorchrun(*endings))


def test_one_process_out_of_memory_has_all_start_again_with_half(train: Callable[..., Row]) -> None:
    torchrun = FakeTorchrun([SHORT], [{"facts": {}}, {"facts": {}}])
    assert train(torchrun) == {}
    assert [job["limit"] for job in torchrun.jobs] == [None, 2]


def test_a_process_reports_how_it_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from gapgrid.engines import trainer

    calls: list[Any] = []

    def attempt(*arguments: Any) -> Row:
        calls.append(arguments)
        raise DeviceOutOfMemoryError(4)

    monkeypatch.setattr(trainer, "attempt", attempt)
    (tmp_path / "rows.jsonl").write_text("")
    files = {**dict.fromkeys(NAMES, str(tmp_path)), "data": str(tmp_path / "rows.jsonl")}
    job: Row = {"files": files, "spec": {}, "hardware": {}, "limit": 3}
    assert launch._work(job) == SHORT
    assert calls[0][-2:] == (Hardware(), 3)
    files["data"] = str(tmp_path / "none.jsonl")
    assert "no such file" in launch._work(job)["error"]
