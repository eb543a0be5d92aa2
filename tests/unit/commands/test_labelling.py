"""gapgrid audit sample: a fair and repeatable sample, blind prompts, and no label that is lost."""

import io
import json
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from gapgrid.commands import labelling
from gapgrid.commands.labelling import draw, label_rows, pair_of, read_labels, shares, strata
from gapgrid.core.records import InputError, Row, read_jsonl, write_jsonl
from tests.unit.commands.conftest import CELL, Command, build
from tests.unit.pages import write_cell
from tests.unit.stages.test_audit import answer_of


def decided_row(
    number: int, decision: str = "accepted_rule", benchmark: str = "b", **changes: Any
) -> Row:
    """An answer and who decided on it."""
    row = {"problem": f"p{number}", "gold": "2", "answer": "3", "benchmark": benchmark}
    return {**row, "decided_by": "number", "decision": decision, **changes}


def some_rows() -> list[Row]:
    """Three strata of 50, 6 and 30 unique pairs; the first pair has twenty answers more."""
    rows = [decided_row(i) for i in range(50)] + [decided_row(0) for _ in range(20)]
    rows += [decided_row(100 + i, "judge_correct", decided_by="judge") for i in range(6)]
    return rows + [decided_row(200 + i, "rejected", "c") for i in range(30)]


@pytest.fixture
def output() -> io.StringIO:
    """What is printed."""
    return io.StringIO()


Label = Callable[..., int]


@pytest.fixture
def label(output: io.StringIO, tmp_path: Path) -> Label:
    """Label rows by these keys, then close the terminal; the labels go to a/labels.jsonl."""

    def call(rows: list[Any], *keys: str) -> int:
        unread = list(keys)

        def prompt(_: str) -> str:
            if not unread:
                raise EOFError
            return unread.pop(0)

        console = Console(file=output, width=200, force_terminal=False)
        return label_rows(console, rows, tmp_path / "a" / "labels.jsonl", prompt)

    return call


@pytest.fixture
def labels(tmp_path: Path) -> Callable[[], list[str]]:
    """The labels in the file, in its order."""
    return lambda: [row["label"] for row in read_labels(tmp_path / "a" / "labels.jsonl")]


# ---- the sample ----


def test_strata_count_answers_and_unique_pairs() -> None:
    counts = {
        name: (stratum.n, len(stratum.pairs)) for name, stratum in strata(some_rows()).items()
    }
    assert counts == {
        "accepted_rule/b": (70, 50),
        "judge_correct/b": (6, 6),
        "rejected/c": (30, 30),
    }


def test_a_pair_is_in_one_stratum_whatever_the_order() -> None:
    rows = [
        decided_row(0, "rejected", "c"),
        decided_row(0, "judge_correct", "b"),
        decided_row(1, "rejected", "c"),
    ]
    for order in (rows, rows[::-1]):
        counts = {name: stratum.n for name, stratum in strata(order).items()}
        assert counts == {"judge_correct/b": 2, "rejected/c": 1}


@given(st.lists(st.integers(1, 30), min_size=1, max_size=8), st.integers(1, 120))
def test_shares_are_even_and_grow(sizes: list[int], n: int) -> None:
    drawn = shares(sizes, n)
    pairs = list(zip(drawn, sizes, strict=True))
    assert sum(drawn) == min(n, sum(sizes)) and all(0 <= part <= size for part, size in pairs)
    not_exhausted = [part for part, size in pairs if part < size]
    assert not not_exhausted or max(drawn) - min(not_exhausted) <= 1
    assert all(more >= part for more, part in zip(shares(sizes, n + 1), drawn, strict=True))


def test_a_sample_is_unique_even_repeatable_and_grows() -> None:
    rows = some_rows()
    drawn = draw(rows, 24, 7)
    assert len({pair_of(row) for row in drawn}) == 24
    strata_drawn = Counter(row["stratum"] for row in drawn)
    assert strata_drawn == {"accepted_rule/b": 9, "judge_correct/b": 6, "rejected/c": 9}
    random.Random(1).shuffle(rows)
    assert draw(rows, 24, 7) == drawn != draw(rows, 24, 8)
    more = draw(rows, 40, 7)
    assert {pair_of(row) for row in drawn} < {pair_of(row) for row in more}
    first = next(row for row in drawn if row["stratum"] == "accepted_rule/b")
    assert set(first) == set(labelling.COLUMNS) - {"label"}
    assert (first["stratum_n"], first["stratum_pairs"]) == (70, 50)
    assert len({row["stratum"] for row in more[:12]}) > 1, "the order must not give strata away"
    assert len(draw(rows, 1000, 7)) == 86


