"""The verdict ledger: each unique (judge, problem, reference answer, answer) judged once, in one SQLite file.

A judge is named by what it is, how it is run and its prompt, so that another judge leaves the old verdicts in place.

What is safe. On a local file system any number of processes may write and read at once (write-ahead log). On a network
file system that log is not safe, as its index is memory of one host; there, and where the kind of file system cannot be
told, the rollback journal is used. It holds as far as the server's byte-range locks do: one writer, killed at any
moment, loses at most the batch in flight; writers on several hosts are safe only if the locks hold across hosts, which
NFS without a lock daemon and Lustre mounted with `localflock` do not give. The workflow does not rely on it: one judge
job per grid writes, scores read after it has ended, and readers open read-only. Either way every commit is synced.

When the last writer closes, the log is folded in and the file is left in rollback mode: a copy of the one file is a
full ledger, and readers on other hosts need nothing beside it. After a kill, `-wal`, `-shm` or `-journal` files may
stand beside it: they belong to it until the next writer has closed. Until then, as after two writers that closed in the
same instant, the file is whole but in log mode: a reader then needs a folder that it can write to.
"""

import contextlib
import errno
import json
import random
import re
import sqlite3
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from gapgrid.records import InputError, Row, canonical, sha256_text

MOUNTS = Path("/proc/self/mountinfo")
NETWORK = re.compile(r"nfs\d?|lustre|gpfs|beegfs|cifs|smb\w*|afs|ceph|glusterfs|fuse.*|9p|panfs|pvfs2|orangefs|wekafs|virtiofs|gfs2|ocfs2")
SECONDS = 60.0  # how long to wait for another job's lock
SCHEMA = 1
UNPARSED = "unparsed"

_TABLES = (
    "create table if not exists verdicts (key text primary key, judge text not null, problem text not null,"
    " gold text not null, answer text not null, verdict text not null, raw text not null)",
    "create index if not exists verdicts_by_judge on verdicts (judge)",
    "create table if not exists judges (digest text primary key, identity text not null, prompt text not null)",
    f"pragma user_version = {SCHEMA}",
)


class Pair(NamedTuple):
    """What a judge compares."""

    problem: str
    gold: str
    answer: str


class Comparison(NamedTuple):
    """Two judges on the pairs that both judged; a pair that either left unparsed neither agrees nor disagrees."""

    n_agree: int
    n_disagree: int
    n_unparsed: int
    disagreeing: list[tuple[Pair, str, str]]  # sorted; the verdict of the first judge, then of the second


def judge_digest(identity: Row, prompt: str) -> str:
    """Names a judge: what it is, how it is run, and the text it is given."""
    return sha256_text(canonical([identity, prompt]))[:16]


def pair_key(judge: str, pair: Pair) -> str:
    """Under what a verdict is kept."""
    return sha256_text(canonical([judge, *pair]))


def pair_of(row: Row) -> Pair:
    """The pair in a row of pending.jsonl."""
    return Pair(row["problem"], row["gold"], row["answer"])


def is_on_network(path: Path) -> bool:
    """Whether a file is on a network file system, by its mount's type; True where that cannot be told."""
    try:
        lines = MOUNTS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return True
    place, kind, depth = path.resolve(), "unknown", -1
    for line in lines:
        left, _, right = line.partition(" - ")
        point = Path(re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), left.split()[4]))
        if place.is_relative_to(point) and len(point.parts) >= depth:  # of two on one point the later one covers the other
            kind, depth = right.split()[0], len(point.parts)
    return kind == "unknown" or NETWORK.fullmatch(kind) is not None


