"""What requests ask of their models, in the words of every API."""

from __future__ import annotations

import base64
import json
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelpool_client.capabilities import CAPABILITIES
from modelpool_client.surfaces.content import denied_need, needs_of, refusal
from modelpool_client.surfaces.routes import SURFACES

CHAT, TEXT, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"
MESSAGES, OLLAMA, GENERATE = "/v1/messages", "/api/chat", "/api/generate"
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(40)).decode()
WAV = base64.b64encode(b"RIFF1234WAVEfmt " + bytes(40)).decode()
TOOL = {"type": "function", "function": {"name": "look"}}


def said(*parts: Any) -> list[Any]:
    return [{"role": "user", "content": list(parts)}]


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        (CHAT, {"messages": said({"type": "image_url"})}, {"vision": "messages[0].content[0]"}),
        (
            CHAT,
            {"messages": said({"type": "text"}, {"type": "input_audio"})},
            {"audio": "messages[0].content[1]"},
        ),
        (CHAT, {"messages": said({"type": "text"})}, {}),
        (CHAT, {"tools": [TOOL]}, {"tools": "tools"}),
        (CHAT, {"tools": [TOOL], "tool_choice": "none"}, {}),
        (CHAT, {"tools": []}, {}),
        (CHAT, {"response_format": {"type": "json_object"}}, {"json_mode": "response_format"}),
        (CHAT, {"response_format": {"type": "json"}}, {"json_mode": "response_format"}),
        (
            CHAT,
            {"response_format": {"type": "json_object", "value": {"type": "object"}}},
            {"json_schema": "response_format"},
        ),
        (CHAT, {"response_format": {"type": "json_schema"}}, {"json_schema": "response_format"}),
        (CHAT, {"response_format": {"type": "text"}}, {}),
        (CHAT, {"logprobs": True}, {"logprobs": "logprobs"}),
        (CHAT, {"logprobs": False}, {}),
        (TEXT, {"prompt": "a", "logprobs": 0}, {"logprobs": "logprobs"}),
        (TEXT, {"prompt": "a", "suffix": "b"}, {"infill": "suffix"}),
        (TEXT, {"prompt": "a", "suffix": "", "logprobs": None}, {}),
        (RESPONSES, {"input": said({"type": "input_image"})}, {"vision": "input[0].content[0]"}),
        (
            RESPONSES,
            {"input": [{"output": [{"type": "input_image"}]}]},
            {"vision": "input[0].output[0]"},
        ),
        (RESPONSES, {"input": "hi", "tools": [TOOL], "tool_choice": "auto"}, {"tools": "tools"}),
        (RESPONSES, {"text": {"format": {"type": "json_schema"}}}, {"json_schema": "text.format"}),
        (RESPONSES, {"include": ["message.output_text.logprobs"]}, {"logprobs": "include"}),
        (RESPONSES, {"top_logprobs": 2}, {"logprobs": "top_logprobs"}),
        (MESSAGES, {"messages": said({"type": "image"})}, {"vision": "messages[0].content[0]"}),
        (
            MESSAGES,
            {"messages": said({"type": "tool_result", "content": [{"type": "image"}]})},
            {"vision": "messages[0].content[0].content[0]"},
        ),
        (MESSAGES, {"tools": [{"name": "look"}], "tool_choice": {"type": "none"}}, {}),
        (MESSAGES, {"tools": [{"name": "l"}], "tool_choice": {"type": "any"}}, {"tools": "tools"}),
        (
            MESSAGES,
            {"output_config": {"format": {"type": "json_schema"}}},
            {"json_schema": "output_config.format"},
        ),
        (
            OLLAMA,
            {"messages": [{"images": [PNG, WAV]}]},
            {"vision": "messages[0].images[0]", "audio": "messages[0].images[1]"},
        ),
        (OLLAMA, {"format": "json"}, {"json_mode": "format"}),
        (
            OLLAMA,
            {"format": {"type": "object"}, "logprobs": True},
            {"json_schema": "format", "logprobs": "logprobs"},
        ),
        (OLLAMA, {"format": "", "messages": [{"images": None}]}, {}),
        (GENERATE, {"images": [PNG], "suffix": "x"}, {"vision": "images[0]", "infill": "suffix"}),
        ("/infill", {}, {"infill": "input_prefix"}),
    ],
)
def test_what_asks_for_what(path: str, body: dict[str, Any], expected: dict[str, str]) -> None:
    assert dict(needs_of(path, body)) == expected
    assert denied_need(path, body, set(CAPABILITIES) - expected.keys()) is None
    for word, param in expected.items():
        assert denied_need(path, body, [word]) == (word, param)
        said = refusal("m", (word, param), ["chat"])
        assert said.message == f"m cannot do {word}, which {param} asks for; it can do: chat"
        assert (said.param, said.code) == (param, "missing_capability")


KEYS = ("messages", "content", "type", "tools", "input", "output", "images", "format", "text")
WORDS = st.sampled_from([*KEYS, "image_url", "none", "json_schema", "", "a"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=20,
)


@given(path=st.sampled_from(list(SURFACES)), body=st.dictionaries(WORDS, VALUES, max_size=5))
def test_whatever_stands_in_a_body_is_looked_at(path: str, body: dict[str, Any]) -> None:
    assert all(word in CAPABILITIES for word, _ in needs_of(path, body))


def calls_of(function: Any) -> int:
    count = 0

    def trace(frame: Any, event: str, argument: Any) -> None:
        nonlocal count
        count += 1

    sys.setprofile(trace)
    try:
        function()
    finally:
        sys.setprofile(None)
    return count


def test_a_look_costs_what_there_is_to_be_looked_at() -> None:
    """However long a conversation of texts is: a look or two for each."""
    texts = [{"role": "user", "content": "hello " * 50}] * 100
    body = json.loads(json.dumps({"model": "m", "messages": texts, "tools": [TOOL] * 40}))
    denied = ("vision", "audio", "embeddings")
    assert calls_of(lambda: denied_need(CHAT, body, denied)) < 7 * len(texts)
    none = calls_of(lambda: denied_need(CHAT, body, ("embeddings", "rerank")))
    assert none < 20, "what cannot be asked for there is not looked for"
