"""The trainer: same spec, same weights; killed and resumed, the same; LoRA, packing, padding."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from gapgrid.core import manifest
from gapgrid.core.records import InputError, Row, read_jsonl, remove, sha256_file, write_jsonl
from gapgrid.engines import batches, memory, progress, trainer
from gapgrid.engines.tokens import encode, load_tokenizer
from gapgrid.stages import train
from tests.engines.helpers import (
    ARCHITECTURE,
    RECIPE,
    column,
    complete_recipe,
    kill_at_checkpoint,
    killed_in,
    largest_difference,
    run,
    stage_command,
    train_command,
    weights,
)


class Runs:
    """Trains the tiny student, each run under a name."""

    def __init__(self, folder: Path, student: Path, rows: list[Row]) -> None:
        self.folder, self.student, self.rows = folder, student, rows

    def train(
        self, name: str, hardware: int | memory.Hardware = 8, seed: int = 0, **changes: Any
    ) -> dict[str, Any]:
        """Return the facts of a run."""
        out = self.folder / name
        files = (out / "model", out / "metrics.jsonl", out / "scratch")
        spec: Any = {"recipe": {**RECIPE, **changes}, "seed": seed}
        return trainer.fine_tune(self.student, self.rows, spec, *files, hardware)

    def model(self, name: str) -> Path:
        return self.folder / name / "model"

    def difference(self, first: str, second: str) -> float:
        return largest_difference(self.model(first), self.model(second))

    def metrics(self, name: str, key: str) -> list[Any]:
        return column(self.folder / name / "metrics.jsonl", key)


@pytest.fixture
def runs(tmp_path: Path, student: Path, rows: list[Row]) -> Runs:
    return Runs(tmp_path, student, rows)


def test_same_spec_same_bytes_and_another_seed_other_weights(runs: Runs) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        runs.train(name, seed=seed, batching="bucketed")
    names = sorted(file.name for file in runs.model("a").iterdir())
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(names)
    first, second = ([sha256_file(runs.model(run) / name) for name in names] for run in ("a", "b"))
    assert first == second
    assert runs.difference("a", "c") > 0


@pytest.mark.parametrize(
    "changes",
    [{}, {"batching": "padding_free"}, {"method": "lora", "lora": {"rank": 4}}],
    ids=["full", "free", "lora"],
)
def test_the_micro_batch_changes_nothing_but_rounding(runs: Runs, changes: dict[str, Any]) -> None:
    """The loss is a mean over the step's trained tokens, of which each row has another number.

    48 rows less 3, so that the last step of an epoch is short too. The learning rate is low enough
    that Adam does not blow rounding up to whole steps, and a mean of the micro-batches' means would
    still move weights by more than is allowed.
    """
    runs.rows = runs.rows[:45]
    for micro_batch in (8, 4, 1):
        runs.train(str(micro_batch), micro_batch, learning_rate=2e-4, **changes)
    for name in ("4", "1"):
        assert runs.difference("8", name) < 1e-5
        assert runs.metrics("8", "loss") == pytest.approx(runs.metrics(name, "loss"), abs=1e-5)


def test_a_mean_of_means_would_be_seen(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above can fail: the same with a mean of means is further off than it allows."""
    monkeypatch.setattr(trainer.GridTrainer, "_get_num_items_in_batch", lambda *_: None)
    runs.rows = runs.rows[:45]
    for micro_batch in (8, 1):
        runs.train(str(micro_batch), micro_batch, learning_rate=2e-4)
    assert runs.difference("8", "1") > 1e-4


def test_recomputed_activations_give_the_same_weights(runs: Runs) -> None:
    for recompute in (True, False):
        runs.train(str(recompute), memory.Hardware(4, checkpointing=recompute))
    assert runs.difference("True", "False") < 1e-6


def test_metrics_that_a_cpu_does_not_have_are_null(runs: Runs) -> None:
    runs.train("a")
    row = read_jsonl(runs.folder / "a/metrics.jsonl")[-1]
    always = {"step", "epoch", "tokens", "tokens_per_s", "loss", "grad_norm", "learning_rate"}
    assert row.keys() == always | {"mfu", "memory_mb"}
    assert (row["mfu"], row["memory_mb"]) == (None, None) or torch.cuda.is_available()


