"""When what is said in requests is captured, and how long it is kept."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from modelpool.api.requests import CaptureBody, as_curl, refuse_capture
from modelpool.catalog.model import Model
from modelpool.config import PoolConfig
from modelpool.observe import requests
from modelpool.observe.captures import Captures
from modelpool.observe.requests import RequestLog
from modelpool_client.errors import Conflict, InvalidRequest
from modelpool_client.wire import Captured, CaptureOrder, Ended, EndedRequest, Message

M = Model("m", "fake", "x")
SERVED = Model("p:a", "openai", "a", served_by="p")


class Told:
    """Notes events, and what workers hear."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.orders: list[CaptureOrder] = []
        self.ended = asyncio.Event()

    async def tell(self, order_for: Callable[[str], CaptureOrder]) -> None:
        self.orders.append(order_for("m"))

    def publish(self, name: str, *, reason: str) -> None:
        assert reason
        self.events.append(name)
        (self.ended.set if name == "capture-ended" else self.ended.clear)()


def test_it_is_for_some_models_and_a_while() -> None:
    async def scenario() -> None:
        told, now = Told(), [50.0]
        captures = Captures(told.tell, told.publish, lambda: now[0], lambda: 1000.0 + now[0])
        assert captures.order_for("m") == CaptureOrder()
        assert not captures.is_kept("m")
        await captures.start(600, [M, SERVED], 4096)
        assert told.orders == [CaptureOrder(600, 4096)]
        assert captures.order_for("p").seconds == 600
        assert captures.order_for("other") == CaptureOrder()
        assert captures.is_kept("p:a")
        assert not captures.is_kept("p:b")
        now[0] += 500
        assert captures.seconds_left() == 100
        await captures.start(600, None, 4096)
        assert captures.order_for("other").seconds == 600
        now[0] += 600
        assert captures.order_for("m") == CaptureOrder()
        assert captures.is_kept("m")  # it was said in time, and is told now
        await captures.stop("somebody said so")
        assert not captures.is_kept("m")
        assert told.events == ["capture-started"] * 2  # when its time was over is another's to say
        captures.close()

    asyncio.run(scenario())


def test_its_end_is_an_event_by_itself_or_told() -> None:
    async def scenario() -> None:
        told, loop = Told(), asyncio.get_running_loop()
        captures = Captures(told.tell, told.publish, loop.time, loop.time)
        await captures.start(600, None, 4096)
        assert await captures.stop("enough")
        assert not await captures.stop("enough")
        assert told.events == ["capture-started", "capture-ended"]
        await captures.start(0.001, None, 4096)
        await told.ended.wait()
        assert told.events[2:] == ["capture-started", "capture-ended"]
        assert captures.present is None

    asyncio.run(scenario())


def content(number: int, text: str = "said") -> Captured:
    message = Message((), text, len(text))
    return Captured(number, "POST", "/v1/chat/completions", message, message)


def ended(last: int, *numbers: int, text: str = "said", after: int = 0) -> Ended:
    rows = tuple(list(EndedRequest(number=n, served="m")) for n in range(after + 1, last + 1))
    return Ended(after, last, rows, captured=tuple(content(n, text) for n in numbers))


def log(size: int = 100) -> RequestLog:
    return RequestLog(lambda: size, lambda: True, set)


def test_what_was_said_goes_with_its_request() -> None:
    kept = log(3)
    kept.take("w", ended(4, 2, 3), str, lambda model_id: True)
    assert [(n, kept.content(n) is not None) for n in range(1, 5)] == [
        (1, False),
        (2, True),
        (3, True),
        (4, False),
    ]
    kept.take("w", ended(6, 5, after=4), str, lambda model_id: False)
    assert kept.content(5) is None  # nobody wants it any more
    assert (kept.content(2), kept.contents) == (None, 0)  # with the request that it was of
    kept.take("w", ended(7, 7, after=6), str, lambda model_id: True)
    assert kept.contents == 1
    kept.forget_contents()
    assert kept.content(7) is None
    assert kept.get(7) is not None


def test_what_was_said_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "CONTENT_CHARACTERS", 1000)
    kept = log()
    kept.take("w", ended(9, *range(1, 10), text="x" * 200), str, lambda model_id: True)
    assert [n for n in range(1, 10) if kept.content(n)] == [8, 9]


@pytest.mark.parametrize(
    ("config", "minutes", "error"),
    [
        ({"request_log": "off"}, 5, Conflict),
        ({"capture_max_minutes": 0}, 5, Conflict),
        ({}, 61, InvalidRequest),
        ({}, 0, InvalidRequest),
        ({}, -1, InvalidRequest),
        ({}, 60, None),
    ],
)
def test_who_may_not_is_told_why(
    config: dict[str, Any], minutes: float, error: type[Exception] | None
) -> None:
    asked = CaptureBody(minutes=minutes)
    if error is None:
        refuse_capture(asked, PoolConfig(**config))
    else:
        with pytest.raises(error, match=r"request_log|capture_max_minutes"):
            refuse_capture(asked, PoolConfig(**config))


def test_a_request_is_a_command_again() -> None:
    said = '{"a": "it\'s $HOME `x` \\\\"}'
    message = Message((("content-type", "application/json"),), said, len(said))
    captured = replace(content(1), request=message)
    command = as_curl(captured, "http://127.0.0.1:8050")
    assert command is not None
    words = shlex.split(command)
    assert words[:3] == ["curl", "-N", "http://127.0.0.1:8050/v1/chat/completions"]
    assert words[-2:] == ["--data-raw", said]
    assert as_curl(replace(captured, request=replace(message, is_whole=False)), "http://x") is None
    for query, kept in (("?key=[redacted]", ""), ("?a=1&key=[redacted]&b=2", "?a=1&b=2")):
        command = as_curl(replace(captured, target="/x" + query), "http://y")
        assert command is not None
        assert shlex.split(command)[2] == "http://y/x" + kept
