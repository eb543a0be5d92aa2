"""Checks, before a student generates, that evaluation prompts it as training did.

One user message goes through the trainer's code and through the evaluator's, and the token ids are
compared; so is the token that ends a response in training with those at which generation stops.
Contents rightly differ between training and benchmarks, so the rendering of one message must agree.
A student that was not trained here, untouched or adopted, gets a warning where a trained one is
stopped; a wrong BOS stops every one.
"""

import logging
import sys
from pathlib import Path
from typing import Any

from gapgrid.core.records import InputError, Row
from gapgrid.core.rows import TrainingRow
from gapgrid.core.spec_types import with_defaults
from gapgrid.engines.harness import GeneratingLMEval, stop_strings
from gapgrid.engines.tokens import IGNORED, encode, load_tokenizer
from gapgrid.stores.responses import GenerationRequest

log = logging.getLogger(__name__)
MAX_SHOWN = 2000  # characters of a rendered text in a message
_TURN_OFF = "turn add_bos_token and the post_processor of tokenizer.json off"


def check(
    engine: GeneratingLMEval,
    request: GenerationRequest,
    message: str,
    train_manifest: Row,
    base: Path | None,
) -> None:
    """Compare the two renderings; raise `InputError` that shows both and says what to change.

    `request` is a benchmark's first, `message` its user message before any template,
    `train_manifest` the student's, `base` the student before training (without it, the trained
    student's own files are used).
    """
    _check_bos(engine, request)
    tokenizer = load_tokenizer(base) if base else engine.tokenizer
    spec = train_manifest["spec"]
    is_trained_here = train_manifest["stage"] == "train" and "adopt" not in spec
    recipe = spec.get("recipe", {}) if is_trained_here else {}
    try:
        _check_template(engine.tokenizer, tokenizer)
        prompt, response = training_ids(tokenizer, message, recipe)
        _check_prompt(engine, message, prompt)
        _check_end(engine, request, response)
    except InputError as error:
        if is_trained_here:
            raise InputError(f"prompt parity: {error}") from error
        log.warning("warning: prompt parity of a student that was not trained here: %s", error)


def training_ids(tokenizer: Any, message: str, recipe: Row) -> tuple[list[int], list[int]]:
    """Return the token ids of prompt and response of a training row with this prompt."""
    row: TrainingRow = {"id": "prompt parity", "source": "", "prompt": message, "response": "1"}
    uncut = with_defaults("recipe", {**recipe, "max_length": sys.maxsize})
    example = encode([row], tokenizer, uncut).examples[0]
    start = sum(label == IGNORED for label in example["labels"])
    return example["input_ids"][:start], example["input_ids"][start:]


def _check_template(student: Any, base: Any) -> None:
    training, evaluation = str(base.chat_template), str(student.chat_template)
    if training != evaluation:
        index = _first_difference(training, evaluation)
        raise InputError(
            "the student's chat template is not its base's: "
            f"they differ from character {index + 1} on\n"
            f"  training:   {_excerpt(training, index)}\n"
            f"  evaluation: {_excerpt(evaluation, index)}\n"
            "copy chat_template (tokenizer_config.json or chat_template.jinja) from the base to "
            "the student, or train with the student's"
        )


def _check_prompt(engine: GeneratingLMEval, message: str, training: list[int]) -> None:
    if not training:  # recipes of format text train on no prompt
        return
    text = engine.apply_chat_template([{"role": "user", "content": message}])
    evaluation = engine.prompt_ids([text])[0]
    if training == evaluation:
        return
    tokenizer = engine.tokenizer
    index = _first_difference(training, evaluation)
    start = len(tokenizer.decode(training[:index]))
    remedy = "make tokenizer.json and the chat template of the student those of its base"
    if _added(tokenizer) and len(evaluation) > len(training):
        remedy = (
            "the tokenizer adds special tokens by itself and the chat template does not write "
            f"them: put them at the start of the chat template, or {_TURN_OFF}"
        )
    raise InputError(
        "training and evaluation render the same message differently, "
        f"from token {index + 1} on ({_token(tokenizer, training, index)} "
        f"and {_token(tokenizer, evaluation, index)})\n"
        f"  training:   {_excerpt(tokenizer.decode(training), start)}\n"
        f"  evaluation: {_excerpt(tokenizer.decode(evaluation), start)}\n{remedy}"
    )


