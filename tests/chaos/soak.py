"""``python -m chaos.soak``: a constant mix of load for minutes, and whether the manager grows.

After the first third its memory must grow by less than ``MOST_MB_PER_MINUTE`` and its descriptors
not at all. Prints a table and the verdict. Exit status: 0, or 1 when it grows.
"""

from __future__ import annotations

import argparse
import itertools
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Condition, Event
from typing import Any

import httpx
import psutil
from e2e.helpers import chat, fake, until
from e2e.support import PoolProcess
from modelpool.observe.events import KEPT

from chaos import models, replies

MOST_MB_PER_MINUTE = 0.1
SPARE_DESCRIPTORS = 2  # a connection of ours that is just being closed
# CPython's table of interned names doubles once, by 1 MB, after about 6,000 rounds (CPython 3.11:
# every path's parts pass through it); the first third must be over by then.
MINUTES = 15.0
SAMPLE_SECONDS = 4.0
PAUSE_SECONDS = 0.05  # between two rounds of an actor: the manager is to work, not to be stuck
FILLERS = 3
EVENTS_OF_A_GUEST = 8  # registered, loading, loaded, unloading, unloaded, deleted, some progress
MB = 1e6
MODELS = ("swift", "steady", "long")
# A worker's port is not open any more, or its worker ends its work.
UNLOADED = {
    "gateway": ("error load_cancelled",),
    "direct": ("refused", "reset", "error worker_draining"),
}
KEYS: dict[str, Any] = {
    "log_level": "warning",
    "max_concurrent_models": 4,
    "min_residency_seconds": 0.1,
    "default_ttl_minutes": 0.02,
    "grace_minutes": 0.01,
    # As for the events: a log that is yet to be full would look like growth.
    "request_log_entries": 100,
}


@dataclass(frozen=True)
class Sample:
    """At rest, ``minutes`` since the start: the manager's own memory, its open descriptors, and how
    many rounds the actors have made so far."""

    minutes: float
    mb: float
    descriptors: int
    rounds: int


@dataclass(frozen=True)
class Verdict:
    """Of the samples after the first third."""

    mb_per_minute: float
    descriptors: tuple[int, int]

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> Verdict:
        """Needs two samples after the first third at least."""
        end = samples[-1].minutes
        late = [s for s in samples if s.minutes > end / 3]
        found = [s.descriptors for s in late]
        return cls(slope(late), (min(found), max(found)))

    @property
    def is_flat(self) -> bool:
        """The manager does not grow."""
        least, most = self.descriptors
        return self.mb_per_minute < MOST_MB_PER_MINUTE and most - least <= SPARE_DESCRIPTORS

    def __str__(self) -> str:
        least, most = self.descriptors
        return (
            f"after the first third: memory {self.mb_per_minute:+.3f} MB a minute (must be below"
            f" {MOST_MB_PER_MINUTE}), descriptors {least} to {most} (at most {SPARE_DESCRIPTORS}"
            f" apart): {'it does not grow' if self.is_flat else 'IT GROWS'}"
        )


def slope(samples: Sequence[Sample]) -> float:
    """MB a minute: of the line that fits best in the sense of least squares."""
    count = len(samples)
    mean_x = sum(s.minutes for s in samples) / count
    mean_y = sum(s.mb for s in samples) / count
    spread = sum((s.minutes - mean_x) ** 2 for s in samples)
    return sum((s.minutes - mean_x) * (s.mb - mean_y) for s in samples) / spread


