"""PURE. How the bodies of requests and answers are written: JSON, forms with files."""

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

Decode: TypeAlias = Callable[[str, Request, bytes], dict[str, Any]]


@dataclass(frozen=True)
class Codec:
    """One way to write a body.

    Attributes:
        check: refuses a request whose headers say that its body is written otherwise, before it is
            read.
        decode: what a request for a path says.
        encode: an answer's headers and body.
    """

    check: Callable[[Headers, Source], None]
    decode: Decode
    encode: Callable[[dict[str, Any]], tuple[Headers, bytes]]


def _json(path: str, request: Request, body: bytes) -> dict[str, Any]:
    return parse_object(body)


def as_json(answer: dict[str, Any]) -> tuple[Headers, bytes]:
    """An answer's headers and body."""
    return [JSON_TYPE], json.dumps(answer, ensure_ascii=False).encode()


# Imported when a form comes: a front should start soon.


def _check_form(headers: Headers, source: Source) -> None:
    from modelpool_client.surfaces import forms

    forms.check(headers, source)


def _form(path: str, request: Request, body: bytes) -> dict[str, Any]:
    from modelpool_client.surfaces import forms, media

    return forms.typed(forms.decode(request.fields[b"content-type"], body), media.BODIES[path])


CODECS: Mapping[str, Codec] = {
    "json": Codec(check_json, _json, as_json),
    "form": Codec(_check_form, _form, as_json),
}
