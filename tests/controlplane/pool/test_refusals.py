"""What is refused, for good or for now, and what it is told would help."""

from __future__ import annotations

import asyncio

import pytest
from modelpool.api.plan import plan_view
from modelpool.catalog.estimator import Estimator
from modelpool.catalog.footprint import Footprint
from modelpool.catalog.memory_estimate import HOST, Claim, MemoryEstimate, Peak, estimate_host
from modelpool.pool.admission import Budget, Refuse, Requirements, Resident, plan
from modelpool.pool.requirements import planned
from modelpool.pool.states import State
from modelpool_client.errors import CannotFit, NoMemoryFree
from support.play import play
from support.sim import MB, SimWorld, model, without_threads

GPU = "cuda:0"
ROOMY = Budget(5, 1000 * MB, 10_000 * MB, {GPU: 100 * MB})
PIN = Resident("pin", 300 * MB, (0.0,), pinned=True, devices={GPU: 30 * MB})
MEASURED = Claim(1008 * MB, 960 * MB, "measured")


@pytest.fixture(autouse=True)
def _no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    without_threads(monkeypatch)


def refusal(need: Requirements, *residents: Resident, budget: Budget = ROOMY) -> Refuse:
    decision = plan(need, residents, budget)
    assert isinstance(decision, Refuse)
    return decision


def test_the_advice_is_about_what_is_short() -> None:
    big = Requirements("new", 2000 * MB, sources={HOST: "measured"})
    on_gpu = Requirements("new", MB, {GPU: 90 * MB}, {GPU: "estimated"})
    one = Budget(1, 1000 * MB, 10_000 * MB)
    tight = Budget(5, 10_000 * MB, 1000 * MB)
    assert refusal(big).advice == (
        "lower its context_length or parallel option, raise memory_limit_mb"
        " or choose a smaller model"
    )
    assert "unpin" in refusal(big, PIN).advice
    assert (
        "its memory_mb"
        in refusal(Requirements("new", 2000 * MB, sources={HOST: "declared"})).advice
    )
    assert refusal(on_gpu, PIN).advice == (
        "lower its gpu_layers, context_length or parallel option, raise device_memory_mb,"
        " unpin what is pinned or choose a smaller model"
    )
    full = refusal(Requirements("new", MB), PIN, budget=one)
    assert full.advice == "raise max_concurrent_models or unpin one of them"
    host = refusal(big, budget=tight)
    assert "until they give it back" in host.advice
    passing = [r.is_passing for r in (host, full, refusal(big), refusal(on_gpu, PIN))]
    assert passing == [True, False, False, False]


def test_a_refusal_says_where_its_figure_comes_from() -> None:
    big = Requirements("new", 2000 * MB, sources={HOST: "measured"})
    assert refusal(big).why.startswith("needs 2,000 MB (measured), but at most 1,000 MB")
    on_gpu = Requirements("new", MB, {GPU: 190 * MB}, {GPU: "estimated"})
    assert refusal(on_gpu).why.startswith("needs 190 MB of cuda:0 (estimated), but at most 100 MB")


def test_the_margin_is_given_up_where_there_is_no_room_for_it() -> None:
    on_gpu = {GPU: Claim(105 * MB, 100 * MB, "measured")}
    need = planned("m", MEASURED, on_gpu, [], ROOMY)
    assert (need.bytes, need.devices) == (1000 * MB, {GPU: 100 * MB})
    small, on_gpu = Claim(735 * MB, 699 * MB, "measured"), {GPU: Claim(73, 70 * MB, "measured")}
    need = planned("m", small, on_gpu, [PIN], ROOMY)
    assert (need.bytes, need.devices) == (700 * MB, {GPU: 70 * MB}), "beside what is pinned"
    assert need.sources == {HOST: "measured", GPU: "measured"}
    unlimited = Budget(5, 2000 * MB, 0)
    need = planned("m", MEASURED, {GPU: Claim(105, 100, "measured")}, [], unlimited)
    assert (need.bytes, need.devices) == (1008 * MB, {GPU: 105})


