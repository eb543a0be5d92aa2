"""evaluate: each completion is generated once, whatever breaks, is added or is removed."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gapgrid.core import gpu_lock, manifest
from gapgrid.core.records import InputError, Row, read_jsonl, sha256_text, write_json, write_jsonl
from gapgrid.core.rows import ProblemRow, SampleRow
from gapgrid.core.spec_types import RequestSpec
from gapgrid.stages import evaluate
from gapgrid.stores.responses import Completion, GenerationRequest, Store

Runner = Callable[..., int]
SPEC = {"stage": "evaluate", "version": 1, "engine": {"name": "stub"}}


class CountingEngine:
    """Generates predictably, counts its requests, and can fail before a given batch."""

    batch_rows = 4

    def __init__(self) -> None:
        self.gpus: tuple[int, int | None] | None = None
        self.seen: list[str] = []
        self.forget()

    def forget(self) -> None:
        """Count from zero."""
        self.n_loads = 0
        self.batches: list[list[GenerationRequest]] = []
        self.fails_before: int | None = None

    def build_requests(
        self, task: Path, problems: list[ProblemRow], request: RequestSpec
    ) -> list[GenerationRequest]:
        """A prompt holds the task and the problem."""
        self.seen.append(task.stem)
        if request["max_tokens"] > 100:
            raise InputError(f"{task.name}: too long")
        settings = {"max_tokens": request["max_tokens"]}
        prompts = [(row, f"{task.read_text()}: {row['problem']}") for row in problems]
        return [
            GenerationRequest(row["doc_id"], repeat, row["problem"], row["gold"], prompt, settings)
            for row, prompt in prompts
            for repeat in range(request.get("repeats", 1))
        ]

    def generate(self, requests: list[GenerationRequest]) -> list[Completion]:
        """Prompt and repeat again; as many tokens as allowed. A task `endless` never ends."""
        if self.fails_before is not None and len(self.batches) == self.fails_before:
            raise OSError(5, "the device is gone")
        self.batches.append(requests)
        return [
            Completion(
                f"{row.prompt} {row.repeat}",
                "length" if row.prompt.startswith("endless") else "stop",
                row.settings["max_tokens"],
            )
            for row in requests
        ]

    @property
    def requests(self) -> list[GenerationRequest]:
        """All requests that it got, in order."""
        return [row for batch in self.batches for row in batch]

    @property
    def keys(self) -> list[list[str]]:
        """The keys of every batch."""
        return [[row.key for row in batch] for batch in self.batches]


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> CountingEngine:
    """The engine that the stage will load."""
    counting = CountingEngine()

    def load(name: str, model: Path, gpus: int, tensor_parallel: int | None) -> CountingEngine:
        counting.n_loads += 1
        counting.gpus = (gpus, tensor_parallel)
        return counting

    monkeypatch.setattr(evaluate, "load_engine", load)
    return counting


class Workplace:
    """A training cell and its benchmarks on disk."""

    def __init__(self, folder: Path, student: Path, run: Runner) -> None:
        self.folder, self.student, self.run = folder, student, run

    def benchmark(self, name: str, n: int = 10, task: str = "story", **request: Any) -> str:
        """Write a benchmark's request, task and problems; return its name."""
        content = {"stage": "request", "max_tokens": 20, **request}
        (self.folder / f"{name}.yaml").write_text(task)
        (self.folder / f"{name}.spec").write_text(f"{json.dumps(content)}\n{sha256_text(task)}\n")
        rows = [
            {"doc_id": index, "problem": "p" * (1 + index % 3) + str(index), "gold": [str(index)]}
            for index in range(n)
        ]
        write_jsonl(self.folder / f"{name}.jsonl", rows)
        return name

    def manifest(self, out: str = "evaluate") -> Path:
        """The batch manifest's path."""
        return self.folder / out / "manifest.json"

    def arguments(self, *names: str, out: str = "evaluate") -> list[str]:
        """What comes after the spec on the command line."""
        arguments = [self.student / "model", self.student / "manifest.json", self.manifest(out)]
        for option, ending in (("requests", "spec"), ("tasks", "yaml"), ("problems", "jsonl")):
            arguments += [f"--{option}", *(self.folder / f"{name}.{ending}" for name in names)]
        return [str(argument) for argument in arguments]

    def evaluate(self, *names: str, spec: Row = SPEC, out: str = "evaluate") -> int:
        """Run the stage for these benchmarks; return its exit status."""
        return self.run(evaluate, spec, *self.arguments(*names, out=out))

    def entries(self, out: str = "evaluate") -> dict[str, Row]:
        """The batch manifest's entries by benchmark, each with its `digest`."""
        requests = manifest.read(self.manifest(out))["facts"]["requests"]
        return {row["benchmark"]: {**row, "digest": digest} for digest, row in requests.items()}

    def stores(self, out: str = "evaluate") -> list[Path]:
        """The response stores."""
        return list((self.folder / out / "responses").iterdir())

    def rows(self, name: str, out: str = "evaluate") -> list[SampleRow]:
        """A benchmark's rows in the store that the batch manifest names."""
        model = manifest.read(self.manifest(out))["facts"]["model"]
        path = self.manifest(out).parent / "responses" / f"{model}.sqlite"
        with Store(path, must_exist=True) as store:
            return store.rows(self.entries(out)[name]["digest"])


