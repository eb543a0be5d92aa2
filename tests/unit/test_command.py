"""command: a stage's exit status and the one message it prints."""

import sqlite3
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest

from gapgrid.command import read_spec, run_stage, stage_parser
from gapgrid.records import InputError


def status(error: BaseException | None) -> int:
    """Exit status of a stage whose work raises `error`."""

    def work(args: Namespace) -> None:
        assert args.spec == {"a": 1}
        if error:
            raise error

    return run_stage(stage_parser("mix", "Mixes."), work, ["--spec", '{"a": 1}'])


def test_work_well_done_is_status_zero(capsys: pytest.CaptureFixture[str]) -> None:
    assert status(None) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (InputError("file: wrong\nother: wrong"), "error: file: wrong\nother: wrong\n"),
        (OSError(28, "No space left on device", "out/rows.jsonl"), "error: out/rows.jsonl: No space left on device\n"),
        (OSError(28, "No space left on device"), "error: python -m gapgrid.mix: No space left on device\n"),
        (sqlite3.OperationalError("database or disk is full"), "error: python -m gapgrid.mix: database or disk is full\n"),
    ],
)
def test_what_a_user_can_mend_is_one_message(capsys: pytest.CaptureFixture[str], error: Exception, message: str) -> None:
    assert status(error) == 1
    assert capsys.readouterr().err == message


def test_a_mistake_of_ours_is_not_hidden() -> None:
    with pytest.raises(KeyError):
        status(KeyError("ours"))


@pytest.mark.parametrize("arguments", [[], ["--spec", "{"]])
def test_a_missing_or_broken_spec_is_refused(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run_stage(stage_parser("mix", None), lambda args: None, arguments)
    assert caught.value.code == 2
    assert "--spec" in capsys.readouterr().err


def test_a_spec_file_is_no_option_any_more(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mix.spec"
    file.write_text('{"a": 1}\n')
    for arguments in (["--spec-file", str(file)], ["--spec", '{"a": 1}', "--spec-file", str(file)]):
        with pytest.raises(SystemExit) as caught:
            run_stage(stage_parser("mix", None), lambda args: None, arguments)
        assert caught.value.code == 2
    assert "--spec-file" in capsys.readouterr().err


def test_the_spec_in_a_file_is_its_first_line(tmp_path: Path) -> None:
    file = tmp_path / "request.spec"
    file.write_text('{"task": "é"}\nnot JSON, the digest of other files\n', encoding="utf-8")
    assert read_spec(file) == {"task": "é"}


FULL = """
import resource, sys
from gapgrid import responses
from gapgrid.command import run_stage, stage_parser
from pathlib import Path
def work(args):
    with responses.Store(Path(sys.argv[1])) as store:
        resource.setrlimit(resource.RLIMIT_FSIZE, (32768, 32768))
        store.add_answers((str(number), responses.Answer("x" * 1000, "stop", 1)) for number in range(1000))
sys.exit(run_stage(stage_parser("evaluate", None), work, ["--spec", "{}"]))
"""


def test_a_full_disk_under_a_store_is_one_message(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FULL, tmp_path / "s.sqlite"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith("error: python -m gapgrid.evaluate: ")
    assert len(done.stderr.splitlines()) == 1
