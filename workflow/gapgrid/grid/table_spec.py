"""What fixes an experiment's table: its cells and their order, the protocol, and the confounders.

The protocol and the confounders come from the specs of the stages, so that they cannot differ from
what was done.
"""

import json
from collections.abc import Sequence
from typing import Any

from gapgrid.core import comparability
from gapgrid.core.cells import AVERAGE, UNTOUCHED, Cell, TrainingCell
from gapgrid.core.records import Row
from gapgrid.core.rows import REFERENCE_COLUMNS
from gapgrid.core.spec_types import TableSpec, with_defaults
from gapgrid.grid.cells import KINDS, Grid, experiment_cells, named, shown
from gapgrid.grid.protocol import engine_text, protocol
from gapgrid.grid.specs import base_spec, spec_text, train_spec

VARIES = ["mix"]  # the default of `varies`


def table_spec(grid: Grid, experiment: str) -> str:
    """Return the spec of one experiment's table: its list of cells, and all that it shows of them.

    The list of cells makes the table re-run when the grid has one cell less.
    """
    entry = grid["experiments"][experiment]
    cells = experiment_cells(grid, experiment)
    models, mixes, benchmarks = (named(entry[kind], grid[kind]) for kind in KINDS)
    varies, contrast = entry.get("varies", VARIES), entry.get("contrast")
    reference = grid.get("reference", [])
    compared = settings(grid, cells, [*models, *mixes])
    spec = TableSpec(
        cells=[list(cell) for cell in cells],
        caption=entry.get("caption", ""),
        contrast=contrast,
        statistics=grid["statistics"],
        models={model: student(grid, model) for model in models},
        shown=shown(grid, experiment),
        singles=single_sources(grid, mixes),
        by_benchmark=entry.get("by_benchmark", True),
        varies=sorted(varies),
        differs=[list(difference) for difference in comparability.within(compared, varies)],
        between=[list(difference) for difference in comparability.between(compared)],
        protocol=protocol(grid, experiment),
        reference=published_for(reference, models, mixes, benchmarks, contrast),
    )
    return spec_text("table", spec)


def student(grid: Grid, model: str) -> dict[str, Any]:
    """Return a student's family, size and identity; entries of one student share the identity."""
    entry = grid["models"][model]
    return {"family": entry["family"], "params_b": entry["params_b"], "student": identity(entry)}


def identity(entry: dict[str, Any]) -> str:
    """Return who a student is before SFT: repository and revision, folder, or architecture."""
    if entry["kind"] == "tiny":
        return json.dumps(entry["architecture"], sort_keys=True)
    if "hub" in entry:
        return f"{entry['hub']}@{entry.get('revision', 'main')}"
    return str(entry["path"])


def single_sources(grid: Grid, mixes: list[str]) -> dict[str, list[str]]:
    """Return, for each mix of several sources, the mixes of each of its sources alone.

    A mix is left out unless `mixes` has all of these.
    """
    parts = {mix: list(grid["mixes"][mix]["parts"]) for mix in mixes if mix != UNTOUCHED}
    alone = {sources[0]: mix for mix, sources in parts.items() if len(sources) == 1}
    return {
        mix: sorted(alone[source] for source in sources)
        for mix, sources in parts.items()
        if len(sources) > 1 and all(source in alone for source in sources)
    }


# ---- what is compared ----


def settings(grid: Grid, cells: list[Cell], order: list[str]) -> list[comparability.Settings]:
    """Return each training cell's settings by topic.

    Students and training sets come in the `order` of their names. An untouched student has no
    recipe.
    """

    def position(cell: TrainingCell) -> tuple[int, int, int]:
        return order.index(cell.model), order.index(cell.mix), cell.seed

    rows = []
    for model, mix, seed in sorted({cell.trained for cell in cells}, key=position):
        values = {("mix", "mix"): mix, **_base_settings(grid, model, seed)}
        if mix != UNTOUCHED:
            values |= _training_settings(grid, model, mix, seed)
        rows.append(comparability.Settings(identity(grid["models"][model]), model, mix, values))
    return rows


def _base_settings(grid: Grid, model: str, seed: int) -> dict[comparability.Key, Any]:
    """Return how a tiny student was pretrained, or any other's settings besides its identity."""
    spec = json.loads(base_spec(grid, model, seed))
    if spec["kind"] == "tiny":
        recipe = _recipe("base", "pretraining ", spec["recipe"])
        return {("base", "corpus"): spec["corpus"], **recipe}
    identified = ("stage", "version", "kind", "hub", "revision", "path")
    return {("base", key): value for key, value in spec.items() if key not in identified}


def _training_settings(grid: Grid, model: str, mix: str, seed: int) -> dict[comparability.Key, Any]:
    spec = json.loads(train_spec(grid, model, mix, seed))
    if "adopt" in spec:
        return {("adopted", "training"): "adopted, its settings unknown"}
    return {
        ("adopted", "training"): "here",
        ("engine", "training engine"): engine_text(spec["engine"]),
        **_recipe("recipe", "", spec["recipe"]),
    }


def _recipe(topic: str, prefix: str, recipe: dict[str, Any]) -> dict[comparability.Key, Any]:
    return {(topic, prefix + key): value for key, value in with_defaults("recipe", recipe).items()}


# ---- published numbers ----


def published_for(
    rows: Sequence[Row],
    models: Sequence[str],
    mixes: Sequence[str],
    benchmarks: Sequence[str],
    contrast: Any,
) -> list[Row]:
    """Return the published rows about an experiment's cells.

    A row about an average is kept if it is over exactly the experiment's benchmarks, a row about a
    gap (`minus`) if it is the experiment's contrast.
    """
    published = []
    for row in rows:
        names = row["benchmark"].split("+")
        is_average = len(names) > 1 and set(names) == set(benchmarks)
        is_shown = is_average or (len(names) == 1 and names[0] in benchmarks)
        is_contrast = not row["minus"] or [row["mix"], row["minus"]] == contrast
        if row["model"] in models and row["mix"] in mixes and is_shown and is_contrast:
            kept = {key: row[key] for key in REFERENCE_COLUMNS}
            published.append({**kept, "benchmark": AVERAGE if is_average else names[0]})
    return published
