"""The trainer: same spec, same weights; killed and resumed, the same; LoRA, packing and padding as they should be."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from gapgrid import manifest
from gapgrid.engines import batches, memory, progress, trainer
from gapgrid.engines.tokens import IGNORED, encode, load_tokenizer
from gapgrid.records import InputError, Row, canonical, read_jsonl, sha256_file, write_jsonl
from tests.engines.conftest import RECIPE


def run(student: Path, rows: list[Row], out: Path, micro_batch: int | memory.Hardware = 8, seed: int = 0, **changes: Any) -> dict[str, Any]:
    spec = {"recipe": {**RECIPE, **changes}, "seed": seed}
    return trainer.fine_tune(student, rows, spec, out / "model", out / "metrics.jsonl", out / "scratch", micro_batch)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "model" / "model.safetensors")


def test_same_spec_same_bytes(student: Path, rows: list[Row], tmp_path: Path) -> None:
    for name in ("a", "b"):
        run(student, rows, tmp_path / name, batching="bucketed")
    files = sorted(file.name for file in (tmp_path / "a/model").iterdir())
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(files)
    assert all(sha256_file(tmp_path / "a/model" / name) == sha256_file(tmp_path / "b/model" / name) for name in files)
    assert not (tmp_path / "a/scratch").exists()


def test_another_seed_other_weights(student: Path, rows: list[Row], tmp_path: Path) -> None:
    run(student, rows, tmp_path / "a")
    run(student, rows, tmp_path / "b", seed=1)
    assert not torch.equal(weights(tmp_path / "a")["model.norm.weight"], weights(tmp_path / "b")["model.norm.weight"])


def furthest(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)


@pytest.mark.parametrize(
    "changes", [{}, {"batching": "padding_free"}, {"method": "lora", "lora": {"rank": 4}}], ids=["full", "free", "lora"]
)
def test_the_cut_of_a_step_changes_nothing_but_rounding(student: Path, rows: list[Row], tmp_path: Path, changes: dict[str, Any]) -> None:
    """8 sequences at once, 2 x 4, 1 x 8: the loss is a mean over the step's trained tokens, of which each row has another number.

    48 rows less 3, so that the last step of an epoch is short too. The learning rate is low enough that Adam does not
    blow rounding up to whole steps, and a mean of the passes' means would still move weights by more than is allowed.
    """
    for micro_batch in (8, 4, 1):
        run(student, rows[:45], tmp_path / str(micro_batch), micro_batch=micro_batch, learning_rate=2e-4, **changes)
    whole = weights(tmp_path / "8")
    assert furthest(whole, weights(tmp_path / "4")) < 1e-5
    assert furthest(whole, weights(tmp_path / "1")) < 1e-5
    losses = [[row["loss"] for row in read_jsonl(tmp_path / name / "metrics.jsonl")] for name in ("8", "4", "1")]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5) and losses[0] == pytest.approx(losses[2], abs=1e-5)


def test_the_cut_would_show_without_the_mean_over_tokens(
    student: Path, rows: list[Row], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test above can fail: the same with a mean of means is further off than it allows."""
    monkeypatch.setattr(trainer.GridTrainer, "_get_num_items_in_batch", lambda *_: None)
    for micro_batch in (8, 1):
        run(student, rows[:45], tmp_path / str(micro_batch), micro_batch=micro_batch, learning_rate=2e-4)
    assert furthest(weights(tmp_path / "8"), weights(tmp_path / "1")) > 1e-4


def test_recomputed_activations_give_the_same_weights(student: Path, rows: list[Row], tmp_path: Path) -> None:
    for recompute in (True, False):
        run(student, rows, tmp_path / str(recompute), micro_batch=memory.Hardware(4, checkpointing=recompute))
    assert furthest(weights(tmp_path / "True"), weights(tmp_path / "False")) < 1e-6


