"""planner: `gapgrid power` learns from the scores that are there, or from declared rates, and says what is not known."""

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from gapgrid import cli, config, power
from gapgrid.commands import planner
from gapgrid.commands.planner import Wanted
from gapgrid.power import Components, Design
from gapgrid.records import InputError, write_json, write_jsonl

PARTS = Components(questions=0.05, answers=0.3, interaction=0.02, seeds=0.0004)
RANDOM = np.random.default_rng(5)
PAIR = (RANDOM.binomial(1, 0.5, (1, 30)) * 1.0, RANDOM.binomial(1, 0.4, (1, 30)) * 1.0)


@pytest.fixture(scope="module")
def demo() -> dict[str, Any]:
    """The demo grid with three seeds."""
    return config.load("demo", {"seeds": [0, 1, 2]}, root=config.REPOSITORY / "config")


def score(results: Path, cell: tuple[str, str, int, str], right: list[int]) -> None:
    """One cell's score as far as the planner reads it; 2 is an unparsed verdict."""
    folder = results / "score" / "/".join(map(str, cell))
    folder.mkdir(parents=True)
    words = ("incorrect", "correct", "unparsed")
    write_jsonl(folder / "verdicts.jsonl", [{"doc_id": i, "repeat": 0, "verdict": words[value]} for i, value in enumerate(right)])
    write_json(folder / "score.json", dict(zip(("model", "mix", "seed", "benchmark"), cell, strict=True)))


def fill(results: Path, models: tuple[str, ...] = ("xs", "l"), seeds: int = 3, benchmarks: tuple[str, ...] = ("k2", "k4", "k6")) -> None:
    """Scores of two mixes."""
    rng = np.random.default_rng(0)
    for model in models:
        for seed in range(seeds):
            for benchmark in benchmarks:
                for mix, share in (("long", 0.6), ("short", 0.4)):
                    score(results, (model, mix, seed, benchmark), rng.binomial(1, share, 200).tolist())


def said(grid: dict[str, Any], results: Path, wanted: Wanted) -> tuple[power.Plan, str]:
    """The plan and what is printed."""
    console = Console(file=io.StringIO(), width=140)
    plan = planner.run(grid, results, wanted, console)
    return plan, console.file.getvalue()  # type: ignore[attr-defined]


# ---- where rates come from ----


def test_rates_are_measured_on_the_scores_that_are_there(demo: dict[str, Any], tmp_path: Path) -> None:
    fill(tmp_path)
    score(tmp_path, ("s", "long", 0, "k2"), [1] * 200)  # one side alone, and not every benchmark
    plan, text = said(demo, tmp_path, Wanted(gap=5.0))
    assert "Measured on 2 student(s) with 3 training seed(s), averaged: xs, l." in text
    assert "long CoT − short CoT, mean of 3 benchmarks" in text
    assert "Plan: 600 questions, 1 answer to each, 3 training seeds" in text
    # Independent answers: 0.6 x 0.6 + 0.4 x 0.4 of them differ.
    rates = [int(found) for found in re.findall(r"events +│ +200 +│ +1 +│ +(\d+)% │", text)]
    assert len(rates) == 3 and all(abs(rate - 52) <= 3 for rate in rates)
    # Of one seed the variance of a question is 0.24 + 0.24.
    alone, _ = said({**demo, "seeds": [1]}, tmp_path, Wanted(gap=5.0))
    assert alone.power == pytest.approx(power.power(Components(0.48, 0.0, 0.0, 0.0), Design(600), 0.05), abs=0.03)
    assert plan != alone


def test_one_benchmark_of_some_students(demo: dict[str, Any], tmp_path: Path) -> None:
    fill(tmp_path, seeds=1)
    _, text = said({**demo, "seeds": [0]}, tmp_path, Wanted(gap=5.0, benchmark="k4", models=["xs"], n_seeds=2, n_questions=1000, repeats=4))
    assert "averaged: xs." in text and "4 events" in text and "2 events" not in text
    assert "Plan: 1,000 questions, 4 answers to each, 2 training seeds" in text


def test_a_seed_that_one_side_lacks_is_left_out(demo: dict[str, Any], tmp_path: Path) -> None:
    fill(tmp_path, ("xs",))
    (tmp_path / "score/xs/long/2/k2/score.json").unlink()
    assert "with 2 training seed(s)" in said(demo, tmp_path, Wanted(gap=5.0, benchmark="k2"))[1]


def test_a_contrast_with_the_untouched_student(demo: dict[str, Any], tmp_path: Path) -> None:
    fill(tmp_path, ("xs",))
    for seed in range(3):
        score(tmp_path, ("xs", "none", seed, "k2"), [0] * 199 + [2])
    _, text = said(demo, tmp_path, Wanted(gap=5.0, contrast=["long", "none"], benchmark="k2"))
    assert "long CoT − untouched, 2 events" in text


