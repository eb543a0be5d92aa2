"""Holds that no stage changes what it computes while its version stays as it is.

Snakemake reruns a job when its spec changes, and a spec holds the version of its stage (VERSIONS
in grid/specs.py); it sees nothing of the code itself. So the syntax tree of every module that a
stage computes with is recorded here, beside the stage's version. When a module has changed,
`tests/unit/test_versions.py` fails until somebody says what that means:

- results change: raise the stage's version, then `python -m tests.versions`
- they do not (a new name, a new message): `python -m tests.versions --computes-the-same STAGE …`
"""

import argparse
import ast
import functools
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gapgrid.grid.specs import VERSIONS

PACKAGE = Path(__file__).parents[1] / "workflow" / "gapgrid"
RECORD = Path(__file__).with_suffix(".json")
# The frame of a command line, and who may use which GPU: neither decides a result.
NO_COMPUTATION = {"core/stage_cli.py", "core/gpu_lock.py"}
IGNORED_FIELDS = {"annotation", "returns", "type_params", "type_comment", "kind", "ctx"}


def module_file(package: Path, name: str) -> Path | None:
    """Return the file of a module of gapgrid by its dotted name, None for anything else."""
    path = package.joinpath(*name.split(".")[1:]).with_suffix(".py")
    return path if name.startswith("gapgrid.") and path.is_file() else None


@functools.cache
def imported(text: str) -> frozenset[str]:
    """Return every name that a module's text imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.update([str(node.module), *(f"{node.module}.{item.name}" for item in node.names)])
    return frozenset(names)


def modules_of(stage: str, package: Path = PACKAGE) -> set[str]:
    """Return the modules that a stage computes with, and its own, as paths in the package."""
    waiting, reached = [package / "stages" / f"{stage}.py"], set()
    while waiting:
        file = waiting.pop()
        name = file.relative_to(package).as_posix()
        if file.is_file() and name not in reached | NO_COMPUTATION:
            reached.add(name)
            names = imported(file.read_text(encoding="utf-8"))
            waiting.extend(filter(None, (module_file(package, name) for name in names)))
    return reached


@functools.cache
def digest(text: str) -> str:
    """Return a digest of a module's syntax tree without docstrings and annotations.

    It is the same under every Python from 3.11 on, where ast.dump and ast.unparse are not.
    """
    tree = _shape(ast.parse(text))
    return hashlib.sha256(json.dumps(tree).encode()).hexdigest()[:16]


def _shape(node: Any) -> Any:
    if isinstance(node, list):
        return [_shape(item) for item in node if not _is_docstring(item)]
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = ((name, value) for name, value in ast.iter_fields(node) if value not in (None, []))
    shapes = {name: _shape(value) for name, value in fields if name not in IGNORED_FIELDS}
    return [type(node).__name__, shapes]


def _is_docstring(node: Any) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def current(package: Path = PACKAGE, versions: Mapping[str, int] = VERSIONS) -> dict[str, Any]:
    """Return what stands in the code now, in the form of the record."""
    used = set().union(*(modules_of(stage, package) for stage in versions))
    texts = {name: (package / name).read_text(encoding="utf-8") for name in sorted(used)}
    digests = {name: digest(text) for name, text in texts.items()}
    return {"versions": dict(versions), "modules": digests}


def unexplained(
    recorded: Mapping[str, Any], now: Mapping[str, Any], package: Path = PACKAGE
) -> dict[str, list[str]]:
    """Return stage -> its changed modules, for stages whose version has not been raised."""
    changed = {
        name for name, value in now["modules"].items() if recorded["modules"].get(name) != value
    }
    suspects = {stage: sorted(modules_of(stage, package) & changed) for stage in now["versions"]}
    return {
        stage: names
        for stage, names in suspects.items()
        if names and now["versions"][stage] <= recorded["versions"].get(stage, 0)
    }


def main() -> None:
    """Record the code as it stands, unless a change has not been explained."""
    parser = argparse.ArgumentParser(prog="python -m tests.versions", description=__doc__)
    parser.add_argument("--computes-the-same", nargs="+", default=[], metavar="STAGE")
    same = parser.parse_args().computes_the_same
    now = current()
    if unknown := set(same) - {*VERSIONS, "all"}:
        parser.error(f"no stage {', '.join(sorted(unknown))}; expected all, {', '.join(VERSIONS)}")
    recorded = (
        json.loads(RECORD.read_text()) if RECORD.is_file() else {"versions": {}, "modules": {}}
    )
    open_questions = {
        stage: names
        for stage, names in unexplained(recorded, now).items()
        if stage not in same and "all" not in same
    }
    for stage, names in open_questions.items():
        print(f"{stage}, version {VERSIONS[stage]}, computes with changed code: {', '.join(names)}")
    if open_questions:
        parser.exit(1, f"raise their versions, or say that they compute the same\n{__doc__}")
    RECORD.write_text(json.dumps(now, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
