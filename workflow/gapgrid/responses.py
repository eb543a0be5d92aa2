"""The response store: every answer of one trained student, each generated once, in one SQLite file.

An answer is keyed by the rendered prompt, the generation settings with the engine's versions, and the repeat; the file
is named by the model's digest. A new benchmark, cap or repeat therefore finds all old answers in place. Beside the
answers stand, per request, the ordered rows that a benchmark's cell is made of, so that grading needs neither lm-eval
nor a tokenizer.

One job at a time writes a store (one `evaluate` per training cell), readers come after it. The journal is SQLite's
rollback journal: it works on network file systems, where write-ahead logging does not.
"""

import json
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from gapgrid.records import InputError, Row, canonical, sha256_text


class Question(NamedTuple):
    """One thing to ask: `settings` decide the answer together with the prompt, and hold no device."""

    doc_id: int
    repeat: int
    problem: str
    gold: Any
    prompt: str
    settings: dict[str, Any]

    @property
    def key(self) -> str:
        """Under what its answer is stored."""
        return sha256_text(canonical([self.prompt, self.settings, self.repeat]))


class Answer(NamedTuple):
    """A student's answer: `finish` is `stop` (ended by itself) or `length` (reached the cap); tokens generated."""

    response: str
    finish: str
    n_tokens: int


def model_digest(train_manifest: Row) -> str:
    """Names a store: digest of a trained model's files, tokenizer and chat template among them."""
    files = {name: entry["sha256"] for name, entry in train_manifest["outputs"].items() if name.startswith("model/")}
    return sha256_text(canonical(files))[:16]


def request_digest(request_sha256: str, problems_sha256: str) -> str:
    """Names the rows of one benchmark asked in one way: digest of its request file and its problems."""
    return sha256_text(canonical([request_sha256, problems_sha256]))[:16]


_TABLES = """
create table if not exists answers (
    key text primary key, response text not null, finish text not null, n_tokens integer not null);
create table if not exists questions (
    request text, place integer, doc_id integer, repeat integer, problem text, gold text, prompt_sha text, key text,
    primary key (request, place));
"""


class Store:
    """An open store; use it as a context manager."""

    def __init__(self, path: Path, must_exist: bool = False) -> None:
        if must_exist and not path.is_file():
            raise InputError(f"{path}: no such response store")
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        try:
            self.connection = sqlite3.connect(path, timeout=60)
            self.connection.executescript(_TABLES)
        except sqlite3.DatabaseError as error:
            raise InputError(f"{path}: not a response store ({error}); delete it, the next run answers anew") from None

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def missing(self, questions: Iterable[Question]) -> set[str]:
        """Keys of the questions that have no answer yet."""
        return {question.key for question in questions} - {key for (key,) in self.connection.execute("select key from answers")}

    def add_answers(self, answers: Iterable[tuple[str, Answer]]) -> None:
        """Keep answers by key, all of them or none; an answer that is there already stays."""
        with self.connection:
            self.connection.executemany(
                "insert into answers values (?, ?, ?, ?) on conflict (key) do nothing", ((key, *answer) for key, answer in answers)
            )

    def set_questions(self, request: str, questions: list[Question]) -> None:
        """Keep the ordered questions of one request, in place of what stood there."""
        with self.connection:
            self.connection.execute("delete from questions where request = ?", (request,))
            self.connection.executemany(
                "insert into questions values (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    (request, place, q.doc_id, q.repeat, q.problem, canonical(q.gold), sha256_text(q.prompt), q.key)
                    for place, q in enumerate(questions)
                ),
            )

    def rows(self, request: str) -> list[Row]:
        """The rows of one request in the form of samples.jsonl, sorted by question; [] unless all are answered."""
        found = self.connection.execute(
            "select doc_id, repeat, problem, gold, prompt_sha, response, n_tokens, finish"
            " from questions left join answers using (key) where request = ? order by doc_id, repeat",
            (request,),
        ).fetchall()
        if any(row[5] is None for row in found):
            return []
        names = ("doc_id", "repeat", "problem", "gold", "prompt_sha", "response", "n_tokens", "finish")
        rows = [dict(zip(names, row, strict=True)) for row in found]
        return [{**row, "gold": json.loads(row["gold"])} for row in rows]


def checksum(rows: list[Row]) -> str:
    """Of a request's rows, as written into the stamp."""
    return sha256_text(canonical(rows))