def test_without_scores_a_rate_must_be_declared(demo: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no student is scored on long and short in k2, k4, k6 yet.*--flip-rate 0\.25"):
        said(demo, tmp_path, Wanted(gap=5.0))
    plan, text = said(demo, tmp_path, Wanted(gap=5.0, flip_rate=0.3, n_seeds=1))
    assert "Declared: flip rate 30%" in text
    # Three benchmarks of 200: as one of 600.
    assert plan == power.plan(power.from_rates(0.3, 0.05), Design(600), 0.05)


def test_declared_seeds_and_repeats_count(demo: dict[str, Any], tmp_path: Path) -> None:
    plan, text = said(demo, tmp_path, Wanted(gap=5.0, flip_rate=0.3, seed_sd=2.0, within=0.5, benchmark="k2"))
    parts = power.from_rates(0.3, 0.05, 0.02, 0.5)
    assert plan == power.plan(parts, Design(200, 1, 3), 0.05)
    assert "spread between seeds 2 points, 50% of the rest" in text


def test_unlike_repeats_are_counted_in_multiples(demo: dict[str, Any], tmp_path: Path) -> None:
    benchmarks = {**demo["benchmarks"], "k2": {**demo["benchmarks"]["k2"], "repeats": 8}}
    grid = {**demo, "benchmarks": benchmarks}
    plan, text = said(grid, tmp_path, Wanted(gap=5.0, flip_rate=0.3, within=0.5, n_seeds=1))
    assert "repeats are multiples of what each has" in text
    # Of 0.1475 + 0.1475 a question, the second part is an eighth on one benchmark of three.
    one = power.from_rates(0.3, 0.05, 0.0, 0.5)
    expected = one._replace(answers=one.answers * (2 + 1 / 8) / 3)
    assert plan.power == pytest.approx(power.power(expected, Design(600), 0.05))


def test_few_questions_hold_most_of_the_variance() -> None:
    paper = config.load("paper", root=config.REPOSITORY / "config")
    _, text = said(paper, Path("nowhere"), Wanted(gap=3.0, flip_rate=0.2))
    shares = {name: int(share) for name, share in re.findall(r"│ (\S+)[^│]*│[^│]*│[^│]*│[^│]*│ +(\d+)% │", text)}
    assert shares["AIME"] + shares["AMC"] == 96 and shares["MATH"] == 0


# ---- what is asked wrongly ----


def test_all_mistakes_are_said_at_once(demo: dict[str, Any], tmp_path: Path) -> None:
    wrong = Wanted(
        gap=0,
        contrast=["lng", "lng"],
        benchmark="k5",
        models=["xxs"],
        repeats=0,
        n_seeds=0,
        n_questions=1,
        flip_rate=2,
        seed_sd=-1,
        within=3,
    )
    with pytest.raises(InputError) as caught:
        said(demo, tmp_path, wrong._replace(power=0.01))
    text = str(caught.value)
    options = ("gap", "contrast", "benchmark", "models", "repeats", "n-seeds", "n-questions", "flip-rate", "seed-sd", "within", "power")
    assert [option for option in options if f"--{option}:" not in text] == []
    assert "'lng' is not in the grid (did you mean 'long'?)" in text and "'lng' twice" in text


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (Wanted(gap=30.0, flip_rate=0.2), "--flip-rate: found 0.2, expected a share of at least the gap"),
        (Wanted(gap=3.0, seed_sd=1.0), "--seed-sd and --within go with --flip-rate"),
        (Wanted(gap=3.0, alpha=1.0), "--alpha: found 1"),
    ],
)
def test_what_cannot_be_is_refused(demo: dict[str, Any], tmp_path: Path, wanted: Wanted, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        said(demo, tmp_path, wanted)


def test_a_grid_without_a_contrast_needs_one(demo: dict[str, Any], tmp_path: Path) -> None:
    grid = {**demo, "experiments": {"accuracy": demo["experiments"]["accuracy"]}}
    with pytest.raises(InputError, match="--contrast is missing: no experiment of the grid has a contrast"):
        said(grid, tmp_path, Wanted(gap=3.0, flip_rate=0.3))


def test_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    monkeypatch.chdir(config.REPOSITORY)
    common = ["power", "demo", "--results", str(tmp_path)]
    assert cli.main([*common, "--gap", "5", "--flip-rate", "0.3", "--contrast", "long", "short", "--benchmark", "k2"]) == 0
    assert "To see 5.0 points with 80% power" in capsys.readouterr().out
    assert cli.main(common) == 1
    assert capsys.readouterr().err.startswith(f"error: {tmp_path}/demo/score: no student is scored")


# ---- the report ----


def test_the_report_says_what_is_needed_and_what_is_not_known() -> None:
    console = Console(file=io.StringIO(), width=120)
    parts = power.from_grid([PAIR], 1)
    found = planner.report(console, "AIME", parts, Design(30), 0.03)
    console.file.seek(0)
    text = console.file.read()
    assert found == power.plan(parts, Design(30), 0.03)
    assert "Plan: 30 questions, 1 answer to each, 1 training seed: 60 answers of the two students." in text
    assert re.search(rf"questions: +{found.questions:,}\n", text)
    assert re.search(r"repeats: +not known", text)
    assert re.search(r"seeds: +even 64 are not enough", text)
    assert "One answer to each question" in text and "One training seed" in text and "No spread between training seeds" in text
    assert "questions x 4" in text and "120" in text


def test_the_report_of_a_plan_that_suffices() -> None:
    console = Console(file=io.StringIO(), width=120)
    planner.report(console, "[b]title", PARTS, Design(4000, 4, 8), -0.08)
    console.file.seek(0)
    text = console.file.read()
    assert text.startswith("[b]title\nPlan: 4,000 questions, 4 answers to each, 8 training seeds: 256,000 answers")
    assert "A gap of 8.0 points is seen with" in text
    assert len(re.findall(r"\(as planned or fewer\)", text)) == 3
    assert not any(word in text for word in ("One answer", "One training seed", "No spread"))
