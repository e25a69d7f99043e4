"""A worker that hangs with its port open is found and replaced; one that works is left alone."""

from __future__ import annotations

import asyncio
import contextlib
import errno
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelpool.pool.health import (
    MISSED_BEATS,
    HealthReport,
    Liveness,
    diagnosis,
    probe_request,
    progress_at,
    wants_probe,
)
from modelpool.pool.states import Lease, State
from modelpool_client.errors import LoadFailed
from modelpool_client.wire import Facts, Failure, Phase, ProbeReply, Progress
from support.play import play
from support.sim import Script, SimWorld, model, without_threads

HANG = 60.0


@pytest.fixture(autouse=True)
def _no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    without_threads(monkeypatch)


def facts(
    in_flight: int = 1, progress: float = 0.0, phase: Phase = Phase.READY, silent: float = 0.0
) -> Facts:
    known = Facts("w", "p", 1, 1, phase, 8051, 7, in_flight=in_flight)
    return replace(known, progress_seconds=progress, silent_seconds=silent)


def probed(
    progress: float, *, answered: bool = False, cpu: float | None = 0.0, in_flight: int = 1
) -> HealthReport:
    now = facts(in_flight, progress)
    return HealthReport(now, ProbeReply(answered, 10.0, now, cpu, "no token within 10 s"))


@given(heard=st.floats(0, 1e6), beat=st.floats(0.1, 100), worked=st.none() | st.floats(0, 1e6))
def test_a_health_check_is_due_when_beats_or_progress_are_missing(
    heard: float, beat: float, worked: float | None
) -> None:
    due = Liveness(heard, beat, worked).due(HANG)
    assert due <= heard + MISSED_BEATS * beat
    assert worked is None or due <= worked + HANG
    assert due in (heard + MISSED_BEATS * beat, (worked or 0.0) + HANG)


@pytest.mark.parametrize(
    ("now", "wanted"),
    [
        (facts(1, HANG), True),
        (facts(1, HANG - 1), False),
        (facts(0, HANG), True),  # its client has left
        (facts(0, 0.0), False),
        (facts(5, 1.0, silent=10 * HANG), True),  # others are served
        (facts(5, 1.0, silent=10 * HANG - 1), False),
        (facts(1, HANG, Phase.DRAINING), False),
        (facts(1, HANG, Phase.LOADING), False),
    ],
)
def test_only_work_without_progress_is_probed(now: Facts, wanted: bool) -> None:
    assert wants_probe(now, HANG) is wanted


@pytest.mark.parametrize(
    ("report", "said"),
    [
        (HealthReport(facts()), ""),
        (HealthReport(None), "does not answer"),
        (probed(70, answered=True), ""),
        (probed(70), "uses no processor time and gives no token"),
        (probed(70, cpu=None), ""),  # it may be at a long prompt
        (probed(601, cpu=None), "may compute but gives no token"),
        (probed(70, cpu=0.4), "uses no processor time"),
        (probed(70, cpu=9.0), ""),  # a long prompt
        (probed(601, cpu=9.0), "computes but gives no token"),
        (probed(5), ""),  # it serves others
        (probed(70, in_flight=0), "uses no processor time"),
        (probed(5000, cpu=9.0, in_flight=0), ""),  # the long prompt of one who has left
    ],
)
def test_what_a_health_report_says(report: HealthReport, said: str) -> None:
    assert (said in diagnosis(report, HANG)) if said else (diagnosis(report, HANG) == "")


@given(st.integers(0, 3), st.floats(0, 1e4), st.floats(0, 1e4))
def test_a_probe_is_due_when_it_is_wanted(in_flight: int, progress: float, silent: float) -> None:
    now = facts(in_flight, progress, silent=silent if in_flight else 0.0)
    at = progress_at(now, 1e5, HANG)
    assert wants_probe(now, HANG) == (at is not None and round(1e5 - at, 6) >= HANG)
    assert (at is None) == (in_flight == 0 and progress == 0)


def test_the_last_probe_waits_for_its_turn() -> None:
    assert probe_request(facts(1, HANG), HANG).timeout_seconds < HANG
    assert probe_request(facts(1, 9 * HANG), HANG).timeout_seconds == HANG


@given(st.floats(0, 1000), st.none() | st.floats(0, 1000))
def test_an_adopted_lease_is_never_shorter(own: float, left: float | None) -> None:
    lease = Lease(900.0, own).at_least(left, 100.0)
    assert (lease.until or 0) >= own
    assert left is None or (lease.until or 0) >= 100.0 + left
    assert Lease(None).at_least(left, 0.0) == Lease(None)


async def load(world: SimWorld) -> Any:
    await world.pool.load("m", "test", 300)
    return world.processes[-1]


