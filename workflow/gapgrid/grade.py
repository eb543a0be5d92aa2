"""Stage `grade`: the rule step. Reads a cell's answers from the response store and grades what rules can grade."""

from argparse import Namespace
from pathlib import Path

from gapgrid import answers, manifest
from gapgrid.command import read_spec, run_stage, stage_parser
from gapgrid.records import InputError, Row, sha256_file, write_jsonl
from gapgrid.responses import Store, checksum, model_digest, request_digest
from gapgrid.symbolic import EQUAL, Verifier


def grade(samples: list[Row], grader: str, verifier: Verifier) -> list[Row]:
    """One row per sample: the extracted answer or null, whether a rule accepted it, and which one.

    `rule` names the accepting rule, or why none did: `no_answer`, `too_long`, `different`, `rule_timeout`, `rule_crash`.
    Identical pairs are compared once.
    """
    decided: dict[tuple[str, str], str] = {}
    graded = []
    for sample in samples:
        found = answers.extract(sample["response"], grader)
        gold = gold_text(sample["gold"])
        rule = found.rule
        if found.answer is not None:
            pair = (gold, found.answer)
            if pair not in decided:
                decided[pair] = compare(gold, found.answer, verifier)
            rule = decided[pair]
        correct = found.answer is not None and rule in ("identical", "number", EQUAL)
        graded.append(
            {
                "doc_id": sample["doc_id"],
                "repeat": sample["repeat"],
                "gold": gold,
                "answer": found.answer,
                "found_by": found.rule,
                "rule_correct": correct,
                "rule": rule,
            }
        )
    return graded


def compare(gold: str, answer: str, verifier: Verifier) -> str:
    """The rule that accepts the pair, or why none does."""
    rule = answers.equal(gold, answer)
    if rule is None and answers.both_numbers(gold, answer):
        return "different"
    return rule or verifier.compare(gold, answer)


def gold_text(gold: object) -> str:
    """A reference answer as text; a list of one stands for its entry, as OlympiadBench writes it."""
    if isinstance(gold, list) and len(gold) == 1:
        gold = gold[0]
    return gold if isinstance(gold, str) else str(gold)


def pending(samples: list[Row], graded: list[Row]) -> list[Row]:
    """What a judge may look at: answers that no rule accepted, with their problem."""
    return [
        {**{key: row[key] for key in ("doc_id", "repeat", "gold", "answer")}, "problem": sample["problem"]}
        for sample, row in zip(samples, graded, strict=True)
        if row["answer"] is not None and not row["rule_correct"]
    ]


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
    with Verifier() as verifier:
        graded = grade(samples, args.spec["grader"], verifier)
    folder = args.manifest.parent
    write_jsonl(folder / "samples.jsonl", samples)
    write_jsonl(folder / "graded.jsonl", graded)
    write_jsonl(folder / "pending.jsonl", pending(samples, graded))
    read = {"train": args.train_manifest, "request": args.request, "problems": args.problems}
    inputs = {name: sha256_file(file) for name, file in read.items()}
    manifest.write(args.manifest, "grade", args.spec, inputs, ["samples.jsonl", "graded.jsonl", "pending.jsonl"])


def main(argv: list[str] | None = None) -> int:
    """`python -m gapgrid.grade --spec … TRAIN_MANIFEST STAMP REQUEST PROBLEMS PROBLEMS_MANIFEST MANIFEST`."""
    parser = stage_parser("grade", __doc__)
    for name in ("train_manifest", "stamp", "request", "problems", "problems_manifest", "manifest"):
        parser.add_argument(name, type=Path)
    return run_stage(parser, work, argv)


if __name__ == "__main__":
    raise SystemExit(main())
