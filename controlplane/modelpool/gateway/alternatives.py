"""Which other models of the pool could do what one of them was refused for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Sequence

from modelpool_client.errors import ModelPoolError
from modelpool_client.surfaces.routes import BASIC, Surface

from modelpool.catalog.catalog import Catalog
from modelpool.catalog.model import Model
from modelpool.pool.admission import Refuse
from modelpool.pool.pool import Pool

# Of so many the first that will do are named: it costs the same however many models there are.
LOOKED_AT, NAMED = 64, 5

Surfaces = Callable[[str], Awaitable[Sequence[str] | None]]


class Alternatives:
    """Looks among those that are HOT, then by the catalog's index of capabilities; ``surfaces`` as
    ``Gateway`` has it."""

    def __init__(self, catalog: Catalog, pool: Pool, surfaces: Surfaces) -> None:
        self._catalog = catalog
        self._pool = pool
        self._surfaces = surfaces

    async def tell(
        self, error: ModelPoolError, model_id: str, surface: Surface, needs: Collection[str]
    ) -> None:
        """Add to a refusal which models could do it, at most ``NAMED``: those that are HOT first,
        then those that would fit. They are in ``details``, too."""
        hot, others = await self._found(model_id, surface, needs)
        names = [*hot, *others]
        told = [*(f"{name} (HOT)" for name in hot), *others]
        error.details["models"] = names
        error.message += f"; these can: {', '.join(told)}" if told else "; no other model here can"

    async def _found(
        self, model_id: str, surface: Surface, needs: Collection[str]
    ) -> tuple[list[str], list[str]]:
        hot: dict[str, None] = {}
        others: dict[str, None] = {}
        serving = {model.model_id: None for model in self._serving()}
        for model in [*self._serving(), *await self._listed(surface, needs)]:
            name = model.model_id
            if len(hot) + len(others) == NAMED:
                break
            if name == model_id or name in hot or name in others:
                continue
            if not await self._can(model, surface, needs):
                continue
            if name in serving:
                hot[name] = None
            elif self._fits(name):
                others[name] = None
        return list(hot), list(others)

    def _serving(self) -> Iterator[Model]:
        for status in self._pool.holders:
            model = self._catalog.find(status.model.model_id)
            if status.state.is_serving and model is not None:
                yield model

    async def _listed(self, surface: Surface, needs: Collection[str]) -> Iterable[Model]:
        """The first that the index has for it."""
        any_of = [("capability", word) for word in sorted(surface.needs)]
        if not any_of:  # it is up to the engine
            engines = self._catalog.counts("engine")
            any_of = [("engine", name) for name in engines if await self._serves(name, surface)]
        all_of = [("capability", word) for word in needs]
        return self._catalog.some_with(any_of, all_of, LOOKED_AT)

    async def _can(self, model: Model, surface: Surface, needs: Collection[str]) -> bool:
        known = model.known_capabilities
        if surface.needs and surface.needs.isdisjoint(known):
            return False
        return set(needs).issubset(known) and await self._serves(model.engine, surface)

    async def _serves(self, engine: str, surface: Surface) -> bool:
        serves = await self._surfaces(engine)
        return surface.is_answered(BASIC if serves is None else serves)

    def _fits(self, model_id: str) -> bool:
        return self._pool.has(model_id) and not isinstance(self._pool.plan(model_id), Refuse)
