"""The lifecycle of one replica under virtual time, with simulated workers."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from modelpool.config import patched
from modelpool.pool.states import State
from modelpool.pool.waiters import UNUSED
from modelpool_client.errors import (
    CannotFit,
    Conflict,
    LoadCancelled,
    LoadFailed,
    LoadTimeout,
    ModelPoolError,
    NoPortFree,
    UnloadProtected,
)
from support.sim import Script, SimWorld, model, without_threads
from support.virtual_time import run_virtual


@pytest.fixture(autouse=True)
def _no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    without_threads(monkeypatch)


def play(scene: Callable[[SimWorld], Awaitable[None]], *models: Any, **config: Any) -> SimWorld:
    async def main() -> SimWorld:
        world = SimWorld(list(models) or [model("m")], **config)
        try:
            await scene(world)
            world.check()
        finally:
            await world.pool.stop()
        world.check()
        assert not world.alive()
        assert not world.records
        return world

    return run_virtual(main())


async def use(world: SimWorld, model_id: str = "m", seconds: float = 1.0) -> None:
    grant = await world.pool.acquire(model_id)
    try:
        await asyncio.sleep(seconds)
    finally:
        grant.release()


def test_first_request_loads_then_idles_out() -> None:
    async def scene(world: SimWorld) -> None:
        await use(world)
        assert world.replica("m").state is State.HOT
        await asyncio.sleep(15 * 60 - 1)
        assert world.replica("m").state is State.HOT
        await asyncio.sleep(2)
        assert world.replica("m").state is State.COOLING
        await asyncio.sleep(125)
        assert world.replica("m").state is State.COLD

    world = play(scene)
    assert world.moves("m") == ["COLD", "WARMING", "HOT", "COOLING", "UNLOADING", "COLD"]
    assert all(reason for *_, reason in world.events)


def test_use_while_cooling_brings_it_back() -> None:
    async def scene(world: SimWorld) -> None:
        await use(world)
        await asyncio.sleep(15 * 60 + 30)
        assert world.replica("m").state is State.COOLING
        await use(world)
        assert world.replica("m").state is State.HOT
        assert len(world.processes) == 1

    play(scene)


def test_direct_traffic_alone_keeps_it_hot() -> None:
    async def scene(world: SimWorld) -> None:
        await use(world)
        for _ in range(20):
            await asyncio.sleep(10 * 60)
            assert await world.processes[0].serve(5)
            assert world.replica("m").state is State.HOT

    play(scene)


def test_direct_use_while_cooling_brings_it_back() -> None:
    async def scene(world: SimWorld) -> None:
        await use(world)
        await asyncio.sleep(15 * 60 + 30)
        await world.processes[0].serve(5)
        assert world.replica("m").state is State.HOT
        await asyncio.sleep(14 * 60)
        assert world.replica("m").state is State.HOT

    play(scene)


def test_a_long_request_is_not_idle() -> None:
    async def scene(world: SimWorld) -> None:
        await use(world, seconds=3600)
        assert world.moves("m") == ["COLD", "WARMING", "HOT"]

    play(scene)


def test_a_hundred_first_requests_share_one_load() -> None:
    async def scene(world: SimWorld) -> None:
        await asyncio.gather(*(use(world) for _ in range(100)))
        assert len(world.processes) == 1

    play(scene)


def test_a_client_that_leaves_does_not_stop_the_load() -> None:
    async def scene(world: SimWorld) -> None:
        first = asyncio.ensure_future(use(world))
        await asyncio.sleep(0.5)
        second = asyncio.ensure_future(use(world))
        first.cancel()
        await second
        third = asyncio.ensure_future(use(world))
        await asyncio.sleep(0)
        third.cancel()
        await asyncio.sleep(10)
        assert not world.replica("m").is_busy

    play(scene)


def test_all_clients_leave_and_the_load_goes_on() -> None:
    async def scene(world: SimWorld) -> None:
        first = asyncio.ensure_future(use(world))
        await asyncio.sleep(0.5)
        first.cancel()
        await asyncio.sleep(1)
        assert world.replica("m").state is State.HOT

    play(scene)


def test_waiting_ends_at_the_deadline_and_says_for_what() -> None:
    async def scene(world: SimWorld) -> None:
        world.scripts["m"] = Script(never_ready=True)
        with pytest.raises(LoadTimeout, match="the load"):
            await use(world)

    play(scene, load_wait_seconds=20)


def test_a_stalled_load_is_given_up_with_a_reason() -> None:
    async def scene(world: SimWorld) -> None:
        world.scripts["m"] = Script(never_ready=True)
        with pytest.raises(LoadFailed, match="no progress") as e:
            await use(world)
        assert e.value.code == "timeout"
        assert world.replica("m").state is State.FAILED

    play(scene, load_stall_seconds=30)


def test_a_slow_load_that_progresses_lives() -> None:
    async def scene(world: SimWorld) -> None:
        world.scripts["m"] = Script(load_seconds=200, progress_every=10)
        await use(world)

    play(scene, load_stall_seconds=15)


def test_a_failed_load_answers_all_and_cools_off() -> None:
    async def scene(world: SimWorld) -> None:
        world.scripts["m"] = Script(fail_load="bad_file")
        results = await asyncio.gather(*(use(world) for _ in range(5)), return_exceptions=True)
        assert [getattr(r, "code", None) for r in results] == ["bad_file"] * 5
        with pytest.raises(LoadFailed, match="last line") as e:
            await use(world)
        assert e.value.retry_after is not None
        assert len(world.processes) == 1
        world.scripts["m"].fail_load = ""
        await asyncio.sleep(10.1)
        await use(world)

    play(scene)


def test_an_explicit_load_does_not_wait_for_the_cooling_off() -> None:
    async def scene(world: SimWorld) -> None:
        world.scripts["m"] = Script(fail_load="oom")
        with pytest.raises(LoadFailed):
            await world.pool.load("m", "asked", wait=60)
        world.scripts["m"].fail_load = ""
        await world.pool.load("m", "asked", wait=60)
        assert world.replica("m").state is State.HOT

    play(scene)


def test_unload_drains_and_the_port_comes_back() -> None:
    async def scene(world: SimWorld) -> None:
        request = asyncio.ensure_future(use(world, seconds=5))
        await asyncio.sleep(2)
        await world.pool.unload("m", "asked")
        assert world.replica("m").state is State.COLD
        assert world.pool.ports.available == 49
        await request

    play(scene)


def test_a_request_during_unloading_loads_again() -> None:
    async def scene(world: SimWorld) -> None:
        await use(world)
        direct = asyncio.ensure_future(world.processes[0].serve(5))
        await asyncio.sleep(0)
        ended = world.pool.unload("m", "asked")
        assert world.replica("m").state is State.UNLOADING
        await use(world)
        assert await direct
        assert ended.done()
        assert len(world.processes) == 2

    play(scene)


def test_unload_while_warming_cancels_the_load() -> None:
    async def scene(world: SimWorld) -> None:
        request = asyncio.ensure_future(use(world))
        await asyncio.sleep(0.5)
        await world.pool.unload("m", "asked")
        with pytest.raises(LoadCancelled, match="asked"):
            await request

    play(scene)


@pytest.mark.parametrize("moment", [0.0, 0.001, 0.005, 0.011, 0.0125, 0.5, 1.02])
def test_unload_at_every_moment_of_a_load(moment: float) -> None:
    async def scene(world: SimWorld) -> None:
        request = asyncio.ensure_future(use(world))
        await asyncio.sleep(moment)
        await world.pool.unload("m", "asked")
        await asyncio.gather(request, return_exceptions=True)
        await asyncio.sleep(100)
        assert not world.alive()

    play(scene)


def test_warm_up_and_pinned_models_need_force() -> None:
    async def scene(world: SimWorld) -> None:
        await world.pool.load("m", "warm-up", wait=60)
        with pytest.raises(UnloadProtected, match="force"):
            await world.pool.unload("m", "asked")
        await world.pool.unload("m", "asked", force=True, cut=True)
        assert world.replica("m").state is State.COLD
        await asyncio.sleep(1000)
        assert world.replica("m").state is State.COLD

    play(scene, model("m", warmup=True))


def test_a_worker_deaf_to_term_is_killed() -> None:
    async def scene(world: SimWorld) -> None:
        world.scripts["m"] = Script(ignore_term=True)
        await use(world)
        await world.pool.unload("m", "asked")
        assert not world.alive()

    play(scene)


def test_a_worker_deaf_to_drain_is_ended_all_the_same() -> None:
    async def scene(world: SimWorld) -> None:
        world.scripts["m"] = Script(deaf_to_drain=True)
        await use(world)
        await asyncio.sleep(18 * 60)
        assert world.replica("m").state is State.COLD

    play(scene)


def test_death_while_hot_backs_off_then_the_next_request_starts_it() -> None:
    async def scene(world: SimWorld) -> None:
        await use(world)
        world.processes[0].die(-9)
        await asyncio.sleep(0.1)
        replica = world.replica("m")
        assert replica.state is State.FAILED
        with pytest.raises(LoadFailed, match="SIGKILL"):
            await use(world)
        await asyncio.sleep(1)
        await use(world)

    play(scene)


def test_a_request_whose_worker_died_waits_for_the_next_one() -> None:
    async def scene(world: SimWorld) -> None:
        for _ in range(3):
            await use(world)
            world.alive()[0].die(-9)
            await asyncio.sleep(0.05)
            assert world.replica("m").state is State.FAILED
            (await world.pool.acquire("m", had_worker=True)).release()
        world.alive()[0].die(-9)
        await asyncio.sleep(0.05)
        with pytest.raises(LoadFailed, match="crashed 4 times"):
            await world.pool.acquire("m", had_worker=True)

    play(scene, crash_budget=3)


def test_a_warm_up_model_comes_back_by_itself_until_the_budget_is_spent() -> None:
    async def scene(world: SimWorld) -> None:
        await world.pool.load("m", "warm-up", wait=60)
        for _ in range(3):
            world.alive()[0].die(-11)
            await asyncio.sleep(30)
            assert world.replica("m").state is State.HOT
        world.alive()[0].die(-11)
        await asyncio.sleep(60)
        assert world.replica("m").state is State.FAILED
        assert "crashed 4 times" in world.replica("m").reason
        await asyncio.sleep(600)
        assert world.replica("m").state is State.HOT

    play(scene, model("m", warmup=True))


def test_death_in_the_moment_of_a_drain_loses_no_waiter() -> None:
    async def scene(world: SimWorld) -> None:
        await use(world)
        world.scripts["m"].deaf_to_drain = True
        await asyncio.sleep(17 * 60 + 0.05)
        request = asyncio.ensure_future(use(world))
        await asyncio.sleep(1)
        world.processes[0].die(-9)
        world.scripts["m"].deaf_to_drain = False
        await request
        assert len(world.processes) == 2

    play(scene)


def test_a_port_taken_by_a_stranger_is_stepped_over() -> None:
    async def scene(world: SimWorld) -> None:
        world.scripts["m"] = Script(strange_ports={8051, 8052})
        await use(world)
        assert world.run_of("m").port == 8053
        assert [e[2] for e in world.events].count("port-taken") == 2

    play(scene)


def test_a_model_that_is_listed_by_its_alias_has_the_port_of_the_list() -> None:
    async def scene(world: SimWorld) -> None:
        await use(world, "other")
        await use(world, "m")
        assert (world.run_of("m").port, world.run_of("other").port) == (8051, 8052)

    play(scene, model("other"), model("m", aliases=("x",)), warmup_models=["x"])


def test_all_ports_taken_is_said() -> None:
    async def scene(world: SimWorld) -> None:
        world.scripts["m"] = Script(strange_ports=set(range(8051, 8100)))
        with pytest.raises(NoPortFree):
            await use(world)

    play(scene)


def test_a_launch_that_fails_is_a_failed_load() -> None:
    async def scene(world: SimWorld) -> None:
        world.scripts["m"] = Script(refuse_launch="no such program")
        with pytest.raises(LoadFailed, match="no such program"):
            await use(world)

    play(scene)


def test_extend_adds_up_to_the_maximum_and_says_what_it_granted() -> None:
    async def scene(world: SimWorld) -> None:
        replica = world.replica("m")
        with pytest.raises(Conflict, match="COLD"):
            world.pool.extend("m", 60)
        await use(world)
        assert world.pool.extend("m", 30 * 60) == pytest.approx(30 * 60)
        assert world.pool.extend("m", 60 * 60) == pytest.approx(15 * 60)
        await asyncio.sleep(59 * 60)
        assert replica.state is State.HOT
        await asyncio.sleep(61)
        assert replica.state is State.COOLING
        world.pool.extend("m", 600)
        assert replica.state.value == "HOT"

    play(scene)


def test_an_extension_that_was_granted_outlives_another_ttl() -> None:
    async def scene(world: SimWorld) -> None:
        replica = world.replica("m")
        await use(world)
        world.pool.extend("m", 30 * 60)
        for minutes in (5, 0, 5):
            config = world.pool.config
            world.pool.reconfigure(patched(config, {"default_ttl_minutes": minutes}))
        await asyncio.sleep(44 * 60)
        assert replica.state is State.HOT
        await asyncio.sleep(2 * 60)
        assert replica.state is State.COOLING

    play(scene)


def test_ttl_zero_never_idles_out_but_makes_room() -> None:
    async def scene(world: SimWorld) -> None:
        await use(world, "keep")
        await asyncio.sleep(100 * 3600)
        assert world.replica("keep").state is State.HOT
        await use(world, "other")
        assert world.replica("keep").state is State.COLD

    play(scene, model("keep", ttl_minutes=0), model("other"), max_concurrent_models=1)


def test_auto_unload_off_never_idles_out() -> None:
    async def scene(world: SimWorld) -> None:
        await use(world)
        await asyncio.sleep(100 * 3600)
        assert world.replica("m").state is State.HOT

    play(scene, auto_unload=False)


def test_the_idle_make_room_and_the_busy_are_waited_for() -> None:
    async def scene(world: SimWorld) -> None:
        busy = asyncio.ensure_future(use(world, "a", seconds=20))
        await asyncio.sleep(2)
        await use(world, "b")
        await use(world, "c")
        assert world.replica("b").state is State.COLD
        assert world.replica("a").state is State.HOT
        both = [asyncio.ensure_future(use(world, m, seconds=50)) for m in "bc"]
        await asyncio.gather(busy, *both)

    play(scene, model("a"), model("b"), model("c"), max_concurrent_models=2)


def test_a_victim_busy_on_its_own_port_is_spared() -> None:
    async def scene(world: SimWorld) -> None:
        await use(world, "a")
        world.is_deaf = True  # the manager does not hear of the direct request
        direct = asyncio.ensure_future(world.processes[0].serve(10))
        await asyncio.sleep(0)
        world.is_deaf = False
        await use(world, "b")
        assert await direct
        assert world.processes[0].cut == 0

    play(scene, model("a"), model("b"), max_concurrent_models=1)


def test_what_can_never_fit_is_refused_at_once_with_numbers() -> None:
    async def scene(world: SimWorld) -> None:
        with pytest.raises(CannotFit, match=r"needs 2,000 MB.*1,000 MB"):
            await use(world, "big")
        assert asyncio.get_running_loop().time() < 1

    play(scene, model("big", memory_mb=2000), memory_limit_mb=1000)


def test_pinned_models_are_never_evicted() -> None:
    async def scene(world: SimWorld) -> None:
        await use(world, "pin")
        with pytest.raises(CannotFit, match="pinned"):
            await use(world, "b")

    play(scene, model("pin", pinned=True), model("b"), max_concurrent_models=1)


def test_files_are_read_ahead_while_another_model_goes() -> None:
    async def scene(world: SimWorld) -> None:
        await use(world, "a")
        assert world.read_ahead_files == []  # there was nobody to wait for
        await use(world, "b")
        assert world.read_ahead_files == [("/b.gguf", "/draft.gguf")]
        await use(world, "no-file")
        assert len(world.read_ahead_files) == 1

    options = {"draft_model": "/draft.gguf"}
    file = dataclasses.replace(model("b"), source="/b.gguf", options=options)
    play(scene, model("a"), file, model("no-file"), max_concurrent_models=1)


def test_five_models_of_twice_the_budget_all_answer() -> None:
    async def scene(world: SimWorld) -> None:
        async def client(model_id: str) -> None:
            for _ in range(10):
                await use(world, model_id, 0.3)
                world.check()

        await asyncio.gather(*(client(f"m{i % 5}") for i in range(15)))

    models = [model(f"m{i}", memory_mb=400) for i in range(5)]
    play(scene, *models, memory_limit_mb=1000)


def test_stop_ends_everything_and_refuses_the_late() -> None:
    async def scene(world: SimWorld) -> None:
        await use(world)
        stopping = asyncio.ensure_future(world.pool.stop())
        await asyncio.sleep(0)
        with pytest.raises(ModelPoolError, match="shutting down"):
            await use(world)
        await stopping

    play(scene)


def test_those_who_wait_are_told_when_the_crash_budget_is_spent() -> None:
    async def scene(world: SimWorld) -> None:
        (await world.pool.acquire("m")).release()
        worker = world.alive("m")[0]
        worker.die(-11)
        await asyncio.sleep(0)
        waiting = asyncio.ensure_future(world.pool.acquire("m"))
        began = asyncio.get_running_loop().time()
        with pytest.raises(LoadFailed, match="SIGSEGV") as caught:
            await waiting
        assert asyncio.get_running_loop().time() - began < 10
        assert caught.value.retry_after

    play(scene, crash_budget=0)


def test_a_warm_up_model_that_ends_by_itself_is_not_started_over_and_over() -> None:
    async def scene(world: SimWorld) -> None:
        await world.pool.load("m", "warm-up", 60)
        for _ in range(30):
            await asyncio.sleep(10)
            for worker in world.alive("m"):
                worker.die(0)
        assert 2 <= len(world.processes) <= 5

    play(scene, model("m", warmup=True))


def test_a_longer_lease_brings_a_cooling_one_back() -> None:
    async def scene(world: SimWorld) -> None:
        await use(world)
        await asyncio.sleep(15 * 60 + 30)
        assert world.replica("m").state is State.COOLING
        world.pool.reconfigure(patched(world.pool.config, {"default_ttl_minutes": 30}))
        assert world.replica("m").state is State.HOT
        await asyncio.sleep(14 * 60)
        assert world.replica("m").state is State.HOT

    play(scene)


def test_a_request_that_the_engine_was_not_given_renews_no_lease() -> None:
    """However often one comes, in the lease or in the grace period."""

    async def scene(world: SimWorld) -> None:
        (await world.pool.acquire("m")).release()
        for _ in range(20):
            await asyncio.sleep(15)
            if (grant := world.pool.try_acquire("m")) is not None:
                grant.release(UNUSED)
        assert world.replica("m").state is State.COLD
        assert not [e for e in world.events if e[3] == "COOLING->HOT"]

    play(scene, default_ttl_minutes=1, grace_minutes=1)


def test_one_that_it_was_given_renews_it_when_it_ends() -> None:
    async def scene(world: SimWorld) -> None:
        (await world.pool.acquire("m")).release()
        await asyncio.sleep(90)
        assert world.replica("m").state is State.COOLING
        grant = world.pool.try_acquire("m")
        assert grant is not None
        await asyncio.sleep(90)
        assert world.replica("m").state is State.COOLING, "whether it is a use is not known yet"
        grant.release()
        assert world.replica("m").state is State.HOT
        await asyncio.sleep(50)
        assert world.replica("m").state is State.HOT

    play(scene, default_ttl_minutes=1, grace_minutes=1)
