"""Stage `shift`: the tokens of a student's responses, as the student before SFT ranks them.

After the token distribution shift of Lin et al. (arXiv 2312.01552) as the paper uses it for
students (its Fig. 8): a greedy response is fed to the student before SFT, and each token's rank in
the next-token distribution is taken (1: the first choice). Under greedy decoding the trained
student's own rank is 1, so a token's shift is its rank minus 1. A token is *shifted* if it is not
the first choice, *far* if it is not among the first three.
"""

import logging
import os
from argparse import Namespace
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

from gapgrid.core import gpu_lock, manifest
from gapgrid.core.records import InputError, Row, read_jsonl, sha256_file, write_json, write_jsonl
from gapgrid.core.rows import ProblemRow, SampleRow
from gapgrid.core.spec_types import RequestSpec, ShiftSpec
from gapgrid.core.stage_cli import read_spec, run_stage, stage_parser

log = logging.getLogger(__name__)
FAR = 3  # ranks above this are far


class Engine(Protocol):
    """Ranks responses under the untouched student."""

    def rank(
        self, task: Path, problems: list[ProblemRow], request: RequestSpec, samples: list[SampleRow]
    ) -> Iterable[Any]:
        """Yield each response's token ids, None if they could not be restored, and their ranks."""

    def text(self, token: int) -> str:
        """Return a token id's text."""


def load_engine(name: str, base: Path, asked_by: str) -> Engine:
    """Return a spec's engine over the untouched student."""
    if name == "stub":
        from gapgrid.engines.stub import Ranker as Stub

        return Stub(base)
    from gapgrid.engines.shift import Ranker

    return Ranker(base, asked_by)


def evenly_spaced(samples: list[SampleRow], n: int) -> list[SampleRow]:
    """Return `n` responses at even distances: many benchmarks are sorted by subject.

    Raises `InputError` if there are fewer.
    """
    if n > len(samples):
        raise InputError(f"shift: {n} problems asked for, but there are {len(samples)} answers")
    return [samples[index * len(samples) // n] for index in range(n)]


def token_types(ranked: Iterable[Any]) -> dict[int, Row]:
    """Return counts by token id, over all responses.

    How many tokens, how many shifted and far, the sum of their shifts and the largest one.
    """
    types: dict[int, Row] = {}
    columns = ("n", "n_shifted", "n_far", "shift_sum", "shift_max")
    for ids, ranks in ranked:
        for token, rank in zip(ids or (), ranks, strict=True):
            row = types.setdefault(token, {"token_id": token, **dict.fromkeys(columns, 0)})
            row["n"] += 1
            row["n_shifted"] += rank > 1
            row["n_far"] += rank > FAR
            row["shift_sum"] += rank - 1
            row["shift_max"] = max(row["shift_max"], rank - 1)
    return types


def type_rows(types: dict[int, Row], engine: Engine) -> Iterator[Row]:
    """Yield the rows of shift.jsonl, with each token's text, by most shifted tokens first."""
    for row in sorted(
        types.values(), key=lambda row: (-row["n_shifted"], -row["shift_sum"], row["token_id"])
    ):
        text = engine.text(row["token_id"])
        yield {**row, "token": text.encode("utf-8", "replace").decode("utf-8")}


def summary(samples: list[SampleRow], ranked: list[Any], types: dict[int, Row]) -> Row:
    """Return counts over all responses; a share is null where there is no token.

    `n_mismatched` responses are in no other count.
    """
    n_tokens, n_shifted, n_far, shift_sum = (
        sum(row[column] for row in types.values())
        for column in ("n", "n_shifted", "n_far", "shift_sum")
    )
    return {
        "n_answers": len(samples),
        "n_mismatched": sum(ids is None for ids, _ in ranked),
        "n_truncated": sum(sample["finish"] != "stop" for sample in samples),
        "n_tokens": n_tokens,
        "n_types": len(types),
        "n_shifted": n_shifted,
        "n_far": n_far,
        "shift_sum": shift_sum,
        "share_shifted": n_shifted / n_tokens if n_tokens else None,
        "mean_shift": shift_sum / n_tokens if n_tokens else None,
    }


def work(args: Namespace) -> None:
    """Rank the responses; write token types, summary and the manifest."""
    gpu_lock.acquire(args.gpus, args.manifest)
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    spec: ShiftSpec = args.spec
    samples = evenly_spaced(read_jsonl(args.samples), spec["problems"])
    engine = load_engine(spec["engine"]["name"], args.base, spec["asked_by"])
    problems, request = read_jsonl(args.problems), read_spec(args.request)
    ranked = list(engine.rank(args.task, problems, request, samples))
    n_lost = sum(ids is None for ids, _ in ranked)
    if n_lost == len(ranked):
        raise InputError(
            f"{args.samples}: no answer gives back the tokens it was generated as; "
            "what is ranked would be something else"
        )
    if n_lost:
        log.warning(
            "warning: %d of %d answers left out: tokenising them again gives other tokens",
            n_lost,
            len(samples),
        )
    types = token_types(ranked)
    facts = summary(samples, ranked, types)
    folder = args.manifest.parent
    write_jsonl(folder / "shift.jsonl", type_rows(types, engine))
    write_json(folder / "shift.json", facts)
    inputs = {
        "train": sha256_file(args.train_manifest),
        "request": sha256_file(args.request),
        "problems": sha256_file(args.problems),
        "samples": sha256_file(args.samples),
    }
    outputs = ["shift.jsonl", "shift.json"]
    manifest.write(args.manifest, "shift", spec, inputs, outputs, spec["engine"], facts)


def main(argv: list[str] | None = None) -> int:
    """`python -m gapgrid.stages.shift --spec … FILES`, in the order of the names below."""
    parser = stage_parser("shift", __doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--gpus", type=int, default=0, help="how many GPUs the job requested")
    for name in ("base", "train_manifest", "request", "task", "problems", "samples", "manifest"):
        parser.add_argument(name, type=Path)
    return run_stage(parser, work, argv)


if __name__ == "__main__":
    raise SystemExit(main())
