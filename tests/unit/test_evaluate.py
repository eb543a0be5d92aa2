"""evaluate: each question is asked once, whatever breaks, is added or is taken away."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gapgrid import allotment, evaluate, manifest
from gapgrid.records import InputError, read_jsonl, sha256_text, write_json, write_jsonl
from gapgrid.responses import Answer, Question, Store

Runner = Callable[..., int]
SPEC = {"stage": "evaluate", "version": 1, "engine": {"name": "stub"}}


class CountingEngine:
    """Answers predictably, counts what it is asked, and can die before a given batch."""

    batch_rows = 4

    def __init__(self) -> None:
        self.loads = 0
        self.gpus: tuple[int, int | None] | None = None
        self.seen: list[str] = []
        self.asked: list[list[Question]] = []
        self.dies_before: int | None = None

    def questions(self, task: Path, problems: list[dict[str, Any]], request: dict[str, Any]) -> list[Question]:
        """A prompt holds the task and the problem."""
        self.seen.append(task.stem)
        if request["max_tokens"] > 100:
            raise InputError(f"{task.name}: too long")
        settings = {"max_tokens": request["max_tokens"]}
        prompts = [(row, f"{task.read_text()}: {row['problem']}") for row in problems]
        return [
            Question(row["doc_id"], repeat, row["problem"], row["gold"], prompt, settings)
            for row, prompt in prompts
            for repeat in range(request.get("repeats", 1))
        ]

    def answer(self, questions: list[Question]) -> list[Answer]:
        """The prompt, repeat and cap again."""
        if self.dies_before is not None and len(self.asked) == self.dies_before:
            raise OSError(5, "the device is gone")
        self.asked.append(questions)
        return [Answer(f"{asked.prompt} {asked.repeat}", "stop", asked.settings["max_tokens"]) for asked in questions]

    def forget(self) -> None:
        """Count from nothing."""
        self.loads, self.asked, self.dies_before = 0, [], None

    @property
    def keys(self) -> list[str]:
        """What has been asked, in order."""
        return [asked.key for batch in self.asked for asked in batch]


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> CountingEngine:
    """The engine that the stage will load."""
    counting = CountingEngine()

    def load(name: str, model: Path, gpus: int, tensor_parallel: int | None) -> CountingEngine:
        counting.loads += 1
        counting.gpus = (gpus, tensor_parallel)
        return counting

    monkeypatch.setattr(evaluate, "load_engine", load)
    return counting


class Workplace:
    """A training cell and its benchmarks on disk."""

    def __init__(self, folder: Path, student: Path, run: Runner) -> None:
        self.folder, self.student, self.run = folder, student, run

    def benchmark(self, name: str, n: int = 10, task: str = "story", **request: Any) -> str:
        """Write a benchmark's request, task and problems."""
        content = {"stage": "request", "max_tokens": 20, **request}
        (self.folder / f"{name}.yaml").write_text(task)
        self.request(name).write_text(f"{json.dumps(content)}\n{sha256_text(task)}\n")
        rows = [{"doc_id": index, "problem": "p" * (1 + index % 3) + str(index), "gold": [str(index)]} for index in range(n)]
        write_jsonl(self.folder / f"{name}.jsonl", rows)
        return name

    def request(self, name: str) -> Path:
        """A benchmark's request file."""
        return self.folder / f"{name}.spec"

    def arguments(self, *names: str, out: str = "evaluate") -> list[str]:
        """What comes after the spec on the command line."""
        files = [self.student / "model", self.student / "manifest.json", self.folder / out / "manifest.json", "--requests"]
        files += [self.request(name) for name in names]
        files += ["--tasks", *(self.folder / f"{name}.yaml" for name in names)]
        return list(map(str, [*files, "--problems", *(self.folder / f"{name}.jsonl" for name in names)]))

    def evaluate(self, *names: str, spec: dict[str, Any] = SPEC, out: str = "evaluate") -> int:
        """Run the stage for these benchmarks; its exit status."""
        return self.run(evaluate, spec, *self.arguments(*names, out=out))

    def stamp(self, out: str = "evaluate") -> dict[str, Any]:
        """The manifest."""
        return manifest.read(self.folder / out / "manifest.json")

    def rows(self, name: str, out: str = "evaluate") -> list[dict[str, Any]]:
        """A benchmark's rows as the stamp says that the store holds them."""
        facts = self.stamp(out)["facts"]
        (digest,) = [digest for digest, served in facts["requests"].items() if served["benchmark"] == name]
        with Store(self.folder / out / "responses" / f"{facts['model']}.sqlite", must_exist=True) as store:
            return store.rows(digest)


