"""Story problems over small numbers, answered by a short or a long chain of thought.

A story starts at 1..20 things and has up to seven events, one a weekday, each adding or taking
1..9; the running value stays within 0..20. Every word and every number is one token. A problem's
*sum* is its start and its signed events: names and verbs dress it. A hash splits the sums between
training and test, so no test sum is ever trained on.
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
_STORY = ("has", "how", "many", "okay", "starts", "with", "so")
_CHECK = ("wait", "let", "me", "check", "verify", "good", "yes")
_ANSWER = ("Final", "Answer:", "\\boxed{", "}")
_NUMBERS = tuple(map(str, range(TOP + 1)))
# The order fixes the token ids.
WORDS = (*NAMES, *ITEMS, *GAINS, *LOSSES, *DAYS, *_SIGNS, *_STORY, *_CHECK, *_ANSWER, *_NUMBERS)


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
        """Return one clause per event: day, verb, number."""
        events = zip(self.days, self.verbs, self.events, strict=True)
        return [f"{day} {verb} {abs(event)}" for day, verb, event in events]

    def story(self) -> str:
        """Return the story without the question."""
        facts = "".join(f"{fact} . " for fact in self.facts())
        return f"{self.name} has {self.start} {self.item} . {facts}"

    def text(self) -> str:
        """Return the problem as a student sees it."""
        return self.story() + "how many ?"


def is_test(start: int, events: tuple[int, ...]) -> bool:
    """Return whether a sum is for tests; a hash decides, so training and test are disjoint."""
    return hashlib.sha256(repr((start, events)).encode()).digest()[0] < 256 * TEST_SHARE


def draw(rng: random.Random, n_events: int) -> Problem:
    """Draw a problem of `n_events` events, for training or for tests."""
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
    """Draw a problem whose sum is for training."""
    while is_test((problem := draw(rng, n_events)).start, problem.events):
        pass
    return problem


def training_problems(n: int, seed: int) -> list[Problem]:
    """Return `n` training problems of two to six events; each text occurs once."""
    rng = random.Random(seed)
    problems: dict[str, Problem] = {}
    while len(problems) < n:
        problem = training_problem(rng, rng.randint(*TRAINING_EVENTS))
        problems.setdefault(problem.text(), problem)
    return list(problems.values())


def test_problems(n: int, n_events: int, seed: int) -> list[Problem]:
    """Return `n` test problems of `n_events` events; each sum occurs once.

    Raises `ValueError` if there are not so many.
    """
    rng = random.Random(seed)
    problems: dict[tuple[int, tuple[int, ...]], Problem] = {}
    for _ in range(1000 * n):
        problem = draw(rng, n_events)
        if is_test(problem.start, problem.events):
            problems.setdefault((problem.start, problem.events), problem)
        if len(problems) == n:
            return list(problems.values())
    raise ValueError(
        f"found only {len(problems)} different test problems of {n_events} events, expected {n}"
    )


# ---- two ways to answer ----


def _signed(event: int) -> str:
    return f"{'+' if event > 0 else '-'} {abs(event)}"


def _boxed(problem: Problem) -> str:
    return f"Final Answer: \\boxed{{ {problem.answer} }}"


def short_cot(problem: Problem, rng: random.Random) -> str:
    """Return an answer with up to three events per line and no checks.

    There is one short answer, so `rng` is not used.
    """
    lines, value = [], problem.start
    for first in range(0, len(problem.events), 3):
        days, events = problem.days[first : first + 3], problem.events[first : first + 3]
        terms = [f"{day} {_signed(event)}" for day, event in zip(days, events, strict=True)]
        total = value + sum(events)
        lines.append(f"{value} {' '.join(terms)} = {total} .")
        value = total
    return " ".join([*lines, _boxed(problem)])


def long_cot(problem: Problem, rng: random.Random) -> str:
    """Return an answer with one event per line, wrong tries taken back, checks and a review."""
    parts = [f"okay , {problem.name} starts with {problem.start} ."]
    for fact, event, before, after in _steps(problem):
        sum_ = f"{before} {_signed(event)} ="
        if rng.random() < 0.3:
            wrong = _wrong(rng, before, event)
            parts.append(f"{fact} so {sum_} {wrong} . wait , let me check . {sum_} {after} .")
        else:
            parts.append(f"{fact} so {sum_} {after} .")
        if rng.random() < 0.5:
            parts.append(f"check {after} {_signed(-event)} = {before} good .")
    days = zip(problem.days, problem.values[1:], strict=True)
    review = " , ".join(f"{day} {value}" for day, value in days)
    return " ".join([*parts, f"let me verify . {review} , yes .", _boxed(problem)])


def _steps(problem: Problem) -> Iterator[tuple[str, int, int, int]]:
    """Yield each event's clause, the event, and the running value before and after it."""
    values = problem.values
    return zip(problem.facts(), problem.events, values[:-1], values[1:], strict=True)


