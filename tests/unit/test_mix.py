"""mix: each problem once, shares exact, and an error where they cannot be."""

import itertools
import random
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gapgrid import manifest, mix
from gapgrid.demo import arithmetic
from gapgrid.records import InputError, read_json, read_jsonl, sha256_file, write_jsonl

Runner = Callable[..., int]


def answers(**problems: list[str]) -> mix.Answers:
    """Source -> its answers to the problems named."""
    return {
        source: {problem: {"id": problem, "source": source, "prompt": f"{problem} ?", "response": f"{source} ."} for problem in named}
        for source, named in problems.items()
    }


def names(first: int, last: int) -> list[str]:
    """Problem names p<first> to p<last - 1>."""
    return [f"p{index:04d}" for index in range(first, last)]


# ---- whole numbers ----


@given(weights=st.lists(st.integers(0, 50), min_size=1, max_size=6).filter(any), total=st.integers(0, 5000))
def test_whole_numbers_sum_and_are_nearest_to_their_shares(weights: list[int], total: int) -> None:
    shares = {f"s{index}": weight / sum(weights) for index, weight in enumerate(weights)}
    exact = {f"s{index}": Fraction(weight * total, sum(weights)) for index, weight in enumerate(weights)}
    counts = mix.apportion(shares, total)
    assert sum(counts.values()) == total
    for name, count in counts.items():
        assert abs(count - exact[name]) < 1
        assert count >= 0
    # Largest remainder: nobody rounded up has a smaller remainder than somebody rounded down.
    up = [exact[name] % 1 for name in counts if counts[name] > exact[name]]
    down = [exact[name] % 1 for name in counts if counts[name] < exact[name]]
    assert not up or not down or float(min(up)) >= float(max(down)) - 1e-9


