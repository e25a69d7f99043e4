"""What came of a request, read from a bare connection, and what to make of it."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

PATH = "/v1/chat/completions"
ERROR_KEYS = frozenset({"message", "type", "param", "code", "source"})


@dataclass(frozen=True)
class Request:
    """A chat request. ``way``: ``gateway``, or ``direct`` to the port of a worker whose front is
    ``front``. ``echo``: the model answers with the text. ``leaves``: the client goes after the
    first bytes of the answer."""

    way: str
    port: int
    model: str
    text: str
    is_stream: bool = False
    echo: bool = True
    leaves: bool = False
    front: int | None = None

    @property
    def body(self) -> bytes:
        messages = [{"role": "user", "content": self.text}]
        body = {"model": self.model, "messages": messages, "stream": self.is_stream}
        # A real model stops when it likes; a few words of it are enough.
        return json.dumps(body if self.echo else {**body, "max_tokens": 12}).encode()


@dataclass(frozen=True)
class Reply:
    """What came. ``kind``: ``whole``, ``cut``, ``refused`` (no connection), ``reset`` (not one byte
    of an answer), ``late`` (not over in time), ``left`` (by the client's own wish)."""

    request: Request
    kind: str
    status: int = 0
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    began: float = 0.0
    ended: float = 0.0

    def __str__(self) -> str:
        r = self.request
        shape = "stream" if r.is_stream else "json"
        return f"{r.way} {r.model} {shape}: {self.kind} {self.status} {self.body[-200:]!r}"


def send(request: Request, seconds: float, now: Callable[[], float] = time.monotonic) -> Reply:
    """Ask and read to the end, for ``seconds`` at most."""
    began = now()
    connection = http.client.HTTPConnection("127.0.0.1", request.port, timeout=seconds)
    kind, status, body, headers = "refused", 0, b"", {}
    try:
        connection.connect()
        kind = "reset"
        connection.request("POST", PATH, request.body, {"content-type": "application/json"})
        answer = connection.getresponse()
        kind, status, headers = "cut", answer.status, dict(answer.getheaders())
        while piece := answer.read1(65_536):
            body += piece
            if request.leaves:
                kind = "left"
                break
            if now() > began + seconds:  # comments keep a stream alive, not its client's patience
                raise TimeoutError
        if kind == "cut" and not answer.length:
            kind = "whole"
    except TimeoutError:
        kind = "late"
    except (OSError, http.client.HTTPException):
        pass  # ``kind`` says how far it came
    finally:
        connection.close()
    lower = {k.lower(): v for k, v in headers.items()}
    return Reply(request, kind, status, body, lower, began, now())


def verdict(reply: Reply) -> str:
    """PURE. ``answer``, ``left``, ``error CODE`` if it explains itself, else what is wrong."""
    if reply.kind != "whole":
        return reply.kind
    if reply.status != 200:
        return _of_error(reply)
    return _of_stream(reply) if reply.request.is_stream else _of_json(reply)


def _of_error(reply: Reply) -> str:
    error = _error(_parsed(reply.body))
    said = reply.headers.get("x-modelpool-code"), reply.headers.get("x-modelpool-source")
    if error and said == (error["code"], error["source"]):
        return f"error {error['code']}"
    return "shapeless error"


def _of_json(reply: Reply) -> str:
    try:
        choice = _parsed(reply.body)["choices"][0]
        return _of_text(reply, choice["message"]["content"], choice["finish_reason"])
    except (KeyError, IndexError, TypeError):
        return "shapeless answer"


def _of_stream(reply: Reply) -> str:
    events = list(_events(reply.body))
    if not events:
        return "truncated"
    if events[-1] != b"[DONE]":
        error = _error(_parsed(events[-1]))
        return f"error {error['code']}" if error else "truncated"
    try:
        choices = [c for e in events[:-1] for c in _parsed(e).get("choices", ())]
        text = "".join(c["delta"].get("content") or "" for c in choices)
        return _of_text(reply, text, choices[-1]["finish_reason"])
    except (AttributeError, KeyError, IndexError, TypeError):
        return "shapeless answer"


def _of_text(reply: Reply, text: object, finish: object) -> str:
    is_whole = text == reply.request.text if reply.request.echo else isinstance(text, str)
    return "answer" if is_whole and finish else "truncated"


def _events(body: bytes) -> Iterator[bytes]:
    for line in body.splitlines():
        if line.startswith(b"data: "):
            yield line[6:]


def _parsed(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return None


def _error(data: Any) -> dict[str, Any]:
    """The error in it if it has the shape, else nothing."""
    error = data.get("error") if isinstance(data, dict) else None
    is_error = isinstance(error, dict) and set(error) >= ERROR_KEYS and error["message"]
    return error if is_error else {}
