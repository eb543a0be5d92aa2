"""Supervised fine-tuning with transformers' Trainer, full or LoRA, resumable, the same weights for the same spec.

On one machine with one thread the weights are the same to the bit, also after a kill and a resume; another number of
threads, devices or sequences per device changes the order of floating-point sums (relative 1e-5 per step and less).
"""

import json
import logging
import math
import os
import shutil
import time
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from gapgrid.engines.batches import Bucketed, Counting, collator, laid_out
from gapgrid.engines.tokens import copy_tokenizer, encode, load_tokenizer
from gapgrid.records import InputError, Row, atomic, remove, write_jsonl

log = logging.getLogger(__name__)
CHECKPOINTS = 4  # resumable states per run
COMPLETE = "complete"  # a file that marks a checkpoint as whole


def split_batch(global_batch: int, devices: int, most_per_device: int) -> tuple[int, int]:
    """Sequences per device and pass, and passes per step, whose product over all devices is the global batch.

    The most that fits, as hardware never changes the result. Raises `InputError` if the devices do not divide it.
    """
    if global_batch % devices:
        raise InputError(f"global_batch {global_batch} cannot be split over {devices} devices")
    per_step = global_batch // devices
    per_device = max(size for size in range(1, min(most_per_device, per_step) + 1) if per_step % size == 0)
    return per_device, per_step // per_device


def fine_tune(
    base: Path, rows: list[Row], spec: dict[str, Any], out: Path, metrics: Path, scratch: Path, micro_batch: int
) -> dict[str, Any]:
    """Train the model in `base` on `rows` and write it to `out`; returns facts for the manifest.

    `spec` holds `recipe` and `seed`. `scratch` keeps resumable states until the model is written and has been read
    back; `metrics` gets one row per logged step (losses, tokens seen, tokens per second).
    """
    recipe = spec["recipe"]
    tokenizer = load_tokenizer(base)
    encoded = encode(rows, tokenizer, recipe)
    log.info("%d rows, %d longer than %d tokens, %d dropped", len(rows), encoded.n_over_length, recipe["max_length"], encoded.n_dropped)
    model = _load(base)
    model.config.use_cache = False
    n_parameters = model.num_parameters()
    if recipe["method"] == "lora":
        model = _with_adapters(model, recipe.get("lora", {}), spec["seed"])
    progress = Progress(scratch / "metrics.jsonl")
    examples = laid_out(encoded.examples, recipe)
    trainer = GridTrainer(
        model=model,
        args=_arguments(recipe, spec["seed"], scratch, micro_batch, len(examples)),
        train_dataset=examples,
        data_collator=Counting(collator(tokenizer, recipe)),
        processing_class=tokenizer,
        callbacks=[progress],
    )
    trainer.bucketed = recipe.get("batching") == "bucketed"
    trainer.remove_callback(_printer())
    trainer.train(resume_from_checkpoint=_last_complete(scratch))
    _save(trainer.model, base, out, recipe)
    write_jsonl(metrics, progress.rows)
    remove(scratch)
    return {
        "n_parameters": n_parameters,
        "n_rows": len(encoded.examples),
        "n_dropped": encoded.n_dropped,
        "n_over_length": encoded.n_over_length,
        "n_steps": trainer.state.global_step,
        "n_tokens": trainer.state.num_input_tokens_seen,
    }


def _load(folder: Path) -> Any:
    dtype = torch.bfloat16 if torch.cuda.is_available() else torch.float32
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)


def _with_adapters(model: Any, lora: dict[str, Any], seed: int) -> Any:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    return get_peft_model(
        model,
        LoraConfig(
            r=lora.get("rank", 8),
            lora_alpha=lora.get("alpha", 16),
            lora_dropout=lora.get("dropout", 0.0),
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        ),
    )


