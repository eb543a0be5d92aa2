"""Stage `score`: one cell's verdicts and counts. What cannot be computed is null, never 0."""

import math
from argparse import Namespace
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gapgrid.core import manifest
from gapgrid.core.cells import Cell
from gapgrid.core.records import InputError, read_jsonl, sha256_file, write_json, write_jsonl
from gapgrid.core.rows import (
    CORRECT,
    NO_ANSWER,
    UNPARSED,
    GradedRow,
    PendingRow,
    SampleRow,
    VerdictRow,
    pair_of,
)
from gapgrid.core.spec_types import JudgeSpec, with_defaults
from gapgrid.core.stage_cli import run_stage, stage_parser
from gapgrid.judging.verdicts import is_judged, verdict_rows
from gapgrid.stores.verdicts import Ledger, judge_digest, pair_key

QUARTILES = (0.25, 0.5, 0.75)


class Lengths(NamedTuple):
    """Lengths of some answers in tokens; all None if there is no such answer."""

    mean: float | None
    p25: float | None
    p50: float | None
    p75: float | None


class Truncation(NamedTuple):
    """Accuracies of one cell with regard to answers that reached the token limit.

    `finished` is the accuracy among answers that ended by themselves; `low` counts truncated
    answers as wrong, `high` as right. Unparsed verdicts are in none of the accuracies, nor their
    lengths among `right` or `wrong`. A share is None if its denominator is 0.
    """

    accuracy: float | None
    cap_hits: float | None
    finished: float | None
    no_answer: float | None
    low: float | None
    high: float | None
    right: Lengths
    wrong: Lengths


def truncation(
    verdicts: Sequence[str], finish: Sequence[str], lengths: Sequence[int]
) -> Truncation:
    """Summarise one cell's answers, given the verdict, `stop` or `length`, and tokens of each."""
    if not len(verdicts) == len(finish) == len(lengths):
        raise ValueError(
            f"{len(verdicts)} verdicts, {len(finish)} finishes and {len(lengths)} lengths"
        )
    answers = list(zip(verdicts, (reason == "stop" for reason in finish), lengths, strict=True))
    counted = [answer for answer in answers if answer[0] != UNPARSED]
    n_counted, n_finished = len(counted), sum(is_finished for _, is_finished, _ in counted)
    right = [answer for answer in counted if answer[0] == CORRECT]
    n_right_finished = sum(is_finished for _, is_finished, _ in right)
    return Truncation(
        accuracy=ratio(len(right), n_counted),
        cap_hits=ratio(sum(not is_finished for _, is_finished, _ in answers), len(answers)),
        finished=ratio(n_right_finished, n_finished),
        no_answer=ratio(sum(verdict == NO_ANSWER for verdict in verdicts), len(answers)),
        low=ratio(n_right_finished, n_counted),
        high=ratio(n_right_finished + n_counted - n_finished, n_counted),
        right=summarise([tokens for _, _, tokens in right]),
        wrong=summarise([tokens for verdict, _, tokens in counted if verdict != CORRECT]),
    )


def ratio(part: float, whole: int) -> float | None:
    """Return `part / whole`, or None if `whole` is 0."""
    return part / whole if whole else None


def summarise(tokens: Sequence[int]) -> Lengths:
    """Return mean and quartiles."""
    ordered = sorted(tokens)
    quartiles = (quantile(ordered, share) for share in QUARTILES)
    return Lengths(ratio(sum(ordered), len(ordered)), *quartiles)


