"""Answering through lm-eval: finish reasons, token counts, resumption, and the errors of a wrong task file."""

import shutil
from pathlib import Path

import pytest

from gapgrid import evaluate
from gapgrid.demo import arithmetic
from gapgrid.engines import harness
from gapgrid.records import InputError, Row, read_json, write_json, write_jsonl
from gapgrid.responses import Question, Store

TASK = Path(__file__).parents[2] / "config/demo/tasks/story.yaml"


@pytest.fixture(scope="module")
def problems() -> list[Row]:
    rows = arithmetic.benchmark(10, 2, 5)
    return [{**row, "gold": row["answer"], "doc_id": index} for index, row in enumerate(rows)]


@pytest.fixture(scope="module")
def engine(student: Path) -> harness.Harness:
    return harness.Harness(student)


def test_prompts_go_through_the_chat_template(engine: harness.Harness, problems: list[Row]) -> None:
    asked = engine.questions(TASK, problems, {"max_tokens": 12})
    assert [question.prompt for question in asked] == [f"<|user|> {row['problem']} <|assistant|>" for row in problems]
    assert [question.gold for question in asked] == [row["answer"] for row in problems]
    assert asked[0].settings["max_gen_toks"] == 12 and asked[0].settings["do_sample"] is False


def test_finish_and_length(engine: harness.Harness, problems: list[Row]) -> None:
    asked = engine.questions(TASK, problems, {"max_tokens": 12})
    answers = engine.answer(asked)
    assert len(answers) == len(asked)
    tokenizer = engine.model.tokenizer
    for answer in answers:
        n_words = len(tokenizer(answer.response, add_special_tokens=False)["input_ids"])
        if answer.finish == "length":
            assert answer.n_tokens == 12
        else:
            assert answer.n_tokens <= 12 and n_words <= answer.n_tokens
    assert {answer.finish for answer in answers} <= {"stop", "length"}


def test_end_of_an_answer(engine: harness.Harness) -> None:
    tokenizer = engine.model.tokenizer
    end, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    word = tokenizer("mon", add_special_tokens=False)["input_ids"][0]
    assert engine.model._end([word, word, end, pad, pad], [], 5) == ("stop", 3)
    assert engine.model._end([word] * 5, [], 5) == ("length", 5)
    assert engine.model._end([word, word, pad, pad, pad], ["mon"], 5) == ("stop", 2)


def test_batch_neighbours_do_not_change_an_answer(engine: harness.Harness, problems: list[Row]) -> None:
    asked = engine.questions(TASK, problems, {"max_tokens": 12})
    together = engine.answer(asked)
    assert [engine.answer([question])[0].response for question in asked[:4]] == [answer.response for answer in together[:4]]


def test_sampling_repeats_by_seed(engine: harness.Harness, problems: list[Row]) -> None:
    request = {"max_tokens": 12, "repeats": 2, "sampling": {"temperature": 1.0, "seed": 3}}
    asked = engine.questions(TASK, problems, request)
    assert len(asked) == 20 and {question.repeat for question in asked} == {0, 1}
    first = [question for question in asked if question.repeat == 0]
    second = [question for question in asked if question.repeat == 1]
    assert engine.answer(first) == engine.answer(first)
    assert [answer.response for answer in engine.answer(first)] != [answer.response for answer in engine.answer(second)]
    other = engine.questions(TASK, problems, {**request, "sampling": {"temperature": 1.0, "seed": 4}})
    assert [q.key for q in other] != [q.key for q in asked]


def test_prompt_and_cap_must_fit(engine: harness.Harness, problems: list[Row], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"max_tokens 10000 = \d+ tokens, the model takes 640"):
        engine.questions(TASK, problems, {"max_tokens": 10000})
    request = evaluate.Request("easy", {"max_tokens": 10000}, TASK, tmp_path / "problems.jsonl", "digest")
    write_jsonl(request.problems, problems)
    with pytest.raises(InputError, match=r"benchmark 'easy': .*story.yaml: longest prompt \d+ \+ max_tokens 10000"):
        evaluate.ask(engine, request, {"name": "hf"})


def test_the_longest_question_is_kept(engine: harness.Harness, problems: list[Row]) -> None:
    asked = engine.questions(TASK, problems, {"max_tokens": 600})
    assert engine.longest == max(len(ids) for ids in engine.prompt_ids([question.prompt for question in asked])) + 600
    before = engine.longest
    engine.questions(TASK, problems, {"max_tokens": 12})
    assert engine.longest == before


def test_prompts_become_tokens_as_lm_eval_feeds_them(engine: harness.Harness, problems: list[Row]) -> None:
    prompts = [question.prompt for question in engine.questions(TASK, problems, {"max_tokens": 12})]
    assert engine.prompt_ids(prompts) == engine.model.tokenizer(prompts)["input_ids"]
    assert engine.end_ids() == {engine.model.tokenizer.eos_token_id}


def test_a_penalty_that_nobody_asked_for_changes_nothing(
    student: Path, problems: list[Row], tmp_path: Path, engine: harness.Harness
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(student, folder)
    settings = {"repetition_penalty": 5.0, "do_sample": True, "temperature": 9.0, "no_repeat_ngram_size": 1}
    write_json(folder / "generation_config.json", {**read_json(folder / "generation_config.json"), **settings})
    asked = engine.questions(TASK, problems, {"max_tokens": 12})
    assert harness.Harness(folder).answer(asked) == engine.answer(asked)


@pytest.mark.parametrize(("ids", "expected"), [(None, set()), (3, {3}), ([3, 5], {3, 5}), (0, {0})])
def test_ends_as_configurations_write_them(ids: int | list[int] | None, expected: set[int]) -> None:
    assert harness.as_set(ids) == expected


def test_answers_killed_between_batches_go_on(
    engine: harness.Harness, problems: list[Row], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "batch_rows", 3)
    request = evaluate.Request("easy", {"max_tokens": 12}, TASK, tmp_path / "problems.jsonl", "digest")
    write_jsonl(request.problems, problems)
    with Store(tmp_path / "whole.sqlite") as store:
        asked = evaluate.ask(engine, request, {"name": "hf"})
        speeds = list(evaluate.answer_missing(engine, store, request, asked))
        assert [row["answers"] for row in speeds] == [3, 3, 3, 1]
        whole = store.rows("digest")
    n_calls = 0
    real = engine.answer

    def dies(questions: list[Question]) -> list[harness.Answer]:
        nonlocal n_calls
        n_calls += 1
        if n_calls == 3:
            raise KeyboardInterrupt
        return real(questions)

    monkeypatch.setattr(engine, "answer", dies)
    with Store(tmp_path / "killed.sqlite") as store:
        with pytest.raises(KeyboardInterrupt):
            list(evaluate.answer_missing(engine, store, request, asked))
        assert store.rows("digest") == []
        list(evaluate.answer_missing(engine, store, request, asked))
        assert store.rows("digest") == whole
    assert n_calls == 5  # two batches kept, one lost, two more after it


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("task: story\noutput_type: [", "cannot read"),
        ("task: story\noutput_type: multiple_choice\ntest_split: test\ndoc_to_text: a\ndoc_to_target: 0\n", "refuses|expected generate"),
        ('task: story\noutput_type: generate\ntest_split: test\ndoc_to_text: "{{problem}}"\n', "output_type"),
    ],
)
def test_wrong_task_file(problems: list[Row], tmp_path: Path, text: str, expected: str) -> None:
    file = tmp_path / "story.yaml"
    file.write_text(text)
    with pytest.raises(InputError, match=expected):
        harness.load_task(file, problems)