def now() -> float:
    return asyncio.get_running_loop().time()


def replaced(world: SimWorld) -> list[str]:
    return [reason for _, _, event, _, reason in world.events if event == "worker-replaced"]


def test_a_front_that_hangs_is_replaced() -> None:
    async def scene(world: SimWorld) -> None:
        worker = await load(world)
        world.scripts["m"] = Script(beat_seconds=10.0)
        worker.script.front_hangs = True
        await asyncio.sleep(34)
        assert worker.is_alive
        await asyncio.sleep(10)
        assert not worker.is_alive
        replica = world.replica("m")
        assert replica.state is State.FAILED
        assert replica.failures.failure is not None
        assert replica.failures.failure.code == "worker_hung"
        assert "does not answer" in replica.reason
        await asyncio.sleep(2)
        (await world.pool.acquire("m")).release()
        assert len(world.processes) == 2

    assert len(replaced(play(scene, model("m"), beat_seconds=10.0))) == 1


def test_an_engine_that_hangs_under_work_is_replaced_and_one_at_rest_is_not() -> None:
    async def scene(world: SimWorld) -> None:
        worker = await load(world)
        world.scripts["m"] = Script(beat_seconds=10.0)
        worker.script.engine_hangs = True
        await asyncio.sleep(400)
        assert worker.is_alive, "nobody asked anything of it"
        request = asyncio.ensure_future(worker.serve(1.0))
        await asyncio.sleep(85)
        assert not worker.is_alive
        assert not await request
        assert "uses no processor time" in replaced(world)[0]

    play(scene, model("m"), beat_seconds=10.0)


