"""What workers took is written down, survives, and decides the next reservation."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any, cast

from modelpool.catalog.estimator import Estimator
from modelpool.catalog.memory_estimate import HOST, Peak
from modelpool.catalog.model import Model
from modelpool.observe.peaks import PeakMeter
from modelpool.pool.pool import Pool
from modelpool_client.wire import Facts, Phase

MODEL = Model("m", "fake", "none", memory_mb=1)
FACTS = Facts("w1", "pool", 1, 1, Phase.READY, 8051, 7)


class Workers:
    def __init__(self, status: Any, models: set[str]) -> None:
        self._status = status
        self.has = models.__contains__

    @property
    def worker_ids(self) -> frozenset[str]:
        return frozenset({self._status.worker_id})


class Store:
    def __init__(self) -> None:
        self.saved: list[Peak] = []
        self.is_full = False

    async def add_peaks(self, peaks: Iterable[Peak]) -> None:
        await asyncio.sleep(0)
        if self.is_full:
            raise OSError("disk full")
        self.saved += peaks


class World:
    """A pool of one replica."""

    def __init__(self) -> None:
        self.status = SimpleNamespace(model=MODEL, worker_id="")
        self.models = {"m"}
        self.store = Store()
        self.estimator = Estimator()
        pool = Workers(self.status, self.models)
        self.meter = PeakMeter(cast(Pool, pool), self.estimator, lambda: 5.0)

    def facts(self, peak: int | None, requests: int = 0, worker: str = "w1", **more: Any) -> None:
        self.status.worker_id = worker
        facts = dataclasses.replace(
            FACTS, worker_id=worker, memory_peak_bytes=peak, requests_total=requests, **more
        )
        self.meter.record(self.status.model, facts)

    def save(self) -> list[tuple[str, int, int, bool]]:
        """Saves; what was new: device, bytes, samples, worked."""
        self.store.saved.clear()
        asyncio.run(self.meter.save(self.store))
        return [(p.device, p.peak_bytes, p.samples, p.worked) for p in self.store.saved]


def test_only_what_is_new_is_written() -> None:
    world = World()
    assert world.save() == []
    world.facts(None)
    assert world.save() == []
    world.facts(100)
    assert world.save() == [(HOST, 100, 1, False)]
    assert world.save() == []
    world.facts(150, requests=1, in_flight=1)
    assert world.save() == [(HOST, 150, 0, False)], "its first request is not answered yet"
    world.facts(150, requests=1, memory_requests=0)
    assert world.save() == [], "it was measured before that"
    world.facts(150, requests=1)
    assert world.save() == [(HOST, 150, 0, True)]
    world.facts(90, worker="w2", device_memory_bytes={"cuda:0": 4})
    assert world.save() == [(HOST, 90, 1, False), ("cuda:0", 4, 1, False)]


def test_the_estimator_learns_at_once() -> None:
    world = World()
    world.facts(200_000_000, requests=1)
    world.save()
    found = world.estimator.host_memory(MODEL)
    assert (found.measured_peak, found.source) == (200_000_000, "measured")


def test_what_could_not_be_written_comes_again() -> None:
    world = World()
    world.facts(100)
    world.store.is_full = True
    assert world.save() == []
    assert world.estimator.host_memory(MODEL).measured_peak is None
    world.store.is_full = False
    assert world.save() == [(HOST, 100, 1, False)]


def test_a_worker_that_ends_between_two_saves_is_not_missed() -> None:
    world = World()
    world.facts(100, requests=3)
    world.status.worker_id = ""
    assert world.save() == [(HOST, 100, 1, True)]
    assert world.save() == []
    assert not world.meter._lives


def test_a_worker_keeps_the_options_it_was_loaded_with() -> None:
    world = World()
    world.facts(100)
    world.status.model = dataclasses.replace(MODEL, options={"context_length": 9})
    world.facts(101)
    world.save()
    assert world.estimator.host_memory(MODEL).measured_peak == 101
    assert world.estimator.host_memory(world.status.model).measured_peak is None


def test_of_a_deleted_model_nothing_is_written() -> None:
    world = World()
    world.facts(100)
    world.models.clear()
    assert world.save() == []
    assert not world.meter._lives
