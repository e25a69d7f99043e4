"""/jobs: what takes longer than a request."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Query, Response
from modelpool_client.errors import Conflict, NotFound, QueueFull
from pydantic import BaseModel, ConfigDict

from modelpool.api.answers import JobForgotten, JobList, JobView
from modelpool.api.openapi import refuses
from modelpool.api.route import ApiRoute
from modelpool.catalog.errors import StoreError
from modelpool.jobs.job import Job
from modelpool.jobs.runner import Jobs
from modelpool.observe.events import iso
from modelpool.services import Services

MAX_WAIT_SECONDS = 3600

Wait = Annotated[
    float | None, Query(ge=0, le=MAX_WAIT_SECONDS, description="Seconds to wait for its end")
]

BEGUN: dict[int | str, dict[str, Any]] = {
    200: {"model": JobView, "description": "it rests or is over, or was under way already"},
    202: {"model": JobView, "description": "it waits or runs"},
}


class JobBody(BaseModel):
    """Which kind of work, and what else that kind wants to know."""

    model_config = ConfigDict(strict=True, extra="allow")
    kind: str


def routes(services: Services) -> APIRouter:
    """The routes of one pool."""
    router = APIRouter(tags=["jobs"], route_class=ApiRoute)
    jobs = services.jobs

    @router.get("/jobs")
    async def list_jobs(
        kind: str | None = None, state: str | None = None, subject: str | None = None
    ) -> JobList:
        """All jobs that are not over, and the last that are; newest first. Without their logs."""
        found = jobs.list(kind, state, subject)
        return {"jobs": [job_view(job, with_log=False) for job in found]}

    @router.post(
        "/jobs", status_code=202, responses=BEGUN | refuses(Conflict, QueueFull, StoreError)
    )
    async def create(
        response: Response, body: Annotated[JobBody, Body()], wait: Wait = None
    ) -> JobView:
        """Begin a job. One that does just that already is answered in its place."""
        return await begun(jobs, body.kind, body.model_extra or {}, wait, response)

    @router.get("/jobs/{job_id}", responses=refuses(NotFound))
    async def show(job_id: str, wait: Wait = None) -> JobView:
        """One job, with its log; with ``wait`` once it rests or is over, or after that time."""
        return job_view(await jobs.wait(job_id, wait) if wait else jobs.get(job_id))

    @router.post("/jobs/{job_id}/cancel", responses=refuses(Conflict, NotFound))
    async def cancel(job_id: str) -> JobView:
        """End it. What it has done so far stays for ``resume``."""
        return job_view(await jobs.cancel(job_id))

    @router.post("/jobs/{job_id}/pause", responses=refuses(Conflict, NotFound))
    async def pause(job_id: str) -> JobView:
        """Let it rest until ``resume``, also over restarts of the manager."""
        return job_view(await jobs.pause(job_id))

    @router.post("/jobs/{job_id}/resume", responses=refuses(Conflict, NotFound))
    async def resume(job_id: str) -> JobView:
        """Begin it again where it was: one that rests, failed or was cancelled."""
        return job_view(await jobs.resume(job_id))

    @router.delete("/jobs/{job_id}", responses=refuses(Conflict, NotFound, StoreError))
    async def remove(job_id: str) -> JobForgotten:
        """Forget one that is over."""
        await jobs.remove(job_id)
        return {"deleted": job_id}

    return router


async def begun(
    jobs: Jobs, kind: str, data: dict[str, Any], wait: float | None, response: Response
) -> JobView:
    """For every route that begins a job: its view, and the status of the answer set.

    Raises:
        ModelPoolError: why it cannot be done.
    """
    job, is_new = await jobs.create(kind, data)
    if wait:
        job = await jobs.wait(job.job_id, wait)
    response.status_code = 202 if is_new and job.state.is_active else 200
    return job_view(job)


def job_view(job: Job, *, with_log: bool = True) -> JobView:
    """A job as the API shows it."""
    done, total = job.progress.done, job.progress.total
    return {
        "job_id": job.job_id,
        "kind": job.kind,
        "subject": job.subject,
        "state": str(job.state),
        "reason": job.reason,
        "code": job.code,
        "params": dict(job.params),
        "progress": {
            "done": done,
            "total": total,
            "unit": job.progress.unit,
            "text": job.progress.text,
            "fraction": min(1.0, done / total) if total else None,
        },
        "result": dict(job.result),
        "attempts": job.attempts,
        "created_at": iso(job.created_at),
        "started_at": iso(job.started_at),
        "ended_at": iso(job.ended_at),
        "log": [{"at": iso(line.at), "text": line.text} for line in job.log] if with_log else [],
    }
