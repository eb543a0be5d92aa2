"""The last file a stage writes: what it made, from what, under which spec. It exists only if the stage finished."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gapgrid.records import InputError, read_json, sha256_file, write_json

Mapping = dict[str, Any]


def write(
    path: str | Path,
    stage: str,
    spec: Mapping,
    inputs: Mapping,
    outputs: list[str],
    engines: Mapping | None = None,
    facts: Mapping | None = None,
) -> None:
    """Write `path` by rename, last.

    `inputs` maps a name to the SHA-256 of what was read. `outputs` are files or folders beside the manifest;
    each file is hashed, rows of `.jsonl` counted. `facts` are small results that later stages need.
    No time, host or absolute path enters: the same work gives the same bytes.
    """
    folder = Path(path).parent
    write_json(
        path,
        {
            "stage": stage,
            "version": spec.get("version"),
            "spec": spec,
            "inputs": dict(inputs),
            "outputs": {file.relative_to(folder).as_posix(): describe(file) for file in _files(folder, outputs)},
            "engines": dict(engines or {}),
            "facts": dict(facts or {}),
        },
    )


def _files(folder: Path, names: list[str]) -> list[Path]:
    found: list[Path] = []
    for name in names:
        target = folder / name
        found.extend(sorted(file for file in target.rglob("*") if file.is_file()) if target.is_dir() else [target])
    return found


def describe(file: Path) -> Mapping:
    """SHA-256 of a file, and its number of rows if it holds JSON lines."""
    entry: Mapping = {"sha256": sha256_file(file)}
    if file.suffix == ".jsonl":
        with open(file, "rb") as lines:
            entry["rows"] = sum(1 for _ in lines)
    return entry


def read(path: str | Path) -> Mapping:
    """Read a manifest; an `InputError` says when it is missing or is not one."""
    found = read_json(path)
    if not isinstance(found, dict) or not {"stage", "spec", "outputs"} <= found.keys():
        raise InputError(f"{path}: not a manifest (expected the keys stage, spec, outputs)")
    return found


def mismatches(path: str | Path) -> list[str]:
    """Re-hash every output a manifest names; one line for each that is missing or altered."""
    folder = Path(path).parent
    problems: list[str] = []
    for name, entry in read(path)["outputs"].items():
        file = folder / name
        if not file.is_file():
            problems.append(f"{file}: missing, expected sha256 {entry['sha256'][:12]}…")
        elif (found := sha256_file(file)) != entry["sha256"]:
            problems.append(f"{file}: sha256 {found[:12]}…, expected {entry['sha256'][:12]}…")
    return problems


def changes(made: Mapping, now: Mapping) -> list[str]:
    """What differs between two specs, by key: `recipe.learning_rate 1e-05 → 2e-05`."""
    old, new = dict(_flat(made)), dict(_flat(now))
    keys = sorted(old.keys() | new.keys(), key=lambda key: (key != "version", key))
    return [_change(key, old.get(key), new.get(key)) for key in keys if old.get(key) != new.get(key)]


def _change(key: str, old: Any, new: Any) -> str:
    if key == "version":
        return f"built by version {old} of the stage, now {new}"
    if isinstance(old, list) and isinstance(new, list):
        lost, won = (sum(item not in other for item in one) for one, other in ((old, new), (new, old)))
        return f"{key}: {won} more, {lost} less" if lost or won else f"{key}: in another order"
    return f"{key} {_short(old)} → {_short(new)}"


def _flat(value: Mapping, before: str = "") -> Iterator[tuple[str, Any]]:
    for key, inner in value.items():
        if isinstance(inner, dict) and inner:
            yield from _flat(inner, f"{before}{key}.")
        else:
            yield f"{before}{key}", inner


def _short(value: Any) -> str:
    text = "unset" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}…"
