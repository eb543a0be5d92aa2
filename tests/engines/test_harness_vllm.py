"""The vLLM engine: its arguments, with a stand-in for vLLM; and the real one where installed."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gapgrid.core import manifest
from gapgrid.core.records import InputError, Row, read_json, write_json, write_jsonl
from gapgrid.engines import harness, harness_vllm
from gapgrid.engines.harness_vllm import VLLMHarness
from gapgrid.stages import evaluate
from gapgrid.stores.responses import Completion, GenerationRequest, Store
from tests.engines.conftest import Calls
from tests.engines.helpers import STAND_IN, TASK, benchmark, wait_until

needs_vllm = pytest.mark.skipif(
    importlib.util.find_spec("vllm") is None,
    reason="vllm is in the gpu environment alone: it and the CPU environment exclude each other",
)
SAMPLING = {"temperature": 0.7, "top_p": 0.9, "seed": 3}
SAMPLED: Any = {"repeats": 2, "sampling": SAMPLING}


def own_task(folder: Path, **generation: Any) -> Path:
    """Return a task file with these generation settings."""
    file = folder / "own.yaml"
    settings = {
        "task": "own",
        "output_type": "generate_until",
        "test_split": "test",
        "doc_to_text": "{{problem}}",
        "doc_to_target": "{{gold}}",
        "generation_kwargs": generation,
    }
    write_json(file, settings)
    return file


class Unit:
    """Engines of the tiny student, their requests, and the calls of the stand-in for vLLM."""

    def __init__(self, vllm: Calls, student: Path, problems: list[Any]) -> None:
        self.calls, self.student, self.problems = vllm, student, problems

    def engine(self, gpus: int = 1, tensor_parallel: int | None = None) -> VLLMHarness:
        return VLLMHarness(self.student, gpus, tensor_parallel)

    def requests(
        self, engine: harness.LMEval, task: Path = TASK, **request: Any
    ) -> list[GenerationRequest]:
        return engine.build_requests(task, self.problems, {"max_tokens": 12, **request})


@pytest.fixture
def unit(vllm: Calls, student: Path, problems: list[Any]) -> Unit:
    return Unit(vllm, student, problems)


# ---- requests and arguments ----


def test_requests_are_those_of_the_other_engine(unit: Unit) -> None:
    other, engine = harness.Harness(unit.student), unit.engine()
    requests = unit.requests(engine, **SAMPLED)
    assert requests == unit.requests(other, **SAMPLED)
    assert (engine.max_length, engine.longest) == (other.max_length, other.longest)
    prompts = [request.prompt for request in requests]
    assert engine.prompt_ids(prompts) == other.prompt_ids(prompts)
    assert engine.end_ids() == other.end_ids()
    assert unit.calls.of("load") == [], "loaded before all requests are known"


def test_greedy_arguments(unit: Unit) -> None:
    engine = unit.engine()
    requests = unit.requests(engine)
    completions = engine.generate(requests)
    (load,) = unit.calls.of("load")
    assert load["load"] == {
        "model": str(unit.student),
        "dtype": "float32",
        "tensor_parallel_size": 1,
        "max_model_len": engine.longest,
        "enable_prefix_caching": False,
        "seed": 0,
    }
    (call,) = unit.calls.of("prompts")
    prompts = [request.prompt for request in requests]
    assert call["prompts"] == engine.tokenizer(prompts)["input_ids"]
    assert call["params"][0] == {
        "temperature": 0.0,
        "max_tokens": 12,
        "stop": ["<|im_end|>"],
        "stop_token_ids": [engine.tokenizer.eos_token_id],
        "seed": call["params"][0]["seed"],
        "skip_special_tokens": False,
        "spaces_between_special_tokens": False,
    }
    for request, completion in zip(requests, completions, strict=True):
        words = request.problem.split()
        n_tokens = len(words) + 1
        finish = ("stop", n_tokens) if n_tokens <= 12 else ("length", 12)
        assert completion == Completion(" ".join(words[:12]), *finish)


def test_sampled_arguments_and_a_seed_for_each_request(unit: Unit, tmp_path: Path) -> None:
    task = own_task(tmp_path, until=[], top_k=20, repetition_penalty=1.1)
    engine = unit.engine()
    requests = unit.requests(engine, task, **SAMPLED)
    engine.generate(requests)
    engine.generate(requests[5:7])
    whole, part = [call["params"] for call in unit.calls.of("prompts")]
    expected = {"temperature": 0.7, "top_p": 0.9, "top_k": 20, "repetition_penalty": 1.1}
    assert {key: whole[0][key] for key in (*expected, "stop")} == {**expected, "stop": []}
    seeds = [params["seed"] for params in whole]
    assert len(set(seeds)) == 20, "a request and repeat share a seed with another"
    assert [params["seed"] for params in part] == seeds[5:7], "the batch changes a seed"
    other = unit.requests(engine, task, repeats=2, sampling={**SAMPLING, "seed": 4})
    assert harness_vllm.sampling(other[0], [])["seed"] != seeds[0]


@pytest.mark.parametrize("until", [["mon"], "mon", ["nowhere", "mon"]])
def test_a_response_ends_before_its_stop_string(
    unit: Unit, tmp_path: Path, until: list[str] | str
) -> None:
    engine = unit.engine()
    requests = unit.requests(engine, own_task(tmp_path, until=until), max_tokens=60)
    with_stop = [request for request in requests if " mon " in request.problem]
    responses = [completion.response for completion in engine.generate(with_stop)]
    assert responses == [request.problem.split("mon")[0] for request in with_stop] != []
    stop = unit.calls.of("prompts")[0]["params"][0]["stop"]
    assert stop == ([until] if isinstance(until, str) else until)


def test_a_setting_that_vllm_would_not_get_is_refused(unit: Unit, tmp_path: Path) -> None:
    task = own_task(tmp_path, until=[], num_beams=4)
    message = r"own.yaml: generation_kwargs num_beams: engine vllm knows .*top_k.* and until"
    with pytest.raises(InputError, match=message):
        unit.requests(unit.engine(), task)


def test_one_load_for_all_benchmarks_fits_the_longest(unit: Unit) -> None:
    engine = unit.engine()
    for requests in [unit.requests(engine, max_tokens=n) for n in (12, 100)]:
        engine.generate(requests)
    assert unit.calls.max_model_lens() == [engine.longest]
    engine.generate(unit.requests(engine, max_tokens=600))
    assert (
        unit.calls.max_model_lens()[1:] == [engine.longest] and len(unit.calls.of("shutdown")) == 1
    )


def test_ends_of_both_files(unit: Unit, changed: Callable[..., Path]) -> None:
    folder = changed(generation_config={"eos_token_id": [0, 5]})
    end = read_json(folder / "config.json")["eos_token_id"]
    assert VLLMHarness(folder).end_ids() == {0, 5, end}
    (folder / "generation_config.json").unlink()
    assert VLLMHarness(folder).end_ids() == {end}


def test_a_completion_that_vllm_gave_up_on_is_not_kept(
    unit: Unit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN_FINISH", "abort")
    engine = unit.engine()
    with pytest.raises(InputError, match=r"vLLM gave up on the problem '.*' \(abort\)"):
        engine.generate(unit.requests(engine))


def test_without_vllm_the_engine_says_so(student: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(InputError, match="engine vllm needs vllm"):
        VLLMHarness(student)


# ---- several GPUs ----


@pytest.mark.parametrize(
    ("gpus", "tensor_parallel", "expected"),
    [(0, None, (1, 1)), (1, None, (1, 1)), (2, None, (2, 1)), (4, 2, (2, 2)), (3, 1, (1, 3))],
)
def test_gpus_hold_one_replica_or_several(
    unit: Unit, gpus: int, tensor_parallel: int | None, expected: tuple[int, int]
) -> None:
    engine = evaluate.load_engine("vllm", unit.student, gpus, tensor_parallel)
    assert isinstance(engine, VLLMHarness)
    assert (engine.tensor_parallel, engine.n_replicas) == expected


@pytest.mark.parametrize(
    ("tensor_parallel", "message"),
    [
        (3, "4 GPUs cannot be divided into replicas of 3 GPUs"),
        (None, "2 attention heads cannot be split over 4 GPUs"),
    ],
)
def test_gpus_that_do_not_fit(unit: Unit, tensor_parallel: int | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        unit.engine(4, tensor_parallel)


def test_devices_are_those_that_the_job_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert harness_vllm.device_groups(2, 2) == ["0,1", "2,3"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5,6")
    assert harness_vllm.device_groups(3, 1) == ["3", "5", "6"]
    with pytest.raises(InputError, match="4 GPUs requested, CUDA_VISIBLE_DEVICES names 3"):
        harness_vllm.device_groups(2, 2)


def test_replicas_share_a_batch_and_generate_as_one_would(unit: Unit) -> None:
    engine, pool = unit.engine(), unit.engine(2, 1)
    requests = unit.requests(engine)
    expected = engine.generate(requests)
    unit.requests(pool)
    assert pool.generate(requests) == expected
    assert pool.generate(requests[:1]) == expected[:1], "one request leaves a replica idle"
    assert pool.engine is not None
    pool.engine.close()
    assert sorted(row["devices"] for row in unit.calls.of("load")[1:]) == ["0", "1"]
    assert sorted(len(call["prompts"]) for call in unit.calls.of("prompts")) == [1, 5, 5, 10]


def test_a_replica_that_dies_is_one_message(unit: Unit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAND_IN_DIES", "1")
    pool = unit.engine(2, 1)
    with pytest.raises(InputError, match="a vLLM process has ended, its message is above"):
        pool.generate(unit.requests(pool))


ORPHANS = """
import sys
if __name__ == "__main__":
    from gapgrid.engines.harness_vllm import ReplicaPool
    pool = ReplicaPool({"model": "none"}, ["0", "1"])
    pool.generate([([1, 2, 3], {"max_tokens": 5, "stop_token_ids": [0]})] * 2)
    print(*[process.pid for process in pool.processes], flush=True)
    if sys.argv[1] == "raise":
        raise KeyboardInterrupt
    sys.stdin.read()
