"""Measure how long planning takes, where the demo's time goes, what a light job costs.

`make bench`. Planning is timed beside null workflows of as many jobs, Snakemake's own minimum: one
of jobs without inputs, one of jobs that read five files each, as ours do on average. The demo's
split needs its results (`make demo`). Numbers depend on the machine: quote ratios.
"""

import csv
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).parents[1]
SNAKEMAKE = Path(sys.executable).parent / "snakemake"
RUNS = 3


def seconds(command: list[str | Path], folder: Path, runs: int = RUNS) -> tuple[float, str]:
    """Return the median wall seconds of a command, and its output."""
    durations, output = [], ""
    for _ in range(runs):
        start = time.perf_counter()
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
        durations.append(time.perf_counter() - start)
        output = done.stdout + done.stderr
    return statistics.median(durations), output


def n_jobs(output: str) -> int:
    """Return the total of a dry run's job table."""
    return next(int(line.split()[1]) for line in output.splitlines() if line.startswith("total "))


def null_workflow(folder: Path, jobs: int, inputs: int) -> Path:
    """Write a workflow of empty jobs; each reads `inputs` files of a few shared root jobs."""
    file = folder / f"null-{inputs}.smk"
    roots = 20 if inputs else 0
    files = [f'"root/{index}"' for index in range(inputs)]
    file.write_text(
        f'rule all:\n    input: expand("null/{{i}}", i=range({jobs - roots - 1}))\n\n'
        'rule root:\n    output: "root/{i}"\n    shell: "touch {output}"\n\n'
        f'rule one:\n    input: {", ".join(files)}\n    output: "null/{{i}}"\n'
        '    shell: "touch {output}"\n'
    )
    return file


def synthetic_grid(folder: Path, n_cells: int) -> None:
    """Write the stub grid with students for `n_cells` cells: four mixes, five benchmarks."""
    config = folder / "config/big"
    shutil.copytree(REPOSITORY / "tests/workflow/stub", config)
    stub = {
        name: yaml.safe_load((config / f"{name}.yaml").read_text())
        for name in ("models", "mixes", "benchmarks")
    }
    student, mix = stub["models"]["small"], stub["mixes"]["mixed"]
    experiment = {**dict.fromkeys(stub, "all"), "plot": "accuracy_by_mix", "caption": "All."}
    documents = {
        "models": {f"s{index}": student for index in range(n_cells // 20)},
        "mixes": {f"m{index}": {**mix, "seed": index} for index in range(4)},
        "benchmarks": {f"b{index}": stub["benchmarks"]["easy"] for index in range(5)},
        "experiments": {"all-cells": experiment},
    }
    for name, document in documents.items():
        (config / f"{name}.yaml").write_text(yaml.safe_dump(document))


def planning() -> None:
    """Print plan times of the demo grid and of two synthetic grids beside null workflows."""
    print("planning (snakemake -n), median of", RUNS)
    for name, n_cells in (("demo", 0), ("1,000 cells", 1000), ("5,000 cells", 5000)):
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            for part in ("workflow", "envs", "config"):
                shutil.copytree(REPOSITORY / part, folder / part)
            if n_cells:
                synthetic_grid(folder, n_cells)
            grid = "big" if n_cells else "demo"
            ours, output = seconds([SNAKEMAKE, "-n", "--config", f"grid={grid}"], folder)
            jobs = n_jobs(output)
            bare, _ = seconds([SNAKEMAKE, "-n", "-s", null_workflow(folder, jobs, 0)], folder)
            wired, _ = seconds([SNAKEMAKE, "-n", "-s", null_workflow(folder, jobs, 5)], folder)
        print(f"  {name:12} {jobs:6} jobs  ours {ours:6.2f} s", end="")
        print(f"  null {bare:6.2f} s, ratio {ours / bare:.2f}", end="")
        print(f"  null with five inputs a job {wired:6.2f} s, ratio {ours / wired:.2f}")


def demo_split() -> None:
    """Print the demo's core-seconds: training, generation, and the rest.

    The rest are process starts, imports, Snakemake and idle cores.
    """
    results = REPOSITORY / "results/demo"
    logs = (REPOSITORY / ".snakemake/log").glob("*.log")
    log = max(logs, key=lambda file: file.stat().st_size, default=None)
    if not results.is_dir() or log is None:
        print("demo: no results; run make demo first")
        return
    hours, minutes, rest = log.read_text().rpartition("Elapsed time: ")[2].split()[0].split(":")
    wall = 3600 * int(hours) + 60 * int(minutes) + float(rest)
    training = sum(_training_seconds(file) for file in results.glob("train/*/*/0/metrics.jsonl"))
    generation = sum(
        json.loads(line)["seconds"]
        for file in results.glob("evaluate/*/*/0/metrics.jsonl")
        for line in file.open()
    )
    jobs = sum(_job_seconds(file) for file in (REPOSITORY / "benchmarks/demo").rglob("0.tsv"))
    total, known = 2 * wall, training + generation
    print(f"demo: {wall:.0f} s wall on 2 cores = {total:.0f} core-seconds")
    parts = {"training": training, "generation": generation, "overhead": total - known}
    for name, part in parts.items():
        print(f"  {name:12} {part:6.0f} s  {part / total:6.1%}")
    what = "inside GPU-type jobs (start, imports, loading, checks)"
    print(f"  of the overhead, {what}: {jobs - known:.0f} s")


def _training_seconds(file: Path) -> float:
    total, before = 0.0, 0
    for row in map(json.loads, file.open()):
        total += (row["tokens"] - before) / max(row["tokens_per_s"], 1)
        before = row["tokens"]
    return total


def _job_seconds(file: Path) -> float:
    with file.open(newline="") as rows:
        return float(next(csv.DictReader(rows, delimiter="\t"))["s"])


def light_job() -> None:
    """Print the CPU seconds of one per-cell job of the demo, as the system counts them."""
    cell = "l/long/0/k4"
    root = REPOSITORY / "results/demo"
    if not (root / "grade" / cell).is_dir():
        print("light job: no results; run make demo first")
        return
    training_cell, benchmark = cell.rsplit("/", 1)
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary) / "grade" / cell
        inputs = [
            root / f"train/{training_cell}/manifest.json",
            root / f"evaluate/{training_cell}/manifest.json",
            root / f"requests/{cell}.spec",
            root / f"problems/{benchmark}/problems.jsonl",
            root / f"problems/{benchmark}/manifest.json",
            out / "manifest.json",
        ]
        score = Path(temporary) / "score" / cell / "manifest.json"
        arguments = {
            "grade": inputs,
            "score": ["--prompt", "--", out / "manifest.json", root / "judge/round.json", score],
        }
        for stage, files in arguments.items():
            manifest = json.loads((root / stage / cell / "manifest.json").read_text())
            spec = ["--spec", json.dumps(manifest["spec"])]
            command = [sys.executable, "-m", f"gapgrid.stages.{stage}", *spec, *files]
            durations = [_cpu_seconds(command) for _ in range(5)]
            print(f"light job {stage}: {statistics.median(durations):.2f} CPU-s (200 answers)")


def _cpu_seconds(command: list[str | Path]) -> float:
    before = os.times()
    subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True)
    after = os.times()
    user = after.children_user - before.children_user
    return user + after.children_system - before.children_system


if __name__ == "__main__":
    planning()
    demo_split()
    light_job()
