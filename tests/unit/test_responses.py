"""responses: the store keeps each answer once, hands out whole requests only, and survives what breaks a write."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gapgrid import responses
from gapgrid.records import InputError, sha256_text
from gapgrid.responses import Answer, Question, Store


def question(doc_id: int, repeat: int = 0, gold: Any = "1", prompt: str | None = None, **settings: Any) -> Question:
    """A question about problem `doc_id`."""
    return Question(doc_id, repeat, f"problem {doc_id}", gold, prompt or f"prompt {doc_id}", settings)


QUESTIONS = [question(doc_id, repeat) for doc_id in (2, 0, 1) for repeat in (1, 0)]


def answered(questions: list[Question]) -> Iterator[tuple[str, Answer]]:
    """An answer to each question, under its key."""
    return ((asked.key, Answer(f"answer {asked.doc_id}.{asked.repeat}", "stop", asked.doc_id)) for asked in questions)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a store is to be."""
    return tmp_path / "deep" / "store.sqlite"


# ---- keys ----


def test_a_key_is_the_prompt_the_settings_and_the_repeat() -> None:
    asked = question(0, cap=10)
    assert asked.key == question(0, gold="2", cap=10)._replace(doc_id=7, problem="other", prompt="prompt 0").key
    others = [question(1, cap=10), question(0, 1, cap=10), question(0, cap=11), question(0, cap=10, engine={"torch": "2"}), question(0)]
    assert len({asked.key, *(other.key for other in others)}) == 6


def test_a_key_does_not_depend_on_the_order_of_settings() -> None:
    assert question(0, a=1, b=2).key == question(0, b=2, a=1).key


def test_a_model_is_named_by_its_files_alone() -> None:
    def trained(**files: str) -> dict[str, Any]:
        return {"outputs": {name.replace("_", "/", 1): {"sha256": digest} for name, digest in files.items()}}

    digest = responses.model_digest(trained(model_weights="a", model_config="b"))
    assert digest == responses.model_digest(trained(model_config="b", model_weights="a", metrics="c"))
    assert digest != responses.model_digest(trained(model_weights="a", model_config="c"))
    assert digest != responses.model_digest(trained(model_weights="a", model_other="b"))


def test_a_request_is_named_by_request_and_problems() -> None:
    digests = {responses.request_digest(*pair) for pair in (("a", "b"), ("a", "c"), ("b", "a"), ("ab", ""))}
    assert len(digests) == 4


# ---- what is kept ----


def test_what_is_missing_shrinks_with_each_answer(path: Path) -> None:
    with Store(path) as store:
        assert store.missing(QUESTIONS) == {asked.key for asked in QUESTIONS}
        store.add_answers(answered(QUESTIONS[:2]))
        assert store.missing(QUESTIONS) == {asked.key for asked in QUESTIONS[2:]}
    with Store(path) as store:
        store.add_answers(answered(QUESTIONS[2:]))
        assert store.missing(QUESTIONS) == set()


def test_rows_are_sorted_and_whole(path: Path) -> None:
    with Store(path) as store:
        store.set_questions("request", QUESTIONS)
        store.add_answers(answered(QUESTIONS[:-1]))
        assert store.rows("request") == []
        store.add_answers(answered(QUESTIONS[-1:]))
        rows = store.rows("request")
        assert store.rows("another") == []
    assert [(row["doc_id"], row["repeat"]) for row in rows] == [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)]
    assert rows[3] == {
        "doc_id": 1,
        "repeat": 1,
        "problem": "problem 1",
        "gold": "1",
        "prompt_sha": sha256_text("prompt 1"),
        "response": "answer 1.1",
        "n_tokens": 1,
        "finish": "stop",
    }


@pytest.mark.parametrize("gold", ["7", "\\frac{1}{2}", ["1", "2"], 7, 0.5, 'say "7"', "é"])
def test_a_reference_answer_comes_back_as_it_was(path: Path, gold: Any) -> None:
    asked = [question(0, gold=gold)]
    with Store(path) as store:
        store.set_questions("request", asked)
        store.add_answers(answered(asked))
        (row,) = store.rows("request")
    assert row["gold"] == gold
    assert type(row["gold"]) is type(gold)


@settings(max_examples=20)
@given(text=st.text())
def test_any_text_comes_back(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    asked = [Question(0, 0, text, text, "prompt", {})]
    path = tmp_path_factory.getbasetemp() / "any.sqlite"
    path.unlink(missing_ok=True)
    with Store(path) as store:
        store.set_questions("request", asked)
        store.add_answers([(asked[0].key, Answer(text, "stop", 1))])
        (row,) = store.rows("request")
    assert (row["problem"], row["gold"], row["response"]) == (text, text, text)


def test_an_answer_that_is_there_stays(path: Path) -> None:
    key = QUESTIONS[0].key
    with Store(path) as store:
        store.set_questions("request", QUESTIONS[:1])
        store.add_answers([(key, Answer("first", "stop", 1))])
        store.add_answers([(key, Answer("second", "length", 2))])
        assert store.rows("request")[0]["response"] == "first"


def test_questions_of_a_request_are_replaced_and_others_kept(path: Path) -> None:
    with Store(path) as store:
        store.add_answers(answered(QUESTIONS))
        store.set_questions("request", QUESTIONS)
        store.set_questions("other", QUESTIONS[:1])
        store.set_questions("request", QUESTIONS[:2])
        assert (len(store.rows("request")), len(store.rows("other"))) == (2, 1)


def test_two_requests_may_share_an_answer(path: Path) -> None:
    with Store(path) as store:
        store.add_answers(answered(QUESTIONS[:1]))
        for request in ("one", "two"):
            store.set_questions(request, QUESTIONS[:1])
        assert store.rows("one") == store.rows("two") != []


def test_a_batch_that_breaks_is_not_kept_at_all(path: Path) -> None:
    def breaking() -> Iterator[tuple[str, Answer]]:
        yield from answered(QUESTIONS[:2])
        raise RuntimeError("the engine died")

    with Store(path) as store, pytest.raises(RuntimeError, match="the engine died"):
        store.add_answers(breaking())
    with Store(path) as store:
        assert store.missing(QUESTIONS) == {asked.key for asked in QUESTIONS}


def test_no_half_written_answer_is_kept(path: Path) -> None:
    with Store(path) as store, pytest.raises(sqlite3.IntegrityError):
        store.add_answers([("key", Answer("text", None, 1))])  # type: ignore[arg-type]


# ---- the file ----


def test_a_store_that_must_be_there_is_named(path: Path) -> None:
    with pytest.raises(InputError, match=r"store\.sqlite: no such response store"):
        Store(path, must_exist=True)
    assert not path.parent.exists()


def test_something_else_is_no_store(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    path.write_text("no database, but long enough to be taken for one at first sight" * 20)
    with pytest.raises(InputError, match=r"store\.sqlite: not a response store \(file is not a database\); delete it"):
        Store(path)


def test_no_write_ahead_log_is_left_beside_a_store(path: Path) -> None:
    with Store(path) as store:
        store.add_answers(answered(QUESTIONS))
        assert store.connection.execute("pragma journal_mode").fetchone() == ("delete",)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_checksum_sees_every_column_and_the_order() -> None:
    rows = [{"doc_id": 0, "response": "a"}, {"doc_id": 1, "response": "b"}]
    sums = {responses.checksum(rows), responses.checksum(rows[::-1]), responses.checksum([rows[0], {**rows[1], "response": "c"}])}
    assert len(sums) == 3
    assert responses.checksum(rows) == responses.checksum([dict(reversed(row.items())) for row in rows])
