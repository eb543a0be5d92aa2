"""Pins what a grid takes from the Hugging Face hub: every `revision: main` becomes the commit that it stands for.

The YAML files are edited in place, one value at a time, so comments and layout stay. What is already a commit, or
another branch or tag, is left alone. `python -m gapgrid.commands.pin config/<grid>`.
"""

import argparse
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import yaml

from gapgrid.config import judge_settings
from gapgrid.crosschecks import MAIN, comes_from_the_hub, unpinned
from gapgrid.engines.hub import NoHubError
from gapgrid.engines.hub import commit as on_the_hub
from gapgrid.records import InputError, write_text

Resolve = Callable[[str, str, str], str]
FILES = {"models": "model", "sources": "dataset", "benchmarks": "dataset", "judge": "model", "grid": "model"}

__all__ = ["pin", "unpinned"]


class Place(NamedTuple):
    """A repository in a YAML text whose revision is not pinned, and how its revision is written there."""

    name: str
    hub: str
    start: int
    end: int
    text: str  # what to put from start to end, with {} for the commit


# ---- the files ----


def pin(folder: Path, resolve: Resolve) -> list[str]:
    """Pin a grid's folder; returns a line for each place that was pinned.

    `resolve(kind, id, revision)` gives the commit, where kind is `model` or `dataset`. What can be pinned is, also when
    another repository cannot; those that could not are named in the `InputError` raised at the end.
    """
    if not (folder / "grid.yaml").is_file():
        raise InputError(f"{folder}: no grid.yaml; expected a grid's folder, such as config/paper")
    commits = _Commits(resolve)
    done: list[str] = []
    for stem, kind in FILES.items():
        file = folder / f"{stem}.yaml"
        if not file.is_file():
            continue
        text = file.read_text(encoding="utf-8")
        found = judge_places(folder, text) if stem == "judge" else places(text)
        for place in sorted(found, key=lambda place: place.start, reverse=True):
            commit = commits.of(kind, place.hub)
            if commit is None:
                continue
            text = text[: place.start] + place.text.format(_scalar(commit)) + text[place.end :]
            done.append(f"{file.name}: {place.name}: {place.hub} is pinned to {commit}")
        if text != file.read_text(encoding="utf-8"):
            write_text(file, text)
    if commits.failed:
        raise InputError("\n".join(["some repositories could not be pinned:", *commits.failed]))
    return sorted(done)


class _Commits:
    """Asks for each repository once, and remembers which could not be had."""

    def __init__(self, resolve: Resolve) -> None:
        self._resolve = resolve
        self._known: dict[tuple[str, str], str | None] = {}
        self.failed: list[str] = []

    def of(self, kind: str, hub: str) -> str | None:
        """The commit that `main` stands for, or None."""
        if (kind, hub) not in self._known:
            try:
                self._known[kind, hub] = self._resolve(kind, hub, MAIN)
            except NoHubError:
                raise
            except InputError as error:
                self._known[kind, hub] = None
                self.failed.append(str(error))
        return self._known[kind, hub]


def _scalar(commit: str) -> str:
    """The commit as YAML text: in quotes if YAML would read a number."""
    return commit if isinstance(yaml.safe_load(commit), str) else f'"{commit}"'


def places(text: str) -> Iterator[Place]:
    """The unpinned repositories of a YAML text, each where it is written: entries behind an anchor are one place.

    An entry that takes its repository from another by `<<:` is pinned with it. One that names its own repository and
    takes only the revision from there gets a revision of its own.
    """
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    seen: set[int] = set()
    stack: list[tuple[str, yaml.Node]] = [("", root)] if root else []
    while stack:
        name, node = stack.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            stack.extend((f"{name}.{index}", value) for index, value in enumerate(node.value))
        if not isinstance(node, yaml.MappingNode):
            continue
        stack.extend((f"{name}.{key.value}".strip("."), value) for key, value in node.value if isinstance(key, yaml.ScalarNode))
        place = _place(name, node, text)
        if place is not None:
            yield place


def _place(name: str, node: yaml.MappingNode, text: str) -> Place | None:
    own = _keys(node)
    hub = own["hub"][1].value if "hub" in own else _inherited(node, "hub")
    if hub is None:
        return None
    if "revision" in own:
        return _replaced(name, hub, own["revision"][1])
    if "hub" not in own:
        return None  # the repository is another entry's, and so is its revision
    key, value = own["hub"]
    end = _end(text, value)
    separator = ", " if node.flow_style else "\n" + " " * key.start_mark.column
    return Place(name, hub, end, end, f"{separator}revision: {{}}")


def judge_places(folder: Path, text: str) -> list[Place]:
    """The unpinned judge of a judge.yaml. One that its preset names is written out, so that preset and pin cannot part."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if not isinstance(root, yaml.MappingNode):
        return []
    judge = judge_settings(folder, yaml.safe_load(text))
    if not comes_from_the_hub(judge) or judge.get("revision", MAIN) != MAIN:
        return []
    own, hub = _keys(root), str(judge["model"])
    if "revision" in own:
        return [place for place in [_replaced("judge", hub, own["revision"][1])] if place]
    _, value = own.get("model", own["backend"])
    separator = ", " if root.flow_style else "\n"
    named = "" if "model" in own else f"{separator}model: {hub}"
    end = _end(text, value)
    return [Place("judge", hub, end, end, f"{named}{separator}revision: {{}}")]


def _keys(node: yaml.MappingNode) -> dict[str, tuple[yaml.Node, yaml.Node]]:
    return {key.value: (key, value) for key, value in node.value if isinstance(key, yaml.ScalarNode)}


def _replaced(name: str, hub: str, revision: yaml.Node) -> Place | None:
    if revision.value != MAIN:
        return None
    return Place(name, hub, revision.start_mark.index, revision.end_mark.index, "{}")


def _end(text: str, value: yaml.Node) -> int:
    """Where more may be written after a value: behind the comment that shares its line."""
    end = int(value.end_mark.index)
    comment = re.match(r"[ \t]*#[^\n]*", text[end:])
    return end + len(comment[0]) if comment else end


def _inherited(node: yaml.MappingNode, key: str) -> str | None:
    """A key's value among the mappings merged into this one by `<<:`."""
    for name, merged in node.value:
        if name.tag != "tag:yaml.org,2002:merge":
            continue
        for mapping in merged.value if isinstance(merged, yaml.SequenceNode) else [merged]:
            for inner, value in mapping.value:
                if inner.value == key and inner.tag != "tag:yaml.org,2002:merge":
                    return str(value.value)
            found = _inherited(mapping, key)
            if found is not None:
                return found
    return None


def main(argv: list[str] | None = None) -> int:
    """`python -m gapgrid.commands.pin FOLDER`: pin a grid's folder and say what was pinned."""
    parser = argparse.ArgumentParser(prog="python -m gapgrid.commands.pin", description=__doc__)
    parser.add_argument("folder", type=Path, help="a grid's folder, such as config/paper")
    args = parser.parse_args(argv)
    try:
        done = pin(args.folder, on_the_hub)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print("\n".join(done) if done else f"{args.folder}: everything is pinned")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
