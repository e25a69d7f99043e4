"""Every registry of the configuration: their loops begin, change with it, and end together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from modelpool.observe.events import Event

from .client import RegistryClient
from .reconcile import Reconciler, Records, Tell
from .registry import create
from .settings import Place, RegistrarSettings

log = logging.getLogger(__name__)

LAST_WORDS_SECONDS = 2.0


@dataclass(eq=False)
class Entry:
    """One of them; ``loop`` is None until it has begun."""

    settings: RegistrarSettings
    reconciler: Reconciler
    loop: asyncio.Task[None] | None = None


class Registrars:
    """``records`` is what they should list at the moment, ``has_begun`` whether that is known."""

    def __init__(
        self,
        settings: Sequence[RegistrarSettings],
        pool_id: str,
        client: RegistryClient,
        records: Records,
        tell: Tell,
    ) -> None:
        self.records = records
        self.has_begun = False
        self._pool_id = pool_id
        self._client = client
        self._tell = tell
        self._entries: list[Entry] = []
        self._ending: dict[Place, asyncio.Task[None]] = {}
        self._entries = self.prepared(settings)

    def begin(self) -> None:
        """The state of the pool is known: what is told from now on is true."""
        self.has_begun = True
        for entry in self._entries:
            self._begin(entry)

    def _begin(self, entry: Entry) -> None:
        if entry.loop is None:
            former = self._ending.get(entry.settings.place)
            entry.loop = asyncio.ensure_future(_after(former, entry.reconciler))

    def on_event(self, event: Event) -> None:
        """An event was published; those of models may change what is to be listed."""
        if event.name.startswith("model-") and event.name != "model-progress":
            for entry in self._entries:
                entry.reconciler.wake()

    def view(self) -> list[dict[str, Any]]:
        """How each does."""
        return [entry.reconciler.view() for entry in self._entries]

    def prepared(self, settings: Sequence[RegistrarSettings]) -> list[Entry]:
        """What ``take`` needs for these; one that is there with the same settings stays.

        Raises:
            BadRegistrar: one cannot be made; nothing was changed.
        """
        known = {entry.settings: entry for entry in self._entries}
        return [known.get(each) or Entry(each, self._made(each)) for each in settings]

    def _made(self, settings: RegistrarSettings) -> Reconciler:
        registrar = create(settings, self._pool_id, self._client)
        former = [e for e in self._entries if e.settings.place == settings.place]
        # Renewing an entry keeps the TTL that it was written with.
        writes_anew = any(
            e.settings.ttl_seconds != settings.ttl_seconds or e.reconciler.writes_anew
            for e in former
        )
        return Reconciler(registrar, settings, self.records, self._tell, writes_anew=writes_anew)

    def take(self, entries: list[Entry]) -> None:
        """Have these from now on. What is listed by one that goes is removed, unless another takes
        its place; nobody waits for that."""
        former, self._entries = self._entries, entries
        places = {entry.settings.place for entry in entries}
        for entry in former:
            if entry not in entries:
                self._end(entry, is_last=entry.settings.place not in places)
        if self.has_begun:
            for entry in entries:
                self._begin(entry)

    def _end(self, entry: Entry, *, is_last: bool) -> None:
        place = entry.settings.place
        task = asyncio.ensure_future(_ended(entry, is_last=is_last))
        self._ending[place] = task

        def forget(_: object) -> None:
            if self._ending.get(place) is task:
                del self._ending[place]

        task.add_done_callback(forget)

    async def close(self) -> None:
        """End the loops after one more round, together at most ``LAST_WORDS_SECONDS``: a pool
        that was stopped leaves nothing listed; workers that serve on stay listed for a TTL, in
        which the next manager takes their records over."""
        loops = [entry.loop for entry in self._entries if entry.loop is not None]
        for loop in loops:
            loop.cancel()
        await asyncio.gather(*loops, return_exceptions=True)
        last = [entry.reconciler.settle(renew=True) for entry in self._entries]
        try:
            async with asyncio.timeout(LAST_WORDS_SECONDS):
                await asyncio.gather(*last, *self._ending.values())
        except TimeoutError:
            log.warning("a registrar does not answer; what it lists expires by itself")


async def _after(former: asyncio.Task[None] | None, reconciler: Reconciler) -> None:
    """Two at once would undo each other's entries."""
    if former is not None:
        await asyncio.wait({former})
    await reconciler.run()


async def _ended(entry: Entry, *, is_last: bool) -> None:
    if entry.loop is not None:
        entry.loop.cancel()
        await asyncio.wait({entry.loop})
    if is_last:
        await entry.reconciler.withdraw()
