"""The gateway, between a client that can leave and a scripted worker."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from modelpool.catalog.index import Index
from modelpool.catalog.model import Model
from modelpool.config import PoolConfig
from modelpool.gateway.alternatives import LOOKED_AT, NAMED
from modelpool.gateway.relay import TRIES, Gateway
from modelpool.gateway.virtual import EVENT_SECONDS, VirtualAnswers
from modelpool.observe.spans import Span
from modelpool.observe.tracer import Tracer
from modelpool.pool.admission import Refuse
from modelpool.pool.states import State
from modelpool.pool.waiters import UNUSED, Grant, Use
from modelpool.routing.conversations import Conversations
from modelpool.routing.kinds.registry import kind
from modelpool.routing.resolve import Resolver
from modelpool.routing.virtual_model import VirtualModel, read_virtual_model
from modelpool_client.capabilities import WRITES_TEXT
from modelpool_client.errors import LoadFailed, LoadTimeout, ModelNotFound
from modelpool_client.http1.endpoint import LocalEndpoint
from modelpool_client.http1.exchange import BUFFER_BYTES, Exchange
from modelpool_client.http1.timeouts import Timeouts
from modelpool_client.http1.upstream import Upstream as WorkersClient
from modelpool_client.response_store import ResponseStore
from modelpool_client.surfaces import engine_metrics
from modelpool_client.surfaces.families import dialect_of
from modelpool_client.surfaces.parameters import ANY, Support
from modelpool_client.surfaces.routes import NOT_SERVED, SURFACES, Surface, is_surface
from modelpool_client.tracing.sampling import Sampler
from modelpool_client.wire import RESOLVED_HEADER
from support.upstream import Client, Upstream, chunk, response, says, stream_head, then_waits
from support.virtual_time import run_virtual

DRAINING = response(
    b'{"error":{"message":"stopping","code":"worker_draining"}}',
    "503 Service Unavailable",
    x_modelpool_code="worker_draining",
)
EMBEDDINGS = "/v1/embeddings"
FILE = bytes(range(256)) * 20
USER = {"role": "user", "content": "hi"}
ASK = json.dumps({"model": "m", "messages": [USER]}).encode()
ASK_STREAM = json.dumps({"model": "m", "messages": [USER], "stream": True}).encode()


class FakeStatus:
    state = "COLD"

    @staticmethod
    def describe_wait() -> str:
        return "m is WARMING: weights 40%"


class FakePool:
    """Hands out the upstream's port, and counts who has it."""

    edition = 0
    awake_models: frozenset[str] = frozenset()

    def __init__(self, upstream: Upstream | None = None, **config: Any) -> None:
        self.config = PoolConfig.model_validate({"state_dir": "/nonexistent"} | config)
        self._upstream = upstream
        self.out = 0
        self.given = 0
        self.used: list[bool] = []
        self.uses: list[Use] = []
        self.on_release: Callable[[], None] = lambda: None
        self.priorities: list[str] = []
        self.had_worker: list[bool] = []
        self.affinities: list[str] = []
        self.waits: list[float] = []
        self.prepared: list[str] = []
        self.why_not: LoadFailed | None = None
        self.why = ""
        self.is_hot = True
        self.load: Callable[[], Awaitable[None]] = self._at_once
        self.holders: list[Any] = []
        self.too_large: list[str] = []
        self.plans = 0

    @staticmethod
    async def _at_once() -> None: ...

    def _grant(self) -> Grant:
        self.out += 1
        self.given += 1
        port = self._upstream.port if self._upstream else 1
        return Grant("m", "w", LocalEndpoint("127.0.0.1", port, ""), 1, self.is_hot, self._release)

    def _release(self, use: Use) -> None:
        self.out -= 1
        self.used.append(use.is_used)
        self.uses.append(use)
        self.on_release()

    async def prepare(self, model_id: str) -> None:
        self.prepared.append(model_id)
        if self.why_not is not None:
            raise self.why_not

    def has(self, model_id: str) -> bool:
        return True

    def status(self, model_id: str) -> FakeStatus:
        return FakeStatus()

    def state(self, model_id: str) -> str:
        return FakeStatus.state

    def serves(self, *models: Model) -> None:
        self.holders = [SimpleNamespace(model=model, state=State.HOT) for model in models]

    def plan(self, model_id: str) -> Refuse | None:
        self.plans += 1
        return Refuse("too large") if model_id in self.too_large else None

    def diagnosis(self, grant: Grant) -> str:
        return self.why

    def try_acquire(
        self, model_id: str, affinity: str = "", avoid: Collection[str] = ()
    ) -> Grant | None:
        self.affinities.append(affinity)
        return self._grant() if self.is_hot else None

    async def acquire(
        self,
        model_id: str,
        *,
        priority: str = "normal",
        affinity: str = "",
        avoid: Collection[str] = (),
        wait: float = 0.0,
        had_worker: bool = False,
    ) -> Grant:
        self.priorities.append(priority)
        self.had_worker.append(had_worker)
        self.waits.append(wait)
        await self.load()
        return self._grant()


class FakeCatalog:
    models = (
        Model("m", "sim", "", aliases=("alias",)),
        Model("org/n", "sim", ""),
        Model("urgent", "sim", "", priority="high"),
        Model("e", "sim", "", capabilities=("embeddings", "streaming")),
    )

    edition = 0

    def __init__(self, more: Sequence[Model] = ()) -> None:
        self.models = (*self.models, *more)
        index = Index(self.models)
        self.find, self.counts, self.some_with = index.find, index.counts, index.some_with

    def __iter__(self) -> Iterator[Model]:
        return iter(self.models)

    def list(self) -> tuple[Model, ...]:
        return self.models

    def get(self, name: str) -> Model:
        for model in self.models:
            if name in (*model.names, f"sim:{model.model_id}"):
                return model
        raise ModelNotFound(f"there is no model {name!r}", param="model")


class Meter:
    def __init__(self) -> None:
        self.began_hot: list[bool] = []
        self.statuses: list[int] = []

    def began(self, model_id: str, *, was_hot: bool) -> None:
        self.began_hot.append(was_hot)

    def ended(self, model_id: str, status: int, seconds: float) -> None:
        assert seconds >= 0
        self.statuses.append(status)

    def waited(self, model_id: str, seconds: float) -> None:
        assert seconds >= 0


NO_STORE = ResponseStore(Path("nowhere"), 0)


async def any_surface(engine: str) -> Sequence[str]:
    """An engine answers whatever it is asked."""
    return tuple(SURFACES)


async def any_support(engine: str) -> Support:
    """Nobody knows what an engine makes of parameters."""
    return ANY


class Scene:
    """A gateway with everything around it."""

    def __init__(self, *answers: Any, models: Sequence[Model] = (), **config: Any) -> None:
        self.catalog = FakeCatalog(models)
        self.support = ANY
        self.once = False
        self.upstream = Upstream(*answers or [says(response(b"{}"))])
        self.pool = FakePool(self.upstream, **config)
        self.meter = Meter()

    async def __aenter__(self) -> Scene:
        await self.upstream.__aenter__()
        self._workers = WorkersClient()
        self.parts: tuple[Any, ...] = (
            self.catalog,
            self.pool,
            self.pool.prepare,
            self._workers,
            self.meter,
            any_surface,
            self.supports,
            NO_STORE,
        )
        self._gateway = Gateway(*self.parts, asked_once=self.asks_once)
        return self

    async def supports(self, engine: str) -> Support:
        return self.support

    async def asks_once(self, engine: str) -> bool:
        return self.once

    async def gateway(self, exchange: Exchange) -> None:
        exchange.dialect = dialect_of(exchange.request.path)
        await self._gateway(exchange, exchange.request.path)

    async def __aexit__(self, kind: object, *_: object) -> None:
        self._workers.close()
        await self.upstream.__aexit__()
        if kind is None:
            assert self.pool.out == 0, "a grant was not given back"
            await asyncio.sleep(0)  # what was cancelled ends
            assert len(asyncio.all_tasks()) == 1, asyncio.all_tasks()

    async def ask(self, body: bytes = ASK, **fields: Any) -> Client:
        return await self.answer(Client(body, **fields))

    async def answer(self, client: Client) -> Client:
        timeouts = Timeouts(stream_ping=self.pool.config.stream_ping_seconds)
        return await client.ask(self.gateway, timeouts)


