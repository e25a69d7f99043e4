"""Every wrong body is refused with its parameter named; nothing but our errors comes out."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelpool_client.errors import InvalidRequest, ModelNotFound
from modelpool_client.surfaces.body import parse_object
from modelpool_client.surfaces.openai import check_model, check_request
from modelpool_client.surfaces.openai_bodies import BODIES
from modelpool_client.surfaces.routes import CHAT_PATH, TEXT_PATH

USER = {"role": "user", "content": "hi"}
CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}


F = {"type": "function", "function": {"name": "f", "parameters": {}}}


def chat(**more: Any) -> dict[str, Any]:
    return {"messages": [USER], **more}


def text(**more: Any) -> dict[str, Any]:
    return {"prompt": "hi", **more}


BAD_CHATS: list[tuple[dict[str, Any], str]] = [
    ({}, "messages"),
    ({"messages": None}, "messages"),
    ({"messages": "hi"}, "messages"),
    ({"messages": []}, "messages"),
    ({"messages": [3]}, "messages[0]"),
    ({"messages": [USER, {"content": "x"}]}, "messages[1].role"),
    ({"messages": [{"role": "king", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "user", "content": 3}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": ["x"]}]}, "messages[0].content[0]"),
    ({"messages": [{"role": "user", "content": [{"text": "x"}]}]}, "messages[0].content[0].type"),
    ({"messages": [{"role": "user"}]}, "messages[0].content"),
    ({"messages": [{"role": "tool", "content": None}]}, "messages[0].content"),
    (chat(temperature=2.1), "temperature"),
    (chat(temperature=-0.1), "temperature"),
    (chat(temperature="hot"), "temperature"),
    (chat(temperature=True), "temperature"),
    (chat(top_p=1.01), "top_p"),
    (chat(n=0), "n"),
    (chat(n=129), "n"),
    (chat(n=1.5), "n"),
    (chat(max_tokens=0), "max_tokens"),
    (chat(max_completion_tokens=-2), "max_completion_tokens"),
    (chat(stop=3), "stop"),
    (chat(stop=["a", 3]), "stop[1]"),
    (chat(stop=["a"] * 17), "stop"),
    (chat(seed="x"), "seed"),
    (chat(seed=1 << 63), "seed"),
    (chat(stream="yes"), "stream"),
    (chat(stream=1), "stream"),
    (chat(stream_options={"include_usage": True}), "stream_options"),
    (chat(stream=True, stream_options=[]), "stream_options"),
    (chat(stream=True, stream_options={"include_usage": 1}), "stream_options.include_usage"),
    (chat(logprobs=3), "logprobs"),
    (chat(top_logprobs=3), "top_logprobs"),
    (chat(logprobs=True, top_logprobs=21), "top_logprobs"),
    (chat(presence_penalty=-2.5), "presence_penalty"),
    (chat(frequency_penalty=3), "frequency_penalty"),
    (chat(response_format="json"), "response_format"),
    (chat(response_format={}), "response_format.type"),
    (chat(response_format={"type": "xml"}), "response_format.type"),
    (chat(tools={}), "tools"),
    (chat(tools=[{"type": "function"}]), "tools[0].function"),
    (chat(tools=[{"type": "function", "function": {"name": ""}}]), "tools[0].function.name"),
    (chat(tool_choice="perhaps"), "tool_choice"),
    (chat(logit_bias=[]), "logit_bias"),
    (chat(logit_bias={"5": "x"}), "logit_bias.5"),
    (chat(user=3), "user"),
    (chat(model=3), "model"),
]
BAD_TEXTS: list[tuple[dict[str, Any], str]] = [
    ({}, "prompt"),
    (text(prompt=3), "prompt"),
    (text(prompt=[]), "prompt"),
    (text(prompt=[True]), "prompt[0]"),
    (text(prompt=["a", 3]), "prompt[1]"),
    (text(prompt=[-1]), "prompt[0]"),
    (text(prompt=[[1], []]), "prompt[1]"),
    (text(logprobs=True), "logprobs"),
    (text(echo="x"), "echo"),
]


@pytest.mark.parametrize(("body", "param"), BAD_CHATS)
def test_bad_chats(body: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_request(CHAT_PATH, body)
    assert caught.value.param == param
    assert param in caught.value.message


@pytest.mark.parametrize(("body", "param"), BAD_TEXTS)
def test_bad_texts(body: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_request(TEXT_PATH, body)
    assert caught.value.param == param


@pytest.mark.parametrize(
    "body",
    [
        chat(),
        chat(temperature=0, top_p=1, n=1, max_tokens=5.0, seed=-1, stop="x", user="me"),
        chat(stream=True, stream_options={"include_usage": True}),
        chat(temperature=None, stop=None, tools=None, logprobs=None, top_logprobs=None),
        chat(logprobs=True, top_logprobs=5, logit_bias={"5": -100}),
        chat(tools=[{"type": "function", "function": {"name": "f", "parameters": {}}}]),
        chat(tools=[F], tool_choice={"type": "function", "function": {"name": "f"}}),
        chat(response_format={"type": "json_schema", "json_schema": {"schema": {}}}),
        {"messages": [{"role": "assistant", "content": None, "tool_calls": [CALL]}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]},
        chat(something_new={"a": 1}),
    ],
)
def test_good_chats(body: dict[str, Any]) -> None:
    request = check_request(CHAT_PATH, body)
    assert request.body.items() <= body.items()
    sent = json.loads(request.upstream())
    assert sent["stream"] is True
    assert sent["messages"] == body["messages"]


@pytest.mark.parametrize("messages", [-1, ["x"], [{}]])
def test_messages_of_a_text_are_no_parameter(messages: Any) -> None:
    """Whatever they look like."""
    assert check_request(TEXT_PATH, text(messages=messages)).body["prompt"] == "hi"


def test_the_engine_is_asked_for_usage_unless_the_client_streams() -> None:
    quiet = json.loads(check_request(CHAT_PATH, chat()).upstream())
    assert quiet["stream_options"] == {"include_usage": True}
    assert "stream_options" not in json.loads(
        check_request(CHAT_PATH, chat(stream=True)).upstream()
    )


def test_load_options_in_a_request_are_dropped_and_named() -> None:
    request = check_request(CHAT_PATH, chat(num_ctx=9, keep_alive="5m", top_k=3))
    assert request.ignored == ("keep_alive", "num_ctx")
    assert request.body == chat(top_k=3)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b"3",
        b"null",
        b'"x"',
        b"\xff\xfe",
        b'{"a": "\xc3"}',
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": 1e999}',
        b'{"a": ' + b"9" * 5000 + b"}",
        b'{"a": ' * 100_000,
        b"[" * 200_000,
    ],
)
def test_bodies_that_are_no_object(raw: bytes) -> None:
    with pytest.raises(InvalidRequest):
        parse_object(raw)


def test_half_a_surrogate_pair_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="half a surrogate pair"):
        parse_object(rb'{"messages": [{"role": "user", "content": "\ud800"}]}')
    with pytest.raises(InvalidRequest, match="half a surrogate pair"):
        parse_object(rb'{"\uDC00": 1}')
    assert parse_object(rb'{"a": "\ud83d\ude00 \u00e9"}') == {"a": "\U0001f600 \u00e9"}
    with pytest.raises(InvalidRequest):
        check_request(CHAT_PATH, {"messages": [{"role": "user", "content": "\ud800"}]}).upstream()


@pytest.mark.parametrize("name", [None, "demo", "nick"])
def test_own_names(name: str | None) -> None:
    check_model({"model": name}, "demo", ("nick",))


@pytest.mark.parametrize("name", ["", "other", "x" * 10_000])
def test_other_names(name: str) -> None:
    with pytest.raises(ModelNotFound, match="serves demo, nick") as caught:
        check_model({"model": name}, "demo", ("nick",))
    assert caught.value.param == "model"
    assert len(caught.value.message) < 400


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from([CHAT_PATH, TEXT_PATH]), st.data())
def test_any_body_is_taken_or_refused_with_one_of_our_errors(
    path: str, data: st.DataObject
) -> None:
    names = st.sampled_from(sorted(BODIES[path]["properties"]))
    body = data.draw(st.dictionaries(names | st.text(max_size=8), values, max_size=6))
    base = {CHAT_PATH: chat(), TEXT_PATH: text()}[path] if data.draw(st.booleans()) else {}
    # Any other error than ours, or a server's, fails the test.
    with contextlib.suppress(InvalidRequest):
        check_request(path, {**base, **body}).upstream()


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_bytes_are_an_object_or_refused(raw: bytes) -> None:
    with contextlib.suppress(InvalidRequest):
        assert isinstance(parse_object(raw), dict)


def normal(path: str, body: dict[str, Any]) -> dict[str, Any]:
    return check_request(path, body).body


@pytest.mark.parametrize(
    ("given", "sent"),
    [("", None), ([], None), ([""], None), (["", "a"], ["a"]), ("a", "a"), (["a"], ["a"])],
)
def test_empty_stop_strings_are_dropped(given: Any, sent: Any) -> None:
    for path, body in ((CHAT_PATH, chat(stop=given)), (TEXT_PATH, text(stop=given))):
        assert normal(path, body).get("stop") == sent


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens", "n_predict"])
def test_more_tokens_than_an_engine_can_count_are_as_many_as_it_can(name: str) -> None:
    assert normal(CHAT_PATH, chat(**{name: 10**30})) == chat(**{name: (1 << 31) - 1})
    assert normal(CHAT_PATH, chat(**{name: -1})) == chat(), "as LM Studio's users say no limit"
    assert normal(CHAT_PATH, chat(**{name: 5})) == chat(**{name: 5})
    assert isinstance(normal(CHAT_PATH, chat(**{name: 5.0}))[name], int)


@pytest.mark.parametrize("given", ["", " \n", None, "none"])
def test_a_call_in_the_history_without_arguments_has_an_empty_object(given: Any) -> None:
    function = {"name": "f"} if given == "none" else {"name": "f", "arguments": given}
    before = {"role": "assistant", "tool_calls": [CALL, {**CALL, "function": function}]}
    (_, sent) = normal(CHAT_PATH, {"messages": [USER, before]})["messages"]
    told = [call["function"]["arguments"] for call in sent["tool_calls"]]
    assert told == ['{"a": 1}', "{}"]


def test_a_call_in_the_history_without_a_type_is_a_functions() -> None:
    calls = [{"function": {"name": "f", "arguments": "{}"}}, {**CALL, "type": None}]
    before = {"role": "assistant", "tool_calls": calls}
    (_, sent) = normal(CHAT_PATH, {"messages": [USER, before]})["messages"]
    assert [call["type"] for call in sent["tool_calls"]] == ["function", "function"]


@pytest.mark.parametrize(
    "body",
    [
        chat(temperature=0.5, user="me", max_tokens=5, stop=["a"]),
        {"messages": [{"role": "assistant", "content": None, "tool_calls": [CALL]}]},
        chat(tools=[F], tool_choice="required"),
        chat(response_format={"type": "json_schema", "json_schema": {"schema": {}}}),
    ],
)
def test_what_needs_no_change_goes_on_as_it_came(body: dict[str, Any]) -> None:
    raw = json.dumps({**body, "stream": True}).encode()
    request = check_request(CHAT_PATH, json.loads(raw), raw)
    assert request.upstream() is raw


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (chat(response_format={"type": "json_schema"}), "response_format.json_schema"),
        (
            chat(response_format={"type": "json_schema", "json_schema": {"name": "x"}}),
            "response_format.json_schema.schema",
        ),
        (chat(tool_choice="required"), "tool_choice"),
        (chat(tools=[], tool_choice="required"), "tool_choice"),
        (chat(tool_choice="any"), "tool_choice"),
        (chat(tools=[F], tool_choice={"type": "function"}), "tool_choice.function"),
        (
            chat(tools=[F], tool_choice={"type": "function", "function": {"name": "g"}}),
            "tool_choice.function.name",
        ),
        (chat(tools=[F], tool_choice={"type": "custom"}), "tool_choice.type"),
        (chat(web_search_options={}), "web_search_options"),
        (chat(functions=[{"name": "f"}]), "functions"),
    ],
)
def test_what_cannot_be_meant_is_refused(body: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_request(CHAT_PATH, body)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (text(n=2, best_of=1), "best_of"),
        (text(prompt=[1, 2], echo=True), "echo"),
        (text(echo=True, logprobs=1), "echo"),
        (text(prompt=["a", "b"], suffix="c"), "suffix"),
    ],
)
def test_what_cannot_be_meant_of_a_text_is_refused(body: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_request(TEXT_PATH, body)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("reasoning_effort", "'none', 'minimal', 'low', 'medium', 'high', 'xhigh', 'max'"),
        ("verbosity", "'low', 'medium', 'high'"),
        ("service_tier", "'auto', 'default', 'flex', 'scale', 'priority', 'fast'"),
    ],
)
def test_a_word_that_there_is_not_is_refused_with_those_there_are(name: str, allowed: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_request(CHAT_PATH, chat(**{name: "bogus"}))
    assert caught.value.message == f"{name} must be one of {allowed}"


def test_allowed_tools_are_the_tools() -> None:
    g = {"type": "function", "function": {"name": "g"}}
    allowed = {"mode": "required", "tools": [{"type": "function", "function": {"name": "g"}}]}
    choice = {"type": "allowed_tools", "allowed_tools": allowed}
    sent = normal(CHAT_PATH, chat(tools=[F, g], tool_choice=choice))
    assert sent == chat(tools=[g], tool_choice="required")


def test_any_tool_is_mistrals_word_for_a_required_one() -> None:
    assert normal(CHAT_PATH, chat(tools=[F], tool_choice="any")) == chat(
        tools=[F], tool_choice="required"
    )


@pytest.mark.parametrize(
    "nothing", [{"logprobs": False, "top_logprobs": 0}, {"top_logprobs": 0}, {"stream_options": {}}]
)
def test_what_asks_for_nothing_needs_nothing(nothing: dict[str, Any]) -> None:
    sent = normal(CHAT_PATH, chat(**nothing))
    assert sent == chat(**{k: v for k, v in nothing.items() if k == "logprobs"})


def test_best_of_as_many_as_are_wanted_asks_for_nothing() -> None:
    assert normal(TEXT_PATH, text(n=2, best_of=2)) == text(n=2)


SCHEMA_BESIDE = {"const": "4"}
NAMED = {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA_BESIDE}}


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"type": "json_object", "schema": SCHEMA_BESIDE}, NAMED),
        ({"type": "json_object", "value": SCHEMA_BESIDE}, NAMED),
        ({"type": "json", "value": SCHEMA_BESIDE}, NAMED),
        ({"type": "json"}, {"type": "json_object"}),
        ({"type": "json_object", "schema": {}}, {"type": "json_object", "schema": {}}),
        ({"type": "json_object", "schema": None}, {"type": "json_object"}),
    ],
)
def test_a_schema_that_stands_beside_the_type_is_followed(said: Any, told: Any) -> None:
    """As llama.cpp's clients say it, and huggingface_hub."""
    assert check_request(CHAT_PATH, chat(response_format=said)).body["response_format"] == told
