"""cli: every command leads to its function, and every mistake of a user is one message."""

from importlib import import_module
from pathlib import Path

import pytest

from gapgrid import cli
from gapgrid.commands.planner import Wanted
from gapgrid.config.load import REPOSITORY
from gapgrid.core.records import write_jsonl

COMMANDS = [
    *("verify demo", "status demo", "page demo", "summary demo", "tables demo", "figures demo"),
    *("power demo", "judges demo", "export demo --out out", "audit sample demo"),
    *("audit report demo", "resume", "pairs file.jsonl", "samples folder"),
]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_its_function(command: str) -> None:
    args = cli.parser().parse_args(command.split())
    module = import_module(f"gapgrid.commands.{args.module}")
    assert callable(getattr(module, args.function))


def test_the_options_of_power_are_the_fields_of_its_request() -> None:
    args = vars(cli.parser().parse_args(["power", "demo"]))
    defaults = {**Wanted._field_defaults, "gap": 3.0}
    assert {name: args[name] for name in Wanted._fields} == defaults


def test_tasks_may_be_given_together_or_one_by_one() -> None:
    args = cli.parser().parse_args(["samples", "folder", "--task", "a", "b", "--task", "c"])
    assert args.task == ["a", "b", "c"]


@pytest.mark.parametrize(
    "arguments", ["", "nonsense demo", "audit", "audit demo", "export demo", "judges"]
)
def test_a_wrong_command_is_refused(arguments: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments.split())
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("usage: gapgrid ")


@pytest.mark.parametrize(
    "command", ["verify demmo", "summary demmo", "export demmo --out out", "audit sample demmo"]
)
def test_an_unknown_grid_is_one_message(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(REPOSITORY)
    assert cli.main(command.split()) == 1
    message = "error: config/demmo: no such grid (did you mean 'demo'?); there is demo, paper\n"
    assert capsys.readouterr() == ("", message)


def test_what_cannot_be_read_or_written_is_one_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["pairs", str(tmp_path)]) == 1
    assert capsys.readouterr().err == f"error: {tmp_path}: Is a directory\n"
    sample = {"doc_id": 0, "doc": {"problem": "1 + 1", "answer": "2"}, "target": "2"}
    sample |= {"resps": [["\\boxed{2}"]], "filtered_resps": ["2"], "filter": "none"}
    write_jsonl(tmp_path / "m" / "samples_math_2026-01-01T00-00-00.000000.jsonl", [sample])
    for out in ("/proc/x", "/dev/null/x"):
        assert cli.main(["samples", str(tmp_path / "m"), "--out", out]) == 1
        captured = capsys.readouterr()
        assert captured.out == "" and captured.err.startswith(f"error: {out}")
        assert captured.err.count("\n") == 1
