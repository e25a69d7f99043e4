"""The shortcut through the gateway against the gateway without it: whatever is asked and however
it is answered, nobody can tell which way it went."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from modelpool.catalog.model import Model
from modelpool.config import PoolConfig
from modelpool.entry import Entry
from modelpool.gateway.relay import Gateway
from modelpool.gateway.shortcut import MOST_ROUTES, Routes, Shortcut
from modelpool.observe.access_line import Access
from modelpool.observe.access_log import access_of
from modelpool.observe.spans import Span
from modelpool.observe.tracer import Tracer
from modelpool.pool.waiters import Grant, Use
from modelpool_client.errors import ModelNotFound, PoolStopping
from modelpool_client.guard import Guard
from modelpool_client.http1.connection import Connection
from modelpool_client.http1.endpoint import LocalEndpoint
from modelpool_client.http1.server import HttpServer
from modelpool_client.http1.timeouts import Timeouts
from modelpool_client.http1.upstream import Upstream
from modelpool_client.response_store import ResponseStore
from modelpool_client.surfaces.parameters import ANY, Support
from modelpool_client.surfaces.routes import SURFACES
from modelpool_client.tracing.sampling import Sampler
from modelpool_client.wire import Allowlist
from support.two_ways import (
    ASKING,
    CHAT,
    DRAINING,
    EVENTS,
    OUR_ID,
    SCRIPTS,
    SECONDS,
    WHOLE,
    Asking,
    Script,
    ScriptedServer,
    ask,
    body,
    read_answer,
    stream,
)
from support.upstream import response

MODELS = (
    Model("m", "sim", "", aliases=("alias",), denied_capabilities=("vision", "tools")),
    Model("blind", "sim", "", capabilities=("chat",), denied_capabilities=("vision",)),
    Model("writes", "sim", "", capabilities=("text",), denied_capabilities=("chat",)),
    Model("seeded", "sim", "", options={"seed": 7}),
    Model("e", "sim", "", capabilities=("embeddings",)),
    Model("p", "sim", ""),
    Model("p:x", "sim", "", served_by="p", aliases=("x",)),
)
SERVED = {model.model_id: model.served_by for model in MODELS if model.served_by}


OTHERS = ("/v1/embeddings", "/v1/messages", "/v1/responses", "/api/chat", "/tokenize")
# Afterwards there is a kept connection, and it is known what the engines answer.
WARM_UPS = (
    Asking(),
    *(Asking(f"POST {path} HTTP/1.1", body=body(stream=False)) for path in OTHERS),
    Asking("POST /v1/embeddings HTTP/1.1", body=body(model="e")),
)


@dataclass
class Seen:
    """All that came of one request, as far as anybody can see it."""

    told: list[Any] = field(default_factory=list)
    asked: list[bytes] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    began_hot: list[bool] = field(default_factory=list)
    uses: list[tuple[bool, bool, bool]] = field(default_factory=list)
    affinities: list[str] = field(default_factory=list)
    accesses: list[Any] = field(default_factory=list)
    has_ended: bool = False


class HotPool:
    """Every model of it is HOT, on the same port."""

    holders = ()  # whom a refusal would name in their place

    def __init__(self, port: int) -> None:
        self.config = PoolConfig.model_validate({"state_dir": "/nonexistent"})
        self.out = 0
        self.uses: list[Use] = []
        self.affinities: list[str] = []
        self._port = port

    def try_acquire(self, model_id: str, affinity: str = "", avoid: Collection[str] = ()) -> Grant:
        self.affinities.append(affinity)
        self.out += 1
        worker_of = SERVED.get(model_id, model_id)
        endpoint = LocalEndpoint("127.0.0.1", self._port, "")
        return Grant(worker_of, "w", endpoint, 1, True, self._release)

    async def load(self, *wish: object) -> None:
        """It is."""

    def has(self, model_id: str) -> bool:
        return False  # whose lease could be longer

    def _release(self, use: Use) -> None:
        self.out -= 1
        self.uses.append(use)

    def diagnosis(self, grant: Grant) -> str:
        return ""


class Catalog:
    """``MODELS``, by their names."""

    edition = 0

    find = staticmethod({name: model for model in MODELS for name in model.names}.get)

    def get(self, name: str) -> Model:
        model = self.find(name)
        if model is None:
            raise ModelNotFound(f"there is no model {name!r}", param="model")
        return model

    def some_with(self, *wanted: object) -> tuple[Model, ...]:
        return ()

    def __iter__(self) -> Iterator[Model]:
        return iter(MODELS)


class Meter:
    def __init__(self) -> None:
        self.began_hot: list[bool] = []
        self.statuses: list[int] = []

    def began(self, model_id: str, *, was_hot: bool) -> None:
        self.began_hot.append(was_hot)

    def ended(self, model_id: str, status: int, seconds: float) -> None:
        assert seconds >= 0
        self.statuses.append(status)


async def _prepared(model_id: str) -> None: ...


async def _surfaces(engine: str) -> Sequence[str]:
    return tuple(SURFACES)


async def _support(engine: str) -> Support:
    return ANY


class World:
    """A gateway on a socket, before a worker that does as its scripts say."""

    def __init__(
        self,
        scripts: Sequence[Script],
        *,
        is_short: bool,
        ping_seconds: float = 5.0,
        sampler: Sampler | None = None,
        warm_ups: Sequence[Asking] = WARM_UPS,
    ) -> None:
        self.spans: list[Span] = []
        self.accesses: list[Any] = []  # in the access log, and how many workers tell of each
        self._tracer = None if sampler is None else Tracer(sampler, self.spans.append)
        self._worker = ScriptedServer([*[Script(WHOLE)] * len(warm_ups), *scripts])
        self._warm_ups = warm_ups
        self.is_short = is_short
        self._ping_seconds = ping_seconds
        self.shortened = 0

    async def __aenter__(self) -> World:
        await self._worker.__aenter__()
        self.pool, self.meter = HotPool(self._worker.port), Meter()
        self.workers = self._workers = Upstream()
        catalog: Any = Catalog()
        pool: Any = self.pool
        parts = (catalog, pool, _prepared, self._workers, self.meter, _surfaces, _support)
        gateway = Gateway(*parts, ResponseStore(Path("nowhere"), 0), tracer=self._tracer)
        self.guard = guard = Guard("127.0.0.1")
        entry = Entry(_no_api, gateway, guard, self.pool.config.max_body_bytes)
        shortcut = Shortcut(
            entry.admits,
            lambda: guard.allowlist,
            gateway,
            catalog,
            pool,
            self._workers,
            self.meter,
            self._note,
        )

        def short(client: Connection, data: bytes) -> bool | None:
            is_taken = shortcut(client, data)
            self.shortened += is_taken is True
            return is_taken

        sock = socket.create_server(("127.0.0.1", 0))
        self.port = sock.getsockname()[1]
        self._server = HttpServer(
            entry,
            sock,
            source="pool",
            timeouts=Timeouts(stream_ping=self._ping_seconds),
            keep_alive_seconds=75,
            shortcut=short if self.is_short else None,
            on_ended=lambda exchange: self._note(access_of(exchange, 1000.0), exchange.rows_due),
        )
        await self._server.start()
        self.connections: Any = self._server.connections
        self.cut, self.was_left = self._server.cut, self._worker.was_left
        self.worker_was_asked = self._worker.asked
        self._sock = sock
        for asking in self._warm_ups:
            await ask(self.port, asking.parts())
        self.shortened = 0
        lists: tuple[list[Any], ...] = (self._worker.asked, self.meter.statuses)
        for seen in (*lists, self.meter.began_hot, self.accesses):
            seen.clear()
        self.pool.uses.clear()
        self.pool.affinities.clear()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.stop_accepting()
        for connection in list(self._server.connections):
            connection.abort()
        self._sock.close()
        self._workers.close()
        await self._worker.__aexit__()

    def _note(self, access: Access, due: int) -> None:
        assert access.seconds >= 0
        first = access.first_token_seconds
        assert first is None or 0 <= first <= access.seconds
        assert access.at > 0
        own = OUR_ID.fullmatch(access.request_id.encode())
        shown = asdict(access) | {"at": 0, "seconds": 0, "first_token_seconds": first is not None}
        self.accesses.append((shown | {"request_id": "ours"} if own else shown, due))

    async def end_worker(self) -> None:
        await self._worker.__aexit__()

    async def settled(self) -> None:
        """Everything that was begun has ended."""
        async with asyncio.timeout(SECONDS):
            while self.pool.out or len(self.meter.statuses) < len(self.meter.began_hot):  # noqa: ASYNC110
                await asyncio.sleep(0.001)

    def seen(self, told: list[Any], has_ended: bool) -> Seen:
        port = b"%d" % self._worker.port
        return Seen(
            [(status, fields, body.replace(port, b"PORT")) for status, fields, body in told],
            self._worker.asked,
            self.meter.statuses,
            self.meter.began_hot,
            [_shown(use) for use in self.pool.uses],
            self.pool.affinities,
            self.accesses,
            has_ended,
        )


async def _no_api(exchange: Any, path: str, headers: Any, body: bytes) -> None:
    exchange.send_json(404, {"path": path})


def _shown(use: Use) -> tuple[bool, bool, bool]:
    return use.is_used, use.first_token_seconds is not None, use.is_overload


async def both_ways(asking: Asking, scripts: Sequence[Script]) -> tuple[Seen, Seen, int]:
    found, shortened = [], 0
    for is_short in (True, False):
        async with World([*scripts, Script(WHOLE)], is_short=is_short) as world:
            told, has_ended = await ask(world.port, asking.parts())
            await world.settled()
            found.append(world.seen(told, has_ended))
            shortened += world.shortened
    return found[0], found[1], shortened


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(ASKING, st.lists(SCRIPTS, min_size=1, max_size=3))
@example(Asking(times=2), [Script(stream(*EVENTS)), Script(WHOLE)])
@example(Asking(), [Script(b"", leaves=True), Script(WHOLE)])
def test_nobody_can_tell_which_way_it_went(asking: Asking, scripts: list[Script]) -> None:
    short, long, _ = asyncio.run(both_ways(asking, scripts))
    assert short == long


@pytest.mark.parametrize(
    ("asking", "count"),
    [
        (Asking(), 1),
        (Asking(cuts=(-64, -10)), 1),
        (Asking(length="content-length: "), 1),
        (Asking(body=body(stream=True, user="u")), 1),
        (Asking(fields=("Content-Type: application/json", "X-Own: kept")), 1),
        (Asking(fields=("Content-Type: application/json", "Origin: http://127.0.0.1")), 0),
        (Asking(body=body(model="alias")), 1),
        (Asking(body=body(seed=1)), 0),
        (Asking(line=f"POST {CHAT} HTTP/1.0"), 0),
        (Asking(body=body(model="p:x")), 1),
        (Asking(body=body(model="x")), 0),
        *[(Asking(f"POST {path} HTTP/1.1", body=body(stream=False)), 1) for path in OTHERS],
        (Asking("POST /v1/messages HTTP/1.1", body=body(stream=True)), 0),
        (Asking("POST /v1/responses HTTP/1.1", body=body(previous_response_id="resp_1")), 0),
        (Asking("POST /api/chat HTTP/1.1"), 0),
        (Asking("POST /api/chat HTTP/1.1", body=body(stream=False, keep_alive=60)), 0),
        (Asking("POST /api/chat HTTP/1.1", body=body(stream=False, options={"seed": 1})), 0),
        (Asking("POST /v1/rerank HTTP/1.1", body=body(stream=False)), 0),
    ],
)
def test_what_is_usual_takes_the_shortcut(asking: Asking, count: int) -> None:
    scripts = [Script(stream(*EVENTS)), Script(WHOLE)]
    short, long, shortened = asyncio.run(both_ways(asking, scripts))
    assert shortened == count
    assert short == long


@pytest.mark.parametrize("path", OTHERS)
@pytest.mark.parametrize(
    "script",
    [
        Script(stream(*EVENTS)),
        Script(stream(*EVENTS, end=b""), leaves=True),
        Script(response(b"{}", "404 Not Found")),
        Script(response(b"{}", "429 Too Many", retry_after="1")),
        Script(response(b"{}", "500 No", x_modelpool_code="oom")),
        Script(DRAINING),
        Script(WHOLE[:30], leaves=True),
        Script(b"", leaves=True),
        Script(b"nonsense\r\n\r\n", leaves=True),
    ],
)
def test_whatever_is_answered_in_another_api_is_told_alike(path: str, script: Script) -> None:
    fields = ("Content-Type: application/json", "Authorization: Bearer key")
    asking = Asking(f"POST {path} HTTP/1.1", fields=fields, body=body(stream=False))
    short, long, shortened = asyncio.run(both_ways(asking, [script]))
    assert shortened == 1
    assert short == long


def test_what_the_shortcut_cannot_cope_with_is_left_to_the_gateway(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whose answer says so, where it is a bug: an exception would end the connection."""

    def fail(*_: object) -> str:
        raise RuntimeError("a bug")

    monkeypatch.setattr("modelpool.gateway.shortcut.affinity_of", fail)
    short, long, shortened = asyncio.run(both_ways(Asking(), [Script(WHOLE)]))
    assert shortened == 0
    assert short == long