def test_share_of_the_peak() -> None:
    assert progress.flops_per_token(10, 10) == 60 and progress.flops_per_token(10, 1) == 42
    assert progress.peak_flops("NVIDIA A100-SXM4-80GB") == 312e12
    assert progress.peak_flops("NVIDIA H100 80GB HBM3") == 989e12
    assert progress.peak_flops("NVIDIA H100 PCIe") == 756e12
    assert progress.peak_flops("Radeon") is None


# ---- memory ----


@pytest.mark.parametrize(
    ("budget", "longest", "expected"),
    [(None, 100, 3), (1000, 100, 10), (1000, 600, 1), (10, 600, 1)],
)
def test_a_token_budget_is_sequences_of_the_longest(
    budget: int | None, longest: int, expected: int
) -> None:
    hardware = memory.Hardware(3, tokens_per_device=budget)
    assert hardware.max_micro_batch(longest) == expected


CUBLAS = "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError(CUBLAS), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_what_counts_as_out_of_memory(error: Exception, expected: bool) -> None:
    assert memory.is_out_of_memory(error) == expected


def run_out_of_memory(monkeypatch: pytest.MonkeyPatch, fitting: int) -> list[int]:
    """Have the third step and all after it fail with more than `fitting` sequences.

    Returns a list to which the sizes of the micro-batches that failed are added.
    """
    failed: list[int] = []
    step = trainer.GridTrainer.training_step

    def training_step(self: Any, model: Any, inputs: Row, *rest: Any, **named: Any) -> Any:
        n_sequences = len(inputs["input_ids"])
        if self.state.global_step >= 2 and n_sequences > fitting:
            failed.append(n_sequences)
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return step(self, model, inputs, *rest, **named)

    monkeypatch.setattr(trainer.GridTrainer, "training_step", training_step)
    return failed


