"""table: tidy rows with the right values, nothing missing passed over, the same bytes whatever the order of files."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from gapgrid import grid, manifest, table
from gapgrid.records import sha256_file, write_json, write_jsonl

Runner = Callable[..., int]

SCORE_COLUMNS = ["model", "mix", "seed", "benchmark", "n", "n_problems", "acc", "acc_judged", "acc_best_guess"]
ESTIMATE_COLUMNS = [
    *("quantity", "model", "family", "params_b", "mix", "minus", "benchmark"),
    *("estimate", "low", "high", "p", "p_holm", "settled", "n_questions", "n_seeds"),
]
GRID: dict[str, Any] = {
    "seeds": [0, 1],
    "models": {
        "small": {"kind": "tiny", "family": "f", "params_b": 0.5},
        "big": {"kind": "hub", "family": "g", "params_b": 7.0},
    },
    "mixes": {"short": {}, "long": {}},
    "benchmarks": {"easy": {}, "hard": {}},
    "statistics": {"resamples": 200, "confidence": 0.95, "seed": 0},
    "experiments": {
        "gap": {
            "models": "all",
            "mixes": ["none", "long", "short"],
            "benchmarks": "all",
            "contrast": ["long", "short"],
            "plot": "gap_by_size",
        }
    },
}
N = {"easy": 4, "hard": 8}


def verdict(cell: grid.Cell, doc_id: int) -> str:
    """How a cell's answer to one problem fares."""
    n_right = {"none": 0, "short": 2, "long": 3 if cell.model == "big" else 1}[cell.mix] + (cell.seed if cell.mix != "none" else 0)
    return "correct" if doc_id < n_right else "incorrect"


class Tables:
    """Scored cells on disk, and the stage run over them."""

    def __init__(self, folder: Path, run: Runner) -> None:
        self.folder, self.run = folder, run
        self.grid = copy.deepcopy(GRID)

    @property
    def cells(self) -> list[grid.Cell]:
        """The experiment's cells."""
        return grid.experiment_cells(self.grid, "gap")

    def score(self, cell: grid.Cell, verdicts: list[tuple[int, int, str]] | None = None) -> Path:
        """Write what `score` leaves of a cell."""
        folder = self.folder / "score" / "/".join(map(str, cell))
        n = N[cell.benchmark]
        verdicts = verdicts or [(doc_id, 0, verdict(cell, doc_id)) for doc_id in range(n)]
        write_jsonl(folder / "verdicts.jsonl", [dict(zip(("doc_id", "repeat", "verdict"), entry, strict=True)) for entry in verdicts])
        acc = sum(entry[2] == "correct" for entry in verdicts) / len(verdicts)
        counts = {"n": len(verdicts), "n_problems": n, "acc": acc, "acc_judged": None, "acc_best_guess": 1 / n}
        write_json(folder / "score.json", {**cell._asdict(), **counts})
        return folder / "score.json"

    def scores(self) -> list[Path]:
        """Write all cells."""
        return [self.score(cell) for cell in self.cells]

    def tabulate(self, files: list[Path], out: str = "out") -> int:
        """Run the stage; its exit status."""
        spec = json.loads(grid.table_spec(self.grid, "gap"))
        folder = self.folder / out
        return self.run(table, spec, *(folder / name for name in ("gap.csv", "gap.estimates.csv", "gap.manifest.json")), *files)

    def read(self, name: str, out: str = "out") -> pd.DataFrame:
        """A table that the stage wrote."""
        return pd.read_csv(self.folder / out / name, keep_default_na=False, na_values=[""])

    def estimate(self, **chosen: Any) -> pd.Series:
        """The one row of estimates with these values."""
        rows = self.read("gap.estimates.csv")
        for key, wanted in chosen.items():
            rows = rows[rows[key] == wanted]
        assert len(rows) == 1
        return rows.iloc[0]


@pytest.fixture
def tables(tmp_path: Path, run: Runner) -> Tables:
    """Nothing scored yet."""
    return Tables(tmp_path, run)


