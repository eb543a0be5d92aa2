"""Stage `grade`: the rule step on one cell, whose completions are in the response store."""

from argparse import Namespace
from pathlib import Path

from gapgrid.core import manifest
from gapgrid.core.records import InputError, read_jsonl, sha256_file, write_jsonl
from gapgrid.core.rows import SampleRow
from gapgrid.core.spec_types import GradeSpec, with_defaults
from gapgrid.core.stage_cli import read_spec, run_stage, stage_parser
from gapgrid.grading.equality.math_verify_pool import Verifier
from gapgrid.grading.rule_step import counts, grade, pending
from gapgrid.stores.responses import Store, checksum, model_digest, request_digest


def read_samples(args: Namespace) -> list[SampleRow]:
    """Return the cell's rows out of the response store.

    Raises `InputError`, which says how to rebuild the store, if it is missing, altered or lacks
    completions.
    """
    model = model_digest(manifest.read(args.train_manifest))
    batch = args.batch_manifest
    path = batch.parent / "responses" / f"{model}.sqlite"
    rebuild = f"rebuild it with: snakemake --forcerun {batch} -- {batch}, then run again"
    digest = request_digest(sha256_file(args.request), sha256_file(args.problems))
    known = manifest.read(batch)["facts"]["requests"].get(digest)
    try:
        with Store(path, must_exist=True) as store:
            samples = store.rows(digest)
    except InputError as error:
        raise InputError(f"{error}; {rebuild}") from None
    if not samples:
        raise InputError(f"{path}: holds no answers to request {digest}; {rebuild}")
    if known and known["sha256"] != checksum(samples):
        raise InputError(
            f"{path}: answers to request {digest} differ from the batch manifest's checksum;"
            f" delete the file and {rebuild}"
        )
    return samples


def check(samples: list[SampleRow], n_expected: int, where: str) -> None:
    """Raise `InputError` unless there is exactly one sample per problem and repeat."""
    keys = {(sample["doc_id"], sample["repeat"]) for sample in samples}
    if len(keys) != len(samples) or len(samples) != n_expected:
        raise InputError(
            f"{where}: {len(samples)} answers to {len(keys)} requests, expected {n_expected}"
        )


def work(args: Namespace) -> None:
    """Grade, then write samples, graded and pending rows and the manifest."""
    spec: GradeSpec = args.spec
    samples = read_samples(args)
    n_problems = manifest.read(args.problems_manifest)["outputs"][args.problems.name]["rows"]
    n_repeats = with_defaults("benchmark", read_spec(args.request))["repeats"]
    check(samples, n_problems * n_repeats, str(args.batch_manifest))
    items = {row["doc_id"]: row for row in read_jsonl(args.problems)}
    with Verifier() as verifier:
        graded = grade(samples, spec["grader"], verifier, items)
    write_jsonl(args.manifest.with_name("samples.jsonl"), samples)
    write_jsonl(args.manifest.with_name("graded.jsonl"), graded)
    write_jsonl(args.manifest.with_name("pending.jsonl"), pending(samples, graded))
    outputs = ["samples.jsonl", "graded.jsonl", "pending.jsonl"]
    files = {"train": args.train_manifest, "request": args.request, "problems": args.problems}
    inputs = {name: sha256_file(file) for name, file in files.items()}
    manifest.write(args.manifest, "grade", spec, inputs, outputs, facts=counts(graded))


def main(argv: list[str] | None = None) -> int:
    """Run `python -m gapgrid.stages.grade --spec … TRAIN_MANIFEST BATCH_MANIFEST REQUEST …`."""
    parser = stage_parser("grade", __doc__)
    inputs = ("train_manifest", "batch_manifest", "request", "problems", "problems_manifest")
    for name in (*inputs, "manifest"):
        parser.add_argument(name, type=Path)
    return run_stage(parser, work, argv)


if __name__ == "__main__":
    raise SystemExit(main())
