"""Several copies of one model: which takes a request, and how many there are."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelpool.pool.balance import AFFINITY_SLACK, Copy, choose
from modelpool.pool.messages import LoadSpeculatively
from modelpool.pool.scaling import (
    DOWN_AFTER_SECONDS,
    UP_AFTER_SECONDS,
    Bounds,
    Load,
    Trend,
    step,
    wanted,
)
from modelpool.pool.states import State
from support.play import play
from support.sim import Script, SimWorld, model, without_threads

BOUNDS = Bounds(least=1, most=3, per_copy=4)
loads = st.builds(Load, st.integers(0, 6), st.integers(0, 100), st.integers(0, 100))
copies = st.lists(st.integers(0, 20), min_size=1, max_size=6).map(
    lambda flights: [Copy(f"m#{n}", f) for n, f in enumerate(flights)]
)


@pytest.fixture(autouse=True)
def _no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    without_threads(monkeypatch)


@pytest.mark.parametrize(
    ("load", "expected"),
    [
        (Load(0, 0, 9), 0),  # nothing runs: the first request starts it
        (Load(1, 0, 0), 1),
        (Load(1, 4, 0), 1),
        (Load(1, 4, 1), 2),
        (Load(1, 9, 0), 3),
        (Load(1, 90, 0), 3),
    ],
)
def test_wanted(load: Load, expected: int) -> None:
    assert wanted(load, BOUNDS) == expected


@given(st.lists(st.tuples(st.floats(0.1, 30), loads), max_size=30))
def test_scaling_is_slow_to_change_and_stays_within_bounds(moments: list[Any]) -> None:
    trend, now, more_since, fewer_since = Trend(), 0.0, None, None
    for pause, load in moments:
        now += pause
        target = wanted(load, BOUNDS)
        more_since = (now if more_since is None else more_since) if target > load.copies else None
        fewer = 0 < target < load.copies
        fewer_since = (now if fewer_since is None else fewer_since) if fewer else None
        trend, change = step(trend, load, BOUNDS, now)
        if change > 0:
            assert load.copies < BOUNDS.most
            assert more_since is not None
            assert now - more_since >= UP_AFTER_SECONDS
        if change < 0:
            assert load.copies > BOUNDS.least
            assert fewer_since is not None
            assert now - fewer_since >= DOWN_AFTER_SECONDS
        if change:
            more_since = fewer_since = None


@given(copies)
def test_without_affinity_the_least_loaded_takes_it(found: list[Copy]) -> None:
    chosen = choose(found)
    assert chosen.in_flight == min(c.in_flight for c in found)
    assert found.index(chosen) == [c.in_flight for c in found].index(chosen.in_flight)


@given(copies, st.text(min_size=1))
def test_affinity_never_costs_much(found: list[Copy], affinity: str) -> None:
    chosen = choose(found, affinity)
    assert chosen.in_flight <= min(c.in_flight for c in found) + AFFINITY_SLACK
    assert choose(found, affinity) == chosen


@given(st.text(min_size=1), st.integers(2, 6))
def test_a_copy_that_comes_moves_only_its_own(affinity: str, count: int) -> None:
    few = [Copy(f"m#{n}", 0) for n in range(count)]
    more = [*few, Copy("m#new", 0)]
    assert choose(more, affinity) in (choose(few, affinity), more[-1])


# -- in a pool ---------------------------------------------------------------------------------


MANY = model("m", memory_mb=100, max_replicas=3, target_in_flight=2)


async def request(world: SimWorld, seconds: float, affinity: str = "") -> int:
    """The port that served it."""
    grant = world.pool.try_acquire("m", affinity)
    if grant is None:
        grant = await world.pool.acquire("m", affinity=affinity)
    try:
        worker = next(p for p in world.processes if p.assignment.worker_id == grant.worker_id)
        assert worker.assignment.model_id == "m"
        assert await worker.serve(seconds, is_direct=False)
        return grant.port
    finally:
        grant.release()


def keys(world: SimWorld) -> list[str]:
    return sorted(r.key for r in world.replicas if r.state.is_serving)


async def steady(world: SimWorld, clients: int, seconds: float) -> list[int]:
    """So many clients at a time; the ports that served them."""
    until = asyncio.get_running_loop().time() + seconds

    async def one() -> list[int]:
        ports = []
        while asyncio.get_running_loop().time() < until:
            ports.append(await request(world, 1.0))
        return ports

    found = await asyncio.gather(*(one() for _ in range(clients)))
    return [port for ports in found for port in ports]


def test_copies_follow_the_load_up_and_down() -> None:
    async def scene(world: SimWorld) -> None:
        await steady(world, 2, 30)
        assert keys(world) == ["m"]
        ports = await steady(world, 6, 60)
        assert keys(world) == ["m", "m#2", "m#3"]
        counts = [ports.count(p) for p in set(ports)]
        assert len(counts) == 3
        await steady(world, 1, 200)
        assert keys(world) == ["m"]
        said = [r for *_, move, r in world.events if move and r.startswith(("loading: sc", "scal"))]
        assert "scaled up" in said[0]
        assert "scaled down" in said[-1]

    play(scene, MANY)


def test_a_copy_never_takes_room_from_another_model() -> None:
    async def scene(world: SimWorld) -> None:
        (await world.pool.acquire("other")).release()
        await steady(world, 6, 60)
        assert world.replica("other").state is State.HOT
        assert keys(world) == ["m", "other"]

    play(scene, MANY, model("other", memory_mb=100), memory_limit_mb=250)


def test_a_model_that_needs_room_gets_that_of_a_copy() -> None:
    async def scene(world: SimWorld) -> None:
        await steady(world, 6, 60)
        assert len(keys(world)) == 3
        await asyncio.sleep(11)
        (await world.pool.acquire("other")).release()
        assert world.replica("m").state is State.HOT
        assert len([k for k in keys(world) if k.startswith("m")]) == 2

    play(scene, MANY, model("other", memory_mb=100), memory_limit_mb=300)


def test_at_least_so_many() -> None:
    async def scene(world: SimWorld) -> None:
        await request(world, 1.0)
        await asyncio.sleep(10)
        assert keys(world) == ["m", "m#2"]

    play(scene, model("m", memory_mb=100, min_replicas=2, max_replicas=2))


def test_conversations_stay_where_they_were() -> None:
    async def scene(world: SimWorld) -> None:
        await steady(world, 6, 60)
        for who in ("ann", "bob", "cem", "dan"):
            ports = {await request(world, 0.5, who) for _ in range(5)}
            assert len(ports) == 1, who

    play(scene, MANY)


def test_when_one_copy_dies_the_others_serve_on() -> None:
    async def scene(world: SimWorld) -> None:
        await steady(world, 6, 60)
        world.alive()[0].was_told_to_end = True
        world.alive()[0].die(-9)
        await asyncio.sleep(0)
        assert world.pool.try_acquire("m") is not None
        assert world.replica("m").state is State.HOT
        await asyncio.sleep(1)

    play(scene, MANY)


def test_who_waits_for_a_copy_is_served_by_the_first_that_is_there() -> None:
    async def scene(world: SimWorld) -> None:
        await steady(world, 6, 60)
        await world.pool.unload("m", "test")
        world.scripts["m"] = Script(load_seconds=100.0)
        waiting = [asyncio.ensure_future(request(world, 0.1)) for _ in range(3)]
        await asyncio.sleep(5)
        first, *_ = [r for r in world.replicas if r.state is State.WARMING]
        world.scripts["m"] = Script()
        assert len(first.waiters) == 3
        other = next(r for r in world.replicas if r is not first)
        world.pool.supervisors[other.key].post(LoadSpeculatively("test"))
        await asyncio.sleep(5)
        assert all(w.done() for w in waiting)
        assert first.state is State.WARMING

    play(scene, MANY)


def test_an_unload_ends_every_copy_and_a_delete_forgets_them() -> None:
    async def scene(world: SimWorld) -> None:
        await steady(world, 6, 60)
        await world.pool.unload("m", "test")
        assert not world.alive()
        await steady(world, 6, 60)
        await world.pool.remove("m")
        assert not world.alive()
        assert not world.replicas

    play(scene, MANY)


def test_an_extension_is_for_every_copy() -> None:
    async def scene(world: SimWorld) -> None:
        await steady(world, 6, 60)
        assert world.pool.extend("m", 600) > 0
        now = asyncio.get_running_loop().time()
        left = {s.key: s.lease.remaining(now) or 0 for s in world.pool.statuses("m")}
        assert all(seconds > 900 for seconds in left.values()), left

    play(scene, MANY)
