"""table: tidy rows with the right values, nothing missing passed over, the same bytes whatever the order of files."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from gapgrid import claims, estimating, grid, manifest, table
from gapgrid.records import sha256_file, write_json, write_jsonl

Runner = Callable[..., int]

SCORE_COLUMNS = {
    *("model", "mix", "seed", "benchmark", "n", "n_problems", "n_truncated", "acc", "acc_low", "acc_high", "acc_finished"),
    *("share_truncated", "share_no_answer", "acc_judged", "acc_best_guess", "tokens_correct_p50", "differs", "verdicts_sha256"),
}
RECIPE = {"method": "full", "learning_rate": 1e-5, "epochs": 2, "global_batch": 8, "max_length": 100}
BENCHMARK = {"task": "story", "data": {"builtin": {}}, "max_tokens": 50, "grader": "boxed"}
TINY = {"kind": "tiny", "family": "f", "params_b": 0.5, "recipe": "sft", "architecture": {"layers": 1}, "corpus": "text", "pretrain": "sft"}
GRID: dict[str, Any] = {
    "seeds": [0, 1],
    "engine": {"train": "stub", "evaluate": "stub"},
    "versions": {},
    "judge": {"backend": "none"},
    "adopted": {},
    "reference": [],
    "recipes": {"sft": RECIPE, "sft-other": {**RECIPE, "global_batch": 80}},
    "models": {
        "small": TINY,
        "big": {"kind": "hub", "hub": "org/big", "family": "g", "params_b": 7.0, "recipe": "sft"},
    },
    "mixes": {"short": {"parts": {"s": 1.0}}, "long": {"parts": {"l": 1.0}, "label": "long CoT"}, "mixed": {"parts": {"s": 0.5, "l": 0.5}}},
    "benchmarks": {"easy": {**BENCHMARK, "rows": 4}, "hard": {**BENCHMARK, "rows": 8}},
    "statistics": {"resamples": 200, "confidence": 0.95, "seed": 0},
    "experiments": {
        "gap": {
            "models": "all",
            "mixes": ["none", "long", "short"],
            "benchmarks": "all",
            "contrast": ["long", "short"],
            "plot": "gap_by_size",
            "caption": "A gap.",
        }
    },
}
N = {"easy": 4, "hard": 8}


def verdict(cell: grid.Cell, doc_id: int) -> str:
    """How a cell's answer to one problem fares."""
    n_right = {"none": 0, "short": 2, "mixed": 3, "long": 3 if cell.model == "big" else 1}[cell.mix] + (
        cell.seed if cell.mix != "none" else 0
    )
    return "correct" if doc_id < n_right else "incorrect"


class Tables:
    """Scored cells on disk, and the stage run over them."""

    def __init__(self, folder: Path, run: Runner) -> None:
        self.folder, self.run = folder, run
        self.grid = copy.deepcopy(GRID)
        self.manifests: list[Path] = []

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
        counts = {"n": len(verdicts), "n_problems": n, "acc": acc, "acc_judged": None, "acc_best_guess": 1 / n, "n_truncated": 1}
        counts |= {"acc_low": acc / 2, "acc_high": 1.0, "acc_finished": acc, "share_truncated": 1 / n, "share_no_answer": 0.0}
        counts |= {"tokens_correct_p50": 10.0 * n if acc else None, "verdicts_sha256": "0"}
        write_json(folder / "score.json", {**cell._asdict(), **counts})
        return folder / "score.json"

    def scores(self) -> list[Path]:
        """Write all cells."""
        return [self.score(cell) for cell in self.cells]

    def tabulate(self, files: list[Path], out: str = "out") -> int:
        """Run the stage; its exit status."""
        return self.run(table, self.spec(), "--trained", *self.manifests, "--", self.folder / out / "gap.manifest.json", *files)

    def spec(self) -> dict[str, Any]:
        """What the stage is told."""
        return json.loads(claims.table_spec(self.grid, "gap"))

    def train(self, cell: grid.TrainingCell, n_steps: int, **engines: str) -> None:
        """Write what `train` leaves of a training cell."""
        path = self.folder / "train" / "/".join(map(str, cell)) / "manifest.json"
        manifest.write(path, "train", {"version": 1}, {}, [], engines, {"n_steps": n_steps})
        self.manifests.append(path)

    def build(self, files: list[Path]) -> table.Made:
        """All files, also where some scores are missing."""
        return table.build(self.spec(), files, self.manifests)

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
    assert set(rows.columns) == SCORE_COLUMNS
    rows = rows[rows["benchmark"] != "average"]
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
    assert list(rows.columns) == list(estimating.COLUMNS)
    assert rows["quantity"].value_counts().to_dict() == {"accuracy": 2 * 3 * 3, "gap": 2 * 3, "gain": 2 * 2 * 3, "best_guess": 3}
    assert (rows["low"].dropna() <= rows["high"].dropna()).all()


