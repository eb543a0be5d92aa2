"""The judge's backends: a local transformers model, and any OpenAI-compatible server."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from gapgrid import judge, manifest
from gapgrid.engines import judge_openai
from gapgrid.engines.judge_hf import TransformersJudge
from gapgrid.ledger import Ledger
from gapgrid.records import InputError, canonical, write_jsonl

PROMPT = "<problem>{problem}</problem> <reference>{gold}</reference> <answer>{answer}</answer>"


class Server(ThreadingHTTPServer):
    """Says True where reference and answer agree as text; fails the first `n_failures` requests."""

    def __init__(self, n_failures: int = 0) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[dict[str, object]] = []
        self.n_failures = n_failures
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.asked.append(body)
            fails = len(self.server.asked) <= self.server.n_failures
        text = body["messages"][0]["content"]
        gold, answer = text.split("<reference>")[1].split("</reference>")[0], text.split("<answer>")[1].split("</answer>")[0]
        reply = {"choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": str(gold == answer)}}]}
        payload = json.dumps({"id": "x", "object": "chat.completion", "created": 0, "model": "m", **reply}).encode()
        self.send_response(500 if fails else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield running
    running.shutdown()


def pending(path: Path, n: int) -> Path:
    write_jsonl(path, ({"doc_id": i, "repeat": 0, "problem": f"p{i}", "gold": str(i), "answer": str(i if i % 2 else -i)} for i in range(n)))
    return path


def judge_with(server: Server, folder: Path, rows: Path) -> int:
    (folder / "prompt.txt").write_text(PROMPT)
    spec = canonical({"version": 1, "judge": {"engine": {"name": "openai"}, "model": "m", "max_tokens": 5}})
    arguments = ["--spec", spec, "--base-url", server.url, "--prompt", str(folder / "prompt.txt"), "--"]
    return judge.main([*arguments, str(folder / "round.json"), str(rows)])


def test_openai_judges_each_pair_once(server: Server, tmp_path: Path) -> None:
    rows = pending(tmp_path / "pending.jsonl", 40)
    assert judge_with(server, tmp_path, rows) == 0
    assert len(server.asked) == 40
    assert server.asked[0]["temperature"] == 0 and server.asked[0]["max_tokens"] == 5 and server.asked[0]["model"] == "m"
    facts = manifest.read(tmp_path / "round.json")["facts"]
    with Ledger(tmp_path / "verdicts.sqlite") as ledger:
        verdicts = [verdict for verdict, _ in ledger.verdicts(facts["judge"]).values()]
    assert verdicts.count("correct") == 21 and verdicts.count("incorrect") == 19  # 0 and -0 read the same
    assert judge_with(server, tmp_path, rows) == 0
    assert len(server.asked) == 40, "a kept verdict was asked for again"


def test_openai_retries_a_failing_server(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.n_failures = 3
    assert judge_with(server, tmp_path, pending(tmp_path / "pending.jsonl", 5)) == 0
    assert len(server.asked) == 8


def test_openai_server_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(judge_openai, "RETRIES", 1)
    gone = Server()
    gone.server_close()
    assert judge_with(gone, tmp_path, pending(tmp_path / "pending.jsonl", 3)) == 1
    assert f"judge at {gone.url}: APIConnectionError" in capsys.readouterr().err
    assert not (tmp_path / "round.json").exists()


def test_openai_needs_an_address() -> None:
    with pytest.raises(InputError, match="base_url"):
        judge_openai.OpenAIJudge("m", "", 5)


def test_transformers_judge(student: Path) -> None:
    one = TransformersJudge(str(student), None, 7)
    replies = one.ask(["ann has 3 pens .", "bob has 12 figs . mon eats 2 ."])
    assert len(replies) == 2 and replies == one.ask(["ann has 3 pens .", "bob has 12 figs . mon eats 2 ."])
    assert one.ask(["ann has 3 pens ."]) == replies[:1]
    assert all(len(reply.split()) <= 7 for reply in replies)


def test_transformers_judge_through_the_stage(student: Path, tmp_path: Path) -> None:
    """An untrained judge says nothing that parses: every verdict is unparsed, none is a guess."""
    (tmp_path / "prompt.txt").write_text(PROMPT)
    spec = canonical({"version": 1, "judge": {"engine": {"name": "hf"}, "model": str(student), "max_tokens": 5}})
    rows = pending(tmp_path / "pending.jsonl", 4)
    arguments = ["--spec", spec, "--prompt", str(tmp_path / "prompt.txt"), "--", str(tmp_path / "round.json"), str(rows)]
    assert judge.main(arguments) == 0
    facts = manifest.read(tmp_path / "round.json")["facts"]
    with Ledger(tmp_path / "verdicts.sqlite") as ledger:
        assert {verdict for verdict, _ in ledger.verdicts(facts["judge"]).values()} == {"unparsed"}
