"""The shortcut through a front against the front without it: whatever is asked and however the
engine answers, nobody can tell which way it went."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from modelpool_client.http1.connection import Connection
from modelpool_client.http1.server import HttpServer
from modelpool_client.http1.timeouts import Timeouts
from modelpool_client.surfaces.parameters import Support
from modelpool_client.surfaces.routes import BASIC
from modelpool_client.tracing.sampling import Sampler
from modelpool_client.wire import Assignment, Phase, Tracing
from modelpool_worker.app import App
from modelpool_worker.engine_client import EngineClient
from modelpool_worker.link import ChildLink
from modelpool_worker.shortcut import Shortcut
from modelpool_worker.worker import Worker
from support.two_ways import (
    ASKING,
    EVENTS,
    SCRIPTS,
    SECONDS,
    WHOLE,
    Asking,
    Script,
    ScriptedServer,
    ask,
    body,
    stream,
)
from support.upstream import response

JSON = "Content-Type: application/json"
KNOWN = Support({"/v1/chat/completions": ["seed", "temperature"], "/v1/completions": ["user"]})


OTHERS = {
    "/v1/messages": body(max_tokens=3),
    "/v1/embeddings": json.dumps({"model": "m", "input": "x"}).encode(),
    "/v1/rerank": json.dumps({"query": "x", "documents": ["y"]}).encode(),
    "/completion": body(prompt="x"),
    "/tokenize": body(content="x"),
}
VECTOR = response(b'{"data":[{"embedding":[3.0,4.0]}],"usage":{"prompt_tokens":3}}')


EMBEDDING_ID = re.compile(rb'"id": ?"embd-[0-9a-f]+", ?')


class Child:
    """An engine child, as far as a worker needs it, that is only a port."""

    pid = exit_code = started = held = probe = None
    served: Sequence[str] = ()
    serves_others = False

    def __init__(self, port: int) -> None:
        self.link = ChildLink("nowhere")
        self.link.endpoint = ("127.0.0.1", port)
        self.last_lines: deque[str] = deque()

    def resolve(self, name: str) -> bool:
        return False


@dataclass
class Seen:
    """All that came of one request, as far as anybody can see it."""

    told: list[Any]
    has_ended: bool
    asked: list[bytes]
    answers: dict[tuple[str, int], int]
    activity: tuple[int, int, int, int]
    usage: list[tuple[int, ...]]


async def seen(
    asking: Asking, scripts: Sequence[Script], *, is_short: bool, sampler: Sampler | None = None
) -> tuple[Seen, int]:
    """What comes of it, and how often a shortcut was taken."""
    assignment = Assignment("w", "s", "p", 1, "http://127.0.0.1:1", "m", "sim", "-", 0, ("alias",))
    async with ScriptedServer([Script(WHOLE), *scripts, Script(WHOLE)]) as engine:
        child: Any = Child(engine.port)
        client = EngineClient(child.link)
        client.take({"stops_plain": True})
        worker = Worker(assignment, 1, child, client, lambda change: None)
        worker.support = KNOWN
        worker.serves = (*BASIC, *OTHERS)
        worker.become(Phase.READY)
        if sampler is not None:
            worker.tracing, worker.sampler = Tracing(is_on=True), sampler
        app, taken = App(worker), 0
        shortcut = Shortcut(worker, app)

        def short(connection: Connection, data: bytes) -> bool | None:
            nonlocal taken
            is_taken = shortcut(connection, data)
            taken += is_taken is True
            return is_taken

        sock = socket.create_server(("127.0.0.1", 0))
        server = HttpServer(
            app,
            sock,
            source="worker",
            timeouts=Timeouts(),
            keep_alive_seconds=75,
            shortcut=short if is_short else None,
        )
        await server.start()
        port = sock.getsockname()[1]
        await ask(port, Asking().parts())  # now there is a kept connection
        taken = 0
        engine.asked.clear()
        told, has_ended = await ask(port, asking.parts())
        async with asyncio.timeout(SECONDS):
            while worker.activity.in_flight:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        assert not worker.calls
        assert worker.became_idle.is_set()
        server.stop_accepting()
        for connection in list(server.connections):
            connection.abort()
        sock.close()
        client.close()
        activity = worker.activity
        counts = (activity.requests, activity.errors, activity.tokens, activity.direct)
        usage = [
            (u.requests, u.errors, u.prompt_tokens, u.cached_tokens, u.completion_tokens)
            for u in worker.ended.report().usage
        ]
        found = Seen(told, has_ended, engine.asked, dict(worker.metrics.answers), counts, usage)
        return found, taken


async def both_ways(asking: Asking, scripts: Sequence[Script]) -> tuple[Seen, Seen, int]:
    short, taken = await seen(asking, scripts, is_short=True)
    long, never = await seen(asking, scripts, is_short=False)
    assert never == 0
    return short, long, taken


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(ASKING, st.lists(SCRIPTS, min_size=1, max_size=3))
@example(Asking(times=2), [Script(WHOLE), Script(WHOLE)])
@example(Asking(), [Script(b"", leaves=True), Script(WHOLE)])
@example(Asking(), [Script(stream(*EVENTS))])
def test_nobody_can_tell_which_way_it_went(asking: Asking, scripts: list[Script]) -> None:
    short, long, _ = asyncio.run(both_ways(asking, scripts))
    assert short == long


@pytest.mark.parametrize(
    ("asking", "count"),
    [
        (Asking(), 1),
        (Asking(cuts=(-64, -10)), 1),
        (Asking(body=body(model=...)), 1),
        (Asking(fields=(JSON, "X-ModelPool-Resolved: m")), 1),
        (Asking(body=body(stream=True)), 0),
        (Asking(body=body(model="other")), 0),
        (Asking(fields=(JSON, "Connection: close")), 0),
    ],
)
def test_what_is_usual_takes_the_shortcut(asking: Asking, count: int) -> None:
    short, long, taken = asyncio.run(both_ways(asking, [Script(WHOLE)]))
    assert taken == count
    assert short == long


@pytest.mark.parametrize("path", OTHERS)
@pytest.mark.parametrize(
    "script",
    [
        Script(WHOLE),
        Script(VECTOR),
        Script(stream(*EVENTS)),
        Script(stream(*EVENTS, end=b""), leaves=True),
        Script(response(b"{}", "404 Not Found")),
        Script(response(b'{"error": {"message": "no"}}', "500 No")),
        Script(response(b"x" * 300_000)),
        Script(WHOLE[:30], leaves=True),
        Script(b"", leaves=True),
        Script(b"nonsense\r\n\r\n", leaves=True),
    ],
)
def test_whatever_is_answered_in_another_api_is_told_alike(path: str, script: Script) -> None:
    fields = (JSON, "Anthropic-Version: 2023-06-01", "X-Request-Id: mine")
    asking = Asking(f"POST {path} HTTP/1.1", fields=fields, body=OTHERS[path])
    short, long, taken = asyncio.run(both_ways(asking, [script]))
    assert taken == 1
    assert _without_id(short) == _without_id(long)


@pytest.mark.parametrize(
    ("dimensions", "status"), [(1, 200), (3, 400)], ids=["shortened", "more than there are"]
)
def test_what_is_made_of_vectors_is_made_of_them_either_way(dimensions: int, status: int) -> None:
    said = {"input": "x", "dimensions": dimensions, "more": 1}
    asking = Asking("POST /v1/embeddings HTTP/1.1", body=json.dumps(said).encode())
    short, long, taken = asyncio.run(both_ways(asking, [Script(VECTOR)]))
    assert taken == 1
    assert short.told[0][0] == status
    assert _without_id(short) == _without_id(long)


@pytest.mark.parametrize(
    ("path", "more"),
    [("/v1/responses", {"input": "x"}), ("/v1/messages", {"max_tokens": 3, "stream": True})],
    ids=["translated", "a stream"],
)
def test_what_needs_a_task_goes_the_long_way(path: str, more: dict[str, Any]) -> None:
    asking = Asking(f"POST {path} HTTP/1.1", body=body(**more))
    _, taken = asyncio.run(seen(asking, [Script(WHOLE)], is_short=True))
    assert taken == 0


def _without_id(found: Seen) -> Seen:
    """Of embeddings, which is made at random."""
    told = [(s, {**f, b"content-length": b""}, EMBEDDING_ID.sub(b"", t)) for s, f, t in found.told]
    return replace(found, told=told)


@pytest.mark.parametrize(
    "answer",
    [
        b'{"choices":[{"message":{"content":"eight tokens are in this text"}}]}',
        b'{"usage":{"prompt_tokens":3,"completion_tokens":5},"choices":[],"x":"%b"}'
        % (b"y" * 9000),
    ],
    ids=["untold", "told before a long text"],
)
def test_tokens_are_counted_whichever_way_it_goes(answer: bytes) -> None:
    short, long, taken = asyncio.run(both_ways(Asking(), [Script(response(answer))]))
    assert taken == 1
    assert short == long
    assert short.activity[2] > 0


@pytest.mark.parametrize("more", [{}, {"stream": True}])
def test_whether_one_is_traced_is_drawn_once(more: dict[str, Any]) -> None:
    drawn: list[object] = []

    class Never(Sampler):
        def _draws(self) -> bool:
            drawn.append(self)
            return False

    asking = Asking(body=body(**more))
    asyncio.run(seen(asking, [Script(WHOLE)], is_short=True, sampler=Never(0.5)))
    assert len(drawn) == 2 + 1, "the first one finds no connection to its engine, and is asked anew"


def test_what_the_shortcut_cannot_cope_with_is_left_to_the_app(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whose answer says so, where it is a bug: an exception would end the connection."""

    def fail(*_: object) -> str:
        raise RuntimeError("a bug")

    monkeypatch.setattr("modelpool_worker.shortcut.engine_request", fail)
    short, long, taken = asyncio.run(both_ways(Asking(), [Script(WHOLE)]))
    assert taken == 0
    assert short == long
