"""Imports go one way: rules -> grid, stages -> records and their own engine, lazily; only engines import what is heavy."""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = Path(__file__).parents[2] / "workflow" / "gapgrid"
WORKFLOW = PACKAGE.parent
STAGES = (
    "tokenizer",
    "fetch",
    "source",
    "mix",
    "base",
    "train",
    "problems",
    "selftest",
    "evaluate",
    "grade",
    "judge",
    "score",
    "audit",
    "table",
    "figure",
    "shift",
    "shift_figure",
    "case",
)
HEAVY = {
    *("torch", "transformers", "peft", "trl", "accelerate", "deepspeed", "vllm", "sglang"),
    *("lm_eval", "datasets", "huggingface_hub", "openai", "safetensors"),
}
ANALYSIS = {"numpy", "pandas", "scipy", "matplotlib", "sympy", "math_verify"}
MODULES = sorted(PACKAGE.rglob("*.py"))
ROOMS = {"gapgrid", *(f"gapgrid.{folder.parent.name}" for folder in PACKAGE.glob("*/__init__.py"))}
ENGINES = [file for file in MODULES if file.parent.name == "engines"]


class Import(NamedTuple):
    """One imported module, and whether it is imported when the file is."""

    module: str
    at_once: bool

    @property
    def package(self) -> str:
        """Its first name."""
        return self.module.split(".")[0]


