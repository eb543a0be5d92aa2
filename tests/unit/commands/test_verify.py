"""gapgrid verify: changed outputs and changed configurations are named."""

import shutil
from pathlib import Path

from gapgrid.core import manifest
from gapgrid.core.records import write_json, write_jsonl, write_text
from tests.unit.commands.conftest import Command


def test_results_that_are_not_there_cannot_be_verified(gapgrid: Command) -> None:
    message = "no results yet; build them with: snakemake --config grid=demo"
    assert gapgrid("verify", "demo") == (1, [], [f"error: results/demo: {message}"])


def test_a_changed_output_and_a_changed_configuration_are_named(
    gapgrid: Command, results: Path
) -> None:
    folder = results / "selftest" / "k2"
    write_jsonl(folder / "rows.jsonl", [{"a": 1}])
    spec = {"stage": "selftest"}
    manifest.write(folder / "manifest.json", "selftest", spec, {}, ["rows.jsonl"])
    status, out, _ = gapgrid("verify", "demo")
    assert status == 1 and len(out) == 2
    assert "selftest/k2/manifest.json: made under another configuration: " in out[0]
    assert out[1].startswith("1 manifests checked, 1 problems, ")
    write_jsonl(folder / "rows.jsonl", [{"a": 2}])
    assert "selftest/k2/rows.jsonl: sha256 " in gapgrid("verify", "demo").out[0]


def train(results: Path, mix: str) -> Path:
    """Write a student as the stage `train` leaves it; its model's folder."""
    model = results / "train" / "xs" / mix / "0" / "model"
    write_json(model / "config.json", {})
    write_text(model / "tokenizer" / "vocab.txt", "a")
    stage = "base" if mix == "none" else "train"
    manifest.write(model.with_name("manifest.json"), stage, {"stage": stage}, {}, ["model"])
    return model


def test_a_student_deleted_after_its_cells_were_scored_is_no_problem(
    gapgrid: Command, results: Path
) -> None:
    models = [train(results, mix) for mix in ("none", "long")]
    known = gapgrid("verify", "demo").out[:-1]  # another configuration
    for model in models:
        shutil.rmtree(model)
    files = ("config.json", "tokenizer/vocab.txt")
    missing = {
        f"{model.relative_to(Path.cwd())}/{file}: missing" for model in models for file in files
    }
    lines = gapgrid("verify", "demo").out[:-1]
    assert {line.partition(",")[0] for line in lines if line not in known} == missing

    def score(mix: str) -> None:
        write_json(results / "score" / "xs" / mix / "0" / "k2" / "score.json", {})

    score("long")
    out = gapgrid("verify", "demo").out
    assert "1 student deleted, which is no problem as its cells are scored: xs/long/0" in out
    assert sum(": missing" in line for line in out) == 2  # others may still be trained from none
    for mix in ("none", "short", "mix-long"):
        score(mix)
    status, out, _ = gapgrid("verify", "demo")
    names = "xs/long/0, xs/none/0"
    assert f"2 students deleted, which is no problem as their cells are scored: {names}" in out
    assert out[:-2] == known and status == 1
