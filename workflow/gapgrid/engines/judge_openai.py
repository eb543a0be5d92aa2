"""A judge behind an OpenAI-compatible server: vLLM, SGLang, llama.cpp, `transformers serve`, a hosted model."""

import logging
import os
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import Any

from openai import APIConnectionError, APIStatusError, OpenAI, OpenAIError
from openai.types.chat import ChatCompletion

from gapgrid.judging import JudgeError, JudgeUnreachable, Prompt
from gapgrid.records import InputError

log = logging.getLogger(__name__)
MOST_WORDS = 300  # characters of a server's own words in a message
ROUNDS = 4  # prompts per `ask` and connection: enough that a slow reply leaves no connection idle for long


class OpenAIJudge:
    """Sends chat completions, several at once.

    The client sends a request again after a connection error, a timeout, 408, 409, 429 and 5xx, with growing, jittered
    pauses (0.5 to 8 s) or what Retry-After says (up to two minutes). `seconds` is the limit of one try.
    """

    def __init__(
        self,
        model: str,
        base_url: str,
        max_tokens: int,
        sampling: dict[str, Any],
        concurrency: int = 8,
        seconds: float = 120,
        retries: int = 5,
    ) -> None:
        if not base_url:
            raise InputError("judge: backend openai needs judge.base_url in grid.yaml")
        key = os.environ.get("OPENAI_API_KEY") or "none"
        self.client = OpenAI(base_url=base_url, api_key=key, timeout=seconds, max_retries=retries)
        self.base_url, self.model, self.concurrency = base_url, model, concurrency
        self.batch_pairs = ROUNDS * concurrency
        names = ("top_p", "seed")
        self.options = {"temperature": sampling.get("temperature", 0), "max_tokens": max_tokens}
        self.options.update({name: sampling[name] for name in names if sampling.get(name) is not None})
        # No part of OpenAI's own interface: hosted servers refuse it, so it is sent only where it was asked for.
        self.extra = {"top_k": sampling["top_k"]} if sampling.get("top_k") is not None else {}

    def ask(self, prompts: list[Prompt]) -> list[str]:
        """One reply a prompt, empty where the server gave none.

        Raises `JudgeUnreachable` when the server stays away or broken, `JudgeError` when it refuses or talks nonsense;
        both carry the replies that came back. After the first failure nothing new is sent.
        """
        with ThreadPoolExecutor(self.concurrency) as pool:
            futures = [pool.submit(self._one, prompt) for prompt in prompts]
            try:
                wait(futures, return_when=FIRST_EXCEPTION)
            finally:
                pool.shutdown(cancel_futures=True)  # what is in flight may still come back
        ended = {place: future for place, future in enumerate(futures) if not future.cancelled()}
        replies = {place: future.result() for place, future in ended.items() if not future.exception()}
        for error in filter(None, (future.exception() for future in ended.values())):
            if not isinstance(error, OpenAIError | ValueError):
                raise error
            raise self._explained(error, replies) from error
        return [replies[place] for place in range(len(prompts))]

    def _one(self, prompt: Prompt) -> str:
        extra = self.extra
        try:
            return self._request(prompt, extra)
        except APIStatusError as error:
            if not extra or error.status_code not in (400, 422) or "top_k" not in error.response.text:
                raise
            if self.extra:
                log.warning("judge at %s: the server refuses top_k; asking without it", self.base_url)
            self.extra = {}
            return self._request(prompt, {})

    def _request(self, prompt: Prompt, extra: dict[str, Any]) -> str:
        messages: Any = prompt
        reply: Any = self.client.chat.completions.create(model=self.model, messages=messages, extra_body=extra or None, **self.options)
        if not isinstance(reply, ChatCompletion) or reply.choices is None:
            raise ValueError(f"no chat completion: {reply}")  # a web page, or an error under status 200
        if not reply.choices:
            return ""
        message = reply.choices[0].message
        return (message.content if message else None) or ""

    def _explained(self, error: Exception, replies: dict[int, str]) -> JudgeError:
        where = f"judge '{self.model}' at {self.base_url}"
        words = " ".join(str(error).split())[:MOST_WORDS]
        if isinstance(error, APIStatusError):
            words = " ".join(error.response.text.split())[:MOST_WORDS] or words
            if error.status_code in (408, 409, 429) or error.status_code >= 500:
                return JudgeUnreachable(f"{where}: status {error.status_code} after all retries: {words}", replies)
            return JudgeError(f"{where}: status {error.status_code}: {words}", replies)
        if isinstance(error, APIConnectionError):
            cause = f" ({type(error.__cause__).__name__}: {error.__cause__})" if error.__cause__ else ""
            return JudgeUnreachable(f"{where}: {type(error).__name__}: {words}{cause}; start the server, then run again", replies)
        return JudgeError(f"{where}: the server's answer cannot be read ({type(error).__name__}: {words})", replies)