def test_routes_of_models_that_are_gone_are_forgotten() -> None:
    catalog = Catalog()
    routes = Routes(catalog)
    for n in range(100):
        catalog.edition += 1  # it came
        model = Model(f"m{n}", "sim", "")
        assert routes.of(model.model_id, SURFACES[CHAT], model).model is model
        catalog.edition += 1  # it went
    assert len(routes) == 1


def test_routes_are_so_many_at_most() -> None:
    routes = Routes(Catalog())
    for n in range(2 * MOST_ROUTES + 1):
        routes.of(f"m{n}", SURFACES[CHAT], MODELS[0])
        assert len(routes) <= MOST_ROUTES


def test_a_head_is_looked_at_anew_when_others_may_ask() -> None:
    async def scene() -> None:
        async with World([Script(WHOLE)], is_short=True) as world:

            async def status(*hosts: str) -> int:
                world.guard.allow(Allowlist(hosts=hosts))
                told, _ = await ask(world.port, Asking(host="box.example").parts())
                return int(told[0][0])

            assert [await status(), await status("box.example"), await status()] == [403, 200, 403]
            assert world.shortened == 1

    asyncio.run(scene())


def test_who_comes_in_a_crowd_before_there_are_connections_takes_the_shortcut_too() -> None:
    async def scene(is_short: bool) -> tuple[list[Any], int]:
        async with World([Script(WHOLE)], is_short=is_short, warm_ups=()) as world:
            told = await asyncio.gather(*(ask(world.port, Asking().parts()) for _ in range(30)))
            await world.settled()
            assert len(world.worker_was_asked) == 30
            assert world.meter.statuses == [200] * 30
            return told, world.shortened

    short, shortened = asyncio.run(scene(True))
    assert shortened == 30
    assert short == asyncio.run(scene(False))[0]


