"""Published checkpoints instead of trained students: full ones, adapters, and those that misfit."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

from gapgrid.core import manifest
from gapgrid.core.records import InputError, canonical, read_jsonl
from gapgrid.engines.adopt import adopt
from gapgrid.stages import train
from tests.engines.helpers import edit_json, weights

BASE = "someone/base-of-this"
Change = Callable[[dict[str, torch.Tensor]], Any]


def rewrite(folder: Path, change: Change) -> None:
    """Change a model's tensors in place."""
    tensors = weights(folder)
    change(tensors)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


@pytest.fixture
def full(changed: Callable[..., Path]) -> Path:
    """The student with other weights, as somebody might have published it."""
    folder = changed("published")
    rewrite(folder, lambda tensors: [tensor.add_(0.25) for tensor in tensors.values()])
    return folder


@pytest.fixture
def adapter(student: Path, tmp_path: Path) -> Path:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    config = LoraConfig(r=2, target_modules="all-linear")
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(student), config)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight)
    model.save_pretrained(tmp_path / "adapter")
    edit_json(tmp_path / "adapter/adapter_config.json", base_model_name_or_path=BASE)
    return tmp_path / "adapter"


@pytest.fixture(scope="module")
def wider(build: Callable[..., Path]) -> Path:
    """A student of another shape."""
    return build(hidden_size=32)


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    loaded = AutoModelForCausalLM.from_pretrained(model) if isinstance(model, Path) else model
    return loaded(torch.tensor([[3, 5, 7]])).logits


def test_a_full_checkpoint_is_linked(student: Path, full: Path, tmp_path: Path) -> None:
    facts = adopt(str(full), None, student, tmp_path / "model")
    assert (facts["adopted"], facts["tokenizer"]) == ("full", "own")
    assert facts["n_parameters"] > 5000
    assert (tmp_path / "model/model.safetensors").is_symlink()
    assert torch.equal(logits(tmp_path / "model"), logits(full))


def test_a_checkpoint_without_a_tokenizer_gets_the_bases(
    student: Path, full: Path, tmp_path: Path
) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (full / name).unlink()
    assert adopt(str(full), None, student, tmp_path / "model")["tokenizer"] == "base"
    base = (student / "tokenizer.json").read_bytes()
    assert (tmp_path / "model/tokenizer.json").read_bytes() == base


def assert_refused(source: Path, base: Path, message: str, *names: str) -> None:
    out = source.parent / "refused"
    with pytest.raises(InputError, match=message):
        adopt(str(source), None, base, out, names)
    assert not out.exists()


def test_a_full_checkpoint_that_misfits_is_refused(
    student: Path, wider: Path, full: Path, tmp_path: Path
) -> None:
    differ = r"not of its base: \d+ tensors differ, first model.embed_tokens.weight: \[.*, 32\]"
    assert_refused(wider, student, differ)
    rewrite(full, lambda tensors: tensors["model.norm.weight"].fill_(float("nan")))
    assert_refused(full, student, r"model\.norm\.weight is not finite")
    (tmp_path / "empty").mkdir()
    neither = r"neither config\.json nor adapter_config\.json"
    assert_refused(tmp_path / "empty", student, neither)


def test_an_adapter_is_merged(student: Path, adapter: Path, tmp_path: Path) -> None:
    from peft import PeftModel

    facts = adopt(str(adapter), None, student, tmp_path / "model", (BASE,))
    assert (facts["adopted"], facts["tokenizer"]) == ("adapter", "base")
    assert not (tmp_path / "model/adapter_config.json").exists()
    assert weights(student).keys() == weights(tmp_path / "model").keys()
    base = AutoModelForCausalLM.from_pretrained(student)
    unmerged = logits(PeftModel.from_pretrained(base, str(adapter)))
    assert float((logits(tmp_path / "model") - unmerged).abs().max()) < 1e-4
    assert float((logits(student) - unmerged).abs().max()) > 1e-2


def test_an_adapter_may_name_the_bases_folder(student: Path, adapter: Path, tmp_path: Path) -> None:
    edit_json(adapter / "adapter_config.json", base_model_name_or_path=str(student))
    assert adopt(str(adapter), None, student, tmp_path / "model")["adopted"] == "adapter"


def test_an_adapter_that_misfits_is_refused(student: Path, wider: Path, adapter: Path) -> None:
    """Of another base, and a mislabelled upload that names the right one."""
    other = rf"an adapter of '{BASE}', expected one of someone/other; its base differs"
    assert_refused(adapter, student, other, "someone/other")
    assert_refused(adapter, wider, "does not fit", BASE)


def test_the_stage_adopts_what_its_spec_names(student: Path, adapter: Path, tmp_path: Path) -> None:
    manifest.write(tmp_path / "base.json", "base", {"version": 1, "hub": BASE}, {}, [])
    spec = {"version": 1, "adopt": {"path": str(adapter)}}
    out = tmp_path / "cell"
    files = [student, tmp_path / "base.json", out / "model", out / "manifest.json"]
    assert train.main(["--spec", canonical(spec), *map(str, files)]) == 0
    written = manifest.read(out / "manifest.json")
    assert written["facts"]["adopted"] == "adapter" and set(written["inputs"]) == {"base"}
    assert manifest.mismatches(out / "manifest.json") == []
    assert read_jsonl(out / "metrics.jsonl") == []
