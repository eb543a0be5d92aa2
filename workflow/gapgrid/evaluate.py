"""Stage `evaluate`: one trained student answers all its benchmarks, in one load of the model.

Answers go into the response store batch by batch, so a killed job goes on where it stopped; batches are laid out over
all questions of a benchmark, answered or not, so that a resumed job computes the same batches. The manifest is a
stamp: it says which requests the store can serve, with row counts and checksums.
"""

import logging
import os
import time
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from gapgrid import allotment, manifest
from gapgrid.command import read_spec, run_stage, stage_parser
from gapgrid.records import InputError, Row, read_jsonl, sha256_file, write_jsonl
from gapgrid.responses import Answer, Question, Store, checksum, model_digest, request_digest

log = logging.getLogger(__name__)


class Engine(Protocol):
    """Asks a student. `batch_rows` questions are answered at a time."""

    batch_rows: int

    def questions(self, task: Path, problems: list[Row], request: Row) -> list[Question]:
        """The questions of one benchmark, `repeats` for each problem, in order."""

    def answer(self, questions: list[Question]) -> list[Answer]:
        """Answers to one batch of questions, which share their settings."""


class Request(NamedTuple):
    """One benchmark to answer: how (`content`), with which lm-eval task, about which problems."""

    benchmark: str
    content: Row
    task: Path
    problems: Path
    digest: str


def load_engine(name: str, model: Path, gpus: int = 1, tensor_parallel: int | None = None) -> Engine:
    """The engine of a spec over the model in a folder; how it uses the GPUs is no part of any spec."""
    if name == "stub":
        from gapgrid.engines.stub import Answerer

        return Answerer(model)
    if name == "vllm":
        from gapgrid.engines.harness_vllm import VLLMHarness

        return VLLMHarness(model, gpus, tensor_parallel)
    from gapgrid.engines.harness import Harness

    return Harness(model)


def shake_hands(engine: Any, request: Request, asked: list[Question], args: Namespace, trained: Row) -> None:
    """Check that the student is asked as it was trained; see the engine's module of that name."""
    from gapgrid.engines import handshake, harness

    message = harness.user_message(request.task, read_jsonl(request.problems))
    handshake.check(engine, asked[0], message, trained, args.base)


def batches(questions: list[Question], rows: int) -> list[list[Question]]:
    """Fixed batches: longest prompts first, repeats apart; a function of the questions alone."""
    ordered = sorted(questions, key=lambda question: (question.repeat, -len(question.prompt), question.key))
    out: list[list[Question]] = []
    for question in ordered:
        if not out or len(out[-1]) == rows or out[-1][0].repeat != question.repeat:
            out.append([])
        out[-1].append(question)
    return out


def ask(engine: Engine, request: Request, identity: Row) -> list[Question]:
    """The questions of one request; `identity` names engine and versions, and is part of what they are kept under."""
    try:
        asked = engine.questions(request.task, read_jsonl(request.problems), request.content)
    except InputError as error:
        raise InputError(f"benchmark '{request.benchmark}': {error}") from error
    return [question._replace(settings={**question.settings, "engine": identity}) for question in asked]


def answer_missing(engine: Engine, store: Store, request: Request, asked: list[Question]) -> Iterator[Row]:
    """Answer what the store lacks of one request, keeping every batch as it comes; yields how long each batch took."""
    missing = store.missing(asked)
    log.info("%s: %d questions, %d to answer", request.benchmark, len(asked), len(missing))
    n_done = 0
    for batch in batches(asked, engine.batch_rows):
        todo = list({question.key: question for question in batch if question.key in missing}.values())
        if todo:
            start = time.perf_counter()
            answers = engine.answer(todo)
            seconds = time.perf_counter() - start
            store.add_answers(zip((question.key for question in todo), answers, strict=True))
            n_done += len(todo)
            n_tokens = sum(answer.n_tokens for answer in answers)
            log.info("%s: %d of %d answered  %d tokens/s", request.benchmark, n_done, len(missing), n_tokens / seconds)
            yield {"benchmark": request.benchmark, "answers": len(todo), "tokens": n_tokens, "seconds": round(seconds, 3)}
    store.set_questions(request.digest, asked)


def read_requests(args: Namespace) -> list[Request]:
    """The requests named on the command line; the three lists run in parallel."""
    if not len(args.requests) == len(args.tasks) == len(args.problems):
        raise InputError("evaluate: --requests, --tasks and --problems need the same number of files")
    found = []
    for file, task, problems in zip(args.requests, args.tasks, args.problems, strict=True):
        digest = request_digest(sha256_file(file), sha256_file(problems))
        found.append(Request(file.stem, read_spec(str(file)), task, problems, digest))
    return found


def answer_all(args: Namespace, store: Store, requests: list[Request], identity: Row, trained: Row) -> list[Row]:
    """Load the student once and answer what is missing; an engine sees all questions before it answers the first."""
    engine = load_engine(identity["name"], args.model, max(1, args.gpus), args.tensor_parallel)
    asked = {request.digest: ask(engine, request, identity) for request in requests}
    for request in requests:
        if identity["name"] != "stub" and asked[request.digest]:
            shake_hands(engine, request, asked[request.digest], args, trained)
    return [speed for request in requests for speed in answer_missing(engine, store, request, asked[request.digest])]


def describe(request: Request, rows: list[Row]) -> Row:
    """What the stamp says of one request. Warns of a student that never ends an answer."""
    if rows and all(row["finish"] == "length" for row in rows):
        log.warning(
            "warning: %s: all %d answers reached the cap of %s tokens; the student may never have learnt to end an answer",
            *(request.benchmark, len(rows), request.content.get("max_tokens")),
        )
    return {"benchmark": request.benchmark, "rows": len(rows), "sha256": checksum(rows)}


def work(args: Namespace) -> None:
    """Load the student only if the store lacks something; then write the stamp."""
    allotment.claim(args.gpus, args.manifest)
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    trained = manifest.read(args.train_manifest)
    digest = model_digest(trained)
    identity: dict[str, Any] = {**args.spec["engine"], "version": args.spec["version"]}
    requests = read_requests(args)
    speeds: list[Row] = []
    with Store(args.manifest.parent / "responses" / f"{digest}.sqlite") as store:
        if lacking := [request for request in requests if not store.rows(request.digest)]:
            speeds = answer_all(args, store, lacking, identity, trained)
        served = {request.digest: describe(request, store.rows(request.digest)) for request in requests}
    if speeds:
        write_jsonl(args.manifest.parent / "metrics.jsonl", speeds)
    inputs = {"train": sha256_file(args.train_manifest)}
    manifest.write(args.manifest, "evaluate", args.spec, inputs, [], facts={"model": digest, "requests": served})


def main(argv: list[str] | None = None) -> int:
    """`python -m gapgrid.evaluate --spec … MODEL TRAIN_MANIFEST MANIFEST --requests … --tasks … --problems …`."""
    parser = stage_parser("evaluate", __doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--gpus", type=int, default=0, help="how many cards the job asked for")
    parser.add_argument("--tensor-parallel", type=int, help="engine vllm: GPUs per copy of the student (default: all of them)")
    parser.add_argument("--base", type=Path, help="the student before training, whose chat template it was trained with")
    parser.add_argument("model", type=Path)
    parser.add_argument("train_manifest", type=Path)
    parser.add_argument("manifest", type=Path)
    for name in ("--requests", "--tasks", "--problems"):
        parser.add_argument(name, type=Path, nargs="+", required=True)
    return run_stage(parser, work, argv)


if __name__ == "__main__":
    raise SystemExit(main())
