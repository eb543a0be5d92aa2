"""A judge behind an OpenAI-compatible server.

vLLM, SGLang, llama.cpp, `transformers serve`, a hosted model.
"""

import logging
import os
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

from openai import APIConnectionError, APIStatusError, OpenAI, OpenAIError
from openai.types.chat import ChatCompletion

from gapgrid.core.records import InputError, Row
from gapgrid.judging.backends import JudgeError, JudgeUnreachable, Prompt

log = logging.getLogger(__name__)
MAX_SERVER_TEXT = 300  # characters of a server's own message in ours
ROUNDS = 4  # prompts per `ask` and connection: a slow reply leaves no connection idle for long


class OpenAIJudge:
    """Sends chat completions, several at once.

    The client repeats a request after a connection error, a timeout, 408, 409, 429 and 5xx, with
    growing, jittered pauses (0.5 to 8 s) or what Retry-After says (up to two minutes). `seconds` is
    the limit of one try.
    """

    def __init__(
        self,
        model: str,
        base_url: str,
        max_tokens: int,
        sampling: Row,
        concurrency: int = 8,
        seconds: float = 120,
        retries: int = 5,
    ) -> None:
        if not base_url.startswith(("http://", "https://")):
            raise InputError(
                f"judge.yaml: base_url: found '{base_url}', expected the server's address, "
                "such as http://127.0.0.1:8000/v1; backend openai needs it"
            )
        key = os.environ.get("OPENAI_API_KEY") or "none"
        self.client = OpenAI(base_url=base_url, api_key=key, timeout=seconds, max_retries=retries)
        self.base_url, self.model, self.concurrency = base_url, model, concurrency
        self.batch_pairs = ROUNDS * concurrency
        given = {name: value for name, value in sampling.items() if value is not None}
        self.options = {"temperature": sampling.get("temperature", 0), "max_tokens": max_tokens}
        self.options |= {name: given[name] for name in ("top_p", "seed") if name in given}
        # No part of OpenAI's own interface: hosted servers refuse it, so it is sent only if given.
        self.extra = {"top_k": given["top_k"]} if "top_k" in given else {}

    def ask(self, prompts: list[Prompt]) -> list[str]:
        """Return one reply a prompt, empty where the server gave none.

        Raises `JudgeUnreachable` when the server stays away or broken, `JudgeError` when it refuses
        or its reply cannot be read; both carry the replies that came back. After the first failure
        nothing new is sent.
        """
        has_ended = threading.Event()

        def send(prompt: Prompt) -> str | None:
            if has_ended.is_set():
                return None
            try:
                return self._reply(prompt)
            except Exception:
                has_ended.set()
                raise

        with ThreadPoolExecutor(self.concurrency) as pool:
            futures = [pool.submit(send, prompt) for prompt in prompts]
            try:
                wait(futures)
            finally:
                has_ended.set()  # interrupted: what was sent may still come back, the rest is not
        replies = {
            index: reply
            for index, future in enumerate(futures)
            if not future.exception() and (reply := future.result()) is not None
        }
        for error in filter(None, (future.exception() for future in futures)):
            if not isinstance(error, OpenAIError | ValueError):
                raise error
            raise self._explained(error, replies) from error
        return [replies[index] for index in range(len(prompts))]

    def _reply(self, prompt: Prompt) -> str:
        extra = self.extra
        try:
            return self._request(prompt, extra)
        except APIStatusError as error:
            refuses_top_k = error.status_code in (400, 422) and "top_k" in error.response.text
            if not extra or not refuses_top_k:
                raise
            if self.extra:
                log.warning(
                    "judge at %s: the server refuses top_k; asking without it", self.base_url
                )
            self.extra = {}
            return self._request(prompt, {})

    def _request(self, prompt: Prompt, extra: Row) -> str:
        messages: Any = prompt
        reply: Any = self.client.chat.completions.create(
            model=self.model, messages=messages, extra_body=extra or None, **self.options
        )
        if not isinstance(reply, ChatCompletion) or reply.choices is None:
            # A web page, or an error under status 200.
            raise ValueError(f"no chat completion: {reply}")
        message = reply.choices[0].message if reply.choices else None
        return (message.content if message else None) or ""

    def _explained(self, error: Exception, replies: dict[int, str]) -> JudgeError:
        where = f"judge '{self.model}' at {self.base_url}"
        text = _shortened(str(error))
        if isinstance(error, APIStatusError):
            text = _shortened(error.response.text) or text
            status = error.status_code
            if status in (408, 409, 429) or status >= 500:
                return JudgeUnreachable(
                    f"{where}: status {status} after all retries: {text}", replies
                )
            return JudgeError(f"{where}: status {status}: {text}", replies)
        name, cause = type(error).__name__, error.__cause__
        if isinstance(error, APIConnectionError):
            reason = f" ({type(cause).__name__}: {cause})" if cause else ""
            return JudgeUnreachable(
                f"{where}: {name}: {text}{reason}; start the server, then run again", replies
            )
        return JudgeError(f"{where}: the server's answer cannot be read ({name}: {text})", replies)


def _shortened(text: str) -> str:
    return " ".join(text.split())[:MAX_SERVER_TEXT]