def test_bytes_in_bytes_out() -> None:
    async def scene() -> None:
        answer = b'{"odd" :  "spacing"}'
        async with Scene(says(response(answer, "418 Teapot", x_own="kept"))) as s:
            body = b'{ "model":"alias",\n"messages":[] }'
            client = await s.ask(body, path="/v1/completions")
            assert (client.status, client.text, client.is_complete) == (418, answer, True)
            assert client.answer_headers["x-own"] == "kept"
            assert client.answer_headers["x-modelpool-model"] == "m"
            assert s.upstream.seen[0].target == "/v1/completions"
            assert s.upstream.seen[0].body == body
            assert s.meter.statuses == [418]
            assert s.meter.began_hot == [True]

    asyncio.run(scene())


def test_a_query_goes_along_as_it_was_written() -> None:
    async def scene() -> None:
        async with Scene(says(response(b"{}"))) as s:
            await s.ask(path="/v1/completions?beta=true&a=%20%2F?&b=")
            assert s.upstream.seen[0].target == "/v1/completions?beta=true&a=%20%2F?&b="

    asyncio.run(scene())


def request_for(surface: Surface, model: str) -> dict[str, Any]:
    """One that names a model wherever a surface wants it named."""
    if surface.model_in == "path":
        return {"path": surface.path.replace("{model}", model), "body": b'{"model": "not this"}'}
    if surface.model_in == "query":
        path = f"{surface.path}?a=%20&model={quote(model, safe='')}&b="
        return {"path": path, "method": "GET", "body": b""}
    if surface.codec == "json":
        said = {"model": model, "messages": [USER], "prompt": "x", "input": "x"}
        return {"path": surface.path, "body": json.dumps(said).encode()}
    form = httpx.Request("POST", "http://x", data={"model": model}, files={"file": FILE})
    kind = b"multipart/form-data; boundary=b"
    body = form.read().replace(form.headers["content-type"].partition("=")[2].encode(), b"b")
    return {"path": surface.path, "body": body, "headers": [(b"content-type", kind)]}


@pytest.mark.parametrize("surface", SURFACES.values(), ids=SURFACES)
def test_a_name_of_the_pool_s_own_is_told_no_worker(surface: Surface) -> None:
    async def scene() -> None:
        async with Scene(*[says(response(b"{}"))] * 3) as s:
            for name in ("sim:m", "m", "alias"):
                client = await s.ask(**request_for(surface, name))
                assert (client.status, client.text) == (200, b"{}"), name
            own, plain, alias = ((seen.target, seen.body) for seen in s.upstream.seen)
            if surface.model_in == "query":  # written anew, and so as it should have been
                own = (own[0].replace("+", "%20"), own[1])
            assert own == plain
            assert b"alias" in alias[1] or "alias" in alias[0]

    asyncio.run(scene())


def test_hop_and_private_headers_stay_where_they_belong() -> None:
    dropped = ["connection", "keep-alive", "te", "upgrade", "proxy-authorization", "expect"]
    private = ["authorization", "cookie", "origin", "referer", "sec-fetch-site", "sec-fetch-dest"]

    async def scene() -> None:
        answer = response(b"{}", keep_alive="timeout=5", proxy_authenticate="x", trailer="x")
        async with Scene(says(answer)) as s:
            sent = [(name.encode(), b"client's") for name in dropped + private]
            kept = [(b"x-request-id", b"7"), (b"content-type", b"application/json")]
            kept += [(RESOLVED_HEADER, b"other")]
            client = await s.ask(headers=[(b"host", b"pool"), *sent, *kept])
            seen = s.upstream.seen[0].headers
            assert seen["x-request-id"] == "7"
            assert seen[RESOLVED_HEADER.decode()] == "m", "that is the gateway's to say"
            assert seen["content-type"] == "application/json"
            assert "client's" not in seen.values()
            assert seen["host"] == f"127.0.0.1:{s.upstream.port}"
            assert seen["content-length"] == str(len(ASK))
            assert not {"keep-alive", "proxy-authenticate", "trailer"} & set(client.answer_headers)
            assert client.answer_headers["content-length"] == "2"

    asyncio.run(scene())


def test_which_pages_may_read_it_is_not_for_others_to_say() -> None:
    says_so = {"access_control_allow_origin": "*", "access_control_expose_headers": "x"}

    async def scene() -> None:
        async with Scene(says(response(b"{}", x_own="kept", **says_so))) as s:
            client = await s.ask()
            assert client.answer_headers["x-own"] == "kept"
            assert not [n for n in client.answer_headers if n.startswith("access-control")]

    asyncio.run(scene())


def test_what_connection_names_goes_no_further() -> None:
    async def scene() -> None:
        answer = response(b"{}", connection="X-Own, keep-alive", x_own="1", x_kept="1")
        async with Scene(says(answer)) as s:
            named = [(b"connection", b"keep-alive, X-Mine"), (b"x-mine", b"1"), (b"x-other", b"1")]
            client = await s.ask(headers=named)
            seen = s.upstream.seen[0].headers
            assert "x-mine" not in seen
            assert seen["x-other"] == "1"
            assert "x-own" not in client.answer_headers
            assert client.answer_headers["x-kept"] == "1"

    asyncio.run(scene())


def test_a_stream_passes_as_it_comes() -> None:
    async def scene() -> None:
        go_on = asyncio.Event()

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(stream_head() + chunk(b"data: 1\n\n"))
            await go_on.wait()  # nothing more until the client has the first
            writer.write(chunk(b"data: [DONE]\n\n") + chunk(b""))

        def on_send(message: Any) -> None:
            if message.get("body"):
                go_on.set()

        async with Scene(answer) as s:
            client = await s.ask(ASK_STREAM, on_send=on_send)
            assert client.chunks == [b"data: 1\n\n", b"data: [DONE]\n\n", b""]
            assert client.is_complete
            assert client.answer_headers["transfer-encoding"] == "chunked"
            assert "content-length" not in client.answer_headers

    asyncio.run(scene())


# -- before the first byte: again ------------------------------------------------------------------


@pytest.mark.parametrize("first", [says(), says(DRAINING)], ids=["hangs up", "is draining"])
def test_tried_again_before_the_first_byte(first: Any) -> None:
    async def scene() -> None:
        async with Scene(first, says(response(b'{"second":1}'))) as s:
            client = await s.ask()
            assert (client.status, client.text) == (200, b'{"second":1}')
            assert s.pool.given == 2
            assert s.meter.statuses == [200]

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("status", "source", "is_used"),
    [(200, "", True), (400, "worker", False), (400, "engine", True), (500, "", True)],
)
def test_what_the_worker_refuses_is_no_use_of_the_model(
    status: int, source: str, is_used: bool
) -> None:
    async def scene() -> None:
        header = f"X-ModelPool-Source: {source}\r\n" if source else ""
        answer = f"HTTP/1.1 {status} x\r\n{header}content-length: 2\r\n\r\n{{}}"
        async with Scene(says(answer.encode()), retry_attempts=0) as s:
            assert (await s.ask()).status == status
            assert s.pool.used == [is_used]
        async with Scene(says(DRAINING), says(answer.encode()), retry_attempts=0) as s:
            await s.ask()
            assert s.pool.used == [False, is_used]

    asyncio.run(scene())


