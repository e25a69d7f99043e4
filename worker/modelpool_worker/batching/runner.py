"""Carries out what a scheduler decides: batches in a compute thread, results to those who wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Any, Generic, TypeAlias, TypeVar

from .policies import Policy
from .queue import Priority
from .scheduler import Scheduler

Given = TypeVar("Given")
Result = TypeVar("Result")
_Outcome: TypeAlias = tuple[Result | None, BaseException | None]


class _Item(Generic[Given]):
    """One thing to be computed."""

    __slots__ = ("future", "given")

    def __init__(self, given: Given, future: asyncio.Future[Any]) -> None:
        self.given = given
        self.future = future


class Batcher(Generic[Given, Result]):
    """Computes batches one after the other.

    Args:
        compute: called in ``executor`` with what was given; as many results, in the same order.
        most: items of one batch.

    Attributes:
        steps: batches that were begun.
        items: that were in them.
    """

    def __init__(
        self,
        compute: Callable[[Sequence[Given]], Sequence[Result]],
        policy: Policy,
        most: int,
        executor: Executor,
    ) -> None:
        self._compute = compute
        self._executor = executor
        self._scheduler: Scheduler[_Item[Given]] = Scheduler(policy, most)
        self._timer: asyncio.TimerHandle | None = None
        self._is_due = False
        self._tasks: set[asyncio.Task[None]] = set()
        self.steps = 0
        self.items = 0

    def __repr__(self) -> str:
        running = len(self._scheduler.running)
        return f"<Batcher: {running} computed, {len(self._scheduler)} wait>"

    @property
    def busy(self) -> int:
        """Items that are computed now."""
        return len(self._scheduler.running)

    async def submit(self, given: Sequence[Given], priority: Priority = "normal") -> list[Result]:
        """The result of each. To be cancelled takes those out that have not begun.

        Raises:
            Exception: whatever ``compute`` raised for one of them: where a batch fails each of its
                items is computed by itself, so that nobody pays for another's.
        """
        loop = asyncio.get_running_loop()
        now = loop.time()
        items = [_Item(one, loop.create_future()) for one in given]
        for item in items:
            self._scheduler.arrive(item, priority, now)
        self._look_soon()
        try:
            return list(await asyncio.gather(*(item.future for item in items)))
        finally:
            for item in items:
                self._scheduler.cancel(item)
                item.future.cancel()

    def _computed(self, given: Sequence[Given]) -> list[_Outcome[Result]]:
        """Whatever happens is a result: else who waits would wait for ever."""
        try:
            results = list(self._compute(given))
            if len(results) != len(given):
                raise RuntimeError(f"{len(results)} results for {len(given)} items")
        except BaseException as e:
            if len(given) > 1:
                return [outcome for one in given for outcome in self._computed([one])]
            # A future takes no StopIteration.
            is_told = isinstance(e, Exception) and not isinstance(e, StopIteration)
            return [(None, e if is_told else RuntimeError(repr(e)))]
        return [(result, None) for result in results]

    def _look_soon(self) -> None:
        """After everybody who comes in this turn of the loop has come."""
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._look)

    def _look(self) -> None:
        self._is_due = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        loop = asyncio.get_running_loop()
        batch, wait = self._scheduler.next(loop.time())
        if batch:
            task = loop.create_task(self._run(batch))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        elif wait is not None:
            self._timer = loop.call_later(wait, self._look)

    async def _run(self, batch: Sequence[_Item[Given]]) -> None:
        loop = asyncio.get_running_loop()
        self.steps += 1
        self.items += len(batch)
        given = [item.given for item in batch]
        outcomes = await loop.run_in_executor(self._executor, self._computed, given)
        for item, (result, error) in zip(batch, outcomes, strict=True):
            if item.future.done():
                continue
            if error is not None:
                item.future.set_exception(error)
            else:
                item.future.set_result(result)
        self._scheduler.finished(loop.time())
        self._look()