def test_a_gap_says_what_its_sign_is_worth(tables: Tables) -> None:
    tables.tabulate(tables.scores())
    rows = tables.read("gap.estimates.csv")
    gaps, others = rows[rows["quantity"] == "gap"], rows[rows["quantity"].isin(["accuracy", "best_guess"])]
    assert others[["p", "p_holm", "settled", "check", "p_check"]].isna().all(axis=None)
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
    assert set(tables.read("gap.estimates.csv")["quantity"]) == {"accuracy", "gain", "best_guess"}


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
    for name in (*(f"gap{suffix}" for suffix in table.SUFFIXES), "gap.manifest.json"):
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


# ---- what else a table holds ----


def test_averages_are_means_of_shares_and_sums_of_counts(tables: Tables) -> None:
    tables.tabulate(tables.scores())
    rows = tables.read("gap.csv")
    average = rows[(rows["model"] == "big") & (rows["mix"] == "short") & (rows["seed"] == 0) & (rows["benchmark"] == "average")].iloc[0]
    assert (average["n"], average["n_problems"], average["n_truncated"]) == (12, 12, 2)
    assert (average["acc"], average["share_truncated"]) == ((2 / 4 + 2 / 8) / 2, (1 / 4 + 1 / 8) / 2)
    assert average["tokens_correct_p50"] == 60.0
    untouched = rows[(rows["mix"] == "none") & (rows["benchmark"] == "average")]
    assert untouched["tokens_correct_p50"].isna().all()  # no right answer, so no length of any


def test_gains_and_checks_stand_beside_the_gap(tables: Tables) -> None:
    tables.tabulate(tables.scores())
    gain = tables.estimate(quantity="gain", model="small", mix="short", benchmark="hard")
    assert (gain["minus"], gain["estimate"]) == ("none", pytest.approx(2.5 / 8))
    assert tables.estimate(quantity="gain", model="big", mix="long", benchmark="easy")["n_seeds"] == 2
    gap = tables.estimate(quantity="gap", model="big", benchmark="hard")
    assert (gap["check"], gap["n_first"], gap["n_second"]) == ("sign-flip", 2, 0)
    assert gap["p_check"] == pytest.approx(0.5)  # two of four flips of two questions
    tables.grid["seeds"] = [0]
    tables.tabulate(tables.scores(), "one")
    rows = tables.read("gap.estimates.csv", "one")
    assert set(rows[rows["quantity"] == "gap"]["check"].dropna()) == {"mcnemar"}


def test_an_untouched_student_of_one_state_has_one_seed(tables: Tables) -> None:
    tables.tabulate(tables.scores())
    assert tables.estimate(quantity="accuracy", model="big", mix="none", benchmark="easy")["n_seeds"] == 1
    assert tables.estimate(quantity="accuracy", model="small", mix="none", benchmark="easy")["n_seeds"] == 2


def test_a_mix_is_held_against_its_best_single_source(tables: Tables) -> None:
    tables.grid["experiments"]["gap"]["mixes"] = ["long", "short", "mixed"]
    tables.tabulate(tables.scores())
    row = tables.estimate(quantity="mix_minus_best", model="small", benchmark="easy")
    assert (row["mix"], row["minus"], row["estimate"]) == ("mixed", "short", pytest.approx(1 / 4))
    assert tables.estimate(quantity="mix_minus_best", model="big", benchmark="average")["minus"] == "long"
    text = (tables.folder / "out" / "gap.md").read_text()
    assert "## Mix − best single source" in text and "## Trained − untouched" not in text


