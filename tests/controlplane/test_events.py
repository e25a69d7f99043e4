"""Events: kept for those who come back, never held up by those who do not read."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from modelpool.observe.events import KEPT, Earlier, Event, EventBus, EventId, iso
from support.virtual_time import run_virtual

DAY = 1_700_000_000.0


def bus(wall: float = DAY) -> EventBus:
    return EventBus(lambda: wall)


def numbers(events: list[Event]) -> list[int]:
    return [e.data["n"] for e in events]


async def pending(subscription: Any) -> list[Event]:
    """What is there now."""
    found: list[Event] = []
    while (news := await subscription.next(0.001)) is not None:
        found += news.events if isinstance(news, Earlier) else [news]
    return found


def test_an_event_says_what_when_and_which() -> None:
    event = bus().publish("model-loaded", model_id="m", reason="a request came")
    assert event.data == {
        "id": event.id,
        "event": "model-loaded",
        "at": "2023-11-14T22:13:20.000+00:00",
        "model_id": "m",
        "reason": "a request came",
    }
    lines = event.as_sse().decode().split("\n")
    assert lines[:2] == [f"id: {event.id}", "event: model-loaded"]
    assert json.loads(lines[2].removeprefix("data: ")) == event.data
    assert lines[3:] == ["", ""]


def test_a_line_break_cannot_forge_an_event() -> None:
    text = bus().publish("x", reason="a\n\ndata: forged").as_sse()
    assert text.count(b"\n") == 4


@pytest.mark.parametrize(("wall", "text"), [(None, None), (0.5, "1970-01-01T00:00:00.500+00:00")])
def test_time_as_text(wall: float | None, text: str | None) -> None:
    assert iso(wall) == text


def test_every_listener_gets_every_event_from_now_on() -> None:
    async def scene() -> None:
        events = bus()
        events.publish("x", n=0)
        one, other = events.subscribe(), events.subscribe()
        events.publish("x", n=1)
        assert numbers(await pending(other)) == [1]
        events.unsubscribe(other)
        events.publish("x", n=2)
        assert numbers(await pending(one)) == [1, 2]
        assert repr(events) == "<EventBus 3 events, 1 listening>"

    run_virtual(scene())


@pytest.mark.parametrize(
    ("last_seen", "expected"),
    [
        (lambda ids: None, []),
        (lambda ids: ids[0], [1, 2]),
        (lambda ids: ids[2], []),
        (lambda ids: ids[0].replace("-1", "-99"), []),
        (lambda ids: "1234-2", [0, 1, 2]),  # another run's: all that is kept
        (lambda ids: "garbage", [0, 1, 2]),
        (lambda ids: "", [0, 1, 2]),
        (lambda ids: ids[0].replace("-1", "-x"), [0, 1, 2]),
    ],
)
def test_resuming(last_seen: Callable[[list[str]], str | None], expected: list[int]) -> None:
    async def scene() -> None:
        events = bus()
        ids = [events.publish("x", n=n).id for n in range(3)]
        assert numbers(await pending(events.subscribe(last_seen(ids)))) == expected

    run_virtual(scene())


def test_two_runs_have_different_ids() -> None:
    assert bus(DAY).publish("x").id != bus(DAY + 1).publish("x").id


def test_the_ring_keeps_the_last() -> None:
    async def scene() -> None:
        events = bus()
        first = events.publish("x", n=0)
        for n in range(1, KEPT + 5):
            events.publish("x", n=n)
        subscription = events.subscribe(first.id)
        assert await subscription.next(1) == Earlier((), "4 are no longer kept")
        assert numbers(await pending(subscription)) == list(range(5, KEPT + 5))

    run_virtual(scene())


# -- as a stream -----------------------------------------------------------------------------------


def everything(event: Event) -> bool:
    return True


async def take(stream: AsyncIterator[bytes], count: int) -> list[bytes]:
    return [await anext(stream) for _ in range(count)]


def test_a_stream_begins_at_once_and_pings_in_silence() -> None:
    async def scene() -> None:
        events = bus()
        stream = events.stream(None, everything, 15)
        assert await take(stream, 3) == [b": listening\n\n", b": ping\n\n", b": ping\n\n"]
        assert asyncio.get_running_loop().time() == pytest.approx(30)
        event = events.publish("x")
        assert await anext(stream) == event.as_sse()
        assert asyncio.get_running_loop().time() == pytest.approx(30)
        await stream.aclose()
        assert repr(events) == "<EventBus 1 events, 0 listening>"

    run_virtual(scene())


def test_a_stream_wakes_for_each_event() -> None:
    async def scene() -> None:
        events = bus()
        stream = events.stream(None, everything, 1000)
        await anext(stream)
        for n in range(3):
            asyncio.get_running_loop().call_later(1, events.publish, f"x{n}")
            assert f"event: x{n}".encode() in await anext(stream)
        await stream.aclose()

    run_virtual(scene())


def test_only_what_is_wanted() -> None:
    async def scene() -> None:
        events = bus()
        stream = events.stream(None, lambda e: e.name == "b", 15)
        await anext(stream)
        events.publish("a")
        wanted = events.publish("b")
        assert await anext(stream) == wanted.as_sse()
        await stream.aclose()

    run_virtual(scene())


def test_a_stream_resumes() -> None:
    async def scene() -> None:
        events = bus()
        first, second = events.publish("x"), events.publish("y")
        stream = events.stream(first.id, everything, 15)
        assert await take(stream, 2) == [b": listening\n\n", second.as_sse()]
        await stream.aclose()

    run_virtual(scene())


def test_a_slow_reader_is_told_in_the_stream_where_he_lost_some() -> None:
    async def scene() -> None:
        events = bus()
        stream = events.stream(None, everything, 15)
        await anext(stream)
        seen = events.publish("seen")
        assert await anext(stream) == seen.as_sse()
        for n in range(KEPT + 3):
            events.publish("x", n=n)
        gap, first = await take(stream, 2)
        assert gap.startswith(b"event: gap\ndata: ")
        assert b"3 are no longer kept" in gap
        assert b'"n": 3' in first
        await stream.aclose()

    run_virtual(scene())


class Tape:
    """An archive of everything, slow to read, in pages of ``size``."""

    def __init__(self, events: EventBus, size: int) -> None:
        self.events = events
        self.size = size
        self.kept: list[Event] = []
        self.given: list[int] = []
        events.archive = self
        events.listeners.append(self.kept.append)

    async def earlier(self, after: EventId, until: EventId) -> Earlier:
        await asyncio.sleep(1)
        between = [e for e in self.kept if after[1] < e.serial < until[1]][: self.size]
        self.given.append(len(between))
        return Earlier(tuple(between), "")


def test_what_happens_while_the_archive_is_read_is_not_lost() -> None:
    async def scene() -> None:
        events = bus()
        tape = Tape(events, 100)
        for n in range(KEPT + 500):
            events.publish("x", n=n)
        stream = events.stream(f"{events.run}-100", everything, 15)
        await anext(stream)
        got = []
        for n in range(KEPT + 500, KEPT + 600):
            events.publish("x", n=n)
            got += await take(stream, 5)
        got += await take(stream, KEPT + 500 - len(got))
        told = [json.loads(part.split(b"data: ")[1])["n"] for part in got]
        assert told == list(range(100, KEPT + 600))
        assert sum(tape.given) >= 400
        await stream.aclose()

    run_virtual(scene())


def test_who_stalls_holds_no_more_than_a_page() -> None:
    async def scene() -> None:
        events = bus()
        tape = Tape(events, 10)
        stream = events.stream(None, everything, 15)
        await anext(stream)
        for n in range(3 * KEPT):
            events.publish("x", n=n)
        await take(stream, 5)
        assert tape.given == [10], "the rest is read when it is wanted"
        got = await take(stream, 3 * KEPT - 5)
        assert b'"n": 2999' in got[-1]
        await stream.aclose()

    run_virtual(scene())


def test_close_ends_the_streams_after_what_is_left() -> None:
    async def scene() -> None:
        events = bus()
        stream = events.stream(None, everything, 15)
        await anext(stream)
        listening = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(1)
        last = events.publish("last")
        events.close()
        assert await listening == last.as_sse()
        assert [part async for part in stream] == []

    run_virtual(scene())


def test_who_comes_after_the_close_is_not_kept() -> None:
    async def scene() -> None:
        events = bus()
        kept = events.publish("x")
        events.close()
        stream = events.stream("other-0", everything, 15)
        listening, gap, last = [part async for part in stream]
        assert (listening, last) == (b": listening\n\n", kept.as_sse())
        assert gap.startswith(b"event: gap\ndata: ")

    run_virtual(scene())
