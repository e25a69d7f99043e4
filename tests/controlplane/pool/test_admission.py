"""Who may start, and who must go for it: every branch, and what must hold for any pool."""

from __future__ import annotations

import dataclasses
import itertools
import re

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from modelpool.pool.admission import (
    MB,
    Budget,
    Plan,
    Refuse,
    Requirements,
    Resident,
    Start,
    Wait,
    plan,
)
from support.examples import examples

NEED = Requirements("new", 100 * MB)
ROOMY = Budget(max_models=5, limit_bytes=1000 * MB, host_available=10_000 * MB)


def resident(name: str, size: int = 100, used: float = 0.0, **fields: object) -> Resident:
    pending = int(fields.pop("pending", 0))  # type: ignore[call-overload]
    known = Resident(name, size * MB, (-1, used), pending_bytes=pending * MB)
    return dataclasses.replace(known, **fields)  # type: ignore[arg-type]


def limits(models: int = 5, limit: int = 1000, host: int = 10_000, **devices: int) -> Budget:
    return Budget(models, limit * MB, host * MB, on(**devices))


def on(**devices: int) -> dict[str, int]:
    return {device: size * MB for device, size in devices.items()}


ON_GPU = Requirements("new", 100 * MB, on(gpu=60))
busy = {"protected": "busy"}
pinned = {"pinned": True}
leaving = {"protected": "unloading", "leaving": True}

STARTS = {
    "an empty pool": ([], ROOMY, ()),
    "room beside others": ([resident("a"), resident("b", **busy)], ROOMY, ()),
    "exactly as much as there is": ([resident("a", 900)], ROOMY, ()),
    "the count is full": ([resident("a"), resident("b")], limits(2), ("a",)),
    "the memory is full": ([resident("a", 950)], ROOMY, ("a",)),
    "the host is full": ([resident("a", 300)], limits(host=50), ("a",)),
    "least loss first": (
        [resident("a", used=9), resident("b", used=3), resident("c", used=5)],
        limits(3),
        ("b",),
    ),
    "low priority before unused": (
        [resident("a", used=9, loss=(-2, 9)), resident("b", used=1)],
        limits(2),
        ("a",),
    ),
    "several have to go": ([resident("a", 500), resident("b", 500)], limits(limit=150), ("a", "b")),
    "a small early victim is spared": (
        [resident("small", 10, used=1), resident("large", 940, used=2)],
        ROOMY,
        ("large",),
    ),
    "the protected stay": ([resident("a", **busy), resident("b", used=9)], limits(2), ("b",)),
    "the pinned stay": ([resident("a", **pinned), resident("b", used=9)], limits(2), ("b",)),
    "one that leaves is waited for": ([resident("a", 950, **leaving)], ROOMY, ("a",)),
    "one that leaves is not waited for in vain": ([resident("a", 50, **leaving)], ROOMY, ()),
    "a pinned one that leaves is gone": (
        [resident("a", pinned=True, **leaving)],
        limits(1),
        ("a",),
    ),
    "who leaves and who must": (
        [resident("a", 400, **leaving), resident("b", 500, used=1), resident("c", 50, used=2)],
        limits(limit=500),
        ("b", "a"),
    ),
    "what is still loading is promised": (
        [resident("a", 50, protected="warming", pending=50), resident("b", 80)],
        limits(host=120),
        ("b",),
    ),
}

WAITS = {
    "the busy hold the count": ([resident("a", **busy)], limits(1), ("a",), None),
    "the busy hold the memory": ([resident("a", 950, **busy)], ROOMY, ("a",), None),
    "the loading will hold the host": (
        [resident("a", 50, protected="warming", pending=50)],
        limits(host=120),
        ("a",),
        None,
    ),
    "a pinned one loads, and the host may have given it some already": (
        [resident("a", 50, protected="warming", pending=50, **pinned)],
        limits(host=120),
        ("a",),
        None,
    ),
    "one that loads may have some of what the host will give back": (
        [resident("a", 50, protected="warming", pending=50)],
        limits(host=60),
        ("a",),
        None,
    ),
    "until the first may go": (
        [
            resident("a", protected="just loaded", free_at=9.0),
            resident("b", protected="just loaded", free_at=7.0),
            resident("c", **busy),
        ],
        limits(3),
        ("a", "b", "c"),
        7.0,
    ),
    "on the busy, not on the pinned": (
        [resident("a", **busy), resident("b", **pinned)],
        limits(2),
        ("a",),
        None,
    ),
}

REFUSALS = {
    "larger than the limit": (
        [],
        limits(limit=99),
        r"needs 100 MB, but at most 99 MB of 99 MB can be made free$",
    ),
    "larger than the pinned leave": (
        [resident("a", 950, **pinned)],
        ROOMY,
        r"at most 50 MB of 1,000 MB can be made free \(pinned: a 950 MB\)",
    ),
    "all positions are pinned": (
        [resident("a", **pinned)],
        limits(1),
        r"max_concurrent_models is 1 and all are pinned \(pinned: a 100 MB\)",
    ),
    "larger than the host": (
        [resident("a", 30)],
        limits(host=60),
        r"the host has 60 MB available and unloading every idle model would add 30 MB",
    ),
}


