"""How loads and workers end: in time, with the reason that is true, and nothing of it stays."""

from __future__ import annotations

import asyncio

import pytest
from modelpool.pool.states import State
from modelpool.pool.workers import CUT_SECONDS, SECOND_TERM_SECONDS
from modelpool_client.errors import LoadFailed, PoolBusy
from support.play import play
from support.sim import Script, SimWorld, model, without_threads

ONE = {"max_concurrent_models": 1, "beat_seconds": 10.0}


@pytest.fixture(autouse=True)
def _no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    without_threads(monkeypatch)


def now() -> float:
    return asyncio.get_running_loop().time()


def starts(world: SimWorld, name: str) -> list[str]:
    return [e[4] for e in world.events if e[1] == name and e[3].endswith("->WARMING")]


def said(world: SimWorld, event: str) -> list[str]:
    return [e[4] for e in world.events if e[2] == event]


# -- why it starts, and why it waits -----------------------------------------------------------


def test_a_start_says_what_it_is_for_and_no_former_one() -> None:
    async def scene(world: SimWorld) -> None:
        pool = world.pool
        (await pool.acquire("a")).release()
        await pool.load("a", "scheduled", None)  # it is HOT already
        await pool.unload("a", "test")
        (await pool.acquire("a")).release()
        assert starts(world, "a") == ["loading: a request came"] * 2
        world.scripts["b"].fail_loads = ["bad_file"]
        with pytest.raises(LoadFailed):
            await pool.load("b", "scheduled", 100)
        await asyncio.sleep(100)
        (await pool.acquire("b")).release()
        assert starts(world, "b") == ["loading: scheduled", "loading: a request came"]

    play(scene, model("a"), model("b"))


def test_a_start_without_a_wish_says_that_it_is_to_be_kept_warm() -> None:
    async def scene(world: SimWorld) -> None:
        await world.pool.load("a", "warm-up", 100)
        world.processes[-1].die(-9)
        await asyncio.sleep(10)
        assert starts(world, "a") == ["loading: warm-up", "loading: it is to be kept warm"]

    play(scene, model("a", warmup=True), beat_seconds=10.0)


def test_who_waits_says_for_what_from_the_first_event_on() -> None:
    async def scene(world: SimWorld) -> None:
        grant = await world.pool.acquire("a")
        with pytest.raises(PoolBusy):
            await world.pool.acquire("b", wait=10)
        (why,) = said(world, "model-waiting")
        assert why == "b needs 100 MB; 1 of 1 models loaded: a 100 MB (busy)"
        await asyncio.sleep(0.01)
        assert world.replica("b").waiting_for == "", "nobody waits any more"
        grant.release()

    play(scene, model("a"), model("b"), **ONE)


def test_a_load_that_nobody_waits_on_is_not_given_up_in_silence() -> None:
    async def scene(world: SimWorld) -> None:
        grant = await world.pool.acquire("a")
        await world.pool.load("b", "asked for", None)
        await asyncio.sleep(400)
        replica = world.replica("b")
        assert (replica.key in world.pool.scheduler, replica.waiting_for) == (False, "")
        (why,) = said(world, "load-given-up")
        assert why.startswith("waited 300 s in vain: b needs 100 MB; 1 of 1 models loaded")
        grant.release()

    play(scene, model("a"), model("b"), **ONE)


def test_a_load_that_goes_on_is_not_given_up() -> None:
    async def scene(world: SimWorld) -> None:
        world.scripts["a"] = Script(load_seconds=400)
        await world.pool.load("a", "asked for", None)
        await asyncio.sleep(500)
        assert world.replica("a").state is State.HOT
        assert not said(world, "load-given-up")

    play(scene, model("a"))


# -- the end of a worker -----------------------------------------------------------------------


def test_a_forced_unload_does_not_wait_for_a_gentle_one_that_hangs() -> None:
    async def scene(world: SimWorld) -> None:
        await world.pool.load("m", "test", 100)
        worker = world.processes[-1]
        worker.was_told_to_end = True
        request = asyncio.ensure_future(worker.serve(1000))
        await asyncio.sleep(1)
        gentle = world.pool.unload("m", "gently")
        await asyncio.sleep(1)
        worker.script.front_hangs = worker.script.engine_hangs = True
        began = now()
        await world.pool.unload("m", "by force", force=True, cut=True)
        assert now() - began <= SECOND_TERM_SECONDS + CUT_SECONDS + 0.1
        assert await gentle
        assert not await request

    play(scene, model("m"), beat_seconds=10.0)


def test_without_back_off_what_died_starts_again_at_once() -> None:
    async def scene(world: SimWorld) -> None:
        await world.pool.load("m", "test", 100)
        world.processes[-1].die(-9)
        await asyncio.sleep(2)
        assert world.replica("m").state is State.HOT

    play(scene, model("m", warmup=True), restart_backoff_seconds=0)


def test_what_nobody_has_used_since_goes_and_what_somebody_has_stays() -> None:
    async def scene(world: SimWorld) -> None:
        pool = world.pool
        (await pool.acquire("a")).release()
        since = now()
        await asyncio.sleep(1)
        (await pool.acquire("a")).release()
        pool.unload_if_unused("a", since, "no more wanted")
        await asyncio.sleep(1)
        assert world.replica("a").state.is_serving, "it was used since"
        grant = await pool.acquire("a")
        pool.unload_if_unused("a", now(), "no more wanted")
        await asyncio.sleep(1)
        assert world.replica("a").state.is_serving, "it is at work"
        grant.release()
        pool.unload_if_unused("a", now(), "no more wanted")
        await asyncio.sleep(10)
        assert world.replica("a").state is State.COLD
        assert not [e for e in world.events if e[2] == "model-evicted"]

    play(scene, model("a"))
