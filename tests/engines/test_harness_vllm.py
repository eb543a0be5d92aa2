"""The vLLM engine: how our settings become its arguments, with a stand-in for it; and the real one wherever it is installed."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gapgrid import evaluate, manifest
from gapgrid.demo import arithmetic
from gapgrid.engines import harness, harness_vllm, tiny
from gapgrid.engines.harness_vllm import VLLMHarness
from gapgrid.records import InputError, Row, read_json, write_json, write_jsonl
from gapgrid.responses import Store

TASK = Path(__file__).parents[2] / "config/demo/tasks/story.yaml"
REAL = importlib.util.find_spec("vllm") is not None
needs_vllm = pytest.mark.skipif(not REAL, reason="vllm is in the gpu environment alone: it and the CPU environment exclude each other")

# Answers with the prompt's words after its first token, and then an end of text: cut at the cap like a real answer.
STAND_IN = """
import json, os, pathlib
from types import SimpleNamespace
SEEN = pathlib.Path(__file__).with_name("seen.jsonl")

def note(**row):
    with SEEN.open("a") as file:
        file.write(json.dumps(row) + "\\n")

def SamplingParams(**options):
    return options

class LLM:
    def __init__(self, **options):
        note(load=options, devices=os.environ.get("CUDA_VISIBLE_DEVICES"))
        self.llm_engine = SimpleNamespace(engine_core=SimpleNamespace(shutdown=lambda: note(shut=True)))

    def generate(self, prompts, params, use_tqdm):
        note(asked=[prompt["prompt_token_ids"] for prompt in prompts], params=params)
        if os.environ.get("STAND_IN_DIES"):
            os._exit(9)
        return [self.one(prompt["prompt_token_ids"], params) for prompt, params in zip(prompts, params)]

    def one(self, ids, params):
        reply = [*ids[1:-1], params["stop_token_ids"][0]]
        finish = os.environ.get("STAND_IN_FINISH") or ("stop" if len(reply) <= params["max_tokens"] else "length")
        return SimpleNamespace(outputs=[SimpleNamespace(token_ids=tuple(reply[: params["max_tokens"]]), finish_reason=finish)])
"""


class StandIn:
    """A module that stands in for vllm, and what it was called with."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "seen.jsonl"

    def rows(self, key: str) -> list[Row]:
        """The calls that noted something under this key."""
        lines = self.file.read_text().splitlines() if self.file.is_file() else []
        return [row for row in map(json.loads, lines) if key in row]

    def loads(self, key: str) -> list[Any]:
        """One argument of every load."""
        return [row["load"][key] for row in self.rows("load")]


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    """`import vllm` gives the stand-in, here and in processes started from here."""
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "vllm.py").write_text(STAND_IN)
    real = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == "vllm"}
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    yield StandIn(folder)
    sys.modules.pop("vllm", None)
    sys.modules.update(real)


@pytest.fixture(scope="module")
def problems() -> list[Row]:
    """Some benchmark problems."""
    return [{**row, "gold": row["answer"], "doc_id": index} for index, row in enumerate(arithmetic.benchmark(10, 2, 5))]


def task(folder: Path, **generation: Any) -> Path:
    """A task file with these generation settings."""
    file = folder / "own.yaml"
    write_json(
        file,
        {
            "task": "own",
            "output_type": "generate_until",
            "test_split": "test",
            "doc_to_text": "{{problem}}",
            "doc_to_target": "{{gold}}",
            "generation_kwargs": generation,
        },
    )
    return file


# ---- what is asked ----


def test_questions_are_those_of_the_other_engine(student: Path, problems: list[Row], stand_in: StandIn) -> None:
    request = {"max_tokens": 12, "repeats": 2, "sampling": {"temperature": 0.7, "top_p": 0.9, "seed": 3}}
    other = harness.Harness(student)
    one = VLLMHarness(student)
    assert one.questions(TASK, problems, request) == other.questions(TASK, problems, request)
    assert (one.max_length, one.longest) == (other.max_length, other.longest)
    prompts = [question.prompt for question in one.questions(TASK, problems, request)]
    assert one.prompt_ids(prompts) == other.prompt_ids(prompts)
    assert one.end_ids() == other.end_ids()
    assert stand_in.rows("load") == [], "loaded before all questions are known"


