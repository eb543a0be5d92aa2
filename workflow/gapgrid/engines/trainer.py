"""Supervised fine-tuning with transformers' Trainer, full or LoRA: resumable and reproducible.

On one machine with one thread the weights are the same to the bit for the same spec, also after a
kill and a resume; another number of threads, devices or sequences per device changes the order of
floating-point sums (relative 1e-5 per step and less). On several devices every process runs
`attempt`, started by torchrun (see `launch`); the first one writes.
"""

import importlib.util
import logging
import os
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from gapgrid.core.records import InputError, write_jsonl
from gapgrid.core.rows import TrainingRow
from gapgrid.core.spec_types import BaseSpec, Recipe, TrainSpec, with_defaults
from gapgrid.engines import batches, saving
from gapgrid.engines.memory import Hardware, raise_on_oom, retry_with_half_batch, split_batch
from gapgrid.engines.progress import Progress, flops_per_token, last_complete
from gapgrid.engines.tokens import encode, load_tokenizer

log = logging.getLogger(__name__)
CHECKPOINTS = 4  # resumable states per run
METRICS_ROWS = 40  # rows of metrics per run


def fine_tune(
    base: Path,
    rows: list[TrainingRow],
    spec: TrainSpec | BaseSpec,
    out: Path,
    metrics: Path,
    scratch: Path,
    hardware: int | Hardware,
) -> dict[str, Any]:
    """Train the model in `base` on `rows` in this process, write it to `out`, return its facts.

    `spec` holds `recipe` and `seed`; the facts go into the manifest. `hardware` may be the size of
    the micro-batch alone. `scratch` keeps resumable states, that of the last step too, until the
    caller removes it; `metrics` gets one row per logged step. Out of memory: once more with half
    the micro-batch.
    """
    hardware = hardware if isinstance(hardware, Hardware) else Hardware(hardware)
    files = {"base": base, "out": out, "metrics": metrics, "scratch": scratch}
    return retry_with_half_batch(lambda limit: attempt(files, rows, spec, hardware, limit))


def attempt(
    files: dict[str, Path],
    rows: list[TrainingRow],
    spec: TrainSpec | BaseSpec,
    hardware: Hardware,
    limit: int | None,
) -> dict[str, Any]:
    """Try `fine_tune` once, in one of the run's processes, and return the facts.

    `files` holds `base`, `out`, `metrics` and `scratch`; `limit` is the most sequences per device
    and forward pass. Raises `DeviceOutOfMemoryError` when a device has too little memory.
    """
    base, scratch = files["base"], files["scratch"]
    recipe: Recipe = with_defaults("recipe", spec["recipe"])
    tokenizer = load_tokenizer(base)
    encoded = encode(rows, tokenizer, recipe)
    n_dropped, n_long = encoded.n_dropped, encoded.n_over_length
    max_length = recipe["max_length"]
    log.info(
        "%d rows, %d longer than %d tokens, %d dropped", len(rows), n_long, max_length, n_dropped
    )
    dataset = batches.to_dataset(encoded.examples, recipe)
    longest = max(max_length, *(len(example["input_ids"]) for example in encoded.examples))
    per_device = min(hardware.max_micro_batch(longest), limit or recipe["global_batch"])
    # Before the model: ZeRO 3 splits it while it loads.
    arguments = _arguments(recipe, spec["seed"], files, per_device, len(dataset), hardware)
    model = _load(base, recipe, hardware)
    n_parameters = _size(model.parameters())
    if recipe["method"] == "lora":
        model = _with_adapters(model, recipe, spec["seed"])
    n_trained = _size(weight for weight in model.parameters() if weight.requires_grad)
    progress = Progress(
        scratch / "metrics.jsonl",
        flops_per_token(n_parameters, n_trained),
        {"devices": devices(), "zero": hardware.zero},
    )
    trainer = _trainer(model, dataset, tokenizer, arguments, recipe, progress)
    resumed = last_complete(scratch, progress.layout, trainer.is_world_process_zero())
    raise_on_oom(
        lambda: trainer.train(resume_from_checkpoint=resumed), arguments.per_device_train_batch_size
    )
    _save(trainer, files, recipe, hardware)
    if trainer.is_world_process_zero():
        write_jsonl(files["metrics"], progress.rows)
    return {
        "n_parameters": n_parameters,
        "n_rows": len(encoded.examples),
        "n_dropped": n_dropped,
        "n_over_length": n_long,
        "n_steps": trainer.state.global_step,
        "n_tokens": trainer.state.num_input_tokens_seen,
    }