def test_nothing_is_loaded_for_a_retry_that_can_only_be_refused() -> None:
    """Its worker was leaving, and refused it before it had read what it is."""

    async def scene() -> None:
        async with Scene(says(DRAINING)) as s:
            asking = s.ask(json.dumps({"model": "m", "messages": "no list"}).encode())
            s.pool.on_release = lambda: setattr(s.pool, "is_hot", False)
            client = await asking
            assert (client.status, client.error["param"]) == (400, "messages")
            assert (s.pool.given, s.pool.waits) == (1, [])

    asyncio.run(scene())


def test_who_had_a_worker_waits_as_one_who_had() -> None:
    async def scene() -> None:
        async with Scene(says(), says(response(b"{}"))) as s:
            s.pool.is_hot = False
            assert (await s.ask()).status == 200
            assert s.pool.had_worker == [False, True]

    asyncio.run(scene())


@pytest.mark.parametrize(("code", "times"), [("engine_died", 2), ("engine_failed", 4)])
def test_a_request_that_ends_engines_ends_two_of_them(code: str, times: int) -> None:
    """As one that ends workers: the budget of crashes is for others, too."""

    async def scene() -> None:
        head = f"x-modelpool-source: engine\r\nx-modelpool-code: {code}\r\ncontent-length: 2"
        answer = says(f"HTTP/1.1 502 x\r\n{head}\r\n\r\n{{}}".encode())
        async with Scene(answer, retry_attempts=3) as s:
            assert (await s.ask()).status == 502
            assert s.pool.given == times

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("answer", "status", "code"),
    [(says(), 502, "worker_failed"), (says(DRAINING), 503, "worker_draining")],
    ids=["hangs up", "is draining"],
)
def test_in_the_end_it_is_said(
    answer: Any, status: int, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelpool.gateway.retry_budget.PAUSE_SECONDS", 0.001)

    async def scene() -> None:
        async with Scene(answer, load_wait_seconds=30 if status == 502 else 1) as s:
            client = await s.ask()
            assert (client.status, client.error["code"]) == (status, code)
            assert client.answer_headers["x-modelpool-code"] == code
            # What breaks off may be the request's own doing; to be refused is nobody's.
            assert len(s.upstream.seen) == s.pool.given
            assert s.pool.given == 2 if status == 502 else s.pool.given > 2
            assert s.meter.statuses == [status]

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("headers", "body", "expected"),
    [
        ({"x-session-id": "s"}, {"user": "u"}, "s"),
        ({}, {"prompt_cache_key": "k", "user": "u"}, "k"),
        ({}, {"user": "u"}, "u"),
        ({}, {"user": 7}, ""),
        ({}, {}, ""),
    ],
)
def test_what_a_conversation_has_in_common_is_handed_on(
    headers: dict[str, str], body: dict[str, Any], expected: str
) -> None:
    async def scene() -> None:
        async with Scene(says()) as s:
            asked = json.dumps({"model": "m", "messages": [], **body}).encode()
            pairs = [(k.encode(), v.encode()) for k, v in headers.items()]
            await s.ask(asked, headers=pairs)
            assert s.pool.affinities[0] == expected

    asyncio.run(scene())


def test_the_error_says_why_the_worker_was_ended() -> None:
    async def scene() -> None:
        async with Scene(says()) as s:
            s.pool.why = "the engine hangs"
            client = await s.ask()
            assert "; the engine hangs" in client.error["message"]

    asyncio.run(scene())


def test_however_often_it_is_sent_it_waits_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelpool.gateway.retry_budget.PAUSE_SECONDS", 0.001)

    async def scene() -> None:
        async with Scene(says(DRAINING), load_wait_seconds=1.0) as s:
            s.pool.is_hot = False
            await s.ask()
            assert len(s.pool.waits) > 2
            assert s.pool.waits == sorted(s.pool.waits, reverse=True)
            assert 1.0 >= s.pool.waits[0] >= s.pool.waits[-1] > 0

    asyncio.run(scene())


def test_a_model_may_be_unloaded_under_a_request_however_often(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An operator's script may unload it each time as soon as it is loaded."""
    monkeypatch.setattr("modelpool.gateway.retry_budget.PAUSE_SECONDS", 0.001)

    async def scene() -> None:
        async with Scene(*[says(DRAINING)] * 3 * TRIES, says(response(b"{}"))) as s:
            assert (await s.ask()).status == 200
            assert s.pool.given == 3 * TRIES + 1

    asyncio.run(scene())


def test_what_may_have_been_billed_is_not_sent_again() -> None:
    async def scene() -> None:
        async with Scene(says(), says(response(b"{}"))) as s:
            s.once = True
            client = await s.ask()
            assert client.status == 502
            assert "it is not asked again" in client.error["message"]
            assert len(s.upstream.seen) == 1

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("source", "code", "times"),
    [
        ("upstream", "upstream_overloaded", 2),  # which costs nothing
        ("upstream", "upstream_failed", 1),
        ("worker", "internal_error", 1),  # over an answer that it has had, perhaps
        ("engine", "engine_failed", 1),
    ],
)
def test_a_failure_that_may_have_been_billed_is_not_sent_again(
    source: str, code: str, times: int
) -> None:
    async def scene() -> None:
        about = {"x_modelpool_source": source, "x_modelpool_code": code}
        failure = response(b'{"error": {"message": "m"}}', "500 Oops", **about)
        async with Scene(says(failure), says(response(b"{}"))) as s:
            s.once = True
            assert (await s.ask()).status == (500 if times == 1 else 200)
            assert len(s.upstream.seen) == times

    asyncio.run(scene())


def test_workers_that_are_not_there_are_tried_a_few_times_only() -> None:
    async def scene() -> None:
        async with Scene() as s:
            s.pool._upstream = None
            assert (await s.ask()).status == 502
            assert s.pool.given == TRIES

    asyncio.run(scene())


def test_nobody_listens_there() -> None:
    async def scene() -> None:
        async with Scene() as s:
            s.pool._upstream = None
            client = await s.ask()
            assert client.status == 502
            assert client.error["source"] == "worker"
            assert "port 1 failed" in client.error["message"]

    asyncio.run(scene())


@pytest.mark.parametrize("status", ["503 Service Unavailable", "500 Oops", "429 Slow down"])
def test_other_errors_of_the_worker_are_its_own(status: str) -> None:
    async def scene() -> None:
        answer = response(b'{"error":{"message":"m"}}', status)
        async with Scene(says(answer), retry_attempts=0) as s:
            client = await s.ask()
            assert (client.status, len(s.upstream.seen)) == (int(status[:3]), 1)
            assert client.error == {"message": "m"}

    asyncio.run(scene())


# -- after the first byte: told --------------------------------------------------------------------


def test_a_stream_that_breaks_off_says_so_without_done() -> None:
    async def scene() -> None:
        async with Scene(says(stream_head(), chunk(b"data: 1\n\n"))) as s:
            client = await s.ask(ASK_STREAM)
            assert (client.status, client.is_complete) == (200, True)
            assert client.chunks[0] == b"data: 1\n\n"
            error = json.loads(client.chunks[-2].removeprefix(b"data: "))["error"]
            assert error["code"] == "worker_failed"
            assert b"[DONE]" not in client.text
            assert len(s.upstream.seen) == 1, "it must not be computed twice"
            assert s.meter.statuses == [502]

    asyncio.run(scene())