def test_out_of_memory_resumes_with_half_the_batch(
    runs: Runs, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Resumed from a checkpoint, the weights are those of half the micro-batch from the start."""
    changes = {"learning_rate": 2e-4, "epochs": 1, "batching": "bucketed"}
    undisturbed = runs.train("half", 4, **changes)
    monkeypatch.setattr(trainer, "CHECKPOINTS", 6)
    failed = run_out_of_memory(monkeypatch, 4)
    with caplog.at_level("INFO"):
        assert runs.train("retried", 8, **changes) == undisturbed
    assert failed == [8]
    messages = [record.getMessage() for record in caplog.records]
    assert {
        "out of memory: retrying from the last checkpoint with 4 sequences per device",
        "resuming from checkpoint-2",
        "global batch 8 = 1 devices x 4 sequences x 2 gradient accumulation steps",
    } <= set(messages)
    assert runs.difference("half", "retried") < 1e-5
    assert runs.metrics("half", "step") == runs.metrics("retried", "step")


@pytest.mark.parametrize(
    ("micro_batch", "fitting", "expected"), [(8, 1, [8, 4]), (1, 0, [1])], ids=["twice", "one"]
)
def test_out_of_memory_is_retried_once_if_the_batch_can_be_halved(
    runs: Runs, monkeypatch: pytest.MonkeyPatch, micro_batch: int, fitting: int, expected: list[int]
) -> None:
    failed = run_out_of_memory(monkeypatch, fitting)
    message = f"out of memory with a micro-batch of {expected[-1]} sequences .* or ZeRO 3"
    with pytest.raises(InputError, match=message):
        runs.train("a", micro_batch)
    assert failed == expected


@pytest.mark.parametrize(
    "hardware", [memory.Hardware(report_to="mlflow"), memory.Hardware(zero=2)], ids=["log", "zero"]
)
def test_what_is_not_installed_is_an_error(
    runs: Runs, hardware: memory.Hardware, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match="not in this environment"):
        runs.train("a", hardware)


@pytest.mark.parametrize(
    ("global_batch", "devices", "max_per_device", "expected"),
    [
        (8, 1, 64, (8, 1)),
        (8, 4, 2, (2, 1)),
        (8, 4, 1, (1, 2)),
        (80, 4, 6, (5, 4)),
        (12, 1, 5, (4, 3)),
        (7, 1, 3, (1, 7)),
    ],
)
def test_split_batch(
    global_batch: int, devices: int, max_per_device: int, expected: tuple[int, int]
) -> None:
    assert memory.split_batch(global_batch, devices, max_per_device) == expected


def test_a_batch_that_devices_do_not_divide_is_an_error() -> None:
    with pytest.raises(InputError, match="8 cannot be split over 3 devices"):
        memory.split_batch(8, 3, 2)


# ---- batches ----


@pytest.mark.parametrize("batching", ["padding_free", "packed"])
def test_without_padding_the_same_tokens_are_trained(runs: Runs, batching: str) -> None:
    padded = runs.train("padded")
    assert runs.train("other", batching=batching, max_length=320)["n_tokens"] == padded["n_tokens"]
    if batching == "padding_free":
        losses = [runs.metrics(name, "loss")[-1] for name in ("padded", "other")]
        assert losses[0] == pytest.approx(losses[1], abs=1e-3)


def load(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder).requires_grad_(False)
    model.config.use_cache = False
    return model


def assert_logits_of_each_alone(model: Any, logits: Any, ids: list[int]) -> None:
    alone = model(torch.tensor([ids])).logits[0]
    assert float((logits[: len(ids)] - alone).abs().max()) < 1e-4


def test_packed_documents_do_not_see_each_other(student: Path, rows: list[Row]) -> None:
    recipe = complete_recipe(batching="packed", max_length=400)
    model, tokenizer = load(student), load_tokenizer(student)
    examples = encode(rows[:6], tokenizer, recipe).examples
    packs = batches.to_dataset(examples, recipe)
    assert len(packs) < len(examples)
    collate = batches.collator(recipe)
    for pack in packs:
        batch = collate([pack])
        logits = model(input_ids=batch["input_ids"], position_ids=batch["position_ids"]).logits[0]
        start = 0
        for length in pack["seq_lengths"]:
            end = start + length
            assert_logits_of_each_alone(model, logits[start:end], pack["input_ids"][start:end])
            start = end


def test_packing_cuts_no_row(student: Path, rows: list[Row]) -> None:
    recipe = complete_recipe(batching="packed", max_length=100, over_length="keep")
    examples = encode(rows, load_tokenizer(student), recipe).examples
    packs = batches.to_dataset(examples, recipe)
    packed: list[list[int]] = []
    for pack in packs:
        parts = torch.tensor(pack["input_ids"]).split(pack["seq_lengths"])
        packed.extend(part.tolist() for part in parts)
    assert sorted(packed) == sorted(example["input_ids"] for example in examples)


def test_right_padding_without_mask_is_exact(student: Path, rows: list[Row]) -> None:
    model, tokenizer, recipe = load(student), load_tokenizer(student), complete_recipe()
    examples = encode(rows[:5], tokenizer, recipe).examples
    batch = batches.collator(recipe)(examples)
    assert "attention_mask" not in batch
    logits = model(input_ids=batch["input_ids"]).logits
    for index, example in enumerate(examples):
        assert_logits_of_each_alone(model, logits[index], example["input_ids"])


@pytest.mark.parametrize("batching", ["padded", "bucketed", "padding_free", "packed"])
@pytest.mark.parametrize("tokens", [{"padding_side": "left"}, {"pad_token": None}], ids=str)
def test_how_a_tokenizer_pads_decides_nothing(
    runs: Runs, changed: Callable[..., Path], tokens: Row, batching: str
) -> None:
    runs.train("right", batching=batching)
    runs.student = changed(tokenizer_config=tokens)
    loaded = load_tokenizer(runs.student)
    assert {key: getattr(loaded, key) for key in tokens} == tokens
    runs.train("other", batching=batching)
    for key in ("step", "tokens", "loss", "grad_norm"):
        assert runs.metrics("right", key) == runs.metrics("other", key)
    digests = [sha256_file(runs.model(run) / "model.safetensors") for run in ("right", "other")]
    assert digests[0] == digests[1]


def test_lora_is_merged_and_changes_only_linear_layers(runs: Runs) -> None:
    for name in ("a", "b"):
        runs.train(name, method="lora", lora={"rank": 4})
    before, after = weights(runs.student), weights(runs.model("a"))
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and all("proj" in name for name in changed)
    assert runs.difference("a", "b") == 0


LENGTHS = [(7 * index) % 50 for index in range(101)]


def steps_of(sampler: Any) -> list[list[int]]:
    order = list(sampler)
    assert sorted(order) == list(range(101))
    return [order[start : start + 8] for start in range(0, 101, 8)]


def test_bucketed_covers_every_row_once_and_is_a_function_of_the_epoch() -> None:
    sampler = batches.BucketedSampler(LENGTHS, 8, 5)
    first = steps_of(sampler)
    assert steps_of(sampler) == first
    sampler.set_epoch(1)
    assert steps_of(sampler) != first
    lengths = [[LENGTHS[row] for row in step] for step in first[:-1]]
    assert sum(max(step) - min(step) for step in lengths) / len(lengths) < 15


def test_length_sorting_keeps_the_rows_of_each_step() -> None:
    plain = batches.SeedableRandomSampler(range(101), data_seed=5)
    examples = [{"input_ids": [0] * length} for length in LENGTHS]
    sampler = batches.sampler_of(examples, complete_recipe(), 5, 1)
    assert isinstance(sampler, batches.LengthSortedSampler)
    for epoch in (0, 1, 1):
        plain.set_epoch(epoch)
        sampler.set_epoch(epoch)
        before, after = steps_of(plain), steps_of(sampler)
        assert before != after and list(map(set, before)) == list(map(set, after))
        assert all(step == sorted(step, key=LENGTHS.__getitem__) for step in after)


# ---- killed, resumed, diverged ----


@pytest.mark.parametrize("batching", ["bucketed", "padded"])
def test_killed_and_resumed_is_the_same_to_the_byte(
    student: Path, rows: list[Row], tmp_path: Path, batching: str
) -> None:
    recipe = {"epochs": 120, "batching": batching}
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    commands = [
        train_command(folder, student, rows, recipe, "--micro-batch", "8")
        for folder in (whole, killed)
    ]
    assert run(commands[0]).returncode == 0
    kill_at_checkpoint(commands[1], killed)
    resumed = run(commands[1])
    assert resumed.returncode == 0 and "resuming from checkpoint-" in resumed.stderr
    for folder in (whole, killed):
        assert manifest.mismatches(folder / "manifest.json") == []
    assert (whole / "manifest.json").read_bytes() == (killed / "manifest.json").read_bytes()
    for key in ("step", "loss"):
        assert column(whole / "metrics.jsonl", key) == column(killed / "metrics.jsonl", key)


@pytest.mark.parametrize(
    ("point", "recipe"),
    [
        ("saving.save", {"epochs": 1.5}),
        ("manifest.write", {}),
        ("manifest.write", {"method": "lora", "lora": {"rank": 4}}),
    ],
    ids=["model, within an epoch", "manifest", "manifest, lora"],
)
def test_killed_after_the_last_step_trains_no_step_again(
    student: Path,
    rows: list[Row],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    point: str,
    recipe: Row,
) -> None:
    """Killed before the model or the manifest; Snakemake removes outputs before the next run."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    commands = [train_command(folder, student, rows, recipe) for folder in (whole, killed)]
    assert train.main(commands[0][3:]) == 0
    assert run(killed_in(point, commands[1])).returncode == -signal.SIGKILL
    assert (killed / "model").exists() == (point == "manifest.write")
    remove(killed / "model")
    (killed / "metrics.jsonl").unlink(missing_ok=True)

    def training_step(*_: Any) -> None:
        pytest.fail("a step is trained again")

    monkeypatch.setattr(trainer.GridTrainer, "training_step", training_step)
    assert train.main(commands[1][3:]) == 0
    assert (whole / "manifest.json").read_bytes() == (killed / "manifest.json").read_bytes()
    for key in ("step", "tokens", "loss"):
        assert column(whole / "metrics.jsonl", key) == column(killed / "metrics.jsonl", key)
    for folder in (whole, killed):
        assert manifest.mismatches(folder / "manifest.json") == []
        assert not list(folder.glob("*scratch*"))


def test_a_tiny_student_keeps_its_training_until_the_manifest_is_written(
    tokenizer_folder: Path, rows: list[Row], tmp_path: Path
) -> None:
    write_jsonl(tmp_path / "rows.jsonl", rows)
    spec = {"version": 1, "kind": "tiny", "architecture": ARCHITECTURE, "seed": 0}
    spec |= {"recipe": {**RECIPE, "format": "text"}, "engine": {"name": "trainer"}}
    options = ("--tokenizer", tokenizer_folder / "tokenizer.json")
    options += ("--corpus", tmp_path / "rows.jsonl")
    whole, killed = (
        stage_command("base", spec, *options, folder / "model", folder / "manifest.json")
        for folder in (tmp_path / "whole", tmp_path / "killed")
    )
    assert run(whole).returncode == 0
    assert run(killed_in("manifest.write", killed)).returncode == -signal.SIGKILL
    again = run(killed)
    assert again.returncode == 0, again.stderr
    assert "resuming from checkpoint-12" in again.stderr and "loss" not in again.stderr
    first, second = (tmp_path / name / "manifest.json" for name in ("whole", "killed"))
    assert first.read_bytes() == second.read_bytes()
    assert not list(tmp_path.glob("*/scratch"))


def test_a_checkpoint_is_on_the_disk_before_its_mark(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: set[Path] = set()
    marked: list[Path] = []
    fsync, write_json = os.fsync, progress.write_json

    def note_sync(descriptor: int) -> None:
        synced.add(Path(f"/proc/self/fd/{descriptor}").readlink())
        fsync(descriptor)

    def mark(path: Path, value: Any) -> None:
        folder = path.parent
        assert {folder, *folder.rglob("*")} <= synced
        assert {"model.safetensors", "optimizer.pt"} <= {file.name for file in folder.iterdir()}
        marked.append(path)
        write_json(path, value)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(progress, "write_json", mark)
    runs.train("a")
    assert [path.name for path in marked] == ["complete"] * trainer.CHECKPOINTS


PLAIN = {"devices": 1, "zero": 0}
ZERO = {"devices": 4, "zero": 2}


@pytest.mark.parametrize(
    ("saved", "layout", "fits"),
    [
        (None, PLAIN, False),
        (PLAIN, {"devices": 4, "zero": 0}, True),
        (ZERO, ZERO, True),
        (ZERO, {"devices": 2, "zero": 2}, False),
        (ZERO, {"devices": 4, "zero": 3}, False),
        (PLAIN, {"devices": 1, "zero": 2}, False),
    ],
)
def test_a_checkpoint_is_resumed_if_it_is_whole_and_of_this_layout(
    tmp_path: Path, saved: dict[str, int] | None, layout: dict[str, int], fits: bool
) -> None:
    """ZeRO's states need the same stage and number of devices, all others any; misfits go."""
    folder = tmp_path / "checkpoint-9"
    folder.mkdir()
    (folder / "trainer_state.json").write_text('{"global_step": 9}')
    if saved:
        (folder / "complete").write_text(json.dumps(saved))
    assert progress.last_complete(tmp_path, layout, clean=False) == (str(folder) if fits else None)
    assert folder.exists()
    progress.last_complete(tmp_path, layout)
    assert folder.exists() == fits


def test_diverged_training_is_an_error(runs: Runs) -> None:
    with pytest.raises(InputError, match="diverged"):
        runs.train("a", learning_rate=1e30, max_grad_norm=1e30)
    assert not runs.model("a").exists()
