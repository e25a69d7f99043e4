"""Usage and cost by model and hour: what workers have counted, and what never reached one, on its
way into the database.

Workers tell totals of theirs, which replace what they told before; so what a beat tells twice, or
to a manager that comes after another, counts once. A worker forgets an hour once that is written
down.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from modelpool_client.wire import UsageRow

from modelpool.catalog.prices import DOLLARS, cost_of, currency_of
from modelpool.catalog.usage_rows import UsageHour

log = logging.getLogger(__name__)

SECONDS_OF_AN_HOUR = 3600
# Workers tell hours again until they hear that they are written down.
HOURS_REMEMBERED = 2

Key = tuple[int, str, str]


class UsageHoursStore(Protocol):
    async def put_usage_hours(
        self, rows: Sequence[UsageHour], hour: int, keep_days: int
    ) -> None: ...
    async def usage_hours_since(self, hour: int) -> list[UsageHour]: ...


class Counters(Protocol):
    """Hear of what is new."""

    def used(self, new: UsageHour) -> None: ...


class UsageHours:
    """``prices`` gives those of a model, ``wall`` seconds since 1970; ``run`` names this manager as
    the source of what it has refused by itself. ``running`` are the workers that may tell more;
    what others have told is forgotten once it is written down.
    """

    def __init__(
        self,
        run: str,
        prices: Callable[[str], Mapping[str, Any]],
        counters: Counters,
        wall: Callable[[], float],
        keep_days: Callable[[], int],
        running: Callable[[], Collection[str]],
    ) -> None:
        self._run = run
        self._prices = prices
        self._counters = counters
        self._wall = wall
        self._keep_days = keep_days
        self._running = running
        self._rows: dict[Key, UsageHour] = {}
        self._unsaved: set[Key] = set()
        self._told: dict[str, int] = {}
        self._saved: dict[str, int] = {}

    def __repr__(self) -> str:
        return (
            f"<UsageHours {len(self._rows)} rows, {len(self._unsaved)} to write,"
            f" {len(self._told)} workers>"
        )

    async def open(self, store: UsageHoursStore) -> None:
        """Learn what workers have told a former manager."""
        for row in await store.usage_hours_since(self._hour() - HOURS_REMEMBERED):
            self._rows[row.hour, row.model_id, row.source] = row

    def take(self, worker_id: str, rows: Iterable[UsageRow], model_id: Callable[[str], str]) -> int:
        """A worker tells rows of its usage, by its names of models. The number of the last of its
        rows up to which all are written down."""
        for row in rows:
            # Several of its names may be of the same model.
            self._put(_hour_of(row, model_id(row.model), f"{worker_id}/{row.model}"))
            self._told[worker_id] = max(row.number, self._told.get(worker_id, 0))
        return self._saved.get(worker_id, 0)

    def refused(self, model_id: str, seconds: float, *, is_error: bool) -> None:
        """A request for a model ended before it reached a worker."""
        key = (self._hour(), model_id, self._run)
        old = self._rows.get(key) or UsageHour(*key)
        self._put(
            replace(
                old,
                requests=old.requests + 1,
                errors=old.errors + is_error,
                seconds=old.seconds + seconds,
            )
        )

    def _put(self, row: UsageHour) -> None:
        key = (row.hour, row.model_id, row.source)
        prices = self._prices(row.model_id)
        cost = cost_of(
            prices,
            requests=row.requests - row.errors,
            prompt=row.prompt_tokens,
            cached=row.cached_tokens,
            completion=row.completion_tokens,
        )
        row = replace(row, cost=cost, currency=currency_of(prices) if prices else DOLLARS)
        old = self._rows.get(key) or UsageHour(*key)
        self._rows[key] = row
        self._unsaved.add(key)
        self._counters.used(_difference(row, old))

    async def save(self, store: UsageHoursStore) -> None:
        """Write down what is new; what the store refuses waits for the next time."""
        keys, self._unsaved = self._unsaved, set()
        told = dict(self._told)
        hour = self._hour()
        try:
            rows = [self._rows[key] for key in keys]
            await store.put_usage_hours(rows, hour, self._keep_days())
        except Exception as e:
            self._unsaved |= keys
            log.warning("usage could not be saved: %s", e)
            return
        self._saved.update(told)
        self._forget(hour)

    def _forget(self, hour: int) -> None:
        running = self._running()
        for numbers in (self._told, self._saved):
            for worker_id in numbers.keys() - running:
                del numbers[worker_id]
        for key in [k for k in self._rows if not self._is_needed(k, hour, running)]:
            del self._rows[key]

    def _is_needed(self, key: Key, hour: int, running: Collection[str]) -> bool:
        """Whether the row is not written down yet, or whoever has counted it may tell it again, or
        tell more."""
        counted_at, _, source = key
        if key in self._unsaved:
            return True
        if source == self._run:
            return counted_at >= hour
        is_late = counted_at < hour - HOURS_REMEMBERED
        return not is_late and source.partition("/")[0] in running

    def _hour(self) -> int:
        return int(self._wall()) // SECONDS_OF_AN_HOUR


def _hour_of(row: UsageRow, model_id: str, source: str) -> UsageHour:
    return UsageHour(
        hour=row.hour,
        model_id=model_id,
        source=source,
        requests=row.requests,
        errors=row.errors,
        prompt_tokens=row.prompt_tokens,
        cached_tokens=row.cached_tokens,
        completion_tokens=row.completion_tokens,
        estimated=row.estimated,
        seconds=row.seconds,
    )


def _difference(new: UsageHour, old: UsageHour) -> UsageHour:
    """What is new; never less than nothing, as a price may have become lower."""
    return replace(
        new,
        requests=max(0, new.requests - old.requests),
        errors=max(0, new.errors - old.errors),
        prompt_tokens=max(0, new.prompt_tokens - old.prompt_tokens),
        cached_tokens=max(0, new.cached_tokens - old.cached_tokens),
        completion_tokens=max(0, new.completion_tokens - old.completion_tokens),
        estimated=max(0, new.estimated - old.estimated),
        seconds=max(0.0, new.seconds - old.seconds),
        cost=max(0.0, new.cost - old.cost),
    )