def test_a_family_of_two_sizes_has_a_sign_flip(tables: Tables) -> None:
    assert tables.tabulate(tables.scores()) == 0
    assert "sign_flip" not in set(tables.read("gap.estimates.csv")["quantity"])  # two families of one
    tables.grid["models"]["big"]["family"] = "f"
    tables.tabulate(tables.scores(), "second")
    rows = tables.read("gap.estimates.csv", "second")
    flip = rows[(rows["quantity"] == "sign_flip") & (rows["benchmark"] == "average")].iloc[0]
    # From -3/16 at 0.5B to +3/16 at 7B: half way on a log scale.
    assert (flip["unit"], flip["family"]) == ("billion parameters", "f")
    assert flip["estimate"] == pytest.approx((0.5 * 7) ** 0.5)
    assert "| f | 1.87B [" in (tables.folder / "second" / "gap.md").read_text()
    tables.grid["models"]["big"]["params_b"] = 0.5  # of one size there is no larger one
    tables.tabulate(tables.scores(), "third")
    assert "sign_flip" not in set(tables.read("gap.estimates.csv", "third")["quantity"])


def test_reading_order_is_that_of_the_configuration(tables: Tables) -> None:
    tables.tabulate(tables.scores())
    lines = (tables.folder / "out" / "gap.md").read_text().splitlines()
    head = next(line for line in lines if line.startswith("| student"))
    assert head == "| student | untouched | long CoT | short | long CoT − short | n | seeds |"
    at = lines.index(head)
    assert [line.split(" | ")[0] for line in lines[at + 2 : at + 4]] == ["| f small", "| g big"]
    assert lines[at + 3].startswith("| g big | 0.0 [") and "+18.8" in lines[at + 3]


def test_by_benchmark_is_left_out_of_the_text_where_not_wanted(tables: Tables) -> None:
    tables.tabulate(tables.scores())
    tables.grid["experiments"]["gap"]["by_benchmark"] = False
    tables.tabulate(tables.scores(), "short")
    assert "## By benchmark" in (tables.folder / "out" / "gap.md").read_text()
    assert "## By benchmark" not in (tables.folder / "short" / "gap.md").read_text()
    assert (tables.folder / "out" / "gap.estimates.csv").read_bytes() == (tables.folder / "short" / "gap.estimates.csv").read_bytes()


# ---- what spoils a comparison ----


def stamped(tables: Tables, out: str = "out") -> list[bool]:
    """Whether each file of a table says that more differs than declared."""
    folder = tables.folder / out
    texts = [(folder / f"gap{suffix}").read_text() for suffix in (".md", ".tex")]
    marks = ["Not only" in text for text in texts]
    return [*marks, *(bool(tables.read(name, out)["differs"].notna().all()) for name in ("gap.csv", "gap.estimates.csv"))]


def test_a_table_of_one_contrast_has_no_stamp(tables: Tables) -> None:
    tables.tabulate(tables.scores())
    assert stamped(tables) == [False] * 4
    notes = json.loads((tables.folder / "out" / "gap.notes.json").read_text())
    assert (notes["caption"], notes["differs"], notes["n_missing"]) == ("A gap.", [], 0)
    assert {"caption", "protocol", "differs", "between_students", "n_missing"} <= notes.keys()
    assert "training seeds: 0, 1; 12 questions over 2 benchmark(s)" in notes["protocol"]


def test_another_recipe_for_the_same_student_stamps_every_file(tables: Tables) -> None:
    tables.grid["models"]["big-other"] = {**tables.grid["models"]["big"], "recipe": "sft-other"}
    assert tables.tabulate(tables.scores()) == 0
    assert stamped(tables) == [True] * 4
    notes = json.loads((tables.folder / "out" / "gap.notes.json").read_text())
    assert notes["differs"] == ["big, big-other: global_batch 8 (big); 80 (big-other)"]
    assert set(tables.read("gap.csv")["differs"]) == {"global_batch"}
    tables.grid["experiments"]["gap"]["varies"] = ["mix", "recipe"]
    tables.tabulate(tables.scores(), "declared")
    assert stamped(tables, "declared") == [False] * 4


