"""A judge that runs in the job under vLLM, for large judges on GPUs: continuous batching, prefix caching, tensor parallelism."""

import logging
import os
from typing import Any

from gapgrid.engines.judge_hf import Chats
from gapgrid.judging import Prompt
from gapgrid.records import InputError

log = logging.getLogger(__name__)
USUAL_TOKENS = 8192  # room that nearly all pairs fit in; a judge's full context can need more memory than there is
STEP = 1024


class VLLMJudge:
    """Loads the model at the first `ask`, when the length of prompts is known."""

    batch_pairs = 512

    def __init__(
        self, model: str, revision: str | None, max_tokens: int, sampling: dict[str, Any], dtype: str, tensor_parallel: int
    ) -> None:
        # In this process, so that nothing of it outlives a killed job.
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        try:
            import vllm
        except ImportError as error:
            raise InputError(f"judge: backend vllm needs vllm ({error}); run it in the gpu environment, or use openai or hf") from error
        self.vllm: Any = vllm
        self.chats = Chats(model, revision, max_tokens)
        self.settings = {
            "model": str(self.chats.folder),
            "dtype": dtype,
            "tensor_parallel_size": tensor_parallel,
            "enable_prefix_caching": True,
            "seed": sampling.get("seed") or 0,
        }
        self.sampling = vllm.SamplingParams(
            max_tokens=max_tokens,
            temperature=float(sampling.get("temperature", 0)),
            top_k=sampling.get("top_k") or 0,  # 0: all
            top_p=sampling.get("top_p") or 1.0,
            seed=sampling.get("seed"),
        )
        self.llm: Any = None
        self.room = 0

    def ask(self, prompts: list[Prompt]) -> list[str]:
        """The judge's replies, greedy or sampled. Raises `InputError` for a prompt longer than the judge's context."""
        if not prompts:
            return []
        ids = self.chats.ids(prompts)
        self._make_room(max(map(len, ids)) + self.chats.max_tokens)
        # Token ids and not text or messages: what was checked is what is asked, and tokenised as every other stage does.
        found = self.llm.generate([{"prompt_token_ids": one} for one in ids], self.sampling, use_tqdm=False)
        return self.chats.tokenizer.batch_decode([list(one.outputs[0].token_ids) for one in found], skip_special_tokens=True)

    def _make_room(self, n_tokens: int) -> None:
        """Load the model for sequences of `n_tokens`; again, for longer ones, if it was loaded for shorter."""
        if self.llm is not None and n_tokens <= self.room:
            return
        self.room = min(self.chats.limit, max(USUAL_TOKENS, -(-n_tokens // STEP) * STEP))
        if self.llm is not None:
            log.info("a prompt needs %d tokens: loading the judge again", n_tokens)
            self.llm.llm_engine.engine_core.shutdown()  # its memory must be free before the next one asks for it
        self.llm = self.vllm.LLM(**self.settings, max_model_len=self.room)
