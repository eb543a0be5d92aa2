"""gapgrid power: plans by measured or declared rates, and what the data cannot show."""

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from gapgrid import cli
from gapgrid.commands import planner, power_report
from gapgrid.commands.planner import Wanted
from gapgrid.config.load import REPOSITORY, load_grid
from gapgrid.core.records import InputError, write_json, write_jsonl
from gapgrid.stats import power
from gapgrid.stats.power import Components, Design

Planned = tuple[power.Plan, str]
Plan = Callable[..., Planned]


@pytest.fixture
def grid(demo: dict[str, Any]) -> dict[str, Any]:
    """The demo grid with three seeds."""
    demo["seeds"] = [0, 1, 2]
    return demo


@pytest.fixture
def plan(grid: dict[str, Any], tmp_path: Path) -> Plan:
    """Plan for a gap of 5 points, or as the options say; the plan and what is printed."""

    def call(**options: Any) -> Planned:
        console = Console(file=io.StringIO(), width=140)
        result = planner.plan(grid, tmp_path, Wanted(**{"gap": 5.0, **options}), console)
        return result, console.file.getvalue()  # type: ignore[attr-defined]

    return call


def score(results: Path, cell: tuple[str, str, int, str], right: list[int]) -> None:
    """Write a cell's score as far as it is read; 2 is an unparsed verdict."""
    folder = results / "score" / Path(*map(str, cell))
    words = ("incorrect", "correct", "unparsed")
    rows = [{"doc_id": i, "repeat": 0, "verdict": words[value]} for i, value in enumerate(right)]
    write_jsonl(folder / "verdicts.jsonl", rows)
    coordinates = zip(("model", "mix", "seed", "benchmark"), cell, strict=True)
    counts = {"n": len(right), "n_problems": len(right), "acc": None, "acc_best_guess": 0.0}
    write_json(folder / "score.json", {**dict(coordinates), **counts})


def fill(results: Path, *models: str, seeds: int = 3) -> None:
    """Write scores of two mixes on all benchmarks: 60 % and 40 % of 200 answers are right."""
    rng = np.random.default_rng(0)
    for model in models:
        for seed in range(seeds):
            for benchmark in ("k2", "k4", "k6"):
                for mix, share in (("long", 0.6), ("short", 0.4)):
                    right = rng.binomial(1, share, 200).tolist()
                    score(results, (model, mix, seed, benchmark), right)


# ---- the rates ----


def test_rates_are_measured_on_the_available_scores(
    grid: dict[str, Any], plan: Plan, tmp_path: Path
) -> None:
    fill(tmp_path, "xs", "l")
    score(tmp_path, ("s", "long", 0, "k2"), [1] * 200)  # one side alone, and not every benchmark
    planned, text = plan()
    assert "Measured on 2 student(s) with 3 training seed(s), averaged: xs, l." in text
    assert "long CoT − short CoT, mean of 3 benchmarks" in text
    assert "Plan: 600 questions, 1 answer to each, 3 training seeds" in text
    # Independent answers: 0.6 x 0.6 + 0.4 x 0.4 of them differ.
    rates = [int(rate) for rate in re.findall(r"events +│ +200 +│ +1 +│ +(\d+)% │", text)]
    assert len(rates) == 3 and all(abs(rate - 52) <= 3 for rate in rates)
    # Of one seed the variance of a question is 0.24 + 0.24.
    grid["seeds"] = [1]
    of_one_seed, _ = plan()
    expected = power.power(Components(0.48, 0.0, 0.0, 0.0), Design(600), 0.05)
    assert of_one_seed.power == pytest.approx(expected, abs=0.03)
    assert planned != of_one_seed


def test_one_benchmark_of_some_students(grid: dict[str, Any], plan: Plan, tmp_path: Path) -> None:
    fill(tmp_path, "xs", "l", seeds=1)
    grid["seeds"] = [0]
    _, text = plan(benchmark="k4", models=["xs"], n_seeds=2, n_questions=1000, repeats=4)
    assert "averaged: xs." in text and "4 events" in text and "2 events" not in text
    assert "Plan: 1,000 questions, 4 answers to each, 2 training seeds" in text


def test_a_seed_that_one_side_lacks_is_left_out(plan: Plan, tmp_path: Path) -> None:
    fill(tmp_path, "xs")
    (tmp_path / "score/xs/long/2/k2/score.json").unlink()
    assert "with 2 training seed(s)" in plan(benchmark="k2")[1]


def test_a_student_without_two_verdicts_on_both_sides_says_nothing(
    grid: dict[str, Any], plan: Plan, tmp_path: Path
) -> None:
    grid["seeds"] = [0]
    fill(tmp_path, "xs", "l", seeds=1)
    score(tmp_path, ("xs", "long", 0, "k2"), [2] * 200)
    assert "averaged: l." in plan()[1]
    score(tmp_path, ("l", "long", 0, "k2"), [1] + [2] * 199)
    with pytest.raises(InputError, match="no student is scored on long and short in k2, k4, k6"):
        plan()


def test_a_contrast_with_the_untouched_student(plan: Plan, tmp_path: Path) -> None:
    fill(tmp_path, "xs")
    for seed in range(3):
        score(tmp_path, ("xs", "none", seed, "k2"), [0] * 199 + [2])
    _, text = plan(contrast=["long", "none"], benchmark="k2")
    assert "long CoT − untouched, 2 events" in text


