"""Stage `judge`: all answers that no rule accepted, each unique pair judged once, in one load of the judge.

Verdicts go into the ledger batch by batch, so a killed job goes on where it stopped. The manifest is a stamp.
"""

import logging
import os
import re
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from gapgrid import manifest
from gapgrid.command import run_stage, stage_parser
from gapgrid.ledger import Ledger, Pair, judge_digest, pair_key, pair_of
from gapgrid.records import InputError, canonical, read_jsonl, sha256_text

log = logging.getLogger(__name__)
BATCH = 16
CORRECT, INCORRECT, UNPARSED = "correct", "incorrect", "unparsed"


class Backend(Protocol):
    """Sends prompts to a judge."""

    def ask(self, prompts: list[str]) -> list[str]:
        """The judge's reply to each prompt, in order."""


_DELIMITER = re.compile(r"<\s*/?\s*(?:problem|reference|answer)\s*/?\s*>", re.IGNORECASE)


def render(template: str, pair: Pair) -> str:
    """The prompt for one pair. What stands in the pair is data: it cannot close its own delimiter."""
    parts = {"problem": pair.problem, "gold": pair.gold, "answer": pair.answer}
    return re.sub(r"\{(problem|gold|answer)\}", lambda match: _without_delimiters(parts[match[1]]), template)


def _without_delimiters(text: str) -> str:
    # Again and again: taking one out can leave another, as in `<</answer>/answer>`.
    while (cleaned := _DELIMITER.sub("", text)) != text:
        text = cleaned
    return text


def parse(reply: str) -> str:
    """`correct` or `incorrect` if the first word is exactly True or False, else `unparsed`: never a guess.

    A sentence's end may follow the word; "True/False" and "True or False?" repeat the question and say nothing.
    """
    found = re.match(r"\s*(True|False)[.,;:!]*(?=\s|$)(?!\s+or\b)", reply)
    return {"True": CORRECT, "False": INCORRECT}[found[1]] if found else UNPARSED


def load_backend(identity: dict[str, Any], base_url: str | None) -> Backend:
    """The judge's backend, loaded."""
    name, model = identity["engine"]["name"], identity.get("model", "")
    if name == "openai":
        from gapgrid.engines.judge_openai import OpenAIJudge

        return OpenAIJudge(model, base_url or "", identity.get("max_tokens", 20))
    if name == "hf":
        from gapgrid.engines.judge_hf import TransformersJudge

        return TransformersJudge(model, identity.get("revision"), identity.get("max_tokens", 20))
    if name == "stub":
        from gapgrid.engines.stub import Judge

        return Judge()
    raise InputError(f"judge: no backend '{name}'")


def judge_pairs(pairs: list[Pair], template: str, backend: Backend) -> Iterator[list[tuple[Pair, str, str]]]:
    """Judge in batches; what cannot be parsed is asked once more, then kept as `unparsed`."""
    for start in range(0, len(pairs), BATCH):
        batch = pairs[start : start + BATCH]
        replies = dict(zip(batch, backend.ask([render(template, pair) for pair in batch]), strict=True))
        again = [pair for pair in batch if parse(replies[pair]) == UNPARSED]
        if again:
            replies.update(zip(again, backend.ask([render(template, pair) for pair in again]), strict=True))
        yield [(pair, parse(replies[pair]), replies[pair]) for pair in batch]


def work(args: Namespace) -> None:
    """Judge what the ledger lacks, then write the stamp."""
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    identity = args.spec["judge"]
    template = args.prompt.read_text(encoding="utf-8") if args.prompt else ""
    judge = judge_digest(identity, template)
    asked = [pair_of(row) for file in args.pending for row in read_jsonl(file)]
    unique = sorted(set(asked))
    with Ledger(args.stamp.parent / "verdicts.sqlite") as ledger:
        known = ledger.verdicts(judge)
        missing = [pair for pair in unique if pair_key(judge, pair) not in known]
        log.info("%d answers to judge, %d unique, %d not in the ledger", len(asked), len(unique), len(missing))
        if missing and identity["engine"]["name"] != "none":
            backend = load_backend(identity, args.base_url)
            for done in judge_pairs(missing, template, backend):
                ledger.add(judge, done)
        kept = sorted((key, *verdict) for key, verdict in ledger.verdicts(judge).items())
    facts = {"judge": judge, "n_verdicts": len(kept), "verdicts_sha256": sha256_text(canonical(kept))}
    manifest.write(args.stamp, "judge", args.spec, {"prompt": sha256_text(template)}, [], facts=facts)


def main(argv: list[str] | None = None) -> int:
    """`python -m gapgrid.judge --spec … [--prompt FILE] STAMP PENDING…`."""
    parser = stage_parser("judge", __doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--prompt", type=Path, nargs="?", help="the judge's prompt, with {problem}, {gold} and {answer}")
    parser.add_argument("--base-url", help="backend openai: the server's address")
    parser.add_argument("stamp", type=Path)
    parser.add_argument("pending", type=Path, nargs="*")
    return run_stage(parser, work, argv)


if __name__ == "__main__":
    raise SystemExit(main())
