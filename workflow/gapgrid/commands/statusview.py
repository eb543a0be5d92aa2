"""`gapgrid status`: the states of a grid's results, in a terminal or as JSON."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gapgrid import grid as g
from gapgrid.commands import status as st

STYLES = {st.FRESH: "green", st.ADOPTED: "cyan", st.STALE: "yellow", st.RUNNING: "blue", st.FAILED: "red", st.MISSING: "dim"}
LOG_LINES = 5
MOST_NAMES = 4
MOST_REASONS = 3
MOST_FAILED = 10


def as_json(grid: g.Grid, statuses: list[st.Status]) -> str:
    """Counts, every cell's state, and each result that is not fresh with its reasons and the end of a failed one's log."""
    entries: list[dict[str, Any]] = []
    for status in statuses:
        if status.state not in (st.FRESH, st.MISSING):
            log = {"log": st.tail(status.artefact.log, LOG_LINES)} if status.state == st.FAILED else {}
            known = {"stage": status.artefact.stage, "name": status.artefact.name, "state": status.state}
            entries.append({**known, "reasons": list(status.reasons), "follows": status.follows, **log})
    cells = {"/".join(map(str, cell)): st.worst(steps) for cell, steps in st.cell_steps(grid, statuses).items()}
    missing = [
        f"{status.artefact.stage}/{status.artefact.name}".rstrip("/")
        for status in statuses
        if status.state == st.MISSING and status.reasons != st.UNNEEDED
    ]
    content = {"grid": grid["name"], "stages": st.counts(statuses), "cells": cells, "results": entries, "missing": missing}
    return json.dumps(content, indent=1, ensure_ascii=True)


def show(grid: g.Grid, statuses: list[st.Status], console: Console) -> None:
    """Counts by stage, then what failed with the end of its log, what runs, and what is stale and why."""
    console.print(_count_table(grid, statuses))
    for line in [*_failed(statuses), *_running(statuses), *_stale(statuses)]:
        console.print(line, highlight=False, soft_wrap=True)


def _count_table(grid: g.Grid, statuses: list[st.Status]) -> Table:
    cells = st.cell_counts(grid, statuses)
    table = Table(title=f"{grid['name']}: {sum(cells.values())} cells", title_justify="left")
    table.add_column("stage")
    for state in st.STATES:
        table.add_column(f"{st.MARKS[state]} {state}".strip(), justify="right", header_style=STYLES[state])
    for stage, of_stage in st.counts(statuses).items():
        table.add_row(stage, *(_number(of_stage[state], state) for state in st.STATES))
    table.add_section()
    table.add_row("cells", *(_number(cells[state], state) for state in st.STATES), style="bold")
    return table


def _number(n: int, state: str) -> str:
    return f"[{STYLES[state]}]{n}[/]" if n else ""


def _names(found: list[st.Status]) -> str:
    names = [status.artefact.name for status in found if status.artefact.name]
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return escape(", ".join(names[:MOST_NAMES]) + more)


def _failed(statuses: list[st.Status]) -> Iterator[str]:
    failed = [status for status in statuses if status.state == st.FAILED]
    for status in failed[:MOST_FAILED]:
        reasons = f" ({'; '.join(status.reasons)})" if status.reasons else ""
        yield f"[red]✕ failed[/] {escape(st.title(status.artefact) + reasons)}  [dim]{escape(status.artefact.log.as_posix())}[/]"
        yield from (f"    [dim]│[/] {escape(line)}" for line in st.tail(status.artefact.log, LOG_LINES).splitlines())
    if len(failed) > MOST_FAILED:
        yield f"[red]✕[/] and {len(failed) - MOST_FAILED} more failed"


def _running(statuses: list[st.Status]) -> Iterator[str]:
    for (_, stage, reasons), found in st.causes(statuses, st.RUNNING).items():
        yield f"[blue]▶ running[/] {stage} {_names(found)}{escape(''.join(f' ({reason})' for reason in reasons))}"


def _stale(statuses: list[st.Status]) -> Iterator[str]:
    for (_, stage, reasons), found in st.causes(statuses, st.STALE).items():
        more = f"; {len(reasons) - MOST_REASONS} more" if len(reasons) > MOST_REASONS else ""
        yield f"[yellow]△ stale[/] {len(found)} × {stage}: {escape('; '.join(reasons[:MOST_REASONS]))}{more}  [dim]{_names(found)}[/]"
    n_following = sum(status.follows for status in statuses)
    if n_following:
        yield f"[yellow]△[/] {n_following} results follow what is stale, missing or being made"


def status_of(grid: g.Grid, results: Path) -> list[st.Status]:
    """The states of a grid whose workflow runs in the working directory."""
    return st.assess(grid, results, Path("logs") / grid["name"], st.work_in(Path()))
