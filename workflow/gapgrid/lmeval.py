"""The sample files that lm-eval leaves: which there are, and their rows brought into one shape.

Files are named `samples_{task}_{timestamp}.jsonl` and lie in a folder per model. What is broken or ambiguous in them is an
error that names file and line.
"""

import math
import os
import re
import reprlib
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gapgrid import answers
from gapgrid.grading import ITEM_COLUMNS
from gapgrid.records import InputError, Row, fail_if, read_numbered

GOLD_COLUMNS = ("final_answer", "answer", "solution")  # the first that a doc has
PROBLEM_COLUMNS = ("problem", "question")
_NAME = re.compile(r"samples_(?P<task>(?!\.).+)_(?P<run>\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d(?:\.\d{6})?)\.jsonl", re.ASCII)
_DEPTHS = ("", "*/", "*/*/")  # a model's folder, folders of models, folders of those


def note(text: str) -> None:
    print(f"note: {text}", file=sys.stderr)


class SampleFile(NamedTuple):
    """A sample file and what its name and place say: the model's folder, the task and the run's timestamp."""

    path: Path
    folder: Path
    task: str
    run: str


def find(folders: Iterable[Path]) -> list[SampleFile]:
    """The sample files in folders and up to two levels below, each once; an `InputError` names folders without any."""
    found: dict[Path, SampleFile] = {}
    problems = []
    for given in folders:
        folder = given.resolve()  # the same folder given twice is one folder
        n_here = 0
        for path in sorted({path for depth in _DEPTHS for path in given.glob(f"{depth}samples_*.jsonl")}):
            place = folder / path.parent.relative_to(given)
            if match := _NAME.fullmatch(path.name):
                found[place / path.name] = SampleFile(path, place, match["task"], match["run"])
                n_here += 1
            else:
                note(f"{path}: left out, its name is not samples_{{task}}_{{timestamp}}.jsonl")
        if not n_here:
            expected = "no files samples_{task}_{timestamp}.jsonl in it or in folders of it"
            problems.append(f"{given}: {expected if given.is_dir() else 'not a folder'}")
    fail_if(problems)
    return list(found.values())


def choose(files: Sequence[SampleFile], tasks: Sequence[str] | None = None, run: str | None = None) -> list[SampleFile]:
    """One file per model and task: those of `tasks`, of the run `run`, a timestamp or `latest`.

    Raises an `InputError` for a task or a run that is not there, and for several runs of a task with none chosen.
    """
    known = sorted({file.task for file in files})
    fail_if([f"--task {task}: no samples of it, found {', '.join(known)}" for task in tasks or () if task not in known])
    asked = [file for file in files if not tasks or file.task in tasks]
    groups: dict[tuple[Path, str], list[SampleFile]] = {}
    for file in sorted(asked, key=lambda file: (file.folder, file.task, file.run)):
        if run in (None, "latest", file.run):
            groups.setdefault((file.folder, file.task), []).append(file)
    if not groups:
        raise InputError(f"--run {run}: no samples of it, found {', '.join(sorted({file.run for file in asked}))}")
    several = [group for group in groups.values() if len(group) > 1 and not run]
    hint = "choose with --run latest or --run TIMESTAMP"
    fail_if([f"{g[0].path.parent}: {len(g)} runs of {g[0].task}: {', '.join(file.run for file in g)}; {hint}" for g in several])
    chosen = [group[-1] for group in groups.values()]
    for file in asked:
        if file not in chosen:
            note(f"{file.path}: of another run, left out")
    return chosen


def models(files: Sequence[SampleFile]) -> dict[Path, str]:
    """Folder -> what to call its model: the path below what all folders have in common, or the name of the only one."""
    folders = sorted({file.folder for file in files})
    common = folders[0].parent if len(folders) == 1 else Path(os.path.commonpath(folders))
    return {folder: "." if folder == common else folder.relative_to(common).as_posix() for folder in folders}


# --------------------------------------------------------------------------- rows


class Entry(NamedTuple):
    """What one line holds: a problem, its reference answer, what the item says of it, and the responses to it, one a repeat."""

    doc_id: int
    filter: str
    problem: str
    gold: Any
    item: Row
    responses: tuple[str, ...]
    finishes: tuple[str, ...] | None


_NUMBER = re.compile(r"-?\d{0,9}(?:\.\d{0,9})?(?:[eE][+-]?\d{1,2})?", re.ASCII)  # "1e999999999" would take for ever


