"""PURE. Operations of OpenAPI 3.1 for the routes that models answer, for the documents of manager
and workers alike: from the table of routes, the contracts of the APIs, and the errors of each step.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from modelpool_client.errors import (
    CODE_HEADER,
    SOURCE_HEADER,
    BadGateway,
    Conflict,
    InvalidRequest,
    LoadTimeout,
    ModelPoolError,
    NotFound,
    Unavailable,
    UpgradeRequired,
)
from modelpool_client.surfaces import adapters, chat_control, slot_actions
from modelpool_client.surfaces.contract import JSON, TEXT, Contract, Management
from modelpool_client.surfaces.failures import ABILITY
from modelpool_client.surfaces.families import FAMILIES
from modelpool_client.surfaces.responses.contracts import STORED
from modelpool_client.surfaces.routes import CHAT_CONTROL_PATH, RESPONSES_PATH, Surface
from modelpool_client.surfaces.schema import Schema
from modelpool_client.wire import (
    CHANGED_HEADER,
    FALLBACK_HEADER,
    IGNORED_HEADER,
    MODEL_HEADER,
    ROUTE_HEADER,
    VIRTUAL_HEADER,
)

Json = dict[str, Any]

RETRY_HEADER = "retry-after"
_TEXT: Json = {"type": "string"}
_HEADERS: Mapping[str, Json] = {
    CODE_HEADER: {
        "description": "the error's code",
        "required": True,
        "schema": _TEXT,
    },
    SOURCE_HEADER: {
        "description": "who failed",
        "required": True,
        "schema": {"type": "string", "enum": ["pool", "worker", "engine", "upstream"]},
    },
    RETRY_HEADER: {
        "description": "seconds after which another try makes sense, where that is known",
        "schema": {"type": "integer", "minimum": 1},
    },
    IGNORED_HEADER: {
        "description": "parameters of the request that changed nothing, where there are any",
        "schema": _TEXT,
    },
    MODEL_HEADER: {"description": "the id of the model that answers", "schema": _TEXT},
    VIRTUAL_HEADER: {
        "description": "of a virtual model that was asked the name, and its version after an @",
        "schema": _TEXT,
    },
    ROUTE_HEADER: {"description": "why it chose as it did", "schema": _TEXT},
    FALLBACK_HEADER: {
        "description": "models that were asked before and failed, each with the error's code",
        "schema": _TEXT,
    },
    CHANGED_HEADER: {
        "description": "parameters that the pool has filled, bounded or taken away",
        "schema": _TEXT,
    },
}
# What passes by itself.
_PASSING = (Conflict, BadGateway, Unavailable, LoadTimeout)


def operation(
    surface: Surface,
    errors: Iterable[type[ModelPoolError]],
    model: Schema,
    headers: Sequence[str] = (),
) -> Json:
    """By method, what a surface is.

    Args:
        errors: with which it may answer.
        model: what its model may be called; a body need not name it where that may be null.
        headers: of an answer that is none.
    """
    contract = FAMILIES[surface.family].describe().routes[surface.path]
    found = described(contract, surface.family, errors, headers, surface.task)
    if surface.has_names:
        found["parameters"] = in_path(surface.path, model)
    elif contract.request is None:
        query = {"name": "model", "in": "query", "required": "null" not in _types(model)}
        found["parameters"] = [{**query, "schema": _in_query(model)}]
    else:
        content = found["requestBody"]["content"][contract.request_type]
        content["schema"] = _naming(content["schema"], model)
    return {method.lower(): found for method in surface.methods}


def managed(
    path: str, route: Management, family: str, errors: Iterable[type[ModelPoolError]], model: Schema
) -> Json:
    """By method, what a route is that no model answers."""
    found = described(route.contract, family, (*errors, *route.errors))
    if "{" in path:
        found["parameters"] = in_path(path, model)
    return {route.method.lower(): found}


def stored(errors: Sequence[type[ModelPoolError]], body: Sequence[type[ModelPoolError]]) -> Json:
    """By path and method, the routes that tell what was kept of responses."""
    paths: Json = {}
    for below, methods in STORED.items():
        path = f"{RESPONSES_PATH}/{{response_id}}{below}"
        paths[path] = {}
        for method, contract in methods.items():
            read = body if contract.request is not None else ()
            found = described(
                contract, "responses", (*errors, *read, NotFound, InvalidRequest, Unavailable)
            )
            query = _QUERIES if method == "get" else []
            found["parameters"] = [*in_path(path, TEXT), *query]
            paths[path][method] = found
    return paths


def told(errors: Iterable[type[ModelPoolError]], model: Schema) -> dict[str, Json]:
    """What changes something in the one worker of a model: llama.cpp's routes for that."""
    query = {"name": "model", "in": "query", "schema": _in_query(model)}
    acts = (*errors, *ABILITY)
    return {
        adapters.PATH: {
            "post": {**described(adapters.CONTRACT, "openai", errors), "parameters": [query]}
        },
        slot_actions.PATH: {
            "post": {
                **described(slot_actions.CONTRACT, "openai", acts),
                "parameters": [*slot_actions.PARAMETERS, query],
            }
        },
        CHAT_CONTROL_PATH: {"post": described(chat_control.CONTRACT, "openai", errors)},
    }


