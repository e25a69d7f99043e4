"""What was spent today and this month, as the table of usage has it."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Protocol

from modelpool.catalog.errors import StoreError
from modelpool.catalog.usage_rows import UsageTotal
from modelpool.observe.usage_hours import SECONDS_OF_AN_HOUR

log = logging.getLogger(__name__)

# Budgets are no matter of seconds, and a month is some thousand rows.
LOOK_SECONDS = 60.0
SIGNALS = ("cost_day", "cost_month")


class UsageTotals(Protocol):
    async def usage_totals(
        self, by: Sequence[str], since: int | None, until: int | None, model_id: str | None
    ) -> list[UsageTotal]: ...


class Costs:
    """Asks the store now and then, and only where a rule is about them."""

    def __init__(self, store: UsageTotals) -> None:
        self._store = store
        self._looked: dict[str, float] = {}
        self._rows: dict[str, list[UsageTotal]] = {}

    async def look(self, wanted: Collection[str], now: float) -> None:
        """Ask for those of ``wanted``, if it is time to. ``now``: seconds since 1970."""
        for signal in SIGNALS:
            if signal not in wanted:
                self._rows.pop(signal, None)
                self._looked.pop(signal, None)
                continue
            looked = self._looked.get(signal)
            began = began_at(signal, now)
            if looked is not None and began <= looked and 0 <= now - looked < LOOK_SECONDS:
                continue
            try:
                since = int(began // SECONDS_OF_AN_HOUR)
                self._rows[signal] = await self._store.usage_totals(("model",), since, None, None)
            except StoreError as e:
                log.warning("what was spent could not be read: %s", e)
                continue
            self._looked[signal] = now

    def of(self, signal: str) -> list[tuple[str, str, float]]:
        """Model, currency and cost, since the day or the month began."""
        return [(row.model_id or "", row.currency, row.cost) for row in self._rows.get(signal, ())]


def began_at(signal: str, now: float) -> float:
    """PURE. When the day, or the month, has begun in UTC; seconds since 1970."""
    day = datetime.fromtimestamp(now, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return (day if signal == "cost_day" else day.replace(day=1)).timestamp()
