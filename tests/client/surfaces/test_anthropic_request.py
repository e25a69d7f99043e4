"""What the Messages API asks is asked of chat completions; what is wrong is refused by name, and
what means nothing here is named."""

from __future__ import annotations

import contextlib
import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from modelpool_client.errors import InvalidRequest
from modelpool_client.surfaces.anthropic import (
    BODIES,
    COUNT_PATH,
    MESSAGES_PATH,
    count_request,
    translate,
)
from modelpool_client.surfaces.anthropic.tables import MAX_NAMES
from modelpool_client.surfaces.openai import check_request
from modelpool_client.surfaces.routes import CHAT_PATH
from modelpool_client.surfaces.schema import Schema
from support.messages import WEATHER, asking, told

PICTURE = {"type": "base64", "media_type": "image/png", "data": "iVBORw0="}
PICTURE_PART = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0="}}


def text(said: str) -> dict[str, Any]:
    return {"type": "text", "text": said}


def result(call: str, content: Any = None, **more: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": call, "content": content, **more}


def user(*blocks: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks)}


def assistant(*blocks: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": list(blocks)}


CALL = {"type": "tool_use", "id": "t1", "name": "weather", "input": {"place": "Århus"}}
CALLED = {
    "id": "t1",
    "type": "function",
    "function": {"name": "weather", "arguments": '{"place": "Århus"}'},
}


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        (["hi"], [{"role": "user", "content": "hi"}]),
        ([user(text("a"), text("b"))], [{"role": "user", "content": "a\nb"}]),
        (["a", "b"], [{"role": "user", "content": "a\nb"}]),
        (
            ["a", assistant(text("Sure"), text(", that"))],
            [{"role": "user", "content": "a"}, {"role": "assistant", "content": "Sure, that"}],
        ),
        (
            ["a", {"role": "system", "content": "be brief"}],
            [{"role": "user", "content": "a"}, {"role": "system", "content": "be brief"}],
        ),
        (
            [user(text("see"), {"type": "image", "source": PICTURE}, text("?"))],
            [{"role": "user", "content": [text("see"), PICTURE_PART, text("?")]}],
        ),
        (
            [user({"type": "image", "source": {"type": "url", "url": "http://h/p.png"}})],
            [
                {
                    "role": "user",
                    "content": [{"type": "image_url", "image_url": {"url": "http://h/p.png"}}],
                }
            ],
        ),
        (
            [assistant({"type": "thinking", "thinking": "hm", "signature": "s"}, text("x"), CALL)],
            [
                {
                    "role": "assistant",
                    "content": "x",
                    "reasoning_content": "hm",
                    "tool_calls": [CALLED],
                }
            ],
        ),
        (
            [assistant({"type": "redacted_thinking", "data": "…"}, text("x"))],
            [{"role": "assistant", "content": "x"}],
        ),
        # Two results, and what is said between and after them.
        (
            [user(result("t1", "12°"), text("and"), result("t2", [text("a"), text("b")]))],
            [
                {"role": "tool", "tool_call_id": "t1", "content": "12°"},
                {"role": "user", "content": "and"},
                {"role": "tool", "tool_call_id": "t2", "content": "a\nb"},
            ],
        ),
        (
            [user(result("t1"), result("t2", "no such place", is_error=True), text("go on"))],
            [
                {"role": "tool", "tool_call_id": "t1", "content": ""},
                {"role": "tool", "tool_call_id": "t2", "content": "Error: no such place"},
                {"role": "user", "content": "go on"},
            ],
        ),
        (
            [user(result("t1", [{"type": "image", "source": PICTURE}], is_error=True))],
            [{"role": "tool", "tool_call_id": "t1", "content": [text("Error: "), PICTURE_PART]}],
        ),
        (
            [
                user(
                    {
                        "type": "document",
                        "title": "Facts",
                        "source": {"type": "text", "media_type": "text/plain", "data": "water"},
                    },
                    {
                        "type": "document",
                        "source": {"type": "content", "content": [text("fire"), text("air")]},
                    },
                    {
                        "type": "search_result",
                        "source": "http://h",
                        "title": "T",
                        "content": [text("found")],
                    },
                )
            ],
            [{"role": "user", "content": "Facts\nwater\nfire\nair\nT (http://h)\nfound"}],
        ),
    ],
)
def test_messages(messages: list[Any], expected: list[Any]) -> None:
    assert told(asking(*messages))["messages"] == expected


