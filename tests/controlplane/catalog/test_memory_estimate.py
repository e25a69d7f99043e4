"""What is reserved: by estimate, by declaration, by what was measured."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelpool.catalog.estimator import Estimator, Reading
from modelpool.catalog.fingerprint import Fingerprint
from modelpool.catalog.footprint import Footprint
from modelpool.catalog.memory_estimate import (
    HOST,
    Claim,
    MemoryEstimate,
    Peak,
    device_claims,
    estimate_host,
    key_of,
)
from modelpool.catalog.model import Model
from modelpool.catalog.store import Store
from modelpool.catalog.tuned import Tuned, TunedOptions

MODEL = Model("m", "other", "/m.bin", options={"a": 1, "b": 2})
MB = 1_000_000
NEEDS = Footprint(100 * MB, {"cuda:0": 50 * MB}, firm=60 * MB)


def peak(mb: float = 80, worked: bool = True, **fields: Any) -> Peak:
    known = Peak(*key_of(MODEL, "print"), HOST, int(mb * MB), worked=worked)
    return dataclasses.replace(known, **fields)


#        declared, peak,              reserved, source
RULES = {
    "nothing known": (None, None, 100, "estimated"),
    "declared": (70, None, 70, "declared"),
    "measured overrules the estimate": (None, peak(80), 84, "measured"),
    "measured overrules what was declared": (500, peak(80), 84, "measured"),
    "measured above the estimate": (None, peak(200), 210, "measured"),
    "never less than its weights": (None, peak(10), 60, "measured"),
    "idle all its life": (None, peak(80, worked=False), 100, "estimated"),
    "idle, and declared": (90, peak(80, worked=False), 90, "declared"),
    "even idle it took more": (70, peak(80, worked=False), 84, "measured"),
}


@pytest.mark.parametrize("name", RULES)
def test_what_is_reserved(name: str) -> None:
    declared, measured, reserved, source = RULES[name]
    model = dataclasses.replace(MODEL, memory_mb=declared)
    found = estimate_host(model, NEEDS, {HOST: measured} if measured else {})
    assert (found.reserved, found.source) == (reserved * MB, source)
    assert found.estimated == 100 * MB
    assert found.declared == (declared * MB if declared else None)
    assert found.measured_peak == (measured.peak_bytes if measured else None)


sizes = st.integers(0, 10**12)


@given(sizes, st.none() | st.integers(1, 10**6), sizes, sizes, st.booleans())
def test_a_reservation_holds_what_was_seen(
    estimated: int, declared: int | None, firm: int, seen: int, worked: bool
) -> None:
    model = dataclasses.replace(MODEL, memory_mb=declared)
    known = peak(peak_bytes=seen, worked=worked)
    found = estimate_host(model, Footprint(estimated, firm=firm), {HOST: known})
    assert found.reserved >= seen
    assert found.reserved >= (firm if worked else min(estimated, (declared or 10**7) * MB))
    more = dataclasses.replace(known, peak_bytes=seen + 1)
    assert (
        estimate_host(model, Footprint(estimated, firm=firm), {HOST: more}).reserved
        >= found.reserved
    )


@given(st.lists(st.builds(peak, st.floats(0, 100), st.booleans()), min_size=1))
def test_peaks_add_up_in_any_order(peaks: list[Peak]) -> None:
    def total(some: list[Peak]) -> Peak:
        result = some[0]
        for one in some[1:]:
            result = result | one
        return result

    assert total(peaks) == total(peaks[::-1])
    assert total(peaks).peak_bytes == max(p.peak_bytes for p in peaks)


def test_devices_follow_the_same_rule() -> None:
    idle, worked = (peak(20, is_worked, device="cuda:0") for is_worked in (False, True))
    estimated, measured = Claim.of(50 * MB), Claim(21 * MB, 20 * MB, "measured")
    assert device_claims(NEEDS, {}) == {"cuda:0": estimated}
    assert device_claims(NEEDS, {"cuda:0": idle, HOST: peak()}) == {"cuda:0": estimated}
    assert device_claims(NEEDS, {"cuda:0": worked}) == {"cuda:0": measured}


def test_a_device_that_was_measured_counts_without_an_estimate() -> None:
    """As with an engine whose files say nothing of what it puts there."""
    for is_worked in (False, True):
        seen = peak(20, is_worked, device="cuda:0")
        assert device_claims(Footprint(1), {"cuda:0": seen}) == {
            "cuda:0": Claim(21 * MB, 20 * MB, "measured")
        }
    estimator = Estimator(
        SimpleNamespace(device_budgets={"cuda:0": 100 * MB}, memory_limit_bytes=10**12)
    )
    key = key_of(MODEL, "")
    for device in ("cuda:0", "cuda:1"):
        estimator.learn([dataclasses.replace(peak(20, device=device), **key._asdict())])
    assert estimator.claims(MODEL).devices.keys() == {"cuda:0"}, "the other has no budget"


LIMITS = [
    SimpleNamespace(device_budgets=budgets, memory_limit_bytes=size)
    for budgets in ({}, {"cuda:0": 10**9})
    for size in (10**8, 10**12)
]
SIZED = dataclasses.replace(MODEL, size_bytes=5 * MB)
TUNED = Tuned({"c": 1}, "g", 1.1, 1.0, 1.2, "other", "1", "/m.bin", "print", {}, 1.0)
FOUND = Reading(SIZED, Fingerprint("print", 0.0))
CHANGES: dict[str, Callable[[Estimator, TunedOptions, SimpleNamespace], object]] = {
    "learned": lambda e, *_: e.learn([peak(300)]),
    "another is learned": lambda e, *_: e.learn([peak(300, model_id="other")]),
    "on a device": lambda e, *_: e.learn([peak(20, device="cuda:0")]),
    "told": lambda e, *_: e.tell(MODEL, 7 * MB),
    "read": lambda e, *_: e.take(FOUND),
    "forgotten": lambda e, *_: e.forget(MODEL),
    "looked up again": lambda e, *_: e.look_up_again(MODEL),
    "tuned": lambda _, tuned, __: tuned.put("m", TUNED),
    "tuned no more": lambda _, tuned, __: tuned.drop("m"),
    **{
        f"limits {i}": lambda *a, n=n: a[2].__dict__.update(n.__dict__)
        for i, n in enumerate(LIMITS)
    },
}


@given(st.lists(st.sampled_from(sorted(CHANGES)), max_size=12))
def test_what_is_claimed_is_as_if_it_were_worked_out_anew(changes: list[str]) -> None:
    limits, tuned = SimpleNamespace(**LIMITS[0].__dict__), TunedOptions()
    kept, fresh = (Estimator(limits, processor="", tuned=tuned) for _ in range(2))
    for change in changes:
        for estimator in (kept, fresh):
            CHANGES[change](estimator, tuned, limits)
        for model in (MODEL, SIZED):
            expected = dataclasses.replace(model)  # nothing was claimed for that object yet
            assert kept.claims(model) == kept.claims(model) == fresh.claims(expected)


def test_the_margin_is_given_up_before_what_was_seen() -> None:
    claim = estimate_host(MODEL, NEEDS, {HOST: peak(100)}).claim
    assert [claim.within(room * MB) for room in (200, 103, 90)] == [105 * MB, 103 * MB, 100 * MB]
    for known in (Claim.of(100), estimate_host(MODEL, NEEDS, {HOST: peak(10)}).claim):
        assert known.within(1) == known.bytes, "no margin"


def test_a_peak_is_kept_under_file_and_options() -> None:
    same = dataclasses.replace(MODEL, options={"b": 2, "a": 1}, tags=("x",), memory_mb=3)
    assert key_of(same, "print") == key_of(MODEL, "print")
    for other in (
        dataclasses.replace(MODEL, options={"a": 1}),
        dataclasses.replace(MODEL, source="/n.bin"),
        dataclasses.replace(MODEL, engine="another"),
    ):
        assert key_of(other, "print") != key_of(MODEL, "print")
    assert key_of(MODEL, "new") != key_of(MODEL, "print")


def test_a_file_that_changed_is_measured_anew(tmp_path: Path) -> None:
    async def main() -> None:
        file = tmp_path / "m.bin"
        file.write_bytes(b"12345")
        model = dataclasses.replace(MODEL, source=str(file))
        estimator = Estimator()
        seen = await estimator.describe(model)
        key, _ = await estimator.look(seen)
        estimator.learn([dataclasses.replace(peak(), **key._asdict())])
        assert estimator.host_memory(seen).source == "measured"
        assert estimator(seen) == 84 * MB
        file.write_bytes(b"123456")
        seen = await estimator.describe(model)
        assert estimator.host_memory(seen).source == "estimated"

    asyncio.run(main())


def test_what_is_deleted_is_forgotten() -> None:
    async def main() -> None:
        estimator = Estimator()
        await estimator.look(MODEL)
        estimator.learn([peak(fingerprint="")])
        estimator.tell(MODEL, 5)
        assert estimator(MODEL) == 84 * MB
        estimator.forget(MODEL)
        fresh = Estimator()
        assert (
            estimator.host_memory(MODEL)
            == fresh.host_memory(MODEL)
            == MemoryEstimate.of(fresh(MODEL))
        )

    asyncio.run(main())


def test_peaks_survive_a_restart(tmp_path: Path) -> None:
    async def main() -> None:
        store = await Store.open(tmp_path / "pool.db")
        await store.add_peaks([peak(80, worked=False, updated_at=5.0), peak(7, device="cuda:0")])
        await store.add_peaks([peak(60, updated_at=9.0)])
        await store.close()
        store = await Store.open(tmp_path / "pool.db")
        device, host = await store.peaks()
        assert (
            host
            == peak(80, samples=2, updated_at=9.0)
            == peak(80, False, updated_at=5.0) | peak(60, updated_at=9.0)
        )
        assert device == peak(7, device="cuda:0")
        await store.write_models([MODEL], ["m"])
        assert await store.peaks() == []
        await store.close()

    asyncio.run(main())
