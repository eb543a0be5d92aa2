"""Instead of vLLM: notes its calls in the file $STAND_IN_CALLS and generates without a model.

It generates a prompt's words after the first token, and then an end of text, cut at max_tokens.
"""

import json
import os
from types import SimpleNamespace
from typing import Any

END = 3  # the tiny tokenizer's end of text


def note(**call: Any) -> None:
    with open(os.environ["STAND_IN_CALLS"], "a") as file:
        file.write(json.dumps(call) + "\n")


def SamplingParams(**options: Any) -> dict[str, Any]:  # noqa: N802
    return options


class LLM:
    def __init__(self, **options: Any) -> None:
        note(load=options, devices=os.environ.get("CUDA_VISIBLE_DEVICES"))
        core = SimpleNamespace(shutdown=lambda: note(shutdown=True))
        self.llm_engine = SimpleNamespace(engine_core=core)

    def generate(self, prompts: list[dict[str, Any]], params: Any, use_tqdm: bool) -> list[Any]:
        ids = [prompt["prompt_token_ids"] for prompt in prompts]
        note(prompts=ids, params=params)
        if os.environ.get("STAND_IN_DIES"):
            os._exit(9)
        each = params if isinstance(params, list) else [params] * len(ids)
        return [output(*pair) for pair in zip(ids, each, strict=True)]


def output(ids: list[int], params: dict[str, Any]) -> Any:
    reply, limit = [*ids[1:-1], END], params["max_tokens"]
    finish = "stop" if len(reply) <= limit else "length"
    reason = os.environ.get("STAND_IN_FINISH") or finish
    completion = SimpleNamespace(token_ids=tuple(reply[:limit]), finish_reason=reason)
    return SimpleNamespace(outputs=[completion])