@pytest.mark.parametrize("given_input", [{}, None, "", ...])
def test_a_call_without_input_has_an_empty_one(given_input: Any) -> None:
    block = {k: v for k, v in (CALL | {"input": given_input}).items() if v is not ...}
    (message,) = told(asking(assistant(block)))["messages"]
    assert message["tool_calls"][0]["function"]["arguments"] == "{}"


@pytest.mark.parametrize("system", ["be kind", [text("be"), text("kind")]])
def test_the_system_prompt_comes_first(system: Any) -> None:
    first, _ = told(asking(system=system))["messages"]
    expected = system if isinstance(system, str) else "be\nkind"
    assert first == {"role": "system", "content": expected}


@pytest.mark.parametrize("system", ["", [], None])
def test_no_system_prompt_is_no_message(system: Any) -> None:
    assert len(told(asking(system=system))["messages"]) == 1


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, {}),
        ({"temperature": 0.5, "top_p": 1, "top_k": 40.0}, {"temperature": 0.5, "top_p": 1}),
        ({"stop_sequences": ["", "END", ""]}, {"stop": ["END"]}),
        ({"metadata": {"user_id": "u"}}, {"user": "u"}),
        ({"metadata": {"user_id": None}}, {}),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 1024}},
            {
                "chat_template_kwargs": {"enable_thinking": True},
                "thinking_budget_tokens": 1024,
            },
        ),
        ({"thinking": {"type": "disabled"}}, {"chat_template_kwargs": {"enable_thinking": False}}),
        ({"thinking": {"type": "adaptive"}}, {"chat_template_kwargs": {"enable_thinking": True}}),
        (
            {"output_config": {"effort": "low"}},
            {"chat_template_kwargs": {"reasoning_effort": "low"}, "reasoning_effort": "low"},
        ),
        (
            {"output_config": {"effort": "max"}, "thinking": {"type": "adaptive"}},
            {
                "chat_template_kwargs": {"enable_thinking": True, "reasoning_effort": "high"},
                "reasoning_effort": "high",
            },
        ),
        (
            {"output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}},
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {
                        "name": "output",
                        "schema": {"type": "object"},
                        "strict": True,
                    },
                }
            },
        ),
        ({"tool_choice": {"type": "auto"}}, {}),
    ],
)
def test_options(more: dict[str, Any], expected: dict[str, Any]) -> None:
    body = told(asking(**more))
    plain = told(asking())
    if "top_k" in more:
        assert body.pop("top_k") == 40
    assert body == plain | expected
    assert plain == {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 2000}


def test_a_tool_is_a_function() -> None:
    body = told(asking(tools=[WEATHER, {"name": "x", "input_schema": {}, "strict": True}]))
    function = {"name": "weather", "description": "of a place"}
    parameters = {"parameters": WEATHER["input_schema"]}
    assert body["tools"] == [
        {"type": "function", "function": function | parameters},
        {"type": "function", "function": {"name": "x", "parameters": {}, "strict": True}},
    ]
    assert "tool_choice" not in body


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({"type": "auto"}, {"tool_choice": "auto"}),
        ({"type": "any"}, {"tool_choice": "required"}),
        ({"type": "none"}, {"tool_choice": "none"}),
        (
            {"type": "tool", "name": "weather"},
            {"tool_choice": {"type": "function", "function": {"name": "weather"}}},
        ),
        (
            {"type": "any", "disable_parallel_tool_use": True},
            {"tool_choice": "required", "parallel_tool_calls": False},
        ),
        (
            {"type": "auto", "disable_parallel_tool_use": False},
            {"tool_choice": "auto", "parallel_tool_calls": True},
        ),
    ],
)
def test_tool_choice(choice: dict[str, Any], expected: dict[str, Any]) -> None:
    body = told(asking(tools=[WEATHER], tool_choice=choice))
    body.pop("tools")
    assert body == told(asking()) | expected


