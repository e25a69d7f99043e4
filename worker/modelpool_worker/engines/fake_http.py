"""The fake engine's HTTP server: a thread per connection on a unix socket, answers as a stream.

By hand and without asyncio, because tests start hundreds of these and an import is most of it.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

_ids = itertools.count(1)


class ClientGone(Exception):
    """The other side closed the connection."""


class FakeServer:
    """Answers ``POST /v1/chat/completions`` and ``/v1/completions`` with the scripted stream."""

    def __init__(self, model_id: str, options: Mapping[str, Any]) -> None:
        self.model_id = model_id
        self.options = options
        self._listener = socket.socket(socket.AF_UNIX)
        self._slots = threading.Semaphore(options.get("parallel") or 10**6)

    def listen(self, path: str) -> None:
        """Take connections on the unix socket ``path`` from now on."""
        self._listener.bind(path)
        self._listener.listen(1024)

    def run(self) -> None:
        """Serve for ever, or until the listener is closed."""
        while True:
            connection, _ = self._listener.accept()
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(ClientGone, OSError):
            request = _read_request(connection)
            if self.options.get("hang_everything"):
                _wait_until_gone(connection, None)
            with self._slot(connection):
                self._answer(connection, *request)

    @contextlib.contextmanager
    def _slot(self, connection: socket.socket) -> Iterator[None]:
        while not self._slots.acquire(timeout=0.02):
            _wait_until_gone(connection, 0)
        try:
            yield
        finally:
            self._slots.release()

    def _answer(self, connection: socket.socket, path: str, body: dict[str, Any]) -> None:
        chat = path == "/v1/chat/completions"
        prompt = _prompt(body, chat)
        limit = self.options.get("context_length", 4096)
        if (words := len(prompt.split())) > limit:
            _send_error(connection, words, limit)
            return
        _send_head(connection, 200, "text/event-stream")
        if self.options.get("garbage"):
            connection.sendall(b"\x00\x01 this is no event stream \xff\xfe\n")
            return
        _wait_until_gone(connection, self.options.get("first_token_seconds", 0))
        stream = _Stream(self.model_id, chat, body)
        for index in range(body.get("n") or 1):
            self._send_choice(connection, stream, index, self._tokens(prompt, body))
        if not self.options.get("end_early"):
            connection.sendall(stream.tail(len(prompt.split())))

    def _tokens(self, prompt: str, body: dict[str, Any]) -> tuple[list[str], str]:
        text = self.options.get("reply", prompt) or "ok"
        words = re.findall(r"\s*\S+\s*?|\s+", text)
        if "tokens" in self.options:
            words = list(itertools.islice(itertools.cycle([*words, "\n"]), self.options["tokens"]))
        most = body.get("max_completion_tokens") or body.get("max_tokens") or len(words)
        return words[:most], "length" if most < len(words) else "stop"

    def _send_choice(
        self, connection: socket.socket, stream: _Stream, index: int, tokens: tuple[list[str], str]
    ) -> None:
        speed = self.options.get("tokens_per_second", 0)
        connection.sendall(stream.first(index))
        for sent, word in enumerate(tokens[0]):
            self._misbehave(connection, sent)
            if self.options.get("log_tokens"):
                print(f"fake: token {sent}", file=sys.stderr, flush=True)
            connection.sendall(stream.token(index, word))
            if speed:
                _wait_until_gone(connection, 1 / speed)
        self._misbehave(connection, len(tokens[0]))
        connection.sendall(stream.last(index, tokens[1]))

    def _misbehave(self, connection: socket.socket, sent: int) -> None:
        if sent == self.options.get("die_after_tokens"):
            print(f"fake: dying after {sent} tokens", file=sys.stderr, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        if sent == self.options.get("hang_after_tokens"):
            _wait_until_gone(connection, None)


class _Stream:
    """The chunks of one answer."""

    def __init__(self, model_id: str, chat: bool, body: dict[str, Any]) -> None:
        self._chat = chat
        self._usage = bool((body.get("stream_options") or {}).get("include_usage"))
        self._sent = 0
        self._head = {
            "id": f"fake-{os.getpid()}-{next(_ids)}",
            "object": "chat.completion.chunk" if chat else "text_completion",
            "created": int(time.time()),
            "model": model_id,
        }

    def first(self, index: int) -> bytes:
        """Opens a choice; only a chat says who speaks."""
        delta = {"role": "assistant", "content": None}
        return self._chunk(choices=[_choice(index, delta=delta)]) if self._chat else b""

    def token(self, index: int, text: str) -> bytes:
        self._sent += 1
        part = {"delta": {"content": text}} if self._chat else {"text": text}
        return self._chunk(choices=[_choice(index, **part)])

    def last(self, index: int, reason: str) -> bytes:
        part: dict[str, Any] = {"delta": {}} if self._chat else {"text": ""}
        end = {**_choice(index, **part), "finish_reason": reason}
        return self._chunk(choices=[end], timings={"predicted_n": self._sent})

    def tail(self, prompt_tokens: int) -> bytes:
        usage = {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": self._sent,
            "total_tokens": prompt_tokens + self._sent,
        }
        chunk = self._chunk(choices=[], usage=usage) if self._usage else b""
        return chunk + b"data: [DONE]\n\n"

    def _chunk(self, **part: Any) -> bytes:
        return b"data: " + json.dumps({**self._head, **part}).encode() + b"\n\n"


def _choice(index: int, **part: Any) -> dict[str, Any]:
    return {"index": index, **part, "finish_reason": None}


def _prompt(body: dict[str, Any], chat: bool) -> str:
    if not chat:
        prompt = body.get("prompt", "")
        return prompt if isinstance(prompt, str) else " ".join(map(str, prompt))
    users = [m for m in body["messages"] if m.get("role") == "user"] or body["messages"]
    content = users[-1].get("content") or ""
    if isinstance(content, list):
        return " ".join(p.get("text", "") for p in content)
    return str(content)


def _read_request(connection: socket.socket) -> tuple[str, dict[str, Any]]:
    data = b""
    while b"\r\n\r\n" not in data:
        data += _receive(connection)
    head, _, body = data.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: *(\d+)", head)
    parts = [body]
    missing = (int(length[1]) if length else 0) - len(body)
    while missing > 0:
        parts.append(_receive(connection))
        missing -= len(parts[-1])
    path = head.split(b" ", 2)[1].decode()
    return path, json.loads(b"".join(parts) or b"{}")


def _receive(connection: socket.socket) -> bytes:
    data = connection.recv(1 << 18)
    if not data:
        raise ClientGone
    return data


def _wait_until_gone(connection: socket.socket, seconds: float | None) -> None:
    """Sleep ``seconds`` (None: for ever); raise ClientGone as soon as the client is gone."""
    end = None if seconds is None else time.monotonic() + seconds
    while True:
        left = None if end is None else max(0.0, end - time.monotonic())
        readable, _, _ = select.select([connection], [], [], left)
        if readable:
            _receive(connection)
        elif left is not None:
            return


def _send_head(connection: socket.socket, status: int, kind: str, more: str = "") -> None:
    head = f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\n{more}Connection: close\r\n\r\n"
    connection.sendall(head.encode())


def _send_error(connection: socket.socket, words: int, limit: int) -> None:
    message = f"request ({words} tokens) exceeds the available context size ({limit} tokens)"
    error = {"code": 400, "type": "exceed_context_size_error", "message": message}
    error |= {"n_prompt_tokens": words, "n_ctx": limit}
    body = json.dumps({"error": error}).encode()
    _send_head(connection, 400, "application/json", f"Content-Length: {len(body)}\r\n")
    connection.sendall(body)
