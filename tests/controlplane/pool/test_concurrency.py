"""How many requests a worker is given at a time: the search, the places, who gets the next one."""

from __future__ import annotations

import asyncio
import dataclasses
import random
import statistics
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelpool.pool import messages as m
from modelpool.pool.concurrency import (
    INITIAL,
    MOST,
    PLENTY,
    VISIT,
    Bounds,
    Search,
    bounds_of,
)
from modelpool.pool.decide import decide, table
from modelpool.pool.replica import Replica, Run
from modelpool.pool.states import State
from modelpool.pool.waiters import USED, Use, Waiter
from modelpool_client.errors import LoadCancelled, ModelPoolError, PoolBusy, QueueFull
from modelpool_client.wire import Facts, Phase
from support import queueing
from support.queueing import Engine
from support.sim import Script, SimWorld, model, without_threads
from support.virtual_time import run_virtual

# -- the search -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("slots", "bounds"),
    [(None, Bounds(1, MOST, INITIAL)), (1, Bounds(1, 2, 1)), (8, Bounds(8, 16, 8))],
)
def test_never_below_the_engines_slots(slots: int | None, bounds: Bounds) -> None:
    assert bounds_of(slots) == bounds
    search = Search(bounds)
    for in_flight in range(300, 0, -1):
        search.refused(in_flight)
    assert search.limit == bounds.least


some_bounds = st.builds(
    lambda least, more, start: Bounds(least, least + more, least + min(more, start)),
    st.integers(1, 50),
    st.integers(0, 200),
    st.integers(0, 200),
)
# What happens: the time to a first token at or off the limit, or a refusal.
happenings = st.lists(
    st.one_of(
        st.tuples(st.integers(1, 60), st.sampled_from([0, 0, 0, -1, 1]), st.floats(0, 1e5)),
        st.tuples(st.just(1), st.integers(-300, 5), st.none()),
    ),
    max_size=60,
)


@given(some_bounds, happenings)
def test_whatever_is_measured_the_limit_keeps_its_bounds(
    bounds: Bounds, happenings: list[tuple[int, int, float | None]]
) -> None:
    search = Search(bounds)
    for times, apart, seconds in happenings:
        for _ in range(times):
            if seconds is None:
                search.refused(max(1, search.limit + apart))
            else:
                search.first_token(max(1, search.limit + apart), seconds)
            assert bounds.least <= search.limit <= bounds.most


@given(some_bounds, st.floats(0.001, 1000.0), st.integers(0, 2**32))
def test_a_search_is_never_stuck(bounds: Bounds, seconds: float, seed: int) -> None:
    """Where no limit makes anybody wait longer it reaches the highest, from wherever it is."""
    search, lots = Search(bounds), random.Random(seed)
    for _ in range(lots.randrange(2000)):
        search.first_token(search.limit, lots.lognormvariate(0.0, 2.0))
    for _ in range(400 * PLENTY):
        search.first_token(search.limit, seconds)
        if search.limit == bounds.most:
            return
    raise AssertionError(f"stuck: {search}")


def test_only_who_took_the_last_place_tells_of_the_limit() -> None:
    search = Search(bounds_of(None))
    for in_flight in [n for n in range(60) if n != search.limit]:
        for _ in range(PLENTY):
            search.first_token(in_flight, 0.001)
    assert search == Search(bounds_of(None))
    for _ in range(VISIT):
        search.first_token(INITIAL, 0.5)
    assert search.limit < INITIAL, "a lower one is tried"


@pytest.mark.parametrize(
    ("start", "in_flight", "limit"),
    [(20, 20, 18), (20, 10, 9), (20, 1, 1), (18, 20, 18), (9, 20, 9), (2, 2, 1)],
)
def test_a_refusal_lowers_it_below_what_was_in_flight(
    start: int, in_flight: int, limit: int
) -> None:
    search = Search(bounds_of(None), start)
    search.refused(in_flight)
    assert search.limit == limit
    search.refused(in_flight)
    assert search.limit == limit, "another of the same burst says nothing new"


def test_after_a_refusal_steps_of_one_raise_it_again() -> None:
    search = Search(bounds_of(None), 40)
    search.refused(40)
    seen = [search.limit]
    while search.limit < 40:
        search.first_token(search.limit, 0.5)
        if search.limit != seen[-1]:
            seen.append(search.limit)
    raised = [limit for limit in seen if limit == max(seen[: seen.index(limit) + 1])]
    assert raised == [36, 37, 38, 39, 40]


