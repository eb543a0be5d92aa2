"""Imports go one way, as docs/architecture.md draws it; heavy packages are for engines alone."""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from gapgrid.grid.specs import VERSIONS

WORKFLOW = Path(__file__).parents[2] / "workflow"
PACKAGE = WORKFLOW / "gapgrid"
MODULES = sorted(file for file in PACKAGE.rglob("*.py") if file.name != "__init__.py")

LIBRARIES = {"core", "grading", "judging", "stores", "stats", "interop", "reporting"}
# Package -> the packages it may import besides itself. A nested one is named where it may more.
MAY_IMPORT = {
    "core": set(),
    "grading": {"core"},
    "judging": {"core"},
    "stores": {"core"},
    "stats": {"core"},
    "demo": set(),
    "grid": {"core"},
    "config": {"core", "grid"},
    "state": {"core", "grid", "stores"},
    "interop": {"core", "grading", "judging"},
    "reporting": {"core", "stats"},
    "reporting.dashboard": {"core", "stats", "state", "grid", "reporting"},
    "engines": {"core", "judging", "stores"},
    "stages": LIBRARIES | {"engines", "demo"},
    "commands": LIBRARIES | {"grid", "config", "state", "stages", "engines", "reporting.dashboard"},
    "cli": {"core", "interop", "commands"},
    "rules": {"core", "config", "grid"},
}
HEAVY = {
    *("torch", "transformers", "peft", "trl", "accelerate", "deepspeed", "vllm", "sglang"),
    *("lm_eval", "datasets", "huggingface_hub", "openai", "safetensors"),
}
ANALYSIS = {"numpy", "pandas", "scipy", "matplotlib", "sympy", "math_verify"}


class Import(NamedTuple):
    """One imported module, and whether it is imported when the file is."""

    module: str
    at_once: bool


def imports(text: str) -> Iterator[Import]:
    """Every import of a module's text; a name imported from a package counts as its module."""

    def walk(node: ast.AST, at_once: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from (Import(alias.name, at_once) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, "relative imports hide where they lead"
                module = child.module or ""
                if (PACKAGE.parent / module.replace(".", "/") / "__init__.py").is_file():
                    yield from (Import(f"{module}.{alias.name}", at_once) for alias in child.names)
                else:
                    yield Import(module, at_once)
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from walk(child, at_once and not inside)

    yield from walk(ast.parse(text), True)


def room_of(module: str) -> str:
    """The row of the table that a module of gapgrid belongs to."""
    names = module.removeprefix("gapgrid.").split(".")
    return ".".join(names[:2]) if ".".join(names[:2]) in MAY_IMPORT else names[0]


def name_of(file: Path) -> str:
    return ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts)


def of_gapgrid(text: str) -> set[str]:
    return {found.module for found in imports(text) if found.module.startswith("gapgrid.")}


def packages(file: Path, at_once: bool = False) -> set[str]:
    """The top-level packages that a file imports; `at_once`, only those imported with it."""
    found = imports(file.read_text(encoding="utf-8"))
    return {entry.module.split(".")[0] for entry in found if entry.at_once or not at_once}


def test_imports_are_found_wherever_they_stand() -> None:
    text = """
import os, a.b
from gapgrid.core import cells as c, records
from gapgrid.core.cells import Cell
try:
    import c
except ImportError:
    pass
class K:
    def f(self):
        from gapgrid.engines.tokens import x
        async def g():
            import e
"""
    cells = ["gapgrid.core.cells", "gapgrid.core.records", "gapgrid.core.cells"]
    now, later = ["os", "a.b", *cells, "c"], ["gapgrid.engines.tokens", "e"]
    expected = [*(Import(name, True) for name in now), *(Import(name, False) for name in later)]
    assert list(imports(text)) == expected


@pytest.mark.parametrize("file", MODULES, ids=name_of)
def test_a_module_imports_only_what_the_table_allows(file: Path) -> None:
    own = room_of(name_of(file))
    text = file.read_text(encoding="utf-8")
    reached = {room_of(module) for module in of_gapgrid(text)}
    assert reached - {own} <= MAY_IMPORT[own]
    if own == "stages":  # a stage knows no other stage, and loads an engine when it needs it
        assert own not in reached
        at_once = {entry.module for entry in imports(text) if entry.at_once}
        assert not {module for module in at_once if room_of(module) == "engines"}
    if own != "engines":
        assert not packages(file) & (HEAVY | {"snakemake"})


def test_the_table_has_no_circle_and_a_row_for_each_package() -> None:
    left = {room: set(below) for room, below in MAY_IMPORT.items()}
    while free := {room for room, below in left.items() if not below}:
        left = {room: below - free for room, below in left.items() if room not in free}
    assert not left
    assert {room_of(name_of(file)) for file in MODULES} | {"rules"} == MAY_IMPORT.keys()


@pytest.mark.parametrize(
    "file",
    [WORKFLOW / "Snakefile", *sorted((WORKFLOW / "rules").glob("*.smk"))],
    ids=lambda file: file.stem,
)
def test_rules_import_only_what_the_table_allows(file: Path) -> None:
    lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    text = "\n".join(line for line in lines if re.match(r"(import|from) \w", line))
    assert {room_of(module) for module in of_gapgrid(text)} <= MAY_IMPORT["rules"]
    assert not {entry.module.split(".")[0] for entry in imports(text)} & (HEAVY | ANALYSIS)


@pytest.mark.parametrize(
    "file",
    [file for file in MODULES if room_of(name_of(file)) in ("core", "grid", "demo")],
    ids=name_of,
)
def test_core_grid_and_demo_need_the_standard_library_alone(file: Path) -> None:
    assert packages(file, at_once=True) <= {*sys.stdlib_module_names, "gapgrid"}


def test_there_is_a_module_for_each_stage() -> None:
    modules = {file.stem for file in (PACKAGE / "stages").glob("[a-z]*.py")}
    assert modules == VERSIONS.keys() - {"request"}, "a request is written by its rule alone"


# ---- what is really loaded ----

LOADED = """
import importlib, json, sys
for name in sys.argv[1:]:
    importlib.import_module(f"gapgrid.{name}")
print(json.dumps(sorted({name.split(".")[0] for name in sys.modules})))
"""


def loaded(*names: str) -> set[str]:
    """The packages that a fresh process holds after importing these modules."""
    command = [sys.executable, "-c", LOADED, *names]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return set(json.loads(done.stdout))


def test_importing_every_stage_loads_nothing_heavy() -> None:
    found = loaded(*(f"stages.{stage}" for stage in VERSIONS if stage != "request"))
    assert {"gapgrid", "pandas", "matplotlib"} <= found
    assert not found & (HEAVY | {"snakemake"})


def test_planning_loads_neither_engines_nor_analysis() -> None:
    assert not loaded("config.load", "grid.jobs") & (HEAVY | ANALYSIS | {"snakemake"})


def test_the_light_stages_of_a_cell_load_little() -> None:
    found = loaded("stages.grade", "stages.score")
    assert not found & (HEAVY | ANALYSIS | {"snakemake", "jsonschema", "yaml"})
