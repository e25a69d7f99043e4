"""PURE. Models and their states as tools tell them."""

from __future__ import annotations

from typing import Annotated

from modelpool_client.types import ModelView
from pydantic import BaseModel, Field

ModelId = Annotated[str, Field(description="Its id: what other tools take as model")]
ModelState = Annotated[str, Field(description="COLD, WARMING, HOT, COOLING, UNLOADING or FAILED")]
Reason = Annotated[str, Field(description="Why it is in that state")]


class Failure(BaseModel):
    """Why the last load or worker failed."""

    code: str
    message: str


class About(BaseModel):
    """What a model is, loaded or not."""

    engine: str
    capabilities: list[str] = Field(description="What it is for; empty where nothing is known")
    aliases: list[str]
    tags: list[str]
    context_length: int | None = Field(description="In tokens")
    size_mb: float | None = Field(description="Of its files, in MB of 1,000,000 bytes")


class ModelSummary(BaseModel):
    """A model in a few words."""

    model: ModelId
    state: ModelState
    reason: Reason
    about: About


class LoadProgress(BaseModel):
    """How far a load is."""

    stage: str
    fraction: float | None
    eta_seconds: float | None
    estimated: bool = Field(description="The fraction is inferred, not reported")


class ModelStatus(BaseModel):
    """A model and what it is doing. Sizes are in MB of 1,000,000 bytes."""

    model: ModelId
    state: ModelState
    reason: Reason
    about: About
    endpoint: str | None = Field(description="Its own address, where it answers without the pool")
    port: int | None
    ttl_remaining_minutes: float = Field(description="Of its lease; 0: never ends, or not loaded")
    expires_at: str | None
    in_flight: int = Field(description="Requests that it answers now")
    waiting: int = Field(description="Requests that wait for it")
    waiting_for: str = Field(description="What a load waits for")
    requests_total: int
    memory_estimate_mb: float | None
    memory_measured_mb: float | None
    replicas: int = Field(description="Copies that have a worker")
    progress: LoadProgress | None
    failure: Failure | None


def summary(view: ModelView) -> ModelSummary:
    """Of what the pool says of a model."""
    return ModelSummary(
        model=view.model_id, state=view.state, reason=view.reason, about=_about(view)
    )


def status(view: ModelView) -> ModelStatus:
    """All of it that helps to decide something."""
    progress, failure = view.progress, view.failure
    return ModelStatus(
        model=view.model_id,
        state=view.state,
        reason=view.reason,
        about=_about(view),
        endpoint=view.endpoint,
        port=view.port,
        ttl_remaining_minutes=view.ttl_remaining_minutes,
        expires_at=view.expires_at,
        in_flight=view.concurrency.in_flight,
        waiting=sum(view.concurrency.waiting.values()),
        waiting_for=view.waiting_for,
        requests_total=view.requests_total,
        memory_estimate_mb=view.memory_estimate_mb,
        memory_measured_mb=view.memory_measured_mb,
        replicas=len(view.replicas),
        progress=LoadProgress(
            stage=progress.stage,
            fraction=progress.fraction,
            eta_seconds=progress.eta_seconds,
            estimated=progress.estimated,
        )
        if progress is not None
        else None,
        failure=Failure(code=failure.code, message=failure.message)
        if failure is not None and failure.code
        else None,
    )


def _about(view: ModelView) -> About:
    return About(
        engine=view.engine,
        capabilities=list(view.capabilities),
        aliases=list(view.aliases),
        tags=list(view.tags),
        context_length=view.context_length,
        size_mb=view.size_mb,
    )
