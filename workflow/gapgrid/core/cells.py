"""What a cell of the grid is, and how it is read off a path.

A *training cell* is one student after one training; a *cell* is that student on one benchmark.
As text both are paths: `qwen2.5-3b/long/0` and `qwen2.5-3b/long/0/math-500`.
"""

from pathlib import Path
from typing import NamedTuple

# The training mix of a student before SFT, and the name under which means over benchmarks stand.
UNTOUCHED = "none"
AVERAGE = "average"


class TrainingCell(NamedTuple):
    """One student after training, or before SFT for the mix `none`."""

    model: str
    mix: str
    seed: int

    def __str__(self) -> str:
        return f"{self.model}/{self.mix}/{self.seed}"

    @classmethod
    def of_file(cls, file: Path) -> "TrainingCell":
        """Return the training cell whose folder holds `file`."""
        model, mix, seed = file.parts[-4:-1]
        return cls(model, mix, int(seed))


class Cell(NamedTuple):
    """One training cell evaluated on one benchmark."""

    model: str
    mix: str
    seed: int
    benchmark: str

    def __str__(self) -> str:
        return f"{self.trained}/{self.benchmark}"

    @property
    def trained(self) -> TrainingCell:
        """The training cell."""
        return TrainingCell(*self[:3])

    @classmethod
    def of_file(cls, file: Path) -> "Cell":
        """Return the cell whose folder holds `file`."""
        return cls(*TrainingCell.of_file(file.parent), file.parts[-2])