@pytest.fixture
def place(tmp_path: Path, student: Path, run: Runner) -> Workplace:
    """An empty workplace."""
    return Workplace(tmp_path, student, run)


@pytest.fixture
def finished(place: Workplace, engine: CountingEngine) -> Workplace:
    """A workplace whose benchmarks `a` and `b`, of different tasks, are answered."""
    assert place.evaluate(place.benchmark("a"), place.benchmark("b", task="tale")) == 0
    engine.forget()
    return place


# ---- batches ----


def requests(*lengths: int, repeats: int = 1) -> list[GenerationRequest]:
    """Requests with prompts of these lengths, all different."""
    return [
        GenerationRequest(index, repeat, "", "", f"{index}".ljust(length, "x"), {})
        for index, length in enumerate(lengths)
        for repeat in range(repeats)
    ]


def test_batches_go_from_long_to_short_with_repeats_apart() -> None:
    batches = evaluate.batches(requests(3, 9, 5, 7, 1), 2)
    assert [[len(row.prompt) for row in batch] for batch in batches] == [[9, 7], [5, 3], [1]]
    repeated = evaluate.batches(requests(3, 2, 1, repeats=2), 2)
    assert [[row.repeat for row in batch] for batch in repeated] == [[0, 0], [0], [1, 1], [1]]
    assert repeated[:2] == evaluate.batches(requests(3, 2, 1), 2), "more repeats change no batch"


def test_batches_do_not_depend_on_the_order_of_requests() -> None:
    rows = requests(5, 5, 5, 5, 5, repeats=2)
    assert evaluate.batches(rows, 3) == evaluate.batches(rows[::-1], 3)


# ---- what is generated ----


def test_the_first_run_generates_everything_once(place: Workplace, engine: CountingEngine) -> None:
    assert place.evaluate(place.benchmark("a", repeats=2), place.benchmark("b", task="tale")) == 0
    assert engine.n_loads == 1
    assert len({row.key for row in engine.requests}) == len(engine.requests) == 30
    assert [len(batch) for batch in engine.batches] == [4, 4, 2, 4, 4, 2, 4, 4, 2]
    assert {name: entry["rows"] for name, entry in place.entries().items()} == {"a": 20, "b": 10}
    assert place.rows("a") == [
        {
            "doc_id": row["doc_id"],
            "repeat": repeat,
            "problem": row["problem"],
            "gold": row["gold"],
            "prompt_sha": sha256_text(f"story: {row['problem']}"),
            "response": f"story: {row['problem']} {repeat}",
            "n_tokens": 20,
            "finish": "stop",
        }
        for row in read_jsonl(place.folder / "a.jsonl")
        for repeat in range(2)
    ]
    assert str(place.folder) not in place.manifest().read_text()


def test_a_second_run_loads_no_student_and_writes_the_same_bytes(
    finished: Workplace, engine: CountingEngine
) -> None:
    before = finished.manifest().read_bytes()
    assert finished.evaluate("a", "b") == 0
    assert engine.n_loads == 0
    assert finished.manifest().read_bytes() == before


def test_a_removed_benchmark_generates_nothing_and_a_new_one_its_own(
    finished: Workplace, engine: CountingEngine
) -> None:
    before = finished.rows("a")
    assert finished.evaluate("b") == 0
    assert engine.n_loads == 0 and list(finished.entries()) == ["b"]
    assert finished.evaluate("a", "b", finished.benchmark("c", n=3, task="fable")) == 0
    assert [row.prompt[:5] for row in engine.requests] == ["fable"] * 3
    assert finished.rows("a") == before


def test_a_new_cap_generates_that_benchmark_again_and_old_completions_stay(
    finished: Workplace, engine: CountingEngine
) -> None:
    for max_tokens, n_generated in ((30, 10), (20, 0)):
        engine.forget()
        finished.evaluate(finished.benchmark("a", max_tokens=max_tokens), "b")
        assert len(engine.requests) == n_generated
        assert {row["n_tokens"] for row in finished.rows("a")} == {max_tokens}
        assert {row["n_tokens"] for row in finished.rows("b")} == {20}