"""


@pytest.mark.parametrize("end", ["raise", "wait"])
def test_replicas_end_with_the_job_however_it_ends(unit: Unit, tmp_path: Path, end: str) -> None:
    script = tmp_path / "script.py"
    script.write_text(ORPHANS)
    job = subprocess.Popen(
        [sys.executable, str(script), end],
        env={**os.environ, "PYTHONPATH": str(STAND_IN)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert job.stdout is not None
    processes = [Path(f"/proc/{pid}") for pid in job.stdout.readline().split()]
    assert len(processes) == 2
    if end == "wait":
        job.kill()
    job.wait(timeout=60)
    wait_until(lambda: not any(map(Path.is_dir, processes)), "they outlive the job", 60)


# ---- the real one, on a CPU too (its attention there takes heads of 32 and more) ----


REQUESTS: dict[str, Row] = {
    "greedy": {"max_tokens": 40},
    "stops": {"max_tokens": 40},
    "sampled": {
        "max_tokens": 30,
        "repeats": 2,
        "sampling": {"temperature": 0.9, "top_p": 0.95, "seed": 3},
    },
}


@pytest.fixture(scope="module")
def real_cell(build: Callable[..., Path]) -> Path:
    """A training cell with a model that vLLM takes, and completions by transformers.

    Its task `own.yaml` has a stop string that about half of the responses hold.
    """
    folder = build(hidden_size=64, ffn=96).parent
    manifest.write(folder / "manifest.json", "train", {"version": 1}, {}, ["model"])
    for name, request in REQUESTS.items():
        write_jsonl(folder / f"{name}.jsonl", benchmark(40, 4))
        # The second line stands for the task's digest.
        (folder / f"{name}.spec").write_text(f"{json.dumps(request)}\n{name}\n")
    assert evaluate.main(arguments(folder, "hf", "hf", ["greedy"])) == 0
    responses = [set(row["response"].split()) for row in rows_of(folder, "hf")["greedy"]]
    counts = {
        word: sum(word in words for words in responses) for word in sorted(set.union(*responses))
    }
    half = len(responses) / 2
    own_task(folder, until=[min(counts, key=lambda word: abs(counts[word] - half))])
    return folder


def arguments(cell: Path, engine: str, out: str, names: list[str]) -> list[str]:
    """Return the arguments of the stage over these benchmarks."""
    spec = json.dumps({"stage": "evaluate", "version": 1, "engine": {"name": engine}})
    files = [f"{cell}/model", f"{cell}/manifest.json", f"{cell}/{out}/manifest.json"]
    tasks = [str(cell / "own.yaml" if name == "stops" else TASK) for name in names]
    requests, problems = ([f"{cell}/{name}.{end}" for name in names] for end in ("spec", "jsonl"))
    lists = ["--requests", *requests, "--problems", *problems, "--tasks", *tasks]
    return ["--spec", spec, *files, *lists]


def rows_of(cell: Path, out: str) -> dict[str, list[Any]]:
    """Return each benchmark's rows in the store."""
    facts = manifest.read(cell / out / "manifest.json")["facts"]
    with Store(cell / out / "responses" / f"{facts['model']}.sqlite", must_exist=True) as store:
        requests = facts["requests"].items()
        return {served["benchmark"]: store.rows(digest) for digest, served in requests}


