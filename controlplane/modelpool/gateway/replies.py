"""PURE. Answers that were made of others, told as the streams that clients asked for: few pieces,
in the form of each API."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from modelpool_client.http1.message import Headers
from modelpool_client.surfaces import sse
from modelpool_client.surfaces.routes import CHAT_PATH, RESPONSES_PATH, TEXT_PATH, Surface

MESSAGES_PATH, OLLAMA_CHAT, OLLAMA_GENERATE = "/v1/messages", "/api/chat", "/api/generate"
LINES: Headers = [(b"content-type", b"application/x-ndjson")]
# Beside an answer, of the pool's own: it goes with the last piece that is read.
EXTENSION = "modelpool"


def can_stream(surface: Surface) -> bool:
    """Whether answers of a route can be told so."""
    return surface.path in _STREAMS


def stream_headers(surface: Surface) -> Headers:
    """What a route's stream says that it is."""
    return LINES if surface.path in (OLLAMA_CHAT, OLLAMA_GENERATE) else list(sse.HEADERS)


def as_stream(path: str, answer: Mapping[str, Any], *, has_usage: bool = False) -> bytes:
    """A whole answer of a route as its stream; ``has_usage``: OpenAI's have their usage at the end,
    in a piece without choices, which clients get only if they ask for it."""
    told = answer
    if not has_usage and path in (CHAT_PATH, TEXT_PATH):
        told = {key: value for key, value in answer.items() if key != "usage"}
    return b"".join(_STREAMS[path](told))


def _chat(answer: Mapping[str, Any]) -> Iterator[bytes]:
    head = {key: answer[key] for key in ("id", "created", "model") if key in answer}
    head["object"] = "chat.completion.chunk"
    pieces = []
    for choice in answer.get("choices", ()):
        index, delta = choice.get("index", 0), dict(choice.get("message", {}))
        if delta.get("tool_calls"):
            calls = enumerate(delta["tool_calls"])
            delta["tool_calls"] = [{"index": i, **call} for i, call in calls]
        first = {"index": index, "delta": delta, "finish_reason": None}
        first |= {"logprobs": choice["logprobs"]} if choice.get("logprobs") else {}
        reason = choice.get("finish_reason", "stop")
        pieces += [first, {"index": index, "delta": {}, "finish_reason": reason}]
    yield from _pieces(head, pieces, answer)


def _texts(answer: Mapping[str, Any]) -> Iterator[bytes]:
    head = {key: answer[key] for key in ("id", "created", "model", "object") if key in answer}
    yield from _pieces(head, list(answer.get("choices", ())), answer)


def _pieces(
    head: Mapping[str, Any], choices: Sequence[Mapping[str, Any]], answer: Mapping[str, Any]
) -> Iterator[bytes]:
    for i, choice in enumerate(choices, 1):
        is_last = i == len(choices) and EXTENSION in answer
        more = {EXTENSION: answer[EXTENSION]} if is_last else {}
        yield sse.event({**head, "choices": [choice], **more})
    if "usage" in answer:
        yield sse.event({**head, "choices": [], "usage": answer["usage"]})
    yield b"data: [DONE]\n\n"


def _named(data: Mapping[str, Any]) -> bytes:
    return f"event: {data['type']}\n".encode() + sse.event(data)


def _messages(answer: Mapping[str, Any]) -> Iterator[bytes]:
    usage = answer.get("usage") or {}
    begun = {**answer, "content": [], "stop_reason": None, "usage": {**usage, "output_tokens": 0}}
    begun.pop(EXTENSION, None)
    yield _named({"type": "message_start", "message": begun})
    for i, block in enumerate(answer.get("content") or ()):
        empty, deltas = _block(block)
        yield _named({"type": "content_block_start", "index": i, "content_block": empty})
        for delta in deltas:
            yield _named({"type": "content_block_delta", "index": i, "delta": delta})
        yield _named({"type": "content_block_stop", "index": i})
    ends = {key: answer.get(key) for key in ("stop_reason", "stop_sequence")}
    last: dict[str, Any] = {"type": "message_delta", "delta": ends, "usage": usage}
    last |= {EXTENSION: answer[EXTENSION]} if EXTENSION in answer else {}
    yield _named(last)
    yield _named({"type": "message_stop"})


def _block(block: Mapping[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """How a block begins, and what is added to it."""
    kind = block.get("type")
    if kind == "text":
        return {**block, "text": ""}, [{"type": "text_delta", "text": block.get("text", "")}]
    if kind == "tool_use":
        said = json.dumps(block.get("input", {}))
        return {**block, "input": {}}, [{"type": "input_json_delta", "partial_json": said}]
    if kind == "thinking":
        told = [{"type": "thinking_delta", "thinking": block.get("thinking", "")}]
        if block.get("signature"):
            told.append({"type": "signature_delta", "signature": block["signature"]})
        return {**block, "thinking": "", "signature": ""}, told
    return dict(block), []


def _responses(answer: Mapping[str, Any]) -> Iterator[bytes]:
    events = [*_begun(answer)]
    for i, item in enumerate(answer.get("output") or ()):
        events += _item(i, item)
    status = answer.get("status", "completed")
    events.append({"type": f"response.{status}", "response": dict(answer)})
    for number, event in enumerate(events):
        yield _named({**event, "sequence_number": number})


def _begun(answer: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    begun = {**answer, "output": [], "status": "in_progress", "usage": None}
    begun.pop(EXTENSION, None)
    yield {"type": "response.created", "response": begun}
    yield {"type": "response.in_progress", "response": begun}


def _item(index: int, item: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    at = {"output_index": index, "item_id": item.get("id", "")}
    kind = item.get("type")
    empty = {**item, "status": "in_progress"}
    empty |= {"content": []} if kind == "message" else {}
    empty |= {"arguments": ""} if kind == "function_call" else {}
    yield {"type": "response.output_item.added", "output_index": index, "item": empty}
    if kind == "message":
        for i, part in enumerate(item.get("content") or ()):
            yield from _part({**at, "content_index": i}, part)
    if kind == "function_call":
        said = item.get("arguments", "")
        yield {"type": "response.function_call_arguments.delta", **at, "delta": said}
        yield {"type": "response.function_call_arguments.done", **at, "arguments": said}
    yield {"type": "response.output_item.done", "output_index": index, "item": dict(item)}


def _part(at: Mapping[str, Any], part: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    word, key = ("refusal", "refusal")
    if part.get("type") == "output_text":
        word, key = "output_text", "text"
    said = part.get(key, "")
    yield {"type": "response.content_part.added", **at, "part": {**part, key: ""}}
    yield {"type": f"response.{word}.delta", **at, "delta": said}
    yield {"type": f"response.{word}.done", **at, key: said}
    yield {"type": "response.content_part.done", **at, "part": dict(part)}


def _line(answer: Mapping[str, Any]) -> Iterator[bytes]:
    """Of Ollama's streams the last line alone may have everything."""
    yield json.dumps(answer, separators=(",", ":")).encode() + b"\n"


_STREAMS: Mapping[str, Callable[[Mapping[str, Any]], Iterator[bytes]]] = {
    CHAT_PATH: _chat,
    TEXT_PATH: _texts,
    MESSAGES_PATH: _messages,
    RESPONSES_PATH: _responses,
    OLLAMA_CHAT: _line,
    OLLAMA_GENERATE: _line,
}
