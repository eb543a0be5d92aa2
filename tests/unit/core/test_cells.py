"""cells and layout: a cell's text, its paths, and the cell read off a path again."""

from pathlib import Path

import pytest

from gapgrid.core import layout
from gapgrid.core.cells import Cell, TrainingCell

CELL = Cell("qwen2.5-3b", "mix-long", 2, "math-500")


def test_a_cell_as_text() -> None:
    assert str(CELL) == "qwen2.5-3b/mix-long/2/math-500"
    assert str(CELL.trained) == "qwen2.5-3b/mix-long/2"


@pytest.mark.parametrize("stage", ["grade", "score", "shift"])
def test_a_cell_comes_back_from_its_path(stage: str) -> None:
    path = Path("results/demo") / layout.path(stage, *CELL)
    assert Cell.of_file(path) == Cell.of_file(path.with_name("rows.jsonl")) == CELL
    assert isinstance(Cell.of_file(path).seed, int)


@pytest.mark.parametrize("stage", ["train", "evaluate"])
def test_a_training_cell_comes_back_from_its_path(stage: str) -> None:
    assert TrainingCell.of_file(Path(layout.path(stage, *CELL.trained))) == CELL.trained


@pytest.mark.parametrize("path", ["score.json", "score/m/x/0/score.json", "score/m/x/seed/b/s"])
def test_a_path_that_names_no_cell_is_an_error(path: str) -> None:
    with pytest.raises(ValueError, match=r"unpack|invalid literal"):
        Cell.of_file(Path(path))
