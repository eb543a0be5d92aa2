"""job_shell: jobs find interpreter and code, also below a folder whose name has a space."""

import re
import subprocess
import sys
from pathlib import Path

import job_shell
from gapgrid.config.load import WORKFLOW

SHOW = "import os, sys; print(sys.executable, os.environ['PYTHONPATH'], sep='\\n')"


def test_a_folder_may_hold_a_space(tmp_path: Path) -> None:
    folder = tmp_path / "a 'b' $c"
    (folder / "bin").mkdir(parents=True)
    for name in ("python", "heavy"):
        script = folder / "bin" / name
        script.write_text(f'#!/bin/sh\necho {name}\nexec {sys.executable} "$@"\n')
        script.chmod(0o755)
    prefix = job_shell.prefix(folder / "bin/python", folder / "bin/heavy", folder / "code")
    for command, name in (("python", "python"), ('"$HEAVY_PYTHON"', "heavy")):
        done = subprocess.run(
            ["bash", "-c", f'{prefix}{command} -c "{SHOW}"'],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.splitlines() == [name, sys.executable, str(folder / "code")]


def test_heavy_jobs_have_the_light_ones_interpreter_by_default(tmp_path: Path) -> None:
    prefix = job_shell.prefix(Path(sys.executable), None, tmp_path)
    command = ["bash", "-c", f'{prefix}"$HEAVY_PYTHON" -c "{SHOW}"']
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [sys.executable, str(tmp_path)]


def test_every_rule_quotes_the_interpreter() -> None:
    texts = [file.read_text() for file in (WORKFLOW / "rules").glob("*.smk")]
    uses = [use for text in texts for use in re.findall(r".\$HEAVY_PYTHON.", text)]
    assert uses and set(uses) == {'"$HEAVY_PYTHON"'}
