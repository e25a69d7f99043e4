"""History: the events that outlive the manager, written in batches beside the data path.

The numbers: a manager that is killed loses what it noted within the last second, for a batch waits
``WRITE_SECONDS`` and its write is quick. A model that is loaded and unloaded over and over tells
six events each time: ``KEPT_PER_MODEL`` are 160 such rounds, two days at the default TTL without a
pause, months as pools are used, and less than half a megabyte. ``KEPT_SECONDS`` is a quarter, so
that one can be compared with the next. ``PENDING`` bounds what waits for a store that is full: a
few megabytes, hours of a busy pool. ``PAGE`` is what one who resumes may hold up in memory.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, Protocol

from modelpool.catalog.event_rows import POOL, EventRow, Page
from modelpool.observe.events import Earlier, Event, EventId, split_id

log = logging.getLogger(__name__)

WRITE_SECONDS = 0.5
KEPT_PER_MODEL = 1000
KEPT_SECONDS = 90 * 86_400.0
PENDING = 10_000
PAGE = 200

NEVER_KEPT = frozenset({"model-progress", "job-progress"})
# Their model's history is gone: they are news for those who resume, and the pool's.
OF_THE_POOL = frozenset({"model-deleted"})


class HistoryStore(Protocol):
    """Where history is kept; see ``catalog.store``."""

    async def append_events(self, rows: Sequence[EventRow], keep: int, oldest: float) -> None: ...
    async def forget_events(self, model_ids: Collection[str] = ()) -> None: ...
    async def events_of(
        self, model_id: str, limit: int, before: int | None = None
    ) -> tuple[list[EventRow], float | None]: ...
    async def events_after(self, run: str, serial: int, limit: int) -> Page: ...


class History:
    """Takes events in memory, writes them down now and then. ``wall``: seconds since 1970;
    ``report`` is told, once the store works again, how many events it has cost."""

    def __init__(
        self,
        store: HistoryStore,
        wall: Callable[[], float],
        report: Callable[[int, str], None],
    ) -> None:
        self._store = store
        self._wall = wall
        self._report = report
        self._pending: list[EventRow] = []
        self._batch: list[EventRow] = []  # of them, while it is being written
        self._noted = asyncio.Event()
        self._writing = asyncio.Lock()
        self._dropped = 0
        self._trouble = ""

    def __repr__(self) -> str:
        trouble = f", {self._dropped} dropped: {self._trouble}" if self._trouble else ""
        return f"<History {len(self._pending)} to write{trouble}>"

    def note(self, event: Event) -> None:
        """An event was published. Never waits."""
        if event.name in NEVER_KEPT:
            return
        self._pending.append(_row(event, self._wall()))
        self._keep_bounds()
        self._noted.set()

    async def write_on(self) -> None:
        """Write what is noted, until cancelled."""
        while True:
            await self._noted.wait()
            await asyncio.sleep(WRITE_SECONDS)
            self._noted.clear()
            await self.flush()
            if self._pending:
                self._noted.set()

    async def flush(self) -> None:
        """Write down what was noted so far; it is kept, within bounds, when the store refuses."""
        async with self._writing:
            if not self._pending:
                return
            self._batch, self._pending = self._pending, []
            try:
                oldest = self._wall() - KEPT_SECONDS
                await self._store.append_events(tuple(self._batch), KEPT_PER_MODEL, oldest)
            except Exception as e:
                self._refused(str(e))
            else:
                self._accepted()
            finally:
                self._batch = []

    def _refused(self, why: str) -> None:
        if not self._trouble:
            log.warning("history cannot be written, the pool goes on without: %s", why)
        self._trouble = why
        # Not what was given to the store: a model may have been deleted meanwhile.
        self._pending = self._batch + self._pending
        self._keep_bounds()

    def _keep_bounds(self) -> None:
        surplus = len(self._pending) - PENDING
        if surplus > 0:
            del self._pending[:surplus]
            self._dropped += surplus

    def _accepted(self) -> None:
        if not self._trouble:
            return
        dropped, why = self._dropped, self._trouble
        self._dropped, self._trouble = 0, ""
        log.info("history is written again; %d events are missing in it", dropped)
        if dropped:
            self._report(dropped, why)

    async def of(
        self, model_id: str, limit: int, before: int | None = None
    ) -> tuple[dict[str, Any], ...]:
        """A model's events, newest first; ``before``: those with a lower ``number``.

        Raises:
            StoreError: the database fails.
        """
        await self.flush()
        rows, left_at = await self._store.events_of(model_id, limit, before)
        return timeline(rows, left_at)

    async def earlier(self, after: EventId, until: EventId) -> Earlier:
        """The first that came after an event of this or a former manager and before one of this."""
        await self.flush()
        refused, dropped = tuple(self._pending), self._dropped
        try:
            page = await self._store.events_after(*after, PAGE)
        except Exception as e:
            return Earlier((), f"the history cannot be read: {e}")
        if page.rows:
            known = [row for row in page.rows if row.run != until[0] or row.serial < until[1]]
            # What comes after the last of them is looked at once, by the page that begins with it.
            told = replace(page, rows=page.rows[: len(known) or 1])
            return Earlier(tuple(map(_event, known)), missing(told, after[0], until[0]))
        waiting = still_missed(refused, after, until)[:PAGE]
        gap = missing(page, after[0], until[0]) or unwritten(refused, dropped, after)
        return Earlier(tuple(map(_event, waiting)), gap)

    async def forget(self, model_id: str) -> None:
        """The model was deleted: so is its history."""
        self._pending = [row for row in self._pending if row.model_id != model_id]
        self._batch = [row for row in self._batch if row.model_id != model_id]
        await self.tidy((model_id,))

    async def tidy(self, model_ids: Collection[str] = ()) -> None:
        """Drop the history of these and of all that are not in the catalog, if the store can."""
        async with self._writing:
            try:
                await self._store.forget_events(model_ids)
            except Exception as e:
                log.warning("the history of deleted models could not be dropped: %s", e)


def timeline(rows: Sequence[EventRow], left_at: float | None) -> tuple[dict[str, Any], ...]:
    """Events, newest first, with how long the state lasted that each began (seconds; None where it
    lasts, or where none began). ``left_at``: when the newest of these states ended. PURE."""
    shown = []
    for row in rows:
        lasted = round(left_at - row.at, 3) if row.moved and left_at is not None else None
        shown.append({"number": row.number, **json.loads(row.data), "lasted_seconds": lasted})
        left_at = row.at if row.moved else left_at
    return tuple(shown)


def missing(page: Page, run: str, next_run: str) -> str:
    """Why some events may be missing on a page, or after an empty one; empty when none is. ``run``
    is that of the event it follows, ``next_run`` the one that goes on after the last page. PURE."""
    before = page.before
    if page.first is None:
        return "" if run == next_run else "no event of that manager is kept any more"
    numbers = [before.number if before is not None else 0, *(row.number for row in page.rows)]
    if numbers != list(range(page.first - 1, page.first - 1 + len(numbers))):
        return "some are too old to be kept, or their models were deleted"
    runs = [run] if before is not None and before.run == run else []
    runs += [row.run for row in page.rows] or [next_run]
    if any(one != other and one not in page.ended for one, other in pairwise(runs)):
        return "a manager ended without a word: its last second's events were not written"
    return ""


def still_missed(refused: Sequence[EventRow], after: EventId, until: EventId) -> list[EventRow]:
    """Which of the events of this run that the store has refused come between two. PURE."""
    first = after[1] + 1 if after[0] == until[0] else 0
    return [row for row in refused if first <= row.serial < until[1]]


def unwritten(refused: Sequence[EventRow], dropped: int, after: EventId) -> str:
    """Why some events may be missing among those that the store has refused; empty when none is.
    The oldest were dropped. PURE."""
    if not dropped:
        return ""
    is_later = any(row.run == after[0] and row.serial <= after[1] + 1 for row in refused[:1])
    return "" if is_later else f"{dropped} could not be written, and were too many to be kept"


def _row(event: Event, now: float) -> EventRow:
    run, serial = split_id(event.id)
    data = event.data
    owner = POOL if event.name in OF_THE_POOL else str(data.get("model_id", POOL))
    moved = "state" in data and data["state"] != data.get("previous")
    return EventRow(run, serial, event.name, owner, now, moved, json.dumps(data))


def _event(row: EventRow) -> Event:
    data = json.loads(row.data)
    return Event(row.serial, data["id"], row.name, data)
