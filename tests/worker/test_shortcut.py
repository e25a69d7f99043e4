"""The shortcut through a front against the front without it: whatever is asked and however the
engine answers, nobody can tell which way it went."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from modelpool_client.errors import WorkerFailed
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
    ERROR,
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
TOLD = [
    b'data: {"id":"c","choices":[{"index":0,"delta":{"role":"assistant","content":null}}]}\n\n',
    b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"It"}}]}\n\n',
    b'data: {"id":"c","choices":[{"index":0,"delta":{"content":" rains"}}]}\n\n',
    b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"."}}]}\n\n',
    b'data: {"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":3,"completion_tokens":2}}\n\n',
    b"data: [DONE]\n\n",
]
# Its numbers add up to none.
ODD_USAGE = b'data: {"choices":[{"index":0,"delta":{}}],"usage":{"completion_tokens":"two"}}\n\n'
USUAL = st.builds(
    Script,
    data=st.just(stream(*TOLD)),
    cuts=st.lists(st.integers(0, 800), max_size=3).map(tuple),
    leaves=st.booleans(),
)
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


PATIENT = Timeouts()


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


class Served:
    """A front before an engine, without what starts either.

    Attributes:
        taken: how often a shortcut was taken.
    """

    def __init__(self, worker: Worker, *, is_short: bool, timeouts: Timeouts) -> None:
        self.worker = worker
        self.taken = 0
        app = App(worker)
        shortcut = Shortcut(worker, app)

        def short(connection: Connection, data: bytes) -> bool | None:
            is_taken = shortcut(connection, data)
            self.taken += is_taken is True
            return is_taken

        self._sock = socket.create_server(("127.0.0.1", 0))
        self.port = self._sock.getsockname()[1]
        self.server = HttpServer(
            app,
            self._sock,
            source="worker",
            timeouts=timeouts,
            keep_alive_seconds=75,
            shortcut=short if is_short else None,
        )

    def close(self) -> None:
        self.server.stop_accepting()
        for connection in list(self.server.connections):
            connection.abort()
        self._sock.close()


@asynccontextmanager
async def served(
    engine: ScriptedServer,
    *,
    is_short: bool = True,
    stops_plain: bool = True,
    sampler: Sampler | None = None,
    timeouts: Timeouts = PATIENT,
) -> AsyncIterator[Served]:
    assignment = Assignment("w", "s", "p", 1, "http://127.0.0.1:1", "m", "sim", "-", 0, ("alias",))
    child: Any = Child(engine.port)
    client = EngineClient(child.link)
    client.take({"stops_plain": stops_plain})
    worker = Worker(assignment, 1, child, client, lambda change: None)
    worker.support = KNOWN
    worker.serves = (*BASIC, *OTHERS)
    worker.become(Phase.READY)
    if sampler is not None:
        worker.tracing, worker.sampler = Tracing(is_on=True), sampler
    at = Served(worker, is_short=is_short, timeouts=timeouts)
    await at.server.start()
    try:
        yield at
    finally:
        at.close()
        client.close()


async def seen(
    asking: Asking,
    scripts: Sequence[Script],
    *,
    is_short: bool,
    stops_plain: bool = True,
    sampler: Sampler | None = None,
) -> tuple[Seen, int]:
    """What comes of it, and how often a shortcut was taken."""
    usual = Script(WHOLE if stops_plain else stream(*TOLD))
    async with (
        ScriptedServer([usual, *scripts, usual]) as engine,
        served(engine, is_short=is_short, stops_plain=stops_plain, sampler=sampler) as at,
    ):
        await ask(at.port, Asking().parts())  # now there is a kept connection
        at.taken = 0
        engine.asked.clear()
        told, has_ended = await ask(at.port, asking.parts())
        worker = at.worker
        async with asyncio.timeout(SECONDS):
            while worker.activity.in_flight:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        assert not worker.calls
        assert worker.became_idle.is_set()
        activity = worker.activity
        counts = (activity.requests, activity.errors, activity.tokens, activity.direct)
        usage = [
            (u.requests, u.errors, u.prompt_tokens, u.cached_tokens, u.completion_tokens)
            for u in worker.ended.report().usage
        ]
        found = Seen(told, has_ended, engine.asked, dict(worker.metrics.answers), counts, usage)
        return found, at.taken


async def both_ways(
    asking: Asking, scripts: Sequence[Script], *, stops_plain: bool = True
) -> tuple[Seen, Seen, int]:
    short, taken = await seen(asking, scripts, is_short=True, stops_plain=stops_plain)
    long, never = await seen(asking, scripts, is_short=False, stops_plain=stops_plain)
    assert never == 0
    return short, long, taken


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(ASKING, st.lists(st.one_of(SCRIPTS, USUAL), min_size=1, max_size=3), st.booleans())
@example(Asking(times=2), [Script(WHOLE), Script(WHOLE)], True)
@example(Asking(), [Script(b"", leaves=True), Script(WHOLE)], True)
@example(Asking(), [Script(stream(*EVENTS))], True)
@example(Asking(times=2), [Script(stream(*TOLD)), Script(stream(*TOLD))], False)
@example(Asking(), [Script(b"", leaves=True), Script(stream(*TOLD))], False)
@example(Asking(), [Script(WHOLE)], False)
def test_nobody_can_tell_which_way_it_went(
    asking: Asking, scripts: list[Script], stops_plain: bool
) -> None:
    short, long, _ = asyncio.run(both_ways(asking, scripts, stops_plain=stops_plain))
    assert short == long


@pytest.mark.parametrize(
    ("asking", "count"),
    [
        (Asking(), 1),
        (Asking(cuts=(-64, -10)), 1),
        (Asking(body=body(model=...)), 1),
        (Asking(fields=(JSON, "X-ModelPool-Resolved: m")), 1),
        (Asking(body=body(model="other")), 0),
        (Asking(fields=(JSON, "Connection: close")), 0),
    ],
)
@pytest.mark.parametrize("stops_plain", [True, False])
def test_what_is_usual_takes_the_shortcut(asking: Asking, count: int, stops_plain: bool) -> None:
    answer = Script(WHOLE if stops_plain else stream(*TOLD))
    short, long, taken = asyncio.run(both_ways(asking, [answer], stops_plain=stops_plain))
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


ODD = (
    b"nonsense",
    b"[]",
    b'{"data":[{"index":0}]}',
    b'{"data":[{"embedding":"x"}]}',
    b'{"data":3}',
)


@pytest.mark.parametrize("answer", ODD)
@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/v1/embeddings", {"input": "x", "dimensions": 1}),
        ("/v1/rerank", {"query": "x", "documents": ["y"], "return_documents": True}),
        ("/api/embed", {"input": "x"}),
        ("/api/embed", {"input": "x", "dimensions": 1}),
        ("/embed", {"inputs": "x"}),
        ("/v2/embed", {"texts": ["x"], "input_type": "x", "output_dimension": 1}),
    ],
)
def test_vectors_that_make_no_sense_are_the_engines_fault(
    path: str, said: dict[str, Any], answer: bytes
) -> None:
    """And no bug of the worker's."""
    asking = Asking(f"POST {path} HTTP/1.1", body=json.dumps({"model": "m", **said}).encode())
    short, long, _ = asyncio.run(both_ways(asking, [Script(response(answer))]))
    status, fields, _ = short.told[0]
    assert status >= 500
    assert fields[b"x-modelpool-code"] == b"engine_failed"
    assert short == long


