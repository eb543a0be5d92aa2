"""score: counts add up, nothing is guessed, and what is not there is null."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gapgrid import manifest, score
from gapgrid.judging import verdict_rows
from gapgrid.ledger import Ledger, judge_digest, pair_of
from gapgrid.records import read_json, read_jsonl, sha256_file, write_jsonl

Runner = Callable[..., int]
Row = dict[str, Any]

# How an answer fared: (its answer, whether a rule took it, the rule, how it ended, tokens, the judge's verdict, the rule that rejected it).
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
) -> tuple[list[Row], list[Row], dict[tuple[int, int], tuple[str, str]]]:
    """Samples, graded rows and verdicts of answers of these kinds, `repeats` for each problem."""
    samples, graded, judged = [], [], {}
    for index, kind in enumerate(kinds):
        answer, correct, rule, finish, n_tokens, verdict, rejected_by = KINDS[kind]
        place = {"doc_id": index // repeats, "repeat": index % repeats}
        gold = golds[index // repeats] if golds else "1"
        samples.append({**place, "finish": finish, "n_tokens": n_tokens, "problem": "p"})
        graded.append({**place, "gold": gold, "answer": answer, "rule_correct": correct, "rule": rule, "rejected_by": rejected_by})
        if verdict:
            judged[place["doc_id"], place["repeat"]] = (verdict, f"said {verdict}")
    return samples, graded, judged


def summed(*kinds: str, judge: bool = True, **options: Any) -> Row:
    """The summary of a cell."""
    samples, graded, judged = cell(*kinds, **options)
    return score.summary(samples, graded, verdict_rows(samples, graded, judged if judge else {}), judge)


def test_counts_with_a_judge() -> None:
    assert summed(*KINDS) == {
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


def test_counts_without_a_judge() -> None:
    found = summed(*KINDS, judge=False)
    assert (found["acc_judged"], found["acc"], found["acc_rule"]) == (None, 2 / 10, 2 / 10)
    assert (found["n_judged"], found["n_unparsed"], found["n_pending"]) == (0, 0, 6)
    assert (found["n_rejected"], found["n_undecided"]) == (2, 4)
    assert found["acc_finished"] == 1 / 8


RIGHT = {"mean_tokens_correct", *(f"tokens_correct_{name}" for name in ("p25", "p50", "p75"))}
WRONG = {"mean_tokens_wrong", *(f"tokens_wrong_{name}" for name in ("p25", "p50", "p75"))}
ACCURACIES = {
    *("acc_rule", "acc_judged", "acc", "acc_finished", "acc_low", "acc_high", "acc_best_guess"),
    *("share_truncated", "share_no_answer", "mean_tokens"),
}


@pytest.mark.parametrize(
    ("kinds", "nulls"),
    [
        (["right"], WRONG),
        (["none"], RIGHT),
        (["rejected"], RIGHT),
        (["unparsed"], {"acc_judged", "acc", "acc_finished", "acc_low", "acc_high"} | RIGHT | WRONG),
        (["none as cut"], {"acc_finished"} | RIGHT),
        ([], ACCURACIES | RIGHT | WRONG),
    ],
)
def test_what_cannot_be_had_is_null_and_nothing_else_is(kinds: list[str], nulls: set[str]) -> None:
    assert {name for name, value in summed(*kinds).items() if value is None} == nulls


def test_a_zero_is_a_zero() -> None:
    found = summed("none", "judged wrong", "rejected")
    assert (found["acc"], found["acc_judged"], found["acc_rule"], found["acc_finished"]) == (0, 0, 0, 0)


def test_repeats_count_each_answer_and_each_problem_once() -> None:
    found = summed("right", "none", "right", "right", repeats=2, golds=["1", "2"])
    assert (found["n"], found["n_problems"], found["acc"], found["acc_best_guess"]) == (4, 2, 0.75, 0.5)


def test_the_best_guess_is_the_most_frequent_reference_answer() -> None:
    assert summed(*["none"] * 5, golds=["1", "2", "2", "3", "2"])["acc_best_guess"] == 0.6


@given(kinds=st.lists(st.sampled_from(sorted(KINDS)), max_size=12), judge=st.booleans())
def test_counts_add_up(kinds: list[str], judge: bool) -> None:
    found = summed(*kinds, judge=judge)
    samples, graded, judged = cell(*kinds)
    verdicts = [row["verdict"] for row in verdict_rows(samples, graded, judged if judge else {})]
    assert len(verdicts) == found["n"] == len(kinds)
    assert found["n_correct"] == verdicts.count("correct")
    assert found["n"] == found["n_correct"] + found["n_unparsed"] + found["n_no_answer"] + verdicts.count("incorrect")
    assert found["n_pending"] == sum(kind not in ("right", "right but cut", "none", "none as cut") for kind in kinds)
    assert found["n_judged"] == (found["n_pending"] - kinds.count("rejected") if judge else 0)
    assert found["n_rejected"] == kinds.count("rejected") + kinds.count("overruled")
    assert found["n_undecided"] == (0 if judge else found["n_pending"] - found["n_rejected"])
    assert found["n_pending"] == found["n_judged"] + found["n_undecided"] + (kinds.count("rejected") if judge else found["n_rejected"])
    assert (found["acc_judged"] is None) == (not judge or found["n"] == found["n_unparsed"])
    for name in ("acc", "acc_rule", "acc_finished", "acc_best_guess"):
        assert found[name] is None or 0 <= found[name] <= 1


# ---- the stage ----


class Scorer:
    """A graded cell, a ledger and a prompt on disk."""

    def __init__(self, folder: Path, run: Runner) -> None:
        self.folder, self.run = folder, run
        self.grade, self.stamp, self.out = (folder / name / "manifest.json" for name in ("grade", "judge", "score"))
        self.prompt = folder / "judge.txt"
        self.prompt.write_text("{answer}")
        self.pending: list[Row] = []

    def graded(self, *kinds: str) -> None:
        """Write what `grade` leaves."""
        samples, graded, _ = cell(*kinds)
        self.pending = [{**row, "problem": "p"} for row in graded if row["answer"] is not None and not row["rule_correct"]]
        for name, rows in (("samples", samples), ("graded", graded), ("pending", self.pending)):
            write_jsonl(self.grade.parent / f"{name}.jsonl", rows)
        manifest.write(self.grade, "grade", {"version": 1}, {}, ["samples.jsonl", "graded.jsonl", "pending.jsonl"])

    def verdict(self, who: Row, *verdicts: str, policy: str = "undecided") -> None:
        """Put a judge's verdicts on the pending rows that it sees into the ledger."""
        with Ledger(self.stamp.parent / "verdicts.sqlite") as ledger:
            pairs = zip((row for row in self.pending if policy == "all" or row["rejected_by"] is None), verdicts, strict=False)
            ledger.add(judge_digest(who, self.prompt.read_text()), [(pair_of(row), verdict, "raw") for row, verdict in pairs])

    def score(self, who: Row, **more: Any) -> int:
        """Run the stage; its exit status."""
        spec = {"stage": "score", "version": 1, "judge": who, **more}
        files = (self.grade, self.stamp, self.out)
        return self.run(score, spec, "--cell", "xs", "long", 3, "k2", "--prompt", self.prompt, "--", *files)


