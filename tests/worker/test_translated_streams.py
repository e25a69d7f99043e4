"""Streams in the words of other APIs: texts are told in a shorter way, and told the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelpool_client.errors import ModelPoolError
from modelpool_client.surfaces import anthropic, ollama, open_inference, responses
from modelpool_client.surfaces.openai import Completion
from modelpool_client.surfaces.peers import mistral
from modelpool_client.surfaces.routes import CHAT_PATH, TEXT_PATH
from modelpool_client.surfaces.translation import Translation
from modelpool_worker.engine_client import BrokenOffError, StreamTranslator
from modelpool_worker.surfaces.reshape import EngineRequest
from support.two_ways import pieces

HEAD = {"id": "c1", "created": 7, "model": "m"}
SAID = {"messages": [{"role": "user", "content": "hi"}], "model": "m", "stream": True}
TOOLS = [{"name": "f", "input_schema": {"type": "object"}, "eager_input_streaming": True}]


class Clock:
    """In steps that end a second now and then."""

    def __init__(self, step: int) -> None:
        self._now, self._step = 1_700_000_000 * 10**9, step

    def __call__(self) -> int:
        self._now += self._step
        return self._now


def seconds() -> float:
    return 1_700_000_000.0


MAKE: dict[str, Callable[[], Translation]] = {
    "messages": lambda: anthropic.translate("/v1/messages", {**SAID, "max_tokens": 9}),
    "messages, tools": lambda: anthropic.translate(
        "/v1/messages", {**SAID, "max_tokens": 9, "tools": TOOLS}
    ),
    "responses": lambda: responses.translate(
        "/v1/responses", {"input": "hi", "stream": True}, None, seconds, lambda: "u"
    ),
    "responses, timings": lambda: responses.translate(
        "/v1/responses",
        {"input": "hi", "stream": True, "timings_per_token": True},
        None,
        seconds,
        lambda: "u",
    ),
    "ollama chat": lambda: ollama.translate("/api/chat", SAID, Clock(3 * 10**8)),
    "ollama generate": lambda: ollama.translate(
        "/api/generate", {"prompt": "hi", "model": 'a "model"'}, Clock(10**9 - 1)
    ),
    "fim": lambda: mistral.translate({"prompt": "hi", "stream": True}, seconds),
}
TEXTS = st.one_of(st.text(max_size=6), st.sampled_from(['"', "\\", "ä", "\n", "", "  "]))
CHAT_PARTS = st.one_of(
    TEXTS.map(lambda text: {"content": text}),
    TEXTS.map(lambda text: {"content": text}),
    TEXTS.map(lambda text: {"reasoning_content": text}),
    st.sampled_from(
        [
            {"role": "assistant", "content": ""},
            {"tool_calls": [{"index": 0, "id": "t", "function": {"name": "f", "arguments": "{"}}]},
            {"tool_calls": [{"index": 0, "function": {"arguments": "}"}}]},
        ]
    ),
)
MORE = st.sampled_from([{}, {}, {}, {"timings": {"predicted_n": 3}}])


def chunks_of(path: str, parts: list[tuple[dict[str, Any], dict[str, Any]]]) -> list[Any]:
    """As an engine would say them, the end and what it counts included."""
    told = []
    for part, more in parts:
        said = {"delta": part} if path == CHAT_PATH else {"text": part.get("content", "")}
        told.append({**HEAD, "choices": [{"index": 0, **said, "finish_reason": None}], **more})
    last = {"delta": {}} if path == CHAT_PATH else {"text": ""}
    told.append({**HEAD, "choices": [{"index": 0, **last, "finish_reason": "stop"}]})
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    return [*told, {**HEAD, "choices": [], "usage": usage}]


def in_words(translation: Translation, data: list[bytes]) -> bytes:
    request = EngineRequest(translation.told.path, Completion({}, True, (), None))
    words = StreamTranslator(translation, request)
    told = b"".join([translation.begin(), *map(words, data), words.end()])
    return told + translation.end()


@pytest.mark.parametrize("name", MAKE)
@given(
    st.lists(st.tuples(CHAT_PARTS, MORE), max_size=12),
    st.lists(st.integers(0, 5000), max_size=6),
    st.booleans(),
)
def test_however_it_comes_it_tells_the_same(
    name: str, parts: list[tuple[dict[str, Any], dict[str, Any]]], cuts: list[int], is_ascii: bool
) -> None:
    one = MAKE[name]()
    chunks = chunks_of(one.told.path, parts)
    plainly = b"".join([one.begin(), *map(one.chunk, chunks)]) + one.end()
    events = [
        b"data: " + json.dumps(chunk, ensure_ascii=is_ascii).encode() + b"\n\n" for chunk in chunks
    ]
    events.append(b"data: [DONE]\n\n")
    for data in (events, pieces(b"".join(events), cuts)):
        told = in_words(MAKE[name](), data)
        assert lines(told) == lines(plainly)


def lines(told: bytes) -> list[Any]:
    """What they say, in whichever order."""
    found = []
    for line in told.split(b"\n"):
        is_json = line.startswith((b"data: {", b"{"))
        found.append(json.loads(line.removeprefix(b"data: ")) if is_json else line)
    return found


@given(st.lists(TEXTS, max_size=8), st.booleans())
def test_pieces_of_open_inference(texts: list[str], in_pieces: bool) -> None:
    path = "/v2/models/m/generate_stream" if in_pieces else "/v2/models/m/generate"

    def made() -> Translation:
        kind = open_inference.kind_of_engine([CHAT_PATH, TEXT_PATH])
        return open_inference.translate(path, {"text_input": "hi"}, kind)

    one = made()
    chunks = chunks_of(TEXT_PATH, [({"content": text}, {}) for text in texts])
    plainly = b"".join([one.begin(), *map(one.chunk, chunks)]) + one.end()
    events = [b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks]
    assert lines(in_words(made(), events)) == lines(plainly)


def test_an_error_within_a_stream_is_the_engines() -> None:
    translation = MAKE["messages"]()
    words = StreamTranslator(translation, EngineRequest(CHAT_PATH, Completion({}, True, (), None)))
    with pytest.raises(ModelPoolError, match="out of it"):
        words(b'data: {"error": {"message": "out of it", "code": 500}}\n\n')
    with pytest.raises(BrokenOffError, match="no JSON"):
        words(b"data: {\n\n")
    with pytest.raises(BrokenOffError, match="makes no sense"):
        words(b'data: {"choices": [3]}\n\n')
    assert words(b": ping\n\ndata: null\n\n") == b""


def test_texts_are_told_in_the_shorter_way(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, make in MAKE.items():
        translation = make()
        asked = list[Any]()
        chunk = translation.chunk
        monkeypatch.setattr(
            translation, "chunk", lambda c, asked=asked, chunk=chunk: (asked.append(c), chunk(c))[1]
        )
        chunks = chunks_of(translation.told.path, [({"content": f"word{i}"}, {}) for i in range(9)])
        events = [b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks]
        told = in_words(translation, [*events, b"data: [DONE]\n\n"])
        assert told.count(b"word") >= 9, name
        assert len(asked) == 3, f"{name}: the first, and the two at the end"