def test_score_rows_are_tidy_and_sorted(tables: Tables) -> None:
    assert tables.tabulate(tables.scores()) == 0
    rows = tables.read("gap.csv")
    assert set(rows.columns) == set(SCORE_COLUMNS)
    cells = list(rows[["model", "mix", "seed", "benchmark"]].itertuples(index=False, name=None))
    assert cells == sorted(map(tuple, tables.cells))
    # A hub student has one untouched state, a tiny one has one per seed.
    assert len(cells) == 2 * (2 * 2 * 2) + 2 + 4
    chosen = rows[(rows["model"] == "big") & (rows["mix"] == "long") & (rows["seed"] == 1) & (rows["benchmark"] == "easy")]
    assert chosen["acc"].item() == 1.0
    assert rows["acc_judged"].isna().all()
    assert ",none," in (tables.folder / "out" / "gap.csv").read_text()


def test_estimates_are_tidy(tables: Tables) -> None:
    tables.tabulate(tables.scores())
    rows = tables.read("gap.estimates.csv")
    assert list(rows.columns) == ESTIMATE_COLUMNS
    assert rows["quantity"].value_counts().to_dict() == {"accuracy": 2 * 3 * 3, "gap": 2 * 3, "best_guess": 3}
    assert (rows["low"].dropna() <= rows["high"].dropna()).all()


def test_a_gap_says_what_its_sign_is_worth(tables: Tables) -> None:
    tables.tabulate(tables.scores())
    rows = tables.read("gap.estimates.csv")
    gaps, others = rows[rows["quantity"] == "gap"], rows[rows["quantity"] != "gap"]
    assert others[["p", "p_holm", "settled"]].isna().all(axis=None)
    assert gaps["p"].between(0, 1).all() and (gaps["p_holm"] >= gaps["p"]).all()
    assert (gaps["settled"] == (gaps["p_holm"] <= 0.05)).all()


@pytest.mark.parametrize(
    ("chosen", "value"),
    [
        ({"quantity": "accuracy", "model": "small", "mix": "short", "benchmark": "easy"}, 2.5 / 4),
        ({"quantity": "accuracy", "model": "small", "mix": "short", "benchmark": "hard"}, 2.5 / 8),
        ({"quantity": "accuracy", "model": "small", "mix": "short", "benchmark": "average"}, (2.5 / 4 + 2.5 / 8) / 2),
        ({"quantity": "accuracy", "model": "big", "mix": "none", "benchmark": "average"}, 0.0),
        ({"quantity": "gap", "model": "small", "benchmark": "easy"}, -1 / 4),
        ({"quantity": "gap", "model": "big", "benchmark": "hard"}, 1 / 8),
        ({"quantity": "gap", "model": "big", "benchmark": "average"}, (1 / 4 + 1 / 8) / 2),
        ({"quantity": "best_guess", "benchmark": "average"}, (1 / 4 + 1 / 8) / 2),
    ],
)
def test_an_estimate_is_the_mean_it_says(tables: Tables, chosen: dict[str, Any], value: float) -> None:
    tables.tabulate(tables.scores())
    assert tables.estimate(**chosen)["estimate"] == pytest.approx(value, abs=1e-6)


def test_a_gap_says_what_it_is_of(tables: Tables) -> None:
    tables.tabulate(tables.scores())
    row = tables.estimate(quantity="gap", model="big", benchmark="average")
    assert (row["mix"], row["minus"], row["family"], row["params_b"]) == ("long", "short", "g", 7.0)
    assert (row["n_questions"], row["n_seeds"]) == (12, 2)
    assert tables.estimate(quantity="gap", model="big", benchmark="easy")["n_questions"] == 4


def test_counts_are_whole_numbers_in_the_file(tables: Tables) -> None:
    tables.tabulate(tables.scores())
    for line in (tables.folder / "out" / "gap.estimates.csv").read_text().splitlines()[1:]:
        *_, n_questions, n_seeds = line.split(",")
        assert n_questions.isdigit()
        assert n_seeds.isdigit() or line.startswith("best_guess")


