"""Who waits for room gets it: in order of urgency, in bounded time, without thrashing."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelpool.pool.rates import HALF_LIFE_SECONDS, Rate, loss
from modelpool.pool.states import State
from modelpool.pool.wait_queue import Queued, Wish, in_order, overdue, positions
from modelpool_client.errors import PoolBusy, QueueFull
from support.play import play
from support.sim import Script, SimWorld, model, without_threads

AGEING = 30.0

wishes = st.builds(Wish, st.integers(0, 2), st.floats(0, 1000))
queues = st.lists(st.lists(wishes, min_size=1, max_size=4), max_size=6).map(
    lambda lists: [Queued(f"m{n}", tuple(w), 3.0) for n, w in enumerate(lists)]
)


@pytest.fixture(autouse=True)
def _no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    without_threads(monkeypatch)


def queued(key: str, rank: int, since: float) -> Queued:
    return Queued(key, (Wish(rank, since),))


@pytest.mark.parametrize(
    ("queue", "expected"),
    [
        ([queued("a", 1, 5.0), queued("b", 1, 4.0)], "ba"),
        ([queued("a", 1, 4.0), queued("b", 0, 9.0)], "ba"),
        ([queued("low", 2, 0.0), queued("high", 0, 50.0)], ["high", "low"]),
        ([queued("low", 2, 0.0), queued("high", 0, 61.0)], ["low", "high"]),
        # One urgent wish makes the whole model urgent.
        ([Queued("a", (Wish(2, 0.0), Wish(0, 9.0))), queued("b", 1, 0.0)], "ab"),
    ],
)
def test_order(queue: list[Queued], expected: str | list[str]) -> None:
    assert [q.key for q in in_order(queue, AGEING)] == list(expected)


@given(queues, st.floats(1000, 2000))
def test_whoever_waits_long_enough_is_first(queue: list[Queued], now: float) -> None:
    """Nothing that comes later overtakes, whatever its class, once the age makes up for it."""
    old = queued("old", 2, now - 10_000)
    assert in_order([*queue, old], AGEING)[0].key == "old"


@given(queues, st.floats(1000, 2000), st.floats(0, 500))
def test_overdue_is_the_oldest_or_nobody(queue: list[Queued], now: float, wait: float) -> None:
    late = overdue(queue, now, wait)
    waits = [now - q.since for q in queue]
    if late is None:
        assert all(w < wait for w in waits)
    else:
        assert now - late.since == max(waits) >= wait


@given(queues, st.floats(1000, 2000))
def test_positions_are_those_of_the_order(queue: list[Queued], now: float) -> None:
    order = in_order(queue, AGEING)
    found = positions(order, now, 30.0)
    assert [found[q.key].position for q in order] == list(range(1, len(order) + 1))
    assert all(p.seconds >= 3.0 * p.position and p.length == len(order) for p in found.values())


@given(st.lists(st.floats(0, 10_000), min_size=1, max_size=20))
def test_a_rate_fades_and_never_forgets_in_between(times: list[float]) -> None:
    rate = Rate()
    for at in sorted(times):
        rate = rate.used(1, at)
    now = max(times)
    assert 0 < rate.faded(now) <= len(times)
    assert rate.faded(now + HALF_LIFE_SECONDS) == pytest.approx(rate.faded(now) / 2)


def test_what_is_used_more_costs_more_to_evict() -> None:
    assert loss(0.1, 5, 10**9) > loss(0.01, 5, 10**9)
    assert loss(0.1, 5, 10**9) > loss(0.1, 5, 4 * 10**9)
    assert loss(0.1, 50, 10**9) > loss(0.1, 5, 10**9)


# -- in a pool ---------------------------------------------------------------------------------


A, B = model("a", memory_mb=100), model("b", memory_mb=100)
ONE = {"memory_limit_mb": 150, "min_residency_seconds": 5}


async def client(
    world: SimWorld, name: str, waits: list[float], until: float, length: float = 2.0
) -> None:
    """Asks again and again, with a second's pause; ``waits`` is how long each grant took."""
    loop = asyncio.get_running_loop()
    while loop.time() < until:
        began = loop.time()
        grant = await world.pool.acquire(name)
        waits.append(loop.time() - began)
        worker = next(p for p in world.processes if p.assignment.worker_id == grant.worker_id)
        assert await worker.serve(length), "a request was refused or cut"
        grant.release()
        await asyncio.sleep(1.0)


