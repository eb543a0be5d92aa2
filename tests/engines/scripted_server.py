"""A server for the OpenAI client that answers every request as a script says."""

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = tuple[int, Any, dict[str, str]]  # status, body, headers
# Takes the request's body and how many requests came before.
Script = Callable[[dict[str, Any], int], Reply]


def completion(content: str | None) -> Reply:
    """Return a chat completion as servers write it."""
    message = {"role": "assistant", "content": content}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    fields = {"id": "x", "object": "chat.completion", "created": 0, "model": "m"}
    return 200, {**fields, "choices": [choice]}, {}


def failure(status: int, message: str = "") -> Reply:
    """Return an error."""
    return status, {"error": {"message": message}}, {}


def echo(body: dict[str, Any], before: int) -> Reply:
    """Reply with the last message."""
    return completion(body["messages"][-1]["content"])


class Server(ThreadingHTTPServer):
    """Keeps the requests' bodies, the times at which they came, and how many overlapped."""

    def __init__(self, script: Script) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script, self.lock = script, threading.Lock()
        self.bodies: list[dict[str, Any]] = []
        self.times: list[float] = []
        self.n_open, self.max_open = 0, 0
        self.url = f"http://127.0.0.1:{self.server_address[1]}/v1"

    def start(self) -> None:
        """Serve in a thread."""
        arguments = {"poll_interval": 0.02}
        threading.Thread(target=self.serve_forever, kwargs=arguments, daemon=True).start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Be silent about clients that have gone."""


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with server.lock:
            before = len(server.bodies)
            server.bodies.append({**body, "authorization": self.headers["Authorization"]})
            server.times.append(time.monotonic())
            server.n_open += 1
            server.max_open = max(server.max_open, server.n_open)
        status, content, headers = server.script(body, before)
        with server.lock:
            server.n_open -= 1
        payload = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        sizes = {"Content-Type": "application/json", "Content-Length": str(len(payload))}
        for name, value in {**sizes, **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *_: object) -> None:
        pass
