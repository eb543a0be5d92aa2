"""table: tidy rows with right values, missing cells shown, the same bytes in any order of files."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from gapgrid.core import manifest
from gapgrid.core.cells import Cell, TrainingCell
from gapgrid.core.records import Row, read_json, sha256_file, write_json, write_jsonl
from gapgrid.grid.cells import experiment_cells
from gapgrid.grid.table_spec import table_spec
from gapgrid.stages import table
from gapgrid.stats import estimates

SCORE_COLUMNS = {
    *("model", "mix", "seed", "benchmark", "n", "n_problems", "n_truncated", "acc", "acc_low"),
    *("acc_high", "acc_finished", "share_truncated", "share_no_answer", "acc_judged"),
    *("acc_best_guess", "tokens_correct_p50", "differs", "verdicts_sha256"),
}
RECIPE = {"method": "full", "learning_rate": 1e-5, "epochs": 2, "global_batch": 8}
RECIPE |= {"max_length": 100}
BENCHMARK = {"task": "story", "data": {"builtin": {}}, "max_tokens": 50, "grader": "boxed"}
TINY = {"kind": "tiny", "family": "f", "params_b": 0.5, "recipe": "sft", "corpus": "text"}
TINY |= {"architecture": {"layers": 1}, "pretrain": "sft"}
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
    "mixes": {
        "short": {"parts": {"s": 1.0}},
        "long": {"parts": {"l": 1.0}, "label": "long CoT"},
        "mixed": {"parts": {"s": 0.5, "l": 0.5}},
    },
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
PUBLISHED = {"model": "big", "mix": "long", "minus": "", "benchmark": "easy", "score": 80.0}
PUBLISHED |= {"source": "Table 1", "note": "a slip", "line": 2}
KEYS = ("model", "mix", "seed", "benchmark")


def verdicts_of(cell: Cell) -> list[str]:
    """How a cell's answers fare."""
    n_right = {"none": 0, "short": 2, "mixed": 3, "long": 3 if cell.model == "big" else 1}[cell.mix]
    n_right += cell.seed if cell.mix != "none" else 0
    n = GRID["benchmarks"][cell.benchmark]["rows"]
    return ["correct" if doc_id < n_right else "incorrect" for doc_id in range(n)]


def chosen(rows: pd.DataFrame, **values: Any) -> pd.DataFrame:
    """The rows with these values."""
    for key, value in values.items():
        rows = rows[rows[key] == value]
    return rows


