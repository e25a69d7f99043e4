"""PURE. The body of a request for any surface, checked: what the engine is to be told."""

from __future__ import annotations

from typing import Any

from modelpool_client.surfaces import embeddings, media
from modelpool_client.surfaces.openai import Completion, check_request, own_words
from modelpool_client.surfaces.openai_bodies import BODIES
from modelpool_client.surfaces.parameters import ANY, Support
from modelpool_client.surfaces.routes import codec_of
from modelpool_client.surfaces.schema import whole
from modelpool_client.surfaces.schema_checks import checks

_CHECKS = checks({**embeddings.BODIES, **media.BODIES})


def checked(
    path: str, data: dict[str, Any], raw: bytes | None = None, support: Support = ANY
) -> Completion:
    """Check the body of a request for ``path``, one of ``routes.SURFACES``, which is ``raw`` as it
    came, for an engine with that ``support``. What no table here describes goes to it as it is.

    Raises:
        InvalidRequest: with ``param``.
    """
    if path in BODIES:
        return check_request(path, data, raw, support)
    if path in media.BODIES:
        return _relayed(path, data, raw, support)
    if path not in embeddings.BODIES:
        return Completion(data, data.get("stream") is True, (), raw)
    _CHECKS[path](data)
    given = embeddings.given(path, data)
    ignored = tuple(embeddings.unknown(path, given))
    return Completion(embeddings.engine_body(path, given), False, ignored)


def _relayed(path: str, data: dict[str, Any], raw: bytes | None, support: Support) -> Completion:
    """What is asked of the engine as the client asks it; a form stays as it came, with what of it
    is ignored."""
    table = media.BODIES[path]
    _CHECKS[path](data)
    known = table["properties"]
    given = {k: whole(known.get(k, {}), v) for k, v in data.items() if v is not None}
    ignored = support.sort(path, given)
    stream = given.get("stream") is True and "stream" not in ignored
    if codec_of(path) == "form":
        return Completion(given, stream, ignored, raw)
    body = {name: value for name, value in given.items() if name not in ignored}
    return Completion(body, stream, ignored, own_words(raw, data, body))