class Gate:
    """Lets actors make their rounds, and stops them all between two rounds for a measurement."""

    def __init__(self) -> None:
        self.rounds = 0
        self._inside = 0
        self._is_open = True
        self._changed = Condition()

    @contextmanager
    def round(self) -> Iterator[None]:
        """One round of an actor; waits while the gate is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_open)
            self._inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                self.rounds += 1
                self._changed.notify_all()

    @contextmanager
    def closed(self) -> Iterator[None]:
        """Nobody is inside."""
        with self._changed:
            self._is_open = False
            self._changed.wait_for(lambda: not self._inside)
        try:
            yield
        finally:
            with self._changed:
                self._is_open = True
                self._changed.notify_all()


class Soak:
    """A pool, and actors that use it in every way."""

    def __init__(self, pool: PoolProcess) -> None:
        self.pool = pool
        self.gate = Gate()
        self._is_over = Event()
        self._numbers = itertools.count(1)
        self._manager = psutil.Process(pool.pid)

    @property
    def actors(self) -> list[Callable[[], None]]:
        """Each is one round."""
        return [
            self.ask,
            self.stream,
            self.leave,
            self.direct,
            self.listen,
            self.manage,
            self.guest,
        ]

    def run(self, minutes: float, tell: Callable[[Sample], None], rounds: int = 0) -> list[Sample]:
        """Let them act for so long, and until they have made so many rounds; a sample every few
        seconds."""
        self.pool.http.close()  # its connection is none of theirs
        with ThreadPoolExecutor(len(self.actors)) as threads:
            futures = [threads.submit(self._act, actor) for actor in self.actors]
            try:
                return list(self._sampled(minutes, tell, futures, rounds))
            finally:
                self._is_over.set()

    def fill(self) -> None:
        """The manager remembers so many of the last events and no more: minutes would be too short
        to wait until the actors have made as many."""
        with ThreadPoolExecutor(FILLERS) as threads:
            rounds = [threads.submit(self.guest) for _ in range(KEPT // EVENTS_OF_A_GUEST)]
        for one in rounds:
            one.result()

    def _act(self, actor: Callable[[], None]) -> None:
        while not self._is_over.is_set():
            with self.gate.round():
                actor()
            self._is_over.wait(PAUSE_SECONDS)

    def _sampled(
        self,
        minutes: float,
        tell: Callable[[Sample], None],
        futures: list[Future[None]],
        rounds: int,
    ) -> Iterator[Sample]:
        began = time.monotonic()
        while (now := (time.monotonic() - began) / 60) < minutes or self.gate.rounds < rounds:
            self._is_over.wait(SAMPLE_SECONDS)
            for future in futures:
                if future.done():
                    future.result()  # raises what has ended it
            with self.gate.closed():
                sample = self._sample(now)
            tell(sample)
            yield sample

    def _sample(self, minutes: float) -> Sample:
        """At rest: no model is loaded, or their number would be measured."""
        with self.client() as http:
            loaded = [m for m in http.get("/models").json()["models"] if m["state"] != "COLD"]
            for model in loaded:
                http.post(f"/models/{model['model_id']}/unload", json={"force": True})
        self.pool.assert_none_but_the_manager()
        until(self._is_left_alone, "the end of every connection")
        return Sample(minutes, self._own_mb(), self._manager.num_fds(), self.gate.rounds)

    def _own_mb(self) -> float:
        """Resident memory without that of files, which comes and goes with other processes that
        have the same libraries, and so does what is called private of it (USS)."""
        info = self._manager.memory_info()
        return (info.rss - getattr(info, "shared", 0)) / MB

    def _is_left_alone(self) -> bool:
        found = self._manager.net_connections(kind="tcp")
        return all(c.status == psutil.CONN_LISTEN for c in found)

    def client(self) -> httpx.Client:
        """A client that keeps no connection: an open one would be a descriptor of the manager."""
        limits = httpx.Limits(max_keepalive_connections=0)
        return httpx.Client(
            base_url=self.pool.url, timeout=60, trust_env=False, verify=False, limits=limits
        )

    # -- actors ----------------------------------------------------------------------------------

    def ask(self) -> None:
        self._send("swift", "gateway", self.pool.port, is_stream=False)

    def stream(self) -> None:
        self._send("steady", "gateway", self.pool.port, is_stream=True)

    def leave(self) -> None:
        self._send("long", "gateway", self.pool.port, is_stream=True, leaves=True)

    def direct(self) -> None:
        with self.client() as http:
            found = http.get("/models/steady/endpoint?wait=30")
        if found.status_code == 200:
            self._send("steady", "direct", found.json()["port"], is_stream=True)

    def listen(self) -> None:
        with self.client() as http, http.stream("GET", "/events") as events:
            next(events.iter_lines())

    def manage(self) -> None:
        with self.client() as http:
            number = next(self._numbers)
            http.patch("/config", json={"crash_window_seconds": 500 + number % 50})
            http.post("/models/swift/load?wait=30")
            http.post("/models/swift/unload", json={})
            for path in ("/models", "/metrics", "/statistics", "/health"):
                assert http.get(path).status_code == 200

    def guest(self) -> None:
        """A model with an id that never was: what is kept by id must go with it."""
        model = f"guest-{next(self._numbers)}"
        with self.client() as http:
            assert http.post("/models/register", json=fake(model)).status_code == 201
            http.post("/v1/chat/completions", json=chat(model))
            assert http.delete(f"/models/{model}").status_code == 200

    def _send(self, model: str, way: str, port: int, **more: Any) -> None:
        request = replies.Request(way, port, model, "a few words to repeat", **more)
        reply = replies.send(request, 60)
        found = replies.verdict(reply)
        # What was unloaded in this moment says so; nothing else is to go wrong here.
        assert found in ("answer", "left", *UNLOADED[way]), reply


def main() -> int:
    """See the module."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started is ended, too
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=MINUTES)
    minutes = parser.parse_args().minutes
    entries = [fake(model, options=models.SOUND[model]) for model in MODELS]
    print(f"{'minutes':>8} {'own MB':>9} {'descriptors':>12} {'rounds':>7}")
    with (
        tempfile.TemporaryDirectory(prefix="soak-") as folder,
        PoolProcess(Path(folder), entries, ports=12, **KEYS) as pool,
    ):
        soak = Soak(pool)
        soak.fill()
        samples = soak.run(minutes, tell)
    verdict = Verdict.of(samples)
    print(verdict)
    return 0 if verdict.is_flat else 1


def tell(s: Sample) -> None:
    """A line of the table."""
    print(f"{s.minutes:8.2f} {s.mb:9.2f} {s.descriptors:12} {s.rounds:7}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