def _added(tokenizer: Any) -> list[int]:
    """Return the token ids of a text if the tokenizer puts special tokens around it by itself."""
    plain, special = (
        tokenizer("a", add_special_tokens=added)["input_ids"] for added in (False, True)
    )
    return special if special != plain else []


def _check_bos(engine: GeneratingLMEval, request: GenerationRequest) -> None:
    """One BOS where the tokenizer puts one before any text, never two."""
    tokenizer = engine.tokenizer
    bos, name = tokenizer.bos_token_id, repr(tokenizer.bos_token)
    if bos is None:
        return
    ids = engine.prompt_ids([request.prompt])[0]
    leading = next((index for index, token in enumerate(ids) if token != bos), len(ids))
    # A token that also ends texts may stand between turns; any other belongs at the start alone.
    n_bos = leading if bos in engine.end_ids() else ids.count(bos)
    shown = f"\n  evaluation: {_excerpt(tokenizer.decode(ids))}\n"
    if n_bos > 1:
        raise InputError(
            f"prompt parity: the prompt has {n_bos} BOS tokens {name}, expected one{shown}"
            "take bos_token out of the chat template, or let the template begin with it "
            f"(lm-eval then adds none), or {_TURN_OFF}"
        )
    if not n_bos and bos in _added(tokenizer):
        raise InputError(
            f"prompt parity: the prompt has no BOS token {name}, though the tokenizer puts one "
            f"before any text{shown}"
            f"put bos_token at the start of the chat template, or {_TURN_OFF}"
        )


def _check_end(engine: GeneratingLMEval, request: GenerationRequest, response: list[int]) -> None:
    tokenizer = engine.tokenizer
    # A stop string of one token stops as an end-of-text token does; the tokenizer's own end of
    # text is no stop string to lm-eval.
    texts = [text for text in stop_strings(request) if text != tokenizer.eos_token]
    stops = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    ends = engine.end_ids() | {ids[0] for ids in stops if len(ids) == 1}
    if ends.isdisjoint(response):
        end = tokenizer.eos_token_id
        names = ", ".join(f"{token} {tokenizer.decode([token])!r}" for token in sorted(ends))
        stops_at = f"evaluation stops at {names or 'nothing'}"
        raise InputError(
            f"training ends a response with {end} {tokenizer.decode([end])!r}, "
            f"{stops_at}: no response would end\n"
            f"  training:   {_excerpt(tokenizer.decode(response))}\n"
            f"  evaluation: stops at {names or 'nothing'}\n"
            f"add {end} to eos_token_id in generation_config.json of the student's base"
        )


def _first_difference(left: Any, right: Any) -> int:
    pairs = enumerate(zip(left, right, strict=False))
    return next((index for index, (a, b) in pairs if a != b), min(len(left), len(right)))


def _token(tokenizer: Any, ids: list[int], index: int) -> str:
    return f"{ids[index]} {tokenizer.decode([ids[index]])!r}" if index < len(ids) else "nothing"


def _excerpt(text: str, around: int = 0) -> str:
    """Return a text for a message, or the part of a long one around an index."""
    if len(text) <= MAX_SHOWN:
        return repr(text)
    start = max(0, min(around - MAX_SHOWN // 2, len(text) - MAX_SHOWN))
    end = start + MAX_SHOWN
    return ("…" if start else "") + repr(text[start:end]) + ("…" if end < len(text) else "")
