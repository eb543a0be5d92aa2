"""Stage mix: each problem once, shares exact, and an error where they cannot be."""

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

from gapgrid.core import manifest
from gapgrid.core.records import InputError, read_json, read_jsonl, sha256_file, write_jsonl
from gapgrid.demo import arithmetic
from gapgrid.stages import mix

HALVES, FIFTH = {"long": 0.5, "short": 0.5}, {"long": 0.2, "short": 0.8}


def responses(**problems: list[str]) -> mix.Responses:
    """Source -> its responses to the problems named."""
    return {
        source: {
            name: {"id": name, "source": source, "prompt": f"{name} ?", "response": f"{source} ."}
            for name in names
        }
        for source, names in problems.items()
    }


def numbered(first: int, last: int) -> list[str]:
    """Problem names p<first> to p<last - 1>."""
    return [f"p{index:04d}" for index in range(first, last)]


# ---- whole numbers ----


@given(
    weights=st.lists(st.integers(0, 50), min_size=1, max_size=6).filter(any),
    total=st.integers(0, 5000),
)
def test_whole_numbers_sum_and_are_nearest_to_their_shares(weights: list[int], total: int) -> None:
    names = [f"s{index}" for index in range(len(weights))]
    shares = {name: weight / sum(weights) for name, weight in zip(names, weights, strict=True)}
    exact = {
        name: Fraction(weight * total, sum(weights))
        for name, weight in zip(names, weights, strict=True)
    }
    counts = mix.apportion(shares, total)
    assert sum(counts.values()) == total
    for name, count in counts.items():
        assert abs(count - exact[name]) < 1
        assert count >= 0
    # Largest remainder: none that is rounded up has a smaller remainder than one rounded down.
    up = [exact[name] % 1 for name in counts if counts[name] > exact[name]]
    down = [exact[name] % 1 for name in counts if counts[name] < exact[name]]
    assert not up or not down or float(min(up)) >= float(max(down)) - 1e-9


