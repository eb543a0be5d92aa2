"""Reads and checks `config/<grid>/`: YAML in, one dict out, every mistake reported at once.

Each message names the file, the key, what was found and what was expected.
"""

import difflib
import math
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from gapgrid.grid import DEFAULTS, UNTOUCHED, Grid
from gapgrid.records import InputError, fail_if

SECTIONS = ("models", "recipes", "sources", "mixes", "benchmarks", "experiments", "hardware")
FILES = ("grid", *SECTIONS)
OVERRIDABLE = ("seeds",)
CHOOSING = ("grid", "results")  # keys of --config that say which grid, and where its results are
SCHEMAS = Path(__file__).parents[1] / "schemas"
REPOSITORY = Path(__file__).parents[2]


def load(name: str, overrides: dict[str, Any] | None = None, root: Path = Path("config")) -> Grid:
    """Read the grid `root/name`, check it, and return it as one dict.

    `overrides` are keys given by `--config`; of the grid's own only `seeds` may be among them. Raises `InputError` with all mistakes.
    """
    folder = Path(root) / name
    if not folder.is_dir():
        known = sorted(entry.name for entry in Path(root).iterdir() if entry.is_dir()) if Path(root).is_dir() else []
        raise InputError(f"{folder}: no such grid{_did_you_mean(name, known)}; there is {', '.join(known) or 'none'}")
    documents: dict[str, Any] = {}
    problems: list[str] = []
    for file in FILES:
        try:
            documents[file] = read_yaml(folder / f"{file}.yaml")
        except InputError as error:
            problems.append(str(error))
    for key in sorted(set(overrides or {}) - {*OVERRIDABLE, *CHOOSING}):
        problems.append(f"--config: unknown key '{key}'{_did_you_mean(key, (*OVERRIDABLE, *CHOOSING))}; expected grid, results or seeds")
    if isinstance(documents.get("grid"), dict):
        given = {key: _plain(value) for key, value in (overrides or {}).items() if key in OVERRIDABLE}
        documents["grid"].update(given)
    for file, document in documents.items():
        problems.extend(schema_problems(folder / f"{file}.yaml", document, _schema(file)))
    fail_if(problems)
    settings = documents.pop("grid")
    settings["seeds"] = [int(seed) for seed in settings["seeds"]]  # YAML's 1.0 is an integer to the schema
    grid: Grid = {"name": name, "folder": folder.as_posix(), **settings, **documents}
    fail_if(sorted(set(cross_problems(grid))))
    grid["versions"] = locked_versions(REPOSITORY / "envs" / f"{grid['environment']}.txt")
    return grid


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
                yield f"{where}: unknown key '{name}'{_did_you_mean(name, known)}; expected one of {', '.join(known)}"
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
            return f"one of {', '.join(map(str, value))}{_did_you_mean(error.instance, value)}"
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