@pytest.fixture
def place(tmp_path: Path, student: Path, run: Runner) -> Workplace:
    """An empty workplace."""
    return Workplace(tmp_path, student, run)


# ---- batches ----


def questions(*lengths: int, repeats: int = 1) -> list[Question]:
    """Questions with prompts of these lengths."""
    return [Question(index, repeat, "", "", "x" * length, {}) for index, length in enumerate(lengths) for repeat in range(repeats)]


def test_batches_go_from_long_to_short() -> None:
    laid = evaluate.batches(questions(3, 9, 5, 7, 1), 2)
    assert [[len(asked.prompt) for asked in batch] for batch in laid] == [[9, 7], [5, 3], [1]]


def test_batches_keep_repeats_apart() -> None:
    laid = evaluate.batches(questions(3, 2, 1, repeats=2), 2)
    assert [[asked.repeat for asked in batch] for batch in laid] == [[0, 0], [0], [1, 1], [1]]


def test_batches_do_not_depend_on_the_order_of_questions() -> None:
    asked = [question._replace(prompt=f"prompt {question.doc_id}") for question in questions(5, 5, 5, 5, 5, repeats=2)]
    assert evaluate.batches(asked, 3) == evaluate.batches(asked[::-1], 3)


def test_more_repeats_leave_the_first_batches_as_they_are() -> None:
    fewer, more = evaluate.batches(questions(5, 4, 3), 2), evaluate.batches(questions(5, 4, 3, repeats=3), 2)
    assert more[: len(fewer)] == fewer


# ---- what is asked ----


def test_the_first_run_asks_everything_once(place: Workplace, engine: CountingEngine) -> None:
    names = [place.benchmark("a"), place.benchmark("b", task="tale")]
    assert place.evaluate(*names) == 0
    assert engine.loads == 1
    assert len(engine.keys) == len(set(engine.keys)) == 20
    assert [len(batch) for batch in engine.asked] == [4, 4, 2, 4, 4, 2]
    served = place.stamp()["facts"]["requests"].values()
    assert {(entry["benchmark"], entry["rows"]) for entry in served} == {("a", 10), ("b", 10)}


def test_rows_are_in_the_order_of_problems_with_their_own_answers(place: Workplace, engine: CountingEngine) -> None:
    place.evaluate(place.benchmark("a", repeats=2))
    problems = read_jsonl(place.folder / "a.jsonl")
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
        for row in problems
        for repeat in range(2)
    ]


def test_a_second_run_loads_no_student_and_writes_the_same_stamp(place: Workplace, engine: CountingEngine) -> None:
    place.evaluate(place.benchmark("a"))
    stamp = (place.folder / "evaluate" / "manifest.json").read_bytes()
    engine.forget()
    assert place.evaluate("a") == 0
    assert (engine.loads, engine.asked) == (0, [])
    assert (place.folder / "evaluate" / "manifest.json").read_bytes() == stamp


def test_a_new_benchmark_asks_its_own_questions(place: Workplace, engine: CountingEngine) -> None:
    place.evaluate(place.benchmark("a"))
    before = place.rows("a")
    engine.forget()
    place.evaluate("a", place.benchmark("b", n=3, task="tale"))
    assert len(engine.keys) == 3
    assert {asked.prompt.split(":")[0] for batch in engine.asked for asked in batch} == {"tale"}
    assert place.rows("a") == before


def test_a_benchmark_less_asks_nothing(place: Workplace, engine: CountingEngine) -> None:
    place.evaluate(place.benchmark("a"), place.benchmark("b", task="tale"))
    engine.forget()
    assert place.evaluate("b") == 0
    assert engine.loads == 0
    assert [entry["benchmark"] for entry in place.stamp()["facts"]["requests"].values()] == ["b"]


