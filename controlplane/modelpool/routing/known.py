"""What kinds of virtual models may know: the catalog, and the pool at the moment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

from modelpool.catalog.catalog import Catalog
from modelpool.catalog.model import Model
from modelpool.pool.pool import Pool


class PoolKnown:
    """See ``kinds.base.Known``.

    Attributes:
        facts: what else there is to know, by name; asked anew for each request.
    """

    def __init__(self, catalog: Catalog, pool: Pool, clock: Callable[[], datetime]) -> None:
        self.facts: dict[str, Callable[[], Any]] = {}
        self._catalog = catalog
        self._pool = pool
        self._clock = clock

    def __repr__(self) -> str:
        return f"<PoolKnown {len(self._catalog)} models, {', '.join(self.facts) or 'no facts'}>"

    @property
    def now(self) -> datetime:
        """See ``Known``."""
        return self._clock()

    def model(self, name: str) -> Model | None:
        """See ``Known``."""
        return self._catalog.find(name)

    def models(self) -> Iterator[Model]:
        """See ``Known``."""
        return iter(self._catalog)

    def is_serving(self, model_id: str) -> bool:
        """See ``Known``."""
        return self._pool.has(model_id) and self._pool.state(model_id).is_serving

    def in_flight(self, model_id: str) -> int:
        """See ``Known``."""
        if not self._pool.has(model_id):
            return 0
        return sum(s.in_flight + s.waiting for s in self._pool.statuses(model_id))

    def fact(self, name: str) -> Any:
        """See ``Known``."""
        give = self.facts.get(name)
        return give() if give is not None else None
