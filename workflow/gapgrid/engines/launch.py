"""One training run on the devices there are: in this process, or in one process per device through torchrun.

`fine_tune` is the parent's side, `python -m gapgrid.engines.launch JOB` what torchrun starts on each device. A process
says how it ended in a file of the job's folder; the parent turns that into facts, one error, or one retry.
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

from gapgrid.engines.memory import Hardware, ShortOfMemoryError, halved_once
from gapgrid.records import InputError, Row, read_json, read_jsonl, remove, write_json

log = logging.getLogger(__name__)
_DEATH_OF_PARENT = 1  # PR_SET_PDEATHSIG of prctl(2)


def fine_tune(
    files: dict[str, Path], rows: list[Row], spec: dict[str, Any], how: Hardware, devices: int | None, nodes: int, threads: int
) -> dict[str, Any]:
    """Train on `devices` of each of `nodes` machines (None: every GPU in sight, else one); returns facts for the manifest.

    `files`: base, data (where `rows` were read), out, metrics, scratch. Raises `InputError` with the message of the
    process that failed first, or when memory runs out a second time.
    """
    n_devices = visible_gpus() if devices is None else devices
    if n_devices * nodes == 1 and not how.zero:
        from gapgrid.engines import trainer

        return trainer.fine_tune(files["base"], rows, spec, files["out"], files["metrics"], files["scratch"], how)
    job = {"files": {name: str(path.absolute()) for name, path in files.items()}, "spec": spec, "how": asdict(how)}
    folder = files["scratch"].with_name(f"{files['scratch'].name}-job").absolute()
    environment = {**os.environ, "OMP_NUM_THREADS": str(max(1, threads // n_devices))}
    return halved_once(lambda limit: _run(folder, {**job, "limit": limit}, n_devices, nodes, environment))


def visible_gpus() -> int:
    """GPUs that this process may use; 1 on a machine without any, whose one device is its CPU."""
    import torch

    return max(1, torch.cuda.device_count())


def _run(folder: Path, job: dict[str, Any], devices: int, nodes: int, environment: dict[str, str]) -> dict[str, Any]:
    remove(folder)
    write_json(folder / "job.json", job)
    command = torchrun(folder / "job.json", devices, nodes, environment)
    log.info("%d processes on each of %d machines", devices, nodes)
    status = subprocess.run(command, env=environment, preexec_fn=die_with_parent, check=False).returncode
    endings = [read_json(file) for file in sorted(folder.glob("ended-*.json"))]
    remove(folder)
    for ending in endings:
        if "error" in ending:
            raise InputError(ending["error"])
    for ending in endings:
        if "short" in ending:
            raise ShortOfMemoryError(ending["short"])
    facts = [ending["facts"] for ending in endings]
    if status or len(facts) != devices * nodes:
        raise InputError(f"training: {len(facts)} of {devices * nodes} processes finished, torchrun ended with status {status}; see above")
    return facts[0]


def torchrun(job: Path, devices: int, nodes: int, environment: dict[str, str]) -> list[str]:
    """The command that starts `devices` processes on each of `nodes` machines; more than one machine needs a SLURM job."""
    worker = ["--nproc-per-node", str(devices), "-m", __name__ if __name__ != "__main__" else "gapgrid.engines.launch", str(job)]
    run = [sys.executable, "-m", "torch.distributed.run"]
    if nodes == 1:
        return [*run, "--standalone", *worker]
    number = environment.get("SLURM_JOB_ID")
    if number is None:
        raise InputError(f"{nodes} nodes: only inside a SLURM job, and this is none")
    meeting = f"{_first_node(number)}:{20000 + int(number) % 10000}"
    # The job's own step already holds its processors, hence --overlap: one agent a node, which starts its processes.
    step = ["srun", "--overlap", f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1", "--kill-on-bad-exit=1"]
    rendezvous = ["--rdzv-backend", "c10d", "--rdzv-endpoint", meeting, "--rdzv-id", number]
    return [*step, *run, "--nnodes", str(nodes), *rendezvous, *worker]


def _first_node(number: str) -> str:
    """The address of a SLURM job's first machine; asked for, as Snakemake's job step takes SLURM's own words out of the environment."""
    names = _said("squeue", "--noheader", "--jobs", number, "--format", "%N")
    shown = _said("scontrol", "show", "hostnames", *names) if names else []
    if not shown:
        raise InputError(f"SLURM job {number}: squeue and scontrol name no node for it")
    known = dict(word.split("=", 1) for word in _said("scontrol", "show", "node", shown[0], "--oneliner") if "=" in word)
    return known.get("NodeAddr", shown[0])


def _said(*command: str) -> list[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()


def die_with_parent() -> None:
    """Have Linux end this process when its parent dies, so that no orphan goes on writing into a run that starts again."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DEATH_OF_PARENT, signal.SIGTERM)


# ---- what torchrun starts on each device ----


def main(argv: list[str]) -> int:
    """Train as one of several processes; how it ended goes to `ended-<rank>.json` beside the job's file."""
    die_with_parent()
    path, rank = Path(argv[0]), int(os.environ["RANK"])
    level = logging.INFO if rank == 0 else logging.WARNING
    logging.basicConfig(level=level, format="%(message)s", stream=sys.stderr)
    job = json.loads(path.read_text())
    ending = _work(job)
    write_json(path.with_name(f"ended-{rank:05d}.json"), ending)
    sys.stderr.flush()
    if "facts" not in ending:
        os._exit(1)  # the others may wait for this one in a collective for ever; torchrun ends them
    import torch

    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    return 0


def _work(job: dict[str, Any]) -> dict[str, Any]:
    from gapgrid.engines import trainer

    files = {name: Path(path) for name, path in job["files"].items()}
    try:
        rows = read_jsonl(files["data"])
        how, limit = Hardware(**job["how"]), job["limit"]
        facts = trainer.attempt(files["base"], rows, job["spec"], files["out"], files["metrics"], files["scratch"], how, limit)
    except InputError as error:
        return {"error": str(error)}
    except ShortOfMemoryError as short:
        return {"short": short.per_device}
    return {"facts": facts}


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
