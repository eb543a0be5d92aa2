"""verdicts: the ledger keeps a verdict once, under judge and pair; judges can be compared."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gapgrid.core.rows import Pair
from gapgrid.core.spec_types import JudgeIdentity
from gapgrid.stores.verdicts import Comparison, Ledger, judge_digest, pair_key

PAIR = Pair("one and one ?", "2", "two")
ONE, TWO, THREE, FOUR = (PAIR._replace(answer=text) for text in "1234")


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """An empty ledger."""
    with Ledger(tmp_path / "verdicts.sqlite") as opened:
        yield opened


def test_a_judge_is_its_identity_and_its_prompt() -> None:
    first: JudgeIdentity = {"engine": {"name": "hf"}, "model": "m"}
    others: list[JudgeIdentity] = [{**first, "model": "n"}, {**first, "revision": "r"}]
    digests = {judge_digest(identity, "prompt") for identity in (first, *others)}
    assert len(digests | {judge_digest(first, "other prompt")}) == 4
    assert judge_digest({"model": "m", "engine": {"name": "hf"}}, "prompt") in digests


def test_a_pair_is_known_by_all_its_parts() -> None:
    others = [
        PAIR._replace(problem="x"),
        PAIR._replace(gold="x"),
        PAIR._replace(answer="x"),
        Pair("one and one ?2", "", "two"),
    ]
    keys = {pair_key("judge", pair) for pair in (PAIR, *others)}
    assert len(keys | {pair_key("other", PAIR)}) == 6


def test_verdicts_come_back_by_judge_and_the_first_stays(ledger: Ledger) -> None:
    ledger.add("a", [(PAIR, "correct", "True")])
    ledger.add("a", [(PAIR, "incorrect", "False")])
    ledger.add("b", [(PAIR, "unparsed", "Well — é")])
    with Ledger(ledger.path, must_exist=True) as again:
        assert again.verdicts("a") == {pair_key("a", PAIR): ("correct", "True")}
        assert again.verdicts("b") == {pair_key("b", PAIR): ("unparsed", "Well — é")}
        assert again.verdicts("c") == {}


def test_a_batch_that_breaks_is_not_kept_at_all(ledger: Ledger) -> None:
    def breaking() -> Iterator[tuple[Pair, str, str]]:
        yield PAIR, "correct", "True"
        raise RuntimeError("gone")

    with pytest.raises(RuntimeError, match="gone"):
        ledger.add("a", breaking())
    assert ledger.verdicts("a") == {}


def test_text_that_is_not_unicode_is_kept(ledger: Ledger) -> None:
    odd = Pair("\ud800", "\x00", "é\u2028")
    ledger.add("a", [(odd, "unparsed", "\udfff")])
    assert ledger.verdicts("a") == {pair_key("a", odd): ("unparsed", "?")}


def test_judges_are_listed_with_counts_and_names(ledger: Ledger) -> None:
    identity: JudgeIdentity = {"engine": {"name": "openai"}, "model": "big", "revision": "main"}
    ledger.register("b", identity, "prompt")
    ledger.register("b", identity, "prompt")
    ledger.register("c", {"engine": {"name": "stub"}}, "")
    ledger.add("b", [(PAIR, "correct", "True")])
    ledger.add("a", [(PAIR, "correct", "True"), (TWO, "correct", "True")])
    assert ledger.judges() == [
        ("a", 2, "not registered"),
        ("b", 1, "openai big@main"),
        ("c", 0, "stub"),
    ]
    assert ledger.query("select prompt from judges where digest = 'b'") == [("prompt",)]


def test_two_judges_are_compared_on_what_both_judged(ledger: Ledger) -> None:
    first = [(ONE, "correct"), (TWO, "correct"), (THREE, "unparsed"), (FOUR, "correct")]
    second = [(ONE, "correct"), (TWO, "incorrect"), (THREE, "correct")]
    ledger.add("a", [(*row, "") for row in first])
    ledger.add("b", [(*row, "") for row in second])
    assert ledger.compare("a", "b") == Comparison(1, 1, 1, [(TWO, "correct", "incorrect")])
    assert ledger.compare("a", "nobody") == Comparison(0, 0, 0, [])


def test_unparsed_verdicts_can_be_forgotten(ledger: Ledger) -> None:
    ledger.add("a", [(PAIR, "unparsed", "Well"), (THREE, "correct", "True")])
    ledger.add("b", [(PAIR, "unparsed", "Well")])
    assert (ledger.forget_unparsed("a"), ledger.forget_unparsed("a")) == (1, 0)
    assert list(ledger.verdicts("a")) == [pair_key("a", THREE)]
    assert len(ledger.verdicts("b")) == 1


def test_a_judges_verdicts_are_read_by_the_index(ledger: Ledger) -> None:
    plan = ledger.query("explain query plan select key from verdicts where judge = 'a'")
    assert "verdicts_by_judge" in str(plan)
