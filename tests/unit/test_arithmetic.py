"""The miniature's texts, read back by a parser that shares nothing with the generator."""

import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import pytest

from gapgrid.demo import arithmetic
from gapgrid.records import canonical, sha256_text

Row = dict[str, str]
DAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
SIGN = {"buys": 1, "finds": 1, "gets": 1, "gives": -1, "loses": -1, "eats": -1}


class Told(NamedTuple):
    """A story as a reader understands it."""

    start: int
    events: tuple[int, ...]

    def values(self) -> list[int]:
        """The start, then the value after each event."""
        values = [self.start]
        for event in self.events:
            values.append(values[-1] + event)
        return values


STORY = re.compile(r"(ann|bob|cat|dan|eve|fay) has (\d+) (pens|caps|nuts|figs) \. ((?:[a-z]{3} [a-z]+ \d+ \. )+)")
FACT = re.compile(r"([a-z]{3}) ([a-z]+) (\d+) \. ")


def understood(text: str) -> tuple[Told, str]:
    """The story that a text opens with, and the text after it."""
    match = STORY.match(text)
    assert match, text
    facts = FACT.findall(match[4])
    assert [day for day, _, _ in facts] == DAYS[: len(facts)], text
    return Told(int(match[2]), tuple(SIGN[verb] * int(number) for _, verb, number in facts)), text[match.end() :]


EQUATION = re.compile(r"(?<!\S)(\d+)((?: (?:(?:mon|tue|wed|thu|fri|sat|sun) )?[+-] \d+)+) = (\d+)( \. wait)?")


class Equation(NamedTuple):
    """One equation: its left side worked out, its right side, and whether it is taken back."""

    start: int
    terms: tuple[int, ...]
    stated: int
    taken_back: bool

    @property
    def is_right(self) -> bool:
        """Whether both sides are the same."""
        return self.start + sum(self.terms) == self.stated


def equations(text: str) -> list[Equation]:
    """Every equation of a text; that none escapes is asserted."""
    found = []
    for start, terms, stated, wait in EQUATION.findall(text):
        signed = tuple(int(sign + number) for sign, number in re.findall(r"([+-]) (\d+)", terms))
        found.append(Equation(int(start), signed, int(stated), bool(wait)))
    assert len(found) == text.split().count("="), text
    return found


# ---- the texts of the demo grid itself ----


@cache
def answered(style: str) -> list[Row]:
    """Training rows as many as in the demo grid."""
    return list(arithmetic.answered(style, 3000, 2))


@cache
def corpus() -> list[Row]:
    """A good part of the corpus that the demo's students are pretrained on."""
    return list(arithmetic.corpus(12_000, 1))


BENCHMARKS = {2: 12, 4: 14, 6: 16}


@cache
def benchmark(events: int) -> list[Row]:
    """Problems as many as in the demo grid."""
    return list(arithmetic.benchmark(200, events, BENCHMARKS[events]))


def test_these_are_the_texts_of_the_demo_grid(demo: dict[str, Any]) -> None:
    assert {name: source["builtin"]["seed"] for name, source in demo["sources"].items()} == {"corpus": 1, "short": 2, "long": 2}
    assert demo["sources"]["short"]["builtin"]["rows"] == demo["sources"]["long"]["builtin"]["rows"] == 3000
    events = {entry["data"]["builtin"]["events"]: entry["data"]["builtin"]["seed"] for entry in demo["benchmarks"].values()}
    assert events == BENCHMARKS


@pytest.mark.parametrize("style", ["short", "long"])
def test_every_answer_is_right_and_every_value_in_range(style: str) -> None:
    for row in answered(style):
        told, question = understood(row["prompt"])
        assert question == "how many ?"
        values = told.values()
        assert 1 <= told.start <= 20
        assert all(0 <= value <= 20 for value in values), row
        assert all(1 <= abs(event) <= 9 for event in told.events), row
        assert row["response"].endswith(f" Final Answer: \\boxed{{ {values[-1]} }}"), row


def test_training_problems_have_two_to_six_events_evenly() -> None:
    counts = Counter(len(understood(row["prompt"])[0].events) for row in answered("short"))
    assert set(counts) == {2, 3, 4, 5, 6}
    assert all(500 <= count <= 700 for count in counts.values()), counts


def test_short_answers_merge_up_to_three_events_a_line() -> None:
    for row in answered("short"):
        told, _ = understood(row["prompt"])
        found = equations(row["response"])
        assert all(equation.is_right and not equation.taken_back for equation in found), row
        assert [len(equation.terms) for equation in found] == [
            len(told.events[first : first + 3]) for first in range(0, len(told.events), 3)
        ]
        assert tuple(term for equation in found for term in equation.terms) == told.events
        assert [equation.start for equation in found] == told.values()[:-1:3]
        assert [word for word in row["response"].split() if word in DAYS] == DAYS[: len(told.events)]


