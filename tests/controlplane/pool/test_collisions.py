"""Two things at once, each harmless alone. Every scene here was once a fault."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from modelpool.pool.messages import Extend
from modelpool.pool.states import State
from modelpool_client.errors import LoadFailed, ModelNotFound, ModelPoolError
from modelpool_client.wire import DrainRequest, Phase
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


def slowly_reaped(world: SimWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process group of a dead worker takes a while to go, as it does in life."""

    async def group_gone(self: Any, timeout: float) -> bool:
        await asyncio.sleep(0.2)
        return True

    monkeypatch.setattr("support.sim.SimProcess.group_gone", group_gone)


def test_room_is_wanted_while_a_failed_load_is_reaped(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(world: SimWorld) -> None:
        slowly_reaped(world, monkeypatch)
        world.scripts["a"] = Script(fail_load="oom")
        failing = asyncio.ensure_future(use(world, "a"))
        await asyncio.sleep(1.1)
        assert world.replica("a").is_leaving or world.replica("a").state is State.WARMING
        await use(world, "b")
        with pytest.raises(LoadFailed):
            await failing

    play(scene, model("a"), model("b"), max_concurrent_models=1)


def test_room_is_wanted_while_a_busy_worker_is_reaped(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(world: SimWorld) -> None:
        slowly_reaped(world, monkeypatch)
        busy = asyncio.ensure_future(use(world, "a", 30))
        await asyncio.sleep(2)
        world.processes[0].die(-9)
        await asyncio.sleep(0.1)
        await use(world, "b")
        await busy

    play(scene, model("a"), model("b"), max_concurrent_models=1)


def test_room_is_wanted_while_a_load_moves_to_another_port(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scene(world: SimWorld) -> None:
        slowly_reaped(world, monkeypatch)
        world.scripts["a"] = Script(strange_ports={8051})
        loading = asyncio.ensure_future(use(world, "a"))
        await asyncio.sleep(0.1)
        assert world.replica("a").state is State.WARMING
        assert not world.alive("a")
        second = asyncio.ensure_future(use(world, "b"))
        await loading
        await second

    play(scene, model("a"), model("b"), max_concurrent_models=1)


def test_who_leaves_in_the_moment_of_the_grant_gives_it_back() -> None:
    async def scene(world: SimWorld) -> None:
        world.scripts["m"] = Script(never_ready=True)
        asking = asyncio.ensure_future(world.pool.acquire("m"))
        await asyncio.sleep(5)
        worker = world.processes[0]
        worker.phase = Phase.READY
        worker.report()
        assert world.run_of("m").granted == 1
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert world.run_of("m").granted == 0

    play(scene)


def test_a_failed_one_that_waits_for_room_waits_quietly() -> None:
    async def scene(world: SimWorld) -> None:
        world.scripts["a"] = Script(fail_load="oom")
        with pytest.raises(LoadFailed):
            await use(world, "a")
        world.scripts["a"] = Script()
        busy = asyncio.ensure_future(use(world, "b", 60))
        await asyncio.sleep(20)
        await use(world, "a")
        await busy

    play(scene, model("a"), model("b"), max_concurrent_models=1)


def test_the_pool_stops_while_someone_waits_for_the_next_load() -> None:
    async def scene(world: SimWorld) -> None:
        await use(world)
        direct = asyncio.ensure_future(world.processes[0].serve(5))
        await asyncio.sleep(0)
        ended = world.pool.unload("m", "asked")
        waiting = asyncio.ensure_future(use(world))
        await asyncio.sleep(0)
        await world.pool.stop()
        await asyncio.sleep(0)
        assert waiting.done()
        with pytest.raises(ModelPoolError, match="shutting down"):
            await waiting
        assert await direct
        await ended

    play(scene)


def test_a_worker_that_cannot_be_written_down_is_not_left_running() -> None:
    async def scene(world: SimWorld) -> None:
        world.broken_journal = "worker_started"
        with pytest.raises(LoadFailed, match="disk full"):
            await use(world)
        assert not world.alive()

    play(scene)


@pytest.mark.parametrize("error", ["", "no such program"])
def test_a_launch_that_was_given_up_stays_on_record_until_it_has_come(error: str) -> None:
    """A manager that dies meanwhile leaves a record to look for it by."""

    async def scene(world: SimWorld) -> None:
        world.scripts["m"] = Script(launch_seconds=100.0, refuse_launch=error)
        with pytest.raises(LoadFailed, match="no process was there after 60 s"):
            await use(world)
        assert len(world.records) == 1
        await asyncio.sleep(39.0)
        assert len(world.records) == 1
        assert not world.alive()
        await asyncio.sleep(2.0)
        assert not world.records
        assert not world.alive()
        assert len(world.processes) == (not error)

    play(scene)


def test_two_delete_one_model() -> None:
    async def scene(world: SimWorld) -> None:
        await use(world)
        await asyncio.gather(world.pool.remove("m"), world.pool.remove("m"))
        assert not world.pool.has("m")
        for ask in (world.pool.acquire("m"), world.pool.remove("m"), world.pool.load("m", "", 1)):
            with pytest.raises(ModelNotFound):
                await ask

    play(scene)


def test_a_late_second_deletion_spares_the_model_of_the_same_name() -> None:
    async def scene(world: SimWorld) -> None:
        await use(world)
        second = asyncio.ensure_future(world.pool.remove("m"))
        await asyncio.sleep(0)
        await world.pool.remove("m")
        world.pool.add(model("m"))
        fresh = world.replica("m")
        await second
        assert world.replica("m") is fresh

    play(scene)


def test_work_ends_in_peace_when_an_operator_stops_the_worker() -> None:
    """The worker drains by itself then; a second TERM from us would cut what it is doing."""

    async def scene(world: SimWorld) -> None:
        await use(world)
        direct = asyncio.ensure_future(world.processes[0].serve(20))
        await asyncio.sleep(1)
        world.processes[0].terminate()
        assert await direct
        assert world.replica("m").state is not State.HOT

    play(scene)


def test_force_cuts_a_worker_that_was_told_nothing_before() -> None:
    async def scene(world: SimWorld) -> None:
        await use(world)
        world.processes[0].was_told_to_end = True
        direct = asyncio.ensure_future(world.processes[0].serve(20))
        await asyncio.sleep(1)
        world.processes[0].drain(DrainRequest(None, "its manager was silent for too long"))
        await asyncio.sleep(1)
        assert world.replica("m").state is State.UNLOADING
        start = asyncio.get_running_loop().time()
        await world.pool.unload("m", "asked", force=True, cut=True)
        assert asyncio.get_running_loop().time() - start < 5
        assert not await direct

    play(scene)


def test_two_warm_up_models_in_the_room_of_one_do_not_chase_each_other() -> None:
    async def scene(world: SimWorld) -> None:
        for name in "ab":
            await world.pool.load(name, "warm-up", wait=None)
        await asyncio.sleep(3600)
        assert len(world.processes) <= 2

    models = [model("a", warmup=True), model("b", warmup=True)]
    play(scene, *models, max_concurrent_models=1)


def test_an_evicted_warm_up_model_lets_the_other_stay() -> None:
    async def scene(world: SimWorld) -> None:
        await world.pool.load("warm", "warm-up", wait=60)
        await use(world, "b")
        await asyncio.sleep(600)
        assert world.replica("b").state is State.HOT
        await use(world, "warm")
        assert world.replica("warm").state is State.HOT

    play(scene, model("warm", warmup=True), model("b"), max_concurrent_models=1)


def test_a_pinned_one_that_is_leaving_is_no_reason_to_refuse() -> None:
    async def scene(world: SimWorld) -> None:
        await use(world, "pin")
        ended = world.pool.unload("pin", "asked", force=True)
        await use(world, "b")
        await ended

    play(scene, model("pin", pinned=True), model("b"), max_concurrent_models=1)


def test_a_message_that_fails_does_not_hold_up_the_next() -> None:
    """One that comes while another is handled waits for its turn, too."""

    class Nothing:
        """No message of ours."""

    async def scene(world: SimWorld) -> None:
        done: list[object] = []
        supervisor = world.pool.sets["m"].first

        def outcome(value: int) -> Any:
            return SimpleNamespace(done=lambda: False, set_exception=lambda _: done.append(value))

        def post_three(_: object) -> None:
            supervisor.post(Extend(1.0, outcome(1)))
            supervisor.post(Nothing())  # type: ignore[arg-type]
            supervisor.post(Extend(1.0, outcome(2)))
            assert done == [], "in the middle of another"

        first = SimpleNamespace(done=lambda: False, set_exception=post_three)
        supervisor.post(Extend(1.0, first))
        assert done == [1, 2]
        assert [type(bug) for bug in world.bugs] == [KeyError]
        world.bugs.clear()

    play(scene)


def test_a_command_that_fails_does_not_hold_up_the_next() -> None:
    """Whoever is told of an event may have a bug; the worker is launched all the same."""

    async def scene(world: SimWorld) -> None:
        sound = world.replica_event

        def fails(name: str, *rest: Any) -> None:
            sound(name, *rest)
            raise ZeroDivisionError

        world.replica_event = fails  # type: ignore[method-assign]
        await use(world)
        assert {type(bug) for bug in world.bugs} == {ZeroDivisionError}
        world.replica_event = sound  # type: ignore[method-assign]
        world.bugs.clear()

    play(scene)


def test_a_worker_that_ends_before_its_answer_is_read_keeps_the_reason() -> None:
    async def scene(world: SimWorld) -> None:
        await use(world, "a")
        await use(world, "b")
        await asyncio.sleep(3600)

    world = play(scene, model("a"), model("b"), max_concurrent_models=1)
    reasons = {(e[1], e[4]) for e in world.events if e[3].endswith("->UNLOADING")}
    assert reasons == {
        ("a", "evicted to make room for b"),
        ("b", "idle: the lease and the grace period are over"),
    }
    assert [e[1] for e in world.events if e[2] == "model-evicted"] == ["a"]


def test_an_unload_is_no_eviction_though_one_was_under_way() -> None:
    async def scene(world: SimWorld) -> None:
        await use(world, "a", 60.0)
        world.scripts["a"].deaf_to_drain = True
        wanted = asyncio.ensure_future(world.pool.acquire("b"))
        await asyncio.sleep(0.01)
        assert world.replica("a").is_leaving, "it was asked to drain"
        await world.pool.unload("a", "asked for by the API")
        (await wanted).release()

    world = play(scene, model("a"), model("b"), max_concurrent_models=1)
    assert not [e for e in world.events if e[2] == "model-evicted"]


def test_an_explicit_load_does_not_wait_for_the_back_off_though_another_waits_already(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scene(world: SimWorld) -> None:
        await use(world)
        slowly_reaped(world, monkeypatch)
        world.alive("m")[0].die(1)
        await asyncio.sleep(0.01)
        assert world.replica("m").is_leaving
        await world.pool.load("m", "first", None)
        await asyncio.sleep(1)
        assert world.replica("m").state is State.FAILED
        await world.pool.load("m", "second", None)
        assert world.replica("m").state is State.WARMING
        await asyncio.sleep(10)

    play(scene, restart_backoff_seconds=60.0)
