"""Anthropic's Messages API (platform.claude.com/docs/en/api of 2026-11), both versions: as strict
as the real one about headers, parameters, roles and blocks."""

from __future__ import annotations

import json
from typing import Any

from .server import KEY, Answer, Asked

VERSIONS = ("2023-06-01", "2026-10-21")
MODELS = ("claude-sonnet-5-5", "claude-haiku-4-5")
KNOWN = frozenset(
    {"model", "max_tokens", "messages", "system", "metadata", "stop_sequences", "stream"}
    | {"tools", "tool_choice", "thinking", "output_config", "service_tier"}
)
SAMPLING = frozenset({"temperature", "top_p", "top_k"})
BLOCKS = {
    "user": {"text", "image", "document", "tool_result"},
    "assistant": {"text", "thinking", "redacted_thinking", "tool_use"},
}
KEYS_OF = {
    "text": {"text"},
    "image": {"source"},
    "document": {"source"},
    "tool_result": {"tool_use_id"},
    "tool_use": {"id", "name", "input"},
    "thinking": {"thinking", "signature"},
    "redacted_thinking": {"data"},
}


class Refused(Exception):
    """A request that the API does not take."""


class AnthropicApi:
    """Repeats what it is told; with tools it calls the first one, with thinking it thinks."""

    def answer(self, asked: Asked) -> Answer:
        version = asked.headers.get("anthropic-version")
        bearer = asked.headers.get("authorization", "").removeprefix("Bearer ")
        if (asked.headers.get("x-api-key") or bearer) != KEY:
            return error(401, "authentication_error", "invalid x-api-key")
        if version not in VERSIONS:
            text = "anthropic-version: header is required"
            return error(400, "invalid_request_error", text)
        path = asked.path.partition("?")[0]
        if asked.method == "GET" and path == "/v1/models":
            data = [{"type": "model", "id": name, "display_name": name} for name in MODELS]
            return Answer(body={"data": data, "has_more": False})
        if asked.method != "POST" or path not in ("/v1/messages", "/v1/messages/count_tokens"):
            return error(404, "not_found_error", f"no route {path}")
        body = asked.json
        try:
            check(body, version, is_count=path.endswith("count_tokens"))
        except Refused as e:
            return error(400, "invalid_request_error", str(e))
        if body["model"] not in MODELS:
            return error(404, "not_found_error", f"model: {body['model']}")
        if path.endswith("count_tokens"):
            return Answer(body={"input_tokens": 7})
        return streamed(body) if body.get("stream") else Answer(body=message(body))


def error(status: int, kind: str, text: str) -> Answer:
    shown = {"type": "error", "error": {"type": kind, "message": text}, "request_id": "req_1"}
    return Answer(status, shown)


def check(body: dict[str, Any], version: str, *, is_count: bool) -> None:
    known = KNOWN | (SAMPLING if version == VERSIONS[0] else set())
    unknown = sorted(body.keys() - known)
    if unknown:
        raise Refused(f"{unknown[0]}: Extra inputs are not permitted")
    for name in ("model", "messages", *(() if is_count else ("max_tokens",))):
        if name not in body:
            raise Refused(f"{name}: Field required")
    for i, turn in enumerate(body["messages"]):
        check_turn(turn, f"messages.{i}")
    for i, tool in enumerate(body.get("tools", ())):
        if not {"name", "input_schema"} <= tool.keys():
            raise Refused(f"tools.{i}.input_schema: Field required")
        if tool["input_schema"].get("type") != "object":
            raise Refused(f"tools.{i}.input_schema.type: Field required")
    if body.get("tool_choice") and not body.get("tools"):
        raise Refused("tool_choice: may only be specified while providing tools")
    thinking = body.get("thinking") or {}
    if thinking.get("type") == "enabled" and thinking["budget_tokens"] >= body["max_tokens"]:
        raise Refused("max_tokens must be greater than thinking.budget_tokens")


