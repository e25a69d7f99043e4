"""The OpenAPI document of the manager: what FastAPI knows of the management API, with the errors
that it does not know of, and the routes that the gateway answers without it."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Iterator, Mapping
from typing import Any

from fastapi import FastAPI
from modelpool_client.errors import InvalidRequest, ModelPoolError
from modelpool_client.surfaces.contract import TEXT, Contract, constant, holds, listed
from modelpool_client.surfaces.failures import (
    ABILITY,
    BODY,
    ENGINE,
    HEAD,
    LOAD,
    LOOK_UP,
    NOT_LOADED,
    POOL_STOPS,
    WORKER,
    Errors,
)
from modelpool_client.surfaces.ollama import contracts as ollama
from modelpool_client.surfaces.open_inference import contracts as open_inference
from modelpool_client.surfaces.openapi import (
    components,
    described,
    failures,
    managed,
    operation,
    stored,
    told,
    websocket,
)
from modelpool_client.surfaces.routes import SURFACES, WEBSOCKET_PATH, Surface
from modelpool_client.surfaces.schema import Schema
from modelpool_client.wire import (
    CHANGED_HEADER,
    FALLBACK_HEADER,
    IGNORED_HEADER,
    MODEL_HEADER,
    ROUTE_HEADER,
    VIRTUAL_HEADER,
)
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from modelpool.api.route import ApiRoute
from modelpool.mcp_server import openapi as mcp_openapi

Json = dict[str, Any]

PATH = "/openapi.json"
_ANY: Errors = (*HEAD, *POOL_STOPS)
_WORK: Errors = (*_ANY, *BODY, *LOOK_UP, *ABILITY, *LOAD, *ENGINE, *WORKER)
LOOK: Errors = (*_ANY, *LOOK_UP, *ABILITY, *NOT_LOADED, *ENGINE, *WORKER)
_MODEL: Schema = {
    "type": "string",
    "description": "Id or alias of a model of the pool, or a virtual model",
}
_HEADERS = [MODEL_HEADER, IGNORED_HEADER, CHANGED_HEADER]
_HEADERS += [VIRTUAL_HEADER, ROUTE_HEADER, FALLBACK_HEADER]
_ENTRY = holds(id=TEXT, object=constant("model"))
# What FastAPI says of each operation with parameters, and nothing here answers.
_UNTRUE = "422"
_UNUSED = ("HTTPValidationError", "ValidationError")


def refuses(*errors: type[ModelPoolError]) -> dict[int | str, dict[str, Any]]:
    """For ``responses`` of a route: errors of what it does. Those of reading the request, and of
    looking up the model that its path names, go without saying."""
    return {int(status): said for status, said in failures(errors).items()}


def describe(api: FastAPI) -> None:
    """Let the app describe all that is answered on the manager's port. The worker of a model says
    at its own ``/openapi.json`` what its engine answers."""
    plain = api.openapi

    def openapi() -> Json:
        for route in _of_ours(api):
            route.describe_answers()
        document = plain()
        if _is_whole(document):
            return document
        for path, operations in document["paths"].items():
            for found in operations.values():
                _add_errors(path, found)
        document["paths"].update(_gateway())
        document["paths"].update(_mcp())
        for kind, parts in components().items():
            document["components"].setdefault(kind, {}).update(parts)
        for name in _UNUSED:
            document["components"]["schemas"].pop(name, None)
        return document

    api.openapi = openapi  # type: ignore[method-assign]
    routes = api.router.routes
    place = next(i for i, r in enumerate(routes) if isinstance(r, Route) and r.path == PATH)
    routes[place] = Route(PATH, _Document(api).answer, include_in_schema=False)


class _Document:
    """The document as bytes, made when somebody asks for it first. That takes a third of a second,
    in which streams go on: routes are built one at a time, as the loop may be building one itself,
    and what only reads them is done beside it."""

    def __init__(self, api: FastAPI) -> None:
        self._api = api
        self._making = asyncio.Lock()
        self._body = b""

    async def answer(self, request: Request) -> Response:
        async with self._making:
            if not self._body:
                for route in _of_ours(self._api):
                    route.describe_answers()
                    await asyncio.sleep(0)
                self._body = await asyncio.to_thread(self._made)
        return Response(self._body, media_type="application/json")

    def _made(self) -> bytes:
        made = JSONResponse(self._api.openapi())
        self._api.openapi_schema = None  # several times as large, and asked for no more
        return bytes(made.body)


def _of_ours(api: FastAPI) -> Iterator[ApiRoute]:
    return (route for route in api.routes if isinstance(route, ApiRoute))


def _is_whole(document: Json) -> bool:
    """FastAPI keeps what it has made."""
    return "headers" in document["components"]


def _add_errors(path: str, found: Json) -> None:
    responses = found["responses"]
    responses.pop(_UNTRUE, None)
    for status, said in failures(_errors(path, found)).items():
        known = responses.setdefault(status, said)
        codes = (*known["description"].split(", "), *said["description"].split(", "))
        if known.get("headers"):  # an error, too
            known["description"] = ", ".join(dict.fromkeys(codes))


def _errors(path: str, found: Mapping[str, Any]) -> Iterator[type[ModelPoolError]]:
    """Of reading the request; a rough guess of what a parameter is suffices."""
    yield from _ANY
    if "requestBody" in found:
        yield from BODY
    if found.get("parameters"):
        yield InvalidRequest
    if "{model_id}" in path:
        yield from LOOK_UP


def _gateway() -> Json:
    paths = {surface.path: _surface(surface) for surface in SURFACES.values()}
    for path, found in told((*LOOK, *BODY), _MODEL).items():
        paths[path] = {**paths.get(path, {}), **found}
    managements = (("ollama", ollama.MANAGEMENT), ("open_inference", open_inference.MANAGEMENT))
    for family, routes in managements:
        for path, route in routes.items():
            body = BODY if route.contract.request is not None else ()
            paths[path] = managed(path, route, family, (*_ANY, *body), _MODEL)
    paths |= stored(_ANY, BODY)
    paths[WEBSOCKET_PATH] = websocket(_ANY)
    list_ = Contract(holds(object=constant("list"), data=listed(_ENTRY)), summary="The models")
    paths["/v1/models"] = {"get": described(list_, "openai", _ANY)}
    one = described(Contract(_ENTRY, summary="One model"), "openai", (*_ANY, *LOOK_UP))
    one["parameters"] = [{"name": "model", "in": "path", "required": True, "schema": _MODEL}]
    paths["/v1/models/{model}"] = {"get": one}
    for operations in paths.values():
        for found in operations.values():
            found["tags"] = ["gateway"]
    return paths


def _mcp() -> Json:
    """The protocol's own answers, and those before it is spoken."""
    paths: Json = copy.deepcopy(mcp_openapi.PATHS)
    for operations in paths.values():
        for found in operations.values():
            for status, said in failures((*_ANY, *BODY)).items():
                found["responses"].setdefault(status, said)
    return paths


def _surface(surface: Surface) -> Json:
    errors = _WORK if surface.is_work else LOOK
    return operation(surface, errors, _MODEL, _HEADERS)