class Tables:
    """Scored cells on disk, and the stage run over them."""

    def __init__(self, folder: Path, run: Callable[..., int]) -> None:
        self.folder, self.run = folder, run
        self.grid = copy.deepcopy(GRID)
        self.manifests: list[Path] = []

    @property
    def cells(self) -> list[Cell]:
        """The experiment's cells."""
        return experiment_cells(self.grid, "gap")

    @property
    def spec(self) -> Any:
        """The stage's spec."""
        return json.loads(table_spec(self.grid, "gap"))

    def score(self, cell: Cell, verdicts: list[str], repeats: int = 1) -> Path:
        """Write what `score` leaves of a cell; `verdicts` are by problem and repeat."""
        folder = self.folder / "score" / str(cell)
        rows = [
            {"doc_id": index // repeats, "repeat": index % repeats, "verdict": verdict}
            for index, verdict in enumerate(verdicts)
        ]
        write_jsonl(folder / "verdicts.jsonl", rows)
        n = len(verdicts) // repeats
        n_parsed = len(verdicts) - verdicts.count("unparsed")
        acc = verdicts.count("correct") / n_parsed if n_parsed else None
        counts: Row = {"n": len(verdicts), "n_problems": n, "n_truncated": 1}
        counts |= {"acc": acc, "acc_low": acc and acc / 2, "acc_high": 1.0, "acc_finished": acc}
        counts |= {"acc_judged": None, "acc_best_guess": 1 / n, "share_truncated": 1 / n}
        counts |= {"share_no_answer": 0.0, "tokens_correct_p50": 10.0 * n if acc else None}
        score = {**cell._asdict(), **counts, "verdicts_sha256": "0"}
        write_json(folder / "score.json", score)
        return folder / "score.json"

    def scores(self, *lost: str) -> list[Path]:
        """Write all cells; their scores without those of these cells or training cells."""
        files = {str(cell): self.score(cell, verdicts_of(cell)) for cell in self.cells}
        return [file for name, file in files.items() if not name.startswith(lost)]

    def tabulate(self, files: list[Path] | None = None, out: str = "out") -> int:
        """Run the stage, by default over all cells; its exit status."""
        files = self.scores() if files is None else files
        written = self.folder / out / "gap.manifest.json"
        return self.run(table, self.spec, "--trained", *self.manifests, "--", written, *files)

    def train(self, model: str, mix: str, n_steps: int, **engines: str) -> None:
        """Write what `train` leaves of a training cell."""
        path = self.folder / "train" / str(TrainingCell(model, mix, 0)) / "manifest.json"
        manifest.write(path, "train", {"version": 1}, {}, [], engines, {"n_steps": n_steps})
        self.manifests.append(path)

    def build(self, files: list[Path]) -> table.Tables:
        """All files, also where some scores are missing."""
        return table.build(self.spec, files, self.manifests)

    def text(self, suffix: str, out: str = "out") -> str:
        """The text of a file that the stage wrote."""
        return (self.folder / out / f"gap{suffix}").read_text()

    def read(self, suffix: str = ".estimates.csv", out: str = "out") -> pd.DataFrame:
        """A table that the stage wrote."""
        path = self.folder / out / f"gap{suffix}"
        return pd.read_csv(path, keep_default_na=False, na_values=[""])

    def estimate(self, out: str = "out", **values: Any) -> pd.Series:
        """The one row of estimates with these values."""
        rows = chosen(self.read(out=out), **values)
        assert len(rows) == 1
        return rows.iloc[0]

    def warned(self, out: str = "out") -> list[bool]:
        """Whether each file of a table says that more differs than declared."""
        texts = ["Not only" in self.text(suffix, out) for suffix in (".md", ".tex")]
        columns = [self.read(suffix, out)["differs"] for suffix in (".csv", ".estimates.csv")]
        return [*texts, *(bool(column.notna().all()) for column in columns)]


@pytest.fixture
def tables(tmp_path: Path, run: Callable[..., int]) -> Tables:
    """Nothing scored yet."""
    return Tables(tmp_path, run)


def test_score_rows_are_tidy_and_sorted(tables: Tables) -> None:
    assert tables.tabulate() == 0
    rows = tables.read(".csv")
    assert set(rows.columns) == SCORE_COLUMNS
    rows = rows[rows["benchmark"] != "average"]
    cells = list(rows[list(KEYS)].itertuples(index=False, name=None))
    assert cells == sorted(map(tuple, tables.cells))
    # A hub student has one state before SFT, a tiny one has one per seed.
    assert len(cells) == 2 * (2 * 2 * 2) + 2 + 4
    cell = dict(zip(KEYS, ("big", "long", 1, "easy"), strict=True))
    assert chosen(rows, **cell)["acc"].item() == 1.0
    assert rows["acc_judged"].isna().all()
    assert ",none," in tables.text(".csv")


def test_estimates_are_tidy(tables: Tables) -> None:
    tables.tabulate()
    rows = tables.read()
    assert list(rows.columns) == list(estimates.COLUMNS)
    counts = {"accuracy": 2 * 3 * 3, "gap": 2 * 3, "gain": 2 * 2 * 3, "best_guess": 3}
    assert rows["quantity"].value_counts().to_dict() == counts
    assert (rows["low"].dropna() <= rows["high"].dropna()).all()
    gaps = chosen(rows, quantity="gap")
    scores = rows[rows["quantity"].isin(["accuracy", "best_guess"])]
    assert scores[["p", "p_holm", "settled", "check", "p_check"]].isna().all(axis=None)
    assert gaps["p"].between(0, 1).all() and (gaps["p_holm"] >= gaps["p"]).all()
    assert (gaps["settled"] == (gaps["p_holm"] <= 0.05)).all()
    for line in tables.text(".estimates.csv").splitlines()[1:]:
        *_, n_questions, n_seeds = line.split(",")  # whole numbers in the file
        assert n_questions.isdigit()
        assert n_seeds.isdigit() or line.startswith("best_guess")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ("accuracy small short easy", 2.5 / 4),
        ("accuracy small short hard", 2.5 / 8),
        ("accuracy small short average", (2.5 / 4 + 2.5 / 8) / 2),
        ("accuracy big none average", 0.0),
        ("gap small long easy", -1 / 4),
        ("gap big long hard", 1 / 8),
        ("gap big long average", (1 / 4 + 1 / 8) / 2),
        ("gain small short hard", 2.5 / 8),
    ],
)
def test_an_estimate_is_the_mean_it_says(tables: Tables, values: str, expected: float) -> None:
    tables.tabulate()
    keys = ("quantity", "model", "mix", "benchmark")
    row = tables.estimate(**dict(zip(keys, values.split(), strict=True)))
    assert row["estimate"] == pytest.approx(expected, abs=1e-6)
    minus = {"gap": "short", "gain": "none"}.get(row["quantity"])
    assert row["minus"] == minus or (minus is None and pd.isna(row["minus"]))


