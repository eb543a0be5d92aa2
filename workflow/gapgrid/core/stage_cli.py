"""The frame that every stage's `main` shares: `--spec` in, one clear error out."""

import argparse
import json
import logging
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gapgrid.core.records import InputError


def stage_parser(name: str, purpose: str | None) -> argparse.ArgumentParser:
    """Return a parser for `python -m gapgrid.stages.<name>` with the stage's spec as `--spec`."""
    parser = argparse.ArgumentParser(prog=f"python -m gapgrid.stages.{name}", description=purpose)
    help_text = "what fixes the result, as JSON"
    parser.add_argument("--spec", type=json.loads, required=True, help=help_text)
    return parser


def read_spec(path: str | Path) -> Any:
    """Return the spec in a spec file: its first line; the second is the digest of other files."""
    with Path(path).open(encoding="utf-8") as file:
        return json.loads(file.readline())


def run_stage(
    parser: argparse.ArgumentParser,
    work: Callable[[argparse.Namespace], Any],
    argv: list[str] | None,
) -> int:
    """Parse `argv`, do the work and return the exit status."""
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    return report_errors(parser.prog, lambda: work(args))


def report_errors(prog: str, work: Callable[[], Any]) -> int:
    """Do the work and return the exit status, which is the work's result if that is a number.

    An `InputError`, an error of the operating system and a locked database become one message and
    status 1.
    """
    try:
        return int(work() or 0)
    except InputError as error:
        message = str(error)
    except OSError as error:
        message = f"{error.filename or prog}: {error.strerror or error}"
    except sqlite3.OperationalError as error:  # a full disk or a locked file
        message = f"{prog}: {error}"
    print(f"error: {message}", file=sys.stderr)
    return 1
