"""The miniature's texts, read back by a parser that shares nothing with the generator."""

import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from itertools import accumulate
from typing import Any, NamedTuple

import pytest

from gapgrid.core.records import canonical, sha256_text
from gapgrid.demo import arithmetic
from gapgrid.grid.cells import Grid

Row = dict[str, str]
DAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAY = f"(?:{'|'.join(DAYS)})"
SIGN = {"buys": 1, "finds": 1, "gets": 1, "gives": -1, "loses": -1, "eats": -1}


class Story(NamedTuple):
    """A story as a reader understands it."""

    start: int
    events: tuple[int, ...]

    def values(self) -> list[int]:
        """Return the start, then the value after each event."""
        return list(accumulate(self.events, initial=self.start))


STORY = re.compile(
    r"(ann|bob|cat|dan|eve|fay) has (\d+) (pens|caps|nuts|figs) \. ((?:[a-z]{3} [a-z]+ \d+ \. )+)"
)
FACT = re.compile(r"([a-z]{3}) ([a-z]+) (\d+) \. ")


def read_story(text: str) -> tuple[Story, str]:
    """Return the story that a text opens with, and the text after it."""
    match = STORY.match(text)
    assert match, text
    facts = FACT.findall(match[4])
    assert [day for day, _, _ in facts] == DAYS[: len(facts)], text
    events = tuple(SIGN[verb] * int(number) for _, verb, number in facts)
    return Story(int(match[2]), events), text[match.end() :]


EQUATION = re.compile(rf"(?<!\S)(\d+)((?: (?:{DAY} )?[+-] \d+)+) = (\d+)( \. wait)?")


class Equation(NamedTuple):
    """One equation: the start and terms of its left side, its right side, and if it is revoked."""

    start: int
    terms: tuple[int, ...]
    stated: int
    is_revoked: bool

    @property
    def is_right(self) -> bool:
        """Whether both sides are the same."""
        return self.start + sum(self.terms) == self.stated


def equations(text: str) -> list[Equation]:
    """Return every equation of a text; assert that none escapes and all values are in range."""
    rows = []
    for start, terms, stated, wait in EQUATION.findall(text):
        signed = tuple(int(sign + number) for sign, number in re.findall(r"([+-]) (\d+)", terms))
        rows.append(Equation(int(start), signed, int(stated), bool(wait)))
    assert len(rows) == text.split().count("="), text
    assert all(0 <= equation.stated <= 20 for equation in rows), text
    return rows


# ---- the texts of the demo grid itself ----

BENCHMARKS = {2: 12, 4: 14, 6: 16}  # events -> seed


@cache
def answered(style: str) -> list[Row]:
    """Return as many training rows as the demo grid has."""
    return list(arithmetic.answered(style, 3000, 2))


@cache
def corpus() -> list[str]:
    """Return a good part of the texts that the demo's students are pretrained on."""
    return [row["response"] for row in arithmetic.corpus(12_000, 1)]


@cache
def benchmark(events: int) -> list[Row]:
    """Return as many problems as the demo grid has."""
    return list(arithmetic.benchmark(200, events, BENCHMARKS[events]))


def test_these_are_the_texts_of_the_demo_grid(demo: Grid) -> None:
    sources = {name: entry["builtin"] for name, entry in demo["sources"].items()}
    seeds = {name: builtin["seed"] for name, builtin in sources.items()}
    assert seeds == {"corpus": 1, "short": 2, "long": 2}
    assert sources["short"]["rows"] == sources["long"]["rows"] == 3000
    problems = [entry["data"]["builtin"] for entry in demo["benchmarks"].values()]
    assert {builtin["events"]: builtin["seed"] for builtin in problems} == BENCHMARKS


@pytest.mark.parametrize("style", ["short", "long"])
def test_every_answer_is_right_and_every_value_in_range(style: str) -> None:
    for row in answered(style):
        story, question = read_story(row["prompt"])
        assert question == "how many ?"
        values = story.values()
        assert 1 <= story.start <= 20
        assert all(0 <= value <= 20 for value in values), row
        assert all(1 <= abs(event) <= 9 for event in story.events), row
        assert row["response"].endswith(f" Final Answer: \\boxed{{ {values[-1]} }}"), row


def test_training_problems_have_two_to_six_events_evenly() -> None:
    counts = Counter(len(read_story(row["prompt"])[0].events) for row in answered("short"))
    assert set(counts) == {2, 3, 4, 5, 6}
    assert all(500 <= count <= 700 for count in counts.values()), counts


