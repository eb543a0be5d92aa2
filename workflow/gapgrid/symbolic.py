"""math-verify in a process of its own, with a memory limit and a clock: an answer may make it hang or crash, not us."""

import multiprocessing
import resource
from multiprocessing.connection import Connection
from typing import Any

SECONDS = 10.0
BYTES = 4 << 30

EQUAL, DIFFERENT, TIMEOUT, CRASH = "math_verify", "different", "rule_timeout", "rule_crash"


def _worker(pipe: Connection) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))
    from math_verify import parse, verify

    while True:
        gold, answer = pipe.recv()
        try:
            # The limits inside math-verify would mask ours and make a time-out look like a difference.
            found = [parse(f"\\boxed{{{text}}}", parsing_timeout=None) for text in (gold, answer)]
            same = all(found) and verify(*found, timeout_seconds=None)
            pipe.send(EQUAL if same else DIFFERENT)
        except (Exception, RecursionError, MemoryError):
            pipe.send(CRASH)


class Verifier:
    """Compares pairs by math-verify; the process starts with the first pair and is replaced when it hangs or dies."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self.seconds = seconds
        self.process: Any = None
        self.pipe: Connection | None = None

    def compare(self, gold: str, answer: str) -> str:
        """`math_verify` if equal, `different`, `rule_timeout` or `rule_crash`. Gold goes first: it is not symmetric."""
        pipe = self.pipe or self._start()
        try:
            pipe.send((gold, answer))
            if pipe.poll(self.seconds):
                return str(pipe.recv())
        except (EOFError, OSError):
            self.close()
            return CRASH
        self.close()
        return TIMEOUT

    def _start(self) -> Connection:
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=_worker, args=(other,), daemon=True)
        self.process.start()
        other.close()
        return self.pipe

    def close(self) -> None:
        """Kill the process, if there is one."""
        if self.process is not None:
            self.process.kill()
            self.process.join()
        if self.pipe is not None:
            self.pipe.close()
        self.process = self.pipe = None

    def __enter__(self) -> "Verifier":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
