"""The verdict ledger: each unique (judge, problem, reference answer, answer) judged once, in one SQLite file.

A judge is named by what it is, how it is run and its prompt, so that another judge leaves the old verdicts in place.
One job writes at a time; the file lives on a file system where SQLite's locks work.
"""

import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from gapgrid.records import InputError, Row, canonical, sha256_text


class Pair(NamedTuple):
    """What a judge compares."""

    problem: str
    gold: str
    answer: str


def judge_digest(identity: Row, prompt: str) -> str:
    """Names a judge: what it is, how it is run, and the text it is given."""
    return sha256_text(canonical([identity, prompt]))[:16]


def pair_key(judge: str, pair: Pair) -> str:
    """Under what a verdict is kept."""
    return sha256_text(canonical([judge, *pair]))


def pair_of(row: Row) -> Pair:
    """The pair in a row of pending.jsonl."""
    return Pair(row["problem"], row["gold"], row["answer"])


class Ledger:
    """The verdicts kept so far; use it as a context manager."""

    def __init__(self, path: Path, must_exist: bool = False) -> None:
        if must_exist and not path.is_file():
            raise InputError(f"{path}: no such verdict ledger")
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self.connection = sqlite3.connect(path, timeout=60)
            self.connection.execute(
                "create table if not exists verdicts (key text primary key, judge text not null, problem text not null,"
                " gold text not null, answer text not null, verdict text not null, raw text not null)"
            )
        except sqlite3.DatabaseError as error:
            raise InputError(f"{path}: not a verdict ledger ({error}); move it away, the next run judges anew") from None

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def verdicts(self, judge: str) -> dict[str, tuple[str, str]]:
        """Key -> (verdict, the judge's own words) of one judge."""
        rows = self.connection.execute("select key, verdict, raw from verdicts where judge = ?", (judge,))
        return {key: (verdict, raw) for key, verdict, raw in rows}

    def add(self, judge: str, judged: Iterable[tuple[Pair, str, str]]) -> None:
        """Keep (pair, verdict, raw), all or none; a verdict that is there already stays."""
        with self.connection:
            self.connection.executemany(
                "insert into verdicts values (?, ?, ?, ?, ?, ?, ?) on conflict (key) do nothing",
                ((pair_key(judge, pair), judge, *pair, verdict, raw) for pair, verdict, raw in judged),
            )
