"""Schedules, preloads and pressure: what is done before anybody asks."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelpool.catalog.parse import parse_model
from modelpool.controllers import loop
from modelpool.controllers.cron import LATEST, due
from modelpool.controllers.loop import PERIOD_SECONDS
from modelpool.controllers.memory_pressure import Limits, complaint, victim
from modelpool.controllers.preloads import PreloadController
from modelpool.controllers.pressure import CALM_SECONDS, PressureController
from modelpool.controllers.schedules import ScheduleController
from modelpool.controllers.usage_patterns import HOURS, UsagePattern, hour_of_week
from modelpool.pool.admission import Resident
from modelpool.pool.memory import Pressure
from modelpool.pool.states import State
from modelpool_client.errors import InvalidRequest, LoadFailed
from support.sim import SimWorld, model, without_threads
from support.virtual_time import run_virtual

MONDAY = datetime(2026, 11, 23, 7, 59).astimezone()
MORNING = {"cron": "0 8 * * mon-fri", "action": "load"}
EVENING = {"cron": "0 18 * * mon-fri", "action": "unload"}
MB = 1_000_000


@pytest.fixture(autouse=True)
def _no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    without_threads(monkeypatch)


# -- schedules ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("minutes", "expected"),
    [(0, []), (0.9, []), (1, ["load"]), (5, ["load"]), (-60, [])],
)
def test_due(minutes: float, expected: list[str]) -> None:
    assert due([MORNING, EVENING], MONDAY, MONDAY + timedelta(minutes=minutes)) == expected


def test_what_was_missed_long_ago_is_let_be() -> None:
    assert due([MORNING], MONDAY, MONDAY + timedelta(minutes=1) + LATEST) == []
    assert due([MORNING], MONDAY, MONDAY + LATEST) == ["load"]


@given(st.lists(st.floats(1, 500), min_size=1, max_size=60))
def test_each_time_is_due_once_however_often_one_looks(pauses: list[float]) -> None:
    """As long as nobody sleeps for longer than is made up for."""
    at, found = MONDAY, []
    for pause in pauses:
        since, at = at, at + timedelta(seconds=pause)
        found += due([{"cron": "*/30 * * * *", "action": "load"}], since, at)
    first, last = MONDAY.timestamp() // 1800, at.timestamp() // 1800
    assert len(found) == last - first


@pytest.mark.parametrize(
    "schedule",
    [
        [{"cron": "0 8 * *", "action": "load"}],
        [{"cron": "99 8 * * *", "action": "load"}],
        [{"cron": "0 8 * * *", "action": "explode"}],
        [{"cron": "0 8 * * *"}],
        ["0 8 * * *"],
        {"cron": "0 8 * * *", "action": "load"},
    ],
)
def test_a_bad_schedule_is_refused(schedule: Any) -> None:
    entry = {"model_id": "m", "engine": "fake", "source": "x", "schedule": schedule}
    with pytest.raises(InvalidRequest, match="schedule") as caught:
        parse_model(entry)
    assert caught.value.param == "schedule"


# -- usage patterns ------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 400), st.integers(1, 50)), max_size=40))
def test_a_pattern_never_expects_more_than_ever_was(uses: list[tuple[int, int]]) -> None:
    pattern, at, counts = UsagePattern(), MONDAY, [0]
    for hours, times in uses:
        at += timedelta(hours=hours)
        pattern = pattern.used(times, at)
        counts.append(times)
    most = sum(counts)
    assert all(pattern.expected(at + timedelta(hours=h)) <= most for h in range(HOURS))


def test_a_pattern_is_learned_in_weeks_and_lost_in_weeks() -> None:
    pattern = UsagePattern()
    for week in range(4):
        nine = MONDAY.replace(hour=9, minute=10) + timedelta(weeks=week)
        pattern = pattern.used(20, nine).until(nine + timedelta(hours=1))
    soon = nine + timedelta(weeks=1)
    assert pattern.expected(soon) > 10
    assert pattern.expected(soon + timedelta(hours=1)) == 0
    for week in range(1, 8):
        quiet = nine + timedelta(weeks=week)
        pattern = pattern.used(0, quiet).until(quiet + timedelta(hours=1))
    assert pattern.expected(soon) < 2
    assert hour_of_week(MONDAY) == 7


# -- pressure ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reading", "said"),
    [
        (Pressure(900 * MB, 10**12, 0.0), ""),
        (Pressure(900 * MB, 10**12, None), ""),
        (Pressure(90 * MB, 10**12, None), "90 MB available, less than 100 MB"),
        (Pressure(900 * MB, 10**12, 25.0), "waited for it 25 % of the last 10 s"),
    ],
)
def test_complaint(reading: Pressure, said: str) -> None:
    found = complaint(reading, Limits(20, 100 * MB))
    assert (said in found) if said else (found == "")
    assert complaint(reading, Limits(0, 0)) == ""


def resident(key: str, loss: float, **more: Any) -> Resident:
    return Resident(key, 100, loss=(-1, loss, 0.0), **more)


def test_the_cheapest_that_may_go_goes() -> None:
    those = [
        resident("busy", 0.0, protected="busy"),
        resident("pinned", 0.0, pinned=True),
        resident("dear", 5.0),
        resident("cheap", 1.0),
        resident("leaving", 0.5, leaving=True),
    ]
    assert victim(those) == "cheap"
    assert victim(those[:2]) is None


# -- in a pool ---------------------------------------------------------------------------------


class Memory:
    """A store for usage patterns."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}

    async def usage_patterns(self) -> Mapping[str, str]:
        return dict(self.texts)

    async def save_usage_patterns(self, patterns: Mapping[str, str]) -> None:
        self.texts |= patterns


