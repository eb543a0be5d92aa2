"""math-verify at arm's length: each question in a process of its own, with limits on memory, processor time and the clock.

An answer may make math-verify hang or crash, but not us. A server process (`python -m gapgrid.maths.symbolic`) loads it once and
forks a child for every question, so that a question neither waits for a start nor feels what was asked before it.
"""

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any

from gapgrid.records import InputError

SECONDS = 3.5  # on the clock, for all questions about one pair
PROCESSOR_SECONDS = 2.0
BYTES = 3 << 30
N_SERVERS = 2
_QUESTIONS_PER_SERVER = 20  # a server takes a second to start
_BACKUP_SECONDS = 5.0  # the server ends its children; this long after it should have, the server is ended

EQUAL, DIFFERENT, TIMEOUT, CRASH = "math_verify", "different", "rule_timeout", "rule_crash"

Questions = tuple[tuple[str, str], ...]


# --------------------------------------------------------------------------- in the child


def all_equal(questions: Questions) -> str:
    """`math_verify` if each pair of formulas is equal, else `different`."""
    return EQUAL if all(_equal(gold, answer) for gold, answer in questions) else DIFFERENT


def _equal(gold: str, answer: str) -> bool:
    """Whether math-verify finds them equal and their values do not belie it. Gold goes first: it is not symmetric."""
    from math_verify import LatexExtractionConfig, parse, verify

    # Its own limits on time use signals and make a time-out look like a difference; ours are outside.
    config = {"extraction_config": [LatexExtractionConfig()], "fallback_mode": "no_fallback", "parsing_timeout": None}
    found = [parse(f"\\boxed{{{text}}}", **config) for text in (gold, answer)]
    if not all(found) or not verify(*found, timeout_seconds=None):
        return False
    return _values_agree(found[0][0], found[1][0])


def _values_agree(gold: Any, answer: Any) -> bool:
    """Whether two expressions agree to 20 digits: math-verify rounds to six decimals, where 1/2004! and 1/2006! are both 0."""
    from sympy import Expr, Integer, MatrixBase, Tuple

    if isinstance(gold, Tuple | MatrixBase) and isinstance(answer, Tuple | MatrixBase):
        return len(gold) == len(answer) and all(_values_agree(*pair) for pair in zip(gold, answer, strict=True))
    if not isinstance(gold, Expr) or not isinstance(answer, Expr):
        return True
    symbols = sorted(gold.free_symbols | answer.free_symbols, key=str)
    values = {symbol: Integer(2 * index + 3) for index, symbol in enumerate(symbols)}
    one, other = (part.doit().subs(values).evalf(30) for part in (gold, answer))
    if not one.is_number or not other.is_number:
        return True
    return bool(abs(one - other) <= 1e-20 * max(abs(one), abs(other)))


# --------------------------------------------------------------------------- in the server


def in_child(work: Callable[[Questions], str], questions: Questions, seconds: float, processor_seconds: float) -> str:
    """What `work` replies in a forked process, or `rule_timeout` or `rule_crash`."""
    readable, writable = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(readable)
        _reply_and_exit(work, questions, processor_seconds, writable)
    os.close(writable)
    reply = _read_until(readable, time.perf_counter() + seconds)
    if reply is None:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if reply is None or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGPROF):
        return TIMEOUT
    return reply or CRASH


def _reply_and_exit(work: Callable[[Questions], str], questions: Questions, processor_seconds: float, writable: int) -> None:
    """The child's life: the kernel ends it if it takes more memory or processor time than it may."""
    import resource

    status = 1
    try:
        resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.signal(signal.SIGPROF, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_PROF, processor_seconds)
        os.write(writable, work(questions).encode())
        status = 0
    except (Exception, RecursionError, MemoryError):
        os.write(writable, CRASH.encode())
    finally:
        os._exit(status)


def _read_until(readable: int, deadline: float) -> str | None:
    """All that comes out of a pipe until it is closed, or None if it is not by then."""
    text = b""
    with selectors.DefaultSelector() as selector, os.fdopen(readable, "rb", buffering=0) as pipe:
        selector.register(pipe, selectors.EVENT_READ)
        while selector.select(max(0.0, deadline - time.perf_counter())):
            part = pipe.read(4096)
            if not part:
                return text.decode()
            text += part
    return None


_WARM_UP = (
    (r"\frac{x+1}{2}", r"x \sqrt{2} + \log 2"),
    (r"\{1,\sqrt{2}\} \cup [0,\infty)", "x<1"),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}1\\x\end{pmatrix}"),
    (r"1 \le |x| \le 2", r"x \in [-2,-1] \cup [1,2]"),
    (r"\sum_{k=1}^{n} F_k + \sin x", r"a_n + \cos x"),
)


