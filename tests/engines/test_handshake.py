"""The handshake: every way in which a student can be asked otherwise than it was trained stops the run with both texts."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gapgrid.demo import arithmetic
from gapgrid.engines import handshake, harness
from gapgrid.engines.harness import Harness
from gapgrid.records import InputError, Row, read_json, write_json
from gapgrid.responses import Question

TASK = Path(__file__).parents[2] / "config/demo/tasks/story.yaml"
TRAINED: Row = {"stage": "train", "spec": {"recipe": {"method": "full"}}}
UNTOUCHED: Row = {"stage": "base", "spec": {"recipe": {"format": "text"}}}
ADOPTED: Row = {"stage": "train", "spec": {"adopted": {"hub": "someone/model"}}}
ADDS_BOS = {
    "type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": "<unk>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
    "special_tokens": {"<unk>": {"id": "<unk>", "ids": [4], "tokens": ["<unk>"]}},
}
PROBLEMS = [{**row, "gold": row["answer"], "doc_id": index} for index, row in enumerate(arithmetic.benchmark(2, 2, 5))]
MESSAGE = harness.user_message(TASK, PROBLEMS)
Change = Callable[..., Path]


@pytest.fixture
def changed(student: Path, tmp_path: Path) -> Change:
    """`changed(name, tokenizer_config.json's keys, tokenizer.json's keys, generation_config.json's keys)`: a copy of a student."""

    def copy(name: str = "model", words: Row | None = None, tokens: Row | None = None, generation: Row | None = None) -> Path:
        folder = tmp_path / name
        shutil.copytree(student, folder)
        files = {"tokenizer_config.json": words, "tokenizer.json": tokens, "generation_config.json": generation}
        for file, keys in files.items():
            write_json(folder / file, {**read_json(folder / file), **(keys or {})})
        return folder

    return copy


def shake(folder: Path, base: Path | None = None, trained: Row = TRAINED, **settings: Any) -> None:
    """Load a student and check it."""
    engine = Harness(folder)
    asked = engine.questions(TASK, PROBLEMS, {"max_tokens": 12})[0]
    handshake.check(engine, asked._replace(settings={**asked.settings, **settings}), MESSAGE, trained, base)


def test_the_message_is_what_the_task_asks() -> None:
    assert PROBLEMS[0]["problem"] == MESSAGE


@pytest.mark.parametrize("trained", [TRAINED, UNTOUCHED], ids=["trained", "untouched"])
def test_a_student_that_is_asked_as_it_was_trained_passes(student: Path, trained: Row, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="gapgrid"):
        shake(student, student, trained)
        shake(student, None, trained)
    assert caplog.records == []


def test_training_ends_in_the_end_of_text(student: Path) -> None:
    tokenizer = Harness(student).tokenizer
    prompt, answer = handshake.trained_on(tokenizer, "ann has", {"format": "chat"})
    assert tokenizer.decode(prompt) == "<|user|> ann has <|assistant|>"
    assert tokenizer.decode(answer) == "1 <|im_end|>"
    assert handshake.trained_on(tokenizer, "ann has", {"format": "text"})[0] == []


# ---- each fault ----


def test_another_chat_template(student: Path, changed: Change) -> None:
    template = arithmetic.CHAT_TEMPLATE.replace("<|user|> ", "<|user|> solve ")
    with pytest.raises(InputError, match="chat template is not its base's: they differ from character 77 on") as told:
        shake(changed(words={"chat_template": template}), student)
    assert "'<|user|> '" in str(told.value) and "'<|user|> solve '" in str(told.value)
    assert "copy chat_template" in str(told.value)


def test_a_message_that_becomes_other_tokens(student: Path, changed: Change) -> None:
    dots = {"type": "Replace", "pattern": {"String": " ."}, "content": ""}
    with pytest.raises(InputError, match=r"render the same message differently, from token \d+ on \(\d+ '\.' and ") as told:
        shake(changed(tokens={"normalizer": dots}), student)
    lines = str(told.value).splitlines()
    assert lines[1].startswith("  training:   '<|user|> ") and " . " in lines[1]
    assert lines[2].startswith("  evaluation: '<|user|> ") and " . " not in lines[2]
    assert lines[3] == "make tokenizer.json and the chat template of the student those of its base"


def test_a_bos_that_evaluation_alone_adds(changed: Change) -> None:
    folder = changed(words={"bos_token": "<unk>"}, tokens={"post_processor": ADDS_BOS})
    with pytest.raises(InputError, match=r"from token 1 on \(1 '<\|user\|>' and 4 '<unk>'\)") as told:
        shake(folder, folder)
    assert "the tokenizer adds special tokens by itself and the chat template does not write them" in str(told.value)


def test_a_bos_from_the_template_and_another_from_the_tokenizer(changed: Change) -> None:
    # A blank before it hides it from lm-eval, which looks at the start of the text.
    words = {"bos_token": "<unk>", "chat_template": " {{ bos_token }} " + arithmetic.CHAT_TEMPLATE}
    folder = changed(words=words, tokens={"post_processor": ADDS_BOS})
    with pytest.raises(InputError, match=r"(?s)has 2 BOS tokens '<unk>', expected one.*evaluation: '<unk>.*<unk>.*<\|user\|>"):
        shake(folder, folder)
    with pytest.raises(InputError, match="has 2 BOS tokens"):
        shake(folder, folder, UNTOUCHED)


def test_a_bos_from_the_template_alone_passes(changed: Change) -> None:
    words = {"bos_token": "<unk>", "chat_template": "{{ bos_token }} " + arithmetic.CHAT_TEMPLATE}
    folder = changed(words=words, tokens={"post_processor": ADDS_BOS})
    shake(folder, folder)


def test_a_bos_that_nothing_writes_passes(changed: Change) -> None:
    folder = changed(words={"bos_token": "<unk>"})
    shake(folder, folder)


def test_an_end_of_text_that_evaluation_does_not_know(student: Path, changed: Change) -> None:
    other = changed(generation={"eos_token_id": 0})
    with pytest.raises(InputError, match=r"ends an answer with 3 '<\|im_end\|>', evaluation stops at 0 '<\|endoftext\|>'") as told:
        shake(other, student, until=[])
    assert "add 3 to eos_token_id in generation_config.json" in str(told.value)
    with pytest.raises(InputError, match="no answer would end"):
        shake(other, student)  # the task's stop string is the tokenizer's end: lm-eval leaves it to the model
    shake(changed("several", generation={"eos_token_id": [0, 3]}), student, until=[])


def test_a_stop_string_of_one_token_is_an_end(student: Path) -> None:
    engine = Harness(student)
    asked = Question(0, 0, "", "", "<|user|> ann <|assistant|>", {"until": "mon"})
    engine.model.model.generation_config.eos_token_id = None
    mon = engine.tokenizer("mon")["input_ids"][0]
    handshake._check_end(engine, asked, [5, mon])
    with pytest.raises(InputError, match=r"evaluation stops at \d+ 'mon'"):
        handshake._check_end(engine, asked, [5, 3])


def test_a_long_text_is_shown_where_it_differs() -> None:
    text = "a" * 3000 + "here" + "b" * 3000
    assert "here" in handshake._shown(text, 3000) and "here" not in handshake._shown(text)
    assert handshake._shown(text).endswith("a'…") and handshake._shown(text, 6000).startswith("…'")
    assert handshake._shown("short", 3) == "'short'"


# ---- the untouched student, and what is only said ----


@pytest.mark.parametrize("trained", [UNTOUCHED, ADOPTED], ids=["untouched", "adopted"])
def test_a_student_that_was_not_trained_here_is_warned_of(
    student: Path, changed: Change, caplog: pytest.LogCaptureFixture, trained: Row
) -> None:
    shake(changed(generation={"eos_token_id": 0}), student, trained, until=[])
    assert "handshake of a student that was not trained here: training ends an answer with 3" in caplog.text


def test_a_template_that_training_refuses_stops_trained_students_alone(
    student: Path, changed: Change, caplog: pytest.LogCaptureFixture
) -> None:
    folder = changed(words={"chat_template": arithmetic.CHAT_TEMPLATE.replace(" <|im_end|>", "")})
    with pytest.raises(InputError, match="it would never stop"):
        shake(folder, folder)
    shake(folder, folder, UNTOUCHED)
    assert "it would never stop" in caplog.text


def test_no_chat_template_is_one_message(student: Path, changed: Change) -> None:
    folder = changed()
    words = json.loads((folder / "tokenizer_config.json").read_text())
    del words["chat_template"]
    write_json(folder / "tokenizer_config.json", words)
    with pytest.raises(InputError, match="no chat template"):
        shake(folder)
