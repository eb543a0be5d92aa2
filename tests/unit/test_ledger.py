"""ledger: a verdict is kept once, under judge and pair, whole batches or none, by many processes, on any file system."""

import errno
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gapgrid import ledger
from gapgrid.ledger import Ledger, Pair
from gapgrid.records import InputError

PAIR = Pair("one and one ?", "2", "two")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a ledger is to be."""
    return tmp_path / "judge" / "verdicts.sqlite"


def test_a_judge_is_what_it_is_and_what_it_is_told() -> None:
    digests = {
        ledger.judge_digest({"model": "m"}, "prompt"),
        ledger.judge_digest({"model": "n"}, "prompt"),
        ledger.judge_digest({"model": "m", "revision": "r"}, "prompt"),
        ledger.judge_digest({"model": "m"}, "other prompt"),
    }
    assert len(digests) == 4
    assert ledger.judge_digest({"a": 1, "b": 2}, "p") == ledger.judge_digest({"b": 2, "a": 1}, "p")


def test_a_pair_is_known_by_all_its_parts() -> None:
    others = [PAIR._replace(problem="x"), PAIR._replace(gold="x"), PAIR._replace(answer="x"), Pair("one and one ?2", "", "two")]
    assert len({ledger.pair_key("judge", pair) for pair in (PAIR, *others)} | {ledger.pair_key("other", PAIR)}) == 6


def test_a_row_holds_a_pair() -> None:
    assert ledger.pair_of({"doc_id": 3, "problem": "one and one ?", "gold": "2", "answer": "two"}) == PAIR


def test_verdicts_come_back_by_judge(path: Path) -> None:
    with Ledger(path) as kept:
        kept.add("a", [(PAIR, "correct", "True")])
        kept.add("b", [(PAIR, "unparsed", "Well — é")])
    with Ledger(path, must_exist=True) as kept:
        assert kept.verdicts("a") == {ledger.pair_key("a", PAIR): ("correct", "True")}
        assert kept.verdicts("b") == {ledger.pair_key("b", PAIR): ("unparsed", "Well — é")}
        assert kept.verdicts("c") == {}


def test_a_verdict_that_is_there_stays(path: Path) -> None:
    with Ledger(path) as kept:
        kept.add("a", [(PAIR, "correct", "True")])
        kept.add("a", [(PAIR, "incorrect", "False")])
        assert list(kept.verdicts("a").values()) == [("correct", "True")]


def test_a_batch_that_breaks_is_not_kept_at_all(path: Path) -> None:
    def breaking() -> Iterator[tuple[Pair, str, str]]:
        yield PAIR, "correct", "True"
        raise RuntimeError("gone")

    with Ledger(path) as kept, pytest.raises(RuntimeError, match="gone"):
        kept.add("a", breaking())
    with Ledger(path) as kept:
        assert kept.verdicts("a") == {}


def test_a_ledger_that_must_be_there_is_named(path: Path) -> None:
    with pytest.raises(InputError, match=r"verdicts\.sqlite: no such verdict ledger"):
        Ledger(path, must_exist=True)
    assert not path.parent.exists()


def test_something_else_is_no_ledger_and_is_left_as_it_is(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"broken" * 1000)
    for read_only in (False, True):
        with pytest.raises(InputError, match=r"verdicts\.sqlite: not a verdict ledger \(file is not a database\); move it away"):
            Ledger(path, read_only=read_only)
    assert path.read_bytes() == b"broken" * 1000


def test_another_database_is_no_ledger(path: Path) -> None:
    path.parent.mkdir()
    with sqlite3.connect(path) as other:
        other.execute("create table answers (key text)")
    with pytest.raises(InputError, match=r"not a verdict ledger \(it has the tables answers\); move it away"):
        Ledger(path)


def test_a_folder_is_no_ledger(path: Path) -> None:
    path.mkdir(parents=True)
    with pytest.raises(InputError, match="a folder, expected a verdict ledger"):
        Ledger(path)


def test_a_ledger_with_a_broken_page_is_named_when_it_is_read(path: Path) -> None:
    with Ledger(path) as kept:
        kept.add("a", [(PAIR._replace(answer=f"{index}"), "correct", "True" * 50) for index in range(500)])
    whole = path.read_bytes()
    path.write_bytes(whole[:8192] + os.urandom(len(whole) - 8192))
    with pytest.raises(InputError, match=r"not a verdict ledger .*malformed.*judges anew"), Ledger(path, read_only=True) as kept:
        kept.verdicts("a")


def test_a_ledger_from_the_future_is_left_alone(path: Path) -> None:
    with Ledger(path) as kept:
        kept.connection.execute("pragma user_version = 99")
    with pytest.raises(InputError, match="newer gapgrid"):
        Ledger(path)


OLD = (
    "create table verdicts (key text primary key, judge text not null, problem text not null,"
    " gold text not null, answer text not null, verdict text not null, raw text not null)"
)


def test_an_old_ledger_is_read_and_written_on(path: Path) -> None:
    path.parent.mkdir()
    with sqlite3.connect(path) as old:
        old.execute(OLD)
        old.execute("insert into verdicts values (?, 'a', ?, ?, ?, 'correct', 'True')", (ledger.pair_key("a", PAIR), *PAIR))
    old.close()
    before = path.read_bytes()
    with Ledger(path, read_only=True) as kept:
        assert kept.verdicts("a") == {ledger.pair_key("a", PAIR): ("correct", "True")}
        assert kept.judges() == [("a", 1, "not registered")]
    assert path.read_bytes() == before
    with Ledger(path) as kept:
        kept.register("a", {"engine": {"name": "hf"}, "model": "m"}, "p")
        assert kept.judges() == [("a", 1, "hf m")]


def test_text_that_is_no_text_is_kept(path: Path) -> None:
    odd = Pair("\ud800", "\x00", "é\u2028")
    with Ledger(path) as kept:
        kept.add("a", [(odd, "unparsed", "\udfff")])
        assert kept.verdicts("a") == {ledger.pair_key("a", odd): ("unparsed", "?")}


# ---- judges ----


def test_judges_say_who_they_are(path: Path) -> None:
    who = {"engine": {"name": "openai"}, "model": "big", "revision": "main"}
    with Ledger(path) as kept:
        kept.register("b", who, "prompt")
        kept.register("b", who, "prompt")
        kept.register("c", {"engine": {"name": "stub"}}, "")
        kept.add("b", [(PAIR, "correct", "True")])
        kept.add("a", [(PAIR, "correct", "True"), (PAIR._replace(answer="2"), "correct", "True")])
        assert kept.judges() == [("a", 2, "not registered"), ("b", 1, "openai big@main"), ("c", 0, "stub")]
        assert kept.connection.execute("select prompt from judges where digest = 'b'").fetchall() == [("prompt",)]


def test_two_judges_are_compared_on_what_both_judged(path: Path) -> None:
    one, two, three, four = (PAIR._replace(answer=text) for text in ("1", "2", "3", "4"))
    with Ledger(path) as kept:
        kept.add("a", [(one, "correct", ""), (two, "correct", ""), (three, "unparsed", ""), (four, "correct", "")])
        kept.add("b", [(one, "correct", ""), (two, "incorrect", ""), (three, "correct", "")])
        assert kept.compare("a", "b") == ledger.Comparison(1, 1, 1, [(two, "correct", "incorrect")])
        assert kept.compare("a", "nobody") == ledger.Comparison(0, 0, 0, [])


def test_what_is_unparsed_can_be_forgotten(path: Path) -> None:
    other = PAIR._replace(answer="3")
    with Ledger(path) as kept:
        kept.add("a", [(PAIR, "unparsed", "Well"), (other, "correct", "True")])
        kept.add("b", [(PAIR, "unparsed", "Well")])
        assert (kept.forget_unparsed("a"), kept.forget_unparsed("a")) == (1, 0)
        assert list(kept.verdicts("a")) == [ledger.pair_key("a", other)]
        assert len(kept.verdicts("b")) == 1


def test_verdicts_of_a_judge_are_found_by_the_index(path: Path) -> None:
    with Ledger(path) as kept:
        plan = kept.connection.execute("explain query plan select key, verdict, raw from verdicts where judge = 'a'").fetchall()
    assert "verdicts_by_judge" in str(plan)


# ---- one file, readers ----


def files(path: Path) -> list[str]:
    """What stands in the ledger's folder."""
    return sorted(file.name for file in path.parent.iterdir())