def long_steps(row: Row) -> Iterator[str]:
    """The part of a long answer about each event, first tries and checks included."""
    opening, *steps = re.split(r" (?=(?:mon|tue|wed|thu|fri|sat|sun) [a-z]+ \d+ so )", row["response"].split(" let me verify . ")[0])
    told, _ = understood(row["prompt"])
    assert opening == f"okay , {row['prompt'].split()[0]} starts with {told.start} ."
    assert len(steps) == len(told.events)
    yield from steps


def test_long_answers_take_back_every_wrong_equation_and_mend_it_at_once() -> None:
    wrong = checks = steps = 0
    for row in answered("long"):
        told, _ = understood(row["prompt"])
        values = told.values()
        for index, step in enumerate(long_steps(row)):
            steps += 1
            before, event, after = values[index], told.events[index], values[index + 1]
            found = equations(step)
            assert all(0 <= equation.stated <= 20 for equation in found), row
            assert step.startswith(f"{DAYS[index]} "), row
            if not found[0].is_right:
                wrong += 1
                first = found.pop(0)
                assert first.taken_back and (first.start, first.terms) == (before, (event,)), row
                assert f". wait , let me check . {before} " in step
            assert found[0] == Equation(before, (event,), after, False), row
            if len(found) > 1:
                checks += 1
                assert found[1:] == [Equation(after, (-event,), before, False)], row
                assert step.endswith(f"= {before} good .")
    assert 0.28 < wrong / steps < 0.32
    assert 0.48 < checks / steps < 0.52


def test_long_answers_review_the_values_that_stood() -> None:
    for row in answered("long"):
        told, _ = understood(row["prompt"])
        review = row["response"].split(" let me verify . ")[1].split(" , yes . ")[0]
        assert review == " , ".join(f"{day} {value}" for day, value in zip(DAYS, told.values()[1:], strict=False)), row


def test_both_styles_answer_the_same_problems() -> None:
    short, long = answered("short"), answered("long")
    assert [(row["id"], row["prompt"]) for row in short] == [(row["id"], row["prompt"]) for row in long]
    assert len({row["id"] for row in short}) == len({row["prompt"] for row in short}) == 3000
    words = [sum(len(row["response"].split()) for row in rows) / 3000 for rows in (short, long)]
    assert 3.5 < words[1] / words[0] < 4.5


@pytest.mark.parametrize("events", BENCHMARKS)
def test_benchmarks_are_right_and_each_sum_is_asked_once(events: int) -> None:
    sums = set()
    for row in benchmark(events):
        told, question = understood(row["problem"])
        assert question == "how many ?"
        assert len(told.events) == events
        assert all(0 <= value <= 20 for value in told.values())
        assert row["answer"] == str(told.values()[-1])
        sums.add(told)
    assert len(sums) == 200


def parts(text: str) -> tuple[str, Told | None]:
    """Which kind of pretraining text it is, and its story if it tells one."""
    if not STORY.match(text):
        return "equations" if " so " not in text else "running", None
    return "recall", understood(text)[0]


RUNNING = re.compile(r"([a-z]{3}) ([a-z]+) (\d+) so (\d+) ([+-]) (\d+) = (\d+) \.")


def running_story(text: str) -> Told:
    """The story of a text that works it out as it goes; that it goes right is asserted."""
    steps = RUNNING.findall(text)
    assert steps and [step[0] for step in steps] == DAYS[: len(steps)], text
    for _, verb, told, _, sign, number, _ in steps:
        assert (told, sign) == (number, "+" if SIGN[verb] > 0 else "-"), text
    start = int(text.split()[2])
    story = Told(start, tuple(SIGN[verb] * int(number) for _, verb, number, *_ in steps))
    assert [int(step[3]) for step in steps] + [int(steps[-1][6])] == story.values(), text
    return story


def test_every_equation_of_the_corpus_is_right() -> None:
    kinds: Counter[str] = Counter()
    for row in corpus():
        kind, story = parts(row["response"])
        kinds[kind] += 1
        found = equations(row["response"])
        assert all(equation.is_right and 0 <= equation.stated <= 20 for equation in found), row
        if kind == "equations":
            assert sorted(len(equation.terms) for equation in found) == [1, 1, 1, 2, 2], row
        elif kind == "running":
            assert len(found) == len(running_story(row["response"]).events) <= 4
        else:
            assert story is not None and found == []
    shares = {kind: round(count / len(corpus()), 2) for kind, count in kinds.items()}
    assert shares == pytest.approx({"equations": 0.35, "running": 0.15, "recall": 0.5}, abs=0.02)


