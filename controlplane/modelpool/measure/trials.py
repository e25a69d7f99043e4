"""Copies of a model on workers of their own, each with other options, to be measured beside each
other.

They are models of the pool as any other: admitted within its budgets, evictable, ended with it, and
ended by the next manager should this one die. But no catalog names them, so no client reaches one.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Awaitable, Callable, MutableMapping

from modelpool_client.errors import ModelPoolError

from modelpool.catalog.estimator import Estimator
from modelpool.catalog.model import Model, trial_id
from modelpool.pool.admission import Refuse, Start
from modelpool.pool.pool import Pool
from modelpool.pool.states import State

from .candidates import Setting, text
from .guard import unload_if_unused

LOAD_SECONDS = 300.0
GONE_SECONDS = 60.0
LOOK_SECONDS = 0.05
# A worker that is to be measured again soon keeps nothing on disk.
NO_PROMPTS = "prompt_cache"
# Two are compared at a time; who lost against one is not asked for again.
MOST_UP = 2


class Unfit(Exception):
    """No worker with that setting can be had; the text says why, where it is for want of room with
    the numbers."""

    def __init__(self, setting: Setting, why: str) -> None:
        super().__init__(why)
        self.setting = setting


class NoRoom(Unfit):
    """There may be some at another time."""


class Trials:
    """Workers of one model. The ``MOST_UP`` that were used last stay, where there is room.

    ``warm_up`` is awaited for each new one, and ``announce`` called before with its entry;
    ``forget`` is told of those that are to be named no more; ``own`` counts their requests, as
    ``quiet`` has it; ``memory`` says what the engine expects a setting to take, where it can tell.
    """

    def __init__(
        self,
        model: Model,
        pool: Pool,
        estimator: Estimator,
        announce: Callable[[Model], None],
        warm_up: Callable[[str], Awaitable[None]],
        forget: Callable[[Model], Awaitable[None]],
        own: MutableMapping[str, int],
        memory: Callable[[Setting], int | None],
        can_keep_prompts: bool,
    ) -> None:
        self._model = model
        self._pool = pool
        self._estimator = estimator
        self._announce = announce
        self._warm_up = warm_up
        self._forget = forget
        self._own = own
        self._memory = memory
        self._can_keep_prompts = can_keep_prompts
        self._up: dict[Setting, Model] = {}  # the one that was used last is the last
        self._ending: set[asyncio.Task[None]] = set()
        self._count = 0
        self.has_unloaded = False

    async def worker(self, setting: Setting) -> str:
        """The id of a loaded copy with that setting, beside the model's own options.

        Raises:
            Unfit: there is no room for it, or it cannot be loaded.
        """
        trial = self._up.pop(setting, None)
        if trial is not None and not self._pool.status(trial.model_id).state.is_serving:
            await self._end(trial)  # it was evicted
            trial = None
        if trial is None:
            while len(self._up) >= MOST_UP:
                await self._end(self._up.pop(next(iter(self._up))))
            trial = await self._loaded(setting)
        self._up[setting] = trial
        return trial.model_id

    async def end_all(self) -> None:
        """Their room belongs to others."""
        while self._up:
            _, trial = self._up.popitem()
            self._begin_end(trial)
        while self._ending:
            await asyncio.wait(self._ending)

    async def close(self) -> None:
        """End all of them; the model is loaded again where it had to make room and nobody else has
        taken that."""
        await self.end_all()
        model_id = self._model.model_id
        if not self.has_unloaded or not self._pool.has(model_id):
            return
        self.has_unloaded = False
        plan = self._pool.plan(model_id)
        if isinstance(plan, Start) and not plan.evict:
            with contextlib.suppress(ModelPoolError):
                await self._pool.load(model_id, "loaded again after its tuning", None)

    async def _loaded(self, setting: Setting) -> Model:
        trial = self._entry(setting)
        reading = self._estimator.reading(self._model)
        if reading is not None:
            self._estimator.take(dataclasses.replace(reading, model=trial))
        if (told := self._memory(setting)) is not None:
            self._estimator.tell(trial, told)
        self._own[trial.model_id] = 0
        self._announce(trial)
        self._pool.add(trial)
        try:
            await self._make_room(trial, setting)
            reason = f"to try {text(setting)}"
            self._own[trial.model_id] += 1
            await self._pool.load(trial.model_id, reason, LOAD_SECONDS)
            self._own[trial.model_id] -= 1
            await self._warm_up(trial.model_id)
        except ModelPoolError as e:
            await self._end(trial)
            raise Unfit(setting, e.message) from None
        except BaseException:
            await self._end(trial)
            raise
        return trial

    def _entry(self, setting: Setting) -> Model:
        self._count += 1
        quiet = {NO_PROMPTS: False} if self._can_keep_prompts else {}
        return dataclasses.replace(
            self._model,
            model_id=trial_id(self._model.model_id, self._count),
            display_name="",
            aliases=(),
            options={**self._model.options, **quiet, **dict(setting)},
            warmup=False,
            pinned=False,
            ttl_minutes=None,
            priority="low",
            min_replicas=1,
            max_replicas=1,
            concurrency_limit="unlimited",
            schedule=(),
            templates={},
        )

    async def _make_room(self, trial: Model, setting: Setting) -> None:
        """The other trials go before the model itself does, and nobody else goes."""
        while True:
            plan = self._pool.plan(trial.model_id)
            if isinstance(plan, Start) and not plan.evict:
                return
            if isinstance(plan, Refuse) and not plan.is_passing:
                raise Unfit(setting, plan.text)
            if self._up:
                await self._end(self._up.pop(next(iter(self._up))))
            elif not await self._unload_idle():
                why = plan.text if isinstance(plan, Refuse) else "others would have to go for it"
                raise NoRoom(setting, f"there is no room for a worker to try it with: {why}")

    async def _unload_idle(self) -> bool:
        """Whether the model itself made room."""
        model_id = self._model.model_id
        states = [status.state for status in self._pool.statuses(model_id)]
        protected = self._model.pinned or self._model.warmup or self._model.auto_unload is False
        if protected or not any(state.is_serving for state in states):
            return False
        reason = "idle, and its room is needed to tune it; it is loaded again afterwards"
        await unload_if_unused(self._pool, model_id, reason)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GONE_SECONDS):
                while any(  # noqa: ASYNC110
                    s.state.has_worker for s in self._pool.statuses(model_id)
                ):
                    await asyncio.sleep(LOOK_SECONDS)
        self.has_unloaded = all(
            s.state in (State.COLD, State.FAILED) for s in self._pool.statuses(model_id)
        )
        return self.has_unloaded

    async def _end(self, trial: Model) -> None:
        await asyncio.shield(self._begin_end(trial))

    def _begin_end(self, trial: Model) -> asyncio.Task[None]:
        """Whoever is cancelled meanwhile leaves no trial behind."""
        task = asyncio.ensure_future(self._ended(trial))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
        return task

    async def _ended(self, trial: Model) -> None:
        if self._pool.has(trial.model_id):
            with contextlib.suppress(ModelPoolError):
                await self._pool.unload(trial.model_id, "it was tried", force=True, cut=True)
            await self._pool.remove(trial.model_id)
        await self._forget(trial)
        self._own.pop(trial.model_id, None)
