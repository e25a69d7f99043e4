"""llama-server without a model of its own: it starts itself anew for each model that is asked
for."""

from __future__ import annotations

import time
from pathlib import Path

from bench import native
from bench.figures import BenchError
from bench.messages import call, first_event_at, token_body
from bench.model import BenchModel
from bench.native import missing as missing
from bench.peers.contract import PAUSE_SECONDS, TOKENS, A, B
from bench.processes import Child, free_ports, wait_for_port
from bench.stage import Stage

START_SECONDS = 30.0
UNLOAD_SECONDS = 30.0
POLL_SECONDS = 0.01


def start(stage: Stage, model: BenchModel) -> Router:
    """Start the router; no model is loaded.

    Raises:
        BenchError: it did not start.
    """
    return Router(stage, model)


class Router:
    """A running one with room for one model."""

    def __init__(self, stage: Stage, model: BenchModel) -> None:
        executable = native.found()
        [self.port] = free_ports(1)
        presets = stage.folder / "router.ini"
        presets.write_text("".join(section(name, model.path) for name in (A, B)), encoding="utf-8")
        command = [str(executable), "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--models-preset", str(presets), "--models-max", "1", "--offline"]
        self._child = Child(command, stage.log("router"))
        try:
            wait_for_port(self.port, self._child, START_SECONDS)
        except BaseException:
            self._child.stop()
            raise

    def __enter__(self) -> Router:
        return self

    def __exit__(self, *_: object) -> None:
        self._child.stop()

    def first_token(self) -> float:
        """Seconds from the request that starts the model, with none loaded."""
        for name in (A, B):
            self._unload(name)
        time.sleep(PAUSE_SECONDS)
        return self._ask(A)

    def swap(self) -> float:
        """Seconds from the request for A while B is loaded."""
        self._ask(B)
        time.sleep(PAUSE_SECONDS)
        return self._ask(A)

    def _ask(self, name: str) -> float:
        began = time.perf_counter()
        return first_event_at(self.port, token_body(name, TOKENS)) - began

    def _unload(self, name: str) -> None:
        if self._state(name) == "unloaded":
            return
        call(self.port, "POST", "/models/unload", {"model": name})
        end = time.monotonic() + UNLOAD_SECONDS
        while self._state(name) != "unloaded":
            if time.monotonic() > end:
                raise BenchError(f"llama-server does not unload {name}")
            time.sleep(POLL_SECONDS)

    def _state(self, name: str) -> str:
        _, answer = call(self.port, "GET", "/models")
        found = [m["status"]["value"] for m in answer["data"] if m["id"] == name]
        if not found:
            raise BenchError(f"llama-server does not know {name}: {self._child.last_words()}")
        return str(found[0])


def section(name: str, path: Path) -> str:
    """PURE. A section of the presets' file."""
    lines = (f"{key} = {_written(value)}" for key, value in native.parameters(path).items())
    return "\n".join([f"[{name}]", *lines, "\n"])


def _written(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
