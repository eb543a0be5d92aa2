"""The frame that every stage's `main` shares: `--spec` in, one clear error out."""

import argparse
import json
import logging
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gapgrid.records import InputError


def stage_parser(name: str, purpose: str | None) -> argparse.ArgumentParser:
    """A parser for `python -m gapgrid.<name>` that takes the stage's spec as JSON."""
    parser = argparse.ArgumentParser(prog=f"python -m gapgrid.{name}", description=purpose)
    parser.add_argument("--spec", type=json.loads, required=True, help="what fixes the result, as JSON")
    return parser


def read_spec(path: str) -> Any:
    """The spec in a spec file: its first line. A second one holds the digest of the files that go with it."""
    with Path(path).open(encoding="utf-8") as file:
        return json.loads(file.readline())


def run_stage(parser: argparse.ArgumentParser, work: Callable[[argparse.Namespace], Any], argv: list[str] | None) -> int:
    """Parse `argv`, do the work; an `InputError` or a full disk becomes one message and exit status 1."""
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        work(args)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: {error.filename or parser.prog}: {error.strerror or error}", file=sys.stderr)
        return 1
    except sqlite3.OperationalError as error:  # how SQLite says that the disk is full or the file locked
        print(f"error: {parser.prog}: {error}", file=sys.stderr)
        return 1
    return 0
