"""Stage `score`: one cell's verdicts and counts. A score that is not there is null, never 0."""

from argparse import Namespace
from collections import Counter
from pathlib import Path
from typing import Any

from gapgrid import manifest
from gapgrid.command import run_stage, stage_parser
from gapgrid.judging import NO_ANSWER, is_judged, verdict_rows
from gapgrid.ledger import Ledger, judge_digest, pair_key, pair_of
from gapgrid.records import InputError, Row, read_jsonl, sha256_file, write_json, write_jsonl
from gapgrid.truncation import Lengths, ratio, truncation

CELL = ("model", "mix", "seed", "benchmark")


def summary(samples: list[Row], graded: list[Row], verdicts: list[Row], judged: bool) -> dict[str, Any]:
    """Counts and rates of one cell.

    acc_rule counts what rules accepted. acc_judged adds the judge's verdicts and leaves unparsed ones out of both sides
    (null without a judge; n_undecided then counts the answers that only a judge could tell, taken as wrong). acc is
    acc_judged where there is a judge, else acc_rule. acc_finished is acc among the answers that ended by themselves;
    acc_low takes answers that reached the cap as wrong, acc_high as right. acc_best_guess is what always giving the most
    frequent reference answer scores. Tokens are of answers; those that an unparsed verdict left open are neither right nor wrong.
    """
    golds = Counter({row["doc_id"]: row["gold"] for row in graded}.values())
    lengths = [sample["n_tokens"] for sample in samples]
    found = truncation([row["verdict"] for row in verdicts], [sample["finish"] for sample in samples], lengths)
    return {
        "n": len(samples),
        "n_problems": len({sample["doc_id"] for sample in samples}),
        "n_no_answer": sum(row["verdict"] == NO_ANSWER for row in verdicts),
        "n_truncated": sum(sample["finish"] != "stop" for sample in samples),
        "n_pending": sum(row["answer"] is not None and not row["rule_correct"] for row in graded),
        "n_rejected": sum(row["rejected_by"] is not None for row in graded),
        "n_judged": sum(row["by"] == "judge" for row in verdicts),
        "n_undecided": sum(row["by"] == "undecided" for row in verdicts),
        "n_unparsed": sum(row["verdict"] == "unparsed" for row in verdicts),
        "n_rule_timeout": sum(row["rule"] == "rule_timeout" for row in graded),
        "n_rule_crash": sum(row["rule"] == "rule_crash" for row in graded),
        "n_correct": sum(row["verdict"] == "correct" for row in verdicts),
        "acc_rule": ratio(sum(row["rule_correct"] for row in graded), len(graded)),
        "acc_judged": found.accuracy if judged else None,
        "acc": found.accuracy,
        "acc_finished": found.finished,
        "acc_low": found.low,
        "acc_high": found.high,
        "share_truncated": found.cap_hits,
        "share_no_answer": found.no_answer,
        "acc_best_guess": ratio(max(golds.values(), default=0), golds.total()),
        "mean_tokens": ratio(sum(lengths), len(lengths)),
        **_lengths("correct", found.right),
        **_lengths("wrong", found.wrong),
    }


def _lengths(kind: str, found: Lengths) -> dict[str, float | None]:
    quartiles = {f"tokens_{kind}_{name}": getattr(found, name) for name in ("p25", "p50", "p75")}
    return {f"mean_tokens_{kind}": found.mean, **quartiles}


def read_verdicts(args: Namespace, asked: list[Row]) -> dict[tuple[int, int], tuple[str, str]]:
    """The judge's verdicts on the cell's answers that it was asked about; an `InputError` says how to get missing ones."""
    template = args.prompt.read_text(encoding="utf-8") if args.prompt else ""
    judge = judge_digest(args.spec["judge"], template)
    path = args.stamp.parent / "verdicts.sqlite"
    rebuild = f"get them with: snakemake --forcerun {args.stamp} -- {args.stamp}, then run again"
    try:
        with Ledger(path, read_only=True) as ledger:
            known = ledger.verdicts(judge)
    except InputError as error:
        raise InputError(f"{error}; {rebuild}") from None
    found = {(row["doc_id"], row["repeat"]): known.get(pair_key(judge, pair_of(row))) for row in asked}
    lacking = sum(verdict is None for verdict in found.values())
    if lacking:
        raise InputError(f"{path}: lacks {lacking} verdicts of judge {judge}; {rebuild}")
    return {place: verdict for place, verdict in found.items() if verdict is not None}


def work(args: Namespace) -> None:
    """Join samples, rules and verdicts; write verdict rows, the score and the manifest."""
    folder = args.grade_manifest.parent
    samples, graded, pending = (read_jsonl(folder / f"{name}.jsonl") for name in ("samples", "graded", "pending"))
    has_judge = args.spec["judge"]["engine"]["name"] != "none"
    asked = [row for row in pending if is_judged(row, args.spec.get("policy", "undecided"))]
    judged = read_verdicts(args, asked) if has_judge else {}
    verdicts = verdict_rows(samples, graded, judged)
    out = args.manifest.parent
    write_jsonl(out / "verdicts.jsonl", verdicts)
    # With the digest of the verdicts in it, the score alone says whether anything about the cell has changed.
    counts = {**summary(samples, graded, verdicts, has_judge), "verdicts_sha256": sha256_file(out / "verdicts.jsonl")}
    write_json(out / "score.json", {**dict(zip(CELL, args.cell, strict=True)), "seed": int(args.cell[2]), **counts})
    manifest.write(args.manifest, "score", args.spec, {"grade": sha256_file(args.grade_manifest)}, ["verdicts.jsonl", "score.json"])


def main(argv: list[str] | None = None) -> int:
    """`python -m gapgrid.score --spec … --cell MODEL MIX SEED BENCHMARK [--prompt FILE] -- GRADE_MANIFEST STAMP MANIFEST`."""
    parser = stage_parser("score", __doc__)
    parser.add_argument("--prompt", type=Path, nargs="?", help="the judge's prompt")
    parser.add_argument("--cell", nargs=4, required=True, metavar=tuple(name.upper() for name in CELL))
    for name in ("grade_manifest", "stamp", "manifest"):
        parser.add_argument(name, type=Path)
    return run_stage(parser, work, argv)


if __name__ == "__main__":
    raise SystemExit(main())