def test_short_answers_merge_up_to_three_events_a_line() -> None:
    for row in answered("short"):
        story, _ = read_story(row["prompt"])
        lines = equations(row["response"])
        assert all(line.is_right and not line.is_revoked for line in lines), row
        expected = [story.events[first : first + 3] for first in range(0, len(story.events), 3)]
        assert [line.terms for line in lines] == expected
        assert [line.start for line in lines] == story.values()[:-1:3]
        days = [word for word in row["response"].split() if word in DAYS]
        assert days == DAYS[: len(story.events)]


def long_steps(row: Row) -> list[str]:
    """Return the part of a long answer about each event, wrong tries and checks included."""
    working = row["response"].split(" let me verify . ")[0]
    opening, *steps = re.split(rf" (?={DAY} [a-z]+ \d+ so )", working)
    story, _ = read_story(row["prompt"])
    assert opening == f"okay , {row['prompt'].split()[0]} starts with {story.start} ."
    assert len(steps) == len(story.events)
    return steps


def test_long_answers_revoke_every_wrong_equation_and_correct_it_at_once() -> None:
    n_wrong = n_checks = n_steps = 0
    for row in answered("long"):
        story, _ = read_story(row["prompt"])
        values = story.values()
        for index, step in enumerate(long_steps(row)):
            n_steps += 1
            before, event, after = values[index], story.events[index], values[index + 1]
            assert step.startswith(f"{DAYS[index]} "), row
            tries = equations(step)
            if not tries[0].is_right:
                n_wrong += 1
                first = tries.pop(0)
                assert first == Equation(before, (event,), first.stated, True), row
                assert f". wait , let me check . {before} " in step
            assert tries[0] == Equation(before, (event,), after, False), row
            if len(tries) > 1:
                n_checks += 1
                assert tries[1:] == [Equation(after, (-event,), before, False)], row
                assert step.endswith(f"= {before} good .")
    assert 0.28 < n_wrong / n_steps < 0.32
    assert 0.48 < n_checks / n_steps < 0.52


def test_long_answers_review_the_right_values() -> None:
    for row in answered("long"):
        values = read_story(row["prompt"])[0].values()[1:]
        review = row["response"].split(" let me verify . ")[1].split(" , yes . ")[0]
        days = zip(DAYS, values, strict=False)
        assert review == " , ".join(f"{day} {value}" for day, value in days), row


def test_both_styles_answer_the_same_problems() -> None:
    short, long = answered("short"), answered("long")
    problems = [(row["id"], row["prompt"]) for row in short]
    assert problems == [(row["id"], row["prompt"]) for row in long]
    ids, prompts = map(set, zip(*problems, strict=True))
    assert len(ids) == len(prompts) == 3000
    n_words = [sum(len(row["response"].split()) for row in rows) for rows in (short, long)]
    assert 3.5 < n_words[1] / n_words[0] < 4.5


@pytest.mark.parametrize("events", BENCHMARKS)
def test_benchmarks_are_right_and_each_sum_occurs_once(events: int) -> None:
    sums = set()
    for row in benchmark(events):
        story, question = read_story(row["problem"])
        assert question == "how many ?"
        assert len(story.events) == events
        assert all(0 <= value <= 20 for value in story.values())
        assert row["answer"] == str(story.values()[-1])
        sums.add(story)
    assert len(sums) == 200


def corpus_texts(kind: str) -> Iterator[str]:
    """Yield the pretraining texts of a kind: equations, running (sums) or recall (of days)."""
    for text in corpus():
        without_story = "running" if " so " in text else "equations"
        if kind == ("recall" if STORY.match(text) else without_story):
            yield text


RUNNING = re.compile(r"([a-z]{3}) ([a-z]+) (\d+) so (\d+) ([+-]) (\d+) = (\d+) \.")


def running_story(text: str) -> Story:
    """Return the story of a text with running sums; assert that these are right."""
    steps = RUNNING.findall(text)
    assert steps and [step[0] for step in steps] == DAYS[: len(steps)], text
    events = [SIGN[verb] * int(number) for _, verb, number, *_ in steps]
    story = Story(int(text.split()[2]), tuple(events))
    values = story.values()
    for index, (*_, before, sign, number, after) in enumerate(steps):
        assert int(sign + number) == events[index], text
        assert [int(before), int(after)] == values[index : index + 2], text
    return story


def test_every_equation_of_the_corpus_is_right() -> None:
    for text in corpus_texts("equations"):
        rows = equations(text)
        assert all(row.is_right for row in rows), text
        assert sorted(len(row.terms) for row in rows) == [1, 1, 1, 2, 2], text
    for text in corpus_texts("running"):
        assert len(equations(text)) == len(running_story(text).events) <= 4
    shares = {"equations": 0.35, "running": 0.15, "recall": 0.5}
    counts = {kind: sum(1 for _ in corpus_texts(kind)) / len(corpus()) for kind in shares}
    assert counts == pytest.approx(shares, abs=0.02)