@pytest.mark.parametrize(("load_seconds", "least"), [(1.0, 200), (20.0, 25)])
def test_two_that_take_turns_in_one_room_neither_starve_nor_thrash(
    load_seconds: float, least: int
) -> None:
    """Four clients each, all the time: A is never idle by itself."""
    waits: dict[str, list[float]] = {"a": [], "b": []}

    async def scene(world: SimWorld) -> None:
        world.scripts = {n: Script(load_seconds=load_seconds) for n in ("a", "b")}
        await asyncio.gather(
            *(client(world, name, waits[name], 600) for name in ("a", "b") for _ in range(4))
        )

    world = play(scene, A, B, **ONE | {"min_residency_seconds": 10})
    longest = max(max(w) for w in waits.values())
    # Its longest wait, the end of current work and its load; or, where loads are long, two loads,
    # each with the residency that goes with it.
    assert longest <= max(30 + 2 + load_seconds, 4 * load_seconds) + 2, longest
    served = {name: len(w) for name, w in waits.items()}
    assert min(served.values()) >= least, served
    loading = len(world.processes) * load_seconds
    assert loading <= 0.6 * 600, f"{loading} of 600 s went into loads: it thrashes"


def test_who_yields_serves_again_when_nobody_waits_any_more() -> None:
    async def scene(world: SimWorld) -> None:
        grant = await world.pool.acquire("a")
        wish = asyncio.ensure_future(world.pool.acquire("b"))
        await asyncio.sleep(31)
        assert world.replica("a").yields_to == "b"
        said = [reason for *_, event, _, reason in world.events if event == "model-yielding"]
        assert said == ["yields to b, which has waited long: new requests wait, current ones end"]
        assert world.pool.try_acquire("a") is None
        second = asyncio.ensure_future(world.pool.acquire("a"))
        await asyncio.sleep(1)
        assert not second.done()
        wish.cancel()
        await asyncio.sleep(1)
        assert world.replica("a").yields_to == ""
        (await second).release()
        grant.release()
        assert len(world.processes) == 1

    play(scene, A, B, **ONE)


def test_small_ones_do_not_keep_the_room_from_a_large_one() -> None:
    """Every moment some small one could start; the large one needs them all gone at once."""
    small = [model(f"s{n}", memory_mb=50) for n in range(6)]
    waits: list[float] = []

    async def scene(world: SimWorld) -> None:
        others: list[float] = []
        clients = [client(world, s.model_id, others, 300) for s in small]
        await asyncio.gather(*clients, client(world, "large", waits, 300))
        assert max(others) <= 80, "the small ones starve"

    play(scene, *small, model("large", memory_mb=140), **ONE)
    assert max(waits) <= 45, waits
    assert len(waits) > 3


def test_priority_goes_first_and_age_makes_up_for_it() -> None:
    third = model("c", memory_mb=100)

    async def scene(world: SimWorld) -> None:
        holder = await world.pool.acquire("a")
        low = asyncio.ensure_future(world.pool.acquire("b", priority="low"))
        await asyncio.sleep(10)
        high = asyncio.ensure_future(world.pool.acquire("c", priority="high"))
        await asyncio.sleep(1)
        holder.release()
        grant = await high
        assert not low.done()
        grant.release()
        (await low).release()

    play(scene, A, B, third, **ONE)


def test_whoever_waits_in_vain_is_told_where_it_stood() -> None:
    async def scene(world: SimWorld) -> None:
        grant = await world.pool.acquire("a")
        with pytest.raises(PoolBusy, match="number 1 of 1 that wait for room") as caught:
            await world.pool.acquire("b")
        assert caught.value.retry_after
        assert 1 <= caught.value.retry_after <= 60
        grant.release()

    play(scene, A, B, load_wait_seconds=60, **ONE)


def test_a_queue_has_an_end() -> None:
    async def scene(world: SimWorld) -> None:
        waiting = [asyncio.ensure_future(world.pool.acquire("a")) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(QueueFull, match="3 requests wait for a already") as caught:
            await world.pool.acquire("a")
        assert caught.value.retry_after
        for each in waiting:
            (await each).release()

    play(scene, A, max_waiting_requests=3)


def test_the_one_whose_loss_is_least_goes() -> None:
    async def scene(world: SimWorld) -> None:
        for _ in range(50):
            (await world.pool.acquire("a")).release()
            worker = world.alive("a")[0]
            await worker.serve(0.1)
        (await world.pool.acquire("b")).release()
        await asyncio.sleep(20)
        (await world.pool.acquire("c")).release()
        assert world.replica("a").state is State.HOT
        assert world.replica("b").state is State.COLD

    third = model("c", memory_mb=100)
    play(scene, A, B, third, memory_limit_mb=250)


def test_lru_on_request() -> None:
    async def scene(world: SimWorld) -> None:
        for _ in range(50):
            (await world.pool.acquire("a")).release()
            await world.alive("a")[0].serve(0.1)
        (await world.pool.acquire("b")).release()
        await asyncio.sleep(20)
        (await world.pool.acquire("c")).release()
        assert world.replica("a").state is State.COLD

    third = model("c", memory_mb=100)
    play(scene, A, B, third, memory_limit_mb=250, eviction_policy="lru")
