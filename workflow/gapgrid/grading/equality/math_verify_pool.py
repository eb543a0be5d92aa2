"""math-verify in processes of its own, with limits on memory, processor time and the clock.

An answer may make math-verify hang, crash or eat memory. A server process (this module, run with
`python -m`) loads it once and forks a child for every comparison. Why a fork for each, and no pool
of workers: a comparison feels nothing of the one before it (caches, leaked memory, a changed
recursion limit); it has no start-up time, while loading math-verify takes a second; and the limits
of memory and processor time are set by the kernel, which no code in the child can get around.
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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any

from gapgrid.core.records import InputError

SECONDS = 3.5  # on the clock, for one comparison
PROCESSOR_SECONDS = 2.0
BYTES = 3 << 30
N_SERVERS = 2
_COMPARISONS_PER_SERVER = 20  # a server takes a second to start
# The server ends its children; this long after it should have, the server is ended.
_BACKUP_SECONDS = 5.0

EQUAL, DIFFERENT, TIMEOUT, CRASH = "math_verify", "different", "rule_timeout", "rule_crash"

FormulaPairs = tuple[tuple[str, str], ...]  # one comparison: are both formulas of each pair equal?

# --------------------------------------------------------------------------- in the child


def compare_pairs(pairs: FormulaPairs) -> str:
    """Return `math_verify` if the formulas of each pair are equal, else `different`."""
    return EQUAL if all(_equal(gold, answer) for gold, answer in pairs) else DIFFERENT


def _equal(gold: str, answer: str) -> bool:
    """Return whether math-verify finds two formulas equal and their values agree.

    Gold goes first: math-verify is not symmetric.
    """
    from math_verify import LatexExtractionConfig, parse, verify

    # Its own limits on time use signals and make a time-out look like a difference.
    config = {
        "extraction_config": [LatexExtractionConfig()],
        "fallback_mode": "no_fallback",
        "parsing_timeout": None,
    }
    parsed = [parse(f"\\boxed{{{text}}}", **config) for text in (gold, answer)]
    if not all(parsed) or not verify(*parsed, timeout_seconds=None):
        return False
    return _values_agree(parsed[0][0], parsed[1][0])


def _values_agree(gold: Any, answer: Any) -> bool:
    """Return whether two expressions agree to 20 digits.

    math-verify rounds to six decimals, where 1/2004! and 1/2006! are both 0.
    """
    from sympy import Expr, Integer, MatrixBase, Tuple

    if isinstance(gold, Tuple | MatrixBase) and isinstance(answer, Tuple | MatrixBase):
        return len(gold) == len(answer) and all(
            _values_agree(*pair) for pair in zip(gold, answer, strict=True)
        )
    if not isinstance(gold, Expr) or not isinstance(answer, Expr):
        return True
    symbols = sorted(gold.free_symbols | answer.free_symbols, key=str)
    values = {symbol: Integer(2 * index + 3) for index, symbol in enumerate(symbols)}
    value, other = (part.doit().subs(values).evalf(30) for part in (gold, answer))
    if not value.is_number or not other.is_number:
        return True
    return bool(abs(value - other) <= 1e-20 * max(abs(value), abs(other)))


# --------------------------------------------------------------------------- in the server


def in_child(
    work: Callable[[FormulaPairs], str],
    pairs: FormulaPairs,
    seconds: float,
    processor_seconds: float,
) -> str:
    """Return what `work` returns in a forked process, or `rule_timeout` or `rule_crash`."""
    readable, writable = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(readable)
        _reply_and_exit(work, pairs, processor_seconds, writable)
    os.close(writable)
    reply = _read_until(readable, time.perf_counter() + seconds)
    if reply is None:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if reply is None or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGPROF):
        return TIMEOUT
    return reply or CRASH


def _reply_and_exit(
    work: Callable[[FormulaPairs], str],
    pairs: FormulaPairs,
    processor_seconds: float,
    writable: int,
) -> None:
    """Be the child; the kernel ends it if it takes too much memory or processor time."""
    import resource

    status = 1
    try:
        resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.signal(signal.SIGPROF, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_PROF, processor_seconds)
        os.write(writable, work(pairs).encode())
        status = 0
    except Exception:
        os.write(writable, CRASH.encode())
    finally:
        os._exit(status)


def _read_until(readable: int, deadline: float) -> str | None:
    """Return all that comes out of a pipe until it is closed, or None if it is not by then."""
    text = b""
    with os.fdopen(readable, "rb", buffering=0) as pipe:
        while _is_readable(pipe, max(0.0, deadline - time.perf_counter())):
            part = pipe.read(4096)
            if not part:
                return text.decode()
            text += part
    return None


def _is_readable(file: IO[Any], seconds: float) -> bool:
    """Wait until a pipe has text or is closed; return False if it has not in so many seconds."""
    with selectors.DefaultSelector() as selector:
        selector.register(file, selectors.EVENT_READ)
        return bool(selector.select(seconds))


_WARM_UP = (
    (r"\frac{x+1}{2}", r"x \sqrt{2} + \log 2"),
    (r"\{1,\sqrt{2}\} \cup [0,\infty)", "x<1"),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}1\\x\end{pmatrix}"),
    (r"1 \le |x| \le 2", r"x \in [-2,-1] \cup [1,2]"),
    (r"\sum_{k=1}^{n} F_k + \sin x", r"a_n + \cos x"),
)


def serve() -> None:
    """Load math-verify, print "ready" or why it does not load, then a reply per line of stdin."""
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
        pairs, seconds = json.loads(line)
        reply = in_child(compare_pairs, pairs, seconds, min(seconds, PROCESSOR_SECONDS))
        print(json.dumps(reply), flush=True)


# --------------------------------------------------------------------------- outside


class Server:
    """A server process, started again when it has died."""

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        """Start the process, without waiting until it is ready."""
        python_path = os.environ.get("PYTHONPATH", "").split(os.pathsep)
        paths = [str(Path(__file__).parents[3]), *python_path]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}
        # -P: neither this package's modules nor those in the working directory may stand in for
        # the standard library's.
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "gapgrid.grading.equality.math_verify_pool"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            text=True,
        )
        self.stdin: IO[str] = self.process.stdin  # type: ignore[assignment]
        self.stdout: IO[str] = self.process.stdout  # type: ignore[assignment]

    def check(self) -> None:
        """Wait until it is ready; raise an `InputError` that says why it is not."""
        reply = self._reply()
        if reply != "ready":
            message = f"math-verify does not load ({reply}); install the environment envs/cpu"
            raise InputError(message)

    def compare(self, pairs: FormulaPairs, seconds: float) -> tuple[str, float]:
        """Return the reply, `rule_crash` if the server dies at it, and the seconds it took."""
        if self.process.poll() is not None:
            self.close()
            self.start()
            self.check()
        start = time.perf_counter()
        with contextlib.suppress(OSError):  # it has died, so there is no reply
            self.stdin.write(json.dumps([pairs, seconds]) + "\n")
            self.stdin.flush()
        if not _is_readable(self.stdout, seconds + _BACKUP_SECONDS):
            self.process.kill()
        return self._reply(), time.perf_counter() - start

    def _reply(self) -> str:
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
    """math-verify's servers, started with the first comparison."""

    def __init__(self, seconds: float = SECONDS, n_servers: int = N_SERVERS) -> None:
        self.seconds = seconds
        self.n_servers = n_servers
        self.servers: list[Server] = []

    def compare(self, gold: str, answer: str) -> str:
        """Return `math_verify` if equal, else `different`, `rule_timeout` or `rule_crash`."""
        pairs = ((gold, answer),)
        return self.compare_all([pairs])[pairs][0]

    def compare_all(
        self, comparisons: Iterable[FormulaPairs]
    ) -> dict[FormulaPairs, tuple[str, float]]:
        """Return each comparison's reply, see `compare`, and the seconds it took.

        Identical comparisons are done once.
        """
        unique = list(dict.fromkeys(comparisons))
        if not unique:
            return {}
        n_servers = min(self.n_servers, 1 + len(unique) // _COMPARISONS_PER_SERVER)
        new = [Server() for _ in range(n_servers - len(self.servers))]
        self.servers += new
        for server in new:
            server.check()
        idle: SimpleQueue[Server] = SimpleQueue()
        for server in self.servers:
            idle.put(server)

        def compare(pairs: FormulaPairs) -> tuple[str, float]:
            server = idle.get()
            try:
                return server.compare(pairs, self.seconds)
            finally:
                idle.put(server)

        with ThreadPoolExecutor(len(self.servers)) as threads:
            return dict(zip(unique, threads.map(compare, unique), strict=True))

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
