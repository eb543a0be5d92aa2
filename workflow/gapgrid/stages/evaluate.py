"""Stage `evaluate`: one trained student answers all its benchmarks, in one load of the model.

Completions go into the response store batch by batch, so a killed job resumes where it stopped.
Batches are laid out over all requests of a benchmark, stored or not, so that a resumed job computes
the same ones. The manifest is a batch manifest: it says which benchmarks the store can serve, with
row counts and checksums.
"""

import logging
import os
import time
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from gapgrid.core import gpu_lock, manifest
from gapgrid.core.records import InputError, Row, read_jsonl, sha256_file, write_jsonl
from gapgrid.core.rows import ProblemRow, SampleRow
from gapgrid.core.spec_types import EvaluateSpec, RequestSpec
from gapgrid.core.stage_cli import read_spec, run_stage, stage_parser
from gapgrid.stores.responses import (
    Completion,
    GenerationRequest,
    Store,
    checksum,
    model_digest,
    request_digest,
)

log = logging.getLogger(__name__)


class Engine(Protocol):
    """A loaded student, which generates `batch_rows` completions at a time."""

    batch_rows: int

    def build_requests(
        self, task: Path, problems: list[ProblemRow], request: RequestSpec
    ) -> list[GenerationRequest]:
        """Return the requests of one benchmark, `repeats` for each problem, in order."""

    def generate(self, requests: list[GenerationRequest]) -> list[Completion]:
        """Return the completions of one batch of requests, which share their settings."""


class Benchmark(NamedTuple):
    """A benchmark to answer: how (`request`), with which lm-eval task, and about which problems.

    `digest` is the key of its rows in the response store.
    """

    name: str
    request: RequestSpec
    task: Path
    problems: Path
    digest: str


def load_engine(
    name: str, model: Path, gpus: int = 1, tensor_parallel: int | None = None
) -> Engine:
    """Load a spec's engine over the model in a folder; how it uses the GPUs is in no spec."""
    if name == "stub":
        from gapgrid.engines.stub import Answerer

        return Answerer(model)
    if name == "vllm":
        from gapgrid.engines.harness_vllm import VLLMHarness

        return VLLMHarness(model, gpus, tensor_parallel)
    from gapgrid.engines.harness import Harness

    return Harness(model)


def check_prompt_parity(
    engine: Any,
    benchmark: Benchmark,
    requests: list[GenerationRequest],
    args: Namespace,
    train_manifest: Row,
) -> None:
    """Check that the student is prompted as it was trained, see `engines.prompt_parity`."""
    from gapgrid.engines import harness, prompt_parity

    message = harness.user_message(benchmark.task, read_jsonl(benchmark.problems))
    prompt_parity.check(engine, requests[0], message, train_manifest, args.base)


def batches(requests: list[GenerationRequest], rows: int) -> list[list[GenerationRequest]]:
    """Return fixed batches that depend on nothing else: longest prompts first, repeats apart."""
    ordered = sorted(requests, key=lambda row: (row.repeat, -len(row.prompt), row.key))
    out: list[list[GenerationRequest]] = []
    for request in ordered:
        if not out or len(out[-1]) == rows or out[-1][0].repeat != request.repeat:
            out.append([])
        out[-1].append(request)
    return out


def build_requests(engine: Engine, benchmark: Benchmark, identity: Row) -> list[GenerationRequest]:
    """Return a benchmark's requests; their keys depend on `identity`, the engine's versions."""
    try:
        requests = engine.build_requests(
            benchmark.task, read_jsonl(benchmark.problems), benchmark.request
        )
    except InputError as error:
        raise InputError(f"benchmark '{benchmark.name}': {error}") from error
    return [row._replace(settings={**row.settings, "engine": identity}) for row in requests]


def generate_missing(
    engine: Engine, store: Store, benchmark: Benchmark, requests: list[GenerationRequest]
) -> Iterator[Row]:
    """Generate what the store lacks of a benchmark, and store every batch at once.

    Yields the speed of each batch, a row of metrics.jsonl.
    """
    name, missing = benchmark.name, store.missing(requests)
    log.info("%s: %d requests, %d to generate", name, len(requests), len(missing))
    n_done = 0
    for batch in batches(requests, engine.batch_rows):
        todo = {request.key: request for request in batch if request.key in missing}
        if not todo:
            continue
        start = time.perf_counter()
        completions = engine.generate(list(todo.values()))
        seconds = time.perf_counter() - start
        store.add_completions(zip(todo, completions, strict=True))
        n_done += len(todo)
        n_tokens = sum(completion.n_tokens for completion in completions)
        speed = n_tokens / seconds
        log.info("%s: %d of %d generated  %d tokens/s", name, n_done, len(missing), speed)
        yield {
            "benchmark": name,
            "answers": len(todo),
            "tokens": n_tokens,
            "seconds": round(seconds, 3),
        }
    store.set_requests(benchmark.digest, requests)


