"""`gapgrid resume`: continue after a controller died and left its SLURM jobs running."""

import os
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

from gapgrid.core.records import InputError
from gapgrid.state.controllers import local_controllers

DEFAULT_ARGUMENTS = ["--profile", "slurm", "all"]
POLL_SECONDS = 2.0
REPORT_SECONDS = 60.0


def run(args: Namespace) -> int:
    """Wait for the orphaned jobs of this folder (or cancel them), unlock it, and run Snakemake.

    Snakemake gets the arguments of the dead controller, and takes the place of this process.
    Raises `InputError` if a controller is alive here, or if SLURM does not answer.
    """
    folder = Path.cwd()
    state = _state_of(folder)
    _refuse_beside_controller(folder, state)
    _wait_for_jobs(folder, [job.job_id for job in state.orphans], args.cancel)
    arguments = list(state.dead[-1].arguments) if state.dead else DEFAULT_ARGUMENTS
    command = [sys.executable, "-m", "snakemake"]
    path = f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}"
    environment = {**os.environ, "PATH": path}
    unlock = [*command, "--unlock", *arguments]
    done = subprocess.run(unlock, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InputError(f"snakemake --unlock failed:\n{done.stderr.strip()[-2000:]}")
    for record in state.dead:
        record.remove()
    _report(f"going on: snakemake {' '.join(arguments)}")
    os.execve(sys.executable, [*command, *arguments], environment)


def _report(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _wait_for_jobs(folder: Path, job_ids: list[str], cancel: bool) -> None:
    """Wait until no orphaned job is left, after cancelling them if `cancel`; report each minute."""
    if job_ids and cancel:
        _report(f"cancelling {len(job_ids)} jobs")
        done = subprocess.run(["scancel", *job_ids], capture_output=True, text=True, check=False)
        if done.returncode:
            raise InputError(f"scancel: {done.stderr.strip()}")
    reported = float("-inf")
    while orphans := _state_of(folder).orphans:
        if time.monotonic() - reported > REPORT_SECONDS:
            reported = time.monotonic()
            names = ", ".join(f"{job.job_id} ({job.what}, {job.state.lower()})" for job in orphans)
            _report(f"waiting for {len(orphans)} jobs of the earlier run: {names}")
        time.sleep(POLL_SECONDS)


def _state_of(folder: Path) -> Any:
    """Return which controllers and jobs are at work in the folder, by the executor plugin."""
    try:
        from snakemake_executor_plugin_gapgrid_slurm import folder as plugin
    except ImportError:
        text = "the executor plugin is not installed: pip install --no-deps ./plugins/slurm"
        raise InputError(text) from None
    try:
        return plugin.state_of(folder)
    except plugin.NoAnswerError as error:
        raise InputError(str(error)) from None


def _refuse_beside_controller(folder: Path, state: Any) -> None:
    """Raise `InputError` if a controller is alive in the folder, with or without SLURM."""
    processes = [f"{record.pid} on {record.host}" for record in state.alive]
    processes += map(str, local_controllers(folder))
    if processes:
        raise InputError(
            f"{folder}: a run is alive here, process {processes[0]}; nothing to resume"
        )