def test_an_answer_cut_short_is_an_error_with_a_status() -> None:
    async def scene() -> None:
        async with Scene(says(response(b'{"long":"answer"}')[:-5])) as s:
            client = await s.ask()
            assert (client.status, client.error["code"]) == (502, "worker_failed")
            assert client.answer_headers["content-length"] == str(len(client.text))
            assert len(s.upstream.seen) == 1, "it must not be computed twice"

    asyncio.run(scene())


def test_a_large_answer_passes_as_it_comes() -> None:
    """It is not gathered; one cut short is told by its length, as it then has no end."""

    async def scene() -> None:
        answer = response(b"x" * (BUFFER_BYTES + 1))
        async with Scene(says(answer), says(answer[:-1])) as s:
            client = await s.ask()
            assert (len(client.text), client.is_complete) == (BUFFER_BYTES + 1, True)
            client = await s.ask()
            assert (len(client.text), client.is_complete) == (BUFFER_BYTES, False)
            assert client.answer_headers["content-length"] == str(BUFFER_BYTES + 1)
            assert s.meter.statuses == [200, 502]

    asyncio.run(scene())


def test_what_is_no_stream_of_events_gets_no_event() -> None:
    """It is left without an end; the server then closes the connection."""

    async def scene() -> None:
        async with Scene(says(stream_head("audio/wav"), chunk(b"RIFF"))) as s:
            client = await s.ask()
            assert client.chunks == [b"RIFF"]
            assert not client.is_complete
            assert s.meter.statuses == [502]

    asyncio.run(scene())


# -- waiting ---------------------------------------------------------------------------------------


def test_a_model_is_looked_at_before_it_is_loaded_and_only_then() -> None:
    async def scene() -> None:
        async with Scene() as s:
            await s.ask()
            assert s.pool.prepared == []
            s.pool.is_hot = False
            assert (await s.ask()).status == 200
            assert s.pool.prepared == ["m"]
            s.pool.why_not = LoadFailed("its file is gone", code="bad_file", retry_after=1)
            for body in (ASK, ASK_STREAM):
                client = await s.ask(body)
                assert (client.status, client.error["code"]) == (503, "bad_file")
            assert len(s.pool.waits) == 1, "the pool was not asked for what cannot be"

    asyncio.run(scene())


def test_a_waiting_stream_gets_comments_then_the_answer() -> None:
    async def scene() -> None:
        enough = asyncio.Event()
        stream = says(stream_head(), chunk(b"data: 1\n\n") + chunk(b""))
        async with Scene(stream, stream_ping_seconds=0.001) as s:
            s.pool.is_hot = False

            async def load() -> None:
                await enough.wait()

            s.pool.load = load
            client = Client(json.dumps({**json.loads(ASK_STREAM), "n_ctx": 1}).encode())

            def on_send(message: Any) -> None:
                if len(client.sent) == 3:
                    enough.set()

            client.on_send = on_send
            await s.answer(client)
            assert client.status == 200
            assert client.answer_headers["content-type"] == "text/event-stream; charset=utf-8"
            assert client.answer_headers["x-accel-buffering"] == "no"
            assert client.answer_headers["x-modelpool-model"] == "m"
            assert client.answer_headers["x-modelpool-ignored"] == "n_ctx"
            comment = b": m is WARMING: weights 40%\n\n"
            # On a busy machine there is one of the wait for the worker, too.
            at_work = b": m is at work on it\n\n"
            assert client.text.replace(comment, b"").replace(at_work, b"") == b"data: 1\n\n"
            assert client.text.startswith(comment * 2)
            assert [m["type"] for m in client.sent].count("http.response.start") == 1
            assert s.meter.began_hot == [False]

    asyncio.run(scene())


def test_a_waiting_stream_is_silent_for_five_seconds() -> None:
    async def scene() -> None:
        times: list[float] = []
        pool: Any = FakePool()
        pool.is_hot = False

        async def load() -> None:
            await asyncio.sleep(12)
            raise LoadTimeout("waited 12 s", retry_after=10)

        pool.load = load
        known: Any = (any_surface, any_support, NO_STORE)
        parts: Any = (FakeCatalog(), pool, pool.prepare, None, Meter(), *known)
        client = Client(ASK_STREAM)
        client.on_send = lambda message: times.append(asyncio.get_running_loop().time())
        gateway = Gateway(*parts)

        async def answer(exchange: Exchange) -> None:
            await gateway(exchange, exchange.request.path)

        await client.ask(answer, pool.config.client_timeouts)
        assert times == [5, 5, 10, 12, 12]
        assert client.status == 200
        assert client.chunks[-2].startswith(b'data: {"error":{"message":"waited 12 s"')
        assert client.is_complete

    run_virtual(scene())


def test_a_silent_worker_is_said_to_be_at_work() -> None:
    async def scene() -> None:
        enough = asyncio.Event()

        async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await enough.wait()
            writer.write(stream_head() + chunk(b"data: 1\n\n") + chunk(b""))

        async with Scene(slow, stream_ping_seconds=0.01) as s:
            client = Client(ASK_STREAM)

            def on_send(message: Any) -> None:
                if len(client.sent) == 3:  # the head, and two comments
                    enough.set()

            client.on_send = on_send
            await s.answer(client)
            comment = b": m is at work on it\n\n"
            assert client.text.startswith(comment * 2)
            assert client.text.replace(comment, b"") == b"data: 1\n\n"

    asyncio.run(scene())


def test_an_error_after_comments_is_an_event() -> None:
    async def scene() -> None:
        bad = says(response(b'{"error":{"message":"bad","code":"x"}}', "400 Bad Request"))
        async with Scene(bad, stream_ping_seconds=0.001) as s:
            s.pool.is_hot = False
            s.pool.load = lambda: asyncio.sleep(0.05)
            client = await s.ask(ASK_STREAM)
            assert client.status == 200
            assert b'"message":"bad"' in client.text
            assert s.meter.statuses == [400]

    asyncio.run(scene())


def test_what_is_no_stream_waits_in_silence() -> None:
    async def scene() -> None:
        async with Scene(stream_ping_seconds=0.001) as s:
            s.pool.is_hot = False
            s.pool.load = lambda: asyncio.sleep(0.05)
            client = await s.ask()
            assert [m["type"] for m in client.sent] == [
                "http.response.start",
                "http.response.body",
            ]

    asyncio.run(scene())


def test_a_load_that_fails_is_an_answer() -> None:
    async def scene() -> None:
        async with Scene() as s:
            s.pool.is_hot = False

            async def load() -> None:
                raise LoadFailed("oom", code="oom", retry_after=7)

            s.pool.load = load
            for body in (ASK, ASK_STREAM):
                client = await s.ask(body)
                assert (client.status, client.error["code"]) == (503, "oom")
                assert client.answer_headers["retry-after"] == "7"

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("header", "said", "model", "priority"),
    [
        (None, None, "m", "normal"),
        (b"HIGH", None, "m", "high"),
        (None, "low", "m", "low"),
        (b"high", "low", "m", "high"),
        (None, None, "urgent", "high"),
        (None, "low", "urgent", "low"),
        (b"normal", None, "urgent", "normal"),
    ],
)
def test_priority_is_that_of_the_header_the_body_the_model(
    header: bytes | None, said: str | None, model: str, priority: str
) -> None:
    async def scene() -> None:
        async with Scene() as s:
            s.pool.is_hot = False
            body = json.loads(ASK) | {"model": model, "priority": said}
            headers = [(b"x-priority", header)] if header else []
            await s.ask(json.dumps(body).encode(), headers=headers)
            assert s.pool.priorities == [priority]

    asyncio.run(scene())


