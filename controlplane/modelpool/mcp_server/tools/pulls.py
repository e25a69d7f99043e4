"""Tools that fetch a model, and tell of jobs: work that outlives the call that began it."""

from __future__ import annotations

from typing import Annotated

from modelpool_client import _calls as calls
from modelpool_client._async_transport import AsyncTransport
from modelpool_client.reports import JobView
from pydantic import BaseModel, Field

from modelpool.mcp_server.tools.contract import ARGUMENTS, ModelName, Tool, Unicode

LONGEST_WAIT_SECONDS = 3600  # the management API's own limit
LONGEST_SOURCE = 2000
# A model reads all of an answer.
LINES = 20

Wait = Annotated[float, Field(ge=0, le=LONGEST_WAIT_SECONDS)]


class PullArguments(BaseModel):
    """Which model, and how long to wait for it."""

    model_config = ARGUMENTS
    source: Annotated[Unicode, Field(min_length=1, max_length=LONGEST_SOURCE)] = Field(
        description="hf:owner/repo[:quantisation or file][@revision], ollama:name[:tag],"
        " https://host/file.gguf, or an absolute path"
    )
    model: ModelName | None = Field(None, description="The id that it gets; else by its source")
    wait_seconds: Wait = Field(
        0, description="How long to wait for its end; the job goes on when this is over"
    )


class JobArguments(BaseModel):
    """Which job."""

    model_config = ARGUMENTS
    job: Annotated[Unicode, Field(min_length=1, max_length=100)] = Field(
        description="The id that began it answered with"
    )
    wait_seconds: Wait = Field(0, description="How long to wait until it rests or is over")


class JobStatus(BaseModel):
    """A job and how far it is."""

    job: str = Field(description="Its id: what job_status takes")
    kind: str
    subject: str = Field(description="What it is about")
    state: str = Field(description="queued, running, paused, succeeded, failed or cancelled")
    reason: str = Field(description="Why it is in that state; of a failure, what to do")
    code: str
    done: float
    total: float | None = Field(description="null: nobody knows")
    unit: str
    doing: str
    model: str | None = Field(description="What it made: the id that other tools take as model")
    reasons: list[str] = Field(description="Why it did what it did: which files, and why these")
    log: list[str] = Field(description="Its last lines")


async def _pull(pool: AsyncTransport, wanted: PullArguments) -> JobStatus:
    named = {"model_id": wanted.model} if wanted.model is not None else {}
    begun = await pool.do(calls.pull(wanted.source, named))
    if wanted.wait_seconds and begun.is_active:
        begun = await pool.do(calls.job(begun.job_id, wanted.wait_seconds))
    return job_status(begun)


async def _job(pool: AsyncTransport, wanted: JobArguments) -> JobStatus:
    return job_status(await pool.do(calls.job(wanted.job, wanted.wait_seconds)))


def job_status(view: JobView) -> JobStatus:
    """PURE. Of what the pool says of a job."""
    made = view.result.get("model_id")
    return JobStatus(
        job=view.job_id,
        kind=view.kind,
        subject=view.subject,
        state=view.state,
        reason=view.reason,
        code=view.code,
        done=view.progress.done,
        total=view.progress.total,
        unit=view.progress.unit,
        doing=view.progress.text,
        model=made if isinstance(made, str) else None,
        reasons=[str(reason) for reason in view.result.get("reasons", ())],
        log=[str(line.get("text", "")) for line in view.log[-LINES:]],
    )


TOOLS = (
    Tool(
        "pull_model",
        "Pull a model",
        "Fetch a model from Hugging Face, Ollama's registry, a web server or a path of the pool's"
        " machine, and register it. Begins a job and answers with its id, for that may take hours;"
        " one that fetches just that already is answered in its place.",
        PullArguments,
        JobStatus,
        _pull,
    ),
    Tool(
        "job_status",
        "Status of a job",
        "How far a job is, such as a pull: its state and why, what it made, its last lines.",
        JobArguments,
        JobStatus,
        _job,
        is_read_only=True,
    ),
)
