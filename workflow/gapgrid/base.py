"""Stage `base`: the untouched student (mix `none`): pretrained here if tiny, else a pinned snapshot linked into place."""

import os
from argparse import Namespace
from pathlib import Path
from typing import Any

from gapgrid import allotment, manifest
from gapgrid.command import run_stage, stage_parser
from gapgrid.records import InputError, atomic, canonical, read_jsonl, remove, sha256_file, sha256_text, write_jsonl


def pretrain(args: Namespace, digest: str, metrics: Path) -> dict[str, Any]:
    """Build a tiny student from its seed and train it on its corpus."""
    spec = args.spec
    if spec["engine"]["name"] == "stub":
        from gapgrid.engines import stub

        return stub.fine_tune("", digest, spec, args.model, metrics)
    from gapgrid.engines import tiny, trainer

    scratch = args.manifest.parent / "scratch" / digest
    tiny.build(spec["architecture"], args.tokenizer.parent, spec["seed"], scratch / "untrained")
    rows = read_jsonl(args.corpus)
    return trainer.fine_tune(scratch / "untrained", rows, spec, args.model, metrics, scratch, args.micro_batch)


def link(folder: Path, out: Path) -> None:
    """Make `out` a folder of links to a model's files. Raises `InputError` unless it is a model."""
    if not (folder / "config.json").is_file():
        raise InputError(f"{folder}: no config.json; a student needs config.json, weights and a tokenizer")
    if not any(folder.glob("*.safetensors")):
        raise InputError(f"{folder}: no *.safetensors weights")
    with atomic(out) as side:
        side.mkdir()
        for file in sorted(folder.iterdir()):
            if file.is_file():
                (side / file.name).symlink_to(file.resolve())


def work(args: Namespace) -> None:
    """Make or fetch the student, then write the manifest."""
    allotment.claim(args.gpus, args.manifest)
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    spec = args.spec
    metrics = args.manifest.parent / "metrics.jsonl"
    inputs: dict[str, str] = {}
    facts: dict[str, Any] = {}
    if spec["kind"] == "tiny":
        inputs = {"tokenizer": sha256_file(args.tokenizer), "corpus": sha256_file(args.corpus)}
        facts = pretrain(args, sha256_text(canonical([spec, inputs]))[:16], metrics)
    else:
        folder = Path(spec["path"]) if spec["kind"] == "path" else _snapshot(spec)
        link(folder, args.model)
        write_jsonl(metrics, [])
    manifest.write(args.manifest, "base", spec, inputs, [args.model.name], spec.get("engine"), facts)
    remove(args.manifest.parent / "scratch")


def _snapshot(spec: dict[str, Any]) -> Path:
    from gapgrid.engines import hub

    return hub.snapshot(spec["hub"], spec.get("revision"))


def main(argv: list[str] | None = None) -> int:
    """`python -m gapgrid.base --spec … [--tokenizer FILE --corpus ROWS --] MODEL MANIFEST`."""
    parser = stage_parser("base", __doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--gpus", type=int, default=0, help="how many cards the job asked for")
    parser.add_argument("--micro-batch", type=int, default=1, help="most sequences per device and pass")
    parser.add_argument("--tokenizer", type=Path, nargs="?", help="kind tiny: tokenizer.json")
    parser.add_argument("--corpus", type=Path, nargs="?", help="kind tiny: rows to pretrain on")
    parser.add_argument("model", type=Path)
    parser.add_argument("manifest", type=Path)
    return run_stage(parser, work, argv)


if __name__ == "__main__":
    raise SystemExit(main())
