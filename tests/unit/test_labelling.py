"""labelling: a fair and repeatable sample, a sheet that is blind and loses nothing, and intervals that are what they say."""

import io
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from scipy.stats import binomtest

from gapgrid.commands import labelling
from gapgrid.commands.labelling import OVERALL, draw, rates, read_labels, shares, sheet, strata, wilson
from gapgrid.records import InputError, Row, write_jsonl
from tests.unit.test_audit import answer_row, write_cell


def decided_row(number: int, decision: str = "accepted_rule", benchmark: str = "b", **changes: Any) -> Row:
    """An answer with who decided on it, as `draw` takes it."""
    row = {"problem": f"p{number}", "gold": "2", "answer": "3", "benchmark": benchmark, "decided_by": "number", "decision": decision}
    return {**row, **changes}


def some_rows() -> list[Row]:
    """Three strata of 50, 6 and 30 unique pairs; the first pair has twenty answers more."""
    rows = [decided_row(i) for i in range(50)] + [decided_row(0) for _ in range(20)]
    rows += [decided_row(100 + i, "judge_correct", decided_by="judge") for i in range(6)]
    return rows + [decided_row(200 + i, "rejected", "c") for i in range(30)]


def console() -> Console:
    """A terminal whose output can be read."""
    return Console(file=io.StringIO(), width=100, force_terminal=False)


def shown(on: Console) -> str:
    """What was printed."""
    assert isinstance(on.file, io.StringIO)
    return on.file.getvalue()


def typed(*keys: str) -> Callable[[str], str]:
    """Someone who types these, then closes the terminal."""
    left: Iterator[str] = iter(keys)

    def ask(_: str) -> str:
        try:
            return next(left)
        except StopIteration:
            raise EOFError from None

    return ask


def label(decision: str, value: str, number: int = 0, stratum_pairs: int = 100, benchmark: str = "b") -> Row:
    """A row of a labels file."""
    row = {"problem": f"{decision}{benchmark}{number}", "gold": "1", "answer": "2", "stratum": f"{decision}/{benchmark}", "seed": 0}
    return {**row, "stratum_n": 1000, "stratum_pairs": stratum_pairs, "decided_by": "x", "decision": decision, "label": value}


# ---- the sample ----


def test_strata_count_answers_and_unique_pairs() -> None:
    found = strata(some_rows())
    assert {name: (stratum.n, len(stratum.pairs)) for name, stratum in found.items()} == {
        "accepted_rule/b": (70, 50),
        "judge_correct/b": (6, 6),
        "rejected/c": (30, 30),
    }


def test_a_pair_is_in_one_stratum_whatever_the_order() -> None:
    rows = [decided_row(0, "rejected", "c"), decided_row(0, "judge_correct", "b"), decided_row(1, "rejected", "c")]
    for order in (rows, rows[::-1]):
        assert {name: stratum.n for name, stratum in strata(order).items()} == {"judge_correct/b": 2, "rejected/c": 1}


@given(st.lists(st.integers(1, 30), min_size=1, max_size=8), st.integers(1, 120))
def test_shares_are_even_and_grow(sizes: list[int], n: int) -> None:
    found = shares(sizes, n)
    assert sum(found) == min(n, sum(sizes)) and all(0 <= taken <= size for taken, size in zip(found, sizes, strict=True))
    not_exhausted = [taken for taken, size in zip(found, sizes, strict=True) if taken < size]
    assert not not_exhausted or max(found) - min(not_exhausted) <= 1
    assert all(more >= taken for more, taken in zip(shares(sizes, n + 1), found, strict=True))


