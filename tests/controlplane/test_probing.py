"""What follows from the answers to a probe's requests."""

from __future__ import annotations

import asyncio
import io
import json
import struct
import wave
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from modelpool.probing import samples
from modelpool.probing.checks import CHECKS, PROBED, TOOL, Answer, Check, Request, named, verdict
from modelpool.probing.probe import Probed, probe
from modelpool_client.capabilities import CAPABILITIES
from modelpool_client.errors import LoadFailed, ModelPoolError
from modelpool_client.http1.upstream_connection import BrokenOff
from modelpool_client.surfaces import forms
from modelpool_client.surfaces.families import read
from modelpool_client.surfaces.routes import CHAT_PATH, SURFACES, TEXT_PATH
from modelpool_client.wire import IGNORED_HEADER

BY_NAME: Mapping[str, Check] = {check.capability: check for check in CHECKS}


def answer(body: Any, status: int = 200, **headers: str) -> Answer:
    return Answer(status, headers, json.dumps(body).encode())


def said(content: Any, finish: str = "stop", **more: Any) -> Answer:
    message = {"role": "assistant", "content": content, **more.pop("message", {})}
    choice = {"index": 0, "message": message, "finish_reason": finish, **more}
    return answer({"choices": [choice], "usage": {"prompt_tokens": 9}})


def called(arguments: str, name: str = TOOL, finish: str = "tool_calls") -> Answer:
    call = {"type": "function", "function": {"name": name, "arguments": arguments}}
    return said(None, finish, message={"tool_calls": [call]})


def read_tokens(count: int) -> Answer:
    return answer({"choices": [], "usage": {"prompt_tokens": count}})


def vectors(*rows: list[float]) -> Answer:
    return answer({"data": [{"embedding": row} for row in rows]})


def stream(*events: str) -> Answer:
    return Answer(200, {}, "".join(f"data: {event}\n\n" for event in events).encode())


CHUNK = json.dumps({"object": "chat.completion.chunk"})
LOGPROBS = {"content": [{"token": "a", "logprob": -0.5}]}
RANKED = [{"index": 0, "relevance_score": 1.5}, {"index": 1, "relevance_score": -2.0}]


@pytest.mark.parametrize(
    ("capability", "given", "outcome"),
    [
        ("chat", said("hello"), "works"),
        ("chat", said("", message={"reasoning_content": "hm"}), "works"),
        ("chat", said(""), "wrong"),
        ("chat", answer({"choices": []}), "wrong"),
        ("chat", Answer(200, {}, b"<html>"), "wrong"),
        ("completion", answer({"choices": [{"text": " a time"}]}), "works"),
        ("completion", answer({"choices": [{"text": None}]}), "wrong"),
        ("streaming", stream(CHUNK, CHUNK, "[DONE]"), "works"),
        ("streaming", stream(CHUNK), "wrong"),
        ("streaming", said("hello"), "wrong"),
        ("tools", called('{"city": "Oslo"}'), "works"),
        ("tools", called('{"city": 7}'), "wrong"),
        ("tools", called("[]"), "wrong"),
        ("tools", called('{"city": "Osl', finish="length"), "wrong"),
        ("tools", called('{"city": "Oslo"}', name="other"), "wrong"),
        ("tools", said("It is sunny."), "wrong"),
        ("tools", said("<think>", "length"), "failed"),
        ("json_mode", said('{"name": "x"}'), "works"),
        ("json_mode", said("[1]"), "wrong"),
        ("json_mode", said("I am x."), "wrong"),
        ("json_mode", said('{"name": "', "length"), "failed"),
        ("json_schema", said('{"fits": true, "count": 5}'), "works"),
        ("json_schema", said('{"fits": 1, "count": 5}'), "wrong"),
        ("json_schema", said('{"fits": true, "count": true}'), "wrong"),
        ("json_schema", said('{"fits": true, "count": 5, "more": 1}'), "wrong"),
        ("logprobs", said("a", logprobs=LOGPROBS), "works"),
        ("logprobs", said("a", logprobs=None), "wrong"),
        ("logprobs", said("a", logprobs={"content": [{"logprob": 0.5}]}), "wrong"),
        ("embeddings", vectors([0.1, 0.2], [0.3, 0.1]), "works"),
        ("embeddings", vectors([0.1, 0.2], [0.1, 0.2]), "wrong"),
        ("embeddings", vectors([0.1], [0.1, 0.2]), "wrong"),
        ("embeddings", vectors([0.1, 0.2]), "wrong"),
        ("rerank", answer({"results": RANKED}), "works"),
        ("rerank", answer({"results": RANKED[:1]}), "wrong"),
        ("thinking", said("391", message={"reasoning_content": "17 times 20"}), "works"),
        ("thinking", said("391"), "failed"),
        ("speech_to_text", answer({"text": ""}), "works"),
        ("text_to_speech", Answer(200, {"content-type": "audio/wav"}, b"RIFF"), "works"),
        ("text_to_speech", answer({}), "wrong"),
        ("image_generation", answer({"data": [{"b64_json": "aaaa"}]}), "works"),
        ("image_generation", answer({"data": [{}]}), "wrong"),
        ("classification", answer({"data": [{"probs": [0.4, 0.6]}]}), "works"),
    ],
)
def test_by_the_form_of_an_answer(capability: str, given: Answer, outcome: str) -> None:
    found = verdict(BY_NAME[capability], given)
    assert (found.outcome, bool(found.reason)) == (outcome, True)


