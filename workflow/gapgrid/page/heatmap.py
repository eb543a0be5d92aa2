"""The grid page's heat maps: students x mixes, one for each benchmark and one of their average, as Plotly figures in JSON.

Scores are means over seeds, in per cent; a state other than fresh is a mark beside the number, so the map reads in grey too.
Names and reasons enter Plotly's texts escaped: it would read tags in them.
"""

import csv
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from gapgrid import grid as g
from gapgrid.commands import status as st
from gapgrid.records import InputError, Row, read_json, sha256_file

AVERAGE = "average"
SCALE = "Cividis"  # even in lightness, so it reads in grey and to the colour-blind
DARK_BELOW = 0.45  # of the scale: white letters below it, black ones above
COLUMN, ROW, MOST_REASONS = 58, 34, 2  # pixels, pixels, a cell's reasons on hover


class Seen(NamedTuple):
    """A cell as the map shows it: the content of score.json (None if there is none), its state, and why."""

    score: Row | None
    state: str
    reasons: tuple[str, ...]


class Axes(NamedTuple):
    """Rows and columns of the map, by key, with the labels shown."""

    models: list[tuple[str, str]]
    mixes: list[tuple[str, str]]


def axes(grid: g.Grid, cells: Iterable[g.Cell]) -> Axes:
    """Students and mixes that have cells, in the order of the configuration; untouched first."""
    models, mixes = ({cell[place] for cell in cells} for place in (0, 1))
    ordered = [name for name in (g.UNTOUCHED, *grid["mixes"]) if name in mixes]
    return Axes(
        [(name, g.label(grid, "models", name)) for name in grid["models"] if name in models],
        [(name, g.label(grid, "mixes", name)) for name in ordered],
    )


def see(results: Path, steps: Mapping[g.Cell, Sequence[st.Status]]) -> dict[g.Cell, Seen]:
    """Every cell with its score and state; reasons name the step that is the cause."""
    return {cell: Seen(_score(results, cell), st.worst(of), _reasons(of)) for cell, of in steps.items()}


def _score(results: Path, cell: g.Cell) -> Row | None:
    try:
        return read_json(results / "score" / "/".join(map(str, cell)) / "score.json")
    except InputError:
        return None


def _reasons(steps: Sequence[st.Status]) -> tuple[str, ...]:
    causes = [step for step in steps if step.state not in (st.FRESH, st.ADOPTED) and step.reasons != st.UNNEEDED and not step.follows]
    causes = causes or [step for step in steps if step.follows]
    worst = [step for step in causes if step.state == st.worst(causes)]
    return tuple(f"{step.artefact.stage} {step.state}{': ' if step.reasons else ''}{'; '.join(step.reasons)}" for step in worst)


def common_benchmarks(cells: Iterable[g.Cell]) -> list[str]:
    """The benchmarks that the average is of: the set that most training cells answer, of equally many the largest."""
    sets = Counter(tuple(names) for names in g.benchmarks_of(cells).values())
    ordered = sorted(sets, key=lambda names: (sets[names], len(names), names))
    return list(ordered[-1]) if ordered else []


def intervals(grid: g.Grid, results: Path) -> dict[tuple[str, str, str], tuple[float, float, float]]:
    """(model, mix, benchmark) -> confidence interval of the accuracy and its level, from tables made of the scores that lie there."""
    found: dict[tuple[str, str, str], tuple[float, float, float]] = {}
    for name, entry in grid["experiments"].items():
        cells = g.experiment_cells(grid, name)
        try:
            read = read_json(results / f"tables/{name}.manifest.json")["inputs"]
            current = {cell for cell in cells if read.get("/".join(map(str, cell))) == _digest(results, cell)}
            with (results / f"tables/{name}.estimates.csv").open(encoding="utf-8", newline="") as file:
                rows = [row for row in csv.DictReader(file) if row["quantity"] == "accuracy" and row["low"] and row["high"]]
        except (InputError, OSError, KeyError):
            continue
        benchmarks = g.named(entry["benchmarks"], grid["benchmarks"])
        for row in rows:
            is_average = row["benchmark"] == AVERAGE
            if is_average and sorted(benchmarks) != sorted(common_benchmarks(g.all_cells(grid))):
                continue
            mine = {cell for cell in cells if cell[:2] == (row["model"], row["mix"]) and (is_average or cell[3] == row["benchmark"])}
            if mine and mine <= current:
                found[row["model"], row["mix"], row["benchmark"]] = float(row["low"]), float(row["high"]), grid["statistics"]["confidence"]
    return found


def _digest(results: Path, cell: g.Cell) -> str | None:
    path = results / "score" / "/".join(map(str, cell)) / "score.json"
    return sha256_file(path) if path.is_file() else None


class Spot(NamedTuple):
    """One place of a map: a score 0 to 100 or None, its state, and what is said on hover."""

    value: float | None
    state: str
    hover: str


def figures(grid: g.Grid, seen: Mapping[g.Cell, Seen], bounds: Mapping[tuple[str, str, str], tuple[float, float, float]]) -> dict[str, Row]:
    """Benchmark (and `average`) -> Plotly figure."""
    shown, common = axes(grid, seen), common_benchmarks(seen)
    places: dict[tuple[str, str], dict[int, dict[str, Seen]]] = {}
    for cell, what in seen.items():
        places.setdefault((cell.model, cell.mix), {}).setdefault(cell.seed, {})[cell.benchmark] = what
    asked = {cell.benchmark for cell in seen}
    found = {}
    for benchmark in [AVERAGE, *(name for name in grid["benchmarks"] if name in asked)]:
        names = common if benchmark == AVERAGE else [benchmark]
        spots = {}
        for (model, mix), seeds in places.items():
            mine = {seed: of for seed, of in seeds.items() if benchmark == AVERAGE or benchmark in of}
            if mine:
                head = f"<b>{_text(g.label(grid, 'models', model))} · {_text(g.label(grid, 'mixes', mix))}</b>"
                spots[model, mix] = spot(head, names, mine, bounds.get((model, mix, benchmark)))
        found[benchmark] = figure(shown, spots)
    return found