def test_an_estimate_says_what_it_is_of(tables: Tables) -> None:
    tables.tabulate()
    row = tables.estimate(quantity="gap", model="big", benchmark="average")
    assert (row["family"], row["params_b"], row["n_questions"], row["n_seeds"]) == ("g", 7.0, 12, 2)
    assert tables.estimate(quantity="gap", model="big", benchmark="easy")["n_questions"] == 4
    # A hub student has one state before SFT, also where a gain compares it with two seeds.
    for values, n_seeds in (
        ({"quantity": "accuracy", "model": "big", "mix": "none"}, 1),
        ({"quantity": "accuracy", "model": "small", "mix": "none"}, 2),
        ({"quantity": "gain", "model": "big", "mix": "long"}, 2),
    ):
        assert tables.estimate(**values, benchmark="easy")["n_seeds"] == n_seeds
    guess = tables.estimate(quantity="best_guess", benchmark="average")["estimate"]
    assert guess == pytest.approx((1 / 4 + 1 / 8) / 2)


def test_a_gap_has_a_second_test_beside_it(tables: Tables) -> None:
    tables.tabulate()
    gap = tables.estimate(quantity="gap", model="big", benchmark="hard")
    assert (gap["check"], gap["n_first"], gap["n_second"]) == ("sign-flip", 2, 0)
    assert gap["p_check"] == pytest.approx(0.5)  # two of four flips of two questions
    tables.grid["seeds"] = [0]
    tables.tabulate(out="single")
    rows = chosen(tables.read(out="single"), quantity="gap")
    assert set(rows["check"].dropna()) == {"mcnemar"}


def test_without_a_contrast_there_is_no_gap(tables: Tables) -> None:
    del tables.grid["experiments"]["gap"]["contrast"]
    assert tables.tabulate() == 0
    assert set(tables.read()["quantity"]) == {"accuracy", "gain", "best_guess"}
    assert "The gap is" not in tables.text(".md")


