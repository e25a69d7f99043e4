"""Every error of the management API in one shape, whoever raised it."""

from __future__ import annotations

import logging
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

log = logging.getLogger(__name__)


def install(app: FastAPI) -> None:
    """Answer each kind of error in the pool's shape."""

    @app.exception_handler(ModelPoolError)
    async def ours(request: Request, error: ModelPoolError) -> JSONResponse:
        return respond(error)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return respond(_from_validation(error))

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        return respond(_from_http(request, error), dict(error.headers or {}))

    @app.exception_handler(Exception)
    async def unforeseen(request: Request, error: Exception) -> JSONResponse:
        log.exception("%s %s failed", request.method, request.url.path)
        text = "this is a bug of the pool; its log has the details"
        return respond(InternalError(f"{type(error).__name__}: {text}"))


def respond(error: ModelPoolError, headers: dict[str, str] | None = None) -> JSONResponse:
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
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "another method")
        return MethodNotAllowed(f"{request.url.path} takes {allowed}, not {request.method}")
    return InvalidRequest(str(error.detail))
