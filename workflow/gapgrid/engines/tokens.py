"""Tokenizers in and out of folders, and training rows as token ids and labels."""

import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

from gapgrid.core.records import InputError
from gapgrid.core.rows import TrainingRow
from gapgrid.core.spec_types import Recipe

IGNORED = -100  # the label that the loss leaves out
# Templates that write today's date into every prompt get this one instead, the default of those
# that have one (Llama 3): training and evaluation are days apart, and a response is looked up by
# its prompt.
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
    """Return the tokenizer of a model folder, with exactly the ids that its tokenizer.json gives.

    Its chat template writes `DATE` where it would write today's date. transformers may replace a
    saved pre-tokenizer by the one it knows for the model type (seen from 5.19 on, for
    `model_type: qwen2` with a generic tokenizer class). Students are trained with the file's.
    """
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    tokenizer = AutoTokenizer.from_pretrained(folder)
    file = Path(folder) / "tokenizer.json"
    if file.is_file():
        saved = json.loads(Tokenizer.from_file(str(file)).to_str())
        loaded = json.loads(tokenizer.backend_tokenizer.to_str())
        if any(saved[part] != loaded[part] for part in ("normalizer", "pre_tokenizer", "model")):
            tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    template = tokenizer.chat_template
    if isinstance(template, str) and "strftime_now" in template:
        fixed_date = (
            f"{{%- set date_string = {DATE!r} %}}"
            f"{{%- macro strftime_now(_) %}}{DATE}{{%- endmacro %}}"
        )
        tokenizer.chat_template = fixed_date + template
    return tokenizer


def copy_tokenizer(source: str | Path, target: str | Path) -> None:
    """Copy a tokenizer's files byte for byte: saving through the library may change them."""
    for name in _FILES:
        file = Path(source) / name
        if file.is_file():
            shutil.copyfile(file, Path(target) / name)


def id_set(ids: int | list[int] | None) -> set[int]:
    """Return end-of-text ids, which configurations write as none, one or a list."""
    listed = ids if isinstance(ids, list) else [ids]
    return {token for token in listed if token is not None}


class Encoded(NamedTuple):
    """Rows as token ids and labels (`IGNORED` where no loss is taken), and counts of the others."""

    examples: list[dict[str, list[int]]]
    n_dropped: int
    n_over_length: int


def encode(rows: list[TrainingRow], tokenizer: Any, recipe: Recipe) -> Encoded:
    """Return training rows tokenised under a recipe's format and over-length policy, none cut.

    Format chat: the student's own template, loss on what follows the prompt. Format text: the
    response and an end-of-text token, loss on all. Raises `InputError` for a template whose
    rendered prompt does not begin the rendered row or whose response has no end-of-text token,
    and for over-long rows where the recipe says fail.
    """
    render = _as_text if recipe["format"] == "text" else _as_chat
    ids, prompt_lengths = render(rows, tokenizer)
    max_length, policy = recipe["max_length"], recipe["over_length"]
    too_long = [len(row) > max_length for row in ids]
    if policy == "fail" and any(too_long):
        first = too_long.index(True)
        raise InputError(
            f"row '{rows[first]['id']}': {len(ids[first])} tokens, expected at most {max_length} "
            f"(max_length); {sum(too_long)} rows are longer and over_length is fail"
        )
    examples = [
        {"input_ids": row, "labels": [IGNORED] * n_prompt + row[n_prompt:]}
        for row, n_prompt, is_long in zip(ids, prompt_lengths, too_long, strict=True)
        if policy == "keep" or not is_long
    ]
    if not examples:
        raise InputError(
            f"no row left to train on: all {len(rows)} are longer than max_length {max_length}"
        )
    return Encoded(examples, len(rows) - len(examples), sum(too_long))


def _as_text(rows: list[TrainingRow], tokenizer: Any) -> tuple[list[list[int]], list[int]]:
    ids = tokenizer([row["response"] for row in rows], add_special_tokens=False)["input_ids"]
    return [[*row_ids, tokenizer.eos_token_id] for row_ids in ids], [0] * len(rows)


def _as_chat(rows: list[TrainingRow], tokenizer: Any) -> tuple[list[list[int]], list[int]]:
    def render(conversations: list[list[dict[str, str]]], with_response: bool) -> list[list[int]]:
        texts = tokenizer.apply_chat_template(
            conversations, tokenize=False, add_generation_prompt=not with_response
        )
        # A template writes its own special tokens: a second BOS would not be in evaluation.
        return tokenizer(texts, add_special_tokens=False)["input_ids"]

    asked = [[{"role": "user", "content": row["prompt"]}] for row in rows]
    whole = [
        [*messages, {"role": "assistant", "content": row["response"]}]
        for messages, row in zip(asked, rows, strict=True)
    ]
    prompts, texts = render(asked, False), render(whole, True)
    for row, prompt, text in zip(rows, prompts, texts, strict=True):
        if text[: len(prompt)] != prompt:
            raise InputError(
                f"row '{row['id']}': the chat template renders the prompt differently "
                "with and without the response"
            )
        if tokenizer.eos_token_id not in text[len(prompt) :]:
            raise InputError(
                f"row '{row['id']}': the chat template ends the response without "
                f"{tokenizer.eos_token!r}; generation would never stop"
            )
    return texts, [len(prompt) for prompt in prompts]
