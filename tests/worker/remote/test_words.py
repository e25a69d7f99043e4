"""Names, forms, templates, and the words of Anthropic's API."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelpool_client.errors import InvalidRequest, LoadFailed, ModelNotFound
from modelpool_worker.engines import http_template
from modelpool_worker.engines.anthropic_answer import ChatStream, completion, usage
from modelpool_worker.engines.anthropic_request import messages_body
from modelpool_worker.remote.form_model import model_of, with_model
from modelpool_worker.remote.names import Names

PROVIDER = Names("acme", "", ("m-1", "org/m-2"))
FORM = b"multipart/form-data; boundary=xyz"


@pytest.mark.parametrize(
    ("name", "there"),
    [("acme:m-1", "m-1"), ("m-1", "m-1"), ("acme:org/m-2", "org/m-2"), ("acme:m-1:latest", "m-1")],
)
def test_names_there(name: str, there: str) -> None:
    assert PROVIDER.there(name) == there
    assert PROVIDER.knows(name)


def test_names_that_are_not_there() -> None:
    with pytest.raises(ModelNotFound, match="acme:m-1, acme:org/m-2"):
        PROVIDER.there("acme:m-9")
    with pytest.raises(InvalidRequest, match="name one as acme:NAME"):
        PROVIDER.there(None)
    assert not PROVIDER.knows("acme:m-9")
    assert not PROVIDER.knows("acme")


def test_an_open_provider_and_a_single_model() -> None:
    assert Names("acme", "", (), True).there("acme:any") == "any"
    assert Names("acme", "", (), True).knows("acme:any")
    assert Names("mine", "theirs").there("whatever") == "theirs"
    assert Names("acme", "", ("only",)).there(None) == "only"
    assert Names.of("a", "b", {"models": ["c"]}).is_provider
    assert not Names.of("a", "b", {}).is_provider


def test_a_providers_models_change() -> None:
    names = Names("acme", "", ("old",))
    names.become(("new",), is_open=False)
    assert names.served == ["acme:new"]
    assert names.there("acme:new") == "new"
    with pytest.raises(ModelNotFound):
        names.there("acme:old")


def form(*fields: tuple[str, bytes]) -> bytes:
    parts = [
        f'--xyz\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'.encode() + value + b"\r\n"
        for name, value in fields
    ]
    return b"".join(parts) + b"--xyz--\r\n"


@given(st.binary(max_size=200).filter(lambda b: b"--xyz" not in b))
def test_the_model_of_a_form(sound: bytes) -> None:
    body = form(("file", sound), ("model", b"mine"), ("language", b"de"))
    assert model_of(FORM, body) == "mine"
    told = form(("file", sound), ("model", b"theirs-1"), ("language", b"de"))
    assert with_model(FORM, body, "theirs-1") == told
    without = form(("file", sound))
    assert model_of(FORM, without) is None
    assert model_of(FORM, with_model(FORM, without, "x")) == "x"


def test_a_template_is_filled() -> None:
    template = http_template.parse(
        '{"p": "Q: {last_message}", "m": "{messages}", "n": "{max_tokens}", "t": "{temperature}",'
        ' "deep": [{"seed": "{seed}"}, "{stop}"]}'
    )
    said = {"messages": [{"role": "user", "content": 'a "b" {model}'}], "max_tokens": 5, "seed": 0}
    filled = http_template.fill(template, http_template.values_of(said, "m"))
    assert filled == {
        "p": 'Q: a "b" {model}',
        "m": said["messages"],
        "n": 5,
        "deep": [{"seed": 0}],
    }


@given(st.text())
def test_no_text_changes_what_a_template_means(text: str) -> None:
    template = http_template.parse('{"a": "{prompt}", "b": {"c": "x {prompt} y"}, "d": 1}')
    values = http_template.values_of({"prompt": text}, "m")
    filled = json.loads(json.dumps(http_template.fill(template, values)))
    assert filled == {"a": text, "b": {"c": f"x {text} y"}, "d": 1}


@pytest.mark.parametrize("text", ["{", '{"a": "{nonsense}"}'])
def test_templates_that_are_none(text: str) -> None:
    with pytest.raises(LoadFailed, match="body"):
        http_template.parse(text)


@pytest.mark.parametrize(
    ("path", "value"),
    [("a.0.b", 1), ("a.-1.b", 2), ("a.2.b", None), ("x", None), ("a.b", None), ("a.0.b.c", None)],
)
def test_paths(path: str, value: Any) -> None:
    assert http_template.at({"a": [{"b": 1}, {"b": 2}]}, path) == value


def ask(*messages: dict[str, Any], **more: Any) -> dict[str, Any]:
    return messages_body({"messages": list(messages), **more}, 100)


USER = {"role": "user", "content": "hi"}


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({}, {"max_tokens": 100}),
        ({"max_completion_tokens": 7}, {"max_tokens": 7}),
        ({"max_tokens": -1}, {"max_tokens": 100}),
        ({"stop": "x"}, {"stop_sequences": ["x"]}),
        ({"reasoning_effort": "minimal"}, {"output_config": {"effort": "low"}}),
        ({"reasoning_effort": "none"}, {"thinking": {"type": "disabled"}}),
        ({"thinking": {"type": "adaptive"}}, {"thinking": {"type": "adaptive"}}),
        ({"stream": True}, {"stream": True}),
        ({"user": "u"}, {"metadata": {"user_id": "u"}}),
    ],
)
def test_what_anthropic_is_told(more: dict[str, Any], told: dict[str, Any]) -> None:
    body = ask(USER, **more)
    assert told.items() <= body.items()
    assert body["messages"] == [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": "user", "content": [{"type": "input_audio"}]}, "messages[0].content[0].type"),
        ({"role": "system", "content": "only"}, "messages"),
        ({"role": "tool", "content": "x"}, "messages[0].tool_call_id"),
        ({"role": "function", "content": "x"}, "messages[0].role"),
        (
            {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "["}}]},
            "messages[0].tool_calls[0].function.arguments",
        ),
    ],
)
def test_what_anthropic_cannot_be_told(message: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        ask(message)
    assert refused.value.param == param


_ROLES = st.sampled_from(["user", "assistant", "system"])


@given(st.lists(st.builds(dict, role=_ROLES, content=st.text(max_size=5)), max_size=8))
def test_turns_alternate_and_say_something(messages: list[dict[str, Any]]) -> None:
    spoken = [m for m in messages if m["role"] != "system" and m["content"]]
    if not spoken:
        return
    turns = ask(*messages)["messages"]
    roles = [turn["role"] for turn in turns]
    assert all(a != b for a, b in itertools.pairwise(roles))
    texts = [block["text"] for turn in turns for block in turn["content"]]
    assert texts == [m["content"] for m in spoken]


def test_usage_counts_what_came_from_the_cache() -> None:
    counts = {"input_tokens": 1, "cache_read_input_tokens": 10, "cache_creation_input_tokens": 100}
    told = usage({**counts, "output_tokens": 5})
    assert (told["prompt_tokens"], told["completion_tokens"], told["total_tokens"]) == (111, 5, 116)
    assert told["prompt_tokens_details"] == {"cached_tokens": 10, "cache_write_tokens": 100}


def test_what_is_to_be_cached_is_said_so() -> None:
    mark = {"cache_control": {"type": "ephemeral"}}
    tool = {"type": "function", "function": {"name": "f"}, **mark}
    system = {"role": "system", "content": [{"type": "text", "text": "long", **mark}]}
    user = {"role": "user", "content": [{"type": "text", "text": "x"}]}
    told = messages_body({"messages": [system, user], "tools": [tool]}, 9)
    assert told["system"] == [{"type": "text", "text": "long", **mark}]
    assert told["messages"][0]["content"] == [{"type": "text", "text": "x"}]
    assert told["tools"][0]["cache_control"] == mark["cache_control"]


def test_thoughts_go_back_with_their_signature() -> None:
    blocks = [
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "text", "text": "a"},
    ]
    answer = {
        "id": "1",
        "model": "m",
        "content": blocks,
        "stop_reason": "max_tokens",
        "usage": {"input_tokens": 1, "output_tokens": 1},
    }
    choice = json.loads(completion(answer, 0))["choices"][0]
    assert choice["finish_reason"] == "length"
    assert choice["message"]["reasoning_content"] == "hm"
    again = ask(USER, choice["message"], USER)
    assert again["messages"][1]["content"] == blocks


def test_a_stream_knows_no_event_that_it_does_not_know() -> None:
    stream = ChatStream(0)
    assert list(stream.chunks({"type": "something_new"})) == []
    assert not stream.is_complete