def test_recall_texts_repeat_each_day_twice_as_it_was() -> None:
    for text in corpus_texts("recall"):
        facts = FACT.findall(STORY.match(text)[4])  # type: ignore[index]
        notes = re.findall(r"([a-z]{3}) ([a-z]+) (\d+) ([+-]) \.", read_story(text)[1])
        expected = sorted((*fact, "+" if SIGN[fact[1]] > 0 else "-") for fact in facts)
        assert sorted(notes[: len(facts)]) == sorted(notes[len(facts) :]) == expected, text
        assert 2 <= len(facts) <= 7


# ---- no test sum is ever trained on ----


@cache
def benchmark_sums() -> frozenset[Story]:
    """Return every sum of the three benchmarks."""
    return frozenset(read_story(row["problem"])[0] for n in BENCHMARKS for row in benchmark(n))


def training_sums() -> set[Story]:
    return {read_story(row["prompt"])[0] for row in arithmetic.answered("short", 3000, 2)}


def test_no_test_sum_is_a_training_problem() -> None:
    assert len(benchmark_sums()) == 600
    assert not benchmark_sums() & training_sums()


def test_no_test_sum_is_in_the_corpus() -> None:
    sums = {read_story(text)[0] for text in corpus_texts("recall")}
    sums |= {running_story(text) for text in corpus_texts("running")}
    for text in corpus_texts("equations"):
        sums |= {Story(row.start, row.terms) for row in equations(text) if len(row.terms) == 2}
    assert len(sums) > 7000
    assert not benchmark_sums() & sums


def test_without_the_split_test_sums_would_be_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    benchmark_sums()  # cached before the split is switched off
    monkeypatch.setattr(arithmetic, "is_test", lambda start, events: False)
    assert len(benchmark_sums() & training_sums()) > 10


def test_about_a_fifth_of_all_sums_is_for_tests() -> None:
    sums = [(start, (a, b)) for start in range(1, 21) for a in range(-9, 10) for b in range(-9, 10)]
    share = sum(arithmetic.is_test(*sum_) for sum_ in sums) / len(sums)
    assert 0.17 < share < 0.21


# ---- seeds ----

GENERATORS: dict[str, Any] = {
    "short": lambda seed: list(arithmetic.answered("short", 60, seed)),
    "long": lambda seed: list(arithmetic.answered("long", 60, seed)),
    "corpus": lambda seed: list(arithmetic.corpus(60, seed)),
    "benchmark": lambda seed: list(arithmetic.benchmark(60, 4, seed)),
}


@pytest.mark.parametrize("name", GENERATORS)
def test_a_seed_fixes_the_rows_and_another_changes_them(name: str) -> None:
    generate = GENERATORS[name]
    assert generate(3) == generate(3)
    texts = [{canonical({**row, "id": ""}) for row in generate(seed)} for seed in (3, 4)]
    assert len(texts[0] & texts[1]) < 10


@pytest.mark.parametrize(
    ("name", "digest"),
    [
        ("short", "9fdd93a7229fbe57"),
        ("long", "cf760cc0fb756434"),
        ("corpus", "71c16f0be2cace3c"),
        ("benchmark", "487290bff9be6437"),
    ],
)
def test_the_texts_are_those_of_this_version(name: str, digest: str) -> None:
    """If this fails on purpose, raise VERSIONS of `source` and `problems` in the same commit."""
    assert sha256_text(canonical(GENERATORS[name](0)))[:16] == digest


def test_more_rows_begin_with_the_fewer() -> None:
    assert list(arithmetic.answered("long", 60, 1))[:20] == list(arithmetic.answered("long", 20, 1))


def test_too_many_test_problems_are_refused() -> None:
    message = r"found only \d+ different test problems of 1 events, expected 200"
    with pytest.raises(ValueError, match=message):
        arithmetic.test_problems(200, 1, 0)


# ---- words ----


def test_the_vocabulary_is_the_words_of_all_texts_each_once() -> None:
    rows = [*answered("short"), *answered("long")]
    texts = [text for row in rows for text in (row["prompt"], row["response"])]
    texts += corpus()
    texts += [row["problem"] for events in BENCHMARKS for row in benchmark(events)]
    assert {word for text in texts for word in text.split()} == set(arithmetic.WORDS)
    words = [*arithmetic.SPECIAL, *arithmetic.WORDS]
    assert len(words) == len(set(words))
