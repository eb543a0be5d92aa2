"""Stage `train`: fine-tune one student on one mix with one seed, or adopt a published checkpoint in its place."""

import os
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from gapgrid import allotment, manifest
from gapgrid.command import run_stage, stage_parser
from gapgrid.records import InputError, canonical, check_training_rows, read_jsonl, remove, sha256_file, sha256_text, write_jsonl


def work(args: Namespace) -> None:
    """Train, resume or adopt, then write the manifest; resumable state lives under a digest of spec and inputs."""
    allotment.claim(args.gpus // args.nodes, args.manifest)
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    folder = args.manifest.parent
    base = manifest.read(args.base_manifest)
    inputs = {"base": sha256_file(args.base_manifest)}
    metrics = folder / "metrics.jsonl"
    if "adopt" in args.spec:
        facts = _adopt(args, base["spec"])
        write_jsonl(metrics, [])
    elif args.data is None:
        raise InputError("train: no file of rows to train on")
    else:
        inputs["data"] = sha256_file(args.data)
        if args.spec["engine"]["name"] == "stub":
            from gapgrid.engines import stub

            base_digest = sha256_text(canonical(base["outputs"]))
            facts = stub.fine_tune(base_digest, inputs["data"], args.spec, args.model, metrics)
        else:
            facts = _train(args, metrics, folder / "scratch" / sha256_text(canonical([args.spec, inputs]))[:16])
    manifest.write(args.manifest, "train", args.spec, inputs, [args.model.name], args.spec.get("engine"), facts)
    remove(folder / "scratch")


def _train(args: Namespace, metrics: Path, scratch: Path) -> dict[str, Any]:
    rows = read_jsonl(args.data)
    check_training_rows(args.data, rows, lambda index: f"{args.data}: row {index + 1}")
    from gapgrid.engines import launch
    from gapgrid.engines.memory import Hardware

    files = {"base": args.base, "data": args.data, "out": args.model, "metrics": metrics, "scratch": scratch}
    how = Hardware(args.micro_batch, args.tokens_per_device or None, args.zero, args.checkpointing, args.report_to)
    return launch.fine_tune(files, rows, args.spec, how, args.devices or args.gpus // args.nodes or None, args.nodes, args.threads)


def _adopt(args: Namespace, base: dict[str, Any]) -> dict[str, Any]:
    from gapgrid.engines.adopt import adopt

    wanted = args.spec["adopt"]
    names = tuple(name for name in (base.get("hub"), base.get("path"), wanted.get("base")) if name)
    return adopt(wanted.get("hub") or wanted["path"], wanted.get("revision"), args.base, args.model, names)


def add_hardware(parser: ArgumentParser) -> None:
    """Options for what a machine offers; none of them changes a result, none is in a spec or a manifest."""
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--gpus", type=int, default=0, help="how many cards the job asked for, on all its machines")
    parser.add_argument("--micro-batch", type=int, default=1, help="most sequences per device and pass")
    parser.add_argument("--tokens-per-device", type=int, help="instead of --micro-batch: most tokens per device and pass (0: none)")
    parser.add_argument("--devices", type=int, help="devices on each machine, if not --gpus (0: its GPUs, else one CPU process)")
    parser.add_argument("--nodes", type=int, default=1, help="machines; more than one only inside a SLURM job")
    parser.add_argument("--zero", type=int, choices=(0, 2, 3), default=0, help="DeepSpeed's ZeRO stage")
    recompute = parser.add_mutually_exclusive_group()
    recompute.add_argument("--checkpointing", action="store_true", default=None, help="recompute activations (default: on GPUs)")
    recompute.add_argument("--no-checkpointing", dest="checkpointing", action="store_false", help="keep activations")
    parser.add_argument("--report-to", choices=("none", "wandb", "tensorboard", "mlflow"), default="none")


def main(argv: list[str] | None = None) -> int:
    """`python -m gapgrid.train --spec … BASE BASE_MANIFEST [DATA] MODEL MANIFEST`. Only a spec with `adopt` goes without DATA."""
    parser = stage_parser("train", __doc__)
    add_hardware(parser)
    for name in ("base", "base_manifest", "data", "model", "manifest"):
        parser.add_argument(name, type=Path, nargs="?" if name == "data" else None)
    return run_stage(parser, work, argv)


if __name__ == "__main__":
    raise SystemExit(main())
