"""Stage `grade`: the rule step. Reads a cell's answers from the response store and grades what rules can grade."""

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gapgrid import answers, manifest
from gapgrid.answers import Decision, gold_text
from gapgrid.command import read_spec, run_stage, stage_parser
from gapgrid.records import InputError, Row, read_jsonl, sha256_file, write_jsonl
from gapgrid.responses import Store, checksum, model_digest, request_digest
from gapgrid.symbolic import Verifier

ITEM_COLUMNS = ("unit", "error", "tolerance", "is_multiple_answer")  # what an item may say about its answer


def grade(samples: list[Row], grader: str, verifier: Verifier, items: Mapping[int, Row] | None = None) -> list[Row]:
    """One row per sample: the extracted answer or null, whether a rule accepted it, and which one.

    `rule` names the accepting rule, or why none did: `no_answer`, `too_long`, `different`, `rule_timeout`, `rule_crash`.
    `rejected_by` names the rule by which reference and answer are both understood and differ, else null. `items` maps a
    doc_id to what the item says about its answer. Identical pairs are compared once.
    """
    found = [answers.extract(sample["response"], grader) for sample in samples]
    asked = [
        _question(sample, extracted.answer, (items or {}).get(sample["doc_id"], {}))
        for sample, extracted in zip(samples, found, strict=True)
    ]
    decided = {key: answers.decide(key[0], key[1], answers.options_of(dict(key[2]))) for key in dict.fromkeys(asked) if key[1] is not None}
    decided = _settled(decided, verifier)
    graded = []
    for sample, extracted, key in zip(samples, found, asked, strict=True):
        decision = decided.get(key, Decision(False, extracted.rule))
        graded.append(
            {
                "doc_id": sample["doc_id"],
                "repeat": sample["repeat"],
                "gold": key[0],
                "answer": extracted.answer,
                "found_by": extracted.rule,
                "rule_correct": decision.is_correct,
                "rule": decision.rule,
                "rejected_by": decision.rejected_by,
            }
        )
    return graded


Question = tuple[str, str | None, tuple[tuple[str, Any], ...]]


def _question(sample: Row, answer: str | None, item: Row) -> Question:
    """What a decision depends on: the pair, and what the item says of it. A reference may be a solution with a box in it."""
    gold = gold_text(sample["gold"])
    said = {key: item[key] for key in ITEM_COLUMNS if isinstance(item.get(key), str | int | float)}
    return answers.answer_in(gold) or gold, answer, tuple({**said, "problem": sample["problem"]}.items())


def _settled(decided: dict[Question, Decision], verifier: Verifier) -> dict[Question, Decision]:
    """The decisions, with algebra's replies where it had to be asked."""
    replies = verifier.compare_all(decision.questions for decision in decided.values() if decision.questions)
    return {
        key: answers.settle(decision, replies[decision.questions][0]) if decision.questions else decision
        for key, decision in decided.items()
    }


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
    items = {row["doc_id"]: row for row in read_jsonl(args.problems)}
    with Verifier() as verifier:
        graded = grade(samples, args.spec["grader"], verifier, items)
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
