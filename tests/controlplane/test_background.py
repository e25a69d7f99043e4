"""What the manager does by itself goes on whatever happens to one round of it."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable, Coroutine, Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from modelpool import background
from modelpool.background import TOLD_AGAIN_SECONDS, Rounds
from support.virtual_time import run_virtual

Loop = Callable[..., Coroutine[Any, Any, None]]


class Models:
    """A catalog, of which only this is asked."""

    def __init__(self) -> None:
        self.edition = self.count = 0

    def __len__(self) -> int:
        return self.count


class Trouble:
    """Services of which every part fails, once a round, until it is told to work."""

    def __init__(self) -> None:
        self.told: list[Exception] = []
        self.calls: list[str] = []
        self.is_on = True
        part = SimpleNamespace(
            save=self.asynchronous("save"),
            refresh=self.asynchronous("refresh"),
            available=lambda: len(self.calls),
        )
        self.services: Any = SimpleNamespace(
            usage=part, usage_hours=part, peaks=part, preloads=part, memory=part, pool=self
        )
        self.services.catalog = Models()
        self.config = SimpleNamespace(check_interval_seconds=1)
        self.is_moving = True

    def asynchronous(self, name: str) -> Callable[..., Any]:
        async def call(*_: object) -> None:
            self.happens(name)

        return call

    def happens(self, name: str) -> None:
        self.calls.append(name)
        if self.is_on:
            raise OSError(24, "Too many open files")

    def repair(self) -> None:
        self.happens("repair")

    def capacity_changed(self) -> None:
        self.calls.append("changed")

    def report_bug(self, error: Exception) -> None:
        self.told.append(error)


LOOPS: list[tuple[Loop, tuple[object, ...], list[str]]] = [
    (background.sweep, (), ["repair"]),
    (background.watch_memory, (), ["refresh", "changed"]),
    (background.save, (cast(Any, None),), ["save"] * 4),
]


@pytest.mark.parametrize(("loop", "args", "round_of_it"), LOOPS, ids=["sweep", "memory", "save"])
def test_a_round_that_fails_is_not_the_last(
    loop: Loop, args: tuple[object, ...], round_of_it: list[str]
) -> None:
    async def main() -> None:
        trouble = Trouble()
        running = asyncio.ensure_future(loop(trouble.services, *args))
        await asyncio.sleep(50.5)
        assert not running.done()
        assert len(trouble.told) == 1, "once, not once a round"
        trouble.is_on = False
        trouble.calls.clear()
        await asyncio.sleep(10)
        assert trouble.calls[: len(round_of_it)] == round_of_it
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert running.cancelled()

    run_virtual(main())


class Knot:
    """Only a collection finds out that nobody has it."""

    def __init__(self) -> None:
        self.own = self


@pytest.fixture(autouse=True)
def _thresholds() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


def test_what_many_requests_hold_at_a_time_is_not_looked_through_while_they_are_answered() -> None:
    async def main() -> None:
        trouble = Trouble()
        trouble.is_on = False
        running = asyncio.ensure_future(background.sweep(trouble.services))
        await asyncio.sleep(0.5)
        before = gc.get_stats()[0]["collections"]
        for _ in range(20):
            held: list[list[int]] = [[] for _ in range(200 * 12)]
            del held
        assert gc.get_stats()[0]["collections"] == before
        running.cancel()

    run_virtual(main())


def test_a_sweep_frees_what_too_few_have_left_for_a_collection() -> None:
    async def main() -> None:
        trouble = Trouble()
        trouble.is_on = False
        running = asyncio.ensure_future(background.sweep(trouble.services))
        await asyncio.sleep(0.5)
        knots = [Knot() for _ in range(2 * background.FEW_OBJECTS)]
        left = weakref.ref(knots[0])
        del knots
        assert left() is not None
        await asyncio.sleep(2)
        assert left() is None
        running.cancel()

    run_virtual(main())


def test_what_is_used_while_many_models_come_and_go_is_freed_afterwards() -> None:
    async def main() -> None:
        trouble = Trouble()
        trouble.is_on = False
        running = asyncio.ensure_future(background.sweep(trouble.services))
        await asyncio.sleep(2)
        knot, catalog = Knot(), trouble.services.catalog
        left = weakref.ref(knot)
        for _ in range(3):
            catalog.edition += 10 * background.MANY_MODELS
            gc.collect(0)
            await asyncio.sleep(2)
        del knot
        gc.collect(0)
        await asyncio.sleep(2)
        assert left() is None
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    run_virtual(main())


def test_many_new_models_are_left_out_of_collections(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        trouble, frozen = Trouble(), list[int]()
        trouble.is_on = False
        catalog = trouble.services.catalog
        monkeypatch.setattr(gc, "freeze", lambda: frozen.append(catalog.count))
        running = asyncio.ensure_future(background.sweep(trouble.services))
        for count in (0, 499, 500, 999, 1000, 0, 499, 500):
            catalog.count = count
            gc.collect(0)
            await asyncio.sleep(2)
        assert frozen == [0, 500, 1000, 500]
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    run_virtual(main())


def test_another_failure_is_told_at_once_and_the_same_one_seldom() -> None:
    now, told = 0.0, list[Exception]()
    rounds = Rounds(told.append, lambda: now)
    failures = [KeyError("a"), KeyError("b"), OSError(), None, KeyError("c")]
    for failure in failures:
        with rounds:
            if failure is not None:
                raise failure
    assert told == [failures[0], failures[2]]
    now = TOLD_AGAIN_SECONDS
    with rounds:
        raise KeyError("again")
    assert len(told) == 3


def test_who_is_told_to_end_ends() -> None:
    with pytest.raises(asyncio.CancelledError), Rounds(lambda _: None):
        raise asyncio.CancelledError
