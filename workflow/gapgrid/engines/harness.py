"""lm-eval with transformers: its own task files and model class, with finish reasons kept."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from lm_eval.api.instance import Instance
from lm_eval.api.task import ConfigurableTask
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks._yaml_loader import load_yaml
from transformers import GenerationConfig

from gapgrid.core.records import InputError, canonical, sha256_text
from gapgrid.core.rows import ProblemRow
from gapgrid.core.spec_types import RequestSpec, with_defaults
from gapgrid.engines.tokens import id_set, load_tokenizer
from gapgrid.stores.responses import Completion, GenerationRequest

logging.getLogger("lm_eval").setLevel(logging.ERROR)
BATCH_ROWS = 256


class Recorder:
    """lm-eval's cache hook, which it calls with every response in the order of generation."""

    def __init__(self) -> None:
        self.responses: list[tuple[str, str]] = []  # prompt, response

    def add_partial(
        self, attribute: str, request: tuple[str, dict[str, Any]], response: str
    ) -> None:
        """Keep one response with its prompt."""
        self.responses.append((request[0], response))


class RecordingHFLM(HFLM):
    """lm-eval's transformers model that keeps finish reasons, which `generate_until` drops."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.cache_hook = Recorder()
        self.finishes: list[tuple[str, int]] = []

    def _model_generate(
        self, context: torch.Tensor, max_length: int, stop: list[str], **options: Any
    ) -> torch.Tensor:
        temperature = options.pop("temperature", 0.0)
        sampled = bool(options.pop("do_sample", False)) and temperature > 0
        if sampled:
            options["temperature"] = temperature
        else:
            options.pop("top_p", None)
            options.pop("top_k", None)
        stops = [text for text in stop if text and text != self.tokenizer.eos_token]
        if stops:
            options.update(stop_strings=stops, tokenizer=self.tokenizer)
        out = self.model.generate(
            input_ids=context,
            attention_mask=options.pop("attention_mask"),
            max_length=max_length,
            do_sample=sampled,
            pad_token_id=self.tokenizer.pad_token_id,
            **options,
        )
        start = context.shape[1]
        generated = out[:, start:].tolist()
        self.finishes = [self.finish(tokens, stops, max_length - start) for tokens in generated]
        return out

    def finish(self, tokens: list[int], stops: list[str], max_tokens: int) -> tuple[str, int]:
        """Return `stop` or `length`, and how many tokens were generated, an end of text counted."""
        ends = id_set(self.model.generation_config.eos_token_id) | {self.tokenizer.eos_token_id}
        end = next((index for index, token in enumerate(tokens) if token in ends), None)
        if end is not None:
            return "stop", end + 1
        while tokens and tokens[-1] == self.tokenizer.pad_token_id:
            tokens = tokens[:-1]
        if stops and any(text in self.tokenizer.decode(tokens) for text in stops):
            return "stop", len(tokens)
        return ("length" if len(tokens) >= max_tokens else "stop"), len(tokens)


class LMEval:
    """Requests as lm-eval renders them: the same prompts, whichever engine generates."""

    tokenizer: Any
    apply_chat_template: Callable[..., str]
    max_length: int  # tokens that the model takes
    longest = 0  # tokens of the longest prompt so far with its max_tokens

    def build_requests(
        self, task: Path, problems: list[ProblemRow], request: RequestSpec
    ) -> list[GenerationRequest]:
        """Return a benchmark's requests, `repeats` for each problem, in order.

        A prompt is the task file's doc_to_text through the student's chat template. Raises
        `InputError` for a student without one, and for prompts that leave no space for max_tokens.
        """
        if not self.tokenizer.chat_template:
            raise InputError(
                "the student's tokenizer has no chat template "
                "(tokenizer_config.json, chat_template.jinja); give it one"
            )
        spec: RequestSpec = with_defaults("benchmark", request)
        sampling, max_tokens = spec["sampling"], spec["max_tokens"]
        harness_task = load_task(task, problems)
        harness_task.build_all_requests(
            apply_chat_template=True, chat_template=self.apply_chat_template
        )
        by_doc = {instance.doc_id: instance for instance in harness_task.instances}
        temperature = sampling.get("temperature", 0)
        settings = {
            **by_doc[0].args[1],
            "do_sample": temperature > 0,
            "temperature": float(temperature),
            "max_gen_toks": max_tokens,
            **{key: sampling[key] for key in ("top_p", "top_k", "seed") if key in sampling},
        }
        prompts = [by_doc[index].args[0] for index in range(len(problems))]
        self._check_length(task, prompts, max_tokens)
        return [
            GenerationRequest(row["doc_id"], repeat, row["problem"], row["gold"], prompt, settings)
            for row, prompt in zip(problems, prompts, strict=True)
            for repeat in range(spec["repeats"])
        ]

    def prompt_ids(self, prompts: list[str]) -> list[list[int]]:
        """Return the token ids of rendered prompts, as the engine feeds them to the model.

        Special tokens are those that the template has written, as in training.
        """
        return self.tokenizer(prompts, add_special_tokens=False)["input_ids"]

    def _check_length(self, task: Path, prompts: list[str], max_tokens: int) -> None:
        longest = max(map(len, self.prompt_ids(prompts)))
        total = longest + max_tokens
        if total > self.max_length:
            # lm-eval would cut the prompt from the left and only warn.
            raise InputError(
                f"{task}: longest prompt {longest} + max_tokens {max_tokens} = {total} tokens, "
                f"the model takes {self.max_length}"
            )
        self.longest = max(self.longest, total)


class GeneratingLMEval(LMEval, ABC):
    """Requests as lm-eval renders them, and an engine that generates their responses."""

    @abstractmethod
    def end_ids(self) -> set[int]:
        """Return the token ids that end a response."""


class Harness(GeneratingLMEval):
    """Generates with a transformers model through lm-eval."""

    batch_rows = BATCH_ROWS

    def __init__(self, folder: Path) -> None:
        cuda = torch.cuda.is_available()
        self.model = RecordingHFLM(
            pretrained=str(folder),
            tokenizer=load_tokenizer(folder),
            device="cuda" if cuda else "cpu",
            dtype="bfloat16" if cuda else "float32",
            batch_size=BATCH_ROWS,
        )
        self.tokenizer = self.model.tokenizer
        self.apply_chat_template = self.model.apply_chat_template
        self.max_length = self.model.max_length
        # Settings come from requests alone: the student's own penalties and sampling would hold
        # here and not with vLLM.
        ends = self.model.model.generation_config.eos_token_id
        self.model.model.generation_config = GenerationConfig(eos_token_id=ends)

    def prompt_ids(self, prompts: list[str]) -> list[list[int]]:
        """Return the ids of prompts; lm-eval adds special tokens unless one begins with a BOS."""
        return [self.model.tok_batch_encode([prompt])[0][0].tolist() for prompt in prompts]

    def end_ids(self) -> set[int]:
        """Return what generation stops at, the tokenizer's end of text only if it is among it."""
        return id_set(self.model.model.generation_config.eos_token_id)

    def generate(self, requests: list[GenerationRequest]) -> list[Completion]:
        """Return the completions of one batch.

        Sampling is seeded by the batch, so a resumed run draws the same.
        """
        settings = dict(requests[0].settings)
        settings.pop("engine", None)
        seed = [settings.pop("seed", 0), [request.key for request in requests]]
        torch.manual_seed(int(sha256_text(canonical(seed))[:8], 16))
        recorder = self.model.cache_hook = Recorder()
        instances = [
            Instance(
                request_type="generate_until",
                doc={},
                arguments=(request.prompt, dict(settings)),
                idx=index,
                metadata=("task", request.doc_id, 1),
            )
            for index, request in enumerate(requests)
        ]
        self.model.generate_until(instances, disable_tqdm=True)
        by_prompt: dict[str, list[Completion]] = {}
        for (prompt, response), finish in zip(recorder.responses, self.model.finishes, strict=True):
            text = response.encode("utf-8", "replace").decode("utf-8")
            by_prompt.setdefault(prompt, []).append(Completion(text, *finish))
        return [by_prompt[request.prompt].pop() for request in requests]