def test_a_new_cap_asks_that_benchmark_again_and_the_old_answers_stay(place: Workplace, engine: CountingEngine) -> None:
    place.evaluate(place.benchmark("a"), place.benchmark("b", task="tale"))
    engine.forget()
    place.benchmark("a", max_tokens=30)
    place.evaluate("a", "b")
    assert len(engine.keys) == 10
    assert {row["n_tokens"] for row in place.rows("a")} == {30}
    assert {row["n_tokens"] for row in place.rows("b")} == {20}
    engine.forget()
    place.benchmark("a", max_tokens=20)
    place.evaluate("a", "b")
    assert engine.asked == []
    assert {row["n_tokens"] for row in place.rows("a")} == {20}


def test_more_repeats_ask_the_new_ones(place: Workplace, engine: CountingEngine) -> None:
    place.evaluate(place.benchmark("a"))
    first = place.rows("a")
    engine.forget()
    place.benchmark("a", repeats=3)
    place.evaluate("a")
    assert sorted((asked.doc_id, asked.repeat) for batch in engine.asked for asked in batch) == [(d, r) for d in range(10) for r in (1, 2)]
    assert [row for row in place.rows("a") if row["repeat"] == 0] == first
    engine.forget()
    place.benchmark("a", repeats=2)
    place.evaluate("a")
    assert engine.asked == []
    assert len(place.rows("a")) == 20


def test_another_problem_asks_that_problem(place: Workplace, engine: CountingEngine) -> None:
    place.evaluate(place.benchmark("a", n=10))
    engine.forget()
    place.evaluate(place.benchmark("a", n=11))
    assert [asked.doc_id for batch in engine.asked for asked in batch] == [10]
    assert len(place.rows("a")) == 11


def test_a_changed_reference_answer_asks_nothing_and_is_seen(place: Workplace, engine: CountingEngine) -> None:
    place.evaluate(place.benchmark("a", n=2))
    engine.forget()
    write_jsonl(place.folder / "a.jsonl", [{**row, "gold": "other"} for row in read_jsonl(place.folder / "a.jsonl")])
    place.evaluate("a")
    assert engine.asked == []
    assert [row["gold"] for row in place.rows("a")] == ["other", "other"]


def test_another_task_text_asks_anew(place: Workplace, engine: CountingEngine) -> None:
    place.evaluate(place.benchmark("a"))
    engine.forget()
    place.evaluate(place.benchmark("a", task="tale"))
    assert len(engine.keys) == 10


def test_two_benchmarks_that_ask_the_same_ask_once(place: Workplace, engine: CountingEngine) -> None:
    place.evaluate(place.benchmark("a", n=10), place.benchmark("b", n=6))
    assert len(engine.keys) == len(set(engine.keys)) == 10
    assert [row["response"] for row in place.rows("b")] == [row["response"] for row in place.rows("a")[:6]]


def test_a_problem_that_is_there_twice_is_asked_once(place: Workplace, engine: CountingEngine) -> None:
    place.benchmark("a", n=3)
    rows = read_jsonl(place.folder / "a.jsonl")
    write_jsonl(place.folder / "a.jsonl", [*rows, {**rows[0], "doc_id": 3}])
    place.evaluate("a")
    assert len(engine.keys) == 3
    found = place.rows("a")
    assert [row["doc_id"] for row in found] == [0, 1, 2, 3]
    assert found[3]["response"] == found[0]["response"]


@pytest.mark.parametrize(
    "spec", [{**SPEC, "version": 2}, {**SPEC, "engine": {"name": "stub", "torch": "3"}}], ids=["stage version", "engine version"]
)
def test_another_version_asks_anew(place: Workplace, engine: CountingEngine, spec: dict[str, Any]) -> None:
    place.evaluate(place.benchmark("a"))
    engine.forget()
    # What the rule does: the version is in the request as well.
    place.benchmark("a", version=json.dumps(spec))
    place.evaluate("a", spec=spec)
    assert len(engine.keys) == 10