@pytest.mark.parametrize(
    ("shares", "total", "expected"),
    [
        ({"long": 0.2, "short": 0.8}, 3000, {"long": 600, "short": 2400}),
        ({"long": 0.2, "short": 0.8}, 7, {"long": 1, "short": 6}),
        ({"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}, 10, {"a": 4, "b": 3, "c": 3}),
        ({"a": 0.1, "b": 0.2, "c": 0.7}, 10, {"a": 1, "b": 2, "c": 7}),
        ({"a": 0.0, "b": 1.0}, 5, {"a": 0, "b": 5}),
        ({"a": 0.5, "b": 0.5}, 1, {"a": 1, "b": 0}),
        ({"a": 1.0}, 0, {"a": 0}),
    ],
)
def test_largest_remainder(shares: dict[str, float], total: int, expected: dict[str, int]) -> None:
    assert mix.apportion(shares, total) == expected


# ---- by rows ----


def by_rows(given_answers: mix.Answers, shares: dict[str, float], seed: int = 0, size: int | None = None) -> dict[str, str]:
    """Problem -> source, as the stage assigns them."""
    problems = mix.shuffled_problems(given_answers, random.Random(seed))
    return mix.assign_by_rows(given_answers, shares, problems, size or len(problems))


@pytest.mark.parametrize("share", [0.0, 0.2, 1 / 3, 0.5, 1.0])
def test_full_overlap_gives_exact_shares(share: float) -> None:
    assigned = by_rows(answers(long=names(0, 1000), short=names(0, 1000)), {"long": share, "short": 1 - share})
    assert sorted(assigned) == names(0, 1000)
    assert Counter(assigned.values())["long"] == round(1000 * share)


def test_partial_overlap_gives_exact_shares_where_they_exist() -> None:
    # long answers 60 problems, 20 of them alone; short 90, 50 alone; 40 are answered by both: 110 in all.
    given_answers = answers(long=names(0, 60), short=names(20, 110))
    assigned = by_rows(given_answers, {"long": 0.5, "short": 0.5})
    assert Counter(assigned.values()) == {"long": 55, "short": 55}
    assert all(problem in given_answers[source] for problem, source in assigned.items())
    assert {assigned[problem] for problem in names(0, 20)} == {"long"}
    assert {assigned[problem] for problem in names(60, 110)} == {"short"}


def test_three_sources_that_only_a_chain_of_swaps_can_satisfy() -> None:
    given_answers = answers(a=names(0, 30), b=names(20, 60), c=names(50, 90))
    assigned = by_rows(given_answers, {"a": 1 / 3, "b": 1 / 3, "c": 1 / 3})
    assert Counter(assigned.values()) == {"a": 30, "b": 30, "c": 30}
    assert all(problem in given_answers[source] for problem, source in assigned.items())


def possible(given_answers: mix.Answers, counts: dict[str, int], problems: list[str]) -> bool:
    """Whether any assignment has these counts, by trying them all."""
    offers = [[source for source in given_answers if problem in given_answers[source]] for problem in problems]
    return any(all(chosen.count(name) == count for name, count in counts.items()) for chosen in itertools.product(*offers))


@given(
    st.lists(st.sets(st.sampled_from("abc"), min_size=1), min_size=1, max_size=7),
    st.tuples(*[st.integers(0, 4)] * 3).filter(any),
)
def test_shares_hold_exactly_when_any_assignment_has_them(offers: list[set[str]], weights: tuple[int, ...]) -> None:
    given_answers = answers(**{source: [name for name, by in zip(names(0, 9), offers, strict=False) if source in by] for source in "abc"})
    shares = {source: weight / sum(weights) for source, weight in zip("abc", weights, strict=True)}
    counts = mix.apportion(shares, len(offers))
    problems = names(0, len(offers))
    if not possible(given_answers, counts, problems):
        with pytest.raises(InputError, match="the shares cannot hold"):
            by_rows(given_answers, shares)
        return
    assigned = by_rows(given_answers, shares)
    assert sorted(assigned) == problems
    assert {source: list(assigned.values()).count(source) for source in "abc"} == counts
    assert all(problem in given_answers[source] for problem, source in assigned.items())


def test_shares_that_cannot_hold_are_explained() -> None:
    with pytest.raises(InputError) as caught:
        by_rows(answers(long=names(0, 10), short=names(5, 100)), {"long": 0.5, "short": 0.5})
    assert str(caught.value).splitlines() == [
        "mix: the shares cannot hold while each problem is answered once",
        "source long: share asks for 50 problems, it answers 10, 5 of them alone",
        "source short: share asks for 50 problems, it answers 95, 90 of them alone",
    ]


def test_the_seed_decides_who_answers_what() -> None:
    given_answers = answers(long=names(0, 200), short=names(0, 200))
    first, again, other = (by_rows(given_answers, {"long": 0.2, "short": 0.8}, seed) for seed in (0, 0, 1))
    assert first == again
    long = [{problem for problem, source in assigned.items() if source == "long"} for assigned in (first, other)]
    assert len(long[0]) == len(long[1]) == 40
    assert 0 <= len(long[0] & long[1]) < 20


def test_a_draw_favours_no_part_of_the_problems() -> None:
    given_answers = answers(long=names(0, 100), short=names(0, 100))
    hits = Counter(
        problem
        for seed in range(60)
        for problem, source in by_rows(given_answers, {"long": 0.2, "short": 0.8}, seed).items()
        if source == "long"
    )
    halves = [sum(hits[problem] for problem in names(*ends)) for ends in ((0, 50), (50, 100))]
    assert sum(halves) == 60 * 20
    assert abs(halves[0] - halves[1]) < 140  # about four standard deviations


# ---- size ----


def test_a_size_takes_so_many_problems() -> None:
    given_answers = answers(long=names(0, 100), short=names(0, 100))
    assigned = by_rows(given_answers, {"long": 0.2, "short": 0.8}, size=30)
    assert Counter(assigned.values()) == {"long": 6, "short": 24}
    assert set(assigned) != set(by_rows(given_answers, {"long": 0.2, "short": 0.8}, seed=1, size=30))


def test_a_size_above_all_problems_is_refused() -> None:
    with pytest.raises(InputError, match="size 101, but its sources answer only 100 problems together"):
        mix.assign({"parts": {"long": 0.5, "short": 0.5}, "size": 101}, answers(long=names(0, 60), short=names(50, 100)), Path())


def test_a_size_leaves_room_for_the_shares() -> None:
    """Sources that share no problem: a choice of problems that fits the shares exists, and is found."""
    given_answers = answers(long=names(0, 100), short=names(100, 200))
    for seed in range(20):
        assigned = by_rows(given_answers, {"long": 0.5, "short": 0.5}, seed=seed, size=100)
        assert Counter(assigned.values()) == {"long": 50, "short": 50}


# ---- by tokens ----


@given(
    lengths=st.lists(st.tuples(st.integers(1, 40), st.integers(1, 10)), min_size=5, max_size=60),
    share=st.sampled_from([0.0, 0.1, 0.2, 0.5, 0.9, 1.0]),
)
def test_token_shares_hold_to_within_one_response(lengths: list[tuple[int, int]], share: float) -> None:
    problems = names(0, len(lengths))
    given_answers = answers(long=problems, short=problems)
    tokens = {
        (source, problem): pair[place]
        for place, source in enumerate(("long", "short"))
        for problem, pair in zip(problems, lengths, strict=True)
    }
    shares = {"long": share, "short": 1 - share}
    assigned = mix.assign_by_tokens(given_answers, shares, problems, tokens)
    assert sorted(assigned) == problems
    used = Counter[str]()
    for problem, source in assigned.items():
        used[source] += tokens[source, problem]
    longest = max(map(max, lengths))
    assert abs(used["long"] - share * used.total()) <= longest


def test_problems_with_one_source_are_made_up_for() -> None:
    given_answers = answers(long=names(0, 60), short=names(50, 200))
    problems = mix.shuffled_problems(given_answers, random.Random(0))
    tokens = {(source, problem): 1 for source in given_answers for problem in problems}
    assigned = mix.assign_by_tokens(given_answers, {"long": 0.3, "short": 0.7}, problems, tokens)
    assert Counter(assigned.values()) == {"long": 60, "short": 140}


def test_token_shares_that_cannot_hold_are_an_error() -> None:
    given_answers = answers(long=names(0, 10), short=names(10, 100))
    problems = mix.shuffled_problems(given_answers, random.Random(0))
    tokens = {(source, problem): 1 for source in given_answers for problem in problems}
    with pytest.raises(InputError, match=r"source long ends with 10\.0% of the tokens, its share asks for 50\.0%"):
        mix.assign_by_tokens(given_answers, {"long": 0.5, "short": 0.5}, problems, tokens)


def test_a_problem_that_only_a_share_of_0_answers_is_an_error() -> None:
    with pytest.raises(InputError, match="problem 'p0002' is answered only by a source whose share is 0"):
        mix.assign_by_tokens(
            answers(a=names(0, 2), b=names(2, 3)), {"a": 1.0, "b": 0.0}, names(0, 3), {("a", "p0000"): 1, ("a", "p0001"): 1}
        )


# ---- the card ----


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        ([7], {"p0": 7, "p5": 7, "p25": 7, "p50": 7, "p75": 7, "p95": 7, "p100": 7}),
        (list(range(100, 0, -1)), {"p0": 1, "p5": 5, "p25": 25, "p50": 50, "p75": 75, "p95": 95, "p100": 100}),
        ([1, 2, 3, 4], {"p0": 1, "p5": 1, "p25": 1, "p50": 2, "p75": 3, "p95": 4, "p100": 4}),
    ],
)
def test_quantiles_are_lengths_that_occur(lengths: list[int], expected: dict[str, int]) -> None:
    assert mix.quantiles(lengths) == expected


