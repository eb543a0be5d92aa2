"""Stage `base`: the untouched student (mix `none`), before SFT.

A tiny student is pretrained here; any other is a pinned snapshot, linked into place.
"""

import os
from argparse import Namespace
from pathlib import Path
from typing import Any

from gapgrid.core import gpu_lock, manifest
from gapgrid.core.records import (
    InputError,
    atomic,
    canonical,
    discard,
    read_json,
    read_jsonl,
    sha256_file,
    sha256_text,
    write_json,
    write_jsonl,
)
from gapgrid.core.spec_types import BaseSpec
from gapgrid.core.stage_cli import run_stage, stage_parser


def pretrain(args: Namespace, digest: str, metrics: Path) -> dict[str, Any]:
    """Build a tiny student from its seed, train it on its corpus and return its facts."""
    spec: BaseSpec = args.spec
    if spec["engine"]["name"] == "stub":
        from gapgrid.engines import stub

        return stub.fine_tune("", digest, spec, args.model, metrics)
    from gapgrid.engines import tiny, trainer

    scratch = args.manifest.parent / "scratch" / digest
    start = scratch / "untrained"
    tiny.build(spec["architecture"], args.tokenizer.parent, spec["seed"], start)
    rows = read_jsonl(args.corpus)
    return trainer.fine_tune(start, rows, spec, args.model, metrics, scratch, args.micro_batch)


def link(folder: Path, out: Path, eos: str | None = None) -> None:
    """Make `out` a folder of links to a model's files, with `eos`, if given, as its end token.

    Raises `InputError` unless it is a model, and for an `eos` that its tokenizer does not have.
    """
    if not (folder / "config.json").is_file():
        raise InputError(
            f"{folder}: no config.json; a student needs config.json, weights and a tokenizer"
        )
    if not any(folder.glob("*.safetensors")):
        raise InputError(f"{folder}: no *.safetensors weights")
    with atomic(out) as side:
        side.mkdir()
        for file in sorted(folder.iterdir()):
            if file.is_file():
                (side / file.name).symlink_to(file.resolve())
        if eos is not None:
            _set_eos(side, eos)


def _set_eos(folder: Path, eos: str) -> None:
    """Make `eos` the end-of-text token; a base student's is not that of its chat template."""
    tokenizer = folder / "tokenizer.json"
    added = read_json(tokenizer)["added_tokens"] if tokenizer.is_file() else []
    ids = {token["content"]: token["id"] for token in added if token.get("special")}
    if eos not in ids:
        raise InputError(
            f"{tokenizer.resolve()}: has no special token '{eos}' (eos in models.yaml); "
            f"it has {', '.join(ids) or 'none'}"
        )
    generation = folder / "generation_config.json"
    source = generation if generation.is_file() else folder / "config.json"
    former = read_json(source).get("eos_token_id")
    former = former if isinstance(former, list) else [former]
    ends = [ids[eos], *(end for end in former if end not in (None, ids[eos]))]
    for name, key, value in (
        ("tokenizer_config.json", "eos_token", eos),
        ("special_tokens_map.json", "eos_token", eos),
        ("generation_config.json", "eos_token_id", ends),
        ("config.json", "eos_token_id", ids[eos]),
    ):
        file = folder / name
        settings = read_json(file) if file.is_file() else {}
        if settings or name != "special_tokens_map.json":
            file.unlink(missing_ok=True)  # the link, not the file behind it
            write_json(file, {**settings, key: value})


def work(args: Namespace) -> None:
    """Pretrain the student or link its files, then write the manifest."""
    gpu_lock.acquire(args.gpus, args.manifest)
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    spec: BaseSpec = args.spec
    metrics = args.manifest.parent / "metrics.jsonl"
    inputs: dict[str, str] = {}
    facts: dict[str, Any] = {}
    if spec["kind"] == "tiny":
        inputs = {"tokenizer": sha256_file(args.tokenizer), "corpus": sha256_file(args.corpus)}
        facts = pretrain(args, sha256_text(canonical([spec, inputs]))[:16], metrics)
    else:
        folder = Path(spec["path"]) if spec["kind"] == "path" else _snapshot(spec)
        link(folder, args.model, spec.get("eos"))
        write_jsonl(metrics, [])
    outputs, engine = [args.model.name], spec.get("engine")
    manifest.write(args.manifest, "base", spec, inputs, outputs, engine, facts)
    discard(args.manifest.parent / "scratch")


def _snapshot(spec: BaseSpec) -> Path:
    from gapgrid.engines import hub

    return hub.snapshot(spec["hub"], spec.get("revision"))


def main(argv: list[str] | None = None) -> int:
    """`python -m gapgrid.stages.base --spec … [--tokenizer FILE --corpus ROWS] -- MODEL MANIFEST`.

    Only a tiny student needs a tokenizer and a corpus.
    """
    parser = stage_parser("base", __doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--gpus", type=int, default=0, help="how many GPUs the job requested")
    help_text = "most sequences per device and forward pass"
    parser.add_argument("--micro-batch", type=int, default=1, help=help_text)
    parser.add_argument("--tokenizer", type=Path, nargs="?", help="kind tiny: tokenizer.json")
    parser.add_argument("--corpus", type=Path, nargs="?", help="kind tiny: rows to pretrain on")
    parser.add_argument("model", type=Path)
    parser.add_argument("manifest", type=Path)
    return run_stage(parser, work, argv)


if __name__ == "__main__":
    raise SystemExit(main())