def _wrong(rng: random.Random, before: int, event: int) -> int:
    right = before + event
    slip = right + rng.choice((-2, -1, 1, 2)) if rng.random() < 0.5 else before - event
    wrong = min(max(slip, 0), TOP)
    return wrong if wrong != right else (right + 1 if right < TOP else right - 1)


STYLES: dict[str, Callable[[Problem, random.Random], str]] = {"short": short_cot, "long": long_cot}


def answered(style: str, n: int, seed: int) -> Iterator[dict[str, str]]:
    """Yield `n` rows {id, prompt, response}; one `seed` gives all styles the same problems."""
    rng = random.Random(f"{style} {seed}")
    for index, problem in enumerate(training_problems(n, seed)):
        response = STYLES[style](problem, rng)
        yield {"id": f"p{index:05d}", "prompt": problem.text(), "response": response}


def benchmark(n: int, n_events: int, seed: int) -> Iterator[dict[str, str]]:
    """Yield `n` rows {problem, answer} of test problems."""
    for problem in test_problems(n, n_events, seed):
        yield {"problem": problem.text(), "answer": str(problem.answer)}


# ---- the pretraining corpus ----


def _equation(rng: random.Random, n_events: int) -> str:
    # One event is the addition table, which a student needs; two already make a test sum.
    problem = draw(rng, n_events) if n_events == 1 else training_problem(rng, n_events)
    return f"{problem.start} {' '.join(map(_signed, problem.events))} = {problem.answer} ."


def _equations(rng: random.Random) -> str:
    sums = [_equation(rng, 1) for _ in range(3)] + [_equation(rng, 2) for _ in range(2)]
    rng.shuffle(sums)
    return " ".join(sums)


def _running(rng: random.Random) -> str:
    problem = training_problem(rng, rng.randint(1, 4))
    steps = [
        f"{fact} so {before} {_signed(event)} = {after} ."
        for fact, event, before, after in _steps(problem)
    ]
    return f"{problem.name} has {problem.start} {problem.item} . {' '.join(steps)}"


def _recall(rng: random.Random) -> str:
    problem = training_problem(rng, rng.randint(2, 7))
    events = zip(problem.facts(), problem.events, strict=True)
    notes = [f"{fact} {'+' if event > 0 else '-'} ." for fact, event in events]
    passes = [rng.sample(notes, len(notes)) for _ in range(2)]
    return problem.story() + " ".join(note for one_pass in passes for note in one_pass)


def corpus(n: int, seed: int) -> Iterator[dict[str, str]]:
    """Yield `n` pretraining rows {id, prompt, response}; prompts are empty.

    35 % are lists of equations, 15 % stories with running sums, 50 % recall a story's days. None
    holds a test problem.
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
    """Return the JSON content of a word-level tokenizer by file name; special tokens come first."""
    vocabulary = {token: index for index, token in enumerate((*SPECIAL, *WORDS))}
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    special = [
        {"id": vocabulary[token], "content": token, **flags, "special": True} for token in SPECIAL
    ]
    return {
        "tokenizer.json": {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": special,
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
