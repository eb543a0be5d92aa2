"""gapgrid judges: who is in a ledger, where two disagree, and what is deleted to judge again."""

import json
from pathlib import Path

import pytest

from gapgrid.core.records import write_json
from gapgrid.core.rows import Pair
from gapgrid.stores.verdicts import Ledger
from tests.unit.commands.conftest import CELL, Command
from tests.unit.pages import write_cell

ONE, TWO, UNKNOWN = "1" * 16, "2" * 16, "3" * 16
PAIRS = [Pair(f"p{number}", "2", f"a{number}") for number in range(5)]
COMPARE = ("judges", "demo", "--compare", ONE, TWO)
FORGET = ("judges", "demo", "--forget-unparsed", ONE)


@pytest.fixture
def ledger(results: Path) -> Path:
    """Two judges who agree on a pair, disagree on two, and leave one unparsed; one has a fifth."""
    path = results / "judge" / "verdicts.sqlite"
    identities = {
        ONE: {"engine": {"name": "openai"}, "model": "org/one"},
        TWO: {"engine": {"name": "vllm"}, "model": "org/two", "revision": "abc"},
    }
    verdicts = {
        ONE: ["correct", "correct", "incorrect", "unparsed", "unparsed"],
        TWO: ["correct", "incorrect", "correct", "correct"],
    }
    with Ledger(path) as opened:
        for judge, identity in identities.items():
            opened.register(judge, identity, "prompt")
            rows = zip(PAIRS, verdicts[judge], strict=False)
            opened.add(judge, [(pair, verdict, "raw") for pair, verdict in rows])
    return path


@pytest.fixture
def scores(results: Path) -> None:
    """A batch manifest of the judge, and scores with 2, 0 and 1 unparsed verdicts."""
    write_json(results / "judge" / "round.json", {"stage": "judge"})
    for benchmark, n_unparsed in (("k2", 2), ("k4", 0), ("k6", 1)):
        folder = write_cell(results, CELL._replace(benchmark=benchmark), [])
        write_json(folder / "score.json", {"n_unparsed": n_unparsed})


def listed(n_one: int = 5) -> list[str]:
    """The lines that list both judges."""
    return [f"{ONE}  {n_one} verdicts  openai org/one", f"{TWO}  4 verdicts  vllm org/two@abc"]


def content(results: Path) -> dict[str, bytes]:
    """Every file of a results folder with its content."""
    files = (file for file in results.rglob("*") if file.is_file())
    return {file.relative_to(results).as_posix(): file.read_bytes() for file in files}


def test_judges_are_listed_and_compared_without_a_change_of_the_ledger(
    gapgrid: Command, results: Path, ledger: Path
) -> None:
    before = content(results)
    assert gapgrid("judges", "demo") == (0, listed(), [])
    status, out, err = gapgrid(*COMPARE)
    counts = "1 pairs agree, 2 disagree, 1 unparsed by one of them"
    assert (status, err, out[:3]) == (0, [], [*listed(), counts])
    assert [json.loads(line) for line in out[3:]] == [
        {"problem": "p1", "gold": "2", "answer": "a1", ONE: "correct", TWO: "incorrect"},
        {"problem": "p2", "gold": "2", "answer": "a2", ONE: "incorrect", TWO: "correct"},
    ]
    counts = "3 pairs agree, 0 disagree, 2 unparsed by one of them"
    assert gapgrid("judges", "demo", "--compare", ONE, ONE).out[2] == counts
    assert content(results) == before


def test_a_pair_of_control_characters_stays_one_line(gapgrid: Command, ledger: Path) -> None:
    odd = Pair("p\n\x1b[2J", "2", "\u202e\u2028é")
    with Ledger(ledger) as opened:
        opened.add(ONE, [(odd, "correct", "True")])
        opened.add(TWO, [(odd, "incorrect", "False")])
    line = next(line for line in gapgrid(*COMPARE).out if "\\u001b" in line)
    assert line.isascii() and line.isprintable()
    assert json.loads(line)["answer"] == odd.answer


def test_unparsed_verdicts_are_deleted_with_what_counts_them(
    gapgrid: Command, results: Path, ledger: Path, scores: None
) -> None:
    before = content(results)
    status, out, err = gapgrid(*FORGET)
    assert (status, err) == (0, [])
    assert out[0].startswith("2 unparsed verdicts forgotten") and out[1:] == listed(n_one=3)
    after = content(results)
    removed = {"judge/round.json", "score/xs/long/0/k2/score.json", "score/xs/long/0/k6/score.json"}
    assert before.keys() - after.keys() == removed
    for name in after.keys() - {"judge/verdicts.sqlite"}:
        assert after[name] == before[name], name
    status, out, _ = gapgrid(*FORGET)
    assert status == 0 and out[0].startswith("0 unparsed verdicts forgotten")
    assert gapgrid("judges", "demo") == (0, listed(n_one=3), [])


@pytest.mark.parametrize("more", [(), ("--compare", ONE, TWO)])
def test_an_empty_digest_to_forget_is_as_if_not_given(
    gapgrid: Command, results: Path, ledger: Path, scores: None, more: tuple[str, ...]
) -> None:
    before = content(results)
    result = gapgrid("judges", "demo", "--forget-unparsed", "", *more)
    assert result == gapgrid("judges", "demo", *more) and result.out[:2] == listed()
    assert content(results) == before


@pytest.mark.parametrize(
    "arguments",
    [("--compare", ONE, UNKNOWN), ("--compare", UNKNOWN, TWO), ("--forget-unparsed", UNKNOWN)],
)
def test_an_unknown_judge_is_named_with_the_known_ones(
    gapgrid: Command, results: Path, ledger: Path, scores: None, arguments: tuple[str, ...]
) -> None:
    before = content(results)
    status, out, err = gapgrid("judges", "demo", *arguments)
    path = "results/demo/judge/verdicts.sqlite"
    message = f"error: {path}: no judge '{UNKNOWN}', expected one of {ONE}, {TWO}"
    assert (status, out, err) == (1, [], [message])
    after = content(results)
    assert after.keys() == before.keys() and gapgrid("judges", "demo").out == listed()


@pytest.mark.parametrize("command", [("judges", "demo"), COMPARE, FORGET])
def test_without_a_ledger_there_are_no_judges(
    gapgrid: Command, results: Path, command: tuple[str, ...]
) -> None:
    message = "error: results/demo/judge/verdicts.sqlite: no such verdict ledger"
    assert gapgrid(*command) == (1, [], [message])
    assert not results.exists()


def test_an_empty_ledger_has_no_judges(gapgrid: Command, results: Path) -> None:
    with Ledger(results / "judge" / "verdicts.sqlite"):
        pass
    assert gapgrid("judges", "demo") == (0, [], [])
    assert gapgrid(*FORGET).err[0].endswith(f"no judge '{ONE}', expected one of none")
