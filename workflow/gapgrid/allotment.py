"""What a job got: the GPUs that it asked for and no others, and its output to itself.

A stage calls `claim` before anything heavy is imported; `python -m gapgrid.allotment --gpus 2 -- COMMAND` does it for a
command. Under SLURM the cards are given and only counted. On a machine without SLURM a job picks free cards here: a card
is held by a lock file that the system lets go of when its holder ends, however it ends.
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

from gapgrid.records import InputError

CLAIMS = Path(".snakemake/gapgrid/claims")
PATIENCE = 60.0  # seconds that an output may still be held by a job that is just being killed
_held: dict[str, int] = {}  # cards and outputs, each with the open file whose lock lasts as long as this process


def claim(n_gpus: int, output: Path | None = None) -> None:
    """Make sure that this process is the only one of its job, has `n_gpus` cards and alone writes `output`.

    Sets CUDA_VISIBLE_DEVICES. Raises `InputError` otherwise. Waits for free cards on a machine without SLURM.
    """
    is_slurm = "SLURM_JOB_ID" in os.environ
    if is_slurm:
        started_once()
    if output is not None:
        hold_output(output)
    if n_gpus == 0:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # a card that is not ours is not used because it happens to be there
    elif is_slurm:
        given(n_gpus)
    else:
        named = visible()
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(take(n_gpus, installed() if named is None else named))
        os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # the numbering of nvidia-smi


def started_once() -> None:
    """One task in the job's step: several would write the same files. Raises `InputError`."""
    n_tasks, rank = os.environ.get("SLURM_STEP_NUM_TASKS", "1"), os.environ.get("SLURM_PROCID", "0")
    if n_tasks != "1" or rank != "0":
        raise InputError(f"SLURM started this job {n_tasks} times at once (this is number {rank}); it needs tasks=1")


def given(n_gpus: int) -> None:
    """Count what SLURM gave. Raises `InputError` unless it is what was asked."""
    cards = visible()
    n_given = len(cards) if cards is not None else len(installed())
    if n_given != n_gpus:
        where = f"job {os.environ.get('SLURM_JOB_ID')} on {os.environ.get('SLURMD_NODENAME', 'its node')}"
        raise InputError(f"{n_gpus} GPUs asked for, but SLURM gave {n_given} ({where}; CUDA_VISIBLE_DEVICES={','.join(cards or [])})")


def visible() -> list[str] | None:
    """The cards that CUDA_VISIBLE_DEVICES names; None if it says nothing."""
    value = os.environ.get("CUDA_VISIBLE_DEVICES")
    if value is None:
        return None
    names = [name.strip() for name in value.split(",")]
    return [name for name in names if name and name not in ("-1", "NoDevFiles")]


def installed() -> list[str]:
    """The cards of this machine by number; none without nvidia-smi."""
    try:
        command = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.split() if done.returncode == 0 else []


def take(n_gpus: int, cards: list[str]) -> list[str]:
    """Hold `n_gpus` of `cards` until this process ends; wait while too few are free. Raises `InputError` if there are fewer."""
    if n_gpus > len(cards):
        raise InputError(f"{n_gpus} GPUs asked for, but there are {len(cards)} here ({', '.join(cards) or 'none'})")
    folder = lock_folder()
    is_told = False
    while True:
        gate = _lock(folder / "gate", wait=True)  # all or nothing: two jobs with half of their cards would wait for ever
        held: dict[str, int] = {}
        for card in cards:
            file = _lock(folder / card, wait=False) if len(held) < n_gpus else None
            if file is not None:
                held[card] = file
        if gate is not None:
            os.close(gate)
        if len(held) == n_gpus:
            _held.update(held)
            return list(held)
        for file in held.values():
            os.close(file)
        if not is_told:
            print(f"waiting for {n_gpus} free cards of {', '.join(cards)}", file=sys.stderr, flush=True)
            is_told = True
        time.sleep(1)


def lock_folder() -> Path:
    """Where cards are locked: on this machine, for this user. (Not under TMPDIR, which may differ between runs.)"""
    folder = Path(os.environ.get("GAPGRID_CARDS", f"/tmp/gapgrid-cards-{os.getuid()}"))
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise InputError(f"{folder} belongs to somebody else; set GAPGRID_CARDS to a folder of yours on this machine")
    return folder


def hold_output(output: Path) -> None:
    """Hold `output` until this process ends. Raises `InputError` if another process holds it, even after a while."""
    name = hashlib.sha256(str(output.absolute()).encode()).hexdigest()[:32]
    if name in _held:
        return
    CLAIMS.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + PATIENCE
    while (file := _lock(CLAIMS / name, wait=False)) is None:
        if time.monotonic() > deadline:
            raise InputError(f"{output}: another job writes it ({(CLAIMS / name).read_text().strip()})")
        time.sleep(1)
    _held[name] = file
    os.ftruncate(file, 0)
    os.write(file, f"process {os.getpid()} on {os.uname().nodename}, SLURM job {os.environ.get('SLURM_JOB_ID', 'none')}\n".encode())


def _lock(path: Path, wait: bool) -> int | None:
    """An open, locked file; None if another process holds it. Without locks on the file system all are free."""
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    os.set_inheritable(file, True)
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
    """`python -m gapgrid.allotment --gpus N [--output FILE] -- COMMAND…`: claim, then become the command."""
    parser = argparse.ArgumentParser(prog="python -m gapgrid.allotment", description=__doc__)
    parser.add_argument("--gpus", type=int, required=True)
    parser.add_argument("--output", type=Path)
    parser.add_argument("command", nargs="+")
    args = parser.parse_args(argv)
    try:
        claim(args.gpus, args.output)
    except InputError as error:
        sys.exit(f"error: {error}")
    os.execvp(args.command[0], args.command)


if __name__ == "__main__":
    main()