class Scene:
    """A pool with its controllers, from one Monday at 07:59 on."""

    def __init__(self, *models: Any, **config: Any) -> None:
        self.world = SimWorld(list(models), **config)
        self.pool = self.world.pool
        self.store = Memory()
        self.told: list[tuple[str, str]] = []
        self.prepared: list[str] = []
        self.why_not: LoadFailed | None = None
        self.slow = ""  # the model whose files are long in being read
        self.offset = timedelta()
        self.now = Pressure(10**12, 10**12, 0.0)  # of the host's memory
        memory: Any = self
        self.schedules = ScheduleController(self.pool, self.wall, self.prepare)
        self.pressure = PressureController(self.pool, memory, self.publish)
        self.preloads = self.make_preloads()

    def make_preloads(self) -> PreloadController:
        return PreloadController(self.pool, self.store, self.wall, self.prepare)

    def publish(self, name: str, reason: str) -> None:
        self.told.append((name, reason))

    async def prepare(self, model_id: str) -> None:
        self.prepared.append(model_id)
        if model_id == self.slow:
            await asyncio.sleep(3600)
        if self.why_not is not None:
            raise self.why_not

    def wall(self) -> datetime:
        now = asyncio.get_running_loop().time()
        return MONDAY + timedelta(seconds=now) + self.offset

    async def pass_by(self, seconds: float) -> None:
        end = asyncio.get_running_loop().time() + seconds
        while asyncio.get_running_loop().time() < end:
            await asyncio.sleep(PERIOD_SECONDS)
            for controller in (self.pressure, self.schedules, self.preloads):
                await loop.reconcile(controller)
            self.world.check()

    async def use(self, name: str, times: int) -> None:
        for _ in range(times):
            (await self.pool.acquire(name)).release()
            await self.world.alive(name)[0].serve(0.1)

    def state(self, name: str) -> State:
        return self.world.replica(name).state

    def skip(self, **span: float) -> None:
        self.offset += timedelta(**span)


def play(scene: Callable[[Scene], Awaitable[None]], *models: Any, **config: Any) -> None:
    async def main() -> None:
        stage = Scene(*models, **config)
        try:
            await scene(stage)
        finally:
            await stage.pool.stop()
        assert not stage.world.alive()

    run_virtual(main())


def test_a_schedule_loads_and_unloads() -> None:
    async def scene(s: Scene) -> None:
        assert s.state("m") is State.COLD
        await s.pass_by(70)
        assert s.state("m") is State.HOT
        assert any("scheduled" in reason for *_, reason in s.world.events)
        s.skip(hours=9, minutes=55)
        await s.pass_by(300)
        assert s.state("m") is State.COLD

    play(scene, model("m", schedule=(MORNING, EVENING)), auto_unload=False)


FILE_IS_GONE = LoadFailed("its file is gone", code="bad_file")


def test_a_scheduled_load_looks_at_the_model_first() -> None:
    async def scene(s: Scene) -> None:
        s.why_not = FILE_IS_GONE
        await s.pass_by(70)
        assert (s.prepared, s.state("m")) == (["m"], State.COLD)

    play(scene, model("m", schedule=(MORNING,)))


def test_a_clock_that_is_set_back_repeats_nothing_harmful() -> None:
    async def scene(s: Scene) -> None:
        await s.pass_by(70)
        await s.pool.unload("m", "test")
        s.skip(hours=-2)
        await s.pass_by(60)
        assert s.state("m") is State.COLD

    play(scene, model("m", schedule=(MORNING,)))


async def learn(s: Scene) -> None:
    """Three weeks of twenty uses on Monday at nine."""
    for _ in range(3):
        s.skip(hours=1, minutes=10)
        await s.use("m", 20)
        await s.pass_by(10)
        await s.pool.unload("m", "the end of the hour")
        s.skip(days=7, hours=-1, minutes=-10)
        await s.pass_by(10)


SPECULATING = {"enable_speculative_loading": True, "preload_threshold": 10}