def test_greedy_arguments(student: Path, problems: list[Row], stand_in: StandIn) -> None:
    one = VLLMHarness(student)
    asked = one.questions(TASK, problems, {"max_tokens": 12})
    answers = one.answer(asked)
    (load,) = stand_in.rows("load")
    assert load["load"] == {
        "model": str(student),
        "dtype": "float32",
        "tensor_parallel_size": 1,
        "max_model_len": one.longest,
        "enable_prefix_caching": False,
        "seed": 0,
    }
    (call,) = stand_in.rows("asked")
    assert call["asked"] == one.tokenizer([question.prompt for question in asked])["input_ids"]
    end = one.tokenizer.eos_token_id
    assert call["params"][0] == {
        "temperature": 0.0,
        "max_tokens": 12,
        "stop": ["<|im_end|>"],
        "stop_token_ids": [end],
        "seed": call["params"][0]["seed"],
        "skip_special_tokens": False,
        "spaces_between_special_tokens": False,
    }
    for question, answer in zip(asked, answers, strict=True):
        words = question.problem.split()
        assert answer.response == " ".join(words[:12])
        assert (answer.finish, answer.n_tokens) == (("stop", len(words) + 1) if len(words) < 12 else ("length", 12))


def test_sampled_arguments_and_a_seed_for_each_question(student: Path, problems: list[Row], stand_in: StandIn, tmp_path: Path) -> None:
    file = task(tmp_path, until=[], top_k=20, repetition_penalty=1.1)
    one = VLLMHarness(student)
    request = {"max_tokens": 12, "repeats": 2, "sampling": {"temperature": 0.7, "top_p": 0.9, "seed": 3}}
    asked = one.questions(file, problems, request)
    one.answer(asked)
    one.answer(asked[5:7])
    whole, part = [call["params"] for call in stand_in.rows("asked")]
    fixed = {key: whole[0][key] for key in ("temperature", "top_p", "top_k", "repetition_penalty", "stop")}
    assert fixed == {"temperature": 0.7, "top_p": 0.9, "top_k": 20, "repetition_penalty": 1.1, "stop": []}
    seeds = [params["seed"] for params in whole]
    assert len(set(seeds)) == 20, "a question and repeat share a seed with another"
    assert [params["seed"] for params in part] == seeds[5:7], "a batch's neighbours change a seed"
    other = one.questions(file, problems, {**request, "sampling": {**request["sampling"], "seed": 4}})
    assert harness_vllm.sampling(other[0], [])["seed"] != seeds[0]


@pytest.mark.parametrize("until", [["mon"], "mon", ["nowhere", "mon"]])
def test_an_answer_ends_before_its_stop_string(
    student: Path, problems: list[Row], stand_in: StandIn, tmp_path: Path, until: list[str] | str
) -> None:
    one = VLLMHarness(student)
    asked = [
        question for question in one.questions(task(tmp_path, until=until), problems, {"max_tokens": 60}) if " mon " in question.problem
    ]
    answers = one.answer(asked)
    assert asked and [answer.response for answer in answers] == [question.problem.split("mon")[0] for question in asked]
    assert stand_in.rows("asked")[0]["params"][0]["stop"] == ([until] if isinstance(until, str) else until)


def test_a_setting_that_vllm_would_not_get_is_refused(student: Path, problems: list[Row], stand_in: StandIn, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"own.yaml: generation_kwargs num_beams: engine vllm knows .*top_k.* and until"):
        VLLMHarness(student).questions(task(tmp_path, until=[], num_beams=4), problems, {"max_tokens": 12})


def test_prompt_and_cap_must_fit(student: Path, problems: list[Row], stand_in: StandIn) -> None:
    with pytest.raises(InputError, match=r"longest prompt \d+ \+ max_tokens 10000 = \d+ tokens, the model takes 640"):
        VLLMHarness(student).questions(TASK, problems, {"max_tokens": 10000})


