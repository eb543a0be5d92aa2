"""`gapgrid status`: the states of a grid's results, in a terminal or as JSON."""

import json
from argparse import Namespace
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gapgrid.commands.grid_args import console, grid_of
from gapgrid.grid.cells import Grid
from gapgrid.state import status as st

STYLES = {
    st.FRESH: "green",
    st.ADOPTED: "cyan",
    st.STALE: "yellow",
    st.RUNNING: "blue",
    st.FAILED: "red",
    st.MISSING: "dim",
}
LOG_LINES = 5
MOST_NAMES = 4
MOST_REASONS = 3
MOST_FAILED = 10


def run(args: Namespace) -> int:
    """Print the state of every result, as tables or as JSON."""
    grid, results = grid_of(args)
    statuses = st.status_of(grid, results)
    if args.json:
        print(as_json(grid, statuses))
    else:
        show(grid, statuses, console())
    return 0


def as_json(grid: Grid, statuses: list[st.Status]) -> str:
    """Return counts, the state of every cell, and each result that is not fresh, as JSON.

    A result comes with its reasons, and with the end of its log if it failed; results that are
    missing and needed are only named.
    """
    results: list[dict[str, Any]] = []
    missing: list[str] = []
    for status in statuses:
        result = status.result
        if status.state == st.MISSING and status.reasons != st.UNNEEDED:
            missing.append(f"{result.stage}/{result.name}".rstrip("/"))
        if status.state in (st.FRESH, st.MISSING):
            continue
        entry: dict[str, Any] = {"stage": result.stage, "name": result.name}
        entry |= {"state": status.state, "reasons": list(status.reasons)}
        entry["follows"] = status.follows
        if status.state == st.FAILED:
            entry["log"] = st.tail(result.log, LOG_LINES)
        results.append(entry)
    content = {
        "grid": grid["name"],
        "stages": st.counts(statuses),
        "cells": {
            str(cell): st.worst(steps) for cell, steps in st.cell_steps(grid, statuses).items()
        },
        "results": results,
        "missing": missing,
    }
    return json.dumps(content, indent=1, ensure_ascii=True)


def show(grid: Grid, statuses: list[st.Status], console: Console) -> None:
    """Print counts by stage, then what failed, what runs, and what is stale and why."""
    console.print(_count_table(grid, statuses))
    for line in [*_failed(statuses), *_running(statuses), *_stale(statuses)]:
        console.print(line, highlight=False, soft_wrap=True)


def _count_table(grid: Grid, statuses: list[st.Status]) -> Table:
    cells = st.cell_counts(grid, statuses)
    table = Table(title=f"{grid['name']}: {sum(cells.values())} cells", title_justify="left")
    table.add_column("stage")
    for state in st.STATES:
        header = f"{st.SYMBOLS[state]} {state}".strip()
        table.add_column(header, justify="right", header_style=STYLES[state])
    for stage, counts in st.counts(statuses).items():
        table.add_row(stage, *(_number(counts[state], state) for state in st.STATES))
    table.add_section()
    table.add_row("cells", *(_number(cells[state], state) for state in st.STATES), style="bold")
    return table


def _number(n: int, state: str) -> str:
    return f"[{STYLES[state]}]{n}[/]" if n else ""


def _title(state: str) -> str:
    return f"[{STYLES[state]}]{st.SYMBOLS[state]} {state}[/]"


def _names(statuses: list[st.Status]) -> str:
    names = [status.result.name for status in statuses if status.result.name]
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return escape(", ".join(names[:MOST_NAMES]) + more)


def _failed(statuses: list[st.Status]) -> Iterator[str]:
    failed = [status for status in statuses if status.state == st.FAILED]
    for status in failed[:MOST_FAILED]:
        result = status.result
        reasons = f" ({'; '.join(status.reasons)})" if status.reasons else ""
        log = escape(result.log.as_posix())
        yield f"{_title(st.FAILED)} {escape(st.title(result) + reasons)}  [dim]{log}[/]"
        for line in st.tail(result.log, LOG_LINES).splitlines():
            yield f"    [dim]│[/] {escape(line)}"
    if len(failed) > MOST_FAILED:
        yield f"{_title(st.FAILED)} {len(failed) - MOST_FAILED} more"


def _running(statuses: list[st.Status]) -> Iterator[str]:
    for (_, stage, reasons), running in st.causes(statuses, st.RUNNING).items():
        notes = escape("".join(f" ({reason})" for reason in reasons))
        yield f"{_title(st.RUNNING)} {stage} {_names(running)}{notes}"


def _stale(statuses: list[st.Status]) -> Iterator[str]:
    for (_, stage, reasons), stale in st.causes(statuses, st.STALE).items():
        text = escape("; ".join(reasons[:MOST_REASONS]))
        more = f"; {len(reasons) - MOST_REASONS} more" if len(reasons) > MOST_REASONS else ""
        yield f"{_title(st.STALE)} {len(stale)} × {stage}: {text}{more}  [dim]{_names(stale)}[/]"
    n_following = sum(status.follows for status in statuses)
    if n_following:
        title = f"[{STYLES[st.STALE]}]{st.SYMBOLS[st.STALE]}[/]"
        yield f"{title} {n_following} results follow what is stale, missing or being made"