def test_every_pair_of_a_stratum_is_as_likely() -> None:
    rows = [decided_row(i) for i in range(10)]
    drawn = Counter(row["problem"] for seed in range(400) for row in draw(rows, 3, seed))
    # 120 are expected, with a standard deviation of 9.
    assert len(drawn) == 10 and all(80 < count < 160 for count in drawn.values())


# ---- the prompts ----


def test_labels_are_kept_one_by_one_and_a_quit_goes_on_where_it_stopped(
    label: Label, labels: Callable[[], list[str]], output: io.StringIO, tmp_path: Path
) -> None:
    rows = draw(some_rows(), 5, 0)
    assert label(rows, "y", "N ", "q", "y") == 2
    assert labels() == ["same", "different"]
    assert label(rows, "what?", "u") == 3  # then the terminal closes
    assert label(rows, "y", "y", "never read") == 5
    assert labels() == ["same", "different", "unsure", "same", "same"]
    kept = read_labels(tmp_path / "a" / "labels.jsonl")
    assert [row["problem"] for row in kept] == [row["problem"] for row in rows]
    assert label(rows) == 5
    report = f"gapgrid audit report GRID --labels {tmp_path}/a/labels.jsonl"
    assert output.getvalue().splitlines()[-1] == f"5 of 5 labelled; report with: {report}"


def test_every_label_is_on_the_disk_before_the_next_prompt(
    output: io.StringIO, tmp_path: Path
) -> None:
    file = tmp_path / "labels.jsonl"
    n_lines: list[int] = []

    def prompt(_: str) -> str:
        n_lines.append(len(file.read_bytes().splitlines()) if file.exists() else 0)
        if len(n_lines) == 4:
            raise KeyboardInterrupt
        return "y"

    assert label_rows(Console(file=output), draw(some_rows(), 9, 0), file, prompt) == 3
    assert n_lines == [0, 1, 2, 3]


def test_back_prompts_again_and_the_last_label_counts(
    label: Label, labels: Callable[[], list[str]]
) -> None:
    rows = draw(some_rows(), 3, 0)
    assert label(rows, "b", "y", "y", "b", "b", "n", "q") == 2
    assert labels() == ["different", "same"]
    assert label(rows, "u") == 3


def test_a_line_that_a_crash_cut_off_is_labelled_again(
    label: Label, labels: Callable[[], list[str]], tmp_path: Path
) -> None:
    rows, file = draw(some_rows(), 3, 0), tmp_path / "a" / "labels.jsonl"
    label(rows, "y", "y")
    file.write_bytes(file.read_bytes()[:-20])
    assert label(rows, "n") == 2
    assert labels() == ["same", "different"]


def test_prompts_are_blind_and_hostile_text_is_only_text(tmp_path: Path) -> None:
    texts = {
        "problem": "[bold]p[/bold] [/]",
        "gold": "\x1b[2J\x07g\u202e",
        "answer": "[link=file:///]a\ud800\x9b31m" + "x" * 9000,
    }
    row = decided_row(0, "judge_incorrect", "secretbench", decided_by="judge", **texts)
    file, prompts = tmp_path / "labels.jsonl", []
    console = Console(file=io.StringIO(), width=100, force_terminal=False)

    def prompt(text: str) -> str:
        prompts.append(text)
        return "y"

    assert label_rows(console, draw([row], 1, 0), file, prompt) == 1
    text = console.file.getvalue()  # type: ignore[attr-defined]
    for shown in (
        "[bold]p[/bold] [/]",
        r"\u{001B}[2J\u{0007}g\u{202E}",
        r"[link=file:///]a\u{D800}\u{009B}31m",
        "more characters]",
    ):
        assert shown in text
    assert not any(character in text for character in "\x1b\x07\u202e\x9b")
    for hidden in ("judge", "incorrect", "secretbench", "number"):
        assert hidden not in text.replace("gapgrid", "") and hidden not in prompts[0]
    kept = json.loads(file.read_text(encoding="ascii"))
    assert kept["answer"] == texts["answer"] and set(kept) == set(labelling.COLUMNS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": "yes"}, "label 1 is 'yes', expected one of same, different, unsure"),
        ({"stratum": "odd/b"}, "starts with no known decision"),
        ({"seed": None}, "label 1 has no column 'seed'"),
    ],
)
def test_a_row_that_is_no_label_is_an_error(change: Row, message: str, tmp_path: Path) -> None:
    row = dict.fromkeys(labelling.COLUMNS, "x") | {"stratum": "rejected/b", "label": "same"}
    row = {key: value for key, value in {**row, **change}.items() if value is not None}
    write_jsonl(tmp_path / "labels.jsonl", [row])
    with pytest.raises(InputError, match=message):
        read_labels(tmp_path / "labels.jsonl")