def test_quick_ones_are_not_held_back() -> None:
    """An engine that answers at once is no reason to queue, whatever its times say."""
    search = Search(bounds_of(None))
    for _ in range(20 * PLENTY):
        search.first_token(search.limit, 0.0005 * search.limit)
    assert search.limit >= INITIAL


WORKLOADS = {
    "linear up to 16 slots": (Engine(queueing.linear, slots=16), (8, 12, 16, 24, 32, 64)),
    "collapses beyond 6": (Engine(queueing.collapsing(6)), (2, 4, 5, 6, 7, 8, 12)),
    "collapses beyond 30": (Engine(queueing.collapsing(30)), (16, 25, 30, 35, 64)),
    "flat": (Engine(queueing.flat), (1, 2, 4, 8, 32)),
}


@pytest.mark.parametrize("spread", [0.0, 0.5])
@pytest.mark.parametrize("name", WORKLOADS)
def test_it_serves_as_many_as_the_best_fixed_limit_but_for_a_twentieth(
    name: str, spread: float
) -> None:
    engine, limits = WORKLOADS[name]
    engine = dataclasses.replace(engine, spread=spread)
    fixed = [queueing.Run(engine, n, random.Random(7)).run(1000) for n in limits]
    searches = [queueing.Run(engine, Search(bounds_of(None)), random.Random(n)) for n in range(3)]
    found = [search.run(3000) for search in searches]
    most = max(f.per_second for f in fixed)
    assert statistics.mean(f.per_second for f in found) >= 0.95 * most
    as_good = [f.first_token_p95 for f in fixed if f.per_second >= 0.95 * most]
    waits = statistics.mean(f.first_token_p95 for f in found)
    assert waits <= 1.15 * max(as_good)  # trials make some wait longer


# -- the places of a replica ----------------------------------------------------------------------


def ask(rank: int = 1, since: float = table.NOW) -> Waiter:
    return Waiter(table.NoOutcome(), True, rank, since)


def facts(sequence: int, **fields: Any) -> Facts:
    return Facts("w", "p", 1, sequence, Phase.READY, table.PORT, 7, **fields)


def hot(**of_model: Any) -> tuple[Replica, Run]:
    """HOT, its worker heard of: no requests, no word of slots."""
    replica = next(s for s in table.SITUATIONS if (s.state, s.detail) == (State.HOT, "is idle"))
    made = replica.make()
    made.model = dataclasses.replace(made.model, **of_model)
    assert made.run is not None
    tell(made, 10, requests_total=1)
    return made, made.run


def tell(replica: Replica, sequence: int, **fields: Any) -> list[Any]:
    assert replica.run is not None
    return decide(replica, m.Reported(replica.run, facts(sequence, **fields)), table.context())


def ask_all(replica: Replica, count: int, rank: int = 1) -> list[Waiter]:
    asked = [ask(rank) for _ in range(count)]
    for each in asked:
        decide(replica, m.Acquire(each), table.context())
    return asked


def end(run: Run, use: Use = USED, in_flight: int = 1) -> m.RequestEnded:
    return m.RequestEnded(run, 0, in_flight, use)


@pytest.mark.parametrize(
    ("setting", "slots", "limit"),
    [
        (None, None, INITIAL),
        (None, 0, None),
        (None, 4, 4),
        ("adaptive", 1, 1),
        ("unlimited", 4, None),
        (3, 8, 3),
        (30, None, 30),
    ],
)
def test_the_setting_and_the_slots_make_the_limit(
    setting: Any, slots: int | None, limit: int | None
) -> None:
    replica, run = hot(concurrency_limit=setting)
    tell(replica, 11, slots=slots, requests_total=1)
    assert run.limit == limit
    assert (run.search is None) == (setting not in (None, "adaptive") or slots == 0)


def test_requests_beyond_the_limit_wait_and_get_the_places_of_those_that_end() -> None:
    replica, run = hot(concurrency_limit=2)
    ask_all(replica, 5)
    assert (run.granted, len(replica.waiters)) == (2, 3)
    decide(replica, end(run), table.context())
    assert (run.granted, len(replica.waiters)) == (2, 2)


def test_the_most_urgent_gets_the_next_place() -> None:
    replica, run = hot(concurrency_limit=1)
    ask_all(replica, 1)
    low, normal, high = ask(2), ask(1), ask(0)
    for each in (low, normal, high):
        decide(replica, m.Acquire(each), table.context())
    served = []
    for _ in range(3):
        issued = [c for c in decide(replica, end(run), table.context()) if hasattr(c, "waiter")]
        served += [c.waiter for c in issued]
    assert served == [high, normal, low]