def _arguments(recipe: dict[str, Any], seed: int, scratch: Path, micro_batch: int, n_examples: int) -> TrainingArguments:
    devices = max(1, int(os.environ.get("WORLD_SIZE", "1")))
    per_device, passes = split_batch(recipe["global_batch"], devices, micro_batch)
    if recipe.get("batching") == "packed":
        per_device, passes = 1, recipe["global_batch"] // devices
    log.info("global batch %d = %d devices x %d sequences x %d passes", recipe["global_batch"], devices, per_device, passes)
    steps = max(1, int(n_examples / recipe["global_batch"] * recipe["epochs"]))
    betas = recipe.get("adam_betas", [0.9, 0.999])
    low = recipe.get("min_lr_ratio", 0.0)
    cuda = torch.cuda.is_available()
    return TrainingArguments(
        output_dir=str(scratch),
        per_device_train_batch_size=per_device,
        gradient_accumulation_steps=passes,
        num_train_epochs=recipe["epochs"],
        learning_rate=recipe["learning_rate"],
        lr_scheduler_type="cosine_with_min_lr" if low else "cosine",
        lr_scheduler_kwargs={"min_lr_rate": low} if low else None,
        warmup_steps=int(recipe.get("warmup_ratio", 0.0) * steps),
        weight_decay=recipe.get("weight_decay", 0.0),
        adam_beta1=betas[0],
        adam_beta2=betas[1],
        max_grad_norm=recipe.get("max_grad_norm", 1.0),
        optim="adamw_torch_fused",
        bf16=cuda,
        use_cpu=not cuda,
        seed=seed,
        data_seed=seed,
        logging_steps=max(1, steps // 40),
        save_strategy="steps",
        save_steps=max(1, steps // CHECKPOINTS),
        save_total_limit=1,
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_num_workers=0,
        dataloader_pin_memory=cuda,
    )


class GridTrainer(Trainer):
    """transformers' Trainer with our order of rows and our count of real tokens."""

    bucketed = False

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        if not self.bucketed:
            return super()._get_train_sampler(train_dataset)
        examples: Any = self.train_dataset
        lengths = [len(example["input_ids"]) for example in examples]
        return Bucketed(lengths, self.args.per_device_train_batch_size * self.args.gradient_accumulation_steps, self.args.seed)

    def training_step(self, model: Any, inputs: dict[str, Any], *rest: Any, **named: Any) -> Any:
        """One forward and backward pass; the count of real tokens is ours, the model must not see it."""
        self.state.num_input_tokens_seen += inputs.pop("n_tokens")
        return super().training_step(model, inputs, *rest, **named)


# ---- progress, resuming, saving ----


class Progress(TrainerCallback):
    """Writes one line per logged step, keeps the rows over a resume, and marks whole checkpoints."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[Row] = []
        self.clock = (time.perf_counter(), 0)

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Take up the rows of the state that is resumed from."""
        if state.global_step and self.path.is_file():
            rows = [json.loads(line) for line in self.path.read_text().splitlines() if line.strip()]
            self.rows = [row for row in rows if row["step"] <= state.global_step]
        self.clock = (time.perf_counter(), state.num_input_tokens_seen)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        """One line a logged step: loss, learning rate, tokens per second."""
        if not logs or "loss" not in logs:
            return
        now, tokens = time.perf_counter(), state.num_input_tokens_seen
        speed = (tokens - self.clock[1]) / max(now - self.clock[0], 1e-9)
        self.clock = (now, tokens)
        row = {"step": state.global_step, "epoch": round(float(logs["epoch"]), 4), "tokens": tokens, "tokens_per_s": round(speed)}
        row.update({key: float(logs[key]) for key in ("loss", "grad_norm", "learning_rate") if key in logs})
        if not all(math.isfinite(value) for value in row.values()):
            raise InputError(f"training diverged: loss {row['loss']} at step {state.global_step}; lower the recipe's learning_rate")
        self.rows.append(row)
        log.info(
            "step %d/%d  loss %.4f  lr %.2e  %d tokens/s", state.global_step, state.max_steps, row["loss"], row["learning_rate"], speed
        )

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Mark the checkpoint whole; one without the mark was cut off and is never resumed from."""
        write_jsonl(self.path, self.rows)
        (Path(args.output_dir) / f"checkpoint-{state.global_step}" / COMPLETE).touch()


def _printer() -> Any:
    from transformers.trainer_callback import PrinterCallback

    return PrinterCallback


def _last_complete(scratch: Path) -> str | None:
    found = sorted(scratch.glob(f"checkpoint-*/{COMPLETE}"), key=lambda mark: int(mark.parent.name.split("-")[1]))
    for other in scratch.glob("checkpoint-*"):
        if not (other / COMPLETE).is_file():
            remove(other)
    if not found:
        return None
    log.info("resuming from %s", found[-1].parent.name)
    return str(found[-1].parent)


def _save(model: Any, base: Path, out: Path, recipe: dict[str, Any]) -> None:
    """Write the model by rename, adapters merged, the tokenizer's files as they were; then read it back and compare."""
    if recipe["method"] == "lora":
        model = model.merge_and_unload()
    model.config.use_cache = True
    with atomic(out) as side:
        model.save_pretrained(side)
        copy_tokenizer(base, side)
        for file in side.iterdir():
            file.chmod(0o644)  # weights are written 0600, which locks out the group of a shared cluster folder
        if (base / "generation_config.json").is_file():
            shutil.copyfile(base / "generation_config.json", side / "generation_config.json")
        _verify(model, side)


def _verify(model: Any, folder: Path) -> None:
    again = AutoModelForCausalLM.from_pretrained(folder, dtype=model.dtype).state_dict()
    for name, tensor in model.state_dict().items():
        if not torch.isfinite(tensor).all():
            raise InputError(f"{folder}: tensor {name} is not finite; training diverged")
        if not torch.equal(tensor.cpu(), again[name].cpu()):
            raise InputError(f"{folder}: tensor {name} reads back differently from what was trained")
