"""Controllers and SLURM jobs at work in a folder. A controller leaves a record while it lives.

A controller that dies leaves its record, Snakemake's lock, and jobs that run on. Snakemake never
takes those up again, and once unlocked by hand a second controller writes the same outputs.
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
# A controller on another machine counts as dead when its record, which it touches at every poll, is
# older than so many seconds.
SILENT_AFTER = 600.0
# The stock plugin names a run's jobs by an optional prefix and a UUID; the comment names the rule.
_RUN = re.compile(r"([\w-]+_)?[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class NoAnswerError(Exception):
    """SLURM does not report which jobs there are."""


@dataclass
class Record:
    """A controller: its run's name (and its jobs'), host, process, start and arguments."""

    run: str
    host: str
    pid: int
    started: str
    arguments: list[str]
    path: str

    @classmethod
    def write(cls, folder: Path, run: str, arguments: list[str]) -> "Record":
        """Write and return the record of this process."""
        path = folder / RECORDS / f"{run}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        pid = os.getpid()
        record = cls(run, socket.gethostname(), pid, _started(pid), arguments, str(path))
        partial = path.with_suffix(".part")
        partial.write_text(json.dumps(asdict(record)))
        partial.replace(path)
        return record

    def touch(self) -> None:
        """Show other machines that the controller lives."""
        if Path(self.path).exists():
            os.utime(self.path)

    def remove(self) -> None:
        Path(self.path).unlink(missing_ok=True)

    def is_alive(self) -> bool:
        """Return whether its process is alive or, on another machine, its record is young."""
        if self.host == socket.gethostname():
            return _started(self.pid) == self.started != ""
        path = Path(self.path)
        return path.exists() and time.time() - path.stat().st_mtime < SILENT_AFTER


def _started(pid: int) -> str:
    """Return when a process started, in clock ticks since boot; empty if there is none.

    A pid alone may be used again.
    """
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
    """Who is at work in a folder. `orphans` are jobs whose controller is dead."""

    alive: list[Record]
    dead: list[Record]
    orphans: list[Job]
    is_locked: bool

    def message(self) -> str | None:
        """Return why no run may start here; None if only a live controller's lock prevents it."""
        if not self.orphans and not (self.dead and self.is_locked and not self.alive):
            return None
        lines = ["an earlier run in this folder died before its jobs were done."]
        for record in self.dead:
            command = f"snakemake {' '.join(record.arguments)}"
            lines.append(f"  it was process {record.pid} on {record.host}: {command}")
        if not self.orphans:
            lines.append("None of its SLURM jobs is left. To go on:      gapgrid resume")
            return "\n".join(lines)
        n, shown = len(self.orphans), self.orphans[:5]
        names = ", ".join(f"{job.job_id} ({job.what}, {job.state.lower()})" for job in shown)
        more = f" and {n - 5} more" if n > 5 else ""
        lines.append(f"  {n} of its SLURM jobs are still there: {names}{more}")
        lines.append("To wait for them and go on:      gapgrid resume")
        lines.append("To cancel them and go on:        gapgrid resume --cancel")
        return "\n".join(lines)


def state_of(folder: Path) -> State:
    """Return who is at work in `folder`. Raises `NoAnswerError` if SLURM does not answer."""
    records = read_records(folder)
    alive = [record for record in records if record.is_alive()]
    dead = [record for record in records if record not in alive]
    runs = {record.run for record in alive}
    orphans = [job for job in live_jobs(folder) if job.run not in runs]
    locks = folder / LOCKS
    return State(alive, dead, orphans, locks.is_dir() and any(locks.iterdir()))


def read_records(folder: Path) -> list[Record]:
    """Return the records left in a folder, oldest first."""
    files = sorted((folder / RECORDS).glob("*.json"), key=lambda file: file.stat().st_mtime)
    return [Record(**{**json.loads(file.read_text()), "path": str(file)}) for file in files]


def live_jobs(folder: Path) -> list[Job]:
    """Return the SLURM jobs of Snakemake runs in `folder` that have not ended.

    Raises `NoAnswerError` if squeue does not answer.
    """
    command = ["squeue", "-h", "-u", str(os.geteuid()), "-o", "%A|%T|%j|%k|%Z"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    except FileNotFoundError:
        text = "there is no squeue on this machine: start this where SLURM's commands are"
        raise NoAnswerError(text) from None
    except subprocess.TimeoutExpired:
        raise NoAnswerError("squeue does not answer") from None
    if done.returncode:
        raise NoAnswerError(f"squeue: {done.stderr.strip()}")
    jobs = []
    for line in done.stdout.splitlines():
        job_id, state, run, comment, workdir = line.split("|", 4)
        if _RUN.fullmatch(run) and Path(workdir).resolve() == folder.resolve():
            what = comment.removeprefix("rule_").replace("_wildcards_", " ")
            jobs.append(Job(job_id, state, run, what))
    return jobs
