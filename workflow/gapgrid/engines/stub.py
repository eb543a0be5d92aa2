"""An engine without a model, for rehearsing a grid in seconds: files are digests, answers are drawn from a hash."""

import hashlib
from pathlib import Path
from typing import Any

from gapgrid.judging import Prompt
from gapgrid.records import Row, canonical, sha256_text, write_json, write_jsonl
from gapgrid.responses import Answer, Question


def fine_tune(base_digest: str, data_digest: str, spec: dict[str, Any], out: Path, metrics: Path) -> dict[str, Any]:
    """Write a model folder that holds a digest of all that would have made it."""
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "config.json", {"stub": sha256_text(canonical([base_digest, data_digest, spec]))})
    write_jsonl(metrics, [{"step": 1, "loss": 1.0}])
    return {"n_parameters": 0, "n_rows": 0}


class Answerer:
    """Right, wrong, without an answer or cut off, as a hash of model and question says."""

    batch_rows = 64

    def __init__(self, model: Path) -> None:
        self.model = (model / "config.json").read_text()

    def questions(self, task: Path, problems: list[Row], request: Row) -> list[Question]:
        """The problem text is the prompt: there is no template to render."""
        settings = {"max_tokens": request["max_tokens"], "sampling": request.get("sampling", {})}
        return [
            Question(row["doc_id"], repeat, row["problem"], row["gold"], row["problem"], settings)
            for row in problems
            for repeat in range(request.get("repeats", 1))
        ]

    def answer(self, questions: list[Question]) -> list[Answer]:
        """One made-up answer a question."""
        return [self._one(question) for question in questions]

    def _one(self, question: Question) -> Answer:
        draw = hashlib.sha256((self.model + question.key).encode()).digest()
        if draw[0] < 20:
            return Answer("on and on and on", "length", question.settings["max_tokens"])
        if draw[0] < 40:
            return Answer("I do not know .", "stop", 6)
        answer = question.gold if draw[0] < 140 else f"{draw[1]}"
        return Answer(f"Final Answer: \\boxed{{ {answer} }}", "stop", 10 + draw[2] % 50)


class Ranker:
    """Words are tokens; a word's rank is drawn from a hash of the untouched student, the prompt and its place."""

    def __init__(self, model: Path) -> None:
        self.model = (model / "config.json").read_text()
        self.words: dict[int, str] = {}

    def rank(self, task: Path, problems: list[Row], request: Row, samples: list[Row]) -> list[tuple[list[int], list[int]]]:
        """Made-up ranks of every answer's words, 1 for about half of them."""
        return [self._one(sample) for sample in samples]

    def text(self, token: int) -> str:
        """The word."""
        return self.words[token]

    def _one(self, sample: Row) -> tuple[list[int], list[int]]:
        words = sample["response"].split()
        ids = [int(sha256_text(word)[:6], 16) for word in words]
        self.words.update(zip(ids, words, strict=True))
        draws = (hashlib.sha256(f"{self.model} {sample['problem']} {place}".encode()).digest() for place in range(len(words)))
        return ids, [1 + max(0, draw[0] - 128) for draw in draws]


class Judge:
    """True, False or neither, as a hash of the prompt says."""

    batch_pairs = 16

    def ask(self, prompts: list[Prompt]) -> list[str]:
        """One made-up reply a prompt."""
        return [("True", "False", "False", "Well")[hashlib.sha256(canonical(prompt).encode()).digest()[0] % 4] for prompt in prompts]
