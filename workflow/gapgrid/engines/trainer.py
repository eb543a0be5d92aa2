"""Supervised fine-tuning with transformers' Trainer, full or LoRA, resumable, the same weights for the same spec.

On one machine with one thread the weights are the same to the bit, also after a kill and a resume; another number of
threads, devices or sequences per device changes the order of floating-point sums (relative 1e-5 per step and less).
On several devices every process runs `attempt`, started by torchrun (see `launch`); the first one writes.
"""

import importlib.util
import logging
import os
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, Trainer, TrainerCallback, TrainingArguments

from gapgrid.engines import batches, saving
from gapgrid.engines.memory import Hardware, halved_once, split_batch, watched
from gapgrid.engines.progress import Progress, flops_per_token, last_complete
from gapgrid.engines.tokens import encode, load_tokenizer
from gapgrid.records import InputError, Row, remove, write_jsonl

log = logging.getLogger(__name__)
CHECKPOINTS = 4  # resumable states per run
LOGGED = 40  # rows of metrics per run


def fine_tune(
    base: Path, rows: list[Row], spec: dict[str, Any], out: Path, metrics: Path, scratch: Path, micro_batch: int | Hardware
) -> dict[str, Any]:
    """Train the model in `base` on `rows` in this process and write it to `out`; returns facts for the manifest.

    `spec` holds `recipe` and `seed`. `scratch` keeps resumable states until the model is written and has been read
    back; `metrics` gets one row per logged step. Out of memory: once more with half as many sequences per pass.
    """
    how = micro_batch if isinstance(micro_batch, Hardware) else Hardware(micro_batch)
    return halved_once(lambda limit: attempt(base, rows, spec, out, metrics, scratch, how, limit))


def attempt(
    base: Path, rows: list[Row], spec: dict[str, Any], out: Path, metrics: Path, scratch: Path, how: Hardware, limit: int | None
) -> dict[str, Any]:
    """One try of `fine_tune`, in one process of as many as there are, with at most `limit` sequences per device and pass.

    Raises `ShortOfMemoryError` when a device has too little memory.
    """
    recipe = spec["recipe"]
    tokenizer = load_tokenizer(base)
    encoded = encode(rows, tokenizer, recipe)
    log.info("%d rows, %d longer than %d tokens, %d dropped", len(rows), encoded.n_over_length, recipe["max_length"], encoded.n_dropped)
    examples = batches.laid_out(encoded.examples, recipe)
    longest = max(recipe["max_length"], *(len(example["input_ids"]) for example in encoded.examples))
    most = min(how.most(longest), limit or recipe["global_batch"])
    arguments = _arguments(recipe, spec["seed"], scratch, most, len(examples), how, out)  # before the model: ZeRO 3 cuts it as it loads
    model = _load(base, recipe, how)
    n_parameters = _size(model.parameters())
    trainer, progress = _trainer(model, n_parameters, examples, tokenizer, arguments, spec, how)
    resumed = last_complete(scratch, progress.layout, trainer.is_world_process_zero())
    watched(lambda: trainer.train(resume_from_checkpoint=resumed), arguments.per_device_train_batch_size)
    _keep(trainer, base, out, scratch, recipe, how)
    if trainer.is_world_process_zero():
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


def _trainer(
    model: Any, n_parameters: int, examples: Any, tokenizer: Any, arguments: TrainingArguments, spec: dict[str, Any], how: Hardware
) -> tuple[Any, Progress]:
    recipe = spec["recipe"]
    model.config.use_cache = False  # with a cache, packed documents would see each other
    if recipe["method"] == "lora":
        model = _with_adapters(model, recipe.get("lora", {}), spec["seed"])
    n_trained = _size(weight for weight in model.parameters() if weight.requires_grad)
    layout = {"devices": devices(), "zero": how.zero}
    progress = Progress(Path(str(arguments.output_dir)) / "metrics.jsonl", flops_per_token(n_parameters, n_trained), layout)
    shared = batches.filled(examples, recipe, devices())
    trainer = GridTrainer(
        model=model,
        args=arguments,
        train_dataset=shared,
        data_collator=batches.Counting(batches.collator(tokenizer, recipe)),
        processing_class=tokenizer,
        callbacks=[progress],
    )
    trainer.order = batches.order(shared, recipe, spec["seed"], devices())
    trainer.add_callback(Epochs(trainer.order))
    trainer.remove_callback(_printer())
    return trainer, progress


def devices() -> int:
    """Processes of this run, each with one device, as torchrun says."""
    return max(1, int(os.environ.get("WORLD_SIZE", "1")))


def _size(weights: Any) -> int:
    return sum(getattr(weight, "ds_numel", weight.numel()) for weight in weights)  # ZeRO 3 keeps a part of each


def _load(folder: Path, recipe: dict[str, Any], how: Hardware) -> Any:
    """The student, in fp32 where it is trained itself: a step of 1e-5 is lost in bf16's 8 bits. ZeRO keeps its own fp32."""
    cuda = torch.cuda.is_available()
    in_bf16 = cuda and (recipe["method"] == "lora" or how.zero > 0)
    flash = cuda and importlib.util.find_spec("flash_attn") is not None
    return AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=torch.bfloat16 if in_bf16 else torch.float32,
        attn_implementation="flash_attention_2" if flash else None,  # None: sdpa where the model has it
    )


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


