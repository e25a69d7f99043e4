"""/virtual-models: names that are no models, what they stand for, and what they stood for."""

from __future__ import annotations

import re
from typing import Annotated, Any

from fastapi import APIRouter, Body, Header, Response
from modelpool_client.errors import Conflict, InvalidRequest, NotFound, VersionMismatch
from pydantic import BaseModel, ConfigDict, Field

from modelpool.api.answers import (
    VirtualModelChanged,
    VirtualModelList,
    VirtualModelVersions,
    VirtualModelView,
)
from modelpool.api.error_handlers import refuse_method
from modelpool.api.openapi import refuses
from modelpool.api.route import ApiRoute
from modelpool.catalog.errors import StoreError
from modelpool.observe.events import iso
from modelpool.routing.kinds import registry
from modelpool.routing.virtual_model import VirtualModel, entry_schema
from modelpool.routing.virtual_models import Change
from modelpool.services import Services

Match = Annotated[
    str | None,
    Header(description='The version that it must have, as "3"; `*` for any', max_length=64),
]
NoneMatch = Annotated[
    str | None, Header(description="`*`: only if there is none of that name", max_length=64)
]
_TAG = re.compile(r'(?:W/)?"?(\d{1,15})"?')
_ETAG = {"etag": {"description": "The version", "schema": {"type": "string"}}}


class RollbackBody(BaseModel):
    """``version``: which of the former ones; left out: the one before the last change."""

    model_config = ConfigDict(strict=True, extra="forbid")
    version: Annotated[int, Field(ge=1, le=2**53)] | None = None


def routes(services: Services) -> APIRouter:
    """The routes of one pool."""
    router = APIRouter(tags=["routing"], route_class=ApiRoute)
    models = services.virtual_models

    @router.get("/virtual-models")
    async def list_() -> VirtualModelList:
        """All of them, patterns too, and the kinds that there are."""
        return {
            "virtual_models": [virtual_view(each, services) for each in models],
            "kinds": {name: registry.kind(name).summary for name in registry.names()},
            "unreadable": dict(models.unreadable),
        }

    @router.get("/virtual-models/{name:path}/versions", responses=refuses(NotFound))
    async def versions(name: str) -> VirtualModelVersions:
        """What the name stood for before each of its last changes, newest first; deleted ones are
        remembered, too."""
        current, former = models.history(name)
        return {
            "name": name,
            "current": None if current is None else virtual_view(current, services),
            "versions": [
                {
                    "version": each.version,
                    "until": iso(each.until),
                    "entry": None if each.entry is None else dict(each.entry),
                    "reason": each.reason,
                }
                for each in former
            ],
        }

    @router.post(
        "/virtual-models/{name:path}/rollback", responses=refuses(NotFound, Conflict, StoreError)
    )
    async def rollback(
        name: str, response: Response, body: RollbackBody | None = None
    ) -> VirtualModelChanged:
        """Let the name stand for what it stood for before: undo. That is a new version."""
        number = body.version if body is not None else None
        change = await models.rollback(name, number, "rolled back by the API")
        return _changed(change, response, services)

    for verb in ("versions", "rollback"):  # else they would be taken for a part of the name
        router.add_api_route(
            f"/virtual-models/{{name:path}}/{verb}",
            refuse_method,
            methods=["PUT", "DELETE", *(["GET"] if verb == "rollback" else [])],
            include_in_schema=False,
        )

    @router.get("/virtual-models/{name:path}", responses=refuses(NotFound))
    async def show(name: str, response: Response) -> VirtualModelView:
        """One of them, by its own name; `ETag` is its version."""
        found = models.get(name)
        response.headers["etag"] = f'"{found.version}"'
        return virtual_view(found, services)

    @router.put(
        "/virtual-models/{name:path}",
        responses=refuses(NotFound, Conflict, VersionMismatch, StoreError),
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": _schema()}},
            }
        },
    )
    async def put(
        name: str,
        response: Response,
        data: Annotated[Any, Body()],
        if_match: Match = None,
        if_none_match: NoneMatch = None,
    ) -> VirtualModelChanged:
        """Let the name stand for something from the next request on; running requests are not
        touched."""
        expected = _expected(if_match, if_none_match)
        change = await models.put(name, data, "set by the API", expected)
        return _changed(change, response, services)

    @router.delete(
        "/virtual-models/{name:path}", responses=refuses(NotFound, VersionMismatch, StoreError)
    )
    async def delete(name: str, response: Response, if_match: Match = None) -> VirtualModelChanged:
        """The name stands for nothing any more; a rollback brings it back."""
        change = await models.delete(name, "deleted by the API", _expected(if_match, None))
        return _changed(change, response, services)

    return router


def virtual_view(model: VirtualModel, services: Services) -> VirtualModelView:
    """One of them as the API shows it."""
    return {
        "name": model.name,
        "kind": model.kind,
        "version": model.version,
        "origin": model.origin,
        "updated_at": iso(model.updated_at),
        "targets": list(model.targets),
        "missing": list(services.virtual_models.missing(model)),
        "is_shadowed": model.name in services.catalog,
        "entry": model.as_entry(),
    }


def _changed(change: Change, response: Response, services: Services) -> VirtualModelChanged:
    model = change.model
    if model is not None:
        response.headers["etag"] = f'"{model.version}"'
        text = f"{change.name} is {model.kind} at version {change.version}"
    else:
        text = f"{change.name} stands for nothing any more"
    return {
        "message": text,
        "virtual_model": None if model is None else virtual_view(model, services),
        "warnings": list(change.warnings),
    }


def _expected(if_match: str | None, if_none_match: str | None) -> int | None:
    if if_none_match is not None:
        if if_none_match.strip() != "*" or if_match is not None:
            raise InvalidRequest("If-None-Match takes *, and no If-Match", param="If-None-Match")
        return 0
    if if_match is None or if_match.strip() == "*":
        return None
    found = _TAG.fullmatch(if_match.strip())
    if found is None:
        raise InvalidRequest('If-Match takes one version, as "3"', param="If-Match")
    return int(found[1])


def _schema() -> dict[str, Any]:
    own = entry_schema({name: registry.kind(name) for name in registry.BUILT_IN})
    weights = {"type": "object", "additionalProperties": {"type": "number", "minimum": 0}}
    return {"anyOf": [*own["oneOf"], {**weights, "minProperties": 1}]}
