"""A model that ran out of memory: what is set aside for the next try, and when there is none."""

from __future__ import annotations

import asyncio

import pytest
from modelpool.catalog.memory_estimate import Claim, MemoryEstimate
from modelpool.pool.admission import Requirements
from modelpool.pool.requirements import MORE, short_of, with_more
from modelpool.pool.states import State
from modelpool_client.errors import LoadFailed
from modelpool_client.wire import Failure, Phase
from support.play import play
from support.sim import MB, Script, SimWorld, model, without_threads

A = model("a", memory_mb=100)
GPU = "cuda:0"
CUDA = "ggml_backend_cuda: allocating 900.00 MiB on device 0: cudaMalloc failed: out of memory"
KERNEL = "the kernel ended the engine for lack of memory"


@pytest.fixture(autouse=True)
def _no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    without_threads(monkeypatch)


def now() -> float:
    return asyncio.get_running_loop().time()


def retries(world: SimWorld) -> list[str]:
    return [reason for *_, event, _, reason in world.events if event == "model-retrying"]


async def runs_out(world: SimWorld, name: str, why: str = KERNEL) -> None:
    """Its loaded worker dies of it."""
    worker = world.alive(name)[0]
    worker.failure = Failure("oom", why)
    worker.phase = Phase.FAILED
    worker.report()
    worker.die(6)
    await asyncio.sleep(5)


HELD = Requirements("a", 100, {GPU: 40})


@pytest.mark.parametrize(
    ("why", "host", "devices"),
    [
        (CUDA, 0, {GPU: 40}),
        ("torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB", 0, {GPU: 40}),
        (KERNEL, 100, {}),
        ("MemoryError()", 100, {}),
        ("failed to allocate the cache", 100, {GPU: 40}),
    ],
)
def test_what_was_too_little(why: str, host: int, devices: dict[str, int]) -> None:
    assert short_of(HELD, why) == Requirements("a", host, devices)


def test_without_a_device_it_was_the_host() -> None:
    assert short_of(Requirements("a", 100), CUDA) == Requirements("a", 100)


def test_more_is_half_as_much_again_of_what_was_too_little() -> None:
    need = Requirements("a", 100, {GPU: 50}, {"host": "measured", GPU: "estimated"})
    more = with_more(need, Requirements("a", 0, {GPU: 60}))
    assert more == Requirements("a", 100, {GPU: 90}, {"host": "measured", GPU: MORE})
    assert with_more(need, Requirements("a", 40)) == need, (
        "what was measured since is more than that"
    )


def test_it_is_tried_once_more_with_more_room() -> None:
    async def scene(world: SimWorld) -> None:
        (await world.pool.acquire("b")).release()
        await asyncio.sleep(20)
        world.scripts["a"] = Script(fail_loads=["oom"])
        (await world.pool.acquire("a")).release()
        assert world.replica("b").state is State.COLD, "its room was wanted, too"
        assert world.pool.reserved_bytes("a") == 150 * MB
        assert retries(world) == [
            "out of memory with 100 MB; trying once more with 150 MB set aside"
        ]

    play(scene, A, model("b", memory_mb=100), memory_limit_mb=220)


def test_twice_is_a_failure() -> None:
    async def scene(world: SimWorld) -> None:
        world.scripts["a"] = Script(fail_load="oom")
        with pytest.raises(LoadFailed, match="scripted failure"):
            await world.pool.acquire("a")
        assert len(world.processes) == 2

    play(scene, A, memory_limit_mb=220)


def test_where_there_is_no_more_it_is_a_failure_that_cools_off() -> None:
    async def scene(world: SimWorld) -> None:
        world.scripts["a"] = Script(fail_load="oom")
        with pytest.raises(LoadFailed) as failed:
            await world.pool.acquire("a")
        for said in (
            "scripted failure; it ran out of memory with 100 MB",
            "no room for a retry with more: needs 150 MB",
            "at most 120 MB of 120 MB",
            "Last lines: last line",
        ):
            assert said in str(failed.value)
        assert failed.value.code == "oom"
        for _ in range(5):
            with pytest.raises(LoadFailed, match="no room for a retry"):
                await world.pool.acquire("a")
        assert len(world.processes) == 1, "no load while it cools off"
        replica = world.replica("a")
        assert (replica.state, replica.failures.failed_loads) == (State.FAILED, 1)
        world.scripts["a"] = Script()
        await asyncio.sleep(failed.value.retry_after or 0)
        (await world.pool.acquire("a")).release()
        assert world.pool.reserved_bytes("a") == 100 * MB

    play(scene, A, memory_limit_mb=120)


