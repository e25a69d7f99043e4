"""/models/{id}/versions: what an entry said before it was changed, and the way back."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path
from modelpool_client.errors import ModelExists, NotFound, NotSupported

from modelpool.api.answers import Registered, Versions
from modelpool.api.openapi import refuses
from modelpool.api.route import ApiRoute
from modelpool.api.schemas import model_view
from modelpool.catalog.errors import StoreError
from modelpool.catalog.model import validate_model_id
from modelpool.observe.events import iso
from modelpool.services import Services

Number = Annotated[int, Path(ge=1, le=2**53)]


def routes(services: Services) -> APIRouter:
    """The routes of one pool."""
    router = APIRouter(tags=["models"], route_class=ApiRoute)

    @router.get("/models/{model_id:path}/versions", responses=refuses(StoreError))
    async def versions(model_id: str) -> Versions:
        """What the model's entry said before each of its last changes, newest first."""
        validate_model_id(model_id)
        name = services.catalog.get(model_id).model_id
        found = await services.catalog.versions.of(name)
        return {
            "model_id": name,
            "versions": [
                {
                    "version": each.number,
                    "until": iso(each.until),
                    "entry": dict(each.entry),
                    "can_be_restored": each.is_whole,
                }
                for each in found
            ],
        }

    @router.post(
        "/models/{model_id:path}/versions/{number}/rollback",
        responses=refuses(NotFound, NotSupported, ModelExists, StoreError),
    )
    async def rollback(model_id: str, number: Number) -> Registered:
        """Let the entry say again what it said; what runs keeps what it runs with until it is
        loaded again."""
        validate_model_id(model_id)
        model = await services.rollback(model_id, number)
        return {"model": model_view(services.pool.status(model.model_id), services)}

    return router