@pytest.mark.parametrize(
    ("status", "code", "outcome"),
    [
        (400, "invalid_request", "refused"),
        (400, "context_length_exceeded", "failed"),
        (404, "not_found", "refused"),
        (422, None, "refused"),
        (429, "rate_limited", "failed"),
        (500, "internal", "failed"),
        (501, "missing_capability", "refused"),
        (502, "worker_failed", "failed"),
        (503, "worker_draining", "failed"),
    ],
)
def test_by_its_status(status: int, code: str | None, outcome: str) -> None:
    error = {"error": {"message": "no such thing", "code": code}}
    found = verdict(BY_NAME["embeddings"], answer(error, status))
    assert (found.outcome, found.reason) == (outcome, f"{status}: no such thing")


@pytest.mark.parametrize(
    ("given", "plain", "outcome"),
    [
        (read_tokens(70), read_tokens(12), "works"),
        (read_tokens(12), read_tokens(12), "wrong"),
        (read_tokens(70), answer({}, 503), "failed"),
        (read_tokens(70), None, "failed"),
        (answer({}, 500), read_tokens(12), "refused"),
        (answer({}, 500), answer({}, 500), "failed"),
    ],
)
def test_a_picture_counts_by_what_it_adds(
    given: Answer, plain: Answer | None, outcome: str
) -> None:
    assert verdict(BY_NAME["vision"], given, plain).outcome == outcome


def test_what_an_engine_passes_over_it_refuses() -> None:
    headers = {IGNORED_HEADER.lower(): "seed, tools"}
    given = Answer(200, headers, called('{"city": "Oslo"}').body)
    assert verdict(BY_NAME["tools"], given).outcome == "refused"


def test_the_requests_are_what_the_surfaces_take() -> None:
    requests = [c.request for c in CHECKS] + [c.plain for c in CHECKS if c.plain]
    assert {request.path for request in requests} <= SURFACES.keys()
    for request in requests:
        if request.path in (CHAT_PATH, TEXT_PATH):
            read(SURFACES[request.path], json.loads(request.body), request.body)
    assert set(PROBED) <= CAPABILITIES.keys()
    assert len(set(PROBED)) == len(PROBED)


def test_the_samples_are_a_picture_and_a_sound() -> None:
    with wave.open(io.BytesIO(samples.silence())) as sound:
        seconds = sound.getnframes() / sound.getframerate()
        assert (sound.getnchannels(), seconds) == (1, samples.SECONDS)
    chunks = dict(png_chunks(samples.picture()))
    side = samples.SIDE_PIXELS
    assert struct.unpack(">IIBB", chunks[b"IHDR"][:10]) == (side, side, 8, 2)
    assert zlib.decompress(chunks[b"IDAT"]) == (b"\0" + samples.RED * side) * side


def png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of each, whose checksums are right."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at = 8
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        content = data[at + 8 : at + 8 + length]
        assert struct.unpack_from(">I", data, at + 8 + length)[0] == zlib.crc32(kind + content)
        yield kind, content
        at += 12 + length


def run(ask: Any, *capabilities: str, seconds: float = 5.0) -> list[Probed]:
    async def main() -> list[Probed]:
        ticks = iter(range(1000))
        found = probe(ask, lambda: float(next(ticks)), capabilities, seconds)
        return [each async for each in found]

    return asyncio.run(main())


def test_one_request_at_a_time_and_each_once() -> None:
    asked: list[Request] = []

    async def ask(request: Request) -> Answer:
        asked.append(request)
        return answer({"error": {"message": "no"}}, 400)

    assert [p.capability for p in run(ask)] == list(PROBED)
    assert len(asked) == len(set(asked)) == len(CHECKS) + 1


def test_only_those_asked_for_with_the_time_they_took() -> None:
    async def ask(request: Request) -> Answer:
        return said("hello")

    (only,) = run(ask, "chat")
    assert (only.capability, only.verdict.outcome, only.milliseconds) == ("chat", "works", 1000.0)


@pytest.mark.parametrize(
    "error", [LoadFailed("no room", code="oom"), ModelPoolError("no"), BrokenOff("gone")]
)
def test_who_cannot_be_asked_has_failed(error: Exception) -> None:
    async def ask(request: Request) -> Answer:
        raise error

    assert {p.verdict.outcome for p in run(ask, "chat", "vision")} == {"failed"}


def test_who_does_not_answer_has_failed() -> None:
    async def ask(request: Request) -> Answer:
        await asyncio.Event().wait()
        raise AssertionError

    (found,) = run(ask, "chat", seconds=0.01)
    assert (found.verdict.outcome, "no answer" in found.verdict.reason) == ("failed", True)


def test_one_of_several_models_of_a_worker_is_named() -> None:
    for check in CHECKS:
        asked = named(check.request, "openai:gpt")
        if asked.content_type.startswith("multipart"):
            data = forms.decode(asked.content_type.encode(), asked.body)
            before = forms.decode(check.request.content_type.encode(), check.request.body)
        else:
            data, before = json.loads(asked.body), json.loads(check.request.body)
        assert data == {**before, "model": "openai:gpt"}
