"""PURE. With which errors each step that a request passes may answer.

An operation of an OpenAPI document names the steps of its requests; its statuses follow.
``InternalError`` is in none: it is a bug of ours, and no part of an API.
"""

from __future__ import annotations

from typing import TypeAlias

from modelpool_client.errors import (
    CannotFit,
    Conflict,
    ContextLengthExceeded,
    EngineFailed,
    Forbidden,
    HeadersTooLarge,
    InvalidModelId,
    InvalidRequest,
    LoadCancelled,
    LoadFailed,
    LoadTimeout,
    ModelLoading,
    ModelNotFound,
    ModelPoolError,
    NoMemoryFree,
    NoPortFree,
    NoSuitableModel,
    NotSupported,
    PayloadTooLarge,
    PoolBusy,
    PoolRestarting,
    PoolStopping,
    QueueFull,
    RateLimited,
    RequestTimeout,
    UnsupportedMediaType,
    UpstreamFailed,
    UpstreamTimeout,
    WorkerDraining,
    WorkerFailed,
)

Errors: TypeAlias = tuple[type[ModelPoolError], ...]

# Its head is read, and held against the guard's rules.
HEAD: Errors = (InvalidRequest, Forbidden, RequestTimeout, HeadersTooLarge)
BODY: Errors = (InvalidRequest, RequestTimeout, PayloadTooLarge, UnsupportedMediaType)
# The manager may be told to stop while it is under way.
POOL_STOPS: Errors = (PoolStopping, PoolRestarting)
# The model that it names is looked up.
LOOK_UP: Errors = (InvalidModelId, ModelNotFound, NoSuitableModel)
# What it asks is held against what the model and its engine can do.
ABILITY: Errors = (InvalidRequest, NotSupported)
# A model is loaded for it, or it waits for its turn.
LOAD: Errors = (
    ModelLoading,
    WorkerDraining,
    LoadFailed,
    LoadCancelled,
    NoPortFree,
    NoMemoryFree,
    PoolBusy,
    QueueFull,
    *POOL_STOPS,
    LoadTimeout,
    CannotFit,
)
# A worker takes it only while it is ready.
READY: Errors = (ModelLoading, WorkerDraining)
# The engine is asked.
ENGINE: Errors = (
    *(InvalidRequest, ContextLengthExceeded, NotSupported, EngineFailed),
    # Where it computes elsewhere.
    *(RateLimited, UpstreamFailed, UpstreamTimeout),
)
# A worker is asked, which answers the rest.
WORKER: Errors = (WorkerFailed,)
# It is only looked at, and nothing is loaded for it.
NOT_LOADED: Errors = (Conflict,)
