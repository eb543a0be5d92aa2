"""Ranks of a response's tokens under a model that did not write it.

The prompt is rendered and tokenised by the evaluator's own code. A response is stored as text, so
its token ids come from tokenising it again; where that gives another number of tokens than were
generated it is not the same response, and it is left out. Ranks need no generation: one forward
pass over prompt and response gives the distribution before each token.
"""

import functools
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from lm_eval.models.huggingface import HFLM
from torch.nn import functional
from transformers import AutoModelForCausalLM

from gapgrid.core.records import InputError, sha256_text
from gapgrid.core.rows import ProblemRow, SampleRow
from gapgrid.core.spec_types import RequestSpec
from gapgrid.engines.harness import LMEval
from gapgrid.engines.tokens import load_tokenizer

log = logging.getLogger(__name__)
BATCH_TOKENS = 16_384  # padded tokens in one forward pass; a longer sequence goes alone
# Of next-token distributions held at once, which are never [batch, time, vocabulary].
LOGITS_BYTES = 512 * 2**20


class Ranked(NamedTuple):
    """A response's token ids (None if they could not be restored) and each one's rank.

    Rank 1 is the model's first choice.
    """

    ids: list[int] | None
    ranks: list[int]


class Ranker(LMEval):
    """A causal language model that ranks responses, over all visible GPUs or on the CPU in fp32."""

    def __init__(self, folder: Path, asked_by: str) -> None:
        cuda = torch.cuda.is_available()
        device_map = "auto" if torch.cuda.device_count() > 1 else ("cuda" if cuda else "cpu")
        dtype = torch.bfloat16 if cuda else torch.float32
        self.tokenizer = load_tokenizer(folder)
        self.model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, device_map=device_map
        ).eval()
        harness = HFLM(pretrained=self.model, tokenizer=self.tokenizer, batch_size=1)
        self.apply_chat_template, self.max_length = harness.apply_chat_template, harness.max_length
        self.tok_batch_encode, self.asked_by = harness.tok_batch_encode, asked_by

    def prompt_ids(self, prompts: list[str]) -> list[list[int]]:
        """Return the ids of prompts as the engine that generated fed them to the student."""
        if self.asked_by == "hf":
            return [self.tok_batch_encode([prompt])[0][0].tolist() for prompt in prompts]
        return super().prompt_ids(prompts)

    def rank(
        self, task: Path, problems: list[ProblemRow], request: RequestSpec, samples: list[SampleRow]
    ) -> Iterator[Ranked]:
        """Yield the ranks of the responses in `samples`, in their order.

        The token that ended a response is not stored with it, so it is not ranked. Raises
        `InputError` where this model's template renders another prompt than the student got.
        """
        requests = self.build_requests(task, problems, request)
        rendered = {request.doc_id: request.prompt for request in requests}
        for sample in samples:
            if sha256_text(rendered[sample["doc_id"]]) != sample["prompt_sha"]:
                raise InputError(
                    f"problem {sample['doc_id']}: the untouched student's chat template renders "
                    "another prompt than the trained student got; make the two templates "
                    "(tokenizer_config.json, chat_template.jinja) the same"
                )
        prompts = self.prompt_ids([rendered[sample["doc_id"]] for sample in samples])
        responses = [self.response_ids(sample) for sample in samples]
        pairs = zip(prompts, responses, strict=True)
        ranks = iter(self.ranks([(prompt, ids) for prompt, ids in pairs if ids is not None]))
        for ids in responses:
            yield Ranked(None, []) if ids is None else Ranked(ids, next(ranks))

    def response_ids(self, sample: SampleRow) -> list[int] | None:
        """Return a response's token ids without the one that ended it.

        None if there are not as many as were generated.
        """
        ids: list[int] = self.tokenizer(sample["response"], add_special_tokens=False)["input_ids"]
        return ids if len(ids) == sample["n_tokens"] - (sample["finish"] == "stop") else None

    def text(self, token: int) -> str:
        """Return a token's text, or its name in the vocabulary if it is part of a character."""
        text = str(self.tokenizer.decode([token]))
        if "\ufffd" in text or not text:
            return self.tokenizer.convert_ids_to_tokens([token])[0]
        return text

    def ranks(self, pairs: list[tuple[list[int], list[int]]]) -> list[list[int]]:
        """Return, for each prompt and response, the rank of every token of the response.

        A rank is one more than the number of tokens with a greater logit at that position.
        """
        out: list[list[int]] = [[] for _ in pairs]
        lengths = [len(prompt) + len(response) for prompt, response in pairs]
        for batch in batches(lengths, BATCH_TOKENS):
            ranks = self._rank_batch([pairs[index] for index in batch])
            for index, row in zip(batch, ranks, strict=True):
                out[index] = row
            log.info("%d of %d responses ranked", sum(map(bool, out)), len(out))
        return out

    @torch.inference_mode()
    def _rank_batch(self, pairs: list[tuple[list[int], list[int]]]) -> list[list[int]]:
        # Right padding without a mask: under causal attention padding is not seen.
        width = max(len(prompt) + len(response) for prompt, response in pairs)
        tokens = torch.zeros((len(pairs), width), dtype=torch.long)
        for row, (prompt, response) in enumerate(pairs):
            tokens[row, : len(prompt) + len(response)] = torch.tensor([*prompt, *response])
        hidden = self.model.base_model(
            input_ids=tokens.to(self.model.device), use_cache=False
        ).last_hidden_state
        before = [  # the states from which each token of the response is predicted
            hidden[row, len(prompt) - 1 : len(prompt) - 1 + len(response)]
            for row, (prompt, response) in enumerate(pairs)
        ]
        targets = torch.tensor([token for _, response in pairs for token in response])
        ranks = self._ranks_of(torch.cat(before), targets)
        return [part.tolist() for part in ranks.split([len(response) for _, response in pairs])]

    def _ranks_of(self, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the ranks of `targets` [n] under the distributions after `hidden` [n, width].

        As many are computed at a time as LOGITS_BYTES allows. Logits are float32: in bfloat16
        hundreds of tokens of a large vocabulary have the same one.
        """
        weight, bias = self._head
        rows = max(1, LOGITS_BYTES // (4 * weight.shape[0]))
        ranks = []
        for part, target in zip(hidden.split(rows), targets.split(rows), strict=True):
            logits = functional.linear(part.to(weight.device, torch.float32), weight, bias)
            own = logits.gather(1, target.to(logits.device).unsqueeze(1))
            if not torch.isfinite(own).all():
                raise InputError(
                    "the untouched student gives a token of the responses no finite logit; "
                    "its weights are broken"
                )
            ranks.append(1 + (logits > own).sum(1).cpu())
        return torch.cat(ranks) if ranks else torch.empty(0, dtype=torch.long)

    @functools.cached_property
    def _head(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Weight and bias of the output layer.

        What some models do after it (caps, scales) leaves ranks as they are.
        """
        layer = self.model.get_output_embeddings()
        bias = getattr(layer, "bias", None)
        return layer.weight.float(), None if bias is None else bias.float()


def batches(lengths: list[int], max_tokens: int) -> list[list[int]]:
    """Return indices of sequences in batches of at most `max_tokens` padded tokens.

    The longest come first; a sequence that is longer than that is alone.
    """
    out: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        if not out or lengths[out[-1][0]] * (len(out[-1]) + 1) > max_tokens:
            out.append([])
        out[-1].append(index)
    return out
