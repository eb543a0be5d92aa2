"""ledger: a verdict is kept once, under judge and pair, whole batches or none."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gapgrid import ledger
from gapgrid.ledger import Ledger, Pair
from gapgrid.records import InputError

PAIR = Pair("one and one ?", "2", "two")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a ledger is to be."""
    return tmp_path / "judge" / "verdicts.sqlite"


def test_a_judge_is_what_it_is_and_what_it_is_told() -> None:
    digests = {
        ledger.judge_digest({"model": "m"}, "prompt"),
        ledger.judge_digest({"model": "n"}, "prompt"),
        ledger.judge_digest({"model": "m", "revision": "r"}, "prompt"),
        ledger.judge_digest({"model": "m"}, "other prompt"),
    }
    assert len(digests) == 4
    assert ledger.judge_digest({"a": 1, "b": 2}, "p") == ledger.judge_digest({"b": 2, "a": 1}, "p")


def test_a_pair_is_known_by_all_its_parts() -> None:
    others = [PAIR._replace(problem="x"), PAIR._replace(gold="x"), PAIR._replace(answer="x"), Pair("one and one ?2", "", "two")]
    assert len({ledger.pair_key("judge", pair) for pair in (PAIR, *others)} | {ledger.pair_key("other", PAIR)}) == 6


def test_a_row_holds_a_pair() -> None:
    assert ledger.pair_of({"doc_id": 3, "problem": "one and one ?", "gold": "2", "answer": "two"}) == PAIR


def test_verdicts_come_back_by_judge(path: Path) -> None:
    with Ledger(path) as kept:
        kept.add("a", [(PAIR, "correct", "True")])
        kept.add("b", [(PAIR, "unparsed", "Well — é")])
    with Ledger(path, must_exist=True) as kept:
        assert kept.verdicts("a") == {ledger.pair_key("a", PAIR): ("correct", "True")}
        assert kept.verdicts("b") == {ledger.pair_key("b", PAIR): ("unparsed", "Well — é")}
        assert kept.verdicts("c") == {}


def test_a_verdict_that_is_there_stays(path: Path) -> None:
    with Ledger(path) as kept:
        kept.add("a", [(PAIR, "correct", "True")])
        kept.add("a", [(PAIR, "incorrect", "False")])
        assert list(kept.verdicts("a").values()) == [("correct", "True")]


def test_a_batch_that_breaks_is_not_kept_at_all(path: Path) -> None:
    def breaking() -> Iterator[tuple[Pair, str, str]]:
        yield PAIR, "correct", "True"
        raise RuntimeError("gone")

    with Ledger(path) as kept, pytest.raises(RuntimeError, match="gone"):
        kept.add("a", breaking())
    with Ledger(path) as kept:
        assert kept.verdicts("a") == {}


def test_a_ledger_that_must_be_there_is_named(path: Path) -> None:
    with pytest.raises(InputError, match=r"verdicts\.sqlite: no such verdict ledger"):
        Ledger(path, must_exist=True)
    assert not path.parent.exists()


def test_something_else_is_no_ledger_and_is_left_as_it_is(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"broken" * 1000)
    with pytest.raises(InputError, match=r"verdicts\.sqlite: not a verdict ledger \(file is not a database\); move it away"):
        Ledger(path)
    assert path.read_bytes() == b"broken" * 1000