def stop_strings(request: GenerationRequest) -> list[str]:
    """Return the stop strings of a request, which a task may write as one text or a list."""
    until = request.settings.get("until") or []
    return [text for text in ([until] if isinstance(until, str) else until) if text]


def user_message(task: Path, problems: list[ProblemRow]) -> str:
    """Return the user's message in a task's first prompt, before any chat template."""
    loaded = load_task(task, problems[:1])
    return str(loaded.doc_to_text(next(iter(loaded.test_docs()))))


def load_task(file: Path, problems: list[ProblemRow]) -> ConfigurableTask:
    """Return an lm-eval task over `problems` instead of the data set that its file names.

    Raises `InputError` for a file that lm-eval cannot read or refuses, or that generates nothing.
    """
    try:
        config = dict(load_yaml(file, resolve_func=True))
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise InputError(f"{file}: lm-eval cannot read it ({reason})") from error
    for key in ("dataset_path", "dataset_name", "dataset_kwargs"):
        config.pop(key, None)
    split = config.get("test_split") or "test"
    data = {split: Dataset.from_list(problems)}
    config |= {"test_split": split, "custom_dataset": lambda **_: data}
    try:
        task = ConfigurableTask(config=config)
    except Exception as error:
        raise InputError(f"{file}: lm-eval refuses it ({type(error).__name__}: {error})") from error
    if task.OUTPUT_TYPE != "generate_until":
        raise InputError(f"{file}: output_type is {task.OUTPUT_TYPE}, expected generate_until")
    return task