def test_a_closed_ledger_is_one_whole_file(path: Path, tmp_path: Path) -> None:
    with Ledger(path) as first, Ledger(path) as second:
        assert first.connection.execute("pragma journal_mode").fetchone() == ("wal",)
        first.add("a", [(PAIR, "correct", "True")])
        second.add("a", [(PAIR._replace(answer="2"), "correct", "True")])
        assert "verdicts.sqlite-wal" in files(path)
    assert files(path) == ["verdicts.sqlite"]
    copy = shutil.copyfile(path, tmp_path / "copy.sqlite")
    with Ledger(copy, read_only=True) as kept:
        assert len(kept.verdicts("a")) == 2
        assert kept.connection.execute("pragma journal_mode").fetchone() == ("delete",)


def test_a_reader_changes_nothing(path: Path) -> None:
    with Ledger(path) as kept:
        kept.add("a", [(PAIR, "correct", "True")])
    before = path.stat()
    with Ledger(path, read_only=True) as kept:
        assert len(kept.verdicts("a")) == 1
        with pytest.raises(InputError, match="cannot be written"):
            kept.add("a", [(PAIR, "correct", "True")])
    assert files(path) == ["verdicts.sqlite"] and path.stat().st_mtime_ns == before.st_mtime_ns
    with pytest.raises(InputError, match="no such verdict ledger"):
        Ledger(path.with_name("other.sqlite"), read_only=True)


