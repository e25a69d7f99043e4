"""PURE. ``/v2/embed`` of Cohere's API; its ``/v2/rerank`` is one of the ways to say ours."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from modelpool_client.errors import InvalidRequest, ModelPoolError
from modelpool_client.surfaces.contract import (
    ANY_OBJECT,
    TEXT,
    Contract,
    Description,
    constant,
    holds,
    listed,
)
from modelpool_client.surfaces.embeddings import MOST_INPUTS, coded, shortened
from modelpool_client.surfaces.parameter_rules import (
    LOAD_OPTION,
    LOAD_OPTIONS,
    Rule,
    ignored,
    own,
    refused,
)
from modelpool_client.surfaces.routes import COHERE_EMBED_PATH, EMBEDDINGS_PATH
from modelpool_client.surfaces.schema import Schema, nullable
from modelpool_client.surfaces.schema_checks import checks
from modelpool_client.surfaces.translation import Told
from modelpool_client.surfaces.whole import Whole, vectors

_TEXT: Schema = {"type": "string", "minLength": 1}
_TEXTS: Schema = {"type": "array", "minItems": 1, "maxItems": MOST_INPUTS, "items": _TEXT}
_PART: Schema = {
    "type": "object",
    "required": ["type", "text"],
    "properties": {"type": {"type": "string", "enum": ["text"]}, "text": _TEXT},
}
_PARTS: Schema = {"type": "array", "minItems": 1, "items": _PART}
_INPUT: Schema = {"type": "object", "required": ["content"], "properties": {"content": _PARTS}}
BODY: Schema = {
    "type": "object",
    "properties": {
        "texts": nullable(_TEXTS),
        "inputs": nullable({**_TEXTS, "items": _INPUT}),
        "model": nullable({"type": "string"}),
        "input_type": nullable({"type": "string"}),
        "embedding_types": nullable(
            {
                "type": "array",
                "minItems": 1,
                "maxItems": 2,
                "items": {"type": "string", "enum": ["float", "base64"]},
            }
        ),
        "output_dimension": nullable({"type": "integer", "minimum": 1, "maximum": 1 << 16}),
        "truncate": nullable({"type": "string", "enum": ["NONE", "START", "END"]}),
        "max_tokens": nullable({"type": "integer", "minimum": 0}),
        "priority": nullable({"type": "integer"}),
        "images": nullable({"type": "array"}),
    },
}
_NOT_CUT = "nothing is cut off a request"
RULES: Mapping[str, Rule] = {
    "texts": own("what is embedded"),
    "model": own("says which model"),
    "input_type": ignored("texts are embedded as they are"),
    "embedding_types": own("numbers, base64 of them, or both"),
    "output_dimension": own("the first so many numbers, scaled to length 1"),
    "truncate": ignored(_NOT_CUT, "NONE"),
    "max_tokens": ignored(_NOT_CUT),
    "priority": ignored("the header X-Priority says so here"),
    "inputs": own("the same in parts, which must be texts"),
    "images": refused("only texts are embedded here", []),
    **dict.fromkeys(sorted(LOAD_OPTIONS), LOAD_OPTION),
}
DESCRIPTION = Description(
    holds(message=TEXT),
    {
        COHERE_EMBED_PATH: Contract(
            holds(
                id=TEXT,
                embeddings=ANY_OBJECT,
                texts=listed(TEXT),
                response_type=constant("embeddings_by_type"),
                meta=ANY_OBJECT,
            ),
            BODY,
            summary="Make vectors of texts, as Cohere's API does",
            rules=RULES,
        )
    },
)
_CHECK = checks({COHERE_EMBED_PATH: BODY})[COHERE_EMBED_PATH]


def error_body(error: ModelPoolError) -> dict[str, Any]:
    """As Cohere tells errors; code and source are in its headers."""
    return {"message": error.message}


def translate(data: Mapping[str, Any]) -> Whole:
    """
    Raises:
        InvalidRequest: with ``param``.
    """
    if data.get("images"):
        text = "images is not supported: only texts are embedded here, say them in texts"
        raise InvalidRequest(text, param="images")
    _CHECK(data)
    given = {name: value for name, value in data.items() if value is not None}
    texts = _texts(given)
    no_use = {"input_type", "max_tokens", "priority"} & given.keys()
    no_use |= {"truncate"} if given.get("truncate", "NONE") != "NONE" else set()
    unknown = {name for name in given if name not in BODY["properties"]}
    body = {"input": texts, "encoding_format": "float"}
    told = Told(EMBEDDINGS_PATH, body, stream=False, ignored=tuple(sorted(no_use | unknown)))

    def tell(answer: dict[str, Any]) -> dict[str, Any]:
        found = vectors(answer, len(texts))
        if "output_dimension" in given:
            found = [shortened(v, int(given["output_dimension"])) for v in found]
        kinds = given.get("embedding_types", ["float"])
        tokens = (answer.get("usage") or {}).get("prompt_tokens", 0)
        return {
            "id": str(uuid.uuid4()),
            "embeddings": {
                kind: [coded(v) for v in found] if kind == "base64" else found for kind in kinds
            },
            "texts": texts,
            "response_type": "embeddings_by_type",
            "meta": {"api_version": {"version": "2"}, "billed_units": {"input_tokens": tokens}},
        }

    return Whole(told, tell)


def _texts(given: Mapping[str, Any]) -> list[str]:
    """What is embedded: ``texts``, or of each of ``inputs`` its parts, a line each."""
    if "texts" in given and "inputs" in given:
        raise InvalidRequest("inputs and texts are given; leave one out", param="inputs")
    if "inputs" in given:
        return ["\n".join(part["text"] for part in each["content"]) for each in given["inputs"]]
    if "texts" not in given:
        raise InvalidRequest("texts is required: what is embedded", param="texts")
    return list(given["texts"])