BLOCK = "messages[0].content[0]"


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"max_tokens": ...}, "max_tokens"),
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": "9"}, "max_tokens"),
        ({"messages": ...}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": [user()], "system": "s"}, "messages"),
        ({"model": 7}, "model"),
        ({"stream": "yes"}, "stream"),
        ({"temperature": 1.5}, "temperature"),
        ({"top_p": -1}, "top_p"),
        ({"top_k": 0.5}, "top_k"),
        ({"stop_sequences": "x"}, "stop_sequences"),
        ({"stop_sequences": [1]}, "stop_sequences[0]"),
        ({"metadata": {"user_id": 1}}, "metadata.user_id"),
        ({"service_tier": "cheap"}, "service_tier"),
        ({"cache_control": 1}, "cache_control"),
        ({"system": [{"type": "image", "source": PICTURE}]}, "system[0].type"),
        ({"system": [{"type": "text"}]}, "system[0].text"),
        ({"thinking": {"type": "often"}}, "thinking.type"),
        ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
        ({"thinking": {"type": "enabled", "budget_tokens": 2000}}, "thinking.budget_tokens"),
        ({"output_config": {"effort": "huge"}}, "output_config.effort"),
        ({"output_config": {"format": {"type": "json_schema"}}}, "output_config.format.schema"),
        ({"tools": [{"name": "x"}]}, "tools[0].input_schema"),
        ({"tools": [{"input_schema": {}}]}, "tools[0].name"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, "tools[0].type"),
        ({"tool_choice": {"type": "required"}}, "tool_choice.type"),
        ({"tool_choice": {"type": "any"}}, "tool_choice"),
        ({"tools": [WEATHER], "tool_choice": {"type": "tool"}}, "tool_choice.name"),
        ({"tools": [WEATHER], "tool_choice": {"type": "tool", "name": "y"}}, "tool_choice.name"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": 7}]}, "messages[0].content"),
        ({"messages": [user({"type": "text"})]}, f"{BLOCK}.text"),
        ({"messages": [user({"type": "image"})]}, f"{BLOCK}.source"),
        ({"messages": [user({"type": "image", "source": "x"})]}, f"{BLOCK}.source"),
        (
            {"messages": [user({"type": "image", "source": {"type": "file", "file_id": "f"}})]},
            f"{BLOCK}.source.type",
        ),
        (
            {"messages": [user({"type": "image", "source": {"type": "text", "data": "f"}})]},
            f"{BLOCK}.source.type",
        ),
        (
            {"messages": [user({"type": "image", "source": PICTURE | {"media_type": "a/b"}})]},
            f"{BLOCK}.source.media_type",
        ),
        (
            {"messages": [user({"type": "image", "source": {"type": "url"}})]},
            f"{BLOCK}.source.url",
        ),
        (
            {"messages": [user({"type": "document", "source": PICTURE})]},
            f"{BLOCK}.source.type",
        ),
        (
            {
                "messages": [
                    user({"type": "document", "source": {"type": "content", "content": [7]}})
                ]
            },
            f"{BLOCK}.source.content[0]",
        ),
        (
            {
                "messages": [
                    user(
                        {
                            "type": "document",
                            "source": {"type": "content", "content": [{"type": "text"}]},
                        }
                    )
                ]
            },
            f"{BLOCK}.source.content[0].text",
        ),
        (
            {
                "messages": [
                    user({"type": "search_result", "source": {}, "title": "t", "content": []})
                ]
            },
            f"{BLOCK}.source.type",
        ),
        (
            {
                "messages": [
                    user({"type": "search_result", "source": PICTURE, "title": "t", "content": []})
                ]
            },
            f"{BLOCK}.source",
        ),
        ({"messages": [user({"type": "server_tool_use", "id": "s"})]}, f"{BLOCK}.type"),
        ({"messages": [user({"type": "tool_result"})]}, f"{BLOCK}.tool_use_id"),
        ({"messages": [user(result("t", [{"type": "text"}]))]}, f"{BLOCK}.content[0].text"),
        ({"messages": [user(CALL)]}, f"{BLOCK}.type"),
        ({"messages": [assistant(result("t1"))]}, f"{BLOCK}.type"),
        ({"messages": [assistant(CALL | {"input": "{}"})]}, f"{BLOCK}.input"),
        ({"messages": [assistant(CALL | {"id": None})]}, f"{BLOCK}.id"),
        ({"messages": [{"role": "system", "content": [result("t")]}]}, f"{BLOCK}.type"),
    ],
)
def test_what_is_wrong_is_refused_by_name(wrong: dict[str, Any], param: str) -> None:
    data = {k: v for k, v in asking(**wrong).items() if v is not ...}
    with pytest.raises(InvalidRequest) as raised:
        translate(MESSAGES_PATH, data)
    assert raised.value.param == param
    assert param in raised.value.message


