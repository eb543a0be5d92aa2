"""Token ids are those of tokenizer.json, for the tiny tokenizer and Qwen2.5's; rows with labels."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from gapgrid.core.records import InputError, Row, read_json
from gapgrid.demo import arithmetic
from gapgrid.engines.tokens import IGNORED, copy_tokenizer, encode, id_set, load_tokenizer
from gapgrid.stages import base
from tests.engines.helpers import complete_recipe, edit_json

QWEN = Path(__file__).parents[3] / "shared" / "data" / "tokenizers" / "qwen2.5"
NEEDS_QWEN = pytest.mark.skipif(
    not QWEN.is_dir(), reason="the real Qwen2.5 tokenizer is not beside the repository"
)
TEXTS = [
    "ann has 19 pens . mon eats 2 . how many ?",
    "19 - 2 = 17 . Final Answer: \\boxed{ 17 }",
    "12345 tokens, 3.14159 and x^2 + 10y = 0\n\nSo\tthe answer is 42.",
]
ROW: Any = {"id": "a", "source": "s", "prompt": "mon", "response": "tue"}


def ids_of_file(folder: Path, text: str) -> list[int]:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return tokenizer.encode(text, add_special_tokens=False).ids


def ids(folder: Path, text: str) -> list[int]:
    return load_tokenizer(folder)(text, add_special_tokens=False)["input_ids"]


def trained_ids(example: dict[str, list[int]]) -> list[int]:
    return [label for label in example["labels"] if label != IGNORED]


def test_ids_of_the_tiny_tokenizer_are_the_files(
    tokenizer_folder: Path, changed: Callable[..., Path]
) -> None:
    """transformers replaces the pre-tokenizer of a Qwen2 folder, by the tokenizer's class too."""
    expected = [ids_of_file(tokenizer_folder, text) for text in TEXTS]
    assert [len(row) for row in expected[:2]] == [len(text.split()) for text in TEXTS[:2]]
    own = read_json(tokenizer_folder / "tokenizer_config.json")["tokenizer_class"]
    for name in (own, "PreTrainedTokenizerFast", "Qwen2Tokenizer", "Qwen2TokenizerFast"):
        folder = changed(f"of-{name}", tokenizer_config={"tokenizer_class": name})
        assert read_json(folder / "config.json")["model_type"] == "qwen2"
        assert [ids(folder, text) for text in TEXTS] == expected, name
        assert load_tokenizer(folder).eos_token == "<|im_end|>"


@NEEDS_QWEN
@pytest.mark.parametrize("text", TEXTS)
def test_ids_of_the_qwen_tokenizer_are_the_files(student: Path, tmp_path: Path, text: str) -> None:
    copy_tokenizer(QWEN, tmp_path)
    (tmp_path / "config.json").write_text((student / "config.json").read_text())
    assert ids(tmp_path, text) == ids(QWEN, text) == ids_of_file(QWEN, text)


@pytest.mark.parametrize("dated", ["{{ date_string }}", "{{ strftime_now('%d %b %Y') }}"])
def test_a_template_writes_no_date_of_today(changed: Callable[..., Path], dated: str) -> None:
    as_in_llama = (
        "{%- if not date_string is defined %}{%- set date_string = strftime_now('%d %b %Y') %}"
        "{%- endif %}"
    )
    template = f"{as_in_llama}Today: {dated}\n{arithmetic.CHAT_TEMPLATE}"
    folder = changed(tokenizer_config={"chat_template": template})
    message = {"role": "user", "content": "1 + 1"}
    rendered = load_tokenizer(folder).apply_chat_template([message], tokenize=False)
    assert rendered.startswith("Today: 26 Jul 2024\n")


def test_ends_as_configurations_write_them() -> None:
    assert [id_set(ids) for ids in (None, 3, [3, 5], 0)] == [set(), {3}, {3, 5}, {0}]


# ---- training rows ----


