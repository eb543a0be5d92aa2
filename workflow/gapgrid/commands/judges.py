"""`gapgrid judges`: the judges in a grid's verdict ledger."""

import json
from argparse import Namespace
from pathlib import Path

from gapgrid.core import layout
from gapgrid.core.records import InputError, read_json
from gapgrid.stores.verdicts import Ledger


def run(args: Namespace) -> int:
    """List the judges; compare two of them, or delete the verdicts that one left unparsed."""
    results = args.results / args.grid
    path = results / layout.path("judge", file="verdicts.sqlite")
    with Ledger(path, must_exist=True, read_only=not args.forget_unparsed) as ledger:
        known = {digest for digest, _, _ in ledger.judges()}
        for digest in filter(None, [*(args.compare or ()), args.forget_unparsed]):
            if digest not in known:
                expected = ", ".join(sorted(known)) or "none"
                raise InputError(f"{path}: no judge '{digest}', expected one of {expected}")
        if args.forget_unparsed:
            n_forgotten = ledger.forget_unparsed(args.forget_unparsed)
            _judge_again(results)
            print(f"{n_forgotten} unparsed verdicts forgotten; the next run judges them again")
        for digest, n_verdicts, description in ledger.judges():
            print(f"{digest}  {n_verdicts} verdicts  {description}")
        if args.compare:
            _compare(ledger, *args.compare)
    return 0


def _compare(ledger: Ledger, first: str, second: str) -> None:
    """Print how often two judges agree, and the pairs on which they do not, as JSON lines."""
    both = ledger.compare(first, second)
    counts = f"{both.n_agree} pairs agree, {both.n_disagree} disagree"
    print(f"{counts}, {both.n_unparsed} unparsed by one of them")
    for pair, *verdicts in both.disagreeing:
        print(json.dumps({**pair._asdict(), first: verdicts[0], second: verdicts[1]}))


def _judge_again(results: Path) -> None:
    """Remove the judge's manifest and the scores that count unparsed verdicts."""
    (results / layout.path("judge")).unlink(missing_ok=True)
    for score in results.glob("score/*/*/*/*/score.json"):
        content = read_json(score)
        if not isinstance(content, dict) or content.get("n_unparsed", 1):
            score.unlink()
