"""The files of the models may change while the pool runs: what is known of them is kept true."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping
from typing import Any

from modelpool_client.errors import InvalidRequest, LoadFailed, ModelNotFound

from modelpool.catalog.catalog import Catalog
from modelpool.catalog.errors import StoreError
from modelpool.catalog.estimator import Estimator, Reading, changes
from modelpool.catalog.footprint import BYTES_PER_MB
from modelpool.catalog.model import Model
from modelpool.engines import Engines
from modelpool.observe.events import EventBus
from modelpool.pool.pool import Pool
from modelpool.pool.states import State

log = logging.getLogger(__name__)

# For reading the headers of one model, over a network if need be, and asking its engine.
# A stat takes microseconds.
READ_SECONDS = 30.0
SHOWN_FILES = 3
# Somebody has to mend the file.
RETRY_SECONDS = 10.0


class ModelFiles:
    """Looks at the files of a model before it is planned or loaded.

    ``put`` hands an entry that changed to the pool.
    """

    def __init__(
        self,
        catalog: Catalog,
        pool: Pool,
        estimator: Estimator,
        engines: Engines,
        events: EventBus,
        put: Callable[[Model], None],
    ) -> None:
        self._catalog = catalog
        self._pool = pool
        self._estimator = estimator
        self._engines = engines
        self._events = events
        self._put = put
        self._reading: dict[str, asyncio.Task[None]] = {}
        self._refused: dict[str, str] = {}

    async def check(self, model_id: str) -> None:
        """Take in what changed of a model's files since they were read, and refuse a load that
        could only fail. To be called before each load or plan; a model that is loaded, or is just
        being loaded, has its files already.

        Nothing is read where the fingerprint is the one that is known. All who wait for a model
        share one look.

        Raises:
            LoadFailed: a file is missing, bad or not read in time, or there is no such engine.
        """
        model = self._catalog.find(model_id)
        if model is not None and model.served_by:
            model_id = model.served_by
            model = self._catalog.find(model_id)
        if model is None or not self._pool.has(model_id) or self._is_up(model_id):
            return
        task = self._reading.get(model_id)
        if task is None:
            task = self._reading[model_id] = asyncio.ensure_future(self._look(model))
            task.add_done_callback(lambda done: self._ended(model_id, done))
        try:
            async with asyncio.timeout(READ_SECONDS):
                await asyncio.shield(task)
        except TimeoutError:
            text = f"{model_id} is not loaded: its files could not be read in {READ_SECONDS:g} s"
            raise LoadFailed(text, code="timeout", retry_after=RETRY_SECONDS) from None

    def forget(self, model_id: str) -> None:
        """The model is gone."""
        self._refused.pop(model_id, None)

    def _is_up(self, model_id: str) -> bool:
        state = self._pool.status(model_id).state
        return state.is_serving or state is State.WARMING

    def _ended(self, model_id: str, task: asyncio.Task[None]) -> None:
        del self._reading[model_id]
        if not task.cancelled():
            task.exception()  # whoever waited has it

    async def _look(self, model: Model) -> None:
        await self._check_engine(model)
        if await self._estimator.is_current(model):
            if self._estimator.wants_to_be_told(model):
                (verdict,) = await self._engines.inspected([model])
                self._estimator.hear(model, verdict)
            self._refused.pop(model.model_id, None)
            return
        before = self._estimator.reading(model)
        try:
            reading = await self._estimator.read(model)
            verdict = await self._engines.check(reading.model)
        except InvalidRequest as e:
            raise self._refusal(model, e) from None
        self._refused.pop(model.model_id, None)
        if self._catalog.find(model.model_id) is not model:
            return  # deleted or replaced meanwhile: who did that has seen to its files
        self._estimator.take(reading)
        self._estimator.hear(reading.model, verdict)
        if not reading.model.same_content(model):
            await self._renew(reading.model, model)
        changed = changes(before, reading) if before is not None else {}
        self._events.publish(
            "model-updated",
            model_id=model.model_id,
            key=f"{model.engine}:{model.model_id}",
            reason=news(before, reading, changed),
            changed=changed,
        )

    async def _check_engine(self, model: Model) -> None:
        """It may lack what it needs."""
        if problem := await self._engines.problem_now(model):
            raise self._refusal(model, InvalidRequest(problem, code="missing_dependency"))

    def _refusal(self, model: Model, error: InvalidRequest) -> LoadFailed:
        """Nothing is begun for it; that is an event where it is news."""
        text = f"{model.model_id} cannot be loaded: {error.message}"
        if self._refused.get(model.model_id) != text:
            self._refused[model.model_id] = text
            self._pool.refuse(model.model_id, error.message)
        return LoadFailed(text, code=error.code, retry_after=RETRY_SECONDS)

    async def _renew(self, described: Model, model: Model) -> None:
        try:
            await self._catalog.replace(described, model, self._put)
        except ModelNotFound:
            log.info("%s was deleted or replaced while its file was read", model.model_id)
        except StoreError as e:
            log.warning("%s: what its file says is not written down: %s", model.model_id, e)


def news(before: Reading | None, now: Reading, changed: Mapping[str, tuple[Any, Any]]) -> str:
    """What is to be said of files that are not those that were read before. PURE."""
    if before is None:
        return "its files could not be read before and are now"
    names = [os.path.basename(path) for path in before.files.other_files(now.files)]
    shown = ", ".join(names[:SHOWN_FILES]) + (" …" if len(names) > SHOWN_FILES else "")
    told = [_told(name, *pair) for name, pair in changed.items()]
    said = ", ".join(told) or "what the model's header says is the same"
    return f"its files were replaced ({shown}): {said}; memory is measured anew"


def _told(name: str, old: Any, new: Any) -> str:
    if name == "chat_template":
        return "another chat template" if old and new else f"{'a' if new else 'no'} chat template"
    if name == "file_bytes":
        name, old, new = "size", _in_mb(old), _in_mb(new)
    return f"{name.replace('_', ' ')} {old} -> {new}"


def _in_mb(size: int | None) -> str:
    return "unknown" if size is None else f"{size / BYTES_PER_MB:,.1f} MB"
