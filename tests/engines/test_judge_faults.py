"""The stage `judge`, killed while it judges: the next run asks for what is missing alone."""

import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from gapgrid.core.records import Row
from gapgrid.stores.verdicts import Ledger
from tests.engines.helpers import graded_cell, run, stage_command, wait_until
from tests.engines.scripted_server import Reply, Script, Server, completion

Serve = Callable[[Script], Server]
N_PAIRS = 150
BATCH = 32  # pairs that the backend is asked at a time
TEMPLATE = "<problem>{problem}</problem> <reference>{gold}</reference> <answer>{answer}</answer>"
IDENTITY = {
    "engine": {"name": "openai"},
    "model": "m",
    "max_tokens": 5,
    "replies": {"correct": ["True"], "incorrect": ["False"]},
}


def command(server: Server, cell: Path, manifest: Path) -> list[str]:
    prompt = cell.parent / "prompt.txt"
    prompt.write_text(TEMPLATE)
    options = ("--base-url", server.url, "--prompt", prompt, "--", manifest, cell)
    return stage_command("judge", {"version": 1, "judge": IDENTITY}, *options)


def compare(body: Row, before: int) -> Reply:
    """True if reference and answer are the same; slow enough to be killed in the middle."""
    time.sleep(0.01)
    text = body["messages"][-1]["content"]
    gold, answer = text.split("<reference>")[1][0], text.split("<answer>")[1][0]
    return completion(str(gold == answer))


def verdicts(manifest: Path) -> dict[str, tuple[str, str]]:
    """Return what the ledger beside a batch manifest holds of its one judge."""
    with Ledger(manifest.parent / "verdicts.sqlite", must_exist=True) as ledger:
        ((digest, _, _),) = ledger.judges()
        return ledger.verdicts(digest)


def test_a_judge_killed_twice_judges_again_at_most_the_batches_it_was_killed_in(
    serve: Serve, tmp_path: Path
) -> None:
    cell = graded_cell(tmp_path, N_PAIRS)
    undisturbed = tmp_path / "undisturbed" / "round.json"
    assert run(command(serve(compare), cell, undisturbed)).returncode == 0

    manifest, server = tmp_path / "judge" / "round.json", serve(compare)
    again = command(server, cell, manifest)
    for n_kills in (1, 2):
        before = len(server.bodies)
        job = subprocess.Popen(again, stderr=subprocess.DEVNULL)
        in_second_batch = before + BATCH + 8
        wait_until(lambda n=in_second_batch: len(server.bodies) >= n, "it asked nothing", 60)
        job.send_signal(signal.SIGKILL)
        assert job.wait(60) == -signal.SIGKILL
        assert len(verdicts(manifest)) >= n_kills * BATCH
        assert not manifest.exists()
    assert run(again).returncode == 0

    times = Counter(body["messages"][-1]["content"] for body in server.bodies)
    assert len(times) == N_PAIRS
    assert times.total() <= N_PAIRS + 2 * BATCH, "judged again beyond the batches in flight"
    assert verdicts(manifest) == verdicts(undisturbed)
    assert manifest.read_bytes() == undisturbed.read_bytes()
    names = sorted(file.name for file in manifest.parent.iterdir())
    assert names == ["round.json", "verdicts.sqlite"]
    assert run(again).returncode == 0
    assert len(server.bodies) == times.total(), "a stored verdict was asked for again"
