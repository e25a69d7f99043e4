"""Several models loaded as one: what is decided for any pool, and what then happens."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from modelpool.pool.admission import (
    FALLS_ASLEEP,
    MB,
    SAME_SET,
    Budget,
    Refuse,
    Requirements,
    Resident,
    Start,
    Step,
    Wait,
    plan,
    plan_set,
    set_with_ports,
)
from modelpool.pool.states import State
from modelpool_client.errors import CannotFit, LoadFailed, NoPortFree, PoolStopping
from support.examples import examples
from support.sim import Script, SimWorld, model, without_threads
from support.virtual_time import run_virtual

from .test_admission import limits, on, on_devices, pools, resident


def need(name: str, size: int = 100, **devices: int) -> Requirements:
    return Requirements(name, size * MB, on(**devices))


TWO = [need("x"), need("y")]
busy = {"protected": "busy"}
pinned = {"pinned": True}
leaving = {"protected": "unloading", "leaving": True}

DECIDED = {
    "an empty pool": (TWO, [], limits(), (), [("x", ()), ("y", ())]),
    "exactly as much as there is": (TWO, [], limits(2, 200), (), [("x", ()), ("y", ())]),
    "what needs no eviction begins first": (
        [need("x", 500), need("y")],
        [resident("a", 600)],
        limits(),
        (),
        [("y", ()), ("x", ("a",))],
    ),
    "one large victim for both instead of one for each": (
        TWO,
        [resident("a", 100, used=1), resident("b", 200, used=2)],
        limits(5, 300),
        (),
        [("x", ("b",)), ("y", ("b",))],
    ),
    "one for each": (
        TWO,
        [resident("a", used=2), resident("b", used=1)],
        limits(2),
        (),
        [("x", ("b",)), ("y", ("a", "b"))],
    ),
    "what is wanted and there stays, however long it idles": (
        [need("x")],
        [resident("a", used=1), resident("b", used=2)],
        limits(2),
        ("a",),
        [("x", ("b",))],
    ),
    "those that leave are waited for": (
        TWO,
        [resident("a", 900, **leaving)],
        limits(),
        (),
        [("x", ()), ("y", ("a",))],
    ),
}


@pytest.mark.parametrize("name", DECIDED)
def test_who_starts_and_who_goes_for_it(name: str) -> None:
    needs, residents, budget, kept, expected = DECIDED[name]
    decision = plan_set(needs, residents, budget, kept)
    assert not isinstance(decision, Refuse)
    assert [(s.need.model_id, s.plan) for s in decision] == [(k, Start(e)) for k, e in expected]


def test_what_fits_starts_where_the_busy_hold_the_rest() -> None:
    decision = plan_set(TWO, [resident("a", 850, **busy)], limits())
    assert not isinstance(decision, Refuse)
    first, second = (step.plan for step in decision)
    assert first == Start()
    assert isinstance(second, Wait)
    assert second.on == ("a", "x")
    assert second.why.endswith(f"a 850 MB (busy), x 100 MB ({SAME_SET})")


REFUSED = {
    "more than the limit": (
        [need("x", 600), need("y", 500)],
        [resident("a")],
        limits(),
        (),
        r"^they need 1,100 MB together \(x 600 MB, y 500 MB\), but at most 1,000 MB of 1,000 MB",
    ),
    "more beside what is wanted and there": (
        [need("x", 600)],
        [resident("a", 500)],
        limits(),
        ("a",),
        r"^they need 1,100 MB together \(x 600 MB, a 500 MB \(loaded\)\)",
    ),
    "more than the pinned leave": (
        TWO,
        [resident("a", 850, **pinned)],
        limits(),
        (),
        r"at most 150 MB of 1,000 MB can be made free \(pinned: a 850 MB\)$",
    ),
    "more than may be loaded": (
        TWO,
        [resident("a")],
        limits(2),
        ("a",),
        r"^they are 3 models together .*, but max_concurrent_models is 2$",
    ),
    "more than a device": (
        [need("x", gpu=60), need("y", gpu=50)],
        [],
        limits(gpu=100),
        (),
        r"^they need 110 MB of gpu together \(x 100 MB and 60 MB of gpu, .*at most 100 MB of 100",
    ),
    "more than the host": (
        TWO,
        [resident("a", 30)],
        limits(host=160),
        (),
        r"^the set, together .*needs 200 MB, but the host has 160 MB available",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_the_numbers_of_each(name: str) -> None:
    needs, residents, budget, kept, why = REFUSED[name]
    decision = plan_set(needs, residents, budget, kept)
    assert isinstance(decision, Refuse)
    assert re.search(why, decision.why), decision.why
    assert decision.advice
    assert decision.is_passing is (name == "more than the host")


@st.composite
def sets(
    draw: st.DrawFn,
) -> tuple[list[Requirements], list[Resident], Budget, frozenset[str]]:
    _, residents, budget = draw(pools())
    needs = [
        Requirements(f"n{i}", draw(st.integers(1, 300)) * MB, draw(on_devices(150)))
        for i in range(draw(st.integers(0, 4)))
    ]
    staying = [r.model_id for r in residents if not r.leaving]
    kept = draw(st.sets(st.sampled_from(staying))) if staying else set()
    budget = replace(budget, max_models=budget.max_models + draw(st.integers(0, 3)))
    return needs, residents, budget, frozenset(kept)


@settings(max_examples=examples(150))
@given(sets())
def test_any_set_is_sound(
    drawn: tuple[list[Requirements], list[Resident], Budget, frozenset[str]],
) -> None:
    needs, residents, budget, kept = drawn
    decision = plan_set(needs, residents, budget, kept)
    if isinstance(decision, Refuse):
        event("refused")
        assert decision.why
        assert not _fit_where_all_others_left(needs, residents, budget, kept)
        return
    event(f"{len(decision)} steps, {sum(isinstance(s.plan, Start) for s in decision)} start")
    assert sorted(s.need.model_id for s in decision) == sorted(n.model_id for n in needs)
    by_id = {r.model_id: r for r in residents}
    gone = {r.model_id for r in residents if r.leaving}
    taken: list[Resident] = []
    for step in decision:
        if not isinstance(step.plan, Start):
            continue
        for victim in step.plan.evict:
            assert victim in by_id, "one of the wanted would go for another"
            was = by_id[victim]
            assert was.leaving or not (was.protected or was.pinned or victim in kept)
        gone |= set(step.plan.evict)
        now = [replace(r, leaving=True) if r.model_id in gone else r for r in residents]
        # Said with the plan of a single one: beside those that began before it, with nobody else
        # going, there is room for it.
        alone = plan(step.need, [replace(r, pinned=not r.leaving) for r in (*now, *taken)], budget)
        assert isinstance(alone, Start)
        size, devices = step.need.bytes, step.need.devices
        taken.append(
            Resident(step.need.model_id, size, (), "x", pending_bytes=size, devices=devices)
        )


def _fit_where_all_others_left(
    needs: list[Requirements], residents: list[Resident], budget: Budget, kept: frozenset[str]
) -> bool:
    stay = [r for r in residents if not r.leaving and (r.pinned or r.model_id in kept)]
    gone = [r for r in residents if r not in stay]
    host = budget.host_available + sum(r.bytes - r.pending_bytes for r in gone)
    size = sum(n.bytes for n in needs)
    on_device = {
        d: sum(n.devices.get(d, 0) for n in needs) + sum(r.devices.get(d, 0) for r in stay)
        for d in budget.devices
        if any(n.devices.get(d) for n in needs)
    }
    return (
        len(stay) + len(needs) <= budget.max_models
        and size + sum(r.bytes for r in stay) <= budget.limit_bytes
        and all(held <= budget.devices[d] for d, held in on_device.items())
        and size <= host - sum(r.pending_bytes for r in stay)
    )


@settings(max_examples=examples(100))
@given(sets())
def test_all_start_where_all_fit_after_evictions(
    drawn: tuple[list[Requirements], list[Resident], Budget, frozenset[str]],
) -> None:
    needs, residents, budget, kept = drawn
    may_not = [replace(r, pinned=r.pinned or bool(r.protected)) for r in residents]
    fits = _fit_where_all_others_left(needs, may_not, budget, kept)
    decision = plan_set(needs, residents, budget, kept)
    starts = not isinstance(decision, Refuse) and all(isinstance(s.plan, Start) for s in decision)
    if fits:
        assert starts
    elif needs:
        assert not starts


# -- in a pool -----------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    without_threads(monkeypatch)


def play(scene: Callable[[SimWorld], Awaitable[None]], **config: Any) -> None:
    async def main() -> None:
        world = SimWorld([model(name, memory_mb=1000) for name in "abcde"], **config)
        try:
            await scene(world)
            world.check()
        finally:
            await world.pool.stop()
        assert not world.bugs
        assert not world.pool.resources.holders

    run_virtual(main())


def states(world: SimWorld) -> dict[str, State]:
    return {r.key: r.state for r in world.replicas if r.state is not State.COLD}


async def outcomes(loads: dict[str, Awaitable[None]]) -> dict[str, BaseException | None]:
    found = await asyncio.gather(*loads.values(), return_exceptions=True)
    return dict(zip(loads, found, strict=True))


def test_a_set_is_loaded_at_once_and_its_members_stay() -> None:
    async def scene(world: SimWorld) -> None:
        await world.pool.load("a", "asked", 60)
        await asyncio.sleep(60)
        loads = world.pool.load_set(["b", "a", "c", "b"], "asked", 60)
        assert list(loads) == ["a", "b", "c"]
        assert await outcomes(loads) == {"a": None, "b": None, "c": None}
        assert states(world) == dict.fromkeys("abc", State.HOT)

    play(scene, max_concurrent_models=3)


def test_a_set_that_can_never_fit_changes_nothing() -> None:
    async def scene(world: SimWorld) -> None:
        await world.pool.load("a", "asked", 60)
        await asyncio.sleep(60)
        told = len(world.events)
        with pytest.raises(CannotFit, match=r"b, c, d can never .*3,000 MB together \(b 1,000 MB"):
            world.pool.load_set(["b", "c", "d"], "asked", 60)
        assert (states(world), len(world.events)) == ({"a": State.HOT}, told)
        assert [r.key for r in world.pool.resources.holders] == ["a"]

    play(scene, memory_limit_mb=2500)


def test_all_room_is_reserved_before_the_first_of_them_starts() -> None:
    async def scene(world: SimWorld) -> None:
        loads = world.pool.load_set(["a", "b"], "asked", 60)
        late = asyncio.ensure_future(world.pool.load("c", "asked", 60))
        await asyncio.sleep(0)
        assert states(world) == {"a": State.WARMING, "b": State.WARMING}
        assert set((await outcomes(loads)).values()) == {None}
        await late

    play(scene, max_concurrent_models=2)


def test_one_victim_for_several() -> None:
    async def scene(world: SimWorld) -> None:
        await world.pool.load("a", "asked", 60)
        await world.pool.load("b", "asked", 60)
        await asyncio.sleep(60)
        assert set((await outcomes(world.pool.load_set(["c", "d"], "asked", 60))).values()) == {
            None
        }
        assert states(world) == {"c": State.HOT, "d": State.HOT}

    play(scene, max_concurrent_models=2)


def test_one_that_waits_takes_no_room_from_one_that_was_asked_for_with_it() -> None:
    async def scene(world: SimWorld) -> None:
        grant = await world.pool.acquire("a")
        loads = {k: asyncio.ensure_future(v) for k, v in _set(world, "b", "c").items()}
        await loads["b"]
        await asyncio.sleep(25)  # b idles, and is old enough to go for anybody else
        assert states(world) == {"a": State.HOT, "b": State.HOT}
        assert world.replica("c").waiting_for
        grant.release()
        await loads["c"]
        assert states(world) == {"b": State.HOT, "c": State.HOT}

    play(scene, max_concurrent_models=2)


def test_of_two_sets_with_one_in_common_the_first_is_served() -> None:
    async def scene(world: SimWorld) -> None:
        grants = {name: await world.pool.acquire(name) for name in ("d", "e")}
        first = {k: asyncio.ensure_future(v) for k, v in _set(world, "b", "a").items()}
        await asyncio.sleep(1)
        second = asyncio.ensure_future(outcomes(_set(world, "e", "a")))
        grants["d"].release()
        await first["b"]
        await asyncio.sleep(25)
        assert world.replica("a").waiting_for
        grants["e"].release()
        await first["a"]
        assert states(world) == {"a": State.HOT, "b": State.HOT}
        assert set((await second).values()) == {None}

    play(scene, max_concurrent_models=2)


def _set(world: SimWorld, *names: str) -> dict[str, Awaitable[None]]:
    return world.pool.load_set(names, "asked", 200)


def test_one_that_fails_leaves_the_others_alone() -> None:
    async def scene(world: SimWorld) -> None:
        world.scripts["b"] = Script(fail_load="bad_file")
        found = await outcomes(_set(world, "a", "b"))
        assert found["a"] is None
        assert isinstance(found["b"], LoadFailed)
        again = await outcomes(_set(world, "b", "a"))
        assert isinstance(again["b"], LoadFailed), "and an explicit load tries again"
        assert [s for s in world.moves("b") if s == State.WARMING] == [State.WARMING] * 2

    play(scene)


def test_without_waiting_each_is_begun() -> None:
    async def scene(world: SimWorld) -> None:
        assert await outcomes(world.pool.load_set(["a", "b"], "asked", None)) == {
            "a": None,
            "b": None,
        }
        assert set(states(world).values()) == {State.WARMING}
        await asyncio.sleep(10)
        assert set(states(world).values()) == {State.HOT}

    play(scene)


def test_one_whose_worker_is_ending_is_loaded_after_that() -> None:
    async def scene(world: SimWorld) -> None:
        await world.pool.load("a", "asked", 60)
        world.pool.unload("a", "asked")
        assert world.replica("a").is_leaving
        assert set((await outcomes(_set(world, "a", "b"))).values()) == {None}
        assert states(world) == {"a": State.HOT, "b": State.HOT}

    play(scene, max_concurrent_models=2)


def test_ports_are_part_of_the_plan() -> None:
    async def scene(world: SimWorld) -> None:
        await world.pool.load("a", "asked", 60)
        await asyncio.sleep(60)
        with pytest.raises(NoPortFree, match="2 workers would start and 1 worker ports are free"):
            _set(world, "b", "c")
        assert states(world) == {"a": State.HOT}

    play(scene, port_range={"start": 8051, "end": 8052})


def test_a_pool_that_stops_begins_none() -> None:
    async def scene(world: SimWorld) -> None:
        await world.pool.stop()
        with pytest.raises(PoolStopping):
            _set(world, "a", "b")

    play(scene)


# -- where ports are short -------------------------------------------------------------------------

asleep = {"is_asleep": True}
falling = resident("f", protected=FALLS_ASLEEP, **asleep)


def starts(*plans: Start | Wait) -> tuple[Step, ...]:
    return tuple(Step(need(f"n{i}"), plan) for i, plan in enumerate(plans))


# Who goes wholly, and of whom it is enough that they sleep, by start; or the ports that there are.
WITH_PORTS: dict[str, tuple[tuple[Step, ...], list[Resident], int, Any]] = {
    "one is free": (starts(Start()), [], 1, [((), ())]),
    "a victim leaves its own": (starts(Start(("a",))), [resident("a")], 0, [(("a",), ())]),
    "nobody leaves one": (starts(Start(), Start()), [resident("a")], 1, 1),
    "one that sleeps goes for it": (
        starts(Start(), Start()),
        [resident("a", used=2, **asleep), resident("b", used=1, **asleep)],
        1,
        [((), ()), (("b",), ())],
    ),
    "two that sleep": (
        starts(Start(), Start()),
        [resident("a", used=2, **asleep), resident("b", used=1, **asleep)],
        0,
        [(("b",), ()), (("a",), ())],
    ),
    "too few sleep": (starts(*[Start()] * 3), [resident("a", **asleep)], 1, 1),
    "a sleeper that is wanted stays": (
        starts(Start()),
        [resident("a", protected=SAME_SET, **asleep)],
        0,
        0,
    ),
    "a victim that was to sleep goes": (
        starts(Start(("a",), ("a",))),
        [resident("a")],
        0,
        [(("a",), ())],
    ),
    "who falls asleep for one leaves none to the next": (
        starts(Start(("a",), ("a",)), Start(("a",))),
        [resident("a")],
        1,
        1,
    ),
    "who falls asleep already keeps its own": (
        starts(Start(("f",))),
        [resident("f", **leaving), falling],
        0,
        0,
    ),
    "a victim too many leaves one to another": (
        starts(Start(("a", "b")), Start()),
        [resident("a"), resident("b")],
        0,
        [(("a", "b"), ()), (("b",), ())],
    ),
    "one that waits needs none": (starts(Wait(("a",), "busy")), [resident("a")], 0, [None]),
}


@pytest.mark.parametrize("name", WITH_PORTS)
def test_each_start_has_a_port(name: str) -> None:
    steps, residents, free, expected = WITH_PORTS[name]
    found = set_with_ports(steps, [s.need.model_id for s in steps], residents, free)
    if isinstance(expected, int):
        assert isinstance(found, Refuse)
        assert found.lacks_ports
        assert f"and {expected} worker ports are free" in found.why
        return
    assert not isinstance(found, Refuse), found
    plans = [s.plan for s in found]
    assert [(p.evict, p.asleep) if isinstance(p, Start) else None for p in plans] == expected


def test_what_sleeps_leaves_its_port_to_a_set() -> None:
    async def scene(world: SimWorld) -> None:
        world.scripts["a"] = Script(sleep_level=1)
        await world.pool.load("a", "asked", 60)
        await asyncio.sleep(20 * 60)
        assert states(world) == {"a": State.ASLEEP}
        plan = world.pool.plan_set(["b", "c"])
        assert not isinstance(plan, Refuse), plan
        assert set((await outcomes(_set(world, "b", "c"))).values()) == {None}
        assert states(world) == {"b": State.HOT, "c": State.HOT}

    play(scene, port_range={"start": 8051, "end": 8052})
