"""The README's commands, as far as tests can run them, and its facts about the repository."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from gapgrid.config.load import SCHEMAS
from tests.workflow.conftest import SNAKEMAKE, Project

REPOSITORY = Path(__file__).parents[1]
README = (REPOSITORY / "README.md").read_text()
BIN = Path(sys.executable).parent


def test_make_commands_exist() -> None:
    for target in set(re.findall(r"(?:`|^    )make ([a-z][a-z-]*)", README, re.MULTILINE)):
        done = subprocess.run(
            ["make", "-n", target], cwd=REPOSITORY, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"make {target}: {done.stderr}"


def test_make_test_is_what_ci_runs() -> None:
    assert "make test" in (REPOSITORY / ".ci/run").read_text()
    planned = subprocess.run(
        ["make", "-n", "test"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout
    assert "-m pytest" in planned


def test_pictures_and_files_named_exist() -> None:
    named = ["CITATION.cff", "workflow/gapgrid/grid/specs.py", "tests/workflow/test_staleness.py"]
    for path in [*re.findall(r"\]\((docs/[^)]+)\)", README), *named]:
        assert (REPOSITORY / path).is_file(), path


def test_a_grid_of_ones_own(tmp_path: Path) -> None:
    """The README's entries, put into a copy of the demo, plan without an error."""
    project = Project.create(tmp_path / "project", "mine", REPOSITORY / "config/demo")
    entries = [
        yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    ]
    student, mixes, benchmark, experiment, judge = entries
    assert judge["backend"] == "vllm"
    project.edit(
        "judge", lambda document: {**judge, "backend": "hf", "size": "tiny"}
    )  # vLLM is not in the demo's environment
    project.edit("recipes", lambda document: document.update(full=document["sft-l"]))
    project.edit("hardware", lambda document: document.update({"3b": document["tiny"]}))
    project.edit("models", lambda document: document.update(student))
    project.edit("mixes", lambda document: document.update(mixes))
    project.edit("benchmarks", lambda document: document.update(benchmark))
    project.edit(
        "experiments",
        lambda document: document.update(
            {f"my-{name}": entry for name, entry in experiment.items()}
        ),
    )
    task = REPOSITORY / "config/paper/tasks/hendrycks_math_500.yaml"
    (project.folder / "config/mine/tasks/hendrycks_math_500.yaml").write_text(task.read_text())
    planned = project.plan()
    assert "base/qwen2.5-3b/0" in planned
    assert "grade/qwen2.5-3b/long/0/math-500" in planned
    assert {"table/my-long-gap", "figure/my-long-gap"} <= planned


def test_snakemake_commands_plan(tmp_path: Path) -> None:
    done = subprocess.run(
        [SNAKEMAKE, "--profile", "demo", "-n", "--config", "grid=demo", f"results={tmp_path}"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("command", ["verify", "summary"])
def test_gapgrid_commands_without_results(command: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [BIN / "gapgrid", command, "demo", "--results", str(tmp_path)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    if command == "verify":
        assert done.returncode == 1 and "no results yet" in done.stderr
    else:
        assert done.returncode == 0 and "not built yet" in done.stdout


def test_every_config_key_is_described() -> None:
    """The README sends users to the schemas: each describes every key."""

    def undescribed(schema: dict[str, object], where: str) -> list[str]:
        missing = []
        for key in ("properties", "patternProperties"):
            for name, inner in (schema.get(key) or {}).items():  # type: ignore[attr-defined]
                missing += [f"{where}.{name}"] * ("description" not in inner) + undescribed(
                    inner, f"{where}.{name}"
                )
        return missing

    for file in SCHEMAS.glob("*.yaml"):
        assert undescribed(yaml.safe_load(file.read_text()), file.name) == []