def test_a_sample_is_unique_even_repeatable_and_grows() -> None:
    rows = some_rows()
    found = draw(rows, 24, 7)
    assert len({labelling.pair_of(row) for row in found}) == 24
    assert Counter(row["stratum"] for row in found) == {"accepted_rule/b": 9, "judge_correct/b": 6, "rejected/c": 9}
    random.Random(1).shuffle(rows)
    assert draw(rows, 24, 7) == found != draw(rows, 24, 8)
    more = draw(rows, 40, 7)
    assert {labelling.pair_of(row) for row in found} < {labelling.pair_of(row) for row in more}
    first = next(row for row in found if row["stratum"] == "accepted_rule/b")
    assert set(first) == set(labelling.COLUMNS) - {"label"} and (first["stratum_n"], first["stratum_pairs"]) == (70, 50)
    assert len({row["stratum"] for row in more[:12]}) > 1, "the order must not give strata away"
    assert len(draw(rows, 1000, 7)) == 86


def test_every_pair_of_a_stratum_is_as_likely() -> None:
    rows = [decided_row(i) for i in range(10)]
    drawn = Counter(row["problem"] for seed in range(400) for row in draw(rows, 3, seed))
    assert len(drawn) == 10 and all(80 < count < 160 for count in drawn.values())  # 120 expected, standard deviation 9


def test_no_pairs_is_no_sample() -> None:
    with pytest.raises(InputError, match="expected 1 or more"):
        draw(some_rows(), 0, 0)


# ---- the sheet ----


def test_labels_are_kept_one_by_one_and_a_quit_goes_on_where_it_stopped(tmp_path: Path) -> None:
    rows, file = draw(some_rows(), 5, 0), tmp_path / "a" / "labels.jsonl"
    assert sheet(console(), rows, file, typed("y", "N ", "q", "y")) == 2
    assert [row["label"] for row in read_labels(file)] == ["same", "different"]
    assert sheet(console(), rows, file, typed("what?", "u")) == 3  # then the terminal closes
    assert sheet(console(), rows, file, typed("y", "y", "never asked")) == 5
    found = read_labels(file)
    assert [row["problem"] for row in found] == [row["problem"] for row in rows]
    assert [row["label"] for row in found] == ["same", "different", "unsure", "same", "same"]
    assert sheet(console(), rows, file, typed()) == 5


def test_the_last_line_says_how_to_get_the_report(tmp_path: Path) -> None:
    rows, file = draw(some_rows(), 5, 0), tmp_path / "[red]" / "labels.jsonl"
    for keys, n in (("y", 1), ("yyyy", 5), ("", 5)):
        on = Console(file=io.StringIO(), width=1000)
        sheet(on, rows, file, typed(*keys))
        assert shown(on).splitlines()[-1] == f"{n} of 5 labelled; report with: gapgrid audit report GRID --labels {file}"


def test_every_label_is_on_the_disk_before_the_next_question(tmp_path: Path) -> None:
    file = tmp_path / "labels.jsonl"
    seen: list[int] = []

    def ask(_: str) -> str:
        seen.append(len(file.read_bytes().splitlines()) if file.exists() else 0)
        if len(seen) == 4:
            raise KeyboardInterrupt
        return "y"

    assert sheet(console(), draw(some_rows(), 9, 0), file, ask) == 3
    assert seen == [0, 1, 2, 3]


def test_back_asks_again_and_the_last_label_counts(tmp_path: Path) -> None:
    rows, file = draw(some_rows(), 3, 0), tmp_path / "labels.jsonl"
    assert sheet(console(), rows, file, typed("b", "y", "y", "b", "b", "n", "q")) == 2
    assert {row["problem"]: row["label"] for row in read_labels(file)} == {rows[0]["problem"]: "different", rows[1]["problem"]: "same"}
    assert sheet(console(), rows, file, typed("u")) == 3


def test_a_line_that_a_crash_cut_off_is_asked_again(tmp_path: Path) -> None:
    rows, file = draw(some_rows(), 3, 0), tmp_path / "labels.jsonl"
    sheet(console(), rows, file, typed("y", "y"))
    file.write_bytes(file.read_bytes()[:-20])
    assert sheet(console(), rows, file, typed("n")) == 2
    assert [row["label"] for row in read_labels(file)] == ["same", "different"]


