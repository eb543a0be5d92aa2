"""A tiny student and a few rows, made once."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")

from gapgrid.demo import arithmetic
from gapgrid.records import Row, write_json

ARCHITECTURE = {"hidden_size": 16, "layers": 2, "heads": 2, "ffn": 40}
RECIPE = {"method": "full", "learning_rate": 5e-3, "epochs": 2, "global_batch": 8, "max_length": 640}


@pytest.fixture(scope="session")
def rows() -> list[Row]:
    return [{**row, "source": "long"} for row in arithmetic.answered("long", 48, 3)]


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    for name, content in arithmetic.tokenizer_files().items():
        write_json(folder / name, content)
    return folder


@pytest.fixture(scope="session")
def student(tmp_path_factory: pytest.TempPathFactory, tokenizer_folder: Path) -> Path:
    from gapgrid.engines import tiny

    folder = tmp_path_factory.mktemp("student") / "model"
    tiny.build(ARCHITECTURE, tokenizer_folder, 0, folder)
    return folder
