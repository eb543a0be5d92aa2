"""An engine without a model, to rehearse a grid in seconds.

Files are digests, completions are drawn from a hash.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gapgrid.core.records import canonical, sha256_text, write_json, write_jsonl
from gapgrid.core.rows import ProblemRow, SampleRow
from gapgrid.core.spec_types import RequestSpec, with_defaults
from gapgrid.judging.backends import Prompt
from gapgrid.stores.responses import Completion, GenerationRequest


def _draw(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def fine_tune(
    base_digest: str, data_digest: str, spec: Mapping[str, Any], out: Path, metrics: Path
) -> dict[str, Any]:
    """Write a model folder that holds a digest of everything that decides it; return its facts."""
    out.mkdir(parents=True, exist_ok=True)
    digest = sha256_text(canonical([base_digest, data_digest, spec]))
    write_json(out / "config.json", {"stub": digest})
    write_jsonl(metrics, [{"step": 1, "loss": 1.0}])
    return {"n_parameters": 0, "n_rows": 0}


class Answerer:
    """Answers right, wrong, not at all or too long, as a hash of model and request says."""

    batch_rows = 64

    def __init__(self, model: Path) -> None:
        self.model = (model / "config.json").read_text()

    def build_requests(
        self, task: Path, problems: list[ProblemRow], request: RequestSpec
    ) -> list[GenerationRequest]:
        """Return the requests; the problem is the prompt, as there is no template to render."""
        spec: RequestSpec = with_defaults("benchmark", request)
        settings = {"max_tokens": spec["max_tokens"], "sampling": spec["sampling"]}
        return [
            GenerationRequest(
                row["doc_id"], repeat, row["problem"], row["gold"], row["problem"], settings
            )
            for row in problems
            for repeat in range(spec["repeats"])
        ]

    def generate(self, requests: list[GenerationRequest]) -> list[Completion]:
        """Return an invented completion for each request."""
        return [self._complete(request) for request in requests]

    def _complete(self, request: GenerationRequest) -> Completion:
        draw = _draw(self.model + request.key)
        if draw[0] < 20:
            return Completion("on and on and on", "length", request.settings["max_tokens"])
        if draw[0] < 40:
            return Completion("I do not know .", "stop", 6)
        answer = request.gold if draw[0] < 140 else f"{draw[1]}"
        return Completion(f"Final Answer: \\boxed{{ {answer} }}", "stop", 10 + draw[2] % 50)


class Ranker:
    """Words are tokens; a word's rank is drawn from a hash of model, problem and position."""

    def __init__(self, model: Path) -> None:
        self.model = (model / "config.json").read_text()
        self.words: dict[int, str] = {}

    def rank(
        self, task: Path, problems: list[ProblemRow], request: RequestSpec, samples: list[SampleRow]
    ) -> list[tuple[list[int], list[int]]]:
        """Return invented ranks of every response's words, 1 for about half of them."""
        return [self._rank(sample) for sample in samples]

    def text(self, token: int) -> str:
        """Return the word."""
        return self.words[token]

    def _rank(self, sample: SampleRow) -> tuple[list[int], list[int]]:
        words = sample["response"].split()
        ids = [int(sha256_text(word)[:6], 16) for word in words]
        self.words.update(zip(ids, words, strict=True))
        where = f"{self.model} {sample['problem']}"
        draws = [_draw(f"{where} {index}") for index in range(len(words))]
        return ids, [1 + max(0, draw[0] - 128) for draw in draws]


class Judge:
    """Replies True, False or neither, as a hash of the prompt says."""

    batch_pairs = 16

    def ask(self, prompts: list[Prompt]) -> list[str]:
        """Return an invented reply to each prompt."""
        replies = ("True", "False", "False", "Well")
        return [replies[_draw(canonical(prompt))[0] % 4] for prompt in prompts]
