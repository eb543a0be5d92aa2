# What all rules share: the checked grid, names, wildcard constraints, what jobs ask for.

import os
import re
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(workflow.basedir))

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

import repairs
from gapgrid import claims, closeups, methods
from gapgrid import config as settings
from gapgrid import grid as cells_of
from gapgrid.records import InputError

repairs.mend()

try:
    GRID = settings.load(config.get("grid", "paper"), config)
except InputError as error:
    raise WorkflowError(f"the grid's configuration is wrong\n{error}") from None

for warning in settings.warnings(GRID) if workflow.is_main_process else []:
    logger.warning(warning)

CELLS = cells_of.all_cells(GRID)

# More cards than this machine was said to have (profile local) would silently become fewer.
OFFERED = workflow.resource_settings.resources.get("gpu")
try:
    if OFFERED is not None and isinstance(OFFERED.value, int):
        settings.check_cards(GRID, OFFERED.value)
except InputError as error:
    raise WorkflowError(str(error)) from None

CELL_PATHS = ["/".join(map(str, cell)) for cell in CELLS]
config["methods"] = methods.methods(GRID)
config["captions"] = {name: entry["caption"] for name, entry in GRID["experiments"].items()}
BENCHMARKS = cells_of.benchmarks_of(CELLS)
RESULTS = f"{config.get('results', 'results')}/{GRID['name']}"
LOGS = f"logs/{GRID['name']}"
TIMES = f"benchmarks/{GRID['name']}"
TRAINING_CELL = "{model}/{mix}/{seed}"
CELL = f"{TRAINING_CELL}/{{benchmark}}"

# Jobs use the interpreter and the code that plan them; heavy ones that of `make env-gpu` where the grid's environment is
# gpu and it is there. Compute nodes ask no hub. A prefix is no part of a rule, so this re-runs nothing.
HEAVY_PYTHON = Path(f".venv-{GRID['environment']}/bin/python").absolute()
shell.prefix(
    f'[ -z "$SLURM_JOB_ID" ] || export HF_HUB_OFFLINE=1; '
    f"HEAVY_PYTHON={HEAVY_PYTHON if HEAVY_PYTHON.exists() else 'python'}; "
    f"set -euo pipefail; export PATH={Path(sys.executable).parent}:$PATH PYTHONPATH={workflow.basedir} "
    f"PYTHONUNBUFFERED=1 HF_HUB_DISABLE_PROGRESS_BARS=1 TRANSFORMERS_VERBOSITY=error TOKENIZERS_PARALLELISM=false; "
)


def check_room():
    """Before the first job: students that do not fit on the disk are not begun."""
    Path(RESULTS).mkdir(parents=True, exist_ok=True)
    try:
        settings.check_disk(GRID, Path(RESULTS), shutil.disk_usage(RESULTS).free)
    except InputError as error:
        raise WorkflowError(str(error)) from None


def one_of(names):
    return "|".join(map(re.escape, names)) or "(?!)"


wildcard_constraints:
    model=one_of(GRID["models"]),
    mix=one_of([*GRID["mixes"], cells_of.UNTOUCHED]),
    source=one_of(GRID["sources"]),
    benchmark=one_of(GRID["benchmarks"]),
    experiment=one_of(GRID["experiments"]),
    seed=r"\d+",


def hardware(key, default=None):
    """A resource function: what jobs of a student of this size ask for."""

    def of_student(wildcards):
        return GRID["hardware"][GRID["models"][wildcards.model]["size"]].get(key, default)

    return of_student


def all_cards(wildcards):
    """A resource function: the GPUs of a training job, on all its machines together."""
    return hardware("gpus")(wildcards) * hardware("nodes", 1)(wildcards)


def across_machines(wildcards):
    """A resource function: within a SLURM job of several machines, that its own command starts the step on all of them.

    Without it the job would run as a step of one machine that asks for the GPUs of all. When submitting it has no meaning.
    """
    return "srun" if "SLURM_JOB_ID" in os.environ and hardware("nodes", 1)(wildcards) > 1 else None


def growing(key):
    """A resource function: the same, and as much again with each attempt after a failed one."""

    def of_attempt(wildcards, attempt):
        return attempt * hardware(key)(wildcards)

    return of_attempt


def pretraining(key, linked):
    """A resource function: what a tiny student's pretraining asks for; any other student is only linked into place."""

    def of_attempt(wildcards, attempt):
        if GRID["models"][wildcards.model]["kind"] != "tiny":
            return linked
        return (attempt if key in ("mem_mb", "runtime") else 1) * hardware(key)(wildcards)

    return of_attempt


def tensor_parallel(wildcards):
    return hardware("tensor_parallel")(wildcards) or max(1, hardware("gpus")(wildcards))