def spot(head: str, names: list[str], seeds: dict[int, dict[str, Seen]], bounds: tuple[float, float, float] | None) -> Spot:
    """One student on one mix: the mean over seeds of the plain mean over benchmarks, of the seeds that have all of them."""
    lines, values, states = [], [], []
    for seed, of in sorted(seeds.items()):
        mine = [of[name] for name in names if name in of] or list(of.values())
        n_asked = sum(name in of for name in names)
        scores = [one.score for one in mine if one.score is not None and one.score["acc"] is not None]
        states.append(st.worst_of(one.state for one in mine))
        if n_asked < len(names):
            said = f"is asked {n_asked} of these {len(names)} benchmarks"
        elif len(scores) == len(names):
            values.append(100 * sum(score["acc"] for score in scores) / len(scores))
            said = f"{values[-1]:.1f} % (n = {sum(score['n'] for score in scores):,})"
        else:
            said = f"no score of {len(names) - len(scores)} of {len(names)} benchmarks" if len(names) > 1 else "no score"
        why = dict.fromkeys(reason for one in mine for reason in one.reasons if one.state == states[-1])
        lines += [f"seed {seed}: {said}, {states[-1]}", *(f"   {_text(reason)}" for reason in list(why)[:MOST_REASONS])]
    value = sum(values) / len(values) if values else None
    if value is not None:
        of_seeds = f"{len(values)} seed{'s' if len(values) > 1 else ''}" + (f" of {len(seeds)}" if len(values) < len(seeds) else "")
        said = (
            f" [{100 * bounds[0]:.1f}, {100 * bounds[1]:.1f}] ({100 * bounds[2]:g} % interval)"
            if bounds
            else " (no table of these scores yet)"
        )
        head += f"<br>accuracy {value:.1f} %{said}, {of_seeds}"
    return Spot(value, st.worst_of(states), "<br>".join([head, *lines]))


def _text(text: str) -> str:
    """A text that Plotly is to show as it is."""
    return escape(st.harmless(text if len(text) <= 160 else f"{text[:157]}…"))


def figure(shown: Axes, spots: Mapping[tuple[str, str], Spot]) -> Row:
    """A grey map that hears the mouse, the scores above it, the numbers and marks on top."""
    places = [[spots.get((model, mix)) for mix, _ in shown.mixes] for model, _ in shown.models]
    top = max((spot.value for spot in spots.values() if spot.value), default=100.0)
    top = min(100.0, 10 * (int(top / 10) + 1))
    ground = {"type": "heatmap", "showscale": False, "colorscale": [[0, "#e4e4e4"], [1, "#e4e4e4"]], "xgap": 2, "ygap": 2}
    scores = {"type": "heatmap", "colorscale": SCALE, "zmin": 0, "zmax": top, "xgap": 2, "ygap": 2, "hoverinfo": "skip"}
    bar = {"title": {"text": "accuracy, %", "side": "right"}, "thickness": 14}
    data = [
        {
            **ground,
            "z": [[None if spot is None else 0 for spot in row] for row in places],
            "text": [["" if spot is None else spot.hover for spot in row] for row in places],
            "hovertemplate": "%{text}<extra></extra>",
        },
        {**scores, "z": [[None if spot is None else spot.value for spot in row] for row in places], "colorbar": bar},
        _numbers(places, top),
    ]
    return {"data": data, "layout": _layout(shown)}


def _numbers(places: list[list[Spot | None]], top: float) -> Row:
    there = [(x, y, spot) for y, row in enumerate(places) for x, spot in enumerate(row) if spot]
    dark = [spot.value is not None and spot.value / top < DARK_BELOW for _, _, spot in there]
    return {
        "type": "scatter",
        "mode": "text",
        "x": [x for x, _, _ in there],
        "y": [y for _, y, _ in there],
        "text": [
            " ".join(part for part in (f"{spot.value:.1f}" if spot.value is not None else "", st.MARKS[spot.state]) if part)
            for _, _, spot in there
        ],
        "textfont": {"color": ["#ffffff" if is_dark else "#111111" for is_dark in dark], "size": 12},
        "hoverinfo": "skip",
        "showlegend": False,
    }


def _layout(shown: Axes) -> Row:
    def axis(names: list[tuple[str, str]], **more: Any) -> Row:
        ticks = {"tickvals": list(range(len(names))), "ticktext": [_text(label) for _, label in names]}
        return {
            **ticks,
            "range": [-0.5, len(names) - 0.5],
            "showgrid": False,
            "zeroline": False,
            "automargin": True,
            "fixedrange": True,
            **more,
        }

    y = axis(shown.models)
    return {
        "xaxis": axis(shown.mixes, side="top", tickangle=-35 if len(shown.mixes) > 6 else 0),
        "yaxis": {**y, "range": y["range"][::-1]},
        "width": max(560, 260 + COLUMN * len(shown.mixes)),
        "height": 150 + ROW * len(shown.models),
        "margin": {"l": 20, "r": 20, "t": 30, "b": 20},
        "hoverlabel": {"align": "left", "bgcolor": "#ffffff", "bordercolor": "#555555", "font": {"size": 12}},
    }