# -- what a grant was good for ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "headers", "is_overload"),
    [
        (200, {}, False),
        (429, {}, True),
        (503, {}, True),
        (500, {}, False),
        (500, {"x_modelpool_code": "oom"}, True),
        (429, {"x_modelpool_source": "worker"}, False),
        (400, {"x_modelpool_code": "oom"}, False),
    ],
)
def test_an_engine_that_has_too_much_is_told_apart(
    status: int, headers: dict[str, str], is_overload: bool
) -> None:
    async def scene() -> None:
        answer = response(b"{}", **headers).replace(b" 200 ", b" %d " % status, 1)
        async with Scene(says(answer), retry_attempts=0) as s:
            assert (await s.ask()).status == status
            (use,) = s.pool.uses
            assert use.is_overload is is_overload
            assert (use.first_token_seconds is not None) == (status == 200)

    asyncio.run(scene())


@pytest.mark.parametrize("more", [{}, {"seed": 1}], ids=["alone", "shared"])
@pytest.mark.parametrize("before", [b"", b'data: {"choices": []}\n\n'], ids=["first", "later"])
def test_an_error_within_a_stream_is_a_failure_and_no_quick_answer(
    before: bytes, more: dict[str, Any]
) -> None:
    async def scene() -> None:
        told = b'data: {"error": {"message": "it broke", "code": "engine_failed"}}\n\n'
        answer = says(stream_head(), *map(chunk, filter(None, (before, told))), chunk(b""))
        async with Scene(answer, retry_attempts=0) as s:
            client = await s.ask(json.dumps({**json.loads(ASK_STREAM), **more}).encode())
            assert b"it broke" in client.text
            assert s.meter.statuses == [502]
            (use,) = s.pool.uses
            assert (use.is_used, use.first_token_seconds) == (True, None)

    asyncio.run(scene())


@pytest.mark.parametrize(("is_look", "due"), [(False, 1), (True, 0)])
def test_a_worker_tells_of_work_only(is_look: bool, due: int) -> None:
    async def scene() -> None:
        seen: list[int] = []
        async with Scene() as s:

            async def handle(exchange: Exchange) -> None:
                await s.gateway(exchange)
                seen.append(exchange.rows_due)

            look = Client(b"", "/props?model=m", "GET")
            client = look if is_look else Client(ASK)
            await client.ask(handle, Timeouts())
            assert client.status == 200
            assert seen == [due]

    asyncio.run(scene())


def test_the_metrics_of_one_model_are_those_of_its_worker() -> None:
    async def scene() -> None:
        page = response(b"llamacpp:n_decode_total 1\n", Process_Start_Time_Unix="5")
        async with Scene(says(page)) as s:
            client = await s.ask(b"", path="/metrics?model=m", method="GET")
            assert (client.status, client.text) == (200, b"llamacpp:n_decode_total 1\n")
            assert s.upstream.seen[0].target == "/metrics?model=m"
            assert (b"Process-Start-Time-Unix", b"5") in client.sent[0]["headers"]
            s.pool.is_hot = False
            cold = await s.ask(b"", path="/metrics?model=m", method="GET")
            assert (cold.status, cold.error["code"]) == (409, "model_not_loaded")
            assert (await s.ask(b"", path="/metrics?model=", method="GET")).status == 400

    asyncio.run(scene())
    assert engine_metrics.is_asked("GET", "/metrics", b"model=m")
    for method, path, query in (("GET", "/metrics", b""), ("POST", "/metrics", b"model=m")):
        assert not engine_metrics.is_asked(method, path, query)


def test_a_worker_that_hangs_up_says_nothing_of_the_time_to_the_first_token() -> None:
    async def scene() -> None:
        async with Scene(says(), says(DRAINING), says(response(b"{}"))) as s:
            assert (await s.ask()).status == 200
            *lost, served = s.pool.uses
            assert lost == [UNUSED, UNUSED]
            assert served.first_token_seconds is not None

    asyncio.run(scene())


# -- the client leaves -----------------------------------------------------------------------------


@pytest.mark.parametrize("body", [ASK, ASK_STREAM])
def test_who_leaves_while_waiting_waits_no_more(body: bytes) -> None:
    async def scene() -> None:
        async with Scene() as s:
            client = Client(body)
            left = asyncio.Event()
            s.pool.is_hot = False

            async def load() -> None:
                client.gone.set()
                try:
                    await asyncio.Event().wait()
                finally:
                    left.set()

            s.pool.load = load
            await s.answer(client)
            await left.wait()
            assert client.sent == []
            assert s.meter.statuses == [499]

    asyncio.run(scene())


def test_who_leaves_ends_the_workers_work() -> None:
    async def scene() -> None:
        async with Scene(then_waits(stream_head(), chunk(b"data: 1\n\n"))) as s:
            client = Client(ASK_STREAM)

            def on_send(message: Any) -> None:
                if message.get("body"):
                    client.gone.set()

            client.on_send = on_send
            await s.answer(client)
            await s.upstream.left.wait()  # then_waits has seen the connection close
            assert s.meter.statuses == [200]

    asyncio.run(scene())


def test_who_leaves_before_the_first_byte_ends_it_too() -> None:
    async def scene() -> None:
        client = Client(ASK)

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            client.gone.set()
            assert await reader.read() == b""

        async with Scene(answer) as s:
            await s.answer(client)
            await s.upstream.left.wait()
            assert client.sent == []
            assert s.meter.statuses == [499]

    asyncio.run(scene())


def test_who_leaves_while_sending_is_not_answered() -> None:
    async def scene() -> None:
        async with Scene() as s:
            client = Client(parts=[])
            client.gone.set()
            await s.answer(client)
            assert client.sent == []
            assert s.pool.given == 0

    asyncio.run(scene())


def test_to_be_cancelled_by_others_is_not_swallowed() -> None:
    async def scene() -> None:
        async with Scene(then_waits()) as s:
            asking = asyncio.ensure_future(s.ask())
            while not s.upstream.seen:  # noqa: ASYNC110 - the script waits for the asking
                await asyncio.sleep(0)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            await s.upstream.left.wait()

    asyncio.run(scene())


# -- bad requests ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "status", "param", "text"),
    [
        (b"", 400, "body", "not valid JSON"),
        (b'{"model": ', 400, "body", "not valid JSON"),
        (b"[" * 100_000, 400, "body", "not valid JSON"),
        (b'{"model": "\xff"}', 400, "body", "not valid UTF-8"),
        (b"[]", 400, "body", "JSON object, not list"),
        (b"{}", 400, "model", "model is missing"),
        (b'{"model": null}', 400, "model", "model is missing"),
        (b'{"model": 7}', 400, "model", "must be a string"),
        (b'{"model": "nope"}', 404, "model", "no model 'nope'"),
    ],
)
def test_bad_bodies(body: bytes, status: int, param: str, text: str) -> None:
    async def scene() -> None:
        async with Scene() as s:
            client = await s.ask(body)
            assert (client.status, client.error["param"]) == (status, param)
            assert text in client.error["message"]
            assert s.pool.given == 0
            assert s.meter.statuses == []

    asyncio.run(scene())


# -- what can only be refused begins no load -------------------------------------------------------


@pytest.mark.parametrize("is_hot", [True, False], ids=["hot", "cold"])
@pytest.mark.parametrize("path", sorted(NOT_SERVED))
def test_a_surface_that_no_engine_has(path: str, is_hot: bool) -> None:
    async def scene() -> None:
        async with Scene() as s:
            s.pool.is_hot = is_hot
            client = await s.ask(path=path)
            assert (client.status, client.error["code"]) == (501, "not_supported")
            assert path in client.error["message"]
            assert "/v1/chat/completions" in client.error["message"], "what there is instead"
            assert (s.pool.given, s.pool.waits) == (0, [])

    asyncio.run(scene())