def _did_you_mean(found: Any, known: Iterable[Any]) -> str:
    close = difflib.get_close_matches(str(found), [str(name) for name in known], n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""


# ---- what no schema can say ----


def cross_problems(grid: Grid) -> Iterator[str]:
    """Every reference that leads nowhere, every share sum that is not 1, every entry that contradicts itself."""
    yield from _grid_problems(grid)
    yield from _model_problems(grid)
    yield from _source_problems(grid)
    yield from _mix_problems(grid)
    yield from _benchmark_problems(grid)
    yield from _experiment_problems(grid)


def _at(grid: Grid, file: str, key: str) -> str:
    return f"{grid['folder']}/{file}.yaml: {key}"


def _unknown(grid: Grid, where: str, name: str, section: str, also: Iterable[str] = ()) -> Iterator[str]:
    known = [*grid[section], *also]
    if name not in known:
        hint = _did_you_mean(name, known)
        yield f"{where}: '{name}' is not in {section}.yaml{hint}; expected one of {', '.join(known)}"


def _exactly_one(where: str, entry: dict[str, Any], keys: tuple[str, ...]) -> Iterator[str]:
    given = [key for key in keys if key in entry]
    if len(given) != 1:
        yield f"{where}: found {' and '.join(given) or 'none'} of {', '.join(keys)}, expected exactly one"
    if "revision" in entry and "hub" in keys and "hub" not in entry:
        yield f"{where}: revision is given without hub"


def _grid_problems(grid: Grid) -> Iterator[str]:
    yield from _exactly_one(_at(grid, "grid", "tokenizer"), grid["tokenizer"], ("builtin", "hub", "path"))
    judge, where = grid["judge"], _at(grid, "grid", "judge")
    needs = {"none": (), "stub": (), "hf": ("model", "size"), "openai": ("model", "base_url")}[judge["backend"]]
    for key in needs:
        if key not in judge:
            yield f"{where}: key '{key}' is missing; backend {judge['backend']} needs it"
    if "size" in judge:
        yield from _unknown(grid, f"{where}.size", judge["size"], "hardware")
    prompt = Path(grid["folder"]) / "prompts" / judge.get("prompt", DEFAULTS["judge"]["prompt"])
    if judge["backend"] != "none" and not prompt.is_file():
        yield f"{where}.prompt: {prompt} does not exist"


def _model_problems(grid: Grid) -> Iterator[str]:
    needs = {"hub": ("hub",), "path": ("path",), "tiny": ("architecture", "corpus", "pretrain")}
    for name, entry in grid["models"].items():
        where = _at(grid, "models", name)
        for key in needs[entry["kind"]]:
            if key not in entry:
                yield f"{where}: key '{key}' is missing; kind {entry['kind']} needs it"
        for kind, keys in needs.items():
            for key in keys:
                if kind != entry["kind"] and key in entry:
                    yield f"{where}: key '{key}' goes with kind {kind}, found kind {entry['kind']}"
        yield from _unknown(grid, f"{where}.recipe", entry["recipe"], "recipes")
        yield from _unknown(grid, f"{where}.size", entry["size"], "hardware")
        if "pretrain" in entry:
            yield from _unknown(grid, f"{where}.pretrain", entry["pretrain"], "recipes")
        if "corpus" in entry:
            yield from _unknown(grid, f"{where}.corpus", entry["corpus"], "sources")
        shape = entry.get("architecture")
        if shape and shape["hidden_size"] % (2 * shape["heads"]):
            yield f"{where}.architecture: hidden_size {shape['hidden_size']}, expected a multiple of twice heads ({2 * shape['heads']})"
        if entry["kind"] == "path" and "path" in entry and not (Path(entry["path"]) / "config.json").is_file():
            yield f"{where}.path: {entry['path']} holds no config.json"


def _source_problems(grid: Grid) -> Iterator[str]:
    for name, entry in grid["sources"].items():
        where = _at(grid, "sources", name)
        yield from _exactly_one(where, entry, ("builtin", "hub", "path"))
        if "path" in entry and not Path(entry["path"]).is_file():
            yield f"{where}.path: {entry['path']} does not exist"


def _mix_problems(grid: Grid) -> Iterator[str]:
    for name, entry in grid["mixes"].items():
        where = _at(grid, "mixes", name)
        if name == UNTOUCHED:
            yield f"{where}: the name {UNTOUCHED} is taken, it is the untouched student"
        for source in entry["parts"]:
            yield from _unknown(grid, f"{where}.parts", source, "sources")
        total = math.fsum(entry["parts"].values())
        if not math.isclose(total, 1.0, abs_tol=1e-9):
            yield f"{where}.parts: shares sum to {total:g}, expected 1"


def _benchmark_problems(grid: Grid) -> Iterator[str]:
    for name, entry in grid["benchmarks"].items():
        where = _at(grid, "benchmarks", name)
        yield from _exactly_one(f"{where}.data", entry["data"], ("builtin", "hub", "path"))
        if "path" in entry["data"] and not Path(entry["data"]["path"]).is_file():
            yield f"{where}.data.path: {entry['data']['path']} does not exist"
        if entry.get("repeats", 1) > 1 and not entry.get("sampling", {}).get("temperature", 0) > 0:
            yield f"{where}.repeats: {entry['repeats']} greedy answers would be the same, expected sampling.temperature above 0"
        yield from _task_problems(grid, where, entry["task"])


def _task_problems(grid: Grid, where: str, task: str) -> Iterator[str]:
    file = Path(grid["folder"]) / "tasks" / f"{task}.yaml"
    if not file.is_file():
        there = sorted(other.stem for other in file.parent.glob("*.yaml"))
        yield f"{where}.task: {file} does not exist{_did_you_mean(task, there)}; there is {', '.join(there) or 'none'}"
        return
    text = file.read_text(encoding="utf-8", errors="replace")
    named = re.search(r"^task:\s*[\"']?([^\s\"'#]+)", text, re.MULTILINE)
    if named is None or named[1] != task:
        yield f"{file}: key task is {named[1] if named else 'missing'}, expected {task}, the name of the file"


def _experiment_problems(grid: Grid) -> Iterator[str]:
    for name, entry in grid["experiments"].items():
        where = _at(grid, "experiments", name)
        for section in ("models", "mixes", "benchmarks"):
            also = (UNTOUCHED,) if section == "mixes" else ()
            for listed in entry[section] if entry[section] != "all" else ():
                yield from _unknown(grid, f"{where}.{section}", listed, section, also)
        mixes = list(grid["mixes"]) if entry["mixes"] == "all" else entry["mixes"]
        for mix in entry.get("contrast", ()):
            if mix not in mixes:
                yield f"{where}.contrast: '{mix}' is not among the experiment's mixes ({', '.join(mixes)})"
        if len(set(entry.get("contrast", (0, 1)))) == 1:
            yield f"{where}.contrast: '{entry['contrast'][0]}' twice, expected two different mixes"
        if entry["plot"] == "gap_by_size" and "contrast" not in entry:
            yield f"{where}: key 'contrast' is missing; plot gap_by_size needs it"


def locked_versions(lock: Path) -> dict[str, str]:
    """Package -> version, as pinned by a lock of `name==version` lines. Planning needs none of them installed."""
    if not lock.is_file():
        raise InputError(f"{lock}: no such file; grid.yaml's environment names it")
    pinned = re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;#]+)", lock.read_text(encoding="utf-8"), re.MULTILINE)
    return {name.lower().replace("-", "_"): version for name, version in pinned}
