"""manifest: it holds what it should and nothing of the machine, and finds altered outputs."""

import json
import os
import socket
from pathlib import Path

import pytest

from gapgrid import manifest
from gapgrid.records import InputError, sha256_file, write_jsonl

SPEC = {"stage": "mix", "version": 3, "mix": {"parts": {"a": 1.0}}}


def made(folder: Path) -> Path:
    """A stage's outputs and their manifest in a folder."""
    (folder / "model" / "deep").mkdir(parents=True)
    (folder / "model" / "deep" / "weights").write_bytes(b"\x00\x01")
    (folder / "model" / "config.json").write_text("{}")
    write_jsonl(folder / "rows.jsonl", [{"a": 1}, {"a": 2}])
    path = folder / "manifest.json"
    manifest.write(path, "mix", SPEC, {"source": "abc"}, ["rows.jsonl", "model"], {"torch": "2"}, {"n": 2})
    return path


def test_a_manifest_says_what_was_made_from_what(tmp_path: Path) -> None:
    path = made(tmp_path)
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


def test_the_same_work_elsewhere_and_later_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = made(tmp_path / "here"), made(tmp_path / "there")
    os.utime(tmp_path / "there" / "rows.jsonl", (1, 1))
    second_bytes = second.read_bytes()
    assert first.read_bytes() == second_bytes
    text = second_bytes.decode()
    for private in (str(tmp_path), str(Path.home()), socket.gethostname()):
        assert private not in text


def test_nothing_is_written_if_an_output_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        manifest.write(tmp_path / "manifest.json", "mix", SPEC, {}, ["absent.jsonl"])
    assert list(tmp_path.iterdir()) == []


def test_untouched_outputs_match(tmp_path: Path) -> None:
    assert manifest.mismatches(made(tmp_path)) == []


def test_altered_and_missing_outputs_are_each_named(tmp_path: Path) -> None:
    path = made(tmp_path)
    expected = manifest.read(path)["outputs"]
    (tmp_path / "rows.jsonl").write_text("{}\n")
    (tmp_path / "model" / "deep" / "weights").unlink()
    found = manifest.mismatches(path)
    altered = sha256_file(tmp_path / "rows.jsonl")[:12]
    assert sorted(found) == sorted(
        [
            f"{tmp_path}/rows.jsonl: sha256 {altered}…, expected {expected['rows.jsonl']['sha256'][:12]}…",
            f"{tmp_path}/model/deep/weights: missing, expected sha256 {expected['model/deep/weights']['sha256'][:12]}…",
        ]
    )


@pytest.mark.parametrize("content", ["[]", "{}", '{"stage": "mix", "spec": {}}', '"text"'])
def test_something_else_is_no_manifest(tmp_path: Path, content: str) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(content)
    with pytest.raises(InputError, match=r"manifest\.json: not a manifest"):
        manifest.read(path)


def test_a_missing_manifest_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"manifest\.json: no such file"):
        manifest.read(tmp_path / "manifest.json")


def test_rows_are_counted_in_json_lines_only(tmp_path: Path) -> None:
    file = tmp_path / "text.txt"
    file.write_text("a\nb\n")
    assert set(manifest.describe(file)) == {"sha256"}
    lines = tmp_path / "rows.jsonl"
    lines.write_text(json.dumps({}) + "\n")
    assert manifest.describe(lines)["rows"] == 1