# ---- the command ----


def test_every_decision_of_scored_cells_can_be_drawn(results: Path) -> None:
    judged: Row = {"by": "judge", "rejected_by": "set"}
    changes: list[tuple[str, Row]] = [
        ("rule_only", {"rule": "math_verify"}),
        ("judge_only", judged),
        ("neither", judged),
    ]
    categories = ("rule_only", "judge_only", "neither", "decisively_rejected", "unparsed")
    changes += [(category, {}) for category in (*categories, "undecided", "no_answer")]
    rows = [answer_of(category, i, **more) for i, (category, more) in enumerate(changes)]
    write_cell(results, CELL, rows)
    drawn = draw(labelling.decision_rows(results), 100, 0)
    strata_drawn = Counter(row["stratum"] for row in drawn)
    assert strata_drawn == Counter(f"{decision}/k2" for decision in labelling.DECISIONS)
    by = {row["decision"]: row["decided_by"] for row in drawn}
    assert (by["accepted_algebra"], by["judge_correct"]) == ("math_verify", "judge")


def scored(results: Path) -> None:
    """A cell with two answers that rules accepted, two that the judge did, one without."""
    build(results, CELL, *["rule_only"] * 2, *["judge_only"] * 2, "no_answer")


def test_a_sample_is_labelled_and_goes_on_where_it_was_left(
    gapgrid: Command, results: Path, typed: Callable[[str], None]
) -> None:
    scored(results)
    typed("y\nn\nq\n")
    result = gapgrid("audit", "sample", "demo", "-n", 3)
    assert (result.status, result.err) == (0, [])
    report = "gapgrid audit report GRID --labels labels/demo.jsonl"
    assert result.text.endswith(f"2 of 3 labelled; report with: {report}")
    assert gapgrid(*report.replace("GRID", "demo").split()[1:]).status == 0
    typed("u\n")
    assert "3 of 3 labelled; report" in gapgrid("audit", "sample", "demo", "-n", 3).text
    labels = [row["label"] for row in read_jsonl("labels/demo.jsonl")]
    assert labels == ["same", "different", "unsure"]
    typed("y\n")
    assert "4 of 4 labelled; report" in gapgrid("audit", "sample", "demo").text


def test_folders_and_seed_may_be_given_and_another_seed_needs_another_file(
    gapgrid: Command, results: Path, typed: Callable[[str], None]
) -> None:
    scored(results)
    results.parent.rename("elsewhere")
    typed("y\ny\ny\ny\n")
    sample = ("audit", "sample", "demo", "--results", "elsewhere", "--labels", "mine/a.jsonl")
    assert gapgrid(*sample, "--seed", 7).status == 0
    assert {row["seed"] for row in read_jsonl("mine/a.jsonl")} == {7}
    assert not Path("labels").exists()
    status, _, err = gapgrid(*sample)
    text = "has labels of a sample with another seed (0, 7); take another file"
    assert (status, err) == (1, [f"error: mine/a.jsonl: {text}"])


def test_without_scores_or_pairs_there_is_nothing_to_label(gapgrid: Command, results: Path) -> None:
    sample = ("audit", "sample", "demo")
    message = "error: results/demo: no scored cells; run the grid first"
    assert gapgrid(*sample) == (1, [], [message])
    scored(results)
    for n in (0, -1):
        message = f"error: audit sample: {n} pairs asked for, expected 1 or more"
        assert gapgrid(*sample, "-n", n) == (1, [], [message])
    assert not Path("labels").exists()
