"""A judge that runs in the job under vLLM, for large judges on GPUs.

Continuous batching, prefix caching, tensor parallelism.
"""

import logging
import os
from typing import Any

from gapgrid.core.records import InputError, Row
from gapgrid.engines.judge_hf import Chats
from gapgrid.judging.backends import Prompt

log = logging.getLogger(__name__)
# Nearly all pairs fit in; a judge's full context can need more memory than a GPU has.
USUAL_TOKENS = 8192
STEP = 1024


class VLLMJudge:
    """Loads the model at the first `ask`, when the length of prompts is known."""

    batch_pairs = 512

    def __init__(
        self,
        model: str,
        revision: str | None,
        max_tokens: int,
        sampling: Row,
        dtype: str,
        tensor_parallel: int,
    ) -> None:
        # In this process, so that nothing of it outlives a killed job.
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        try:
            import vllm
        except ImportError as error:
            raise InputError(
                f"judge: backend vllm needs vllm ({error}); run it in the gpu environment, "
                "or use openai or hf"
            ) from error
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
        self.max_model_len = 0

    def ask(self, prompts: list[Prompt]) -> list[str]:
        """Return the judge's replies, greedy or sampled.

        Raises `InputError` for a prompt longer than the judge's context.
        """
        if not prompts:
            return []
        ids = self.chats.ids(prompts)
        self._load(max(map(len, ids)) + self.chats.max_tokens)
        # Token ids, not text or messages: what was checked is what the judge gets.
        inputs = [{"prompt_token_ids": prompt} for prompt in ids]
        outputs = self.llm.generate(inputs, self.sampling, use_tqdm=False)
        replies = [list(output.outputs[0].token_ids) for output in outputs]
        return self.chats.tokenizer.batch_decode(replies, skip_special_tokens=True)

    def _load(self, n_tokens: int) -> None:
        """Load the model for sequences of `n_tokens`, again if it was loaded for shorter ones."""
        if self.llm is not None and n_tokens <= self.max_model_len:
            return
        rounded_up = -(-n_tokens // STEP) * STEP
        self.max_model_len = min(self.chats.limit, max(USUAL_TOKENS, rounded_up))
        if self.llm is not None:
            log.info("a prompt needs %d tokens: loading the judge again", n_tokens)
            # Its memory must be free before the next one is loaded.
            self.llm.llm_engine.engine_core.shutdown()
        self.llm = self.vllm.LLM(**self.settings, max_model_len=self.max_model_len)
