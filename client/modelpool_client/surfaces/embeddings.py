"""PURE. Embeddings in OpenAI's shape; reranking in Jina's and Cohere's, and in that of TEI."""

from __future__ import annotations

import base64
import json
import math
import struct
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from modelpool_client.errors import InvalidRequest
from modelpool_client.surfaces.parameter_rules import (
    LOAD_OPTION,
    LOAD_OPTIONS,
    Disposition,
    Rule,
    own,
)
from modelpool_client.surfaces.routes import EMBEDDINGS_PATH, RERANK_PATH
from modelpool_client.surfaces.schema import Schema, nullable, whole

# Items of one request: OpenAI's limit.
MOST_INPUTS = 2048
# Of an answer, where its id would stand.
_HEAD_BYTES = 100
# Of the square of a length.
_UNIT_ERROR = 1e-6
_TEXT: Schema = {"type": "string", "minLength": 1}
_TOKEN: Schema = {"type": "integer", "minimum": 0, "maximum": (1 << 31) - 1}
_TOKENS: Schema = {"type": "array", "minItems": 1, "items": _TOKEN}
# llama.cpp's own ways to say a text: texts between tokens, and what may hold pictures and sounds.
_MIXED: Schema = {"type": "array", "minItems": 1, "items": {"anyOf": [_TEXT, _TOKEN]}}
_PARTS: tuple[Schema, ...] = tuple(
    {
        "type": "object",
        "required": [name],
        "properties": {name: schema},
        "description": f"llama.cpp's: {text}",
    }
    for name, schema, text in (
        ("prompt_string", {"type": "string"}, "a text"),
        (
            "content",
            {"type": "array", "minItems": 1, "items": {"type": "object"}},
            "parts of a text, as in a chat",
        ),
    )
)


def _table(required: Sequence[str], **properties: Schema) -> Schema:
    known = {k: v if k in required else nullable(v) for k, v in properties.items()}
    return {"type": "object", "required": list(required), "properties": known}


BODIES: Mapping[str, Schema] = {
    EMBEDDINGS_PATH: _table(
        ["input"],
        model={"type": "string"},
        input={
            "anyOf": [
                _TEXT,
                _TOKENS,
                *_PARTS,
                {"type": "array", "minItems": 1, "maxItems": MOST_INPUTS, "items": _TEXT},
                {
                    "type": "array",
                    "minItems": 1,
                    "maxItems": MOST_INPUTS,
                    "items": {"anyOf": [_TEXT, _TOKEN, _MIXED, *_PARTS]},
                },
            ]
        },
        encoding_format={"type": "string", "enum": ["float", "base64"]},
        dimensions={
            "type": "integer",
            "minimum": 1,
            "maximum": 1 << 16,
            "description": "the first so many numbers, scaled to length 1: for models that were "
            "trained to allow that",
        },
        user={"type": "string"},
    ),
    RERANK_PATH: _table(
        ["query"],
        model={"type": "string"},
        query=_TEXT,
        documents={
            "type": "array",
            "minItems": 1,
            "maxItems": MOST_INPUTS,
            "items": {
                "anyOf": [
                    {"type": "string"},
                    {
                        "type": "object",
                        "required": ["text"],
                        "properties": {"text": {"type": "string"}},
                    },
                ]
            },
        },
        texts={
            "type": "array",
            "minItems": 1,
            "maxItems": MOST_INPUTS,
            "items": {"type": "string"},
            "description": "in place of documents: the answer is a list, as Text Embeddings "
            "Inference (TEI) gives it",
        },
        top_n={"type": "integer", "minimum": 1},
        return_documents={"type": "boolean", "description": "with documents"},
        return_text={"type": "boolean", "description": "with texts"},
    ),
}

_LOAD_OPTIONS = dict.fromkeys(sorted(LOAD_OPTIONS), LOAD_OPTION)
RULES: Mapping[str, Mapping[str, Rule]] = {
    EMBEDDINGS_PATH: {
        "model": own("says which model"),
        "input": own("a text, tokens, or a list of either"),
        "encoding_format": own("numbers, or base64 of them"),
        "dimensions": own("the first so many numbers, scaled to length 1"),
        "user": own("requests of one user go to the same copy of a model"),
        **_LOAD_OPTIONS,
    },
    RERANK_PATH: {
        "model": own("says which model"),
        "query": own("what is looked for"),
        "documents": own("texts, or objects that have one"),
        "texts": own("as documents, in TEI's words: the answer is a list then, as TEI's"),
        "top_n": own("the best so many"),
        "return_documents": own("with each result"),
        "return_text": own("the same, with texts"),
        **_LOAD_OPTIONS,
    },
}