def test_a_warm_up_model_without_more_room_is_tried_again_after_the_cooling_off() -> None:
    async def scene(world: SimWorld) -> None:
        world.scripts["w"] = Script(fail_loads=["oom"])
        await world.pool.load("w", "warm-up", None)
        await asyncio.sleep(5)
        assert world.replica("w").state is State.FAILED
        await asyncio.sleep(world.pool.config.failed_retry_seconds)
        assert world.replica("w").state is State.HOT

    play(scene, model("w", memory_mb=100, warmup=True), memory_limit_mb=120)


def test_one_that_died_of_it_is_started_with_more_set_aside() -> None:
    async def scene(world: SimWorld) -> None:
        (await world.pool.acquire("a")).release()
        await runs_out(world, "a")
        (await world.pool.acquire("a")).release()
        assert world.pool.reserved_bytes("a") == 150 * MB

    play(scene, A, memory_limit_mb=220)


def test_one_that_died_of_it_is_started_with_what_there_is() -> None:
    """How it fares with that only a load can tell; it may have been one large request."""

    async def scene(world: SimWorld) -> None:
        (await world.pool.acquire("a")).release()
        await runs_out(world, "a")
        (await world.pool.acquire("a")).release()
        assert world.pool.reserved_bytes("a") == 100 * MB
        assert ["no room for more" in said for said in retries(world)] == [True]

    play(scene, A, memory_limit_mb=120)


def test_a_device_that_was_too_small_has_more_set_aside_and_the_host_has_not() -> None:
    async def scene(world: SimWorld) -> None:
        world.device_needs = {"a": {GPU: 1000 * MB}}
        (await world.pool.acquire("a")).release()
        await runs_out(world, "a", CUDA)
        (await world.pool.acquire("a")).release()
        held = world.pool.residents()["a"]
        assert (held.bytes, held.devices) == (100 * MB, {GPU: 1500 * MB})

    play(scene, A, memory_limit_mb=10_000, device_memory_mb={GPU: 2000})


def test_where_it_is_not_said_what_was_too_little_both_are_more() -> None:
    async def scene(world: SimWorld) -> None:
        world.device_needs = {"a": {GPU: 1000 * MB}}
        world.scripts["a"] = Script(fail_loads=["oom"])
        (await world.pool.acquire("a")).release()
        held = world.pool.residents()["a"]
        assert (held.bytes, held.devices) == (150 * MB, {GPU: 1500 * MB})
        assert retries(world) == [
            "out of memory with 100 MB and 1,000 MB of cuda:0;"
            " trying once more with 150 MB and 1,500 MB of cuda:0 set aside"
        ]

    play(scene, A, memory_limit_mb=10_000, device_memory_mb={GPU: 2000})


def test_what_was_measured_was_too_little_as_well() -> None:
    async def scene(world: SimWorld) -> None:
        claim = Claim(525 * MB, 500 * MB, "measured")
        world.known_figures = {"a": MemoryEstimate(100 * MB, None, 500 * MB, claim)}
        world.scripts["a"] = Script(fail_loads=["oom"])
        (await world.pool.acquire("a")).release()
        assert retries(world) == [
            "out of memory with 525 MB; trying once more with 788 MB set aside"
        ]

    play(scene, A, memory_limit_mb=10_000)


@pytest.mark.parametrize(("fields", "reserved"), [({"options": {"n": 1}}, 60), ({"tags": ()}, 90)])
def test_another_set_of_options_begins_anew(fields: dict[str, object], reserved: int) -> None:
    async def scene(world: SimWorld) -> None:
        world.scripts["a"] = Script(fail_loads=["oom"])
        await world.pool.load("a", "test", 100)
        await world.pool.unload("a", "test")
        world.pool.replace_model(model("a", memory_mb=60, **fields))
        await world.pool.load("a", "test", 100)
        assert world.pool.reserved_bytes("a") == reserved * MB

    play(scene, model("a", memory_mb=60), memory_limit_mb=1000)


def test_what_ran_out_with_other_options_says_nothing_of_these() -> None:
    async def scene(world: SimWorld) -> None:
        await world.pool.load("a", "test", 100)
        world.pool.replace_model(model("a", memory_mb=60, options={"n": 1}))
        await runs_out(world, "a")
        await world.pool.load("a", "test", 100)
        assert world.pool.reserved_bytes("a") == 60 * MB

    play(scene, A, memory_limit_mb=1000)
