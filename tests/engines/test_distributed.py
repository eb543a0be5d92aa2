"""Two processes train what one does, really started: DDP over gloo, and ZeRO where DeepSpeed is installed."""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from gapgrid import manifest
from gapgrid.records import Row, canonical, read_jsonl, write_jsonl
from tests.engines.conftest import RECIPE

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without torch.distributed")]
NEEDS_DEEPSPEED = pytest.mark.skipif(
    importlib.util.find_spec("deepspeed") is None or shutil.which("c++") is None,
    reason="DeepSpeed and the C++ compiler that it needs on a CPU are not both here",
)
QUIET = {"learning_rate": 2e-4, "epochs": 1}


def command(folder: Path, student: Path, rows: list[Row], recipe: dict[str, Any], *options: str) -> list[str]:
    folder.mkdir(parents=True)
    write_jsonl(folder / "train.jsonl", rows)
    manifest.write(folder / "base.json", "base", {"version": 1}, {}, [])
    spec = {"version": 1, "recipe": {**RECIPE, **recipe}, "seed": 0, "engine": {"name": "trainer"}}
    files = [student, folder / "base.json", folder / "train.jsonl", folder / "model", folder / "manifest.json"]
    return [sys.executable, "-m", "gapgrid.train", "--spec", canonical(spec), "--micro-batch", "2", *options, *map(str, files)]


def train(folder: Path, student: Path, rows: list[Row], recipe: dict[str, Any], *options: str) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command(folder, student, rows, recipe, *options), env=environment, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stderr


def assert_the_same(one: Path, other: Path) -> None:
    from safetensors.torch import load_file

    facts = [manifest.read(folder / "manifest.json")["facts"] for folder in (one, other)]
    assert facts[0] == facts[1]
    logged = [read_jsonl(folder / "metrics.jsonl") for folder in (one, other)]
    for key in ("step", "tokens"):
        assert [row[key] for row in logged[0]] == [row[key] for row in logged[1]]
    assert [row["loss"] for row in logged[0]] == pytest.approx([row["loss"] for row in logged[1]], abs=1e-4)
    first, second = (load_file(folder / "model/model.safetensors") for folder in (one, other))
    assert first.keys() == second.keys()
    assert max(float((first[name] - second[name]).abs().max()) for name in first) < 1e-5
    assert sorted(file.name for file in (one / "model").iterdir()) == sorted(file.name for file in (other / "model").iterdir())
    assert not (other / "scratch").exists()


@pytest.mark.parametrize(
    "recipe",
    [{}, {"batching": "bucketed"}, {"batching": "packed", "max_length": 320, "global_batch": 4}, {"method": "lora"}],
    ids=["padded", "bucketed", "packed", "lora"],
)
def test_two_processes_train_what_one_does(student: Path, rows: list[Row], tmp_path: Path, recipe: dict[str, Any]) -> None:
    """45 rows in batches of 8: the last step of the epoch is short, and no row may be seen twice to fill it."""
    train(tmp_path / "one", student, rows[:45], {**QUIET, **recipe}, "--devices", "1")
    said = train(tmp_path / "two", student, rows[:45], {**QUIET, **recipe}, "--devices", "2", "--threads", "2")
    assert "2 processes on each of 1 machines" in said
    assert_the_same(tmp_path / "one", tmp_path / "two")


@NEEDS_DEEPSPEED
@pytest.mark.parametrize(("zero", "devices", "recipe"), [("2", "2", {}), ("3", "2", {}), ("3", "2", {"method": "lora"}), ("2", "1", {})])
def test_zero_trains_what_one_process_does(
    student: Path, rows: list[Row], tmp_path: Path, zero: str, devices: str, recipe: dict[str, Any]
) -> None:
    train(tmp_path / "one", student, rows[:45], {**QUIET, **recipe}, "--devices", "1")
    train(tmp_path / "zero", student, rows[:45], {**QUIET, **recipe}, "--devices", devices, "--zero", zero)
    assert_the_same(tmp_path / "one", tmp_path / "zero")


def test_a_mistake_in_the_processes_is_one_message(student: Path, rows: list[Row], tmp_path: Path) -> None:
    recipe = {**QUIET, "max_length": 10, "over_length": "fail"}
    asked = command(tmp_path / "cell", student, rows, recipe, "--devices", "2")
    done = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: row '") and "expected at most 10 (max_length)" in last
    assert not (tmp_path / "cell/manifest.json").exists()


def test_killed_and_resumed_by_two_processes_is_the_same(student: Path, rows: list[Row], tmp_path: Path) -> None:
    """The parent is killed: its processes end with it, and the next call goes on from their last whole checkpoint."""
    recipe = {**QUIET, "epochs": 30}  # a checkpoint each 40 steps, an epoch is 6: resumed within one
    train(tmp_path / "whole", student, rows[:45], recipe, "--devices", "2")
    asked = command(tmp_path / "killed", student, rows[:45], recipe, "--devices", "2")
    job = subprocess.Popen(asked, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not list((tmp_path / "killed").glob("scratch/*/checkpoint-*/complete")):
        assert job.poll() is None and time.monotonic() < deadline, "no checkpoint came"
        time.sleep(0.05)
    job.send_signal(signal.SIGKILL)
    job.wait()
    while workers(tmp_path / "killed"):
        assert time.monotonic() < deadline, "the processes outlive their parent"
        time.sleep(0.1)
    again = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=600)
    assert "resuming from checkpoint-" in again.stderr
    assert_the_same(tmp_path / "whole", tmp_path / "killed")


def workers(folder: Path) -> list[Path]:
    """Processes whose command line names a folder."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(folder).encode() in file.read_bytes():
                found.append(file)
        except OSError:
            continue  # it ended meanwhile
    return found
