"""status, statusview: what differs and how it is told; the states themselves are held against Snakemake in tests/workflow."""

import io
import json
from base64 import urlsafe_b64encode
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from gapgrid import manifest
from gapgrid.commands import status, statusview
from gapgrid.commands.artefacts import Artefact, artefacts
from gapgrid.records import write_json


def artefact(stage: str, name: str, folder: Path, after: tuple[Path, ...] = (), needs: tuple[Path, ...] = ()) -> Artefact:
    path = folder / stage / name / "manifest.json"
    return Artefact(stage, name, path, {"stage": stage, "version": 1}, {}, after, (*after, *needs), folder / f"{stage}.log", {}, ())


@pytest.mark.parametrize(
    ("made", "now", "expected"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"recipe": {"learning_rate": 1e-5}}, {"recipe": {"learning_rate": 2e-5}}, ["recipe.learning_rate 1e-05 → 2e-05"]),
        ({"version": 1, "a": 1}, {"version": 2, "a": 2}, ["built by version 1 of the stage, now 2", "a 1 → 2"]),
        ({}, {"policy": "all"}, ["policy unset → all"]),
        ({"cells": [1, 2, 3]}, {"cells": [2, 3, 4, 5]}, ["cells: 2 more, 1 less"]),
        ({"cells": [1, 2]}, {"cells": [2, 1]}, ["cells: in another order"]),
        ({"a": {"b": {}}}, {"a": {"b": {"c": 1}}}, ["a.b {} → unset", "a.b.c unset → 1"]),
        ({"a": "x" * 100}, {"a": None}, [f"a {'x' * 57}… → unset"]),
    ],
)
def test_changes_name_the_keys_that_differ(made: dict[str, Any], now: dict[str, Any], expected: list[str]) -> None:
    assert manifest.changes(made, now) == expected


def test_a_cell_is_what_the_worst_of_its_steps_is(tmp_path: Path) -> None:
    def of(*states: str) -> str:
        return status.worst([status.Status(artefact("train", state, tmp_path), state) for state in states])

    assert of("fresh", "fresh") == "fresh" and of("fresh", "adopted") == "adopted"
    assert of("stale", "adopted") == "stale" and of("stale", "missing", "fresh") == "missing"
    assert of("running", "missing") == "running" and of("running", "failed") == "failed"
    gone = status.Status(artefact("train", "a", tmp_path), "missing", status.UNNEEDED)
    assert status.worst([gone, status.Status(artefact("score", "b", tmp_path), "fresh")]) == "fresh"


def test_every_cell_of_a_grid_is_missing_in_an_empty_folder(demo: dict[str, Any], tmp_path: Path) -> None:
    found = status.assess(demo, tmp_path / "results", tmp_path / "logs", status.work_in(tmp_path))
    assert {one.state for one in found} == {"missing"} and not [one for one in found if one.reasons]
    cells = status.cell_steps(demo, found)
    assert len(cells) == 48 and {status.worst(steps) for steps in cells.values()} == {"missing"}
    assert [step.artefact.stage for step in next(iter(cells.values()))] == ["base", "train", "evaluate", "grade", "score"]


def test_an_adopted_checkpoint_is_told_apart(demo: dict[str, Any], tmp_path: Path) -> None:
    demo["adopted"] = {"m/long/0": {"hub": "org/student", "revision": "abc"}}
    for one in artefacts(demo, tmp_path, tmp_path / "logs"):
        if one.stage == "train":
            write_json(one.path, {"stage": "train", "version": 1, "spec": one.spec, "inputs": {}, "outputs": {}})
    found = {
        one.artefact.name: one.state
        for one in status.assess(demo, tmp_path, tmp_path, status.work_in(tmp_path))
        if one.artefact.stage == "train"
    }
    assert found.pop("m/long/0") == "adopted"
    assert set(found.values()) == {"fresh"}


def test_marks_of_a_run_that_died(tmp_path: Path) -> None:
    """Also for a path too long for a file name, which Snakemake cuts into folders."""
    marks = tmp_path / ".snakemake" / "incomplete"
    for name in ("results/a/manifest.json", f"results/{'long/' * 60}manifest.json"):
        text = urlsafe_b64encode(name.encode()).decode()
        pieces = [text[i : i + 254] for i in range(0, len(text), 254)]
        file = marks.joinpath(*(f"@{piece}" for piece in pieces[:-1]), pieces[-1])
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"external_jobid": "17"}))
    (marks / "%").write_text("not a mark")
    found = status.work_in(tmp_path)
    assert set(found.begun) >= {"results/a/manifest.json", f"results/{'long/' * 60}manifest.json"}
    assert found.begun["results/a/manifest.json"] == "17" and not found.is_alive


def test_a_failure_counts_until_the_job_runs_again(tmp_path: Path) -> None:
    logs = tmp_path / ".snakemake" / "log"
    logs.mkdir(parents=True)
    (logs / "2026-01-01.snakemake.log").write_text(
        "    log: logs/a.log\n    log: logs/a.log (check log file(s) for error details)\n    log: logs/b.log\n"
    )
    assert status.work_in(tmp_path).failed == {"logs/a.log"}
    (logs / "2026-01-02.snakemake.log").write_text("    log: logs/a.log\n")
    assert status.work_in(tmp_path).failed == set()


def test_the_end_of_a_log_cannot_steer_a_terminal(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_bytes(
        b"first\n" * 10_000 + b" 1%\r 50%\r100%\n\x1b[2J\x1b]0;title\x07red \x1b[31mtext\x1b[0m\n\xff broken \xe2\x80\xae turned\n\n"
    )
    assert status.tail(log, 3) == "100%\nred text\n� broken  turned"
    assert status.tail(tmp_path / "none.log", 3) == ""


def test_what_is_told_of_failed_and_stale_results(demo: dict[str, Any], tmp_path: Path) -> None:
    found = status.assess(demo, tmp_path / "results", tmp_path / "logs", status.work_in(tmp_path))
    log = tmp_path / "train.log"
    log.write_text("[bold]not markup[/]\nerror: [/] no luck\n")
    found[-1] = status.Status(found[-1].artefact._replace(log=log), "failed")
    found[-2] = found[-2]._replace(state="stale", reasons=("[red]key[/] 1 → 2",))
    found[-3] = found[-3]._replace(state="stale", reasons=("follows",), follows=True)
    console = Console(file=io.StringIO(), width=120)
    statusview.show(demo, found, console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "[bold]not markup[/]" in text and "error: [/] no luck" in text and "[red]key[/] 1 → 2" in text
    assert "1 results follow" in text and "demo: 48 cells" in text
    told = json.loads(statusview.as_json(demo, found))
    assert [one["state"] for one in told["results"]] == ["stale", "stale", "failed"]
    assert told["results"][-1]["log"].endswith("no luck") and len(told["cells"]) == 48