def test_a_reader_sees_what_is_committed_while_another_writes(path: Path) -> None:
    with Ledger(path) as writer:
        writer.add("a", [(PAIR, "correct", "True")])
        with Ledger(path, read_only=True) as reader:
            assert len(reader.verdicts("a")) == 1
            writer.add("a", [(PAIR._replace(answer="2"), "correct", "True")])
            assert len(reader.verdicts("a")) == 2


def test_odd_names_are_file_names(tmp_path: Path) -> None:
    path = tmp_path / "a b?mode=memory#é%41" / "verdicts.sqlite"
    with Ledger(path) as kept:
        kept.add("a", [(PAIR, "correct", "True")])
    with Ledger(path, read_only=True) as kept:
        assert len(kept.verdicts("a")) == 1


# ---- many processes, kills, full disks ----

WRITER = """
import sys
from pathlib import Path
from gapgrid import ledger
if sys.argv[3] == "network":
    ledger.MOUNTS = Path("/no/such/file")
start = int(sys.argv[2])
for batch in range(5):  # open and close again and again: that is where the journal is switched
    with ledger.Ledger(Path(sys.argv[1])) as kept:
        for part in range(4):
            numbers = range(start + batch * 40 + part * 10, start + batch * 40 + part * 10 + 10)
            kept.add("a", [(ledger.Pair("p", "g", str(number % 1000)), "correct", str(start)) for number in numbers])
"""


def process(code: str, *arguments: object) -> subprocess.Popen[str]:
    """A process of its own that runs `code`."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("kind", ["local", "network"])
def test_twenty_processes_write_at_once_and_nothing_is_lost(path: Path, kind: str) -> None:
    running = [process(WRITER, path, number * 50, kind) for number in range(20)]  # each 200 pairs, most shared with others
    told = [(one.communicate(timeout=300)[1], one.returncode) for one in running]
    assert told == [("", 0)] * 20
    assert files(path) == ["verdicts.sqlite"]
    with Ledger(path, read_only=True) as kept:
        assert kept.connection.execute("pragma integrity_check").fetchone() == ("ok",)
        answers = [row[0] for row in kept.connection.execute("select answer from verdicts")]
    assert len(answers) == len(set(answers)) == 1000


ENDLESS = """
import sys
from pathlib import Path
from gapgrid import ledger
if sys.argv[2] == "network":
    ledger.MOUNTS = Path("/no/such/file")
kept = ledger.Ledger(Path(sys.argv[1]))
number = 0
while True:
    kept.add("a", [(ledger.Pair("p" * 2000, str(number), str(answer)), "correct", "True") for answer in range(50)])
    print(number, flush=True)
    number += 1
"""


@pytest.mark.parametrize("kind", ["local", "network"])
@pytest.mark.parametrize("pause", [0.0, 0.013, 0.05])
def test_a_kill_in_the_middle_of_adding_leaves_whole_batches(path: Path, kind: str, pause: float) -> None:
    running = process(ENDLESS, path, kind)
    assert running.stdout is not None
    running.stdout.readline()
    time.sleep(pause)
    running.send_signal(signal.SIGKILL)
    told = [0, *map(int, running.stdout.read().split())]  # not communicate(), which loses what readline() has read ahead
    running.wait(60)
    with Ledger(path, must_exist=True) as kept:
        assert kept.connection.execute("pragma integrity_check").fetchone() == ("ok",)
        sizes = dict(kept.connection.execute("select gold, count(*) from verdicts group by gold"))
        kept.add("a", [(PAIR, "correct", "True")])
    assert set(sizes.values()) == {50}
    assert len(sizes) in (max(told) + 1, max(told) + 2), "a batch that was reported is lost"
    assert files(path) == ["verdicts.sqlite"]


def test_a_full_disk_is_told_and_what_was_kept_stays(path: Path) -> None:
    with Ledger(path) as kept:
        kept.add("a", [(PAIR, "correct", "True")])
        pages = kept.connection.execute("pragma page_count").fetchone()[0]
        kept.connection.execute(f"pragma max_page_count = {pages}")  # SQLite then says what it says on a full disk
        with pytest.raises(OSError, match=r"disk full .*make room and run again") as told:
            kept.add("a", [(PAIR._replace(answer="x" * 100_000), "correct", "True")])
        assert (told.value.errno, told.value.filename) == (errno.ENOSPC, str(path))
    with Ledger(path, read_only=True) as kept:
        assert len(kept.verdicts("a")) == 1


LIMITED = """
import resource, signal, sys
from pathlib import Path
from gapgrid import ledger
with ledger.Ledger(Path(sys.argv[1])) as kept:
    kept.add("a", [(ledger.Pair("p", "g", "1"), "correct", "True")])
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    try:
        kept.add("a", [(ledger.Pair("p", "g", "x" * 1_000_000), "correct", "True")])
    except OSError as error:
        print(error)
