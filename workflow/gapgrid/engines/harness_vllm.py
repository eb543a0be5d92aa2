"""lm-eval's questions answered by vLLM, for GPUs: rendered as in `harness`, asked as token ids, one load for all benchmarks.

lm-eval's own vLLM class is not used: it cuts long prompts with a mere warning and throws finish reasons away, and its data
parallelism has scored the wrong model. Here several GPUs hold either one copy of the model (tensor parallel) or several
copies, each in a process of its own that answers its share of every batch; the calling process alone writes the store.

Each question has its own seed and no prefix is cached, so an answer depends on its batch by rounding alone; batches are
the same after a kill.
"""

import atexit
import logging
import multiprocessing
import os
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils import postprocess_generated_text, resolve_max_length
from transformers import AutoConfig, GenerationConfig

from gapgrid.engines.harness import LMEval, as_set
from gapgrid.engines.tokens import load_tokenizer
from gapgrid.records import InputError, Row, canonical, sha256_text
from gapgrid.responses import Answer, Question

log = logging.getLogger(__name__)
Asked = tuple[list[int], dict[str, Any]]  # a prompt's token ids, and its arguments of SamplingParams
Told = tuple[list[int], str]  # an answer's token ids, and its finish reason
PASSED_ON = {"temperature", "top_p", "top_k", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty"}
OURS = {"until", "max_gen_toks", "do_sample", "seed", "engine"}


class VLLMHarness(LMEval):
    """Asks a model through vLLM. It is loaded at the first `answer`, when the longest question is known."""

    batch_rows = 512
    apply_chat_template = HFLM.apply_chat_template  # lm-eval's, so that both engines ask the same; it needs the next line
    chat_template_args: dict[str, Any] = {}  # noqa: RUF012

    def __init__(self, folder: Path, gpus: int = 1, tensor_parallel: int | None = None) -> None:
        try:
            import vllm  # noqa: F401
        except ImportError as error:
            raise InputError(f"evaluate: engine vllm needs vllm ({error}); run it in the gpu environment, or use hf") from error
        self.folder = folder
        self.tokenizer = load_tokenizer(folder)
        self.config = AutoConfig.from_pretrained(folder)
        self.max_length = resolve_max_length(self.config, self.tokenizer)
        self.split = tensor_parallel or max(1, gpus)
        self.copies = _copies(self.config, max(1, gpus), self.split)
        self.room = 0
        self.engine: OneCopy | Copies | None = None

    def questions(self, task: Path, problems: list[Row], request: Row) -> list[Question]:
        """As lm-eval renders them. Raises `InputError` for a task's generation setting that vLLM would not get."""
        found = super().questions(task, problems, request)
        if unknown := sorted(found[0].settings.keys() - PASSED_ON - OURS):
            raise InputError(f"{task}: generation_kwargs {', '.join(unknown)}: engine vllm knows {', '.join(sorted(PASSED_ON))} and until")
        return found

    def prompt_ids(self, prompts: list[str]) -> list[list[int]]:
        """Token ids of rendered prompts: the template has written all special tokens, as in training."""
        return self.tokenizer(prompts, add_special_tokens=False)["input_ids"]

    def end_ids(self) -> set[int]:
        """What generation stops at: the ends of generation_config.json (or config.json) and the tokenizer's."""
        try:
            ends = GenerationConfig.from_pretrained(self.folder).eos_token_id
        except OSError:
            ends = self.config.eos_token_id
        return as_set(ends) | as_set(self.tokenizer.eos_token_id)

    def answer(self, questions: list[Question]) -> list[Answer]:
        """Answer one batch."""
        engine = self._load()
        ids = self.prompt_ids([question.prompt for question in questions])
        ends = sorted(self.end_ids())
        told = engine.ask([(one, sampling(question, ends)) for one, question in zip(ids, questions, strict=True)])
        return [self._read(question, *one) for question, one in zip(questions, told, strict=True)]

    def _read(self, question: Question, ids: list[int], finish: str) -> Answer:
        if finish not in ("stop", "length"):
            raise InputError(f"vLLM gave up on the question '{question.problem[:80]}' ({finish}); run again, it goes on from there")
        text = self.tokenizer.decode(ids, skip_special_tokens=True)
        text = postprocess_generated_text(text, _stops(question), None)
        return Answer(text.encode("utf-8", "replace").decode("utf-8"), finish, len(ids))

    def _load(self) -> "OneCopy | Copies":
        if self.engine is not None and self.longest <= self.room:
            return self.engine
        if self.engine is not None:
            log.info("a question needs %d tokens: loading the student again", self.longest)
            self.engine.close()
        self.room = self.longest
        options = {
            "model": str(self.folder),
            "dtype": "bfloat16" if torch.cuda.is_available() else "float32",
            "tensor_parallel_size": self.split,
            "max_model_len": self.room,
            "enable_prefix_caching": False,
            "seed": 0,
        }
        self.engine = OneCopy(options) if self.copies == 1 else Copies(options, devices(self.copies, self.split))
        return self.engine


def _copies(config: Any, gpus: int, split: int) -> int:
    if gpus % split:
        raise InputError(f"evaluate: {gpus} GPUs cannot be shared out {split} to a copy of the student (tensor_parallel)")
    heads = getattr(config.get_text_config(), "num_attention_heads", split)
    if heads % split:
        raise InputError(f"evaluate: the student's {heads} attention heads cannot be split over {split} GPUs (tensor_parallel)")
    return gpus // split


def devices(copies: int, split: int) -> list[str]:
    """Which devices each copy sees, out of those that this process may see."""
    total = copies * split
    seen = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = seen.split(",") if seen else [str(index) for index in range(total)]
    if len(names) < total:
        raise InputError(f"evaluate: {total} GPUs asked for, CUDA_VISIBLE_DEVICES names {len(names)} ({seen})")
    return [",".join(names[start : start + split]) for start in range(0, total, split)]


def _stops(question: Question) -> list[str]:
    until = question.settings.get("until") or []
    return [text for text in ([until] if isinstance(until, str) else until) if text]


def sampling(question: Question, ends: list[int]) -> dict[str, Any]:
    """A question's arguments of SamplingParams. Its seed is its own, so a resumed run draws the same."""
    settings = question.settings
    seed = sha256_text(canonical([settings.get("seed", 0), question.key, question.repeat]))
    return {
        **{key: settings[key] for key in sorted(PASSED_ON & settings.keys())},
        "temperature": float(settings["temperature"]) if settings["do_sample"] else 0.0,
        "max_tokens": settings["max_gen_toks"],
        "stop": _stops(question),
        "stop_token_ids": ends,
        "seed": int(seed[:8], 16),
        # A stop string may be a special token; such tokens are left out when the answer's ids become text.
        "skip_special_tokens": False,
        "spaces_between_special_tokens": False,
    }


# ---- one copy of the model, or several ----


class OneCopy:
    """The model in this process."""

    def __init__(self, options: dict[str, Any]) -> None:
        # In a process of its own the engine outlives a killed job and keeps the GPU's memory; here its schedule also repeats.
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        import vllm

        self.vllm: Any = vllm
        self.llm = self.vllm.LLM(**options)

    def ask(self, asked: list[Asked]) -> list[Told]:
        """Answers in the order of the questions."""
        prompts = [{"prompt_token_ids": ids} for ids, _ in asked]
        params = [self.vllm.SamplingParams(**options) for _, options in asked]
        outputs = [one.outputs[0] for one in self.llm.generate(prompts, params, use_tqdm=False)]
        return [(list(output.token_ids), str(output.finish_reason)) for output in outputs]

    def close(self) -> None:
        """Free its memory before the next one asks for it."""
        self.llm.llm_engine.engine_core.shutdown()


class Copies:
    """A model per group of devices, each in a process that ends with this one: its pipe closes then, however this one dies."""

    def __init__(self, options: dict[str, Any], groups: list[str]) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipes: list[Connection] = []
        self.processes = []
        for group in groups:
            ours, theirs = context.Pipe()
            process = context.Process(target=serve, args=(theirs, group, options))
            process.start()
            theirs.close()  # its end is held by the process alone: when that dies, reading ours ends
            self.pipes.append(ours)
            self.processes.append(process)
        atexit.register(self.close)  # before the interpreter waits for its children, who wait for it

    def ask(self, asked: list[Asked]) -> list[Told]:
        """Answers in the order of the questions; long and short ones are dealt out evenly."""
        step = len(self.pipes)
        told: list[Told | None] = [None] * len(asked)
        try:
            for index, pipe in enumerate(self.pipes):
                pipe.send(asked[index::step])
            for index, pipe in enumerate(self.pipes):
                told[index::step] = pipe.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            self.close()
            raise InputError("evaluate: a vLLM process has ended, its message is above; run again, it goes on from there") from None
        return [one for one in told if one is not None]

    def close(self) -> None:
        """End the processes, in the middle of a batch if need be: the store has all earlier ones."""
        for pipe, process in zip(self.pipes, self.processes, strict=True):
            pipe.close()
            process.terminate()
            process.join()


def serve(pipe: Connection, group: str, options: dict[str, Any]) -> None:
    """One copy's process: answers what comes through the pipe until that is closed."""
    os.environ["CUDA_VISIBLE_DEVICES"] = group
    copy = OneCopy(options)
    while True:
        try:
            asked = pipe.recv()
            pipe.send(copy.ask(asked) if asked else [])
        except (EOFError, BrokenPipeError, ConnectionResetError):
            return
