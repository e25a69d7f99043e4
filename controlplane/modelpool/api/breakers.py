"""/breakers: who fails, and gets no requests for it."""

from __future__ import annotations

from fastapi import APIRouter
from modelpool_client.errors import NotFound

from modelpool.api.answers import BreakerList
from modelpool.api.error_handlers import refuse_method
from modelpool.api.openapi import refuses
from modelpool.api.route import ApiRoute
from modelpool.api.schemas import breaker_view
from modelpool.services import Services


def routes(services: Services) -> APIRouter:
    """The routes of one pool."""
    router = APIRouter(tags=["routing"], route_class=ApiRoute)
    breakers = services.breakers

    @router.get("/breakers")
    async def list_() -> BreakerList:
        """The breakers of workers and of servers elsewhere that something failed at lately; of all
        others there is nothing to tell: they are CLOSED. And which models' servers have said that
        they take nothing for now, in seconds."""
        pauses = {model_id: round(left, 1) for model_id, left in breakers.pauses().items()}
        return {"breakers": [breaker_view(view) for view in breakers], "paused_seconds": pauses}

    @router.post("/breakers/{breaker_id:path}/reset", responses=refuses(NotFound))
    async def reset(breaker_id: str) -> BreakerList:
        """Close one and forget what has failed: whoever is behind it is asked again."""
        breakers.reset(breaker_id, "reset by the API")
        return await list_()

    router.add_api_route(
        "/breakers/{breaker_id:path}/reset",
        refuse_method,
        methods=["GET", "PUT", "DELETE"],
        include_in_schema=False,
    )
    return router
