"""selftest: a grader passes on its own references, and one that refuses any or accepts all does not, by name."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gapgrid import grading, manifest, problems, selftest
from gapgrid.maths.symbolic import Verifier
from gapgrid.records import Row, read_jsonl, sha256_file, write_jsonl

BENCHMARKS = Path(__file__).parents[3] / "shared" / "data" / "benchmarks"
needs_benchmarks = pytest.mark.skipif(not BENCHMARKS.is_dir(), reason=f"no {BENCHMARKS}")
Runner = Callable[..., int]
Grade = Callable[..., list[Row]]
SPEC = {"stage": "selftest", "version": 1, "grade": 3, "grader": "boxed"}


def some(*golds: Any, **more: Any) -> list[Row]:
    """Problems with these reference answers."""
    return [{"doc_id": doc_id, "problem": f"p{doc_id}", "gold": gold, **more} for doc_id, gold in enumerate(golds)]


@pytest.fixture(scope="module")
def verifier() -> Iterator[Verifier]:
    """Algebra."""
    with Verifier() as started:
        yield started


def check(*golds: Any, verifier: Verifier, **more: Any) -> tuple[dict[str, int], list[str]]:
    """What the test says of problems with these reference answers."""
    return selftest.check(some(*golds, **more), "boxed", verifier)


def grader(monkeypatch: pytest.MonkeyPatch, changed: Callable[[Row], Row]) -> None:
    """Put a grader whose rows are `changed` in place of ours."""
    ours: Grade = grading.grade
    monkeypatch.setattr(selftest, "grade", lambda *arguments: [changed(row) for row in ours(*arguments)])


def counts(n: int, n_same_value: int = 0, **more: int) -> dict[str, int]:
    """The counts of a test that passes."""
    n_shuffled = n if n > 1 else 0
    return {"n": n, "n_accepted": n, "n_shuffled": n_shuffled, "n_same_value": n_same_value, "n_shuffled_accepted": 0, **more}


# ---- a grader that passes ----


def test_each_reference_is_accepted_for_its_problem_and_for_no_other(verifier: Verifier) -> None:
    golds = ["7", 12.5, [r"$\frac{3}{4}$"], ["1", "2"], r"\text{even}", "x^2+1", "(0,3]", r"So it is $\boxed{\sqrt{2}}$.", "2+3=5\n#### 5"]
    assert check(*golds, verifier=verifier) == (counts(len(golds)), [])


def test_one_problem_has_no_other(verifier: Verifier) -> None:
    assert check("7", verifier=verifier) == (counts(1), [])


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
def test_problems_of_one_answer_are_no_mistake(golds: tuple[str, str], verifier: Verifier) -> None:
    found, wrong = check(*golds, "99", verifier=verifier)
    assert wrong == []
    assert found == counts(3, n_same_value=1)
    assert check(*golds, verifier=verifier)[1] == []


def test_every_pair_of_them_is_counted_as_the_same(monkeypatch: pytest.MonkeyPatch, verifier: Verifier) -> None:
    grader(monkeypatch, lambda row: {**row, "rule_correct": True})
    assert {pair: check(*pair, verifier=verifier)[0] for pair in SAME} == dict.fromkeys(SAME, counts(2, n_same_value=2))


def test_what_an_item_says_of_its_answer_counts(verifier: Verifier) -> None:
    assert check("10", "11", verifier=verifier, unit="km") == (counts(2), [])
    found, wrong = check("10", "11", verifier=verifier, error="5")
    assert found["n_shuffled_accepted"] == 2
    assert wrong == ["0: '11' is accepted for '10' (tolerance)", "1: '10' is accepted for '11' (tolerance)"]


# ---- a grader that does not ----


@pytest.mark.parametrize("gold", [r"\frac{1}{2", "{", "}", " ", "1" * 3000])
def test_a_reference_that_cannot_be_found_in_its_box_is_named(gold: str, verifier: Verifier) -> None:
    found, wrong = check("1", "2", gold, "3", verifier=verifier)
    assert (found["n"], found["n_accepted"]) == (4, 3)
    assert len(wrong) == 1 and len(wrong[0]) < 200
    assert wrong[0].startswith("2: its own reference ") and "is not accepted (" in wrong[0]


def test_a_grader_that_accepts_everything_fails(monkeypatch: pytest.MonkeyPatch, verifier: Verifier) -> None:
    grader(monkeypatch, lambda row: {**row, "rule_correct": True, "rule": "credulous"})
    found, wrong = check("1", "2", "cat", verifier=verifier)
    assert found == counts(3, n_shuffled_accepted=3)
    assert wrong == [
        "0: '2' is accepted for '1' (credulous)",
        "1: 'cat' is accepted for '2' (credulous)",
        "2: '1' is accepted for 'cat' (credulous)",
    ]


@pytest.mark.parametrize("golds", DIFFERENT)
def test_a_grader_that_takes_one_answer_for_another_fails(
    monkeypatch: pytest.MonkeyPatch, verifier: Verifier, golds: tuple[str, str]
) -> None:
    assert check(*golds, verifier=verifier) == (counts(2), [])
    grader(monkeypatch, lambda row: {**row, "rule_correct": True, "rule": "credulous"})
    found, wrong = check(*golds, verifier=verifier)
    assert found == counts(2, n_shuffled_accepted=2)
    assert wrong == [f"{i}: {golds[1 - i]!r} is accepted for {golds[i]!r} (credulous)" for i in range(2)]


def test_a_grader_that_ignores_signs_fails(monkeypatch: pytest.MonkeyPatch, verifier: Verifier) -> None:
    grader(monkeypatch, lambda row: {**row, "rule_correct": row["answer"].strip("-") == row["gold"].strip("-"), "rule": "unsigned"})
    assert check("5", "-5", "7", verifier=verifier)[1] == ["0: '-5' is accepted for '5' (unsigned)"]


def test_a_grader_that_accepts_nothing_fails(monkeypatch: pytest.MonkeyPatch, verifier: Verifier) -> None:
    grader(monkeypatch, lambda row: {**row, "rule_correct": False, "rule": "stubborn"})
    found, wrong = check("1", "2", verifier=verifier)
    assert (found["n_accepted"], found["n_shuffled_accepted"]) == (0, 0)
    assert wrong == ["0: its own reference '1' is not accepted (stubborn)", "1: its own reference '2' is not accepted (stubborn)"]


def test_one_wrong_acceptance_among_many_is_named(monkeypatch: pytest.MonkeyPatch, verifier: Verifier) -> None:
    grader(monkeypatch, lambda row: {**row, "rule_correct": row["rule_correct"] or row["answer"] == "31"})
    assert check(*(str(number) for number in range(60)), verifier=verifier)[1] == ["30: '31' is accepted for '30' (different)"]


# ---- the stage ----


@pytest.fixture
def stage(tmp_path: Path, run: Runner) -> Callable[..., int]:
    """Run the stage on problems with these reference answers."""

    def call(*golds: Any) -> int:
        write_jsonl(tmp_path / "problems" / "aime" / "problems.jsonl", some(*golds))
        return run(selftest, SPEC, tmp_path / "problems" / "aime" / "problems.jsonl", tmp_path / "selftest" / "manifest.json")

    return call


def test_a_grader_that_passes_leaves_its_counts(stage: Callable[..., int], tmp_path: Path) -> None:
    assert stage("1", "2", "2") == 0
    written = manifest.read(tmp_path / "selftest" / "manifest.json")
    assert written["facts"] == counts(3, n_same_value=1)
    assert written["inputs"] == {"problems": sha256_file(tmp_path / "problems" / "aime" / "problems.jsonl")}
    assert (written["stage"], written["spec"], written["outputs"]) == ("selftest", SPEC, {})


def test_a_grader_that_fails_names_benchmark_and_problems_and_leaves_nothing(
    stage: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stage("1", "{", "2", "}") == 1
    told = capsys.readouterr().err.splitlines()
    assert told[0] == f"error: {tmp_path}/problems/aime/problems.jsonl: the grader fails on aime, doc_id 1, 3"
    assert [line.split(":")[0] for line in told[1:]] == ["1", "3"]
    assert not (tmp_path / "selftest").exists()


# ---- the real benchmarks ----

REAL: dict[str, tuple[int, dict[str, str], str]] = {  # rows, columns as in config/paper, grader
    "aime24": (30, {}, "boxed"),
    "amc23": (40, {}, "boxed"),
    "math500": (500, {}, "boxed"),
    "olympiadbench": (675, {"problem": "question", "gold": "final_answer"}, "boxed"),
    "gsm8k": (1319, {"problem": "question", "gold": "{{ answer.split('####')[-1] }}"}, "boxed_or_last_number"),
    "math": (5000, {"gold": "solution"}, "boxed"),
}


@needs_benchmarks
@pytest.mark.parametrize("name", REAL)
def test_the_grader_passes_on_real_references(name: str, verifier: Verifier) -> None:
    n_rows, columns, grader = REAL[name]
    rows = problems.normalised(name, read_jsonl(BENCHMARKS / name / "test.jsonl"), n_rows, columns)
    found, wrong = selftest.check(rows, grader, verifier)
    assert wrong == []
    assert found == counts(n_rows, n_same_value=found["n_same_value"])
    assert found["n_same_value"] < 0.1 * n_rows


@needs_benchmarks
def test_there_is_a_real_file_for_each() -> None:
    assert {folder.name for folder in BENCHMARKS.iterdir()} == REAL.keys()
