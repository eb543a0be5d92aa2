"""The OpenAI backend against a real server, `transformers serve` with a tiny model, also one that is killed in the middle."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from gapgrid import judge, manifest
from gapgrid.demo.arithmetic import SPECIAL, WORDS
from gapgrid.engines.judge_hf import TransformersJudge
from gapgrid.engines.judge_openai import OpenAIJudge
from gapgrid.judging import JudgeError, JudgeUnreachable, Prompt
from gapgrid.ledger import Ledger
from gapgrid.records import canonical, write_jsonl

pytest.importorskip("fastapi", reason="transformers serve needs fastapi and uvicorn")
pytest.importorskip("uvicorn", reason="transformers serve needs fastapi and uvicorn")

START_SECONDS = 120
GREEDY = {"temperature": 0}
PROMPTS: list[Prompt] = [[{"role": "user", "content": f"ann has {index} pens . mon eats {index % 7} . how many ?"}] for index in range(48)]


class Serving:
    """`transformers serve` on one port; can be killed and started again."""

    def __init__(self, model: Path, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.model, self.log = model, folder / "serve.log"
        # Without a hub cache folder some of its answers are errors.
        self.environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder), "OMP_NUM_THREADS": "1"}
        (folder / "hub").mkdir(exist_ok=True)
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self.start()

    def start(self) -> None:
        """Start and wait until it answers."""
        command = [str(Path(sys.executable).with_name("transformers")), "serve", str(self.model), "--host", "127.0.0.1"]
        with self.log.open("ab") as log:
            options = ["--port", str(self.port), "--device", "cpu"]
            self.process = subprocess.Popen([*command, *options], env=self.environment, stdout=log, stderr=log, start_new_session=True)
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end and self.process.poll() is None:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5).close()
                return
            except OSError:
                time.sleep(0.3)
        pytest.fail(f"transformers serve did not start:\n{self.log.read_text()[-3000:]}")

    def kill(self) -> None:
        """Kill it, as a cluster does."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(60)


