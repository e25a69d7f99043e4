"""The requests that are measured, and HTTP/1.1 spoken plainly over one socket."""

from __future__ import annotations

import http.client
import json
import re
import socket
import time
from dataclasses import dataclass
from typing import Any

from bench.figures import BenchError

HOST = "127.0.0.1"
CHAT = "/v1/chat/completions"
STREAM_END = b"\r\n0\r\n\r\n"
_CHUNK_SIZE = re.compile(rb"\r\n[0-9a-fA-F]+\r\n")
MESSAGES = [{"role": "user", "content": "Tell me something about the weather."}]
JSON_HEADERS = {"content-type": "application/json"}


def chat_body(model: str, max_tokens: int, **more: Any) -> bytes:
    """The body of a chat request."""
    body = {"model": model, "messages": MESSAGES, "max_tokens": max_tokens, **more}
    return json.dumps(body).encode()


def slow_body(model: str, tokens: int, per_second: float) -> bytes:
    """A stream that stays open; for our own upstream, others do not know that key."""
    return chat_body(model, tokens, stream=True, tokens_per_second=per_second)


def token_body(model: str, max_tokens: int, **more: Any) -> bytes:
    """A stream of exactly so many tokens: a model with random weights must not stop by itself."""
    fixed = {"stream": True, "temperature": 0, "ignore_eos": True}
    return chat_body(model, max_tokens, **{**fixed, **more})


@dataclass(frozen=True)
class Ask:
    """What is asked again and again: a chat, or with another path and no body a GET."""

    body: bytes = b""
    path: str = CHAT

    @property
    def method(self) -> str:
        """POST where there is something to post."""
        return "POST" if self.body else "GET"

    def on(self, port: int) -> bytes:
        """The whole request as it goes over the wire."""
        head = f"{self.method} {self.path} HTTP/1.1\r\nHost: {HOST}:{port}\r\n"
        if self.body:
            head += f"Content-Type: application/json\r\nContent-Length: {len(self.body)}\r\n"
        return head.encode() + b"\r\n" + self.body


def unchunked(data: bytes) -> bytes:
    """PURE. Events as they were before a relay cut them into chunks, perhaps in mid-word."""
    return _CHUNK_SIZE.sub(b"", data)


def call(
    port: int, method: str, path: str, data: Any = None, timeout: float = 120
) -> tuple[int, Any]:
    """One request for JSON; the status and what was answered.

    Raises:
        BenchError: no answer, or none in JSON.
    """
    connection = http.client.HTTPConnection(HOST, port, timeout=timeout)
    body = None if data is None else json.dumps(data).encode()
    try:
        connection.request(method, path, body, JSON_HEADERS)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read() or b"null")
    except (OSError, http.client.HTTPException, ValueError) as e:
        raise BenchError(f"{method} {path}: {e!r}") from e
    finally:
        connection.close()


def first_event_at(port: int, body: bytes, timeout: float = 120) -> float:
    """Send a streaming request and read it to its end; when its first event came.

    Raises:
        BenchError: it was refused, or broke off.
    """
    came: float | None = None
    seen = b""
    with socket.create_connection((HOST, port), timeout=timeout) as sock:
        sock.sendall(Ask(body).on(port))
        while data := sock.recv(65_536):
            seen += data
            if came is None and b"\ndata: " in seen:
                came = time.perf_counter()
            if seen.endswith(STREAM_END) or not seen.startswith(b"HTTP/1.1 200"):
                break
    if came is None or b"data: [DONE]" not in unchunked(seen):
        raise BenchError(f"the stream broke off: {seen[-300:]!r}")
    return came