RUN = """
import os, signal, sys
if __name__ == "__main__":
    from gapgrid.engines.harness_vllm import VLLMHarness
    from gapgrid.stages import evaluate
    VLLMHarness.batch_rows = 16
    real, dies_at, calls = VLLMHarness.generate, int(sys.argv[1]), []
    def generate(self, requests):
        calls.append(requests)
        if len(calls) == dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(self, requests)
    VLLMHarness.generate = generate
    sys.exit(evaluate.main(sys.argv[2:]))
"""


def run(cell: Path, out: str, dies_at: int = 0) -> int:
    """Run the stage with vLLM in a process of its own; return its exit status."""
    script = cell / "run.py"
    script.write_text(RUN)
    settings = {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
    environment = {**os.environ, **settings}
    command = [sys.executable, str(script), str(dies_at)]
    command += arguments(cell, "vllm", out, list(REQUESTS))
    return subprocess.run(command, env=environment, timeout=900).returncode


@pytest.fixture(scope="module")
def generated(real_cell: Path) -> dict[str, list[Any]]:
    """The real vLLM's completions, from one undisturbed run."""
    assert run(real_cell, "vllm") == 0
    return rows_of(real_cell, "vllm")


@needs_vllm
@pytest.mark.slow
def test_vllm_generates_greedily_as_transformers_does(real_cell: Path, generated: Any) -> None:
    pairs = list(zip(generated["greedy"], rows_of(real_cell, "hf")["greedy"], strict=True))
    assert sum(ours == theirs for ours, theirs in pairs) >= 0.95 * len(pairs), "more than rounding"
    assert len({ours["response"] for ours, _ in pairs}) > 5, "the case is too easy"


@needs_vllm
@pytest.mark.slow
def test_vllm_stops_before_a_stop_string(real_cell: Path, generated: Any) -> None:
    (stop,) = read_json(real_cell / "own.yaml")["generation_kwargs"]["until"]
    for row, whole in zip(generated["stops"], generated["greedy"], strict=True):
        before, *after = whole["response"].split(stop)
        assert row["response"] == before
        if after:
            assert row["finish"] == "stop" and row["n_tokens"] <= whole["n_tokens"]
        else:
            assert (row["finish"], row["n_tokens"]) == (whole["finish"], whole["n_tokens"])
    finishes = {row["finish"] for row in generated["stops"]}
    assert finishes == {"stop", "length"}, "the case is too easy"


@needs_vllm
@pytest.mark.slow
def test_vllm_draws_each_repeat_by_its_own_seed(generated: Any) -> None:
    responses = [row["response"] for row in generated["sampled"]]
    pairs = zip(responses[::2], responses[1::2], strict=True)
    assert sum(first != second for first, second in pairs) > 30


@needs_vllm
@pytest.mark.slow
def test_vllm_killed_and_run_again_ends_with_the_same_completions(
    real_cell: Path, generated: Any
) -> None:
    assert run(real_cell, "killed", dies_at=5) == -signal.SIGKILL
    (store,) = (real_cell / "killed" / "responses").glob("*.sqlite")
    with Store(store) as kept:
        # Four batches: 16, 16 and 8 of the first benchmark, 16 of the second.
        assert kept.connection.execute("select count(*) from answers").fetchone() == (56,)
    assert run(real_cell, "killed") == 0
    assert rows_of(real_cell, "killed") == generated
