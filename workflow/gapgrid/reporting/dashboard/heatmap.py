"""The grid page's heat maps: students x mixes, one per benchmark and one of their average.

They are Plotly figures in JSON. Scores are means over seeds, in per cent; a state other than fresh
is a symbol beside the number, so that the map can be read in grey. Names and reasons are escaped in
Plotly's texts, which would read tags in them.
"""

import csv
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from gapgrid.core import layout
from gapgrid.core.cells import AVERAGE, UNTOUCHED, Cell
from gapgrid.core.records import InputError, Row, read_json
from gapgrid.core.rows import read_score
from gapgrid.grid.cells import Grid, all_cells, benchmarks_of, experiment_cells, label, named
from gapgrid.state import status as st

SCALE = "Cividis"  # even in lightness, so that it can be read in grey and by the colour-blind
DARK_BELOW = 0.45  # of the scale: white letters below it, black ones above
GREY = "#e4e4e4"
COLUMN, ROW = 58, 34  # pixels
TILES = {"type": "heatmap", "xgap": 2, "ygap": 2}
TEXTS = {"type": "scatter", "mode": "text", "hoverinfo": "skip", "showlegend": False}
AXIS = {"showgrid": False, "zeroline": False, "automargin": True, "fixedrange": True}
HOVER = {"align": "left", "bgcolor": "#ffffff", "bordercolor": "#555555", "font": {"size": 12}}
MOST_REASONS = 2  # of a cell on hover
MOST_TEXT = 160  # characters
# Per model, mix and benchmark: low and high end, and the confidence level.
Intervals = Mapping[tuple[str, str, str], tuple[float, float, float]]
Labels = list[tuple[str, str]]  # key and label


class CellState(NamedTuple):
    """A cell in the map: the content of score.json (None without one), its state, and why."""

    score: Row | None
    state: str
    reasons: tuple[str, ...]


class Axes(NamedTuple):
    """Rows and columns of the map."""

    models: Labels
    mixes: Labels


def axes(grid: Grid, cells: Iterable[Cell]) -> Axes:
    """Return students and mixes that have cells, in the configuration's order, untouched first."""
    pairs = {(cell.model, cell.mix) for cell in cells}
    models, mixes = {model for model, _ in pairs}, {mix for _, mix in pairs}
    return Axes(
        [(name, label(grid, "models", name)) for name in grid["models"] if name in models],
        [
            (name, label(grid, "mixes", name))
            for name in (UNTOUCHED, *grid["mixes"])
            if name in mixes
        ],
    )


def cell_states(results: Path, steps: Mapping[Cell, Sequence[st.Status]]) -> dict[Cell, CellState]:
    """Return every cell with its score and state; reasons name the step that is the cause."""
    return {
        cell: CellState(_score(results, cell), st.worst(of_cell), _reasons(of_cell))
        for cell, of_cell in steps.items()
    }


def _score_file(results: Path, cell: Cell) -> Path:
    return results / layout.path("score", *cell, file="score.json")


def _score(results: Path, cell: Cell) -> Row | None:
    """Return a cell's score, None without one; a broken one is named on the standard error."""
    file = _score_file(results, cell)
    if not file.is_file():
        return None
    try:
        return read_score(file)
    except InputError as error:
        print(f"shown without a score: {error}", file=sys.stderr)
        return None


def _reasons(steps: Sequence[st.Status]) -> tuple[str, ...]:
    behind = [step for step in steps if step.state not in (st.FRESH, st.ADOPTED)]
    behind = [step for step in behind if step.reasons != st.UNNEEDED]
    causes = [step for step in behind if not step.follows] or behind
    return tuple(
        ": ".join(filter(None, (f"{step.result.stage} {step.state}", "; ".join(step.reasons))))
        for step in causes
        if step.state == st.worst(causes)
    )


def common_benchmarks(cells: Iterable[Cell]) -> list[str]:
    """Return the benchmarks of the average: the set that most training cells have.

    Of equally many it is the largest.
    """
    sets = Counter(tuple(names) for names in benchmarks_of(cells).values())
    ordered = sorted(sets, key=lambda names: (sets[names], len(names), names))
    return list(ordered[-1]) if ordered else []


