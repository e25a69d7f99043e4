"""PURE. The OpenAPI description of a worker, made from the table that checks its requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from modelpool_client import __version__
from modelpool_client.surfaces.names import spellings
from modelpool_client.surfaces.openai_bodies import BODIES, NEEDS
from modelpool_client.surfaces.routes import CHAT_PATH, SURFACES, TEXT_PATH, Surface

_ERROR_REF = {"$ref": "#/components/schemas/Error"}
_ERRORS = {
    "400": "the request is wrong; param names where",
    "403": "wrong Host or Origin",
    "404": "another model than this worker serves",
    "413": "the body is too large",
    "415": "the body does not say that it is JSON",
    "502": "the engine failed; the message holds its last words",
    "501": "nothing that this engine, or this model with it, can do",
    "503": "loading or stopping; see Retry-After",
}
_ERROR_SCHEMA = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code", "source"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": "string"},
                "source": {"type": "string"},
                "details": {"type": "object"},
            },
        }
    },
}
KINDS = {CHAT_PATH: "chat.completion", TEXT_PATH: "text_completion"}
_HEALTH_KEYS = (
    "model status uptime_seconds requests_served port in_flight engine engine_pid worker_id"
)


def describe(model_id: str, aliases: Sequence[str], serves: Sequence[str]) -> dict[str, Any]:
    """OpenAPI 3.1 for the worker of ``model_id``, whose engine answers the paths ``serves``."""
    names = spellings([model_id, *aliases])
    found = [surface for surface in SURFACES.values() if surface.is_answered(serves)]
    return {
        "openapi": "3.1.0",
        "info": {"title": f"modelpool worker: {model_id}", "version": __version__},
        "paths": {
            **{surface.path: _surface(surface, names) for surface in found},
            "/v1/models": {"get": _get("the model and its aliases", _object("object", "data"))},
            "/health": {"get": _health()},
            "/metrics": {"get": _text("Prometheus metrics")},
            "/openapi.json": {"get": _get("this description", _object("openapi", "paths"))},
        },
        "components": {"schemas": {"Error": _ERROR_SCHEMA}},
    }


def _surface(surface: Surface, names: Sequence[str]) -> dict[str, Any]:
    if surface.path in KINDS:
        return _completion(surface.path, KINDS[surface.path], names)
    if not surface.is_work:
        return {"get": _get(surface.task, {})}
    table = _table_of(surface.path)
    model = {"type": ["string", "null"], "enum": [*names, None]}
    body = {**table, "properties": {**table.get("properties", {}), "model": model}}
    content: dict[str, Any] = {
        kind: {"schema": {}} for kind in ("application/json", "text/event-stream")
    }
    return {
        "post": {
            "summary": surface.task,
            "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
            "responses": {"200": {"description": "the answer", "content": content}, **_failures()},
        }
    }


def _table_of(path: str) -> Mapping[str, Any]:
    from modelpool_client.surfaces import anthropic, embeddings

    tables = {**embeddings.BODIES, **anthropic.BODIES}
    return tables.get(path, {"type": "object"})


def _completion(path: str, kind: str, names: Sequence[str]) -> dict[str, Any]:
    table = BODIES[path]
    model = {"type": ["string", "null"], "enum": [*names, None]}
    needs = [_need(name, other) for name, other in NEEDS[path].items()]
    body = {**table, "properties": {**table["properties"], "model": model}, "allOf": needs}
    answer = _object("id", "object", "created", "choices")
    answer["properties"] = {"object": {"type": "string", "enum": [kind]}}
    content = {
        "application/json": {"schema": answer},
        "text/event-stream": {"schema": {}},
    }
    return {
        "post": {
            "summary": f"make a {kind}, streamed if asked",
            "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
            "responses": {"200": {"description": "the answer", "content": content}, **_failures()},
        }
    }


def _need(name: str, other: str) -> dict[str, Any]:
    given = {"required": [name], "properties": {name: {"not": {"type": "null"}}}}
    true = {"required": [other], "properties": {other: {"const": True}}}
    return {"if": given, "then": true}


def _health() -> dict[str, Any]:
    schema = _object(*_HEALTH_KEYS.split())
    operation = _get("how the worker is", schema)
    operation["responses"]["503"] = {
        "description": "the same, while loading or draining",
        "content": {"application/json": {"schema": {}}},
    }
    return operation


def _get(summary: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    answer = {"description": summary, "content": {"application/json": {"schema": schema}}}
    return {"summary": summary, "responses": {"200": answer, **_failures("403", "503")}}


def _text(summary: str) -> dict[str, Any]:
    answer = {"description": summary, "content": {"text/plain": {"schema": {"type": "string"}}}}
    return {"summary": summary, "responses": {"200": answer, **_failures("403")}}


def _object(*required: str) -> dict[str, Any]:
    return {"type": "object", "required": list(required)}


def _failures(*codes: str) -> dict[str, Any]:
    content = {"application/json": {"schema": _ERROR_REF}}
    return {c: {"description": _ERRORS[c], "content": content} for c in codes or _ERRORS}
