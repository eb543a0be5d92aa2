"""Published checkpoints in the place of trained students: full ones and adapters, and those of another base."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from gapgrid import manifest, train
from gapgrid.engines import tiny
from gapgrid.engines.adopt import adopt
from gapgrid.records import InputError, canonical, read_json, read_jsonl

BASE = "someone/base-of-this"


@pytest.fixture
def full(student: Path, tmp_path: Path) -> Path:
    """The student with other weights, as somebody might have published it."""
    folder = shutil.copytree(student, tmp_path / "published")
    tensors = {name: tensor + 0.25 for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.fixture
def adapter(student: Path, tmp_path: Path) -> Path:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(student), LoraConfig(r=2, target_modules="all-linear"))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight)
    model.save_pretrained(tmp_path / "adapter")
    settings = read_json(tmp_path / "adapter/adapter_config.json")
    (tmp_path / "adapter/adapter_config.json").write_text(json.dumps({**settings, "base_model_name_or_path": BASE}))
    return tmp_path / "adapter"


def logits(folder: Path) -> torch.Tensor:
    from transformers import AutoModelForCausalLM

    with torch.no_grad():
        return AutoModelForCausalLM.from_pretrained(folder)(torch.tensor([[3, 5, 7]])).logits


def test_a_full_checkpoint_is_linked(student: Path, full: Path, tmp_path: Path) -> None:
    facts = adopt(str(full), None, student, tmp_path / "model")
    assert facts["adopted"] == "full" and facts["tokenizer"] == "own" and facts["n_parameters"] > 5000
    assert (tmp_path / "model/model.safetensors").is_symlink()
    assert torch.equal(logits(tmp_path / "model"), logits(full))


def test_a_checkpoint_without_a_tokenizer_gets_the_bases(student: Path, full: Path, tmp_path: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (full / name).unlink()
    assert adopt(str(full), None, student, tmp_path / "model")["tokenizer"] == "base"
    assert (tmp_path / "model/tokenizer.json").read_bytes() == (student / "tokenizer.json").read_bytes()


def test_a_checkpoint_of_another_shape_is_refused(student: Path, tokenizer_folder: Path, tmp_path: Path) -> None:
    tiny.build({"hidden_size": 32, "layers": 2, "heads": 2, "ffn": 40}, tokenizer_folder, 0, tmp_path / "other")
    with pytest.raises(InputError, match=r"other: not of its base: \d+ tensors differ, first model.embed_tokens.weight: \[.*, 32\]"):
        adopt(str(tmp_path / "other"), None, student, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_weights_that_are_not_finite_are_refused(student: Path, full: Path, tmp_path: Path) -> None:
    tensors = load_file(full / "model.safetensors")
    tensors["model.norm.weight"][0] = float("nan")
    save_file(tensors, full / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=r"model\.norm\.weight is not finite"):
        adopt(str(full), None, student, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_folder_that_is_no_model_is_refused(student: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"neither config\.json nor adapter_config\.json"):
        adopt(str(tmp_path / "empty"), None, student, tmp_path / "model")


def test_an_adapter_is_merged(student: Path, adapter: Path, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    facts = adopt(str(adapter), None, student, tmp_path / "model", (BASE,))
    assert facts["adopted"] == "adapter" and facts["tokenizer"] == "base"
    assert not (tmp_path / "model/adapter_config.json").exists()
    before, after = load_file(student / "model.safetensors"), load_file(tmp_path / "model/model.safetensors")
    assert before.keys() == after.keys()
    with torch.no_grad():
        beside = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(student), str(adapter))(torch.tensor([[3, 5, 7]])).logits
    assert float((logits(tmp_path / "model") - beside).abs().max()) < 1e-4
    assert float((logits(student) - beside).abs().max()) > 1e-2


def test_an_adapter_may_name_the_bases_folder(student: Path, adapter: Path, tmp_path: Path) -> None:
    settings = read_json(adapter / "adapter_config.json")
    (adapter / "adapter_config.json").write_text(json.dumps({**settings, "base_model_name_or_path": str(student)}))
    assert adopt(str(adapter), None, student, tmp_path / "model")["adopted"] == "adapter"


def test_an_adapter_of_another_base_is_refused(student: Path, adapter: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"an adapter of '{BASE}', expected one of someone/other; its base differs"):
        adopt(str(adapter), None, student, tmp_path / "model", ("someone/other",))
    assert not (tmp_path / "model").exists()


def test_an_adapter_of_another_shape_is_refused(adapter: Path, tokenizer_folder: Path, tmp_path: Path) -> None:
    """It names the right base, but its weights do not fit: a mislabelled upload."""
    tiny.build({"hidden_size": 32, "layers": 2, "heads": 2, "ffn": 40}, tokenizer_folder, 0, tmp_path / "other")
    with pytest.raises(InputError, match="does not fit"):
        adopt(str(adapter), None, tmp_path / "other", tmp_path / "model", (BASE,))


def test_the_stage_adopts_what_its_spec_names(student: Path, adapter: Path, tmp_path: Path) -> None:
    manifest.write(tmp_path / "base.json", "base", {"version": 1, "hub": BASE}, {}, [])
    spec = {"version": 1, "adopt": {"path": str(adapter)}}
    out = tmp_path / "cell"
    files = [student, tmp_path / "base.json", out / "model", out / "manifest.json"]
    assert train.main(["--spec", canonical(spec), *map(str, files)]) == 0
    written = manifest.read(out / "manifest.json")
    assert written["facts"]["adopted"] == "adapter" and set(written["inputs"]) == {"base"}
    assert manifest.mismatches(out / "manifest.json") == [] and read_jsonl(out / "metrics.jsonl") == []
