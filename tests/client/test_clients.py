"""Both clients against a fake manager over real HTTP."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from itertools import groupby, islice
from typing import Any

import pytest
from modelpool_client import AsyncPoolClient, ModelView, PoolClient, RetryPolicy, errors
from modelpool_client._connection import worker_url
from modelpool_client.types import Endpoint

MODEL = "org/tiny:7b"
FakePool = Any  # the fixture of conftest
QUICK = RetryPolicy(attempts=4, down_seconds=5, busy_seconds=5, first_delay=0.001)


@pytest.fixture
def pool(fake: FakePool) -> Iterator[PoolClient]:
    with PoolClient(fake.url, retry=QUICK) as client:
        yield client


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_a_model_from_register_to_delete(fake: FakePool, pool: PoolClient) -> None:
    registered = pool.register("new/one", engine="fake", source="x", tags=["a"], pinned=True)
    assert (registered.model_id, registered.tags) == ("new/one", ("a",))
    with pytest.raises(errors.ModelExists):
        pool.register("new/one", engine="fake", source="x")
    assert [m.model_id for m in pool.models()] == [MODEL, "new/one"]
    assert pool.load("new/one", wait=False).state == "WARMING"
    assert pool.load("new/one").is_loaded
    assert pool.extend("new/one", 60).capped
    assert pool.endpoint("new/one").base_url == f"{fake.url}/v1"
    assert pool.model_health("new/one")["status"] == "ready"
    with pytest.raises(errors.UnloadProtected, match="pinned"):
        pool.unload("new/one")
    assert pool.unload("new/one", force=True).state == "COLD"
    assert pool.model_health("new/one")["status"] == "cold"
    fake.errors["/models/new/one/health"] = [errors.PoolStopping("stopping")]
    with pytest.raises(errors.PoolStopping):
        pool.model_health("new/one")
    assert pool.delete("new/one") == "new/one"
    with pytest.raises(errors.ModelNotFound, match="near"):
        pool.model("new/one")


def test_outcomes_of_decisions(fake: FakePool, pool: PoolClient) -> None:
    assert pool.report_outcome("d1", success=True).offset == -0.02
    with pytest.raises(errors.Conflict, match="before"):
        pool.report_outcome("d1", score=0.25)
    assert fake.answered("/route/d1/outcome") == [{"success": True}, {"score": 0.25}]
    with pytest.raises(errors.NotFound):
        pool.report_outcome("a/b c", score=1)
    assert fake.requests[-1][1] == "/route/a%2Fb%20c/outcome"
    found = pool.outcomes()
    assert (found.is_on, found.half_life_days) == (False, 30)
    assert [(t.model, t.task_type, t.outcomes) for t in found.learned] == [(MODEL, "math", 1)]
    assert pool.forget_outcomes() == 1
    fake.drop_next = 1
    with pytest.raises(errors.ModelPoolError):  # it may have been counted: not sent again
        pool.report_outcome("d1", success=True)
    assert len(fake.answered("/route/d1/outcome")) == 3


def test_outcomes_of_decisions_asynchronously(fake: FakePool) -> None:
    async def use() -> None:
        async with AsyncPoolClient(fake.url, retry=QUICK) as pool:
            assert (await pool.report_outcome("d1", score=0)).task_type == "math"
            assert [t.outcomes for t in (await pool.outcomes()).learned] == [1]
            assert await pool.forget_outcomes(MODEL) == 1

    asyncio.run(use())


def test_the_pool_itself(pool: PoolClient) -> None:
    assert (pool.health().status, pool.health().available_ports) == ("healthy", 49)
    assert [e.usable for e in pool.engines()] == [True, False]
    assert pool.statistics() == {"total_requests": 3}
    assert pool.metrics() == "modelpool_models 1\n"
    change = pool.configure(default_ttl_minutes=20)
    assert change.changed == {"default_ttl_minutes": 20}
    assert pool.config() == change.config
    with pytest.raises(errors.InvalidRequest) as caught:
        pool.configure(nonsense=1)
    assert caught.value.param == "nonsense"
    assert pool.import_registry(pool.registry()).added == (MODEL,)


def test_inference(pool: PoolClient) -> None:
    reply = pool.chat(MODEL, "hi")
    assert (reply, reply.finish_reason, reply.usage) == ("you said hi", "stop", {"total_tokens": 5})
    assert pool.generate(MODEL, "once") == "once and so on"
    messages = [{"role": "user", "content": "ho"}]
    assert list(pool.chat_stream(MODEL, messages)) == ["you ", "said ", "ho"]
    assert [m["id"] for m in pool.openai_models()] == [MODEL]


def test_a_cut_answer_is_an_error(fake: FakePool, pool: PoolClient) -> None:
    fake.cut_stream, pieces = True, []
    with pytest.raises(errors.WorkerFailed, match="cut off"):
        pieces += pool.chat_stream(MODEL, "hi")
    assert len(fake.requests) == 1


def test_logs(pool: PoolClient) -> None:
    assert list(pool.logs(MODEL, lines=2)) == ["line 0", "line 1"]
    with pytest.raises(errors.ModelNotFound):
        list(pool.logs("other"))


def test_a_followed_log_goes_on_over_connections(fake: FakePool, pool: PoolClient) -> None:
    fake.log = ["a later line\nand a ", "broken one\n", "", "the last\n"]
    log = pool.logs(MODEL, lines=2, follow=True)
    told = ["line 0", "line 1", "a later line", "and a broken one", "the last"]
    assert list(islice(log, 5)) == told
    with pytest.raises(errors.ModelNotFound):
        next(log)


def test_as_many_calls_at_once_as_one_likes() -> None:
    count = 120
    body = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"

    async def use() -> None:
        waiting, all_there = 0, asyncio.Event()

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal waiting
            await reader.readuntil(b"\r\n\r\n")
            waiting += 1
            if waiting == count:
                all_there.set()
            await all_there.wait()
            writer.write(body)
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with server, AsyncPoolClient(url, timeout=60) as pool:
            assert await asyncio.gather(*(pool.config() for _ in range(count))) == [{}] * count

    asyncio.run(use())


def test_events_resume(fake: FakePool, pool: PoolClient) -> None:
    fake.happen("model-loading", state="WARMING")
    fake.happen("model-loaded", state="HOT", reason="it is there")
    fake.happen("model-cooling", state="COOLING")
    got = list(islice(pool.events(MODEL), 3))
    assert [e.state for e in got] == ["WARMING", "HOT", "COOLING"]
    assert got[1].reason == "it is there"
    assert fake.last_event_ids == [None, "1", "2"]
    assert fake.requests[0][1] == "/events?model=org%2Ftiny%3A7b"
    assert next(pool.events(last_event_id="2")).state == "COOLING"


def test_events_end_when_nobody_comes_back(fake: FakePool, pool: PoolClient) -> None:
    fake.happen("model-loading", state="WARMING")
    events = pool.events()
    assert next(events).state == "WARMING"
    fake.server_close()
    fake.shutdown()
    with pytest.raises(errors.PoolUnreachable):
        next(events)


def test_progress(fake: FakePool, pool: PoolClient) -> None:
    fake.load_seconds, seen = 2, list[ModelView]()
    assert pool.load(MODEL, on_progress=seen.append).state == "HOT"
    shown = {(view.progress.stage, view.progress.fraction) for view in seen if view.progress}
    assert shown == {("weights", 0.4)}
    assert seen[-1].state == "HOT"


def test_progress_of_a_set(fake: FakePool, pool: PoolClient) -> None:
    pool.register("m", engine="fake", source="broken")
    fake.load_seconds, seen = 2, list[ModelView]()
    loaded = pool.load_set([MODEL, "m"], on_progress=seen.append)
    assert [each.outcome for each in loaded.models] == ["loaded", "failed"]
    assert [each.model_id for each in loaded.failed] == ["m"]
    assert {view.model_id for view in seen[:2]} == {MODEL, "m"}
    assert [(view.model_id, view.state) for view in seen[-2:]] == [(MODEL, "HOT"), ("m", "COLD")]


def test_progress_of_a_failing_load(fake: FakePool, pool: PoolClient) -> None:
    fake.errors[f"/models/{MODEL}/load"] = [errors.LoadFailed("no memory", code="oom")]
    with pytest.raises(errors.LoadFailed, match="no memory"):
        pool.load(MODEL, on_progress=lambda _: None)


def test_busy_is_waited_for(fake: FakePool) -> None:
    slept: list[float] = []
    fake.errors["/v1/chat/completions"] = [errors.PoolBusy("busy", retry_after=2)] * 2
    with PoolClient(fake.url, retry=QUICK, sleep=slept.append) as pool:
        assert pool.chat(MODEL, "hi") == "you said hi"
    assert len(slept) == 2
    assert all(2 <= seconds <= 2.5 for seconds in slept)


def test_a_failed_load_is_not_tried_again(fake: FakePool, pool: PoolClient) -> None:
    failure = errors.LoadFailed("no memory", code="oom", retry_after=1)
    fake.errors[f"/models/{MODEL}/load"] = [failure, failure]
    with pytest.raises(errors.LoadFailed, match="no memory"):
        pool.load(MODEL)
    assert len(fake.requests) == 1


def test_a_dropped_connection_is_tried_again(fake: FakePool, pool: PoolClient) -> None:
    fake.drop_next = 2
    assert pool.chat(MODEL, "hi") == "you said hi"
    assert len(fake.requests) == 3


def test_but_not_where_it_may_have_been_done(fake: FakePool, pool: PoolClient) -> None:
    fake.drop_next = 1
    with pytest.raises(errors.PoolUnreachable, match="broke"):
        pool.extend(MODEL, 5)
    assert len(fake.requests) == 1


def test_nobody_answers() -> None:
    slept: list[float] = []
    url = f"http://127.0.0.1:{free_port()}"
    with (
        PoolClient(url, retry=QUICK, sleep=slept.append) as pool,
        pytest.raises(errors.PoolUnreachable, match="make up") as caught,
    ):
        pool.models()
    assert (len(slept), caught.value.code) == (3, "pool_unreachable")


def test_a_silent_pool(fake: FakePool) -> None:
    fake.load_seconds = 30
    with PoolClient(fake.url, timeout=0.1) as pool:
        with pytest.raises(errors.PoolUnreachable, match="in time"):
            pool.load(MODEL, wait=0.01)
        assert pool.model(MODEL).state == "WARMING", "its answer was not waited for"


def test_openai(fake: FakePool, pool: PoolClient) -> None:
    for model in (None, MODEL):
        with pool.openai(model) as client:
            messages: Any = [{"role": "user", "content": "hi"}]
            answer = client.chat.completions.create(model=MODEL, messages=messages, stream=False)
            assert answer.choices[0].message.content == "you said hi"


def test_openai_missing(pool: PoolClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(errors.NotSupported, match=r"modelpool\[openai\]"):
        pool.openai()


def test_a_model_without_an_endpoint() -> None:
    with pytest.raises(errors.Unavailable, match="no endpoint"):
        worker_url(Endpoint("m"))


async def first(events: AsyncIterator[Any], count: int) -> list[Any]:
    got = []
    async for event in events:
        got.append(event)
        if len(got) == count:
            break
    await events.aclose()  # type: ignore[attr-defined]
    return got


def test_the_async_twin(fake: FakePool) -> None:
    fake.happen("model-loading", state="WARMING")
    fake.happen("model-loaded", state="HOT")
    fake.drop_next, fake.load_seconds, seen = 1, 1.5, list[ModelView]()

    async def use() -> None:
        async with AsyncPoolClient(fake.url, retry=QUICK) as pool:
            assert (await pool.health()).status == "healthy"
            assert (await pool.load(MODEL, on_progress=seen.append)).is_loaded
            loaded = await pool.load_set([MODEL], on_progress=lambda _: None)
            assert loaded.models[0].model.is_loaded
            assert (await pool.plan_set([MODEL])).steps[0].model_id == MODEL
            assert await pool.chat(MODEL, "hi") == "you said hi"
            assert [p async for p in pool.chat_stream(MODEL, "ho")] == ["you ", "said ", "ho"]
            assert [line async for line in pool.logs(MODEL, 1)] == ["line 0"]
            fake.log = ["one\ntw", "o\n"]
            assert await first(pool.logs(MODEL, 0, follow=True), 2) == ["one", "two"]
            assert [e.state for e in await first(pool.events(), 2)] == ["WARMING", "HOT"]
            with pytest.raises(errors.ModelNotFound):
                await pool.model("other")
            fake.errors[f"/models/{MODEL}/load"] = [errors.CannotFit("too big")]
            with pytest.raises(errors.CannotFit):
                await pool.load(MODEL, on_progress=seen.append)
            fake.cut_stream = True
            with pytest.raises(errors.WorkerFailed):
                _ = [p async for p in pool.chat_stream(MODEL, "ho")]

    asyncio.run(use())
    states = [state for state, _ in groupby(view.state for view in seen)]
    assert states[-2:] == ["WARMING", "HOT"]


def test_the_async_twin_without_a_pool() -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    async def use() -> None:
        url = f"http://127.0.0.1:{free_port()}"
        async with AsyncPoolClient(url, retry=QUICK, sleep=sleep) as pool:
            with pytest.raises(errors.PoolUnreachable):
                await anext(pool.events())

    asyncio.run(use())
    assert len(slept) == 3


def test_a_cancelled_load_leaves_nothing_behind(fake: FakePool) -> None:
    fake.load_seconds = 30

    async def use() -> None:
        async with AsyncPoolClient(fake.url) as pool:
            begun = asyncio.Event()
            load = asyncio.create_task(pool.load(MODEL, on_progress=lambda _: begun.set()))
            await begun.wait()
            load.cancel()
            with pytest.raises(asyncio.CancelledError):
                await load
            assert len(asyncio.all_tasks()) == 1

    asyncio.run(use())


def test_openai_async(fake: FakePool) -> None:
    async def use() -> None:
        async with AsyncPoolClient(fake.url) as pool, await pool.openai(MODEL) as client:
            messages: Any = [{"role": "user", "content": "hi"}]
            answer = await client.chat.completions.create(
                model=MODEL, messages=messages, stream=False
            )
            assert answer.choices[0].message.content == "you said hi"

    asyncio.run(use())
