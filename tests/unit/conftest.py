"""What the unit tests share: the grids, the miniature's tokenizer, and stages run in-process."""

import copy
import functools
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from gapgrid.config.load import REPOSITORY, load_grid
from gapgrid.core import manifest
from gapgrid.core.records import write_json
from gapgrid.grid.cells import Grid
from gapgrid.stages import tokenizer

# The same examples each time: a failure can be repeated, and a slow machine fails nothing.
settings.register_profile(
    "gapgrid",
    deadline=None,
    derandomize=True,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("gapgrid")


@pytest.fixture(scope="session")
def repository() -> Path:
    """The repository's root."""
    return REPOSITORY


loaded = functools.cache(lambda name: load_grid(name, root=REPOSITORY / "config"))


@pytest.fixture
def demo() -> Grid:
    """The demo grid, free to be changed."""
    return copy.deepcopy(loaded("demo"))


@pytest.fixture
def paper() -> Grid:
    """The paper's grid, free to be changed."""
    return copy.deepcopy(loaded("paper"))


@pytest.fixture(scope="session")
def tokenizer_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tokenizer.json of the miniature."""
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer.make({"builtin": "arithmetic"}, folder)
    return folder / "tokenizer.json"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """`run(stage, spec, *arguments)`: call the stage's `main` and return its exit status."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def call(stage: ModuleType, spec: dict[str, Any], *arguments: object) -> int:
        return int(stage.main(["--spec", json.dumps(spec), *map(str, arguments)]))

    return call


@pytest.fixture
def student(tmp_path: Path) -> Path:
    """A trained student's folder with model/ and manifest.json, as the stub leaves it."""
    folder = tmp_path / "train"
    (folder / "model").mkdir(parents=True)
    write_json(folder / "model" / "config.json", {"stub": "a student"})
    spec = {"stage": "train", "version": 1}
    manifest.write(folder / "manifest.json", "train", spec, {}, ["model"])
    return folder