TOLD = [
    ("/v1/chat/completions/control", "", b'{"model": "alias", "id": "c", "action": "x"}', b'"m"'),
    ("/chat/completions/control", "?model=alias", b'{"id": "c"}', b'"c"'),
    ("/slots/1", "?action=save&model=alias", b'{"filename": "a"}', b'"a"'),
    ("/slots/1", "?action=erase&model=m", b"", b""),
    ("/lora-adapters", "?model=alias", b'[{"id": 0, "scale": 0.5}]', b"0.5"),
    ("/lora-adapters", "?model=m", b"no JSON", b"no JSON"),
]


@pytest.mark.parametrize(("path", "query", "body", "sent"), TOLD)
def test_what_one_worker_is_told_is_passed_on_where_there_is_but_one(
    path: str, query: str, body: bytes, sent: bytes
) -> None:
    async def scene() -> None:
        async with Scene(says(response(b'{"success": true}'))) as s:
            client = await s.ask(body, path=path + query)
            assert (client.status, client.text) == (200, b'{"success": true}')
            (seen,) = s.upstream.seen
            assert seen.target == path + query.replace("alias", "m")
            assert sent in seen.body
            assert not any(use.is_used for use in s.pool.uses), "it is no work"
            s.pool.is_hot = False
            cold = await s.ask(body, path=path + query)
            assert (cold.status, cold.error["code"]) == (409, "model_not_loaded")
            assert s.pool.waits == []

    asyncio.run(scene())
    assert is_surface(path)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions/control", b'{"model": "several"}'),
        ("/slots/1?action=erase&model=several", b"{}"),
        ("/lora-adapters?model=several", b"[]"),
    ],
)
def test_what_is_of_one_worker_of_several_says_where_to_ask(path: str, body: bytes) -> None:
    async def scene() -> None:
        async with Scene(models=[Model("several", "sim", "", max_replicas=2)]) as s:
            client = await s.ask(body, path=path)
            assert (client.status, client.error["code"]) == (501, "not_supported")
            assert f"{path.partition('?')[0]} is of one worker" in client.error["message"]
            assert "/endpoint" in client.error["message"]
            assert s.pool.given == 0

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "param"),
    [
        ("POST", "/lora-adapters", b"[]", 400, "model"),
        ("POST", "/slots/1?action=erase", b"{}", 400, "model"),
        ("POST", "/slots/1?action=erase&model=other", b"{}", 404, "model"),
        ("GET", "/slots/1?model=m", b"", 405, None),
        ("DELETE", "/v1/chat/completions/control", b"", 405, None),
    ],
)
def test_who_is_told_has_to_be_named(
    method: str, path: str, body: bytes, status: int, param: str | None
) -> None:
    async def scene() -> None:
        async with Scene() as s:
            client = await s.ask(body, path=path, method=method)
            assert (client.status, client.error["param"]) == (status, param)
            assert s.pool.given == 0

    asyncio.run(scene())


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("chat/completions", {"messages": "hi"}, "messages"),
    ("chat/completions", {"messages": []}, "messages"),
    ("chat/completions", {"messages": ["hi"]}, "messages[0]"),
    ("chat/completions", {"messages": [{"role": "user"}]}, "messages[0].content"),
    ("chat/completions", {"messages": [USER], "temperature": "hot"}, "temperature"),
    ("chat/completions", {"messages": [USER], "max_tokens": -2}, "max_tokens"),
    ("chat/completions", {"messages": [USER], "n": 0}, "n"),
    ("chat/completions", {"messages": [USER], "stream": "yes"}, "stream"),
    ("chat/completions", {"messages": [USER], "top_logprobs": 1}, "top_logprobs"),
    ("completions", {}, "prompt"),
    ("completions", {"prompt": 5}, "prompt"),
    ("completions", {"prompt": []}, "prompt"),
    ("completions", {"prompt": "x", "max_tokens": 1.5}, "max_tokens"),
]


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "plain"])
@pytest.mark.parametrize(("path", "body", "param"), WRONG, ids=lambda v: str(v)[:40])
def test_a_body_that_no_worker_would_take(
    path: str, body: dict[str, Any], param: str, stream: bool
) -> None:
    """Its worker, if there is one, says the same: the gateway need not look."""
    asked = json.dumps({"stream": True, "model": "m", **body} if stream else {"model": "m", **body})

    async def scene() -> None:
        async with Scene(says(response(b'{"error": {}}', "400 Bad Request"))) as s:
            s.pool.is_hot = False
            client = await s.ask(asked.encode(), path=f"/v1/{path}")
            assert (client.status, client.error["param"]) == (400, param)
            assert client.answer_headers["x-modelpool-model"] == "m"
            assert (s.pool.given, s.pool.waits, s.meter.began_hot) == (0, [], [])
            assert s.meter.statuses == [400]
            s.pool.is_hot = True
            client = await s.ask(asked.encode(), path=f"/v1/{path}")
            assert client.error == {}
            assert s.upstream.seen[0].body == asked.encode()

    asyncio.run(scene())


