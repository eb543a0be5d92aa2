"""A real SLURM for the tests of this folder, for one worker at a time.

The tests are skipped, saying why, where SLURM cannot be installed.
"""

import fcntl
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests import apt
from tests.slurm import cluster
from tests.workflow.conftest import SNAKEMAKE, Project

WORKFLOW_TESTS = Path(__file__).parents[1] / "workflow"
AnyProject = TypeVar("AnyProject", bound=Project)
LOCK = Path("/run/gapgrid-slurm.lock")
# A poll a second instead of every 10 to 30: these tests wait for polls more than for jobs.
QUICK = [
    "--gapgrid-slurm-init-seconds-before-status-checks=1",
    "--gapgrid-slurm-max-seconds-between-status-checks=1",
]
# Executed by the training stage once it has locked its GPUs and output: it looks for a file named
# after the job, and runs the code in it once, so that one attempt of one job goes wrong.
FAULT = """

def _acquire(n_gpus: int, output: Path) -> None:
    gpu_lock.acquire(n_gpus, output)
    file = Path("faults") / "-".join(output.parts[-4:-1])
    if file.exists():
        code = file.read_text()
        file.unlink()
        exec(code)


def work("""


@pytest.fixture(scope="session")
def session_of_slurm() -> Iterator[Any]:
    """The file that workers lock in turn; a worker stops the cluster after its last test."""
    try:
        cluster.install_packages()
    except apt.UnavailableError as error:
        apt.skip(f"no SLURM here: {error}")
    with LOCK.open("w") as lock:
        yield lock
        fcntl.flock(lock, fcntl.LOCK_EX)
        cluster.down()


@pytest.fixture
def slurm(session_of_slurm: Any) -> Iterator[Any]:
    """The cluster, up and empty, for one test alone."""
    fcntl.flock(session_of_slurm, fcntl.LOCK_EX)
    try:
        cluster.up()
        yield cluster
    finally:
        cluster.start_controller()
        cluster.clear()
        fcntl.flock(session_of_slurm, fcntl.LOCK_UN)


class SlurmProject(Project):
    """A folder whose jobs go to SLURM's partition `gpu`, with two GPUs each."""

    @classmethod
    def make(cls, folder: Path, grid: str) -> "SlurmProject":
        """Create a project, whose training stage may be given faults."""
        project = cls.create(folder, grid, WORKFLOW_TESTS / grid)
        assert isinstance(project, cls)
        (folder / "slurm").symlink_to("profiles/slurm")
        (folder / "faults").mkdir()
        project.choose("slurm_partition", "gpu")
        project.edit("hardware", lambda document: document["tiny"].update(gpus=2))
        project.replace("workflow/gapgrid/stages/train.py", "gpu_lock.acquire(", "_acquire(")
        project.replace("workflow/gapgrid/stages/train.py", "\n\ndef work(", FAULT)
        return project

    def choose(self, key: str, value: str) -> None:
        """Set a default resource of the profile, whose line may be commented out."""
        path = self.folder / "profiles/slurm/profile.yaml"
        lines = path.read_text().splitlines()
        starts = (f"  # - {key}=", f"  - {key}=")
        index = next(index for index, line in enumerate(lines) if line.startswith(starts))
        lines[index] = f"  - {key}='{value}'"
        path.write_text("\n".join(lines) + "\n")

    def fault(self, cell: str, code: str) -> None:
        """Run `code` in the first attempt of a cell's training."""
        (self.folder / "faults" / cell).write_text(code)

    def slurm_command(self, *arguments: str) -> list[str]:
        """The command that runs Snakemake on SLURM."""
        options = f"--profile slurm --config grid={self.grid} --latency-wait 10 --jobs 4"
        return [str(SNAKEMAKE), *options.split(), *QUICK, *arguments]

    def call(self, *command: str, seconds: float = 200) -> "subprocess.CompletedProcess[str]":
        """Run a command in the folder; its errors are in its standard output."""
        return subprocess.run(
            command,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=seconds,
        )

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        """Start a controller in a session of its own, which writes to controller.log."""
        log = (self.folder / "controller.log").open("a")
        return subprocess.Popen(
            self.slurm_command(*arguments),
            cwd=self.folder,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )

    def finish(self, run: "subprocess.Popen[str]", seconds: float = 120) -> str:
        """Wait for a controller, which must succeed; return its output."""
        try:
            code = run.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(run.pid, signal.SIGKILL)
            code = -1
        text = (self.folder / "controller.log").read_text()
        assert code == 0, f"exit status {code}\n{text[-6000:]}"
        return text

    def wait_for_fault(self, cell: str, seconds: float = 90) -> str:
        """Wait until a cell's fault runs; return the id of its SLURM job."""
        file = self.folder / "faults" / cell
        cluster.wait_for(lambda: not file.exists(), f"the fault of {cell}", seconds)
        name = f"rule_train_wildcards_{cell.replace('-', '_')}"
        ids = [line.split("|")[0] for line in cluster.jobs("%A|%k") if line.endswith(name)]
        assert len(ids) == 1, cluster.jobs("%A|%T|%k|%r")
        return ids[0]


@pytest.fixture(scope="session")
def stub_done_locally(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The results that every run with faults must end with."""
    folder = tmp_path_factory.mktemp("local") / "project"
    return built_locally(cut_down(Project.create(folder, "stub", WORKFLOW_TESTS / "stub")))


def built_locally(project: Project, *arguments: str) -> Project:
    """Build a project's grid on this machine, without SLURM."""
    done = project.snakemake(*arguments)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return project


def cut_down(project: AnyProject) -> AnyProject:
    """Leave one student and two mixes: five jobs that go to SLURM."""
    project.edit("experiments", lambda document: {"gap": {**document["gap"], "models": ["small"]}})
    return project


@pytest.fixture
def project(tmp_path: Path) -> SlurmProject:
    """The cut-down stub grid, not built yet."""
    return cut_down(SlurmProject.make(tmp_path / "project", "stub"))