def _arguments(recipe: dict[str, Any], seed: int, scratch: Path, most: int, n_examples: int, how: Hardware, out: Path) -> TrainingArguments:
    per_device, passes = split_batch(recipe["global_batch"], devices(), 1 if recipe.get("batching") == "packed" else most)
    log.info("global batch %d = %d devices x %d sequences x %d passes", recipe["global_batch"], devices(), per_device, passes)
    steps = max(1, int(n_examples / recipe["global_batch"] * recipe["epochs"]))
    per_log = max(1, steps // LOGGED)
    arguments = TrainingArguments(
        output_dir=str(scratch),
        per_device_train_batch_size=per_device,
        gradient_accumulation_steps=passes,
        num_train_epochs=recipe["epochs"],
        seed=seed,
        data_seed=seed,
        logging_steps=per_log,
        save_strategy="steps",
        save_steps=per_log * max(1, steps // (CHECKPOINTS * per_log)),  # between two rows: a row cut by a resume would be another mean
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_num_workers=0,
        **_optimiser(recipe, steps),
        **_of_machine(how),
        **_tracker(how.report_to, out),
    )
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1  # one process with several GPUs in sight would multiply the batch by their number
    if arguments.world_size != devices():
        raise InputError(f"{devices()} processes were started, but the trainer sees {arguments.world_size}")
    if how.zero:
        import deepspeed

        deepspeed.init_distributed(auto_mpi_discovery=False)  # joins the processes that are set up; on a CPU nobody else does
    return arguments


def _optimiser(recipe: dict[str, Any], steps: int) -> dict[str, Any]:
    betas = recipe.get("adam_betas", [0.9, 0.999])
    low = recipe.get("min_lr_ratio", 0.0)
    return {
        "learning_rate": recipe["learning_rate"],
        "lr_scheduler_type": "cosine_with_min_lr" if low else "cosine",
        "lr_scheduler_kwargs": {"min_lr_rate": low} if low else None,
        "warmup_steps": int(recipe.get("warmup_ratio", 0.0) * steps),
        "weight_decay": recipe.get("weight_decay", 0.0),
        "adam_beta1": betas[0],
        "adam_beta2": betas[1],
        "max_grad_norm": recipe.get("max_grad_norm", 1.0),
        "optim": "adamw_torch_fused",
    }


def _of_machine(how: Hardware) -> dict[str, Any]:
    """Arguments that follow from the device and change no result: precision, kernels, recomputing, ZeRO."""
    cuda = torch.cuda.is_available()
    found: dict[str, Any] = {
        "bf16": cuda,
        "use_cpu": not cuda,
        "dataloader_pin_memory": cuda,
        "ddp_find_unused_parameters": False,
    }
    if how.checkpointing or (how.checkpointing is None and cuda):
        found |= {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": False}}
    if cuda and importlib.util.find_spec("liger_kernel") is not None:
        found["use_liger_kernel"] = True
    if how.zero:
        if importlib.util.find_spec("deepspeed") is None:
            raise InputError(f"ZeRO {how.zero} needs DeepSpeed, which is not in this environment")
        found["deepspeed"] = _zero(how.zero)
    return found


def _zero(stage: int) -> dict[str, Any]:
    """DeepSpeed's settings: nothing is offloaded, what is auto follows from TrainingArguments, the product from DeepSpeed."""
    gathered = {"stage3_gather_16bit_weights_on_model_save": True} if stage == 3 else {}
    auto = ("train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "gradient_clipping")
    return {"zero_optimization": {"stage": stage, **gathered}, "bf16": {"enabled": "auto"}, **dict.fromkeys(auto, "auto")}


def _tracker(name: str, out: Path) -> dict[str, Any]:
    """Where numbers go beside metrics.jsonl: nowhere, or to a tracker that is installed. Never into the manifest."""
    if name == "none":
        return {"report_to": "none"}
    if importlib.util.find_spec(name) is None:
        raise InputError(f"report_to {name}: the package is not in this environment")
    os.environ.setdefault("TENSORBOARD_LOGGING_DIR", str(out.parent / "tensorboard"))
    os.environ.setdefault("WANDB_DIR", str(out.parent))
    return {"report_to": name, "run_name": "/".join(out.absolute().parent.parts[-3:])}


class GridTrainer(Trainer):
    """transformers' Trainer with our order of rows and our count of real tokens."""

    order: Any = None

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return super()._get_train_sampler(train_dataset) if self.order is None else self.order

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> tuple[list[Any], Any]:
        """The batches of one step, all devices' real tokens counted; the model must not see the count."""
        samples, n_items = super().get_batch_samples(epoch_iterator, num_batches, device)
        n_tokens = sum(batch.pop("n_tokens") for batch in samples)
        if self.args.world_size > 1:
            n_tokens = int(self.accelerator.reduce(torch.tensor(n_tokens, device=device)).item())
        self.state.num_input_tokens_seen += n_tokens
        return samples, n_items


class Epochs(TrainerCallback):
    """Tells the order which epoch it is: the data loader of a resumed run does not reach it with several devices."""

    def __init__(self, order: Any) -> None:
        self.order = order

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """`state.epoch` is whole here, or within the epoch that a resumed run takes up."""
        if self.order is not None:
            self.order.set_epoch(int(state.epoch or 0))


def _printer() -> Any:
    from transformers.trainer_callback import PrinterCallback

    return PrinterCallback


def _keep(trainer: Any, base: Path, out: Path, scratch: Path, recipe: dict[str, Any], how: Hardware) -> None:
    """Write the student: every process takes part in gathering it, the first one merges, writes and reads back."""
    is_lora = recipe["method"] == "lora"
    state = trainer.accelerator.get_state_dict(trainer.deepspeed) if how.zero == 3 and not is_lora else None
    if is_lora:
        trainer.save_model(str(scratch / "adapter"))
    if not trainer.is_world_process_zero():
        return
    if how.zero:
        from transformers.integrations.deepspeed import unset_hf_deepspeed_config

        unset_hf_deepspeed_config()  # from here on models are loaded whole, by this process alone
    saving.save(saving.merged(base, scratch / "adapter") if is_lora else trainer.model, base, out, state)
