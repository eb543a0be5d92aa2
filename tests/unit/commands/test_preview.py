"""gapgrid tables and figures: previews of what is built, never in place of the workflow's own."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from gapgrid import cli
from gapgrid.commands import preview
from gapgrid.config.load import REPOSITORY
from gapgrid.core import manifest
from gapgrid.core.cells import Cell
from gapgrid.core.records import InputError, read_json, write_json, write_jsonl
from gapgrid.grid.cells import all_cells
from gapgrid.grid.qualitative import drawn_by
from gapgrid.grid.specs import score_spec
from tests.unit import pictures


def score(grid: dict[str, Any], results: Path, cell: Cell, n_right: int) -> None:
    """Write a scored cell with so many right answers of four."""
    path = preview.score_file(results, cell)
    verdicts = ["correct"] * n_right + ["incorrect"] * (4 - n_right)
    rows = [{"doc_id": i, "repeat": 0, "verdict": text} for i, text in enumerate(verdicts)]
    write_jsonl(path.with_name("verdicts.jsonl"), rows)
    counts = {"n": 4, "n_problems": 4, "acc": n_right / 4, "acc_best_guess": 0.25}
    write_json(path, {**cell._asdict(), **counts})
    manifest.write(path.with_name("manifest.json"), "score", json.loads(score_spec(grid)), {}, [])


@pytest.fixture
def results(demo: dict[str, Any], tmp_path: Path) -> Path:
    """Results in which only the smallest student is scored."""
    for cell in all_cells(demo):
        if cell.model == "xs" and cell.mix in ("none", "short", "long"):
            score(demo, tmp_path / "demo", cell, 3 if cell.mix == "short" else 1)
    return tmp_path / "demo"


def estimates(folder: Path) -> list[dict[str, str]]:
    """The rows of an experiment's estimates."""
    with open(folder / "long-gap.estimates.csv", newline="") as rows:
        return list(csv.DictReader(rows))


# ---- tables ----


def test_scored_cells_are_shown_and_the_rest_is_missing(
    demo: dict[str, Any], results: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    lines = list(preview.write_tables(demo, results, out))
    assert "long-gap: 6 of 24 cells" in lines and len(lines) == len(demo["experiments"])
    gaps = [row for row in estimates(out) if row["quantity"] == "gap"]
    assert {row["model"] for row in gaps} == set(demo["models"])
    shown = [row for row in gaps if row["estimate"]]
    assert {(row["model"], float(row["estimate"])) for row in shown} == {("xs", -0.5)}
    notes = read_json(out / "long-gap.notes.json")
    assert notes["n_missing"] == 18 and "18 of 24 cells are missing" in notes["caption"]
    assert "| 26k | – | – | – | – | – |" in (out / "long-gap.md").read_text()


def test_without_any_score_all_is_missing(demo: dict[str, Any], tmp_path: Path) -> None:
    lines = list(preview.write_tables(demo, tmp_path / "none", tmp_path / "out"))
    assert "long-gap: 0 of 24 cells" in lines
    assert not any(row["estimate"] for row in estimates(tmp_path / "out"))


def test_cells_of_another_configuration_are_counted(
    demo: dict[str, Any], results: Path, tmp_path: Path
) -> None:
    demo["judge"]["backend"] = "openai"
    lines = list(preview.write_tables(demo, results, tmp_path / "out"))
    assert "long-gap: 6 of 24 cells, 6 of another configuration" in lines
    protocol = read_json(tmp_path / "out" / "long-gap.notes.json")["protocol"]
    assert any("6 of the cells shown" in line for line in protocol)


def test_the_tables_command(
    results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(REPOSITORY)
    command = ["tables", "demo", "--results", str(results.parent)]
    assert cli.main(command) == 0
    out, folder = capsys.readouterr().out, results / "preview"
    assert "long-gap: 6 of 24 cells\n" in out and f"written to {folder}/" in out
    assert (folder / "accuracy.tex").is_file() and not list(folder.glob("*manifest*"))
    assert cli.main([*command, "--out", str(results / "tables")]) == 1
    assert "holds the workflow's own tables" in capsys.readouterr().err


# ---- figures ----


def write_tables(demo: dict[str, Any], folder: Path) -> list[str]:
    """Write tables without one student's long CoT; return the names of the experiments."""
    folder.mkdir(parents=True)
    names = drawn_by(demo, "figure")
    for name in names:
        rows = pictures.estimates(demo, name, {("xs", "long")})
        rows.to_csv(folder / f"{name}.estimates.csv", index=False)
        write_json(folder / f"{name}.notes.json", {**pictures.NOTES, "n_missing": 3})
    return names


def test_every_figure_is_drawn_and_names_what_is_missing(
    demo: dict[str, Any], tmp_path: Path
) -> None:
    tables, out = tmp_path / "tables", tmp_path / "out"
    names = write_tables(demo, tables)
    drawn = list(preview.draw_figures(demo, tmp_path / "results", tables, out))
    assert drawn == [f"{out}/{name}.svg" for name in names]
    for name in names:
        caption = (out / f"{name}.caption.txt").read_text().replace("\n", " ")
        assert "points missing, their cells have no score: 7k" in caption
        assert (out / f"{name}.pdf").is_file() and (out / f"{name}.csv").is_file()
    with pytest.raises(InputError, match="holds the workflow's own figures"):
        list(preview.draw_figures(demo, tmp_path, tables, tmp_path / "figures"))


def test_the_figures_command(
    demo: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(REPOSITORY)
    command, folder = ["figures", "demo", "--results", str(tmp_path)], tmp_path / "demo/preview"
    assert cli.main(command) == 1
    err = capsys.readouterr().err
    assert f"{folder}/long-gap.estimates.csv: no such file; gapgrid tables writes it" in err
    assert len(err.splitlines()) == 2 * len(write_tables(demo, folder))
    assert cli.main(command) == 0
    assert f"{folder}/figures/accuracy.svg" in capsys.readouterr().out.splitlines()
    assert not (tmp_path / "demo" / "figures").exists()
