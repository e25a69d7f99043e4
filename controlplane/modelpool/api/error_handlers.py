"""Every error of the management API in one shape, whoever raised it."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from modelpool_client.errors import (
    InternalError,
    InvalidModelId,
    InvalidRequest,
    MethodNotAllowed,
    ModelPoolError,
    NotFound,
)
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Match
from starlette.types import Scope

from modelpool.catalog.model import RESERVED_VERBS

log = logging.getLogger(__name__)

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


def install(app: FastAPI, routes: Iterable[BaseRoute]) -> None:
    """Answer each kind of error in the pool's shape; ``routes`` are those of the app, in order."""
    routes = tuple(routes)

    @app.exception_handler(ModelPoolError)
    async def ours(request: Request, error: ModelPoolError) -> JSONResponse:
        return respond(error)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return respond(_from_validation(error))

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        if error.status_code == 405:
            # What is none of the routes is a folder of files.
            allowed = tuple(_allowed(routes, request.scope)) or ("GET",)
            return respond(MethodNotAllowed.of(request.url.path, request.method, allowed))
        return respond(_from_http(request, error), error.headers)

    @app.exception_handler(Exception)
    async def unforeseen(request: Request, error: Exception) -> JSONResponse:
        log.exception("%s %s failed", request.method, request.url.path)
        text = "this is a bug of the pool; its log has the details"
        return respond(InternalError(f"{type(error).__name__}: {text}"))


async def refuse_method() -> None:
    """The answer of a route that stands before another one which would take its method."""
    raise HTTPException(405)


def respond(error: ModelPoolError, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """The response that carries an error."""
    return JSONResponse(error.body(), error.status, {**(headers or {}), **error.headers()})


def _from_validation(error: RequestValidationError) -> InvalidRequest:
    errors = [{"param": _param(e), "message": f"{_param(e)}: {e['msg']}"} for e in error.errors()]
    text = "; ".join(e["message"] for e in errors)
    return InvalidRequest(text, param=errors[0]["param"], details={"errors": errors})


def _param(error: dict[str, Any]) -> str:
    where = [str(part) for part in error["loc"] if part not in ("body", "query", "path")]
    return ".".join(where) if where and error["type"] != "json_invalid" else "body"


def _from_http(request: Request, error: HTTPException) -> ModelPoolError:
    if error.status_code == 404:
        path = request.scope["path"]
        if path.startswith("/models/") and "\n" in path:  # the patterns of routes end at a line
            return InvalidModelId("model_id must not hold control characters", param="model_id")
        return NotFound(f"there is no route {request.method} {request.url.path}; see /docs")
    return InvalidRequest(str(error.detail))


def _allowed(routes: Iterable[BaseRoute], scope: Scope) -> Iterator[str]:
    """The methods that a path takes: the first route that matches each of them decides."""
    for method in METHODS:
        asked = {**scope, "method": method}
        found = (route.matches(asked) for route in routes)
        taken = next((child for match, child in found if match is Match.FULL), None)
        if taken is not None and inspect.unwrap(taken["endpoint"]) is not refuse_method:
            name = taken.get("path_params", {}).get("model_id", "")
            if name.rpartition("/")[2] not in RESERVED_VERBS:  # else it is no name
                yield method
