"""gapgrid page and tables: a score that is none is named, in one message."""

from pathlib import Path

import pytest

from tests.unit.commands.conftest import CELL, Command

BROKEN = ["{", "[]", "{}", '{"model": 1}', '{"acc": "x"}']


@pytest.fixture(params=BROKEN)
def score(results: Path, request: pytest.FixtureRequest) -> Path:
    """The broken score of a cell."""
    file = results / "score" / str(CELL) / "score.json"
    file.parent.mkdir(parents=True)
    file.write_text(request.param)
    return Path("results", "demo", "score", str(CELL), "score.json")


def test_the_page_shows_a_cell_without_its_broken_score(gapgrid: Command, score: Path) -> None:
    status, out, err = gapgrid("page", "demo")
    assert (status, out, len(err)) == (0, ["results/demo/grid.html"], 1)
    assert err[0].startswith(f"shown without a score: {score}: not ")


def test_tables_need_whole_scores(gapgrid: Command, score: Path) -> None:
    status, _, err = gapgrid("tables", "demo")
    assert (status, len(err)) == (1, 1) and err[0].startswith(f"error: {score}: not ")
