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

from gapgrid import reference
from gapgrid.crosschecks import awaited, check_cards, check_disk, cross_problems, did_you_mean, engine_problems, unpinned
from gapgrid.grid import Grid
from gapgrid.records import InputError, fail_if

SECTIONS = ("models", "recipes", "sources", "mixes", "benchmarks", "experiments", "hardware")
FILES = ("grid", "judge", *SECTIONS)
OPTIONAL = ("adopted",)
REFERENCE = "reference.csv"
__all__ = ["check_cards", "check_disk", "load", "locked_versions", "warnings"]
OVERRIDABLE = ("seeds",)
CHOOSING = ("grid", "results")  # keys of --config that say which grid, and where its results are
SCHEMAS = Path(__file__).parents[1] / "schemas"
JUDGES = Path(__file__).parents[1] / "judges"
REPOSITORY = Path(__file__).parents[2]


def load(name: str, overrides: dict[str, Any] | None = None, root: Path = Path("config")) -> Grid:
    """Read the grid `root/name`, check it, and return it as one dict.

    `overrides` are keys given by `--config`; of the grid's own only `seeds` may be among them. Raises `InputError` with all mistakes.
    """
    folder = Path(root) / name
    if not folder.is_dir():
        known = sorted(entry.name for entry in Path(root).iterdir() if entry.is_dir()) if Path(root).is_dir() else []
        raise InputError(f"{folder}: no such grid{did_you_mean(name, known)}; there is {', '.join(known) or 'none'}")
    documents: dict[str, Any] = {}
    problems: list[str] = []
    for file in (*FILES, *OPTIONAL):
        try:
            is_left_out = file in OPTIONAL and not (folder / f"{file}.yaml").exists()
            documents[file] = {} if is_left_out else read_yaml(folder / f"{file}.yaml")
        except InputError as error:
            problems.append(str(error))
    for key in sorted(set(overrides or {}) - {*OVERRIDABLE, *CHOOSING}):
        problems.append(f"--config: unknown key '{key}'{did_you_mean(key, (*OVERRIDABLE, *CHOOSING))}; expected grid, results or seeds")
    if isinstance(documents.get("grid"), dict):
        given = {key: _plain(value) for key, value in (overrides or {}).items() if key in OVERRIDABLE}
        documents["grid"].update(given)
    for file, document in documents.items():
        problems.extend(schema_problems(folder / f"{file}.yaml", document, _schema(file)))
    fail_if(problems)
    settings = documents.pop("grid")
    settings["seeds"] = [int(seed) for seed in settings["seeds"]]  # YAML's 1.0 is an integer to the schema
    documents["judge"] = judge_settings(folder, documents["judge"])
    grid: Grid = {"name": name, "folder": folder.as_posix(), **settings, **documents}
    grid["awaited"] = awaited(grid)
    grid["experiments"] = {name: entry for name, entry in grid["experiments"].items() if name not in grid["awaited"]}
    grid["reference"] = reference.read(folder / REFERENCE)
    fail_if(sorted({*cross_problems(grid), *reference.problems(grid, grid["reference"], folder / REFERENCE)}))
    grid["versions"] = locked_versions(REPOSITORY / "envs" / f"{grid['environment']}.txt")
    fail_if(list(engine_problems(grid)))
    return grid


def warnings(grid: Grid) -> list[str]:
    """What is not wrong with a grid but should be known before it is built."""
    waiting = [
        f"experiments.yaml: {name} is left out until its data are there: {', '.join(files)}" for name, files in grid["awaited"].items()
    ]
    return [*unpinned(grid), *waiting]


def judge_settings(folder: Path, given: dict[str, Any]) -> dict[str, Any]:
    """The judge's preset with what judge.yaml gives on top; `prompt` becomes the path of the prompt file."""
    preset = given.get("preset", "paper")
    prompt = folder / "prompts" / given["prompt"] if "prompt" in given else JUDGES / f"{preset}.txt"
    settings = {"policy": "undecided", **read_yaml(JUDGES / f"{preset}.yaml")}
    if "model" in given:
        settings["revision"] = "main"  # the preset's revision is of its own model
    settings = {**settings, **given, "prompt": _shown(prompt)}
    return {key: value for key, value in settings.items() if key != "preset"}


def _shown(path: Path) -> str:
    """A path below the working directory as seen from there: it is a rule's input, and folders move."""
    return path.resolve().relative_to(Path.cwd()).as_posix() if path.resolve().is_relative_to(Path.cwd()) else path.as_posix()


