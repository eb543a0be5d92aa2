"""selftest: a grader passes on its own references; one that refuses any or accepts all is named."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gapgrid.core import manifest
from gapgrid.core.records import Row, read_jsonl, sha256_file, write_jsonl
from gapgrid.grading import rule_step
from gapgrid.grading.equality.math_verify_pool import Verifier
from gapgrid.stages import problems, selftest

BENCHMARKS = Path(__file__).parents[4] / "shared" / "data" / "benchmarks"
needs_benchmarks = pytest.mark.skipif(not BENCHMARKS.is_dir(), reason=f"no {BENCHMARKS}")
Runner = Callable[..., int]
Check = Callable[..., tuple[dict[str, int], list[str]]]
Grader = Callable[[Callable[[Row], Row]], None]
SPEC = {"stage": "selftest", "version": 1, "grade": 3, "grader": "boxed"}


def some(*golds: Any, **item: Any) -> list[Any]:
    """Problems with these reference answers."""
    return [
        {"doc_id": doc_id, "problem": f"p{doc_id}", "gold": gold, **item}
        for doc_id, gold in enumerate(golds)
    ]


def counts(n: int, **changed: int) -> dict[str, int]:
    """The counts of a test that passes, but for what is changed."""
    passed = {"n": n, "n_accepted": n, "n_shuffled": n if n > 1 else 0}
    return {**passed, "n_same_value": 0, "n_shuffled_accepted": 0, **changed}


@pytest.fixture(scope="module")
def verifier() -> Iterator[Verifier]:
    """Algebra."""
    with Verifier() as started:
        yield started


@pytest.fixture
def check(verifier: Verifier) -> Check:
    """`check(*golds)`: what the test says of problems with these reference answers."""
    return lambda *golds, **item: selftest.check(some(*golds, **item), "boxed", verifier)


@pytest.fixture
def grader(monkeypatch: pytest.MonkeyPatch) -> Grader:
    """`grader(changed)`: use a grader whose rows are `changed` in place of ours."""
    real: Callable[..., list[Row]] = rule_step.grade  # type: ignore[assignment]

    def replace(changed: Callable[[Row], Row]) -> None:
        rows = lambda *arguments: [changed(row) for row in real(*arguments)]  # noqa: E731
        monkeypatch.setattr(selftest, "grade", rows)

    return replace


def credulous(row: Row) -> Row:
    """Accept every answer."""
    return {**row, "rule_correct": True, "rule": "credulous"}


# ---- a grader that passes ----


def test_each_reference_is_accepted_for_its_problem_and_for_no_other(check: Check) -> None:
    golds = [
        *("7", 12.5, [r"$\frac{3}{4}$"], ["1", "2"], r"\text{even}", "x^2+1", "(0,3]"),
        *(r"So it is $\boxed{\sqrt{2}}$.", "2+3=5\n#### 5"),
    ]
    assert check(*golds) == (counts(len(golds)), [])
    assert check("7") == (counts(1), [])


SAME = [
    ("120", r"120^\circ"),
    ("120", r"120^{\circ}"),
    ("7", r"7\%"),
    ("x=5", "5"),
    ("0.5", r"\frac{1}{2}"),
    ("0.5", r"\dfrac{1}{2}"),
    ("0.5", "1/2"),
    ("-0.5", r"-\frac{1}{2}"),
    (r"\frac34", r"\frac{3}{4}"),
    (r"\frac34", "3/4"),
    (r"5\text{ cm}", "5"),
    ("(1,2)", "(1, 2)"),
    ("7", "7.0"),
    ("$7$", "7"),
    ("7", "7"),
    (r"\text{even}", r"\text{even}"),
    ("1,000", "1000"),
    (r"1{,}000", "1000"),
    (r"10\%", "0.1"),
    ("1,2", "2,1"),
]
DIFFERENT = [
    ("5", "-5"),
    ("0.5", "-1/2"),
    ("x+1", "y+1"),
    ("x+1", "x-1"),
    ("x+1", "1"),
    ("12", "1/2"),
    ("12", r"\frac12"),
    ("1.2", "12"),
    ("1/2", "2/1"),
    (r"\sqrt2", "2"),
    (r"\sqrt{2}", "2"),
    ("x^2", "2"),
    ("(1,2)", "12"),
    (r"\frac{1}{23}", r"\frac{12}{3}"),
    ("1/0", "2/0"),
    ("even", "odd"),
    (r"\text{even}", r"\text{odd}"),
    (r"1\frac12", "11/2"),
    ("1,000", "1"),
    ("(1,2)", "(2,1)"),
    ("10", "0.1"),
]


@pytest.mark.parametrize("golds", SAME)
def test_problems_of_one_answer_are_no_mistake(
    golds: tuple[str, str], check: Check, grader: Grader
) -> None:
    assert check(*golds, "99") == (counts(3, n_same_value=1), [])
    assert check(*golds)[1] == []
    grader(credulous)
    assert check(*golds) == (counts(2, n_same_value=2), [])


def test_what_an_item_says_of_its_answer_counts(check: Check) -> None:
    assert check("10", "11", unit="km") == (counts(2), [])
    assert check("10", "11", error="5") == (
        counts(2, n_shuffled_accepted=2),
        ["0: '11' is accepted for '10' (tolerance)", "1: '10' is accepted for '11' (tolerance)"],
    )


# ---- a grader that does not ----


@pytest.mark.parametrize("gold", [r"\frac{1}{2", "{", "}", " ", "1" * 3000])
def test_a_reference_that_cannot_be_extracted_from_its_box_is_named(
    gold: str, check: Check
) -> None:
    numbers, mistakes = check("1", "2", gold, "3")
    assert (numbers["n"], numbers["n_accepted"]) == (4, 3)
    assert len(mistakes) == 1 and len(mistakes[0]) < 200
    assert mistakes[0].startswith("2: its own reference ")
    assert "is not accepted (" in mistakes[0]


@pytest.mark.parametrize("golds", DIFFERENT)
def test_a_grader_that_takes_one_answer_for_another_fails(
    check: Check, grader: Grader, golds: tuple[str, str]
) -> None:
    assert check(*golds) == (counts(2), [])
    grader(credulous)
    lines = [f"{i}: {golds[1 - i]!r} is accepted for {golds[i]!r} (credulous)" for i in range(2)]
    assert check(*golds) == (counts(2, n_shuffled_accepted=2), lines)


def test_a_grader_that_accepts_nothing_fails(check: Check, grader: Grader) -> None:
    grader(lambda row: {**row, "rule_correct": False, "rule": "stubborn"})
    lines = [f"{i}: its own reference '{i + 1}' is not accepted (stubborn)" for i in range(2)]
    assert check("1", "2") == (counts(2, n_accepted=0), lines)


def test_one_wrong_acceptance_among_many_is_named(check: Check, grader: Grader) -> None:
    grader(lambda row: {**row, "rule_correct": row["rule_correct"] or row["answer"] == "31"})
    lines = ["30: '31' is accepted for '30' (different)"]
    assert check(*map(str, range(60))) == (counts(60, n_shuffled_accepted=1), lines)


# ---- the stage ----


@pytest.fixture
def stage(tmp_path: Path, run: Runner) -> Callable[..., int]:
    """Run the stage on problems with these reference answers."""

    def call(*golds: Any) -> int:
        file = tmp_path / "problems" / "aime" / "problems.jsonl"
        write_jsonl(file, some(*golds))
        return run(selftest, SPEC, file, tmp_path / "selftest" / "manifest.json")

    return call


def test_a_grader_that_passes_leaves_its_counts(stage: Callable[..., int], tmp_path: Path) -> None:
    assert stage("1", "2", "2") == 0
    written = manifest.read(tmp_path / "selftest" / "manifest.json")
    assert written["facts"] == counts(3, n_same_value=1)
    digest = sha256_file(tmp_path / "problems" / "aime" / "problems.jsonl")
    assert written["inputs"] == {"problems": digest}
    assert (written["stage"], written["spec"], written["outputs"]) == ("selftest", SPEC, {})


def test_a_grader_that_fails_names_benchmark_and_problems_and_leaves_nothing(
    stage: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stage("1", "{", "2", "}") == 1
    first, *lines = capsys.readouterr().err.splitlines()
    file = tmp_path / "problems" / "aime" / "problems.jsonl"
    assert first == f"error: {file}: the grader fails on aime, doc_id 1, 3"
    assert [line.split(":")[0] for line in lines] == ["1", "3"]
    assert not (tmp_path / "selftest").exists()


# ---- the real benchmarks ----

REAL: dict[str, tuple[int, dict[str, str], str]] = {  # rows, columns as in config/paper, grader
    "aime24": (30, {}, "boxed"),
    "amc23": (40, {}, "boxed"),
    "math500": (500, {}, "boxed"),
    "olympiadbench": (675, {"problem": "question", "gold": "final_answer"}, "boxed"),
    "gsm8k": (
        1319,
        {"problem": "question", "gold": "{{ answer.split('####')[-1] }}"},
        "boxed_or_last_number",
    ),
    "math": (5000, {"gold": "solution"}, "boxed"),
}


@needs_benchmarks
@pytest.mark.parametrize("name", REAL)
def test_the_grader_passes_on_real_references(name: str, verifier: Verifier) -> None:
    n_rows, columns, grader = REAL[name]
    rows = problems.normalised(name, read_jsonl(BENCHMARKS / name / "test.jsonl"), n_rows, columns)
    numbers, mistakes = selftest.check(rows, grader, verifier)
    assert mistakes == []
    assert numbers == counts(n_rows, n_same_value=numbers["n_same_value"])
    assert numbers["n_same_value"] < 0.1 * n_rows


@needs_benchmarks
def test_there_is_a_real_file_for_each() -> None:
    assert {folder.name for folder in BENCHMARKS.iterdir()} == REAL.keys()