def test_a_pattern_is_preloaded_shortly_before() -> None:
    async def scene(s: Scene) -> None:
        await learn(s)
        assert s.state("m") is State.COLD
        s.skip(minutes=45)
        await s.pass_by(10)
        assert s.state("m") is State.COLD, "too early"
        s.skip(minutes=12)
        await s.pass_by(10)
        assert s.state("m") is State.HOT
        assert any(r.startswith("loading: preloaded: used 13") for *_, r in s.world.events)
        await s.pool.unload("m", "not this week")
        await s.pass_by(60)
        assert s.state("m") is State.COLD, "it was let go within the hour"

    play(scene, model("m"), **SPECULATING)


def test_a_preload_looks_at_the_model_first() -> None:
    async def scene(s: Scene) -> None:
        await learn(s)
        s.why_not = FILE_IS_GONE
        s.skip(minutes=57)
        await s.pass_by(10)
        assert (s.prepared, s.state("m")) == (["m"], State.COLD)

    play(scene, model("m"), **SPECULATING)


def test_no_preload_without_spare_memory_or_unasked() -> None:
    async def scene(s: Scene) -> None:
        await learn(s)
        (await s.pool.acquire("other")).release()
        s.skip(minutes=58)
        await s.pass_by(10)
        assert s.state("m") is State.COLD
        assert s.state("other") is State.HOT

    tight = {"memory_limit_mb": 150}
    play(scene, model("m"), model("other"), **SPECULATING, **tight)
    play(scene, model("m"), model("other"))


def test_patterns_outlive_the_manager_and_not_the_model() -> None:
    async def scene(s: Scene) -> None:
        await learn(s)
        await s.preloads.save()
        s.preloads = s.make_preloads()
        await s.preloads.open()
        s.skip(minutes=58)
        await s.pass_by(10)
        assert s.state("m") is State.HOT
        await s.pool.remove("m")
        await s.pass_by(10)
        assert ", 0 usage patterns>" in repr(s.preloads)

    play(scene, model("m"), **SPECULATING)


def test_pressure_evicts_what_is_idle_one_at_a_time() -> None:
    async def scene(s: Scene) -> None:
        for name in ("a", "b", "pinned"):
            (await s.pool.acquire(name)).release()
        grant = await s.pool.acquire("busy")
        await s.pass_by(20)
        s.now = Pressure(10**12, 10**12, 50.0)
        await s.pass_by(PERIOD_SECONDS)
        assert [s.state(n) for n in ("a", "b")].count(State.COLD) <= 1
        await s.pass_by(40)
        assert s.state("a") is s.state("b") is State.COLD
        assert s.state("pinned") is s.state("busy") is State.HOT
        evicted = [r for _, _, event, _, r in s.world.events if event == "model-evicted"]
        assert len(evicted) == 2
        assert "memory is short" in evicted[0]
        s.now = Pressure(10**12, 10**12, 0.0)
        await s.pass_by(10)
        assert [name for name, _ in s.told] == ["memory-pressure"] * 2
        assert s.told[-1][1] == "memory is no longer short"
        grant.release()

    names = ("a", "b", "busy")
    play(scene, *(model(n) for n in names), model("pinned", pinned=True))


def test_pressure_does_not_take_turns_with_copies_that_nobody_asked_for() -> None:
    async def scene(s: Scene) -> None:
        grant = await s.pool.acquire("m")
        await s.pass_by(20)
        assert [r.state for r in s.pool.sets["m"].replicas] == [State.HOT] * 2
        s.now = Pressure(10**12, 10**12, 50.0)
        await s.pass_by(600)
        s.now = Pressure(10**12, 10**12, 0.0)
        await s.pass_by(CALM_SECONDS - 10)
        assert len(s.world.processes) == 2, "the second copy was loaded again"
        await s.pass_by(20)
        assert [r.state for r in s.pool.sets["m"].replicas] == [State.HOT] * 2
        grant.release()

    play(scene, model("m", min_replicas=2, max_replicas=2))


def test_a_controller_that_waits_holds_up_no_other() -> None:
    class Stuck:
        async def reconcile(self) -> None:
            await asyncio.sleep(3600)

    class Counts:
        times = 0

        async def reconcile(self) -> None:
            self.times += 1

    counts = Counts()

    async def main() -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(10.5 * PERIOD_SECONDS):
                await loop.run((Stuck(), counts))

    run_virtual(main())
    assert counts.times == 10


def test_one_whose_files_are_long_in_being_read_holds_up_no_other_schedule() -> None:
    async def scene(s: Scene) -> None:
        s.slow = "slow"
        passing = asyncio.ensure_future(s.pass_by(70))
        await asyncio.sleep(80)
        assert s.state("quick") is State.HOT
        passing.cancel()

    play(scene, model("slow", schedule=[MORNING]), model("quick", schedule=[MORNING]))
