"""Stage base: students that are linked into place, and what is written instead of their files."""

from collections.abc import Callable
from pathlib import Path

import pytest

from gapgrid.core import manifest
from gapgrid.core.records import InputError, read_json, write_json
from gapgrid.stages import base

TOKENS = [
    {"id": 7, "content": "<end>", "special": True},
    {"id": 9, "content": "<turn>", "special": True},
    {"id": 11, "content": "plain", "special": False},
]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A base student: its tokenizer ends texts with <end>, its chat template with <turn>."""
    folder = tmp_path / "hub"
    write_json(folder / "config.json", {"model_type": "qwen2", "eos_token_id": 7})
    write_json(folder / "tokenizer.json", {"added_tokens": TOKENS})
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


def test_another_end_token_leaves_the_hubs_files_as_they_are(model: Path, tmp_path: Path) -> None:
    before, out = contents(model), tmp_path / "out"
    base.link(model, out, "<turn>")
    assert contents(model) == before
    assert read_json(out / "tokenizer_config.json") == {"eos_token": "<turn>", "chat_template": "…"}
    assert read_json(out / "generation_config.json") == {"eos_token_id": [9, 7], "top_k": 3}
    assert read_json(out / "config.json")["eos_token_id"] == 9
    assert not (out / "special_tokens_map.json").exists()
    assert (out / "model.safetensors").is_symlink()


def test_an_end_token_is_written_into_optional_files(model: Path, tmp_path: Path) -> None:
    (model / "generation_config.json").unlink()
    write_json(model / "special_tokens_map.json", {"eos_token": "<end>", "pad_token": "<end>"})
    write_json(model / "config.json", {"eos_token_id": [9, 7]})
    out = tmp_path / "out"
    base.link(model, out, "<turn>")
    tokens = {"eos_token": "<turn>", "pad_token": "<end>"}
    assert read_json(out / "special_tokens_map.json") == tokens
    assert read_json(out / "generation_config.json") == {"eos_token_id": [9, 7]}


@pytest.mark.parametrize(
    ("missing", "eos", "expected"),
    [
        ("config.json", None, "no config.json"),
        ("model.safetensors", None, r"no \*.safetensors weights"),
        *(
            ("", eos, rf"has no special token '{eos}' \(eos in models.yaml\); it has <end>, <turn>")
            for eos in ("<none>", "plain")
        ),
        ("tokenizer.json", "<end>", "no special token '<end>' .*it has none"),
    ],
)
def test_a_folder_that_is_no_student_or_lacks_the_token_is_an_error(
    model: Path, tmp_path: Path, missing: str, eos: str | None, expected: str
) -> None:
    if missing:
        (model / missing).unlink()
    with pytest.raises(InputError, match=expected):
        base.link(model, tmp_path / "out", eos)
    assert not (tmp_path / "out").exists()


def test_the_stage_writes_model_metrics_and_manifest(
    run: Callable[..., int], model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # locks are kept in the working directory
    spec = {"stage": "base", "version": 1, "kind": "path", "path": str(model), "eos": "<turn>"}
    out = tmp_path / "cell"
    assert run(base, spec, out / "model", out / "manifest.json") == 0
    assert manifest.read(out / "manifest.json")["spec"] == spec
    assert manifest.mismatches(out / "manifest.json") == []
    assert (out / "metrics.jsonl").read_text() == ""