def test_metrics_have_what_a_cpu_cannot_say_as_null(student: Path, rows: list[Row], tmp_path: Path) -> None:
    run(student, rows, tmp_path)
    row = read_jsonl(tmp_path / "metrics.jsonl")[-1]
    keys = {"step", "epoch", "tokens", "tokens_per_s", "loss", "grad_norm", "learning_rate", "mfu", "memory_mb"}
    assert row.keys() == keys
    assert (row["mfu"], row["memory_mb"]) == (None, None) or torch.cuda.is_available()


def test_share_of_the_peak() -> None:
    assert progress.flops_per_token(10, 10) == 60 and progress.flops_per_token(10, 1) == 42
    assert progress.peak_flops("NVIDIA A100-SXM4-80GB") == 312e12
    assert progress.peak_flops("NVIDIA H100 80GB HBM3") == 989e12 > (progress.peak_flops("NVIDIA H100 PCIe") or 0)
    assert progress.peak_flops("Radeon") is None


# ---- memory ----


@pytest.mark.parametrize(("budget", "longest", "most"), [(None, 100, 3), (1000, 100, 10), (1000, 600, 1), (10, 600, 1)])
def test_a_token_budget_is_sequences_of_the_longest(budget: int | None, longest: int, most: int) -> None:
    assert memory.Hardware(3, tokens_per_device=budget).most(longest) == most