def test_a_server_tool_is_refused_with_what_to_do() -> None:
    tool = {"type": "web_search_20250305", "name": "web_search"}
    with pytest.raises(InvalidRequest, match=r"web_search_20250305.*give name and input_schema"):
        translate(MESSAGES_PATH, asking(tools=[tool]))


def test_server_tools_are_left_out_beside_the_clients_own() -> None:
    search = {"type": "web_search_20250305", "name": "web_search", "max_uses": 8}
    toolset = {"type": "mcp_toolset", "mcp_server_name": "x", "eager_input_streaming": True}
    translation = translate(MESSAGES_PATH, asking(tools=[search, WEATHER, toolset]))
    assert translation.told.body == told(asking(tools=[WEATHER]))
    assert {"tools.web_search_20250305", "tools.mcp_toolset"} <= {*translation.told.ignored}
    data = {k: v for k, v in asking(tools=[search, WEATHER]).items() if k != "max_tokens"}
    counted = translate(COUNT_PATH, data)
    assert "tools.web_search_20250305" in counted.told.ignored


def test_a_server_tool_that_is_left_out_cannot_be_chosen() -> None:
    search = {"type": "web_search_20250305", "name": "web_search"}
    choice = {"type": "tool", "name": "web_search"}
    with pytest.raises(InvalidRequest) as raised:
        translate(MESSAGES_PATH, asking(tools=[search, WEATHER], tool_choice=choice))
    assert raised.value.param == "tool_choice.name"


CACHED = {"type": "ephemeral"}


@pytest.mark.parametrize(
    ("more", "names"),
    [
        ({}, ()),
        ({"cache_control": CACHED, "service_tier": "auto"}, ("cache_control", "service_tier")),
        ({"cache_control": None, "container": None}, ()),
        ({"container": {"id": "c"}, "speed": "fast"}, ("container", "speed")),
        ({"inference_geo": "eu", "diagnostics": {}}, ("diagnostics", "inference_geo")),
        ({"seed": 4, "min_p": 0.1}, ("min_p", "seed")),
        ({"metadata": {"user_id": "u", "x": 1}}, ("metadata.x",)),
        ({"system": [text("a") | {"cache_control": CACHED}]}, ("system.cache_control",)),
        (
            {"tools": [WEATHER | {"cache_control": CACHED, "defer_loading": True}] * 2},
            ("tools.cache_control", "tools.defer_loading"),
        ),
        ({"tools": [WEATHER | {"strict": True, "eager_input_streaming": True}]}, ()),
        (
            {"messages": [user(text("a") | {"cache_control": CACHED, "citations": []})]},
            ("messages.content.cache_control", "messages.content.citations"),
        ),
        (
            {"messages": [user(result("t", [text("a") | {"x": 1}]))]},
            ("messages.content.content.x",),
        ),
        # Whatever a tool is called with is the client's own.
        ({"messages": [assistant(CALL | {"input": {"cache_control": 1}})]}, ()),
        ({"thinking": {"type": "between_tools"}}, ("thinking.type",)),
        ({"thinking": {"type": "adaptive", "display": "summarized"}}, ("thinking.display",)),
        ({"thinking": {"type": "adaptive", "display": "omitted"}}, ()),
        ({"a,b\r\nx-evil: 1é": 1}, ("a?b??x-evil:?1?",)),
    ],
)
def test_what_means_nothing_here_is_named(more: dict[str, Any], names: tuple[str, ...]) -> None:
    assert translate(MESSAGES_PATH, asking(**more)).told.ignored == names


@given(st.dictionaries(st.text(max_size=200), st.booleans(), max_size=2 * MAX_NAMES))
def test_names_fit_in_a_header(unknown: dict[str, bool]) -> None:
    for known in BODIES[MESSAGES_PATH]["properties"]:
        unknown.pop(known, None)
    names = translate(MESSAGES_PATH, asking(**unknown)).told.ignored
    assert len(names) <= min(len(unknown), MAX_NAMES)
    assert bool(names) == bool(unknown)
    header = ", ".join(names)
    assert header.isascii()
    assert not header or header.isprintable()
    assert len(header) <= MAX_NAMES * 66