def devices() -> int:
    """Return how many processes, each with one device, torchrun says that this run has."""
    return max(1, int(os.environ.get("WORLD_SIZE", "1")))


def _trainer(
    model: Any,
    dataset: Any,
    tokenizer: Any,
    arguments: TrainingArguments,
    recipe: Recipe,
    progress: Progress,
) -> Any:
    model.config.use_cache = False  # with a cache, packed documents would see each other
    padded = batches.pad_dataset(dataset, recipe, devices())
    trainer = GridTrainer(
        model=model,
        args=arguments,
        train_dataset=padded,
        data_collator=batches.CountingCollator(batches.collator(recipe)),
        processing_class=tokenizer,
        callbacks=[progress],
    )
    trainer.sampler = batches.sampler_of(padded, recipe, arguments.seed, devices())
    trainer.add_callback(EpochCallback(trainer.sampler))
    trainer.remove_callback(PrinterCallback)
    return trainer


def _size(weights: Any) -> int:
    # ZeRO 3 keeps only a part of each weight; ds_numel is the size of the whole.
    return sum(getattr(weight, "ds_numel", weight.numel()) for weight in weights)


def _load(folder: Path, recipe: Recipe, hardware: Hardware) -> Any:
    """Return the student, in fp32 where all its weights are trained.

    bf16's 8 bits would lose a step of 1e-5; ZeRO keeps its own fp32 weights.
    """
    cuda = torch.cuda.is_available()
    in_bf16 = cuda and (recipe["method"] == "lora" or hardware.zero > 0)
    flash = cuda and _is_installed("flash_attn")
    return AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=torch.bfloat16 if in_bf16 else torch.float32,
        # None: sdpa where the model has it
        attn_implementation="flash_attention_2" if flash else None,
    )


def _with_adapters(model: Any, recipe: Recipe, seed: int) -> Any:
    from peft import LoraConfig, get_peft_model

    lora = with_defaults("lora", recipe["lora"])
    torch.manual_seed(seed)
    config = LoraConfig(
        r=lora["rank"],
        lora_alpha=lora["alpha"],
        lora_dropout=lora["dropout"],
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, config)


