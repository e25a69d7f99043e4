"""Direct requests against the end of the lease, at every offset: what is accepted is never cut."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest
from modelpool.pool.states import State
from support.sim import Script, SimProcess, SimWorld, model, without_threads
from support.virtual_time import run_virtual

TTL, GRACE = 60.0, 30.0
WIRE = 0.05  # the most that a message is under way
NEAR = 0.15  # how far from the deadline a request may start


@pytest.fixture(autouse=True)
def _no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    without_threads(monkeypatch)


async def hot(world: SimWorld, model_id: str) -> SimProcess:
    """Its worker, the moment after a request through the gateway ended."""
    grant = await world.pool.acquire(model_id)
    worker = next(p for p in world.alive(model_id))
    await worker.serve(0.01)
    grant.release()
    return worker


def a_world(lots: random.Random, *names: str, **config: float) -> SimWorld:
    world = SimWorld(
        [model(name) for name in names],
        default_ttl_minutes=TTL / 60,
        grace_minutes=GRACE / 60,
        port_rest_seconds=0,
        **config,
    )
    world.delay = lambda: lots.uniform(0, WIRE)
    for name in names:
        world.scripts[name] = Script(load_seconds=0.02, beat_seconds=10)
    return world


async def direct(worker: SimProcess, length: float, outcomes: Counter[str]) -> None:
    was_taken = worker.in_flight, worker.requests_total
    request = asyncio.ensure_future(worker.serve(length))
    await asyncio.sleep(0)
    accepted = (worker.in_flight, worker.requests_total) != was_taken
    served = await request
    assert served == accepted, "what was accepted was cut"
    outcomes["served" if served else "refused"] += 1


@pytest.mark.parametrize("deadline", [TTL, TTL + GRACE], ids=["lease end", "grace end"])
def test_idle_unload_against_direct_requests(deadline: float) -> None:
    outcomes: Counter[str] = Counter()
    states: Counter[State] = Counter()

    async def races() -> None:
        lots = random.Random(f"idle {deadline}")
        world = a_world(lots, "m")
        for _ in range(1000):
            worker = await hot(world, "m")
            await asyncio.sleep(deadline + lots.uniform(-NEAR, NEAR))
            states[world.replica("m").state] += 1
            await direct(worker, lots.choice([0.001, 0.05, 0.3]), outcomes)
            world.check()
        await world.pool.stop()
        assert not any(p.cut for p in world.processes)

    run_virtual(races())
    assert outcomes["served"] > 100
    assert len(states) > 1, "the offsets did not straddle the deadline"
    assert outcomes["refused"] > 100 or deadline == TTL


def test_eviction_against_direct_requests() -> None:
    outcomes: Counter[str] = Counter()

    async def races() -> None:
        lots = random.Random("eviction")
        world = a_world(lots, "a", "b", max_concurrent_models=1)
        for i in range(500):
            one, other = ("a", "b") if i % 2 else ("b", "a")
            worker = await hot(world, one)
            await asyncio.sleep(1)
            evicting = asyncio.ensure_future(hot(world, other))
            await asyncio.sleep(lots.uniform(0, NEAR))
            await direct(worker, lots.choice([0.001, 0.05, 0.3]), outcomes)
            await evicting
            world.check()
        await world.pool.stop()
        assert not any(p.cut for p in world.processes)

    run_virtual(races())
    assert outcomes["served"] > 50
    assert outcomes["refused"] > 50


def test_requests_through_the_pool_against_the_end_of_the_grace() -> None:
    """They never see it: the grant is either for the old worker, still serving, or for a new."""

    async def races() -> None:
        lots = random.Random("grants")
        world = a_world(lots, "m")
        for _ in range(500):
            await hot(world, "m")
            await asyncio.sleep(TTL + GRACE + lots.uniform(-NEAR, NEAR))
            grant = await world.pool.acquire("m")
            worker = next(p for p in world.alive("m"))
            assert worker.assignment.worker_id == grant.worker_id
            await asyncio.sleep(lots.uniform(0, WIRE))
            assert await worker.serve(0.1)
            grant.release()
            world.check()
        await world.pool.stop()
        assert not any(p.cut for p in world.processes)
        assert 100 < len(world.processes) < 500

    run_virtual(races())
