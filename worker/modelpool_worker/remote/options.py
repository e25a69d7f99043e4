"""The options that all engines of servers elsewhere have.

Where requests go and which key they show is for the config file alone to say: who reaches the API
could have any secret of the pool's machine sent to a server of his own, any address asked that only
the pool reaches, or models paid for that nobody wanted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from modelpool_client.errors import LoadFailed
from modelpool_client.http1.message import Headers
from modelpool_client.surfaces.schema import Schema

SECONDS = 600.0
KEY_HEADER = "authorization: Bearer {api_key}"
# Names under which a query would show a key.
_KEYS_IN_QUERIES = re.compile(
    r"(.*[-_])?(api)?key|(.*[-_])?token|(.*[-_])?secret|password|signature|sig|code", re.IGNORECASE
)
ONLY: Schema = {"only_in_config": True}
_TEXTS: Schema = {"type": "array", "items": {"type": "string", "minLength": 1}}


KEY_HEADER_OPTION: Schema = {
    **ONLY,
    "type": "string",
    "pattern": r"^[A-Za-z0-9-]+: ?.*\{api_key\}.*$",
    "description": "how the key is shown",
    "default": KEY_HEADER,
}


def common(base_url: str, variable: str) -> dict[str, Schema]:
    """Their schema, with an engine's own place and variable."""
    where: Schema = {
        **ONLY,
        "type": "string",
        "pattern": r"^https?://[^\s/@?#]+(/[^\s?#]*)?(\?[^\s#]*)?$",
        "description": "where its API begins; without a path that is /v1. {model} in the path is"
        " the model's name there; what stands behind ? goes with every request",
    }
    if base_url:
        where = {**where, "default": base_url}
    return {
        "base_url": where,
        "api_key_variable": {
            **ONLY,
            "type": "string",
            "minLength": 1,
            "description": "environment variable of the pool that holds the key",
            **({"default": variable} if variable else {}),
        },
        "api_key_file": {
            **ONLY,
            "type": "string",
            "minLength": 1,
            "description": "file that holds the key, read again when it changes; counts before"
            " the variable",
        },
        "request_timeout_seconds": {
            "type": "number",
            "exclusiveMinimum": 0,
            "description": "how long it may be silent, before and within an answer",
            "default": SECONDS,
        },
        "ca_file": {
            **ONLY,
            "type": "string",
            "minLength": 1,
            "description": "certificates to trust in place of the system's",
        },
        "headers": {
            **ONLY,
            **_TEXTS,
            "description": "go with every request, as 'name: value'; no place for keys",
        },
        "models": {
            **ONLY,
            **_TEXTS,
            "description": "names there of the models that one worker serves, each as ID:NAME",
        },
        "discover": {
            **ONLY,
            "type": "boolean",
            "description": "whatever other models it has may be asked for, too",
            "default": False,
        },
    }


def check_common(options: Mapping[str, Any]) -> None:
    """Check what the schema cannot say.

    Raises:
        LoadFailed: a header is none, or a place has no host or no possible port (``bad_config``).
    """
    headers_of(options)
    for name in ("base_url", "url", "stream_url"):
        if name in options:
            _check_place(name, options[name])


def _check_place(name: str, text: str) -> None:
    try:
        url = urlsplit(text)
        has_place = bool(url.hostname) and url.port != 0
    except ValueError:
        has_place = False
    if not has_place:
        text = f"options.{name}: {text!r} names no host, or no port that there is"
        raise LoadFailed(text, code="bad_config", param=f"options.{name}", source="engine")
    for key, _ in parse_qsl(url.query, keep_blank_values=True):
        if _KEYS_IN_QUERIES.fullmatch(key):
            text = f"options.{name}: {key} in its query is for a key, which belongs in a variable"
            text += " or a file; api_key_header says how it is shown"
            raise LoadFailed(text, code="bad_config", param=f"options.{name}", source="engine")


def key_header_of(options: Mapping[str, Any]) -> Callable[[str], Headers]:
    """How a key is shown, as the option ``api_key_header`` says."""
    name, _, value = options.get("api_key_header", KEY_HEADER).partition(":")

    def shown(key: str) -> Headers:
        return [(name.lower().encode(), value.strip().replace("{api_key}", key).encode())]

    return shown


def headers_of(options: Mapping[str, Any]) -> Headers:
    """Those of the option ``headers``.

    Raises:
        LoadFailed: one is no header, or would show a key (``bad_config``).
    """
    return [_header(text) for text in options.get("headers", ())]


def _header(text: str) -> tuple[bytes, bytes]:
    name, colon, value = text.partition(":")
    name, value = name.strip().lower(), value.strip()
    if not colon or not name or not (name + value).isascii() or not (name + value).isprintable():
        raise _wrong(f"headers: {text!r} is not 'name: value'")
    if name in ("authorization", "x-api-key", "api-key", "x-goog-api-key", "cookie"):
        raise _wrong(f"headers: {name} is for a key, which belongs in a variable or a file")
    return name.encode(), value.encode()


def variables_of(options: Mapping[str, Any], known: Sequence[str]) -> Sequence[str]:
    """Variables that may hold the key, the first one that is set counts."""
    named = options.get("api_key_variable")
    return (named,) if named else known


def _wrong(text: str) -> LoadFailed:
    return LoadFailed(text, code="bad_config", param="headers", source="engine")
