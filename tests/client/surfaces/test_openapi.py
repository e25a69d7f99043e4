"""What the OpenAPI documents of manager and workers are made from is whole."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any
from unittest.mock import MagicMock

import pytest
from modelpool.app import management_api
from modelpool.gateway.ollama import OllamaApi
from modelpool_client import errors
from modelpool_client.surfaces import failures
from modelpool_client.surfaces.families import FAMILIES
from modelpool_client.surfaces.ollama.contracts import MANAGEMENT
from modelpool_client.surfaces.openapi import components
from modelpool_client.surfaces.routes import SURFACES
from modelpool_worker.surfaces.openapi import describe

OF = ("manager", "worker")


@cache
def document_of(name: str) -> dict[str, Any]:
    if name == "manager":
        return management_api(MagicMock()).openapi()
    return dict(describe("m", ("nick",), tuple(SURFACES)))


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, found in document["paths"].items():
        for method, operation in found.items():
            yield f"{method} {path}", operation


@pytest.mark.parametrize("name", FAMILIES)
def test_each_api_says_what_its_surfaces_look_like(name: str) -> None:
    own = {path for path, surface in SURFACES.items() if surface.family == name}
    assert FAMILIES[name].describe().routes.keys() == own


def test_ollamas_other_routes_are_those_that_are_answered() -> None:
    answered = OllamaApi(*(MagicMock() for _ in range(5)))._routes
    described = {path: route.method for path, route in MANAGEMENT.items()}
    assert described == {path: method for path, (method, _) in answered.items()}


@pytest.mark.parametrize("name", OF)
def test_every_operation_names_its_errors(name: str) -> None:
    shapes = {f"#/components/schemas/{schema}" for schema in components()["schemas"]}
    for label, operation in operations(document_of(name)):
        responses = operation["responses"]
        assert {"403", "408", "431"} <= responses.keys(), label
        assert "422" not in responses, label
        if "requestBody" in operation:
            assert {"400", "413", "415"} <= responses.keys(), label
        for status, response in responses.items():
            if status < "400" or "headers" not in response:
                continue
            (content,) = response["content"].values()
            assert content["schema"]["$ref"] in shapes, (label, status)
            assert {"x-modelpool-code", "x-modelpool-source"} <= response["headers"].keys()


@pytest.mark.parametrize("name", OF)
def test_whatever_is_referred_to_is_there(name: str) -> None:
    document = document_of(name)

    def look(value: Any) -> None:
        if isinstance(value, dict):
            if isinstance(reference := value.get("$ref"), str):
                _, kind, which = reference.removeprefix("#/").split("/")
                assert which in document["components"][kind], reference
            for inner in value.values():
                look(inner)
        elif isinstance(value, list):
            for inner in value:
                look(inner)

    look(document["paths"])


@pytest.mark.parametrize(
    ("label", "more"),
    [
        ("post /v1/chat/completions", {404, 429, 501, 502, 503, 504, 507}),
        ("post /api/chat", {404, 429, 501, 502, 503, 504, 507}),
        ("get /props", {404, 409, 429, 501, 502, 503, 504}),
        ("post /models/{model_id}/load", {404, 503, 504, 507}),
        ("post /models/{model_id}/unload", {404, 409, 503}),
        ("post /models/register", {409, 503}),
        ("get /models", {503}),
        ("delete /api/delete", {404, 409, 503}),
    ],
)
def test_errors_follow_from_what_an_operation_does(label: str, more: set[int]) -> None:
    operation = dict(operations(document_of("manager")))[label]
    found = {int(s) for s in operation["responses"] if s >= "400"}
    assert found - {400, 403, 408, 413, 415, 431} == more


def test_no_error_of_the_tree_is_forgotten() -> None:
    """But for those of one method of a path, of the client, and bugs."""
    named = {error for step in vars(failures).values() if isinstance(step, tuple) for error in step}
    known = {error for error in vars(errors).values() if isinstance(error, type)}
    tree = {error for error in known if issubclass(error, errors.ModelPoolError)}
    forgotten = {error.__name__ for error in tree if not any(issubclass(n, error) for n in named)}
    assert forgotten == {
        "Cancelled",
        "InternalError",
        "MethodNotAllowed",
        "ModelExists",
        "PoolUnreachable",
        "UnloadProtected",
        "UpgradeRequired",
        "VersionMismatch",
    }
