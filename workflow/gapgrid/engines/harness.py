"""lm-eval with transformers: the harness's own task files and model class, one batch at a time, finish reasons kept."""

import logging
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

from gapgrid.engines.tokens import load_tokenizer
from gapgrid.records import InputError, Row, canonical, sha256_text
from gapgrid.responses import Answer, Question

log = logging.getLogger(__name__)
logging.getLogger("lm_eval").setLevel(logging.ERROR)
BATCH_ROWS = 256


class Recorder:
    """lm-eval tells its cache hook every answer in the order in which it was generated; so it tells us."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []

    def add_partial(self, attribute: str, request: tuple[str, dict[str, Any]], response: str) -> None:
        """Called once per answer with its prompt."""
        self.told.append((request[0], response))


class RecordingHFLM(HFLM):
    """lm-eval's transformers model that also keeps how each answer ended, which `generate_until` throws away."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.cache_hook = Recorder()
        self.ends: list[tuple[str, int]] = []

    def _model_generate(self, context: torch.Tensor, max_length: int, stop: list[str], **options: Any) -> torch.Tensor:
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
        cap = max_length - context.shape[1]
        self.ends = [self._end(tokens, stops, cap) for tokens in out[:, context.shape[1] :].tolist()]
        return out

    def _end(self, tokens: list[int], stops: list[str], cap: int) -> tuple[str, int]:
        """How one answer ended and how many tokens it has, its end-of-text token counted."""
        ends = as_set(self.model.generation_config.eos_token_id) | {self.tokenizer.eos_token_id}
        place = next((index for index, token in enumerate(tokens) if token in ends), None)
        if place is not None:
            return "stop", place + 1
        pad = self.tokenizer.pad_token_id
        while tokens and tokens[-1] == pad:
            tokens = tokens[:-1]
        if stops and any(text in self.tokenizer.decode(tokens) for text in stops):
            return "stop", len(tokens)
        return ("length" if len(tokens) >= cap else "stop"), len(tokens)


class LMEval:
    """Questions as lm-eval renders them, for any engine: what is asked never depends on what answers."""

    tokenizer: Any
    apply_chat_template: Callable[..., str]
    max_length: int  # tokens that the model takes
    longest = 0  # tokens of the longest question so far with its answer's cap

    def questions(self, task: Path, problems: list[Row], request: Row) -> list[Question]:
        """Prompts as lm-eval renders them: the task file's doc_to_text through the student's chat template."""
        if not self.tokenizer.chat_template:
            raise InputError("the student's tokenizer has no chat template (tokenizer_config.json, chat_template.jinja); give it one")
        harness_task = load_task(task, problems)
        harness_task.build_all_requests(apply_chat_template=True, chat_template=self.apply_chat_template)
        by_doc = {instance.doc_id: instance for instance in harness_task.instances}
        sampling = request.get("sampling", {})
        settings = {
            **by_doc[0].args[1],
            "do_sample": sampling.get("temperature", 0) > 0,
            "temperature": float(sampling.get("temperature", 0)),
            "max_gen_toks": request["max_tokens"],
            **{key: sampling[key] for key in ("top_p", "top_k", "seed") if key in sampling},
        }
        prompts = [by_doc[index].args[0] for index in range(len(problems))]
        self._check_length(task, prompts, request["max_tokens"])
        return [
            Question(row["doc_id"], repeat, row["problem"], row["gold"], prompts[index], settings)
            for index, row in enumerate(problems)
            for repeat in range(request.get("repeats", 1))
        ]

    def prompt_ids(self, prompts: list[str]) -> list[list[int]]:
        """Token ids of rendered prompts, as the engine feeds them to the model."""
        raise NotImplementedError

    def end_ids(self) -> set[int]:
        """Token ids that end an answer."""
        raise NotImplementedError

    def _check_length(self, task: Path, prompts: list[str], cap: int) -> None:
        longest = max(map(len, self.prompt_ids(prompts)))
        if longest + cap > self.max_length:
            # lm-eval would cut the prompt from the left and only warn.
            raise InputError(
                f"{task}: longest prompt {longest} + max_tokens {cap} = {longest + cap} tokens, the model takes {self.max_length}"
            )
        self.longest = max(self.longest, longest + cap)


class Harness(LMEval):
    """Asks a transformers model through lm-eval."""

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
        # Only what a request says: penalties and sampling of the student's own file would hold here and not with vLLM.
        self.model.model.generation_config = GenerationConfig(eos_token_id=self.model.model.generation_config.eos_token_id)

    def prompt_ids(self, prompts: list[str]) -> list[list[int]]:
        """Token ids of rendered prompts; lm-eval adds special tokens unless a prompt begins with a BOS."""
        return [self.model.tok_batch_encode([prompt])[0][0].tolist() for prompt in prompts]

    def end_ids(self) -> set[int]:
        """What generation stops at; the tokenizer's own end-of-text token does not count unless it is among these."""
        return as_set(self.model.model.generation_config.eos_token_id)

    def answer(self, questions: list[Question]) -> list[Answer]:
        """Answer one batch; sampling is seeded by the batch, so a resumed run draws the same."""
        settings = {key: value for key, value in questions[0].settings.items() if key not in ("engine", "seed")}
        seed = sha256_text(canonical([questions[0].settings.get("seed", 0), [question.key for question in questions]]))
        torch.manual_seed(int(seed[:8], 16))
        recorder = self.model.cache_hook = Recorder()
        instances = [
            Instance("generate_until", {}, (question.prompt, dict(settings)), index, ("task", question.doc_id, 1))
            for index, question in enumerate(questions)
        ]
        self.model.generate_until(instances, disable_tqdm=True)
        told: dict[str, list[Answer]] = {}
        for (prompt, response), (finish, n_tokens) in zip(recorder.told, self.model.ends, strict=True):
            clean = response.encode("utf-8", "replace").decode("utf-8")
            told.setdefault(prompt, []).append(Answer(clean, finish, n_tokens))
        return [told[question.prompt].pop() for question in questions]


def as_set(ids: int | list[int] | None) -> set[int]:
    """End-of-text ids as configurations write them: none, one or several."""
    found = ids if isinstance(ids, list) else [ids]
    return {one for one in found if one is not None}


def user_message(task: Path, problems: list[Row]) -> str:
    """What the user says in a task's first question, before any chat template."""
    loaded = load_task(task, problems[:1])
    return str(loaded.doc_to_text(next(iter(loaded.test_docs()))))


def load_task(file: Path, problems: list[Row]) -> ConfigurableTask:
    """An lm-eval task over `problems` instead of the data set that its file names."""
    try:
        config = dict(load_yaml(file, resolve_func=True))
    except Exception as error:
        raise InputError(f"{file}: lm-eval cannot read it ({type(error).__name__}: {error})") from error
    for key in ("dataset_path", "dataset_name", "dataset_kwargs"):
        config.pop(key, None)
    split = config.get("test_split") or "test"
    rows = {split: Dataset.from_list(problems)}
    try:
        task = ConfigurableTask(config={**config, "test_split": split, "custom_dataset": lambda **_: rows})
    except Exception as error:
        raise InputError(f"{file}: lm-eval refuses it ({type(error).__name__}: {error})") from error
    if task.OUTPUT_TYPE != "generate_until":
        raise InputError(f"{file}: output_type is {task.OUTPUT_TYPE}, expected generate_until")
    return task
