"""Events: every change with its reason, for any number of listeners; none can hold it up."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

KEPT = 1000
PER_SUBSCRIBER = 1000
MOST_DIGITS = 18  # of a serial; SQLite's integers end soon after


def iso(wall: float | None) -> str | None:
    """Wall seconds as text in UTC, to the millisecond."""
    if wall is None:
        return None
    return datetime.fromtimestamp(wall, UTC).isoformat(timespec="milliseconds")


@dataclass(frozen=True)
class Event:
    """``serial`` grows by one with each event of this manager; ``id`` also names the manager's
    run, so that nobody resumes with a number of an earlier one."""

    serial: int
    id: str
    name: str
    data: Mapping[str, Any]

    def as_sse(self) -> bytes:
        """The event as a server-sent one."""
        return f"id: {self.id}\nevent: {self.name}\ndata: {json.dumps(self.data)}\n\n".encode()


@dataclass(frozen=True)
class Earlier:
    """Events from before those in memory. ``gap`` says why some may be missing, if so."""

    events: tuple[Event, ...]
    gap: str


class Archive(Protocol):
    """Where events outlive the memory and the manager; see ``history``."""

    async def earlier(self, last_event_id: str, until: tuple[str, int]) -> Earlier: ...


def split_id(event_id: str) -> tuple[str, int]:
    """The manager's run and the serial in it; serial 0 where the text is no id."""
    run, _, serial = event_id.rpartition("-")
    is_id = run and serial.isascii() and serial.isdecimal() and len(serial) < MOST_DIGITS
    return (run, int(serial)) if is_id else ("", 0)


def gap_event(reason: str) -> bytes:
    """Tells a listener that some events may be missing. It has no id: the next resume is from the
    last real one."""
    return f"event: gap\ndata: {json.dumps({'event': 'gap', 'reason': reason})}\n\n".encode()


class Subscription:
    """One listener's queue. When it is full the oldest go, and the listener is told how many."""

    def __init__(self, missed: list[Event], dropped: int = 0) -> None:
        self._queue: deque[Event] = deque(missed, maxlen=PER_SUBSCRIBER)
        self._woken = asyncio.Event()
        self._dropped = dropped
        self._is_closed = False

    def put(self, event: Event) -> None:
        if len(self._queue) == PER_SUBSCRIBER:
            self._dropped += 1
        self._queue.append(event)
        self._woken.set()

    def close(self) -> None:
        self._is_closed = True
        self._woken.set()

    async def next(self, timeout: float) -> Event | None:
        """The next event, or None when none came within ``timeout`` seconds.

        Raises:
            StopAsyncIteration: the pool is shutting down.
        """
        if not self._queue and not self._is_closed:
            self._woken.clear()
            try:
                async with asyncio.timeout(timeout):
                    await self._woken.wait()
            except TimeoutError:
                return None
        if self._queue:
            return self._queue.popleft()
        raise StopAsyncIteration

    def take_dropped(self) -> int:
        """How many were lost since the last call."""
        dropped, self._dropped = self._dropped, 0
        return dropped


class EventBus:
    """Keeps the last events for those who come back, hands every new one to every listener.

    Attributes:
        run: names this manager's run; the first half of every event's id.
        listeners: called with each new event, before any subscriber has it; must be quick.
        archive: asked for what is not in memory any more, or never was.
    """

    def __init__(self, wall: Callable[[], float]) -> None:
        self._wall = wall
        self.run = f"{int(wall() * 1000):x}"
        self.listeners: list[Callable[[Event], None]] = []
        self.archive: Archive | None = None
        self._serial = 0
        self._kept: deque[Event] = deque(maxlen=KEPT)
        self._subscriptions: set[Subscription] = set()
        self._is_closed = False

    def __repr__(self) -> str:
        return f"<EventBus {self._serial} events, {len(self._subscriptions)} listening>"

    def publish(self, name: str, **data: Any) -> Event:
        """Tell everybody. Never waits."""
        self._serial += 1
        event_id = f"{self.run}-{self._serial}"
        full = {"id": event_id, "event": name, "at": iso(self._wall()), **data}
        event = Event(self._serial, event_id, name, full)
        self._kept.append(event)
        for listen in self.listeners:
            listen(event)
        for subscription in self._subscriptions:
            subscription.put(event)
        return event

    def subscribe(self, last_event_id: str | None = None) -> Subscription:
        """Listen from now on, or from after ``last_event_id`` as far as it is still kept."""
        after = self._serial if last_event_id is None else self._serial_of(last_event_id)
        missed = [e for e in self._kept if e.serial > after]
        subscription = Subscription(missed, max(0, self._serial - after - len(missed)))
        self._subscriptions.add(subscription)
        if self._is_closed:
            subscription.close()
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        self._subscriptions.discard(subscription)

    def close(self) -> None:
        """End every listener's stream, also of those still to come."""
        self._is_closed = True
        for subscription in self._subscriptions:
            subscription.close()

    def _serial_of(self, event_id: str) -> int:
        run, serial = split_id(event_id)
        return serial if run == self.run else 0

    def _first_kept(self) -> int:
        """The serial of the oldest event in memory, or of the next one."""
        return self._kept[0].serial if self._kept else self._serial + 1

    async def _earlier(self, last_event_id: str, first: int, subscription: Subscription) -> Earlier:
        """What a subscription that began with the serial ``first`` at best could not give."""
        run, serial = split_id(last_event_id)
        if run == self.run and serial + 1 >= first:
            return Earlier((), "")
        dropped = subscription.take_dropped()
        if self.archive is not None:
            return await self.archive.earlier(last_event_id, (self.run, first))
        why = f"{dropped} are no longer kept" if run == self.run else "they were another manager's"
        return Earlier((), why)

    async def stream(
        self, last_event_id: str | None, wanted: Callable[[Event], bool], ping: float
    ) -> AsyncIterator[bytes]:
        """Server-sent events until the pool stops; a comment every ``ping`` silent seconds."""
        subscription, first = self.subscribe(last_event_id), self._first_kept()
        try:
            yield b": listening\n\n"
            if last_event_id is not None:
                earlier = await self._earlier(last_event_id, first, subscription)
                if earlier.gap:
                    yield gap_event(f"events may be missing here: {earlier.gap}")
                for event in filter(wanted, earlier.events):
                    yield event.as_sse()
            while True:
                try:
                    news = await subscription.next(ping)
                except StopAsyncIteration:
                    return
                if dropped := subscription.take_dropped():
                    yield f": {dropped} events were dropped, you read too slowly\n\n".encode()
                if news is None:
                    yield b": ping\n\n"
                elif wanted(news):
                    yield news.as_sse()
        finally:
            self.unsubscribe(subscription)