JUDGE = {"engine": {"name": "openai"}, "version": 1, "model": "m"}
NO_JUDGE = {"engine": {"name": "none"}}


@pytest.fixture
def scorer(tmp_path: Path, run: Runner) -> Scorer:
    """An empty scorer."""
    return Scorer(tmp_path, run)


def test_the_stage_writes_verdicts_and_score(scorer: Scorer) -> None:
    scorer.graded("right", "judged right", "unparsed")
    scorer.verdict(JUDGE, "correct", "unparsed")
    assert scorer.score(JUDGE) == 0
    found = read_json(scorer.out.parent / "score.json")
    assert {name: found[name] for name in score.CELL} == {"model": "xs", "mix": "long", "seed": 3, "benchmark": "k2"}
    assert (found["acc_judged"], found["n_unparsed"], found["acc_rule"]) == (1.0, 1, 1 / 3)
    assert found["verdicts_sha256"] == sha256_file(scorer.out.parent / "verdicts.jsonl")
    assert [row["verdict"] for row in read_jsonl(scorer.out.parent / "verdicts.jsonl")] == ["correct", "correct", "unparsed"]
    assert manifest.mismatches(scorer.out) == []
    assert manifest.read(scorer.out)["inputs"] == {"grade": sha256_file(scorer.grade)}


def test_without_a_judge_no_ledger_is_needed(scorer: Scorer) -> None:
    scorer.graded("right", "judged right")
    assert scorer.score(NO_JUDGE) == 0
    found = read_json(scorer.out.parent / "score.json")
    assert (found["acc_judged"], found["acc"]) == (None, 0.5)


