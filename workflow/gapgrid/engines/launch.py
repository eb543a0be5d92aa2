"""One training run on the devices there are: in this process, or through torchrun in one each.

`fine_tune` is the parent's side, `python -m gapgrid.engines.launch JOB` what torchrun starts on
each device. Each process writes how it ended into the job's folder; the parent turns that into
facts, one error, or one retry.
"""

import ctypes
import json
import logging
import os
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gapgrid.core.records import InputError, read_json, read_jsonl, remove, write_json
from gapgrid.core.rows import TrainingRow
from gapgrid.core.spec_types import TrainSpec
from gapgrid.engines.memory import DeviceOutOfMemoryError, Hardware, retry_with_half_batch

log = logging.getLogger(__name__)
_DEATH_OF_PARENT = 1  # PR_SET_PDEATHSIG of prctl(2)


def fine_tune(
    files: dict[str, Path],
    rows: list[TrainingRow],
    spec: TrainSpec,
    hardware: Hardware,
    devices: int | None,
    nodes: int,
    threads: int,
) -> dict[str, Any]:
    """Train on `devices` of each of `nodes` machines; return facts for the manifest.

    `devices` None: every visible GPU, else one process. `files`: base, data (from which `rows`
    were read), out, metrics, scratch. Raises `InputError` with the message of the process that
    failed first, or when memory runs out a second time.
    """
    if devices is None:
        import torch

        devices = max(1, torch.cuda.device_count())
    if devices * nodes == 1 and not hardware.zero:
        from gapgrid.engines import trainer

        folders = (files["out"], files["metrics"], files["scratch"])
        return trainer.fine_tune(files["base"], rows, spec, *folders, hardware)
    job = {
        "files": {name: str(path.absolute()) for name, path in files.items()},
        "spec": spec,
        "hardware": asdict(hardware),
    }
    folder = files["scratch"].with_name(f"{files['scratch'].name}-job").absolute()
    environment = {**os.environ, "OMP_NUM_THREADS": str(max(1, threads // devices))}
    return retry_with_half_batch(
        lambda limit: _run(folder, {**job, "limit": limit}, devices, nodes, environment)
    )


def _run(
    folder: Path, job: dict[str, Any], devices: int, nodes: int, environment: dict[str, str]
) -> dict[str, Any]:
    remove(folder)
    write_json(folder / "job.json", job)
    command = torchrun(folder / "job.json", devices, nodes, environment)
    log.info("%d processes on each of %d machines", devices, nodes)
    process = subprocess.run(command, env=environment, preexec_fn=die_with_parent, check=False)
    endings = [read_json(file) for file in sorted(folder.glob("ended-*.json"))]
    remove(folder)
    for ending in endings:
        if "error" in ending:
            raise InputError(ending["error"])
    for ending in endings:
        if "out_of_memory_with" in ending:
            raise DeviceOutOfMemoryError(ending["out_of_memory_with"])
    facts = [ending["facts"] for ending in endings]
    if process.returncode or len(facts) != devices * nodes:
        raise InputError(
            f"training: {len(facts)} of {devices * nodes} processes finished, "
            f"torchrun ended with status {process.returncode}; see above"
        )
    return facts[0]


def torchrun(job: Path, devices: int, nodes: int, environment: dict[str, str]) -> list[str]:
    """Return the command that starts `devices` processes on each of `nodes` machines.

    Raises `InputError` for more than one machine outside a SLURM job.
    """
    worker = ["--nproc-per-node", str(devices), "-m", "gapgrid.engines.launch", str(job)]
    run = [sys.executable, "-m", "torch.distributed.run"]
    if nodes == 1:
        return [*run, "--standalone", *worker]
    number = environment.get("SLURM_JOB_ID")
    if number is None:
        raise InputError(f"{nodes} nodes: only inside a SLURM job, and this is none")
    endpoint = f"{_first_node(number)}:{20000 + int(number) % 10000}"
    # The job's own step already holds its processors, hence --overlap: one agent a node, which
    # starts its processes.
    step = ["srun", "--overlap", f"--nodes={nodes}", f"--ntasks={nodes}"]
    step += ["--ntasks-per-node=1", "--kill-on-bad-exit=1"]
    rendezvous = ["--rdzv-backend", "c10d", "--rdzv-endpoint", endpoint, "--rdzv-id", number]
    return [*step, *run, "--nnodes", str(nodes), *rendezvous, *worker]


def _first_node(number: str) -> str:
    """Return the address of a SLURM job's first machine.

    SLURM is asked: Snakemake's job step removes its variables from the environment.
    """
    names = _words_of("squeue", "--noheader", "--jobs", number, "--format", "%N")
    hosts = _words_of("scontrol", "show", "hostnames", *names) if names else []
    if not hosts:
        raise InputError(f"SLURM job {number}: squeue and scontrol name no node for it")
    words = _words_of("scontrol", "show", "node", hosts[0], "--oneliner")
    fields = dict(word.split("=", 1) for word in words if "=" in word)
    return fields.get("NodeAddr", hosts[0])


def _words_of(*command: str) -> list[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()


def die_with_parent() -> None:
    """Have Linux end this process when its parent dies.

    Else an orphan would go on writing into a run that starts again.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DEATH_OF_PARENT, signal.SIGTERM)


# ---- what torchrun starts on each device ----


def main(argv: list[str]) -> int:
    """Train as one of several processes; write how it ended beside the job, `ended-<rank>.json`."""
    die_with_parent()
    path, rank = Path(argv[0]), int(os.environ["RANK"])
    level = logging.INFO if rank == 0 else logging.WARNING
    logging.basicConfig(level=level, format="%(message)s", stream=sys.stderr)
    ending = _work(json.loads(path.read_text()))
    write_json(path.with_name(f"ended-{rank:05d}.json"), ending)
    sys.stderr.flush()
    if "facts" not in ending:
        # The others may wait for this one in a collective for ever; torchrun ends them.
        os._exit(1)
    import torch

    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    return 0


def _work(job: dict[str, Any]) -> dict[str, Any]:
    from gapgrid.engines import trainer

    files = {name: Path(path) for name, path in job["files"].items()}
    hardware = Hardware(**job["hardware"])
    try:
        rows = read_jsonl(files["data"])
        facts = trainer.attempt(files, rows, job["spec"], hardware, job["limit"])
    except InputError as error:
        return {"error": str(error)}
    except DeviceOutOfMemoryError as error:
        return {"out_of_memory_with": error.per_device}
    return {"facts": facts}


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