def test_recall_texts_repeat_each_day_twice_as_it_was() -> None:
    seen = 0
    for row in corpus():
        kind, story = parts(row["response"])
        if story is None or kind != "recall":
            continue
        seen += 1
        facts = FACT.findall(STORY.match(row["response"])[4])  # type: ignore[index]
        notes = re.findall(r"([a-z]{3}) ([a-z]+) (\d+) ([+-]) \.", understood(row["response"])[1])
        expected = sorted((day, verb, number, "+" if SIGN[verb] > 0 else "-") for day, verb, number in facts)
        assert sorted(notes[: len(facts)]) == sorted(notes[len(facts) :]) == expected, row
        assert 2 <= len(facts) <= 7
    assert seen > 5000


# ---- no test sum is ever trained on ----


@cache
def asked_sums() -> frozenset[Told]:
    """Every sum of the three benchmarks."""
    return frozenset(understood(row["problem"])[0] for events in BENCHMARKS for row in benchmark(events))


def test_no_test_sum_is_a_training_problem() -> None:
    assert len(asked_sums()) == 600
    assert not asked_sums() & {understood(row["prompt"])[0] for row in answered("short")}


def test_no_test_sum_is_told_or_listed_in_the_corpus() -> None:
    told = set()
    for row in corpus():
        kind, story = parts(row["response"])
        if kind == "equations":
            told |= {Told(equation.start, equation.terms) for equation in equations(row["response"]) if len(equation.terms) == 2}
        else:
            told.add(story or running_story(row["response"]))
    assert len(told) > 7000
    assert not asked_sums() & told


def test_without_the_split_test_sums_would_be_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arithmetic, "is_test", lambda start, events: False)
    drawn = {understood(row["prompt"])[0] for row in arithmetic.answered("short", 3000, 2)}
    assert len(asked_sums() & drawn) > 10


def test_about_a_fifth_of_all_sums_is_for_tests() -> None:
    sums = [(start, (a, b)) for start in range(1, 21) for a in range(-9, 10) for b in range(-9, 10)]
    share = sum(arithmetic.is_test(*sum_) for sum_ in sums) / len(sums)
    assert 0.17 < share < 0.21


# ---- seeds ----

MAKERS: dict[str, Any] = {
    "short": lambda seed: list(arithmetic.answered("short", 60, seed)),
    "long": lambda seed: list(arithmetic.answered("long", 60, seed)),
    "corpus": lambda seed: list(arithmetic.corpus(60, seed)),
    "benchmark": lambda seed: list(arithmetic.benchmark(60, 4, seed)),
}


@pytest.mark.parametrize("name", MAKERS)
def test_a_seed_fixes_the_rows_and_another_changes_them(name: str) -> None:
    make = MAKERS[name]
    assert make(3) == make(3)
    texts = [{canonical({**row, "id": ""}) for row in make(seed)} for seed in (3, 4)]
    assert len(texts[0] & texts[1]) < 10


@pytest.mark.parametrize(
    ("name", "digest"),
    [("short", "9fdd93a7229fbe57"), ("long", "cf760cc0fb756434"), ("corpus", "71c16f0be2cace3c"), ("benchmark", "487290bff9be6437")],
)
def test_the_texts_are_those_of_this_version(name: str, digest: str) -> None:
    """Where this fails on purpose, VERSIONS of the stages `source` and `problems` go up in the same commit."""
    assert sha256_text(canonical(MAKERS[name](0)))[:16] == digest


def test_more_rows_begin_with_the_fewer() -> None:
    assert list(arithmetic.answered("long", 60, 1))[:20] == list(arithmetic.answered("long", 20, 1))


def test_too_many_test_problems_are_refused() -> None:
    with pytest.raises(ValueError, match=r"found only \d+ different test problems of 1 events, expected 200"):
        arithmetic.test_problems(200, 1, 0)


# ---- words ----


def test_every_word_is_in_the_vocabulary() -> None:
    texts = [row[key] for style in ("short", "long") for row in answered(style) for key in ("prompt", "response")]
    texts += [row["response"] for row in corpus()]
    texts += [row["problem"] for events in BENCHMARKS for row in benchmark(events)]
    used = {word for text in texts for word in text.split()}
    assert used == set(arithmetic.WORDS)


def test_no_word_is_there_twice() -> None:
    words = [*arithmetic.SPECIAL, *arithmetic.WORDS]
    assert len(words) == len(set(words))