def test_a_body_that_is_too_large_for_every_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever ``max_body_mb`` says."""
    monkeypatch.setattr("modelpool.gateway.relay.MAX_BODY_BYTES", len(ASK) - 1)

    async def scene() -> None:
        async with Scene() as s:
            s.pool.is_hot = False
            client = await s.ask()
            assert (client.status, client.error["source"]) == (413, "worker")
            assert s.pool.waits == []

    asyncio.run(scene())


@pytest.mark.parametrize("is_hot", [True, False], ids=["hot", "cold"])
@pytest.mark.parametrize(
    "path",
    sorted(p for p, s in SURFACES.items() if s.needs == WRITES_TEXT and s.family == "openai"),
)
def test_a_model_that_writes_no_text(path: str, is_hot: bool) -> None:
    async def scene() -> None:
        async with Scene() as s:
            s.pool.is_hot = is_hot
            client = await s.ask(json.dumps({"model": "e"}).encode(), path=path)
            assert (client.status, client.error["param"]) == (400, "model")
            assert "it can do: embeddings, streaming" in client.error["message"]
            assert (s.pool.given, s.pool.waits) == (0, [])

    asyncio.run(scene())


PICTURE = {"type": "image_url", "image_url": {"url": "data:,"}}
SHOWN = {"messages": [USER, {"role": "user", "content": [{"type": "text"}, PICTURE]}]}


def seer(name: str, *words: str) -> Model:
    return Model(name, "sim", "", capabilities=("chat", *(words or ("vision",))))


BLIND = Model("blind", "sim", "", capabilities=("chat",), denied_capabilities=("vision", "audio"))


@pytest.mark.parametrize("is_hot", [True, False], ids=["hot", "cold"])
@pytest.mark.parametrize(
    ("path", "body", "where", "error_of"),
    [
        ("/v1/chat/completions", SHOWN, "messages[1].content[1]", lambda e: e["message"]),
        (
            "/v1/responses",
            {"input": [{"role": "user", "content": [{"type": "input_image"}]}]},
            "input[0].content[0]",
            lambda e: e["message"],
        ),
        (
            "/v1/messages",
            {"messages": [{"role": "user", "content": [{"type": "image"}]}]},
            "messages[0].content[0]",
            lambda e: e["message"],
        ),
        ("/api/chat", {"messages": [{"images": ["iVBORw0KGgo="]}]}, "messages[0].images[0]", str),
        ("/api/generate", {"prompt": "x", "images": ["iVBORw0KGgo="]}, "images[0]", str),
    ],
)
def test_what_a_model_cannot_do_is_refused_before_a_load_with_who_can(
    path: str, body: Any, where: str, error_of: Any, is_hot: bool
) -> None:
    async def scene() -> None:
        models = [BLIND, seer("big"), seer("seer"), seer("hot"), seer("deaf", "audio")]
        async with Scene(models=models) as s:
            s.pool.is_hot = is_hot
            s.pool.serves(BLIND, models[3], models[4])
            s.pool.too_large = ["big"]
            client = await s.ask(json.dumps({"model": "blind", **body}).encode(), path=path)
            error = json.loads(client.text)["error"]
            assert client.status == 400
            assert client.answer_headers["x-modelpool-code"] == "missing_capability"
            assert error_of(error) == (
                f"blind cannot do vision, which {where} asks for; it can do: chat; "
                "these can: hot (HOT), seer"
            )
            assert (s.pool.given, s.pool.waits, s.pool.prepared) == (0, [], [])

    asyncio.run(scene())


def test_what_is_only_not_known_is_for_the_engine_to_refuse() -> None:
    guessed = Model("g", "sim", "", capabilities=("chat",), presumed_capabilities=("chat",))

    async def scene() -> None:
        async with Scene(models=[guessed]) as s:
            assert (await s.ask(json.dumps({"model": "g", **SHOWN}).encode())).status == 200

    asyncio.run(scene())


def test_few_are_named_and_few_are_looked_at_however_many_there_are() -> None:
    models = [BLIND, *(seer(f"m{i}") for i in range(10_000))]

    async def scene() -> None:
        async with Scene(models=models) as s:
            client = await s.ask(json.dumps({"model": "blind", **SHOWN}).encode())
            assert client.error["details"] == {"models": ["m0", "m1", "m2", "m3", "m4"]}
            assert s.pool.plans == NAMED
            s.pool.plans, s.pool.too_large = 0, [f"m{i}" for i in range(10_000)]
            client = await s.ask(json.dumps({"model": "blind", **SHOWN}).encode())
            assert client.error["message"].endswith("; no other model here can")
            assert s.pool.plans == LOOKED_AT

    asyncio.run(scene())


def test_a_route_that_a_model_has_not_names_those_that_have_it() -> None:
    async def scene() -> None:
        async with Scene() as s:
            client = await s.ask(json.dumps({"model": "m", "input": "x"}).encode(), path=EMBEDDINGS)
            assert client.status == 200, "nothing is known of it"
        models = [
            Model("w", "sim", "", capabilities=("chat",)),
            Model("v", "sim", "", capabilities=("embeddings",)),
        ]
        async with Scene(models=models) as s:
            client = await s.ask(json.dumps({"model": "w", "input": "x"}).encode(), path=EMBEDDINGS)
            assert client.error["details"] == {"models": ["e", "v"]}

    asyncio.run(scene())


def test_what_the_engine_refuses_is_refused_before_a_load() -> None:
    async def scene() -> None:
        async with Scene() as s:
            s.pool.is_hot, s.support = False, Support({})
            body = {"model": "m", "messages": [USER], "logprobs": True}
            client = await s.ask(json.dumps(body).encode())
            assert (client.status, client.error["param"]) == (400, "logprobs")
            assert (client.error["source"], s.pool.waits) == ("worker", [])
            client = await s.ask(json.dumps({**body, "logprobs": None, "seed": 1}).encode())
            assert client.status == 200

    asyncio.run(scene())


@pytest.mark.parametrize("said", ["urgent", 1, "", ["high"], {}])
def test_a_bad_priority(said: Any) -> None:
    async def scene() -> None:
        async with Scene() as s:
            client = await s.ask(headers=[(b"x-priority", b"urgent")])
            assert (client.status, client.error["param"]) == (400, "X-Priority")
            client = await s.ask(json.dumps(json.loads(ASK) | {"priority": said}).encode())
            assert (client.status, client.error["param"]) == (400, "priority")

    asyncio.run(scene())


@pytest.mark.parametrize("extra", [0, 1])
def test_the_body_limit(extra: int) -> None:
    async def scene() -> None:
        async with Scene(max_body_mb=0.001) as s:
            text = ASK.ljust(1000 + extra)
            client = await s.ask(parts=[text[:600], text[600:]])
            assert client.status == (413 if extra else 200)
            if extra:
                assert "1,000 bytes (max_body_mb)" in client.error["message"]

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/chat/completions", 405),
        ("POST", "/v1/models", 405),
        ("GET", "/v1/nothing", 404),
        ("GET", "/v1/modelsandmore", 404),
        ("GET", "/v1/models/nope", 404),
        ("GET", "/v1/models/org/n", 200),
        ("GET", "/v1/models/alias", 200),
        ("HEAD", "/v1/models", 200),
    ],
)
def test_routes(method: str, path: str, status: int) -> None:
    async def scene() -> None:
        async with Scene() as s:
            client = await s.ask(method=method, path=path)
            assert client.status == status

    asyncio.run(scene())


def test_the_list_of_models() -> None:
    async def scene() -> None:
        async with Scene() as s:
            client = await s.ask(method="GET", path="/v1/models")
            data = json.loads(client.text)["data"]
            assert [m["id"] for m in data] == ["m", "alias", "org/n", "urgent", "e"]
            assert [m["root"] for m in data] == ["m", "m", "org/n", "urgent", "e"]
            assert [m["aliases"] for m in data] == [["alias"], ["alias"], [], [], []]
            assert data[0]["state"] == "COLD"

    asyncio.run(scene())


# -- virtual models ------------------------------------------------------------------------------

OVERLOADED = response(
    b'{"error":{"message":"full","code":"queue_full"}}', "503 Service Unavailable"
)
REFUSED = response(b'{"error":{"message":"no","code":"invalid_request"}}', "400 Bad Request")


class Known:
    def __init__(self, catalog: Any) -> None:
        self.model = catalog.find


class VirtualScene(Scene):
    """A gateway that has virtual models, too."""

    def __init__(self, *answers: Any, models: Any = (), **entries: Any) -> None:
        super().__init__(*answers, models=models)
        self.entries: dict[str, VirtualModel] = {
            name: read_virtual_model(name, entry, kind) for name, entry in entries.items()
        }
        self.events: list[dict[str, Any]] = []
        self.joined: list[str] = []
        hot = SimpleNamespace(state=State.HOT, describe_wait=lambda: "it is HOT")
        self.pool.status = lambda model_id: hot  # type: ignore[method-assign]
        self.meter.joined = self.joined.append  # type: ignore[attr-defined]
        self.now = 0.0

    async def __aenter__(self) -> VirtualScene:
        await super().__aenter__()
        resolver = Resolver(kind, self.entries.get, lambda name: {"temperature": 0.2})
        virtual = VirtualAnswers(
            resolver,
            Known(self.catalog),  # type: ignore[arg-type]
            Conversations(),
            lambda name, **data: self.events.append({"event": name, **data}),
            lambda: self.now,
            lambda: 0.0,
        )
        self._gateway = self.make(virtual)
        return self

    def make(self, virtual: VirtualAnswers) -> Gateway:
        return Gateway(*self.parts, asked_once=self.asks_once, virtual=virtual)


def asks(name: str, **more: Any) -> bytes:
    return json.dumps({"model": name, "messages": [USER], **more}).encode()


def test_the_worker_is_told_its_own_name_and_the_answer_is_its_bytes() -> None:
    async def scene() -> None:
        answer = b'{"odd" :  "spacing"}'
        async with VirtualScene(says(response(answer, x_own="kept")), v="m") as s:
            client = await s.ask(asks("v", top_k=1))
            assert (client.status, client.text) == (200, answer)
            assert client.answer_headers["x-own"] == "kept"
            assert json.loads(s.upstream.seen[0].body) == json.loads(asks("m", top_k=1))
            assert s.meter.statuses == [200]
            assert not s.events

    asyncio.run(scene())


def test_a_plain_name_is_never_looked_for_among_virtual_ones() -> None:
    async def scene() -> None:
        async with VirtualScene(says(response(b"{}")), m="e") as s:
            client = await s.ask(ASK)
            assert client.answer_headers["x-modelpool-model"] == "m"
            assert s.upstream.seen[0].body == ASK

    asyncio.run(scene())


def test_an_answer_that_is_an_error_is_kept_back_while_there_is_another() -> None:
    async def scene() -> None:
        answers = (says(OVERLOADED), says(response(b'{"from": "n"}')))
        async with VirtualScene(*answers, v=["m", "org/n"]) as s:
            client = await s.ask(asks("v"))
            assert client.text == b'{"from": "n"}'
            assert client.answer_headers["x-modelpool-fallback"] == "m (queue_full)"
            assert s.meter.statuses == [503, 200]
            assert [e["model_id"] for e in s.events] == ["m"]
        async with VirtualScene(says(REFUSED), v=["m", "org/n"]) as s:
            client = await s.ask(asks("v"))
            assert client.status == 400
            assert len(s.upstream.seen) == 1
        async with VirtualScene(says(OVERLOADED), v=["m", "org/n"]) as s:
            client = await s.ask(asks("v"))
            # The last one's own words.
            assert (client.status, client.text) == (503, OVERLOADED.partition(b"\r\n\r\n")[2])
            assert client.answer_headers["x-modelpool-fallback"] == "m (queue_full)"

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("keep_alive", "done"), [({}, ["load w"]), ({"keep_alive": 0}, ["unload w"])]
)
def test_only_the_model_that_is_named_is_loaded_or_unloaded(
    keep_alive: dict[str, Any], done: list[str]
) -> None:
    """Whoever follows it answers in its place; to be in memory is its own matter."""

    async def scene() -> None:
        told: list[str] = []

        async def load(model_id: str, *_: Any) -> None:
            told.append(f"load {model_id}")
            raise LoadFailed("no")

        async def unload(model_id: str, *_: Any) -> None:
            told.append(f"unload {model_id}")
            raise LoadFailed("no")

        async with VirtualScene(models=(Model("w", "sim", "", fallbacks=("m",)),)) as s:
            pool: Any = s.pool
            pool.load, pool.unload = load, unload
            body = json.dumps({"model": "w", **keep_alive}).encode()
            assert (await s.ask(body, path="/api/generate")).status == LoadFailed.status
            assert told == done
            assert not s.upstream.seen

    asyncio.run(scene())


@pytest.mark.parametrize(
    "path",
    [
        "/tokenize",
        "/detokenize",
        "/apply-template",
        "/v1/messages/count_tokens",
        "/v1/responses/input_tokens",
        "/v1/chat/completions/input_tokens",
    ],
)
def test_no_other_tells_the_tokens_of_a_model(path: str) -> None:
    """They would be another tokenizer's, also where an alias of it is asked."""

    async def scene() -> None:
        model = Model("w", "sim", "", fallbacks=("m",))
        refusal = response(b'{"error": {}}', "501 No", x_modelpool_code="missing_capability")
        for name in ("w", "v"):
            async with VirtualScene(says(refusal), models=(model,), v="w") as s:
                more = {"content": "x", "tokens": [1], "input": "x"}
                client = await s.ask(asks(name, **more), path=path)
                assert (client.status, len(s.upstream.seen)) == (501, 1)
                assert "x-modelpool-fallback" not in client.answer_headers

    asyncio.run(scene())


