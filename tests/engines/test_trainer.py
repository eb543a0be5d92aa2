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
from gapgrid.engines import batches, trainer
from gapgrid.engines.tokens import IGNORED, encode, load_tokenizer
from gapgrid.records import InputError, Row, canonical, read_jsonl, sha256_file, write_jsonl
from tests.engines.conftest import RECIPE


def run(student: Path, rows: list[Row], out: Path, micro_batch: int = 8, seed: int = 0, **changes: Any) -> dict[str, Any]:
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


def test_micro_batch_changes_nothing_but_rounding(student: Path, rows: list[Row], tmp_path: Path) -> None:
    for micro_batch in (8, 2):
        run(student, rows, tmp_path / str(micro_batch), micro_batch=micro_batch)
    one, other = weights(tmp_path / "8"), weights(tmp_path / "2")
    assert max(float((one[name] - other[name]).abs().max()) for name in one) < 2e-3
    first, second = (read_jsonl(tmp_path / name / "metrics.jsonl")[0]["loss"] for name in ("8", "2"))
    assert first == pytest.approx(second, abs=1e-4)


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
    assert trainer.split_batch(global_batch, devices, most) == expected


def test_split_batch_that_does_not_divide() -> None:
    with pytest.raises(InputError, match="8 cannot be split over 3 devices"):
        trainer.split_batch(8, 3, 2)


def test_bucketed_covers_every_row_once_and_is_a_function_of_the_epoch() -> None:
    lengths = [(7 * index) % 50 for index in range(101)]
    sampler = batches.Bucketed(lengths, 8, 5)
    first = list(sampler)
    assert sorted(first) == list(range(101)) and list(sampler) == first
    sampler.set_epoch(1)
    assert list(sampler) != first and sorted(sampler) == list(range(101))
    spread = [max(lengths[i] for i in first[k : k + 8]) - min(lengths[i] for i in first[k : k + 8]) for k in range(0, 96, 8)]
    assert sum(spread) / len(spread) < 15


def stage(folder: Path, student: Path, data: Path, spec: dict[str, Any]) -> list[str]:
    names = [student, student.parent / "manifest.json", data, folder / "model", folder / "manifest.json"]
    return [sys.executable, "-m", "gapgrid.train", "--spec", canonical(spec), "--micro-batch", "8", *map(str, names)]


def test_killed_and_resumed_is_the_same_to_the_byte(student: Path, rows: list[Row], tmp_path: Path) -> None:
    spec = {"version": 1, "recipe": {**RECIPE, "epochs": 120, "batching": "bucketed"}, "seed": 0, "engine": {"name": "trainer"}}
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
    assert trainer._last_complete(scratch) is None
    assert not (scratch / "checkpoint-5").exists()


def test_diverged_training_is_an_error(student: Path, rows: list[Row], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="diverged"):
        run(student, rows, tmp_path, learning_rate=1e30, max_grad_norm=1e30)
    assert not (tmp_path / "model").exists()
