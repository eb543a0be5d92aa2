"""Where every result, log and measured time lies: rules and Python alike take paths from here.

Paths are relative to `results/<grid>`, `logs/<grid>` and `benchmarks/<grid>`; a pattern holds
Snakemake's wildcards.
"""

import re
from pathlib import Path

from gapgrid.core.cells import UNTOUCHED, Cell

TRAINING_CELL = "{model}/{mix}/{seed}"
CELL = f"{TRAINING_CELL}/{{benchmark}}"
# Stage -> how the paths of its files begin.
PREFIXES = {
    "tokenizer": "tokenizer/",
    "fetch": "hub/{section}/{name}/",
    "source": "sources/{source}/",
    "problems": "problems/{benchmark}/",
    "selftest": "selftest/{benchmark}/",
    "mix": "mixes/{mix}/",
    "base": f"train/{{model}}/{UNTOUCHED}/{{seed}}/",
    "train": f"train/{TRAINING_CELL}/",
    "request": f"requests/{CELL}.",
    "evaluate": f"evaluate/{TRAINING_CELL}/",
    "grade": f"grade/{CELL}/",
    "judge": "judge/",
    "score": f"score/{CELL}/",
    "audit": "audit/",
    "table": "tables/{experiment}.",
    "figure": "figures/{experiment}.",
    "shift": f"shift/{CELL}/",
    "shift_figure": "figures/{experiment}.",
    "case": "cases/{experiment}.",
}
# What a stage writes last is called manifest.json but for these.
LAST_FILES = {"request": "spec", "judge": "round.json"}


def wildcards(stage: str) -> list[str]:
    """Return the names of a stage's coordinates, in the order of its path."""
    return re.findall(r"{(\w+)}", PREFIXES[stage])


def pattern(stage: str, file: str = "") -> str:
    """Return the path of a stage's `file`, by default of its manifest, with wildcards."""
    return PREFIXES[stage] + (file or LAST_FILES.get(stage, "manifest.json"))


def path(stage: str, *names: object, file: str = "") -> str:
    """Return the path of one job's `file`, by default of its manifest.

    `names` are the job's coordinates. Raises `ValueError` unless their number is right.
    """
    return pattern(stage, file).format(**dict(zip(wildcards(stage), names, strict=True)))


def log(stage: str, ending: str = "log") -> str:
    """Return the pattern of a stage's logs, or with the ending `tsv` of its measured times."""
    return f"{'/'.join([stage, *(f'{{{name}}}' for name in wildcards(stage))])}.{ending}"


def same_cell(file: Path, stage: str, name: str) -> Path:
    """Return the path of the file `name` of another stage for the cell of `file`."""
    return file.parents[len(Cell._fields) + 1] / path(stage, *Cell.of_file(file), file=name)