def test_more_repeats_generate_the_new_ones(finished: Workplace, engine: CountingEngine) -> None:
    first = finished.rows("a")
    finished.evaluate(finished.benchmark("a", repeats=3), "b")
    assert sorted((row.doc_id, row.repeat) for row in engine.requests) == [
        (doc_id, repeat) for doc_id in range(10) for repeat in (1, 2)
    ]
    assert [row for row in finished.rows("a") if row["repeat"] == 0] == first
    engine.forget()
    finished.evaluate(finished.benchmark("a", repeats=2), "b")
    assert engine.requests == []
    assert len(finished.rows("a")) == 20


def test_a_changed_reference_answer_generates_nothing_and_is_seen(
    finished: Workplace, engine: CountingEngine
) -> None:
    rows = read_jsonl(finished.folder / "a.jsonl")
    write_jsonl(finished.folder / "a.jsonl", [{**row, "gold": "other"} for row in rows])
    finished.evaluate("a", "b")
    assert engine.requests == []
    assert {row["gold"] for row in finished.rows("a")} == {"other"}


def test_a_new_problem_is_generated_alone_and_a_repeated_one_not_at_all(
    finished: Workplace, engine: CountingEngine
) -> None:
    finished.evaluate(finished.benchmark("a", n=11))
    assert [row.doc_id for row in engine.requests] == [10]
    engine.forget()
    rows = read_jsonl(finished.folder / "a.jsonl")
    write_jsonl(finished.folder / "a.jsonl", [*rows, {**rows[0], "doc_id": 11}])
    finished.evaluate("a")
    assert engine.requests == []
    after = finished.rows("a")
    assert after[11]["doc_id"] == 11 and after[11]["response"] == after[0]["response"]


def test_what_two_benchmarks_share_is_generated_once(
    place: Workplace, engine: CountingEngine
) -> None:
    place.evaluate(place.benchmark("a", n=10), place.benchmark("b", n=6))
    assert len(engine.requests) == 10
    responses = [[row["response"] for row in place.rows(name)] for name in "ab"]
    assert responses[1] == responses[0][:6]


@pytest.mark.parametrize(
    ("spec", "request_changes"),
    [
        ({**SPEC, "version": 2}, {"version": 2}),
        ({**SPEC, "engine": {"name": "stub", "torch": "3"}}, {"engine": "torch 3"}),
        (SPEC, {"task": "fable"}),
    ],
    ids=["stage version", "engine version", "task file"],
)
def test_another_version_or_task_generates_anew(
    finished: Workplace, engine: CountingEngine, spec: Row, request_changes: Row
) -> None:
    # As the rules do: the versions are in the request file as well.
    finished.evaluate(finished.benchmark("a", **request_changes), spec=spec)
    assert len(engine.requests) == 10


def test_another_student_has_a_store_of_its_own(
    finished: Workplace, engine: CountingEngine
) -> None:
    write_json(finished.student / "model" / "config.json", {"stub": "trained longer"})
    manifest.write(finished.student / "manifest.json", "train", {"version": 1}, {}, ["model"])
    finished.evaluate("a")
    assert len(engine.requests) == 10 and len(finished.stores()) == 2


# ---- how the engine is used ----


def test_all_benchmarks_are_seen_before_the_first_is_generated(
    place: Workplace, engine: CountingEngine
) -> None:
    engine.fails_before = 0
    assert place.evaluate(place.benchmark("a"), place.benchmark("b", task="tale")) == 1
    assert engine.seen == ["a", "b"]


def test_gpus_reach_the_engine_and_nothing_else(
    finished: Workplace, engine: CountingEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_lock, "acquire_gpus", lambda n_gpus, gpus: ["0", "1", "2", "3"])
    assert engine.gpus == (1, None)
    arguments = finished.arguments("a", "b", out="many")
    assert finished.run(evaluate, SPEC, "--gpus", "4", "--tensor-parallel", "2", *arguments) == 0
    assert engine.gpus == (4, 2)
    assert finished.manifest("many").read_bytes() == finished.manifest().read_bytes()


