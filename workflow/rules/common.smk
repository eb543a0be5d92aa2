# What all rules share: the checked grid, names, wildcard constraints.

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
