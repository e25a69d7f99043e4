"""The fake engine's HTTP server: a thread per connection on a unix socket, streams and plain.

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

from . import fake_media
from .fake_prompts import FakePrompts
from .fake_sleep import FakeSleep

_ids = itertools.count(1)


class ClientGone(Exception):
    """The other side closed the connection."""


class FakeServer:
    """Answers ``POST /v1/chat/completions`` and ``/v1/completions`` with the scripted stream."""

    def __init__(
        self,
        model_id: str,
        options: Mapping[str, Any],
        sleep: FakeSleep,
        prompts: FakePrompts | None = None,
    ) -> None:
        self.model_id = model_id
        self.options = options
        self._prompts = prompts
        self._sleep = sleep
        self._listener = socket.socket(socket.AF_UNIX)
        self._answers = itertools.count(1)
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
            rest = b""
            while True:
                path, kind, body, rest = _read_request(connection, rest)
                if self.options.get("hang_everything"):
                    _wait_until_gone(connection, None)
                if self._sleep.answers(path):
                    data = json.dumps(self._sleep.take(path)).encode()
                    connection.sendall(_head(200, "application/json", len(data)) + data)
                    continue
                self._sleep.check_awake()
                with self._slot(connection):
                    if fake_media.is_answered(path):
                        self._answer_media(connection, path, kind, body)
                    else:
                        self._answer(connection, path, json.loads(body or b"{}"))

    def _answer_media(
        self, connection: socket.socket, path: str, content_type: str, body: bytes
    ) -> None:
        _wait_until_gone(connection, self.options.get("first_token_seconds", 0))
        self._misbehave(connection, 0)
        try:
            status, (kind, data) = 200, fake_media.answer(self.model_id, path, content_type, body)
        except (ValueError, KeyError) as e:
            error = {"message": f"no such body is understood: {e!r}", "code": 400}
            status, kind, data = 400, "application/json", json.dumps({"error": error}).encode()
        connection.sendall(_head(status, kind, len(data)) + data)

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
        prompts = [_chat_prompt(body)] if chat else _text_prompts(body.get("prompt", ""))
        prompt = " ".join(prompts)
        limit = self.options.get("context_length", 4096)
        if (words := max(len(p.split()) for p in prompts)) > limit:
            _send_error(connection, words, limit)
            return
        every = self.options.get("fail_every", 0)
        if every and next(self._answers) % every == 0:  # one step of one thread: it is atomic
            _fail(connection, self.options.get("fail_how", "error"))
        is_stream = body.get("stream") is True
        if is_stream or self.options.get("garbage"):
            _send_stream_head(connection)
        if self.options.get("garbage"):
            connection.sendall(_chunk(b"\x00\x01 this is no event stream \xff\xfe\n"))
            raise ClientGone
        _wait_until_gone(connection, self.options.get("first_token_seconds", 0))
        answer = _Stream(self.model_id, chat, body) if is_stream else _Whole(self.model_id, chat)
        n = body.get("n") or 1
        for index in range(n * len(prompts)):
            self._send_choice(connection, answer, index, self._tokens(prompts[index // n], body))
        if self.options.get("end_early"):
            raise ClientGone
        known = self._prompts.take(prompt) if self._prompts is not None else None
        connection.sendall(answer.tail(_usage(len(prompt.split()), known)))

    def _tokens(self, prompt: str, body: dict[str, Any]) -> tuple[list[str], str]:
        text = self.options.get("reply", prompt) or "ok"
        words = re.findall(r"\s*\S+\s*?|\s+", text)
        if "tokens" in self.options:
            words = list(itertools.islice(itertools.cycle([*words, "\n"]), self.options["tokens"]))
        most = body.get("max_completion_tokens") or body.get("max_tokens") or len(words)
        return words[:most], "length" if most < len(words) else "stop"

    def _send_choice(
        self,
        connection: socket.socket,
        stream: _Stream | _Whole,
        index: int,
        tokens: tuple[list[str], str],
    ) -> None:
        speed = self.options.get("tokens_per_second", 0) * (4 if self.options.get("turbo") else 1)
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

    def tail(self, usage: dict[str, Any]) -> bytes:
        usage = _with_answer(usage, self._sent)
        chunk = self._chunk(choices=[], usage=usage) if self._usage else b""
        return chunk + _chunk(b"data: [DONE]\n\n") + _chunk(b"")

    def _chunk(self, **part: Any) -> bytes:
        return _chunk(b"data: " + json.dumps({**self._head, **part}).encode() + b"\n\n")


class _Whole:
    """The same answer in one piece at its end."""

    def __init__(self, model_id: str, chat: bool) -> None:
        self._chat = chat
        self._choices: list[dict[str, Any]] = []
        self._text = ""
        self._sent = 0
        self._head = {
            "id": f"fake-{os.getpid()}-{next(_ids)}",
            "object": "chat.completion" if chat else "text_completion",
            "created": int(time.time()),
            "model": model_id,
        }

    def first(self, index: int) -> bytes:
        self._text = ""
        return b""

    def token(self, index: int, text: str) -> bytes:
        self._sent += 1
        self._text += text
        return b""

    def last(self, index: int, reason: str) -> bytes:
        message = {"role": "assistant", "content": self._text}
        said: dict[str, Any] = {"message": message} if self._chat else {"text": self._text}
        choice = {"index": index, **said, "logprobs": None, "finish_reason": reason}
        self._choices.append(choice)
        return b""

    def tail(self, usage: dict[str, Any]) -> bytes:
        usage = _with_answer(usage, self._sent)
        body = json.dumps({**self._head, "choices": self._choices, "usage": usage}).encode()
        return _head(200, "application/json", len(body)) + body


def _usage(words: int, known: int | None) -> dict[str, Any]:
    details = {} if known is None else {"prompt_tokens_details": {"cached_tokens": known}}
    return {"prompt_tokens": words, **details}


def _with_answer(usage: dict[str, Any], tokens: int) -> dict[str, Any]:
    total = usage["prompt_tokens"] + tokens
    return {**usage, "completion_tokens": tokens, "total_tokens": total}


def _choice(index: int, **part: Any) -> dict[str, Any]:
    return {"index": index, **part, "finish_reason": None}


def _text_prompts(prompt: Any) -> list[str]:
    """Texts, or lists of tokens, whose text are their numbers."""
    is_many = isinstance(prompt, list) and not isinstance(prompt[0], (int, float))
    prompts = prompt if is_many else [prompt]
    return [p if isinstance(p, str) else " ".join(map(str, p)) for p in prompts]


def _chat_prompt(body: dict[str, Any]) -> str:
    users = [m for m in body["messages"] if m.get("role") == "user"] or body["messages"]
    content = users[-1].get("content") or ""
    if isinstance(content, list):
        return " ".join(p.get("text", "") for p in content)
    return str(content)


def _read_request(connection: socket.socket, data: bytes) -> tuple[str, str, bytes, bytes]:
    """Path, Content-Type and body of the next request, and what came after it."""
    while b"\r\n\r\n" not in data:
        data += _receive(connection)
    head, _, data = data.partition(b"\r\n\r\n")
    found = re.search(rb"(?i)content-length: *(\d+)", head)
    length = int(found[1]) if found else 0
    parts = [data]
    missing = length - len(data)
    while missing > 0:
        parts.append(_receive(connection))
        missing -= len(parts[-1])
    data = b"".join(parts)
    path = head.split(b" ", 2)[1].decode()
    kind = re.search(rb"(?i)content-type: *([^\r]+)", head)
    return path, kind[1].decode("latin-1") if kind else "", data[:length], data[length:]


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


def _head(status: int, kind: str, length: int) -> bytes:
    text = f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n"
    return text.encode()


def _send_stream_head(connection: socket.socket) -> None:
    connection.sendall(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    )


def _fail(connection: socket.socket, how: str) -> None:
    if how == "slow":
        _wait_until_gone(connection, 0.5)
        return
    if how == "error":
        body = b'{"error": {"message": "told to fail", "type": "server_error", "code": 500}}'
        connection.sendall(_head(500, "application/json", len(body)) + body)
    elif how == "garbage":
        connection.sendall(b"\x00\x01 this is no HTTP \xff\r\n\r\n")
    raise ClientGone


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _send_error(connection: socket.socket, words: int, limit: int) -> None:
    message = f"request ({words} tokens) exceeds the available context size ({limit} tokens)"
    error = {"code": 400, "type": "exceed_context_size_error", "message": message}
    error |= {"n_prompt_tokens": words, "n_ctx": limit}
    body = json.dumps({"error": error}).encode()
    connection.sendall(_head(400, "application/json", len(body)) + body)