ON_DEVICES = {
    "as much as the device has": ([resident("a", devices=on(gpu=40))], limits(gpu=100), Start()),
    "the device is full": ([resident("a", devices=on(gpu=50))], limits(gpu=100), Start(("a",))),
    "another device is full": (
        [resident("a", devices=on(other=90)), resident("b", devices=on(gpu=40))],
        limits(gpu=100, other=10),
        Start(),
    ),
    "a device without a budget": ([resident("a", devices=on(gpu=999))], limits(other=1), Start()),
    "only who holds the device goes": (
        [resident("a", used=1), resident("b", used=2, devices=on(gpu=50))],
        limits(gpu=100),
        Start(("b",)),
    ),
    "one that leaves the device is waited for": (
        [resident("a", devices=on(gpu=50), **leaving)],
        limits(gpu=100),
        Start(("a",)),
    ),
    "the busy hold the device": (
        [resident("a", devices=on(gpu=50), **busy)],
        limits(gpu=100),
        Wait(
            ("a",),
            "new needs 100 MB and 60 MB of gpu; 1 of 5 models loaded:"
            " a 100 MB and 50 MB of gpu (busy)",
        ),
    ),
    "larger than the device": (
        [],
        limits(gpu=50),
        Refuse(
            "needs 60 MB of gpu, but at most 50 MB of 50 MB can be made free",
            "lower its gpu_layers, context_length or parallel option, raise device_memory_mb"
            " or choose a smaller model",
        ),
    ),
    "larger than the pinned leave of the device": (
        [resident("a", devices=on(gpu=50), **pinned)],
        limits(gpu=100),
        Refuse(
            "needs 60 MB of gpu, but at most 50 MB of 100 MB can be made free"
            " (pinned: a 100 MB and 50 MB of gpu)",
            "lower its gpu_layers, context_length or parallel option, raise device_memory_mb,"
            " unpin what is pinned or choose a smaller model",
        ),
    ),
}


@pytest.mark.parametrize("name", ON_DEVICES)
def test_devices(name: str) -> None:
    residents, budget, expected = ON_DEVICES[name]
    assert plan(ON_GPU, residents, budget) == expected


@pytest.mark.parametrize("name", STARTS)
def test_start(name: str) -> None:
    residents, budget, victims = STARTS[name]
    assert plan(NEED, residents, budget) == Start(victims)


@pytest.mark.parametrize("name", WAITS)
def test_wait(name: str) -> None:
    residents, budget, on, until = WAITS[name]
    decision = plan(NEED, residents, budget)
    assert isinstance(decision, Wait)
    assert (decision.on, decision.until) == (on, until)


def test_a_wait_says_for_what() -> None:
    decision = plan(NEED, [resident("a", 950, **busy)], ROOMY)
    assert isinstance(decision, Wait)
    assert decision.why == "new needs 100 MB; 1 of 5 models loaded: a 950 MB (busy)"


@pytest.mark.parametrize("name", REFUSALS)
def test_refuse(name: str) -> None:
    residents, budget, why = REFUSALS[name]
    decision = plan(NEED, residents, budget)
    assert isinstance(decision, Refuse)
    assert re.search(why, decision.why), decision.why


# -- any pool --------------------------------------------------------------------------------------


@st.composite
def pools(draw: st.DrawFn) -> tuple[Requirements, list[Resident], Budget]:
    residents = []
    for i in range(draw(st.integers(0, 6))):
        size = draw(st.integers(1, 400))
        state = draw(
            st.sampled_from(["idle", "idle", "idle", "busy", "young", "warming", "ending"])
        )
        residents.append(
            resident(
                f"r{i}",
                size,
                used=float(draw(st.integers(0, 4))),
                pinned=draw(st.sampled_from([False, False, False, True])),
                protected="" if state == "idle" else state,
                leaving=state == "ending",
                free_at=draw(st.floats(0, 100)) if state == "young" else None,
                pending=draw(st.integers(0, size)) if state == "warming" else 0,
                devices=draw(on_devices(200)),
            )
        )
    held = sum(r.bytes for r in residents) // MB
    count = len(residents)
    budget = limits(
        draw(st.integers(max(1, count), count + 2)),
        held + draw(st.integers(0, 300)),
        draw(st.integers(0, 600)),
    )
    budget = dataclasses.replace(budget, devices=draw(on_devices(800)))
    return (
        Requirements("new", draw(st.integers(1, 700)) * MB, draw(on_devices(300))),
        residents,
        budget,
    )


def on_devices(most: int) -> st.SearchStrategy[dict[str, int]]:
    sizes = st.integers(0, most).map(lambda size: size * MB)
    return st.dictionaries(st.sampled_from(["gpu:0", "gpu:1"]), sizes)


