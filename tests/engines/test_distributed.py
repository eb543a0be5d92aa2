"""Two processes train what one does: DDP over gloo, and ZeRO where DeepSpeed is installed."""

import importlib.util
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from gapgrid.core import manifest
from gapgrid.core.records import Row
from tests.engines.helpers import (
    column,
    kill_at_checkpoint,
    killed_in,
    largest_difference,
    run,
    train_command,
    wait_until,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not torch.distributed.is_available(), reason="torch without torch.distributed"
    ),
]
NEEDS_DEEPSPEED = pytest.mark.skipif(
    importlib.util.find_spec("deepspeed") is None or shutil.which("c++") is None,
    reason="DeepSpeed and the C++ compiler that it needs on a CPU are not both here",
)
QUIET = {"learning_rate": 2e-4, "epochs": 1}


@pytest.fixture
def command(student: Path, rows: list[Row]) -> Any:
    """`command(folder, recipe, options)` trains on 45 rows, in batches of 8.

    The last step of an epoch is short: no row may be seen twice to fill it.
    """

    def build(folder: Path, recipe: Row, options: str) -> list[str]:
        changes = {**QUIET, **recipe}
        return train_command(
            folder, student, rows[:45], changes, "--micro-batch", "2", *options.split()
        )

    return build


def log_of(command: list[str]) -> str:
    """Run a command, which must succeed; return its log."""
    process = run(command)
    assert process.returncode == 0, process.stderr[-3000:]
    return process.stderr


def assert_the_same(left: Path, right: Path) -> None:
    facts = [manifest.read(folder / "manifest.json")["facts"] for folder in (left, right)]
    assert facts[0] == facts[1]
    for key in ("step", "tokens", "loss"):
        first, second = (column(folder / "metrics.jsonl", key) for folder in (left, right))
        assert first == (pytest.approx(second, abs=1e-4) if key == "loss" else second)
    assert largest_difference(left / "model", right / "model") < 1e-5
    first, second = (
        sorted(file.name for file in (folder / "model").iterdir()) for folder in (left, right)
    )
    assert first == second
    assert not (right / "scratch").exists()


PACKED = {"batching": "packed", "max_length": 320, "global_batch": 4}


@pytest.mark.parametrize(
    "recipe",
    [{}, {"batching": "bucketed"}, PACKED, {"method": "lora"}],
    ids=["padded", "bucketed", "packed", "lora"],
)
def test_two_processes_train_what_one_does(command: Any, tmp_path: Path, recipe: Row) -> None:
    log_of(command(tmp_path / "one", recipe, "--devices 1"))
    log = log_of(command(tmp_path / "two", recipe, "--devices 2 --threads 2"))
    assert "2 processes on each of 1 machines" in log
    assert_the_same(tmp_path / "one", tmp_path / "two")


@NEEDS_DEEPSPEED
@pytest.mark.parametrize(
    ("options", "recipe"),
    [
        ("--zero 2 --devices 2", {}),
        ("--zero 3 --devices 2", {}),
        ("--zero 3 --devices 2", {"method": "lora"}),
        ("--zero 2 --devices 1", {}),
    ],
)
def test_zero_trains_what_one_process_does(
    command: Any, tmp_path: Path, options: str, recipe: Row
) -> None:
    log_of(command(tmp_path / "one", recipe, "--devices 1"))
    log_of(command(tmp_path / "zero", recipe, options))
    assert_the_same(tmp_path / "one", tmp_path / "zero")


def test_a_mistake_in_the_processes_is_one_message(command: Any, tmp_path: Path) -> None:
    recipe = {"max_length": 10, "over_length": "fail"}
    process = run(command(tmp_path / "cell", recipe, "--devices 2"))
    assert process.returncode == 1
    last = process.stderr.splitlines()[-1]
    assert last.startswith("error: row '") and "expected at most 10 (max_length)" in last
    assert not (tmp_path / "cell/manifest.json").exists()


def test_killed_and_resumed_by_two_processes_is_the_same(command: Any, tmp_path: Path) -> None:
    """The parent is killed: its processes end with it, and the next run resumes."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    # A checkpoint each 40 steps, an epoch is 6: it resumes within one.
    log_of(command(whole, {"epochs": 30}, "--devices 2"))
    again = command(killed, {"epochs": 30}, "--devices 2")
    kill_at_checkpoint(again, killed)
    wait_until(lambda: not processes_of(killed), "the processes outlive their parent")
    assert "resuming from checkpoint-" in log_of(again)
    assert_the_same(whole, killed)


def test_killed_before_the_manifest_two_processes_train_no_step_again(
    command: Any, tmp_path: Path
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    log_of(command(whole, {"epochs": 1.5}, "--devices 2"))
    again = command(killed, {"epochs": 1.5}, "--devices 2")
    assert run(killed_in("manifest.write", again)).returncode == -signal.SIGKILL
    log = log_of(again)
    assert "resuming from checkpoint-9" in log and "loss" not in log
    assert_the_same(whole, killed)


def processes_of(folder: Path) -> list[Path]:
    """Return the processes whose command line names a folder."""
    processes = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(folder).encode() in file.read_bytes():
                processes.append(file)
        except OSError:
            continue  # it ended meanwhile
    return processes