class Ledger:
    """The verdicts kept so far; use it as a context manager. A reader makes no file and changes nothing."""

    def __init__(self, path: Path, must_exist: bool = False, read_only: bool = False) -> None:
        self.path, self.read_only = path, read_only
        if path.is_dir():
            raise InputError(f"{path}: a folder, expected a verdict ledger; move it away")
        if (must_exist or read_only) and not path.is_file():
            raise InputError(f"{path}: no such verdict ledger")
        if not read_only:
            path.parent.mkdir(parents=True, exist_ok=True)
        with self._explained():
            target = f"{path.absolute().as_uri()}?mode=ro" if read_only else str(path)
            self.connection = sqlite3.connect(target, timeout=SECONDS, isolation_level=None, uri=read_only)
        try:
            with self._explained():
                self._prepare()
        except BaseException:
            self.connection.close()
            raise

    def _prepare(self) -> None:
        tables = self._tables()
        if tables and "verdicts" not in tables:
            raise InputError(f"{self.path}: not a verdict ledger (it has the tables {', '.join(sorted(tables))}); move it away")
        version = self.connection.execute("pragma user_version").fetchone()[0]
        if version > SCHEMA:
            raise InputError(f"{self.path}: written by a newer gapgrid (schema {version}, known is {SCHEMA}); update gapgrid")
        if self.read_only:
            return
        self._journal("delete" if is_on_network(self.path) else "wal", SECONDS)
        self.connection.execute("pragma synchronous = full")
        if version < SCHEMA:
            with self._writing():
                for statement in _TABLES:
                    self.connection.execute(statement)

    def _tables(self) -> set[str]:
        return {name for (name,) in self.connection.execute("select name from sqlite_master where type = 'table'")}

    def _journal(self, mode: str, seconds: float) -> None:
        """Switch the journal, trying again for `seconds`.

        SQLite's own waiting is off meanwhile: it would keep newcomers out while it waits for those inside to leave,
        and these stay, as each holds the file in the mode that it found.
        """
        end = time.monotonic() + seconds
        self.connection.execute("pragma busy_timeout = 0")
        while True:
            try:
                self.connection.execute(f"pragma journal_mode = {mode}")
                break
            except sqlite3.OperationalError as error:
                if _code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                    raise
                time.sleep(random.uniform(0.005, 0.05))  # out of step with the others
        self.connection.execute(f"pragma busy_timeout = {round(1000 * SECONDS)}")

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """One transaction, all or nothing, the lock taken first so that nothing can fail half-way for want of it."""
        self.connection.execute("begin immediate")
        try:
            yield
            self.connection.execute("commit")
        except BaseException:
            if self.connection.in_transaction:  # a full disk has SQLite roll back by itself
                self.connection.execute("rollback")
            raise

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """SQLite's errors as what the user can do about them."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            raise _for_users(self.path, error) from error

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close; the last writer folds the log in and leaves one file that needs nothing beside it."""
        try:
            if not self.read_only:
                self._journal("delete", 0.5)
        except sqlite3.DatabaseError:
            pass  # another job is at work on it and does this when it closes; what is committed stays in any case
        finally:
            self.connection.close()

    def verdicts(self, judge: str) -> dict[str, tuple[str, str]]:
        """Key -> (verdict, the judge's own words) of one judge."""
        with self._explained():
            rows = self.connection.execute("select key, verdict, raw from verdicts where judge = ?", (judge,))
            return {key: (verdict, raw) for key, verdict, raw in rows}

    def add(self, judge: str, judged: Iterable[tuple[Pair, str, str]]) -> None:
        """Keep (pair, verdict, raw), all or none; a verdict that is there already stays."""
        rows = [(pair_key(judge, pair), judge, *map(_storable, (*pair, verdict, raw))) for pair, verdict, raw in judged]
        with self._explained(), self._writing():
            self.connection.executemany("insert into verdicts values (?, ?, ?, ?, ?, ?, ?) on conflict (key) do nothing", rows)

    def register(self, judge: str, identity: Row, prompt: str) -> None:
        """Keep what a judge's digest stands for."""
        with self._explained(), self._writing():
            row = (judge, _storable(canonical(identity)), _storable(prompt))
            self.connection.execute("insert into judges values (?, ?, ?) on conflict (digest) do nothing", row)

    def judges(self) -> list[tuple[str, int, str]]:
        """(digest, verdicts kept, a few words on who it is) of every judge, sorted by digest."""
        with self._explained():
            counts = dict(self.connection.execute("select judge, count(*) from verdicts group by judge").fetchall())
            # A reader may meet a file from before judges were registered, and must not change it.
            registered = self.connection.execute("select digest, identity from judges").fetchall() if "judges" in self._tables() else []
        known = {digest: _described(json.loads(identity)) for digest, identity in registered}
        return [(digest, counts.get(digest, 0), known.get(digest, "not registered")) for digest in sorted(counts.keys() | known.keys())]

    def compare(self, judge_a: str, judge_b: str) -> Comparison:
        """Where two judges agree and where not, on the pairs that both judged."""
        first, second = self._by_pair(judge_a), self._by_pair(judge_b)
        both = [(pair, first[pair], second[pair]) for pair in sorted(first.keys() & second.keys())]
        counts = Counter("unparsed" if UNPARSED in (a, b) else "agree" if a == b else "disagree" for _, a, b in both)
        disagreeing = [row for row in both if row[1] != row[2] and UNPARSED not in row[1:]]
        return Comparison(counts["agree"], counts["disagree"], counts["unparsed"], disagreeing)

    def _by_pair(self, judge: str) -> dict[Pair, str]:
        with self._explained():
            rows = self.connection.execute("select problem, gold, answer, verdict from verdicts where judge = ?", (judge,))
            return {Pair(*row[:3]): row[3] for row in rows}

    def forget_unparsed(self, judge: str) -> int:
        """Delete a judge's unparsed verdicts, so that the next run asks again; returns how many."""
        with self._explained(), self._writing():
            return self.connection.execute("delete from verdicts where judge = ? and verdict = ?", (judge, UNPARSED)).rowcount


def _storable(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")  # SQLite takes no lone surrogate, which some models emit


def _described(identity: Row) -> str:
    engine, model, revision = identity.get("engine", {}).get("name", "?"), identity.get("model"), identity.get("revision")
    return " ".join([engine, *([f"{model}@{revision}" if revision else model] if model else [])])


def _code(error: sqlite3.DatabaseError) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF  # the primary code, without SQLite's finer distinctions


def _for_users(path: Path, error: sqlite3.DatabaseError) -> Exception:
    code = _code(error)
    if code == sqlite3.SQLITE_FULL:
        return OSError(errno.ENOSPC, f"disk full ({error}); verdicts so far are kept: make room and run again", str(path))
    if code == sqlite3.SQLITE_IOERR:
        return OSError(errno.EIO, f"{error}; check disk, quota and file-size limit, then run again: verdicts so far are kept", str(path))
    if code == sqlite3.SQLITE_BUSY:
        return InputError(f"{path}: another job has held it for {SECONDS:.0f} s ({error}); run again when that one has ended")
    if code == sqlite3.SQLITE_READONLY:
        return InputError(f"{path}: cannot be written ({error}); make the file and its folder writable for you, then run again")
    if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH):
        return InputError(f"{path}: cannot be opened ({error}); check the rights of the file and its folder")
    if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
        return InputError(f"{path}: not a verdict ledger ({error}); move it away, the next run judges anew")
    return InputError(f"{path}: {error}")
