"""PURE. A request for a completion in OpenAI's words: checked, put right, told to an engine."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from modelpool_client.errors import InvalidRequest, ModelNotFound
from modelpool_client.surfaces.names import answers_to
from modelpool_client.surfaces.normalize import UNCHANGED, normalized
from modelpool_client.surfaces.openai_bodies import BODIES, NEEDS
from modelpool_client.surfaces.parameters import ANY, Support, header_of
from modelpool_client.surfaces.schema import whole
from modelpool_client.surfaces.schema_checks import Predicate, checks, predicate
from modelpool_client.wire import IGNORED_HEADER

_IGNORED = IGNORED_HEADER.encode()
_CHECKS = checks(BODIES)
# Made once: json.dumps makes an encoder for every call that wants anything special.
_ENCODER = json.JSONEncoder(ensure_ascii=False)


@dataclass(slots=True)  # frozen ones take three times as long to make, and each request makes one
class Completion:
    """A checked request: what the engine is to be told, whether the client streams, what was
    ignored.

    Attributes:
        raw: the client's own words, where they say just ``body``; else None.
    """

    body: dict[str, Any]
    stream: bool
    ignored: tuple[str, ...]
    raw: bytes | None = None

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """What its answer says of it."""
        return ignored_headers(self.ignored)

    def upstream(self, *, as_stream: bool = True) -> bytes:
        """The body for the engine; ``as_stream`` asks for one whatever the client wants.

        Raises:
            InvalidRequest: a string holds half a surrogate pair.
        """
        is_added = as_stream and not self.stream
        if self.raw is not None:
            if not is_added:
                return self.raw
            if "stream" not in self.body and "stream_options" not in self.body:
                return self.raw.rstrip()[:-1] + _AS_STREAM
        body = self.body
        if is_added:
            body = {**body, "stream": True, "stream_options": {"include_usage": True}}
        try:
            return _ENCODER.encode(body).encode()
        except UnicodeEncodeError:
            text = "the body holds half a surrogate pair"
            raise InvalidRequest(text, param="body", source="worker") from None


def ignored_headers(ignored: Sequence[str]) -> list[tuple[bytes, bytes]]:
    """What an answer says of parameters that changed nothing."""
    return [(_IGNORED, header_of(ignored))] if ignored else []


# An object that was checked has a key or more before it.
_AS_STREAM = b',"stream":true,"stream_options":{"include_usage":true}}'


def check_request(
    path: str, data: dict[str, Any], raw: bytes | None = None, support: Support = ANY
) -> Completion:
    """Check the body of a completion request, which is ``raw`` as it came, and put right what
    engines stumble over.

    Raises:
        InvalidRequest: with ``param``.
    """
    if raw is not None and b"\\u" not in raw and _is_plain(path, data, support):
        return Completion(data, data.get("stream", False), (), raw)
    _CHECKS[path](data)
    known = BODIES[path]["properties"]
    given = {
        k: whole(known.get(k, {}), v) if type(v) is float else v
        for k, v in data.items()
        if v is not None
    }
    stream = bool(given.get("stream", False))
    for name, other in NEEDS[path].items():
        # 0 and {} ask for nothing, which needs nothing.
        if name in given and not given.get(other) and given.pop(name):
            raise InvalidRequest(f"{name} needs {other}", param=name)
    if "messages" in known:  # else they are no parameter, and were not checked
        _check_messages(given.get("messages", ()))
    given = normalized(path, given)
    ignored = support.sort(path, given)
    body = {k: v for k, v in given.items() if k not in ignored} if ignored else given
    return Completion(body, stream, ignored, own_words(raw, data, body))


def _is_plain(path: str, data: dict[str, Any], support: Support) -> bool:
    """Whether a body is sound, and an engine is told it as it is, as nearly always: nothing of it
    is to be put right, ignored or refused."""
    return support.takes(path, data.keys()) and _is_unchanged(path)(data)


@cache
def _is_unchanged(path: str) -> Predicate:
    return predicate(UNCHANGED[path], as_it_is=True)


def own_words(raw: bytes | None, data: Mapping[str, Any], body: Mapping[str, Any]) -> bytes | None:
    """The body of a request as it came, which says ``data``, if an engine is told just that."""
    # An escape may be half a surrogate pair, which engines choke on; nobody else writes one.
    if raw is None or len(body) != len(data) or b"\\u" in raw:
        return None
    for name, value in data.items():
        if body[name] is not value:
            return None
    return raw


def check_model(data: Mapping[str, Any], model_id: str, aliases: Collection[str]) -> None:
    """A worker answers for its own model, its aliases, with or without ``:latest``, or no model at
    all.

    Raises:
        ModelNotFound: naming what is served here.
    """
    name = data.get("model")
    names = [model_id, *aliases]
    if name is None or answers_to(names, name):
        return
    served = ", ".join(names)
    shown = name if len(name) <= 200 else f"{name[:197]}..."
    raise ModelNotFound(
        f"model {shown!r} is not served here; this worker serves {served}",
        param="model",
        source="worker",
    )


def _check_messages(messages: Sequence[Mapping[str, Any]]) -> None:
    for i, message in enumerate(messages):
        if message["role"] != "assistant" and message.get("content") is None:
            where = f"messages[{i}].content"
            raise InvalidRequest(f"{where} is required of {message['role']}", param=where)
