# What all rules share: the checked grid, paths, specs, wildcard constraints.

import os
import re
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(workflow.basedir))

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

import job_shell
import snakemake_patches
from gapgrid.config.checks import check_gpus, check_disk
from gapgrid.config.load import load_grid, warnings
from gapgrid.core import layout
from gapgrid.core.cells import UNTOUCHED, TrainingCell
from gapgrid.core.records import InputError
from gapgrid.grid import cells, jobs, protocol, specs
from gapgrid.grid.qualitative import drawn_by, shift_cells

snakemake_patches.apply()

try:
    GRID = load_grid(config.get("grid", "paper"), config)
except InputError as error:
    raise WorkflowError(f"the grid's configuration is wrong\n{error}") from None

for warning in warnings(GRID) if workflow.is_main_process else []:
    logger.warning(warning)

# More GPUs than this machine was said to have (profile local) would silently become fewer.
OFFERED = workflow.resource_settings.resources.get("gpu")
try:
    if OFFERED is not None and isinstance(OFFERED.value, int):
        check_gpus(GRID, OFFERED.value)
except InputError as error:
    raise WorkflowError(str(error)) from None

CELLS = cells.all_cells(GRID)
BENCHMARKS = cells.benchmarks_of(CELLS)
RESULTS = f"{config.get('results', 'results')}/{GRID['name']}"
config["methods"] = protocol.methods(GRID)
config["captions"] = {name: entry["caption"] for name, entry in GRID["experiments"].items()}

# Jobs use the interpreter and the code that plan them; heavy ones that of `make env-gpu` where
# the grid's environment is gpu and it is there. A prefix is no part of a rule, so this re-runs
# nothing.
HEAVY_PYTHON = Path(f".venv-{GRID['environment']}/bin/python").absolute()
shell.prefix(
    job_shell.prefix(
        Path(sys.executable),
        HEAVY_PYTHON if HEAVY_PYTHON.exists() else None,
        Path(str(workflow.basedir)),
    )
)


def result(stage, file=""):
    """The path pattern of a stage's file, by default of its manifest."""
    return f"{RESULTS}/{layout.pattern(stage, file)}"


def results(stage, jobs, file=""):
    """The paths of one file of several jobs of a stage, each given by its coordinates."""
    return [f"{RESULTS}/{layout.path(stage, *names, file=file)}" for names in jobs]


def log_of(stage):
    return f"logs/{GRID['name']}/{layout.log(stage)}"


def times_of(stage):
    return f"benchmarks/{GRID['name']}/{layout.log(stage, 'tsv')}"


def spec_of(stage):
    """A params function: what fixes the result of a stage's job, as one string.

    Snakemake notices every change of it, and nothing else: it takes wildcards alone.
    """

    def of_job(wildcards):
        return jobs.spec_by_wildcards(GRID, stage, wildcards)

    return of_job


def one_of(names):
    return "|".join(map(re.escape, names)) or "(?!)"


def check_free_disk():
    """Before the first job: students that do not fit on the disk are not begun."""
    Path(RESULTS).mkdir(parents=True, exist_ok=True)
    try:
        check_disk(GRID, Path(RESULTS), shutil.disk_usage(RESULTS).free)
    except InputError as error:
        raise WorkflowError(str(error)) from None


wildcard_constraints:
    model=one_of(GRID["models"]),
    mix=one_of([*GRID["mixes"], UNTOUCHED]),
    source=one_of(GRID["sources"]),
    benchmark=one_of(GRID["benchmarks"]),
    experiment=one_of(GRID["experiments"]),
    seed=r"\d+",
