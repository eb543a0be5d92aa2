"""The grid page, `grid.html`: heat maps of scores and states, and a card for every cell.

It is one file and side files, without a server. The page may run two scripts, known by their
digests, Plotly's and grid.js, and load scripts beside it. A Content-Security-Policy forbids it all
else, the network first of all.
"""

import base64
import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path

from markupsafe import Markup

from gapgrid.core.cells import AVERAGE, Cell
from gapgrid.core.records import InputError, Row, write_text
from gapgrid.grid.cells import Grid, benchmarks_of, label
from gapgrid.reporting.dashboard import cards, heatmap
from gapgrid.reporting.html import render
from gapgrid.state import status as st

FOLDER = Path(__file__).parent
SIDE_FILES = "cells"  # their folder beside the page
MEANING = {
    st.ADOPTED: "adopted: a published checkpoint",
    st.STALE: "stale: the next run builds it again",
    st.RUNNING: "running",
    st.FAILED: "failed",
    st.MISSING: "missing",
}
FILTERS = ("all", *cards.SAMPLED)
MOST_CAUSES = 200  # lines of what is not fresh
MOST_REASONS = 3  # in one of them
MOST_NAMES = 6  # in one of them


def write(grid: Grid, results: Path, statuses: list[st.Status]) -> Path:
    """Write the page and its side files below `results`; return the page.

    A side file that would not change is left alone, one of a cell that is no more is deleted.
    """
    folder, steps = results / SIDE_FILES, st.cell_steps(grid, statuses)
    cards.write_all(grid, results, Path("benchmarks") / grid["name"], folder, steps)
    for path in cards.stale_files(folder, steps):
        path.unlink()
    text = page(grid, statuses, content(grid, results, steps), datetime.now(UTC))
    write_text(results / "grid.html", text)
    return results / "grid.html"


def content(grid: Grid, results: Path, steps: dict[Cell, list[st.Status]]) -> Row:
    """Return what grid.js needs at once: names, figures, scores. Side files have the rest."""
    states = heatmap.cell_states(results, steps)
    shown = heatmap.axes(grid, states)
    cells: dict[str, dict[str, dict[str, list[str]]]] = {}
    for trained, benchmarks in benchmarks_of(states).items():
        seeds = cells.setdefault(trained.model, {}).setdefault(trained.mix, {})
        seeds[str(trained.seed)] = benchmarks
    labels = {name: label(grid, "benchmarks", name) for name in grid["benchmarks"]}
    common = ", ".join(labels[name] for name in heatmap.common_benchmarks(states))
    return {
        "models": shown.models,
        "mixes": shown.mixes,
        "benchmarks": {AVERAGE: f"average of {common}", **labels},
        "symbols": st.SYMBOLS,
        "figures": heatmap.figures(grid, states, heatmap.intervals(grid, results)),
        "cells": cells,
        "scores": {str(cell): state.score for cell, state in states.items() if state.score},
    }


def plotly() -> str:
    """Return Plotly's own bundle. Raises `InputError` if the package is not installed."""
    try:
        bundle = resources.files("plotly").joinpath("package_data/plotly.min.js")
        return bundle.read_text(encoding="utf-8")
    except (ModuleNotFoundError, FileNotFoundError):
        raise InputError(
            "plotly is not installed here; it is pinned in envs/cpu.txt and envs/controller.txt"
        ) from None


def policy(*scripts: str) -> str:
    """Return the policy that allows these scripts, files beside the page, and Plotly's styles."""
    digests = (base64.b64encode(hashlib.sha256(script.encode()).digest()) for script in scripts)
    known = " ".join(f"'sha256-{digest.decode()}'" for digest in digests)
    return (
        f"default-src 'none'; script-src {known} 'self' file:; style-src 'unsafe-inline';"
        " img-src data: blob:; font-src data:; base-uri 'none'; form-action 'none'"
    )


def page(grid: Grid, statuses: list[st.Status], data: Row, time: datetime) -> str:
    """Return the page's text; `data` is its `content`."""
    scripts = plotly(), (FOLDER / "grid.js").read_text(encoding="utf-8")
    cells = st.cell_counts(grid, statuses)
    return render(
        "grid.html",
        policy(*scripts),
        name=grid["name"],
        style=Markup((FOLDER / "grid.css").read_text(encoding="utf-8")),
        n_cells=sum(cells.values()),
        n_fresh=cells[st.FRESH] + cells[st.ADOPTED],
        time=f"{time:%Y-%m-%d %H:%M}",
        states=st.STATES,
        symbols=st.SYMBOLS,
        meanings=MEANING,
        stages={**st.counts(statuses), "cells": cells},
        causes=list(_causes(statuses)),
        n_following=sum(status.follows for status in statuses),
        filters=FILTERS,
        data=Markup(cards.embedded(data)),
        scripts=[Markup(script) for script in scripts],
    )


def _causes(statuses: list[st.Status]) -> Iterator[list[str]]:
    """Yield what failed, runs or is stale for a reason of its own, a row per state and reason."""
    causes = st.causes(statuses, st.FAILED, st.RUNNING, st.STALE)
    ordered = sorted(causes.items(), key=lambda item: st.WORST_FIRST.index(item[0][0]))
    for (state, stage, reasons), group in ordered[:MOST_CAUSES]:
        names = [status.result.name for status in group]
        first = _first(reasons, MOST_REASONS, "; ", "; "), _first(names, MOST_NAMES, ", ", " ")
        yield [f"{st.SYMBOLS[state]} {state}", stage, first[0], str(len(names)), first[1]]


def _first(texts: list[str] | tuple[str, ...], most: int, between: str, before_more: str) -> str:
    more = f"{before_more}and {len(texts) - most} more" if len(texts) > most else ""
    return between.join(texts[:most]) + more