def test_rows_are_dropped_kept_or_refused_never_cut(student: Path, rows: list[Any]) -> None:
    tokenizer = load_tokenizer(student)

    def encoded(**changes: Any) -> tuple[int, int, list[int]]:
        result = encode(rows, tokenizer, complete_recipe(**changes))
        lengths = sorted(len(example["input_ids"]) for example in result.examples)
        return result.n_dropped, result.n_over_length, lengths

    _, _, lengths = encoded()
    cutoff = lengths[len(lengths) // 2]
    fitting = [length for length in lengths if length <= cutoff]
    n_longer = len(rows) - len(fitting)
    assert encoded(max_length=cutoff) == (n_longer, n_longer, fitting)
    assert encoded(max_length=cutoff, over_length="keep") == (0, n_longer, lengths)
    with pytest.raises(InputError, match=rf"{n_longer} rows are longer"):
        encoded(max_length=cutoff, over_length="fail")
    with pytest.raises(InputError, match="no row left"):
        encoded(max_length=8)


def test_loss_is_on_the_response_alone(student: Path, rows: list[Any]) -> None:
    tokenizer = load_tokenizer(student)
    examples = encode(rows, tokenizer, complete_recipe()).examples
    for row, example in zip(rows, examples, strict=True):
        trained = trained_ids(example)
        assert tokenizer.decode(trained) == f"{row['response']} <|im_end|>"
        prompt = example["input_ids"][: -len(trained)]
        assert tokenizer.decode(prompt) == f"<|user|> {row['prompt']} <|assistant|>"
        assert example["input_ids"] == prompt + trained
    text = encode(rows, tokenizer, complete_recipe(format="text")).examples[0]
    assert text["labels"] == text["input_ids"] and text["input_ids"][-1] == tokenizer.eos_token_id


@NEEDS_QWEN
def test_qwen_rows_train_on_the_response_and_its_end() -> None:
    tokenizer = load_tokenizer(QWEN)
    row: Any = {**ROW, "prompt": "What is 1+1?", "response": "It is \\boxed{2}."}
    (example,) = encode([row], tokenizer, complete_recipe()).examples
    assert tokenizer.decode(trained_ids(example)) == "It is \\boxed{2}.<|im_end|>\n"


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{% for m in messages %}{{ m['content'] + ' ' }}{% endfor %}", "never stop"),
        ("{{ messages | length }} {{ messages[-1]['content'] }} <|im_end|>", "differently"),
    ],
)
def test_a_template_that_cannot_be_trained_with_is_refused(
    student: Path, template: str, message: str
) -> None:
    tokenizer = load_tokenizer(student)
    tokenizer.chat_template = template
    with pytest.raises(InputError, match=message):
        encode([ROW], tokenizer, complete_recipe())


def test_a_template_that_writes_bos_gets_no_second_one(changed: Callable[..., Path]) -> None:
    """As Llama's do: the template writes the token, and the tokenizer would add another."""
    bos: Row = {"id": "<|user|>", "type_id": 0}
    adds_bos = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": bos}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}],
        "special_tokens": {"<|user|>": {"id": "<|user|>", "ids": [1], "tokens": ["<|user|>"]}},
    }
    tokenizer = load_tokenizer(changed(tokenizer={"post_processor": adds_bos}))
    assert tokenizer("<|user|> mon")["input_ids"][:2] == [1, 1]
    (example,) = encode([ROW], tokenizer, complete_recipe()).examples
    assert example["input_ids"].count(1) == 1


@NEEDS_QWEN
def test_a_base_students_responses_end_as_its_template_ends_them(tmp_path: Path) -> None:
    """A base's tokenizer names another end of text than its template: `eos` says which."""
    folder = tmp_path / "hub"
    folder.mkdir()
    copy_tokenizer(QWEN, folder)
    edit_json(folder / "tokenizer_config.json", eos_token="<|endoftext|>")
    edit_json(folder / "config.json", model_type="qwen2", eos_token_id=151643)
    (folder / "model.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match="never stop"):
        encode([ROW], load_tokenizer(folder), complete_recipe())
    base.link(folder, tmp_path / "student", "<|im_end|>")
    tokenizer = load_tokenizer(tmp_path / "student")
    (example,) = encode([ROW], tokenizer, complete_recipe()).examples
    assert tokenizer.eos_token_id in example["labels"]