def check_turn(turn: dict[str, Any], where: str) -> None:
    if set(turn) != {"role", "content"} or turn["role"] not in BLOCKS:
        raise Refused(f"{where}: Extra inputs are not permitted")
    content = turn["content"]
    if not content:
        raise Refused(f"{where}: all messages must have non-empty content")
    if isinstance(content, str):
        return
    for j, block in enumerate(content):
        kind = block.get("type")
        if kind not in BLOCKS[turn["role"]]:
            raise Refused(f"{where}.content.{j}: Input tag '{kind}' is not allowed")
        missing = KEYS_OF[kind] - block.keys()
        if missing:
            raise Refused(f"{where}.content.{j}.{min(missing)}: Field required")
        if kind == "text" and not block["text"]:
            raise Refused(f"{where}.content.{j}: text content blocks must be non-empty")


def said(body: dict[str, Any]) -> str:
    content = body["messages"][-1]["content"]
    if isinstance(content, str):
        return content
    return "".join(block.get("text", "") for block in content) or "nothing"


def blocks(body: dict[str, Any]) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    if (body.get("thinking") or {}).get("type") in ("enabled", "adaptive"):
        made.append({"type": "thinking", "thinking": "let me see", "signature": "c2ln"})
    choice = (body.get("tool_choice") or {"type": "auto"})["type"]
    if body.get("tools") and choice != "none" and body["messages"][-1]["role"] == "user":
        tool = body["tools"][0]["name"]
        call = {"type": "tool_use", "id": "toolu_1", "name": tool, "input": {"city": "Rome"}}
        return [*made, call]
    return [*made, {"type": "text", "text": said(body)}]


def usage(body: dict[str, Any]) -> dict[str, int]:
    return {
        "input_tokens": 5,
        "cache_read_input_tokens": 2,
        "cache_creation_input_tokens": 0,
        "output_tokens": len(said(body).split()),
    }


def message(body: dict[str, Any]) -> dict[str, Any]:
    made = blocks(body)
    reason = "tool_use" if made[-1]["type"] == "tool_use" else "end_turn"
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": body["model"],
        "content": made,
        "stop_reason": reason,
        "stop_sequence": None,
        "usage": usage(body),
    }


def streamed(body: dict[str, Any]) -> Answer:
    whole = message(body)
    start = {**whole, "content": [], "stop_reason": None}
    start["usage"] = {**usage(body), "output_tokens": 1}
    pieces = [event("message_start", message=start), event("ping")]
    for index, block in enumerate(whole["content"]):
        opened, deltas = cut(block)
        pieces.append(event("content_block_start", index=index, content_block=opened))
        pieces += [event("content_block_delta", index=index, delta=delta) for delta in deltas]
        pieces.append(event("content_block_stop", index=index))
    delta = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    pieces.append(event("message_delta", delta=delta, usage={"output_tokens": 3}))
    return Answer(pieces=[*pieces, event("message_stop")])


def cut(block: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    if block["type"] == "text":
        deltas = [{"type": "text_delta", "text": word} for word in _words(block["text"])]
        return {"type": "text", "text": ""}, deltas
    if block["type"] == "thinking":
        deltas = [{"type": "thinking_delta", "thinking": w} for w in _words(block["thinking"])]
        deltas.append({"type": "signature_delta", "signature": block["signature"]})
        return {"type": "thinking", "thinking": "", "signature": ""}, deltas
    text = json.dumps(block["input"])
    halves = ["", text[:5], text[5:]]
    deltas = [{"type": "input_json_delta", "partial_json": half} for half in halves]
    return {**block, "input": {}}, deltas


def _words(text: str) -> list[str]:
    return [word if i == 0 else f" {word}" for i, word in enumerate(text.split(" "))]


def event(kind: str, **more: Any) -> bytes:
    data = json.dumps({"type": kind, **more})
    return f"event: {kind}\ndata: {data}\n\n".encode()
