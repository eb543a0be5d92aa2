"""responses: the store keeps each completion once and serves complete benchmarks only."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from gapgrid.core.records import sha256_text
from gapgrid.stores import responses
from gapgrid.stores.responses import Completion, GenerationRequest, Store


def request(
    doc_id: int, repeat: int = 0, gold: Any = "1", prompt: str | None = None, **settings: Any
) -> GenerationRequest:
    """A request about problem `doc_id`."""
    prompt = prompt or f"prompt {doc_id}"
    return GenerationRequest(doc_id, repeat, f"problem {doc_id}", gold, prompt, settings)


REQUESTS = [request(doc_id, repeat) for doc_id in (2, 0, 1) for repeat in (1, 0)]
KEYS = [row.key for row in REQUESTS]


def completed(requests: list[GenerationRequest]) -> Iterator[tuple[str, Completion]]:
    """A completion for each request, under its key."""
    for row in requests:
        yield row.key, Completion(f"answer {row.doc_id}.{row.repeat}", "stop", row.doc_id)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty store."""
    with Store(tmp_path / "store.sqlite") as opened:
        yield opened


# ---- keys ----


def test_a_key_is_the_prompt_the_settings_and_the_repeat() -> None:
    first = request(0, cap=10)
    assert first.key == request(7, gold="2", prompt="prompt 0", cap=10).key
    assert request(0, a=1, b=2).key == request(0, b=2, a=1).key
    others = [
        request(1, cap=10),
        request(0, 1, cap=10),
        request(0, cap=11),
        request(0, cap=10, engine={"torch": "2"}),
        request(0),
    ]
    assert len({first.key, *(other.key for other in others)}) == 6


def test_a_model_is_named_by_its_files_alone() -> None:
    def digest(**files: str) -> str:
        outputs = {name.replace("_", "/"): {"sha256": sha256} for name, sha256 in files.items()}
        return responses.model_digest({"outputs": outputs})

    first = digest(model_weights="a", model_config="b")
    assert first == digest(model_config="b", model_weights="a", metrics="c")
    assert first != digest(model_weights="a", model_config="c")
    assert first != digest(model_weights="a", model_other="b")


def test_a_benchmark_is_keyed_by_request_and_problems() -> None:
    pairs = [("a", "b"), ("a", "c"), ("b", "a"), ("ab", "")]
    assert len({responses.request_digest(*pair) for pair in pairs}) == 4


def test_a_checksum_covers_every_column_and_the_order() -> None:
    rows: list[Any] = [{"doc_id": 0, "response": "a"}, {"doc_id": 1, "response": "b"}]
    changed = [rows[0], {**rows[1], "response": "c"}]
    assert len({responses.checksum(part) for part in (rows, rows[::-1], changed)}) == 3
    turned: list[Any] = [dict(reversed(row.items())) for row in rows]
    assert responses.checksum(rows) == responses.checksum(turned)


# ---- what is kept ----


def test_what_is_missing_shrinks_with_each_completion(store: Store) -> None:
    assert store.missing(REQUESTS) == set(KEYS)
    store.add_completions(completed(REQUESTS[:2]))
    assert store.missing(REQUESTS) == set(KEYS[2:])
    with Store(store.path) as again:
        again.add_completions(completed(REQUESTS[2:]))
        assert again.missing(REQUESTS) == set()


def test_rows_are_sorted_and_complete(store: Store) -> None:
    store.set_requests("request", REQUESTS)
    store.add_completions(completed(REQUESTS[:-1]))
    assert store.rows("request") == []
    store.add_completions(completed(REQUESTS[-1:]))
    rows = store.rows("request")
    assert store.rows("another") == []
    assert [(row["doc_id"], row["repeat"]) for row in rows] == [
        (doc_id, repeat) for doc_id in range(3) for repeat in range(2)
    ]
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
def test_a_reference_answer_comes_back_as_it_was(store: Store, gold: Any) -> None:
    requests = [request(0, gold=gold)]
    store.set_requests("request", requests)
    store.add_completions(completed(requests))
    (row,) = store.rows("request")
    assert row["gold"] == gold and type(row["gold"]) is type(gold)


@hypothesis_settings(max_examples=20)
@given(text=st.text())
def test_any_text_comes_back(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    requests = [GenerationRequest(0, 0, text, text, "prompt", {})]
    with Store(tmp_path_factory.mktemp("any") / "store.sqlite") as store:
        store.set_requests("request", requests)
        store.add_completions([(requests[0].key, Completion(text, "stop", 1))])
        (row,) = store.rows("request")
    assert (row["problem"], row["gold"], row["response"]) == (text, text, text)


def test_a_completion_that_exists_stays(store: Store) -> None:
    store.set_requests("request", REQUESTS[:1])
    store.add_completions([(KEYS[0], Completion("first", "stop", 1))])
    store.add_completions([(KEYS[0], Completion("second", "length", 2))])
    assert store.rows("request")[0]["response"] == "first"


def test_requests_of_a_benchmark_are_replaced_and_others_kept(store: Store) -> None:
    store.add_completions(completed(REQUESTS))
    store.set_requests("request", REQUESTS)
    store.set_requests("other", REQUESTS[:2])
    store.set_requests("request", REQUESTS[:2])
    assert store.rows("request") == store.rows("other"), "two benchmarks may share completions"
    assert len(store.rows("request")) == 2


def test_a_batch_that_breaks_is_not_kept_at_all(store: Store) -> None:
    def breaking() -> Iterator[tuple[str, Completion]]:
        yield from completed(REQUESTS[:2])
        raise RuntimeError("the engine died")

    with pytest.raises(RuntimeError, match="the engine died"):
        store.add_completions(breaking())
    assert store.missing(REQUESTS) == set(KEYS)
