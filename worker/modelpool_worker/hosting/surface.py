"""What every surface of the kit has to work with."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias, TypeVar

from modelpool_client.errors import EngineFailed, ModelPoolError
from modelpool_client.http1.exchange import Exchange

from modelpool_worker.batching.options import limits_of, policy_of
from modelpool_worker.batching.runner import Batcher

from .cancel import Cancel

Given = TypeVar("Given")
Result = TypeVar("Result")
# What answers a path: the exchange, and what its body says.
Answer: TypeAlias = Callable[[Exchange, Mapping[str, Any]], Awaitable[None]]
# The same of what is not JSON.
RawAnswer: TypeAlias = Callable[[Exchange, bytes], Awaitable[None]]


class Work:
    """The threads beside the loop that serves: one that prepares requests, one for each kind of
    model that computes."""

    def __init__(self) -> None:
        # Tokenizers and templates need not be safe for several threads at once.
        self._preparing = ThreadPoolExecutor(1, "prepare")

    async def prepare(self, function: Callable[..., Result], *given: Any) -> Result:
        """What does not wait for what computes: tokens of texts, and the like."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._preparing, _guarded, function, *given)


class Batches:
    """Makes batchers by the load options of the model, each with a compute thread of its own."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = options

    def batcher(
        self, compute: Callable[[Sequence[Given]], Sequence[Result]], name: str
    ) -> Batcher[Given, Result]:
        """One for a method of a model."""
        most = limits_of(self._options).most
        return Batcher(compute, policy_of(self._options), most, ThreadPoolExecutor(1, name))


class Compute:
    """A thread that does one thing after the other, for requests that no batch is made of.

    Attributes:
        steps: counted by whoever computes, in its thread.
        busy: 1 while something is done.
    """

    def __init__(self, name: str) -> None:
        self.steps = self.busy = 0
        self._thread = ThreadPoolExecutor(1, name)

    async def run(self, function: Callable[[Cancel], Result]) -> Result:
        """Do it; whoever is cancelled sets the token, and what has not begun never will."""
        cancel = Cancel()
        future = asyncio.get_running_loop().run_in_executor(
            self._thread, self._run, function, cancel
        )
        try:
            return await future
        finally:
            cancel.set()

    def _run(self, function: Callable[[Cancel], Result], cancel: Cancel) -> Result:
        cancel.check()
        self.busy = 1
        try:
            return _guarded(function, cancel)
        finally:
            self.busy = 0


def _guarded(function: Callable[..., Result], *given: Any) -> Result:
    """No future takes a StopIteration: who waits for it would wait for ever."""
    try:
        return function(*given)
    except StopIteration as e:
        raise RuntimeError(repr(e)) from e


def failure(error: BaseException) -> ModelPoolError:
    """What a model raised, for whoever asked; what is no error of ours is told in the log, too."""
    if isinstance(error, ModelPoolError):
        return error
    traceback.print_exception(error)
    kind = type(error).__name__
    return EngineFailed(f"the engine failed: {kind}: {error}"[:2000], source="engine")