def test_requests_straight_to_the_port_take_places_but_never_the_last() -> None:
    replica, run = hot(concurrency_limit=3)
    tell(replica, 11, in_flight=2, direct=2, requests_total=3)
    ask_all(replica, 3)
    assert (run.granted, len(replica.waiters)) == (1, 2)
    tell(replica, 12, in_flight=9, direct=8, requests_total=9)
    decide(replica, end(run), table.context())
    assert (run.granted, len(replica.waiters)) == (1, 1), "one of the pool's own always"
    tell(replica, 13, in_flight=1, direct=0, requests_total=9)
    assert (run.granted, len(replica.waiters)) == (2, 0), "the places are free again"


def test_a_grant_whose_work_is_done_takes_no_place() -> None:
    """Its client reads slowly, or it was lost: the worker has been idle for long."""
    replica, run = hot(concurrency_limit=2)
    ask_all(replica, 4)
    assert len(replica.waiters) == 2
    tell(replica, 11, idle_seconds=60.0, requests_total=1)
    assert len(replica.waiters) == 2, "it may not have reached the worker yet"
    run.granted_at -= 60.0
    tell(replica, 12, idle_seconds=60.0, requests_total=3)
    assert len(replica.waiters) == 0
    assert run.granted == 4
    tell(replica, 13, in_flight=4, requests_total=5)
    assert run.room == 0, "they are at work after all"
    for _ in range(4):
        decide(replica, end(run), table.context())
    assert (run.granted, run.room) == (0, 2)


def test_what_the_engine_refuses_lowers_the_limit_and_nothing_else_ends() -> None:
    replica, run = hot()
    ask_all(replica, INITIAL + 5)
    assert run.granted == INITIAL
    decide(replica, end(run, Use(is_overload=True), INITIAL), table.context())
    assert (run.limit, run.granted, len(replica.waiters)) == (18, 19, 5)
    decide(replica, end(run), table.context())
    assert (run.granted, len(replica.waiters)) == (18, 5)
    decide(replica, end(run), table.context())
    assert (run.granted, len(replica.waiters)) == (18, 4)


def test_a_death_for_lack_of_memory_lowers_where_the_next_search_begins() -> None:
    replica, run = hot()
    assert run.worker is not None
    decide(replica, m.Exited(run, 3), table.context())
    oom = dataclasses.replace(table.FAILURE, code="oom")
    decide(replica, m.Reaped(run, table.ExitReport(3, oom), table.HELD), table.context())
    assert replica.limit_after_oom == 18


def test_a_full_queue_turns_away_who_comes_not_who_waits() -> None:
    replica, _ = hot(concurrency_limit=1)
    ask_all(replica, 1)
    config = table.context().config.model_copy(update={"max_waiting_requests": 2})
    context = table.context()._replace(config=config)
    outcomes = [decide(replica, m.Acquire(ask()), context) for _ in range(3)]
    assert [[type(c).__name__ for c in each] for each in outcomes] == [[], [], ["Shed"]]
    decide(replica, m.Acquire(ask(), is_forwarded=True), context)
    assert len(replica.waiters) == 3


def test_a_higher_limit_serves_at_once() -> None:
    replica, run = hot(concurrency_limit=1)
    ask_all(replica, 3)
    replica.model = dataclasses.replace(replica.model, concurrency_limit=2)
    decide(replica, m.ConfigChanged(), table.context())
    assert (run.granted, len(replica.waiters)) == (2, 1)


# -- in a pool ------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    without_threads(monkeypatch)


def in_pool(scene: Callable[[SimWorld], Any], *models: Any, **config: Any) -> None:
    async def run() -> None:
        world = SimWorld(list(models), **config)
        await scene(world)
        world.check()
        assert not world.bugs
        await world.pool.stop()

    run_virtual(run())


AGEING = 5.0


@dataclasses.dataclass
class Client:
    """Asks, works for a while, gives the grant back."""

    world: SimWorld
    priority: str = "normal"
    seconds: float = 1.0
    came: float = 0.0
    began: float | None = None
    error: ModelPoolError | None = None
    port: int = 0

    async def run(self) -> None:
        self.came = self.world.clock.now()
        try:
            grant = await self.world.pool.acquire("m", priority=self.priority)
        except ModelPoolError as e:
            self.error = e
            return
        self.began, self.port = self.world.clock.now(), grant.port
        processes = [p for p in self.world.alive() if p.assignment.worker_id == grant.worker_id]
        await processes[0].serve(self.seconds, is_direct=False)
        grant.release()


