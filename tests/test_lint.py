"""Lint is part of the tests."""

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
BIN = Path(sys.executable).parent


@pytest.mark.parametrize(
    "command",
    [
        ["ruff", "check", "."],
        ["ruff", "format", "--check", "."],
        ["mypy", "workflow/gapgrid"],
        ["snakefmt", "--check", "workflow"],
        ["snakemake", "--lint", "--config", "grid=demo"],
        ["snakemake", "--lint", "--config", "grid=paper"],
    ],
    ids=" ".join,
)
def test_lint(command: list[str]) -> None:
    done = subprocess.run(
        [BIN / command[0], *command[1:]],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def test_smk_rooms_stay_small() -> None:
    for file in (REPOSITORY / "workflow").rglob("*.smk"):
        text = file.read_text()
        assert len(text.splitlines()) <= 150, f"{file.name} grows too big"
        assert not any(word in text for word in ("lambda", "    run:", "    script:")), file.name
    entry = (REPOSITORY / "workflow/Snakefile").read_text()
    assert len(entry.splitlines()) <= 50 and "\ndef " not in entry
