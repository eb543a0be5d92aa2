"""The sample files that lm-eval leaves: finding them, and bringing their rows into one shape.

Files are named `samples_{task}_{timestamp}.jsonl` and lie in a folder per model. What is broken or
ambiguous in them is an error that names file and line.
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

from gapgrid.core.records import InputError, Row, fail_if, read_numbered
from gapgrid.core.rows import ResponseRow
from gapgrid.grading.extract import answer_in, closed_boxes, gold_text
from gapgrid.grading.rule_step import ITEM_COLUMNS
from gapgrid.interop.columns import GOLD_COLUMNS, PROBLEM_COLUMNS

_NAME = re.compile(
    r"samples_(?P<task>(?!\.).+)_(?P<run>\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d(?:\.\d{6})?)\.jsonl",
    re.ASCII,
)
_DEPTHS = ("", "*/", "*/*/")  # a model's folder, folders of models, folders of those


def note(text: str) -> None:
    """Print a note on stderr."""
    print(f"note: {text}", file=sys.stderr)


class SampleFile(NamedTuple):
    """A sample file, the model's folder, and the task and the run's timestamp in its name."""

    path: Path
    folder: Path
    task: str
    run: str


def find(folders: Iterable[Path]) -> list[SampleFile]:
    """Return the sample files in folders and up to two levels below, each once.

    Raises an `InputError` that names folders without any.
    """
    files: dict[Path, SampleFile] = {}
    problems = []
    for given in folders:
        folder = given.resolve()  # the same folder given twice is one folder
        n_files = 0
        paths = {path for depth in _DEPTHS for path in given.glob(f"{depth}samples_*.jsonl")}
        for path in sorted(paths):
            model_folder = folder / path.parent.relative_to(given)
            if match := _NAME.fullmatch(path.name):
                file = SampleFile(path, model_folder, match["task"], match["run"])
                files[model_folder / path.name] = file
                n_files += 1
            else:
                note(f"{path}: left out, its name is not samples_{{task}}_{{timestamp}}.jsonl")
        if not n_files:
            expected = "no files samples_{task}_{timestamp}.jsonl in it or in folders of it"
            problems.append(f"{given}: {expected if given.is_dir() else 'not a folder'}")
    fail_if(problems)
    return list(files.values())


def choose(
    files: Sequence[SampleFile], tasks: Sequence[str] | None = None, run: str | None = None
) -> list[SampleFile]:
    """Return one file per model and task: those of `tasks`, of `run`, a timestamp or `latest`.

    Raises an `InputError` for a task or a run without files, and for several runs of a task with
    none chosen.
    """
    known = ", ".join(sorted({file.task for file in files}))
    unknown = [task for task in tasks or () if task not in {file.task for file in files}]
    fail_if([f"--task {task}: no samples of it, found {known}" for task in unknown])
    candidates = [file for file in files if not tasks or file.task in tasks]
    groups: dict[tuple[Path, str], list[SampleFile]] = {}
    for file in sorted(candidates, key=lambda file: (file.folder, file.task, file.run)):
        if run in (None, "latest", file.run):
            groups.setdefault((file.folder, file.task), []).append(file)
    if not groups:
        runs = ", ".join(sorted({file.run for file in candidates}))
        raise InputError(f"--run {run}: no samples of it, found {runs}")
    problems = []
    for group in groups.values():
        if len(group) > 1 and not run:
            runs = ", ".join(file.run for file in group)
            hint = "choose with --run latest or --run TIMESTAMP"
            first = group[0]
            problems.append(
                f"{first.path.parent}: {len(group)} runs of {first.task}: {runs}; {hint}"
            )
    fail_if(problems)
    chosen = [group[-1] for group in groups.values()]
    for file in candidates:
        if file not in chosen:
            note(f"{file.path}: of another run, left out")
    return chosen


def models(files: Sequence[SampleFile]) -> dict[Path, str]:
    """Return folder -> name of its model: the path below what all folders have in common.

    If there is only one folder, its name.
    """
    folders = sorted({file.folder for file in files})
    common = folders[0].parent if len(folders) == 1 else Path(os.path.commonpath(folders))
    return {folder: folder.relative_to(common).as_posix() for folder in folders}


# --------------------------------------------------------------------------- rows


class Entry(NamedTuple):
    """One line: a problem, its reference answer and item, and one response per repeat."""

    doc_id: int
    filter: str
    problem: str
    gold: Any
    item: Row
    responses: tuple[str, ...]
    finishes: tuple[str, ...] | None


# Not "1e999999999", which would take for ever.
_NUMBER = re.compile(r"-?\d{0,9}(?:\.\d{0,9})?(?:[eE][+-]?\d{1,2})?", re.ASCII)


def parse(row: Row, gold_column: str | None = None, problem_column: str | None = None) -> Entry:
    """Return the entry in a row of a sample file.

    Raises a `ValueError` that lists all that is missing from it or wrong with it.
    """
    doc = row.get("doc")
    problems: list[str] = []

    def attempt(read: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return read(*arguments)
        except ValueError as error:
            problems.append(str(error))

    doc_id, name, responses = attempt(_doc_id, row), attempt(_filter, row), attempt(_responses, row)
    if isinstance(doc, dict):
        problem, gold = attempt(_problem, doc, problem_column), attempt(_gold, doc, gold_column)
        item = _item(doc)
    else:
        problems.append(f"doc is {_kind(doc)}, expected an object")
    if problems:
        raise ValueError("; ".join(problems))
    return Entry(doc_id, name, problem, gold, item, responses, _finishes(row, len(responses)))


def _item(doc: Row) -> Row:
    """Return what the item declares about its answer, without values that cannot be read."""
    item = {key: doc[key] for key in ITEM_COLUMNS if isinstance(doc.get(key), str | int | float)}
    return {
        key: value
        for key, value in item.items()
        if value == value  # no NaN
        and (key not in ("error", "tolerance") or _NUMBER.fullmatch(str(value)))
    }


def _kind(value: Any) -> str:
    """Return what a JSON value is, in words short enough for a message."""
    if value is None:
        return "missing or null"
    is_short = isinstance(value, bool | int | float)
    return reprlib.repr(value) if is_short else f"a {type(value).__name__}"


def _checked(what: str, value: Any, is_good: bool, expected: str) -> Any:
    """Return a value; raise a `ValueError` that describes it unless it is good."""
    if not is_good:
        raise ValueError(f"{what} is {_kind(value)}, expected {expected}")
    return value


def _doc_id(row: Row) -> Any:
    doc_id = row.get("doc_id")
    return _checked("doc_id", doc_id, type(doc_id) is int, "a whole number")


def _filter(row: Row) -> Any:
    name = row.get("filter", "none")
    return _checked("filter", name, isinstance(name, str), "text")


def _problem(doc: Row, column: str | None) -> Any:
    name = column or next((name for name in PROBLEM_COLUMNS if name in doc), PROBLEM_COLUMNS[0])
    problem = doc.get(name)
    return _checked(f"doc.{name}, the problem,", problem, isinstance(problem, str), "text")


def _is_number(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool)


def _gold(doc: Row, column: str | None) -> Any:
    """Return the reference answer: text, a number or a list of those.

    A solution is one only if it holds its answer in a box.
    """
    name = column or next((name for name in GOLD_COLUMNS if name in doc), None)
    if name is None:
        expected, columns = ", ".join(GOLD_COLUMNS), reprlib.repr(sorted(doc))
        raise ValueError(f"no reference answer: doc has none of {expected}, found {columns}")
    gold = doc.get(name)
    where = f"doc.{name}, the reference answer,"
    entries = gold if isinstance(gold, list) else [gold]
    for entry in entries or [None]:
        is_text = isinstance(entry, str) and bool(entry.strip())
        if not is_text and not _is_number(entry):
            kind = "empty" if isinstance(entry, str) else _kind(entry)
            raise ValueError(f"{where} is {kind}, expected text, a number or a list of those")
    text = gold_text(gold)
    if not answer_in(text) or (name == "solution" and not closed_boxes(text)):
        raise ValueError(f"{where} holds no answer in a closed box")
    return gold


def _responses(row: Row) -> tuple[str, ...]:
    resps = row.get("resps")
    is_good = isinstance(resps, list) and len(resps) == 1 and isinstance(resps[0], list)
    _checked("resps, the answer,", resps, is_good, "a list with one list of responses")
    responses = tuple(row["resps"][0])
    for repeat, response in enumerate(responses or (None,)):
        where = f"resps[0][{repeat}], the answer,"
        _checked(where, response, isinstance(response, str), "text")
    return responses


def _finishes(row: Row, n_repeats: int) -> tuple[str, ...] | None:
    """Return why each response ended, where an engine has added it to lm-eval's row.

    The column is `finish_reason` or `finish`; lm-eval itself has none.
    """
    finish = row.get("finish_reason", row.get("finish"))
    finishes = tuple(finish) if isinstance(finish, list) else (finish,)
    is_complete = len(finishes) == n_repeats and all(isinstance(text, str) for text in finishes)
    return finishes if is_complete else None


def read(
    path: Path, chosen: str | None = None, gold: str | None = None, problem: str | None = None
) -> tuple[list[Entry], list[str]]:
    """Return the entries of a sample file, one per doc, by doc_id, and notes on what is odd in it.

    `chosen` names a filter, `gold` and `problem` a column of `doc`. Raises an `InputError` that
    lists every bad line, and every line that disagrees with an earlier one of the same doc.
    """
    entries: list[tuple[int, Entry]] = []
    problems: list[str] = []
    try:
        rows = read_numbered(path)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    for line, row in rows:
        try:
            entries.append((line, parse(row, gold, problem)))
        except ValueError as error:
            problems.append(f"{path}:{line}: {error}")
    fail_if(problems)
    filters = sorted({entry.filter for _, entry in entries})
    if chosen is not None and chosen not in filters:
        raise InputError(f"{path}: no rows of filter '{chosen}', found {reprlib.repr(filters)}")
    return _one_per_doc(path, [entry for entry in entries if chosen in (None, entry[1].filter)])


def _one_per_doc(path: Path, entries: list[tuple[int, Entry]]) -> tuple[list[Entry], list[str]]:
    first: dict[int, tuple[int, Entry]] = {}
    first_of_filter: dict[tuple[int, str], int] = {}
    problems: list[str] = []
    notes: list[str] = []
    for line, entry in entries:
        earlier, other = first.setdefault(entry.doc_id, (line, entry))
        where = f"{path}:{line}: doc_id {entry.doc_id}"
        aligned = entry._replace(filter=other.filter)
        if aligned != other:
            pairs = zip(Entry._fields, aligned, other, strict=True)
            differ = ", ".join(name for name, value, before in pairs if value != before)
            hint = "" if entry.filter == other.filter else " (choose with --filter)"
            problems.append(f"{where} is on line {earlier} with another {differ}{hint}")
        elif first_of_filter.setdefault((entry.doc_id, entry.filter), line) != line:
            notes.append(f"{where} again, as on line {earlier}; counted once")
    fail_if(problems if first else [f"{path}: no rows"])
    repeats = Counter(len(entry.responses) for _, entry in first.values())
    if len(repeats) > 1:
        numbers = ", ".join(f"{n} have {k}" for k, n in sorted(repeats.items()))
        notes.append(f"{path}: not all problems have equally many answers: {numbers}")
    return [first[doc_id][1] for doc_id in sorted(first)], notes


def sample_rows(entries: Iterable[Entry]) -> list[ResponseRow]:
    """Return one row per response, as the rule step takes it."""
    return [
        {
            "doc_id": entry.doc_id,
            "repeat": repeat,
            "problem": entry.problem,
            "gold": entry.gold,
            "response": response,
        }
        for entry in entries
        for repeat, response in enumerate(entry.responses)
    ]
