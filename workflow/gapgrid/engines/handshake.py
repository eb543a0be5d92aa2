"""Before a student answers: is it asked as it was trained, and does evaluation stop where training taught it to end?

One user message goes through the trainer's code and through the evaluator's, and the token ids are compared. Contents
differ rightly between training and benchmarks, so it is the rendering of the same message that must agree. A student that
was not trained here, untouched or adopted, gets a warning where a trained one is stopped; a wrong BOS stops every one.
"""

import logging
import sys
from pathlib import Path
from typing import Any

from gapgrid.engines.harness import LMEval
from gapgrid.engines.tokens import IGNORED, encode, load_tokenizer
from gapgrid.records import InputError, Row
from gapgrid.responses import Question

log = logging.getLogger(__name__)
SHOWN = 2000  # characters of a rendered text in a message


def check(engine: LMEval, asked: Question, message: str, trained: Row, base: Path | None) -> None:
    """Compare the two ways; raises `InputError` that shows both texts and says which setting to change.

    `asked` is a benchmark's first question, `message` what its user says before any template, `trained` the student's
    manifest, `base` the student before training (without it, the trained student's own files are taken for it).
    """
    _check_bos(engine, asked)
    tokenizer = load_tokenizer(base) if base else engine.tokenizer
    here = trained["stage"] == "train" and "adopted" not in trained["spec"]
    recipe = trained["spec"].get("recipe", {}) if here else {}
    try:
        _check_template(engine.tokenizer, tokenizer)
        prompt, answer = trained_on(tokenizer, message, recipe)
        _check_prompt(engine, message, prompt)
        _check_end(engine, asked, answer)
    except InputError as error:
        if here:
            raise InputError(f"handshake: {error}") from error
        log.warning("warning: handshake of a student that was not trained here: %s", error)


def trained_on(tokenizer: Any, message: str, recipe: Row) -> tuple[list[int], list[int]]:
    """Token ids of the prompt and of the answer of a training row with this prompt, as the trainer makes them."""
    row = {"id": "handshake", "prompt": message, "response": "1"}
    example = encode([row], tokenizer, {**recipe, "max_length": sys.maxsize}).examples[0]
    start = sum(label == IGNORED for label in example["labels"])
    return example["input_ids"][:start], example["input_ids"][start:]


def _check_template(student: Any, base: Any) -> None:
    ours, theirs = str(base.chat_template), str(student.chat_template)
    if ours != theirs:
        place = _first_difference(ours, theirs)
        raise InputError(
            f"the student's chat template is not its base's: they differ from character {place + 1} on\n"
            f"  training:   {_shown(ours, place)}\n  evaluation: {_shown(theirs, place)}\n"
            "copy chat_template (tokenizer_config.json or chat_template.jinja) from the base to the student, or train with the student's"
        )


def _check_prompt(engine: LMEval, message: str, training: list[int]) -> None:
    if not training:  # recipes of format text train on no prompt
        return
    text = engine.apply_chat_template([{"role": "user", "content": message}])
    evaluation = engine.prompt_ids([text])[0]
    if training == evaluation:
        return
    place = _first_difference(training, evaluation)
    same = len(engine.tokenizer.decode(training[:place]))
    raise InputError(
        f"training and evaluation render the same message differently, from token {place + 1} on "
        f"({_token(engine.tokenizer, training, place)} and {_token(engine.tokenizer, evaluation, place)})\n"
        f"  training:   {_shown(engine.tokenizer.decode(training), same)}\n"
        f"  evaluation: {_shown(engine.tokenizer.decode(evaluation), same)}\n" + _which_setting(engine.tokenizer, training, evaluation)
    )


def _which_setting(tokenizer: Any, training: list[int], evaluation: list[int]) -> str:
    if _added(tokenizer) and len(evaluation) > len(training):
        return (
            "the tokenizer adds special tokens by itself and the chat template does not write them: "
            "put them at the start of the chat template, or turn add_bos_token and the post_processor of tokenizer.json off"
        )
    return "make tokenizer.json and the chat template of the student those of its base"


def _added(tokenizer: Any) -> list[int]:
    """The special tokens that a tokenizer puts around any text by itself."""
    plain, special = (tokenizer("a", add_special_tokens=added)["input_ids"] for added in (False, True))
    return special if special != plain else []


def _check_bos(engine: LMEval, asked: Question) -> None:
    """One BOS where the tokenizer puts one before any text, never two."""
    tokenizer = engine.tokenizer
    bos = tokenizer.bos_token_id
    if bos is None:
        return
    ids = engine.prompt_ids([asked.prompt])[0]
    leading = next((place for place, one in enumerate(ids) if one != bos), len(ids))
    # A token that also ends texts may stand between turns; any other has its one place.
    found = leading if bos in engine.end_ids() else ids.count(bos)
    shown = f"\n  evaluation: {_shown(tokenizer.decode(ids))}\n"
    if found > 1:
        raise InputError(
            f"handshake: the prompt has {found} BOS tokens {tokenizer.bos_token!r}, expected one{shown}"
            "take bos_token out of the chat template, or let the template begin with it (lm-eval then adds none), "
            "or turn add_bos_token and the post_processor of tokenizer.json off"
        )
    if not found and bos in _added(tokenizer):
        raise InputError(
            f"handshake: the prompt has no BOS token {tokenizer.bos_token!r}, though the tokenizer puts one before any text{shown}"
            "put bos_token at the start of the chat template, or turn add_bos_token and the post_processor of tokenizer.json off"
        )


def _check_end(engine: LMEval, asked: Question, answer: list[int]) -> None:
    tokenizer = engine.tokenizer
    until = asked.settings.get("until") or []
    # A stop string of one token stops as an end-of-text token does; the tokenizer's own lm-eval takes out of its answers itself.
    stops = [text for text in ([until] if isinstance(until, str) else until) if text != tokenizer.eos_token]
    single = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in stops]
    ends = engine.end_ids() | {ids[0] for ids in single if len(ids) == 1}
    if ends.isdisjoint(answer):
        taught = tokenizer.eos_token_id
        names = ", ".join(f"{one} {tokenizer.decode([one])!r}" for one in sorted(ends)) or "nothing"
        raise InputError(
            f"training ends an answer with {taught} {tokenizer.decode([taught])!r}, evaluation stops at {names}: no answer would end\n"
            f"  training:   {_shown(tokenizer.decode(answer))}\n  evaluation: stops at {names}\n"
            f"add {taught} to eos_token_id in generation_config.json of the student's base"
        )


def _first_difference(one: Any, other: Any) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (left, right) in pairs if left != right), min(len(one), len(other)))


def _token(tokenizer: Any, ids: list[int], place: int) -> str:
    return f"{ids[place]} {tokenizer.decode([ids[place]])!r}" if place < len(ids) else "nothing"


def _shown(text: str, around: int = 0) -> str:
    """A text, or of a long one what stands around a place."""
    if len(text) <= SHOWN:
        return repr(text)
    start = max(0, min(around - SHOWN // 2, len(text) - SHOWN))
    end = start + SHOWN
    return ("…" if start else "") + repr(text[start:end]) + ("…" if end < len(text) else "")