async def impatient(worker: Any, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await worker.serve(1.0)


def test_a_hung_engine_is_found_though_every_client_gives_up_early() -> None:
    async def scene(world: SimWorld) -> None:
        worker = await load(world)
        world.scripts["m"] = Script(beat_seconds=10.0)
        worker.script.engine_hangs = True
        began = now()
        while worker.is_alive and now() < began + 300:
            await impatient(worker, 20.0)
        assert now() < began + 100

    assert "the engine hangs" in replaced(play(scene, model("m"), beat_seconds=10.0))[0]


def test_one_client_that_gave_up_is_enough() -> None:
    async def scene(world: SimWorld) -> None:
        worker = await load(world)
        world.scripts["m"] = Script(beat_seconds=10.0)
        worker.script.engine_hangs = True
        await impatient(worker, 5.0)
        await asyncio.sleep(85)
        assert not worker.is_alive

    assert len(replaced(play(scene, model("m"), beat_seconds=10.0))) == 1


def test_a_slow_engine_whose_client_left_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(world: SimWorld) -> None:
        worker = await load(world)
        sound, asked = world.probe, []

        async def probe(of: Any, request: Any) -> ProbeReply:
            asked.append(now())
            return await sound(of, request)

        monkeypatch.setattr(world, "probe", probe)
        worker.script.engine_hangs = True
        await impatient(worker, 5.0)
        worker.script.engine_hangs = False
        await asyncio.sleep(600)
        assert len(asked) == 1
        assert worker.is_alive

    assert not replaced(play(scene, model("m"), beat_seconds=10.0))


def test_long_work_with_progress_is_left_alone() -> None:
    async def scene(world: SimWorld) -> None:
        worker = await load(world)
        assert await worker.serve(5000.0)

    assert not replaced(play(scene, model("m"), beat_seconds=10.0))


def test_beats_that_get_lost_are_asked_for() -> None:
    async def scene(world: SimWorld) -> None:
        worker = await load(world)
        world.is_deaf = True
        await asyncio.sleep(600)
        assert worker.is_alive
        heard = world.run_of("m").heard_at
        assert asyncio.get_running_loop().time() - heard < 60

    assert not replaced(play(scene, model("m"), beat_seconds=10.0))


def test_a_load_that_says_nothing_is_asked_before_it_is_given_up() -> None:
    """Its word that it is ready was lost."""

    async def scene(world: SimWorld) -> None:
        world.is_deaf = True
        await world.pool.load("m", "test", 300)
        assert world.replica("m").state is State.HOT

    assert not replaced(play(scene, model("m"), beat_seconds=10.0))


def test_a_worker_that_is_long_in_coming_up_is_not_taken_for_silent() -> None:
    """Many starts on a busy machine: for a while nobody listens on its port."""

    async def scene(world: SimWorld) -> None:
        world.scripts["m"] = Script(beat_seconds=1.0, listen_after=50.0)
        await world.pool.load("m", "test", 300)
        assert len(world.processes) == 1

    assert not replaced(play(scene, model("m"), beat_seconds=1.0, load_stall_seconds=100))


def test_a_worker_that_never_comes_up_is_given_up() -> None:
    async def scene(world: SimWorld) -> None:
        world.scripts["m"] = Script(beat_seconds=1.0, listen_after=500.0)
        with pytest.raises(LoadFailed, match="no progress for 100 s"):
            await world.pool.load("m", "test", 300)

    play(scene, model("m"), beat_seconds=1.0, load_stall_seconds=100)


def test_a_load_without_progress_is_given_up() -> None:
    async def scene(world: SimWorld) -> None:
        world.scripts["m"] = Script(beat_seconds=10.0, never_ready=True)
        with pytest.raises(LoadFailed, match="no progress for 100 s"):
            await world.pool.load("m", "test", 300)

    play(scene, model("m"), beat_seconds=10.0, load_stall_seconds=100)


def test_time_left_that_grows_is_no_progress() -> None:
    async def scene(world: SimWorld) -> None:
        world.scripts["m"] = Script(beat_seconds=10.0, never_ready=True)
        loading = asyncio.ensure_future(world.pool.load("m", "test", 300))
        await asyncio.sleep(1.5)
        worker = world.processes[-1]
        while worker.is_alive and now() < 300:
            worker.progress = Progress("weights", 0.5, 50, 100, eta_seconds=now())
            worker.report()
            await asyncio.sleep(0.5)
        with pytest.raises(LoadFailed, match="no progress for 100 s"):
            await loading

    play(scene, model("m"), beat_seconds=10.0, load_stall_seconds=100)


def test_a_load_whose_bytes_grow_goes_on() -> None:
    async def scene(world: SimWorld) -> None:
        world.scripts["m"] = Script(beat_seconds=10.0, load_seconds=1000.0, progress_every=50.0)
        await world.pool.load("m", "test", 2000)

    play(scene, model("m"), beat_seconds=10.0, load_stall_seconds=100)


async def fail(worker: Any) -> None:
    worker.phase = Phase.FAILED
    worker.failure = Failure("engine_died", "the engine died: signal 11")
    worker.report()


def test_who_has_failed_gets_no_more_requests() -> None:
    """It still tells its clients; the next ones wait for the next worker."""

    async def scene(world: SimWorld) -> None:
        worker = await load(world)
        await fail(worker)
        assert not world.replica("m").is_open
        assert world.pool.try_acquire("m") is None
        waiting = asyncio.ensure_future(world.pool.acquire("m"))
        await asyncio.sleep(2)
        worker.die(6)
        (await waiting).release()
        assert len(world.processes) == 2

    assert not replaced(play(scene, model("m"), beat_seconds=10.0))


def test_who_has_failed_and_stays_is_ended() -> None:
    async def scene(world: SimWorld) -> None:
        worker = await load(world)
        await fail(worker)
        (await world.pool.acquire("m")).release()
        assert not worker.is_alive
        assert now() < 20

    world = play(scene, model("m"), beat_seconds=10.0)
    assert replaced(world) == ["the engine died: signal 11; it did not end by itself"]


def test_the_managers_own_trouble_is_nobodys_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """Out of descriptors it cannot ask; that says nothing of the worker."""

    async def scene(world: SimWorld) -> None:
        worker = await load(world)
        world.is_deaf = True

        async def facts(worker: Any) -> Facts:
            raise OSError(errno.EMFILE, "too many open files")

        with monkeypatch.context() as patch:
            patch.setattr(world, "facts", facts)
            await asyncio.sleep(300)
        assert worker.is_alive
        assert world.bugs
        world.bugs.clear()

    play(scene, model("m"), beat_seconds=10.0)


def test_a_manager_that_was_late_asks_again() -> None:
    """It was suspended while it waited for the answer."""

    async def scene(world: SimWorld) -> None:
        worker = await load(world)
        asked = 0
        sound = world.facts

        async def facts(of: Any) -> Facts:
            nonlocal asked
            asked += 1
            if asked == 1:
                asyncio.get_running_loop()._jumping.elapsed += 60  # type: ignore[attr-defined]
                await asyncio.sleep(100)
            return await sound(of)

        world.is_deaf = True
        world.facts = facts  # type: ignore[method-assign]
        await asyncio.sleep(120)
        assert asked >= 2
        assert worker.is_alive

    assert not replaced(play(scene, model("m"), beat_seconds=10.0))


def test_a_start_that_hangs_is_given_up_and_leaves_nothing() -> None:
    async def scene(world: SimWorld) -> None:
        world.scripts["m"] = Script(launch_seconds=200.0)
        with pytest.raises(LoadFailed, match="no process was there after 60 s"):
            await world.pool.load("m", "test", 300)
        world.scripts["m"].launch_seconds = 0.0
        await asyncio.sleep(200)
        assert not world.alive()

    play(scene, model("m"), beat_seconds=10.0)