@pytest.mark.parametrize(
    ("verdicts", "repeats", "expected", "n_questions"),
    [
        # Repeats are averaged within a problem; an unparsed verdict counts for neither side.
        (["correct", *["incorrect"] * 7], 2, 1 / 8, 4),
        (["correct", "unparsed", "incorrect", "no_answer"], 1, 1 / 3, 3),
    ],
)
def test_outcomes_of_repeats_and_unparsed_verdicts(
    tables: Tables, verdicts: list[str], repeats: int, expected: float, n_questions: int
) -> None:
    files = tables.scores()
    for seed in (0, 1):
        tables.score(Cell("small", "short", seed, "easy"), verdicts, repeats)
    assert tables.tabulate(files) == 0
    row = tables.estimate(quantity="accuracy", model="small", mix="short", benchmark="easy")
    assert row["estimate"] == pytest.approx(expected, abs=1e-6)
    assert row["n_questions"] == n_questions


@pytest.mark.parametrize("lost", ["small/none/1/hard", "small/short/0/hard"])
def test_a_missing_score_is_an_error(
    tables: Tables, capsys: pytest.CaptureFixture[str], lost: str
) -> None:
    assert tables.tabulate(tables.scores(lost)) == 1
    assert capsys.readouterr().err == f"error: table: no score of {lost}\n"
    files = tables.scores()
    files[0].unlink()
    assert tables.tabulate(files) == 1
    assert f"{files[0]}: no such file" in capsys.readouterr().err
    assert not (tables.folder / "out").exists()


def test_the_same_scores_give_the_same_bytes_in_any_order(tables: Tables) -> None:
    files = tables.scores()
    tables.tabulate(files, "first")
    for file in files:
        verdicts = file.with_name("verdicts.jsonl")
        verdicts.write_text("".join(reversed(verdicts.read_text().splitlines(keepends=True))))
    tables.tabulate(files[::-1], "second")
    for suffix in (*table.SUFFIXES, ".manifest.json"):
        assert tables.text(suffix, "first") == tables.text(suffix, "second"), suffix


@pytest.mark.parametrize("mix", ["short", "score"])
def test_the_manifest_names_every_score_by_its_cell(tables: Tables, mix: str) -> None:
    files = tables.scores()
    for folder in {file.parents[2] for file in files if file.parents[2].name == "short"}:
        folder.rename(folder.with_name(mix))
    files = sorted((tables.folder / "score").rglob("score.json"))
    assert tables.tabulate(files) == 0
    path = tables.folder / "out" / "gap.manifest.json"
    expected = {"/".join(file.parts[-5:-1]): sha256_file(file) for file in files}
    assert len(expected) == len(tables.cells)
    assert manifest.read(path)["inputs"] == expected
    assert manifest.mismatches(path) == []
    assert str(tables.folder) not in path.read_text()


# ---- what else a table holds ----


def test_averages_are_means_of_shares_and_sums_of_counts(tables: Tables) -> None:
    tables.tabulate()
    rows = chosen(tables.read(".csv"), benchmark="average")
    average = chosen(rows, model="big", mix="short", seed=0).iloc[0]
    assert [average[key] for key in ("n", "n_problems", "n_truncated")] == [12, 12, 2]
    assert average["acc"] == (2 / 4 + 2 / 8) / 2
    assert average["share_truncated"] == (1 / 4 + 1 / 8) / 2
    assert average["tokens_correct_p50"] == 60.0
    # Without a right answer there is no length of any.
    assert chosen(rows, mix="none")["tokens_correct_p50"].isna().all()


def test_a_mean_of_what_one_benchmark_lacks_is_missing() -> None:
    cell = {"model": "m", "mix": "x", "seed": 0, "n": 4}
    scores = [
        {**cell, "benchmark": "easy", "tokens": 10.0, "acc": 0.5},
        {**cell, "benchmark": "hard", "tokens": None, "acc": 0.0},
    ]
    expected = [{**cell, "benchmark": "average", "n": 8, "tokens": None, "acc": 0.25}]
    assert table.averages(scores, ["easy", "hard"]) == expected
    assert table.averages(scores, ["easy", "hard", "harder"]) == []


