"""Reads and checks `config/<grid>/`: YAML in, one dict out, every mistake reported at once.

Each message names the file, the key, what was found and what was expected.
"""

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from gapgrid.config.checks import awaited, cross_problems, did_you_mean, engine_problems, unpinned
from gapgrid.config.reference import read_reference, reference_problems
from gapgrid.core.records import InputError, fail_if
from gapgrid.grid.cells import Grid

SECTIONS = ("models", "recipes", "sources", "mixes", "benchmarks", "experiments", "hardware")
FILES = ("grid", "judge", *SECTIONS)
OPTIONAL = ("adopted",)
REFERENCE = "reference.csv"
# Keys of --config: which grid, where its results are, and the one key that overrides grid.yaml.
OPTIONS = ("seeds", "grid", "results")
WORKFLOW = Path(__file__).parents[2]
SCHEMAS = WORKFLOW / "schemas"
JUDGES = WORKFLOW / "judges"
REPOSITORY = WORKFLOW.parent


def load_grid(
    name: str, overrides: dict[str, Any] | None = None, root: Path = Path("config")
) -> Grid:
    """Read the grid `root/name`, check it, and return it as one dict.

    Both are as `--config` gives them, of any type; of the grid's own keys only `seeds` may be
    among `overrides`.
    Raises `InputError` with all mistakes.
    """
    name = str(name) if isinstance(name, int) else name  # --config grid=1
    if not isinstance(name, str) or name in ("", ".", "..") or "/" in name:
        raise InputError(
            f"--config grid: found {name!r}, expected the name of a folder in {Path(root)}"
        )
    folder = Path(root) / name
    if not folder.is_dir():
        grids = sorted(entry.name for entry in Path(root).glob("*/"))
        raise InputError(
            f"{folder}: no such grid{did_you_mean(name, grids)}; "
            f"there is {', '.join(grids) or 'none'}"
        )
    documents = _read_documents(folder, overrides or {})
    grid: Grid = {"name": name, "folder": folder.as_posix(), **documents.pop("grid"), **documents}
    grid["seeds"] = [int(seed) for seed in grid["seeds"]]  # to the schema, 1.0 is an integer
    grid["judge"] = judge_settings(folder, grid["judge"])
    grid["awaited"] = awaited(grid)
    for experiment in grid["awaited"]:
        del grid["experiments"][experiment]
    file = folder / REFERENCE
    grid["reference"] = read_reference(file)
    references = reference_problems(grid, grid["reference"], file)
    fail_if(sorted({*cross_problems(grid), *references}))
    grid["versions"] = locked_versions(REPOSITORY / "envs" / f"{grid['environment']}.txt")
    fail_if(list(engine_problems(grid)))
    return grid


def _read_documents(folder: Path, overrides: dict[str, Any]) -> dict[str, Any]:
    """Return the content of each file by its stem; an `InputError` lists what breaks a schema."""
    documents: dict[str, Any] = {}
    problems = [
        f"--config: unknown key '{key}'{did_you_mean(key, OPTIONS)}; "
        "expected grid, results or seeds"
        for key in sorted(overrides.keys() - set(OPTIONS))
    ]
    results = overrides.get("results", "results")
    if not isinstance(results, str) or not results or re.search(r"\s", results):
        expected = "the path of a folder, without spaces"
        problems.append(f"--config results: found {results!r}, expected {expected}")
    for name in (*FILES, *OPTIONAL):
        file = folder / f"{name}.yaml"
        try:
            is_left_out = name in OPTIONAL and not file.exists()
            document = None if is_left_out else read_yaml(file)
        except InputError as error:
            problems.append(str(error))
            continue
        if name in OPTIONAL and document is None:  # no such file, or nothing but comments in it
            document = {}
        if name == "grid" and isinstance(document, dict) and "seeds" in overrides:
            document["seeds"] = _integers(overrides["seeds"])
        documents[name] = document
        schema = (SCHEMAS / f"{name}.schema.yaml").read_text(encoding="utf-8")
        problems += schema_problems(file, document, yaml.safe_load(schema))
    fail_if(problems)
    return documents


def _integers(value: Any) -> Any:
    """Return seeds from the command line, where `--config 'seeds=[0,1]'` is a list of texts."""
    if not isinstance(value, list):
        return value
    return [int(item) if isinstance(item, str) and item.isdecimal() else item for item in value]


def warnings(grid: Grid) -> list[str]:
    """Return what is not wrong with a grid but should be known before it is built."""
    waiting = [
        f"experiments.yaml: {name} is left out until its data are there: {', '.join(files)}"
        for name, files in grid["awaited"].items()
    ]
    return [*unpinned(grid), *waiting]


def judge_settings(folder: Path, given: dict[str, Any]) -> dict[str, Any]:
    """Return the judge's preset with what judge.yaml gives on top.

    `prompt` is the path of the prompt file, relative to the working directory if it is below it:
    it is a rule's input, and folders move.
    """
    preset = given.get("preset", "paper")
    prompt = folder / "prompts" / given["prompt"] if "prompt" in given else JUDGES / f"{preset}.txt"
    if prompt.resolve().is_relative_to(Path.cwd()):
        prompt = prompt.resolve().relative_to(Path.cwd())
    settings = {"policy": "undecided", **read_yaml(JUDGES / f"{preset}.yaml")}
    if "model" in given:
        settings["revision"] = "main"  # the preset's revision is of its own model
    settings |= {**given, "prompt": prompt.as_posix()}
    return {key: value for key, value in settings.items() if key != "preset"}


