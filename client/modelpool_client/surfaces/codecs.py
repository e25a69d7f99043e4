"""PURE. How the bodies of requests and answers are written: JSON, forms with files, tensors."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from modelpool_client.errors import Source
from modelpool_client.guard import check_json
from modelpool_client.http1.exchange import JSON_TYPE
from modelpool_client.http1.message import Headers, Request
from modelpool_client.surfaces.body import parse_object

# Made once: json.dumps makes an encoder for every call that wants anything special.
_ENCODER = json.JSONEncoder(ensure_ascii=False)

Decode: TypeAlias = Callable[[str, Request, bytes], dict[str, Any]]
Rename: TypeAlias = Callable[[Request, bytes, dict[str, Any], str], bytes]


@dataclass(frozen=True)
class Codec:
    """One way to write a body.

    Attributes:
        check: refuses a request whose headers say that its body is written otherwise, before it is
            read.
        decode: what a request for a path says.
        encode: an answer's headers and body.
        rename: a body that says ``data``, with another model's name in it.
    """

    check: Callable[[Headers, Source], None]
    decode: Decode
    encode: Callable[[dict[str, Any]], tuple[Headers, bytes]]
    rename: Rename


def _json(path: str, request: Request, body: bytes) -> dict[str, Any]:
    return parse_object(body)


def as_json(answer: dict[str, Any]) -> tuple[Headers, bytes]:
    """An answer's headers and body."""
    return [JSON_TYPE], _ENCODER.encode(answer).encode()


def _json_of(request: Request, body: bytes, data: dict[str, Any], model_id: str) -> bytes:
    return json.dumps({**data, "model": model_id}).encode()


# Imported when a form comes: a front should start soon.


def _check_form(headers: Headers, source: Source) -> None:
    from modelpool_client.surfaces import forms

    forms.check(headers, source)


def _form(path: str, request: Request, body: bytes) -> dict[str, Any]:
    from modelpool_client.surfaces import forms, media

    return forms.typed(forms.decode(request.fields[b"content-type"], body), media.BODIES[path])


def _form_of(request: Request, body: bytes, data: dict[str, Any], model_id: str) -> bytes:
    from modelpool_client.surfaces import forms

    return forms.with_text(request.fields[b"content-type"], body, "model", model_id)


# What clients of the Open Inference Protocol call a body without asking anybody: aiohttp, on which
# Triton's asynchronous one is built, JSON that it is given as text, and raw tensors.
_TENSOR_TYPES = (b"text/plain", b"application/octet-stream")


def _check_tensors(headers: Headers, source: Source) -> None:
    check_json(headers, source, _TENSOR_TYPES)


def _tensors(path: str, request: Request, body: bytes) -> dict[str, Any]:
    from modelpool_client.surfaces import open_inference

    return open_inference.decode(request.fields, body)


def _as_tensors(answer: dict[str, Any]) -> tuple[Headers, bytes]:
    from modelpool_client.surfaces import open_inference

    return open_inference.encode(answer)


def _tensors_of(request: Request, body: bytes, data: dict[str, Any], model_id: str) -> bytes:
    return body  # they belong to the model that the path names


CODECS: Mapping[str, Codec] = {
    "json": Codec(check_json, _json, as_json, _json_of),
    "form": Codec(_check_form, _form, as_json, _form_of),
    "tensors": Codec(_check_tensors, _tensors, _as_tensors, _tensors_of),
}