def test_unequal_steps_are_found_in_the_trainings_own_records(tables: Tables) -> None:
    for mix, n_steps in (("long", 1346), ("short", 1134)):
        tables.train(grid.TrainingCell("big", mix, 0), n_steps, torch="2.1")
    tables.train(grid.TrainingCell("small", "long", 0), 10, torch="2.0")
    tables.train(grid.TrainingCell("stranger", "long", 0), 1)
    tables.tabulate(tables.scores())
    notes = json.loads((tables.folder / "out" / "gap.notes.json").read_text())
    assert notes["differs"] == ["big: optimiser steps 1,346 (long); 1,134 (short)"]
    assert any("versions that trained" in line and '{"torch": "2.0"} (small)' in line for line in notes["between_students"])
    assert stamped(tables) == [True] * 4
    tables.grid["experiments"]["gap"]["varies"] = ["mix", "steps"]
    tables.tabulate(tables.scores(), "declared")
    assert stamped(tables, "declared") == [False] * 4


# ---- beside what was published ----

PUBLISHED = {
    "model": "big",
    "mix": "long",
    "minus": "",
    "benchmark": "easy",
    "score": 80.0,
    "source": "Table 1",
    "note": "a slip",
    "line": 2,
}


def test_published_numbers_stand_beside_ours(tables: Tables) -> None:
    tables.grid["reference"] = [
        PUBLISHED,
        {**PUBLISHED, "benchmark": "hard", "score": 99.0, "note": ""},
        {**PUBLISHED, "minus": "short", "benchmark": "hard+easy", "score": 20.0, "note": ""},
        {**PUBLISHED, "mix": "mixed"},
    ]
    assert tables.tabulate(tables.scores()) == 0
    rows = tables.read("gap.paper.csv").set_index("benchmark")
    assert list(rows.index) == ["easy", "hard", "average"]
    assert (rows["published"]["easy"], rows["ours"]["easy"], rows["difference"]["easy"]) == (80.0, 87.5, 7.5)
    assert rows["inside"].to_dict() == {"easy": True, "hard": False, "average": True}
    assert rows["ours"]["average"] == pytest.approx(18.75, abs=1e-4)
    text = (tables.folder / "out" / "gap.md").read_text()
    assert "| g big | long CoT | easy | 80.0 | 87.5 [" in text and "g big, long CoT, easy: a slip" in text
    assert "Beside what was published" in (tables.folder / "out" / "gap.tex").read_text()
    assert "gap.paper.csv" in manifest.read(tables.folder / "out" / "gap.manifest.json")["outputs"]


def test_without_published_numbers_nothing_is_said_of_them_and_what_was_said_goes(tables: Tables) -> None:
    tables.grid["reference"] = [PUBLISHED]
    tables.tabulate(tables.scores())
    tables.grid["reference"] = []
    tables.tabulate(tables.scores())
    assert not (tables.folder / "out" / "gap.paper.csv").exists()
    assert "published" not in (tables.folder / "out" / "gap.md").read_text()


# ---- with part of the cells ----


def without(files: list[Path], *lost: str) -> list[Path]:
    """The scores without those of these cells or training cells."""
    return [file for file in files if not any("/".join(file.parts[-5:-1]).startswith(name) for name in lost)]