def test_without_a_judge_and_a_prompt_the_stage_runs(scorer: Scorer) -> None:
    scorer.graded("right", "rejected", "judged right")
    spec = {"stage": "score", "version": 1, "judge": NO_JUDGE}
    assert scorer.run(score, spec, "--cell", "xs", "long", 3, "k2", "--prompt", "--", scorer.grade, scorer.stamp, scorer.out) == 0
    assert [row["by"] for row in read_jsonl(scorer.out.parent / "verdicts.jsonl")] == ["identical", "number", "undecided"]


def test_what_rules_rejected_needs_no_verdict_unless_the_judge_sees_all(scorer: Scorer, capsys: pytest.CaptureFixture[str]) -> None:
    scorer.graded("rejected", "judged right", "overruled")
    scorer.verdict(JUDGE, "correct")
    assert scorer.score(JUDGE) == 0
    found = read_json(scorer.out.parent / "score.json")
    assert (found["n_pending"], found["n_rejected"], found["n_judged"], found["acc"]) == (3, 2, 1, 1 / 3)
    assert [row["by"] for row in read_jsonl(scorer.out.parent / "verdicts.jsonl")] == ["number", "judge", "set"]
    assert scorer.score(JUDGE, policy="all") == 1
    assert "lacks 2 verdicts of judge " in capsys.readouterr().err
    scorer.verdict(JUDGE, "incorrect", "correct", "correct", policy="all")
    assert scorer.score(JUDGE, policy="all") == 0
    found = read_json(scorer.out.parent / "score.json")
    assert (found["n_pending"], found["n_rejected"], found["n_judged"], found["acc"]) == (3, 2, 3, 2 / 3)
    assert [row["by"] for row in read_jsonl(scorer.out.parent / "verdicts.jsonl")] == ["judge"] * 3
    assert scorer.score(JUDGE) == 0, "verdicts that the other policy asked for are there and not read"
    assert [row["by"] for row in read_jsonl(scorer.out.parent / "verdicts.jsonl")] == ["number", "judge", "set"]


def test_scoring_leaves_the_ledger_as_it_is(scorer: Scorer) -> None:
    scorer.graded("judged right")
    scorer.verdict(JUDGE, "correct")
    folder = scorer.stamp.parent
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    (folder / "verdicts.sqlite").chmod(0o444)
    folder.chmod(0o555)
    try:
        assert scorer.score(JUDGE) == 0
        assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    finally:
        folder.chmod(0o755)


def test_a_verdict_that_is_not_there_is_an_error(scorer: Scorer, capsys: pytest.CaptureFixture[str]) -> None:
    scorer.graded("right", "judged right", "judged wrong", "unparsed")
    scorer.verdict(JUDGE, "correct")
    assert scorer.score(JUDGE) == 1
    told = capsys.readouterr().err
    assert f"{scorer.stamp.parent}/verdicts.sqlite: lacks 2 verdicts of judge " in told
    assert f"get them with: snakemake --forcerun {scorer.stamp} " in told
    assert not scorer.out.parent.exists()


def test_a_ledger_that_is_not_there_is_an_error(scorer: Scorer, capsys: pytest.CaptureFixture[str]) -> None:
    scorer.graded("right")
    assert scorer.score(JUDGE) == 1
    assert "verdicts.sqlite: no such verdict ledger; get them with: snakemake" in capsys.readouterr().err
    assert not scorer.stamp.parent.exists(), "a reader makes no ledger"


@pytest.mark.parametrize("other", ["judge", "prompt"])
def test_verdicts_of_another_judge_do_not_count(scorer: Scorer, capsys: pytest.CaptureFixture[str], other: str) -> None:
    scorer.graded("judged right")
    scorer.verdict({**JUDGE, "model": "n"} if other == "judge" else JUDGE, "correct")
    if other == "prompt":
        scorer.prompt.write_text("{answer} ?")
    assert scorer.score(JUDGE) == 1
    assert "lacks 1 verdicts" in capsys.readouterr().err


def test_the_same_cell_is_the_same_to_the_byte(scorer: Scorer) -> None:
    scorer.graded(*KINDS)
    scorer.verdict(JUDGE, "correct", "incorrect", "unparsed", "incorrect")  # of the four that no rule decided
    files = [scorer.out.parent / name for name in ("score.json", "verdicts.jsonl", "manifest.json")]
    scorer.score(JUDGE)
    first = [file.read_bytes() for file in files]
    scorer.score(JUDGE)
    assert [file.read_bytes() for file in files] == first
