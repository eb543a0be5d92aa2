"""Story problems over small numbers, answered in a short and in a long chain-of-thought style.

A story starts at 1..20 things and has up to seven events, one a weekday, each adding or taking 1..9; the running value
stays within 0..20. Every word and every number is one token. A problem's *sum* is its start and its signed events: names
and verbs dress it. Sums are split between training and test by a hash, so no test sum is ever trained on.
"""

import hashlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate

NAMES = ("ann", "bob", "cat", "dan", "eve", "fay")
ITEMS = ("pens", "caps", "nuts", "figs")
GAINS = ("buys", "finds", "gets")
LOSSES = ("gives", "loses", "eats")
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
TOP = 20
TEST_SHARE = 48 / 256
TRAINING_EVENTS = (2, 6)

_SIGNS = (".", ",", "?", "+", "-", "=")
_TOLD = ("has", "how", "many", "okay", "starts", "with", "so")
_CHECKED = ("wait", "let", "me", "check", "verify", "good", "yes")
_ANSWERED = ("Final", "Answer:", "\\boxed{", "}")
_NUMBERS = tuple(map(str, range(TOP + 1)))
WORDS = (*NAMES, *ITEMS, *GAINS, *LOSSES, *DAYS, *_SIGNS, *_TOLD, *_CHECKED, *_ANSWERED, *_NUMBERS)


@dataclass(frozen=True)
class Problem:
    """A story: `start` things and signed `events`, with the words that dress them."""

    start: int
    events: tuple[int, ...]
    name: str
    item: str
    verbs: tuple[str, ...]

    @property
    def values(self) -> list[int]:
        """The running value: the start, then the value after each event."""
        return list(accumulate(self.events, initial=self.start))

    @property
    def days(self) -> tuple[str, ...]:
        """The weekdays of the events, in order."""
        return DAYS[: len(self.events)]

    @property
    def answer(self) -> int:
        """The value after the last event."""
        return self.values[-1]

    def facts(self) -> list[str]:
        """One clause an event: day, verb, number."""
        return [f"{day} {verb} {abs(event)}" for day, verb, event in zip(self.days, self.verbs, self.events, strict=True)]

    def story(self) -> str:
        """The told part, without the question."""
        return f"{self.name} has {self.start} {self.item} . " + "".join(f"{fact} . " for fact in self.facts())

    def text(self) -> str:
        """The problem as a student sees it."""
        return self.story() + "how many ?"


def is_test(start: int, events: tuple[int, ...]) -> bool:
    """Whether a sum belongs to the test side: a hash decides, so training and test are disjoint by construction."""
    return hashlib.sha256(repr((start, events)).encode()).digest()[0] < 256 * TEST_SHARE


def draw(rng: random.Random, n_events: int) -> Problem:
    """Draw one problem of `n_events` events, of either side."""
    start = value = rng.randint(1, TOP)
    events: list[int] = []
    while len(events) < n_events:
        event = rng.choice((-1, 1)) * rng.randint(1, 9)
        if 0 <= value + event <= TOP:
            events.append(event)
            value += event
    verbs = tuple(rng.choice(GAINS if event > 0 else LOSSES) for event in events)
    return Problem(start, tuple(events), rng.choice(NAMES), rng.choice(ITEMS), verbs)


def training_problem(rng: random.Random, n_events: int) -> Problem:
    """Draw until the sum is on the training side."""
    while is_test((problem := draw(rng, n_events)).start, problem.events):
        pass
    return problem


def training_problems(n: int, seed: int) -> list[Problem]:
    """`n` training problems of two to six events; a text occurs once."""
    rng = random.Random(seed)
    problems: dict[str, Problem] = {}
    while len(problems) < n:
        problem = training_problem(rng, rng.randint(*TRAINING_EVENTS))
        problems.setdefault(problem.text(), problem)
    return list(problems.values())


def test_problems(n: int, n_events: int, seed: int) -> list[Problem]:
    """`n` test problems of `n_events` events; a sum occurs once. Raises ValueError if there are not so many."""
    rng = random.Random(seed)
    problems: dict[tuple[int, tuple[int, ...]], Problem] = {}
    for _ in range(1000 * n):
        problem = draw(rng, n_events)
        if is_test(problem.start, problem.events):
            problems.setdefault((problem.start, problem.events), problem)
        if len(problems) == n:
            return list(problems.values())
    raise ValueError(f"found only {len(problems)} different test problems of {n_events} events, expected {n}")


# ---- two ways to answer ----


def _signed(event: int) -> str:
    return f"{'+' if event > 0 else '-'} {abs(event)}"


def _boxed(problem: Problem) -> str:
    return f"Final Answer: \\boxed{{ {problem.answer} }}"


def short_cot(problem: Problem, rng: random.Random) -> str:
    """Up to three events merged into one line, no checks. (`rng` is not needed: there is one short answer.)"""
    lines, value = [], problem.start
    for first in range(0, len(problem.events), 3):
        part = slice(first, first + 3)
        terms = " ".join(f"{day} {_signed(event)}" for day, event in zip(problem.days[part], problem.events[part], strict=True))
        total = value + sum(problem.events[part])
        lines.append(f"{value} {terms} = {total} .")
        value = total
    return " ".join([*lines, _boxed(problem)])


