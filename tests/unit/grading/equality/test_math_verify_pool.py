"""math-verify's processes: it hangs, crashes, eats memory and dies, and grading goes on."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Timer

import pytest

from gapgrid.core.records import InputError
from gapgrid.grading.equality import math_verify_pool
from gapgrid.grading.equality.math_verify_pool import (
    CRASH,
    DIFFERENT,
    EQUAL,
    TIMEOUT,
    FormulaPairs,
    Verifier,
    in_child,
)

PAIRS = (("1", "1"),)
SLOW = ("1", r"\prod_{k=1}^{10^{9}} k")


@pytest.fixture(scope="module")
def verifier() -> Iterator[Verifier]:
    """A verifier that has started."""
    with Verifier(seconds=3, n_servers=1) as started:
        assert started.compare("x", "x") == EQUAL
        yield started


def matrix(*cells: str) -> str:
    rows = " & ".join(cells[:2]), " & ".join(cells[2:])
    return rf"\begin{{pmatrix}} {rows[0]} \\ {rows[1]} \end{{pmatrix}}"


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        (r"\int_0^2 x\,dx", "2"),
        (r"\sum_{k=1}^{4} k^2", "30"),
        (r"1 < |x| < 2", r"x \in (-2,-1) \cup (1,2)"),
        ("4x^2+9y^2=36", r"\frac{x^2}{9}+\frac{y^2}{4}=1"),
        (matrix(*"1234"), matrix(*"1133") + " + " + matrix(*"0101")),
    ],
)
def test_equal_formulas_are_equal(verifier: Verifier, gold: str, answer: str) -> None:
    assert verifier.compare(gold, answer) == EQUAL


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        ("2", "3"),
        (r"\int_0^2 x\,dx", "3"),
        (r"\frac{1}{2006!}", r"\frac{1}{2004!}"),
        ("2^{-98}", "2^{-99}"),
        ("x^{-1} 3^{-90}", "x^{-1} 3^{-91}"),
        ("(1, 2^{-98})", "(1, 2^{-99})"),
        ("0.00000012", "0.00000013"),
        ("1/3", "0.333333333"),
        ("x", ""),
        ("", "x"),
        ("}{", r"\frac"),
    ],
)
def test_what_differs_is_not_equal_however_small_it_is(
    verifier: Verifier, gold: str, answer: str
) -> None:
    assert verifier.compare(gold, answer) == DIFFERENT


def test_a_comparison_that_takes_too_long_is_ended_and_the_next_one_done(
    verifier: Verifier,
) -> None:
    start = time.perf_counter()
    assert verifier.compare(*SLOW) == TIMEOUT
    assert time.perf_counter() - start < 5
    assert verifier.compare("x+1", "1+x") == EQUAL


def test_all_pairs_of_a_comparison_must_be_equal(verifier: Verifier) -> None:
    same, other = ("x+1", "1+x"), ("x", "y")
    replies = verifier.compare_all([(same,), (same, other), (same, same), (same,)])
    assert {pairs: reply for pairs, (reply, _) in replies.items()} == {
        (same,): EQUAL,
        (same, other): DIFFERENT,
        (same, same): EQUAL,
    }
    assert all(0 < seconds < 10 for _, seconds in replies.values())
    assert verifier.compare_all([]) == {}


def test_a_server_that_dies_is_replaced(verifier: Verifier) -> None:
    verifier.servers[0].process.kill()
    verifier.servers[0].process.wait()
    assert verifier.compare("x", "x") == EQUAL


def test_a_server_that_dies_at_work_costs_one_comparison() -> None:
    comparisons: list[FormulaPairs] = [(SLOW,), (("x+1", "1+x"),), (("x", "y"),)]
    with Verifier(n_servers=1) as mortal:
        mortal.compare("x", "x")
        Timer(1, mortal.servers[0].process.kill).start()
        replies = mortal.compare_all(comparisons)
    assert [replies[pairs][0] for pairs in comparisons] == [CRASH, EQUAL, DIFFERENT]


def test_many_comparisons_are_shared_by_servers() -> None:
    comparisons: list[FormulaPairs] = [(("1", f"{number}"),) for number in range(1, 22)]
    with Verifier(n_servers=2) as pair:
        replies = pair.compare_all(comparisons)
        assert len(pair.servers) == 2
    expected = [EQUAL, *[DIFFERENT] * 20]
    assert [replies[pairs][0] for pairs in comparisons] == expected


def test_no_server_starts_before_a_comparison_and_none_is_left() -> None:
    with Verifier() as idle:
        assert idle.servers == []
        idle.compare("x", "y")
        (server,) = idle.servers  # a single comparison is no work for two
    assert server.process.poll() is not None
    assert idle.compare("x", "x") == EQUAL  # starts again
    idle.close()


def test_nothing_of_an_answer_is_run_as_code(verifier: Verifier, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    for code in (
        f"open('{marker}','w')",
        f"__import__('os').system('touch {marker}')",
        f"(lambda: open('{marker}','w'))()",
    ):
        assert verifier.compare("0", code) == DIFFERENT
    assert not marker.exists()


def test_without_math_verify_an_error_names_the_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "math_verify.py").write_text("raise ImportError('it is not installed')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    message = r"math-verify does not load \(it is not installed\)"
    with Verifier() as missing, pytest.raises(InputError, match=message):
        missing.compare("1", "2")


@pytest.mark.parametrize("python_path", ["", os.pathsep])
def test_modules_in_the_working_directory_replace_none(
    python_path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sympy.py").write_text("raise SystemExit('not this one')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", python_path)
    with Verifier() as elsewhere:
        assert elsewhere.compare("1", "1") == EQUAL


# --------------------------------------------------------------------------- the child's limits


def sleep(_: FormulaPairs) -> str:
    time.sleep(60)
    return EQUAL


def compute(_: FormulaPairs) -> str:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        pow(3, 10**6)


def eat_memory(_: FormulaPairs) -> str:
    return str(len(bytearray(math_verify_pool.BYTES + 1)))


def fail(_: FormulaPairs) -> str:
    raise ValueError("no")


def nest(_: FormulaPairs) -> str:
    return nest(_)


def leave(_: FormulaPairs) -> str:
    sys.exit("bye")


def die(_: FormulaPairs) -> str:
    os.kill(os.getpid(), signal.SIGKILL)
    return EQUAL


def end_without_reply(_: FormulaPairs) -> str:
    os._exit(0)


@pytest.mark.parametrize(
    "work", [sleep, compute, eat_memory, fail, nest, leave, die, end_without_reply]
)
def test_a_child_is_held_to_its_limits(work: Callable[[FormulaPairs], str]) -> None:
    start = time.perf_counter()
    seconds = 5 if work is compute else 1
    reply = in_child(work, PAIRS, seconds, processor_seconds=0.2)
    assert reply == (TIMEOUT if work in (sleep, compute) else CRASH)
    assert time.perf_counter() - start < 4


def test_a_childs_reply_comes_back() -> None:
    assert in_child(lambda pairs: f"{len(pairs)} {pairs[0][0]}", PAIRS, 5, 5) == "1 1"
    assert len(in_child(lambda _: "x" * 200_000, PAIRS, 5, 5)) == 200_000


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="no /proc")
def test_children_leave_no_pipe_behind() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for work in (sleep, fail, die):
        in_child(work, PAIRS, seconds=0.1, processor_seconds=1)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