def serve() -> None:
    """Load math-verify, say so, then answer one line of questions after the other until there are no more."""
    import logging

    logging.disable(logging.CRITICAL)
    try:
        for gold, answer in _WARM_UP:
            _equal(gold, answer)  # loads what math-verify loads late
    except ImportError as error:
        print(json.dumps(str(error)), flush=True)
        return
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        questions = tuple((gold, answer) for gold, answer in asked["questions"])
        print(json.dumps(in_child(all_equal, questions, asked["seconds"], asked["processor_seconds"])), flush=True)


# --------------------------------------------------------------------------- outside


class _Server:
    """A server process and what it was asked last."""

    def __init__(self) -> None:
        # -P: neither this package's modules nor those in the working directory may stand in for the standard library's.
        paths = [str(Path(__file__).parents[2]), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}
        command = [sys.executable, "-P", "-m", "gapgrid.maths.symbolic"]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment, text=True
        )
        self.stdin: IO[str] = self.process.stdin  # type: ignore[assignment]
        self.stdout: IO[str] = self.process.stdout  # type: ignore[assignment]
        self.questions: Questions = ()
        self.started = 0.0

    def check(self) -> None:
        """Wait until it is ready; an `InputError` says why it is not."""
        reply = self.reply()
        if reply != "ready":
            self.close()
            raise InputError(f"math-verify does not load ({reply}); install the environment envs/cpu")

    def ask(self, questions: Questions, seconds: float) -> None:
        """Send questions and start the clock."""
        self.questions, self.started = questions, time.perf_counter()
        asked = {"questions": questions, "seconds": seconds, "processor_seconds": min(seconds, PROCESSOR_SECONDS)}
        with contextlib.suppress(OSError):  # it has died, and `reply` will say so
            self.stdin.write(json.dumps(asked) + "\n")
            self.stdin.flush()

    def reply(self) -> str:
        """The next line; `rule_crash` if the server has died."""
        line = self.stdout.readline()
        return str(json.loads(line)) if line.endswith("\n") else CRASH

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.stdin, self.stdout):
            with contextlib.suppress(OSError):
                pipe.close()


class Verifier:
    """Asks math-verify; servers start with the first question and are replaced when they die."""

    def __init__(self, seconds: float = SECONDS, n_servers: int = N_SERVERS) -> None:
        self.seconds = seconds
        self.n_servers = n_servers
        self.servers: list[_Server] = []

    def compare(self, gold: str, answer: str) -> str:
        """`math_verify` if equal, `different`, `rule_timeout` or `rule_crash`."""
        questions = ((gold, answer),)
        return self.compare_all([questions])[questions][0]

    def compare_all(self, asked: Iterable[Questions]) -> dict[Questions, tuple[str, float]]:
        """For each group of questions whether all are equal, and the seconds it took; the same group is asked once."""
        waiting = list(dict.fromkeys(asked))[::-1]
        replies: dict[Questions, tuple[str, float]] = {}
        self._start(min(self.n_servers, 1 + len(waiting) // _QUESTIONS_PER_SERVER) if waiting else 0)
        with selectors.DefaultSelector() as selector:
            for server in self.servers[: len(waiting)]:
                self._next(server, waiting, selector)
            while selector.get_map():
                for server in self._ready(selector):
                    selector.unregister(server.stdout)
                    replies[server.questions] = server.reply(), time.perf_counter() - server.started
                    if waiting:
                        self._next(self._alive(server), waiting, selector)
        return replies

    def _next(self, server: _Server, waiting: list[Questions], selector: selectors.BaseSelector) -> None:
        selector.register(server.stdout, selectors.EVENT_READ, server)
        server.ask(waiting.pop(), self.seconds)

    def _ready(self, selector: selectors.BaseSelector) -> list[_Server]:
        """The servers that have replied or died; one that does neither long after its time is ended."""
        ready = [key.data for key, _ in selector.select(0.5)]
        late = time.perf_counter() - self.seconds - _BACKUP_SECONDS
        for key in list(selector.get_map().values()):
            if key.data not in ready and key.data.started < late:
                key.data.process.kill()
        return ready

    def _alive(self, server: _Server) -> _Server:
        """The server, or a new one in its place if it has died."""
        if server.process.poll() is None:
            return server
        server.close()
        self.servers.remove(server)
        self._start(len(self.servers) + 1)
        return self.servers[-1]

    def _start(self, n_servers: int) -> None:
        """Have at least so many servers, ready."""
        for server in [server for server in self.servers if server.process.poll() is not None]:
            server.close()
            self.servers.remove(server)
        new = [_Server() for _ in range(n_servers - len(self.servers))]
        self.servers.extend(new)
        for server in new:
            server.check()

    def close(self) -> None:
        """End the servers, if there are any."""
        for server in self.servers:
            server.close()
        self.servers = []

    def __enter__(self) -> "Verifier":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


if __name__ == "__main__":
    serve()