@pytest.mark.parametrize(
    "script",
    [
        Script(stream(*EVENTS)),
        Script(stream(*EVENTS, end=b""), leaves=True),
        Script(response(b"{}", "404 Not Found")),
        Script(response(b"{}", "502 No", x_modelpool_code="engine_died")),
        Script(DRAINING),
        Script(WHOLE[:30], leaves=True),
        Script(b"", leaves=True),
    ],
)
def test_whatever_is_answered_over_a_new_connection_is_told_alike(script: Script) -> None:
    async def scene(is_short: bool) -> tuple[Seen, int]:
        scripts = [script, Script(WHOLE)]
        async with World(scripts, is_short=is_short, warm_ups=()) as world:
            told = await ask(world.port, Asking().parts())
            await world.settled()
            return world.seen(*told), world.shortened

    (short, shortened), (long, _) = asyncio.run(scene(True)), asyncio.run(scene(False))
    assert shortened == 1
    assert (short.told, short.asked, short.statuses) == (long.told, long.asked, long.statuses)


def test_where_no_worker_listens_that_is_told_alike() -> None:
    async def scene(is_short: bool) -> tuple[Seen, int]:
        async with World([Script(WHOLE)], is_short=is_short, warm_ups=()) as world:
            await world.end_worker()
            told = await ask(world.port, Asking().parts())
            await world.settled()
            return world.seen(*told), world.shortened

    (short, shortened), (long, _) = asyncio.run(scene(True)), asyncio.run(scene(False))
    assert shortened == 0
    assert short.told == long.told
    assert short.statuses == long.statuses == [502]


