"""What goes wrong on a cluster: nothing is lost, nothing is written by two jobs at once, the results are the same."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.slurm.conftest import SlurmProject
from tests.workflow.conftest import Project
from tests.workflow.test_faults import fingerprint

pytestmark = pytest.mark.slow
SLEEP = "import time; time.sleep(900)"
RESUME = "import sys; from pathlib import Path; from gapgrid.commands.resume import resume; resume(Path('.'), sys.argv[1:] == ['--cancel'])"


def submissions(words: str) -> int:
    return len(re.findall(r"has been submitted with SLURM jobid", words))


def test_cancelled_too_large_and_a_node_drained(slurm: Any, project: SlurmProject, stub_done_locally: Project) -> None:
    """A job is cancelled by hand, another outgrows its memory and gets more, a node is drained under a running job."""
    project.edit("hardware", lambda document: document["tiny"].update(mem_mb=700))
    project.fault("small-short-0", SLEEP)
    project.fault("small-mixed-0", "Path('faults/held').write_text('x'); held = bytearray(1200 * 2**20)\nimport time\ntime.sleep(900)")
    run = project.start()
    cancelled = project.wait_for_fault("small-short-0")
    drained = slurm.run("squeue", "-h", "-j", cancelled, "-o", "%N")
    slurm.run("scontrol", "update", f"NodeName={drained}", "State=DRAIN", "Reason=test")
    slurm.run("scancel", cancelled)
    words = project.finish(run)
    assert project.path("faults/held").exists()
    assert f"SLURM-job '{cancelled}' failed, SLURM status is: 'CANCELLED'" in words
    assert submissions(words) == 5 + 2
    assert fingerprint(project) == fingerprint(stub_done_locally)
    again = slurm.run("scontrol", "show", "job", "-o").splitlines()
    retried = [line for line in again if "rule_train_wildcards_small_short" in line and f"JobId={cancelled} " not in line]
    assert len(retried) == 1 and f"NodeList={drained} " not in retried[0], "the second attempt ran on the drained node"
    memory = {re.search(r"MinMemoryNode=(\w+)", line)[1] for line in again if "rule_train_wildcards_small_mixed" in line}  # type: ignore[index]
    assert memory == {"700M", "1400M"}


def test_controller_of_slurm_is_away_for_a_while(slurm: Any, project: SlurmProject, stub_done_locally: Project) -> None:
    """Polls and a submission fall into the gap, a job ends in it; the stock plugin forgets all jobs and hangs for ever."""
    project.fault("small-short-0", "import time; time.sleep(4)")
    run = project.start()
    project.wait_for_fault("small-short-0")
    slurm.end("slurmctld")
    time.sleep(12)
    slurm.start_controller()
    words = project.finish(run)
    assert "SLURM sbatch failed" not in words, "a submission did not wait"
    assert submissions(words) <= 6  # a job started just after may find its node's GPUs not reported yet, and is tried again
    assert fingerprint(project) == fingerprint(stub_done_locally)


@pytest.mark.parametrize("option", ["", "--cancel"])
def test_controller_killed(slurm: Any, project: SlurmProject, stub_done_locally: Project, option: str) -> None:
    """The next run says so, also after an unlock by hand; `gapgrid resume` goes on, with no output written twice."""
    mark = "import os; file = open('faults/writers', 'a'); file.write(os.environ['SLURM_JOB_ID'] + '\\n'); file.close()\n"
    project.fault("small-short-0", f"{mark}import time; time.sleep({900 if option else 12})")
    run = project.start()
    orphan = project.wait_for_fault("small-short-0")
    wait_for(project.path("faults/writers").exists)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    for step in ("at once", "unlocked by hand"):
        refused = subprocess.run(project.command(), cwd=project.folder, capture_output=True, text=True, check=False, timeout=60)
        words = refused.stdout + refused.stderr
        assert refused.returncode == 1, step
        assert "an earlier run in this folder died" in words and "gapgrid resume --cancel" in words, step
        assert f"{orphan} (train small_short_0, running)" in words, step
        subprocess.run(project.command("--unlock"), cwd=project.folder, capture_output=True, check=True, timeout=60)
    done = subprocess.run(
        [sys.executable, "-c", RESUME, *filter(None, [option])],
        cwd=project.folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    words = done.stdout + done.stderr
    assert done.returncode == 0, words[-4000:]
    assert "going on: snakemake --profile slurm" in words
    ended = slurm.run("scontrol", "show", "job", "-o", orphan)
    assert ("JobState=CANCELLED" if option else "JobState=COMPLETED") in ended
    trained = re.findall(r"wildcards: model=small, mix=short, seed=0\n", words)
    assert bool(re.search(r"rule train:(?:\n    .*)*mix=short", words)) == bool(option), f"trained {len(trained)} times"
    assert fingerprint(project) == fingerprint(stub_done_locally)
    assert not list(project.folder.glob(".snakemake/gapgrid/controllers/*"))


def wait_for(what: Any, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_results_of_an_orphan_are_recorded(slurm: Any, project: SlurmProject) -> None:
    """Made after the controller's death, they still follow a later change of what fixes them."""
    project.fault("small-short-0", "import time; time.sleep(6)")
    target = "results/stub/train/small/short/0/manifest.json"
    run = project.start("--", target)
    project.wait_for_fault("small-short-0")
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    done = subprocess.run([sys.executable, "-c", RESUME], cwd=project.folder, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "train/small/short/0" not in project.plan("--", target)
    project.edit("recipes", lambda document: document["sft"].update(learning_rate=0.5))
    assert "train/small/short/0" in project.plan("--", target)


def test_preempted_for_good(slurm: Any, project: SlurmProject, stub_done_locally: Project) -> None:
    """Where preemption cancels, the job is submitted anew; the stock plugin waits for SLURM to do it, for ever."""
    project.choose("slurm_partition", "spot")
    project.edit("hardware", lambda document: document["tiny"].update(gpus=0))
    project.fault("small-short-0", SLEEP)
    run = project.start("--gapgrid-slurm-preempted-after", "3")
    project.wait_for_fault("small-short-0")
    slurm.run("sbatch", "-p", "urgent", "--exclusive", "-t", "1", "-o", "/dev/null", "--wrap", "sleep 2")
    words = project.finish(run)
    assert submissions(words) > 5
    assert fingerprint(project) == fingerprint(stub_done_locally)
    assert Path(project.result("tables/gap.csv")).exists()
