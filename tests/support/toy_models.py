"""Models that compute nothing, by the kit's contract: their tokens are bytes.

Each answers with the last text that it was given, turned into capitals; a gate can hold each step.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
from modelpool_worker.hosting.contract import TextRequest, Token, TokenSink, Vocabulary

END = 256
VOCABULARY = Vocabulary([*(bytes([i]) for i in range(256)), b""], {END}, END)


def noticed(client: httpx.Client) -> None:
    """Until the server knows of those who have left: what it is asked now it reads after that."""
    for _ in range(2):
        assert client.get("/health").json() == {"status": "ok"}


@contextmanager
def leaving(client: httpx.Client, path: str, body: Mapping[str, Any]) -> Iterator[None]:
    """A request at the server of ``client`` whose client is gone at the end of the block."""
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: engine\r\ncontent-type: application/json\r\n"
    transport: Any = client._transport
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(transport._pool._uds)
        sock.sendall(f"{head}content-length: {len(data)}\r\n\r\n".encode() + data)
        yield


class Gate:
    """Lets steps through: all of them, or so many."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._left: float = float("inf")
        self.passed = 0

    def allow(self, steps: float) -> None:
        with self._condition:
            self._left = steps
            self._condition.notify_all()

    def step(self) -> None:
        with self._condition:
            assert self._condition.wait_for(lambda: self._left >= 1, 60)
            self._left -= 1
            self.passed += 1


@dataclass
class Bytes:
    """How texts become tokens, for all of them."""

    context_length: int = 1000
    slots: int = 1
    gate: Gate = field(default_factory=Gate)
    end_tokens: Sequence[int] = (END,)
    vocabulary: Vocabulary = VOCABULARY
    tool_format: str = "hermes"
    asked: list[TextRequest] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    reply: bytes = b""

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def chat_prompt(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]],
        settings: Mapping[str, Any],
    ) -> list[int]:
        return self.encode(str(messages[-1]["content"]))

    def answer(self, request: TextRequest) -> Iterator[Token]:
        text = self.reply or bytes(request.prompt).upper()
        for byte in [*text, END][: request.max_tokens]:
            yield self.token(request, byte)

    def token(self, request: TextRequest, byte: int) -> Token:
        if request.constraint is not None:
            mask = request.constraint.mask()
            allowed = [i for i in range(END + 1) if mask[i // 8] >> (i % 8) & 1]
            byte = byte if byte in allowed else allowed[0]
            request.constraint.accept(byte)
        if request.alternatives is None:
            return Token(byte, VOCABULARY.tokens[byte])
        others = [(byte, VOCABULARY.tokens[byte], -0.5), (65, b"A", -1.0)][: request.alternatives]
        return Token(byte, VOCABULARY.tokens[byte], -0.5, others)


class OneByOne(Bytes):
    """``StepText``"""

    def generate(self, request: TextRequest) -> Iterator[Token]:
        self.asked.append(request)
        try:
            for token in self.answer(request):
                self.gate.step()
                if request.cancel.is_set:
                    return
                yield token
        finally:
            self.ended.append(request.id)


class SideBySide(Bytes):
    """``BatchText``"""

    def generate_batch(
        self, requests: Sequence[TextRequest]
    ) -> Iterator[Sequence[tuple[int, Token]]]:
        self.asked += requests
        self.sizes = [*getattr(self, "sizes", ()), len(requests)]
        going = {i: self.answer(request) for i, request in enumerate(requests)}
        while going:
            self.gate.step()
            step = []
            for i in list(going):
                token = None if requests[i].cancel.is_set else next(going[i], None)
                if token is None:
                    del going[i]
                    self.ended.append(requests[i].id)
                else:
                    step.append((i, token))
            yield step


@dataclass
class Continuously(Bytes):
    """``ContinuousText``: a thread that steps all that there are."""

    def __post_init__(self) -> None:
        self._going: dict[str, tuple[TextRequest, TokenSink, Iterator[Token]]] = {}
        self._lock = threading.Condition()
        threading.Thread(target=self._run, daemon=True).start()

    def submit(self, request: TextRequest, sink: TokenSink) -> None:
        self.asked.append(request)
        with self._lock:
            self._going[request.id] = (request, sink, self.answer(request))
            self._lock.notify()
        request.cancel.then(lambda: self._drop(request.id))

    def _drop(self, id_: str) -> None:
        with self._lock:
            if self._going.pop(id_, None) is not None:
                self.ended.append(id_)

    def _run(self) -> None:
        while True:
            with self._lock:
                self._lock.wait_for(lambda: self._going)
                going = list(self._going.items())
            self.gate.step()
            for id_, (_, sink, tokens) in going:
                token = next(tokens, None)
                if token is None:
                    sink.end()
                    self._drop(id_)
                else:
                    sink.push(token)