def test_without_a_contrast_there_is_no_gap(tables: Tables) -> None:
    del tables.grid["experiments"]["gap"]["contrast"]
    assert tables.tabulate(tables.scores()) == 0
    assert set(tables.read("gap.estimates.csv")["quantity"]) == {"accuracy", "best_guess"}


def test_repeats_are_averaged_within_a_problem(tables: Tables) -> None:
    files = tables.scores()
    for seed in (0, 1):
        tables.score(
            grid.Cell("small", "short", seed, "easy"),
            [(doc_id, repeat, "correct" if doc_id == repeat == 0 else "incorrect") for doc_id in range(4) for repeat in range(2)],
        )
    assert tables.tabulate(files) == 0
    row = tables.estimate(quantity="accuracy", model="small", mix="short", benchmark="easy")
    assert (row["estimate"], row["n_questions"]) == (pytest.approx(1 / 8), 4)


def test_an_unparsed_verdict_is_in_neither_side(tables: Tables) -> None:
    files = tables.scores()
    for seed in (0, 1):
        verdicts = [(0, 0, "correct"), (1, 0, "unparsed"), (2, 0, "incorrect"), (3, 0, "no_answer")]
        tables.score(grid.Cell("small", "short", seed, "easy"), verdicts)
    tables.tabulate(files)
    assert tables.estimate(quantity="accuracy", model="small", mix="short", benchmark="easy")["estimate"] == pytest.approx(1 / 3, abs=1e-6)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("mix", ["none", "short"])
def test_a_missing_score_is_an_error(tables: Tables, capsys: pytest.CaptureFixture[str], mix: str, seed: int) -> None:
    files = tables.scores()
    lost = tables.folder / "score" / "small" / mix / str(seed) / "hard" / "score.json"
    files.remove(lost)
    assert tables.tabulate(files) == 1
    assert capsys.readouterr().err == f"error: table: no score of small/{mix}/{seed}/hard\n"
    assert not (tables.folder / "out").exists()


def test_a_score_file_that_is_not_there_is_an_error(tables: Tables, capsys: pytest.CaptureFixture[str]) -> None:
    files = tables.scores()
    files[0].unlink()
    assert tables.tabulate(files) == 1
    assert f"{files[0]}: no such file" in capsys.readouterr().err


def test_the_same_scores_give_the_same_bytes_in_any_order(tables: Tables) -> None:
    files = tables.scores()
    tables.tabulate(files, "first")
    for file in files:
        verdicts = file.with_name("verdicts.jsonl")
        verdicts.write_text("".join(reversed(verdicts.read_text().splitlines(keepends=True))))
    tables.tabulate(files[::-1], "second")
    for name in ("gap.csv", "gap.estimates.csv", "gap.manifest.json"):
        assert (tables.folder / "first" / name).read_bytes() == (tables.folder / "second" / name).read_bytes()


@pytest.mark.parametrize("mix", ["short", "score"])
def test_the_manifest_names_every_score_by_its_cell(tables: Tables, mix: str) -> None:
    files = [tables.score(cell) for cell in tables.cells]
    renamed = [tables.folder / "score" / "/".join(part.replace("short", mix) for part in file.parts[-5:]) for file in files]
    for old, new in zip(files, renamed, strict=True):
        new.parent.mkdir(parents=True, exist_ok=True)
        for name in ("score.json", "verdicts.jsonl"):
            new.with_name(name).write_bytes(old.with_name(name).read_bytes())
    assert tables.tabulate(renamed) == 0
    path = tables.folder / "out" / "gap.manifest.json"
    expected = {"/".join(file.parts[-5:-1]): sha256_file(file) for file in renamed}
    assert len(expected) == len(tables.cells)
    assert manifest.read(path)["inputs"] == expected
    assert manifest.mismatches(path) == []
    assert str(tables.folder) not in path.read_text()
