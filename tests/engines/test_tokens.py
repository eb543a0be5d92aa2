"""Token ids before saving and after reloading are the same, for the tiny tokenizer and for Qwen2.5's own."""

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from gapgrid import base
from gapgrid.demo import arithmetic
from gapgrid.engines.tokens import copy_tokenizer, encode, load_tokenizer, render_for_training
from gapgrid.records import InputError, write_json

SHARED = Path(__file__).parents[3] / "shared" / "data" / "tokenizers" / "qwen2.5"
TEXTS = [
    "ann has 19 pens . mon eats 2 . how many ?",
    "19 - 2 = 17 . Final Answer: \\boxed{ 17 }",
    "12345 tokens, 3.14159 and x^2 + 10y = 0\n\nSo\tthe answer is 42.",
]


def ids_of_file(folder: Path, text: str) -> list[int]:
    return Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("text", TEXTS)
def test_tiny_tokenizer_survives_a_model_folder(student: Path, tokenizer_folder: Path, text: str) -> None:
    config = json.loads((student / "config.json").read_text())
    assert config["model_type"] == "qwen2"  # the type for which transformers replaces pre-tokenizers
    before = ids_of_file(tokenizer_folder, text)
    assert load_tokenizer(student)(text, add_special_tokens=False)["input_ids"] == before
    if "\n" not in text:
        assert len(before) == len(text.split())


def test_tokenizer_of_a_generic_class_is_not_replaced(student: Path, tokenizer_folder: Path, tmp_path: Path) -> None:
    """The trap itself: a Qwen2 folder whose tokenizer_config names the generic class."""
    folder = tmp_path / "model"
    folder.mkdir()
    copy_tokenizer(student, folder)
    (folder / "config.json").write_text((student / "config.json").read_text())
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    for name in ("PreTrainedTokenizerFast", "Qwen2Tokenizer", "Qwen2TokenizerFast"):
        (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "tokenizer_class": name}))
        found = load_tokenizer(folder)
        assert found(TEXTS[0], add_special_tokens=False)["input_ids"] == ids_of_file(tokenizer_folder, TEXTS[0]), name
        assert found.eos_token == "<|im_end|>"


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real Qwen2.5 tokenizer is not beside the repository")
@pytest.mark.parametrize("text", TEXTS)
def test_qwen_tokenizer_survives_a_model_folder(student: Path, tmp_path: Path, text: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    copy_tokenizer(SHARED, folder)
    (folder / "config.json").write_text((student / "config.json").read_text())
    before = ids_of_file(SHARED, text)
    assert load_tokenizer(folder)(text, add_special_tokens=False)["input_ids"] == before
    assert load_tokenizer(SHARED)(text, add_special_tokens=False)["input_ids"] == before


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real Qwen2.5 tokenizer is not beside the repository")
def test_qwen_rows_train_on_the_answer_and_its_end() -> None:
    tokenizer = load_tokenizer(SHARED)
    row = {"id": "a", "prompt": "What is 1+1?", "response": "It is \\boxed{2}."}
    example = encode([row], tokenizer, {"max_length": 200}).examples[0]
    trained = [label for label in example["labels"] if label != -100]
    assert tokenizer.decode(trained) == "It is \\boxed{2}.<|im_end|>\n"


def test_template_without_end_of_text_is_refused(student: Path) -> None:
    tokenizer = load_tokenizer(student)
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] + ' ' }}{% endfor %}"
    with pytest.raises(InputError, match="never stop"):
        encode([{"id": "a", "prompt": "mon", "response": "tue"}], tokenizer, {"max_length": 100})


def test_template_that_renders_the_prompt_differently_is_refused(student: Path) -> None:
    tokenizer = load_tokenizer(student)
    tokenizer.chat_template = "{{ messages | length }} {{ messages[-1]['content'] }} <|im_end|>"
    with pytest.raises(InputError, match="differently"):
        encode([{"id": "a", "prompt": "mon", "response": "tue"}], tokenizer, {"max_length": 100})


def test_one_row_is_rendered_as_it_is_trained_on(student: Path) -> None:
    tokenizer = load_tokenizer(student)
    row = {"id": "a", "prompt": "ann has 19 pens", "response": "19 - 2 = 17"}
    text, ids, n_prompt = render_for_training(tokenizer, row)
    example = encode([row], tokenizer, {"max_length": 100}).examples[0]
    assert ids == example["input_ids"] and ids[n_prompt:] == example["labels"][n_prompt:]
    assert set(example["labels"][:n_prompt]) == {-100}
    assert tokenizer.decode(ids[n_prompt:]) == "19 - 2 = 17 <|im_end|>"
    assert row["prompt"] in text and row["response"] in text


def test_a_template_that_writes_bos_gets_no_second_one(student: Path) -> None:
    """As Llama's do: the template writes the token, and the tokenizer would add another."""
    tokenizer = load_tokenizer(student)
    tokenizer.bos_token = "<|user|>"
    _, ids, _ = render_for_training(tokenizer, {"id": "a", "prompt": "mon", "response": "tue"})
    assert ids.count(tokenizer.bos_token_id) == 1


@pytest.mark.parametrize(
    "dated",
    [
        "{%- if not date_string is defined %}{%- set date_string = strftime_now('%d %b %Y') %}{%- endif %}Today: {{ date_string }}\n",
        "Today: {{ strftime_now('%d %b %Y') }}\n",
    ],
    ids=["as-in-llama-3.2", "plain"],
)
def test_a_template_writes_no_date_of_today(tmp_path: Path, tokenizer_folder: Path, dated: str) -> None:
    copy_tokenizer(tokenizer_folder, tmp_path)
    words = json.loads((tmp_path / "tokenizer_config.json").read_text())
    write_json(tmp_path / "tokenizer_config.json", {**words, "chat_template": dated + arithmetic.CHAT_TEMPLATE})
    rendered = load_tokenizer(tmp_path).apply_chat_template([{"role": "user", "content": "1 + 1"}], tokenize=False)
    assert rendered.startswith("Today: 26 Jul 2024\n")


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real Qwen2.5 tokenizer is not here")
def test_a_base_student_s_answers_end_as_its_template_ends_them(tmp_path: Path) -> None:
    """Its tokenizer names another end of text than its template writes: training refuses it until `eos` says which."""
    folder = tmp_path / "hub"
    folder.mkdir()
    copy_tokenizer(SHARED, folder)
    words = json.loads((folder / "tokenizer_config.json").read_text())
    write_json(folder / "tokenizer_config.json", {**words, "eos_token": "<|endoftext|>"})
    write_json(folder / "config.json", {"model_type": "qwen2", "eos_token_id": 151643})
    (folder / "model.safetensors").write_bytes(b"")
    row = [{"id": "1", "prompt": "1 + 1 ?", "response": "\\boxed{2}"}]
    recipe = {"max_length": 100}
    with pytest.raises(InputError, match="it would never stop"):
        encode(row, load_tokenizer(folder), recipe)
    base.link(folder, tmp_path / "student", "<|im_end|>")
    tokenizer = load_tokenizer(tmp_path / "student")
    (example,) = encode(row, tokenizer, recipe).examples
    assert tokenizer.eos_token_id in example["labels"]