def _held_up(world: World, monkeypatch: pytest.MonkeyPatch) -> tuple[asyncio.Event, asyncio.Event]:
    """No connection to the worker is made until the second event is set; the first tells that
    somebody waits for one."""
    connect, waits, opens = world.workers._connect, asyncio.Event(), asyncio.Event()

    async def slowly(endpoint: Any) -> Any:
        waits.set()
        await opens.wait()
        return await connect(endpoint)

    monkeypatch.setattr(world.workers, "_connect", slowly)
    return waits, opens


def test_who_leaves_before_there_is_a_connection_was_never_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scene() -> None:
        async with World([Script(WHOLE)], is_short=True, warm_ups=()) as world:
            waits, opens = _held_up(world, monkeypatch)
            _, writer = await asyncio.open_connection("127.0.0.1", world.port)
            writer.writelines(Asking().parts())
            async with asyncio.timeout(SECONDS):
                await waits.wait()
                writer.close()
                while world.connections:  # noqa: ASYNC110
                    await asyncio.sleep(0)
                opens.set()
                while not any(world.workers._idle.values()):  # noqa: ASYNC110
                    await asyncio.sleep(0)
            assert (world.worker_was_asked, world.pool.out, world.meter.began_hot) == ([], 0, [])
            # The next one takes what was made for the first.
            assert (await ask(world.port, Asking().parts()))[0][0][0] == 200
            assert world.shortened == 1

    asyncio.run(scene())