@pytest.mark.parametrize(
    ("listed", "status"),
    [(b'[{"id":0,"path":"a.gguf","scale":1.0}]', 200), (b"[]", 400), (b'{"id":0}', 502)],
)
def test_adapters_of_a_server_that_its_worker_knows_nothing_of(listed: bytes, status: int) -> None:
    """An operator's own llama-server, say; what it has its list says."""

    async def told() -> Any:
        scripts = [Script(response(listed)), Script(response(b'{"success":true}'))]
        async with ScriptedServer(scripts) as engine, served(engine) as at:
            at.worker.serves = (*BASIC, "/lora-adapters")
            said = b'[{"id":0,"scale":0.5}]'
            asking = Asking("POST /lora-adapters HTTP/1.1", body=said)
            (answer,), _ = await ask(at.port, asking.parts())
            return answer[0], engine.asked[-1].endswith(b'[{"id": 0, "scale": 0.5}]')

    assert asyncio.run(told()) == (status, status == 200)


def _without_id(found: Seen) -> Seen:
    """Of embeddings, which is made at random."""
    told = [(s, {**f, b"content-length": b""}, EMBEDDING_ID.sub(b"", t)) for s, f, t in found.told]
    return replace(found, told=told)


@pytest.mark.parametrize("leaves", [False, True])
@pytest.mark.parametrize("cuts", [(), (250,), (200, 420, 610), (-3,), (-20, -9)])
@pytest.mark.parametrize(
    "events",
    [
        TOLD,
        [b"data: null\n\n", *TOLD],
        [TOLD[0], ERROR],
        [ERROR],
        TOLD[:-1],
        [*TOLD[:-1], ODD_USAGE, TOLD[-1]],
        [b"no events"],
        [b"data: 1\n\n"],
        [],
    ],
    ids=["whole", "null", "broken", "error", "early", "odd", "none", "number", "empty"],
)
def test_a_stream_is_put_together_whichever_way_it_goes(
    events: list[bytes], cuts: tuple[int, ...], leaves: bool
) -> None:
    scripts = [Script(stream(*events), cuts, leaves=leaves)]
    short, long, taken = asyncio.run(both_ways(Asking(), scripts, stops_plain=False))
    assert taken == 1
    assert short == long
    if events == TOLD:
        [(status, _, told)] = short.told
        assert status == 200
        assert json.loads(told)["choices"][0]["message"]["content"] == "It rains."
        assert short.activity == (2, 0, 4, 0)