def test_a_mix_is_compared_with_its_best_single_source(tables: Tables) -> None:
    tables.grid["experiments"]["gap"]["mixes"] = ["long", "short", "mixed"]
    tables.tabulate()
    row = tables.estimate(quantity="mix_minus_best", model="small", benchmark="easy")
    assert (row["mix"], row["minus"], row["estimate"]) == ("mixed", "short", pytest.approx(1 / 4))
    row = tables.estimate(quantity="mix_minus_best", model="big", benchmark="average")
    assert row["minus"] == "long"
    text = tables.text(".md")
    assert "## Mix − best single source" in text and "## Trained − untouched" not in text


def test_a_family_of_two_sizes_has_a_sign_flip(tables: Tables) -> None:
    # Two families of one student, one of two sizes, one of a single size.
    tables.tabulate()
    assert chosen(tables.read(), quantity="sign_flip").empty
    tables.grid["models"]["big"]["family"] = "f"
    tables.tabulate(out="two")
    flip = tables.estimate("two", quantity="sign_flip", benchmark="average")
    # From -3/16 at 0.5B to +3/16 at 7B: half way on a log scale.
    assert (flip["unit"], flip["family"]) == ("billion parameters", "f")
    assert flip["estimate"] == pytest.approx((0.5 * 7) ** 0.5)
    assert "| f | 1.87B [" in tables.text(".md", "two")
    partial = tables.build(tables.scores("big/long"))
    assert "| f | – | – | – | – |" in partial.files[".md"]
    tables.grid["models"]["big"]["params_b"] = 0.5
    tables.tabulate(out="one")
    assert chosen(tables.read(out="one"), quantity="sign_flip").empty


def test_reading_order_is_that_of_the_configuration(tables: Tables) -> None:
    tables.tabulate()
    lines = tables.text(".md").splitlines()
    head = next(line for line in lines if line.startswith("| student"))
    assert head == "| student | untouched | long CoT | short | long CoT − short | n | seeds |"
    small, big = lines[lines.index(head) + 2 : lines.index(head) + 4]
    assert small.startswith("| f small | ") and big.startswith("| g big | 0.0 [")
    assert "+18.8" in big


def test_by_benchmark_is_left_out_of_the_text_where_not_wanted(tables: Tables) -> None:
    tables.tabulate()
    tables.grid["experiments"]["gap"]["by_benchmark"] = False
    tables.tabulate(out="short")
    texts = [tables.text(".md", out) for out in ("out", "short")]
    assert ["## By benchmark" in text for text in texts] == [True, False]
    assert tables.text(".estimates.csv") == tables.text(".estimates.csv", "short")


def test_significant_signs_are_bold_and_others_have_a_ring(tables: Tables) -> None:
    tables.tabulate()
    assert not tables.estimate(quantity="gap", model="big", benchmark="average")["settled"]
    text = tables.text(".md")
    assert "+18.8° [" in text and "**+18.8**" not in text
    for kind in ("gaps", "gains"):
        legend = f"all {kind} of the experiment, on each benchmark and on average. Grey"
        assert f"Bold: the sign is significant, Holm-corrected over {legend}" in text
    files = []
    for cell in tables.cells:
        outcome = "incorrect" if cell.mix == "long" else "correct"
        files.append(tables.score(cell, [outcome] * len(verdicts_of(cell))))
    tables.tabulate(files, "significant")
    assert "| **−100.0** [" in tables.text(".md", "significant")


# ---- confounders ----


def test_a_table_of_one_contrast_has_no_warning(tables: Tables) -> None:
    tables.tabulate()
    assert tables.warned() == [False] * 4
    notes = json.loads(tables.text(".notes.json"))
    assert (notes["caption"], notes["differs"], notes["n_missing"]) == ("A gap.", [], 0)
    assert {"protocol", "varies", "differs_in", "between_students"} <= notes.keys()
    assert "training seeds: 0, 1; 12 questions over 2 benchmark(s)" in notes["protocol"]