def test_what_is_missing_is_shown_as_missing_and_the_rest_is_there(tables: Tables) -> None:
    tables.grid["reference"] = [PUBLISHED]
    files = tables.scores()
    whole = tables.build(files)
    made = tables.build(without(files, "big/long"))
    assert (whole.n_missing, made.n_missing) == (0, 4)
    notes = json.loads(made.files[".notes.json"])
    assert notes["caption"] == f"A gap. 4 of {len(files)} cells are missing; they are shown as –."
    for name, text in made.files.items():
        (tables.folder / f"gap{name}").write_text(text)
    rows = tables.read("gap.estimates.csv", ".")
    big = rows[(rows["model"] == "big") & (rows["quantity"] == "gap")]
    assert len(big) == 3 and big[["estimate", "low", "high", "p", "settled", "n_seeds"]].isna().all(axis=None)
    cells = tables.read("gap.csv", ".")
    lost = cells[(cells["model"] == "big") & (cells["mix"] == "long")]
    assert len(lost) == 4 and lost[["acc", "n"]].isna().all(axis=None)
    line = next(line for line in made.files[".md"].splitlines() if line.startswith("| g big"))
    assert line.split(" | ")[2] == "–" and line.split(" | ")[4] == "–" and line.split(" | ")[3] != "–"
    assert "| g big | long CoT | easy | 80.0 | – | – | – | Table 1 |" in made.files[".md"]
    beside = tables.read("gap.paper.csv", ".")
    assert beside[["ours", "difference", "inside"]].isna().all(axis=None)
    # What is there is as it is in the whole table.
    small = [line for line in whole.files[".estimates.csv"].splitlines() if line.startswith("accuracy,small")]
    assert small and set(small) <= set(made.files[".estimates.csv"].splitlines())


def test_a_benchmark_is_shown_without_the_average_that_lacks_another(tables: Tables) -> None:
    files = tables.scores()
    spec = tables.spec()
    kept = without(files, "big/long/0/hard", "big/long/1/hard")
    rows = list(estimating.rows(spec, table.read_outcomes(kept)))
    found = {(row["quantity"], row["benchmark"]): row.get("estimate") for row in rows if row["model"] == "big" and row["mix"] == "long"}
    assert found["gap", "easy"] == pytest.approx(1 / 4)
    assert found["gap", "hard"] is found["gap", "average"] is found["accuracy", "average"] is None


def test_sides_are_paired_over_the_seeds_that_both_have(tables: Tables) -> None:
    kept = without(tables.scores(), "big/long/1/hard")
    rows = list(estimating.rows(tables.spec(), table.read_outcomes(kept)))
    for row in rows:
        if row["model"] == "big" and row["quantity"] == "gap":
            assert row["n_seeds"] == 1 and row["estimate"] is not None
        if row["model"] == "big" and row["quantity"] == "accuracy" and row["mix"] == "short":
            assert row["n_seeds"] == 2


def test_a_family_that_lacks_a_student_has_no_sign_flip_size(tables: Tables) -> None:
    tables.grid["models"]["big"]["family"] = "f"
    made = tables.build(without(tables.scores(), "big/long"))
    assert "| f | – | – | – | – |" in made.files[".md"]


def test_of_nothing_all_is_missing(tables: Tables) -> None:
    made = tables.build([])
    assert made.n_missing == len(tables.cells)
    assert "0.0" not in made.files[".md"].split("## Protocol")[0]
    assert "best_guess" not in made.files[".estimates.csv"]


def test_a_mean_of_what_one_benchmark_lacks_is_missing() -> None:
    cell = {"model": "m", "mix": "x", "seed": 0, "n": 4}
    scores = [{**cell, "benchmark": "easy", "tokens": 10.0, "acc": 0.5}, {**cell, "benchmark": "hard", "tokens": None, "acc": 0.0}]
    assert table.averages(scores, ["easy", "hard"]) == [{**cell, "benchmark": "average", "n": 8, "tokens": None, "acc": 0.25}]
    assert table.averages(scores, ["easy", "hard", "harder"]) == []


def test_an_open_sign_and_a_settled_one_are_told_apart(tables: Tables) -> None:
    tables.tabulate(tables.scores())
    lines = (tables.folder / "out" / "gap.md").read_text().splitlines()
    settled = tables.estimate(quantity="gap", model="big", benchmark="average")["settled"]
    assert not settled and any("+18.8° [" in line for line in lines) and not any("**+18.8**" in line for line in lines)
    for cell in tables.cells:
        n = N[cell.benchmark]
        tables.score(cell, [(doc_id, 0, "incorrect" if cell.mix == "long" else "correct") for doc_id in range(n)])
    tables.tabulate([tables.folder / "score" / "/".join(map(str, cell)) / "score.json" for cell in tables.cells], "settled")
    assert "| **−100.0** [" in (tables.folder / "settled" / "gap.md").read_text()
