"""A grid of stub engines in a folder of its own, built once and copied for each test."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
SNAKEMAKE, GAPGRID = BIN / "snakemake", BIN / "gapgrid"
_JOB = re.compile(r"^(?:local)?(?:rule|checkpoint) (\w+):$")


class Project:
    """A working folder with the workflow and one grid in it."""

    def __init__(self, folder: Path, grid: str) -> None:
        self.folder, self.grid = folder, grid

    @classmethod
    def create(cls, folder: Path, grid: str, config: Path) -> "Project":
        folder.mkdir(parents=True)
        ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
        for name in ("workflow", "envs", "profiles"):
            shutil.copytree(REPOSITORY / name, folder / name, ignore=ignore)
        shutil.copytree(config, folder / "config" / grid)
        return cls(folder, grid)

    def copy(self, folder: Path) -> "Project":
        """The same folder elsewhere, times of change kept."""
        subprocess.run(["cp", "-a", str(self.folder), str(folder)], check=True)
        return Project(folder, self.grid)

    def run(self, command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command in the project's folder."""
        return subprocess.run(
            command, cwd=self.folder, capture_output=True, text=True, timeout=600, **options
        )

    def command(self, *arguments: str, config: tuple[str, ...] = ()) -> list[str]:
        """Snakemake's command line with the demo profile on this grid."""
        chosen = ["--profile", "profiles/demo", "--config", f"grid={self.grid}", *config]
        return [str(SNAKEMAKE), *chosen, *arguments]

    def snakemake(
        self, *arguments: str, config: tuple[str, ...] = (), **options: Any
    ) -> subprocess.CompletedProcess[str]:
        return self.run(self.command(*arguments, config=config), **options)

    def gapgrid(self, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `gapgrid COMMAND GRID`, with the project's own code."""
        environment = {**os.environ, "PYTHONPATH": str(self.path("workflow"))}
        return self.run([str(GAPGRID), command, self.grid, *arguments], env=environment)

    def jobs(self, *arguments: str, config: tuple[str, ...] = ()) -> set[str]:
        """The jobs that a call plans or runs, as rule/coordinates; fails if the call does."""
        done = self.snakemake(*arguments, config=config)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return jobs_in(done.stdout + done.stderr)

    def plan(self, *arguments: str, config: tuple[str, ...] = ()) -> set[str]:
        return self.jobs("-n", *arguments, config=config)

    def is_done(self, *arguments: str, config: tuple[str, ...] = ()) -> bool:
        done = self.snakemake("-n", *arguments, config=config)
        return "Nothing to be done" in done.stdout + done.stderr

    def path(self, name: str) -> Path:
        return self.folder / name

    def result(self, name: str) -> Path:
        return self.folder / "results" / self.grid / name

    def json(self, name: str) -> Any:
        """The content of a JSON result."""
        return json.loads(self.result(name).read_text())

    def log(self, name: str) -> str:
        """The text of a job's log, by rule and coordinates."""
        return self.path(f"logs/{self.grid}/{name}.log").read_text()

    def edit(self, file: str, change: Callable[[Any], Any]) -> None:
        """Change one config file's content in place; `change` may return a new document."""
        path = self.folder / "config" / self.grid / f"{file}.yaml"
        document = json.loads(json.dumps(yaml.safe_load(path.read_text())))  # aliases become copies
        document = change(document) or document
        path.write_text(yaml.safe_dump(document, sort_keys=False))

    def replace(self, file: str, old: str, new: str) -> None:
        """Replace text in a file of the project, which must hold it."""
        path = self.folder / file
        text = path.read_text()
        assert old in text, f"{file} does not hold {old!r}"
        path.write_text(text.replace(old, new))


def jobs_in(output: str) -> set[str]:
    found: set[str] = set()
    rule = None
    for line in output.splitlines():
        if (match := _JOB.match(line)) is not None:
            rule = match[1]
            if rule != "all":
                found.add(rule)
        elif rule and line.startswith("    wildcards: "):
            values = [
                part.split("=", 1)[1] for part in line.removeprefix("    wildcards: ").split(", ")
            ]
            found.discard(rule)
            found.add("/".join([rule, *values]))
        elif not line.startswith("    "):
            rule = None
    return found


@pytest.fixture(scope="session")
def built_once(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project.create(
        tmp_path_factory.mktemp("stub") / "project", "stub", Path(__file__).parent / "stub"
    )
    done = project.snakemake()
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert project.is_done()
    return project


@pytest.fixture
def built(built_once: Project, tmp_path: Path) -> Project:
    """A finished stub grid to change."""
    return built_once.copy(tmp_path / "project")


@pytest.fixture(autouse=True)
def quiet_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SNAKEMAKE_PROFILE", "PYTHONPATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", os.environ.get("HOME", "/tmp"))
