"""Ranks of answers: against brute force, whatever the batch, and only of tokens that are the answer's own."""

import random
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from gapgrid.demo import arithmetic
from gapgrid.engines import harness, shift
from gapgrid.records import InputError, Row, sha256_text

TASK = Path(__file__).parents[2] / "config/demo/tasks/story.yaml"
REQUEST = {"max_tokens": 12}
Pairs = list[tuple[list[int], list[int]]]


@pytest.fixture(scope="module")
def ranker(student: Path) -> shift.Ranker:
    return shift.Ranker(student, "hf")


@pytest.fixture(scope="module")
def problems() -> list[Row]:
    return [{**row, "gold": row["answer"], "doc_id": index} for index, row in enumerate(arithmetic.benchmark(10, 2, 5))]


@pytest.fixture(scope="module")
def pairs(ranker: shift.Ranker) -> Pairs:
    """Prompts and answers of unequal lengths, one answer without a token among them."""
    draw, top = random.Random(3), len(ranker.tokenizer)
    lengths = [(3, 7), (12, 1), (5, 0), (1, 20), (9, 9), (2, 30)]
    return [([draw.randrange(top) for _ in range(n)], [draw.randrange(top) for _ in range(m)]) for n, m in lengths]


def brute_force(ranker: shift.Ranker, prompt: list[int], answer: list[int]) -> list[int]:
    """Each rank from a pass of its own over all that stands before the token, by sorting."""
    found = []
    for place, token in enumerate(answer):
        with torch.inference_mode():
            logits = ranker.model(torch.tensor([[*prompt, *answer[:place]]])).logits[0, -1]
        found.append(1 + logits.argsort(descending=True).tolist().index(token))
    return found


def answered(student: Path, problems: list[Row]) -> list[Row]:
    """Rows of samples.jsonl: the student's own greedy answers."""
    engine = harness.Harness(student)
    asked = engine.questions(TASK, problems, REQUEST)
    return [
        {"doc_id": question.doc_id, "prompt_sha": sha256_text(question.prompt), **answer._asdict()}
        for question, answer in zip(asked, engine.answer(asked), strict=True)
    ]


def test_ranks_are_those_of_brute_force(ranker: shift.Ranker, pairs: Pairs) -> None:
    found = ranker.ranks(pairs)
    assert found == [brute_force(ranker, *pair) for pair in pairs]
    assert len({rank for ranks in found for rank in ranks}) > 20  # not all the same, so that an error would show