def imports(text: str) -> Iterator[Import]:
    """Every import of a module's text; `from gapgrid import x` counts as `gapgrid.x`."""

    def walk(node: ast.AST, at_once: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from (Import(alias.name, at_once) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, "relative imports hide where they lead"
                module = child.module or ""
                if module in ROOMS:
                    yield from (Import(f"{module}.{alias.name}", at_once) for alias in child.names)
                else:
                    yield Import(module, at_once)
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from walk(child, at_once and not inside)

    yield from walk(ast.parse(text), True)


def imports_of(file: Path) -> list[Import]:
    """Every import of a file."""
    return list(imports(file.read_text(encoding="utf-8")))


def ours(file: Path) -> set[str]:
    """The modules of gapgrid that a file imports, without the package's name."""
    return {found.module.removeprefix("gapgrid.") for found in imports_of(file) if found.package == "gapgrid"}


def test_imports_are_found_wherever_they_stand() -> None:
    text = """
import os, a.b
from gapgrid import grid as g, records
from gapgrid.engines import hub
try:
    import c
except ImportError:
    pass
class K:
    import d
    def f(self):
        from gapgrid.engines.tokens import x
        async def g():
            import e
"""
    now = ["os", "a.b", "gapgrid.grid", "gapgrid.records", "gapgrid.engines.hub", "c", "d"]
    later = ["gapgrid.engines.tokens", "e"]
    assert list(imports(text)) == [Import(name, True) for name in now] + [Import(name, False) for name in later]


def test_there_is_a_module_for_each_stage() -> None:
    assert {f"{stage}.py" for stage in STAGES} <= {file.name for file in PACKAGE.glob("*.py")}
    with_main = {file.stem for file in PACKAGE.glob("*.py") if "run_stage(parser" in file.read_text() and file.stem != "command"}
    assert with_main == set(STAGES)


def test_grid_imports_the_standard_library_alone() -> None:
    assert {found.package for found in imports_of(PACKAGE / "grid.py")} <= sys.stdlib_module_names


@pytest.mark.parametrize("name", ["records", "manifest", "answers", "responses", "ledger", "command", "truncation", "comparability"])
def test_what_all_stages_share_needs_the_standard_library_at_once(name: str) -> None:
    others = {found.package for found in imports_of(PACKAGE / f"{name}.py") if found.at_once} - sys.stdlib_module_names
    assert others <= {"gapgrid"}


@pytest.mark.parametrize("file", sorted((PACKAGE / "demo").glob("*.py")), ids=lambda file: file.stem)
def test_generators_import_the_standard_library_alone(file: Path) -> None:
    assert {found.package for found in imports_of(file)} <= sys.stdlib_module_names


def assert_below(found: set[str]) -> None:
    """Nothing that stages do not know is imported: another stage, the grid's configuration, a command."""
    assert found & {*STAGES, "grid", "config", "cli"} == set()
    assert not {module for module in found if module.startswith(("commands.", "page."))}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_knows_neither_another_stage_nor_the_grid(stage: str) -> None:
    assert_below(ours(PACKAGE / f"{stage}.py"))


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_imports_its_engine_when_it_needs_it(stage: str) -> None:
    at_once = {found.module for found in imports_of(PACKAGE / f"{stage}.py") if found.at_once}
    assert not {module for module in at_once if module.startswith("gapgrid.engines")}


SHARED = ["records", "manifest", "answers", "responses", "ledger", "command", "statistics", "gaps", "power"]
OF_TABLES = ["truncation", "comparability", "estimating", *(f"tables/{name}" for name in ("published", "sheets", "typeset", "numerals"))]
OF_ANSWERS = [f"maths/{file.stem}" for file in MODULES if file.parent.name == "maths"]
OF_FIGURES = [f"plots/{file.stem}" for file in MODULES if file.parent.name == "plots"]


def test_what_fixes_a_table_is_said_without_reading_any_result() -> None:
    assert ours(PACKAGE / "claims.py") <= {"comparability", "grid", "reference"}
    assert {found.package for found in imports_of(PACKAGE / "claims.py")} - {"gapgrid"} <= sys.stdlib_module_names
    assert ours(PACKAGE / "methods.py") == {"claims", "grid"}
    assert {found.package for found in imports_of(PACKAGE / "methods.py")} - {"gapgrid"} <= sys.stdlib_module_names


@pytest.mark.parametrize("name", [*SHARED, *OF_TABLES, *OF_ANSWERS, *OF_FIGURES])
def test_what_stages_share_imports_no_stage(name: str) -> None:
    found = ours(PACKAGE / f"{name}.py")
    assert_below(found)
    assert not {module for module in found if module.startswith("engines")}


@pytest.mark.parametrize("file", [file for file in MODULES if file not in ENGINES], ids=lambda file: file.stem)
def test_only_engines_import_what_is_heavy(file: Path) -> None:
    assert {found.package for found in imports_of(file)} & HEAVY == set()
    assert "snakemake" not in {found.package for found in imports_of(file)}


@pytest.mark.parametrize("file", ENGINES, ids=lambda file: file.stem)
def test_an_engine_knows_records_responses_and_engines(file: Path) -> None:
    for module in ours(file):
        assert module in ("records", "responses", "judging") or module.startswith("engines."), module


def test_there_are_engines_and_they_import_what_is_heavy() -> None:
    found = {imported.package for file in ENGINES for imported in imports_of(file)}
    assert {"torch", "transformers", "lm_eval", "datasets", "openai"} <= found


@pytest.mark.parametrize("file", [WORKFLOW / "Snakefile", *sorted((WORKFLOW / "rules").glob("*.smk"))], ids=lambda file: file.stem)
def test_rules_import_config_grid_and_records_alone(file: Path) -> None:
    lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    statements = [line for line in lines if re.match(r"(import|from) \w", line)]
    found = {imported.module for line in statements for imported in imports(line) if imported.package == "gapgrid"}
    assert found <= {f"gapgrid.{name}" for name in ("claims", "closeups", "config", "grid", "methods", "records")}
    assert not {imported.package for line in statements for imported in imports(line)} & (HEAVY | ANALYSIS)


def test_common_rules_import_the_grid() -> None:
    assert "from gapgrid import grid" in (WORKFLOW / "rules" / "common.smk").read_text(encoding="utf-8")


# ---- what is really loaded ----

LOADED = """
import importlib, json, sys
for name in sys.argv[1:]:
    importlib.import_module(f"gapgrid.{name}")
print(json.dumps(sorted({name.split(".")[0] for name in sys.modules})))
"""


def loaded(*names: str) -> set[str]:
    """The packages that a fresh process holds after importing these modules."""
    done = subprocess.run([sys.executable, "-c", LOADED, *names], capture_output=True, text=True, check=True, timeout=120)
    return set(json.loads(done.stdout))


def test_importing_every_stage_loads_nothing_heavy() -> None:
    found = loaded(*STAGES)
    assert {"gapgrid", "pandas", "matplotlib"} <= found
    assert found & (HEAVY | {"snakemake"}) == set()


def test_planning_loads_neither_engines_nor_analysis() -> None:
    assert loaded("claims", "config", "grid", "records") & (HEAVY | ANALYSIS | {"snakemake"}) == set()


def test_the_light_stages_of_a_cell_load_little() -> None:
    assert loaded("grade", "score") & (HEAVY | ANALYSIS | {"snakemake", "jsonschema", "yaml"}) == set()
