"""How long planning takes, where the demo's time goes, what a light job costs. Prints; asserts nothing.

`make bench`. Planning is timed beside null workflows of as many jobs, Snakemake's own floor: one of jobs
without inputs, one of jobs that read five files each, as ours do on average. The demo's split needs
its results (`make demo`). Numbers depend on the machine: quote ratios.
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
    """Median wall seconds of a command, and its output."""
    taken, output = [], ""
    for _ in range(runs):
        start = time.perf_counter()
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
        taken.append(time.perf_counter() - start)
        output = done.stdout + done.stderr
    return statistics.median(taken), output


def n_jobs(output: str) -> int:
    """The total of a dry run's job table."""
    return next(int(line.split()[1]) for line in output.splitlines() if line.startswith("total "))


def null_workflow(folder: Path, jobs: int, inputs: int) -> Path:
    """As many jobs with nothing in them; with `inputs`, each reads so many files of a few shared root jobs."""
    file = folder / f"null-{inputs}.smk"
    roots = 20 if inputs else 0
    files = [f'"root/{index}"' for index in range(inputs)]
    file.write_text(
        f'rule all:\n    input: expand("null/{{i}}", i=range({jobs - roots - 1}))\n\n'
        'rule root:\n    output: "root/{i}"\n    shell: "touch {output}"\n\n'
        f'rule one:\n    input: {", ".join(files)}\n    output: "null/{{i}}"\n    shell: "touch {{output}}"\n'
    )
    return file


def synthetic_grid(folder: Path, n_cells: int) -> None:
    """The stub grid with enough students for `n_cells` cells: four mixes, five benchmarks."""
    config = folder / "config/big"
    shutil.copytree(REPOSITORY / "tests/workflow/stub", config)
    models, mixes, benchmarks = (yaml.safe_load((config / f"{name}.yaml").read_text()) for name in ("models", "mixes", "benchmarks"))
    models = {f"s{index}": models["small"] for index in range(n_cells // 20)}
    mixes = {f"m{index}": {**mixes["mixed"], "seed": index} for index in range(4)}
    benchmarks = {f"b{index}": benchmarks["easy"] for index in range(5)}
    experiment = {"models": "all", "mixes": "all", "benchmarks": "all", "plot": "accuracy_by_mix", "caption": "All."}
    written = {"models": models, "mixes": mixes, "benchmarks": benchmarks, "experiments": {"all-cells": experiment}}
    for name, document in written.items():
        (config / f"{name}.yaml").write_text(yaml.safe_dump(document))


def planning() -> None:
    """Plan times of the demo grid and of two synthetic grids, each beside a null workflow."""
    print("planning (snakemake -n), median of", RUNS)
    for name, n_cells in (("demo", 0), ("1,000 cells", 1000), ("5,000 cells", 5000)):
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            for part in ("workflow", "envs", "config"):
                shutil.copytree(REPOSITORY / part, folder / part)
            if n_cells:
                synthetic_grid(folder, n_cells)
            ours, output = seconds([SNAKEMAKE, "-n", "--config", f"grid={'big' if n_cells else 'demo'}"], folder)
            jobs = n_jobs(output)
            bare, _ = seconds([SNAKEMAKE, "-n", "-s", null_workflow(folder, jobs, 0)], folder)
            wired, _ = seconds([SNAKEMAKE, "-n", "-s", null_workflow(folder, jobs, 5)], folder)
        print(f"  {name:12} {jobs:6} jobs  ours {ours:6.2f} s", end="")
        print(f"  null {bare:6.2f} s, ratio {ours / bare:.2f}  null with five inputs a job {wired:6.2f} s, ratio {ours / wired:.2f}")


def demo_split() -> None:
    """The demo's core-seconds: training, generation, and the rest (process starts, imports, Snakemake, idle cores)."""
    results = REPOSITORY / "results/demo"
    logs = sorted((REPOSITORY / ".snakemake/log").glob("*.log"), key=lambda file: file.stat().st_size)
    if not results.is_dir() or not logs:
        print("demo: no results; run make demo first")
        return
    lines = [line for line in logs[-1].read_text().splitlines() if line.startswith("Elapsed time: ")]
    hours, minutes, rest = lines[-1].removeprefix("Elapsed time: ").split(":")
    wall = 3600 * int(hours) + 60 * int(minutes) + float(rest)
    training = sum(_training_seconds(file) for file in results.glob("train/*/*/0/metrics.jsonl"))
    generation = sum(json.loads(line)["seconds"] for file in results.glob("evaluate/*/*/0/metrics.jsonl") for line in file.open())
    jobs = sum(_job_seconds(file) for file in (REPOSITORY / "benchmarks/demo").rglob("0.tsv"))
    total = 2 * wall
    print(f"demo: {wall:.0f} s wall on 2 cores = {total:.0f} core-seconds")
    for name, part in (("training", training), ("generation", generation), ("overhead", total - training - generation)):
        print(f"  {name:12} {part:6.0f} s  {part / total:6.1%}")
    print(f"  of the overhead, inside GPU-type jobs (start, imports, loading, checks): {jobs - training - generation:.0f} s")


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
    """CPU seconds of one per-cell job of the demo, as the operating system counts them."""
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
        specs = {stage: json.dumps(json.loads((root / stage / cell / "manifest.json").read_text())["spec"]) for stage in ("grade", "score")}
        grade = [sys.executable, "-m", "gapgrid.grade", "--spec", specs["grade"], *inputs]
        score = [sys.executable, "-m", "gapgrid.score", "--spec", specs["score"], "--cell", *cell.split("/")]
        score += ["--prompt", "--", out / "manifest.json", root / "judge/round.json", Path(temporary) / "score/manifest.json"]
        for name, command in (("grade", grade), ("score", score)):
            taken = [_cpu_seconds(command) for _ in range(5)]
            print(f"light job {name}: {statistics.median(taken):.2f} CPU-s (200 answers)")


def _cpu_seconds(command: list[str | Path]) -> float:
    before = os.times()
    subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


if __name__ == "__main__":
    planning()
    demo_split()
    light_job()
