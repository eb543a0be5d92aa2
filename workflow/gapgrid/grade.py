"""Stage `grade`: the rule step. Reads a cell's answers from the response store and grades what rules can grade."""

import sys
from argparse import Namespace
from pathlib import Path

from gapgrid import manifest
from gapgrid.command import read_spec, run_stage, stage_parser
from gapgrid.grading import counts, grade, pending
from gapgrid.maths.symbolic import Verifier
from gapgrid.records import InputError, Row, read_jsonl, sha256_file, write_jsonl
from gapgrid.responses import Store, checksum, model_digest, request_digest


def read_samples(args: Namespace) -> list[Row]:
    """The cell's answers; an `InputError` says which command rebuilds a store that is missing, altered or lacks them."""
    model = model_digest(manifest.read(args.train_manifest))
    stamp = manifest.read(args.stamp)
    path = args.stamp.parent / "responses" / f"{model}.sqlite"
    rebuild = f"rebuild it with: snakemake --forcerun {args.stamp} -- {args.stamp}, then run again"
    digest = request_digest(sha256_file(args.request), sha256_file(args.problems))
    try:
        with Store(path, must_exist=True) as store:
            samples = store.rows(digest)
    except InputError as error:
        raise InputError(f"{error}; {rebuild}") from None
    if not samples:
        raise InputError(f"{path}: holds no answers to request {digest}; {rebuild}")
    known = stamp["facts"]["requests"].get(digest)
    if known and known["sha256"] != checksum(samples):
        raise InputError(f"{path}: answers to request {digest} differ from the stamp's checksum; delete the file and {rebuild}")
    return samples


def check(samples: list[Row], n_expected: int, where: str) -> None:
    """Raise an `InputError` unless every question is there exactly once."""
    asked = {(sample["doc_id"], sample["repeat"]) for sample in samples}
    if len(asked) != len(samples) or len(samples) != n_expected:
        raise InputError(f"{where}: {len(samples)} answers to {len(asked)} questions, expected {n_expected}")


def work(args: Namespace) -> None:
    """Grade, then write samples, graded and pending rows and the manifest."""
    samples = read_samples(args)
    n_problems = manifest.read(args.problems_manifest)["outputs"][args.problems.name]["rows"]
    check(samples, n_problems * read_spec(args.request).get("repeats", 1), str(args.stamp))
    items = {row["doc_id"]: row for row in read_jsonl(args.problems)}
    with Verifier() as verifier:
        graded = grade(samples, args.spec["grader"], verifier, items)
    folder = args.manifest.parent
    write_jsonl(folder / "samples.jsonl", samples)
    write_jsonl(folder / "graded.jsonl", graded)
    write_jsonl(folder / "pending.jsonl", pending(samples, graded))
    read = {"train": args.train_manifest, "request": args.request, "problems": args.problems}
    inputs = {name: sha256_file(file) for name, file in read.items()}
    manifest.write(args.manifest, "grade", args.spec, inputs, ["samples.jsonl", "graded.jsonl", "pending.jsonl"], facts=counts(graded))


def main(argv: list[str] | None = None) -> int:
    """`python -m gapgrid.grade --spec … TRAIN_MANIFEST STAMP REQUEST PROBLEMS PROBLEMS_MANIFEST MANIFEST`.

    `python -m gapgrid.grade --samples FOLDER…` grades the sample files of lm-eval instead, without a grid.
    """
    given = sys.argv[1:] if argv is None else argv
    if any(argument.split("=", 1)[0] == "--samples" for argument in given):
        from gapgrid import samples

        return samples.main(given)
    parser = stage_parser("grade", __doc__)
    for name in ("train_manifest", "stamp", "request", "problems", "problems_manifest", "manifest"):
        parser.add_argument(name, type=Path)
    return run_stage(parser, work, argv)


if __name__ == "__main__":
    raise SystemExit(main())
