"""sqlite: whole batches or none, whatever breaks; errors that say what to do; honest readers."""

import errno
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gapgrid.core.records import InputError
from gapgrid.core.rows import Pair
from gapgrid.stores import sqlite
from gapgrid.stores.responses import Completion, Store
from gapgrid.stores.sqlite import Database
from gapgrid.stores.verdicts import Ledger, pair_key

PAIR = Pair("one and one ?", "2", "two")
KINDS = pytest.mark.parametrize("kind", [Store, Ledger])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store's path, in a folder that does not exist."""
    return tmp_path / "deep" / "store.sqlite"


@pytest.fixture
def kept(path: Path) -> Path:
    """A ledger with one verdict."""
    with Ledger(path) as ledger:
        ledger.add("a", [(PAIR, "correct", "True")])
    return path


def files(path: Path) -> list[str]:
    """The names in a store's folder."""
    return sorted(file.name for file in path.parent.iterdir())


def n_verdicts(path: Path) -> int:
    """How many verdicts a reader sees."""
    with Ledger(path, read_only=True) as ledger:
        return len(ledger.verdicts("a"))


def process(code: str, *arguments: object) -> subprocess.Popen[str]:
    """A process of its own that runs `code`."""
    command = [sys.executable, "-c", IMPORTS + code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


IMPORTS = """
import os, resource, sys
from pathlib import Path
from gapgrid.core.records import InputError
from gapgrid.core.rows import Pair
from gapgrid.stores.verdicts import Ledger
path = Path(sys.argv[1])
"""


# ---- opening ----


@KINDS
@pytest.mark.parametrize("how", ["must_exist", "read_only"])
def test_a_missing_store_is_named_and_not_created(
    path: Path, kind: type[Database], how: str
) -> None:
    with pytest.raises(InputError, match=rf"store\.sqlite: no such {kind.kind}"):
        kind(path, **{how: True})
    assert not path.parent.exists()


@KINDS
@pytest.mark.parametrize("read_only", [False, True])
def test_another_file_is_refused_and_left_as_it_is(
    path: Path, kind: type[Database], read_only: bool
) -> None:
    path.parent.mkdir()
    path.write_bytes(b"broken" * 1000)
    match = rf"store\.sqlite: not a {kind.kind} \(file is not a database\); move it away, the next"
    with pytest.raises(InputError, match=match):
        kind(path, read_only=read_only)
    assert path.read_bytes() == b"broken" * 1000
    assert files(path) == ["store.sqlite"]


def test_a_folder_another_database_and_a_newer_schema_are_refused(kept: Path) -> None:
    with pytest.raises(InputError, match=r"deep: a folder, expected a verdict ledger; move it"):
        Ledger(kept.parent)
    with pytest.raises(InputError, match=r"not a response store \(it has the tables judges, verd"):
        Store(kept)
    with Ledger(kept) as ledger:
        ledger.connection.execute("pragma user_version = 99")
    with pytest.raises(
        InputError, match=r"newer gapgrid \(schema 99, known is 1\); update gapgrid"
    ):
        Ledger(kept)


def test_a_broken_page_is_named_when_it_is_read(path: Path) -> None:
    with Ledger(path) as ledger:
        pairs = [PAIR._replace(answer=f"{index}") for index in range(500)]
        ledger.add("a", [(pair, "correct", "True" * 50) for pair in pairs])
    content = path.read_bytes()
    path.write_bytes(content[:8192] + os.urandom(len(content) - 8192))
    with pytest.raises(InputError, match=r"not a verdict ledger .*malformed.*judges anew"):
        n_verdicts(path)


def test_odd_names_are_file_names(tmp_path: Path) -> None:
    path = tmp_path / "a b?mode=memory#é%41" / "verdicts.sqlite"
    with Ledger(path) as ledger:
        ledger.add("a", [(PAIR, "correct", "True")])
    assert n_verdicts(path) == 1 and files(path) == ["verdicts.sqlite"]


def test_a_ledger_of_before_there_were_schemas_is_read_unchanged_and_completed(path: Path) -> None:
    path.parent.mkdir()
    with sqlite3.connect(path) as old:
        old.execute(Ledger.tables[0])
        row = (pair_key("a", PAIR), "a", *PAIR, "correct", "True")
        old.execute("insert into verdicts values (?, ?, ?, ?, ?, ?, ?)", row)
    old.close()
    before = path.read_bytes()
    with Ledger(path, read_only=True) as ledger:
        assert ledger.judges() == [("a", 1, "not registered")]
    assert path.read_bytes() == before
    with Ledger(path) as ledger:
        ledger.register("a", {"engine": {"name": "hf"}, "model": "m"}, "p")
        assert ledger.judges() == [("a", 1, "hf m")]
        assert ledger.query("pragma user_version") == [(1,)]


def test_a_ledger_left_in_write_ahead_log_mode_is_read_and_written(kept: Path) -> None:
    code = """
ledger = Ledger(path)
ledger.connection.execute("pragma journal_mode = wal")
ledger.add("a", [(Pair("p", "g", "logged"), "correct", "True")])
os._exit(0)  # as a kill: the log stays
"""
    assert process(code, kept).wait(60) == 0
    assert "store.sqlite-wal" in files(kept)
    assert n_verdicts(kept) == 2
    with Ledger(kept) as ledger:
        assert ledger.query("pragma journal_mode") == [("delete",)]
        assert ledger.query("pragma synchronous") == [(2,)]
        assert files(kept) == ["store.sqlite"] and len(ledger.verdicts("a")) == 2


# ---- readers ----


def test_a_reader_changes_nothing(kept: Path) -> None:
    before = kept.stat().st_mtime_ns
    with Ledger(kept, read_only=True) as ledger:
        assert len(ledger.verdicts("a")) == 1
        with pytest.raises(InputError, match="cannot be written"):
            ledger.add("a", [(PAIR, "correct", "True")])
    assert files(kept) == ["store.sqlite"] and kept.stat().st_mtime_ns == before


def test_a_reader_sees_what_is_committed_while_another_writes(kept: Path) -> None:
    with Ledger(kept) as writer, Ledger(kept, read_only=True) as reader:
        assert len(reader.verdicts("a")) == 1
        writer.add("a", [(PAIR._replace(answer="2"), "correct", "True")])
        assert len(reader.verdicts("a")) == 2


def test_a_ledger_of_someone_else_is_read_and_not_written(kept: Path) -> None:
    code = """
if os.getuid() == 0:
    os.setuid(65534)
with Ledger(path, read_only=True) as ledger:
    print(len(ledger.verdicts("a")))
try:
    with Ledger(path) as ledger:
        ledger.add("a", [(Pair("p", "g", "1"), "correct", "True")])
except InputError as error:
    print(error)
"""
    kept.chmod(0o444)
    kept.parent.chmod(0o555)
    for folder in kept.parents[1:-2]:  # the temporary folders are closed to other users
        if folder.owner() == kept.owner():
            folder.chmod(folder.stat().st_mode | 0o055)
    out, err = process(code, kept).communicate(timeout=60)
    kept.parent.chmod(0o755)
    assert out.startswith("1\n") and ("cannot be written" in out or "cannot be opened" in out), err


# ---- many processes, kills, full disks ----


def test_processes_that_write_at_once_lose_nothing(path: Path) -> None:
    code = """
start = int(sys.argv[2])
for batch in range(5):  # open and close again and again
    with Ledger(path) as ledger:
        for first in range(start + batch * 40, start + batch * 40 + 40, 10):
            pairs = [Pair("p", "g", str(number % 200)) for number in range(first, first + 10)]
            ledger.add("a", [(pair, "correct", str(start)) for pair in pairs])
"""
    running = [process(code, path, number * 50) for number in range(4)]  # most pairs are shared
    results = [(writer.communicate(timeout=300)[1], writer.returncode) for writer in running]
    assert results == [("", 0)] * 4
    assert files(path) == ["store.sqlite"]
    with Ledger(path, read_only=True) as ledger:
        assert ledger.query("pragma integrity_check") == [("ok",)]
        answers = [answer for (answer,) in ledger.query("select answer from verdicts")]
    assert len(answers) == len(set(answers)) == 200


@pytest.mark.parametrize("pause", [0.0, 0.013, 0.05])
def test_a_kill_in_the_middle_of_adding_leaves_whole_batches(path: Path, pause: float) -> None:
    code = """
ledger, number = Ledger(path), 0
while True:
    pairs = [Pair("p" * 2000, str(number), str(answer)) for answer in range(50)]
    ledger.add("a", [(pair, "correct", "True") for pair in pairs])
    print(number, flush=True)
    number += 1
"""
    running = process(code, path)
    assert running.stdout is not None
    running.stdout.readline()
    time.sleep(pause)
    running.send_signal(signal.SIGKILL)
    # Not communicate(), which loses what readline() has read ahead.
    n_reported = 1 + len(running.stdout.read().split())
    running.wait(60)
    with Ledger(path, must_exist=True) as ledger:
        assert ledger.query("pragma integrity_check") == [("ok",)]
        sizes = dict(ledger.query("select gold, count(*) from verdicts group by gold"))
        ledger.add("a", [(PAIR, "correct", "True")])
    assert set(sizes.values()) == {50}
    assert len(sizes) in (n_reported, n_reported + 1), "a batch that was reported is lost"
    assert files(path) == ["store.sqlite"]


def test_a_kill_in_the_middle_of_a_commit_is_rolled_back_by_the_next_writer(kept: Path) -> None:
    code = """
ledger = Ledger(path)
ledger.connection.execute("pragma cache_size = 1")  # so that it writes before the commit
with ledger.transaction() as connection:
    connection.execute("update verdicts set raw = ?", ("x" * 1_000_000,))
    os._exit(0)
"""
    assert process(code, kept).wait(60) == 0
    assert files(kept) == ["store.sqlite", "store.sqlite-journal"]
    with pytest.raises(InputError, match="a job was killed while it wrote this file; run that job"):
        n_verdicts(kept)
    with Ledger(kept) as ledger:
        assert list(ledger.verdicts("a").values()) == [("correct", "True")]
    assert files(kept) == ["store.sqlite"] and n_verdicts(kept) == 1


def test_a_full_disk_is_reported_and_what_was_kept_stays(kept: Path) -> None:
    with Ledger(kept) as ledger:
        ((n_pages,),) = ledger.query("pragma page_count")
        ledger.query(f"pragma max_page_count = {n_pages}")  # SQLite then acts as on a full disk
        with pytest.raises(OSError, match=r"disk full .*free some space, then run") as caught:
            ledger.add("a", [(PAIR._replace(answer="x" * 100_000), "correct", "True")])
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(kept))
    assert n_verdicts(kept) == 1


def test_a_failing_disk_is_reported_and_what_was_kept_stays(kept: Path) -> None:
    code = """
with Ledger(path) as ledger:
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    try:
        ledger.add("a", [(Pair("p", "g", "x" * 1_000_000), "correct", "True")])
    except OSError as error:
        print(error)
"""
    out, err = process(code, kept).communicate(timeout=60)
    assert "what was written before is kept" in out and str(kept) in out, err
    assert n_verdicts(kept) == 1


def test_a_store_locked_by_another_job_is_reported(
    kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.1)
    locked = pytest.raises(InputError, match=r"another job has locked it .*when that job has ended")
    with Ledger(kept) as holder, holder.transaction(), Ledger(kept) as ledger, locked:
        ledger.add("a", [(PAIR, "correct", "True")])


def test_a_row_that_sqlite_refuses_is_an_error_with_the_files_name(path: Path) -> None:
    with Store(path) as store:
        with pytest.raises(InputError, match=r"store\.sqlite: NOT NULL constraint failed"):
            store.add_completions([("key", Completion("text", None, 1))])  # type: ignore[arg-type]
        assert store.query("select key from answers") == []