def test_what_ran_within_the_limit_runs_again() -> None:
    async def scene(world: SimWorld) -> None:
        needs, seen = Footprint(950 * MB, firm=600 * MB), 960 * MB
        peak = Peak("m", "f", "o", HOST, seen, worked=True)
        world.known_figures = {"m": estimate_host(model("m"), needs, {})}
        (await world.pool.acquire("m")).release()
        await world.pool.unload("m", "idle")
        world.known_figures = {"m": estimate_host(model("m"), needs, {HOST: peak})}
        (await world.pool.acquire("m")).release()
        assert world.pool.reserved_bytes("m") == 1000 * MB

    play(scene, model("m"), memory_limit_mb=1000)


def test_what_was_measured_beyond_the_limit_is_refused_with_its_source() -> None:
    async def scene(world: SimWorld) -> None:
        world.known_figures = {"m": MemoryEstimate(10, None, MEASURED.least, MEASURED)}
        with pytest.raises(CannotFit, match=r"needs 960 MB \(measured\), but at most 900 MB"):
            await world.pool.acquire("m")

    play(scene, model("m"), memory_limit_mb=900)


def test_one_that_was_there_before_its_device_had_a_budget_counts() -> None:
    async def scene(world: SimWorld) -> None:
        (await world.pool.acquire("a")).release()
        worker = world.processes[-1]
        worker.on_devices = {GPU: 8000 * MB, "cuda:1": 5 * MB}
        worker.report()
        assert world.pool.residents()["a"].devices == {}
        limited = {"device_memory_mb": {GPU: 10_000}}
        world.pool.reconfigure(world.pool.config.model_copy(update=limited))
        assert world.pool.residents()["a"].devices == {GPU: 8000 * MB}
        world.device_needs = {"a": {GPU: 8000 * MB}, "b": {GPU: 8000 * MB}}
        (await world.pool.acquire("b")).release()
        assert world.replica("a").state is State.COLD, "there is no room for both"

    play(scene, model("a"), model("b"))


# -- other programs have the memory ----------------------------------------------------------------


def test_a_warm_up_model_waits_until_other_programs_give_memory_back() -> None:
    async def scene(world: SimWorld) -> None:
        await world.pool.load("w", "warm-up", 100)
        world.host_bytes = 150 * MB
        world.processes[-1].die(-9)
        await asyncio.sleep(60)
        replica = world.replica("w")
        assert replica.state is State.FAILED
        assert replica.key in world.pool.scheduler
        assert "the host has 150 MB available" in replica.waiting_for
        assert plan_view(world.pool.status("w"), world.pool, Estimator())["action"] == "wait"
        before = len(world.events)
        for _ in range(10):
            world.pool.repair()
            await asyncio.sleep(1)
        assert len(world.events) == before, "it waits quietly"
        world.host_bytes = 10**12
        world.pool.capacity_changed()
        await asyncio.sleep(5)
        assert replica.state is State.HOT

    play(scene, model("w", memory_mb=200, warmup=True))


@pytest.mark.parametrize("warmup", [False, True])
def test_a_request_is_told_when_to_come_again(warmup: bool) -> None:
    async def scene(world: SimWorld) -> None:
        world.host_bytes = 150 * MB
        with pytest.raises(NoMemoryFree) as refused:
            await world.pool.acquire("m")
        assert (refused.value.status, refused.value.retry_after) == (503, 10)
        assert "never" not in str(refused.value)
        assert "m does not fit now: needs 200 MB" in str(refused.value)
        assert len(world.pool.scheduler) == 0, "nobody wants it"
        refusals = [reason for *_, event, _, reason in world.events if event == "model-refused"]
        assert len(refusals) == 1
        assert "other programs hold the rest" in refusals[0]
        world.host_bytes = 10**12
        (await world.pool.acquire("m")).release()

    play(scene, model("m", memory_mb=200, warmup=warmup))


def test_a_warm_up_model_that_can_never_fit_does_not_wait() -> None:
    async def scene(world: SimWorld) -> None:
        with pytest.raises(CannotFit, match="can never fit"):
            await world.pool.load("w", "warm-up", None)
        assert not world.replica("w").keep_warm
        assert len(world.pool.scheduler) == 0

    play(scene, model("w", memory_mb=200, warmup=True), memory_limit_mb=100)
