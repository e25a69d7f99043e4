"""Whoever leaves costs an engine one step at most: real engines within the kit, each step held at a
gate, and counted by the engine itself."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from e2e.helpers import until
from modelpool_worker.hosting import text_surface
from modelpool_worker.hosting.cancel import Cancel
from modelpool_worker.hosting.contract import Hosted
from support import converted
from support.served import served

# The first test of an engine waits for its conversion.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("default"),
]
CHAT = "/v1/chat/completions"
END = "2"  # the token that ends an answer
PART = 8  # prompt tokens of one step
MOST = 100  # threads of an engine that may wait before a gate
WINDOWS = ("before the first token", "in a stream", "without a stream")


class Gate:
    """Holds each step until it is let through."""

    def __init__(self) -> None:
        self._allowed = threading.Semaphore(0)
        self._arrived = threading.Semaphore(0)
        self._is_open = True

    def __call__(self, step: Callable[..., Any], *given: Any, **more: Any) -> Any:
        if not self._is_open:
            self._arrived.release()
            assert self._allowed.acquire(timeout=60)
        return step(*given, **more)

    def close(self) -> None:
        self._allowed, self._arrived = threading.Semaphore(0), threading.Semaphore(0)
        self._is_open = False

    def arrived(self) -> None:
        """Wait until it is about to step."""
        assert self._arrived.acquire(timeout=60)

    def allow(self) -> None:
        self._allowed.release()

    def open(self) -> None:
        """For all that wait before it, too."""
        self._is_open = True
        self._allowed.release(MOST)


class Gated:
    """Another object, one of whose methods goes through a gate."""

    def __init__(self, inner: Any, method: str, gate: Gate) -> None:
        self._inner = inner
        setattr(self, method, partial(gate, getattr(inner, method)))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def onnx(gate: Gate) -> Any:
    import onnxruntime
    from modelpool_worker.engines.onnx.genai import batched_decoder, read_config

    folder = str(converted.genai("fp32"))
    text = batched_decoder(onnxruntime, folder, read_config(folder), {"batch_size": PART})
    decoder = text._decoder
    decoder._session = Gated(decoder._session, "run_with_iobinding", gate)
    return text


def onnxruntime_genai(gate: Gate) -> Any:
    import onnxruntime_genai as library
    from modelpool_worker.engines.onnx.genai import GenaiText, read_config

    folder = str(converted.genai("fp32"))
    text = GenaiText(library, folder, read_config(folder), {"batch_size": PART})
    made = library.Generator

    class Library:
        GeneratorParams = library.GeneratorParams

        @staticmethod
        def Generator(*given: Any) -> Any:
            return Gated(made(*given), "append_tokens", gate)

    text._library = Library
    return text


def mlx(gate: Gate) -> Any:
    from modelpool_worker.engines.hf_folder import read_writer
    from modelpool_worker.engines.mlx.text import MlxText

    folder = str(converted.mlx(None))
    text = MlxText(folder, read_writer(folder), {"batch_size": PART})
    text._run._step = partial(gate, text._run._step)  # type: ignore[method-assign]
    return text


def transformers(gate: Gate, **options: Any) -> Any:
    from modelpool_worker.engine import Status
    from modelpool_worker.engines.transformers.hosting import hosted
    from modelpool_worker.engines.transformers.source import read_source

    source = read_source(str(converted.DEMO_FOLDER))
    given = {"batch_size": PART, "context_length": 512, **options}
    text: Any = hosted(source, given, Status(lambda event: None)).text
    model = text._model if "continuous_batching" in options else text._manager.model
    model.register_forward_pre_hook(lambda *_: gate(lambda: None))
    return text


@dataclass(frozen=True)
class Kind:
    """An engine.

    Attributes:
        reads_in_parts: a long prompt takes several steps.
        is_batched: a step is one of several sequences.
    """

    load: Callable[[Gate], Any]
    reads_in_parts: bool = True
    is_batched: bool = True


ENGINES = {
    "onnx": Kind(onnx),
    "onnxruntime-genai": Kind(onnxruntime_genai, is_batched=False),
    "mlx": Kind(mlx),
    "transformers": Kind(transformers),
    "transformers, without continuous batching": Kind(
        partial(transformers, continuous_batching=False), reads_in_parts=False
    ),
}


@dataclass
class Served:
    """An engine that answers, with a gate before its steps."""

    kind: Kind
    path: str
    client: httpx.Client
    gate: Gate
    cancels: list[Cancel]

    def metric(self, name: str) -> int:
        lines = self.client.get("/metrics").text.splitlines()
        (line,) = [line for line in lines if line.startswith(f"modelpool_engine_{name}{{")]
        return int(line.split()[-1])


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Iterator[Served]:
    kind = ENGINES[request.param]
    gate = Gate()
    cancels: list[Cancel] = []
    path = str(tmp_path_factory.mktemp("c") / "s")

    def noted() -> Cancel:
        cancels.append(Cancel())
        return cancels[-1]

    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setattr(text_surface, "Cancel", noted)
        stack.enter_context(served(Hosted(text=kind.load(gate)), path))
        transport = httpx.HTTPTransport(uds=path)
        client = httpx.Client(base_url="http://engine", transport=transport, timeout=60)
        stack.enter_context(client)
        yield Served(kind, path, client, gate, cancels)
        gate.open()


def endless(words: int, *, stream: bool) -> dict[str, Any]:
    message = {"role": "user", "content": " ".join(["ping"] * words)}
    how = {"logit_bias": {END: -100}, "max_tokens": 300, "temperature": 0, "stream": stream}
    return {"messages": [message], **how}


class Client:
    """Asks, counts what it is told, and leaves when it is told to."""

    def __init__(self, path: str, body: dict[str, Any]) -> None:
        self.events = 0
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(path)
        data = json.dumps(body).encode()
        head = f"POST {CHAT} HTTP/1.1\r\nhost: engine\r\ncontent-length: {len(data)}\r\n\r\n"
        self._socket.sendall(head.encode() + data)
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        while data := self._socket.recv(1 << 16):
            self.events += data.count(b"data: ")

    def leave(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()


@pytest.mark.parametrize("window", WINDOWS)
def test_who_leaves_costs_one_step(engine: Served, window: str) -> None:
    is_before = window == WINDOWS[0]
    in_parts = is_before and engine.kind.reads_in_parts
    words = 40 if in_parts else 1
    steps = 2 if in_parts else 0 if is_before else 12
    done = engine.metric("steps_total")
    engine.gate.close()
    try:
        client = Client(engine.path, endless(words, stream=window == "in a stream"))
        for _ in range(steps):
            engine.gate.arrived()
            engine.gate.allow()
        engine.gate.arrived()
        if window == "in a stream":
            until(lambda: client.events >= 2, "tokens")
        assert engine.metric("busy") == 1
        assert done + steps <= engine.metric("steps_total") <= done + steps + 1
        client.leave()
        until(lambda: engine.cancels[-1].is_set, "the engine's knowing")
    finally:
        engine.gate.open()
    until(lambda: engine.metric("busy") == 0, "the end of the work")
    assert engine.metric("steps_total") <= done + steps + 1
    assert client.events == 0 or window == "in a stream"


def test_it_answers_as_before(engine: Served) -> None:
    """Sixteen at once, after all that: each as it is answered alone, in fewer steps. None is begun
    before all are there."""
    questions = json.loads(Path(converted.QUESTIONS).read_text())[::26][:16]
    expected = [question["answer"] for question in questions]

    def ask(question: Any, said: dict[int, str], i: int) -> None:
        body = {"messages": question["messages"], "temperature": 0, "max_tokens": 64}
        answer = engine.client.post(CHAT, json=body)
        assert answer.status_code == 200, answer.text
        said[i] = answer.json()["choices"][0]["message"]["content"]

    begin = engine.metric("steps_total")
    alone: dict[int, str] = {}
    for i, question in enumerate(questions):
        ask(question, alone, i)
    between = engine.metric("steps_total")
    together: dict[int, str] = {}
    threads = [
        threading.Thread(target=ask, args=(question, together, i))
        for i, question in enumerate(questions)
    ]
    asked = len(engine.cancels)
    engine.gate.close()
    try:
        for thread in threads:
            thread.start()
        until(lambda: len(engine.cancels) == asked + len(questions), "all of them to be asked")
    finally:
        engine.gate.open()
    for thread in threads:
        thread.join()
    assert [alone[i] for i in range(len(questions))] == expected
    assert [together[i] for i in range(len(questions))] == expected
    steps = engine.metric("steps_total") - between
    # Parts of prompts are read one after the other, which are short here.
    assert steps < (between - begin) * (0.75 if engine.kind.is_batched else 1.1)
