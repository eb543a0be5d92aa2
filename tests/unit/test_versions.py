"""A stage that computes something else under the same version is a red test."""

import json
import shutil
from pathlib import Path

import pytest

from gapgrid.grid.specs import VERSIONS
from tests import versions

RECORDED = json.loads(versions.RECORD.read_text())
GRADING = {"grade", "selftest"}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the package, free to be changed."""
    ignore = shutil.ignore_patterns("__pycache__")
    return Path(shutil.copytree(versions.PACKAGE, tmp_path / "gapgrid", ignore=ignore))


def changed(package: Path, file: str, old: str, new: str, **raised: int) -> set[str]:
    """The stages that have to be explained once `old` in a module has become `new`."""
    before = versions.current(package)
    text = (package / file).read_text()
    assert old in text
    (package / file).write_text(text.replace(old, new))
    now = versions.current(package, {**VERSIONS, **raised})
    return set(versions.unexplained(before, now, package))


def test_every_change_of_a_computation_is_explained() -> None:
    suspects = versions.unexplained(RECORDED, versions.current())
    lines = [f"{stage}: {', '.join(names)}" for stage, names in suspects.items()]
    assert not suspects, "\n".join([*lines, versions.__doc__ or ""])


def test_the_record_is_that_of_this_code() -> None:
    assert versions.current() == RECORDED, "record it: python -m tests.versions"


def test_stages_compute_with_their_libraries() -> None:
    assert {"stages/grade.py", "grading/decide.py", "grading/equality/compare.py"} <= (
        versions.modules_of("grade")
    )
    assert "engines/trainer.py" in versions.modules_of("train")
    assert "grid/specs.py" not in set().union(*map(versions.modules_of, VERSIONS))


def test_a_changed_threshold_of_the_rule_step_is_noticed(package: Path) -> None:
    old = "MOST_CHARACTERS = 2000"
    stages = changed(package, "grading/extract.py", old, "MOST_CHARACTERS = 3000")
    assert stages >= GRADING and not stages & {"train", "mix", "table"}


def test_a_raised_version_explains_it(package: Path) -> None:
    raised = {stage: version + 1 for stage, version in VERSIONS.items()}
    file, old = "grading/extract.py", "MOST_CHARACTERS = 2000"
    assert changed(package, file, old, "MOST_CHARACTERS = 3000", **raised) == set()


def test_a_renamed_variable_is_noticed_and_may_be_recorded_as_the_same(package: Path) -> None:
    assert changed(package, "grading/extract.py", "_TAIL", "_LAST_CHARACTERS") >= GRADING
    recorded = versions.current(package)
    assert versions.unexplained(recorded, versions.current(package), package) == {}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("import re\n", "import re\n\n# A comment.\n"),
        ('"""', '"""In other words. '),
        ("\n\n\n", "\n"),
    ],
    ids=["comment", "docstring", "layout"],
)
def test_what_computes_nothing_is_not_noticed(package: Path, old: str, new: str) -> None:
    file = package / "grading/extract.py"
    before, text = versions.current(package), file.read_text()
    file.write_text(text.replace(old, new, 1))
    assert versions.current(package) == before and file.read_text() != text
