"""Where the HOT workers are, for those who ask: Prometheus, Traefik, people."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter
from modelpool_client.errors import Unavailable

from modelpool.api.answers import Registrars, Targets
from modelpool.api.openapi import refuses
from modelpool.api.route import ApiRoute
from modelpool.registrars.record import Record
from modelpool.services import Services

META = "__meta_modelpool_"


def routes(services: Services) -> APIRouter:
    """The routes of one pool."""
    router = APIRouter(tags=["discovery"], route_class=ApiRoute)
    registrars = services.registrars

    def records() -> list[Record]:
        # Any answer but 200 makes Prometheus and Traefik keep what they have.
        if not registrars.has_begun:
            raise Unavailable("which workers run is not known yet; try again", retry_after=1)
        return list(registrars.records().values())

    @router.get("/sd/prometheus", responses=refuses(Unavailable))
    async def prometheus() -> list[Targets]:
        """The HOT workers as targets of Prometheus' ``http_sd_configs``."""
        return prometheus_targets(records())

    @router.get("/sd/traefik", responses=refuses(Unavailable))
    async def traefik() -> dict[str, Any]:
        """The HOT workers for Traefik's HTTP provider: ``/MODEL/`` leads to the model."""
        return traefik_configuration(records())

    @router.get("/registrars")
    async def show_registrars() -> Registrars:
        """The registries that are told about HOT workers, and how that goes."""
        return {"registrars": registrars.view()}

    return router


def prometheus_targets(records: Iterable[Record]) -> list[Targets]:
    """One group per worker. Labels become the target's; those with ``__meta_`` are for relabelling
    and dropped by Prometheus afterwards."""
    return [
        {
            "targets": [record.address],
            "labels": {
                "model": record.model,
                "engine": record.engine,
                "pool": record.pool,
                f"{META}worker": record.id,
                f"{META}node": record.node,
                f"{META}version": record.version,
            },
        }
        for record in records
    ]


def traefik_configuration(records: Iterable[Record]) -> dict[str, Any]:
    """A router per model, whose service has a server per worker. Rules are of a form that Traefik
    2 and 3 share; an empty section would be an error to both, so that none is written. Servers see
    their own address as Host: it is the one by which workers are asked."""
    servers: dict[str, list[dict[str, str]]] = {}
    for record in records:
        servers.setdefault(record.model, []).append({"url": record.url})
    if not servers:
        return {}
    return {
        "http": {
            "routers": {_name(model): _router(model) for model in servers},
            "middlewares": {
                _name(model): {"stripPrefix": {"prefixes": [_path(model)]}} for model in servers
            },
            "services": {
                _name(model): {"loadBalancer": {"servers": found, "passHostHeader": False}}
                for model, found in servers.items()
            },
        }
    }


def _router(model: str) -> dict[str, Any]:
    name = _name(model)
    return {"rule": f"PathPrefix(`{_path(model)}/`)", "service": name, "middlewares": [name]}


def _path(model: str) -> str:
    """Without what would end a rule or be a pattern in it."""
    return f"/{quote(model, safe='/:')}"


def _name(model: str) -> str:
    """``@`` and ``/`` mean something in Traefik's names; no two models get one name."""
    escaped = quote(model, safe="").replace("_", "__").replace("%", "_")
    return f"model-{escaped}"
