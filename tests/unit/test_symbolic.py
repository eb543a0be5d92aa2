"""math-verify at arm's length: it hangs, crashes, eats memory and dies, and grading goes on; what it is tricked by is caught."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gapgrid.maths import symbolic
from gapgrid.maths.symbolic import CRASH, DIFFERENT, EQUAL, TIMEOUT, Questions, Verifier, in_child
from gapgrid.records import InputError

QUESTION = (("1", "1"),)


@pytest.fixture(scope="module")
def verifier() -> Iterator[Verifier]:
    """One that has started."""
    with Verifier(seconds=3, n_servers=1) as started:
        assert started.compare("x", "x") == EQUAL
        yield started


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        (r"\int_0^2 x\,dx", "2"),
        (r"\sum_{k=1}^{4} k^2", "30"),
        (r"1 < |x| < 2", r"x \in (-2,-1) \cup (1,2)"),
        ("4x^2+9y^2=36", r"\frac{x^2}{9}+\frac{y^2}{4}=1"),
        (
            r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}",
            r"\begin{pmatrix} 1 & 1 \\ 3 & 3 \end{pmatrix} + \begin{pmatrix} 0 & 1 \\ 0 & 1 \end{pmatrix}",
        ),
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
def test_what_differs_is_not_equal_however_small_it_is(verifier: Verifier, gold: str, answer: str) -> None:
    assert verifier.compare(gold, answer) == DIFFERENT


def test_a_question_that_takes_too_long_is_ended_and_the_next_one_answered(verifier: Verifier) -> None:
    start = time.perf_counter()
    assert verifier.compare("1", r"\prod_{k=1}^{10^{9}} k") == TIMEOUT
    assert time.perf_counter() - start < 5
    assert verifier.compare("x+1", "1+x") == EQUAL


def test_all_questions_of_a_group_must_be_equal_and_groups_are_asked_once(verifier: Verifier) -> None:
    same, other = ("x+1", "1+x"), ("x", "y")
    groups: list[Questions] = [(same,), (same, other), (same, same), (same,)]
    replies = verifier.compare_all(groups)
    assert {group: reply for group, (reply, _) in replies.items()} == {(same,): EQUAL, (same, other): DIFFERENT, (same, same): EQUAL}
    assert all(0 < seconds < 10 for _, seconds in replies.values())
    assert verifier.compare_all([]) == {}


def test_a_server_that_dies_is_replaced(verifier: Verifier) -> None:
    verifier.servers[0].process.kill()
    verifier.servers[0].process.wait()
    assert verifier.compare("x", "x") == EQUAL


def test_a_server_that_dies_at_work_costs_one_question(monkeypatch: pytest.MonkeyPatch) -> None:
    groups: list[Questions] = [(("1", f"{number}"),) for number in range(1, 6)]
    with Verifier(n_servers=1) as mortal:
        ask = symbolic._Server.ask

        def ask_and_kill(server: symbolic._Server, questions: Questions, seconds: float) -> None:
            if questions == groups[2]:
                server.process.kill()
                server.process.wait()
            ask(server, questions, seconds)

        monkeypatch.setattr(symbolic._Server, "ask", ask_and_kill)
        replies = mortal.compare_all(groups)
        assert [replies[group][0] for group in groups] == [EQUAL, DIFFERENT, CRASH, DIFFERENT, DIFFERENT]


def test_no_server_starts_before_a_question_and_none_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    with Verifier() as idle:
        assert idle.servers == []
        idle.compare("x", "y")
        processes = [server.process for server in idle.servers]
        assert len(processes) == 1  # a single question is no work for two
    assert all(process.poll() is not None for process in processes)
    assert idle.compare("x", "x") == EQUAL  # starts again
    idle.close()


def test_nothing_of_a_question_is_run_as_code(verifier: Verifier, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    for code in (f"open('{marker}','w')", f"__import__('os').system('touch {marker}')", f"(lambda: open('{marker}','w'))()"):
        assert verifier.compare("0", code) == DIFFERENT
    assert not marker.exists()


def test_without_math_verify_an_error_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "math_verify.py").write_text("raise ImportError('it is not installed')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with Verifier() as missing, pytest.raises(InputError, match=r"math-verify does not load \(it is not installed\)"):
        missing.compare("1", "2")


def test_modules_in_the_working_directory_stand_in_for_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sympy.py").write_text("raise SystemExit('not this one')")
    monkeypatch.chdir(tmp_path)
    with Verifier() as elsewhere:
        assert elsewhere.compare("1", "1") == EQUAL


# --------------------------------------------------------------------------- the child and its limits


def sleep(_: Questions) -> str:
    """Neither works nor ends."""
    time.sleep(60)
    return EQUAL


def compute(_: Questions) -> str:
    """Works and does not end, deaf to signals that can be handled."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        pow(3, 10**6)


def eat(_: Questions) -> str:
    """Takes more memory than there is."""
    return str(len(bytearray(symbolic.BYTES + 1)))


def fail(_: Questions) -> str:
    """Raises."""
    raise ValueError("no")


def nest(_: Questions) -> str:
    """Calls itself."""
    return nest(_)


def leave(_: Questions) -> str:
    """Ends the process."""
    sys.exit("bye")


def die(_: Questions) -> str:
    """Ends the process at once."""
    os.kill(os.getpid(), signal.SIGKILL)
    return EQUAL


def half(_: Questions) -> str:
    """Never comes to a reply."""
    os._exit(0)


@pytest.mark.parametrize(
    ("work", "reply"),
    [(sleep, TIMEOUT), (compute, TIMEOUT), (eat, CRASH), (fail, CRASH), (nest, CRASH), (leave, CRASH), (die, CRASH), (half, CRASH)],
)
def test_a_child_is_held_to_its_limits(work: Callable[[Questions], str], reply: str) -> None:
    start = time.perf_counter()
    assert in_child(work, QUESTION, seconds=5 if work is compute else 1, processor_seconds=0.2) == reply
    assert time.perf_counter() - start < 4


def test_a_childs_reply_comes_back() -> None:
    assert in_child(lambda questions: f"{len(questions)} {questions[0][0]}", QUESTION, 5, 5) == "1 1"
    assert len(in_child(lambda _: "x" * 200_000, QUESTION, 5, 5)) == 200_000


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="no /proc")
def test_children_leave_no_pipe_behind() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for work in (sleep, fail, die):
        in_child(work, QUESTION, seconds=0.1, processor_seconds=1)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
