"""The stages of the workflow: the jobs that a grid has of each, and what fixes their results.

Rules take their specs from this table, and `gapgrid status` and `verify` the results to expect.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple

from gapgrid.core import layout
from gapgrid.core.cells import UNTOUCHED, TrainingCell
from gapgrid.grid import specs
from gapgrid.grid.cells import Grid, all_cells, base_seed, benchmarks_of
from gapgrid.grid.qualitative import case_spec, drawn_by, shift_cells, shift_figure_spec, shift_spec
from gapgrid.grid.table_spec import table_spec

Names = tuple[Any, ...]  # the values of a job's wildcards, in the order of its path


class Stage(NamedTuple):
    """The jobs of a stage in a finished grid, and the spec of a job by its wildcards.

    `targets` are the files of a job that rule `all` names, so that a deleted one is built again.
    Students have none: they may be deleted once they are evaluated.
    """

    jobs: Callable[[Grid], Iterable[Names]]
    spec: Callable[..., str]
    targets: tuple[str, ...] = ()


def _once(grid: Grid) -> list[Names]:
    return [()]


def _training_cells(grid: Grid) -> list[TrainingCell]:
    return sorted(benchmarks_of(all_cells(grid)))


def _trained(grid: Grid) -> list[TrainingCell]:
    return [cell for cell in _training_cells(grid) if cell.mix != UNTOUCHED]


def _mixes(grid: Grid) -> list[Names]:
    return [(mix,) for mix in sorted({cell.mix for cell in _trained(grid)})]


def _bases(grid: Grid) -> list[Names]:
    cells = _training_cells(grid)
    return sorted({(cell.model, base_seed(grid, cell.model, cell.seed)) for cell in cells})


def _sources(grid: Grid) -> list[Names]:
    corpora = {grid["models"][model].get("corpus") for model, _ in _bases(grid)} - {None}
    parts = {source for (mix,) in _mixes(grid) for source in grid["mixes"][mix]["parts"]}
    return [(source,) for source in sorted(parts | corpora)]


def _benchmarks(grid: Grid) -> list[Names]:
    return [(benchmark,) for benchmark in sorted({cell.benchmark for cell in all_cells(grid)})]


def _experiments(grid: Grid) -> list[Names]:
    return [(experiment,) for experiment in grid["experiments"]]


def _drawn_by(stage: str, grid: Grid) -> list[Names]:
    return [(experiment,) for experiment in drawn_by(grid, stage)]


def _none(grid: Grid) -> list[Names]:
    return []  # of stages whose files are no results of their own


# In the order of the flow.
STAGES = {
    "tokenizer": Stage(_once, specs.tokenizer_spec),
    "fetch": Stage(_none, specs.fetch_spec),
    "source": Stage(_sources, specs.source_spec),
    "mix": Stage(_mixes, specs.mix_spec),
    "problems": Stage(_benchmarks, specs.problems_spec),
    "selftest": Stage(_benchmarks, specs.selftest_spec),
    "base": Stage(_bases, specs.base_spec),
    "train": Stage(_trained, specs.train_spec),
    "request": Stage(_none, lambda grid, *cell: specs.request_spec(grid, cell[-1])),
    "evaluate": Stage(_training_cells, lambda grid, *_: specs.evaluate_spec(grid)),
    "grade": Stage(
        all_cells, lambda grid, *cell: specs.grade_spec(grid, cell[-1]), ("samples.jsonl",)
    ),
    "judge": Stage(_once, specs.judge_spec),
    "score": Stage(all_cells, lambda grid, *_: specs.score_spec(grid), ("score.json",)),
    "audit": Stage(_once, specs.audit_spec, ("audit.html",)),
    "table": Stage(_experiments, table_spec, ("csv", "estimates.csv", "md", "tex", "notes.json")),
    "figure": Stage(
        partial(_drawn_by, "figure"), specs.figure_spec, ("pdf", "svg", "csv", "caption.txt")
    ),
    "shift": Stage(shift_cells, shift_spec),
    "shift_figure": Stage(
        partial(_drawn_by, "shift_figure"), shift_figure_spec, ("pdf", "svg", "csv")
    ),
    "case": Stage(partial(_drawn_by, "case"), case_spec, ("html",)),
}


def jobs(grid: Grid) -> Iterator[tuple[str, Names, str]]:
    """Yield (stage, names, spec) of every result of a finished grid, in the order of the flow."""
    for name, stage in STAGES.items():
        yield from ((name, names, stage.spec(grid, *names)) for names in stage.jobs(grid))


def targets(grid: Grid) -> Iterator[str]:
    """Yield the files of a finished grid, named so that a deleted one is noticed."""
    for name, stage in STAGES.items():
        for names in stage.jobs(grid):
            yield from (layout.path(name, *names, file=file) for file in stage.targets)


def spec_by_wildcards(grid: Grid, stage: str, wildcards: Any) -> str:
    """Return the spec of a stage's job, given Snakemake's wildcards."""
    names = {name: getattr(wildcards, name) for name in layout.wildcards(stage)}
    if "seed" in names:
        names["seed"] = int(names["seed"])
    return STAGES[stage].spec(grid, *names.values())
