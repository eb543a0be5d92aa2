"""Who is at work in a folder, by records and by what squeue prints; here squeue is a script."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("snakemake_executor_plugin_gapgrid_slurm")

from snakemake_executor_plugin_gapgrid_slurm import folder as plugin
from snakemake_executor_plugin_gapgrid_slurm.folder import NoAnswerError, Record, state_of

RUN = "0a1b2c3d-0000-4000-8000-0123456789ab"
TRAIN = "rule_train_wildcards_a_b_0"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder, with no job in squeue."""
    for name in ("bin", "work"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    squeue(tmp_path / "work")
    return tmp_path / "work"


def squeue(folder: Path, *lines: str, code: int = 0) -> None:
    """Have squeue print these lines."""
    file, output = folder.parent / "bin/squeue", folder.parent / "output"
    output.write_text("".join(f"{line}\n" for line in lines))
    file.write_text(f"#!/bin/sh\ncat {output}\nexit {code}\n")
    file.chmod(0o755)


def dead(folder: Path, host: str | None = None, age: float = 0) -> None:
    """A controller that has ended and left its record."""
    code = (
        f"import sys; from pathlib import Path; from {plugin.__name__} import Record; "
        "Record.write(Path(sys.argv[1]), sys.argv[2], [])"
    )
    subprocess.run([sys.executable, "-c", code, folder, RUN], check=True)
    file = folder / plugin.RECORDS / f"{RUN}.json"
    if host:
        file.write_text(json.dumps({**json.loads(file.read_text()), "host": host}))
    os.utime(file, (time.time() - age, time.time() - age))


def lock(folder: Path) -> None:
    """Snakemake's lock."""
    (folder / ".snakemake/locks").mkdir(parents=True)
    (folder / ".snakemake/locks/0.input.lock").touch()


def test_nobody(folder: Path) -> None:
    assert state_of(folder) == ([], [], [], False) and state_of(folder).message() is None


def test_a_live_controller_and_its_jobs_do_not_prevent_a_run(folder: Path) -> None:
    lock(folder)
    record = Record.write(folder, RUN, [])
    squeue(folder, f"7|RUNNING|{RUN}|{TRAIN}|{folder}")
    state = state_of(folder)
    assert state.alive == [record] and state.message() is None
    record.remove()
    assert [job.job_id for job in state_of(folder).orphans] == ["7"]


def test_a_dead_controller(folder: Path) -> None:
    dead(folder)
    assert state_of(folder).message() is None, "no lock and no job is left"
    lock(folder)
    text = "None of its SLURM jobs is left. To go on:      gapgrid resume"
    assert text in str(state_of(folder).message())
    running, pending = f"7|RUNNING|pre_{RUN}|{TRAIN}", f"8|PENDING|{RUN}|rule_judge"
    squeue(folder, f"{running}|{folder}", f"{pending}|{folder}")
    message = str(state_of(folder).message())
    jobs = "7 (train a_b_0, running), 8 (judge, pending)"
    assert f"2 of its SLURM jobs are still there: {jobs}" in message
    assert "gapgrid resume --cancel" in message


def test_jobs_of_other_folders_and_by_hand_are_not_ours(folder: Path) -> None:
    elsewhere, by_hand = f"7|RUNNING|{RUN}|rule_train|{folder.parent}", "8|RUNNING|bash|(null)"
    squeue(folder, elsewhere, f"{by_hand}|{folder}", "9|RUNNING|a|b|c|d|e")
    assert state_of(folder).orphans == []


def test_a_controller_on_another_machine(folder: Path) -> None:
    dead(folder, host="login2")
    assert len(state_of(folder).alive) == 1
    dead(folder, host="login2", age=plugin.SILENT_AFTER + 1)
    assert len(state_of(folder).dead) == 1


def test_a_failing_squeue_is_an_error(folder: Path) -> None:
    squeue(folder, code=1)
    with pytest.raises(NoAnswerError):
        state_of(folder)