class Crowd:
    """Clients of one model, in the order in which they came."""

    def __init__(self, world: SimWorld) -> None:
        self.world = world
        self.clients: list[Client] = []
        self._tasks: list[asyncio.Task[None]] = []

    def send(self, count: int, priority: str = "normal", seconds: float = 1.0) -> list[Client]:
        sent = [Client(self.world, priority, seconds) for _ in range(count)]
        self.clients += sent
        self._tasks += [asyncio.ensure_future(client.run()) for client in sent]
        return sent

    async def served(self) -> list[Client]:
        """All, in the order in which they were."""
        await asyncio.gather(*self._tasks)
        return sorted((c for c in self.clients if c.began is not None), key=lambda c: c.began or 0)


def test_low_is_served_in_bounded_time_under_a_stream_of_high_ones() -> None:
    async def scene(world: SimWorld) -> None:
        crowd = Crowd(world)
        crowd.send(1)
        (low,) = crowd.send(1, "low")
        for _ in range(60):  # twice what can be served
            crowd.send(1, "high")
            await asyncio.sleep(0.5)
        before = [c for c in await crowd.served() if (c.began or 0) < (low.began or 0)]
        assert max(c.came for c in before) <= low.came + 2 * AGEING
        late = [c for c in crowd.clients if c.came > low.came + 2 * AGEING]
        assert late
        assert all((c.began or 0) > (low.began or 0) for c in late)

    in_pool(scene, model("m", concurrency_limit=1), priority_ageing_seconds=AGEING)


def test_within_a_class_first_come_is_first_served() -> None:
    async def scene(world: SimWorld) -> None:
        crowd = Crowd(world)
        for priority in ("normal", "low", "high") * 5:
            crowd.send(1, priority)
            await asyncio.sleep(0.01)
        served = await crowd.served()
        assert len(served) == 15
        for priority in ("high", "normal", "low"):
            of_class = [c.came for c in served if c.priority == priority]
            assert of_class == sorted(of_class)

    in_pool(scene, model("m", concurrency_limit=2))


def test_the_queue_of_a_hot_model_is_bounded_and_waits_no_longer_than_it_may() -> None:
    async def scene(world: SimWorld) -> None:
        crowd = Crowd(world)
        crowd.send(1, seconds=1000.0)
        await asyncio.sleep(5.0)
        waiting = crowd.send(3)
        await asyncio.sleep(1.0)
        turned_away = crowd.send(1, "high")
        await asyncio.sleep(1.0)
        status = world.pool.status("m")
        assert status.waiting_by_class == {"high": 0, "normal": 3, "low": 0}
        assert (status.limit, status.in_flight, status.waiting) == (1, 1, 3)
        text = status.describe_wait()
        assert text == "m is HOT, 1 of 1 requests in flight, 3 waiting for a place"
        await crowd.served()
        assert isinstance(turned_away[0].error, QueueFull)
        assert turned_away[0].error.retry_after == pytest.approx(1.0)
        for client in waiting:
            assert isinstance(client.error, PoolBusy)
            assert "a place on m" in client.error.message

    in_pool(
        scene,
        model("m", concurrency_limit=1),
        max_waiting_requests=3,
        load_wait_seconds=60,
        default_ttl_minutes=60,
    )


def test_those_who_waited_for_the_load_get_places_in_turn() -> None:
    async def scene(world: SimWorld) -> None:
        crowd = Crowd(world)
        for priority in ("low", "normal", "high"):
            crowd.send(2, priority)
            await asyncio.sleep(0.1)
        served = await crowd.served()
        assert [c.priority for c in served] == ["high"] * 2 + ["normal"] * 2 + ["low"] * 2

    in_pool(scene, model("m", concurrency_limit=2))


MANY = model("m", concurrency_limit=1, max_replicas=2, min_replicas=2)


def test_a_waiter_takes_whichever_copy_is_free_first() -> None:
    async def scene(world: SimWorld) -> None:
        crowd = Crowd(world)
        crowd.send(1, seconds=0.1)
        await asyncio.sleep(20.0)
        assert world.pool.status("m").state is State.HOT
        crowd.send(1, seconds=500.0)
        await asyncio.sleep(0.1)
        crowd.send(1, seconds=2.0)
        await asyncio.sleep(0.1)
        waiting = crowd.send(3, "low")
        await asyncio.sleep(0.1)
        urgent = crowd.send(1, "high")
        world.check()
        await asyncio.sleep(10.0)
        assert [c.port for c in [*urgent, *waiting]] == [crowd.clients[2].port] * 4
        served = sorted([*waiting, *urgent], key=lambda c: c.began or 0)
        assert served == [*urgent, *waiting]

    in_pool(scene, MANY, max_waiting_requests=10)


