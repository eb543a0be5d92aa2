"""Pin what a grid takes from the Hugging Face hub: `revision: main` becomes the present commit.

The YAML files are edited in place, one value at a time, so comments and layout stay. A revision
that is a commit, another branch or a tag stays too. `python -m gapgrid.commands.pin config/<grid>`.
"""

import argparse
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import yaml

from gapgrid.config.checks import MAIN
from gapgrid.config.load import judge_settings
from gapgrid.core.records import InputError, write_text
from gapgrid.engines.hub import NoHubError
from gapgrid.engines.hub import commit as on_the_hub
from gapgrid.grid.specs import judge_is_on_hub

Resolve = Callable[[str, str, str], str]
Keys = dict[str, tuple[yaml.Node, yaml.Node]]  # name -> key and value
FILES = {
    "models": "model",
    "sources": "dataset",
    "benchmarks": "dataset",
    "judge": "model",
    "grid": "model",
}


class Edit(NamedTuple):
    """How to pin one repository: what to write from `start` to `end` of a YAML text."""

    name: str
    hub: str
    start: int
    end: int
    text: str  # with {} for the commit


# ---- the files ----


def pin(folder: Path, resolve: Resolve) -> list[str]:
    """Pin a grid's folder; return a line for each repository that was pinned.

    `resolve(kind, id, revision)` gives the commit, where kind is `model` or `dataset`. Whatever can
    be pinned is; the repositories that cannot are named in the `InputError` raised at the end.
    """
    if not (folder / "grid.yaml").is_file():
        raise InputError(f"{folder}: no grid.yaml; expected a grid's folder, such as config/paper")
    commits: dict[tuple[str, str], str | None] = {}
    failed: list[str] = []
    lines: list[str] = []
    for stem, kind in FILES.items():
        file = folder / f"{stem}.yaml"
        if not file.is_file():
            continue
        before = text = file.read_text(encoding="utf-8")
        edits = judge_edits(folder, text) if stem == "judge" else entry_edits(text)
        for edit in sorted(edits, key=lambda edit: edit.start, reverse=True):
            if (kind, edit.hub) not in commits:
                commits[kind, edit.hub] = _resolved(resolve, kind, edit.hub, failed)
            commit = commits[kind, edit.hub]
            if commit is not None:
                text = text[: edit.start] + edit.text.format(_scalar(commit)) + text[edit.end :]
                lines.append(f"{file.name}: {edit.name}: {edit.hub} is pinned to {commit}")
        if text != before:
            write_text(file, text)
    if failed:
        raise InputError("\n".join(["some repositories could not be pinned:", *failed]))
    return sorted(lines)


def _resolved(resolve: Resolve, kind: str, hub: str, failed: list[str]) -> str | None:
    """Return the commit of `main`, or None after adding to `failed`; without a hub, raise."""
    try:
        return resolve(kind, hub, MAIN)
    except NoHubError:
        raise
    except InputError as error:
        failed.append(str(error))
        return None


def _scalar(commit: str) -> str:
    """Return the commit as YAML text: in quotes if YAML would read a number."""
    return commit if isinstance(yaml.safe_load(commit), str) else f'"{commit}"'


# ---- one text ----


def entry_edits(text: str) -> Iterator[Edit]:
    """Yield the edits of a YAML text; an entry behind an anchor is edited once.

    An entry that takes its repository from another by `<<:` is pinned with it. One that names its
    own repository and takes only the revision from there gets a revision of its own.
    """
    loader = yaml.SafeLoader(text)
    # All own keys are read before any merge, which adds to them in place.
    for name, node, own in list(_mappings(loader.get_single_node())):
        loader.flatten_mapping(node)
        hub = _keys(node).get("hub")
        if hub and "revision" in own:
            yield from _replaced(name, hub[1].value, own["revision"][1])
        elif "hub" in own:
            key, value = own["hub"]
            separator = ", " if node.flow_style else "\n" + " " * key.start_mark.column
            yield _added(name, value.value, text, value, f"{separator}revision: {{}}")


def _mappings(root: yaml.Node | None) -> Iterator[tuple[str, yaml.MappingNode, Keys]]:
    """Yield each mapping of a document once: its dotted name, its node and its own keys."""
    seen: set[int] = set()
    stack = [("", root)]
    while stack:
        name, node = stack.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            stack.extend((f"{name}.{index}", value) for index, value in enumerate(node.value))
        elif isinstance(node, yaml.MappingNode):
            own = _keys(node)
            stack.extend((f"{name}.{key}".strip("."), value) for key, (_, value) in own.items())
            yield name, node, own


def judge_edits(folder: Path, text: str) -> Iterator[Edit]:
    """Yield the edit that pins the judge of a judge.yaml, if it is on the hub and not pinned.

    A judge that its preset names is written out, so that preset and commit stay together.
    """
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if not isinstance(root, yaml.MappingNode):
        return
    judge = judge_settings(folder, yaml.safe_load(text))
    if not judge_is_on_hub(judge) or judge.get("revision", MAIN) != MAIN:
        return
    own, hub = _keys(root), str(judge["model"])
    if "revision" in own:
        yield from _replaced("judge", hub, own["revision"][1])
        return
    _, value = own.get("model", own["backend"])
    separator = ", " if root.flow_style else "\n"
    model = "" if "model" in own else f"{separator}model: {hub}"
    yield _added("judge", hub, text, value, f"{model}{separator}revision: {{}}")


def _keys(node: yaml.MappingNode) -> Keys:
    pairs = ((key, value) for key, value in node.value if isinstance(key, yaml.ScalarNode))
    return {key.value: (key, value) for key, value in pairs}


def _replaced(name: str, hub: str, revision: yaml.Node) -> Iterator[Edit]:
    if revision.value == MAIN:
        yield Edit(name, hub, revision.start_mark.index, revision.end_mark.index, "{}")


def _added(name: str, hub: str, text: str, value: yaml.Node, added: str) -> Edit:
    """Return an edit that adds a text behind a value and the comment on the value's line."""
    end = int(value.end_mark.index)
    comment = re.match(r"[ \t]*#[^\n]*", text[end:])
    end += len(comment[0]) if comment else 0
    return Edit(name, hub, end, end, added)


def main(argv: list[str] | None = None) -> int:
    """Run `python -m gapgrid.commands.pin FOLDER`: pin a grid's folder and print what changed."""
    parser = argparse.ArgumentParser(prog="python -m gapgrid.commands.pin", description=__doc__)
    parser.add_argument("folder", type=Path, help="A grid's folder, such as config/paper.")
    args = parser.parse_args(argv)
    try:
        lines = pin(args.folder, on_the_hub)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print("\n".join(lines) if lines else f"{args.folder}: everything is pinned")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