def test_another_seed_needs_another_file(tmp_path: Path) -> None:
    file = tmp_path / "labels.jsonl"
    sheet(console(), draw(some_rows(), 3, 0), file, typed("y"))
    with pytest.raises(InputError, match="another seed"):
        sheet(console(), draw(some_rows(), 3, 1), file, typed("y"))


def test_the_sheet_is_blind_and_hostile_text_is_only_text(tmp_path: Path) -> None:
    texts = {"problem": "[bold]p[/bold] [/]", "gold": "\x1b[2J\x07g\u202e", "answer": "[link=file:///]a\ud800\x9b31m" + "x" * 9000}
    row = draw([decided_row(0, "judge_incorrect", "secretbench", decided_by="judge", **texts)], 1, 0)
    on, prompts = console(), []

    def ask(prompt: str) -> str:
        prompts.append(prompt)
        return "y"

    assert sheet(on, row, tmp_path / "labels.jsonl", ask) == 1
    text = shown(on)
    for visible in ("[bold]p[/bold] [/]", r"\u{001B}[2J\u{0007}g\u{202E}", r"[link=file:///]a\u{D800}\u{009B}31m", "more characters]"):
        assert visible in text
    assert not any(character in text for character in "\x1b\x07\u202e\x9b")
    for hidden in ("judge", "incorrect", "secretbench", "number"):
        assert hidden not in text.replace("gapgrid", "") and hidden not in prompts[0]
    kept = json.loads((tmp_path / "labels.jsonl").read_text(encoding="ascii"))
    assert kept["answer"] == texts["answer"] and set(kept) == set(labelling.COLUMNS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": "yes"}, "'yes', expected one of same"),
        ({"stratum": "odd/b"}, "starts with no known decision"),
        ({"seed": None}, "no column"),
    ],
)
def test_what_is_no_label_is_an_error(change: Row, message: str, tmp_path: Path) -> None:
    row = {key: value for key, value in {**label("rejected", "same"), **change}.items() if value is not None}
    write_jsonl(tmp_path / "labels.jsonl", [row])
    with pytest.raises(InputError, match=message):
        read_labels(tmp_path / "labels.jsonl")


# ---- rates ----


@given(st.integers(1, 500), st.data(), st.sampled_from([0.8, 0.95, 0.99]))
def test_wilson_is_scipys(n: int, data: st.DataObject, confidence: float) -> None:
    k = data.draw(st.integers(0, n))
    expected = binomtest(k, n).proportion_ci(confidence, method="wilson")
    assert wilson(k / n, n, confidence) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_solves_its_equation() -> None:
    z, n, share = 1.959963984540054, 37.5, 0.2  # an effective sample size need not be whole
    for limit in wilson(share, n):
        assert abs(share - limit) == pytest.approx(z * (limit * (1 - limit) / n) ** 0.5)


def of(labels: list[Row], name: str, stratum: str) -> labelling.Rate:
    """One rate."""
    return next(rate for rate in rates(labels) if (rate.name, rate.stratum) == (name, stratum))


def test_rates_of_a_stratum_leave_unsure_ones_out() -> None:
    labels = [label("judge_correct", value, i) for i, value in enumerate(["same"] * 7 + ["different"] * 3 + ["unsure"] * 2)]
    found = of(labels, "judge: false accept", "judge_correct/b")
    assert found[2:6] == (10, 3, 2, 0.3)
    expected = binomtest(3, 10).proportion_ci(method="wilson")
    assert found[6:] == pytest.approx((expected.low, expected.high))
    assert of(labels, "judge: false accept", OVERALL)[2:] == pytest.approx(found[2:])  # one stratum is the whole
    assert of(labels, "rules: not accepted, yet the same", OVERALL).rate == 0.7


def test_an_error_is_what_contradicts_the_decision() -> None:
    decisions = ("accepted_rule", "accepted_algebra", "rejected", "judge_incorrect", "judge_correct", "overruled", "confirmed")
    for value in ("same", "different"):
        labels = [label(decision, value, stratum_pairs=1) for decision in decisions]
        found = {rate.name: rate.rate for rate in rates(labels) if rate.stratum == OVERALL}
        assert found == {
            "rules: false accept": float(value == "different"),
            "rules: not accepted, yet the same": float(value == "same"),
            "decisive rejections: false reject": float(value == "same"),
            "judge: false accept": float(value == "different"),
            "judge: false reject": float(value == "same"),
        }