def test_who_waits_for_one_that_dies_is_served_by_another_copy() -> None:
    async def scene(world: SimWorld) -> None:
        crowd = Crowd(world)
        crowd.send(1, seconds=0.1)
        await asyncio.sleep(20.0)
        crowd.send(2, seconds=5.0)
        await asyncio.sleep(0.1)
        waiting = crowd.send(2)
        await asyncio.sleep(0.1)
        first = world.pool.sets["m"].first
        assert len(first.replica.waiters) == 2
        world.scripts["m"].refuse_launch = "no such program"
        assert first.replica.run is not None
        for process in world.alive("m"):
            if process.assignment.worker_id == first.replica.run.worker_id:
                process.was_told_to_end = True
                process.die(-9)
        await asyncio.sleep(1.0)
        world.check()
        assert len(first.replica.waiters) == 0
        assert len(world.pool.sets["m"].supervisors[1].replica.waiters) == 2
        await crowd.served()
        assert all(c.error is None for c in waiting)

    in_pool(scene, MANY)


def test_a_place_that_its_port_has_left_goes_to_who_waits_for_another_copy() -> None:
    async def scene(world: SimWorld) -> None:
        crowd = Crowd(world)
        crowd.send(1, seconds=0.1)
        await asyncio.sleep(20.0)
        crowd.send(4, seconds=50.0)  # two on each copy, which is all that there are places for
        await asyncio.sleep(0.1)
        second = world.pool.sets["m"].supervisors[1].replica.run
        assert second is not None
        crowd.send(1, seconds=1.0)
        await asyncio.sleep(0.1)
        for replica in world.pool.sets["m"].replicas:
            replica.model = dataclasses.replace(replica.model, concurrency_limit=3)
        world.pool.reconfigure(world.pool.config)
        await asyncio.sleep(0.1)
        world.check()
        assert len(world.replica("m").waiters) == 0
        processes = {p.assignment.worker_id: p for p in world.alive()}
        direct = asyncio.ensure_future(processes[second.worker_id].serve(5.0))
        await asyncio.sleep(2.0)
        assert second.room == 0
        waiting = crowd.send(2, seconds=10.0)
        await asyncio.sleep(0.1)
        assert waiting[1].began is None
        await direct
        await asyncio.sleep(0.1)
        assert waiting[1].began is not None
        world.check()
        await crowd.served()

    entry = model("m", concurrency_limit=2, max_replicas=2, min_replicas=2)
    in_pool(scene, entry, default_ttl_minutes=0)


def test_load_grows_with_who_waits_and_another_copy_takes_some() -> None:
    async def scene(world: SimWorld) -> None:
        crowd = Crowd(world)
        crowd.send(20, seconds=5.0)
        served = await crowd.served()
        assert len({c.port for c in served}) == 2
        assert len(served) == 20

    in_pool(scene, model("m", concurrency_limit=2, max_replicas=2))


def test_an_unload_tells_those_who_wait_for_a_place() -> None:
    async def scene(world: SimWorld) -> None:
        crowd = Crowd(world)
        crowd.send(1, seconds=5.0)
        await asyncio.sleep(3.0)
        waiting = crowd.send(2)
        await asyncio.sleep(0.1)
        await world.pool.unload("m", "asked")
        await crowd.served()
        assert all(isinstance(c.error, LoadCancelled) for c in waiting)

    in_pool(scene, model("m", concurrency_limit=1))


def test_the_slots_that_a_worker_reports_are_the_limit() -> None:
    async def scene(world: SimWorld) -> None:
        world.scripts["m"] = Script(slots=3)
        crowd = Crowd(world)
        crowd.send(10)
        await asyncio.sleep(1.5)
        assert (world.run_of("m").granted, world.run_of("m").limit) == (3, 3)
        assert len(await crowd.served()) == 10

    in_pool(scene, model("m"))


def test_who_leaves_the_queue_of_a_hot_model_leaves_nothing_behind() -> None:
    async def scene(world: SimWorld) -> None:
        pool = world.pool
        grant = await pool.acquire("m")
        waiting = [asyncio.ensure_future(pool.acquire("m")) for _ in range(3)]
        await asyncio.sleep(0.1)
        for each in waiting[:2]:
            each.cancel()
        await asyncio.sleep(0.1)
        assert pool.try_acquire("m") is None
        grant.release()
        waiting[2].cancel()  # in the moment in which it is granted
        await asyncio.sleep(0.1)
        assert (world.run_of("m").granted, len(world.replica("m").waiters)) == (0, 0)

    in_pool(scene, model("m", concurrency_limit=1))