# ---- YAML ----


class _UniqueKeys(yaml.SafeLoader):
    """YAML that refuses a key given twice, where plain YAML silently keeps the last."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Return a node's value; an `InputError` names what looks like a date but is none."""
        try:
            return super().construct_object(node, deep)
        except ValueError as error:
            where = f"{self.name}:{node.start_mark.line + 1}"
            text = str(node.value)
            shown = text if len(text) <= 40 else f"{text[:40]}…"
            raise InputError(
                f"{where}: found {shown}, which YAML cannot read ({error}); put text in quotes"
            ) from None


def _mapping(loader: _UniqueKeys, node: yaml.MappingNode) -> dict[Any, Any]:
    lines: dict[str, int] = {}
    for key_node, _ in node.value:
        if key_node.tag == "tag:yaml.org,2002:merge":
            continue
        key = loader.construct_object(key_node, deep=True)
        line = key_node.start_mark.line + 1
        where = f"{loader.name}:{line}: key"
        if not isinstance(key, str):
            kind = type(key).__name__
            raise InputError(f"{where} {key!r} is read as {kind}, expected text; put it in quotes")
        if key in lines:
            raise InputError(f"{where} '{key}' is given twice, first in line {lines[key]}")
        lines[key] = line
    loader.flatten_mapping(node)
    return {
        loader.construct_object(key, deep=True): loader.construct_object(value, deep=True)
        for key, value in node.value
    }


def _finite(loader: _UniqueKeys, node: yaml.ScalarNode) -> float:
    value = float(loader.construct_yaml_float(node))
    if not math.isfinite(value):
        where = f"{loader.name}:{node.start_mark.line + 1}"
        raise InputError(f"{where}: found {node.value}, expected a finite number")
    return value


_UniqueKeys.add_constructor("tag:yaml.org,2002:map", _mapping)
_UniqueKeys.add_constructor("tag:yaml.org,2002:float", _finite)


def read_yaml(path: Path) -> Any:
    """Read one YAML file; an `InputError` names the file and the line."""
    try:
        with open(path, encoding="utf-8") as file:
            return yaml.load(file, Loader=_UniqueKeys)
    except FileNotFoundError:
        needed = ", ".join(f"{name}.yaml" for name in FILES)
        raise InputError(f"{path}: no such file; a grid needs {needed}") from None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: invalid UTF-8 ({error.reason} at byte {error.start})") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None


# ---- schemas ----


def schema_problems(path: Path, document: Any, schema: dict[str, Any]) -> list[str]:
    """Return a message for each way in which a file's content breaks its schema, sorted."""
    errors = jsonschema.Draft202012Validator(schema).iter_errors(document)
    return sorted({message for error in errors for message in _explain(path, error)})


def _explain(path: Path, error: jsonschema.ValidationError) -> Iterator[str]:
    key = ".".join(str(part) for part in error.absolute_path)
    where = f"{path}: {key}" if key else str(path)
    schema = error.schema if isinstance(error.schema, dict) else {}
    value: Any = error.validator_value
    match error.validator, error.instance:
        case "additionalProperties", dict(entry):
            known = list(schema.get("properties", {}))
            patterns = list(schema.get("patternProperties", {}))
            for name in entry:
                if name in known or any(re.search(pattern, str(name)) for pattern in patterns):
                    continue
                if patterns and not known:
                    yield (
                        f"{where}: name '{name}' found, "
                        f"expected lower-case letters, digits and . _ - ({patterns[0]})"
                    )
                else:
                    hint, expected = did_you_mean(name, known), ", ".join(known)
                    yield f"{where}: unknown key '{name}'{hint}; expected one of {expected}"
        case "required", dict(entry):
            for name in value:
                if name not in entry:
                    description = schema["properties"][name].get("description", "it is required")
                    yield f"{where}: key '{name}' is missing; {description}"
        case validator, instance:
            text = repr(instance)
            shown = text if len(text) <= 60 else f"{text[:57]}…"
            yield f"{where}: found {shown}, expected {_expected(error, str(validator), value)}"


def _expected(error: jsonschema.ValidationError, validator: str, value: Any) -> str:
    match validator:
        case "type":
            return str(value)
        case "enum":
            return f"one of {', '.join(map(str, value))}{did_you_mean(error.instance, value)}"
        case "minimum":
            return f"at least {value}"
        case "maximum":
            return f"at most {value}"
        case "exclusiveMinimum":
            return f"more than {value}"
        case "exclusiveMaximum":
            return f"less than {value}"
        case "minItems" | "minProperties" | "minLength":
            return f"at least {value} of them"
        case "maxItems":
            return f"at most {value} of them"
        case "uniqueItems":
            return "each entry once"
        case "oneOf":
            return "the word all, or a list of names, each once"
        case _:
            return str(error.message)


# ---- locks ----


def locked_versions(lock: Path) -> dict[str, str]:
    """Return package -> version, as a lock of `name==version` lines pins them.

    Planning needs none of them installed.
    """
    if not lock.is_file():
        raise InputError(f"{lock}: no such file; grid.yaml's environment names it")
    line = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;#]+)", re.MULTILINE)
    pinned = line.findall(lock.read_text(encoding="utf-8"))
    return {name.lower().replace("-", "_"): version for name, version in pinned}