def parse(row: Row, gold_column: str | None = None, problem_column: str | None = None) -> Entry:
    """The entry in a row of a sample file; a `ValueError` says all that is missing from it or wrong with it."""
    doc = row.get("doc")
    problems: list[str] = []

    def tried(read: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return read(*arguments)
        except ValueError as error:
            problems.append(str(error))

    doc_id, name, responses = tried(_doc_id, row), tried(_filter, row), tried(_responses, row)
    if isinstance(doc, dict):
        problem, gold, item = tried(_problem, doc, problem_column), tried(_gold, doc, gold_column), _item(doc)
    else:
        problems.append(f"doc is {_kind(doc)}, expected an object")
    if problems:
        raise ValueError("; ".join(problems))
    return Entry(doc_id, name, problem, gold, item, responses, _finishes(row, len(responses)))


def _item(doc: Row) -> Row:
    """What the rule step may want to know of the item, without what it would not read or not get through."""
    said = {key: doc[key] for key in ITEM_COLUMNS if isinstance(doc.get(key), str | int | float) and doc[key] == doc[key]}
    return {key: value for key, value in said.items() if key not in ("error", "tolerance") or _NUMBER.fullmatch(str(value))}


def _kind(value: Any) -> str:
    """What a JSON value is, in words short enough for a message."""
    if value is None:
        return "missing or null"
    return reprlib.repr(value) if isinstance(value, bool | int | float) else f"a {type(value).__name__}"


def _doc_id(row: Row) -> int:
    doc_id = row.get("doc_id")
    if not isinstance(doc_id, int) or isinstance(doc_id, bool):
        raise ValueError(f"doc_id is {_kind(doc_id)}, expected a whole number")
    return doc_id


def _filter(row: Row) -> str:
    name = row.get("filter", "none")
    if not isinstance(name, str):
        raise ValueError(f"filter is {_kind(name)}, expected text")
    return name


def _problem(doc: Row, column: str | None) -> str:
    name = column or next((name for name in PROBLEM_COLUMNS if name in doc), PROBLEM_COLUMNS[0])
    if not isinstance(doc.get(name), str):
        raise ValueError(f"doc.{name}, the problem, is {_kind(doc.get(name))}, expected text")
    return str(doc[name])


def _gold(doc: Row, column: str | None) -> Any:
    """The reference answer: text, a number or a list of those; a solution only if it holds its answer in a box."""
    name = column or next((name for name in GOLD_COLUMNS if name in doc), None)
    if name is None:
        raise ValueError(f"no reference answer: doc has none of {', '.join(GOLD_COLUMNS)}, found {reprlib.repr(sorted(doc))}")
    gold = doc.get(name)
    entries = gold if isinstance(gold, list) else [gold]
    for entry in entries or [None]:
        is_number = (isinstance(entry, int) and not isinstance(entry, bool)) or (isinstance(entry, float) and math.isfinite(entry))
        if not is_number and not (isinstance(entry, str) and entry.strip()):
            what = "empty" if isinstance(entry, str) else _kind(entry)
            raise ValueError(f"doc.{name}, the reference answer, is {what}, expected text, a number or a list of those")
    text = answers.gold_text(gold)
    if not answers.answer_in(text) or (name == "solution" and not answers.closed_boxes(text)):
        raise ValueError(f"doc.{name}, the reference answer, holds no answer in a closed box")
    return gold


def _responses(row: Row) -> tuple[str, ...]:
    resps = row.get("resps")
    if not isinstance(resps, list) or len(resps) != 1 or not isinstance(resps[0], list):
        raise ValueError(f"resps, the answer, is {_kind(resps)}, expected a list with one list of responses")
    for repeat, response in enumerate(resps[0] or [None]):
        if not isinstance(response, str):
            raise ValueError(f"resps[0][{repeat}], the answer, is {_kind(response)}, expected text")
    return tuple(resps[0])


def _finishes(row: Row, n_repeats: int) -> tuple[str, ...] | None:
    """Why each response ended, where an engine has added `finish_reason` or `finish` to lm-eval's row; lm-eval has none."""
    said = row.get("finish_reason", row.get("finish"))
    finishes = tuple(said) if isinstance(said, list) else (said,)
    return finishes if len(finishes) == n_repeats and all(isinstance(one, str) for one in finishes) else None


def read(path: Path, chosen: str | None = None, gold: str | None = None, problem: str | None = None) -> tuple[list[Entry], list[str]]:
    """The entries of a sample file, one per doc, by doc_id, and notes on what is odd about it.

    `chosen` names a filter, `gold` and `problem` a column of `doc`. An `InputError` lists every bad line, and every line
    that says something else of a doc than an earlier one.
    """
    entries: list[tuple[int, Entry]] = []
    problems: list[str] = []
    for line, row in read_numbered(path):
        try:
            entries.append((line, parse(row, gold, problem)))
        except ValueError as error:
            problems.append(f"{path}:{line}: {error}")
    fail_if(problems)
    filters = sorted({entry.filter for _, entry in entries})
    if chosen is not None and chosen not in filters:
        raise InputError(f"{path}: no rows of filter '{chosen}', found {reprlib.repr(filters)}")
    return _one_per_doc(path, [(line, entry) for line, entry in entries if chosen in (None, entry.filter)])


def _one_per_doc(path: Path, entries: list[tuple[int, Entry]]) -> tuple[list[Entry], list[str]]:
    first: dict[int, tuple[int, Entry]] = {}
    seen: dict[tuple[int, str], int] = {}
    problems: list[str] = []
    notes: list[str] = []
    for line, entry in entries:
        earlier, other = first.setdefault(entry.doc_id, (line, entry))
        if entry._replace(filter=other.filter) != other:
            differ = ", ".join(name for name in Entry._fields if name != "filter" and getattr(entry, name) != getattr(other, name))
            hint = "" if entry.filter == other.filter else " (choose with --filter)"
            problems.append(f"{path}:{line}: doc_id {entry.doc_id} is on line {earlier} with another {differ}{hint}")
        elif seen.setdefault((entry.doc_id, entry.filter), line) != line:
            notes.append(f"{path}:{line}: doc_id {entry.doc_id} again, as on line {earlier}; counted once")
    fail_if(problems if first else [f"{path}: no rows"])
    repeats = Counter(len(entry.responses) for _, entry in first.values())
    if len(repeats) > 1:
        notes.append(
            f"{path}: not all problems have equally many answers: " + ", ".join(f"{n} have {k}" for k, n in sorted(repeats.items()))
        )
    return [first[doc_id][1] for doc_id in sorted(first)], notes


def sample_rows(entries: Iterable[Entry]) -> list[Row]:
    """One row per answer, as the rule step takes it."""
    return [
        {"doc_id": entry.doc_id, "repeat": repeat, "problem": entry.problem, "gold": entry.gold, "response": response}
        for entry in entries
        for repeat, response in enumerate(entry.responses)
    ]
