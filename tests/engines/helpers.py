"""What the engines' tests share besides fixtures."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from gapgrid.core import manifest
from gapgrid.core.records import Row, canonical, read_json, read_jsonl, write_json, write_jsonl
from gapgrid.core.spec_types import with_defaults
from gapgrid.demo import arithmetic
from gapgrid.judging.backends import Prompt

TASK = Path(__file__).parents[2] / "config/demo/tasks/story.yaml"
STAND_IN = Path(__file__).with_name("stand_in")  # a folder with a module vllm
ARCHITECTURE = {"hidden_size": 16, "layers": 2, "heads": 2, "ffn": 40}
RECIPE = {
    "method": "full",
    "learning_rate": 5e-3,
    "epochs": 2,
    "global_batch": 8,
    "max_length": 640,
}
GREEDY = {"temperature": 0}


def complete_recipe(**changes: Any) -> Any:
    """Return the tests' recipe with these changes and every default."""
    return with_defaults("recipe", {**RECIPE, **changes})


def benchmark(n: int, steps: int = 2) -> list[Any]:
    """Return the rows of a problems.jsonl."""
    rows = arithmetic.benchmark(n, steps, 5)
    return [{**row, "gold": row["answer"], "doc_id": index} for index, row in enumerate(rows)]


def user_prompts(*texts: str) -> list[Prompt]:
    """Return prompts of one user message each."""
    return [[{"role": "user", "content": text}] for text in texts]


def edit_json(file: Path, **changes: Any) -> None:
    """Change keys of a JSON file, or write one."""
    write_json(file, {**(read_json(file) if file.exists() else {}), **changes})


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a model folder."""
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def largest_difference(left: Path, right: Path) -> float:
    """Return how far two models' weights, which have the same names, are apart."""
    first, second = weights(left), weights(right)
    assert first.keys() == second.keys()
    return max(float((first[name] - second[name]).abs().max()) for name in first)


def column(file: Path, key: str) -> list[Any]:
    """Return one column of a JSON lines file."""
    return [row[key] for row in read_jsonl(file)]


# ---- stages in processes of their own, and their ends ----


def stage_command(stage: str, spec: Row, *arguments: object) -> list[str]:
    """Return the command that runs a stage."""
    module = f"gapgrid.stages.{stage}"
    return [sys.executable, "-m", module, "--spec", canonical(spec), *map(str, arguments)]


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)


def wait_until(condition: Callable[[], Any], what: str, seconds: float = 300) -> None:
    """Wait until a condition holds; fail with `what` if it never does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def train_command(
    folder: Path, student: Path, rows: list[Row], recipe: Row, *options: str
) -> list[str]:
    """Return the command of the stage `train` in a new folder."""
    folder.mkdir(parents=True)
    write_jsonl(folder / "train.jsonl", rows)
    manifest.write(folder / "base.json", "base", {"version": 1}, {}, [])
    spec = {"version": 1, "recipe": {**RECIPE, **recipe}, "seed": 0, "engine": {"name": "trainer"}}
    names = ("base.json", "train.jsonl", "model", "manifest.json")
    return stage_command("train", spec, *options, student, *(folder / name for name in names))


def kill_at_checkpoint(command: list[str], folder: Path) -> None:
    """Start a training run and kill it as soon as it has left a whole checkpoint."""
    job = subprocess.Popen(command, stderr=subprocess.DEVNULL)

    def has_checkpoint() -> bool:
        assert job.poll() is None, "it ended before it left a checkpoint"
        return bool(list(folder.glob("scratch/*/checkpoint-*/complete")))

    wait_until(has_checkpoint, "no checkpoint came")
    job.send_signal(signal.SIGKILL)
    job.wait()
    assert not (folder / "manifest.json").exists() and not (folder / "model").exists()


def killed_in(point: str, command: list[str]) -> list[str]:
    """Return a stage's command in which the call of `point`, a module's function, kills it."""
    stage = command[2].rpartition(".")[2]
    kill = "lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)"
    code = [
        "import os, signal, sys",
        "from gapgrid.core import manifest",
        "from gapgrid.engines import saving",
        f"from gapgrid.stages import {stage} as stage",
        f"{point} = {kill}",
        "stage.main(sys.argv[1:])",
    ]
    return [command[0], "-c", "; ".join(code), *command[3:]]


def graded_cell(results: Path, n_pairs: int) -> Path:
    """Write a graded cell that leaves `n_pairs` answers to the judge; return its manifest."""
    folder = results / "grade/tiny/short/0/easy"
    rows = [
        {
            "doc_id": index,
            "repeat": 0,
            "problem": f"ann has {index} pens .",
            "gold": "1",
            "answer": "1" if index % 3 == 0 else "2",
            "rejected_by": None,
        }
        for index in range(n_pairs)
    ]
    write_jsonl(folder / "pending.jsonl", rows)
    counts = {"n": n_pairs, "n_no_answer": 0, "n_accepted": 0, "n_pending": n_pairs}
    manifest.write(folder / "manifest.json", "grade", {}, {}, ["pending.jsonl"], facts=counts)
    return folder / "manifest.json"
