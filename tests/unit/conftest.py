"""What the unit tests share: the demo grid, the miniature's tokenizer, and a way to run a stage as its rule does."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from gapgrid import config, manifest, tokenizer
from gapgrid.records import write_json

REPOSITORY = Path(__file__).parents[2]

# The same examples each time: a failure can be repeated, and a slow machine fails nothing.
settings.register_profile("gapgrid", deadline=None, derandomize=True, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("gapgrid")


@pytest.fixture(scope="session")
def repository() -> Path:
    """The repository's root."""
    return REPOSITORY


@pytest.fixture(scope="session")
def loaded_demo() -> dict[str, Any]:
    """The demo grid, read once; use `demo`."""
    return config.load("demo", root=REPOSITORY / "config")


@pytest.fixture
def demo(loaded_demo: dict[str, Any]) -> dict[str, Any]:
    """The demo grid, free to be changed."""
    return copy.deepcopy(loaded_demo)


@pytest.fixture(scope="session")
def tokenizer_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tokenizer.json of the miniature."""
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer.make({"builtin": "arithmetic"}, folder)
    return folder / "tokenizer.json"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """`run(stage, spec, *arguments)`: the stage's `main` in this process; returns its exit status."""
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
    manifest.write(folder / "manifest.json", "train", {"stage": "train", "version": 1}, {}, ["model"])
    return folder
