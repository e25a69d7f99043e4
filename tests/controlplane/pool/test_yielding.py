"""Who yields to one that waits does so for a time, and not again while it would be in vain."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelpool.pool.yielding import Yielding
from modelpool_client.errors import ModelPoolError
from support.play import play
from support.sim import SimWorld, model, without_threads

A, B = model("a", memory_mb=100), model("b", memory_mb=100)
ONE = {"max_concurrent_models": 1, "beat_seconds": 10.0}


@pytest.fixture(autouse=True)
def _no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    without_threads(monkeypatch)


def now() -> float:
    return asyncio.get_running_loop().time()


# -- the decision ------------------------------------------------------------------------------


def test_a_hold_is_twice_as_long_after_each_in_vain() -> None:
    yielding, lengths = Yielding(), []
    for _ in range(5):
        yielding = yielding.begun(100.0, 30.0, 150.0)
        assert yielding.until is not None
        lengths.append(yielding.until - 100.0)
        yielding = yielding.over(1, 1).released(yielding.in_vain)
        assert not yielding.is_useless
    assert lengths == [30.0, 60.0, 120.0, 150.0, 150.0]


def test_a_hold_without_time_for_work_is_a_short_one() -> None:
    assert Yielding().begun(0.0, 0.0, 150.0).until == 1.0


def test_grants_that_were_given_later_do_not_count() -> None:
    yielding = Yielding().begun(0.0, 30.0, 150.0).over(2, 2)
    assert yielding.released(1).is_useless
    assert yielding.released(0).is_useless
    assert not yielding.released(0).released(0).is_useless


def test_requests_that_only_the_worker_knows_of_count_until_there_were_none() -> None:
    yielding = Yielding().begun(0.0, 30.0, 150.0).over(0, 1)
    assert yielding.heard(1, 1).heard(1, 2).heard(1, 1).is_useless, "one report may be too early"
    assert not yielding.heard(1, 1).heard(2, 1).is_useless
    assert yielding.heard(0, 0) == Yielding()


@given(st.lists(st.integers(0, 3), max_size=20), st.integers(0, 3), st.integers(0, 3))
def test_it_is_useless_only_while_something_is_left(
    returned: list[int], granted: int, others: int
) -> None:
    yielding = Yielding().begun(0.0, 30.0, 150.0).over(granted, granted + others)
    assert yielding.is_useless == bool(granted + others)
    for given_after in returned:
        yielding = yielding.released(given_after)
    assert yielding.left == max(0, granted - returned.count(0))


# -- in a pool ---------------------------------------------------------------------------------


async def client(world: SimWorld, name: str, until: float, counts: Counter[str]) -> None:
    """Short requests, one after the other; those that are refused are counted apart."""
    while now() < until:
        try:
            grant = world.pool.try_acquire(name) or await world.pool.acquire(name)
            worker = next(p for p in world.processes if p.assignment.worker_id == grant.worker_id)
            await worker.serve(0.5)
            grant.release()
            counts[name] += 1
        except ModelPoolError:
            counts[f"no {name}"] += 1
        await asyncio.sleep(0.5)


def said(world: SimWorld, event: str) -> list[str]:
    return [e[4] for e in world.events if e[2] == event]


def test_a_long_stream_keeps_nobody_from_its_own_model() -> None:
    """It did, for as long as anybody waited for another one, who got nothing for it."""
    counts: Counter[str] = Counter()

    async def scene(world: SimWorld) -> None:
        stream = await world.pool.acquire("a")
        asyncio.get_running_loop().call_later(3000, stream.release)
        clients = [client(world, n, 3000, counts) for n in ("a", "b")]
        await asyncio.gather(*clients)
        assert said(world, "model-yielding")[1:] == [], "in vain once is enough"
        why = "its current work did not end in time for b: it serves again"
        assert said(world, "model-resuming") == [why]
        assert counts["a"] > 2900
        assert not counts["no a"]
        waits = asyncio.ensure_future(world.pool.acquire("b"))
        await asyncio.sleep(5)
        (await waits).release()

    play(scene, A, B, **ONE)


def test_a_stream_at_the_port_is_not_waited_for_twice_either() -> None:
    counts: Counter[str] = Counter()

    async def scene(world: SimWorld) -> None:
        (await world.pool.acquire("a")).release()
        stream = asyncio.ensure_future(world.processes[-1].serve(3000))
        await asyncio.gather(*(client(world, n, 2000, counts) for n in ("a", "b")))
        assert counts["a"] > 1900
        assert await stream

    play(scene, A, B, **ONE)


def test_work_that_takes_longer_than_a_hold_does_not_win_for_ever() -> None:
    """A's requests overlap all the time, and each takes longer than the first hold."""

    async def scene(world: SimWorld) -> None:
        async def ask(after: float) -> None:
            await asyncio.sleep(after)
            while now() < 1000:
                grant = await world.pool.acquire("a", wait=1000)
                await asyncio.sleep(70)
                grant.release()

        asking = [asyncio.ensure_future(ask(after)) for after in (0, 25, 50)]
        await asyncio.sleep(60)
        began = now()
        (await world.pool.acquire("b", wait=1000)).release()
        assert now() - began < 400
        assert said(world, "model-resuming"), "the first hold was long enough"
        await asyncio.gather(*asking)

    play(scene, A, B, **ONE)


def test_who_would_yield_for_nothing_does_not() -> None:
    """Both would have to go; one of them cannot, so the other need not."""
    counts: Counter[str] = Counter()

    async def scene(world: SimWorld) -> None:
        stream = await world.pool.acquire("a")
        (await world.pool.acquire("b")).release()
        clients = [client(world, n, 2000, counts) for n in ("a", "b", "large")]
        await asyncio.gather(*clients)
        assert len(said(world, "model-resuming")) <= 2
        assert min(counts["a"], counts["b"]) > 1900
        stream.release()
        (await world.pool.acquire("large")).release()

    play(scene, A, B, model("large", memory_mb=190), memory_limit_mb=200, beat_seconds=10.0)


def test_who_waits_is_not_let_in_by_a_worker_that_would_not_go() -> None:
    """Asked to go for lack of memory it says that it is busy; it yields all the same."""

    async def scene(world: SimWorld) -> None:
        grant = await world.pool.acquire("a")
        first = asyncio.ensure_future(world.pool.acquire("b"))
        await asyncio.sleep(31)
        second = asyncio.ensure_future(world.pool.acquire("a"))
        replica, run, worker = world.replica("a"), world.run_of("a"), world.processes[-1]
        await asyncio.sleep(1)
        world.is_deaf = True  # the manager does not hear of the request at the port
        stream = asyncio.ensure_future(worker.serve(5))
        await asyncio.sleep(0)
        world.is_deaf = False
        run.granted = 0
        world.pool.evict_if_idle("a", "evicted: memory is short")
        run.granted = 1
        await asyncio.sleep(1)
        assert replica.state.is_serving
        assert replica.yields_to == "b"
        assert not second.done(), "b waits longer"
        assert await stream
        grant.release()
        (await first).release()
        (await second).release()

    play(scene, A, B, **ONE)