def test_another_student_has_a_store_of_its_own(place: Workplace, engine: CountingEngine) -> None:
    place.evaluate(place.benchmark("a"))
    engine.forget()
    write_json(place.student / "model" / "config.json", {"stub": "trained longer"})
    manifest.write(place.student / "manifest.json", "train", {"version": 1}, {}, ["model"])
    place.evaluate("a")
    assert len(engine.keys) == 10
    assert len(list((place.folder / "evaluate" / "responses").iterdir())) == 2


# ---- how the engine is used ----


def test_all_benchmarks_are_seen_before_the_first_is_answered(place: Workplace, engine: CountingEngine) -> None:
    names = [place.benchmark("a"), place.benchmark("b", task="tale")]
    engine.dies_before = 0
    assert place.evaluate(*names) == 1
    assert engine.seen == ["a", "b"]


def test_gpus_reach_the_engine_and_nothing_else(place: Workplace, engine: CountingEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allotment, "take", lambda n_gpus, cards: ["0", "1", "2", "3"][:n_gpus])
    place.evaluate(place.benchmark("a"))
    assert engine.gpus == (1, None)
    stamp = (place.folder / "evaluate" / "manifest.json").read_bytes()
    arguments = place.arguments("a", out="many")
    assert place.run(evaluate, SPEC, "--gpus", "4", "--tensor-parallel", "2", *arguments) == 0
    assert engine.gpus == (4, 2)
    assert (place.folder / "many" / "manifest.json").read_bytes() == stamp


