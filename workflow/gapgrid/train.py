"""Stage `train`: fine-tune one student on one mix with one seed."""

import os
from argparse import Namespace
from pathlib import Path

from gapgrid import manifest
from gapgrid.command import run_stage, stage_parser
from gapgrid.records import canonical, check_training_rows, read_jsonl, remove, sha256_file, sha256_text


def work(args: Namespace) -> None:
    """Train or resume, then write the manifest; resumable state lives under a digest of spec and inputs."""
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    folder = args.manifest.parent
    base = manifest.read(args.base_manifest)
    inputs = {"base": sha256_file(args.base_manifest), "data": sha256_file(args.data)}
    digest = sha256_text(canonical([args.spec, inputs]))[:16]
    metrics = folder / "metrics.jsonl"
    if args.spec["engine"]["name"] == "stub":
        from gapgrid.engines import stub

        base_digest = sha256_text(canonical(base["outputs"]))
        facts = stub.fine_tune(base_digest, inputs["data"], args.spec, args.model, metrics)
    else:
        rows = read_jsonl(args.data)
        check_training_rows(args.data, rows, lambda index: f"{args.data}: row {index + 1}")
        from gapgrid.engines import trainer

        scratch = folder / "scratch" / digest
        facts = trainer.fine_tune(args.base, rows, args.spec, args.model, metrics, scratch, args.micro_batch)
    manifest.write(args.manifest, "train", args.spec, inputs, [args.model.name], args.spec["engine"], facts)
    remove(folder / "scratch")


def main(argv: list[str] | None = None) -> int:
    """`python -m gapgrid.train --spec … BASE BASE_MANIFEST DATA MODEL MANIFEST`."""
    parser = stage_parser("train", __doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--micro-batch", type=int, default=1, help="most sequences per device and pass")
    for name in ("base", "base_manifest", "data", "model", "manifest"):
        parser.add_argument(name, type=Path)
    return run_stage(parser, work, argv)


if __name__ == "__main__":
    raise SystemExit(main())