def test_another_recipe_for_the_same_student_is_a_warning_in_every_file(tables: Tables) -> None:
    tables.grid["models"]["big-other"] = {**tables.grid["models"]["big"], "recipe": "sft-other"}
    assert tables.tabulate() == 0
    assert tables.warned() == [True] * 4
    notes = json.loads(tables.text(".notes.json"))
    assert notes["differs"] == ["big, big-other: global_batch 8 (big); 80 (big-other)"]
    assert set(tables.read(".csv")["differs"]) == {"global_batch"}
    tables.grid["experiments"]["gap"]["varies"] = ["mix", "recipe"]
    tables.tabulate(out="declared")
    assert tables.warned("declared") == [False] * 4


def test_unequal_steps_are_read_from_the_manifests_of_training(tables: Tables) -> None:
    tables.train("big", "long", 1346, torch="2.1")
    tables.train("big", "short", 1134, torch="2.1")
    tables.train("small", "long", 10, torch="2.0")
    tables.train("stranger", "long", 1)
    tables.tabulate()
    notes = json.loads(tables.text(".notes.json"))
    assert notes["differs"] == ["big: optimiser steps 1,346 (long); 1,134 (short)"]
    (line,) = [line for line in notes["between_students"] if "versions that trained" in line]
    assert '{"torch": "2.0"} (small)' in line
    assert tables.warned() == [True] * 4
    tables.grid["experiments"]["gap"]["varies"] = ["mix", "steps"]
    tables.tabulate(out="declared")
    assert tables.warned("declared") == [False] * 4


# ---- published numbers ----


def test_published_numbers_stand_beside_ours(tables: Tables) -> None:
    noteless = {**PUBLISHED, "note": ""}
    tables.grid["reference"] = [
        PUBLISHED,
        {**noteless, "benchmark": "hard", "score": 99.0},
        {**noteless, "minus": "short", "benchmark": "hard+easy", "score": 20.0},
        {**PUBLISHED, "mix": "mixed"},
    ]
    assert tables.tabulate() == 0
    rows = tables.read(".paper.csv").set_index("benchmark")
    assert list(rows.index) == ["easy", "hard", "average"]
    columns = ["published", "ours", "difference"]
    assert list(rows.loc["easy", columns]) == [80.0, 87.5, 7.5]
    assert rows["inside"].to_dict() == {"easy": True, "hard": False, "average": True}
    assert rows["ours"]["average"] == pytest.approx(18.75, abs=1e-4)
    text = tables.text(".md")
    assert "| g big | long CoT | easy | 80.0 | 87.5 [" in text
    assert "g big, long CoT, easy: a slip" in text
    assert "Beside what was published" in tables.text(".tex")
    assert "gap.paper.csv" in manifest.read(tables.folder / "out/gap.manifest.json")["outputs"]
    # Once there are none, neither the file nor the section is left.
    tables.grid["reference"] = []
    tables.tabulate()
    assert not (tables.folder / "out" / "gap.paper.csv").exists()
    assert "published" not in tables.text(".md")


# ---- with part of the cells ----


