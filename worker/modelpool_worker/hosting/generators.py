"""Where sequences go to be generated, by what a model is: step by step, in batches, or at once."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Sequence as Several
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any, Protocol

from modelpool_worker.batching.policies import Limits, Policy
from modelpool_worker.batching.queue import BatchQueue, Priority
from modelpool_worker.batching.runner import Batcher

from .contract import AnyText, BatchText, ContinuousText, StepText
from .sequences import Sequence


class Generator(Protocol):
    """Has sequences generated; a ``Meter``."""

    @property
    def steps(self) -> int: ...

    @property
    def busy(self) -> int: ...

    def start(self, sequence: Sequence, priority: Priority) -> None:
        """Called in the loop: its tokens are pushed as they come, from now on or later."""
        ...


def generator_of(model: AnyText, policy: Policy, limits: Limits) -> Generator:
    """The one that fits the model.

    Raises:
        TypeError: it cannot generate.
    """
    if isinstance(model, ContinuousText):
        return Continuous(model)
    if isinstance(model, BatchText):
        return InBatches(model, policy, min(limits.most, model.slots))
    if isinstance(model, StepText):
        return Slots(model)
    raise TypeError(f"{type(model).__name__} has none of generate, generate_batch and submit")


class Slots:
    """A thread for each slot of a model; more sequences wait, by priority."""

    def __init__(self, model: StepText) -> None:
        self._model = model
        self._threads = ThreadPoolExecutor(model.slots, "compute")
        self._free = model.slots
        self._told = 0
        self._queue: BatchQueue[Sequence] = BatchQueue()

    @property
    def steps(self) -> int:
        """See ``Meter``."""
        return _steps(self._model, self._told)

    @property
    def busy(self) -> int:
        """See ``Meter``."""
        return self._model.slots - self._free

    def start(self, sequence: Sequence, priority: Priority) -> None:
        """See ``Generator``."""
        loop = asyncio.get_running_loop()
        self._queue.push(sequence, priority, loop.time())
        sequence.request.cancel.then(lambda: self._drop(sequence))
        self._fill()

    def _drop(self, sequence: Sequence) -> None:
        self._queue.remove(sequence)

    def _fill(self) -> None:
        loop = asyncio.get_running_loop()
        for sequence in self._queue.take(self._free):
            self._free -= 1
            done = loop.run_in_executor(self._threads, self._generate, sequence)
            done.add_done_callback(self._freed)

    def _freed(self, done: asyncio.Future[None]) -> None:
        done.exception()  # there is none
        self._free += 1
        self._fill()

    def _generate(self, sequence: Sequence) -> None:
        try:
            with closing(_Closable(self._model.generate(sequence.request))) as tokens:
                for token in tokens:
                    self._told += 1
                    sequence.push(token)
                    if sequence.is_over:
                        break
            sequence.end()
        except BaseException as e:
            sequence.fail(e)


class InBatches:
    """One batch of sequences after the other."""

    def __init__(self, model: BatchText, policy: Policy, most: int) -> None:
        self._model = model
        thread = ThreadPoolExecutor(1, "compute")
        self._batcher: Batcher[Sequence, None] = Batcher(self._generate, policy, most, thread)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._told = 0

    @property
    def steps(self) -> int:
        """See ``Meter``."""
        return _steps(self._model, self._told)

    @property
    def busy(self) -> int:
        """See ``Meter``."""
        return self._batcher.busy

    def start(self, sequence: Sequence, priority: Priority) -> None:
        """See ``Generator``."""
        task = asyncio.get_running_loop().create_task(self._wait(sequence, priority))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        sequence.request.cancel.then(task.cancel)

    async def _wait(self, sequence: Sequence, priority: Priority) -> None:
        await self._batcher.submit([sequence], priority)

    def _generate(self, batch: Several[Sequence]) -> Several[None]:
        try:
            wanted = [sequence for sequence in batch if not sequence.is_over]
            if wanted:
                self._step(wanted)
        except BaseException as e:
            for sequence in batch:
                sequence.fail(e)
        for sequence in batch:
            sequence.end()
        return [None] * len(batch)

    def _step(self, batch: Several[Sequence]) -> None:
        requests = [sequence.request for sequence in batch]
        with closing(_Closable(self._model.generate_batch(requests))) as steps:
            for step in steps:
                self._told += 1
                for index, token in step:
                    batch[index].push(token)
                if all(sequence.is_over for sequence in batch):
                    break


class Continuous:
    """A model that sees to all that itself."""

    def __init__(self, model: ContinuousText) -> None:
        self._model = model
        self._live: weakref.WeakSet[Sequence] = weakref.WeakSet()

    @property
    def steps(self) -> int:
        """See ``Meter``."""
        return _steps(self._model, 0)

    @property
    def busy(self) -> int:
        """See ``Meter``."""
        counted: int | None = getattr(self._model, "busy", None)
        return sum(not s.is_over for s in self._live) if counted is None else counted

    def start(self, sequence: Sequence, priority: Priority) -> None:
        """See ``Generator``."""
        self._live.add(sequence)
        try:
            self._model.submit(sequence.request, sequence)
        except Exception as e:
            sequence.fail(e)


def _steps(model: object, told: int) -> int:
    """As the model counts them, else as often as it told something."""
    counted: int | None = getattr(model, "steps", None)
    return told if counted is None else counted


class _Closable:
    """An iterator that can be closed, whether or not it is a generator."""

    def __init__(self, inner: Any) -> None:
        self._inner = iter(inner)

    def __iter__(self) -> Any:
        return self._inner

    def close(self) -> None:
        close = getattr(self._inner, "close", None)
        if close is not None:
            close()
