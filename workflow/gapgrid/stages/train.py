"""Stage `train`: one student fine-tuned on one mix with one seed, or a published checkpoint."""

import os
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from gapgrid.core import gpu_lock, manifest
from gapgrid.core.records import (
    InputError,
    canonical,
    check_training_rows,
    discard,
    read_jsonl,
    sha256_file,
    sha256_text,
    write_jsonl,
)
from gapgrid.core.spec_types import BaseSpec, TrainSpec
from gapgrid.core.stage_cli import run_stage, stage_parser


def work(args: Namespace) -> None:
    """Train, resume or adopt, then write the manifest.

    What a killed job resumes from lies in a folder named by a digest of spec and inputs.
    """
    gpu_lock.acquire(args.gpus // args.nodes, args.manifest)
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    spec: TrainSpec = args.spec
    base = manifest.read(args.base_manifest)
    inputs = {"base": sha256_file(args.base_manifest)}
    metrics = args.manifest.parent / "metrics.jsonl"
    scratch = args.manifest.parent / "scratch"
    if "adopt" in spec:
        facts = _adopt(args, base["spec"])
        write_jsonl(metrics, [])
    elif args.data is None:
        raise InputError("train: no file of rows to train on")
    else:
        inputs["data"] = sha256_file(args.data)
        if spec["engine"]["name"] == "stub":
            from gapgrid.engines import stub

            base_digest = sha256_text(canonical(base["outputs"]))
            facts = stub.fine_tune(base_digest, inputs["data"], spec, args.model, metrics)
        else:
            digest = sha256_text(canonical([spec, inputs]))[:16]
            facts = _train(args, metrics, scratch / digest)
    outputs, engine = [args.model.name], spec.get("engine")
    manifest.write(args.manifest, "train", spec, inputs, outputs, engine, facts)
    discard(scratch)


def _train(args: Namespace, metrics: Path, scratch: Path) -> dict[str, Any]:
    rows = read_jsonl(args.data)
    check_training_rows(args.data, rows, lambda index: f"{args.data}: row {index + 1}")
    from gapgrid.engines import launch
    from gapgrid.engines.memory import Hardware

    files = {"base": args.base, "data": args.data, "out": args.model}
    files |= {"metrics": metrics, "scratch": scratch}
    budget = args.tokens_per_device or None
    hardware = Hardware(args.micro_batch, budget, args.zero, args.checkpointing, args.report_to)
    devices = args.devices or args.gpus // args.nodes or None
    return launch.fine_tune(files, rows, args.spec, hardware, devices, args.nodes, args.threads)


def _adopt(args: Namespace, base: BaseSpec) -> dict[str, Any]:
    from gapgrid.engines.adopt import adopt

    entry = args.spec["adopt"]
    names = tuple(name for name in (base.get("hub"), base.get("path"), entry.get("base")) if name)
    checkpoint = entry.get("hub") or entry["path"]
    return adopt(checkpoint, entry.get("revision"), args.base, args.model, names)


def add_hardware(parser: ArgumentParser) -> None:
    """Add options for what a machine offers; none changes a result or is in a spec or manifest."""
    options: dict[str, dict[str, Any]] = {
        "--threads": {"default": 1},
        "--gpus": {"default": 0, "help": "how many GPUs the job requested, on all its machines"},
        "--micro-batch": {"default": 1, "help": "most sequences per device and forward pass"},
        "--tokens-per-device": {
            "help": "instead of --micro-batch: most tokens per device and forward pass (0: none)"
        },
        "--devices": {
            "help": "devices on each machine, if not --gpus (0: its GPUs, else one CPU process)"
        },
        "--nodes": {"default": 1, "help": "machines; more than one only inside a SLURM job"},
        "--zero": {"choices": (0, 2, 3), "default": 0, "help": "DeepSpeed's ZeRO stage"},
    }
    for name, settings in options.items():
        parser.add_argument(name, type=int, **settings)
    trackers = ("none", "wandb", "tensorboard", "mlflow")
    parser.add_argument("--report-to", choices=trackers, default="none")
    recompute = parser.add_mutually_exclusive_group()
    recompute.add_argument(
        "--checkpointing",
        action="store_true",
        default=None,
        help="recompute activations (default: on GPUs)",
    )
    recompute.add_argument(
        "--no-checkpointing", dest="checkpointing", action="store_false", help="keep activations"
    )


def main(argv: list[str] | None = None) -> int:
    """`python -m gapgrid.stages.train --spec … BASE BASE_MANIFEST [DATA] MODEL MANIFEST`.

    Only a spec with `adopt` needs no DATA.
    """
    parser = stage_parser("train", __doc__)
    add_hardware(parser)
    for name in ("base", "base_manifest", "data", "model", "manifest"):
        parser.add_argument(name, type=Path, nargs="?" if name == "data" else None)
    return run_stage(parser, work, argv)


if __name__ == "__main__":
    raise SystemExit(main())