def test_a_card_counts_by_source_and_in_all() -> None:
    rows = [{"source": "a"}, {"source": "b"}, {"source": "b"}, {"source": "b"}]
    card = mix.card(rows, [1, 2, 3, 4], [10, 20, 30, 40], {"b": 0.7, "a": 0.3, "c": 0.0})
    assert (card["rows"], card["prompt_tokens"], card["response_tokens"]) == (4, 10, 100)
    assert list(card["sources"]) == ["a", "b", "c"]
    assert card["sources"]["b"] == {
        "rows": 3,
        "prompt_tokens": 9,
        "response_tokens": 90,
        "share_asked": 0.7,
        "share_by_rows": 0.75,
        "share_by_tokens": 0.9,
        "response_length": {"p0": 20, "p5": 20, "p25": 20, "p50": 30, "p75": 40, "p95": 40, "p100": 40},
    }
    assert (card["sources"]["c"]["rows"], card["sources"]["c"]["response_length"]) == (0, None)


def test_tokens_are_words_in_the_miniature(tokenizer_file: Path) -> None:
    assert mix.count_tokens(tokenizer_file, ["ann has 3 pens .", "", "yes"]) == [5, 0, 1]


# ---- the stage ----


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Rows of the miniature in both styles, as the stage `source` leaves them."""
    files = []
    for style in ("long", "short"):
        file = tmp_path_factory.mktemp("sources") / style / "rows.jsonl"
        write_jsonl(file, ({**row, "source": style} for row in arithmetic.answered(style, 300, 2)))
        files.append(file)
    return files


@pytest.fixture
def made(run: Runner, tmp_path: Path, tokenizer_file: Path, sources: list[Path]) -> Callable[..., Path]:
    """Run the stage into a folder of its own."""

    def make(name: str, content: dict[str, Any], *files: Path) -> Path:
        folder = tmp_path / name
        spec = {"stage": "mix", "version": 1, "mix": content}
        assert run(mix, spec, tokenizer_file, *(files or sources), folder / "train.jsonl", folder / "manifest.json") == 0
        assert manifest.mismatches(folder / "manifest.json") == []
        return folder

    return make


QUARTER = {"parts": {"long": 0.2, "short": 0.8}}


def test_the_stage_writes_rows_digest_and_card(made: Any, tokenizer_file: Path, sources: list[Path]) -> None:
    folder = made("mix", QUARTER)
    rows = read_jsonl(folder / "train.jsonl")
    assert [row["id"] for row in rows] == sorted({row["id"] for row in rows})
    assert len(rows) == 300
    originals = {(row["source"], row["id"]): row for file in sources for row in read_jsonl(file)}
    assert all(originals[row["source"], row["id"]] == row for row in rows)
    digest = sha256_file(folder / "train.jsonl")
    assert (folder / "train.sha256").read_text() == f"{digest}  train.jsonl\n"
    card = read_json(folder / "card.json")
    assert card["sha256"] == digest
    assert {name: source["rows"] for name, source in card["sources"].items()} == {"long": 60, "short": 240}
    words = Counter[str]()
    for row in rows:
        words[row["source"]] += len(row["response"].split())
    assert {name: source["response_tokens"] for name, source in card["sources"].items()} == words
    assert card["response_tokens"] == words.total()
    assert card["prompt_tokens"] == sum(len(row["prompt"].split()) for row in rows)
    assert manifest.read(folder / "manifest.json")["inputs"] == {file.parent.name: sha256_file(file) for file in sources}


def test_the_same_mix_is_the_same_to_the_byte(made: Any, sources: list[Path]) -> None:
    first, again, reordered = made("a", QUARTER), made("b", QUARTER), made("c", QUARTER, *reversed(sources))
    for file in ("train.jsonl", "train.sha256", "card.json", "manifest.json"):
        assert (first / file).read_bytes() == (again / file).read_bytes() == (reordered / file).read_bytes()


def test_another_seed_is_another_mix(made: Any) -> None:
    first, other = made("a", QUARTER), made("b", {**QUARTER, "seed": 1})
    assert (first / "train.sha256").read_text() != (other / "train.sha256").read_text()


def test_one_source_alone_is_that_source(made: Any, sources: list[Path]) -> None:
    folder = made("mix", {"parts": {"long": 1.0}}, sources[0])
    assert (folder / "train.jsonl").read_bytes() == sources[0].read_bytes()


def test_by_tokens_and_size_reach_the_rows(made: Any) -> None:
    folder = made("mix", {"parts": {"long": 0.5, "short": 0.5}, "by": "tokens", "size": 200})
    card = read_json(folder / "card.json")
    assert card["rows"] == len(read_jsonl(folder / "train.jsonl")) == 200
    longest = card["response_length"]["p100"]
    long = card["sources"]["long"]
    assert abs(long["response_tokens"] - 0.5 * card["response_tokens"]) <= longest
    assert long["share_by_rows"] < 0.3


def test_shares_that_cannot_hold_leave_nothing(
    run: Runner, tmp_path: Path, tokenizer_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for source, problems in (("long", names(0, 2)), ("short", names(2, 10))):
        write_jsonl(tmp_path / source / "rows.jsonl", answers(**{source: problems})[source].values())
    files = [tmp_path / source / "rows.jsonl" for source in ("long", "short")]
    spec = {"stage": "mix", "version": 1, "mix": {"parts": {"long": 0.5, "short": 0.5}}}
    assert run(mix, spec, tokenizer_file, *files, tmp_path / "out" / "train.jsonl", tmp_path / "out" / "manifest.json") == 1
    assert "error: mix: the shares cannot hold" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
