"""Every way in which a student can be prompted otherwise than it was trained stops the run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gapgrid.core.records import InputError, Row, read_json, write_json
from gapgrid.demo.arithmetic import CHAT_TEMPLATE
from gapgrid.engines import harness, prompt_parity
from gapgrid.engines.harness import Harness
from gapgrid.stores.responses import GenerationRequest
from tests.engines.helpers import TASK

TRAINED: Row = {"stage": "train", "spec": {"recipe": {"method": "full"}}}
UNTOUCHED: Row = {"stage": "base", "spec": {"recipe": {"format": "text"}}}
ADOPTED: Row = {"stage": "train", "spec": {"adopt": {"hub": "someone/model"}}}
ADDS_BOS = {
    "type": "TemplateProcessing",
    "single": [
        {"SpecialToken": {"id": "<unk>", "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}},
    ],
    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
    "special_tokens": {"<unk>": {"id": "<unk>", "ids": [4], "tokens": ["<unk>"]}},
}


def template(text: str) -> Row:
    return {"tokenizer_config": {"chat_template": text}}


def with_bos(before: str, adds: bool = True) -> Row:
    """Return files of a student with a BOS that its tokenizer adds, after a template's start."""
    words = {"bos_token": "<unk>", "chat_template": before + CHAT_TEMPLATE}
    return {"tokenizer_config": words, "tokenizer": {"post_processor": ADDS_BOS} if adds else {}}


OTHER_TEMPLATE = template(CHAT_TEMPLATE.replace("<|user|> ", "<|user|> solve "))
NO_DOTS = {"type": "Replace", "pattern": {"String": " ."}, "content": ""}
OTHER_END = {"generation_config": {"eos_token_id": 0}}
NEVER_STOPS = template(CHAT_TEMPLATE.replace(" <|im_end|>", ""))
# A blank before the BOS hides it from lm-eval, which looks at the start of the text.
TWO_BOS = with_bos(" {{ bos_token }} ")


@pytest.fixture
def check(
    student: Path,
    changed: Callable[..., Path],
    problems: list[Any],
    caplog: pytest.LogCaptureFixture,
) -> Callable[..., str]:
    """`check(files, trained, base, setting=value)`: the log of a check of a changed student.

    `base` is the unchanged student ("student"), the changed one ("own") or not given (None).
    """

    def check(
        files: Row, trained: Row = TRAINED, base: str | None = "student", **settings: Any
    ) -> str:
        folder = changed(**files)
        engine = Harness(folder)
        request = engine.build_requests(TASK, problems, {"max_tokens": 12})[0]
        request = request._replace(settings={**request.settings, **settings})
        message = harness.user_message(TASK, problems)
        assert message == problems[0]["problem"]
        bases = {"student": student, "own": folder, None: None}
        prompt_parity.check(engine, request, message, trained, bases[base])
        return caplog.text

    return check


@pytest.mark.parametrize("trained", [TRAINED, UNTOUCHED], ids=["trained", "untouched"])
@pytest.mark.parametrize("base", ["student", None])
def test_a_student_that_is_prompted_as_it_was_trained_passes(
    check: Callable[..., str], trained: Row, base: str | None
) -> None:
    assert check({}, trained, base) == ""


@pytest.mark.parametrize(
    ("files", "settings"),
    [
        (with_bos("{{ bos_token }} "), {}),
        (with_bos("", adds=False), {}),
        ({"generation_config": {"eos_token_id": [0, 3]}}, {"until": []}),
    ],
    ids=["BOS of the template alone", "no BOS at all", "several ends"],
)
def test_what_is_no_fault(check: Callable[..., str], files: Row, settings: Row) -> None:
    assert check(files, base="own", **settings) == ""


