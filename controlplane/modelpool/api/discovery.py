"""/discover: which models are on the disk."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from modelpool_client.errors import Conflict, NotFound, QueueFull
from pydantic import BaseModel, ConfigDict

from modelpool.api.answers import DiscoveryList, FindingView, JobView, RootForgotten, RootView
from modelpool.api.jobs import BEGUN, Wait, begun
from modelpool.api.openapi import refuses
from modelpool.api.route import ApiRoute
from modelpool.api.schemas import in_mb
from modelpool.api.whole_number import WHOLE
from modelpool.catalog.errors import StoreError
from modelpool.catalog.model import Model
from modelpool.discovery.adopt import adopt
from modelpool.discovery.findings import Finding
from modelpool.discovery.roots import RootReport
from modelpool.observe.events import iso
from modelpool.services import Services

MAX_PAGE = 1000

Kind = Literal["model", "companion", "broken", "unsettled", "duplicate"]
Limit = Annotated[int, WHOLE, Query(ge=0, le=MAX_PAGE, description="Most findings to show")]
Offset = Annotated[int, WHOLE, Query(ge=0, le=2**53, description="Leave out so many: a page on")]


class DiscoverBody(BaseModel):
    """``paths``: folders or files, each a text or {"path", "source"}; left out: all roots.
    ``restore``: models that were deleted come back."""

    model_config = ConfigDict(strict=True, extra="forbid")
    paths: list[str | dict[str, Any]] | None = None
    restore: bool = False


def routes(services: Services) -> APIRouter:
    """The routes of one pool."""
    router = APIRouter(tags=["discovery"], route_class=ApiRoute)
    discovery = services.discovery

    @router.post(
        "/discover", status_code=202, responses=BEGUN | refuses(Conflict, QueueFull, StoreError)
    )
    async def discover(
        response: Response, body: DiscoverBody | None = None, wait: Wait = None
    ) -> JobView:
        """Look for models on the disk: a job. What it finds is in the catalog when it is over."""
        data = body.model_dump(exclude_none=True) if body is not None else {}
        return await begun(services.jobs, "discover", data, wait, response)

    @router.get("/discover")
    async def found(
        kind: Kind | None = None, limit: Limit = 100, offset: Offset = 0
    ) -> DiscoveryList:
        """Where models are looked for, and what is there: models, what goes with them, and what is
        broken and why; ``total`` counts those of all pages."""
        findings = discovery.findings
        ids = model_ids(services.catalog)
        places = {m.source: m for m in services.catalog if len(m.places) > 1}
        chosen = [f for f in findings if _is_wanted(f, kind, places)]
        page = chosen[offset : offset + limit]
        kinds = [f.kind for f in findings]
        counts = {k: kinds.count(k) for k in ("model", "companion", "broken", "unsettled")}
        return {
            "roots": [root_view(report) for report in discovery.reports.values()],
            "counts": {**counts, "duplicate": len(places)},
            "findings": [finding_view(f, ids.get(f.path)) for f in page],
            "total": len(chosen),
        }

    @router.delete("/discover", responses=refuses(NotFound, StoreError))
    async def forget(path: str) -> RootForgotten:
        """Look no more where a client had asked for it; models that were only there go."""
        async with discovery.is_scanning:
            if not await discovery.forget(path):
                text = f"{path[:200]} is no root that was asked for; see GET /discover"
                raise NotFound(text, param="path")
            done = await adopt(services)
        return {"deleted": path, "vanished": done.vanished, "waiting": done.waiting}

    return router


def model_ids(catalog: Iterable[Model]) -> dict[str, str]:
    """By path, the id under which the catalog has it."""
    pairs = ((path, m.model_id) for m in catalog for path in (m.source, *m.places))
    return dict(pairs)


def _is_wanted(finding: Finding, kind: Kind | None, places: dict[str, Model]) -> bool:
    if kind == "duplicate":
        return finding.path in places
    return kind is None or finding.kind == kind


def root_view(report: RootReport) -> RootView:
    """A root as the API shows it."""
    return {
        "path": report.root.path,
        "source": report.source or report.root.source or None,
        "state": report.state,
        "reason": report.reason,
        "asked": report.root.is_asked,
        "looked_at": iso(report.looked_at),
        "tried_at": iso(report.tried_at),
        "seconds": report.seconds,
        "folders": report.folders,
        "files": report.entries,
        "files_read": report.files_read,
    }


def finding_view(finding: Finding, model_id: str | None) -> FindingView:
    """What is at a path as the API shows it."""
    return {
        "path": finding.path,
        "root": finding.root,
        "kind": finding.kind,
        "format": finding.format or None,
        "model_id": model_id,
        "companion": finding.companion or None,
        "reason": finding.problem,
        "size_mb": in_mb(finding.size_bytes or None),
        "quantization": finding.quantization or None,
        "context_length": finding.context_length,
    }