@pytest.mark.parametrize(
    ("error", "short"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_what_counts_as_too_little_memory(error: Exception, short: bool) -> None:
    assert memory.is_shortage(error) == short


def short_of_memory(monkeypatch: pytest.MonkeyPatch, most: int) -> list[int]:
    """Have the third step and all after it run out of memory with more than `most` sequences; the passes that did."""
    failed: list[int] = []
    step = trainer.GridTrainer.training_step

    def training_step(self: Any, model: Any, inputs: dict[str, Any], *rest: Any, **named: Any) -> Any:
        n_sequences = len(inputs["input_ids"])
        if self.state.global_step >= 2 and n_sequences > most:
            failed.append(n_sequences)
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return step(self, model, inputs, *rest, **named)

    monkeypatch.setattr(trainer.GridTrainer, "training_step", training_step)
    return failed


def test_out_of_memory_goes_on_with_half(
    student: Path, rows: list[Row], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Resumed from a checkpoint of whole micro-batches: the same weights as with half of them from the start."""
    changes = {"learning_rate": 2e-4, "epochs": 1, "batching": "bucketed"}
    undisturbed = run(student, rows, tmp_path / "half", micro_batch=4, **changes)
    monkeypatch.setattr(trainer, "CHECKPOINTS", 6)
    failed = short_of_memory(monkeypatch, 4)
    with caplog.at_level("INFO"):
        disturbed = run(student, rows, tmp_path / "retried", micro_batch=8, **changes)
    assert failed == [8]
    said = [record.getMessage() for record in caplog.records]
    assert any("out of memory: once more from the last checkpoint, 4 sequences" in line for line in said)
    assert "resuming from checkpoint-2" in said and "global batch 8 = 1 devices x 4 sequences x 2 passes" in said
    assert disturbed == undisturbed
    assert furthest(weights(tmp_path / "half"), weights(tmp_path / "retried")) < 1e-5
    steps = [[row["step"] for row in read_jsonl(tmp_path / name / "metrics.jsonl")] for name in ("half", "retried")]
    assert steps[0] == steps[1]


def test_out_of_memory_is_tried_again_once(student: Path, rows: list[Row], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = short_of_memory(monkeypatch, 1)
    with pytest.raises(InputError, match="out of memory with 4 sequences per device and pass"):
        run(student, rows, tmp_path)
    assert failed == [8, 4]


def test_out_of_memory_with_one_sequence_is_an_error(
    student: Path, rows: list[Row], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = short_of_memory(monkeypatch, 0)
    with pytest.raises(InputError, match=r"out of memory with 1 sequences .* more devices, or ZeRO 3"):
        run(student, rows, tmp_path, micro_batch=1)
    assert failed == [1]


@pytest.mark.parametrize("what", [memory.Hardware(report_to="mlflow"), memory.Hardware(zero=2)], ids=["tracker", "zero"])
def test_what_is_not_installed_is_said(
    student: Path, rows: list[Row], tmp_path: Path, what: memory.Hardware, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match="not in this environment"):
        run(student, rows, tmp_path, micro_batch=what)


@pytest.mark.parametrize("batching", ["padding_free", "packed"])
def test_laid_end_to_end_trains_the_same_tokens(student: Path, rows: list[Row], tmp_path: Path, batching: str) -> None:
    padded = run(student, rows, tmp_path / "padded")
    other = run(student, rows, tmp_path / batching, batching=batching, max_length=320)
    assert other["n_tokens"] == padded["n_tokens"]
    if batching == "padding_free":
        losses = [read_jsonl(tmp_path / name / "metrics.jsonl")[-1]["loss"] for name in ("padded", batching)]
        assert losses[0] == pytest.approx(losses[1], abs=1e-3)


def test_packed_documents_do_not_see_each_other(student: Path, rows: list[Row]) -> None:
    from transformers import AutoModelForCausalLM

    recipe = {**RECIPE, "batching": "packed", "max_length": 400}
    tokenizer = load_tokenizer(student)
    examples = encode(rows[:6], tokenizer, recipe).examples
    packs = batches.laid_out(examples, recipe)
    assert len(packs) < len(examples)
    model = AutoModelForCausalLM.from_pretrained(student).requires_grad_(False)
    model.config.use_cache = False
    collate = batches.collator(tokenizer, recipe)
    alone = {tuple(example["input_ids"]): model(torch.tensor([example["input_ids"]])).logits[0] for example in examples}
    for pack in packs:
        batch = collate([pack])
        together = model(input_ids=batch["input_ids"], position_ids=batch["position_ids"]).logits[0]
        start = 0
        for length in pack["seq_lengths"]:
            ids = tuple(pack["input_ids"][start : start + length])
            assert float((together[start : start + length] - alone[ids]).abs().max()) < 1e-4
            start += length


def test_packing_cuts_no_row(student: Path, rows: list[Row]) -> None:
    recipe = {**RECIPE, "batching": "packed", "max_length": 100, "over_length": "keep"}
    examples = encode(rows, load_tokenizer(student), recipe).examples
    packs = batches.laid_out(examples, recipe)
    assert sum(sum(pack["seq_lengths"]) for pack in packs) == sum(len(example["input_ids"]) for example in examples)
    assert sorted(length for pack in packs for length in pack["seq_lengths"]) == sorted(len(e["input_ids"]) for e in examples)


def test_right_padding_without_mask_is_exact(student: Path, rows: list[Row]) -> None:
    from transformers import AutoModelForCausalLM

    tokenizer = load_tokenizer(student)
    examples = encode(rows[:5], tokenizer, RECIPE).examples
    batch = batches.collator(tokenizer, RECIPE)(examples)
    assert "attention_mask" not in batch
    model = AutoModelForCausalLM.from_pretrained(student)
    logits = model(input_ids=batch["input_ids"]).logits
    for index, example in enumerate(examples):
        alone = model(torch.tensor([example["input_ids"]])).logits[0]
        assert float((logits[index, : len(alone)] - alone).abs().max()) < 1e-4


def test_lora_is_merged_and_changes_only_linear_layers(student: Path, rows: list[Row], tmp_path: Path) -> None:
    from safetensors.torch import load_file

    run(student, rows, tmp_path / "a", method="lora", lora={"rank": 4})
    run(student, rows, tmp_path / "b", method="lora", lora={"rank": 4})
    before, after, again = load_file(student / "model.safetensors"), weights(tmp_path / "a"), weights(tmp_path / "b")
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and all("proj" in name for name in changed)
    assert all(torch.equal(after[name], again[name]) for name in after)


def test_rows_are_dropped_kept_or_refused_never_cut(student: Path, rows: list[Row]) -> None:
    tokenizer = load_tokenizer(student)
    lengths = sorted(len(example["input_ids"]) for example in encode(rows, tokenizer, RECIPE).examples)
    cutoff = lengths[len(lengths) // 2]
    n_longer = sum(length > cutoff for length in lengths)
    dropped = encode(rows, tokenizer, {**RECIPE, "max_length": cutoff})
    assert (dropped.n_dropped, len(dropped.examples)) == (n_longer, len(rows) - n_longer)
    kept = encode(rows, tokenizer, {**RECIPE, "max_length": cutoff, "over_length": "keep"})
    assert (kept.n_dropped, kept.n_over_length, len(kept.examples)) == (0, n_longer, len(rows))
    assert max(len(example["input_ids"]) for example in kept.examples) == lengths[-1]
    with pytest.raises(InputError, match=rf"{n_longer} rows are longer"):
        encode(rows, tokenizer, {**RECIPE, "max_length": cutoff, "over_length": "fail"})
    with pytest.raises(InputError, match="no row left"):
        encode(rows, tokenizer, {**RECIPE, "max_length": 8})


def test_loss_is_on_the_response_alone(student: Path, rows: list[Row]) -> None:
    tokenizer = load_tokenizer(student)
    for row, example in zip(rows, encode(rows, tokenizer, RECIPE).examples, strict=True):
        trained = [token for token, label in zip(example["input_ids"], example["labels"], strict=True) if label != IGNORED]
        assert tokenizer.decode(trained) == f"{row['response']} <|im_end|>"
        untrained = example["input_ids"][: -len(trained)]
        assert tokenizer.decode(untrained) == f"<|user|> {row['prompt']} <|assistant|>"
    text = encode(rows, tokenizer, {**RECIPE, "format": "text"}).examples[0]
    assert text["labels"] == text["input_ids"] and text["input_ids"][-1] == tokenizer.eos_token_id


@pytest.mark.parametrize(
    ("global_batch", "devices", "most", "expected"),
    [(8, 1, 64, (8, 1)), (8, 4, 2, (2, 1)), (8, 4, 1, (1, 2)), (80, 4, 6, (5, 4)), (12, 1, 5, (4, 3)), (7, 1, 3, (1, 7))],
)
def test_split_batch(global_batch: int, devices: int, most: int, expected: tuple[int, int]) -> None:
    assert memory.split_batch(global_batch, devices, most) == expected


def test_split_batch_that_does_not_divide() -> None:
    with pytest.raises(InputError, match="8 cannot be split over 3 devices"):
        memory.split_batch(8, 3, 2)


def test_bucketed_covers_every_row_once_and_is_a_function_of_the_epoch() -> None:
    lengths = [(7 * index) % 50 for index in range(101)]
    sampler = batches.Bucketed(lengths, 8, 5)
    first = list(sampler)
    assert sorted(first) == list(range(101)) and list(sampler) == first
    sampler.set_epoch(1)
    assert list(sampler) != first and sorted(sampler) == list(range(101))
    spread = [max(lengths[i] for i in first[k : k + 8]) - min(lengths[i] for i in first[k : k + 8]) for k in range(0, 96, 8)]
    assert sum(spread) / len(spread) < 15


def test_neighbours_fill_each_step_with_the_same_rows_as_the_plain_order() -> None:
    lengths = [(7 * index) % 50 for index in range(101)]
    plain = batches.SeedableRandomSampler(range(101), data_seed=5)
    sampler = batches.order([{"input_ids": [0] * length} for length in lengths], {"global_batch": 8}, 5, 1)
    assert isinstance(sampler, batches.Neighbours)
    for epoch in (0, 1, 1):
        plain.set_epoch(epoch)
        sampler.set_epoch(epoch)
        before, after = list(plain), list(sampler)
        steps = [(before[k : k + 8], after[k : k + 8]) for k in range(0, 101, 8)]
        assert all(set(one) == set(other) for one, other in steps) and before != after
        assert all([lengths[i] for i in other] == sorted(lengths[i] for i in other) for _, other in steps)


def stage(folder: Path, student: Path, data: Path, spec: dict[str, Any]) -> list[str]:
    names = [student, student.parent / "manifest.json", data, folder / "model", folder / "manifest.json"]
    return [sys.executable, "-m", "gapgrid.train", "--spec", canonical(spec), "--micro-batch", "8", *map(str, names)]


@pytest.mark.parametrize("batching", ["bucketed", "padded"])
def test_killed_and_resumed_is_the_same_to_the_byte(student: Path, rows: list[Row], tmp_path: Path, batching: str) -> None:
    spec = {"version": 1, "recipe": {**RECIPE, "epochs": 120, "batching": batching}, "seed": 0, "engine": {"name": "trainer"}}
    data = tmp_path / "train.jsonl"
    write_jsonl(data, rows)
    if not (student.parent / "manifest.json").exists():
        manifest.write(student.parent / "manifest.json", "base", {"version": 1}, {}, ["model"])
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    subprocess.run(stage(tmp_path / "whole", student, data, spec), env=environment, check=True, capture_output=True)

    command = stage(tmp_path / "killed", student, data, spec)
    job = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "killed").glob("scratch/*/checkpoint-*/complete")):
        assert job.poll() is None and time.monotonic() < deadline, "no checkpoint came"
        time.sleep(0.02)
    job.send_signal(signal.SIGKILL)
    job.wait()
    assert not (tmp_path / "killed/manifest.json").exists() and not (tmp_path / "killed/model").exists()

    again = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    assert "resuming from checkpoint-" in again.stderr
    for name in ("whole", "killed"):
        assert manifest.mismatches(tmp_path / name / "manifest.json") == []
    assert (tmp_path / "whole/manifest.json").read_bytes() == (tmp_path / "killed/manifest.json").read_bytes()
    steps = [[row["step"] for row in read_jsonl(tmp_path / name / "metrics.jsonl")] for name in ("whole", "killed")]
    losses = [[row["loss"] for row in read_jsonl(tmp_path / name / "metrics.jsonl")] for name in ("whole", "killed")]
    assert steps[0] == steps[1] and losses[0] == losses[1]


def test_state_of_other_inputs_is_not_resumed(student: Path, rows: list[Row], tmp_path: Path) -> None:
    """The scratch folder is named by spec and inputs, and a checkpoint without its mark is thrown away."""
    scratch = tmp_path / "scratch"
    (scratch / "checkpoint-5").mkdir(parents=True)
    (scratch / "checkpoint-5" / "trainer_state.json").write_text(json.dumps({"global_step": 5}))
    assert progress.last_complete(scratch, {"devices": 1, "zero": 0}) is None
    assert not (scratch / "checkpoint-5").exists()


@pytest.mark.parametrize(
    ("mark", "layout", "fits"),
    [
        ({"devices": 1, "zero": 0}, {"devices": 4, "zero": 0}, True),
        ({"devices": 4, "zero": 2}, {"devices": 4, "zero": 2}, True),
        ({"devices": 4, "zero": 2}, {"devices": 2, "zero": 2}, False),
        ({"devices": 4, "zero": 2}, {"devices": 4, "zero": 3}, False),
        ({"devices": 1, "zero": 0}, {"devices": 1, "zero": 2}, False),
    ],
)
def test_a_state_cut_for_other_devices_is_not_resumed(tmp_path: Path, mark: dict[str, int], layout: dict[str, int], fits: bool) -> None:
    """ZeRO's states can be read by the same stage on the same number of devices alone; all others by any."""
    (tmp_path / "checkpoint-9").mkdir()
    (tmp_path / "checkpoint-9/complete").write_text(json.dumps(mark))
    assert (progress.last_complete(tmp_path, layout, clean=False) is not None) == fits


def test_diverged_training_is_an_error(student: Path, rows: list[Row], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="diverged"):
        run(student, rows, tmp_path, learning_rate=1e30, max_grad_norm=1e30)
    assert not (tmp_path / "model").exists()
