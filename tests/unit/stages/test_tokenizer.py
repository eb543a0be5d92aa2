"""Stage tokenizer: each word of the miniature is one token; other tokenizers are copied."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from gapgrid.core import manifest
from gapgrid.demo import arithmetic
from gapgrid.stages import tokenizer

SPEC = {"stage": "tokenizer", "version": 1, "tokenizer": {"builtin": "arithmetic"}}


@pytest.fixture(scope="session")
def words(tokenizer_file: Path) -> Tokenizer:
    """The miniature's tokenizer, loaded."""
    return Tokenizer.from_file(str(tokenizer_file))


def test_every_word_is_one_token_special_ones_first(words: Tokenizer) -> None:
    vocabulary = (*arithmetic.SPECIAL, *arithmetic.WORDS)
    ids = {word: words.encode(word, add_special_tokens=False).ids for word in vocabulary}
    assert {len(tokens) for tokens in ids.values()} == {1}
    assert {tokens[0] for tokens in ids.values()} == set(range(words.get_vocab_size()))
    for index, word in enumerate(arithmetic.SPECIAL):
        assert ids[word] == [index]
    for word, tokens in ids.items():
        assert words.decode(tokens, skip_special_tokens=False) == word


@pytest.mark.parametrize("style", ["short", "long", "corpus"])
def test_texts_come_back_word_for_word(words: Tokenizer, style: str) -> None:
    rows = arithmetic.corpus(100, 0) if style == "corpus" else arithmetic.answered(style, 100, 0)
    for row in rows:
        encoded = words.encode(row["response"], add_special_tokens=False)
        assert encoded.tokens == row["response"].split()
        assert words.decode(encoded.ids) == row["response"]


def test_an_unknown_word_is_unknown(words: Tokenizer) -> None:
    assert words.encode("ann has 21 pens").tokens == ["ann", "has", "<unk>", "pens"]


def test_a_prompt_is_how_the_whole_conversation_begins(words: Tokenizer) -> None:
    template = ImmutableSandboxedEnvironment().from_string(arithmetic.CHAT_TEMPLATE)

    def tokens(*messages: dict[str, str], **options: Any) -> list[str]:
        return words.encode(template.render(messages=messages, **options)).tokens

    user = {"role": "user", "content": "how many ?"}
    prompt = tokens(user, add_generation_prompt=True)
    whole = tokens(user, {"role": "assistant", "content": "yes ."})
    assert whole == ["<|user|>", "how", "many", "?", "<|assistant|>", "yes", ".", "<|im_end|>"]
    assert whole[: len(prompt)] == prompt


def test_the_stage_writes_the_same_files_and_manifest_twice(
    run: Callable[..., int], tmp_path: Path
) -> None:
    folder, again = tmp_path / "a", tmp_path / "b"
    for out in (folder, again):
        assert run(tokenizer, SPEC, out / "manifest.json") == 0
    for file in (*tokenizer.FILES, "manifest.json"):
        assert (folder / file).read_bytes() == (again / file).read_bytes()
    written = manifest.read(folder / "manifest.json")
    assert (written["stage"], written["spec"]) == ("tokenizer", SPEC)
    assert written["outputs"].keys() == set(tokenizer.FILES)
    assert manifest.mismatches(folder / "manifest.json") == []
    config = json.loads((folder / "tokenizer_config.json").read_text())
    assert config["eos_token"] == "<|im_end|>"
    assert config["chat_template"] == arithmetic.CHAT_TEMPLATE


def test_a_local_tokenizer_is_copied_as_it_is(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, path = tmp_path / "source", tmp_path / "out" / "manifest.json"
    spec = {**SPEC, "tokenizer": {"path": str(source)}}
    assert run(tokenizer, spec, path) == 1
    assert f"{source}/tokenizer.json: no such file" in capsys.readouterr().err
    assert not path.exists()
    source.mkdir()
    for name, content in zip(tokenizer.FILES, ('{ "any":\n1}', "{}\n"), strict=True):
        (source / name).write_text(content)
    assert run(tokenizer, spec, path) == 0
    for name in tokenizer.FILES:
        assert (path.parent / name).read_bytes() == (source / name).read_bytes()