def fits(need: Requirements, staying: list[Resident], gone: list[Resident], budget: Budget) -> bool:
    """Said once more, in the plainest way: the test does not trust the code's own."""
    host = budget.host_available
    for r in gone:
        host += r.bytes - r.pending_bytes
    for r in staying:
        host -= r.pending_bytes
    total = need.bytes + sum(r.bytes for r in staying)
    for device, size in need.devices.items():
        held = sum(r.devices.get(device, 0) for r in staying)
        if size and held + size > budget.devices.get(device, 10**18):
            return False
    return len(staying) < budget.max_models and total <= budget.limit_bytes and need.bytes <= host


def without(residents: list[Resident], gone: list[Resident]) -> list[Resident]:
    return [r for r in residents if r not in gone]


@settings(max_examples=examples(500))
@given(pools())
def test_any_plan_is_sound(pool: tuple[Requirements, list[Resident], Budget]) -> None:
    need, residents, budget = pool
    decision = plan(need, residents, budget)
    event(type(decision).__name__)
    if isinstance(decision, Start):
        start_is_sound(need, residents, budget, decision)
    elif isinstance(decision, Wait):
        wait_is_sound(need, residents, budget, decision)
    else:
        pins = [r for r in residents if r.pinned and not r.leaving]
        assert not fits(need, pins, without(residents, pins), budget)
        assert decision.why


def start_is_sound(
    need: Requirements, residents: list[Resident], budget: Budget, decision: Start
) -> None:
    by_id = {r.model_id: r for r in residents}
    assert len(set(decision.evict)) == len(decision.evict)
    gone = [by_id[i] for i in decision.evict]
    assert fits(need, without(residents, gone), gone, budget), "it does not fit"
    for victim in gone:
        assert victim.leaving or not (victim.protected or victim.pinned), f"{victim} is protected"
    ending = [r for r in residents if r.leaving]
    for victim in [r for r in gone if not r.leaving]:
        fewer = [r for r in {*gone, *ending} if r is not victim]
        assert not fits(need, without(residents, fewer), fewer, budget), f"{victim} is needless"
    victims = [r for r in gone if not r.leaving]
    if any(r.leaving for r in gone):
        assert not fits(need, without(residents, victims), victims, budget), "waits in vain"


def wait_is_sound(
    need: Requirements, residents: list[Resident], budget: Budget, decision: Wait
) -> None:
    assert decision.on
    assert decision.why
    free = [r for r in residents if r.leaving or not (r.protected or r.pinned)]
    assert not fits(need, without(residents, free), free, budget), "it could start"
    by_id = {r.model_id: r for r in residents}
    assert not any(by_id[i].leaving for i in decision.on)
    # For a pinned one only while it loads, and where it alone is in the way.
    pinned = [by_id[i] for i in decision.on if by_id[i].pinned]
    assert all(r.pending_bytes for r in pinned)
    assert not pinned or len(pinned) == len(decision.on)
    assert decision.until is None or decision.until in {by_id[i].free_at for i in decision.on}


def test_a_wait_for_a_pinned_load_names_it() -> None:
    """Whether there is room beside it is known when it has loaded."""
    loading = Resident("r0", MB, (0.0,), protected="warming", pinned=True, pending_bytes=MB)
    decision = plan(Requirements("new", MB), [loading], Budget(2, 10 * MB, MB))
    assert isinstance(decision, Wait)
    assert decision.on == ("r0",)
    assert decision.why == "new needs 1 MB; 1 of 2 models loaded: r0 1 MB (warming)"


@given(pools())
def test_the_same_pool_gives_the_same_plan(
    pool: tuple[Requirements, list[Resident], Budget],
) -> None:
    need, residents, budget = pool
    assert plan(need, residents, budget) == plan(need, list(residents), budget)


@settings(max_examples=50)
@given(pools())
def test_the_kind_of_answer_does_not_hang_on_the_order(
    pool: tuple[Requirements, list[Resident], Budget],
) -> None:
    need, residents, budget = pool

    def kinds() -> set[type[Plan]]:
        orders = itertools.islice(itertools.permutations(residents), 30)
        return {type(plan(need, order, budget)) for order in orders}

    assert len(kinds()) == 1


@given(pools(), st.integers(0, 300))
def test_more_room_never_makes_it_worse(
    pool: tuple[Requirements, list[Resident], Budget], more: int
) -> None:
    need, residents, budget = pool
    roomier = Budget(
        budget.max_models + 1,
        budget.limit_bytes + more * MB,
        budget.host_available + more * MB,
        {device: size + more * MB for device, size in budget.devices.items()},
    )
    rank = {Refuse: 0, Wait: 1, Start: 2}
    before, after = plan(need, residents, budget), plan(need, residents, roomier)
    assert rank[type(after)] >= rank[type(before)]
    if isinstance(before, Start) and not before.evict:
        assert after == Start()
