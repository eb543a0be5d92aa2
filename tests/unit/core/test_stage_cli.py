"""stage_cli: a stage's exit status and the one message it prints."""

import sqlite3
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest

from gapgrid.core.records import InputError
from gapgrid.core.stage_cli import read_spec, run_stage, stage_parser

NO_SPACE = (28, "No space left on device")
SPEC = ["--spec", '{"a": 1}']


def status(error: BaseException | None) -> int:
    """Return the exit status of a stage whose work raises `error`."""

    def work(args: Namespace) -> None:
        assert args.spec == {"a": 1}
        if error:
            raise error

    return run_stage(stage_parser("mix", "Mixes."), work, SPEC)


def test_a_finished_stage_is_status_zero(capsys: pytest.CaptureFixture[str]) -> None:
    assert status(None) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (InputError("file: wrong\nother: wrong"), "file: wrong\nother: wrong"),
        (OSError(*NO_SPACE, "out/rows.jsonl"), "out/rows.jsonl: No space left on device"),
        (OSError(*NO_SPACE), "python -m gapgrid.stages.mix: No space left on device"),
        (sqlite3.OperationalError("disk is full"), "python -m gapgrid.stages.mix: disk is full"),
    ],
)
def test_an_error_that_a_user_can_fix_is_one_message(
    capsys: pytest.CaptureFixture[str], error: Exception, message: str
) -> None:
    assert status(error) == 1
    assert capsys.readouterr().err == f"error: {message}\n"


def test_a_programming_error_is_not_hidden() -> None:
    with pytest.raises(KeyError):
        status(KeyError("ours"))


@pytest.mark.parametrize("arguments", [[], ["--spec", "{"]])
def test_a_missing_or_broken_spec_is_refused(
    capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        run_stage(stage_parser("mix", None), lambda args: None, arguments)
    assert caught.value.code == 2
    assert "--spec" in capsys.readouterr().err


def test_the_spec_in_a_file_is_its_first_line(tmp_path: Path) -> None:
    file = tmp_path / "request.spec"
    file.write_text('{"task": "é"}\nnot JSON, the digest of other files\n', encoding="utf-8")
    assert read_spec(file) == {"task": "é"}


FULL_DISK = """
import resource, sqlite3, sys
from gapgrid.core.stage_cli import run_stage, stage_parser
def work(args):
    connection = sqlite3.connect(sys.argv[1])
    connection.execute("create table texts (text)")
    resource.setrlimit(resource.RLIMIT_FSIZE, (32768, 32768))
    connection.executemany("insert into texts values (?)", [["x" * 1000]] * 1000)
    connection.commit()
sys.exit(run_stage(stage_parser("evaluate", None), work, ["--spec", "{}"]))
"""


def test_a_full_disk_under_a_database_is_one_message(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FULL_DISK, tmp_path / "s.sqlite"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: python -m gapgrid.stages.evaluate: ")
