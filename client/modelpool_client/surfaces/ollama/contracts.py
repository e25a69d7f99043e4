"""PURE. What the routes of Ollama's API look like, those about models included."""

from __future__ import annotations

from collections.abc import Mapping

from modelpool_client.errors import (
    BadGateway,
    Conflict,
    InvalidRequest,
    ModelExists,
    ModelNotFound,
    NotSupported,
    QueueFull,
)
from modelpool_client.surfaces.contract import (
    COUNT,
    FLAG,
    TEXT,
    Contract,
    Description,
    Management,
    constant,
    holds,
    listed,
)
from modelpool_client.surfaces.ollama.answers import NDJSON
from modelpool_client.surfaces.ollama.management import MANAGEMENT_BODIES
from modelpool_client.surfaces.ollama.parameters import RULES
from modelpool_client.surfaces.ollama.tables import BODIES, CHAT, EMBED, EMBEDDINGS, GENERATE
from modelpool_client.surfaces.schema import Schema

_LINES = NDJSON.decode()
_VECTOR = listed({"type": "number"})
_DETAILS = holds(format=TEXT, family=TEXT, parameter_size=TEXT, quantization_level=TEXT)
_MODEL: Mapping[str, Schema] = {"name": TEXT, "model": TEXT, "digest": TEXT, "details": _DETAILS}


def _generated(**said: Schema) -> Schema:
    return holds(model=TEXT, created_at=TEXT, done=FLAG, done_reason=TEXT, **said)


DESCRIPTION = Description(
    holds(error=TEXT),
    {
        CHAT: Contract(
            _generated(message=holds(role=constant("assistant"), content=TEXT)),
            BODIES[CHAT],
            stream_type=_LINES,
            summary="Answer a chat, a line of JSON for each piece unless stream is false",
            rules=RULES[CHAT],
        ),
        GENERATE: Contract(
            _generated(response=TEXT),
            BODIES[GENERATE],
            stream_type=_LINES,
            summary="Answer a prompt, a line of JSON for each piece unless stream is false",
            rules=RULES[GENERATE],
        ),
        EMBED: Contract(
            holds(model=TEXT, embeddings=listed(_VECTOR)),
            BODIES[EMBED],
            summary="Make vectors of length 1 of texts",
            rules=RULES[EMBED],
        ),
        EMBEDDINGS: Contract(
            holds(embedding=_VECTOR),
            BODIES[EMBEDDINGS],
            summary="Make a vector of a text, as it was before /api/embed",
            rules=RULES[EMBEDDINGS],
        ),
    },
)


def _not_here(path: str) -> Management:
    request = MANAGEMENT_BODIES.get(path, {"type": "object"})
    contract = Contract({}, request, summary="Not supported: POST /models/register makes models")
    return Management("POST", contract, (NotSupported,))


# By path.
MANAGEMENT: Mapping[str, Management] = {
    "/api/tags": Management(
        "GET",
        Contract(
            holds(models=listed(holds(**_MODEL, modified_at=TEXT, size=COUNT))),
            summary="The models that can be asked for",
        ),
    ),
    "/api/ps": Management(
        "GET",
        Contract(
            holds(models=listed(holds(**_MODEL, size=COUNT, size_vram=COUNT, expires_at=TEXT))),
            summary="The models that are loaded",
        ),
    ),
    "/api/version": Management("GET", Contract(holds(version=TEXT), summary="Whose API this is")),
    "/api/show": Management(
        "POST",
        Contract(
            holds(
                modelfile=TEXT,
                parameters=TEXT,
                template=TEXT,
                details=_DETAILS,
                model_info={"type": "object"},
                capabilities=listed(TEXT),
            ),
            MANAGEMENT_BODIES["/api/show"],
            summary="One model",
        ),
        (ModelNotFound,),
    ),
    "/api/delete": Management(
        "DELETE",
        Contract(
            TEXT,
            MANAGEMENT_BODIES["/api/delete"],
            answer_type="",
            summary="Remove a model; a running one is unloaded first",
        ),
        (ModelNotFound, Conflict),
    ),
    "/api/pull": Management(
        "POST",
        Contract(
            holds(status=TEXT),
            MANAGEMENT_BODIES["/api/pull"],
            stream_type=_LINES,
            summary="Fetch a model that is not there; a line for each step unless stream is false",
        ),
        (InvalidRequest, Conflict, QueueFull, BadGateway),
    ),
    "/api/copy": Management(
        "POST",
        Contract(
            TEXT,
            MANAGEMENT_BODIES["/api/copy"],
            answer_type="",
            summary="Register a model once more, under another name",
        ),
        (ModelNotFound, ModelExists, InvalidRequest, NotSupported),
    ),
    **{path: _not_here(path) for path in ("/api/create", "/api/push")},
}
