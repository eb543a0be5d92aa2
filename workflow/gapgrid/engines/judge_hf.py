"""A judge that runs in the job: any transformers chat model.

Also how a judge's prompts become token ids, for all local engines.
"""

import logging
import re
from pathlib import Path
from typing import Any

import torch
from jinja2 import TemplateError
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

from gapgrid.core.records import InputError, Row, canonical, sha256_text
from gapgrid.engines import hub
from gapgrid.engines.tokens import id_set, load_tokenizer
from gapgrid.judging.backends import Prompt

log = logging.getLogger(__name__)
BATCH_PROMPTS = 16  # prompts per forward pass


class Chats:
    """A judge's tokenizer and chat template, which turn prompts into token ids."""

    def __init__(self, model: str, revision: str | None, max_tokens: int) -> None:
        self.model, self.max_tokens = model, max_tokens
        folder = Path(model).expanduser()
        self.folder = folder if folder.is_dir() else hub.snapshot(model, revision)
        self.tokenizer = load_tokenizer(self.folder)
        self.control = control_tokens(self.tokenizer)
        config = AutoConfig.from_pretrained(self.folder).get_text_config()
        limits = [getattr(config, "max_position_embeddings", None), self.tokenizer.model_max_length]
        self.limit: int = min(length for length in limits if length)

    def without_control(self, prompts: list[Prompt]) -> list[Prompt]:
        """Return the prompts with every control token in their contents split by a blank.

        `<|im_end|>` becomes `< |im_end|>`. The template's own control tokens are added after this,
        so that only those in problems and answers lose their effect.
        """
        return [
            [{**message, "content": self._harmless(message["content"])} for message in prompt]
            for prompt in prompts
        ]

    def _harmless(self, text: str) -> str:
        while self.control and self.control.search(text):
            text = self.control.sub(lambda match: f"{match[0][0]} {match[0][1:]}", text)
        return text

    def ids(self, prompts: list[Prompt]) -> list[list[int]]:
        """Return the token ids of each prompt through the judge's own chat template.

        Raises `InputError` if the template refuses a prompt or one exceeds the judge's context.
        """
        try:
            texts = self.tokenizer.apply_chat_template(
                self.without_control(prompts), tokenize=False, add_generation_prompt=True
            )
        except (TemplateError, ValueError) as error:
            raise InputError(
                f"judge '{self.model}': its chat template does not take the prompt ({error})"
            ) from error
        ids: list[list[int]] = self.tokenizer(texts, add_special_tokens=False)["input_ids"]
        totals = [len(prompt) + self.max_tokens for prompt in ids]
        longest = max(totals, default=0)
        if longest > self.limit:
            n_long = sum(total > self.limit for total in totals)
            raise InputError(
                f"judge '{self.model}': a prompt of {longest - self.max_tokens} tokens "
                f"+ max_tokens {self.max_tokens} = {longest}, its context is {self.limit} tokens "
                f"({n_long} of {len(ids)} prompts are too long)"
            )
        return ids


def control_tokens(tokenizer: Any) -> re.Pattern[str] | None:
    """Return a pattern of what a tokenizer reads as control tokens, or None.

    These are special tokens, and added ones that the chat template writes.
    """
    template = str(tokenizer.chat_template or "")
    added = tokenizer.added_tokens_decoder.values()
    special = {str(token) for token in added if token.special or str(token) in template}
    # Some tokenizers also add line breaks and runs of blanks, which are plain text.
    texts = [text for text in special if len(text.strip()) > 2]
    longest_first = sorted(texts, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first))) if texts else None


class TransformersJudge:
    """Loads the model once; `ask` answers a batch."""

    batch_pairs = 4 * BATCH_PROMPTS

    def __init__(
        self, model: str, revision: str | None, max_tokens: int, sampling: Row, dtype: str
    ) -> None:
        self.chats = Chats(model, revision, max_tokens)
        self.tokenizer = self.chats.tokenizer
        cuda = torch.cuda.is_available()
        options: dict[str, Any] = {"device_map": "auto"} if cuda else {}
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            self.chats.folder, dtype=_dtype(dtype, cuda), **options
        )
        self.model = loaded.eval()
        self.sampling = sampling
        # The model's own file may hold a repetition penalty or a top_k that nobody asked for: only
        # its end tokens are kept.
        self.model.generation_config = self._generation(self.model.generation_config.eos_token_id)

    def _generation(self, ends: int | list[int] | None) -> GenerationConfig:
        own = self.tokenizer
        all_ends = id_set(ends) | id_set(own.eos_token_id)
        # What fills a reply that has ended; without any, generate takes an end token.
        fill = own.eos_token_id if own.pad_token_id is None else own.pad_token_id
        options: dict[str, Any] = {"do_sample": False}
        if self.sampling.get("temperature", 0) > 0:
            options = {
                "do_sample": True,
                "temperature": float(self.sampling["temperature"]),
                "top_k": self.sampling.get("top_k") or 0,
                "top_p": self.sampling.get("top_p") or 1.0,
            }
        return GenerationConfig(
            max_new_tokens=self.chats.max_tokens,
            eos_token_id=sorted(all_ends) or None,
            pad_token_id=fill,
            **options,
        )

    def ask(self, prompts: list[Prompt]) -> list[str]:
        """Return the judge's replies; the same prompts under the same seed get the same ones.

        Raises `InputError` for a prompt longer than the judge's context, before any is generated.
        """
        ids = self.chats.ids(prompts)
        # Prompts of like length share a forward pass, so that little is padding; the longest first,
        # so that memory runs out at once.
        order = sorted(range(len(ids)), key=lambda index: -len(ids[index]))
        replies: dict[int, str] = {}
        for start in range(0, len(order), BATCH_PROMPTS):
            batch = order[start : start + BATCH_PROMPTS]
            replies.update(zip(batch, self._generate([ids[index] for index in batch]), strict=True))
        return [replies[index] for index in range(len(prompts))]

    def _generate(self, ids: list[list[int]]) -> list[str]:
        # On the left, whatever the tokenizer says; the id may be any, as the mask hides it.
        start = max(map(len, ids))
        tokens = [[0] * (start - len(prompt)) + prompt for prompt in ids]
        mask = [[0] * (start - len(prompt)) + [1] * len(prompt) for prompt in ids]
        if self.model.generation_config.do_sample:
            # Seeded by the prompts: a run that resumes after a kill draws what a whole one would.
            seed = sha256_text(canonical([self.sampling.get("seed", 0), ids]))
            torch.manual_seed(int(seed[:8], 16))
        with torch.inference_mode():
            out = self.model.generate(
                input_ids=torch.tensor(tokens, device=self.model.device),
                attention_mask=torch.tensor(mask, device=self.model.device),
            )
        return self.tokenizer.batch_decode(out[:, start:], skip_special_tokens=True)


def _dtype(name: str, cuda: bool) -> str:
    """Return the dtype to load weights in.

    On a CPU `auto` is float32: most weights are stored in a half precision that is slow there.
    """
    if name == "auto":
        return "auto" if cuda else "float32"
    if name == "float16" and not cuda:
        log.warning("judge: float16 is not for CPUs, using float32")
        return "float32"
    return name
