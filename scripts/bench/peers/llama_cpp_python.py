"""llama-cpp-python's server: one process that holds one of several models at a time."""

from __future__ import annotations

import importlib.util
import json
import os
import time

from bench.messages import HOST, first_event_at, token_body
from bench.model import OPTIONS, BenchModel
from bench.peers.contract import PAUSE_SECONDS, TOKENS, A, B
from bench.processes import Child, free_ports, module, wait_for_port
from bench.stage import Stage

START_SECONDS = 120.0
# What its server is made of beside itself.
NEEDED = ("llama_cpp", "uvicorn", "fastapi", "sse_starlette", "pydantic_settings")


def missing() -> str:
    """Why it cannot take part, and what would help."""
    absent = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if not absent:
        return ""
    return "not installed, left out; pip install 'llama-cpp-python[server]', which compiles it"


def start(stage: Stage, model: BenchModel) -> Server:
    """One that holds the first of the two models.

    Raises:
        BenchError: it did not start.
    """
    return Server(stage, model)


class Server:
    """A running one. It loads a model at its start, and another in place of it when asked."""

    def __init__(self, stage: Stage, model: BenchModel) -> None:
        self._stage, self._model = stage, model
        self._port, self._child = self._start()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self._child.stop()

    def first_token(self) -> float:
        """Seconds from the start of its process: it cannot be without a model."""
        self._child.stop()
        time.sleep(PAUSE_SECONDS)
        began = time.perf_counter()
        self._port, self._child = self._start()
        return first_event_at(self._port, token_body(A, TOKENS)) - began

    def swap(self) -> float:
        """Seconds from the request for A while it holds B."""
        first_event_at(self._port, token_body(B, TOKENS))
        time.sleep(PAUSE_SECONDS)
        began = time.perf_counter()
        return first_event_at(self._port, token_body(A, TOKENS)) - began

    def _start(self) -> tuple[int, Child]:
        [port] = free_ports(1)
        file = self._stage.folder / "llama-cpp-python.json"
        file.write_text(json.dumps(self._settings(port)), encoding="utf-8")
        command = module("llama_cpp.server", "--config_file", file)
        child = Child(command, self._stage.log("llama-cpp-python"))
        try:
            wait_for_port(port, child, START_SECONDS)
        except BaseException:
            child.stop()
            raise
        return port, child

    def _settings(self, port: int) -> dict[str, object]:
        about = {
            "model": str(self._model.path),
            # It serves one request at a time, with all of the context.
            "n_ctx": OPTIONS["context_length"],
            "n_threads": os.cpu_count(),
            "n_threads_batch": os.cpu_count(),
        }
        models = [about | {"model_alias": name} for name in (A, B)]
        return {"host": HOST, "port": port, "models": models}
