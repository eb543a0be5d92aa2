"""Generating through lm-eval: finish reasons, token counts, resumption, and wrong task files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gapgrid.core.records import InputError, Row, write_jsonl
from gapgrid.engines import harness
from gapgrid.stages import evaluate
from gapgrid.stores.responses import Completion, GenerationRequest, Store
from tests.engines.helpers import TASK

SHORT: Any = {"max_tokens": 12}
TOO_LONG: Any = {"max_tokens": 10000}
Requests = list[GenerationRequest]


@pytest.fixture(scope="module")
def engine(student: Path) -> harness.Harness:
    return harness.Harness(student)


@pytest.fixture
def requests(engine: harness.Harness, problems: list[Any]) -> Requests:
    return engine.build_requests(TASK, problems, SHORT)


def test_prompts_go_through_the_chat_template(
    engine: harness.Harness, requests: Requests, problems: list[Row]
) -> None:
    prompts = [request.prompt for request in requests]
    assert prompts == [f"<|user|> {row['problem']} <|assistant|>" for row in problems]
    assert [request.gold for request in requests] == [row["answer"] for row in problems]
    settings = requests[0].settings
    assert settings["max_gen_toks"] == 12 and settings["do_sample"] is False
    assert engine.prompt_ids(prompts) == engine.tokenizer(prompts)["input_ids"]
    assert engine.end_ids() == {engine.tokenizer.eos_token_id}


def test_finish_and_length(engine: harness.Harness, requests: Requests) -> None:
    completions = engine.generate(requests)
    assert len(completions) == len(requests)
    for completion in completions:
        ids = engine.tokenizer(completion.response, add_special_tokens=False)["input_ids"]
        assert completion.finish in ("stop", "length") and len(ids) <= completion.n_tokens <= 12
        assert completion.finish == "stop" or completion.n_tokens == 12


def test_end_of_a_response(engine: harness.Harness) -> None:
    tokenizer, finish = engine.tokenizer, engine.model.finish
    end, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    word = tokenizer("mon", add_special_tokens=False)["input_ids"][0]
    assert finish([word, word, end, pad, pad], [], 5) == ("stop", 3)
    assert finish([word] * 5, [], 5) == ("length", 5)
    assert finish([word, word, pad, pad, pad], ["mon"], 5) == ("stop", 2)


def test_the_batch_does_not_change_a_response(engine: harness.Harness, requests: Requests) -> None:
    together = [completion.response for completion in engine.generate(requests)[:4]]
    assert [engine.generate([request])[0].response for request in requests[:4]] == together


def test_sampling_repeats_by_seed(engine: harness.Harness, problems: list[Any]) -> None:
    def sampled(seed: int) -> Requests:
        sampling = {"temperature": 1.0, "seed": seed}
        request: Any = {"max_tokens": 12, "repeats": 2, "sampling": sampling}
        return engine.build_requests(TASK, problems, request)

    requests = sampled(3)
    first, second = (
        [request for request in requests if request.repeat == repeat] for repeat in (0, 1)
    )
    assert len(first) == len(second) == 10
    completions = engine.generate(first)
    assert engine.generate(first) == completions
    responses = [completion.response for completion in engine.generate(second)]
    assert responses != [completion.response for completion in completions]
    assert [request.key for request in sampled(4)] != [request.key for request in requests]


@pytest.fixture
def easy(tmp_path: Path, problems: list[Row]) -> Callable[[Any], evaluate.Benchmark]:
    """`easy(request)`: a benchmark of the problems."""
    write_jsonl(tmp_path / "problems.jsonl", problems)
    return lambda request: evaluate.Benchmark(
        "easy", request, TASK, tmp_path / "problems.jsonl", "digest"
    )


def test_prompt_and_max_tokens_must_fit(
    engine: harness.Harness, easy: Callable[[Any], evaluate.Benchmark]
) -> None:
    message = (
        r"benchmark 'easy': .*story.yaml: longest prompt \d+ \+ max_tokens 10000 = \d+ tokens, "
        "the model takes 640"
    )
    with pytest.raises(InputError, match=message):
        evaluate.build_requests(engine, easy(TOO_LONG), {"name": "hf"})


def test_the_longest_prompt_is_kept(engine: harness.Harness, problems: list[Any]) -> None:
    requests = engine.build_requests(TASK, problems, {**SHORT, "max_tokens": 600})
    ids = engine.prompt_ids([request.prompt for request in requests])
    longest = engine.longest
    assert longest == max(map(len, ids)) + 600
    engine.build_requests(TASK, problems, SHORT)
    assert engine.longest == longest


def test_a_penalty_that_nobody_asked_for_changes_nothing(
    changed: Callable[..., Path], engine: harness.Harness, requests: Requests
) -> None:
    settings = {"repetition_penalty": 5.0, "do_sample": True, "temperature": 9.0}
    folder = changed(generation_config={**settings, "no_repeat_ngram_size": 1})
    assert harness.Harness(folder).generate(requests) == engine.generate(requests)


def test_generation_killed_between_batches_resumes(
    engine: harness.Harness,
    easy: Callable[[Any], evaluate.Benchmark],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engine, "batch_rows", 3)
    benchmark = easy(SHORT)
    requests = evaluate.build_requests(engine, benchmark, {"name": "hf"})
    with Store(tmp_path / "whole.sqlite") as store:
        speeds = list(evaluate.generate_missing(engine, store, benchmark, requests))
        assert [row["answers"] for row in speeds] == [3, 3, 3, 1]
        whole = store.rows("digest")
    n_calls = 0
    generate = engine.generate

    def die_in_the_third(requests: Requests) -> list[Completion]:
        nonlocal n_calls
        n_calls += 1
        if n_calls == 3:
            raise KeyboardInterrupt
        return generate(requests)

    monkeypatch.setattr(engine, "generate", die_in_the_third)
    with Store(tmp_path / "killed.sqlite") as store:
        with pytest.raises(KeyboardInterrupt):
            list(evaluate.generate_missing(engine, store, benchmark, requests))
        assert store.rows("digest") == []
        list(evaluate.generate_missing(engine, store, benchmark, requests))
        assert store.rows("digest") == whole
    assert n_calls == 5  # two batches kept, one lost, two more after it


CHOICES = "output_type: multiple_choice\ntest_split: test\ndoc_to_text: a\ndoc_to_target: 0"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("output_type: [", "cannot read"),
        (CHOICES, "refuses|expected generate"),
        ("output_type: generate\ntest_split: test\ndoc_to_text: '{{problem}}'", "output_type"),
    ],
)
def test_wrong_task_file(problems: list[Any], tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "story.yaml"
    file.write_text(f"task: story\n{text}\n")
    with pytest.raises(InputError, match=message):
        harness.load_task(file, problems)
