"""Stage `shift`: which tokens of a trained student's greedy answers its untouched self would not have put first.

After the token distribution shift of Lin et al. (arXiv 2312.01552) as the paper uses it for students (its Fig. 8): an answer is
fed to the student as it was before training, and each token's rank in the next-token distribution is taken (1: the first
choice). Under greedy decoding the trained student's own rank is 1, so a token's shift is its rank minus 1. A token
is *shifted* if it is not the first choice, *far* if it is not among the first three.
"""

import logging
import os
from argparse import Namespace
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

from gapgrid import allotment, manifest
from gapgrid.command import read_spec, run_stage, stage_parser
from gapgrid.records import InputError, Row, read_jsonl, sha256_file, write_json, write_jsonl

log = logging.getLogger(__name__)
FAR = 3  # ranks above this are far


class Engine(Protocol):
    """Ranks answers under the untouched student."""

    def rank(self, task: Path, problems: list[Row], request: Row, samples: list[Row]) -> Iterable[Any]:
        """For each answer its token ids, None where they could not be had back from the text, and their ranks."""

    def text(self, token: int) -> str:
        """What a token type is called."""


def load_engine(name: str, base: Path, asked_by: str) -> Engine:
    """The engine of a spec over the untouched student."""
    if name == "stub":
        from gapgrid.engines.stub import Ranker as Stub

        return Stub(base)
    from gapgrid.engines.shift import Ranker

    return Ranker(base, asked_by)


def spread(samples: list[Row], n: int) -> list[Row]:
    """`n` answers evenly spread over all: a benchmark's problems are often sorted by subject. Raises `InputError` if there are fewer."""
    if n > len(samples):
        raise InputError(f"shift: {n} problems asked for, but there are {len(samples)} answers")
    return [samples[index * len(samples) // n] for index in range(n)]


def token_types(ranked: Iterable[Any]) -> dict[int, Row]:
    """Counts by token type, over all answers: how many, shifted, far, the sum of shifts and the largest one."""
    types: dict[int, Row] = {}
    for ids, ranks in ranked:
        for token, rank in zip(ids or (), ranks, strict=True):
            row = types.setdefault(token, {"token_id": token, "n": 0, "n_shifted": 0, "n_far": 0, "shift_sum": 0, "shift_max": 0})
            row["n"] += 1
            row["n_shifted"] += rank > 1
            row["n_far"] += rank > FAR
            row["shift_sum"] += rank - 1
            row["shift_max"] = max(row["shift_max"], rank - 1)
    return types


def type_rows(types: dict[int, Row], engine: Engine) -> Iterator[Row]:
    """Rows of shift.jsonl with each type's text, those with the most shifted tokens first."""
    for row in sorted(types.values(), key=lambda row: (-row["n_shifted"], -row["shift_sum"], row["token_id"])):
        yield {**row, "token": engine.text(row["token_id"]).encode("utf-8", "replace").decode("utf-8")}


def summary(samples: list[Row], ranked: list[Any], types: dict[int, Row]) -> Row:
    """Counts over all answers; a share is null where there is no token. `n_mismatched` answers are in none of the others."""
    total = {key: sum(row[key] for row in types.values()) for key in ("n", "n_shifted", "n_far", "shift_sum")}
    n_tokens = total["n"]
    return {
        "n_answers": len(samples),
        "n_mismatched": sum(ids is None for ids, _ in ranked),
        "n_truncated": sum(sample["finish"] != "stop" for sample in samples),
        "n_tokens": n_tokens,
        "n_types": len(types),
        "n_shifted": total["n_shifted"],
        "n_far": total["n_far"],
        "shift_sum": total["shift_sum"],
        "share_shifted": total["n_shifted"] / n_tokens if n_tokens else None,
        "mean_shift": total["shift_sum"] / n_tokens if n_tokens else None,
    }


def work(args: Namespace) -> None:
    """Rank the answers; write token types, summary and the manifest."""
    allotment.claim(args.gpus, args.manifest)
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    samples = spread(read_jsonl(args.samples), args.spec["problems"])
    engine = load_engine(args.spec["engine"]["name"], args.base, args.spec["asked_by"])
    ranked = list(engine.rank(args.task, read_jsonl(args.problems), read_spec(str(args.request)), samples))
    if all(ids is None for ids, _ in ranked):
        raise InputError(f"{args.samples}: no answer gives back the tokens it was generated as; what is ranked would be something else")
    types = token_types(ranked)
    found = summary(samples, ranked, types)
    if found["n_mismatched"]:
        log.warning(
            "warning: %d of %d answers left out: tokenising them again gives other tokens", found["n_mismatched"], found["n_answers"]
        )
    folder = args.manifest.parent
    write_jsonl(folder / "shift.jsonl", type_rows(types, engine))
    write_json(folder / "shift.json", found)
    read = {"train": args.train_manifest, "request": args.request, "problems": args.problems, "samples": args.samples}
    inputs = {name: sha256_file(file) for name, file in read.items()}
    manifest.write(args.manifest, "shift", args.spec, inputs, ["shift.jsonl", "shift.json"], args.spec["engine"], found)


def main(argv: list[str] | None = None) -> int:
    """`python -m gapgrid.shift --spec … BASE TRAIN_MANIFEST REQUEST TASK PROBLEMS SAMPLES MANIFEST`."""
    parser = stage_parser("shift", __doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--gpus", type=int, default=0, help="how many cards the job asked for")
    for name in ("base", "train_manifest", "request", "task", "problems", "samples", "manifest"):
        parser.add_argument(name, type=Path)
    return run_stage(parser, work, argv)


if __name__ == "__main__":
    raise SystemExit(main())
