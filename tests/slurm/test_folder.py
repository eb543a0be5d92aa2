"""Who is at work in a folder, by records and by what squeue says; a squeue of ours answers here."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("snakemake_executor_plugin_gapgrid_slurm")

from snakemake_executor_plugin_gapgrid_slurm import folder as at_work

RUN = "0a1b2c3d-0000-4000-8000-0123456789ab"


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "bin").mkdir()
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    squeue(folder, "")
    return folder


def squeue(folder: Path, answer: str, code: int = 0) -> None:
    file = folder.parent / "bin/squeue"
    (folder.parent / "answer").write_text(answer)
    file.write_text(f"#!/bin/sh\ncat {folder.parent}/answer\nexit {code}\n")
    file.chmod(0o755)


def dead(folder: Path, run: str = RUN, host: str | None = None, age: float = 0) -> None:
    """A controller that has ended without clearing up."""
    code = (
        f"import sys; from pathlib import Path; from {at_work.__name__} import Record; Record.write(Path(sys.argv[1]), *sys.argv[2:], [])"
    )
    subprocess.run([sys.executable, "-c", code, folder, run], check=True)
    file = folder / at_work.RECORDS / f"{run}.json"
    if host:
        file.write_text(json.dumps({**json.loads(file.read_text()), "host": host}))
    os.utime(file, (time.time() - age, time.time() - age))


def lock(folder: Path) -> None:
    (folder / ".snakemake/locks").mkdir(parents=True)
    (folder / ".snakemake/locks/0.input.lock").touch()


def test_nobody(work: Path) -> None:
    assert at_work.look(work) == ([], [], [], False) and at_work.look(work).message() is None


def test_a_live_controller_and_its_jobs_are_no_matter(work: Path) -> None:
    lock(work)
    record = at_work.Record.write(work, RUN, [])
    squeue(work, f"7|RUNNING|{RUN}|rule_train_wildcards_a_b_0|{work}\n")
    state = at_work.look(work)
    assert state.alive == [record] and state.message() is None
    record.remove()
    assert [job.job_id for job in at_work.look(work).orphans] == ["7"], "without its record nobody watches it"


def test_a_dead_controller(work: Path) -> None:
    dead(work)
    assert at_work.look(work).message() is None, "unlocked, no job left: nothing stands in the way"
    lock(work)
    assert "None of its SLURM jobs is left. To go on:      gapgrid resume" in str(at_work.look(work).message())
    squeue(work, f"7|RUNNING|pre_{RUN}|rule_train_wildcards_a_b_0|{work}\n8|PENDING|{RUN}|rule_judge|{work}\n")
    message = str(at_work.look(work).message())
    assert "2 of its SLURM jobs are still there: 7 (train a_b_0, running), 8 (judge, pending)" in message
    assert "gapgrid resume --cancel" in message


def test_jobs_of_other_folders_and_by_hand_are_not_ours(work: Path) -> None:
    squeue(work, f"7|RUNNING|{RUN}|rule_train|{work.parent}\n8|RUNNING|bash|(null)|{work}\n9|RUNNING|a|b|c|d|e\n")
    assert at_work.look(work).orphans == []


def test_a_controller_on_another_machine(work: Path) -> None:
    dead(work, host="login2")
    assert len(at_work.look(work).alive) == 1, "heard of a moment ago"
    dead(work, host="login2", age=at_work.SILENT_AFTER + 1)
    assert len(at_work.look(work).dead) == 1


def test_no_answer_is_no_clearance(work: Path) -> None:
    squeue(work, "", code=1)
    with pytest.raises(at_work.NoAnswerError):
        at_work.look(work)