def test_what_comes_while_there_is_no_connection_is_answered_in_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scene() -> None:
        async with World([Script(WHOLE)], is_short=True, warm_ups=()) as world:
            waits, opens = _held_up(world, monkeypatch)
            reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
            async with asyncio.timeout(SECONDS):
                writer.writelines(Asking().parts())
                await waits.wait()
                writer.writelines(Asking("POST /v1/nothing HTTP/1.1").parts())
                await writer.drain()
                [connection] = world.connections
                while connection.is_idle or connection._held:  # noqa: ASYNC110
                    await asyncio.sleep(0)
                opens.set()
                answers = [await read_answer(reader) for _ in range(2)]
            writer.close()
            assert [answer[0] for answer in answers if answer is not None] == [200, 404]

    asyncio.run(scene())


@pytest.mark.parametrize("is_short", [True, False], ids=["short", "long"])
def test_the_wait_for_a_connection_is_of_the_time_that_a_request_took(
    monkeypatch: pytest.MonkeyPatch, is_short: bool
) -> None:
    async def scene() -> None:
        async with World([Script(WHOLE)], is_short=is_short, warm_ups=()) as world:
            waits, opens = _held_up(world, monkeypatch)
            told: list[float] = []

            def ended(_: str, __: int, seconds: float) -> None:
                told.append(seconds)

            monkeypatch.setattr(world.meter, "ended", ended)
            asking = asyncio.ensure_future(ask(world.port, Asking().parts()))
            async with asyncio.timeout(SECONDS):
                await waits.wait()
                began = time.perf_counter()
                await asyncio.sleep(0.05)
                waited = time.perf_counter() - began
                opens.set()
                await asking
                while not told:  # noqa: ASYNC110
                    await asyncio.sleep(0)
            assert world.shortened == is_short
            assert told[0] >= waited

    asyncio.run(scene())


WAYS = pytest.mark.parametrize("is_short", [True, False], ids=["short", "long"])
BEGIN = stream(*EVENTS[:2], end=b"")
STREAMED = Asking(body=body(stream=True))


