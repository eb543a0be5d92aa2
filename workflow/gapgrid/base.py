"""Stage `base`: the untouched student (mix `none`): pretrained here if tiny, else a pinned snapshot linked into place."""

import os
from argparse import Namespace
from pathlib import Path
from typing import Any

from gapgrid import allotment, manifest
from gapgrid.command import run_stage, stage_parser
from gapgrid.records import InputError, atomic, canonical, read_json, read_jsonl, remove, sha256_file, sha256_text, write_json, write_jsonl


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


def link(folder: Path, out: Path, eos: str | None = None) -> None:
    """Make `out` a folder of links to a model's files, whose answers end with the token `eos` if it is given.

    Raises `InputError` unless it is a model, and for an `eos` that its tokenizer does not have.
    """
    if not (folder / "config.json").is_file():
        raise InputError(f"{folder}: no config.json; a student needs config.json, weights and a tokenizer")
    if not any(folder.glob("*.safetensors")):
        raise InputError(f"{folder}: no *.safetensors weights")
    with atomic(out) as side:
        side.mkdir()
        for file in sorted(folder.iterdir()):
            if file.is_file():
                (side / file.name).symlink_to(file.resolve())
        if eos is not None:
            _end_with(side, eos)


def _end_with(folder: Path, eos: str) -> None:
    """Name `eos` as the end-of-text token: a base student's tokenizer names another than its chat template writes."""
    file = folder / "tokenizer.json"
    added = read_json(file)["added_tokens"] if file.is_file() else []
    known = {token["content"]: token["id"] for token in added if token.get("special")}
    if eos not in known:
        raise InputError(f"{file.resolve()}: has no special token '{eos}' (eos in models.yaml); it has {', '.join(known) or 'none'}")
    config = folder / "config.json"
    generation = folder / "generation_config.json"
    former = read_json(generation if generation.is_file() else config).get("eos_token_id")
    ends = [known[eos], *([one for one in (former if isinstance(former, list) else [former]) if one not in (None, known[eos])])]
    for name, key, value in (
        ("tokenizer_config.json", "eos_token", eos),
        ("special_tokens_map.json", "eos_token", eos),
        (generation.name, "eos_token_id", ends),
        (config.name, "eos_token_id", known[eos]),
    ):
        file = folder / name
        settings = read_json(file) if file.is_file() else {}
        if settings or name != "special_tokens_map.json":
            file.unlink(missing_ok=True)  # the link, not what it leads to
            write_json(file, {**settings, key: value})


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
        link(folder, args.model, spec.get("eos"))
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
