"""One browser for all tests of this folder; they are skipped, with the reason, without one."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import apt
from tests.browser import chromium
from tests.workflow.conftest import Project, quiet_environment

__all__ = ["quiet_environment"]
STUB = Path(__file__).parents[1] / "workflow" / "stub"
MARKUP = "<img src=x onerror='window.hacked=1'>"  # the label of the larger student


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Browser]:
    try:
        chromium.ensure_installed()
    except apt.UnavailableError as error:
        apt.skip(f"no browser here: {error}")
    with chromium.browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(scope="session")
def finished(browser: chromium.Browser, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A stub grid built by the workflow, to be copied; it is not built without a browser."""
    project = Project.create(tmp_path_factory.mktemp("finished") / "project", "stub", STUB)
    project.edit("models", lambda document: document["large"].update(label=MARKUP))
    done = project.snakemake()
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "grid page: results/stub/grid.html" in done.stdout + done.stderr
    return project
