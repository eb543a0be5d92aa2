"""Tiny Qwen2-architecture students, built from a seed."""

import math
from pathlib import Path
from typing import Any


def build(architecture: dict[str, Any], tokenizer: Path, seed: int, out: Path) -> None:
    """Write an untrained student to `out`: random weights from `seed`, tied embeddings.

    Its vocabulary is that of the tokenizer in the folder `tokenizer`, which is copied.
    """
    from transformers import Qwen2Config, Qwen2ForCausalLM, set_seed

    from gapgrid.engines.tokens import copy_tokenizer, load_tokenizer

    loaded = load_tokenizer(tokenizer)
    width = architecture["hidden_size"]
    config = Qwen2Config(
        vocab_size=len(loaded),
        hidden_size=width,
        num_hidden_layers=architecture["layers"],
        num_attention_heads=architecture["heads"],
        num_key_value_heads=architecture["heads"],
        intermediate_size=architecture["ffn"],
        max_position_embeddings=640,
        tie_word_embeddings=True,
        initializer_range=min(0.08, 0.5 / math.sqrt(width)),
        bos_token_id=None,
        eos_token_id=loaded.eos_token_id,
        pad_token_id=loaded.pad_token_id,
    )
    set_seed(seed)
    model = Qwen2ForCausalLM(config)
    model.generation_config.eos_token_id = loaded.eos_token_id
    model.generation_config.pad_token_id = loaded.pad_token_id
    model.save_pretrained(out)
    copy_tokenizer(tokenizer, out)