@pytest.mark.parametrize(
    ("files", "base", "settings", "message"),
    [
        (
            OTHER_TEMPLATE,
            "student",
            {},
            r"^prompt parity: .*chat template is not its base's: they differ from character 77 on"
            r".*'<\|user\|> '.*'<\|user\|> solve '.*copy chat_template",
        ),
        (
            {"tokenizer": {"normalizer": NO_DOTS}},
            "student",
            {},
            r"render the same message differently, from token \d+ on \(\d+ '\.' and [^\n]*\n"
            r"  training:   '<\|user\|> [^\n]* \. [^\n]*\n"
            r"  evaluation: '<\|user\|> (?![^\n]* \. )[^\n]*\n"
            "make tokenizer.json and the chat template of the student those of its base$",
        ),
        (
            with_bos(""),
            "own",
            {},
            r"from token 1 on \(1 '<\|user\|>' and 4 '<unk>'\).*the tokenizer adds special tokens "
            "by itself and the chat template does not write them",
        ),
        (
            OTHER_END,
            "student",
            {"until": []},
            r"ends a response with 3 '<\|im_end\|>', evaluation stops at 0 '<\|endoftext\|>'.*"
            "add 3 to eos_token_id in generation_config.json",
        ),
        # The task's stop string is the tokenizer's end: lm-eval leaves it to the model.
        (OTHER_END, "student", {}, "no response would end"),
        (NEVER_STOPS, "own", {}, "generation would never stop"),
    ],
    ids=["template", "tokens", "BOS", "end", "end and its text", "no end"],
)
def test_a_fault_stops_a_trained_student(
    check: Callable[..., str], files: Row, base: str, settings: Row, message: str
) -> None:
    with pytest.raises(InputError, match=f"(?s){message}"):
        check(files, base=base, **settings)


@pytest.mark.parametrize("trained", [UNTOUCHED, ADOPTED], ids=["untouched", "adopted"])
@pytest.mark.parametrize(
    ("files", "base", "message"),
    [
        (OTHER_END, "student", "training ends a response with 3"),
        (OTHER_TEMPLATE, "student", "the student's chat template is not its base's"),
        (NEVER_STOPS, "own", "row 'prompt parity': the chat template ends the response without"),
    ],
    ids=["end", "template", "no end"],
)
def test_a_student_that_was_not_trained_here_gets_a_warning(
    check: Callable[..., str], trained: Row, files: Row, base: str, message: str
) -> None:
    start = "warning: prompt parity of a student that was not trained here: "
    assert start + message in check(files, trained, base, until=[])


@pytest.mark.parametrize("trained", [TRAINED, UNTOUCHED], ids=["trained", "untouched"])
def test_a_second_bos_stops_every_student(check: Callable[..., str], trained: Row) -> None:
    message = r"(?s)has 2 BOS tokens '<unk>', expected one.*evaluation: '<unk>.*<unk>.*<\|user\|>"
    with pytest.raises(InputError, match=message):
        check(TWO_BOS, trained, "own")


def test_training_ends_in_the_end_of_text(student: Path) -> None:
    tokenizer = Harness(student).tokenizer
    prompt, response = prompt_parity.training_ids(tokenizer, "ann has", {"format": "chat"})
    assert tokenizer.decode(prompt) == "<|user|> ann has <|assistant|>"
    assert tokenizer.decode(response) == "1 <|im_end|>"
    assert prompt_parity.training_ids(tokenizer, "ann has", {"format": "text"})[0] == []


def test_a_stop_string_of_one_token_is_an_end(student: Path) -> None:
    engine = Harness(student)
    request = GenerationRequest(0, 0, "", "", "<|user|> ann <|assistant|>", {"until": "mon"})
    engine.model.model.generation_config.eos_token_id = None
    mon = engine.tokenizer("mon")["input_ids"][0]
    prompt_parity._check_end(engine, request, [5, mon])
    with pytest.raises(InputError, match=r"evaluation stops at \d+ 'mon'"):
        prompt_parity._check_end(engine, request, [5, 3])


def test_a_long_text_is_shown_where_it_differs() -> None:
    text = "a" * 3000 + "here" + "b" * 3000
    excerpts = [prompt_parity._excerpt(text, index) for index in (0, 3000, 6000)]
    assert ["here" in excerpt for excerpt in excerpts] == [False, True, False]
    assert excerpts[0].endswith("a'…") and excerpts[2].startswith("…'")
    assert prompt_parity._excerpt("short", 3) == "'short'"


def test_no_chat_template_is_one_message(changed: Callable[..., Path], problems: list[Any]) -> None:
    folder = changed()
    words = read_json(folder / "tokenizer_config.json")
    del words["chat_template"]
    write_json(folder / "tokenizer_config.json", words)
    with pytest.raises(InputError, match="no chat template"):
        Harness(folder).build_requests(TASK, problems, {"max_tokens": 12})
