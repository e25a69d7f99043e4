"""/route/{decision}/outcome, /route/outcomes: what came of decisions, what that has taught."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from modelpool_client.errors import Conflict, InvalidRequest, NotFound
from pydantic import BaseModel, ConfigDict, Field

from modelpool.api.answers import OutcomeList, OutcomesForgotten, OutcomeTaken, TaughtView
from modelpool.api.error_handlers import refuse_method
from modelpool.api.openapi import refuses
from modelpool.api.route import ApiRoute
from modelpool.catalog.errors import StoreError
from modelpool.routing.outcomes import Taught
from modelpool.services import Services


class OutcomeBody(BaseModel):
    """One of both: ``score``, how good the answer was, 0 to 1, or ``success``, whether it was."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
    score: Annotated[float, Field(ge=0, le=1)] | None = None
    success: bool | None = None


def routes(services: Services) -> APIRouter:
    """The routes of one pool."""
    router = APIRouter(tags=["routing"], route_class=ApiRoute)
    outcomes = services.outcomes

    @router.post("/route/{decision_id}/outcome", responses=refuses(NotFound, Conflict, StoreError))
    async def report(decision_id: str, body: OutcomeBody) -> OutcomeTaken:
        """How good an answer was that `auto` has chosen a model for; `x-modelpool-decision-id` of
        the answer names the decision. It counts once, where `learn_from_outcomes` is on."""
        if (body.score is None) == (body.success is None):
            raise InvalidRequest("either score or success, one of both", param="score")
        score = body.score if body.score is not None else float(body.success or False)
        taught = await outcomes.report(decision_id, score)
        view = _view(taught)
        text = f"{taught.model_id} at {taught.task}: {view['offset']:+.4f}"
        return {**view, "message": f"{text}, by {view['outcomes']} outcomes"}

    @router.get("/route/outcomes")
    async def list_() -> OutcomeList:
        """What outcomes have taught of models at kinds of work: by how much their skills have
        moved, as it counts now."""
        config = services.pool.config
        return {
            "is_on": config.learn_from_outcomes,
            "half_life_days": config.outcome_half_life_days,
            "learned": [_view(each) for each in outcomes],
        }

    @router.delete("/route/outcomes", responses=refuses(StoreError))
    async def forget(
        request: Request,
        model: Annotated[
            str | None, Query(description="Of this model only", max_length=255)
        ] = None,
    ) -> OutcomesForgotten:
        """Forget what outcomes have taught, of a model or of all."""
        for name in request.query_params:
            if name != "model":  # a slip of the pen would have all of it forgotten
                raise InvalidRequest(f"there is no parameter {name[:60]!r}, only model", param=name)
        found = services.catalog.find(model) if model is not None else None
        model_id = found.model_id if found is not None else model
        count = await outcomes.forget(model_id)
        return {"message": f"forgotten: {count}", "forgotten": count}

    router.add_api_route(
        "/route/{decision_id}/outcome",
        refuse_method,
        methods=["GET", "PUT", "DELETE"],
        include_in_schema=False,
    )
    return router


def _view(taught: Taught) -> TaughtView:
    return {
        "model": taught.model_id,
        "task_type": taught.task,
        "offset": round(taught.standing.offset, 6),
        "outcomes": taught.standing.outcomes,
    }
