"""What both stores need of SQLite: opening a file, transactions, errors that users understand.

The journal is SQLite's rollback journal, which unlike a write-ahead log is safe on network file
systems. The workflow has one writer at a time for each store; a second one waits for it. After a
kill a `-journal` file may lie beside the store: it belongs to it until a writer has opened it.
"""

import contextlib
import errno
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Self

from gapgrid.core.records import InputError

BUSY_SECONDS = 60.0  # how long to wait for another job's lock

# SQLite's error code -> what the user is told.
MESSAGES = {
    sqlite3.SQLITE_FULL: "disk full ({error}); free some space, then run again:"
    " what was written before is kept",
    sqlite3.SQLITE_IOERR: "{error}; check disk, quota and file-size limit, then run again:"
    " what was written before is kept",
    sqlite3.SQLITE_BUSY: "another job has locked it for {seconds:.0f} s ({error});"
    " run again when that job has ended",
    sqlite3.SQLITE_READONLY_ROLLBACK: "a job was killed while it wrote this file;"
    " run that job again first",
    sqlite3.SQLITE_READONLY: "cannot be written ({error});"
    " make the file and its folder writable for you, then run again",
    **dict.fromkeys(
        (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH),
        "cannot be opened ({error}); check the permissions of the file and its folder",
    ),
    **dict.fromkeys(
        (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT),
        "not a {kind} ({error}); move it away, {without}",
    ),
}
SYSTEM_ERRORS = {sqlite3.SQLITE_FULL: errno.ENOSPC, sqlite3.SQLITE_IOERR: errno.EIO}


class Database:
    """An open SQLite file; use it as a context manager. A reader creates and changes no file.

    A subclass says what kind of file it is, what the next run does without it, and gives the
    statements that create its tables where they do not exist, the main one's first.
    """

    kind: ClassVar[str]
    without: ClassVar[str]
    main_table: ClassVar[str]
    tables: ClassVar[tuple[str, ...]]
    schema: ClassVar[int] = 0

    def __init__(self, path: Path, must_exist: bool = False, read_only: bool = False) -> None:
        self.path = path
        if path.is_dir():
            raise InputError(f"{path}: a folder, expected a {self.kind}; move it away")
        if (must_exist or read_only) and not path.is_file():
            raise InputError(f"{path}: no such {self.kind}")
        if not read_only:
            path.parent.mkdir(parents=True, exist_ok=True)
        uri = f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rwc'}"
        with self._errors_for_users():
            self.connection = sqlite3.connect(
                uri, timeout=BUSY_SECONDS, isolation_level=None, uri=True
            )
        try:
            with self._errors_for_users():
                self._check_schema()
                if not read_only:
                    self._prepare()
        except BaseException:
            self.connection.close()
            raise

    def _check_schema(self) -> None:
        names = self.table_names()
        if names and self.main_table not in names:
            tables = ", ".join(sorted(names))
            raise InputError(
                f"{self.path}: not a {self.kind} (it has the tables {tables}); move it away"
            )
        if (version := self._schema_version()) > self.schema:
            raise InputError(
                f"{self.path}: written by a newer gapgrid"
                f" (schema {version}, known is {self.schema}); update gapgrid"
            )

    def _prepare(self) -> None:
        # An older version may have left a ledger in write-ahead-log mode.
        self.connection.execute("pragma journal_mode = delete")
        self.connection.execute("pragma synchronous = full")
        for statement in self.tables:
            self.connection.execute(statement)
        if self._schema_version() < self.schema:
            self.connection.execute(f"pragma user_version = {self.schema}")

    def _schema_version(self) -> int:
        return int(self.connection.execute("pragma user_version").fetchone()[0])

    def table_names(self) -> set[str]:
        """Return the names of the tables in the file."""
        return {name for (name,) in self.query("select name from sqlite_master where type='table'")}

    def query(self, sql: str, *parameters: object) -> list[Any]:
        """Return all rows of a query."""
        with self._errors_for_users():
            return self.connection.execute(sql, parameters).fetchall()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection for statements that are committed together, or not at all.

        The write lock is acquired at the start, so that no statement can fail for want of it.
        """
        with self._errors_for_users():
            self.connection.execute("begin immediate")
            try:
                yield self.connection
                self.connection.execute("commit")
            except BaseException:
                if self.connection.in_transaction:  # on a full disk SQLite rolls back by itself
                    self.connection.execute("rollback")
                raise

    @contextlib.contextmanager
    def _errors_for_users(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            raise self._for_users(error) from error

    def _for_users(self, error: sqlite3.DatabaseError) -> Exception:
        code = getattr(error, "sqlite_errorcode", 0)
        if code not in MESSAGES:
            code &= 0xFF  # the primary code, without SQLite's finer distinctions
        text = MESSAGES.get(code, "{error}").format(
            error=error, seconds=BUSY_SECONDS, kind=self.kind, without=self.without
        )
        if code in SYSTEM_ERRORS:
            return OSError(SYSTEM_ERRORS[code], text, str(self.path))
        return InputError(f"{self.path}: {text}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()
