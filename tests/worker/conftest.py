"""Real workers and a manager that only listens."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

DEADLINE_SECONDS = 60.0
POOL = "pool-of-the-test"


def poll(question: Callable[[], Any], what: str = "", seconds: float = DEADLINE_SECONDS) -> Any:
    """Ask until the answer is true; fail after a deadline that only a wedged process misses."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if answer := question():
            return answer
        time.sleep(0.005)
    pytest.fail(f"in vain for {seconds} s: {what or question}")


class FakeManager:
    """Takes facts; ``reply`` is what it answers, None for a 500."""

    def __init__(self) -> None:
        self.reply: dict[str, Any] | None = {
            "known": True,
            "pool_id": POOL,
            "lease_seconds": 900.0,
        }
        self.posts: list[tuple[float, str, dict[str, Any]]] = []
        manager = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                secret = self.headers["authorization"]
                manager.posts.append((time.monotonic(), secret, {**body, "path": self.path}))
                data = json.dumps(manager.reply).encode()
                self.send_response(200 if manager.reply else 500)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_: Any) -> None:
                """A worker that was killed while it posted is no news."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def facts(self, worker_id: str) -> list[dict[str, Any]]:
        return [body for _, _, body in self.posts if body["worker_id"] == worker_id]

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class RunningWorker:
    """A worker process, started as a manager starts one."""

    def __init__(self, manager: FakeManager, folder: Path, **assignment: Any) -> None:
        self.manager = manager
        self.id = f"w-{uuid.uuid4().hex[:8]}"
        self.secret = f"secret-{self.id}"
        self.record_path = folder / f"{self.id}.exit.json"
        self.log_path = folder / f"{self.id}.log"
        self.assignment = {
            "worker_id": self.id,
            "secret": self.secret,
            "pool_id": POOL,
            "epoch": 1,
            "manager_url": manager.url,
            "model_id": "demo",
            "engine": "fake",
            "source": "none",
            "port": 0,
            "aliases": ["nick"],
            "exit_record": str(self.record_path),
            "log_path": str(self.log_path),
            **assignment,
        }
        self._client: httpx.Client | None = None

    def start(self, line: bytes | None = None) -> RunningWorker:
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "modelpool_worker",
                    "serve",
                    str(self.assignment["engine"]),
                    "demo",
                ],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "MODELPOOL_WORKER_ID": self.id, "SOME_API_KEY": "hush"},
            )
        assert self.process.stdin is not None
        self.process.stdin.write(line or json.dumps(self.assignment).encode() + b"\n")
        self.process.stdin.close()
        return self

    @property
    def facts(self) -> dict[str, Any]:
        """The newest facts that reached the manager, in whatever order."""
        found = poll(lambda: self.manager.facts(self.id), f"facts; log: {self.log}")
        return max(found, key=lambda facts: int(facts["sequence"]))

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    @property
    def port(self) -> int:
        return int(self.facts["port"])

    @property
    def record(self) -> dict[str, Any]:
        return dict(json.loads(self.record_path.read_text()))

    @property
    def http(self) -> httpx.Client:
        if self._client is None:
            url = f"http://127.0.0.1:{self.port}"
            self._client = httpx.Client(base_url=url, timeout=DEADLINE_SECONDS, verify=False)
        return self._client

    def last_phase(self, phase: str) -> dict[str, Any]:
        """What it said with that phase; for one that has ended, whose last words may be read
        later."""
        poll(lambda: self.facts["phase"] == phase, f"phase {phase}; log: {self.log}")
        return self.facts

    def wait_phase(self, phase: str) -> RunningWorker:
        def there() -> bool:
            assert self.process.poll() is None or self.facts["phase"] == phase, self.log
            return bool(self.facts["phase"] == phase)

        poll(there, f"phase {phase}; log: {self.log}")
        return self

    def ready(self) -> RunningWorker:
        return self.start().wait_phase("ready")

    def wait_exit(self, seconds: float = DEADLINE_SECONDS) -> int:
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            pytest.fail(f"still running; log: {self.log}")

    def chat(self, text: str = "hello", **body: Any) -> httpx.Response:
        messages = [{"role": "user", "content": text}]
        return self.http.post("/v1/chat/completions", json={"messages": messages, **body})

    def internal(self, method: str, what: str, **more: Any) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.secret}"}
        return self.http.request(method, f"/internal/{what}", headers=headers, **more)

    def live_facts(self) -> dict[str, Any]:
        return dict(self.internal("GET", "facts").json())

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
        if hasattr(self, "process"):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


Start = Callable[..., RunningWorker]


@pytest.fixture(scope="session")
def manager() -> Iterator[FakeManager]:
    listening = FakeManager()
    yield listening
    listening.stop()


@pytest.fixture
def own_manager() -> Iterator[FakeManager]:
    """One whose replies a test may change."""
    listening = FakeManager()
    yield listening
    listening.stop()


@pytest.fixture
def worker(manager: FakeManager, tmp_path: Path) -> Iterator[Start]:
    """Makes workers, not started yet, that end with the test."""
    made: list[RunningWorker] = []

    def make(options: dict[str, Any] | None = None, **assignment: Any) -> RunningWorker:
        listening = assignment.pop("manager", manager)
        new = RunningWorker(listening, tmp_path, options=options or {}, **assignment)
        made.append(new)
        return new

    yield make
    for one in made:
        one.close()


@pytest.fixture(scope="session")
def echo(manager: FakeManager, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningWorker]:
    """A ready worker that repeats what it is told, for every test that changes nothing."""
    options = {"context_length": 1000}
    one = RunningWorker(manager, tmp_path_factory.mktemp("echo"), options=options).ready()
    yield one
    one.close()


@pytest.fixture(scope="session")
def until() -> Callable[..., Any]:
    return poll


@pytest.fixture(scope="session")
def running() -> type[RunningWorker]:
    """For fixtures that share one worker among several tests."""
    return RunningWorker