def test_a_stream_is_passed_on_as_it_comes() -> None:
    async def scene() -> None:
        parts = [b'data: {"a": 1}\n\n', b"data: [DONE]\n\n"]
        stream = says(stream_head(), *map(chunk, parts), chunk(b""))
        async with VirtualScene(says(OVERLOADED), stream, v=["m", "org/n"]) as s:
            client = await s.ask(asks("v", stream=True))
            assert client.text == b"".join(parts)
            assert client.is_complete
            assert client.answer_headers["x-modelpool-model"] == "org/n"

    asyncio.run(scene())


def test_what_is_the_same_is_computed_once_behind_a_virtual_name_too() -> None:
    async def scene() -> None:
        slow = asyncio.Event()

        async def answer(reader: Any, writer: Any) -> None:
            await slow.wait()
            await says(response(b'{"one": 1}'))(reader, writer)

        async with VirtualScene(answer, v=["m", "org/n"], w="m") as s:
            asking = [asyncio.ensure_future(s.ask(asks(n, seed=1))) for n in ("v", "w", "v")]
            while not s.upstream.seen:  # noqa: ASYNC110
                await asyncio.sleep(0)
            slow.set()
            clients = await asyncio.gather(*asking)
            assert {client.text for client in clients} == {b'{"one": 1}'}
            assert len(s.upstream.seen) == 1
            assert s.joined == ["m", "m"]
        async with VirtualScene(says(OVERLOADED), says(response(b"{}")), v=["m", "org/n"]) as s:
            client = await s.ask(asks("v", seed=1))
            assert (client.status, client.text) == (200, b"{}")

    asyncio.run(scene())


def test_rules_of_both_are_applied_and_told() -> None:
    async def scene() -> None:
        ruled = Model("r", "sim", "", request={"limits": {"max_tokens": 5}, "preset": "Any"})
        entry = {"kind": "alias", "target": "r", "request": {"strip": ["seed"]}}
        async with VirtualScene(says(response(b"{}")), models=(ruled,), v=entry) as s:
            client = await s.ask(asks("v", seed=1, max_tokens=9))
            told = "seed (stripped), temperature=0.2 (default), max_tokens=5 (limit, was 9)"
            assert client.answer_headers["x-modelpool-changed"] == told
            sent = json.loads(s.upstream.seen[0].body)
            assert sent == json.loads(asks("r", max_tokens=5, temperature=0.2))

    asyncio.run(scene())


def test_one_that_fails_for_everybody_is_news_now_and_then() -> None:
    async def scene() -> None:
        async with VirtualScene(says(OVERLOADED), v=["m", "org/n"]) as s:
            for _ in range(5):
                await s.ask(asks("v"))
            assert len(s.events) == 1
            s.now = EVENT_SECONDS
            await s.ask(asks("v"))
            assert "(4 more times before)" in s.events[1]["reason"]

    asyncio.run(scene())


def test_what_is_looked_at_is_looked_at_at_the_first() -> None:
    async def scene() -> None:
        async with VirtualScene(says(response(b"{}")), v=["m", "org/n"]) as s:
            client = await s.ask(b"", path="/props?model=v", method="GET")
            assert client.answer_headers["x-modelpool-model"] == "m"
            assert s.upstream.seen[0].target == "/props?model=m"

    asyncio.run(scene())


def test_the_span_of_who_was_asked_tells_that_it_failed() -> None:
    spans: list[Span] = []

    class Traced(VirtualScene):
        def make(self, virtual: VirtualAnswers) -> Gateway:
            tracer = Tracer(Sampler(1), spans.append)
            return Gateway(*self.parts, virtual=virtual, tracer=tracer)

    async def scene() -> None:
        async with Traced(says(stream_head(), chunk(b"data: 1\n\n")), v="m") as s:
            assert (await s.ask(asks("v", stream=True))).status == 200
        failed = {span.name: span.error for span in spans}
        assert failed["ask m"] == failed["attempt"] == "worker_failed"

    asyncio.run(scene())


def test_a_name_that_nobody_has_is_told_as_ever() -> None:
    async def scene() -> None:
        async with VirtualScene(v="m") as s:
            client = await s.ask(asks("w"))
            assert client.status == 404

    asyncio.run(scene())
