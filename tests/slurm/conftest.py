"""A real SLURM for the tests of this folder; a worker at a time uses it. Skipped, saying why, where none can be had."""

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.slurm import cluster
from tests.workflow.conftest import Project

WORKFLOW_TESTS = Path(__file__).parents[1] / "workflow"
LOCK = Path("/run/gapgrid-slurm.lock")
# A poll a second instead of every 10 to 30: these tests wait for polls more than for jobs.
QUICK = ("--gapgrid-slurm-init-seconds-before-status-checks", "1", "--gapgrid-slurm-max-seconds-between-status-checks", "1")


@pytest.fixture(scope="session")
def session_of_slurm() -> Iterator[Any]:
    """The lock that workers take in turn; the cluster goes down with the last test of a worker."""
    try:
        cluster.can_be_had()
    except cluster.UnavailableError as error:
        pytest.skip(f"no SLURM here: {error}")
    with LOCK.open("w") as lock:
        yield lock
        fcntl.flock(lock, fcntl.LOCK_EX)
        cluster.down()


@pytest.fixture
def slurm(session_of_slurm: Any) -> Iterator[Any]:
    """The cluster, up and empty, for one test alone."""
    fcntl.flock(session_of_slurm, fcntl.LOCK_EX)
    try:
        try:
            cluster.up()
        except cluster.UnavailableError as error:
            pytest.skip(f"no SLURM here: {error}")
        yield cluster
    finally:
        cluster.start_controller()
        cluster.clear()
        fcntl.flock(session_of_slurm, fcntl.LOCK_UN)


# Looks for a file named after the job, and runs what it says, once: so a test makes one attempt of one job go wrong.
FAULT = """
def _fault(name: str) -> None:
    file = Path("faults") / name
    if file.exists():
        code = file.read_text()
        file.unlink()
        exec(code)


def work("""


class SlurmProject(Project):
    """A folder whose jobs go to SLURM: two GPUs for each of them, on the partition named in the profile."""

    @classmethod
    def make(cls, folder: Path, grid: str) -> "SlurmProject":
        project = cls.create(folder, grid, WORKFLOW_TESTS / grid)
        assert isinstance(project, cls)
        (folder / "slurm").symlink_to("profiles/slurm")
        (folder / "faults").mkdir()
        project.choose("slurm_partition", "gpu")
        project.edit("hardware", lambda document: document["tiny"].update(gpus=2))
        project.replace("workflow/gapgrid/train.py", "\n\ndef work(", f"\n{FAULT}")
        project.replace(
            "workflow/gapgrid/train.py", "    base = manifest.read", "    _fault('-'.join(folder.parts[-3:]))\n    base = manifest.read"
        )
        return project

    def choose(self, key: str, value: str) -> None:
        """Set one line of the profile's place for such things, commented or not."""
        path = self.folder / "profiles/slurm/profile.yaml"
        lines = path.read_text().splitlines()
        index = next(index for index, line in enumerate(lines) if line.startswith((f"  # - {key}=", f"  - {key}=")))
        lines[index] = f"  - {key}='{value}'"
        path.write_text("\n".join(lines) + "\n")

    def fault(self, cell: str, code: str) -> None:
        """Run `code` in the first attempt of a cell's training."""
        (self.folder / "faults" / cell).write_text(code)

    def command(self, *arguments: str) -> list[str]:
        snakemake = str(Path(sys.executable).parent / "snakemake")
        own = ["--profile", "slurm", "--config", f"grid={self.grid}", *QUICK, "--latency-wait", "10", "--jobs", "4"]
        return [snakemake, *own, *arguments]

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        """A controller in a session of its own; its words go to controller.log."""
        log = (self.folder / "controller.log").open("a")
        return subprocess.Popen(
            self.command(*arguments), cwd=self.folder, stdout=log, stderr=log, stdin=subprocess.DEVNULL, text=True, start_new_session=True
        )

    def run(self, *arguments: str, seconds: float = 120) -> str:
        """To the end, which must be a good one; the words."""
        return self.finish(self.start(*arguments), seconds)

    def finish(self, run: "subprocess.Popen[str]", seconds: float = 120) -> str:
        try:
            code = run.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(run.pid, signal.SIGKILL)
            code = -1
        words = (self.folder / "controller.log").read_text()
        assert code == 0, f"exit status {code}\n{words[-6000:]}"
        return words

    def wait_for_fault(self, cell: str, seconds: float = 90) -> str:
        """The id of the SLURM job in which a cell's fault is at work."""
        model, mix, seed = cell.split("-")
        cluster.wait_for(lambda: not (self.folder / "faults" / cell).exists(), f"the fault of {cell}", seconds)
        found = [line.split("|")[0] for line in cluster.jobs("%A|%k") if line.endswith(f"rule_train_wildcards_{model}_{mix}_{seed}")]
        assert len(found) == 1, cluster.jobs("%A|%T|%k|%r")
        return found[0]


@pytest.fixture(scope="session")
def stub_done_locally(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """What every faulty run must end with."""
    project = Project.create(tmp_path_factory.mktemp("local") / "project", "stub", WORKFLOW_TESTS / "stub")
    cut_down(project)
    done = project.snakemake()
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return project


def cut_down(project: Project) -> None:
    """One student and two mixes: five jobs that would go to SLURM."""
    project.edit("experiments", lambda document: {"gap": {**document["gap"], "models": ["small"]}})


@pytest.fixture
def project(tmp_path: Path) -> SlurmProject:
    """The cut-down stub grid, not built yet."""
    project = SlurmProject.make(tmp_path / "project", "stub")
    cut_down(project)
    return project