_QUERIES: list[Json] = [
    {"name": name, "in": "query", "schema": TEXT}
    for name in ("stream", "starting_after", "order", "after", "limit", "include")
]


def websocket(errors: Iterable[type[ModelPoolError]]) -> Json:
    """The route of chats over a WebSocket."""
    said = {"101": {"description": "Each message is the body of a chat completion"}}
    failed = failures((*errors, InvalidRequest, UpgradeRequired))
    return {"get": {"summary": "Chats over a WebSocket", "responses": {**said, **failed}}}


def in_path(path: str, model: Schema) -> list[Json]:
    """What a path names; ``model`` is what a model's name may be."""
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": _in_query(model) if name == "model" else TEXT,
        }
        for name in re.findall(r"\{(\w+)\}", path)
    ]


def described(
    contract: Contract,
    family: str,
    errors: Iterable[type[ModelPoolError]],
    headers: Sequence[str] = (),
    summary: str = "",
) -> Json:
    """One operation of a family's API."""
    # Of a stream there is no schema: it is many values.
    kinds = {
        contract.stream_type: {"schema": {}},
        contract.answer_type: {"schema": contract.answer},
        **{kind: {"schema": {}} for kind in contract.other_types},
    }
    kinds.pop("", None)
    answer: Json = {"description": "the answer", "content": kinds}
    if headers:
        answer["headers"] = _referred(headers)
    found: Json = {
        "summary": contract.summary or summary,
        "responses": {"200": answer, **failures(errors, family)},
    }
    if contract.request is not None:
        content = {contract.request_type: {"schema": contract.request}}
        found["requestBody"] = {"required": True, "content": content}
    return found


def failures(errors: Iterable[type[ModelPoolError]], family: str = "openai") -> Json:
    """The answers that are errors, by status, in the words of a family's API."""
    by_status: dict[int, list[type[ModelPoolError]]] = {}
    for error in dict.fromkeys(errors):
        by_status.setdefault(error.status, []).append(error)
    return {str(status): _failure(by_status[status], family) for status in sorted(by_status)}


def components() -> Json:
    """What operations refer to."""
    schemas = {_error_name(name): family.describe().error for name, family in FAMILIES.items()}
    return {"schemas": schemas, "headers": dict(_HEADERS)}


def _failure(errors: Sequence[type[ModelPoolError]], family: str) -> Json:
    passes = any(issubclass(error, _PASSING) for error in errors)
    headers = [CODE_HEADER, SOURCE_HEADER, *([RETRY_HEADER] if passes else [])]
    schema = {"$ref": f"#/components/schemas/{_error_name(family)}"}
    return {
        "description": ", ".join(dict.fromkeys(error.default_code for error in errors)),
        "headers": _referred(headers),
        "content": {JSON: {"schema": schema}},
    }


def _referred(headers: Iterable[str]) -> Json:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in headers}


def _error_name(family: str) -> str:
    return f"Error.{family}"


def _naming(body: Schema, model: Schema) -> Json:
    """The body of a request, which names its model."""
    required = [*body.get("required", ()), *(["model"] if "null" not in _types(model) else [])]
    properties = {**body.get("properties", {}), "model": model}
    named: Json = {**body, "properties": properties}
    return {**named, "required": required} if required else named


def _in_query(model: Schema) -> Json:
    """Where there is no null: what is not given is not there."""
    names = {"enum": [name for name in model["enum"] if name]} if "enum" in model else {}
    return {**model, "type": "string", **names}


def _types(schema: Schema) -> Sequence[str]:
    kinds: Sequence[str] | str = schema["type"]
    return [kinds] if isinstance(kinds, str) else kinds
