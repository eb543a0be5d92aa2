"""gapgrid verify: changed outputs and changed configurations are named."""

from pathlib import Path

from gapgrid.core import manifest
from gapgrid.core.records import write_jsonl
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
