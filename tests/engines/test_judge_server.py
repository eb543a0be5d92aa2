"""The OpenAI backend against `transformers serve` with a tiny model, also killed in the middle."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from gapgrid.core.records import canonical
from gapgrid.demo.arithmetic import SPECIAL, WORDS
from gapgrid.engines.judge_hf import TransformersJudge
from gapgrid.engines.judge_openai import OpenAIJudge
from gapgrid.judging.backends import JudgeError, JudgeUnreachable, Prompt
from gapgrid.stages import judge
from gapgrid.stores.verdicts import Ledger
from tests.engines.helpers import ARCHITECTURE, GREEDY, graded_cell, user_prompts, wait_until

pytest.importorskip("fastapi", reason="transformers serve needs fastapi and uvicorn")
pytest.importorskip("uvicorn", reason="transformers serve needs fastapi and uvicorn")

PROMPTS = user_prompts(
    *(f"ann has {index} pens . mon eats {index % 7} . how many ?" for index in range(48))
)


class Serving:
    """`transformers serve` on one port; can be killed and started again."""

    def __init__(self, model: Path, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.model, self.log = model, folder / "serve.log"
        # Without a hub cache folder some of its replies are errors.
        (folder / "hub").mkdir(exist_ok=True)
        self.environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder)}
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self.start()

    def start(self) -> None:
        """Start it and wait until it answers."""
        program = str(Path(sys.executable).with_name("transformers"))
        options = ["--host", "127.0.0.1", "--port", str(self.port), "--device", "cpu"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [program, "serve", str(self.model), *options],
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_until(self.is_healthy, f"transformers serve did not start, see {self.log}", 120)

    def is_healthy(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()[-3000:]
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5).close()
        except OSError:
            return False
        return True

    def kill(self) -> None:
        """Kill it, as a cluster does."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(60)

    def judge(
        self, sampling: dict[str, Any] = GREEDY, model: str | None = None, **options: Any
    ) -> OpenAIJudge:
        """Return a judge at this server."""
        return OpenAIJudge(model or str(self.model), self.url, 9, sampling, **options)


@pytest.fixture(scope="module")
def server(tokenizer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A server of a random model whose responses are words alone.

    Not of the students' kind: the server parses replies, and the library text, in the way of the
    real family.
    """
    folder = tmp_path_factory.mktemp("serving")
    model = Path(shutil.copytree(tokenizer_folder, folder / "model"))
    torch.manual_seed(0)
    llama: Any = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(SPECIAL) + len(WORDS),
            eos_token_id=3,
            bos_token_id=None,
            tie_word_embeddings=False,
            hidden_size=ARCHITECTURE["hidden_size"],
            intermediate_size=ARCHITECTURE["ffn"],
            num_hidden_layers=ARCHITECTURE["layers"],
            num_attention_heads=ARCHITECTURE["heads"],
            max_position_embeddings=640,
        )
    )
    llama.lm_head.weight.data *= 5
    llama.generation_config.suppress_tokens = list(range(len(SPECIAL)))
    llama.save_pretrained(model)
    running = Serving(model, folder)
    yield running
    running.kill()


@pytest.fixture
def requests(server: Serving, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Counts replies in `n_replies`; kills the server after `kill_after` of them."""
    state = SimpleNamespace(n_replies=0, kill_after=-1)
    send = OpenAIJudge._request

    def request(backend: OpenAIJudge, prompt: Prompt, extra: dict[str, Any]) -> str:
        reply = send(backend, prompt, extra)
        state.n_replies += 1
        if state.n_replies == state.kill_after:
            server.kill()
        return reply

    monkeypatch.setattr(OpenAIJudge, "_request", request)
    return state


def test_replies_are_those_of_the_model_in_order(server: Serving) -> None:
    """A server and the same model in the job reply the same, whatever comes back first."""
    served = server.judge().ask(PROMPTS)
    local = TransformersJudge(str(server.model), None, 9, GREEDY, "float32")
    local.model.generation_config.suppress_tokens = list(range(len(SPECIAL)))
    assert served == local.ask(PROMPTS)
    assert len(set(served)) > 1


def test_a_server_that_knows_no_top_k_is_asked_without(
    server: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    replies = server.judge({"temperature": 0, "top_k": 1}).ask(PROMPTS[:2])
    assert replies == server.judge().ask(PROMPTS[:2])
    assert "refuses top_k" in caplog.text


def test_another_model_than_the_served_one_is_refused_at_once(server: Serving) -> None:
    with pytest.raises(JudgeError, match=r"judge 'other' at .*: status 400: .*other") as caught:
        server.judge(model="other").ask(PROMPTS)
    assert caught.value.replies == {} and not isinstance(caught.value, JudgeUnreachable)


def test_the_stage_resumes_with_a_server_that_came_back(
    server: Serving,
    requests: SimpleNamespace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # Any one word counts as a verdict: an untrained judge writes neither True nor False.
    identity = {
        "engine": {"name": "openai"},
        "model": str(server.model),
        "max_tokens": 1,
        "replies": {"correct": list(WORDS), "incorrect": []},
    }
    prompt, manifest = tmp_path / "prompt.txt", tmp_path / "judge" / "round.json"
    prompt.write_text("{problem} {gold} {answer}")
    arguments = ["--spec", canonical({"version": 1, "judge": identity}), "--base-url", server.url]
    cell = graded_cell(tmp_path, 60)
    arguments += ["--prompt", str(prompt), "--", str(manifest), str(cell)]

    def verdicts() -> dict[str, Any]:
        with Ledger(manifest.parent / "verdicts.sqlite", read_only=True) as ledger:
            ((digest, _, _),) = ledger.judges()
            return ledger.verdicts(digest)

    requests.kill_after = 40
    with monkeypatch.context() as patch:
        # Fewer retries, for less waiting.
        patch.setattr(OpenAIJudge.__init__, "__defaults__", (8, 120, 2))
        assert judge.main(arguments) == 1
    assert f"judge '{server.model}' at {server.url}: APIConnectionError" in capsys.readouterr().err
    n_stored = len(verdicts())
    assert 40 <= n_stored < 60
    assert not manifest.exists()
    server.start()
    before = requests.n_replies
    assert judge.main(arguments) == 0
    assert requests.n_replies - before == 60 - n_stored
    assert len(verdicts()) == 60