async def _begun(world: World, begin: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A client whose request is at work, and who has read the ``begin`` of its answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
    writer.writelines(STREAMED.parts())
    async with asyncio.timeout(SECONDS):
        if begin:
            await reader.readuntil(begin)
        while not world.pool.out:  # noqa: ASYNC110
            await asyncio.sleep(0)
    assert world.shortened == world.is_short
    return reader, writer


@WAYS
@pytest.mark.parametrize(
    ("data", "begin", "status", "is_used"),
    [(b"", b"", 499, False), (BEGIN, EVENTS[1], 200, True)],
    ids=["before", "within"],
)
def test_a_client_that_leaves(
    is_short: bool, data: bytes, begin: bytes, status: int, is_used: bool
) -> None:
    async def scene() -> None:
        async with World([Script(data, waits=True)], is_short=is_short) as world:
            _, writer = await _begun(world, begin)
            writer.close()
            async with asyncio.timeout(SECONDS):
                await world.was_left.wait()
            await world.settled()
            assert world.meter.statuses == [status]
            assert [use.is_used for use in world.pool.uses] == [is_used]
            (((access, _),)) = world.accesses
            assert (access["status"], access["code"]) == (499, "client_left")
            assert access["sent_bytes"] == sum(map(len, EVENTS[:2] if data else []))
            assert access["first_token_seconds"] == bool(data)

    asyncio.run(scene())


@WAYS
@pytest.mark.parametrize(("data", "begin"), [(b"", b""), (BEGIN, EVENTS[1])])
def test_one_that_is_cut_is_told_why(is_short: bool, data: bytes, begin: bytes) -> None:
    async def scene() -> None:
        async with World([Script(data, waits=True)], is_short=is_short) as world:
            reader, writer = await _begun(world, begin)
            world.cut(PoolStopping("the pool is shutting down"))
            async with asyncio.timeout(SECONDS):
                await reader.readuntil(b"the pool is shutting down")
                await world.was_left.wait()
            writer.close()
            await world.settled()
            assert world.meter.statuses == [503]

    asyncio.run(scene())


@WAYS
@pytest.mark.parametrize(("data", "begin"), [(b"", b""), (BEGIN, EVENTS[1])])
def test_silence_is_explained(is_short: bool, data: bytes, begin: bytes) -> None:
    async def scene() -> None:
        scripts = [Script(data, waits=True)]
        async with World(scripts, is_short=is_short, ping_seconds=0.05) as world:
            reader, writer = await _begun(world, begin)
            async with asyncio.timeout(SECONDS):
                await reader.readuntil(b": m is at work on it\n\n")
            writer.close()
            await world.settled()
            assert world.meter.statuses == [200]

    asyncio.run(scene())


@WAYS
def test_a_client_that_reads_slowly_slows_its_worker(is_short: bool) -> None:
    async def scene() -> None:
        part = b"data: " + b"x" * 9000 + b"\n\n"
        data = stream(*[part] * 3000)  # more than sockets hold
        async with World([Script(data)], is_short=is_short) as world:
            reader, writer = await _begun(world, b"")
            transport: Any = writer.transport
            transport.pause_reading()
            async with asyncio.timeout(SECONDS):
                while not any(c.is_full for c in world.connections):  # noqa: ASYNC110
                    await asyncio.sleep(0.001)
                assert world.pool.out == 1
                transport.resume_reading()
                answer = await read_answer(reader)
            assert answer is not None
            assert answer[2] == part * 3000
            writer.close()
            await world.settled()
            assert world.meter.statuses == [200]

    asyncio.run(scene())


TRACE = "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331"


@pytest.mark.parametrize(
    ("ratio", "traceparent", "is_traced"),
    [
        (None, f"00-{TRACE}-01", False),
        (0, "", False),
        (0, f"00-{TRACE}-01", True),
        (1, "", True),
        (1, f"00-{TRACE}-00", False),
        (1, "none", True),
    ],
)
def test_only_what_is_traced_goes_the_long_way(
    ratio: float | None, traceparent: str, is_traced: bool
) -> None:
    fields = [
        "Content-Type: application/json",
        *([f"traceparent: {traceparent}"] * bool(traceparent)),
    ]

    async def run() -> None:
        sampler = None if ratio is None else Sampler(0)  # of the first request that a world sends
        async with World([Script(WHOLE)], is_short=True, sampler=sampler) as world:
            if sampler is not None:
                sampler.ratio = ratio or 0
            await ask(world.port, Asking(fields=tuple(fields)).parts())
            await world.settled()
            assert world.shortened == (not is_traced)
            (asked,) = world.worker_was_asked
            names = [span.name for span in world.spans]
            assert names == (["attempt", f"POST {CHAT}"] if is_traced else [])
            told = [line for line in asked.split(b"\r\n") if line.startswith(b"traceparent")]
            if is_traced:
                assert told == [b"traceparent: " + world.spans[0].context.header()]
            else:
                assert told == ([f"traceparent: {traceparent}".encode()] if traceparent else [])

    asyncio.run(run())