def quantile(ordered: Sequence[float], share: float) -> float | None:
    """Return a quantile of sorted numbers, by linear interpolation; None if there are none.

    This is type 7 of Hyndman and Fan (1996), NumPy's default.
    """
    if not ordered:
        return None
    position = share * (len(ordered) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return float(ordered[below] + (ordered[above] - ordered[below]) * (position - below))


def summary(
    samples: list[SampleRow], graded: list[GradedRow], verdicts: list[VerdictRow], has_judge: bool
) -> dict[str, Any]:
    """Return counts and rates of one cell, the numbers of score.json.

    - acc_rule: share that rules accepted.
    - acc_judged: with the judge's verdicts, unparsed ones left out of both sides; null without a
      judge. n_undecided then counts the answers that only a judge could decide, taken as wrong.
    - acc: acc_judged if there is a judge, else acc_rule.
    - acc_finished, acc_low, acc_high: see `Truncation`.
    - acc_best_guess: the score of always giving the most frequent reference answer.
    - tokens: of answers; answers with an unparsed verdict are neither correct nor wrong.
    """
    golds = Counter({row["doc_id"]: row["gold"] for row in graded}.values())
    lengths = [sample["n_tokens"] for sample in samples]
    counts = Counter(row["verdict"] for row in verdicts)
    rules = Counter(row["rule"] for row in graded)
    sources = Counter(row["by"] for row in verdicts)
    cell = truncation(
        [row["verdict"] for row in verdicts], [sample["finish"] for sample in samples], lengths
    )
    return {
        "n": len(samples),
        "n_problems": len({sample["doc_id"] for sample in samples}),
        "n_no_answer": counts[NO_ANSWER],
        "n_truncated": sum(sample["finish"] != "stop" for sample in samples),
        "n_pending": sum(row["answer"] is not None and not row["rule_correct"] for row in graded),
        "n_rejected": sum(row["rejected_by"] is not None for row in graded),
        "n_judged": sources["judge"],
        "n_undecided": sources["undecided"],
        "n_unparsed": counts[UNPARSED],
        "n_rule_timeout": rules["rule_timeout"],
        "n_rule_crash": rules["rule_crash"],
        "n_correct": counts[CORRECT],
        "acc_rule": ratio(sum(row["rule_correct"] for row in graded), len(graded)),
        "acc_judged": cell.accuracy if has_judge else None,
        "acc": cell.accuracy,
        "acc_finished": cell.finished,
        "acc_low": cell.low,
        "acc_high": cell.high,
        "share_truncated": cell.cap_hits,
        "share_no_answer": cell.no_answer,
        "acc_best_guess": ratio(max(golds.values(), default=0), golds.total()),
        "mean_tokens": ratio(sum(lengths), len(lengths)),
        **_length_columns("correct", cell.right),
        **_length_columns("wrong", cell.wrong),
    }


def _length_columns(kind: str, lengths: Lengths) -> dict[str, float | None]:
    quartiles = {f"tokens_{kind}_{name}": getattr(lengths, name) for name in ("p25", "p50", "p75")}
    return {f"mean_tokens_{kind}": lengths.mean, **quartiles}


def read_verdicts(
    args: Namespace, pending: list[PendingRow]
) -> dict[tuple[int, int], tuple[str, str]]:
    """Return (doc_id, repeat) -> (verdict, the judge's reply) of the answers that the judge sees.

    Raises `InputError`, which says how to get the verdicts, if any is missing.
    """
    spec: JudgeSpec = args.spec
    template = args.prompt.read_text(encoding="utf-8") if args.prompt else ""
    judge = judge_digest(spec["judge"], template)
    batch = args.batch_manifest
    path = batch.parent / "verdicts.sqlite"
    rebuild = f"get them with: snakemake --forcerun {batch} -- {batch}, then run again"
    try:
        with Ledger(path, read_only=True) as ledger:
            known = ledger.verdicts(judge)
    except InputError as error:
        raise InputError(f"{error}; {rebuild}") from None
    policy = with_defaults("judge", spec)["policy"]
    keys = {
        (row["doc_id"], row["repeat"]): pair_key(judge, pair_of(row))
        for row in pending
        if is_judged(row, policy)
    }
    if n_missing := sum(key not in known for key in keys.values()):
        raise InputError(f"{path}: lacks {n_missing} verdicts of judge {judge}; {rebuild}")
    return {answer: known[key] for answer, key in keys.items()}


def work(args: Namespace) -> None:
    """Join samples, rules and verdicts; write verdict rows, the score and the manifest."""
    spec: JudgeSpec = args.spec
    samples, graded, pending = (
        read_jsonl(args.grade_manifest.with_name(f"{name}.jsonl"))
        for name in ("samples", "graded", "pending")
    )
    has_judge = spec["judge"]["engine"]["name"] != "none"
    verdicts = verdict_rows(samples, graded, read_verdicts(args, pending) if has_judge else {})
    verdict_file = args.manifest.with_name("verdicts.jsonl")
    write_jsonl(verdict_file, verdicts)
    score = {
        **Cell.of_file(args.manifest)._asdict(),
        **summary(samples, graded, verdicts, has_judge),
        # With it score.json alone says whether anything about the cell has changed.
        "verdicts_sha256": sha256_file(verdict_file),
    }
    write_json(args.manifest.with_name("score.json"), score)
    inputs = {"grade": sha256_file(args.grade_manifest)}
    manifest.write(args.manifest, "score", spec, inputs, ["verdicts.jsonl", "score.json"])


def main(argv: list[str] | None = None) -> int:
    """Run `python -m gapgrid.stages.score --spec … [--prompt FILE] -- GRADE BATCH MANIFEST`."""
    parser = stage_parser("score", __doc__)
    parser.add_argument("--prompt", type=Path, nargs="?", help="the judge's prompt")
    for name in ("grade_manifest", "batch_manifest", "manifest"):
        parser.add_argument(name, type=Path)
    return run_stage(parser, work, argv)


if __name__ == "__main__":
    raise SystemExit(main())