@pytest.mark.parametrize("leaves", [False, True])
@pytest.mark.parametrize("cuts", [(), (250,), (200, 420, 610), (-3,), (-20, -9)])
@pytest.mark.parametrize(
    "answer",
    [
        stream(*TOLD),
        stream(*(TOLD[0], *TOLD[2:3] * 100, *TOLD[4:])),
        stream(b"data: null\n\n", *TOLD),
        stream(b"data: null\n\n", TOLD[0] + b"data: null\n\n", *TOLD[1:]),
        stream(TOLD[0], ERROR),
        stream(ERROR),
        stream(*TOLD[:-1]),
        stream(*TOLD[:-2], TOLD[-1]),
        stream(b"no events"),
        stream(b"data: null\n\n"),
        stream(),
        stream(TOLD[0], end=b"nonsense"),
        WHOLE,
        response(b'{"error": {"message": "no"}}', "500 No"),
    ],
    ids=[
        *("usual", "long", "null", "null within", "broken", "error", "early", "untold"),
        *("none", "null only", "empty", "nonsense", "in one piece", "refused"),
    ],
)
def test_a_stream_is_passed_on_whichever_way_it_goes(
    answer: bytes, cuts: tuple[int, ...], leaves: bool
) -> None:
    asking = Asking(body=body(stream=True))
    short, long, taken = asyncio.run(both_ways(asking, [Script(answer, cuts, leaves=leaves)]))
    assert taken == 1
    assert short == long
    if answer == stream(*TOLD):
        assert short.told[0][2] == b"".join(TOLD)
        assert short.activity == (2, 0, 2, 0)


@pytest.mark.parametrize("is_short", [True, False])
@pytest.mark.parametrize("begun", [b"", stream(TOLD[0], end=b"")], ids=["before", "within"])
def test_who_waits_for_a_silent_stream_is_told_why(begun: bytes, is_short: bool) -> None:
    async def told() -> bytes:
        scripts = [Script(WHOLE), Script(begun, waits=True)]
        async with (
            ScriptedServer(scripts) as engine,
            served(engine, is_short=is_short, timeouts=Timeouts(stream_ping=0.2)) as at,
        ):
            await ask(at.port, Asking().parts())
            reader, writer = await asyncio.open_connection("127.0.0.1", at.port)
            writer.write(b"".join(Asking(body=body(stream=True)).parts()))
            async with asyncio.timeout(SECONDS):
                data = await reader.readuntil(b"gave nothing for")
            writer.close()
            async with asyncio.timeout(SECONDS):
                await engine.was_left.wait()
            return data

    assert asyncio.run(told()).count(TOLD[0]) == (begun != b"")


async def left_in_the_middle(script: Script, asking: Asking) -> tuple[bool, tuple[int, ...]]:
    """Whether the engine was told, and what the worker counts, once a client has left."""
    usual = Script(stream(*TOLD))
    async with ScriptedServer([usual, script]) as engine, served(engine, stops_plain=False) as at:
        await ask(at.port, Asking().parts())
        _, writer = await asyncio.open_connection("127.0.0.1", at.port)
        writer.write(b"".join(asking.parts()))
        async with asyncio.timeout(SECONDS):
            while len(engine.asked) < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            writer.close()
            await engine.was_left.wait()
            while at.worker.activity.in_flight:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        assert at.taken == 1
        assert not at.worker.calls
        activity = at.worker.activity
        return engine.was_left.is_set(), (activity.requests, activity.errors)


@pytest.mark.parametrize("more", [{}, {"stream": True}], ids=["put together", "a stream"])
@pytest.mark.parametrize("data", [b"", stream(TOLD[0], end=b"")], ids=["before", "within"])
def test_who_leaves_ends_the_work(data: bytes, more: dict[str, Any]) -> None:
    asking = Asking(body=body(**more))
    assert asyncio.run(left_in_the_middle(Script(data, waits=True), asking)) == (True, (2, 0))


@pytest.mark.parametrize(
    ("more", "begun", "expected"),
    [({}, 502, b""), ({"stream": True}, 200, TOLD[0])],
    ids=["put together", "a stream"],
)
def test_what_is_at_work_is_cut_with_a_reason(
    more: dict[str, Any], begun: int, expected: bytes
) -> None:
    async def cut() -> Any:
        usual, silent = Script(stream(*TOLD)), Script(stream(TOLD[0], end=b""), waits=True)
        async with (
            ScriptedServer([usual, silent]) as engine,
            served(engine, stops_plain=False) as at,
        ):
            await ask(at.port, Asking().parts())
            asking = asyncio.create_task(ask(at.port, Asking(body=body(**more)).parts()))
            async with asyncio.timeout(SECONDS):
                while not (at.worker.calls and next(iter(at.worker.calls)).gave_at):  # noqa: ASYNC110
                    await asyncio.sleep(0.001)
                [call] = at.worker.calls
                call.stop(WorkerFailed("cut", source="worker"))
                [answer], _ = await asking
                await engine.was_left.wait()
            assert at.taken == 1
            return answer

    status, _, told = asyncio.run(cut())
    assert status == begun
    assert told.startswith(expected)
    error = told.removeprefix(expected).removeprefix(b"data: ")
    assert json.JSONDecoder().raw_decode(error.decode())[0]["error"]["message"] == "cut"


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
