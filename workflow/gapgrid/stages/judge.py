"""Stage `judge`: the answers that rules leave open, each unique pair judged once, in one load.

Verdicts go into the ledger batch by batch, so a killed job resumes where it stopped. The manifest
is a batch manifest: it vouches for all verdicts of the grid.
"""

import logging
import os
from argparse import Namespace
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from gapgrid.core import gpu_lock, manifest
from gapgrid.core.cells import Cell
from gapgrid.core.records import InputError, canonical, read_jsonl, sha256_file, sha256_text
from gapgrid.core.rows import UNPARSED, Pair, pair_of
from gapgrid.core.spec_types import JudgeIdentity, JudgeSpec, with_defaults
from gapgrid.core.stage_cli import run_stage, stage_parser
from gapgrid.judging.backends import Backend, JudgeError
from gapgrid.judging.prompts import parse, render
from gapgrid.judging.verdicts import is_judged
from gapgrid.stores.verdicts import Judged, Ledger, judge_digest, pair_key

log = logging.getLogger(__name__)


def load_backend(identity: JudgeIdentity, base_url: str | None = None, n_gpus: int = 0) -> Backend:
    """Load the judge; its server's address and the number of GPUs do not change a verdict."""
    name, model = identity["engine"]["name"], identity.get("model", "")
    revision, max_tokens = identity.get("revision"), identity.get("max_tokens", 20)
    complete = with_defaults("judge", identity)
    sampling, dtype = complete["sampling"], complete["dtype"]
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


def judge_pairs(
    pairs: list[Pair], template: str, identity: JudgeIdentity, backend: Backend
) -> Iterator[list[Judged]]:
    """Judge in batches; what cannot be parsed is asked once more, then kept as `unparsed`.

    When the backend fails in the middle, the replies that came before are yielded, then its error
    is raised. Unparsed ones that could not be asked a second time are left to the next run.
    """
    for start in range(0, len(pairs), backend.batch_pairs):
        batch = pairs[start : start + backend.batch_pairs]
        replies, error = _ask(backend, template, batch)
        unparsed = [pair for pair, reply in replies.items() if parse(reply, identity) == UNPARSED]
        if unparsed and not error:
            second, error = _ask(backend, template, unparsed)
            replies.update(second)
            unparsed = [pair for pair in unparsed if pair not in second]
        if error:
            for pair in unparsed:
                del replies[pair]
        yield [(pair, parse(reply, identity), reply) for pair, reply in replies.items()]
        if error:
            raise error


def _ask(
    backend: Backend, template: str, pairs: list[Pair]
) -> tuple[dict[Pair, str], JudgeError | None]:
    prompts = [render(template, pair) for pair in pairs]
    try:
        return dict(zip(pairs, backend.ask(prompts), strict=True)), None
    except JudgeError as error:
        return {pairs[index]: reply for index, reply in error.replies.items()}, error


def read_cells(manifests: list[Path], policy: str) -> tuple[list[Pair], Counter[str]]:
    """Return the pairs of all cells that the judge sees, and counts of how the rule step ended."""
    pairs: list[Pair] = []
    counts: Counter[str] = Counter()
    for file in manifests:
        counts.update(manifest.read(file)["facts"])
        pending = read_jsonl(file.with_name("pending.jsonl"))
        pairs.extend(pair_of(row) for row in pending if is_judged(row, policy))
    return pairs, counts


def account(counts: Counter[str], n_pairs: int, n_unique: int, n_missing: int) -> str:
    """Return one line that says what the judge is asked, and what it is spared."""
    return (
        f"{counts['n']} answers: {counts['n_no_answer']} without an answer,"
        f" {counts['n_accepted']} accepted by rules,"
        f" {counts['n_pending'] - n_pairs} rejected decisively, {n_pairs} for the judge;"
        f" {n_pairs - n_unique} saved by deduplication, {n_unique - n_missing} by the ledger;"
        f" {n_missing} calls in {int(n_missing > 0)} load(s) of the judge"
    )


def work(args: Namespace) -> None:
    """Judge what the ledger lacks, then write the batch manifest."""
    gpu_lock.acquire(args.gpus, args.batch_manifest)
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    spec: JudgeSpec = args.spec
    identity, policy = spec["judge"], with_defaults("judge", spec)["policy"]
    template = args.prompt.read_text(encoding="utf-8") if args.prompt else ""
    judge = judge_digest(identity, template)
    pairs, counts = read_cells(args.grades, policy)
    unique = sorted(set(pairs))
    with Ledger(args.batch_manifest.parent / "verdicts.sqlite") as ledger:
        ledger.register(judge, identity, template)
        if identity["engine"]["name"] == "none":
            log.info("no judge in this grid")
        else:
            known = ledger.verdicts(judge)
            missing = [pair for pair in unique if pair_key(judge, pair) not in known]
            log.info("%s", account(counts, len(pairs), len(unique), len(missing)))
            if missing:
                backend = load_backend(identity, args.base_url, args.gpus)
                for judged in judge_pairs(missing, template, identity, backend):
                    ledger.add(judge, judged)
        verdicts = sorted((key, *verdict) for key, verdict in ledger.verdicts(judge).items())
    facts = {
        **counts,
        "n_asked": len(pairs),
        "n_unique": len(unique),
        "judge": judge,
        "n_verdicts": len(verdicts),
        "verdicts_sha256": sha256_text(canonical(verdicts)),
    }
    inputs = {"prompt": sha256_text(template)}
    inputs |= {str(Cell.of_file(file)): sha256_file(file) for file in args.grades}
    manifest.write(args.batch_manifest, "judge", spec, inputs, [], facts=facts)


def main(argv: list[str] | None = None) -> int:
    """Run `python -m gapgrid.stages.judge --spec … [--prompt FILE] -- BATCH_MANIFEST GRADE…`."""
    parser = stage_parser("judge", __doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--gpus", type=int, default=0)
    prompt_help = "the judge's prompt, with {problem}, {gold} and {answer}"
    parser.add_argument("--prompt", type=Path, nargs="?", help=prompt_help)
    parser.add_argument("--base-url", help="backend openai: the server's address")
    parser.add_argument("batch_manifest", type=Path)
    parser.add_argument("grades", type=Path, nargs="*", help="manifests of the graded cells")
    return run_stage(parser, work, argv)


if __name__ == "__main__":
    raise SystemExit(main())
