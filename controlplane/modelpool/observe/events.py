"""Events: every change with its reason, for any number of listeners; none can hold it up."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

KEPT = 1000
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


EventId = tuple[str, int]  # a manager's run, and the serial in it


@dataclass(frozen=True)
class Earlier:
    """A page of events that are not in memory. ``gap`` says why some may be missing in or right
    after it, if so; without events it is the last."""

    events: tuple[Event, ...]
    gap: str


class Archive(Protocol):
    """Where events outlive the memory and the manager; see ``history``."""

    async def earlier(self, after: EventId, until: EventId) -> Earlier: ...


def split_id(event_id: str) -> EventId:
    """The manager's run and the serial in it; serial 0 where the text is no id."""
    run, _, serial = event_id.rpartition("-")
    is_id = run and serial.isascii() and serial.isdecimal() and len(serial) < MOST_DIGITS
    return (run, int(serial)) if is_id else ("", 0)


def gap_event(reason: str) -> bytes:
    """Tells a listener that some events may be missing. It has no id: the next resume is from the
    last real one."""
    return f"event: gap\ndata: {json.dumps({'event': 'gap', 'reason': reason})}\n\n".encode()


class Subscription:
    """One listener's place among the events. They themselves are kept once for all, so that one who
    stalls costs nothing, and finds what was kept when he reads on."""

    def __init__(self, bus: EventBus, place: EventId) -> None:
        self._bus = bus
        self._place = place
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """There may be news."""
        self._woken.set()

    async def next(self, timeout: float) -> Event | Earlier | None:
        """The next event, or the next page of earlier ones, or None when none came within
        ``timeout`` seconds.

        Raises:
            StopAsyncIteration: the pool is shutting down.
        """
        if self._place == self._bus.latest and not self._bus.is_closed:
            self._woken.clear()
            try:
                async with asyncio.timeout(timeout):
                    await self._woken.wait()
            except TimeoutError:
                return None
        if not self._bus.remembers(self._place):
            return await self._earlier()
        event = self._bus.following(self._place)
        if event is None:
            raise StopAsyncIteration
        self._place = (self._bus.run, event.serial)
        return event

    async def _earlier(self) -> Earlier:
        memory = self._bus.first_kept
        found = await self._bus.earlier(self._place, memory)
        run, serial = memory
        self._place = split_id(found.events[-1].id) if found.events else (run, serial - 1)
        return found


class EventBus:
    """Keeps the last events for all who listen or come back, wakes every listener at a new one.

    Attributes:
        run: names this manager's run; the first half of every event's id.
        is_closed: every listener's stream ends, also of those still to come.
        listeners: called with each new event, before any subscriber has it; must be quick.
        archive: asked for what is not in memory any more, or never was.
    """

    def __init__(self, wall: Callable[[], float]) -> None:
        self._wall = wall
        self.run = f"{int(wall() * 1000):x}"
        self.is_closed = False
        self.listeners: list[Callable[[Event], None]] = []
        self.archive: Archive | None = None
        self._serial = 0
        self._kept: deque[Event] = deque(maxlen=KEPT)
        self._subscriptions: set[Subscription] = set()

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
            subscription.wake()
        return event

    def subscribe(self, last_event_id: str | None = None) -> Subscription:
        """Listen from now on, or from after ``last_event_id`` as far as it is still kept."""
        run, serial = self.latest if last_event_id is None else split_id(last_event_id)
        place = (run, min(serial, self._serial)) if run == self.run else (run, serial)
        subscription = Subscription(self, place)
        self._subscriptions.add(subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        self._subscriptions.discard(subscription)

    def close(self) -> None:
        """End every listener's stream, also of those still to come."""
        self.is_closed = True
        for subscription in self._subscriptions:
            subscription.wake()

    @property
    def latest(self) -> EventId:
        """The newest event; serial 0 before the first."""
        return self.run, self._serial

    @property
    def first_kept(self) -> EventId:
        """The oldest event in memory, or the next one."""
        return self.run, self._serial + 1 - len(self._kept)

    def remembers(self, place: EventId) -> bool:
        """Whether all that came after an event is in memory."""
        (run, serial), (ours, first) = place, self.first_kept
        return run == ours and serial + 1 >= first

    def following(self, place: EventId) -> Event | None:
        """The event after one that is remembered."""
        ahead = self._serial - place[1]
        return self._kept[-ahead] if ahead else None

    async def earlier(self, place: EventId, until: EventId) -> Earlier:
        """The first of what came between an event and those in memory."""
        if self.archive is not None:
            return await self.archive.earlier(place, until)
        if place[0] == self.run:
            return Earlier((), f"{until[1] - place[1] - 1} are no longer kept")
        return Earlier((), "they were another manager's")

    async def stream(
        self, last_event_id: str | None, wanted: Callable[[Event], bool], ping: float
    ) -> AsyncIterator[bytes]:
        """Server-sent events until the pool stops; a comment every ``ping`` silent seconds."""
        subscription = self.subscribe(last_event_id)
        try:
            yield b": listening\n\n"
            while True:
                try:
                    news = await subscription.next(ping)
                except StopAsyncIteration:
                    return
                for part in _parts(news, wanted):
                    yield part
        finally:
            self.unsubscribe(subscription)


def _parts(news: Event | Earlier | None, wanted: Callable[[Event], bool]) -> Iterator[bytes]:
    """What a stream says of it."""
    if news is None:
        yield b": ping\n\n"
    elif isinstance(news, Event):
        yield from [news.as_sse()] if wanted(news) else []
    else:
        if news.gap:
            yield gap_event(f"events may be missing here: {news.gap}")
        yield from (event.as_sse() for event in news.events if wanted(event))
