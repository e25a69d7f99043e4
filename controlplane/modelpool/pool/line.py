"""The starts that wait for room: tried again whenever something changed, the most urgent first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from modelpool.config import PoolConfig
from modelpool.pool.clock import Clock
from modelpool.pool.queueing import (
    UNKNOWN_LOAD_SECONDS,
    Place,
    Queued,
    Wish,
    in_order,
    overdue,
    places,
)
from modelpool.pool.slot import Slot


@dataclass
class _Entry:
    since: float
    timer: asyncio.TimerHandle | None = None

    def cancel(self) -> None:
        if self.timer is not None:
            self.timer.cancel()


class Line:
    """``to_yield`` says which slots stand in the way of one, ``settings`` is the present config."""

    def __init__(
        self,
        slots: Mapping[str, Slot],
        clock: Clock,
        settings: Callable[[], PoolConfig],
        to_yield: Callable[[Slot], tuple[str, ...]],
    ) -> None:
        self._slots = slots
        self._clock = clock
        self._settings = settings
        self._to_yield = to_yield
        self._entries: dict[str, _Entry] = {}
        self._replan_is_due = False
        self._is_replanning = False

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: object) -> bool:
        return key in self._entries

    @property
    def keys(self) -> tuple[str, ...]:
        """Of those that wait, in the order in which they came."""
        return tuple(self._entries)

    def join(self, key: str, until: float | None) -> bool:
        """Wait for a change, at most until ``until``. True if it did not wait before."""
        now, is_new = self._clock.now(), key not in self._entries
        entry = self._entries.setdefault(key, _Entry(now))
        entry.cancel()
        patience = self._queued(key).since + self._settings().max_queue_wait_seconds
        times = [t for t in (until, patience if patience > now else None) if t is not None]
        entry.timer = self._clock.call_at(min(times), self.changed) if times else None
        if patience <= now and is_new:
            self.changed()  # it may be first at once: then what others waited for is its to take
        elif patience <= now and not self._is_replanning:
            self._let_yield()
        return is_new

    def leave(self, key: str) -> None:
        """It starts, or is not wanted any more; those that yielded to it serve again."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            entry.cancel()
            self.changed()  # room that was promised to it is free for others
        self._resume(key)

    def _resume(self, key: str) -> None:
        for slot in self._slots.values():
            if slot.yields_to == key:
                slot.resume()

    def clear(self) -> None:
        """Nobody waits any more."""
        for key in self.keys:
            self.leave(key)

    def changed(self) -> None:
        """Something was freed, or somebody has waited for too long: try again, soon."""
        if self._entries and not self._replan_is_due:
            self._replan_is_due = True
            asyncio.get_running_loop().call_soon(self._replan)

    def first_overdue(self) -> Slot | None:
        """Who has waited too long; nobody takes the room that it waits for."""
        if not self._entries:
            return None
        waiting = [q for q in self._queue() if len(self._slots[q.key].waiters)]
        late = overdue(waiting, self._clock.now(), self._settings().max_queue_wait_seconds)
        return self._slots[late.key] if late is not None else None

    def place(self, slot: Slot) -> Place | None:
        """Where a slot stands; None if it does not wait."""
        if slot.key not in self._entries:
            return None
        config = self._settings()
        now = self._clock.now()
        return places(self._queue(), now, config.max_queue_wait_seconds)[slot.key]

    def wait_seconds(self, slot: Slot) -> float:
        """About how long who asks for it now will wait."""
        if (place := self.place(slot)) is not None:
            return place.seconds
        return slot.load_seconds or UNKNOWN_LOAD_SECONDS

    def _replan(self) -> None:
        """One that cannot start does not hold up those that can without its room."""
        self._replan_is_due = False
        self._is_replanning = True
        for queued in self._queue():
            if queued.key in self._entries:
                self._slots[queued.key].retry_admission()
        self._is_replanning = False
        self._let_yield()

    def _let_yield(self) -> None:
        """Those in the way of who has waited for too long."""
        if (first := self.first_overdue()) is None:
            return
        keys = self._to_yield(first)
        for key in keys:
            self._slots[key].hold(first.key)
        if not keys:  # those that could let it in cannot all go, so nobody serves it by waiting
            self._resume(first.key)

    def _queue(self) -> list[Queued]:
        known = [self._queued(key) for key in self._entries if key in self._slots]
        return in_order(known, self._clock.now(), self._settings().priority_ageing_seconds)

    def _queued(self, key: str) -> Queued:
        slot = self._slots[key]
        wishes = tuple(Wish(w.rank, w.since) for w in slot.waiters)
        own = Wish(slot.rank, self._entries[key].since)
        return Queued(key, wishes or (own,), slot.load_seconds)