def given(path: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """What a checked body says."""
    known = BODIES[path]["properties"]
    return {k: whole(known.get(k, {}), v) for k, v in data.items() if v is not None}


def engine_body(path: str, said: Mapping[str, Any]) -> dict[str, Any]:
    """What an engine is asked, of a checked body.

    Raises:
        InvalidRequest: nothing is to be ranked, or in two ways.
    """
    if path == EMBEDDINGS_PATH:
        is_cut = "dimensions" in said
        kind = "float" if is_cut else said.get("encoding_format", "float")
        return {"input": said["input"], "encoding_format": kind}
    name = _ranked(said)
    documents = [d if isinstance(d, str) else d["text"] for d in said[name]]
    top_n = min(said.get("top_n", len(documents)), len(documents))
    more = {"return_text": True} if name == "texts" and said.get("return_text") else {}
    return {"query": said["query"], name: documents, "top_n": top_n, **more}


def _ranked(said: Mapping[str, Any]) -> str:
    if "texts" not in said and "documents" not in said:
        raise InvalidRequest("documents is required, or texts", param="documents")
    if "texts" in said and "documents" in said:
        raise InvalidRequest("texts and documents are given; leave one out", param="texts")
    return "texts" if "texts" in said else "documents"


def unknown(path: str, said: Mapping[str, Any]) -> list[str]:
    """Parameters that have no meaning here."""
    honoured = {name for name, rule in RULES[path].items() if rule.how is Disposition.HONOURED}
    without_meaning = {"return_documents" if "texts" in said else "return_text"}
    return sorted(said.keys() - honoured | (without_meaning & said.keys()))


def finished(path: str, data: Mapping[str, Any], answer: bytes) -> bytes:
    """The client's answer to a checked body, of the engine's.

    Raises:
        InvalidRequest: more ``dimensions`` are asked for than the model has.
    """
    said = given(path, data)
    if path == EMBEDDINGS_PATH:
        if "dimensions" in said:
            answer = json.dumps(_shortened(json.loads(answer), said)).encode()
        return _with_id(answer)
    if path == RERANK_PATH and said.get("return_documents") and "texts" not in said:
        return json.dumps(_with_documents(json.loads(answer), said["documents"])).encode()
    return answer


def _with_id(answer: bytes) -> bytes:
    """OpenAI's has none; Mistral's package reads no answer without."""
    if b'"id"' in answer[:_HEAD_BYTES] or not answer.startswith(b'{"'):
        return answer
    return b'{"id":"embd-' + uuid.uuid4().hex.encode() + b'",' + answer[1:]


def _shortened(answer: dict[str, Any], said: Mapping[str, Any]) -> dict[str, Any]:
    is_coded = said.get("encoding_format") == "base64"
    for item in answer["data"]:
        numbers = shortened(item["embedding"], said["dimensions"])
        item["embedding"] = coded(numbers) if is_coded else numbers
    return answer


def shortened(numbers: Sequence[float], dimensions: int) -> list[float]:
    """The first ``dimensions`` numbers, scaled to length 1.

    Raises:
        InvalidRequest: there are fewer.
    """
    if dimensions > len(numbers):
        text = f"dimensions must be at most {len(numbers)}, which the model has, not {dimensions}"
        raise InvalidRequest(text, param="dimensions", source="worker")
    first = numbers[:dimensions]
    length = math.sqrt(math.fsum(x * x for x in first))
    return [x / length for x in first] if length else list(first)


def is_unit(numbers: Sequence[float]) -> bool:
    """Of length 1, as near as 32-bit floats come to it."""
    return abs(sum(x * x for x in numbers) - 1) < _UNIT_ERROR


def coded(numbers: Sequence[float]) -> str:
    """As OpenAI's base64: little-endian 32-bit floats."""
    return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode("ascii")


def _with_documents(answer: dict[str, Any], documents: Sequence[Any]) -> dict[str, Any]:
    for result in answer["results"]:
        document = documents[result["index"]]
        result["document"] = {"text": document} if isinstance(document, str) else document
    return answer
