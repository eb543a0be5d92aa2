"""Which controllers (Snakemake processes) work in a folder."""

import os
from pathlib import Path

# Arguments that begin with these are of the Snakemake inside a job.
OF_A_JOB = ("slurm-jobstep", "--mode")


def local_controllers(folder: Path) -> list[int]:
    """Return the process ids of Snakemake in the folder on this machine, for any executor.

    Those inside jobs are left out.
    """
    pids = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
            is_here = (process / "cwd").resolve() == folder
        except OSError:
            continue
        is_snakemake = "snakemake" in {Path(argument).name for argument in arguments[:3]}
        is_in_job = any(argument.startswith(OF_A_JOB) for argument in arguments)
        if is_here and is_snakemake and not is_in_job and int(process.name) != os.getpid():
            pids.append(int(process.name))
    return pids