def test_a_refused_benchmark_is_named_and_nothing_is_answered(
    place: Workplace, engine: CountingEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    assert place.evaluate(place.benchmark("a"), place.benchmark("b", max_tokens=101)) == 1
    assert capsys.readouterr().err.splitlines()[-1] == "error: benchmark 'b': b.yaml: too long"
    assert engine.asked == []


def test_a_student_that_never_ends_is_warned_of(place: Workplace, engine: CountingEngine, caplog: pytest.LogCaptureFixture) -> None:
    names = [place.benchmark("a", n=3), place.benchmark("b", n=2, task="tale")]
    real = engine.answer
    engine.answer = lambda asked: [  # type: ignore[method-assign]
        answer._replace(finish="length" if "tale" in answer.response else answer.finish) for answer in real(asked)
    ]
    assert place.evaluate(*names) == 0
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [
        "warning: b: all 2 answers reached the cap of 20 tokens; the student may never have learnt to end an answer"
    ]
    caplog.clear()
    assert place.evaluate(*names) == 0
    assert "warning: b: all 2 answers" in caplog.text, "said again by a run that asks nothing"


@pytest.mark.parametrize("name", ["hf", "vllm"])
def test_a_student_is_asked_only_after_the_handshake(
    place: Workplace, engine: CountingEngine, monkeypatch: pytest.MonkeyPatch, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(engine: Any, request: evaluate.Request, asked: list[Question], args: Any, trained: dict[str, Any]) -> None:
        assert (request.benchmark, len(asked), args.base, trained["stage"]) == ("a", 10, None, "train")
        raise InputError("handshake: no")

    monkeypatch.setattr(evaluate, "shake_hands", refuse)
    assert place.evaluate(place.benchmark("a"), spec={**SPEC, "engine": {"name": name}}) == 1
    assert capsys.readouterr().err.splitlines()[-1] == "error: handshake: no"
    assert engine.asked == []


# ---- what breaks ----


def test_a_dead_engine_loses_the_batch_in_flight_alone(
    place: Workplace, engine: CountingEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [place.benchmark("a"), place.benchmark("b", task="tale")]
    place.evaluate(*names, out="undisturbed")
    laid = [[asked.key for asked in batch] for batch in engine.asked]
    engine.forget()

    engine.dies_before = 4
    assert place.evaluate(*names) == 1
    assert "the device is gone" in capsys.readouterr().err
    assert not (place.folder / "evaluate" / "manifest.json").exists()
    assert [[asked.key for asked in batch] for batch in engine.asked] == laid[:4]

    engine.forget()
    assert place.evaluate(*names) == 0
    assert [[asked.key for asked in batch] for batch in engine.asked] == laid[4:]
    assert (place.folder / "evaluate" / "manifest.json").read_bytes() == (place.folder / "undisturbed" / "manifest.json").read_bytes()


KILLED = """
import os, signal, sys
from gapgrid import evaluate
from gapgrid.engines import stub
stub.Answerer.batch_rows = 2
n_batches = 0
def answer(self, questions):
    global n_batches
    n_batches += 1
    if n_batches == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return [self._one(question) for question in questions]
stub.Answerer.answer = answer
sys.exit(evaluate.main(sys.argv[1:]))
"""


def test_a_killed_job_goes_on_where_it_stopped(place: Workplace) -> None:
    name = place.benchmark("a")
    assert place.evaluate(name, out="undisturbed") == 0
    command = [sys.executable, "-c", KILLED, "--spec", json.dumps(SPEC), *place.arguments(name)]
    assert subprocess.run(command, env=os.environ, timeout=60).returncode == -signal.SIGKILL
    assert not (place.folder / "evaluate" / "manifest.json").exists()
    (store,) = (place.folder / "evaluate" / "responses").glob("*.sqlite")
    with Store(store) as kept:
        assert kept.connection.execute("select count(*) from answers").fetchone() == (4,)
    assert place.evaluate(name) == 0
    assert (place.folder / "evaluate" / "manifest.json").read_bytes() == (place.folder / "undisturbed" / "manifest.json").read_bytes()


def test_a_store_that_is_gone_is_filled_again_to_the_same_stamp(place: Workplace, engine: CountingEngine) -> None:
    place.evaluate(place.benchmark("a"))
    stamp = (place.folder / "evaluate" / "manifest.json").read_bytes()
    for store in (place.folder / "evaluate" / "responses").iterdir():
        store.unlink()
    place.evaluate("a")
    assert (place.folder / "evaluate" / "manifest.json").read_bytes() == stamp


def test_a_broken_store_is_one_message(place: Workplace, engine: CountingEngine, capsys: pytest.CaptureFixture[str]) -> None:
    place.evaluate(place.benchmark("a"))
    (store,) = (place.folder / "evaluate" / "responses").glob("*.sqlite")
    store.write_bytes(b"broken" * 1000)
    capsys.readouterr()
    assert place.evaluate("a") == 1
    assert capsys.readouterr().err.startswith(f"error: {store}: not a response store (")


def test_uneven_lists_are_refused(place: Workplace, engine: CountingEngine, capsys: pytest.CaptureFixture[str]) -> None:
    place.benchmark("a")
    arguments = place.arguments("a")
    arguments.append(arguments[-1])
    assert place.run(evaluate, SPEC, *arguments) == 1
    assert "need the same number of files" in capsys.readouterr().err


# ---- the stub engine, as rehearsals use it ----


def test_the_stub_answers_in_every_way_a_student_can(place: Workplace) -> None:
    assert place.evaluate(place.benchmark("a", n=200)) == 0
    rows = place.rows("a")
    right = [row for row in rows if row["response"] == f"Final Answer: \\boxed{{ {row['gold']} }}"]
    assert 40 < len(right) < 150
    assert {row["finish"] for row in rows} == {"stop", "length"}
    assert any("boxed" not in row["response"] and row["finish"] == "stop" for row in rows)
    assert all(row["n_tokens"] == 20 for row in rows if row["finish"] == "length")


def test_the_stub_answers_by_student_question_and_settings(place: Workplace) -> None:
    place.evaluate(place.benchmark("a", n=50))
    first = [row["response"] for row in place.rows("a")]
    place.evaluate("a", out="again")
    assert [row["response"] for row in place.rows("a", "again")] == first
    place.benchmark("a", n=50, max_tokens=30)
    place.evaluate("a")
    assert [row["response"] for row in place.rows("a")] != first


def test_the_stamp_names_nothing_of_the_machine(place: Workplace) -> None:
    place.evaluate(place.benchmark("a"))
    assert str(place.folder) not in (place.folder / "evaluate" / "manifest.json").read_text()
