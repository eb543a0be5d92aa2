"""The methods text of a grid's report: every setting that decides a number, in words, from the specs of the stages.

Like `grid`: a config dict in, strings out, the standard library alone.
"""

import json
from typing import Any

from gapgrid import claims
from gapgrid import grid as g
from gapgrid.grid import Grid

Section = tuple[str, list[str]]


def methods(grid: Grid) -> list[Section]:
    """Headings, each with its lines: students, training sets, their sources, and how answers and intervals come about."""
    cells = g.all_cells(grid)
    models, mixes, benchmarks = ([name for name in grid[kind] if name in {cell[place] for cell in cells}] for place, kind in _PLACES)
    sources = [name for name in grid["sources"] if any(name in grid["mixes"][mix]["parts"] for mix in mixes)]
    shown = [mix for mix in (*mixes, g.UNTOUCHED) if mix in {cell.mix for cell in cells}]
    whole = {**grid, "experiments": {"grid": {"models": models, "mixes": shown, "benchmarks": benchmarks}}}
    return [
        (f"Students, each with training seed{'s' if len(grid['seeds']) > 1 else ''} {_listed(grid['seeds'])}", _students(grid, models)),
        ("Training sets", [_mix(grid, mix) for mix in mixes]),
        ("Sources of training rows", [f"{g.label(grid, 'sources', name)}: {_origin(grid['sources'][name])}" for name in sources]),
        ("Training, answering, grading, intervals", claims.protocol(whole, "grid")),
    ]


_PLACES = ((0, "models"), (1, "mixes"), (3, "benchmarks"))


def _students(grid: Grid, models: list[str]) -> list[str]:
    return [
        f"{g.label(grid, 'models', name)} ({grid['models'][name]['family']}, {1e9 * grid['models'][name]['params_b']:,.0f} parameters): "
        f"{_student(grid['models'][name])}, recipe {grid['models'][name]['recipe']}"
        for name in models
    ]


def _student(entry: dict[str, Any]) -> str:
    if entry["kind"] == "tiny":
        shape = ", ".join(f"{key} {value}" for key, value in entry["architecture"].items())
        return f"built here ({shape}) and pretrained on {entry['corpus']} with recipe {entry['pretrain']}"
    return _origin(entry)


def _mix(grid: Grid, name: str) -> str:
    entry = json.loads(g.mix_spec(grid, name))["mix"]
    parts = ", ".join(f"{share:g} {g.label(grid, 'sources', source)}" for source, share in entry["parts"].items())
    rest = [f"{key} {value}" for key, value in entry.items() if key not in ("parts", "by")]
    return f"{g.label(grid, 'mixes', name)}: {', '.join([parts, *rest])}, shares by {entry.get('by', 'rows')}"


def _origin(entry: dict[str, Any]) -> str:
    """Where something comes from: repository and revision, a local file, or a generator with its settings."""
    if "hub" in entry:
        return f"{entry['hub']} at {entry.get('revision', 'main')}"
    if "path" in entry:
        return str(entry["path"])
    builtin = entry["builtin"]
    return "made here: " + (", ".join(f"{key} {value}" for key, value in builtin.items()) if isinstance(builtin, dict) else str(builtin))


def _listed(values: list[Any]) -> str:
    return ", ".join(map(str, values))
