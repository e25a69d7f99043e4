"""PURE. The OpenAPI description of a worker: its own routes, and those of its engine's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from modelpool_client import __version__
from modelpool_client.surfaces.contract import COUNT, TEXT, Contract, constant, holds, listed
from modelpool_client.surfaces.failures import (
    ABILITY,
    BODY,
    ENGINE,
    HEAD,
    LOOK_UP,
    READY,
    WORKER,
    Errors,
)
from modelpool_client.surfaces.names import spellings
from modelpool_client.surfaces.ollama import contracts as ollama
from modelpool_client.surfaces.open_inference.contracts import MANAGEMENT
from modelpool_client.surfaces.openapi import (
    components,
    described,
    in_path,
    managed,
    operation,
    stored,
    told,
    websocket,
)
from modelpool_client.surfaces.routes import SURFACES, WEBSOCKET_PATH, Surface
from modelpool_client.surfaces.schema import Schema, nullable
from modelpool_client.wire import IGNORED_HEADER, Phase

_WORK: Errors = (*HEAD, *BODY, *LOOK_UP, *READY, *ABILITY, *ENGINE, *WORKER)
_LOOK: Errors = (*HEAD, *READY, *LOOK_UP, *ENGINE, *WORKER)
_TELL: Errors = (*_LOOK, *BODY)

_HEALTH = holds(
    model=TEXT,
    status=constant(*Phase),
    uptime_seconds={"type": "number", "minimum": 0},
    requests_served=COUNT,
    port=COUNT,
    in_flight=COUNT,
    engine=TEXT,
    engine_pid=nullable(COUNT),
    worker_id=TEXT,
)
_MODEL = holds(id=TEXT, object=constant("model"))
_MODELS = holds(object=constant("list"), data=listed(_MODEL))
# Of the Open Inference Protocol.
_ABOUT = (
    "/v2",
    "/v2/health/live",
    "/v2/health/ready",
    "/v2/models/{model}",
    "/v2/models/{model}/ready",
    "/v2/models/{model}/config",
    "/v2/repository/index",
)
_ABOUT_ERRORS: Mapping[str, Errors] = {"GET": (*HEAD, *READY), "POST": (*HEAD, *READY, *BODY)}
_OWN: Mapping[str, tuple[Contract, Errors]] = {
    "/v1/models": (
        Contract(_MODELS, summary="the model and its aliases"),
        (*HEAD, *READY),
    ),
    "/health": (Contract(_HEALTH, summary="how the worker is"), HEAD),
    "/metrics": (Contract(TEXT, answer_type="text/plain", summary="Prometheus metrics"), HEAD),
    "/openapi.json": (Contract(holds(openapi=TEXT), summary="this description"), HEAD),
}


# Of Ollama's.
_LISTS = ("/api/tags", "/api/ps", "/api/version", "/api/show")
_OLLAMA: Errors = (*HEAD, *BODY, *READY, *LOOK_UP)


def describe(model_id: str, aliases: Sequence[str], serves: Sequence[str]) -> dict[str, Any]:
    """OpenAPI 3.1 for the worker of ``model_id``, whose engine answers the paths ``serves``."""
    model: Schema = {
        "type": ["string", "null"],
        "enum": [*spellings([model_id, *aliases]), None],
    }
    found = [surface for surface in SURFACES.values() if surface.is_answered(serves)]
    own = {
        path: {"get": described(contract, "openai", errors)}
        for path, (contract, errors) in _OWN.items()
    }
    own["/health"]["get"]["responses"]["503"] = {
        "description": "the same, while it loads or drains",
        "content": {"application/json": {"schema": _HEALTH}},
    }
    about = {path: MANAGEMENT[path] for path in _ABOUT}
    own |= {
        path: managed(path, route, "open_inference", _ABOUT_ERRORS[route.method], model)
        for path, route in about.items()
    }
    own |= {
        path: managed(path, ollama.MANAGEMENT[path], "ollama", _OLLAMA, model) for path in _LISTS
    }
    own |= stored(HEAD, BODY) | {WEBSOCKET_PATH: websocket((*HEAD, *READY))}
    one = described(Contract(_MODEL, summary="the model by name"), "openai", _LOOK)
    own["/v1/models/{model}"] = {"get": {**one, "parameters": in_path("{model}", model)}}
    paths = {surface.path: _surface(surface, model) for surface in found}
    for path, told_there in told(_TELL, model).items():
        # Who answers for slots answers what is told to one of them, and to a chat in one.
        if (path if path in SURFACES else "/slots") in paths:
            paths[path] = {**paths.get(path, {}), **told_there}
    return {
        "openapi": "3.1.0",
        "info": {"title": f"modelpool worker: {model_id}", "version": __version__},
        "paths": {**paths, **own},
        "components": components(),
    }


def _surface(surface: Surface, model: Schema) -> dict[str, Any]:
    return operation(surface, _WORK if surface.is_work else _LOOK, model, [IGNORED_HEADER])
