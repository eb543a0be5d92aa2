"""status: differences and how they are reported; tests/workflow compares states with Snakemake."""

import io
import json
from base64 import urlsafe_b64encode
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from gapgrid.commands import status as shown
from gapgrid.core import manifest
from gapgrid.core.records import write_json
from gapgrid.state import status
from gapgrid.state.inventory import expected


@pytest.mark.parametrize(
    ("before", "now", "changes"),
    [
        ({"a": 1}, {"a": 1}, []),
        (
            {"recipe": {"learning_rate": 1e-5}},
            {"recipe": {"learning_rate": 2e-5}},
            ["recipe.learning_rate 1e-05 → 2e-05"],
        ),
        (
            {"version": 1, "a": 1},
            {"version": 2, "a": 2},
            ["built by version 1 of the stage, now 2", "a 1 → 2"],
        ),
        ({}, {"policy": "all"}, ["policy unset → all"]),
        ({"cells": [1, 2, 3]}, {"cells": [2, 3, 4, 5]}, ["cells: 2 more, 1 less"]),
        ({"cells": [1, 2]}, {"cells": [2, 1]}, ["cells: in another order"]),
        ({"a": {"b": {}}}, {"a": {"b": {"c": 1}}}, ["a.b {} → unset", "a.b.c unset → 1"]),
        ({"a": "x" * 100}, {"a": None}, [f"a {'x' * 57}… → unset"]),
    ],
)
def test_changes_name_the_keys_that_differ(
    before: dict[str, Any], now: dict[str, Any], changes: list[str]
) -> None:
    assert manifest.changes(before, now) == changes


@pytest.fixture
def statuses(demo: dict[str, Any], tmp_path: Path) -> list[status.Status]:
    """The states of the demo grid in an empty folder."""
    return status.assess(demo, tmp_path / "results", tmp_path / "logs", status.work_in(tmp_path))


def test_a_cell_is_in_the_worst_state_of_its_steps(statuses: list[status.Status]) -> None:
    def worst(*states: str) -> str:
        return status.worst([statuses[0]._replace(state=state) for state in states])

    assert worst("fresh", "fresh") == "fresh" and worst("fresh", "adopted") == "adopted"
    assert worst("stale", "adopted") == "stale"
    assert worst("stale", "missing", "fresh") == "missing"
    assert worst("running", "missing") == "running" and worst("running", "failed") == "failed"
    unneeded = statuses[0]._replace(state="missing", reasons=status.UNNEEDED)
    assert status.worst([unneeded, statuses[1]._replace(state="fresh")]) == "fresh"


def test_every_cell_of_a_grid_is_missing_in_an_empty_folder(
    demo: dict[str, Any], statuses: list[status.Status]
) -> None:
    assert {entry.state for entry in statuses} == {"missing"}
    assert not any(entry.reasons for entry in statuses)
    cells = status.cell_steps(demo, statuses)
    assert len(cells) == 48 and status.cell_counts(demo, statuses)["missing"] == 48
    stages = [step.result.stage for step in next(iter(cells.values()))]
    assert stages == ["base", "train", "evaluate", "grade", "score"]


def test_an_adopted_checkpoint_has_a_state_of_its_own(demo: dict[str, Any], tmp_path: Path) -> None:
    demo["adopted"] = {"m/long/0": {"hub": "org/student", "revision": "abc"}}
    for result in expected(demo, tmp_path, tmp_path):
        if result.stage == "train":
            manifest.write(result.path, "train", result.spec, {}, [])
    states = {
        entry.result.name: entry.state
        for entry in status.assess(demo, tmp_path, tmp_path, status.work_in(tmp_path))
        if entry.result.stage == "train"
    }
    assert states.pop("m/long/0") == "adopted"
    assert set(states.values()) == {"fresh"}


def test_only_a_deleted_target_makes_a_result_stale(demo: dict[str, Any], tmp_path: Path) -> None:
    for result in expected(demo, tmp_path, tmp_path):
        write_json(result.path, {"stage": result.stage, "spec": result.spec, "outputs": {}})
    reasons = {
        status.title(entry.result): entry.reasons
        for entry in status.assess(demo, tmp_path, tmp_path, status.work_in(tmp_path))
    }
    assert reasons["train m/long/0"] == () and reasons["selftest k2"] == ()
    assert reasons["score m/long/0/k2"] == ("score.json is missing",)
    assert "long-gap.estimates.csv is missing" in reasons["table long-gap"]


def test_markers_of_a_run_that_died(tmp_path: Path) -> None:
    """Also for a path too long for a file name, which Snakemake cuts into folders."""
    incomplete = tmp_path / ".snakemake" / "incomplete"
    names = "results/a/manifest.json", f"results/{'long/' * 60}manifest.json"
    for name in names:
        text = urlsafe_b64encode(name.encode()).decode()
        *folders, last = [text[i : i + 254] for i in range(0, len(text), 254)]
        file = incomplete.joinpath(*(f"@{part}" for part in folders), last)
        write_json(file, {"external_jobid": "17"})
    (incomplete / "%").write_text("not a marker")
    work = status.work_in(tmp_path)
    assert [work.begun[name] for name in names] == ["17", "17"] and not work.is_alive


def test_a_failure_counts_until_the_job_runs_again(tmp_path: Path) -> None:
    logs = tmp_path / ".snakemake" / "log"
    logs.mkdir(parents=True)
    (logs / "2026-01-01.snakemake.log").write_text(
        "    log: logs/a.log\n"
        "    log: logs/a.log (check log file(s) for error details)\n"
        "    log: logs/b.log\n"
    )
    assert status.work_in(tmp_path).failed == {"logs/a.log"}
    (logs / "2026-01-02.snakemake.log").write_text("    log: logs/a.log\n")
    assert status.work_in(tmp_path).failed == set()


def test_the_end_of_a_log_cannot_control_a_terminal(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_bytes(
        b"first\n" * 10_000
        + b" 1%\r 50%\r100%\n\x1b[2J\x1b]0;title\x07red \x1b[31mtext\x1b[0m\n"
        + b"\xff broken \xe2\x80\xae turned\n\n"
    )
    assert status.tail(log, 3) == "100%\nred text\n� broken  turned"
    assert status.tail(tmp_path / "none.log", 3) == ""


def test_failed_and_stale_results_are_shown(
    demo: dict[str, Any], statuses: list[status.Status], tmp_path: Path
) -> None:
    log = tmp_path / "train.log"
    log.write_text("[bold]not markup[/]\nerror: [/] no luck\n")
    *rest, first, second, third = statuses
    statuses = [
        *rest,
        first._replace(state="stale", reasons=("follows",), follows=True),
        second._replace(state="stale", reasons=("[red]key[/] 1 → 2",)),
        status.Status(third.result._replace(log=log), "failed"),
    ]
    console = Console(file=io.StringIO(), width=120)
    shown.show(demo, statuses, console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    for part in ("[bold]not markup[/]", "error: [/] no luck", "[red]key[/] 1 → 2"):
        assert part in text
    assert "1 results follow" in text and "demo: 48 cells" in text
    content = json.loads(shown.as_json(demo, statuses))
    assert [entry["state"] for entry in content["results"]] == ["stale", "stale", "failed"]
    assert content["results"][-1]["log"].endswith("no luck") and len(content["cells"]) == 48
