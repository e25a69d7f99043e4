"""A pool of our own, on ports of its own, with its state in a temporary folder."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

from bench.figures import BenchError
from bench.messages import call
from bench.processes import Child, free_ports, module, wait_for_port

START_SECONDS = 60.0
LOAD_SECONDS = 120.0
WORKERS = 4

Entry = dict[str, Any]


def fake_entry(model_id: str) -> Entry:
    """A model without a file, for a stand-in to serve or for a catalog to hold."""
    return {"model_id": model_id, "engine": "fake", "source": "-"}


class BenchPool:
    """``modelpool serve``, or with ``stand_in`` the same with workers that cost nothing.

    There are ports for so many ``workers``; ``settings`` are keys of the configuration.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        models: Sequence[Entry],
        *,
        stand_in: bool = False,
        search: Sequence[Path] = (),
        workers: int = WORKERS,
        **settings: Any,
    ) -> None:
        self.port, *ports = free_ports(1 + workers)
        home = folder / name
        home.mkdir()
        file = home / "pool.json"
        config = {
            "port": self.port,
            "port_range": {"start": ports[0], "end": ports[-1]},
            "state_dir": str(home / "state"),
            "default_ttl_minutes": 0,
            "port_rest_seconds": 0,
            "min_residency_seconds": 0,
            # Each start asks the same, and the bare engine keeps nothing of it either.
            "prompt_cache_disk_mb": 0,
            "log_level": "warning",
            "models": list(models),
            **settings,
        }
        file.write_text(json.dumps(config), encoding="utf-8")
        serve = module("modelpool", "serve", "--config", file)
        command = module("bench.managed", file) if stand_in else serve
        self._child = Child(command, folder / f"{name}.log", search=search)

    @property
    def pid(self) -> int:
        return self._child.pid

    def __enter__(self) -> BenchPool:
        try:
            wait_for_port(self.port, self._child, START_SECONDS)
            # It listens before it answers; this waits for the answer.
            self.ask("GET", "/health")
        except BaseException:
            self._child.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._child.stop()

    def ask(self, method: str, path: str, data: Any = None) -> Any:
        """Call the manager.

        Raises:
            BenchError: it refuses; the text is its own.
        """
        status, answer = call(self.port, method, path, data)
        if status >= 400:
            raise BenchError(f"{method} {path}: {status} {answer}")
        return answer

    def load(self, model_id: str) -> int:
        """Make a model HOT; its worker's port."""
        self.ask("POST", f"/models/{model_id}/load?wait={LOAD_SECONDS:.0f}")
        return self.worker_port(model_id)

    def worker_port(self, model_id: str) -> int:
        """Where the worker of a HOT model listens."""
        return int(self.ask("GET", f"/models/{model_id}/endpoint")["port"])

    def front_pid(self, model_id: str) -> int:
        """The process that listens on the port of a HOT model."""
        return int(self.ask("GET", f"/models/{model_id}")["worker_pid"])

    def unload(self, model_id: str) -> float:
        """End a model's worker; the seconds until the manager calls it COLD."""
        began = time.perf_counter()
        self.ask("POST", f"/models/{model_id}/unload?wait=60")
        return time.perf_counter() - began

    def load_all(self, model_ids: Sequence[str], at_once: int = 8) -> None:
        """Make models HOT, some at a time."""
        with ThreadPoolExecutor(at_once) as pool:
            list(pool.map(self.load, model_ids))

    def worker(self, model_id: str) -> tuple[psutil.Process, psutil.Process]:
        """The front and the engine child of a HOT model."""
        front = psutil.Process(self.front_pid(model_id))
        return front, front.children()[0]
