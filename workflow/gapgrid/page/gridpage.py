"""The grid page, `grid.html`: heat maps of scores and states, and a card for every cell. One file and side files, no server.

The page may run two scripts, known by their digests: Plotly's and the glue in grid.js; and load scripts that lie beside it. A
Content-Security-Policy forbids it all else, the network first of all.
"""

import base64
import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from xml.etree import ElementTree

from gapgrid import grid as g
from gapgrid.commands import status as st
from gapgrid.injections import element
from gapgrid.page import gridcards, heatmap
from gapgrid.records import InputError, Row, write_text

PAGE = Path(__file__).parent
SIDE = "cells"  # the folder of side files beside the page
MEANING = {
    st.FRESH: "fresh",
    st.ADOPTED: "adopted: a published checkpoint",
    st.STALE: "stale: the next run makes it anew",
    st.RUNNING: "running",
    st.FAILED: "failed",
    st.MISSING: "missing",
}
FILTERS = ("all", "wrong", "right", "truncated", "judged", "unparsed")
BESIDE = {"report": "report.html", "audit of grading": "audit/audit.html"}
MOST_CAUSES = 200  # lines of what is not fresh
MOST_REASONS = 3  # in one of them


def write(grid: g.Grid, results: Path, statuses: list[st.Status]) -> Path:
    """Write the page and its side files below `results`; a side file that would not change is left alone. Returns the page."""
    at = gridcards.Folders(results, Path("logs") / grid["name"], Path("benchmarks") / grid["name"])
    steps = st.cell_steps(grid, statuses)
    gridcards.write_all(grid, at, results / SIDE, steps)
    for path in gridcards.stale_files(results / SIDE, ["/".join(map(str, cell)) for cell in steps]):
        path.unlink()
    write_text(results / "grid.html", page(grid, statuses, content(grid, results, steps), datetime.now(UTC)))
    return results / "grid.html"


def content(grid: g.Grid, results: Path, steps: dict[g.Cell, list[st.Status]]) -> Row:
    """What the glue needs at once: names, figures, scores. The rest comes from side files."""
    seen = heatmap.see(results, steps)
    shown = heatmap.axes(grid, seen)
    cells: dict[str, dict[str, dict[str, list[str]]]] = {}
    for trained, benchmarks in g.benchmarks_of(seen).items():
        cells.setdefault(trained.model, {}).setdefault(trained.mix, {})[str(trained.seed)] = benchmarks
    common = [g.label(grid, "benchmarks", name) for name in heatmap.common_benchmarks(seen)]
    labels = {name: g.label(grid, "benchmarks", name) for name in grid["benchmarks"]}
    return {
        "models": shown.models,
        "mixes": shown.mixes,
        "benchmarks": {heatmap.AVERAGE: f"average of {', '.join(common)}", **labels},
        "marks": st.MARKS,
        "figures": heatmap.figures(grid, seen, heatmap.intervals(grid, results)),
        "cells": cells,
        "scores": {"/".join(map(str, cell)): what.score for cell, what in seen.items() if what.score},
    }


def plotly() -> str:
    """Plotly's own bundle, out of the installed package."""
    try:
        return resources.files("plotly").joinpath("package_data/plotly.min.js").read_text(encoding="utf-8")
    except (ModuleNotFoundError, FileNotFoundError):
        raise InputError("plotly is not installed here; it is pinned in envs/cpu.txt and envs/controller.txt") from None


def policy(*scripts: str) -> str:
    """These scripts alone, and files beside the page; styles and pictures made by Plotly; nothing from anywhere else."""
    known = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" for script in scripts)
    allowed = f"script-src {known} 'self' file:; style-src 'unsafe-inline'; img-src data: blob:; font-src data:"
    return f"default-src 'none'; {allowed}; base-uri 'none'; form-action 'none'"


def page(grid: g.Grid, statuses: list[st.Status], known: Row, made: datetime) -> str:
    """The page's text."""
    scripts = plotly(), (PAGE / "grid.js").read_text(encoding="utf-8")
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", **{"http-equiv": "Content-Security-Policy", "content": policy(*scripts)}),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("link", rel="icon", href="data:,"),
        element("title", f"GapGrid: {grid['name']}"),
        element("style", (PAGE / "grid.css").read_text(encoding="utf-8")),
    )
    body = element("body", *_overview(grid, statuses, made), *_map(), *_causes(statuses), _card(), "\n@scripts@\n")
    tree = ElementTree.tostring(element("html", head, body, lang="en"), encoding="unicode", method="html")
    data = f'<script type="application/json" id="grid-data">{gridcards.embedded(known)}</script>'
    before, after = tree.rsplit("@scripts@", 1)  # beside the tree: it would have each of Plotly's 5 million characters looked at
    return f"<!DOCTYPE html>\n{before}{data}\n" + "\n".join(f"<script>{script}</script>" for script in scripts) + f"{after}\n"


