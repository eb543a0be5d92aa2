"""The parent of a training run: which command it starts, and what it makes of how the processes ended."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gapgrid.engines import launch
from gapgrid.engines.memory import Hardware, ShortOfMemoryError
from gapgrid.records import InputError, read_json, write_json

JOB = Path("job.json")


def test_one_machine_needs_no_scheduler() -> None:
    command = launch.torchrun(JOB, 4, 1, {})
    assert command == [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
        *("--nproc-per-node", "4", "-m", "gapgrid.engines.launch", "job.json"),
    ]


def test_more_machines_meet_at_the_first_node_of_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "_first_node", lambda number: "node7")
    command = launch.torchrun(JOB, 8, 2, {"SLURM_JOB_ID": "123456"})
    assert command[0] == "srun" and "--nodes=2" in command and "--ntasks-per-node=1" in command
    assert command[command.index("--rdzv-endpoint") + 1] == "node7:23456"
    assert command[command.index("--nnodes") + 1] == "2" and command[command.index("--nproc-per-node") + 1] == "8"


def test_the_first_node_is_where_slurm_says(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"squeue": "node[7-8]", "hostnames": "node7 node8", "node": "NodeName=node7 NodeAddr=10.0.0.7 State=MIXED"}
    asked: list[tuple[str, ...]] = []

    def answer(*command: str) -> list[str]:
        asked.append(command)
        return said["squeue" if command[0] == "squeue" else command[2]].split()

    monkeypatch.setattr(launch, "_said", answer)
    assert launch._first_node("5") == "10.0.0.7"
    assert asked[1] == ("scontrol", "show", "hostnames", "node[7-8]") and asked[2][:4] == ("scontrol", "show", "node", "node7")
    said["node"] = "slurm_load_node error"
    assert launch._first_node("5") == "node7"
    said["squeue"] = ""
    with pytest.raises(InputError, match="SLURM job 5: squeue and scontrol name no node"):
        launch._first_node("5")


def test_more_machines_without_a_scheduler_are_refused() -> None:
    with pytest.raises(InputError, match="2 nodes: only inside a SLURM job"):
        launch.torchrun(JOB, 4, 2, {})


class Started:
    """In place of torchrun: records each job, and ends as told."""

    def __init__(self, *endings: list[dict[str, Any]]) -> None:
        self.endings, self.jobs = list(endings), []  # type: ignore[var-annotated]

    def __call__(self, command: list[str], **named: Any) -> subprocess.CompletedProcess[str]:
        job = Path(command[-1])
        self.jobs.append(read_json(job))
        endings = self.endings.pop(0)
        for rank, ending in enumerate(endings):
            write_json(job.with_name(f"ended-{rank:05d}.json"), ending)
        self.threads = named["env"]["OMP_NUM_THREADS"]
        return subprocess.CompletedProcess(command, 0 if all("facts" in ending for ending in endings) else 1)


def train(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, started: Started) -> dict[str, Any]:
    monkeypatch.setattr(subprocess, "run", started)
    files = {name: tmp_path / name for name in ("base", "data", "out", "metrics", "scratch")}
    return launch.fine_tune(files, [], {"seed": 0}, Hardware(8, tokens_per_device=99), 2, 1, threads=6)


def test_facts_of_the_first_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    started = Started([{"facts": {"n": 1}}, {"facts": {"n": 1}}])
    assert train(monkeypatch, tmp_path, started) == {"n": 1}
    assert started.threads == "3"
    assert started.jobs[0]["how"]["tokens_per_device"] == 99 and started.jobs[0]["limit"] is None
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_any_process_is_the_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^row 3 is bad$"):
        train(monkeypatch, tmp_path, Started([{"short": 4}, {"error": "row 3 is bad"}]))


def test_one_process_short_of_memory_has_all_start_again_with_half(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    started = Started([{"short": 4}], [{"facts": {}}, {"facts": {}}])
    assert train(monkeypatch, tmp_path, started) == {}
    assert [job["limit"] for job in started.jobs] == [None, 2]


def test_twice_short_of_memory_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="out of memory with 2 sequences"):
        train(monkeypatch, tmp_path, Started([{"short": 4}], [{"short": 2}]))


def test_a_process_that_said_nothing_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="1 of 2 processes finished"):
        train(monkeypatch, tmp_path, Started([{"facts": {}}]))


def test_a_worker_says_how_it_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from gapgrid.engines import trainer

    job = {"files": dict.fromkeys(("base", "data", "out", "metrics", "scratch"), str(tmp_path)), "spec": {}, "how": {}, "limit": 3}
    (tmp_path / "rows.jsonl").write_text("")
    job["files"]["data"] = str(tmp_path / "rows.jsonl")
    asked: list[Any] = []

    def attempt(*given: Any) -> dict[str, Any]:
        asked.append(given)
        raise ShortOfMemoryError(4)

    monkeypatch.setattr(trainer, "attempt", attempt)
    assert launch._work(json.loads(json.dumps(job))) == {"short": 4}
    assert asked[0][-2:] == (Hardware(), 3)
    job["files"]["data"] = str(tmp_path / "none.jsonl")
    assert "no such file" in launch._work(job)["error"]
