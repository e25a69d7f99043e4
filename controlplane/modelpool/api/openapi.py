"""What the OpenAPI page says of ``/v1``, which the gateway answers without FastAPI."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

_NAME = {"type": "string", "description": "Id or alias of a model of the pool"}
_STREAM = {"type": "boolean", "default": False}
_MESSAGE = {
    "type": "object",
    "required": ["role"],
    "properties": {
        "role": {"type": "string", "enum": ["system", "user", "assistant", "tool", "developer"]},
        "content": {"type": "string"},
    },
}
_BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": {"type": "array", "minItems": 1, "items": _MESSAGE}},
    "/v1/completions": {"prompt": {"type": "string"}},
}


def describe(api: FastAPI) -> None:
    """Add the gateway's routes to the description. The worker of a model describes all of its
    parameters at its own ``/openapi.json``."""
    plain = api.openapi

    def openapi() -> dict[str, Any]:
        description = plain()
        description["paths"].update(_paths())
        return description

    api.openapi = openapi  # type: ignore[method-assign]


def _paths() -> dict[str, Any]:
    paths: dict[str, Any] = {path: {"post": _inference(body)} for path, body in _BODIES.items()}
    paths["/v1/models"] = {"get": _operation("The models, in OpenAI's shape")}
    return paths


def _inference(fields: dict[str, Any]) -> dict[str, Any]:
    schema = {
        "type": "object",
        "required": ["model", *fields],
        "properties": {"model": _NAME, "stream": _STREAM, **fields},
    }
    content = {"application/json": {"schema": schema}}
    operation = _operation("Relayed to the model's worker; a cold model is loaded first")
    return {**operation, "requestBody": {"required": True, "content": content}}


def _operation(summary: str) -> dict[str, Any]:
    answer = {"description": "As OpenAI's, byte by byte from the worker"}
    return {"tags": ["gateway"], "summary": summary, "responses": {"200": answer}}
