"""PURE. ``/embed`` of Hugging Face's Text Embeddings Inference (TEI); its ``/rerank`` is one of the
ways to say ours.

Its clients name no model: on a worker's port there is one, at the gateway it stands in the query.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelpool_client.errors import ModelPoolError
from modelpool_client.surfaces.contract import TEXT, Contract, Description, holds, listed
from modelpool_client.surfaces.embeddings import MOST_INPUTS, is_unit, shortened
from modelpool_client.surfaces.parameter_rules import LOAD_OPTION, LOAD_OPTIONS, Rule, ignored, own
from modelpool_client.surfaces.routes import EMBEDDINGS_PATH, TEI_EMBED_PATH
from modelpool_client.surfaces.schema import Schema, nullable
from modelpool_client.surfaces.schema_checks import checks
from modelpool_client.surfaces.translation import Told
from modelpool_client.surfaces.whole import Whole, vectors

_TEXT: Schema = {"type": "string", "minLength": 1}
_FLAG: Schema = nullable({"type": "boolean"})
BODY: Schema = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "inputs": {
            "anyOf": [
                _TEXT,
                {"type": "array", "minItems": 1, "maxItems": MOST_INPUTS, "items": _TEXT},
            ]
        },
        "model": nullable({"type": "string"}),
        "normalize": _FLAG,
        "truncate": _FLAG,
        "truncation_direction": nullable(
            {"type": "string", "enum": ["Left", "Right", "left", "right"]}
        ),
        "prompt_name": nullable({"type": "string"}),
        "dimensions": nullable({"type": "integer", "minimum": 1, "maximum": 1 << 16}),
    },
}
RULES: Mapping[str, Rule] = {
    "inputs": own("a text, or a list of them"),
    "model": own("says which model"),
    "normalize": own("false: vectors as the engine gives them, else of length 1"),
    "truncate": ignored("nothing is cut off a request", False),
    "truncation_direction": ignored("nothing is cut off a request"),
    "prompt_name": ignored("texts are embedded as they are"),
    "dimensions": own("the first so many numbers, scaled to length 1"),
    **dict.fromkeys(sorted(LOAD_OPTIONS), LOAD_OPTION),
}
DESCRIPTION = Description(
    holds(error=TEXT, error_type=TEXT),
    {
        TEI_EMBED_PATH: Contract(
            listed(listed({"type": "number"})),
            BODY,
            summary="Make vectors of texts, as Text Embeddings Inference (TEI) does",
            rules=RULES,
        )
    },
)
_CHECK = checks({TEI_EMBED_PATH: BODY})[TEI_EMBED_PATH]


def error_body(error: ModelPoolError) -> dict[str, Any]:
    """As TEI tells errors; code and source are in its headers."""
    kind = "Overloaded" if error.status in (429, 503) else "Backend"
    return {"error": error.message, "error_type": "Validation" if error.status < 429 else kind}


def translate(data: Mapping[str, Any]) -> Whole:
    """
    Raises:
        InvalidRequest: with ``param``.
    """
    _CHECK(data)
    given = {name: value for name, value in data.items() if value is not None}
    texts = [given["inputs"]] if isinstance(given["inputs"], str) else given["inputs"]
    no_use = {"truncate", "truncation_direction", "prompt_name"}
    unknown = {name for name in given if name not in BODY["properties"]}
    ignored = {name for name in no_use & given.keys() if given[name] is not False} | unknown
    told = Told(
        EMBEDDINGS_PATH,
        {"input": texts, "encoding_format": "float"},
        stream=False,
        ignored=tuple(sorted(ignored)),
    )

    def tell(answer: dict[str, Any]) -> list[list[float]]:
        found = vectors(answer, len(texts))
        if "dimensions" not in given and given.get("normalize") is False:
            return found
        if "dimensions" in given:
            return [shortened(v, int(given["dimensions"])) for v in found]
        return [v if is_unit(v) else shortened(v, len(v)) for v in found]

    return Whole(told, tell)
