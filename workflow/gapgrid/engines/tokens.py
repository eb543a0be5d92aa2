"""Tokenizers in and out of folders, and training rows as token ids and labels."""

import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

from gapgrid.records import InputError, Row

IGNORED = -100  # the label that the loss passes over
# Templates that write today's date into every prompt get this one instead, the default of those that have one (Llama 3):
# training and answering are days apart, and an answer is looked up by its prompt.
DATE = "26 Jul 2024"
_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "chat_template.jinja",
)


def load_tokenizer(folder: str | Path) -> Any:
    """The tokenizer of a model folder, with exactly the ids that its tokenizer.json gives, and a template without today's date.

    transformers may replace a saved pre-tokenizer by the one it knows for the model type (seen from 5.19 on, for
    `model_type: qwen2` with a generic tokenizer class). The file is what students are trained with, so it wins.
    """
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    found = AutoTokenizer.from_pretrained(folder)
    file = Path(folder) / "tokenizer.json"
    if file.is_file():
        saved = json.loads(Tokenizer.from_file(str(file)).to_str())
        loaded = json.loads(found.backend_tokenizer.to_str())
        if any(saved[part] != loaded[part] for part in ("normalizer", "pre_tokenizer", "model")):
            found = PreTrainedTokenizerFast.from_pretrained(folder)
    template = found.chat_template
    if isinstance(template, str) and "strftime_now" in template:
        found.chat_template = f"{{%- set date_string = {DATE!r} %}}{{%- macro strftime_now(_) %}}{DATE}{{%- endmacro %}}{template}"
    return found


def copy_tokenizer(source: str | Path, target: str | Path) -> None:
    """Copy a tokenizer's files byte for byte: saving through the library may change them."""
    for name in _FILES:
        file = Path(source) / name
        if file.is_file():
            shutil.copyfile(file, Path(target) / name)


class Encoded(NamedTuple):
    """Rows as lists of token ids and labels (`IGNORED` where no loss is taken), and what became of the others."""

    examples: list[dict[str, list[int]]]
    n_dropped: int
    n_over_length: int


def encode(rows: list[Row], tokenizer: Any, recipe: dict[str, Any]) -> Encoded:
    """Tokenise training rows under a recipe's format and over-length policy. A row is never cut.

    Format chat: the student's own template, loss on what follows the prompt. Format text: the response and an
    end-of-text token, loss on all. Raises `InputError` for a template whose prompt is no prefix of the whole, whose
    answer has no end-of-text token, or for over-long rows where the recipe says fail.
    """
    ids, starts = _as_text(rows, tokenizer) if recipe.get("format") == "text" else _as_chat(rows, tokenizer)
    too_long = [len(row) > recipe["max_length"] for row in ids]
    policy = recipe.get("over_length", "drop")
    if policy == "fail" and any(too_long):
        first = too_long.index(True)
        raise InputError(
            f"row '{rows[first]['id']}': {len(ids[first])} tokens, expected at most {recipe['max_length']} (max_length); "
            f"{sum(too_long)} rows are longer and over_length is fail"
        )
    kept = [index for index, long in enumerate(too_long) if policy == "keep" or not long]
    examples = [{"input_ids": ids[index], "labels": [IGNORED] * starts[index] + ids[index][starts[index] :]} for index in kept]
    if not examples:
        raise InputError(f"no row left to train on: all {len(rows)} are longer than max_length {recipe['max_length']}")
    return Encoded(examples, len(rows) - len(kept), sum(too_long))


def _as_text(rows: list[Row], tokenizer: Any) -> tuple[list[list[int]], list[int]]:
    ids = tokenizer([row["response"] for row in rows], add_special_tokens=False)["input_ids"]
    return [[*row_ids, tokenizer.eos_token_id] for row_ids in ids], [0] * len(rows)


def _as_chat(rows: list[Row], tokenizer: Any) -> tuple[list[list[int]], list[int]]:
    asked = [[{"role": "user", "content": row["prompt"]}] for row in rows]
    whole = [[*prompt, {"role": "assistant", "content": row["response"]}] for prompt, row in zip(asked, rows, strict=True)]
    prompts = _ids(tokenizer, _rendered(tokenizer, asked, True))
    texts = _ids(tokenizer, _rendered(tokenizer, whole, False))
    for row, prompt, text in zip(rows, prompts, texts, strict=True):
        if text[: len(prompt)] != prompt:
            raise InputError(f"row '{row['id']}': the chat template renders the prompt differently with and without the answer")
        if tokenizer.eos_token_id not in text[len(prompt) :]:
            raise InputError(f"row '{row['id']}': the chat template ends the answer without {tokenizer.eos_token!r}; it would never stop")
    return texts, [len(prompt) for prompt in prompts]


def render_for_training(tokenizer: Any, row: Row) -> tuple[str, list[int], int]:
    """One chat row as the trainer sees it: its text, its token ids, and how many of them are the prompt's (no loss there).

    The very path that `encode` takes, so that an evaluator's ids can be held against `ids[:n_prompt]`. Raises
    `InputError` as `encode` does.
    """
    (ids,), (n_prompt,) = _as_chat([row], tokenizer)
    whole = [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row["response"]}]
    return _rendered(tokenizer, [whole], False)[0], ids, n_prompt


def _rendered(tokenizer: Any, conversations: list[list[dict[str, str]]], ask: bool) -> list[str]:
    return tokenizer.apply_chat_template(conversations, tokenize=False, add_generation_prompt=ask)


def _ids(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    """Ids without special tokens added: a template writes its own, and a second BOS would not be what is asked with."""
    return tokenizer(texts, add_special_tokens=False)["input_ids"]
