"""PURE. What a route of an API looks like: the form of its requests and of its answers.

Each API says it once, beside the tables that check its requests; the OpenAPI documents of manager
and workers are made from it (``openapi``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from modelpool_client.errors import ModelPoolError
from modelpool_client.surfaces.parameter_rules import Rule
from modelpool_client.surfaces.schema import Schema

JSON = "application/json"
EVENT_STREAM = "text/event-stream"
TEXT: Schema = {"type": "string"}
COUNT: Schema = {"type": "integer", "minimum": 0}
FLAG: Schema = {"type": "boolean"}
ANY_OBJECT: Schema = {"type": "object"}


@dataclass(frozen=True)
class Contract:
    """One route.

    Attributes:
        answer: the JSON Schema of an answer that comes whole; of any, where its type is not JSON.
        request: that of a body; None where none is read.
        answer_type: Content-Type of such an answer.
        other_types: those that it may have besides, where it is described by its type alone.
        request_type: Content-Type of the body.
        stream_type: Content-Type of an answer that comes bit by bit; empty where none does.
        summary: in a few words, where the task of the surface does not say it.
        rules: what becomes of each parameter; None where a body goes to the engine as it is.
    """

    answer: Schema
    request: Schema | None = None
    answer_type: str = JSON
    other_types: tuple[str, ...] = ()
    request_type: str = JSON
    stream_type: str = ""
    summary: str = ""
    rules: Mapping[str, Rule] | None = None


@dataclass(frozen=True)
class Description:
    """One API.

    Attributes:
        error: the JSON Schema of the body of its errors.
        routes: by path; all of its surfaces are there.
    """

    error: Schema
    routes: Mapping[str, Contract]


@dataclass(frozen=True)
class Management:
    """A route that is about a server or its models, which no model answers.

    Attributes:
        errors: of what it does; those of reading the request go without saying.
    """

    method: str
    contract: Contract
    errors: tuple[type[ModelPoolError], ...] = ()


def holds(**required: Schema) -> Schema:
    """An object that has at least these."""
    return {"type": "object", "required": list(required), "properties": required}


def listed(item: Schema) -> Schema:
    """Any number of them."""
    return {"type": "array", "items": item}


def constant(*values: str) -> Schema:
    """One of these texts."""
    return {"type": "string", "enum": list(values)}