@pytest.mark.parametrize("most", [1, 40, 10_000])
def test_neighbours_padding_and_chunks_change_no_rank(
    ranker: shift.Ranker, pairs: Pairs, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    expected = [ranker.ranks([pair])[0] for pair in pairs]
    monkeypatch.setattr(shift, "PASS_TOKENS", most)
    monkeypatch.setattr(shift, "LOGITS_BYTES", 4 * len(ranker.tokenizer) * 3)
    assert ranker.ranks(pairs) == expected
    assert ranker.ranks(pairs[::-1]) == expected[::-1]


def test_no_more_distributions_at_once_than_the_budget_allows(ranker: shift.Ranker, pairs: Pairs, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    linear = functional.linear

    def watched(hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        out = linear(hidden, weight, bias)
        if weight.shape[0] == len(ranker.tokenizer):
            seen.append(4 * out.numel())
        return out

    monkeypatch.setattr(shift.functional, "linear", watched)
    monkeypatch.setattr(shift, "LOGITS_BYTES", 4 * len(ranker.tokenizer) * 5)
    ranker.ranks(pairs)
    assert seen and max(seen) == 4 * len(ranker.tokenizer) * 5
    assert sum(seen) == 4 * len(ranker.tokenizer) * sum(len(answer) for _, answer in pairs)  # nowhere but of answer tokens


def test_a_student_is_its_own_first_choice(ranker: shift.Ranker, student: Path, problems: list[Row]) -> None:
    samples = answered(student, problems)
    ranked = list(ranker.rank(TASK, problems, REQUEST, samples))
    there = [one for one in ranked if one.ids]
    assert there and all(rank == 1 for one in there for rank in one.ranks)
    assert [len(one.ids) for one in ranked if one.ids is not None] == [len(one.ranks) for one in ranked if one.ids is not None]


def test_an_answer_that_gives_back_other_tokens_has_no_ranks(ranker: shift.Ranker, problems: list[Row]) -> None:
    asked = ranker.questions(TASK, problems, REQUEST)
    sha = [sha256_text(question.prompt) for question in asked]
    answer = {"response": "mon + 2", "n_tokens": 4, "finish": "stop"}
    samples = [
        {**answer, "doc_id": 0, "prompt_sha": sha[0]},
        {**answer, "doc_id": 1, "prompt_sha": sha[1], "n_tokens": 5},  # a token that the text does not show
        {**answer, "doc_id": 2, "prompt_sha": sha[2], "finish": "length"},  # no token ended it, so there were four
        {**answer, "doc_id": 3, "prompt_sha": sha[3], "finish": "length", "n_tokens": 3},
    ]
    ranked = list(ranker.rank(TASK, problems, REQUEST, samples))
    assert [one.ids is None for one in ranked] == [False, True, True, False]
    assert [len(one.ranks) for one in ranked] == [3, 0, 0, 3]
    assert [ranker.text(token) for token in ranked[0].ids or ()] == ["mon", "+", "2"]


def test_another_prompt_than_was_asked_is_an_error(ranker: shift.Ranker, problems: list[Row]) -> None:
    sample = {"doc_id": 0, "prompt_sha": sha256_text("other"), "response": "mon", "n_tokens": 2, "finish": "stop"}
    with pytest.raises(InputError, match="problem 0: the untouched student's chat template renders another prompt"):
        list(ranker.rank(TASK, problems, REQUEST, [sample]))


@pytest.mark.parametrize("asked_by", ["hf", "vllm"])
def test_prompts_are_tokenised_as_by_the_engine_that_asked(student: Path, asked_by: str) -> None:
    # A tokenizer that puts a token before any text: lm-eval feeds it, vLLM is fed ids of the template alone.
    from tokenizers.processors import TemplateProcessing

    ranker = shift.Ranker(student, asked_by)
    start = ranker.tokenizer.convert_tokens_to_ids("<|endoftext|>")
    ranker.tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", start)]
    )
    (ids,) = ranker.prompt_ids(["<|user|> mon <|assistant|>"])
    assert (ids[0] == start) is (asked_by == "hf")
    assert start not in (ranker.answer_ids({"response": "mon", "n_tokens": 2, "finish": "stop"}) or [start])


def test_equal_logits_count_for_none(ranker: shift.Ranker, monkeypatch: pytest.MonkeyPatch) -> None:
    weight, bias = torch.eye(4), torch.tensor([0.0, 1.0, 1.0, 5.0])
    monkeypatch.setattr(ranker, "_kept", (weight, bias), raising=False)
    hidden = torch.zeros(4, 4)
    assert ranker._ranks_of(hidden, torch.tensor([0, 1, 2, 3])).tolist() == [4, 2, 2, 1]


def test_broken_weights_are_an_error_and_no_rank(ranker: shift.Ranker, monkeypatch: pytest.MonkeyPatch) -> None:
    weight, _ = ranker._head()
    monkeypatch.setattr(ranker, "_kept", (weight * float("nan"), None), raising=False)
    with pytest.raises(InputError, match="no finite logit"):
        ranker.ranks([([1], [2])])


def test_batches_hold_each_sequence_once_within_the_budget() -> None:
    lengths = [5, 50, 3, 20, 20, 1]
    found = shift.batches(lengths, 40)
    assert sorted(place for batch in found for place in batch) == list(range(6))
    assert found[0] == [1]  # longer than the budget: alone
    assert all(len(batch) == 1 or max(lengths[place] for place in batch) * len(batch) <= 40 for batch in found)
    assert len(found) == 3
    assert shift.batches([], 40) == []


def test_parts_of_characters_go_by_their_name(ranker: shift.Ranker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranker.tokenizer, "decode", lambda ids: "\ufffd")
    token = ranker.tokenizer.convert_tokens_to_ids("mon")
    assert ranker.text(token) == "mon"
