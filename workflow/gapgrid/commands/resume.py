"""`gapgrid resume`: go on after a controller that died while its SLURM jobs ran on."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from gapgrid.records import InputError

DEFAULT = ["--profile", "slurm", "all"]
POLL = 2.0  # seconds
MARKS = ("slurm-jobstep", "--mode")  # what the Snakemake inside a job has on its command line


def resume(folder: Path, cancel: bool, arguments: list[str] | None = None) -> int:
    """Wait for the orphaned jobs of `folder` (or cancel them), unlock it, and go on as the dead controller was called.

    `arguments` are Snakemake's, if other than those. Does not come back: Snakemake takes the place of this process.
    Raises `InputError` if a controller is alive here, or if SLURM does not answer.
    """
    folder = folder.resolve()
    state = _look(folder)
    _refuse_beside_the_living(folder, state)
    settle(folder, [job.job_id for job in state.orphans], cancel)
    command = [sys.executable, "-m", "snakemake", *(arguments or _last_arguments(state))]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}"}
    unlocked = subprocess.run(
        [*command[:3], "--unlock", *command[3:]], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if unlocked.returncode:
        raise InputError(f"snakemake --unlock failed:\n{unlocked.stderr.strip()[-2000:]}")
    for record in state.dead:
        record.remove()
    print(f"going on: snakemake {' '.join(command[3:])}", file=sys.stderr, flush=True)
    os.chdir(folder)
    os.execve(sys.executable, command, environment)


def settle(folder: Path, job_ids: list[str], cancel: bool) -> None:
    """Wait until no orphaned job is left, after cancelling them if `cancel`. Says every minute what it waits for."""
    if job_ids and cancel:
        print(f"cancelling {len(job_ids)} jobs", file=sys.stderr, flush=True)
        done = subprocess.run(["scancel", *job_ids], capture_output=True, text=True, check=False)
        if done.returncode:
            raise InputError(f"scancel: {done.stderr.strip()}")
    told = float("-inf")
    while left := _look(folder).orphans:
        if time.monotonic() - told > 60:
            told = time.monotonic()
            names = ", ".join(f"{job.job_id} ({job.what}, {job.state.lower()})" for job in left)
            print(f"waiting for {len(left)} jobs of the earlier run: {names}", file=sys.stderr, flush=True)
        time.sleep(POLL)


def _look(folder: Path) -> Any:
    """Who is at work in the folder; the executor plugin knows, since it leaves the records."""
    try:
        from snakemake_executor_plugin_gapgrid_slurm import folder as at_work
    except ImportError:
        raise InputError("the executor plugin is not installed: pip install --no-deps ./plugins/slurm") from None
    try:
        return at_work.look(folder)
    except at_work.NoAnswerError as error:
        raise InputError(str(error)) from None


def _refuse_beside_the_living(folder: Path, state: Any) -> None:
    for record in state.alive:
        raise InputError(f"{folder}: a run is alive here, process {record.pid} on {record.host}; nothing to resume")
    for pid in local_controllers(folder):
        raise InputError(f"{folder}: a run is alive here, process {pid}; nothing to resume")


def local_controllers(folder: Path) -> list[int]:
    """Snakemakes at work in the folder on this machine, whichever executor they use; those inside jobs left out."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
            is_here = (process / "cwd").resolve() == folder
        except OSError:
            continue
        names = {Path(word).name for word in words[:3]}
        if is_here and "snakemake" in names and not any(word.startswith(MARKS) for word in words) and int(process.name) != os.getpid():
            found.append(int(process.name))
    return found


def _last_arguments(state: Any) -> list[str]:
    return list(state.dead[-1].arguments) if state.dead else DEFAULT