def _overview(grid: g.Grid, statuses: list[st.Status], made: datetime) -> Iterator[ElementTree.Element]:
    cells = st.cell_counts(grid, statuses)
    rows = [(stage, [of[state] for state in st.STATES]) for stage, of in st.counts(statuses).items()]
    rows.append(("cells", list(cells.values())))
    yield element("h1", f"GapGrid: {grid['name']}")
    yield element("nav", *(element("a", name, href=href) for name, href in BESIDE.items()))
    n_fresh = cells[st.FRESH] + cells[st.ADOPTED]
    words = f"{sum(cells.values())} cells, {n_fresh} of them up to date, as of {made:%Y-%m-%d %H:%M} UTC; the states are not live."
    yield element("p", words, class_="made")
    head = element("tr", element("th", "stage"), *(element("th", f"{st.MARKS[state]} {state}".strip()) for state in st.STATES))
    body = [
        element(
            "tr", element("td", name), *(element("td", str(n or ""), class_="n") for n in ns), class_="total" if name == "cells" else "row"
        )
        for name, ns in rows
    ]
    table = element("table", element("thead", head), element("tbody", *body), id="counts")
    yield element("details", element("summary", "How many results of each stage are in which state"), table)


def _map() -> Iterator[ElementTree.Element]:
    yield element("h2", "Students × training mixes")
    label = element("label", "Benchmark ", element("select", id="benchmark"), for_="benchmark")
    yield element("div", label, element("span", "Click a cell to see what it is made of.", class_="note"), class_="bar")
    legend = [element("span", f"{st.MARKS[state]} {meaning}") for state, meaning in MEANING.items() if st.MARKS[state]]
    grey = element("span", "grey: no score")
    yield element("p", *legend, grey, element("span", "a number without a mark is fresh"), class_="legend note")
    yield element("div", element("div", id="map"), class_="wide")


def _causes(statuses: list[st.Status]) -> Iterator[ElementTree.Element]:
    """What failed, runs or is stale for a reason of its own, alike ones in one row."""
    found = st.causes(statuses, st.FAILED, st.RUNNING, st.STALE)
    ordered = sorted(found.items(), key=lambda item: st.WORST_FIRST.index(item[0][0]))
    if not ordered:
        return
    yield element("h2", "What is not fresh, and why")
    body = []
    for (state, stage, reasons), alike in ordered[:MOST_CAUSES]:
        names = [status.artefact.name for status in alike]
        listed = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
        cells = [f"{st.MARKS[state]} {state}", stage, _few(reasons), str(len(names)), listed]
        body.append(element("tr", *(element("td", text) for text in cells)))
    head = element("tr", *(element("th", text) for text in ("state", "stage", "why", "how many", "which")))
    yield element("table", element("thead", head), element("tbody", *body), id="causes")
    n_following = sum(status.follows for status in statuses)
    if n_following:
        yield element("p", f"{n_following} further results follow these.", class_="note")


def _few(reasons: tuple[str, ...]) -> str:
    more = f"; and {len(reasons) - MOST_REASONS} more" if len(reasons) > MOST_REASONS else ""
    return "; ".join(reasons[:MOST_REASONS]) + more


def _card() -> ElementTree.Element:
    """The frame of the cell card; the glue fills it."""
    choose = [
        element("select", id="card-seed", **{"aria-label": "seed"}),
        element("select", id="card-benchmark", **{"aria-label": "benchmark"}),
    ]
    title = element("div", element("h2", id="card-title"), *choose, element("button", "close", id="card-close"), class_="bar")
    lost = element(
        "p", "The side file of this cell is not there: keep the folder cells/ beside grid.html.", id="card-lost", hidden="hidden"
    )
    head = element("tr", *(element("th", text) for text in ("", "step", "state", "why")))
    score = element("p", id="score")
    steps = element("table", element("thead", head), element("tbody", id="steps"))
    plots = [
        element("div", element("h3", words), element("div", id=name))
        for words, name in (("Loss", "loss"), ("Length of answers", "lengths"))
    ]
    filters = [element("button", kind, **{"data-kind": kind}) for kind in FILTERS]
    words = element("input", id="words", type="search", placeholder="words in problem, response or answer", **{"aria-label": "search"})
    bar = element("div", element("span", *filters, id="kinds", class_="bar"), words, class_="bar")
    samples = [element("h3", "Graded answers"), bar, element("p", id="n-samples", class_="note"), element("div", id="samples")]
    body = element("div", score, steps, element("div", *plots, class_="plots"), element("div", id="texts"), *samples, id="card-body")
    return element("section", title, lost, body, id="card", hidden="hidden")
