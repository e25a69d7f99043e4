"""The database of a pool, for the event loop: one connection on one thread of its own.

What was awaited is committed. With ``synchronous=NORMAL`` a power cut, not a crash of the process,
may take back the last commits, never the consistency. Nothing here is on the way of a request.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from .database import CorruptDatabase, Database, Usage, WorkerRow
from .errors import PoolAlreadyRunning, StoreError
from .event_rows import EventRow, Page
from .lock import StoreLock
from .memory_estimate import Peak
from .migrations import NewerDatabase
from .model import Model
from .usage_rows import UsageHour, UsageTotal

__all__ = ["PoolAlreadyRunning", "Store", "StoreError", "StoreLock", "Usage", "WorkerRow"]

P = ParamSpec("P")
T = TypeVar("T")


class Store:
    """The open database. Every method raises StoreError when the database fails; then nothing of
    what was asked for was done.

    Attributes:
        path: the database file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._database = Database(path)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")
        self._is_open = True

    def __repr__(self) -> str:
        return f"<Store {self.path} {'open' if self._is_open else 'closed'}>"

    @classmethod
    async def open(cls, path: Path) -> Store:
        """Open or make the database, take its lock, bring it up to date.

        Raises:
            PoolAlreadyRunning: another manager has it.
            StoreError: it cannot be opened, is corrupt, or comes from a newer version.
        """
        store = cls(path)
        try:
            await store._run(store._database.open)
        except BaseException:
            await store.close()
            raise
        return store

    async def close(self) -> None:
        """Finish what was asked for, close the file, release the lock. May be called again."""
        if not self._is_open:
            return
        closing = self._submit(self._database.close)
        self._is_open = False
        await asyncio.shield(closing)
        self._thread.shutdown()

    @property
    def pool_id(self) -> str:
        """Who this pool is: made once with the database, kept for ever."""
        return self._database.pool_id

    async def models(self) -> tuple[Model, ...]:
        """Every model, by id."""
        return await self._run(self._database.models)

    async def write_models(self, put: Iterable[Model], drop: Collection[str] = ()) -> None:
        """Insert or replace some models and delete others, all or nothing."""
        await self._run(self._database.write_models, tuple(put), tuple(drop))

    async def next_epoch(self, model_id: str) -> int:
        """A number greater than any that this id ever had, deleted or not; the first is 1."""
        return await self._run(self._database.next_epoch, model_id)

    async def intend_worker(self, row: WorkerRow) -> None:
        """Write down a worker before it is started."""
        await self._run(self._database.put_worker, row)

    async def worker_started(self, worker_id: str, pid: int, create_time: float) -> None:
        """Add what identifies the process of an intended worker; its state becomes "started"."""
        await self._run(self._database.worker_started, worker_id, pid, create_time)

    async def forget_worker(self, worker_id: str) -> None:
        """Remove a worker that is gone; nothing happens where there is none."""
        await self._run(self._database.forget_worker, worker_id)

    async def workers(self) -> tuple[WorkerRow, ...]:
        """Every worker that was not forgotten, oldest first."""
        return await self._run(self._database.workers)

    async def add_usage(self, deltas: Iterable[Usage]) -> None:
        """Add to the statistics in one transaction; ``last_used_at`` becomes the latest."""
        await self._run(self._database.add_usage, tuple(deltas))

    async def usage(self) -> dict[str, Usage]:
        """The statistics by model id; those of deleted models stay."""
        return await self._run(self._database.usage)

    async def put_usage_hours(self, rows: Sequence[UsageHour], hour: int, keep_days: int) -> None:
        """Write usage down, each row in the place of what its source said before, and drop what is
        older than so many days; ``hour`` is the present one."""
        await self._run(self._database.put_usage_hours, tuple(rows), hour, keep_days)

    async def usage_hours_since(self, hour: int) -> list[UsageHour]:
        """The rows of hours from that one on, as they were written."""
        return await self._run(self._database.usage_hours_since, hour)

    async def usage_totals(
        self,
        by: Sequence[str] = (),
        since: int | None = None,
        until: int | None = None,
        model_id: str | None = None,
    ) -> list[UsageTotal]:
        """What was used from the hour ``since`` on and before ``until``, by any of
        ``usage_rows.PARTS`` and by currency; the newest first."""
        return await self._run(self._database.usage_totals, tuple(by), since, until, model_id)

    async def usage_patterns(self) -> dict[str, str]:
        """What was learned of when each model is used."""
        return await self._run(self._database.usage_patterns)

    async def save_usage_patterns(self, patterns: Mapping[str, str]) -> None:
        """Replace what was learned of some models."""
        await self._run(self._database.save_usage_patterns, dict(patterns))

    async def add_peaks(self, peaks: Iterable[Peak]) -> None:
        """Take measured peaks together with what is known, in one transaction."""
        await self._run(self._database.add_peaks, tuple(peaks))

    async def peaks(self) -> list[Peak]:
        """Every measured peak; those of deleted models are gone."""
        return await self._run(self._database.peaks)

    async def documents(self, kind: str) -> dict[str, Any]:
        """What was put of a kind, by key, as plain JSON; what was put first comes first."""
        return await self._run(self._database.documents, kind)

    async def document_texts(self, kind: str) -> dict[str, str]:
        """The same as texts that are JSON, for who asks for few of very many."""
        return await self._run(self._database.document_texts, kind)

    async def write_documents(
        self, kind: str, put: Mapping[str, Any], drop: Collection[str] = ()
    ) -> None:
        """Insert or replace some documents of a kind and delete others, all or nothing."""
        await self._run(self._database.write_documents, kind, dict(put), tuple(drop), time.time())

    async def checkpoint(self) -> None:
        """Bring all that is written into the database file itself, for whoever copies that."""
        await self._run(self._database.checkpoint)

    async def append_events(self, rows: Sequence[EventRow], keep: int, oldest: float) -> None:
        """Add to the history; of each model's the last ``keep`` stay, and those from before
        ``oldest`` (seconds since 1970) go little by little."""
        await self._run(self._database.append_events, tuple(rows), keep, oldest)

    async def forget_events(self, model_ids: Collection[str] = ()) -> None:
        """Drop the history of models, and of all those that are not in the catalog."""
        await self._run(self._database.forget_events, tuple(model_ids))

    async def events_of(
        self, model_id: str, limit: int, before: int | None = None
    ) -> tuple[list[EventRow], float | None]:
        """A model's events, newest first; ``before``: with a lower number. And when the model came
        into the state after the newest of them, None where that one lasts."""
        return await self._run(self._database.events_of, model_id, limit, before)

    async def events_after(self, run: str, serial: int, limit: int) -> Page:
        """The first that were written after an event of any manager, oldest first."""
        return await self._run(self._database.events_after, run, serial, limit)

    async def _run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        # Shielded: a caller that is cancelled must not take back what it has asked for.
        return await asyncio.shield(self._submit(partial(work, *args, **kwargs)))

    def _submit(self, work: Callable[[], T]) -> asyncio.Future[T]:
        if not self._is_open:
            raise StoreError(self.path, "is closed")
        return asyncio.wrap_future(self._thread.submit(_translated, self.path, work))


def _translated(path: Path, work: Callable[[], T]) -> T:
    try:
        return work()
    except NewerDatabase as e:
        raise StoreError(path, f"was written by a newer version (it has {e}); use that") from None
    except (CorruptDatabase, sqlite3.Error) as e:
        raise StoreError(path, _readable(e)) from e
    except OSError as e:
        raise StoreError(path, f"cannot be opened: {e.strerror}") from e


def _readable(error: Exception) -> str:
    text = str(error)
    corrupt = ("malformed", "not a database", "corrupt")
    if isinstance(error, CorruptDatabase) or any(c in text for c in corrupt):
        return f"is corrupt ({text}): restore a copy, or move it away to start with an empty one"
    if "full" in text:
        return "cannot be written: the disk is full"
    if "readonly" in text:
        return "cannot be written: it is read-only"
    if "unable to open" in text:
        return "cannot be opened"
    return f"failed: {text}"
