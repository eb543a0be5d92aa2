"""Who is at work in a folder: controllers (each leaves a record while it lives) and SLURM jobs started from it.

A controller that dies hard leaves its record, Snakemake's lock, and jobs that run on. Snakemake never takes those up
again, and once unlocked by hand a second controller writes the same outputs beside them.
"""

import json
import os
import re
import socket
import subprocess
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

RECORDS = Path(".snakemake/gapgrid/controllers")
LOCKS = Path(".snakemake/locks")
# On another machine a controller is taken for dead when its record is older than this; it is touched at every poll.
SILENT_AFTER = 600.0
# The stock plugin names a run's jobs after it, an optional prefix and a UUID, and says in the comment which rule it is.
_RUN = re.compile(r"([\w-]+_)?[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class NoAnswerError(Exception):
    """SLURM does not say which jobs there are."""


@dataclass
class Record:
    """A controller: its run's name, which its jobs bear; where it runs, since when; what it was called with."""

    run: str
    host: str
    pid: int
    started: str
    arguments: list[str]
    path: str

    @classmethod
    def write(cls, folder: Path, run: str, arguments: list[str]) -> "Record":
        """Record this process."""
        path = folder / RECORDS / f"{run}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        record = cls(run, socket.gethostname(), os.getpid(), _started(os.getpid()), arguments, str(path))
        side = path.with_suffix(".part")
        side.write_text(json.dumps(asdict(record)))
        side.replace(path)
        return record

    def beat(self) -> None:
        """Say that the controller lives."""
        if Path(self.path).exists():
            os.utime(self.path)

    def remove(self) -> None:
        Path(self.path).unlink(missing_ok=True)

    def is_alive(self) -> bool:
        """By its process on this machine, by the age of its record on another."""
        if self.host == socket.gethostname():
            return _started(self.pid) == self.started != ""
        return Path(self.path).exists() and time.time() - Path(self.path).stat().st_mtime < SILENT_AFTER


def _started(pid: int) -> str:
    """When a process started, in clock ticks since boot; empty if there is none. A pid alone is used again."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]


class Job(NamedTuple):
    """A SLURM job that has not ended."""

    job_id: str
    state: str
    run: str
    what: str


class State(NamedTuple):
    """Who is at work in a folder. `orphans` are jobs whose controller is gone."""

    alive: list[Record]
    dead: list[Record]
    orphans: list[Job]
    is_locked: bool

    def message(self) -> str | None:
        """What to tell a user who starts a run here; None if nothing stands in the way but perhaps a live controller's lock."""
        if not self.orphans and not (self.dead and self.is_locked and not self.alive):
            return None
        lines = ["an earlier run in this folder died before its jobs were done."]
        lines += [f"  it was process {record.pid} on {record.host}: snakemake {' '.join(record.arguments)}" for record in self.dead]
        if self.orphans:
            names = ", ".join(f"{job.job_id} ({job.what}, {job.state.lower()})" for job in self.orphans[:5])
            more = f" and {len(self.orphans) - 5} more" if len(self.orphans) > 5 else ""
            lines.append(f"  {len(self.orphans)} of its SLURM jobs are still there: {names}{more}")
            lines.append("To wait for them and go on:      gapgrid resume")
            lines.append("To cancel them and go on:        gapgrid resume --cancel")
        else:
            lines.append("None of its SLURM jobs is left. To go on:      gapgrid resume")
        return "\n".join(lines)


def look(folder: Path) -> State:
    """Who is at work in `folder`. Raises `NoAnswerError` if SLURM does not say."""
    records = read_records(folder)
    alive = [record for record in records if record.is_alive()]
    dead = [record for record in records if record not in alive]
    names = {record.run for record in alive}
    orphans = [job for job in live_jobs(folder) if job.run not in names]
    locks = folder / LOCKS
    return State(alive, dead, orphans, locks.is_dir() and any(locks.iterdir()))


def read_records(folder: Path) -> list[Record]:
    """The records left in a folder, oldest first."""
    files = sorted((folder / RECORDS).glob("*.json"), key=lambda file: file.stat().st_mtime)
    return [Record(**{**json.loads(file.read_text()), "path": str(file)}) for file in files]


def live_jobs(folder: Path) -> list[Job]:
    """SLURM jobs of a run of Snakemake in `folder` that wait, run or end just now. Raises `NoAnswerError`."""
    command = ["squeue", "-h", "-u", str(os.geteuid()), "-o", "%A|%T|%j|%k|%Z"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    except FileNotFoundError:
        raise NoAnswerError("there is no squeue on this machine: start this where SLURM's commands are") from None
    except subprocess.TimeoutExpired:
        raise NoAnswerError("squeue does not answer") from None
    if done.returncode:
        raise NoAnswerError(f"squeue: {done.stderr.strip()}")
    found = []
    for line in done.stdout.splitlines():
        job_id, state, run, what, workdir = line.split("|", 4)
        if _RUN.fullmatch(run) and Path(workdir).resolve() == folder.resolve():
            found.append(Job(job_id, state, run, what.removeprefix("rule_").replace("_wildcards_", " ")))
    return found
