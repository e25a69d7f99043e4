"""A registry in memory, and a reconciler that looks after it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from modelpool.pool.clock import Clock
from modelpool.registrars.base import Refused
from modelpool.registrars.reconcile import Reconciler
from modelpool.registrars.record import Record
from modelpool.registrars.settings import RegistrarSettings

SETTINGS = RegistrarSettings(kind="http", ttl_seconds=15)


def record(record_id: str, **values: Any) -> Record:
    plain = {"model": "m", "engine": "fake", "host": "127.0.0.1", "port": 8051, "pool": "p"}
    return Record(**{"id": record_id, "node": "n", "started_at": "t", **plain, **values})


class Shelf:
    """A registry in memory; ``trouble`` is raised, or awaited, at every call."""

    def __init__(self) -> None:
        self.listed: dict[str, Record | None] = {}
        self.calls: list[tuple[float, str]] = []
        self.trouble: Exception | None = None
        self.seconds = 0.0
        self.refused: set[str] = set()

    async def _happens(self, what: str) -> None:
        self.calls.append((asyncio.get_running_loop().time(), what))
        await asyncio.sleep(self.seconds)
        if self.trouble is not None:
            raise self.trouble

    async def find(self) -> Mapping[str, Record | None]:
        await self._happens("find")
        return dict(self.listed)

    async def put(self, record: Record) -> None:
        await self._happens(f"put {record.id}")
        if record.id in self.refused:
            raise Refused(f"{record.id} is not to my taste")
        self.listed[record.id] = record

    async def keep(self, records: Sequence[Record]) -> None:
        await self._happens("keep")

    async def remove(self, record_id: str) -> None:
        await self._happens(f"remove {record_id}")
        self.listed.pop(record_id, None)


class Desk:
    """A reconciler over a shelf, with what it told."""

    def __init__(self) -> None:
        self.shelf = Shelf()
        self.wanted: dict[str, Record] = {}
        self.told: list[tuple[str, str]] = []
        self.reconciler = Reconciler(
            self.shelf, SETTINGS, lambda: dict(self.wanted), self.tell, Clock(), lambda: 1.0
        )

    def tell(self, event: str, **data: Any) -> None:
        assert (data["kind"], data["url"]) == ("http", "http://127.0.0.1:6121")
        self.told.append((event, data["reason"]))

    @property
    def finds(self) -> list[float]:
        return [at for at, what in self.shelf.calls if what == "find"]
