"""The last file that a stage writes: its outputs, its inputs and its spec.

It exists only if the stage finished.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gapgrid.core.records import InputError, Row, read_json, sha256_file, write_json


def write(
    path: str | Path,
    stage: str,
    spec: Mapping[str, Any],
    inputs: Mapping[str, str],
    outputs: list[str],
    engines: Mapping[str, str] | None = None,
    facts: Mapping[str, Any] | None = None,
) -> None:
    """Write `path` by rename, last.

    `inputs` maps a name to the SHA-256 of what was read. `outputs` are files or folders beside the
    manifest; each file is hashed, rows of `.jsonl` are counted. `facts` are small results that
    later stages need. No time, host or absolute path enters: the same work gives the same bytes.
    """
    folder = Path(path).parent
    files = [file for name in outputs for file in _files(folder / name)]
    content = {
        "stage": stage,
        "version": spec.get("version"),
        "spec": spec,
        "inputs": dict(inputs),
        "outputs": {file.relative_to(folder).as_posix(): describe(file) for file in files},
        "engines": dict(engines or {}),
        "facts": dict(facts or {}),
    }
    write_json(path, content)


def _files(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]


def describe(file: Path) -> Row:
    """Return the SHA-256 of a file, and its number of rows if it holds JSON lines."""
    entry: Row = {"sha256": sha256_file(file)}
    if file.suffix == ".jsonl":
        with open(file, "rb") as lines:
            entry["rows"] = sum(1 for _ in lines)
    return entry


def read(path: str | Path) -> Row:
    """Return a manifest's content; raise `InputError` if it is missing or is not a manifest."""
    content = read_json(path)
    if not isinstance(content, dict) or not {"stage", "spec", "outputs"} <= content.keys():
        raise InputError(f"{path}: not a manifest (expected the keys stage, spec, outputs)")
    return content


def mismatches(path: str | Path) -> list[str]:
    """Hash the outputs that a manifest names; return a line per missing or altered one."""
    folder = Path(path).parent
    problems: list[str] = []
    for name, entry in read(path)["outputs"].items():
        file, expected = folder / name, f"{entry['sha256'][:12]}…"
        if not file.is_file():
            problems.append(f"{file}: missing, expected sha256 {expected}")
        elif (digest := sha256_file(file)) != entry["sha256"]:
            problems.append(f"{file}: sha256 {digest[:12]}…, expected {expected}")
    return problems


def changes(recorded: Row, current: Row) -> list[str]:
    """Return what differs between two specs, by key: `recipe.learning_rate 1e-05 → 2e-05`."""
    old, new = dict(_flat(recorded)), dict(_flat(current))
    keys = [key for key in old.keys() | new.keys() if old.get(key) != new.get(key)]
    keys.sort(key=lambda key: (key != "version", key))
    return [_change(key, old.get(key), new.get(key)) for key in keys]


def _change(key: str, old: Any, new: Any) -> str:
    if key == "version":
        return f"built by version {old} of the stage, now {new}"
    if isinstance(old, list) and isinstance(new, list):
        n_added, n_lost = sum(item not in old for item in new), sum(item not in new for item in old)
        counts = f"{n_added} more, {n_lost} less" if n_added or n_lost else "in another order"
        return f"{key}: {counts}"
    return f"{key} {_short(old)} → {_short(new)}"


def _flat(value: Row, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, inner in value.items():
        if isinstance(inner, dict) and inner:
            yield from _flat(inner, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", inner


def _short(value: Any) -> str:
    if value is None:
        return "unset"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}…"
