"""tokenizer: the miniature's words are one token each and come back; files from elsewhere are copied as they are."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from gapgrid import manifest, tokenizer
from gapgrid.demo import arithmetic

SPEC = {"stage": "tokenizer", "version": 1, "tokenizer": {"builtin": "arithmetic"}}


@pytest.fixture(scope="session")
def words(tokenizer_file: Path) -> Tokenizer:
    """The miniature's tokenizer, loaded."""
    return Tokenizer.from_file(str(tokenizer_file))


def test_every_word_is_one_token_and_comes_back(words: Tokenizer) -> None:
    ids = {word: words.encode(word, add_special_tokens=False).ids for word in (*arithmetic.SPECIAL, *arithmetic.WORDS)}
    assert {len(found) for found in ids.values()} == {1}
    assert {found[0] for found in ids.values()} == set(range(words.get_vocab_size()))
    for word, found in ids.items():
        assert words.decode(found, skip_special_tokens=False) == word


def test_special_tokens_come_first(words: Tokenizer) -> None:
    assert [words.id_to_token(index) for index in range(len(arithmetic.SPECIAL))] == list(arithmetic.SPECIAL)


@pytest.mark.parametrize("style", ["short", "long", "corpus"])
def test_texts_come_back_word_for_word(words: Tokenizer, style: str) -> None:
    rows = list(arithmetic.corpus(100, 0) if style == "corpus" else arithmetic.answered(style, 100, 0))
    for row in rows:
        encoded = words.encode(row["response"], add_special_tokens=False)
        assert encoded.tokens == row["response"].split()
        assert words.decode(encoded.ids) == row["response"]


def test_an_unknown_word_is_unknown(words: Tokenizer) -> None:
    assert words.encode("ann has 21 pens").tokens == ["ann", "has", "<unk>", "pens"]


def rendered(messages: list[dict[str, str]], **options: Any) -> str:
    """Messages through the tokenizer's chat template."""
    return str(ImmutableSandboxedEnvironment().from_string(arithmetic.CHAT_TEMPLATE).render(messages=messages, **options))


def test_a_prompt_is_how_the_whole_conversation_begins(words: Tokenizer) -> None:
    user, assistant = {"role": "user", "content": "how many ?"}, {"role": "assistant", "content": "yes ."}
    prompt = words.encode(rendered([user], add_generation_prompt=True)).tokens
    whole = words.encode(rendered([user, assistant])).tokens
    assert whole == ["<|user|>", "how", "many", "?", "<|assistant|>", "yes", ".", "<|im_end|>"]
    assert whole[: len(prompt)] == prompt


def test_the_stage_writes_files_and_manifest(run: Callable[..., int], tmp_path: Path) -> None:
    path = tmp_path / "made" / "manifest.json"
    assert run(tokenizer, SPEC, path) == 0
    written = manifest.read(path)
    assert (written["stage"], written["spec"]) == ("tokenizer", SPEC)
    assert set(written["outputs"]) == {"tokenizer.json", "tokenizer_config.json"}
    assert manifest.mismatches(path) == []
    config = json.loads((path.parent / "tokenizer_config.json").read_text())
    assert (config["eos_token"], config["chat_template"]) == ("<|im_end|>", arithmetic.CHAT_TEMPLATE)


def test_the_stage_writes_the_same_bytes_twice(run: Callable[..., int], tmp_path: Path) -> None:
    for name in ("a", "b"):
        run(tokenizer, SPEC, tmp_path / name / "manifest.json")
    for file in ("tokenizer.json", "tokenizer_config.json", "manifest.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_a_local_tokenizer_is_copied_as_it_is(run: Callable[..., int], tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "tokenizer.json").write_text('{ "any":\n1}')
    (source / "tokenizer_config.json").write_text("{}\n")
    path = tmp_path / "made" / "manifest.json"
    assert run(tokenizer, {**SPEC, "tokenizer": {"path": str(source)}}, path) == 0
    for name in tokenizer.FILES:
        assert (path.parent / name).read_bytes() == (source / name).read_bytes()


def test_a_folder_without_tokenizer_is_named(run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "made" / "manifest.json"
    assert run(tokenizer, {**SPEC, "tokenizer": {"path": str(tmp_path)}}, path) == 1
    assert f"{tmp_path}/tokenizer.json: no such file" in capsys.readouterr().err
    assert not path.exists()