def read_benchmarks(args: Namespace) -> list[Benchmark]:
    """Return the benchmarks of the command line, whose three lists run in parallel."""
    if not len(args.requests) == len(args.tasks) == len(args.problems):
        raise InputError(
            "evaluate: --requests, --tasks and --problems need the same number of files"
        )
    benchmarks = []
    for file, task, problems in zip(args.requests, args.tasks, args.problems, strict=True):
        digest = request_digest(sha256_file(file), sha256_file(problems))
        benchmarks.append(Benchmark(file.stem, read_spec(file), task, problems, digest))
    return benchmarks


def generate_all(
    args: Namespace, store: Store, benchmarks: list[Benchmark], identity: Row, train_manifest: Row
) -> list[Row]:
    """Load the student and generate what is missing; return the rows of metrics.jsonl.

    The engine sees all requests before it generates: vLLM sizes its memory for the longest.
    """
    engine = load_engine(identity["name"], args.model, max(1, args.gpus), args.tensor_parallel)
    work = [(benchmark, build_requests(engine, benchmark, identity)) for benchmark in benchmarks]
    if identity["name"] != "stub":
        for benchmark, requests in work:
            if requests:
                check_prompt_parity(engine, benchmark, requests, args, train_manifest)
    return [
        speed
        for benchmark, requests in work
        for speed in generate_missing(engine, store, benchmark, requests)
    ]


def describe(benchmark: Benchmark, rows: list[SampleRow]) -> Row:
    """Return a benchmark's entry in the batch manifest; warn if no completion ended by itself."""
    if rows and all(row["finish"] == "length" for row in rows):
        log.warning(
            "warning: %s: all %d answers reached the limit of %d tokens;"
            " the student may never have learnt to end an answer",
            *(benchmark.name, len(rows), benchmark.request["max_tokens"]),
        )
    return {"benchmark": benchmark.name, "rows": len(rows), "sha256": checksum(rows)}


def work(args: Namespace) -> None:
    """Load the student only if the store lacks something; then write the batch manifest."""
    gpu_lock.acquire(args.gpus, args.manifest)
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    spec: EvaluateSpec = args.spec
    train_manifest = manifest.read(args.train_manifest)
    digest = model_digest(train_manifest)
    identity: Row = {**spec["engine"], "version": spec["version"]}
    benchmarks = read_benchmarks(args)
    speeds: list[Row] = []
    with Store(args.manifest.parent / "responses" / f"{digest}.sqlite") as store:
        if incomplete := [entry for entry in benchmarks if not store.rows(entry.digest)]:
            speeds = generate_all(args, store, incomplete, identity, train_manifest)
        entries = {entry.digest: describe(entry, store.rows(entry.digest)) for entry in benchmarks}
    if speeds:
        write_jsonl(args.manifest.parent / "metrics.jsonl", speeds)
    inputs = {"train": sha256_file(args.train_manifest)}
    facts = {"model": digest, "requests": entries}
    manifest.write(args.manifest, "evaluate", args.spec, inputs, [], facts=facts)


def main(argv: list[str] | None = None) -> int:
    """Run `python -m gapgrid.stages.evaluate --spec … MODEL TRAIN MANIFEST --requests …`."""
    parser = stage_parser("evaluate", __doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--gpus", type=int, default=0, help="how many GPUs the job requested")
    parser.add_argument(
        "--tensor-parallel",
        type=int,
        help="engine vllm: GPUs per copy of the student (default: all of them)",
    )
    parser.add_argument(
        "--base",
        type=Path,
        help="the student before training, whose chat template it was trained with",
    )
    for name in ("model", "train_manifest", "manifest"):
        parser.add_argument(name, type=Path)
    for name in ("--requests", "--tasks", "--problems"):
        parser.add_argument(name, type=Path, nargs="+", required=True)
    return run_stage(parser, work, argv)


if __name__ == "__main__":
    raise SystemExit(main())
