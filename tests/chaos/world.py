"""A real pool in the hands of the steps: its processes, its clients, the faults that are on."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import psutil
from e2e.helpers import MARK, alive, marked
from e2e.support import PoolProcess

from chaos import models, replies
from chaos.replies import Reply, Request
from chaos.rules import Missed, Sight
from chaos.watcher import Watcher

SHIM = Path(__file__).parent / "shim"
MOST_CLIENTS = 10
HOST_MB = 64_000
REQUEST_SECONDS = 60.0
KEYS: dict[str, Any] = {
    "default_ttl_minutes": 0.1,
    "min_ttl_minutes": models.SHORT_MINUTES,
    "max_ttl_minutes": 10,
    "sleep_minutes": 10,
    "max_sleeping_models": 2,
    "grace_minutes": 0.05,
    "check_interval_seconds": 1,
    "max_concurrent_models": 4,
    "memory_limit_mb": int(4.5 * models.MEMORY_MB),
    "graceful_shutdown_seconds": 4,
    "load_wait_seconds": 15,
    "load_stall_seconds": 3,
    "failed_retry_seconds": 0.5,
    "restart_backoff_seconds": 0.2,
    "restart_backoff_max_seconds": 1,
    "crash_budget": 1000,
    "min_residency_seconds": 0.3,
    "port_rest_seconds": 0.5,
    "enable_spare_worker": False,  # every process is to be accounted for
    # On a busy machine the next manager may take a minute to come.
    "orphan_seconds": 300,
    "hang_seconds": 3,
}


class ChaosPool(PoolProcess):
    """A pool whose processes take the time from ``clock``, and whose manager believes what is
    below ``host`` of the memory of the host."""

    @property
    def clock(self) -> Path:
        return self.folder / "clock"

    @property
    def host(self) -> Path:
        return self.folder / "host"

    @property
    def environment(self) -> dict[str, str]:
        paths = [str(SHIM), os.environ.get("PYTHONPATH", "")]
        return {
            **super().environment,
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "CHAOS_CLOCK": str(self.clock),
            "MODELPOOL_TEST_HOST_ROOT": str(self.host),
        }


class World:
    """What steps act on. ``counts`` tells what became of things, for people."""

    def __init__(self, folder: Path) -> None:
        self.pool = ChaosPool(folder, models.catalog(), ports=6, **KEYS)
        self.watcher = Watcher(self.pool.url)
        self.descriptors = 0
        self.counts: Counter[str] = Counter()
        self.replies: list[Reply] = []
        self.deaths: list[tuple[float, float]] = []
        self.harmed: set[int] = set()  # fronts that were killed or stopped
        self.doomed: set[int] = set()  # and those whose engine was
        self.unadopted: list[Missed] = []
        self.severed: list[str] = []
        self.shapeless: list[str] = []
        self._last = Sight()
        self._clients: list[threading.Thread] = []
        self._healing: list[tuple[int, Callable[[], None]]] = []

    def __repr__(self) -> str:
        return f"<World {len(self.replies)} replies, {len(self._healing)} faults on>"

    def start(self) -> None:
        """Start the manager, and see what it holds open when it has done a little."""
        self.tell_memory()
        self.pool.start()
        self.pool.load("swift")
        self.pool.ask("swift")
        self.pool.http.post("/models/swift/unload", json={})
        self.descriptors = self.manager().num_fds()

    # -- asking ----------------------------------------------------------------------------------

    def call(self, method: str, path: str, data: Any = None) -> tuple[int, Any]:
        """A call of the management API; that errors have their shape is looked after."""
        answer = self.pool.http.request(method, path, json=data)
        body = answer.json()
        error = body.get("error") or {} if answer.status_code >= 400 else None
        if error is not None and not set(error) >= replies.ERROR_KEYS:
            self.shapeless.append(f"{method} {path}: {answer.status_code} {answer.text[:300]}")
        return answer.status_code, body

    def view(self, model: str) -> dict[str, Any]:
        return dict(self.call("GET", f"/models/{model}")[1])

    def raised(self, model: str, seconds: float = 8) -> dict[str, Any]:
        """The view of a model that was loaded, or nothing where it could not be."""
        status, _ = self.call("POST", f"/models/{model}/load?wait={seconds}")
        view = self.view(model)
        return view if status == 200 and view.get("endpoint") else {}

    def request(self, model: str, way: str, **more: Any) -> Request | None:
        """A request; a direct one only where the model has a worker now, or can get one."""
        text = f"words for {model} number {len(self.replies)} " + "and more " * 8
        text = text.strip()
        echo = model != models.DEMO
        if way == "gateway":
            return Request(way, self.pool.port, model, text, echo=echo, **more)
        view = self.raised(model)
        if not view:
            return None
        pid = view["worker_pid"]
        return Request(way, view["port"], model, text, echo=echo, front=pid, **more)

    def ask(self, request: Request) -> threading.Thread:
        """Send it from a client of its own; its reply is noted when it has come."""
        self._clients = [c for c in self._clients if c.is_alive()]
        if len(self._clients) >= MOST_CLIENTS:
            self._clients[0].join()

        def work() -> None:
            self._note(replies.send(request, REQUEST_SECONDS))

        client = threading.Thread(target=work, daemon=True)
        self._clients.append(client)
        client.start()
        return client

    def _note(self, reply: Reply) -> None:
        self.replies.append(reply)
        self.counts[f"{reply.request.way}: {replies.verdict(reply)}"] += 1

    def clients_are_done(self) -> None:
        for client in self._clients:
            client.join(REQUEST_SECONDS + 5)

    # -- faults that last ------------------------------------------------------------------------

    def heal_after(self, number: int, heal: Callable[[], None]) -> None:
        """The fault ends before the step of that number, or at the end."""
        self._healing.append((number, heal))

    def heal(self, number: float) -> None:
        """End the faults that last no longer than to the step of that number."""
        due = [(n, h) for n, h in self._healing if n <= number]
        self._healing = [(n, h) for n, h in self._healing if n > number]
        for _, heal in due:
            heal()

    def tell_memory(self, available_mb: int = HOST_MB // 2, waiting_percent: int = 0) -> None:
        """What the manager reads of the host's memory from now on."""
        average = f"avg10={waiting_percent}.00"
        for name, text in {
            "proc/meminfo": f"MemTotal: {HOST_MB}000 kB\nMemAvailable: {available_mb}000 kB\n",
            "proc/pressure/memory": f"some {average} avg60=0.00 avg300=0.00 total=0\n",
        }.items():
            path = self.pool.host / name
            path.parent.mkdir(parents=True, exist_ok=True)
            fresh = path.with_suffix(".new")
            fresh.write_text(text)
            os.replace(fresh, path)

    def signal(self, pid: int, number: signal.Signals) -> bool:
        """False if it is gone."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
            return True
        return False

    def hurt(self, view: Mapping[str, Any], who: str) -> None:
        """Remember that a worker is about to lose its front, or its engine."""
        self.doomed.add(view["worker_pid"])
        if who == "worker_pid":
            self.harmed.add(view["worker_pid"])

    def manager(self) -> psutil.Process:
        return psutil.Process(self.pool.pid)

    def restart(self) -> None:
        """Kill the manager and start another one."""
        gone = time.monotonic()
        self.pool.kill()
        self.pool.start()
        self.deaths.append((gone, time.monotonic()))

    # -- looking ---------------------------------------------------------------------------------

    def sight(self) -> Sight:
        """What is to be seen now."""
        is_alive = self.pool.process is not None and self.pool.process.poll() is None
        if not is_alive or not self._lives():
            return Sight(is_alive=is_alive, answers_livez=False)
        fronts = self._fronts()
        now = replace(
            self._last,
            models=tuple(self.call("GET", "/models")[1]["models"]),
            health=self.call("GET", "/health")[1],
            config=self.call("GET", "/config")[1],
            fronts=fronts,
            twins=tuple(self._twins(fronts)),
        )
        self._last = self._with_records(now)
        return self._last

    def last_sight(self) -> Sight:
        """As it was before the pool was ended, with what has been noted since."""
        return self._with_records(self._last)

    def _with_records(self, sight: Sight) -> Sight:
        return replace(
            sight,
            moves=tuple(self.watcher.moves),
            nameless=tuple(self.watcher.nameless),
            replies=tuple(self.replies),
            deaths=tuple(self.deaths),
            harmed=frozenset(self.harmed),
            unadopted=tuple(self.unadopted),
            severed=tuple(self.severed),
            shapeless=tuple(self.shapeless),
        )

    def _lives(self) -> bool:
        try:
            return self.pool.http.get("/livez").status_code == 200
        except httpx.TransportError:
            return False

    def _fronts(self) -> dict[int, str]:
        found = {}
        for process in self.pool.fronts():
            with contextlib.suppress(psutil.Error):
                *_, label = ("", *process.cmdline())  # a dying one has none
                found[process.pid] = label.rpartition("@")[0]
        return found

    @staticmethod
    def _twins(fronts: Mapping[int, str]) -> list[tuple[int, ...]]:
        """One may have ended before the other was found, so both must live when both are known."""
        by_model: dict[str, list[int]] = {}
        for pid, model in fronts.items():
            by_model.setdefault(model, []).append(pid)
        several = [tuple(pids) for pids in by_model.values() if len(pids) > 1]
        return [pids for pids in several if all(map(alive, pids))]

    # -- the end ---------------------------------------------------------------------------------

    def journal(self) -> list[str]:
        """Workers on record in the database."""
        path = f"file:{self.pool.state / 'pool.db'}?mode=ro"
        with contextlib.closing(sqlite3.connect(path, uri=True)) as database:
            return [row[0] for row in database.execute("SELECT model_id FROM workers")]

    def continue_all(self) -> None:
        """Whoever was stopped and is not dead yet goes on."""
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                is_ours = process.environ().get(MARK) == self.pool.mark
                if is_ours and process.status() == psutil.STATUS_STOPPED:
                    process.resume()

    def close(self) -> None:
        """End the pool and look whether anything is left."""
        self.pool.term()
        self.watcher.close()
        self.pool.close()

    def abandon(self) -> None:
        """Kill whatever is left, when a rule is broken."""
        self.heal(float("inf"))
        for process in marked(self.pool.mark):
            with contextlib.suppress(psutil.Error):
                process.kill()
        if self.pool.process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.pool.process.wait(10)
        self.watcher.close()
        self.pool.http.close()
        shutil.rmtree(self.pool.tmp, ignore_errors=True)
