"""The judge's command, killed while it judges: the next run asks for what is missing, and nothing is lost."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from gapgrid import manifest
from gapgrid.ledger import Ledger
from gapgrid.records import write_jsonl
from tests.engines.test_judges import Server, reply, serve

__all__ = ["serve"]  # a fixture
N_PAIRS = 150
BATCH = 32  # pairs that the backend is asked at a time
TEMPLATE = "<problem>{problem}</problem> <reference>{gold}</reference> <answer>{answer}</answer>"
WHO = {"engine": {"name": "openai"}, "model": "m", "max_tokens": 5, "replies": {"correct": ["True"], "incorrect": ["False"]}}


def graded(folder: Path) -> Path:
    """A graded cell with as many answers for the judge; one in three is right."""
    rows: list[dict[str, Any]] = [
        {"doc_id": i, "repeat": 0, "problem": f"p{i}", "gold": "1", "answer": "1" if i % 3 == 0 else "2", "rejected_by": None}
        for i in range(N_PAIRS)
    ]
    write_jsonl(folder / "pending.jsonl", rows)
    counts = {"n": N_PAIRS, "n_no_answer": 0, "n_accepted": 0, "n_pending": N_PAIRS}
    manifest.write(folder / "manifest.json", "grade", {}, {}, ["pending.jsonl"], facts=counts)
    return folder / "manifest.json"


def start(server: Server, cell: Path, stamp: Path) -> subprocess.Popen[str]:
    """`python -m gapgrid.judge`, as the workflow runs it."""
    prompt = cell.parent / "prompt.txt"
    prompt.write_text(TEMPLATE)
    command = [sys.executable, "-m", "gapgrid.judge", "--spec", json.dumps({"version": 1, "judge": WHO}), "--base-url", server.url]
    command += ["--prompt", str(prompt), "--", str(stamp), str(cell)]
    return subprocess.Popen(command, env=os.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(running: subprocess.Popen[str]) -> int:
    """Its exit status, in reasonable time."""
    _, told = running.communicate(timeout=120)
    print(told)
    return running.returncode


def says(server: Server, body: dict[str, Any], before: int) -> tuple[int, Any, dict[str, str]]:
    """True where reference and answer are the same; takes a moment, so that a kill finds it in the middle."""
    time.sleep(0.01)
    text = body["messages"][-1]["content"]
    gold, answer = text.split("<reference>")[1][0], text.split("<answer>")[1][0]
    return 200, reply(str(gold == answer)), {}


def verdicts(stamp: Path) -> dict[str, tuple[str, str]]:
    """What the ledger beside a stamp holds of its one judge."""
    with Ledger(stamp.parent / "verdicts.sqlite", must_exist=True) as ledger:
        ((digest, _, _),) = ledger.judges()
        return ledger.verdicts(digest)


def asked(server: Server) -> Counter[str]:
    """How often each prompt was asked."""
    return Counter(body["messages"][-1]["content"] for body in server.asked)


def test_a_judge_killed_again_and_again_judges_nothing_twice_beyond_the_batch_in_flight(serve: Any, tmp_path: Path) -> None:
    cell = graded(tmp_path / "cell")
    undisturbed = tmp_path / "undisturbed" / "round.json"
    assert finish(start(serve(says), cell, undisturbed)) == 0

    stamp = tmp_path / "judge" / "round.json"
    server, kills = serve(says), 0
    for kills in (1, 2):
        running, seen, end = start(server, cell, stamp), len(server.asked), time.monotonic() + 60
        while len(server.asked) < seen + BATCH + 8 and time.monotonic() < end:  # in the middle of its second batch
            time.sleep(0.002)
        running.send_signal(signal.SIGKILL)
        assert finish(running) == -signal.SIGKILL
        assert len(verdicts(stamp)) >= kills * BATCH
        assert not stamp.exists()
    assert finish(start(server, cell, stamp)) == 0

    times = asked(server)
    assert len(times) == N_PAIRS
    assert times.total() <= N_PAIRS + kills * BATCH, "judged again beyond the batches in flight"
    assert verdicts(stamp) == verdicts(undisturbed)
    assert stamp.read_bytes() == undisturbed.read_bytes()
    assert [file.name for file in sorted(stamp.parent.iterdir())] == ["round.json", "verdicts.sqlite"]
    n_asked = len(server.asked)
    assert finish(start(server, cell, stamp)) == 0
    assert len(server.asked) == n_asked, "a kept verdict was asked for again"


def test_a_server_that_breaks_in_the_middle_costs_no_reply(serve: Any, tmp_path: Path) -> None:
    cell, stamp = graded(tmp_path / "cell"), tmp_path / "judge" / "round.json"
    refusing = threading.Event()
    refusing.set()

    def breaks(server: Server, body: dict[str, Any], before: int) -> tuple[int, Any, dict[str, str]]:
        return (400, {"error": {"message": "no more"}}, {}) if before >= 50 and refusing.is_set() else says(server, body, before)

    server = serve(breaks)
    assert finish(start(server, cell, stamp)) == 1
    assert len(verdicts(stamp)) == 50, "a reply that came back was not kept"
    refusing.clear()
    seen = len(server.asked)
    assert finish(start(server, cell, stamp)) == 0
    assert len(server.asked) - seen == N_PAIRS - 50
    assert len(verdicts(stamp)) == N_PAIRS
