"""``/v1/models``: what of the client surfaces concerns the catalog is answered without a worker."""

from __future__ import annotations

from typing import Any

from modelpool_client.errors import MethodNotAllowed
from modelpool_client.http1.exchange import Exchange
from modelpool_client.surfaces.models import entries, entry, listing

from modelpool.catalog.catalog import Catalog
from modelpool.catalog.model import Model
from modelpool.pool.pool import Pool

MODELS_PATH = "/v1/models"


class Models:
    """Every model of the catalog, loaded or not, by its id and aliases."""

    def __init__(self, catalog: Catalog, pool: Pool) -> None:
        self._catalog = catalog
        self._pool = pool

    @staticmethod
    def is_asked(path: str) -> bool:
        """The list, or one model of it."""
        return path == MODELS_PATH or path.startswith(f"{MODELS_PATH}/")

    def answer(self, exchange: Exchange, path: str) -> None:
        """The list, or the model that the path names.

        Raises:
            MethodNotAllowed: it takes GET.
            ModelNotFound: there is none of that name.
        """
        method = exchange.request.method
        if method not in ("GET", "HEAD"):
            raise MethodNotAllowed.of(path, method, ("GET",))
        name = path.removeprefix(MODELS_PATH)[1:]
        if name:
            m = self._catalog.get(name)
            exchange.send_json(200, entry(name, m.model_id, m.aliases, **self._facts(m)))
        else:
            models = [m for m in self._catalog if self._pool.has(m.model_id)]
            found = [e for m in models for e in entries(m.model_id, m.aliases, **self._facts(m))]
            exchange.send_json(200, listing(found))

    def _facts(self, model: Model) -> dict[str, Any]:
        return {
            "created": int(model.created_at),
            "state": self._pool.status(model.model_id).state,
            "context_length": model.context_length,
        }
