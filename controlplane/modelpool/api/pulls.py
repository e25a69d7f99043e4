"""/models/pull and /disk: models fetched from elsewhere, and what they take."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Response
from modelpool_client.errors import Conflict, ModelExists, QueueFull
from pydantic import BaseModel, ConfigDict, Field

from modelpool.api.answers import DiskView, FileRemoval, JobView
from modelpool.api.jobs import BEGUN, Wait, begun
from modelpool.api.openapi import refuses
from modelpool.api.route import ApiRoute
from modelpool.catalog.errors import StoreError
from modelpool.observe.events import iso
from modelpool.pulling.pulls import KIND, Disk, Removal
from modelpool.services import Services


class PullBody(BaseModel):
    """``source`` is ``hf:owner/repo[:quantisation or file][@revision]``, ``ollama:name[:tag]``,
    ``ollama-server:name[:tag]``, a URL or an absolute path. ``options`` are load options,
    ``digest`` the ``sha256:…`` that the file must have; with ``register`` false it is only
    fetched."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
    source: str
    model_id: str | None = None
    aliases: list[str] = Field(default_factory=list)
    tags: list[str] = Field(default_factory=list)
    options: dict[str, Any] = Field(default_factory=dict)
    digest: str | None = None
    register_: Annotated[bool, Field(alias="register")] = True


class PruneBody(BaseModel):
    """``dry_run``: only say what would go."""

    model_config = ConfigDict(strict=True, extra="forbid")
    dry_run: bool = False


def routes(services: Services) -> APIRouter:
    """The routes of one pool."""
    router = APIRouter(tags=["pulls"], route_class=ApiRoute)

    @router.post(
        "/models/pull",
        status_code=202,
        responses=BEGUN | refuses(Conflict, ModelExists, QueueFull, StoreError),
    )
    async def pull(
        response: Response, body: Annotated[PullBody, Body()], wait: Wait = None
    ) -> JobView:
        """Fetch a model and register it: a job, which goes on whoever waits."""
        data = body.model_dump(by_alias=True, exclude_defaults=True)
        return await begun(services.jobs, KIND, data, wait, response)

    @router.get("/disk")
    async def disk() -> DiskView:
        """What the disk holds by model."""
        return disk_view(await services.pulls.disk(), services)

    @router.post("/disk/prune")
    async def prune(body: PruneBody | None = None) -> FileRemoval:
        """Remove pulled files that no model uses, and downloads that nobody goes on with."""
        removal = await services.pulls.prune(dry_run=body is not None and body.dry_run)
        return removal_view(removal)

    return router


def removal_view(removal: Removal) -> FileRemoval:
    """Files that are gone, and those that stay."""
    return {
        "files": list(removal.files),
        "freed_bytes": removal.size,
        "kept": list(removal.kept),
    }


def disk_view(disk: Disk, services: Services) -> DiskView:
    """All that is pulled, and every model of the catalog with the bytes of its files."""
    pulled = {model_id for holding in disk.holdings for model_id in holding.models}
    return {
        "models_dir": str(disk.models_dir),
        "total_bytes": disk.total,
        "free_bytes": disk.free,
        "pulled_bytes": sum(h.size for h in disk.holdings) + sum(u.size for u in disk.unfinished),
        "pulls": [
            {
                "reference": h.record.reference,
                "models": list(h.models),
                "bytes": h.size,
                "files": [str(disk.models_dir / file.path) for file in h.record.files],
                "revision": h.record.revision,
                "pulled_at": iso(h.record.pulled_at) if h.record.pulled_at else None,
            }
            for h in disk.holdings
        ],
        "unfinished": [
            {
                "file": str(u.path),
                "bytes": u.size,
                "reference": u.reference,
                "is_wanted": u.is_wanted,
            }
            for u in disk.unfinished
        ],
        "models": [
            {
                "model_id": model.model_id,
                "source": str(model.shown()["source"]),
                "bytes": model.size_bytes,
                "is_pulled": model.model_id in pulled,
            }
            for model in services.catalog.list()
        ],
    }
