"""Students that are linked into place, and what is written there instead of their own files."""

import json
from pathlib import Path

import pytest

from gapgrid import base
from gapgrid.records import InputError, read_json, write_json

SPECIAL = [{"id": 7, "content": "<end>", "special": True}, {"id": 9, "content": "<turn>", "special": True}]
ORDINARY = {"id": 11, "content": "plain", "special": False}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A base student: its tokenizer ends texts with <end>, its chat template answers with <turn>."""
    folder = tmp_path / "hub"
    write_json(folder / "config.json", {"model_type": "qwen2", "eos_token_id": 7})
    write_json(folder / "tokenizer.json", {"added_tokens": [*SPECIAL, ORDINARY]})
    write_json(folder / "tokenizer_config.json", {"eos_token": "<end>", "chat_template": "…"})
    write_json(folder / "generation_config.json", {"eos_token_id": 7, "top_k": 3})
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_a_student_is_linked_as_it_is(model: Path, tmp_path: Path) -> None:
    base.link(model, tmp_path / "out")
    assert contents(tmp_path / "out") == contents(model)
    assert all(file.is_symlink() for file in (tmp_path / "out").iterdir())


def test_another_end_of_text_is_written_beside_and_not_into_the_hub_s_files(model: Path, tmp_path: Path) -> None:
    before, out = contents(model), tmp_path / "out"
    base.link(model, out, "<turn>")
    assert contents(model) == before
    assert read_json(out / "tokenizer_config.json") == {"eos_token": "<turn>", "chat_template": "…"}
    assert read_json(out / "generation_config.json") == {"eos_token_id": [9, 7], "top_k": 3}
    assert read_json(out / "config.json")["eos_token_id"] == 9
    assert not (out / "special_tokens_map.json").exists()
    assert (out / "model.safetensors").is_symlink()


def test_files_that_a_student_has_or_lacks(model: Path, tmp_path: Path) -> None:
    (model / "generation_config.json").unlink()
    write_json(model / "special_tokens_map.json", {"eos_token": "<end>", "pad_token": "<end>"})
    write_json(model / "config.json", {"eos_token_id": [9, 7]})
    base.link(model, tmp_path / "out", "<turn>")
    assert read_json(tmp_path / "out" / "special_tokens_map.json") == {"eos_token": "<turn>", "pad_token": "<end>"}
    assert read_json(tmp_path / "out" / "generation_config.json") == {"eos_token_id": [9, 7]}


@pytest.mark.parametrize("eos", ["<none>", "plain"])
def test_a_token_that_is_not_there_is_told_with_those_that_are(model: Path, tmp_path: Path, eos: str) -> None:
    with pytest.raises(InputError, match=rf"has no special token '{eos}' \(eos in models.yaml\); it has <end>, <turn>"):
        base.link(model, tmp_path / "out", eos)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("missing", "said"), [("config.json", "no config.json"), ("model.safetensors", "no \\*.safetensors weights")])
def test_no_model_is_told(model: Path, tmp_path: Path, missing: str, said: str) -> None:
    (model / missing).unlink()
    with pytest.raises(InputError, match=said):
        base.link(model, tmp_path / "out")


def test_the_stage_writes_what_vouches_for_it(model: Path, tmp_path: Path) -> None:
    spec = {"stage": "base", "version": 1, "kind": "path", "path": str(model), "eos": "<turn>"}
    out = tmp_path / "cell"
    assert base.main(["--spec", json.dumps(spec), str(out / "model"), str(out / "manifest.json")]) == 0
    written = read_json(out / "manifest.json")
    assert written["spec"] == spec
    assert (out / "metrics.jsonl").read_text() == ""