@pytest.fixture(scope="module")
def server(tokenizer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A server of a random model that says words alone.

    Not the students' kind: for that one the server reads replies, and the library text, in the way of the real family.
    """
    folder = tmp_path_factory.mktemp("serving")
    model = Path(shutil.copytree(tokenizer_folder, folder / "model"))
    n_words, control = len(SPECIAL) + len(WORDS), list(range(len(SPECIAL)))
    sizes = {"hidden_size": 16, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 640}
    torch.manual_seed(0)
    made: Any = LlamaForCausalLM(LlamaConfig(vocab_size=n_words, eos_token_id=3, bos_token_id=None, tie_word_embeddings=False, **sizes))
    made.lm_head.weight.data *= 5
    made.generation_config.suppress_tokens = control
    made.save_pretrained(model)
    running = Serving(model, folder)
    yield running
    running.kill()


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The prompts that got a reply, in the order of the replies."""
    answered: list[str] = []
    real = OpenAIJudge._request

    def counting(self: OpenAIJudge, prompt: Prompt, extra: dict[str, Any]) -> str:
        reply = real(self, prompt, extra)
        answered.append(prompt[-1]["content"])
        return reply

    monkeypatch.setattr(OpenAIJudge, "_request", counting)
    return answered


def test_replies_are_those_of_the_model_in_order(server: Serving) -> None:
    """A server and the same model in the job say the same, whatever comes back first."""
    served = OpenAIJudge(str(server.model), server.url, 9, GREEDY).ask(PROMPTS)
    here = TransformersJudge(str(server.model), None, 9, GREEDY, "float32")
    here.model.generation_config.suppress_tokens = list(range(len(SPECIAL)))
    assert served == here.ask(PROMPTS)
    assert len(set(served)) > 1


def test_a_server_that_knows_no_top_k_is_asked_without(server: Serving, caplog: pytest.LogCaptureFixture) -> None:
    one = OpenAIJudge(str(server.model), server.url, 9, {"temperature": 0, "top_k": 1})
    assert one.ask(PROMPTS[:2]) == OpenAIJudge(str(server.model), server.url, 9, GREEDY).ask(PROMPTS[:2])
    assert "refuses top_k" in caplog.text


def test_another_model_than_the_served_one_is_refused_at_once(server: Serving) -> None:
    with pytest.raises(JudgeError, match=r"judge 'other' at .*: status 400: .*other") as told:
        OpenAIJudge("other", server.url, 9, GREEDY).ask(PROMPTS)
    assert told.value.replies == {} and not isinstance(told.value, JudgeUnreachable)


def kill_after(server: Serving, n_replies: int, answered: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Kill the server as soon as so many replies are there, the others being under way or waiting."""
    counting = OpenAIJudge._request

    def killing(self: OpenAIJudge, prompt: Prompt, extra: dict[str, Any]) -> str:
        reply = counting(self, prompt, extra)
        if len(answered) == n_replies:
            server.kill()
        return reply

    monkeypatch.setattr(OpenAIJudge, "_request", killing)


def test_a_server_killed_in_the_middle_loses_no_reply(server: Serving, requests: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = OpenAIJudge(str(server.model), server.url, 9, GREEDY).ask(PROMPTS)
    with monkeypatch.context() as patch:
        requests.clear()
        kill_after(server, 10, requests, patch)
        start = time.monotonic()
        with pytest.raises(JudgeUnreachable, match="start the server, then run again") as told:
            OpenAIJudge(str(server.model), server.url, 9, GREEDY, concurrency=4, seconds=20, retries=3).ask(PROMPTS)
        assert time.monotonic() - start < 90
    replies = told.value.replies
    assert 10 <= len(replies) < len(PROMPTS)
    server.start()
    rest = [place for place in range(len(PROMPTS)) if place not in replies]
    replies.update(zip(rest, OpenAIJudge(str(server.model), server.url, 9, GREEDY).ask([PROMPTS[place] for place in rest]), strict=True))
    assert [replies[place] for place in range(len(PROMPTS))] == whole


def graded(folder: Path, n_pairs: int) -> Path:
    """A graded cell that leaves `n_pairs` answers to the judge."""
    rows = [
        {"doc_id": i, "repeat": 0, "problem": f"ann has {i} pens .", "gold": "1", "answer": "2", "rejected_by": None}
        for i in range(n_pairs)
    ]
    write_jsonl(folder / "pending.jsonl", rows)
    counts = {"n": n_pairs, "n_no_answer": 0, "n_accepted": 0, "n_pending": n_pairs}
    manifest.write(folder / "manifest.json", "grade", {}, {}, ["pending.jsonl"], facts=counts)
    return folder / "manifest.json"


def test_the_stage_goes_on_with_a_server_that_came_back(
    server: Serving, requests: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Any one word counts as a verdict: a judge that was never trained says something, but neither True nor False.
    who = {"engine": {"name": "openai"}, "model": str(server.model), "max_tokens": 1, "replies": {"correct": list(WORDS), "incorrect": []}}
    prompt = tmp_path / "prompt.txt"
    prompt.write_text("{problem} {gold} {answer}")
    arguments = ["--spec", canonical({"version": 1, "judge": who}), "--base-url", server.url, "--prompt", str(prompt), "--"]
    arguments += [str(tmp_path / "judge" / "round.json"), str(graded(tmp_path / "cell", 60))]
    with monkeypatch.context() as patch:
        kill_after(server, 40, requests, patch)
        patch.setattr(OpenAIJudge.__init__, "__defaults__", (8, 120, 2))  # fewer retries, for less waiting
        assert judge.main(arguments) == 1
    assert f"judge '{server.model}' at {server.url}: APIConnectionError" in capsys.readouterr().err
    with Ledger(tmp_path / "judge" / "verdicts.sqlite", read_only=True) as ledger:
        ((digest, n_kept, _),) = ledger.judges()
    assert 40 <= n_kept < 60
    assert not (tmp_path / "judge" / "round.json").exists()
    server.start()
    requests.clear()
    assert judge.main(arguments) == 0
    assert len(requests) == 60 - n_kept
    with Ledger(tmp_path / "judge" / "verdicts.sqlite", read_only=True) as ledger:
        assert len(ledger.verdicts(digest)) == 60
