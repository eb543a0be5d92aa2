"""A tiny student, its training rows and some problems, made once."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")

from gapgrid.core.records import Row, read_jsonl, write_json
from gapgrid.demo import arithmetic
from tests.engines.helpers import ARCHITECTURE, STAND_IN, benchmark, edit_json
from tests.engines.scripted_server import Script, Server


@pytest.fixture(scope="session")
def rows() -> list[Row]:
    return [{**row, "source": "long"} for row in arithmetic.answered("long", 48, 3)]


@pytest.fixture(scope="session")
def problems() -> list[Any]:
    return benchmark(10)


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    for name, content in arithmetic.tokenizer_files().items():
        write_json(folder / name, content)
    return folder


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory, tokenizer_folder: Path) -> Callable[..., Path]:
    """`build(**changes of the architecture)`: the folder of a new student."""
    from gapgrid.engines import tiny

    def build(**changes: int) -> Path:
        folder = tmp_path_factory.mktemp("student") / "model"
        tiny.build({**ARCHITECTURE, **changes}, tokenizer_folder, 0, folder)
        return folder

    return build


@pytest.fixture(scope="session")
def student(build: Callable[..., Path]) -> Path:
    return build()


@pytest.fixture
def changed(student: Path, tmp_path: Path) -> Callable[..., Path]:
    """`changed(name, file=keys)`: a copy of the student whose `file`.json has these keys."""

    def copy(name: str = "changed", **files: Row) -> Path:
        folder = Path(shutil.copytree(student, tmp_path / name))
        for file, keys in files.items():
            edit_json(folder / f"{file}.json", **keys)
        return folder

    return copy


class Calls:
    """The calls of the stand-in for vLLM, from this process and those that it started."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def of(self, key: str) -> list[Row]:
        """Return the calls that noted something under this key."""
        return [row for row in read_jsonl(self.file) if key in row] if self.file.exists() else []

    def max_model_lens(self) -> list[int]:
        """Return the argument of every load."""
        return [row["load"]["max_model_len"] for row in self.of("load")]


@pytest.fixture
def vllm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Calls]:
    """`import vllm` gives the stand-in, here and in processes started from here."""
    for name in [name for name in sys.modules if name.split(".")[0] == "vllm"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(STAND_IN)
    monkeypatch.setenv("STAND_IN_CALLS", str(tmp_path / "calls.jsonl"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    yield Calls(tmp_path / "calls.jsonl")
    sys.modules.pop("vllm", None)


@pytest.fixture
def serve() -> Iterator[Callable[[Script], Server]]:
    """`serve(script)`: a running scripted server."""
    running = []

    def start(script: Script) -> Server:
        running.append(Server(script))
        running[-1].start()
        return running[-1]

    yield start
    for server in running:
        server.shutdown()
        server.server_close()
