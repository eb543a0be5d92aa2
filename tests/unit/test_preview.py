"""gapgrid tables: every experiment from the cells that are there, beside the workflow's own tables, never in their place."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from gapgrid import cli, grid, manifest
from gapgrid.commands import preview
from gapgrid.records import InputError, read_json, write_json, write_jsonl


def score(of: dict[str, Any], results: Path, cell: grid.Cell, n_right: int = 1) -> None:
    """What a scored cell leaves behind."""
    path = preview.score_of(results, cell)
    verdicts = [{"doc_id": doc_id, "repeat": 0, "verdict": "correct" if doc_id < n_right else "incorrect"} for doc_id in range(4)]
    write_jsonl(path.with_name("verdicts.jsonl"), verdicts)
    counts = {"n": 4, "n_problems": 4, "acc": n_right / 4, "acc_best_guess": 0.25}
    write_json(path, {**cell._asdict(), **counts})
    manifest.write(path.with_name("manifest.json"), "score", json.loads(grid.score_spec(of)), {}, [])


@pytest.fixture
def half(demo: dict[str, Any], tmp_path: Path) -> Path:
    """Results in which the smallest student alone is scored."""
    for cell in grid.all_cells(demo):
        if cell.model == "xs" and cell.mix in ("none", "short", "long"):
            score(demo, tmp_path / "demo", cell, 3 if cell.mix == "short" else 1)
    return tmp_path / "demo"


def estimates(file: Path) -> list[dict[str, str]]:
    with open(file, newline="") as rows:
        return list(csv.DictReader(rows))


def test_what_is_there_is_shown_and_the_rest_is_missing(demo: dict[str, Any], half: Path, tmp_path: Path) -> None:
    lines = list(preview.write_tables(demo, half, tmp_path / "out"))
    assert "long-gap: 6 of 24 cells" in lines and len(lines) == len(demo["experiments"])
    rows = [row for row in estimates(tmp_path / "out" / "long-gap.estimates.csv") if row["quantity"] == "gap"]
    assert {row["model"] for row in rows if row["estimate"]} == {"xs"}
    assert {float(row["estimate"]) for row in rows if row["estimate"]} == {-0.5}
    assert {row["model"] for row in rows} == set(demo["models"])
    notes = read_json(tmp_path / "out" / "long-gap.notes.json")
    assert notes["n_missing"] == 18 and "18 of 24 cells are missing" in notes["caption"]
    text = (tmp_path / "out" / "long-gap.md").read_text()
    assert "| 26k | – | – | – | – | – |" in text


def test_nothing_at_all_is_shown_as_missing(demo: dict[str, Any], tmp_path: Path) -> None:
    assert "long-gap: 0 of 24 cells" in list(preview.write_tables(demo, tmp_path / "none", tmp_path / "out"))
    assert not any(row["estimate"] for row in estimates(tmp_path / "out" / "long-gap.estimates.csv"))


def test_cells_of_another_configuration_are_told(demo: dict[str, Any], half: Path, tmp_path: Path) -> None:
    demo["judge"]["backend"] = "openai"
    assert "long-gap: 6 of 24 cells, 6 of another configuration" in list(preview.write_tables(demo, half, tmp_path / "out"))
    assert any("6 of the cells shown" in line for line in read_json(tmp_path / "out" / "long-gap.notes.json")["protocol"])


def test_the_workflows_own_tables_are_not_written_over(demo: dict[str, Any], half: Path) -> None:
    with pytest.raises(InputError, match="the workflow's own tables"):
        list(preview.write_tables(demo, half, half / "tables"))


def test_the_command_says_where_they_are(
    half: Path, repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(repository)
    assert cli.main(["tables", "demo", "--results", str(half.parent)]) == 0
    out = capsys.readouterr().out
    assert "long-gap: 6 of 24 cells\n" in out and f"written to {half / 'preview'}/" in out
    assert (half / "preview" / "accuracy.tex").is_file() and not list((half / "preview").glob("*manifest*"))
    assert cli.main(["tables", "demo", "--results", str(half.parent), "--out", str(half / "tables")]) == 1