@pytest.mark.parametrize(
    ("shares", "total", "expected"),
    [
        (FIFTH, 3000, {"long": 600, "short": 2400}),
        (FIFTH, 7, {"long": 1, "short": 6}),
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


def by_rows(
    given_rows: mix.Responses, shares: dict[str, float], seed: int = 0, size: int | None = None
) -> dict[str, str]:
    """Problem -> source, as the stage assigns them, each problem to a source that has it."""
    problems = mix.shuffled_problems(given_rows, random.Random(seed))
    assigned = mix.assign_by_rows(given_rows, shares, problems, size or len(problems))
    assert all(problem in given_rows[source] for problem, source in assigned.items())
    return assigned


@pytest.mark.parametrize("share", [0.0, 0.2, 1 / 3, 0.5, 1.0])
def test_full_overlap_gives_exact_shares(share: float) -> None:
    names = numbered(0, 1000)
    assigned = by_rows(responses(long=names, short=names), {"long": share, "short": 1 - share})
    assert sorted(assigned) == names
    assert Counter(assigned.values())["long"] == round(1000 * share)


def test_partial_overlap_gives_exact_shares_where_they_exist() -> None:
    # long has 60 problems, 20 of them alone; short 90, 50 alone; both have 40: 110 in all.
    assigned = by_rows(responses(long=numbered(0, 60), short=numbered(20, 110)), HALVES)
    assert Counter(assigned.values()) == {"long": 55, "short": 55}


def test_three_sources_that_only_a_chain_of_swaps_can_satisfy() -> None:
    given_rows = responses(a=numbered(0, 30), b=numbered(20, 60), c=numbered(50, 90))
    assigned = by_rows(given_rows, {"a": 1 / 3, "b": 1 / 3, "c": 1 / 3})
    assert Counter(assigned.values()) == {"a": 30, "b": 30, "c": 30}


@given(
    st.lists(st.sets(st.sampled_from("abc"), min_size=1), min_size=1, max_size=7),
    st.tuples(*[st.integers(0, 4)] * 3).filter(any),
)
def test_shares_hold_exactly_when_any_assignment_has_them(
    offers: list[set[str]], weights: tuple[int, ...]
) -> None:
    problems = numbered(0, len(offers))
    pairs = list(zip(problems, offers, strict=True))
    given_rows = responses(**{name: [p for p, names in pairs if name in names] for name in "abc"})
    shares = {name: weight / sum(weights) for name, weight in zip("abc", weights, strict=True)}
    counts = mix.apportion(shares, len(offers))
    is_possible = any(
        all(chosen.count(name) == count for name, count in counts.items())
        for chosen in itertools.product(*offers)
    )
    if not is_possible:
        with pytest.raises(InputError, match="the shares cannot hold"):
            by_rows(given_rows, shares)
        return
    assigned = by_rows(given_rows, shares)
    assert sorted(assigned) == problems
    assert {name: list(assigned.values()).count(name) for name in "abc"} == counts


def test_shares_that_cannot_hold_are_explained() -> None:
    with pytest.raises(InputError) as caught:
        by_rows(responses(long=numbered(0, 10), short=numbered(5, 100)), HALVES)
    assert str(caught.value).splitlines() == [
        "mix: the shares cannot hold while each problem is answered once",
        "source long: share asks for 50 problems, it answers 10, 5 of them alone",
        "source short: share asks for 50 problems, it answers 95, 90 of them alone",
    ]


def test_the_seed_draws_without_favour() -> None:
    names = numbered(0, 100)
    given_rows = responses(long=names, short=names)

    def draw(seed: int) -> set[str]:
        assigned = by_rows(given_rows, FIFTH, seed)
        return {problem for problem, source in assigned.items() if source == "long"}

    draws = [draw(seed) for seed in range(60)]
    assert draw(0) == draws[0]
    assert {len(problems) for problems in draws} == {20}
    assert len(draws[0] & draws[1]) < 10
    hits = Counter(itertools.chain.from_iterable(draws))
    first, second = (sum(hits[name] for name in part) for part in (names[:50], names[50:]))
    assert abs(first - second) < 140  # about four standard deviations


# ---- size ----


def test_a_size_takes_so_many_problems() -> None:
    given_rows = responses(long=numbered(0, 100), short=numbered(0, 100))
    assigned = by_rows(given_rows, FIFTH, size=30)
    assert Counter(assigned.values()) == {"long": 6, "short": 24}
    assert set(assigned) != set(by_rows(given_rows, FIFTH, seed=1, size=30))


def test_a_size_above_all_problems_is_refused() -> None:
    given_rows = responses(long=numbered(0, 60), short=numbered(50, 100))
    expected = "size 101, but its sources answer only 100 problems together"
    with pytest.raises(InputError, match=expected):
        mix.assign({"parts": HALVES, "seed": 0, "by": "rows", "size": 101}, given_rows, Path())


def test_problems_of_a_size_are_chosen_to_fit_the_shares() -> None:
    given_rows = responses(long=numbered(0, 100), short=numbered(100, 200))
    for seed in range(20):
        assigned = by_rows(given_rows, HALVES, seed=seed, size=100)
        assert Counter(assigned.values()) == {"long": 50, "short": 50}


# ---- by tokens ----


def by_tokens(given_rows: mix.Responses, shares: dict[str, float]) -> dict[str, str]:
    """Problem -> source where each response has one token."""
    problems = mix.shuffled_problems(given_rows, random.Random(0))
    tokens = {(source, problem): 1 for source in given_rows for problem in problems}
    return mix.assign_by_tokens(given_rows, shares, problems, tokens)


@given(
    lengths=st.lists(st.tuples(st.integers(1, 40), st.integers(1, 10)), min_size=5, max_size=60),
    share=st.sampled_from([0.0, 0.1, 0.2, 0.5, 0.9, 1.0]),
)
def test_token_shares_hold_to_within_one_response(
    lengths: list[tuple[int, int]], share: float
) -> None:
    problems = numbered(0, len(lengths))
    tokens = {
        (source, problem): n_tokens
        for problem, pair in zip(problems, lengths, strict=True)
        for source, n_tokens in zip(("long", "short"), pair, strict=True)
    }
    shares = {"long": share, "short": 1 - share}
    given_rows = responses(long=problems, short=problems)
    assigned = mix.assign_by_tokens(given_rows, shares, problems, tokens)
    assert sorted(assigned) == problems
    used = Counter[str]()
    for problem, source in assigned.items():
        used[source] += tokens[source, problem]
    assert abs(used["long"] - share * used.total()) <= max(map(max, lengths))


def test_other_problems_make_up_for_those_of_one_source() -> None:
    given_rows = responses(long=numbered(0, 60), short=numbered(50, 200))
    assigned = by_tokens(given_rows, {"long": 0.3, "short": 0.7})
    assert Counter(assigned.values()) == {"long": 60, "short": 140}


@pytest.mark.parametrize(
    ("n_long", "shares", "expected"),
    [
        (10, HALVES, r"source long ends with 10\.0% of the tokens, its share asks for 50\.0%"),
        (
            99,
            {"long": 1.0, "short": 0.0},
            "problem 'p0099' is answered only by a source whose share is 0",
        ),
    ],
)
def test_token_shares_that_cannot_hold_are_an_error(
    n_long: int, shares: dict[str, float], expected: str
) -> None:
    with pytest.raises(InputError, match=expected):
        by_tokens(responses(long=numbered(0, n_long), short=numbered(n_long, 100)), shares)


# ---- the card ----


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        ([7], [7, 7, 7, 7, 7, 7, 7]),
        (list(range(100, 0, -1)), [1, 5, 25, 50, 75, 95, 100]),
        ([1, 2, 3, 4], [1, 1, 1, 2, 3, 4, 4]),
    ],
)
def test_quantiles_are_lengths_that_occur(lengths: list[int], expected: list[int]) -> None:
    names = ("p0", "p5", "p25", "p50", "p75", "p95", "p100")
    assert mix.quantiles(lengths) == dict(zip(names, expected, strict=True))


