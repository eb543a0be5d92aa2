"""The response store: every completion of one trained student, generated once, in an SQLite file.

A completion is keyed by the rendered prompt, the generation settings with the engine's versions,
and the repeat; the file is named by the model's digest. A new benchmark, cap or repeat therefore
keeps all completions that exist. The store also holds, per request of a benchmark, the ordered
rows of its cell, so that grading needs neither lm-eval nor a tokenizer.

One job at a time writes a store (one `evaluate` per training cell), readers come after it.
"""

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

from gapgrid.core.records import Row, canonical, sha256_text
from gapgrid.core.rows import SampleRow
from gapgrid.stores.sqlite import Database


class GenerationRequest(NamedTuple):
    """One completion to generate; with the prompt `settings` decide it, and they name no device."""

    doc_id: int
    repeat: int
    problem: str
    gold: Any
    prompt: str
    settings: dict[str, Any]

    @property
    def key(self) -> str:
        """Return the key under which the completion is stored."""
        return sha256_text(canonical([self.prompt, self.settings, self.repeat]))


class Completion(NamedTuple):
    """What a student generated: `finish` is `stop`, or `length` if the token limit was reached."""

    response: str
    finish: str
    n_tokens: int


def model_digest(train_manifest: Row) -> str:
    """Return the name of a model's store: a digest of all its files, the tokenizer's too."""
    files = {
        name: entry["sha256"]
        for name, entry in train_manifest["outputs"].items()
        if name.startswith("model/")
    }
    return sha256_text(canonical(files))[:16]


def request_digest(request_sha256: str, problems_sha256: str) -> str:
    """Return the key of a benchmark's rows: a digest of its request file and its problems."""
    return sha256_text(canonical([request_sha256, problems_sha256]))[:16]


class Store(Database):
    """An open response store; use it as a context manager."""

    kind = "response store"
    without = "the next run generates its completions again"
    main_table = "answers"
    tables = (
        "create table if not exists answers (key text primary key, response text not null,"
        " finish text not null, n_tokens integer not null)",
        "create table if not exists questions (request text, place integer, doc_id integer,"
        " repeat integer, problem text, gold text, prompt_sha text, key text,"
        " primary key (request, place))",
    )

    def missing(self, requests: Iterable[GenerationRequest]) -> set[str]:
        """Return the keys of the requests that have no completion yet."""
        known = {key for (key,) in self.query("select key from answers")}
        return {request.key for request in requests} - known

    def add_completions(self, completions: Iterable[tuple[str, Completion]]) -> None:
        """Keep completions by key, all of them or none; one that exists already stays."""
        with self.transaction() as connection:
            connection.executemany(
                "insert into answers values (?, ?, ?, ?) on conflict (key) do nothing",
                ((key, *completion) for key, completion in completions),
            )

    def set_requests(self, request: str, requests: list[GenerationRequest]) -> None:
        """Replace the ordered generation requests of a benchmark; `request` is its digest."""
        rows = [
            (request, index, *row[:3], canonical(row.gold), sha256_text(row.prompt), row.key)
            for index, row in enumerate(requests)
        ]
        with self.transaction() as connection:
            connection.execute("delete from questions where request = ?", (request,))
            connection.executemany("insert into questions values (?, ?, ?, ?, ?, ?, ?, ?)", rows)

    def rows(self, request: str) -> list[SampleRow]:
        """Return a benchmark's rows as in samples.jsonl; [] unless all its completions exist."""
        rows = self.query(
            "select doc_id, repeat, problem, gold, prompt_sha, response, n_tokens, finish"
            " from questions left join answers using (key)"
            " where request = ? order by doc_id, repeat",
            request,
        )
        if any(response is None for _, _, _, _, _, response, _, _ in rows):
            return []
        return [
            {
                "doc_id": doc_id,
                "repeat": repeat,
                "problem": problem,
                "gold": json.loads(gold),
                "prompt_sha": prompt_sha,
                "response": response,
                "n_tokens": n_tokens,
                "finish": finish,
            }
            for doc_id, repeat, problem, gold, prompt_sha, response, n_tokens, finish in rows
        ]


def checksum(rows: list[SampleRow]) -> str:
    """Return the digest of a benchmark's rows that the batch manifest of `evaluate` holds."""
    return sha256_text(canonical(rows))
