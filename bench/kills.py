"""Kill runs at random moments, between random changes, and compare what they end with.

`make bench-kills` takes a finished grid, changes its configuration, starts Snakemake and sends
SIGKILL, SIGTERM or SIGINT to the controller, to its whole process group or to one job; perhaps a
second time, after another change. Then it runs the workflow to its end and compares every result
with a run of the same configuration from scratch, file by file, by SHA-256. All draws follow from
`--seed` and the trial's number; finished trials are kept in FOLDER/trials.jsonl, so a campaign
that was stopped goes on where it was. The table goes to bench/kills.md.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
from tests.workflow.conftest import REPOSITORY, Project
from tests.workflow.test_faults import fingerprint
from tests.workflow.test_staleness import append, set_key

from gapgrid.core.records import canonical, sha256_file, sha256_text

Change = Callable[[Project], object]
SIGNALS = {"KILL": signal.SIGKILL, "TERM": signal.SIGTERM, "INT": signal.SIGINT}
TARGETS = ("controller", "group", "job")
HUNG_SECONDS = 180  # a controller that lives so long after a signal hangs
MOST_CALLS = 5  # of the workflow, until nothing is to be done
CHANGES: dict[str, dict[str, Callable[[random.Random], Change]]] = {
    "stub": {
        "learning rate": lambda draw: set_key("recipes.sft.learning_rate", draw.random()),
        "share": lambda draw: set_key("mixes.mixed.parts", _shares(draw)),
        "token limit": lambda draw: set_key("benchmarks.hard.max_tokens", draw.randint(40, 99)),
        "grader": lambda draw: set_key("benchmarks.easy.grader", "boxed_or_last_number"),
        "judge prompt": lambda draw: append("config/stub/prompts/judge.txt", f"{draw.random()}\n"),
        "problems": lambda draw: set_key("benchmarks.hard.data.builtin.seed", draw.randint(1, 99)),
        "resamples": lambda draw: set_key("grid.statistics.resamples", draw.randint(200, 400)),
    },
    "mini": {
        "learning rate": lambda draw: set_key(
            "recipes.full.learning_rate", draw.uniform(1e-3, 1e-2)
        ),
        "share": lambda draw: set_key("mixes.mixed.parts", _shares(draw)),
        "resamples": lambda draw: set_key("grid.statistics.resamples", draw.randint(200, 400)),
    },
}


def _shares(draw: random.Random) -> dict[str, float]:
    share = draw.randint(1, 9) / 10
    return {"long": share, "short": round(1 - share, 1)}


class Campaign:
    """Trials in one folder: finished grids by configuration, and a row for each trial."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.seed = folder, seed
        self.rows = folder / "trials.jsonl"
        folder.mkdir(parents=True, exist_ok=True)

    def done(self) -> list[dict[str, Any]]:
        """Return the rows of the finished trials."""
        if not self.rows.is_file():
            return []
        return [json.loads(line) for line in self.rows.read_text().splitlines()]

    def finished(self, grid: str, config: Path) -> tuple[Project, float]:
        """Return a grid built from scratch with a configuration, and the seconds that it took."""
        files = sorted(file for file in config.rglob("*") if file.is_file())
        contents = [(file.relative_to(config).as_posix(), sha256_file(file)) for file in files]
        name = f"{grid}-{sha256_text(canonical(contents))[:16]}"
        folder, timing = self.folder / "finished" / name, self.folder / "finished" / f"{name}.json"
        if not timing.is_file():
            shutil.rmtree(folder, ignore_errors=True)
            project = Project.create(folder, grid, config)
            start = time.monotonic()
            run = project.snakemake()
            assert run.returncode == 0, run.stderr[-3000:]
            timing.write_text(json.dumps({"seconds": time.monotonic() - start}))
        return Project(folder, grid), json.loads(timing.read_text())["seconds"]

    def trial(self, grid: str, number: int) -> dict[str, Any]:
        """Run one trial and return its row."""
        draw = random.Random(f"{self.seed} {grid} {number}")
        base, seconds = self.finished(grid, REPOSITORY / "tests/workflow" / grid)
        folder = self.folder / "project"
        shutil.rmtree(folder, ignore_errors=True)
        project = base.copy(folder)
        kills = []
        for _ in range(draw.choice((1, 1, 2))):
            change = draw.choice(sorted(CHANGES[grid]))
            CHANGES[grid][change](draw)(project)
            kills.append({"change": change, **kill(project, draw, seconds)})
        n_calls = finish(project)
        expected, _ = self.finished(grid, project.folder / "config" / grid)
        ours, theirs = fingerprint(project), fingerprint(expected)
        differing = sorted(name for name in {*ours, *theirs} if ours.get(name) != theirs.get(name))
        row = {"grid": grid, "trial": number, "kills": kills, "calls": n_calls}
        return row | {"differing": differing}