def test_one_load_for_all_benchmarks_with_room_for_the_longest(student: Path, problems: list[Row], stand_in: StandIn) -> None:
    one = VLLMHarness(student)
    short = one.questions(TASK, problems, {"max_tokens": 12})
    long = one.questions(TASK, problems, {"max_tokens": 100})
    one.answer(short)
    one.answer(long)
    assert stand_in.loads("max_model_len") == [one.longest]
    one.answer(one.questions(TASK, problems, {"max_tokens": 600}))
    assert stand_in.loads("max_model_len")[1:] == [one.longest] and len(stand_in.rows("shut")) == 1


def test_ends_of_both_files(student: Path, tmp_path: Path, stand_in: StandIn) -> None:
    import shutil

    folder = tmp_path / "model"
    shutil.copytree(student, folder)
    end = read_json(folder / "config.json")["eos_token_id"]
    write_json(folder / "generation_config.json", {"eos_token_id": [0, 5]})
    assert VLLMHarness(folder).end_ids() == {0, 5, end}
    (folder / "generation_config.json").unlink()
    assert VLLMHarness(folder).end_ids() == {end}


def test_an_answer_that_vllm_gave_up_on_is_not_kept(
    student: Path, problems: list[Row], stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN_FINISH", "abort")
    one = VLLMHarness(student)
    with pytest.raises(InputError, match=r"vLLM gave up on the question '.*' \(abort\)"):
        one.answer(one.questions(TASK, problems, {"max_tokens": 12}))


def test_without_vllm_the_engine_says_so(student: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(InputError, match="engine vllm needs vllm"):
        VLLMHarness(student)


def test_the_stage_loads_this_engine(student: Path, stand_in: StandIn) -> None:
    one = evaluate.load_engine("vllm", student, 2, 1)
    assert isinstance(one, VLLMHarness) and (one.split, one.copies) == (1, 2)


# ---- several GPUs ----


@pytest.mark.parametrize(
    ("gpus", "tensor_parallel", "split", "copies"), [(0, None, 1, 1), (1, None, 1, 1), (2, None, 2, 1), (4, 2, 2, 2), (3, 1, 1, 3)]
)
def test_gpus_hold_one_copy_or_several(
    student: Path, stand_in: StandIn, gpus: int, tensor_parallel: int | None, split: int, copies: int
) -> None:
    one = VLLMHarness(student, gpus, tensor_parallel)
    assert (one.split, one.copies) == (split, copies)


@pytest.mark.parametrize(
    ("gpus", "tensor_parallel", "expected"),
    [(4, 3, "4 GPUs cannot be shared out 3 to a copy"), (4, None, "2 attention heads cannot be split over 4 GPUs")],
)
def test_gpus_that_do_not_fit(student: Path, stand_in: StandIn, gpus: int, tensor_parallel: int | None, expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        VLLMHarness(student, gpus, tensor_parallel)


def test_devices_are_those_that_the_job_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert harness_vllm.devices(2, 2) == ["0,1", "2,3"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5,6")
    assert harness_vllm.devices(3, 1) == ["3", "5", "6"]
    with pytest.raises(InputError, match="4 GPUs asked for, CUDA_VISIBLE_DEVICES names 3"):
        harness_vllm.devices(2, 2)


def test_copies_share_a_batch_and_answer_as_one_would(student: Path, problems: list[Row], stand_in: StandIn) -> None:
    asked = VLLMHarness(student).questions(TASK, problems, {"max_tokens": 12})
    alone = VLLMHarness(student)
    alone.questions(TASK, problems, {"max_tokens": 12})
    expected = alone.answer(asked)
    two = VLLMHarness(student, 2, 1)
    two.questions(TASK, problems, {"max_tokens": 12})
    assert two.answer(asked) == expected
    assert two.answer(asked[:1]) == expected[:1], "one question leaves a copy idle"
    assert two.engine is not None
    two.engine.close()
    assert [row["devices"] for row in stand_in.rows("load")[1:]] in (["0", "1"], ["1", "0"])
    assert sorted(len(call["asked"]) for call in stand_in.rows("asked")) == [1, 5, 5, 10]


def test_a_copy_that_dies_is_one_message(student: Path, problems: list[Row], stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAND_IN_DIES", "1")
    two = VLLMHarness(student, 2, 1)
    asked = two.questions(TASK, problems, {"max_tokens": 12})
    with pytest.raises(InputError, match="a vLLM process has ended, its message is above"):
        two.answer(asked)


ORPHANS = """
import sys
if __name__ == "__main__":
    from pathlib import Path
    from gapgrid.engines.harness_vllm import Copies
    two = Copies({"model": "none"}, ["0", "1"])
    two.ask([([1, 2, 3], {"max_tokens": 5, "stop_token_ids": [0]})] * 2)
    print(*[process.pid for process in two.processes], flush=True)
    if sys.argv[1] == "raise":
        raise KeyboardInterrupt
    if sys.argv[1] == "wait":
        sys.stdin.read()
"""


@pytest.mark.parametrize("end", ["raise", "wait"])
def test_copies_end_with_the_job_however_it_ends(stand_in: StandIn, tmp_path: Path, end: str) -> None:
    script = tmp_path / "script.py"
    script.write_text(ORPHANS)
    paths = os.pathsep.join([str(stand_in.file.parent), str(Path(evaluate.__file__).parents[1])])
    command = [sys.executable, str(script), end]
    job = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": paths}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert job.stdout is not None
    pids = job.stdout.readline().split()
    assert len(pids) == 2
    if end == "wait":
        job.kill()
    job.wait(timeout=60)
    until = time.monotonic() + 60
    while any(Path(f"/proc/{pid}").is_dir() for pid in pids) and time.monotonic() < until:
        time.sleep(0.1)
    assert not [pid for pid in pids if Path(f"/proc/{pid}").is_dir()]


# ---- the real one, on a CPU too (its attention there takes heads of 32 and more) ----


REQUESTS = {
    "greedy": {"max_tokens": 40},
    "stops": {"max_tokens": 40},
    "sampled": {"max_tokens": 30, "repeats": 2, "sampling": {"temperature": 0.9, "top_p": 0.95, "seed": 3}},
}


@pytest.fixture(scope="module")
def real_cell(tmp_path_factory: pytest.TempPathFactory, tokenizer_folder: Path) -> Path:
    """A training cell with a model that vLLM takes, answered by transformers; a stop string that some of its answers hold."""
    folder = tmp_path_factory.mktemp("cell")
    tiny.build({"hidden_size": 64, "layers": 2, "heads": 2, "ffn": 96}, tokenizer_folder, 0, folder / "model")
    manifest.write(folder / "manifest.json", "train", {"version": 1}, {}, ["model"])
    rows = [{**row, "gold": row["answer"], "doc_id": index} for index, row in enumerate(arithmetic.benchmark(40, 4, 5))]
    for name, request in REQUESTS.items():
        write_jsonl(folder / f"{name}.jsonl", rows)
        (folder / f"{name}.spec").write_text(f"{json.dumps(request)}\n{name}\n")  # the second line stands for the task's digest
    assert evaluate.main(arguments(folder, "hf", "hf", ["greedy"])) == 0
    answers = [set(row["response"].split()) for row in rows_of(folder, "hf")["greedy"]]
    words = sorted(set.union(*answers))
    task(folder, until=[min(words, key=lambda word: abs(sum(word in answer for answer in answers) - len(answers) / 2))])
    return folder


def arguments(cell: Path, engine: str, out: str, names: list[str]) -> list[str]:
    """Of the stage over these benchmarks."""
    spec = json.dumps({"stage": "evaluate", "version": 1, "engine": {"name": engine}})
    places = [f"{cell}/model", f"{cell}/manifest.json", f"{cell}/{out}/manifest.json"]
    tasks = [str(cell / "own.yaml" if name == "stops" else TASK) for name in names]
    requests, problems = ([f"{cell}/{name}.{end}" for name in names] for end in ("spec", "jsonl"))
    return ["--spec", spec, *places, "--requests", *requests, "--problems", *problems, "--tasks", *tasks]


def rows_of(cell: Path, out: str) -> dict[str, list[Row]]:
    """Benchmark -> its rows in the store."""
    facts = manifest.read(cell / out / "manifest.json")["facts"]
    with Store(cell / out / "responses" / f"{facts['model']}.sqlite", must_exist=True) as store:
        return {served["benchmark"]: store.rows(digest) for digest, served in facts["requests"].items()}


RUN = """
import os, signal, sys
if __name__ == "__main__":
    from gapgrid import evaluate
    from gapgrid.engines.harness_vllm import VLLMHarness
    VLLMHarness.batch_rows = 16
    real, dies_at, calls = VLLMHarness.answer, int(sys.argv[1]), []
    def answer(self, questions):
        calls.append(questions)
        if len(calls) == dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(self, questions)
    VLLMHarness.answer = answer
    sys.exit(evaluate.main(sys.argv[2:]))
"""


def run(cell: Path, out: str, dies_at: int = 0) -> int:
    """The stage with vLLM in a process of its own; its exit status."""
    script = cell / "run.py"
    script.write_text(RUN)
    settings = {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
    workflow = str(Path(evaluate.__file__).parents[1])
    command = [sys.executable, str(script), str(dies_at), *arguments(cell, "vllm", out, list(REQUESTS))]
    return subprocess.run(command, env={**os.environ, **settings, "PYTHONPATH": workflow}, timeout=900).returncode


@pytest.fixture(scope="module")
def answered(real_cell: Path) -> dict[str, list[Row]]:
    """The real vLLM's answers, from one undisturbed run."""
    assert run(real_cell, "vllm") == 0
    return rows_of(real_cell, "vllm")


@needs_vllm
@pytest.mark.slow
def test_vllm_answers_greedily_as_transformers_does(real_cell: Path, answered: dict[str, list[Row]]) -> None:
    pairs = list(zip(answered["greedy"], rows_of(real_cell, "hf")["greedy"], strict=True))
    assert sum(ours == theirs for ours, theirs in pairs) >= 0.95 * len(pairs), "more than rounding"
    assert len({ours["response"] for ours, _ in pairs}) > 5, "the case is too easy"


@needs_vllm
@pytest.mark.slow
def test_vllm_stops_before_a_stop_string(real_cell: Path, answered: dict[str, list[Row]]) -> None:
    (stop,) = read_json(real_cell / "own.yaml")["generation_kwargs"]["until"]
    for row, whole in zip(answered["stops"], answered["greedy"], strict=True):
        before, *after = whole["response"].split(stop)
        assert row["response"] == before
        if after:
            assert row["finish"] == "stop" and row["n_tokens"] <= whole["n_tokens"]
        else:
            assert (row["finish"], row["n_tokens"]) == (whole["finish"], whole["n_tokens"])
    assert {row["finish"] for row in answered["stops"]} == {"stop", "length"}, "the case is too easy"


@needs_vllm
@pytest.mark.slow
def test_vllm_draws_each_repeat_by_its_own_seed(answered: dict[str, list[Row]]) -> None:
    pairs = zip(answered["sampled"][::2], answered["sampled"][1::2], strict=True)
    assert sum(one["response"] != other["response"] for one, other in pairs) > 30


@needs_vllm
@pytest.mark.slow
def test_vllm_killed_and_run_again_ends_with_the_same_answers(real_cell: Path, answered: dict[str, list[Row]]) -> None:
    assert run(real_cell, "killed", dies_at=5) == -signal.SIGKILL
    (store,) = (real_cell / "killed" / "responses").glob("*.sqlite")
    with Store(store) as kept:
        # Four batches: 16, 16 and 8 of the first benchmark, 16 of the second.
        assert kept.connection.execute("select count(*) from answers").fetchone() == (56,)
    assert run(real_cell, "killed") == 0
    assert rows_of(real_cell, "killed") == answered
