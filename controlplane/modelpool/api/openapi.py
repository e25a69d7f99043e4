"""What the OpenAPI page says of the routes that are answered without FastAPI."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from modelpool_client.surfaces.routes import SURFACES

from modelpool.mcp_server import openapi as mcp_openapi

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
# The workers' own descriptions say more.
_BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": {"type": "array", "minItems": 1, "items": _MESSAGE}},
    "/v1/completions": {"prompt": {"type": "string"}},
    "/v1/embeddings": {"input": {"type": "string"}},
    "/v1/rerank": {"query": {"type": "string"}, "documents": {"type": "array"}},
    "/v1/messages": {"messages": {"type": "array"}, "max_tokens": {"type": "integer"}},
}


def describe(api: FastAPI) -> None:
    """Add the gateway's routes to the description. The worker of a model describes all of its
    parameters at its own ``/openapi.json``."""
    plain = api.openapi

    def openapi() -> dict[str, Any]:
        description = plain()
        description["paths"].update(_paths())
        description["paths"].update(mcp_openapi.PATHS)
        return description

    api.openapi = openapi  # type: ignore[method-assign]


def _paths() -> dict[str, Any]:
    paths: dict[str, Any] = {
        surface.path: {"post": _inference(_BODIES.get(surface.path, {}))}
        for surface in SURFACES.values()
        if surface.is_work
    }
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
    answer = {"description": "As the API's own, byte by byte from the worker"}
    return {"tags": ["gateway"], "summary": summary, "responses": {"200": answer}}