@pytest.mark.parametrize("more", [{}, {"tools": [WEATHER]}, {"thinking": {"type": "disabled"}}])
def test_counting_asks_for_the_same_prompt(more: dict[str, Any]) -> None:
    data = asking("a", assistant(text("b")), "c", system="s", **more)
    asked = {k: v for k, v in data.items() if k != "max_tokens"}
    prompt = count_request(asked)
    answered = told(data)
    assert answered == prompt | {"max_tokens": 2000}
    counting = translate(COUNT_PATH, asked)
    assert counting.told.body == prompt | {"max_tokens": 1}
    assert not counting.told.stream
    assert counting.told.ignored == ()


@pytest.mark.parametrize(("name", "schema"), BODIES[COUNT_PATH]["properties"].items())
def test_counting_takes_what_a_message_takes(name: str, schema: Schema) -> None:
    assert BODIES[MESSAGES_PATH]["properties"][name] == schema


@pytest.mark.parametrize("path", [MESSAGES_PATH, COUNT_PATH])
@pytest.mark.parametrize("key", ["tools", "thinking", "messages", "system", "tool_choice"])
@pytest.mark.parametrize("value", [[["", None]], [1], 1, "x", {"x": []}])
def test_what_is_of_the_wrong_kind_is_refused_before_it_is_read(
    path: str, key: str, value: Any
) -> None:
    data = {"max_tokens": 5, "messages": [{"role": "user", "content": "hi"}], key: value}
    with contextlib.suppress(InvalidRequest):
        translate(path, data)


def test_counting_needs_no_limit_and_says_what_it_does_not_know() -> None:
    data = {"messages": [{"role": "user", "content": "hi"}], "temperature": 1}
    assert translate(COUNT_PATH, data).told.ignored == ("temperature",)
    with pytest.raises(InvalidRequest) as raised:
        count_request({})
    assert raised.value.param == "messages"


TEXTS = st.text(max_size=8)
USER_BLOCKS = st.one_of(
    st.builds(text, TEXTS),
    st.just({"type": "image", "source": PICTURE}),
    st.builds(result, TEXTS, st.one_of(TEXTS, st.lists(st.builds(text, TEXTS), max_size=2))),
)
ASSISTANT_BLOCKS = st.one_of(
    st.builds(text, TEXTS),
    st.just(CALL),
    st.builds(lambda t: {"type": "thinking", "thinking": t, "signature": ""}, TEXTS),
)
TURNS = st.one_of(
    st.builds(lambda b: {"role": "user", "content": b}, st.lists(USER_BLOCKS, max_size=4)),
    st.builds(
        lambda b: {"role": "assistant", "content": b}, st.lists(ASSISTANT_BLOCKS, max_size=4)
    ),
    st.builds(lambda t: {"role": "user", "content": t}, TEXTS),
)


@given(st.lists(TURNS, min_size=1, max_size=6), st.booleans())
def test_what_is_asked_is_a_chat_completion_in_the_same_order(
    turns: list[dict[str, Any]], has_tools: bool
) -> None:
    data = asking(*turns, tools=[WEATHER] if has_tools else None)
    before = json.dumps(data)
    assume(any(turn["content"] != [] for turn in turns))
    body = told(data)
    assert json.dumps(data) == before, "the request is left as it is"
    check_request(CHAT_PATH, body)
    blocks = [b for t in turns for b in t["content"] if isinstance(t["content"], list)]
    asked = [b["tool_use_id"] for b in blocks if b["type"] == "tool_result"]
    assert asked == [m["tool_call_id"] for m in body["messages"] if m["role"] == "tool"]
    calls = [c for m in body["messages"] for c in m.get("tool_calls", ())]
    assert len(calls) == sum(b["type"] == "tool_use" for b in blocks)
    roles = [message["role"] for message in body["messages"]]
    assert all(a == "tool" or a != b for a, b in pairwise(roles))


ANY = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["type", "text", "source", "content", "id", "name", "input", "role"]),
            st.one_of(inner, st.sampled_from(["text", "image", "tool_use", "document", "user"])),
            max_size=4,
        ),
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(sorted(BODIES[MESSAGES_PATH]["properties"])), ANY), ANY)
def test_whatever_is_sent_is_translated_or_refused(wrong: dict[str, Any], content: Any) -> None:
    data = asking({"role": "user", "content": content}) | wrong
    refused = None
    try:
        json.dumps(told(data))
    except InvalidRequest as e:
        refused = e
    assert refused is None or refused.param
