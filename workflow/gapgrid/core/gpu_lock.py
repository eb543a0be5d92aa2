"""Give a job the GPUs that it asked for and no others, and make it the only writer of its output.

A stage calls `acquire` before it imports anything heavy; `python -m gapgrid.core.gpu_lock --gpus 2
-- COMMAND` does it for a command. Under SLURM the GPUs are allocated already and are only counted.
On any other machine a job picks free GPUs here: a GPU is locked by a lock file, which the system
releases when its process ends, however it ends.
"""

import argparse
import errno
import fcntl
import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

from gapgrid.core.records import InputError

OUTPUT_LOCKS = Path(".snakemake/gapgrid/claims")
OUTPUT_TIMEOUT = 60.0  # seconds that a job which is being killed may still hold its output's lock
# GPU or output -> its open lock file: closing it would release the lock.
_locks: dict[str, int] = {}


def acquire(n_gpus: int, output: Path | None = None) -> None:
    """Lock `n_gpus` GPUs and `output` for this process, and set CUDA_VISIBLE_DEVICES.

    Waits for free GPUs on a machine without SLURM. Raises `InputError` if SLURM started the job
    several times, if another process writes `output`, or if there are not `n_gpus` GPUs.
    """
    is_slurm = "SLURM_JOB_ID" in os.environ
    if is_slurm:
        check_single_task()
    if output is not None:
        lock_output(output)
    if n_gpus == 0:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # the machine's GPUs belong to other jobs
    elif is_slurm:
        check_allocated(n_gpus)
    else:
        visible = visible_gpus()
        gpus = acquire_gpus(n_gpus, installed_gpus() if visible is None else visible)
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
        os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # the numbering of nvidia-smi


def check_single_task() -> None:
    """Raise `InputError` if SLURM runs several tasks of this step; all would write one output."""
    n_tasks, rank = os.environ.get("SLURM_STEP_NUM_TASKS", "1"), os.environ.get("SLURM_PROCID", "0")
    if n_tasks != "1" or rank != "0":
        times = f"{n_tasks} times at once (this is number {rank})"
        raise InputError(f"SLURM started this job {times}; it needs tasks=1")


def check_allocated(n_gpus: int) -> None:
    """Raise `InputError` unless SLURM allocated `n_gpus` GPUs."""
    gpus = visible_gpus()
    n_allocated = len(gpus) if gpus is not None else len(installed_gpus())
    if n_allocated != n_gpus:
        job, node = os.environ["SLURM_JOB_ID"], os.environ.get("SLURMD_NODENAME", "its node")
        raise InputError(
            f"{n_gpus} GPUs asked for, but SLURM gave {n_allocated} "
            f"(job {job} on {node}; CUDA_VISIBLE_DEVICES={','.join(gpus or [])})"
        )


def visible_gpus() -> list[str] | None:
    """Return the GPUs that CUDA_VISIBLE_DEVICES names, or None if it is unset."""
    value = os.environ.get("CUDA_VISIBLE_DEVICES")
    if value is None:
        return None
    names = [name.strip() for name in value.split(",")]
    return [name for name in names if name and name not in ("-1", "NoDevFiles")]


def installed_gpus() -> list[str]:
    """Return the numbers of this machine's GPUs; none without nvidia-smi."""
    command = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.split() if done.returncode == 0 else []


def acquire_gpus(n_gpus: int, gpus: list[str]) -> list[str]:
    """Lock `n_gpus` of `gpus` until this process ends and return them; wait until so many are free.

    Raises `InputError` if there are fewer.
    """
    listed = ", ".join(gpus)
    if n_gpus > len(gpus):
        raise InputError(
            f"{n_gpus} GPUs asked for, but there are {len(gpus)} here ({listed or 'none'})"
        )
    folder = gpu_lock_folder()
    is_first_try = True
    while True:
        # All GPUs or none: two jobs that each hold half of theirs would wait for ever.
        gate = _lock(folder / "gate", wait=True)
        locks: dict[str, int] = {}
        for gpu in gpus:
            file = _lock(folder / gpu, wait=False) if len(locks) < n_gpus else None
            if file is not None:
                locks[gpu] = file
        if gate is not None:
            os.close(gate)
        if len(locks) == n_gpus:
            _locks.update(locks)
            return list(locks)
        for file in locks.values():
            os.close(file)
        if is_first_try:
            print(f"waiting for {n_gpus} free GPUs of {listed}", file=sys.stderr, flush=True)
            is_first_try = False
        time.sleep(1)


def gpu_lock_folder() -> Path:
    """Return where GPUs are locked: a folder of this machine and user.

    It is not under TMPDIR, which may differ between runs. Raises `InputError` if it belongs to
    another user.
    """
    folder = Path(os.environ.get("GAPGRID_CARDS", f"/tmp/gapgrid-cards-{os.getuid()}"))
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise InputError(
            f"{folder} belongs to somebody else; "
            "set GAPGRID_CARDS to a folder of yours on this machine"
        )
    return folder


def lock_output(output: Path) -> None:
    """Lock `output` until this process ends.

    Raises `InputError` if another process still holds the lock after `OUTPUT_TIMEOUT` seconds.
    """
    name = hashlib.sha256(str(output.absolute()).encode()).hexdigest()[:32]
    if name in _locks:
        return
    OUTPUT_LOCKS.mkdir(parents=True, exist_ok=True)
    path = OUTPUT_LOCKS / name
    deadline = time.monotonic() + OUTPUT_TIMEOUT
    while (file := _lock(path, wait=False)) is None:
        if time.monotonic() > deadline:
            raise InputError(f"{output}: another job writes it ({path.read_text().strip()})")
        time.sleep(1)
    _locks[name] = file
    job = os.environ.get("SLURM_JOB_ID", "none")
    owner = f"process {os.getpid()} on {os.uname().nodename}, SLURM job {job}\n"
    os.ftruncate(file, 0)
    os.write(file, owner.encode())


def _lock(path: Path, wait: bool) -> int | None:
    """Return an open, locked file, or None if another process holds the lock.

    On a file system without locks every lock is free.
    """
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    os.set_inheritable(file, True)  # `main` becomes the command, which then holds the lock
    try:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return None
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP):
            raise
    return file


def main(argv: list[str] | None = None) -> None:
    """Acquire the GPUs, then become the command; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m gapgrid.core.gpu_lock", description=__doc__)
    parser.add_argument("--gpus", type=int, required=True)
    parser.add_argument("--output", type=Path)
    parser.add_argument("command", nargs="+")
    args = parser.parse_args(argv)
    try:
        acquire(args.gpus, args.output)
    except InputError as error:
        sys.exit(f"error: {error}")
    os.execvp(args.command[0], args.command)


if __name__ == "__main__":
    main()
