"""What differs between an experiment's cells besides what it declares: a pure comparison.

A *student* is who is trained, whichever entries of models.yaml name it. Whatever differs between
two cells of one student, besides the experiment's `varies` and the training seed, is a confounder.
Differences between students are listed apart: a larger student has to be trained differently.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

Key = tuple[str, str]  # topic, one of experiments.yaml's `varies`, and the setting's name
STEPS = ("steps", "optimiser steps")
# Dropped over-long rows change the number of steps slightly; up to this share, that is ignored.
STEPS_TOLERANCE = 0.01


class Settings(NamedTuple):
    """One training cell and every setting, apart from its seed, that decides its result."""

    student: str
    model: str
    mix: str
    values: Mapping[Key, Any]


class Difference(NamedTuple):
    """A setting with several values: of which models.yaml entries, and who has which value."""

    models: str
    topic: str
    name: str
    values: str

    def line(self) -> str:
        """Return the difference as a line of the notes."""
        if self.models:
            return f"{self.models}: {self.name} {self.values}"
        return f"{self.name}: {self.values}"


def within(cells: Sequence[Settings], varies: Iterable[str]) -> list[Difference]:
    """Return what differs within a student besides `varies`, students in the order of `cells`.

    If `varies` has `recipe`, steps may differ as well.
    """
    allowed = {*varies, *(("steps",) if "recipe" in varies else ())}
    differences = []
    for own in _by_student(cells):
        models = ", ".join(dict.fromkeys(cell.model for cell in own))
        for key in _differing(own):
            if key[0] not in allowed:
                differences.append(Difference(models, *key, _values(own, key)))
    return differences


def between(cells: Sequence[Settings]) -> list[Difference]:
    """Return what differs between students but not within any of them; the mix is left out."""
    within_some = {key for own in _by_student(cells) for key in _differing(own)}
    return [
        Difference("", *key, _values(cells, key))
        for key in _differing(cells)
        if key not in within_some and key[0] != "mix"
    ]


def _by_student(cells: Sequence[Settings]) -> list[list[Settings]]:
    groups: dict[str, list[Settings]] = {}
    for cell in cells:
        groups.setdefault(cell.student, []).append(cell)
    return list(groups.values())


def _differing(cells: Sequence[Settings]) -> list[Key]:
    """Return the settings with several values, sorted; a cell may lack a setting."""
    values: dict[Key, dict[str, Any]] = {}
    for cell in cells:
        for key, value in cell.values.items():
            values.setdefault(key, {})[_text(value)] = value
    steps = values.get(STEPS, {}).values()
    if steps and max(steps) <= (1 + STEPS_TOLERANCE) * min(steps):
        del values[STEPS]
    return sorted(key for key, distinct in values.items() if len(distinct) > 1)


def _values(cells: Sequence[Settings], key: Key) -> str:
    """Return each value and who has it: models if these tell them apart, else mixes, else both."""
    values = [(cell, _text(cell.values[key])) for cell in cells if key in cell.values]
    for name in ("{0.model}", "{0.mix}", "{0.model}/{0.mix}"):
        holders: dict[str, dict[str, None]] = {}
        for cell, text in values:
            holders.setdefault(text, {})[name.format(cell)] = None
        names = [holder for group in holders.values() for holder in group]
        if len(names) == len(set(names)):
            break
    return "; ".join(f"{text} ({', '.join(group)})" for text, group in holders.items())


def _text(value: Any) -> str:
    """Return a value as people write it: 1e-05, not 1.0e-5 or 0.00001."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or value is None or isinstance(value, list | dict):
        return json.dumps(value, sort_keys=True) if value not in ({}, [], None) else "none"
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"
