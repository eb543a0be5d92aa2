"""Ranks: against brute force, whatever the batch, and only of tokens that are the response's."""

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from gapgrid.core.records import InputError, sha256_text
from gapgrid.engines import harness, shift
from tests.engines.helpers import TASK

REQUEST: Any = {"max_tokens": 12}
Pairs = list[tuple[list[int], list[int]]]


@pytest.fixture(scope="module")
def ranker(student: Path) -> shift.Ranker:
    return shift.Ranker(student, "hf")


@pytest.fixture(scope="module")
def pairs(ranker: shift.Ranker) -> Pairs:
    """Prompts and responses of unequal lengths, one response without a token among them."""
    draw, top = random.Random(3), len(ranker.tokenizer)
    lengths = [(3, 7), (12, 1), (5, 0), (1, 20), (9, 9), (2, 30)]
    return [
        ([draw.randrange(top) for _ in range(n)], [draw.randrange(top) for _ in range(m)])
        for n, m in lengths
    ]


@torch.inference_mode()
def brute_force(ranker: shift.Ranker, prompt: list[int], response: list[int]) -> list[int]:
    """Return each rank from a forward pass of its own over the tokens before it, by sorting."""
    ranks = []
    for index, token in enumerate(response):
        logits = ranker.model(torch.tensor([[*prompt, *response[:index]]])).logits[0, -1]
        ranks.append(1 + logits.argsort(descending=True).tolist().index(token))
    return ranks


def test_ranks_are_those_of_brute_force(ranker: shift.Ranker, pairs: Pairs) -> None:
    ranks = ranker.ranks(pairs)
    assert ranks == [brute_force(ranker, *pair) for pair in pairs]
    # Not all the same, so that an error would show.
    assert len({rank for row in ranks for rank in row}) > 20


@pytest.mark.parametrize("max_tokens", [1, 40, 10_000])
def test_batches_and_chunks_change_no_rank(
    ranker: shift.Ranker, pairs: Pairs, monkeypatch: pytest.MonkeyPatch, max_tokens: int
) -> None:
    expected = [ranker.ranks([pair])[0] for pair in pairs]
    monkeypatch.setattr(shift, "BATCH_TOKENS", max_tokens)
    monkeypatch.setattr(shift, "LOGITS_BYTES", 4 * len(ranker.tokenizer) * 3)
    assert ranker.ranks(pairs) == expected
    assert ranker.ranks(pairs[::-1]) == expected[::-1]


def test_no_more_distributions_at_once_than_the_budget_allows(
    ranker: shift.Ranker, pairs: Pairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    linear, n_types = functional.linear, len(ranker.tokenizer)

    def measured(hidden: Any, weight: torch.Tensor, bias: Any = None) -> torch.Tensor:
        out = linear(hidden, weight, bias)
        if weight.shape[0] == n_types:
            sizes.append(out.numel() // n_types)
        return out

    monkeypatch.setattr(shift.functional, "linear", measured)
    monkeypatch.setattr(shift, "LOGITS_BYTES", 4 * n_types * 5)
    ranker.ranks(pairs)
    assert max(sizes) == 5
    assert sum(sizes) == sum(len(response) for _, response in pairs)  # of no other token


def test_a_student_is_its_own_first_choice(
    ranker: shift.Ranker, student: Path, problems: list[Any]
) -> None:
    engine = harness.Harness(student)
    requests = engine.build_requests(TASK, problems, REQUEST)
    samples: Any = [
        {"doc_id": row.doc_id, "prompt_sha": sha256_text(row.prompt), **completion._asdict()}
        for row, completion in zip(requests, engine.generate(requests), strict=True)
    ]
    ranked = [row for row in ranker.rank(TASK, problems, REQUEST, samples) if row.ids]
    assert ranked
    assert all(row.ranks == [1] * len(row.ids or ()) for row in ranked)


def test_a_response_that_gives_back_other_tokens_has_no_ranks(
    ranker: shift.Ranker, problems: list[Any]
) -> None:
    requests = ranker.build_requests(TASK, problems, REQUEST)
    endings = [
        (4, "stop"),
        (5, "stop"),  # a token that the text does not show
        (4, "length"),  # no token ended it, so it had four
        (3, "length"),
    ]
    samples: Any = [
        {
            "doc_id": request.doc_id,
            "prompt_sha": sha256_text(request.prompt),
            "response": "mon + 2",
            "n_tokens": n_tokens,
            "finish": finish,
        }
        for request, (n_tokens, finish) in zip(requests, endings, strict=False)
    ]
    ranked = list(ranker.rank(TASK, problems, REQUEST, samples))
    assert [row.ids is None for row in ranked] == [False, True, True, False]
    assert [len(row.ranks) for row in ranked] == [3, 0, 0, 3]
    assert [ranker.text(token) for token in ranked[0].ids or ()] == ["mon", "+", "2"]


def test_another_prompt_than_the_students_is_an_error(
    ranker: shift.Ranker, problems: list[Any]
) -> None:
    samples: Any = [{"doc_id": 0, "prompt_sha": sha256_text("other")}]
    message = "problem 0: the untouched student's chat template renders another prompt"
    with pytest.raises(InputError, match=message):
        list(ranker.rank(TASK, problems, REQUEST, samples))


@pytest.mark.parametrize("asked_by", ["hf", "vllm"])
def test_prompts_are_tokenised_as_by_the_engine_that_generated(
    student: Path, asked_by: str
) -> None:
    """lm-eval feeds what a tokenizer adds to any text, vLLM gets the ids of the template alone."""
    from tokenizers.processors import TemplateProcessing

    ranker = shift.Ranker(student, asked_by)
    start = ranker.tokenizer.convert_tokens_to_ids("<|endoftext|>")
    ranker.tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", start)]
    )
    (ids,) = ranker.prompt_ids(["<|user|> mon <|assistant|>"])
    assert (ids[0] == start) is (asked_by == "hf")
    sample: Any = {"response": "mon", "n_tokens": 2, "finish": "stop"}
    assert start not in (ranker.response_ids(sample) or [start])


def test_equal_logits_count_for_none(ranker: shift.Ranker, monkeypatch: pytest.MonkeyPatch) -> None:
    head = (torch.eye(4), torch.tensor([0.0, 1.0, 1.0, 5.0]))
    monkeypatch.setattr(ranker, "_head", head)
    ranks = ranker._ranks_of(torch.zeros(4, 4), torch.tensor([0, 1, 2, 3]))
    assert ranks.tolist() == [4, 2, 2, 1]


def test_broken_weights_are_an_error_and_no_rank(
    ranker: shift.Ranker, monkeypatch: pytest.MonkeyPatch
) -> None:
    weight, _ = ranker._head
    monkeypatch.setattr(ranker, "_head", (weight * float("nan"), None))
    with pytest.raises(InputError, match="no finite logit"):
        ranker.ranks([([1], [2])])


def test_batches_hold_each_sequence_once_within_the_budget() -> None:
    lengths = [5, 50, 3, 20, 20, 1]
    batches = shift.batches(lengths, 40)
    assert sorted(index for batch in batches for index in batch) == list(range(6))
    assert batches[0] == [1]  # longer than the budget: alone
    sizes = [max(lengths[index] for index in batch) * len(batch) for batch in batches]
    assert len(sizes) == 3 and all(size <= 40 for size in sizes[1:])
    assert shift.batches([], 40) == []


def test_parts_of_characters_go_by_their_name(
    ranker: shift.Ranker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranker.tokenizer, "decode", lambda ids: "\ufffd")
    token = ranker.tokenizer.convert_tokens_to_ids("mon")
    assert ranker.text(token) == "mon"
