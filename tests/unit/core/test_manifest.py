"""manifest: its content, nothing of the machine in it, and altered outputs are noticed."""

import os
import socket
from pathlib import Path

import pytest

from gapgrid.core import manifest
from gapgrid.core.records import InputError, sha256_file, write_jsonl

SPEC = {"stage": "mix", "version": 3, "mix": {"parts": {"a": 1.0}}}


def write(folder: Path) -> Path:
    """Write a stage's outputs and their manifest to a folder; return the manifest."""
    (folder / "model" / "deep").mkdir(parents=True)
    (folder / "model" / "deep" / "weights").write_bytes(b"\x00\n\x01\n")
    (folder / "model" / "config.json").write_text("{}\n")
    write_jsonl(folder / "rows.jsonl", [{"a": 1}, {"a": 2}])
    path = folder / "manifest.json"
    outputs = ["rows.jsonl", "model"]
    manifest.write(path, "mix", SPEC, {"source": "abc"}, outputs, {"torch": "2"}, {"n": 2})
    return path


def test_a_manifest_says_what_was_built_from_what(tmp_path: Path) -> None:
    path = write(tmp_path)
    assert manifest.read(path) == {
        "stage": "mix",
        "version": 3,
        "spec": SPEC,
        "inputs": {"source": "abc"},
        "outputs": {
            "rows.jsonl": {"sha256": sha256_file(tmp_path / "rows.jsonl"), "rows": 2},
            "model/config.json": {"sha256": sha256_file(tmp_path / "model/config.json")},
            "model/deep/weights": {"sha256": sha256_file(tmp_path / "model/deep/weights")},
        },
        "engines": {"torch": "2"},
        "facts": {"n": 2},
    }
    assert manifest.mismatches(path) == []


def test_the_same_work_elsewhere_and_later_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = write(tmp_path / "first"), write(tmp_path / "second")
    os.utime(tmp_path / "second" / "rows.jsonl", (1, 1))
    text = second.read_text()
    assert first.read_text() == text
    for private in (str(tmp_path), str(Path.home()), socket.gethostname()):
        assert private not in text


def test_nothing_is_written_if_an_output_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        manifest.write(tmp_path / "manifest.json", "mix", SPEC, {}, ["absent.jsonl"])
    assert list(tmp_path.iterdir()) == []


def test_altered_and_missing_outputs_are_each_named(tmp_path: Path) -> None:
    path = write(tmp_path)
    rows, weights = tmp_path / "rows.jsonl", tmp_path / "model/deep/weights"
    recorded = {file: f"{sha256_file(file)[:12]}…" for file in (rows, weights)}
    rows.write_text("{}\n")
    weights.unlink()
    assert sorted(manifest.mismatches(path)) == [
        f"{weights}: missing, expected sha256 {recorded[weights]}",
        f"{rows}: sha256 {sha256_file(rows)[:12]}…, expected {recorded[rows]}",
    ]


@pytest.mark.parametrize("content", ["[]", "{}", '{"stage": "mix", "spec": {}}', '"text"'])
def test_another_file_is_no_manifest(tmp_path: Path, content: str) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(content)
    with pytest.raises(InputError, match=r"manifest\.json: not a manifest"):
        manifest.read(path)