def long_cot(problem: Problem, rng: random.Random) -> str:
    """One event at a time, with wrong first tries that are taken back, inverse checks and a final review."""
    parts = [f"okay , {problem.name} starts with {problem.start} ."]
    for fact, event, before, after in zip(problem.facts(), problem.events, problem.values, problem.values[1:], strict=False):
        sum_ = f"{before} {_signed(event)} ="
        if rng.random() < 0.3:
            parts.append(f"{fact} so {sum_} {_wrong(rng, before, event)} . wait , let me check . {sum_} {after} .")
        else:
            parts.append(f"{fact} so {sum_} {after} .")
        if rng.random() < 0.5:
            parts.append(f"check {after} {_signed(-event)} = {before} good .")
    review = " , ".join(f"{day} {value}" for day, value in zip(problem.days, problem.values[1:], strict=True))
    return " ".join([*parts, f"let me verify . {review} , yes .", _boxed(problem)])


def _wrong(rng: random.Random, before: int, event: int) -> int:
    right = before + event
    slip = right + rng.choice((-2, -1, 1, 2)) if rng.random() < 0.5 else before - event
    wrong = min(max(slip, 0), TOP)
    return wrong if wrong != right else (right + 1 if right < TOP else right - 1)


STYLES: dict[str, Callable[[Problem, random.Random], str]] = {"short": short_cot, "long": long_cot}


def answered(style: str, n: int, seed: int) -> Iterator[dict[str, str]]:
    """Rows {id, prompt, response} of `n` training problems; the same `seed` gives every style the same problems."""
    rng = random.Random(f"{style} {seed}")
    for index, problem in enumerate(training_problems(n, seed)):
        yield {"id": f"p{index:05d}", "prompt": problem.text(), "response": STYLES[style](problem, rng)}


def benchmark(n: int, n_events: int, seed: int) -> Iterator[dict[str, str]]:
    """Rows {problem, answer} of `n` test problems."""
    for problem in test_problems(n, n_events, seed):
        yield {"problem": problem.text(), "answer": str(problem.answer)}


# ---- what a student reads before any fine-tuning ----


def _equation(rng: random.Random, n_events: int) -> str:
    # One event alone is the addition table, which all must know; two already make a test sum.
    problem = draw(rng, n_events) if n_events == 1 else training_problem(rng, n_events)
    return f"{problem.start} {' '.join(map(_signed, problem.events))} = {problem.answer} ."


def _equations(rng: random.Random) -> str:
    sums = [_equation(rng, 1) for _ in range(3)] + [_equation(rng, 2) for _ in range(2)]
    rng.shuffle(sums)
    return " ".join(sums)


def _running(rng: random.Random) -> str:
    problem = training_problem(rng, rng.randint(1, 4))
    values = problem.values
    told = zip(problem.facts(), problem.events, values, values[1:], strict=False)
    steps = " ".join(f"{fact} so {before} {_signed(event)} = {after} ." for fact, event, before, after in told)
    return f"{problem.name} has {problem.start} {problem.item} . {steps}"


def _recall(rng: random.Random) -> str:
    problem = training_problem(rng, rng.randint(2, 7))
    notes = [f"{fact} {'+' if event > 0 else '-'} ." for fact, event in zip(problem.facts(), problem.events, strict=True)]
    passes = [rng.sample(notes, len(notes)) for _ in range(2)]
    return problem.story() + " ".join(note for one_pass in passes for note in one_pass)


def corpus(n: int, seed: int) -> Iterator[dict[str, str]]:
    """`n` pretraining texts: 35 % lists of equations, 15 % stories with running sums, 50 % recall of a story's days.

    None holds a test problem: stories are drawn from the training side alone.
    """
    rng = random.Random(f"corpus {seed}")
    for index in range(n):
        kind = rng.random()
        text = _equations(rng) if kind < 0.35 else _running(rng) if kind < 0.5 else _recall(rng)
        yield {"id": f"t{index:06d}", "prompt": "", "response": text}


# ---- the tokenizer ----

SPECIAL = ("<|endoftext|>", "<|user|>", "<|assistant|>", "<|im_end|>", "<unk>")
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ '<|user|> ' + message['content'] + ' ' }}"
    "{% else %}{{ '<|assistant|> ' + message['content'] + ' <|im_end|>' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def tokenizer_files() -> dict[str, object]:
    """File name -> JSON content of a word-level tokenizer: a word or a number is one token, special ones first."""
    vocabulary = {token: index for index, token in enumerate((*SPECIAL, *WORDS))}
    added = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {
        "tokenizer.json": {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [{"id": vocabulary[token], "content": token, **added} for token in SPECIAL],
            "normalizer": None,
            "pre_tokenizer": {"type": "WhitespaceSplit"},
            "post_processor": None,
            "decoder": None,
            "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "<unk>"},
        },
        "tokenizer_config.json": {
            "tokenizer_class": "TokenizersBackend",
            "eos_token": "<|im_end|>",
            "pad_token": "<|endoftext|>",
            "unk_token": "<unk>",
            "chat_template": CHAT_TEMPLATE,
            "clean_up_tokenization_spaces": False,
            "model_max_length": 640,
        },
    }
