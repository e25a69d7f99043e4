"""``/v1/models``: what of the client surfaces concerns the catalog is answered without a worker."""

from __future__ import annotations

import json

from modelpool_client.errors import MethodNotAllowed
from modelpool_client.http1.exchange import JSON_TYPE, Exchange
from modelpool_client.surfaces.models import PATH, Listed, encoded_listing

from modelpool.catalog.catalog import Catalog
from modelpool.catalog.model import Model
from modelpool.pool.pool import Pool


class Models:
    """Every model of the catalog, loaded or not, by its id and aliases."""

    def __init__(self, catalog: Catalog, pool: Pool) -> None:
        self._catalog = catalog
        self._pool = pool
        # Making an entry costs fifty times what comparing does, and most models stay as they are.
        self._encoded: dict[str, tuple[Listed, bytes]] = {}

    @staticmethod
    def is_asked(path: str) -> bool:
        """The list, or one model of it."""
        return path == PATH or path.startswith(f"{PATH}/")

    def answer(self, exchange: Exchange, path: str) -> None:
        """The list, or the model that the path names.

        Raises:
            MethodNotAllowed: it takes GET.
            ModelNotFound: there is none of that name.
        """
        method = exchange.request.method
        if method not in ("GET", "HEAD"):
            raise MethodNotAllowed.of(path, method, ("GET",))
        name = path.removeprefix(PATH)[1:]
        if name:
            exchange.send_json(200, self._listed(self._catalog.get(name)).entry(name))
        else:
            exchange.send(200, [JSON_TYPE], self._listing())

    def _listing(self) -> bytes:
        models = [self._listed(m) for m in self._catalog if self._pool.has(m.model_id)]
        before = self._encoded
        self._encoded = {m.model_id: _encoded(m, before.get(m.model_id)) for m in models}
        return encoded_listing(models, [text for _, text in self._encoded.values()])

    def _listed(self, model: Model) -> Listed:
        return Listed(
            model.model_id,
            model.aliases,
            model.created_at,
            model.display_name,
            model.capabilities,
            model.context_length,
            {"state": self._pool.state(model.model_id)},
        )


def _encoded(listed: Listed, before: tuple[Listed, bytes] | None) -> tuple[Listed, bytes]:
    if before is not None and before[0] == listed:
        return before
    return listed, json.dumps(listed.entries()).encode()[1:-1]