def kill(project: Project, draw: random.Random, seconds: float) -> dict[str, Any]:
    """Start the workflow, send a signal at a random moment, and return what happened."""
    target, name = draw.choice(TARGETS), draw.choice(sorted(SIGNALS))
    moment, choice = draw.uniform(0.3, seconds), draw.random()
    silent: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    run = subprocess.Popen(project.command(), cwd=project.folder, start_new_session=True, **silent)
    row: dict[str, Any] = {"target": target, "signal": name, "outcome": "ended before"}
    try:
        run.wait(moment)
        return row
    except subprocess.TimeoutExpired:
        row["outcome"] = "killed"
    if target == "group":
        os.killpg(run.pid, SIGNALS[name])
    elif target == "controller":
        os.kill(run.pid, SIGNALS[name])
    else:
        jobs = [job for job in psutil.Process(run.pid).children(recursive=True) if _is_stage(job)]
        if jobs:
            jobs[int(choice * len(jobs))].send_signal(SIGNALS[name])
        else:
            row["outcome"] = "no job ran"
    try:
        row["status"] = run.wait(HUNG_SECONDS)
    except subprocess.TimeoutExpired:
        row["outcome"] = "hung"
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
    return row


def _is_stage(process: psutil.Process) -> bool:
    try:
        return any(word.startswith("gapgrid.stages.") for word in process.cmdline())
    except psutil.Error:
        return False


def finish(project: Project) -> int:
    """Run the workflow until nothing is to be done; return the number of calls that it took."""
    project.snakemake("--unlock")
    for n_calls in range(1, MOST_CALLS + 1):
        if project.snakemake().returncode == 0 and project.is_done():
            return n_calls
    raise RuntimeError(f"{project.folder}: still not finished after {MOST_CALLS} calls")


def table(rows: list[dict[str, Any]]) -> str:
    """Return the campaign's table as Markdown."""
    counts: defaultdict[tuple[str, str, str], Counter[str]] = defaultdict(Counter)
    for row in rows:
        for kill in row["kills"]:
            count = counts[row["grid"], kill["target"], kill["signal"]]
            count[kill["outcome"]] += 1
        # How a trial ended stands with its last kill.
        count.update(["trials", "other bytes" if row["differing"] else "same bytes"])
        count["more calls"] += row["calls"] > 1
    columns = ("trials", "same bytes", "other bytes", "more calls", "killed", "ended before")
    columns += ("no job ran", "hung")
    lines = [
        f"| grid | target | signal | {' | '.join(columns)} |",
        "|---" * (len(columns) + 3) + "|",
    ]
    for key, count in sorted(counts.items()):
        lines.append(f"| {' | '.join([*key, *(str(count[name]) for name in columns)])} |")
    files = Counter(name.rsplit("/", 1)[-1] for row in rows for name in row["differing"])
    differing = ", ".join(f"{name} ({n})" for name, n in files.most_common()) or "none"
    return "\n".join([*lines, "", f"Files that differed: {differing}."])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stub", type=int, default=100, help="trials on the grid of stub engines")
    parser.add_argument("--mini", type=int, default=20, help="trials with real training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("results/bench-kills"))
    args = parser.parse_args()
    campaign = Campaign(args.folder.absolute(), args.seed)
    done = {(row["grid"], row["trial"]) for row in campaign.done()}
    for grid, n_trials in (("stub", args.stub), ("mini", args.mini)):
        for number in range(n_trials):
            if (grid, number) in done:
                continue
            row = campaign.trial(grid, number)
            with campaign.rows.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(
                f"{grid} {number}: {row['kills']}, {len(row['differing'])} files differ", flush=True
            )
    text = table(campaign.done())
    date = f"{datetime.now(UTC):%Y-%m-%d}"
    head = f"# Killed anywhere\n\n`make bench-kills`, seed {args.seed}, {date}.\n\n"
    (REPOSITORY / "bench/kills.md").write_text(f"{head}{text}\n")
    print(text)


if __name__ == "__main__":
    main()
