"""The verdict ledger: each unique (judge, problem, reference answer, answer) judged once.

It is one SQLite file. A judge is named by what it is, how it is run and its prompt, so that
another judge leaves the old verdicts as they are.
"""

import json
from collections.abc import Iterable
from typing import NamedTuple

from gapgrid.core.records import Row, canonical, sha256_text
from gapgrid.core.rows import UNPARSED, Pair
from gapgrid.core.spec_types import JudgeIdentity
from gapgrid.stores.sqlite import Database

Judged = tuple[Pair, str, str]  # what was judged, the verdict, the judge's reply


class Comparison(NamedTuple):
    """Two judges on the pairs that both judged.

    A pair that either left unparsed neither agrees nor disagrees. `disagreeing` holds (pair,
    verdict of the first judge, of the second), sorted.
    """

    n_agree: int
    n_disagree: int
    n_unparsed: int
    disagreeing: list[Judged]


def judge_digest(identity: JudgeIdentity, prompt: str) -> str:
    """Return the name of a judge: a digest of what it is, how it is run, and its prompt."""
    return sha256_text(canonical([identity, prompt]))[:16]


def pair_key(judge: str, pair: Pair) -> str:
    """Return the key under which a verdict is kept."""
    return sha256_text(canonical([judge, *pair]))


class Ledger(Database):
    """An open verdict ledger; use it as a context manager."""

    kind = "verdict ledger"
    without = "the next run judges anew"
    main_table = "verdicts"
    tables = (
        "create table if not exists verdicts (key text primary key, judge text not null,"
        " problem text not null, gold text not null, answer text not null,"
        " verdict text not null, raw text not null)",
        "create index if not exists verdicts_by_judge on verdicts (judge)",
        "create table if not exists judges (digest text primary key, identity text not null,"
        " prompt text not null)",
    )
    schema = 1

    def verdicts(self, judge: str) -> dict[str, tuple[str, str]]:
        """Return key -> (verdict, the judge's reply) of one judge."""
        rows = self.query("select key, verdict, raw from verdicts where judge = ?", judge)
        return {key: (verdict, reply) for key, verdict, reply in rows}

    def add(self, judge: str, judged: Iterable[Judged]) -> None:
        """Keep verdicts, all of them or none; one that exists already stays."""
        rows = [
            (pair_key(judge, pair), judge, *map(_storable, (*pair, verdict, reply)))
            for pair, verdict, reply in judged
        ]
        with self.transaction() as connection:
            connection.executemany(
                "insert into verdicts values (?, ?, ?, ?, ?, ?, ?) on conflict (key) do nothing",
                rows,
            )

    def register(self, judge: str, identity: JudgeIdentity, prompt: str) -> None:
        """Keep what a judge's digest stands for."""
        row = (judge, _storable(canonical(identity)), _storable(prompt))
        with self.transaction() as connection:
            connection.execute(
                "insert into judges values (?, ?, ?) on conflict (digest) do nothing", row
            )

    def judges(self) -> list[tuple[str, int, str]]:
        """Return (digest, number of verdicts, engine and model) of each judge, by digest."""
        counts = dict(self.query("select judge, count(*) from verdicts group by judge"))
        # A reader may open a file from before judges were registered.
        is_registering = "judges" in self.table_names()
        registered = self.query("select digest, identity from judges") if is_registering else []
        names = {digest: _name(json.loads(identity)) for digest, identity in registered}
        return [
            (digest, counts.get(digest, 0), names.get(digest, "not registered"))
            for digest in sorted(counts.keys() | names.keys())
        ]

    def compare(self, judge_a: str, judge_b: str) -> Comparison:
        """Compare two judges on the pairs that both judged."""
        first, second = self._by_pair(judge_a), self._by_pair(judge_b)
        both = [(pair, first[pair], second[pair]) for pair in sorted(first.keys() & second.keys())]
        parsed = [row for row in both if UNPARSED not in row[1:]]
        disagreeing = [row for row in parsed if row[1] != row[2]]
        n_disagree = len(disagreeing)
        return Comparison(
            len(parsed) - n_disagree, n_disagree, len(both) - len(parsed), disagreeing
        )

    def _by_pair(self, judge: str) -> dict[Pair, str]:
        rows = self.query(
            "select problem, gold, answer, verdict from verdicts where judge = ?", judge
        )
        return {Pair(*pair): verdict for *pair, verdict in rows}

    def forget_unparsed(self, judge: str) -> int:
        """Delete a judge's unparsed verdicts, so that the next run asks again; return how many."""
        with self.transaction() as connection:
            return connection.execute(
                "delete from verdicts where judge = ? and verdict = ?", (judge, UNPARSED)
            ).rowcount


def _storable(text: str) -> str:
    # SQLite stores no lone surrogate, which some models generate.
    return text.encode("utf-8", "replace").decode("utf-8")


def _name(identity: Row) -> str:
    name = str(identity.get("engine", {}).get("name", "?"))
    if model := identity.get("model"):
        name += f" {model}"
        if revision := identity.get("revision"):
            name += f"@{revision}"
    return name
