"""Nothing is lost, computed twice, or computed though it was cancelled in time; order; ageing."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelpool_worker.batching.options import OPTIONS, limits_of, policy_of
from modelpool_worker.batching.policies import POLICIES, Greedy, Limits
from modelpool_worker.batching.queue import AGEING_SECONDS, PRIORITIES, BatchQueue, priority_of
from modelpool_worker.batching.runner import Batcher
from modelpool_worker.batching.scheduler import Scheduler

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("arrive"), st.sampled_from(PRIORITIES)),
        st.tuples(st.just("cancel"), st.integers(0, 60)),
        st.tuples(st.just("finish"), st.none()),
        st.tuples(st.just("wait"), st.floats(0.001, 1)),
    ),
    max_size=120,
)


@given(STEPS, st.sampled_from(sorted(POLICIES)), st.integers(1, 8))
def test_everything_is_computed_once_or_cancelled(
    steps: list[tuple[str, object]], name: str, most: int
) -> None:
    limits = Limits(most, 0.05, 0.1)
    scheduler: Scheduler[int] = Scheduler(POLICIES[name](limits), most)
    now, count = 0.0, 0
    computed: list[int] = []
    cancelled: set[int] = set()
    priorities: dict[int, object] = {}

    def look() -> None:
        batch, _ = scheduler.next(now)
        assert len(batch) <= most
        computed.extend(batch)

    for what, how in steps:
        now += 0.0001
        if what == "arrive":
            priorities[count] = how
            scheduler.arrive(count, priority_of(how), now)
            count += 1
        elif what == "cancel" and isinstance(how, int) and how < count:
            if scheduler.cancel(how):
                assert how not in computed
                cancelled.add(how)
        elif what == "finish" and scheduler.running:
            scheduler.finished(now)
        elif what == "wait" and isinstance(how, float):
            now += how
        look()
    while len(scheduler) or scheduler.running:
        now += 1
        if scheduler.running:
            scheduler.finished(now)
        look()
    assert sorted([*computed, *cancelled]) == list(range(count))
    for priority in PRIORITIES:
        same = [item for item in computed if priorities[item] == priority]
        assert same == sorted(same)


def test_age_makes_up_for_priority() -> None:
    queue: BatchQueue[str] = BatchQueue()
    queue.push("low", "low", 0.0)
    queue.push("normal", "normal", 0.1)
    queue.push("high", "high", 0.2)
    queue.push("late", "high", 2 * AGEING_SECONDS + 0.1)
    assert queue.ages(9, 5.0) == pytest.approx([4.8, 4.9, 5.0, 0.9])
    assert queue.take(9) == ["high", "normal", "low", "late"]


def test_options() -> None:
    assert limits_of({}) == Limits()
    assert limits_of({"batch_wait_ms": 20, "max_batch_size": 3}) == Limits(3, 0.02)
    for name in POLICIES:
        assert isinstance(policy_of({"batch_policy": name}), POLICIES[name])  # type: ignore[arg-type]
    assert set(OPTIONS["batch_policy"]["enum"]) == set(POLICIES)


@pytest.mark.parametrize("error", [StopIteration(), SystemExit(1), MemoryError(), ValueError()])
def test_whatever_goes_wrong_ends_the_wait(error: BaseException) -> None:
    def compute(batch: Sequence[int]) -> Sequence[int]:
        if batch == [1]:
            raise error
        return batch if batch == [2] else []

    async def play() -> None:
        with ThreadPoolExecutor(1) as thread:
            batcher = Batcher(compute, Greedy(Limits(4)), 4, thread)
            for number in (1, 3):
                with pytest.raises((RuntimeError, MemoryError, ValueError)):
                    await batcher.submit([number])
            assert await batcher.submit([2]) == [2]

    asyncio.run(play())


def test_results_that_are_no_list() -> None:
    async def play() -> None:
        with ThreadPoolExecutor(1) as thread:
            batcher: Any = Batcher(lambda _: {"a": 1}, Greedy(Limits(4)), 4, thread)
            for _ in range(2):
                async with asyncio.timeout(60):
                    assert await batcher.submit([1]) == ["a"]

    asyncio.run(play())


class Compute:
    """Doubles numbers; the first batch waits until it is told to go on."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.begun, self.go_on = threading.Event(), threading.Event()

    def __call__(self, batch: Sequence[int]) -> list[int]:
        self.batches.append(list(batch))
        self.begun.set()
        assert self.go_on.wait(60)
        if 13 in batch:
            raise ValueError("13")
        return [2 * n for n in batch]


def test_the_runner_computes_beside_the_loop() -> None:
    compute = Compute()

    async def play() -> None:
        with ThreadPoolExecutor(1) as thread:
            batcher = Batcher(compute, Greedy(Limits(4)), 4, thread)
            first = asyncio.create_task(batcher.submit([1]))
            assert await asyncio.to_thread(compute.begun.wait, 60)
            others = [asyncio.create_task(batcher.submit([n, n + 10])) for n in (2, 3, 4)]
            left = asyncio.create_task(batcher.submit([99], "high"))
            await asyncio.sleep(0)
            left.cancel()
            low = asyncio.create_task(batcher.submit([5], "low"))
            high = asyncio.create_task(batcher.submit([6], "high"))
            await asyncio.sleep(0)
            compute.go_on.set()
            assert await first == [2]
            assert await high == [12]
            assert await others[0] == [4, 24]
            with pytest.raises(ValueError, match="13"):
                await others[1]
            # In the same batch, whose items are computed one by one then.
            assert (await others[2], await low) == ([8, 28], [10])

    asyncio.run(play())
    assert compute.batches == [[1], [6, 2, 12, 3], [13, 4, 14, 5], [13], [4], [14], [5]]