def _arguments(
    recipe: Recipe,
    seed: int,
    files: dict[str, Path],
    max_per_device: int,
    n_examples: int,
    hardware: Hardware,
) -> TrainingArguments:
    global_batch = recipe["global_batch"]
    per_device, accumulation = split_batch(
        global_batch, devices(), 1 if recipe["batching"] == "packed" else max_per_device
    )
    log.info(
        "global batch %d = %d devices x %d sequences x %d gradient accumulation steps",
        *(global_batch, devices(), per_device, accumulation),
    )
    steps = max(1, int(n_examples / global_batch * recipe["epochs"]))
    per_log = max(1, steps // METRICS_ROWS)
    arguments = TrainingArguments(
        output_dir=str(files["scratch"]),
        per_device_train_batch_size=per_device,
        gradient_accumulation_steps=accumulation,
        num_train_epochs=recipe["epochs"],
        seed=seed,
        data_seed=seed,
        logging_steps=per_log,
        save_strategy="steps",
        # With a row of metrics each: a row that a resume cuts would be another mean.
        save_steps=per_log * max(1, steps // (CHECKPOINTS * per_log)),
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_num_workers=0,
        **_optimiser(recipe, steps),
        **_of_machine(hardware),
        **_tracker(hardware.report_to, files["out"]),
    )
    if arguments.n_gpu > 1:
        # One process that sees several GPUs would multiply the batch by their number.
        arguments._n_gpu = 1
    if arguments.world_size != devices():
        raise InputError(
            f"{devices()} processes were started, but the trainer sees {arguments.world_size}"
        )
    if hardware.zero:
        import deepspeed

        # Joins the processes that are set up; on a CPU nobody else does.
        deepspeed.init_distributed(auto_mpi_discovery=False)
    return arguments


def _optimiser(recipe: Recipe, steps: int) -> dict[str, Any]:
    min_lr = recipe["min_lr_ratio"]
    return {
        "learning_rate": recipe["learning_rate"],
        "lr_scheduler_type": "cosine_with_min_lr" if min_lr else "cosine",
        "lr_scheduler_kwargs": {"min_lr_rate": min_lr} if min_lr else None,
        "warmup_steps": int(recipe["warmup_ratio"] * steps),
        "weight_decay": recipe["weight_decay"],
        "adam_beta1": recipe["adam_betas"][0],
        "adam_beta2": recipe["adam_betas"][1],
        "max_grad_norm": recipe["max_grad_norm"],
        "optim": "adamw_torch_fused",
    }


def _of_machine(hardware: Hardware) -> dict[str, Any]:
    """Return the arguments that follow from the device: precision, kernels, recomputing, ZeRO."""
    cuda = torch.cuda.is_available()
    options: dict[str, Any] = {
        "bf16": cuda,
        "use_cpu": not cuda,
        "dataloader_pin_memory": cuda,
        "ddp_find_unused_parameters": False,
    }
    if hardware.checkpointing or (hardware.checkpointing is None and cuda):
        options["gradient_checkpointing"] = True
        options["gradient_checkpointing_kwargs"] = {"use_reentrant": False}
    if cuda and _is_installed("liger_kernel"):
        options["use_liger_kernel"] = True
    if hardware.zero:
        if not _is_installed("deepspeed"):
            raise InputError(
                f"ZeRO {hardware.zero} needs DeepSpeed, which is not in this environment"
            )
        options["deepspeed"] = _deepspeed_config(hardware.zero)
    return options


def _deepspeed_config(stage: int) -> dict[str, Any]:
    """Return DeepSpeed's settings: nothing is offloaded, auto follows from TrainingArguments."""
    gather = {"stage3_gather_16bit_weights_on_model_save": True} if stage == 3 else {}
    auto = ("train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "gradient_clipping")
    return {
        "zero_optimization": {"stage": stage, **gather},
        "bf16": {"enabled": "auto"},
        **dict.fromkeys(auto, "auto"),
    }


def _tracker(name: str, out: Path) -> dict[str, Any]:
    """Return the arguments that send metrics to an installed tracker too, or to none."""
    if name == "none":
        return {"report_to": "none"}
    if not _is_installed(name):
        raise InputError(f"report_to {name}: the package is not in this environment")
    os.environ.setdefault("TENSORBOARD_LOGGING_DIR", str(out.parent / "tensorboard"))
    os.environ.setdefault("WANDB_DIR", str(out.parent))
    return {"report_to": name, "run_name": "/".join(out.absolute().parent.parts[-3:])}


def _is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


class GridTrainer(Trainer):
    """transformers' Trainer with our order of rows and our count of tokens that are no padding."""

    sampler: Any = None

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return super()._get_train_sampler(train_dataset) if self.sampler is None else self.sampler

    def get_batch_samples(
        self, epoch_iterator: Any, num_batches: int, device: Any
    ) -> tuple[list[Any], Any]:
        """Return the micro-batches of one step, and count all devices' tokens.

        The count is taken out of the batches: the model does not take it.
        """
        samples, n_items = super().get_batch_samples(epoch_iterator, num_batches, device)
        n_tokens = sum(batch.pop("n_tokens") for batch in samples)
        if self.args.world_size > 1:
            n_tokens = int(self.accelerator.reduce(torch.tensor(n_tokens, device=device)).item())
        self.state.num_input_tokens_seen += n_tokens
        return samples, n_items

    def _run_epoch(self, *arguments: Any, **named: Any) -> None:
        # transformers trains one step more where it resumes after the last one within an epoch.
        if self.state.global_step < self.state.max_steps:
            super()._run_epoch(*arguments, **named)


class EpochCallback(TrainerCallback):
    """Passes the epoch to the sampler; a resumed data loader on several devices does not."""

    def __init__(self, sampler: Any) -> None:
        self.sampler = sampler

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Set the epoch; `state.epoch` is whole here, or a fraction where a run is resumed."""
        if self.sampler is not None:
            self.sampler.set_epoch(int(state.epoch or 0))


def _save(trainer: Any, files: dict[str, Path], recipe: Recipe, hardware: Hardware) -> None:
    """Write the student: every process takes part in gathering it, the first one writes it."""
    adapter = files["scratch"] / "adapter"
    is_lora = recipe["method"] == "lora"
    state = None
    if is_lora:
        trainer.save_model(str(adapter))
    elif hardware.zero == 3:
        state = trainer.accelerator.get_state_dict(trainer.deepspeed)
    if not trainer.is_world_process_zero():
        return
    if hardware.zero:
        from transformers.integrations.deepspeed import unset_hf_deepspeed_config

        unset_hf_deepspeed_config()  # from here on this process alone loads models, and whole
    model = saving.merged(files["base"], adapter) if is_lora else trainer.model
    saving.save(model, files["base"], files["out"], state)