def intervals(grid: Grid, results: Path) -> Intervals:
    """Return the accuracies' intervals from those tables that were made of the present scores."""
    result: dict[tuple[str, str, str], tuple[float, float, float]] = {}
    common = sorted(common_benchmarks(all_cells(grid)))
    for name, entry in grid["experiments"].items():
        cells = experiment_cells(grid, name)
        try:
            read = read_json(results / layout.path("table", name))["inputs"]
            table = results / layout.path("table", name, file="estimates.csv")
            with table.open(encoding="utf-8", newline="") as file:
                rows = [row for row in csv.DictReader(file) if row["quantity"] == "accuracy"]
                rows = [row for row in rows if row["low"] and row["high"]]
        except (InputError, OSError, KeyError):
            continue
        digests = {cell: st.digest(_score_file(results, cell)) for cell in cells}
        current = {cell for cell in cells if read.get(str(cell)) == digests[cell]}
        has_common = sorted(named(entry["benchmarks"], grid["benchmarks"])) == common
        for row in rows:
            key = row["model"], row["mix"], row["benchmark"]
            is_average = row["benchmark"] == AVERAGE
            behind = {
                cell
                for cell in cells
                if cell[:2] == key[:2] and (is_average or cell.benchmark == row["benchmark"])
            }
            if behind and behind <= current and (has_common or not is_average):
                level = grid["statistics"]["confidence"]
                result[key] = float(row["low"]), float(row["high"]), level
    return result


class Tile(NamedTuple):
    """One tile of a map: a score 0 to 100 or None, its state, and its text on hover."""

    value: float | None
    state: str
    hover: str


def figures(grid: Grid, cells: Mapping[Cell, CellState], intervals: Intervals) -> dict[str, Row]:
    """Return a Plotly figure for each benchmark and for `average`."""
    shown, common = axes(grid, cells), common_benchmarks(cells)
    groups: dict[tuple[str, str], dict[int, dict[str, CellState]]] = {}
    for cell, state in cells.items():
        seeds = groups.setdefault((cell.model, cell.mix), {})
        seeds.setdefault(cell.seed, {})[cell.benchmark] = state
    used = {cell.benchmark for cell in cells}
    result = {}
    for benchmark in [AVERAGE, *(name for name in grid["benchmarks"] if name in used)]:
        names = common if benchmark == AVERAGE else [benchmark]
        tiles = {}
        for (model, mix), seeds in groups.items():
            known = {
                seed: states
                for seed, states in seeds.items()
                if benchmark == AVERAGE or benchmark in states
            }
            if known:
                labels = label(grid, "models", model), label(grid, "mixes", mix)
                title = f"<b>{' · '.join(map(_text, labels))}</b>"
                interval = intervals.get((model, mix, benchmark))
                tiles[model, mix] = tile(title, names, known, interval)
        result[benchmark] = figure(shown, tiles)
    return result


def tile(
    title: str,
    names: list[str],
    seeds: dict[int, dict[str, CellState]],
    interval: tuple[float, float, float] | None,
) -> Tile:
    """Return the tile of one student on one mix.

    Its value is the mean over seeds of the plain mean over the benchmarks `names`, of the seeds
    that have all of them. `seeds` maps a seed to its benchmarks' cells.
    """
    lines, values, worst = [], [], []
    for seed, by_benchmark in sorted(seeds.items()):
        cells = [by_benchmark[name] for name in names if name in by_benchmark]
        value, text = _accuracy(cells, len(names))
        values += [] if value is None else [value]
        cells = cells or list(by_benchmark.values())
        state = st.worst_of(cell.state for cell in cells)
        worst.append(state)
        reasons = dict.fromkeys(
            reason for cell in cells if cell.state == state for reason in cell.reasons
        )
        lines.append(f"seed {seed}: {text}, {state}")
        lines += [f"   {_text(reason)}" for reason in list(reasons)[:MOST_REASONS]]
    mean = sum(values) / len(values) if values else None
    if mean is not None:
        n_seeds = f"{len(values)} seed{'s' if len(values) > 1 else ''}"
        n_seeds += f" of {len(seeds)}" if len(values) < len(seeds) else ""
        bounds = " (no table of these scores yet)"
        if interval:
            low, high, level = (100 * value for value in interval)
            bounds = f" [{low:.1f}, {high:.1f}] ({level:g} % interval)"
        title += f"<br>accuracy {mean:.1f} %{bounds}, {n_seeds}"
    return Tile(mean, st.worst_of(worst), "<br>".join([title, *lines]))


