"""sketch: figures of a grid that is partly built, from the tables of `gapgrid tables`."""

import json
from pathlib import Path

import pytest

from gapgrid import cli, closeups, config
from gapgrid.commands import sketch
from gapgrid.records import InputError
from tests.unit import pictures

DEMO = config.load("demo", root=config.REPOSITORY / "config")
NAMES = closeups.drawn_by(DEMO, "figure")


def write_tables(folder: Path) -> Path:
    """Tables without one student's long CoT."""
    folder.mkdir(parents=True)
    for name in NAMES:
        pictures.estimates(DEMO, name, {("xs", "long")}).to_csv(folder / f"{name}.estimates.csv", index=False)
        (folder / f"{name}.notes.json").write_text(json.dumps({**pictures.NOTES, "n_missing": 3}))
    return folder


def test_every_figure_is_drawn_and_says_what_is_missing(tmp_path: Path) -> None:
    tables, out = write_tables(tmp_path / "tables"), tmp_path / "out"
    drawn = list(sketch.draw_figures(DEMO, tmp_path / "results", tables, out))
    assert drawn == [f"{out}/{name}.svg" for name in NAMES]
    for name in NAMES:
        assert "points missing, their cells are not built: 7k" in (out / f"{name}.caption.txt").read_text().replace("\n", " ")
        assert (out / f"{name}.pdf").is_file() and (out / f"{name}.csv").is_file()


def test_the_workflows_own_figures_stay(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds the workflow's own figures"):
        list(sketch.draw_figures(DEMO, tmp_path, write_tables(tmp_path / "tables"), tmp_path / "figures"))


def test_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    monkeypatch.chdir(config.REPOSITORY)
    command = ["figures", "demo", "--results", str(tmp_path)]
    assert cli.main(command) == 1
    said = capsys.readouterr().err
    assert f"{tmp_path}/demo/preview/long-gap.estimates.csv: no such file; gapgrid tables writes it" in said
    assert len(said.splitlines()) == 2 * len(NAMES)
    write_tables(tmp_path / "demo" / "preview")
    assert cli.main(command) == 0
    assert f"{tmp_path}/demo/preview/figures/accuracy.svg" in capsys.readouterr().out.splitlines()
    assert not (tmp_path / "demo" / "figures").exists()
