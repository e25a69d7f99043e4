"""``/v1/models``: what of the client surfaces concerns the catalog is answered without a worker."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from modelpool_client.errors import MethodNotAllowed
from modelpool_client.http1.exchange import Exchange
from modelpool_client.surfaces.models import PATH, Listed, encoded_listing

from modelpool.catalog.catalog import Catalog
from modelpool.catalog.model import Model
from modelpool.gateway.listings import Listing, encoded, send
from modelpool.pool.pool import Pool
from modelpool.pool.states import State
from modelpool.routing.virtual_model import VirtualModel


class Problems(Protocol):
    """What keeps engines from being used."""

    @property
    def edition(self) -> int:
        """Another number when any of them may have changed."""
        ...

    def problem(self, model: Model) -> str:
        """Why a model's engine cannot be used, and what would help; empty: it can."""
        ...


class _NoProblems:
    edition = 0

    def problem(self, model: Model) -> str:
        return ""


NO_PROBLEMS = _NoProblems()


class VirtualNames(Protocol):
    """Names that are no models', and can be asked."""

    @property
    def edition(self) -> int:
        """Another number after every change."""
        ...

    def listed(self) -> Iterable[VirtualModel]:
        """Those that are a name each, and no model's."""
        ...

    def find(self, name: str) -> VirtualModel | None:
        """The one that a name is one of."""
        ...


class _NoNames:
    edition = 0

    def listed(self) -> Iterable[VirtualModel]:
        return ()

    def find(self, name: str) -> VirtualModel | None:
        return None


NO_NAMES = _NoNames()


def first_model(virtual: VirtualModel, catalog: Catalog) -> Model | None:
    """The first of its targets that is a model, by which clients that ask what it is are told."""
    models = (catalog.find(name) for name in virtual.targets)
    return next((model for model in models if model is not None), None)


class Models:
    """Every model of the catalog, loaded or not, by its id and aliases. ``problems`` says why its
    engine cannot be used."""

    def __init__(
        self, catalog: Catalog, pool: Pool, problems: Problems, virtual: VirtualNames = NO_NAMES
    ) -> None:
        self._virtual = virtual
        self._catalog = catalog
        self._pool = pool
        self._problems = problems
        self._listing = Listing(catalog, pool, self._entries, lambda: problems.edition)

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
            exchange.send_json(200, self._entry(name))
        else:
            tag = f"{self._listing.renew()}-{self._virtual.edition}"
            send(exchange, tag, self._body)

    def _entry(self, name: str) -> dict[str, Any]:
        model = self._catalog.find(name)
        if model is None and (found := self._virtual.find(name)) is not None:
            return self._listed_virtual(found).entry(found.name)
        model = self._catalog.get(name)
        return self._listed(model, self._pool.state(model.model_id)).entry(name)

    def _body(self) -> bytes:
        parts = self._listing.parts
        virtual = [self._listed_virtual(each) for each in self._virtual.listed()]
        listed = [self._listed(parts[i][0], State.COLD) for i in (0, -1)] if parts else []
        entries = [entries for _, entries in parts]
        entries += [encoded(each.entry(each.model_id)) for each in virtual]
        return encoded_listing([*listed, *virtual], entries)

    def _entries(self, model: Model, state: State) -> bytes:
        return encoded(self._listed(model, state).entries())[1:-1]

    def _listed_virtual(self, found: VirtualModel) -> Listed:
        """It can do what the first of its targets can."""
        first = first_model(found, self._catalog)
        facts = {"virtual": found.kind, "targets": list(found.targets)}
        can = first.capabilities if first is not None else ()
        context = first.context_length if first is not None else None
        name, text = found.name, found.description
        return Listed(name, (), found.updated_at, text or name, can, context, facts)

    def _listed(self, model: Model, state: State) -> Listed:
        problem = self._problems.problem(model)
        return Listed(
            model.model_id,
            model.aliases,
            model.created_at,
            model.display_name,
            model.capabilities,
            model.context_length,
            {"state": state} | ({"engine_problem": problem} if problem else {}),
        )
