"""Students on disk: merged with adapters, written by rename, and read back to be verified."""

import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from gapgrid.core.records import InputError, atomic
from gapgrid.engines.tokens import copy_tokenizer


def dtype_of(folder: Path) -> torch.dtype:
    """Return the dtype in which a student's weights are stored."""
    return AutoConfig.from_pretrained(folder).dtype or torch.float32


def merged(base: Path, adapter: Path) -> Any:
    """Return the base, in its own dtype on the CPU, with a PEFT adapter added into its weights."""
    from peft import PeftModel

    model = AutoModelForCausalLM.from_pretrained(base, dtype=dtype_of(base))
    return PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()


def save(model: Any, base: Path, out: Path, state: dict[str, torch.Tensor] | None = None) -> None:
    """Write a model by rename, in the base's dtype, with its tokenizer's files as they were.

    `state` holds the weights where the model itself does not (ZeRO 3). What was written is read
    back: raises `InputError` for weights that are not finite or read back differently.
    """
    dtype = dtype_of(base)
    model.config.use_cache = True
    if state is None:
        model.to(dtype)
    else:
        tied = set(model.all_tied_weights_keys) if model.config.tie_word_embeddings else set()
        state = {name: tensor.to(dtype) for name, tensor in state.items() if name not in tied}
    with atomic(out) as side:
        model.save_pretrained(side, state_dict=state)
        copy_tokenizer(base, side)
        for file in side.iterdir():
            # Weights are written 0600, which locks out the group of a shared cluster folder.
            file.chmod(0o644)
        if (base / "generation_config.json").is_file():
            shutil.copyfile(base / "generation_config.json", side / "generation_config.json")
        _verify(model.state_dict() if state is None else state, side, dtype)


def _verify(state: dict[str, torch.Tensor], folder: Path, dtype: torch.dtype) -> None:
    saved = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).state_dict()
    for name, tensor in state.items():
        if not torch.isfinite(tensor).all():
            raise InputError(f"{folder}: tensor {name} is not finite; training diverged")
        if not torch.equal(tensor.cpu(), saved[name].cpu()):
            raise InputError(
                f"{folder}: tensor {name} reads back differently from what was trained"
            )