def test_a_refused_benchmark_is_named_and_nothing_is_generated(
    place: Workplace, engine: CountingEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    assert place.evaluate(place.benchmark("a"), place.benchmark("b", max_tokens=101)) == 1
    assert capsys.readouterr().err.splitlines()[-1] == "error: benchmark 'b': b.yaml: too long"
    assert engine.batches == []


def test_a_student_that_never_ends_an_answer_causes_a_warning(
    place: Workplace, engine: CountingEngine, caplog: pytest.LogCaptureFixture
) -> None:
    names = [place.benchmark("a", n=3), place.benchmark("b", n=2, task="endless")]
    for _ in range(2):  # also in a run that generates nothing
        caplog.clear()
        assert place.evaluate(*names) == 0
        assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [
            "warning: b: all 2 answers reached the limit of 20 tokens;"
            " the student may never have learnt to end an answer"
        ]


@pytest.mark.parametrize("name", ["hf", "vllm"])
def test_prompt_parity_is_checked_before_anything_is_generated(
    place: Workplace,
    engine: CountingEngine,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def refuse(
        engine: Any, benchmark: evaluate.Benchmark, requests: list[Any], args: Any, trained: Row
    ) -> None:
        facts = (benchmark.name, len(requests), args.base, trained["stage"])
        raise InputError(f"prompt parity: {facts}")

    monkeypatch.setattr(evaluate, "check_prompt_parity", refuse)
    assert place.evaluate(place.benchmark("a"), spec={**SPEC, "engine": {"name": name}}) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == "error: prompt parity: ('a', 10, None, 'train')"
    assert engine.batches == []


# ---- what breaks ----


def test_a_dead_engine_loses_the_batch_in_flight_alone(
    place: Workplace, engine: CountingEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [place.benchmark("a"), place.benchmark("b", task="tale")]
    place.evaluate(*names, out="undisturbed")
    keys = engine.keys
    engine.forget()

    engine.fails_before = 4
    assert place.evaluate(*names) == 1
    assert "the device is gone" in capsys.readouterr().err
    assert not place.manifest().exists()
    assert engine.keys == keys[:4]

    engine.forget()
    assert place.evaluate(*names) == 0
    assert engine.keys == keys[4:]
    assert place.manifest().read_bytes() == place.manifest("undisturbed").read_bytes()


KILLED = """
import os, signal, sys
from gapgrid.engines.stub import Answerer
from gapgrid.stages import evaluate
real, batches = Answerer.generate, []
def generate(self, requests):
    batches.append(requests)
    if len(batches) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(self, requests)
Answerer.batch_rows, Answerer.generate = 2, generate
sys.exit(evaluate.main(sys.argv[1:]))
"""


def test_a_killed_job_resumes_where_it_stopped(place: Workplace) -> None:
    name = place.benchmark("a")
    assert place.evaluate(name, out="undisturbed") == 0
    command = [sys.executable, "-c", KILLED, "--spec", json.dumps(SPEC), *place.arguments(name)]
    assert subprocess.run(command, timeout=60).returncode == -signal.SIGKILL
    assert not place.manifest().exists()
    with Store(place.stores()[0]) as store:
        assert store.query("select count(*) from answers") == [(4,)]
    assert place.evaluate(name) == 0
    assert place.manifest().read_bytes() == place.manifest("undisturbed").read_bytes()


def test_a_missing_store_is_filled_again_to_the_same_bytes(
    finished: Workplace, engine: CountingEngine
) -> None:
    before = finished.manifest().read_bytes()
    finished.stores()[0].unlink()
    finished.evaluate("a", "b")
    assert len(engine.requests) == 20
    assert finished.manifest().read_bytes() == before


def test_a_broken_store_is_one_message(
    finished: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    (store,) = finished.stores()
    store.write_bytes(b"broken" * 1000)
    capsys.readouterr()
    assert finished.evaluate("a") == 1
    assert capsys.readouterr().err.startswith(f"error: {store}: not a response store (")


def test_uneven_lists_are_refused(place: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = place.arguments(place.benchmark("a"))
    assert place.run(evaluate, SPEC, *arguments, arguments[-1]) == 1
    assert "need the same number of files" in capsys.readouterr().err


# ---- the stub engine, as rehearsals use it ----


def test_the_stub_answers_in_every_way_that_a_student_can(place: Workplace) -> None:
    assert place.evaluate(place.benchmark("a", n=200)) == 0
    rows = place.rows("a")
    assert 40 < sum(f"\\boxed{{ {row['gold']} }}" in row["response"] for row in rows) < 150
    assert {row["finish"] for row in rows} == {"stop", "length"}
    assert any("boxed" not in row["response"] and row["finish"] == "stop" for row in rows)
    assert all(row["n_tokens"] == 20 for row in rows if row["finish"] == "length")


def test_the_stub_depends_on_student_prompt_and_settings(place: Workplace) -> None:
    place.evaluate(place.benchmark("a", n=50))
    first = place.rows("a")
    place.evaluate("a", out="again")
    assert place.rows("a", "again") == first
    place.evaluate(place.benchmark("a", n=50, max_tokens=30))
    assert [row["response"] for row in place.rows("a")] != [row["response"] for row in first]
