"""A judge behind an OpenAI-compatible server: vLLM, SGLang, llama.cpp, `transformers serve`, a hosted model."""

import os
from concurrent.futures import ThreadPoolExecutor

from openai import OpenAI, OpenAIError

from gapgrid.records import InputError

SECONDS = 120.0
RETRIES = 5
AT_ONCE = 8


class OpenAIJudge:
    """Sends chat completions, several at once; the client retries with growing pauses."""

    def __init__(self, model: str, base_url: str, max_tokens: int) -> None:
        if not base_url:
            raise InputError("judge: backend openai needs judge.base_url in grid.yaml")
        key = os.environ.get("OPENAI_API_KEY", "none")
        self.client = OpenAI(base_url=base_url, api_key=key, timeout=SECONDS, max_retries=RETRIES)
        self.base_url, self.model, self.max_tokens = base_url, model, max_tokens

    def ask(self, prompts: list[str]) -> list[str]:
        """One reply a prompt. Raises `InputError` when the server stays away; verdicts so far are kept."""
        try:
            with ThreadPoolExecutor(AT_ONCE) as pool:
                return list(pool.map(self._one, prompts))
        except OpenAIError as error:
            raise InputError(f"judge at {self.base_url}: {type(error).__name__}: {error}") from error

    def _one(self, prompt: str) -> str:
        reply = self.client.chat.completions.create(
            model=self.model,
            messages=[{"role": "user", "content": prompt}],
            temperature=0,
            max_tokens=self.max_tokens,
        )
        return reply.choices[0].message.content or ""
