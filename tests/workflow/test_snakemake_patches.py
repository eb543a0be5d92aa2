"""The patches of Snakemake's planning: with them one call does what a change asks for.

Without each of them it does not. One mix of the stub grid is slow, so that the other mix's cells
are done when Snakemake decides anew.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.workflow.conftest import Project, jobs_in
from tests.workflow.test_staleness import (
    JUDGED_ANEW,
    TRAINED,
    append,
    bump,
    of,
    retrained,
    set_key,
    several,
)

SECONDS = 12
COMMAND = '"python -m gapgrid.stages.mix'
SLOW = COMMAND.replace(
    "python", f"if [ {{wildcards.mix}} = ${{{{SLOW_MIX:-}}}} ]; then sleep {SECONDS}; fi; python"
)


class Scenario(NamedTuple):
    name: str
    slow: str
    change: Callable[[Project], object]
    expected: set[str]
    patch: str  # the line of apply() without which the call does something else


BOTH_MIXES = of("source", "short") | of("mix", "mixed", "short") | retrained(TRAINED)
other_short_rows = set_key("sources.short.builtin.rows", 31)
SCENARIOS = [
    Scenario(
        "both mixes made anew, the same",
        "mixed",
        bump("mix"),
        of("mix", "mixed", "short"),
        "DAG.update_needrun =",
    ),
    Scenario("both mixes changed", "mixed", other_short_rows, BOTH_MIXES, "DAG.update_needrun ="),
    Scenario(
        "both mixes and the judge changed",
        "short",
        several(other_short_rows, append("config/stub/prompts/judge.txt", "Be strict.\n")),
        BOTH_MIXES | JUDGED_ANEW,
        "DAG._ready =",
    ),
]


@pytest.fixture(scope="module")
def slow_once(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A finished stub grid whose mixes can be slowed down one by one."""
    project = Project.create(
        tmp_path_factory.mktemp("slow") / "project", "stub", Path(__file__).parent / "stub"
    )
    project.replace("workflow/rules/mix.smk", COMMAND, SLOW)
    assert project.snakemake().returncode == 0
    return project


def ran(project: Project, scenario: Scenario) -> set[str]:
    scenario.change(project)
    done = project.snakemake(env={**os.environ, "SLOW_MIX": scenario.slow})
    assert "Traceback" not in done.stderr
    return jobs_in(done.stdout + done.stderr)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_one_call_does_all_that_is_asked_for(
    slow_once: Project, tmp_path: Path, scenario: Scenario
) -> None:
    project = slow_once.copy(tmp_path / "project")
    assert ran(project, scenario) == scenario.expected
    assert project.is_done()


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_without_the_patch_it_does_not(
    slow_once: Project, tmp_path: Path, scenario: Scenario
) -> None:
    project = slow_once.copy(tmp_path / "project")
    lines = project.path("workflow/snakemake_patches.py").read_text().splitlines(keepends=True)
    left = [line for line in lines if not line.strip().startswith(scenario.patch)]
    assert len(left) == len(lines) - 1
    project.path("workflow/snakemake_patches.py").write_text("".join(left))
    assert ran(project, scenario) != scenario.expected or not project.is_done()