"""


def test_a_failing_disk_is_told_and_what_was_kept_stays(path: Path) -> None:
    out, err = process(LIMITED, path).communicate(timeout=60)
    assert "verdicts so far are kept" in out, err
    with Ledger(path) as kept:
        assert len(kept.verdicts("a")) == 1


UNPRIVILEGED = """
import os, sys
from pathlib import Path
from gapgrid import ledger, records
if os.getuid() == 0:
    os.setuid(65534)
path = Path(sys.argv[1])
with ledger.Ledger(path, read_only=True) as kept:
    print(len(kept.verdicts("a")))
try:
    with ledger.Ledger(path) as kept:
        kept.add("a", [(ledger.Pair("p", "g", "1"), "correct", "True")])
except records.InputError as error:
    print(error)
"""


def test_a_ledger_of_someone_else_is_read_and_not_written(path: Path) -> None:
    with Ledger(path) as kept:
        kept.add("a", [(PAIR, "correct", "True")])
    path.chmod(0o444)
    path.parent.chmod(0o555)
    for folder in path.parents[1:-2]:  # the temporary folders are closed to others
        folder.chmod(folder.stat().st_mode | 0o055) if folder.owner() == path.owner() else None
    out, err = process(UNPRIVILEGED, path).communicate(timeout=60)
    path.parent.chmod(0o755)
    assert out.startswith("1\n") and ("cannot be written" in out or "cannot be opened" in out), err


def test_a_ledger_held_by_another_job_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Ledger(path) as holder:
        holder.connection.execute("begin immediate")
        monkeypatch.setattr(ledger, "SECONDS", 0.1)
        with Ledger(path) as kept, pytest.raises(InputError, match="another job has held it"):
            kept.add("a", [(PAIR, "correct", "True")])
        holder.connection.execute("rollback")


# ---- file systems ----

MOUNTED = """\
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 22 0:40 / /home rw shared:5 - nfs4 server:/home rw,vers=4.2
31 22 0:41 / /home/me/scratch rw - ext4 /dev/vdb rw
32 22 0:42 / /lustre rw - lustre mds:/l rw
33 22 0:43 / /with\\040blank rw - fuse.sshfs host:/ rw
34 22 0:44 / /twice rw - ext4 /dev/vdc rw
35 34 0:45 / /twice rw - beegfs b rw
36 22 0:46 / /shm rw - tmpfs tmpfs rw
"""


@pytest.mark.parametrize(
    ("place", "network"),
    [
        ("/srv/x", False),
        ("/home/me/x", True),
        ("/homely/x", False),
        ("/home/me/scratch/x", False),
        ("/lustre/deep/down/x", True),
        ("/with blank/x", True),
        ("/twice/x", True),
        ("/shm/x", False),
    ],
)
def test_network_file_systems_are_known_by_their_mount(place: str, network: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "MOUNTS", tmp_path / "mountinfo")
    (tmp_path / "mountinfo").write_text(MOUNTED)
    assert ledger.is_on_network(Path(place)) is network


@pytest.mark.parametrize(
    "kind", ["nfs", "nfs4", "cifs", "smb3", "gpfs", "fuse", "fuse.glusterfs", "fuseblk", "9p", "ceph", "lustre", "beegfs"]
)
def test_on_a_network_file_system_there_is_no_log(kind: str, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "MOUNTS", tmp_path / "mountinfo")
    (tmp_path / "mountinfo").write_text(f"22 1 254:0 / / rw - {kind} somewhere rw\n")
    with Ledger(path) as kept:
        assert kept.connection.execute("pragma journal_mode").fetchone() == ("delete",)
        assert kept.connection.execute("pragma synchronous").fetchone() == (2,)
        kept.add("a", [(PAIR, "correct", "True")])
        assert "verdicts.sqlite-wal" not in files(path)


def test_a_log_left_by_a_kill_is_folded_in_on_a_network_file_system(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    running = process(ENDLESS, path, "local")
    assert running.stdout is not None
    running.stdout.readline()
    running.kill()
    running.communicate(timeout=60)
    assert "verdicts.sqlite-wal" in files(path)
    monkeypatch.setattr(ledger, "MOUNTS", path / "nothing")
    with Ledger(path) as kept:
        assert files(path) == ["verdicts.sqlite"]
        assert len(kept.verdicts("a")) >= 50
