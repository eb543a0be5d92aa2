"""Ranks of answers under a model that did not write them: what it would have put first, given the same prompt and answer so far.

The prompt is rendered and tokenised by the evaluator's own code. An answer is kept as text, so its token ids are had by
tokenising it again; where that gives another number of tokens than were generated it is not the answer that was given,
and it is left out. Ranks need no generation: one pass over prompt and answer gives the distribution before each token.
"""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lm_eval.models.huggingface import HFLM
from torch.nn import functional
from transformers import AutoModelForCausalLM

from gapgrid.engines.harness import LMEval
from gapgrid.engines.tokens import load_tokenizer
from gapgrid.records import InputError, Row, sha256_text

log = logging.getLogger(__name__)
PASS_TOKENS = 16_384  # padded tokens in one pass; a longer sequence goes alone
LOGITS_BYTES = 512 * 2**20  # of next-token distributions held at once; never [batch, time, vocabulary]


class Ranked(NamedTuple):
    """One answer: its token ids, None where they could not be had back, and the rank of each (1: the first choice)."""

    ids: list[int] | None
    ranks: list[int]


class Ranker(LMEval):
    """A causal language model that ranks answers; over all cards in sight, or on the CPU in float32."""

    def __init__(self, folder: Path, asked_by: str) -> None:
        cuda = torch.cuda.is_available()
        spread = "auto" if torch.cuda.device_count() > 1 else ("cuda" if cuda else "cpu")
        dtype = torch.bfloat16 if cuda else torch.float32
        self.tokenizer = load_tokenizer(folder)
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, device_map=spread).eval()
        harness = HFLM(pretrained=self.model, tokenizer=self.tokenizer, batch_size=1)
        self.apply_chat_template, self.max_length = harness.apply_chat_template, harness.max_length
        self.tok_batch_encode, self.asked_by = harness.tok_batch_encode, asked_by

    def prompt_ids(self, prompts: list[str]) -> list[list[int]]:
        """Token ids of rendered prompts as the engine that asked has fed them to the student."""
        if self.asked_by == "hf":
            return [self.tok_batch_encode([prompt])[0][0].tolist() for prompt in prompts]
        return self.tokenizer(prompts, add_special_tokens=False)["input_ids"]

    def rank(self, task: Path, problems: list[Row], request: Row, samples: list[Row]) -> Iterator[Ranked]:
        """Rank the answers in `samples` (rows of samples.jsonl), in their order.

        The token that ended an answer is not kept with it, so it is not ranked. Raises `InputError` where this model's
        template renders another prompt than was asked.
        """
        asked = {question.doc_id: question.prompt for question in self.questions(task, problems, request)}
        for sample in samples:
            if sha256_text(asked[sample["doc_id"]]) != sample["prompt_sha"]:
                raise InputError(
                    f"problem {sample['doc_id']}: the untouched student's chat template renders another prompt than the trained student "
                    "was asked; make the two templates (tokenizer_config.json, chat_template.jinja) the same"
                )
        prompts = self.prompt_ids([asked[sample["doc_id"]] for sample in samples])
        answers = [self.answer_ids(sample) for sample in samples]
        ranks = iter(self.ranks([(prompt, ids) for prompt, ids in zip(prompts, answers, strict=True) if ids is not None]))
        yield from (Ranked(None, []) if ids is None else Ranked(ids, next(ranks)) for ids in answers)

    def answer_ids(self, sample: Row) -> list[int] | None:
        """The token ids of an answer, without the one that ended it; None if there are not as many as were generated."""
        ids: list[int] = self.tokenizer(sample["response"], add_special_tokens=False)["input_ids"]
        return ids if len(ids) == sample["n_tokens"] - (sample["finish"] == "stop") else None

    def text(self, token: int) -> str:
        """What a token type is called: its text, or its name in the vocabulary where it is a part of a character."""
        text = str(self.tokenizer.decode([token]))
        return self.tokenizer.convert_ids_to_tokens([token])[0] if "\ufffd" in text or not text else text

    def ranks(self, pairs: list[tuple[list[int], list[int]]]) -> list[list[int]]:
        """Rank of each answer token after its prompt and the tokens before it: one more than how many have a greater logit."""
        found: list[list[int]] = [[] for _ in pairs]
        for batch in batches([len(prompt) + len(answer) for prompt, answer in pairs], PASS_TOKENS):
            for index, ranks in zip(batch, self._pass([pairs[index] for index in batch]), strict=True):
                found[index] = ranks
            log.info("%d of %d answers ranked", sum(map(bool, found)), len(found))
        return found

    @torch.inference_mode()
    def _pass(self, pairs: list[tuple[list[int], list[int]]]) -> list[list[int]]:
        # Right padding without a mask: under causal attention no real token sees a padded one.
        width = max(len(prompt) + len(answer) for prompt, answer in pairs)
        tokens = torch.zeros((len(pairs), width), dtype=torch.long)
        for row, (prompt, answer) in enumerate(pairs):
            tokens[row, : len(prompt) + len(answer)] = torch.tensor([*prompt, *answer])
        hidden = self.model.base_model(input_ids=tokens.to(self.model.device), use_cache=False).last_hidden_state
        before = [hidden[row, len(prompt) - 1 : len(prompt) - 1 + len(answer)] for row, (prompt, answer) in enumerate(pairs)]
        ranks = self._ranks_of(torch.cat(before), torch.tensor([token for _, answer in pairs for token in answer]))
        return [part.tolist() for part in ranks.split([len(answer) for _, answer in pairs])]

    def _ranks_of(self, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Ranks of `targets` [n] under the distributions that follow `hidden` [n, width], so many at a time as fit the budget.

        Logits are float32: in bfloat16 hundreds of tokens of a large vocabulary have the same one.
        """
        head = self._head()
        rows = max(1, LOGITS_BYTES // (4 * head[0].shape[0]))
        ranks = []
        for part, target in zip(hidden.split(rows), targets.split(rows), strict=True):
            logits = functional.linear(part.to(head[0].device, torch.float32), *head)
            own = logits.gather(1, target.to(logits.device).unsqueeze(1))
            if not torch.isfinite(own).all():
                raise InputError("the untouched student gives a token of the answers no finite logit; its weights are broken")
            ranks.append(1 + (logits > own).sum(1).cpu())
        return torch.cat(ranks) if ranks else torch.empty(0, dtype=torch.long)

    def _head(self) -> tuple[torch.Tensor, Any]:
        """Weight and bias of the layer that gives logits. What some models do after it (caps, scales) leaves ranks as they are."""
        if not hasattr(self, "_kept"):
            layer = self.model.get_output_embeddings()
            bias = getattr(layer, "bias", None)
            self._kept = (layer.weight.float(), None if bias is None else bias.float())
        return self._kept


def batches(lengths: list[int], most: int) -> list[list[int]]:
    """Places of sequences in batches of at most `most` padded tokens, the longest first; a longer sequence is alone."""
    out: list[list[int]] = []
    for place in sorted(range(len(lengths)), key=lambda place: (-lengths[place], place)):
        if not out or lengths[out[-1][0]] * (len(out[-1]) + 1) > most:
            out.append([])
        out[-1].append(place)
    return out
