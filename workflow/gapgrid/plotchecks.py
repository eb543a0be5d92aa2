"""What each kind of plot needs of an experiment's entry."""

from collections.abc import Iterator
from typing import Any

from gapgrid.grid import UNTOUCHED, Grid, named

NEED_CONTRAST = ("gap_by_size", "pairs")
OWN_KEYS = {"groups": "pairs", "weight_of": "by_weight"}


def plot_problems(grid: Grid, where: str, entry: dict[str, Any]) -> Iterator[str]:
    """Every key that the entry's plot lacks, that is another plot's, or that does not fit the entry's students and mixes."""
    plot = entry["plot"]
    needed = [*(["contrast"] if plot in NEED_CONTRAST else []), *(key for key, of in OWN_KEYS.items() if of == plot)]
    for key in needed:
        if key not in entry:
            yield f"{where}: key '{key}' is missing; plot {plot} needs it"
    for key, of in OWN_KEYS.items():
        if key in entry and plot != of:
            yield f"{where}: key '{key}' goes with plot {of}, found plot {plot}"
    if "groups" in entry:
        yield from _group_problems(grid, f"{where}.groups", entry)
    if "weight_of" in entry:
        yield from _weight_problems(grid, f"{where}.weight_of", entry)


def _group_problems(grid: Grid, where: str, entry: dict[str, Any]) -> Iterator[str]:
    """Partners stand at the same place of each group's list and are of one size."""
    groups: dict[str, list[str]] = entry["groups"]
    models = named(entry["models"], grid["models"])
    listed = [model for group in groups.values() for model in group]
    for model in dict.fromkeys(listed):
        if model not in models:
            yield f"{where}: '{model}' is not among the experiment's models ({', '.join(models)})"
        if listed.count(model) > 1:
            yield f"{where}: '{model}' is given {listed.count(model)} times, expected once"
    left_out = [model for model in models if model not in listed]
    if left_out:
        yield f"{where}: no group for {', '.join(left_out)}; expected each of the experiment's models in one"
    lengths = {name: len(group) for name, group in groups.items()}
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        yield f"{where}: {counts} students, expected as many in each group: partners stand at the same place"
        return
    for partners in zip(*groups.values(), strict=True):
        sizes = {model: grid["models"][model]["params_b"] for model in partners if model in grid["models"]}
        if len(set(sizes.values())) > 1:
            found = ", ".join(f"{model} {size:g}" for model, size in sizes.items())
            yield f"{where}: partners differ in params_b ({found}), expected one size"


def _weight_problems(grid: Grid, where: str, entry: dict[str, Any]) -> Iterator[str]:
    """The mixes are of the source and one other, each weight once, all counted alike."""
    source = entry["weight_of"]
    mixes = {name: grid["mixes"][name] for name in named(entry["mixes"], grid["mixes"]) if name != UNTOUCHED and name in grid["mixes"]}
    parts = {part for mix in mixes.values() for part in mix["parts"] if part in grid["sources"]}
    others = sorted(parts - {source})
    if source not in parts:
        yield f"{where}: '{source}' is in none of the experiment's mixes, expected one of {', '.join(others)}"
        return
    if len(others) > 1:
        yield f"{where}: the mixes hold {', '.join(others)} besides {source}, expected one other source"
    at: dict[float, list[str]] = {}
    for name, mix in mixes.items():
        at.setdefault(float(mix["parts"].get(source, 0.0)), []).append(name)
    for weight, names in at.items():
        if len(names) > 1:
            yield f"{where}: {' and '.join(names)} have weight {weight:g}, expected each weight once"
    counted = sorted({mix.get("by", "rows") for mix in mixes.values() if len(mix["parts"]) > 1})
    if len(counted) > 1:
        yield f"{where}: some mixes count {' and some '.join(counted)}, expected one of them"