def _accuracy(cells: list[CellState], n_benchmarks: int) -> tuple[float | None, str]:
    """Return one seed's mean accuracy over its benchmarks in per cent, if known, and a text."""
    if len(cells) < n_benchmarks:
        return None, f"has {len(cells)} of these {n_benchmarks} benchmarks"
    scores = [cell.score for cell in cells if cell.score and cell.score["acc"] is not None]
    if len(scores) < n_benchmarks:
        of = f" of {n_benchmarks - len(scores)} of {n_benchmarks} benchmarks"
        return None, f"no score{of if n_benchmarks > 1 else ''}"
    value = 100 * sum(score["acc"] for score in scores) / len(scores)
    return value, f"{value:.1f} % (n = {sum(score['n'] for score in scores):,})"


def _text(text: str) -> str:
    """Return a text that Plotly shows as it is."""
    return escape(st.harmless(text if len(text) <= MOST_TEXT else f"{text[: MOST_TEXT - 3]}…"))


def figure(shown: Axes, tiles: Mapping[tuple[str, str], Tile]) -> Row:
    """Return a grey map that reacts to the mouse, the scores above it, and numbers on top."""
    rows = [[tiles.get((model, mix)) for mix, _ in shown.mixes] for model, _ in shown.models]
    top = max((tile.value for tile in tiles.values() if tile.value), default=100.0)
    top = min(100.0, 10 * (int(top / 10) + 1))
    background = TILES | {
        "showscale": False,
        "colorscale": [[0, GREY], [1, GREY]],
        "z": [[None if tile is None else 0 for tile in row] for row in rows],
        "text": [["" if tile is None else tile.hover for tile in row] for row in rows],
        "hovertemplate": "%{text}<extra></extra>",
    }
    scores = TILES | {
        "hoverinfo": "skip",
        "colorscale": SCALE,
        "zmin": 0,
        "zmax": top,
        "z": [[None if tile is None else tile.value for tile in row] for row in rows],
        "colorbar": {"title": {"text": "accuracy, %", "side": "right"}, "thickness": 14},
    }
    return {"data": [background, scores, _numbers(rows, top)], "layout": _layout(shown)}


def _numbers(rows: list[list[Tile | None]], top: float) -> Row:
    """Return the numbers and symbols, readable on dark and light tiles."""
    tiles = [(x, y, tile) for y, row in enumerate(rows) for x, tile in enumerate(row) if tile]
    texts, colours = [], []
    for _, _, tile in tiles:
        number = "" if tile.value is None else f"{tile.value:.1f}"
        texts.append(f"{number} {st.SYMBOLS[tile.state]}".strip())
        is_dark = tile.value is not None and tile.value / top < DARK_BELOW
        colours.append("#ffffff" if is_dark else "#111111")
    return TEXTS | {
        "x": [x for x, _, _ in tiles],
        "y": [y for _, y, _ in tiles],
        "text": texts,
        "textfont": {"color": colours, "size": 12},
    }


def _layout(shown: Axes) -> Row:
    def axis(labels: Labels, **more: Any) -> Row:
        texts = [_text(label) for _, label in labels]
        return AXIS | {"tickvals": list(range(len(labels))), "ticktext": texts} | more

    n_rows, n_columns = len(shown.models), len(shown.mixes)
    return {
        "xaxis": axis(
            shown.mixes,
            range=[-0.5, n_columns - 0.5],
            side="top",
            tickangle=-35 if n_columns > 6 else 0,
        ),
        "yaxis": axis(shown.models, range=[n_rows - 0.5, -0.5]),
        "width": max(560, 260 + COLUMN * n_columns),
        "height": 150 + ROW * n_rows,
        "margin": {"l": 20, "r": 20, "t": 30, "b": 20},
        "hoverlabel": HOVER,
    }