def test_missing_cells_are_shown_as_missing_and_change_no_other(tables: Tables) -> None:
    tables.grid["reference"] = [PUBLISHED]
    whole = tables.build(tables.scores())
    part = tables.build(tables.scores("big/long"))
    assert (whole.n_missing, part.n_missing) == (0, 4)
    notes = json.loads(part.files[".notes.json"])
    n_cells = len(tables.cells)
    assert notes["caption"] == f"A gap. 4 of {n_cells} cells are missing; they are shown as –."
    table.write(part, tables.folder / "out", "gap")
    gaps = chosen(tables.read(), model="big", quantity="gap")
    columns = ["estimate", "low", "high", "p", "settled", "n_seeds"]
    assert len(gaps) == 3 and gaps[columns].isna().all(axis=None)
    lost = chosen(tables.read(".csv"), model="big", mix="long")
    assert len(lost) == 4 and lost[["acc", "n"]].isna().all(axis=None)
    line = next(line for line in tables.text(".md").splitlines() if line.startswith("| g big"))
    assert [cell == "–" for cell in line.split(" | ")[2:5]] == [True, False, True]
    assert "| g big | long CoT | easy | 80.0 | – | – | – | Table 1 |" in tables.text(".md")
    assert tables.read(".paper.csv")[["ours", "difference", "inside"]].isna().all(axis=None)
    lines = whole.files[".estimates.csv"].splitlines()
    small = {line for line in lines if line.startswith("accuracy,small")}
    assert small and small <= set(part.files[".estimates.csv"].splitlines())


def test_a_benchmark_is_shown_without_the_average_that_lacks_another(tables: Tables) -> None:
    table.write(
        tables.build(tables.scores("big/long/0/hard", "big/long/1/hard")), tables.folder, "gap"
    )
    rows = chosen(tables.read(out="."), model="big", mix="long")
    known = rows.set_index(["quantity", "benchmark"])["estimate"]
    assert known["gap", "easy"] == pytest.approx(1 / 4)
    assert known[[("gap", "hard"), ("gap", "average"), ("accuracy", "average")]].isna().all()


def test_sides_are_paired_over_the_seeds_that_both_have(tables: Tables) -> None:
    table.write(tables.build(tables.scores("big/long/1/hard")), tables.folder, "gap")
    gaps = chosen(tables.read(out="."), model="big", quantity="gap")
    assert len(gaps) == 3 and (gaps["n_seeds"] == 1).all() and gaps["estimate"].notna().all()
    rows = chosen(tables.read(out="."), model="big", quantity="accuracy", mix="short")
    assert len(rows) == 3 and (rows["n_seeds"] == 2).all()


def unparsed(tables: Tables, *cells: str) -> list[Path]:
    """Scores of all cells; of these no verdict could be parsed."""
    files = tables.scores()
    for file in files:
        cell = table.cell_of(read_json(file))
        if str(cell) in cells:
            tables.score(cell, ["unparsed"] * len(verdicts_of(cell)))
    return files


def test_a_cell_without_any_verdict_is_a_missing_value(tables: Tables) -> None:
    tables.grid["seeds"] = [0]
    assert tables.tabulate(unparsed(tables, "big/long/0/hard")) == 0
    rows = chosen(tables.read(), model="big", mix="long")
    known = rows.set_index(["quantity", "benchmark"])["estimate"]
    assert known["gap", "easy"] == pytest.approx(1 / 4)
    assert known[[("gap", "hard"), ("gap", "average"), ("accuracy", "hard")]].isna().all()
    (row,) = chosen(tables.read(".csv"), model="big", mix="long", benchmark="hard").itertuples()
    assert row.n == 8 and pd.isna(row.acc)
    line = "no verdict of 1 of 12 cells could be parsed; their accuracy is missing"
    assert f"- {line}\n" in tables.text(".md")
    assert "are missing; they are shown" not in tables.text(".notes.json")


def test_a_seed_without_any_verdict_is_left_out(tables: Tables) -> None:
    table.write(tables.build(unparsed(tables, "big/long/1/hard")), tables.folder, "gap")
    gaps = chosen(tables.read(out="."), model="big", quantity="gap")
    assert (gaps["n_seeds"] == 1).all() and gaps["estimate"].notna().all()


def test_of_no_scores_all_is_missing(tables: Tables) -> None:
    built = tables.build([])
    assert built.n_missing == len(tables.cells)
    assert "0.0" not in built.files[".md"].split("## Protocol")[0]
    assert "best_guess" not in built.files[".estimates.csv"]
