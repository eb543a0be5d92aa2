"""Stage `judge`: the answers that rules leave open, each unique pair judged once, in one load of the judge.

Verdicts go into the ledger batch by batch, so a killed job goes on where it stopped. The manifest is a stamp.
"""

import logging
import os
import re
import unicodedata
from argparse import Namespace
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gapgrid import allotment, manifest
from gapgrid.command import run_stage, stage_parser
from gapgrid.judging import Backend, JudgeError, Prompt, is_judged
from gapgrid.ledger import Ledger, Pair, judge_digest, pair_key, pair_of
from gapgrid.records import InputError, canonical, read_jsonl, sha256_file, sha256_text

log = logging.getLogger(__name__)
CORRECT, INCORRECT, UNPARSED = "correct", "incorrect", "unparsed"
CAPS = {"problem": 8000, "gold": 2000, "answer": 2000}  # characters shown to the judge
Judged = tuple[Pair, str, str]

# `<` and `[` begin a tag of the prompt, or a control token of one model or another, only when something follows at once.
_OPENING = re.compile(r"<(?=\S|\Z)|\[(?=/?[A-Z_]{3,}\])")


def as_data(text: str, cap: int) -> str:
    """Text of a student or a data set as text alone: no tag, no control token, nothing unseen, at most `cap` characters."""
    seen = "".join(c for c in text if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cf", "Cs"))
    shown = seen if len(seen) <= cap else f"{seen[:cap]} […]"
    return _OPENING.sub(lambda found: f"{found[0]} ", shown)


def render(template: str, pair: Pair) -> Prompt:
    """The prompt for one pair as chat messages. What stands in the pair is data: it cannot close its own delimiter."""
    lines = {"problem": pair.problem, "gold": " ".join(pair.gold.split()), "answer": " ".join(pair.answer.split())}
    parts = {name: as_data(text, CAPS[name]) for name, text in lines.items()}
    text = re.sub(r"\{(problem|gold|answer)\}", lambda match: parts[match[1]], template)
    return [{"role": "user", "content": text}]


def parse(reply: str, identity: dict[str, Any]) -> str:
    """The verdict in a reply, `unparsed` for anything but one of the judge's words: never a guess.

    `verdict: first_word` takes the first word, which a sentence's end may follow; "True/False" and "True or False?"
    repeat the question and say nothing. `whole_reply` takes the reply as a whole.
    """
    words = {word: verdict for verdict in (CORRECT, INCORRECT) for word in identity["replies"][verdict]}
    longest_first = sorted(words, key=len, reverse=True)
    word = rf"\s*({'|'.join(map(re.escape, longest_first))})[.,;:!]*"
    if identity.get("verdict") == "whole_reply":
        found = re.fullmatch(rf"{word}\s*", reply)
    else:
        found = re.match(rf"{word}(?=\s|$)(?!\s*[/|]|\s+(?i:or)\b)", reply)
    return words[found[1]] if found else UNPARSED


def load_backend(identity: dict[str, Any], base_url: str | None = None, n_gpus: int = 0) -> Backend:
    """The judge's backend, loaded. Where its server is and how many GPUs there are decides nothing about a verdict."""
    name, model, max_tokens = identity["engine"]["name"], identity.get("model", ""), identity.get("max_tokens", 20)
    revision, sampling, dtype = identity.get("revision"), identity.get("sampling", {}), identity.get("dtype", "auto")
    if name == "openai":
        from gapgrid.engines.judge_openai import OpenAIJudge

        return OpenAIJudge(model, base_url or "", max_tokens, sampling)
    if name == "vllm":
        from gapgrid.engines.judge_vllm import VLLMJudge

        return VLLMJudge(model, revision, max_tokens, sampling, dtype, max(1, n_gpus))
    if name == "hf":
        from gapgrid.engines.judge_hf import TransformersJudge

        return TransformersJudge(model, revision, max_tokens, sampling, dtype)
    if name == "stub":
        from gapgrid.engines.stub import Judge

        return Judge()
    raise InputError(f"judge: no backend '{name}'")


def judge_pairs(pairs: list[Pair], template: str, identity: dict[str, Any], backend: Backend) -> Iterator[list[Judged]]:
    """Judge in batches; what cannot be parsed is asked once more, then kept as `unparsed`.

    When the backend stops in the middle, what it has said by then is still handed over, then its error is raised.
    """
    for start in range(0, len(pairs), backend.batch_pairs):
        batch = pairs[start : start + backend.batch_pairs]
        replies, error = _ask(backend, template, batch)
        again = [pair for pair, reply in replies.items() if parse(reply, identity) == UNPARSED]
        if again and not error:
            second, error = _ask(backend, template, again)
            replies.update(second)
            again = [pair for pair in again if pair not in second]
        # What could not be asked a second time is left to the next run.
        first_only = set(again) if error else set()
        yield [(pair, parse(reply, identity), reply) for pair, reply in replies.items() if pair not in first_only]
        if error:
            raise error


def _ask(backend: Backend, template: str, pairs: list[Pair]) -> tuple[dict[Pair, str], JudgeError | None]:
    try:
        return dict(zip(pairs, backend.ask([render(template, pair) for pair in pairs]), strict=True)), None
    except JudgeError as error:
        return {pairs[place]: reply for place, reply in error.replies.items()}, error


def read_cells(manifests: list[Path], policy: str) -> tuple[list[Pair], Counter[str]]:
    """The answers of all cells that the judge sees, and counts of how the rule step ended."""
    asked: list[Pair] = []
    counts: Counter[str] = Counter()
    for file in manifests:
        counts.update(manifest.read(file)["facts"])
        asked.extend(pair_of(row) for row in read_jsonl(file.parent / "pending.jsonl") if is_judged(row, policy))
    return asked, counts


def account(counts: Counter[str], n_asked: int, n_unique: int, n_missing: int) -> str:
    """What the judge is asked, and what it is spared, in one line."""
    decisive = counts["n_pending"] - n_asked
    return (
        f"{counts['n']} answers: {counts['n_no_answer']} without an answer, {counts['n_accepted']} accepted by rules, "
        f"{decisive} rejected decisively, {n_asked} for the judge; {n_asked - n_unique} saved by deduplication, "
        f"{n_unique - n_missing} by the ledger; {n_missing} calls in {int(n_missing > 0)} load(s) of the judge"
    )


def work(args: Namespace) -> None:
    """Judge what the ledger lacks, then write the stamp."""
    allotment.claim(args.gpus, args.stamp)
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    identity, policy = args.spec["judge"], args.spec.get("policy", "undecided")
    template = args.prompt.read_text(encoding="utf-8") if args.prompt else ""
    judge = judge_digest(identity, template)
    asked, counts = read_cells(args.grades, policy)
    unique = sorted(set(asked))
    has_judge = identity["engine"]["name"] != "none"
    with Ledger(args.stamp.parent / "verdicts.sqlite") as ledger:
        ledger.register(judge, identity, template)
        known = ledger.verdicts(judge)
        missing = [pair for pair in unique if pair_key(judge, pair) not in known] if has_judge else []
        log.info("%s", account(counts, len(asked), len(unique), len(missing)) if has_judge else "no judge in this grid")
        if missing:
            for done in judge_pairs(missing, template, identity, load_backend(identity, args.base_url, args.gpus)):
                ledger.add(judge, done)
        kept = sorted((key, *verdict) for key, verdict in ledger.verdicts(judge).items())
    facts: dict[str, Any] = {**counts, "n_asked": len(asked), "n_unique": len(unique)}
    facts |= {"judge": judge, "n_verdicts": len(kept), "verdicts_sha256": sha256_text(canonical(kept))}
    inputs = {"/".join(file.parts[-5:-1]): sha256_file(file) for file in args.grades}
    manifest.write(args.stamp, "judge", args.spec, {"prompt": sha256_text(template), **inputs}, [], facts=facts)


def main(argv: list[str] | None = None) -> int:
    """`python -m gapgrid.judge --spec … [--prompt FILE] -- STAMP GRADE_MANIFEST…`."""
    parser = stage_parser("judge", __doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--gpus", type=int, default=0)
    parser.add_argument("--prompt", type=Path, nargs="?", help="the judge's prompt, with {problem}, {gold} and {answer}")
    parser.add_argument("--base-url", help="backend openai: the server's address")
    parser.add_argument("stamp", type=Path)
    parser.add_argument("grades", type=Path, nargs="*", help="manifests of the graded cells")
    return run_stage(parser, work, argv)


if __name__ == "__main__":
    raise SystemExit(main())
