"""Do an experiment's cells differ in nothing but what it says they differ in? A pure comparison of their settings.

A *student* is who is trained, whichever entries of models.yaml name it. What differs between two cells of one student,
besides the experiment's `varies` and the training seed, makes their comparison one of that as well. What differs between
students is noted apart: a larger one cannot but be trained in another way.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

Key = tuple[str, str]  # topic, one of experiments.yaml's `varies`, and the setting's name
STEPS = ("steps", "optimiser steps")
STEPS_ALIKE = 0.01  # rows dropped as over-long make steps differ by a few; up to so much, as a share, is no other budget


class Settings(NamedTuple):
    """One training cell and all that decides what it became, but for its seed."""

    student: str
    model: str
    mix: str
    values: Mapping[Key, Any]


class Difference(NamedTuple):
    """One setting that has several values: of which models.yaml entries, which setting, and who has which value."""

    where: str
    topic: str
    name: str
    said: str

    def line(self) -> str:
        """As a sentence of the notes."""
        return f"{self.where}: {self.name} {self.said}" if self.where else f"{self.name}: {self.said}"


def within(cells: Sequence[Settings], varies: Iterable[str]) -> list[Difference]:
    """What differs within a student besides `varies`, students in the cells' order. Another recipe takes other steps."""
    allowed = {*varies, *(("steps",) if "recipe" in varies else ())}
    found = []
    for student in dict.fromkeys(cell.student for cell in cells):
        own = [cell for cell in cells if cell.student == student]
        where = ", ".join(dict.fromkeys(cell.model for cell in own))
        found += [Difference(where, *key, _holders(own, key)) for key in _several(own) if key[0] not in allowed]
    return found


def between(cells: Sequence[Settings]) -> list[Difference]:
    """What differs between students and is the same for all cells of each; the mix is none of it."""
    students = list(dict.fromkeys(cell.student for cell in cells))
    loose = {key for student in students for key in _several([cell for cell in cells if cell.student == student])}
    return [Difference("", *key, _holders(cells, key)) for key in _several(cells) if key not in loose and key[0] != "mix"]


def _several(cells: Sequence[Settings]) -> list[Key]:
    """The settings with several values, by topic and name; a cell that lacks a setting says nothing of it."""
    values: dict[Key, dict[str, Any]] = {}
    for cell in cells:
        for key, value in cell.values.items():
            values.setdefault(key, {})[_text(value)] = value
    return sorted(key for key, found in values.items() if len(found) > 1 and not (key == STEPS and _alike(found.values())))


def _alike(steps: Iterable[float]) -> bool:
    steps = list(steps)
    return max(steps) <= (1 + STEPS_ALIKE) * min(steps)


def _holders(cells: Sequence[Settings], key: Key) -> str:
    """Each value and who has it: models if that tells, else mixes, else both."""
    having = [(cell, _text(cell.values[key])) for cell in cells if key in cell.values]
    for name_of in (lambda cell: cell.model, lambda cell: cell.mix, lambda cell: f"{cell.model}/{cell.mix}"):
        holders: dict[str, dict[str, None]] = {}
        for cell, text in having:
            holders.setdefault(text, {})[name_of(cell)] = None
        names = [name for group in holders.values() for name in group]
        if len(names) == len(set(names)):
            break
    return "; ".join(f"{text} ({', '.join(group)})" for text, group in holders.items())


def _text(value: Any) -> str:
    """A value as people read it: 1e-05, not 1.0e-5 or 0.00001."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or value is None or isinstance(value, list | dict):
        return json.dumps(value, sort_keys=True) if value not in ({}, [], None) else "none"
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"