def test_a_card_counts_by_source_and_in_all() -> None:
    shares = {"b": 0.7, "a": 0.3, "c": 0.0}
    card = mix.mix_card(["a", "b", "b", "b"], [1, 2, 3, 4], [10, 20, 30, 40], shares)
    assert (card["rows"], card["prompt_tokens"], card["response_tokens"]) == (4, 10, 100)
    assert list(card["sources"]) == ["a", "b", "c"]
    assert card["sources"]["b"] == {
        "rows": 3,
        "prompt_tokens": 9,
        "response_tokens": 90,
        "share_asked": 0.7,
        "share_by_rows": 0.75,
        "share_by_tokens": 0.9,
        "response_length": mix.quantiles([20, 30, 40]),
    }
    assert (card["sources"]["c"]["rows"], card["sources"]["c"]["response_length"]) == (0, None)


# ---- the stage ----


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Rows of the miniature in both styles, as the stage `source` leaves them."""
    files = [tmp_path_factory.mktemp("sources") / style / "rows.jsonl" for style in HALVES]
    for file in files:
        style = file.parent.name
        write_jsonl(file, ({**row, "source": style} for row in arithmetic.answered(style, 300, 2)))
    return files


@pytest.fixture
def run_mix(run: Callable[..., int], tmp_path: Path, tokenizer_file: Path) -> Callable[..., Path]:
    """Run the stage into a folder of its own."""

    def inner(name: str, files: list[Path], **entry: Any) -> Path | None:
        folder = tmp_path / name
        spec = {"stage": "mix", "version": 1, "mix": entry}
        out = folder / "train.jsonl", folder / "manifest.json"
        if run(mix, spec, tokenizer_file, *files, *out) != 0:
            assert not folder.exists()
            return None
        assert manifest.mismatches(folder / "manifest.json") == []
        return folder

    return inner


def test_the_stage_writes_rows_digest_and_card(run_mix: Any, sources: list[Path]) -> None:
    folder = run_mix("mix", sources, parts=FIFTH)
    rows = read_jsonl(folder / "train.jsonl")
    assert [row["id"] for row in rows] == sorted({row["id"] for row in rows})
    assert len(rows) == 300
    originals = {(row["source"], row["id"]): row for file in sources for row in read_jsonl(file)}
    assert all(originals[row["source"], row["id"]] == row for row in rows)
    digest = sha256_file(folder / "train.jsonl")
    assert (folder / "train.sha256").read_text() == f"{digest}  train.jsonl\n"
    card = read_json(folder / "card.json")
    assert card["sha256"] == digest
    counts = {name: source["rows"] for name, source in card["sources"].items()}
    assert counts == {"long": 60, "short": 240}
    # A token is a word in the miniature.
    words = Counter[str]()
    for row in rows:
        words[row["source"]] += len(row["response"].split())
    tokens = {name: source["response_tokens"] for name, source in card["sources"].items()}
    assert tokens == words
    assert card["response_tokens"] == words.total()
    assert card["prompt_tokens"] == sum(len(row["prompt"].split()) for row in rows)
    inputs = {file.parent.name: sha256_file(file) for file in sources}
    assert manifest.read(folder / "manifest.json")["inputs"] == inputs


def test_the_same_mix_is_the_same_to_the_byte(run_mix: Any, sources: list[Path]) -> None:
    first = run_mix("a", sources, parts=FIFTH)
    again = run_mix("b", list(reversed(sources)), parts=FIFTH)
    for file in ("train.jsonl", "train.sha256", "card.json", "manifest.json"):
        assert (first / file).read_bytes() == (again / file).read_bytes()
    other = run_mix("c", sources, parts=FIFTH, seed=1)
    assert (first / "train.sha256").read_text() != (other / "train.sha256").read_text()


def test_one_source_alone_is_that_source(run_mix: Any, sources: list[Path]) -> None:
    folder = run_mix("mix", sources[:1], parts={"long": 1.0})
    assert (folder / "train.jsonl").read_bytes() == sources[0].read_bytes()


def test_by_tokens_and_size_reach_the_rows(run_mix: Any, sources: list[Path]) -> None:
    folder = run_mix("mix", sources, parts=HALVES, by="tokens", size=200)
    card = read_json(folder / "card.json")
    assert card["rows"] == len(read_jsonl(folder / "train.jsonl")) == 200
    longest = card["response_length"]["p100"]
    long = card["sources"]["long"]
    assert abs(long["response_tokens"] - 0.5 * card["response_tokens"]) <= longest
    assert long["share_by_rows"] < 0.3


def test_shares_that_cannot_hold_leave_nothing(
    run_mix: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = []
    for source, rows in responses(long=numbered(0, 2), short=numbered(2, 10)).items():
        files.append(tmp_path / source / "rows.jsonl")
        write_jsonl(files[-1], rows.values())
    assert run_mix("out", files, parts=HALVES) is None
    assert "error: mix: the shares cannot hold" in capsys.readouterr().err


def test_sources_with_other_prompts_under_the_same_ids_are_named(
    run_mix: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = responses(long=numbered(0, 30), short=numbered(5, 30), web=["p0000", "p0001"])
    rows["short"]["p0005"]["prompt"] = "no\u202e ?"
    for name in numbered(6, 30):
        rows["short"][name]["prompt"] = f"{name} ? {'Think. ' * 30}Now."
        rows["long"][name]["prompt"] = f"{name} ? {'Think. ' * 30}Go."
    rows["web"]["p0001"]["prompt"] = "p0001?"
    files = []
    for source, of_source in rows.items():
        files.append(tmp_path / source / "rows.jsonl")
        write_jsonl(files[-1], of_source.values())
    assert run_mix("out", files, parts={"long": 0.5, "short": 0.4, "web": 0.1}) is None
    lines = capsys.readouterr().err.splitlines()
    advice = "one id is one problem, see columns in sources.yaml"
    assert lines[0] == (
        f"error: sources long and short: id 'p0005' is 'p0005 ?' and 'no\\u{{202E}} ?'; {advice}"
    )
    shown = "Think. Think. Think. Think. "
    assert f"is '…{shown}Go.' and '…{shown}Now.'; " in lines[1]
    assert len(lines) == 21 and lines[-1] == "… and 6 more"
    assert run_mix("out", files[::2], parts={"long": 0.5, "web": 0.5}) is None
    message = f"error: sources long and web: id 'p0001' is 'p0001 ?' and 'p0001?'; {advice}\n"
    assert capsys.readouterr().err == message