def _plain(value: Any) -> Any:
    """A value from the command line, where `--config 'seeds=[0,1]'` arrives as a list of texts."""
    return [int(item) if isinstance(item, str) and item.isdecimal() else item for item in value] if isinstance(value, list) else value


class _UniqueKeys(yaml.SafeLoader):
    """YAML that refuses a key given twice, where plain YAML keeps the last and says nothing."""


def _mapping(loader: _UniqueKeys, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: dict[str, int] = {}
    for key_node, _ in node.value:
        if key_node.tag == "tag:yaml.org,2002:merge":
            continue
        key = loader.construct_object(key_node, deep=True)
        line = key_node.start_mark.line + 1
        if not isinstance(key, str):
            raise InputError(f"{loader.name}:{line}: key {key!r} is read as {type(key).__name__}, expected text; put it in quotes")
        if key in seen:
            raise InputError(f"{loader.name}:{line}: key '{key}' is given twice, first in line {seen[key]}")
        seen[key] = line
    loader.flatten_mapping(node)
    return {loader.construct_object(key, deep=True): loader.construct_object(value, deep=True) for key, value in node.value}


def _finite(loader: _UniqueKeys, node: yaml.ScalarNode) -> float:
    value = float(loader.construct_yaml_float(node))
    if not math.isfinite(value):
        raise InputError(f"{loader.name}:{node.start_mark.line + 1}: found {node.value}, expected a finite number")
    return value


_UniqueKeys.add_constructor("tag:yaml.org,2002:map", _mapping)
_UniqueKeys.add_constructor("tag:yaml.org,2002:float", _finite)


def read_yaml(path: Path) -> Any:
    """Read one YAML file; an `InputError` names the file and the line."""
    try:
        with open(path, encoding="utf-8") as file:
            loader = _UniqueKeys(file)
            loader.name = str(path)
            try:
                return loader.get_single_data()
            finally:
                loader.dispose()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; a grid needs {', '.join(f'{name}.yaml' for name in FILES)}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: invalid UTF-8 ({error.reason} at byte {error.start})") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None


def _schema(file: str) -> dict[str, Any]:
    with open(SCHEMAS / f"{file}.schema.yaml", encoding="utf-8") as source:
        return yaml.safe_load(source)


def schema_problems(path: Path, document: Any, schema: dict[str, Any]) -> list[str]:
    """Every way in which one file's content departs from its schema."""
    validator = jsonschema.Draft202012Validator(schema)
    problems: list[str] = []
    for error in validator.iter_errors(document):
        problems.extend(_explain(path, error))
    return sorted(set(problems))


def _explain(path: Path, error: jsonschema.ValidationError) -> Iterator[str]:
    key = ".".join(str(part) for part in error.absolute_path)
    where = f"{path}: {key}" if key else str(path)
    schema = error.schema if isinstance(error.schema, dict) else {}
    if error.validator == "additionalProperties" and isinstance(error.instance, dict):
        known = list(schema.get("properties", {}))
        patterns = list(schema.get("patternProperties", {}))
        for name in error.instance:
            if name in known or any(re.search(pattern, str(name)) for pattern in patterns):
                continue
            if patterns and not known:
                yield f"{where}: name '{name}' found, expected lower-case letters, digits and . _ - ({patterns[0]})"
            else:
                yield f"{where}: unknown key '{name}'{did_you_mean(name, known)}; expected one of {', '.join(known)}"
    elif error.validator == "required" and isinstance(error.instance, dict):
        required: Any = error.validator_value
        for name in required:
            if name not in error.instance:
                yield f"{where}: key '{name}' is missing; {schema['properties'][name].get('description', 'it is required')}"
    else:
        yield f"{where}: found {_short(error.instance)}, expected {_expected(error)}"


def _expected(error: jsonschema.ValidationError) -> str:
    value: Any = error.validator_value
    match error.validator:
        case "type":
            return f"{value}"
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


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def locked_versions(lock: Path) -> dict[str, str]:
    """Package -> version, as pinned by a lock of `name==version` lines. Planning needs none of them installed."""
    if not lock.is_file():
        raise InputError(f"{lock}: no such file; grid.yaml's environment names it")
    pinned = re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;#]+)", lock.read_text(encoding="utf-8"), re.MULTILINE)
    return {name.lower().replace("-", "_"): version for name, version in pinned}
