"""A judge that runs in the job: any transformers chat model. Also how a judge's prompts become text, for all local engines."""

import logging
import re
from pathlib import Path
from typing import Any

import torch
from jinja2 import TemplateError
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

from gapgrid.engines import hub
from gapgrid.engines.tokens import load_tokenizer
from gapgrid.judging import Prompt
from gapgrid.records import InputError, canonical, sha256_text

log = logging.getLogger(__name__)
AT_ONCE = 16  # prompts per forward pass


class Chats:
    """A judge's tokenizer and chat template: prompts in, token ids out, or an `InputError` before anything is generated."""

    def __init__(self, model: str, revision: str | None, max_tokens: int) -> None:
        self.model, self.max_tokens = model, max_tokens
        self.folder = Path(model) if Path(model).is_dir() else hub.snapshot(model, revision)
        self.tokenizer = load_tokenizer(self.folder)
        self.control = _control_tokens(self.tokenizer)
        config = AutoConfig.from_pretrained(self.folder).get_text_config()
        takes = [getattr(config, "max_position_embeddings", None), self.tokenizer.model_max_length]
        self.limit: int = min(length for length in takes if length)

    def as_data(self, prompts: list[Prompt]) -> list[Prompt]:
        """The prompts with every control token in their contents taken apart: `<|im_end|>` becomes `< |im_end|>`.

        The template's own control tokens come after this, so only what was asked to be said loses its power.
        """
        return [[{**message, "content": self._harmless(message["content"])} for message in prompt] for prompt in prompts]

    def _harmless(self, text: str) -> str:
        while self.control and (apart := self.control.sub(lambda found: f"{found[0][0]} {found[0][1:]}", text)) != text:
            text = apart
        return text

    def ids(self, prompts: list[Prompt]) -> list[list[int]]:
        """Token ids of each prompt through the judge's own chat template, checked against the judge's context."""
        try:
            texts = self.tokenizer.apply_chat_template(self.as_data(prompts), tokenize=False, add_generation_prompt=True)
        except (TemplateError, ValueError) as error:
            raise InputError(f"judge '{self.model}': its chat template does not take the prompt ({error})") from error
        found: list[list[int]] = self.tokenizer(texts, add_special_tokens=False)["input_ids"]
        longest = max(map(len, found), default=0)
        if longest + self.max_tokens > self.limit:
            n_long = sum(len(ids) + self.max_tokens > self.limit for ids in found)
            raise InputError(
                f"judge '{self.model}': a prompt of {longest} tokens + max_tokens {self.max_tokens} = {longest + self.max_tokens}, "
                f"its context is {self.limit} tokens ({n_long} of {len(found)} prompts are too long)"
            )
        return found


def _control_tokens(tokenizer: Any) -> re.Pattern[str] | None:
    """What a tokenizer reads as control tokens: special ones, and added ones that the chat template writes."""
    template = str(tokenizer.chat_template or "")
    added = tokenizer.added_tokens_decoder.values()
    # Some tokenizers also add line breaks and runs of blanks, which are plain text.
    texts = {str(token) for token in added if (token.special or str(token) in template) and len(str(token).strip()) > 2}
    return re.compile("|".join(map(re.escape, sorted(texts, key=len, reverse=True)))) if texts else None


class TransformersJudge:
    """Loads the model once; `ask` answers a batch."""

    batch_pairs = 4 * AT_ONCE

    def __init__(self, model: str, revision: str | None, max_tokens: int, sampling: dict[str, Any], dtype: str) -> None:
        self.chats = Chats(model, revision, max_tokens)
        self.tokenizer = self.chats.tokenizer
        self.tokenizer.padding_side = "left"
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        cuda = torch.cuda.is_available()
        options: dict[str, Any] = {"device_map": "auto"} if cuda else {}
        loaded: Any = AutoModelForCausalLM.from_pretrained(self.chats.folder, dtype=_dtype(dtype, cuda), **options)
        self.model = loaded.eval()
        self.sampling = sampling
        # The model's own file may hold a repetition penalty or a top_k that nobody asked for: only its end tokens are kept.
        self.model.generation_config = self._generation(self.model.generation_config.eos_token_id)

    def _generation(self, ends: int | list[int] | None) -> GenerationConfig:
        own = ends if isinstance(ends, list) else [ends]
        options: dict[str, Any] = {
            "max_new_tokens": self.chats.max_tokens,
            "eos_token_id": sorted({end for end in (*own, self.tokenizer.eos_token_id) if end is not None}) or None,
            "pad_token_id": self.tokenizer.pad_token_id,
            "do_sample": self.sampling.get("temperature", 0) > 0,
        }
        if options["do_sample"]:
            options["temperature"] = float(self.sampling["temperature"])
            options["top_k"] = self.sampling.get("top_k") or 0
            options["top_p"] = self.sampling.get("top_p") or 1.0
        return GenerationConfig(**options)

    def ask(self, prompts: list[Prompt]) -> list[str]:
        """The judge's replies, greedy or sampled; the same prompts under the same seed get the same replies.

        Raises `InputError` for a prompt longer than the judge's context, before anything is generated.
        """
        ids = self.chats.ids(prompts)
        # Neighbours in length share a pass, so that little is padding; the longest first, so that memory runs out at once.
        order = sorted(range(len(ids)), key=lambda place: -len(ids[place]))
        replies: dict[int, str] = {}
        for start in range(0, len(order), AT_ONCE):
            places = order[start : start + AT_ONCE]
            replies.update(zip(places, self._generate([ids[place] for place in places]), strict=True))
        return [replies[place] for place in range(len(prompts))]

    def _generate(self, ids: list[list[int]]) -> list[str]:
        batch = self.tokenizer.pad({"input_ids": ids}, return_tensors="pt").to(self.model.device)
        if self.model.generation_config.do_sample:
            # Seeded by what is asked: a run that goes on after a kill draws what an undisturbed one would.
            torch.manual_seed(int(sha256_text(canonical([self.sampling.get("seed", 0), ids]))[:8], 16))
        with torch.inference_mode():
            out = self.model.generate(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
        return self.tokenizer.batch_decode(out[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)


def _dtype(name: str, cuda: bool) -> str:
    """What to load weights as. On a CPU `auto` is float32: most weights are stored in a half precision that is slow there."""
    if name == "auto":
        return "auto" if cuda else "float32"
    if name == "float16" and not cuda:
        log.warning("judge: float16 is not for CPUs, using float32")
        return "float32"
    return name