def test_the_overall_rate_is_weighted_by_unique_pairs() -> None:
    labels = [label("accepted_rule", "different" if i < 1 else "same", i, 900) for i in range(10)]
    labels += [label("accepted_algebra", "different" if i < 5 else "same", i, 100) for i in range(10)]
    found = of(labels, "rules: false accept", OVERALL)
    assert found.rate == pytest.approx(0.9 * 0.1 + 0.1 * 0.5)
    assert (found.n, found.n_errors) == (20, 6)
    assert (found.low, found.high) == pytest.approx(wilson(0.14, 1 / (0.9**2 / 10 + 0.1**2 / 10)))


def test_strata_of_equal_weight_and_size_give_the_plain_interval() -> None:
    labels = [label("accepted_rule", "different" if i < 4 else "same", i, 50, benchmark) for benchmark in "ab" for i in range(20)]
    found = of(labels, "rules: false accept", OVERALL)
    expected = binomtest(8, 40).proportion_ci(method="wilson")
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_no_error_found_is_not_no_error_and_no_label_is_no_rate() -> None:
    labels = [label("rejected", "different", i) for i in range(30)]
    found = of(labels, "decisive rejections: false reject", OVERALL)
    assert found.rate == found.low == 0 and found.high is not None and 0.1 < found.high < 0.12
    none = of([label("rejected", "unsure")], "decisive rejections: false reject", OVERALL)
    assert (none.n, none.n_unsure, none.rate, none.low, none.high) == (0, 1, None, None, None)
    assert of([], "judge: false accept", OVERALL).rate is None


def test_the_overall_interval_covers_the_truth() -> None:
    truth, pairs = {"accepted_rule": 0.02, "accepted_algebra": 0.2}, {"accepted_rule": 2000, "accepted_algebra": 300}
    whole = sum(truth[name] * pairs[name] for name in truth) / sum(pairs.values())
    source, covered = random.Random(0), 0
    for _ in range(300):
        labels = [
            label(name, "different" if source.random() < truth[name] else "same", i, pairs[name]) for name in truth for i in range(60)
        ]
        found = of(labels, "rules: false accept", OVERALL)
        covered += found.low <= whole <= found.high  # type: ignore[operator]
    assert covered / 300 > 0.92


# ---- from results to a report ----


def test_from_a_grid_to_a_report(tmp_path: Path) -> None:
    places = ["rule_only", "rule_only", "judge_only", "neither", "decisively_rejected", "unparsed", "undecided", "no_answer"]
    rows = [answer_row(i, place, problem=f"p{i}") for i, place in enumerate(places)]
    rows[1]["rule"] = rows[1]["by"] = "math_verify"
    rows += [answer_row(8, "judge_only", problem="p8", rejected_by="set"), answer_row(9, "neither", problem="p9", rejected_by="set")]
    write_cell(tmp_path, ("m", "x", 0, "b"), rows)
    file, on = tmp_path / "labels.jsonl", Console(file=io.StringIO(), width=140)
    assert labelling.sample(tmp_path, file, 100, 0, on, typed(*"yyyyyyyyyyyy")) == 0
    found = read_labels(file)
    assert Counter(row["stratum"] for row in found) == Counter(f"{decision}/b" for decision in labelling.DECISIONS)
    assert {row["decision"]: row["decided_by"] for row in found}["accepted_algebra"] == "math_verify"
    assert labelling.report(file, on) == 0
    text = shown(on)
    assert "9 of 9 labelled" in text and "decisive rejections: false reject" in text and "overall" in text and "no label" not in text


def test_a_grid_without_scores_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no scored cells"):
        labelling.sample(tmp_path, tmp_path / "labels.jsonl", 10, 0)
