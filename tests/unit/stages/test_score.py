"""score: counts add up, bounds hold, nothing is guessed, and what cannot be computed is null."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gapgrid.core import manifest
from gapgrid.core.records import Row, read_json, read_jsonl, sha256_file, write_jsonl
from gapgrid.core.rows import pair_of
from gapgrid.judging.verdicts import is_judged, verdict_rows
from gapgrid.stages import score
from gapgrid.stores.verdicts import Ledger, judge_digest

Runner = Callable[..., int]

# How an answer fared: the answer, whether a rule accepted it, the rule, how it ended, tokens, the
# judge's verdict, the rule that rejected it.
KINDS: dict[str, tuple[str | None, bool, str, str, int, str | None, str | None]] = {
    "right": ("1", True, "identical", "stop", 10, None, None),
    "right but cut": ("1", True, "identical", "length", 100, None, None),
    "judged right": ("one", False, "different", "stop", 20, "correct", None),
    "judged wrong": ("two", False, "different", "stop", 30, "incorrect", None),
    "unparsed": ("three", False, "rule_timeout", "stop", 40, "unparsed", None),
    "crashed, judged wrong": ("four", False, "rule_crash", "stop", 50, "incorrect", None),
    "rejected": ("5", False, "different", "stop", 70, None, "number"),
    "overruled": ("6", False, "different", "stop", 80, "correct", "set"),
    "none": (None, False, "no_answer", "stop", 60, None, None),
    "none as cut": (None, False, "too_long", "length", 100, None, None),
}


def cell(
    *kinds: str, golds: list[str] | None = None, repeats: int = 1
) -> tuple[list[Any], list[Any], dict[tuple[int, int], tuple[str, str]]]:
    """Samples, graded rows and verdicts of answers of these kinds, `repeats` for each problem."""
    samples, graded, judged = [], [], {}
    for index, kind in enumerate(kinds):
        answer, is_correct, rule, finish, n_tokens, verdict, rejected_by = KINDS[kind]
        doc_id, repeat = divmod(index, repeats)
        key = {"doc_id": doc_id, "repeat": repeat}
        samples.append({**key, "finish": finish, "n_tokens": n_tokens, "problem": "p"})
        gold = golds[doc_id] if golds else "1"
        how = {"rule_correct": is_correct, "rule": rule, "rejected_by": rejected_by}
        graded.append({**key, "gold": gold, "answer": answer, **how})
        if verdict:
            judged[doc_id, repeat] = (verdict, f"said {verdict}")
    return samples, graded, judged


def summary(*kinds: str, judge: bool = True, **options: Any) -> Row:
    """The summary of a cell."""
    samples, graded, judged = cell(*kinds, **options)
    verdicts = verdict_rows(samples, graded, judged if judge else {})
    return score.summary(samples, graded, verdicts, judge)


def test_counts_with_a_judge() -> None:
    assert summary(*KINDS) == {
        "n": 10,
        "n_problems": 10,
        "n_no_answer": 2,
        "n_truncated": 2,
        "n_pending": 6,
        "n_rejected": 2,
        "n_judged": 5,
        "n_undecided": 0,
        "n_unparsed": 1,
        "n_rule_timeout": 1,
        "n_rule_crash": 1,
        "n_correct": 4,
        "acc_rule": 2 / 10,
        "acc_judged": 4 / 9,  # the unparsed one is in neither side
        "acc": 4 / 9,
        "acc_finished": 3 / 7,  # of ten: two cut, one unparsed
        "acc_low": 3 / 9,  # the one that is right and cut taken as wrong
        "acc_high": 5 / 9,  # both cut ones taken as right
        "share_truncated": 2 / 10,
        "share_no_answer": 2 / 10,
        "acc_best_guess": 1.0,
        "mean_tokens": 560 / 10,
        "mean_tokens_correct": 210 / 4,
        "tokens_correct_p25": 17.5,
        "tokens_correct_p50": 50.0,
        "tokens_correct_p75": 85.0,
        "mean_tokens_wrong": 310 / 5,  # the unparsed one is neither
        "tokens_wrong_p25": 50.0,
        "tokens_wrong_p50": 60.0,
        "tokens_wrong_p75": 70.0,
    }


def columns(row: Row, *names: str) -> list[Any]:
    """Some columns of a summary."""
    return [row[name] for name in names]


def test_counts_without_a_judge() -> None:
    row = summary(*KINDS, judge=False)
    assert columns(row, "acc_judged", "acc", "acc_rule", "acc_finished") == [None, 0.2, 0.2, 1 / 8]
    assert columns(row, "n_judged", "n_unparsed", "n_pending") == [0, 0, 6]
    assert columns(row, "n_rejected", "n_undecided") == [2, 4]


def test_a_zero_is_a_zero() -> None:
    row = summary("none", "judged wrong", "rejected")
    assert columns(row, "acc", "acc_judged", "acc_rule", "acc_finished") == [0, 0, 0, 0]


def test_repeats_count_each_answer_and_each_problem_once() -> None:
    row = summary("right", "none", "right", "right", repeats=2, golds=["1", "2"])
    assert columns(row, "n", "n_problems", "acc", "acc_best_guess") == [4, 2, 0.75, 0.5]


def test_the_best_guess_is_the_most_frequent_reference_answer() -> None:
    assert summary(*["none"] * 5, golds=["1", "2", "2", "3", "2"])["acc_best_guess"] == 0.6


RIGHT = {"mean_tokens_correct", *(f"tokens_correct_{name}" for name in ("p25", "p50", "p75"))}
WRONG = {"mean_tokens_wrong", *(f"tokens_wrong_{name}" for name in ("p25", "p50", "p75"))}
JUDGED = {"acc_judged", "acc", "acc_finished", "acc_low", "acc_high"}
OTHERS = {"acc_rule", "acc_best_guess", "share_truncated", "share_no_answer", "mean_tokens"}


@pytest.mark.parametrize(
    ("kinds", "nulls"),
    [
        (["right"], WRONG),
        (["none"], RIGHT),
        (["rejected"], RIGHT),
        (["unparsed"], JUDGED | RIGHT | WRONG),
        (["none as cut"], {"acc_finished"} | RIGHT),
        ([], JUDGED | OTHERS | RIGHT | WRONG),
    ],
)
def test_what_cannot_be_computed_is_null_and_nothing_else_is(
    kinds: list[str], nulls: set[str]
) -> None:
    assert {name for name, value in summary(*kinds).items() if value is None} == nulls


@given(kinds=st.lists(st.sampled_from(sorted(KINDS)), max_size=12), judge=st.booleans())
def test_counts_add_up(kinds: list[str], judge: bool) -> None:
    row = summary(*kinds, judge=judge)
    samples, graded, judged = cell(*kinds)
    rows = verdict_rows(samples, graded, judged if judge else {})
    verdicts = [entry["verdict"] for entry in rows]
    n_rejected = kinds.count("rejected")
    closed = ("right", "right but cut", "none", "none as cut")
    assert row["n"] == len(verdicts) == len(kinds)
    assert row["n_correct"] == verdicts.count("correct")
    n_counted = row["n_correct"] + row["n_unparsed"] + row["n_no_answer"]
    assert row["n"] == n_counted + verdicts.count("incorrect")
    assert row["n_pending"] == sum(kind not in closed for kind in kinds)
    assert row["n_judged"] == (row["n_pending"] - n_rejected if judge else 0)
    assert row["n_rejected"] == n_rejected + kinds.count("overruled")
    assert row["n_undecided"] == (0 if judge else row["n_pending"] - row["n_rejected"])
    assert (row["acc_judged"] is None) == (not judge or row["n"] == row["n_unparsed"])
    for name in ("acc", "acc_rule", "acc_finished", "acc_best_guess"):
        assert row[name] is None or 0 <= row[name] <= 1


# ---- truncation ----


def test_truncated_answers_are_bounded_from_both_sides() -> None:
    answers = [
        ("correct", "stop", 10),
        ("correct", "length", 100),
        ("incorrect", "length", 100),
        ("no_answer", "length", 100),
        ("incorrect", "stop", 30),
        ("unparsed", "stop", 20),
        ("unparsed", "length", 100),
        ("correct", "stop", 20),
    ]
    result = score.truncation(*zip(*answers, strict=True))
    assert result[:6] == (3 / 6, 4 / 8, 2 / 3, 1 / 8, 2 / 6, 5 / 6)
    right = [130 / 3, *np.quantile([10, 20, 100], score.QUARTILES)]
    wrong = [230 / 3, *np.quantile([30, 100, 100], score.QUARTILES)]
    assert result.right == pytest.approx(right) and result.wrong == pytest.approx(wrong)


def test_verdicts_finishes_and_lengths_must_be_as_many() -> None:
    with pytest.raises(ValueError, match="2 verdicts"):
        score.truncation(["correct", "correct"], ["stop"], [1])


VERDICTS = st.sampled_from(["correct", "incorrect", "no_answer", "unparsed"])


@given(st.lists(st.tuples(VERDICTS, st.sampled_from(["stop", "length"]), st.integers(0, 99))))
def test_the_bounds_hold_the_accuracy_in_any_order(answers: list[tuple[str, str, int]]) -> None:
    def truncation(rows: list[tuple[str, str, int]]) -> score.Truncation:
        return score.truncation(*([row[index] for row in rows] for index in range(3)))  # type: ignore[arg-type]

    result = truncation(answers)
    if result.accuracy is not None and result.low is not None and result.high is not None:
        assert result.low <= result.accuracy <= result.high
    assert truncation(answers[::-1]) == result


@given(st.lists(st.integers(0, 20_000), min_size=1))
def test_quartiles_are_numpys(tokens: list[int]) -> None:
    expected = [np.mean(tokens), *np.quantile(tokens, score.QUARTILES)]
    assert score.summarise(tokens) == pytest.approx(expected)


# ---- the stage ----

JUDGE: Any = {"engine": {"name": "openai"}, "version": 1, "model": "m"}
NO_JUDGE = {"engine": {"name": "none"}}


class Scorer:
    """A graded cell, a ledger and a prompt on disk."""

    def __init__(self, folder: Path, run: Runner) -> None:
        self.run = run
        self.grade = folder / "grade" / "manifest.json"
        self.batch_manifest = folder / "judge" / "round.json"
        self.ledger = self.batch_manifest.with_name("verdicts.sqlite")
        self.out = folder / "score" / "xs" / "long" / "3" / "k2"
        self.prompt = folder / "judge.txt"
        self.prompt.write_text("{answer}")
        self.pending: list[Any] = []

    def graded(self, *kinds: str) -> None:
        """Write what `grade` leaves."""
        samples, graded, _ = cell(*kinds)
        self.pending = [
            {**row, "problem": "p"}
            for row in graded
            if row["answer"] is not None and not row["rule_correct"]
        ]
        files = {"samples": samples, "graded": graded, "pending": self.pending}
        for name, rows in files.items():
            write_jsonl(self.grade.with_name(f"{name}.jsonl"), rows)
        manifest.write(self.grade, "grade", {}, {}, [f"{name}.jsonl" for name in files])

    def judged(self, *verdicts: str, who: Any = JUDGE, policy: str = "undecided") -> None:
        """Put verdicts on the first pending rows that the judge sees into the ledger."""
        seen = [row for row in self.pending if is_judged(row, policy)]
        rows = [
            (pair_of(row), verdict, "raw") for row, verdict in zip(seen, verdicts, strict=False)
        ]
        with Ledger(self.ledger) as ledger:
            ledger.add(judge_digest(who, self.prompt.read_text()), rows)

    def score(self, who: Row = JUDGE, **more: Any) -> int:
        """Run the stage; return its exit status."""
        spec = {"stage": "score", "version": 1, "judge": who, **more}
        prompt = [] if who == NO_JUDGE else [self.prompt]
        files = (self.grade, self.batch_manifest, self.out / "manifest.json")
        return self.run(score, spec, "--prompt", *prompt, "--", *files)

    def columns(self, *names: str) -> list[Any]:
        """Columns of score.json."""
        return columns(read_json(self.out / "score.json"), *names)

    def verdicts(self, column: str) -> list[str]:
        """A column of verdicts.jsonl."""
        return [row[column] for row in read_jsonl(self.out / "verdicts.jsonl")]

    def files(self) -> dict[str, bytes]:
        """What the stage wrote."""
        return {file.name: file.read_bytes() for file in self.out.iterdir()}


@pytest.fixture
def scorer(tmp_path: Path, run: Runner) -> Scorer:
    """An empty scorer."""
    return Scorer(tmp_path, run)


def test_the_stage_writes_verdicts_and_score(scorer: Scorer) -> None:
    scorer.graded("right", "judged right", "unparsed")
    scorer.judged("correct", "unparsed")
    assert scorer.score() == 0
    assert scorer.columns("model", "mix", "seed", "benchmark") == ["xs", "long", 3, "k2"]
    assert scorer.columns("acc_judged", "n_unparsed", "acc_rule") == [1.0, 1, 1 / 3]
    assert scorer.columns("verdicts_sha256") == [sha256_file(scorer.out / "verdicts.jsonl")]
    assert scorer.verdicts("verdict") == ["correct", "correct", "unparsed"]
    assert manifest.mismatches(scorer.out / "manifest.json") == []
    written = manifest.read(scorer.out / "manifest.json")
    assert written["inputs"] == {"grade": sha256_file(scorer.grade)}
    before = scorer.files()
    assert scorer.score() == 0
    assert scorer.files() == before, "the same cell is the same to the byte"


def test_without_a_judge_neither_ledger_nor_prompt_is_needed(scorer: Scorer) -> None:
    scorer.graded("right", "rejected", "judged right")
    assert scorer.score(NO_JUDGE) == 0
    assert scorer.verdicts("by") == ["identical", "number", "undecided"]
    assert scorer.columns("acc_judged", "acc") == [None, 1 / 3]


def test_what_rules_rejected_needs_no_verdict_unless_the_judge_sees_all(
    scorer: Scorer, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("n_pending", "n_rejected", "n_judged", "acc")
    scorer.graded("rejected", "judged right", "overruled")
    scorer.judged("correct")
    assert scorer.score() == 0
    assert scorer.columns(*names) == [3, 2, 1, 1 / 3]
    assert scorer.verdicts("by") == ["number", "judge", "set"]
    assert scorer.score(policy="all") == 1
    assert "lacks 2 verdicts of judge " in capsys.readouterr().err
    scorer.judged("incorrect", "correct", "correct", policy="all")
    assert scorer.score(policy="all") == 0
    assert scorer.columns(*names) == [3, 2, 3, 2 / 3]
    assert scorer.verdicts("by") == ["judge"] * 3
    assert scorer.score() == 0
    assert scorer.verdicts("by") == ["number", "judge", "set"], "what is not asked for is not read"


def test_scoring_leaves_the_ledger_as_it_is(scorer: Scorer) -> None:
    scorer.graded("judged right")
    scorer.judged("correct")
    folder = scorer.ledger.parent
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    scorer.ledger.chmod(0o444)
    folder.chmod(0o555)
    try:
        assert scorer.score() == 0
        assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    finally:
        folder.chmod(0o755)


def test_a_missing_verdict_is_an_error(scorer: Scorer, capsys: pytest.CaptureFixture[str]) -> None:
    scorer.graded("right", "judged right", "judged wrong", "unparsed")
    scorer.judged("correct")
    assert scorer.score() == 1
    error = capsys.readouterr().err
    assert f"{scorer.ledger}: lacks 2 verdicts of judge " in error
    assert f"get them with: snakemake --forcerun {scorer.batch_manifest} " in error
    assert not scorer.out.exists()


def test_a_missing_ledger_is_an_error(scorer: Scorer, capsys: pytest.CaptureFixture[str]) -> None:
    scorer.graded("right")
    assert scorer.score() == 1
    expected = "verdicts.sqlite: no such verdict ledger; get them with: snakemake"
    assert expected in capsys.readouterr().err
    assert not scorer.ledger.parent.exists(), "a reader creates no ledger"


@pytest.mark.parametrize("other", ["judge", "prompt"])
def test_verdicts_of_another_judge_do_not_count(
    scorer: Scorer, capsys: pytest.CaptureFixture[str], other: str
) -> None:
    scorer.graded("judged right")
    scorer.judged("correct", who={**JUDGE, "model": "n"} if other == "judge" else JUDGE)
    if other == "prompt":
        scorer.prompt.write_text("{answer} ?")
    assert scorer.score() == 1
    assert "lacks 1 verdicts" in capsys.readouterr().err
