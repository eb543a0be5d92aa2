"""Faults of a cluster: nothing is lost or written by two jobs at once; the results are the same."""

import os
import re
import signal
from typing import Any

import pytest

from tests.slurm.conftest import SlurmProject
from tests.workflow.conftest import GAPGRID, Project
from tests.workflow.test_faults import fingerprint

pytestmark = pytest.mark.slow
SLEEP = "import time; time.sleep(900)"
UNTIL_TOLD = "import time\nwhile not Path('faults/go').exists(): time.sleep(0.1)"
RESUME = (str(GAPGRID), "resume")


def n_submissions(text: str) -> int:
    return len(re.findall(r"has been submitted with SLURM jobid", text))


def start_and_kill(slurm: Any, project: SlurmProject, fault: str, *arguments: str) -> str:
    """Kill a controller while a job with a fault runs; return the id of that job."""
    project.fault("small-short-0", f"Path('faults/running').touch()\n{fault}")
    run = project.start(*arguments)
    orphan = project.wait_for_fault("small-short-0")
    slurm.wait_for(project.path("faults/running").exists, "the fault's start")
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    return orphan


def test_cancelled_too_large_and_a_node_drained(
    slurm: Any, project: SlurmProject, stub_done_locally: Project
) -> None:
    """A job is cancelled, another needs more memory, a node is drained under a running job."""
    project.edit("hardware", lambda document: document["tiny"].update(mem_mb=700))
    project.fault("small-short-0", SLEEP)
    memory = "Path('faults/used').touch(); used = bytearray(1200 * 2**20)"
    project.fault("small-mixed-0", f"{memory}; {SLEEP}")
    run = project.start()
    cancelled = project.wait_for_fault("small-short-0")
    drained = slurm.run("squeue", "-h", "-j", cancelled, "-o", "%N")
    slurm.run("scontrol", "update", f"NodeName={drained}", "State=DRAIN", "Reason=test")
    slurm.run("scancel", cancelled)
    text = project.finish(run)
    assert project.path("faults/used").exists()
    assert f"SLURM-job '{cancelled}' failed, SLURM status is: 'CANCELLED'" in text
    assert n_submissions(text) == 5 + 2
    assert fingerprint(project) == fingerprint(stub_done_locally)
    jobs = slurm.run("scontrol", "show", "job", "-o").splitlines()
    short = [line for line in jobs if "rule_train_wildcards_small_short" in line]
    retried = [line for line in short if f"JobId={cancelled} " not in line]
    assert len(retried) == 1 and f"NodeList={drained} " not in retried[0]
    mixed = [line for line in jobs if "rule_train_wildcards_small_mixed" in line]
    limits = {limit for line in mixed for limit in re.findall(r"MinMemoryNode=(\w+)", line)}
    assert limits == {"700M", "1400M"}


def test_controller_of_slurm_is_away_for_a_while(
    slurm: Any, project: SlurmProject, stub_done_locally: Project
) -> None:
    """Polls and a submission fail meanwhile, a job ends; the stock plugin would hang for ever."""
    project.fault("small-short-0", UNTIL_TOLD)
    run = project.start()
    project.wait_for_fault("small-short-0")
    slurm.end("slurmctld")
    project.path("faults/go").touch()
    slurm.wait_for(project.result("train/small/short/0/manifest.json").exists, "the job's end")
    # The controller touches its record when a poll begins: this one finds no slurmctld.
    (record,) = project.folder.glob(".snakemake/gapgrid/controllers/*")
    before = record.stat().st_mtime_ns
    slurm.wait_for(lambda: record.stat().st_mtime_ns > before, "a poll", seconds=120)
    slurm.start_controller()
    text = project.finish(run)
    assert "SLURM sbatch failed" not in text, "a submission did not wait"
    # A job started just after may find its node's GPUs not reported yet, and is tried again.
    assert n_submissions(text) == 5 + text.count("Trying to restart job"), "submitted twice"
    assert fingerprint(project) == fingerprint(stub_done_locally)


@pytest.mark.parametrize("options", [[], ["--cancel"]])
def test_controller_killed(
    slurm: Any, project: SlurmProject, stub_done_locally: Project, options: list[str]
) -> None:
    """The next run refuses, even after an unlock by hand; `gapgrid resume` continues."""
    orphan = start_and_kill(slurm, project, UNTIL_TOLD)
    for step in ("at once", "unlocked by hand"):
        refused = project.call(*project.slurm_command(), seconds=60)
        assert refused.returncode == 1, step
        for text in (
            "an earlier run in this folder died",
            "gapgrid resume --cancel",
            f"{orphan} (train small_short_0, running)",
        ):
            assert text in refused.stdout, step
        unlocked = project.call(*project.slurm_command("--unlock"), seconds=60)
        assert unlocked.returncode == 0, unlocked.stdout
    if not options:
        project.path("faults/go").touch()
    done = project.call(*RESUME, *options)
    assert done.returncode == 0, done.stdout[-4000:]
    assert "going on: snakemake --profile slurm" in done.stdout
    state = "CANCELLED" if options else "COMPLETED"
    assert f"JobState={state}" in slurm.run("scontrol", "show", "job", "-o", orphan)
    is_retrained = re.search(r"rule train:(?:\n    .*)*mix=short", done.stdout) is not None
    assert is_retrained == bool(options)
    assert fingerprint(project) == fingerprint(stub_done_locally)
    assert not list(project.folder.glob(".snakemake/gapgrid/controllers/*"))


def test_results_of_an_orphan_are_recorded(slurm: Any, project: SlurmProject) -> None:
    """Results of a job that outlived its controller become stale by a later change of its spec."""
    target = "results/stub/train/small/short/0/manifest.json"
    start_and_kill(slurm, project, "import time; time.sleep(6)", "--", target)
    done = project.call(*RESUME)
    assert done.returncode == 0, done.stdout
    assert "train/small/short/0" not in project.plan("--", target)
    project.edit("recipes", lambda document: document["sft"].update(learning_rate=0.5))
    assert "train/small/short/0" in project.plan("--", target)


def test_preempted_for_good(slurm: Any, project: SlurmProject, stub_done_locally: Project) -> None:
    """Where preemption cancels, the job is submitted again; the stock plugin waits for ever."""
    project.choose("slurm_partition", "spot")
    project.edit("hardware", lambda document: document["tiny"].update(gpus=0))
    project.fault("small-short-0", SLEEP)
    run = project.start("--gapgrid-slurm-preempted-after", "3")
    project.wait_for_fault("small-short-0")
    urgent = ["sbatch", "-p", "urgent", "--exclusive", "-t", "1", "-o", "/dev/null", "--wrap"]
    slurm.run(*urgent, "sleep 2")
    assert n_submissions(project.finish(run)) > 5
    assert fingerprint(project) == fingerprint(stub_done_locally)