def test_without_scores_a_rate_must_be_declared(plan: Plan) -> None:
    message = r"no student is scored on long and short in k2, k4, k6 yet.*--flip-rate 0\.25"
    with pytest.raises(InputError, match=message):
        plan()
    planned, text = plan(flip_rate=0.3, n_seeds=1)
    assert "Declared: flip rate 30%" in text
    # Three benchmarks of 200: as one of 600.
    assert planned == power.plan(power.from_rates(0.3, 0.05), Design(600), 0.05)


def test_declared_seeds_and_repeats_count(plan: Plan) -> None:
    planned, text = plan(flip_rate=0.3, seed_sd=2.0, within=0.5, benchmark="k2")
    parts = power.from_rates(0.3, 0.05, 0.02, 0.5)
    assert planned == power.plan(parts, Design(200, 1, 3), 0.05)
    assert "deviation between seeds 2 points, 50% of the rest" in text


def test_unlike_repeats_are_counted_in_multiples(grid: dict[str, Any], plan: Plan) -> None:
    grid["benchmarks"]["k2"]["repeats"] = 8
    planned, text = plan(flip_rate=0.3, within=0.5, n_seeds=1)
    assert "repeats are multiples of what each has" in text
    # Of 0.1475 + 0.1475 a question, the second part is an eighth on one benchmark of three.
    part = power.from_rates(0.3, 0.05, 0.0, 0.5)
    expected = part._replace(answers=part.answers * (2 + 1 / 8) / 3)
    assert planned.power == pytest.approx(power.power(expected, Design(600), 0.05))


def test_few_questions_hold_most_of_the_variance(grid: dict[str, Any], plan: Plan) -> None:
    grid |= load_grid("paper", root=REPOSITORY / "config")
    _, text = plan(gap=3.0, flip_rate=0.2)
    rows = re.findall(r"│ (\S+)[^│]*│[^│]*│[^│]*│[^│]*│ +(\d+)% │", text)
    shares = {name: int(share) for name, share in rows}
    assert shares["AIME"] + shares["AMC"] == 96 and shares["MATH"] == 0


# ---- wrong options ----


def test_all_mistakes_are_named_at_once(plan: Plan) -> None:
    wrong: dict[str, Any] = {"contrast": ["lng", "lng"], "benchmark": "k5", "models": ["xxs"]}
    wrong |= {"gap": 0, "repeats": 0, "n_seeds": 0, "n_questions": 1, "flip_rate": 2}
    wrong |= {"seed_sd": -1, "within": 3, "power": 0.01}
    with pytest.raises(InputError) as caught:
        plan(**wrong)
    text = str(caught.value)
    assert [name for name in wrong if f"--{name.replace('_', '-')}:" not in text] == []
    assert "'lng' is not in the grid (did you mean 'long'?)" in text and "'lng' twice" in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gap": 30.0, "flip_rate": 0.2}, "--flip-rate: found 0.2, expected a share of at least"),
        ({"seed_sd": 1.0}, "--seed-sd and --within go with --flip-rate"),
        ({"alpha": 1.0}, "--alpha: found 1"),
    ],
)
def test_impossible_options_are_refused(plan: Plan, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        plan(**options)


def test_a_grid_without_a_contrast_needs_one(grid: dict[str, Any], plan: Plan) -> None:
    grid["experiments"] = {"accuracy": grid["experiments"]["accuracy"]}
    message = "--contrast is missing: no experiment of the grid has a contrast"
    with pytest.raises(InputError, match=message):
        plan(flip_rate=0.3)


def test_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(REPOSITORY)
    command = ["power", "demo", "--results", str(tmp_path)]
    options = "--gap 5 --flip-rate 0.3 --contrast long short --benchmark k2"
    assert cli.main([*command, *options.split()]) == 0
    assert "To detect 5.0 points with 80% power" in capsys.readouterr().out
    assert cli.main(command) == 1
    assert capsys.readouterr().err.startswith(f"error: {tmp_path}/demo/score: no student is scored")


# ---- the report ----


def report(title: str, parts: Components, design: Design, gap: float) -> Planned:
    """The plan and what is printed."""
    console = Console(file=io.StringIO(), width=120)
    planned = power_report.report(console, title, parts, design, gap, wanted=0.8, alpha=0.05)
    return planned, console.file.getvalue()  # type: ignore[attr-defined]


def test_the_report_shows_what_is_needed_and_what_is_not_known() -> None:
    rng = np.random.default_rng(5)
    sides = (rng.binomial(1, 0.5, (1, 30)) * 1.0, rng.binomial(1, 0.4, (1, 30)) * 1.0)
    parts = power.from_grid([sides], 1)
    planned, text = report("AIME", parts, Design(30), 0.03)
    assert planned == power.plan(parts, Design(30), 0.03)
    counts = "30 questions, 1 answer to each, 1 training seed"
    assert f"Plan: {counts}: 60 answers of the two students." in text
    for pattern in (
        rf"questions: +{planned.questions:,}\n",
        r"repeats: +not known",
        r"seeds: +even 64 are not enough",
        "One answer to each question",
        "One training seed",
        "No variance between training seeds",
        r"questions x 4 .* 120 ",
    ):
        assert re.search(pattern, text), pattern


def test_the_report_of_a_plan_that_suffices() -> None:
    parts = Components(questions=0.05, answers=0.3, interaction=0.02, seeds=0.0004)
    _, text = report("[b]title", parts, Design(4000, 4, 8), -0.08)
    counts = "4,000 questions, 4 answers to each, 8 training seeds: 256,000 answers"
    assert text.startswith(f"[b]title\nPlan: {counts}")
    assert "A gap of 8.0 points is detected with" in text
    assert text.count("(as planned or fewer)") == 3
    assert not any(word in text for word in ("One answer", "One training seed", "No variance"))
