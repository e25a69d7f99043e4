"""What engines are asked when Ollama's clients ask; what is wrong is refused by its parameter."""

from __future__ import annotations

import base64
import contextlib
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelpool_client.errors import InvalidRequest
from modelpool_client.surfaces import openai
from modelpool_client.surfaces.ollama import (
    BODIES,
    CHAT,
    EMBED,
    EMBEDDINGS,
    GENERATE,
    is_load_only,
    keep_alive_seconds,
    load_answer,
    translate,
)
from modelpool_client.surfaces.routes import CHAT_PATH, TEXT_PATH
from modelpool_client.surfaces.translation import Told

USER = {"role": "user", "content": "hi"}
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n and so on").decode()
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}


def told(path: str, **body: Any) -> Told:
    return translate(path, body, lambda: 0).told


def chat(**more: Any) -> Told:
    return told(CHAT, messages=[USER], **more)


def generate(**more: Any) -> Told:
    return told(GENERATE, prompt="hi", **more)


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        (CHAT, {"messages": "hi"}, "messages"),
        (CHAT, {"messages": [{"content": "hi"}]}, "messages[0].role"),
        (CHAT, {"messages": [{"role": "king"}]}, "messages[0].role"),
        (CHAT, {"messages": [{"role": "user", "content": [{}]}]}, "messages[0].content"),
        (CHAT, {"messages": [{**USER, "images": [3]}]}, "messages[0].images[0]"),
        (CHAT, {"messages": [{**USER, "images": ["?"]}]}, "messages[0].images[0]"),
        (CHAT, {"messages": [USER, {**USER, "images": [PNG, "AAAA"]}]}, "messages[1].images[1]"),
        (
            CHAT,
            {
                "messages": [
                    {
                        "role": "assistant",
                        "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}],
                    }
                ]
            },
            "messages[0].tool_calls[0].function.arguments",
        ),
        (CHAT, {"tools": [{"type": "function"}]}, "tools[0].function"),
        (CHAT, {"tools": [{"function": {}}]}, "tools[0].function.name"),
        (CHAT, {"stream": "yes"}, "stream"),
        (CHAT, {"model": 3}, "model"),
        (CHAT, {"format": "xml"}, "format"),
        (CHAT, {"format": []}, "format"),
        (CHAT, {"think": "deeply"}, "think"),
        (CHAT, {"think": 1}, "think"),
        (CHAT, {"keep_alive": "soon"}, "keep_alive"),
        (CHAT, {"keep_alive": True}, "keep_alive"),
        (CHAT, {"top_logprobs": 21}, "top_logprobs"),
        (CHAT, {"options": []}, "options"),
        (CHAT, {"options": {"temperature": "hot"}}, "options.temperature"),
        (CHAT, {"options": {"temperature": -1}}, "options.temperature"),
        (CHAT, {"options": {"top_p": 2}}, "options.top_p"),
        (CHAT, {"options": {"top_k": 1.5}}, "options.top_k"),
        (CHAT, {"options": {"num_predict": -3}}, "options.num_predict"),
        (CHAT, {"options": {"stop": [1]}}, "options.stop[0]"),
        (CHAT, {"options": {"stop": ["a"] * 17}}, "options.stop"),
        (CHAT, {"options": {"mirostat": 3}}, "options.mirostat"),
        (GENERATE, {"prompt": ["a"]}, "prompt"),
        (GENERATE, {"template": "{{ .Prompt }}"}, "template"),
        (GENERATE, {"raw": True, "system": "be"}, "system"),
        (GENERATE, {"raw": True, "context": [1]}, "context"),
        (GENERATE, {"raw": True, "images": [PNG]}, "images"),
        (GENERATE, {"suffix": "}", "images": [PNG]}, "images"),
        (GENERATE, {"images": ["!"]}, "images[0]"),
        (EMBED, {"input": 3}, "input"),
        (EMBED, {"input": [[1, 2]]}, "input[0]"),
        (EMBED, {"dimensions": -1}, "dimensions"),
        (EMBEDDINGS, {"prompt": ["a"]}, "prompt"),
        (EMBEDDINGS, {"keep_alive": "300"}, "keep_alive"),
    ],
)
def test_what_is_wrong_is_refused(path: str, body: dict[str, Any], param: str) -> None:
    base = {CHAT: {"messages": [USER]}, EMBED: {"input": "hi"}}.get(path, {"prompt": "hi"})
    with pytest.raises(InvalidRequest) as caught:
        translate(path, {**base, **body}, lambda: 0)
    assert caught.value.param == param


def test_a_stream_is_what_is_asked_for_unless_it_is_not() -> None:
    assert chat().stream
    assert chat(stream=None).stream
    assert generate().stream
    assert not chat(stream=False).stream
    assert not told(EMBED, input="a").stream


def test_null_means_not_given() -> None:
    nothing = dict.fromkeys(BODIES[CHAT]["properties"].keys() - {"messages"})
    assert chat(**nothing) == chat()
    assert chat(options={"temperature": None, "num_ctx": None}) == chat()


def test_options_in_the_words_of_llama_cpp() -> None:
    options = {
        "temperature": 0.5,
        "top_k": 40.0,
        "top_p": 0.9,
        "min_p": 0.1,
        "typical_p": 0.7,
        "seed": 7,
        "num_predict": 12,
        "num_keep": 4,
        "stop": ["a", "", "b"],
        "repeat_penalty": 1.1,
        "repeat_last_n": -1,
        "presence_penalty": 1.5,
        "frequency_penalty": -1,
        "mirostat": 1,
        "mirostat_tau": 0.8,
        "mirostat_eta": 0.6,
    }
    expected = {**options, "n_keep": 4, "max_tokens": 12, "stop": ["a", "b"]}
    del expected["num_keep"], expected["num_predict"]
    for asked in (chat(options=options), generate(options=options, raw=True)):
        assert {k: v for k, v in asked.body.items() if k not in ("messages", "prompt")} == expected
        assert isinstance(asked.body["top_k"], int)
        assert asked.ignored == ()


@pytest.mark.parametrize(
    "options",
    [{"num_predict": -1}, {"num_predict": -2}, {"seed": -1}, {"stop": [""]}, {"stop": []}],
)
def test_options_that_say_nothing(options: dict[str, Any]) -> None:
    assert chat(options=options) == chat()


def test_one_stop_word() -> None:
    assert chat(options={"stop": "END"}).body["stop"] == ["END"]


def test_load_options_and_the_unknown_are_ignored_and_named() -> None:
    load = {"num_ctx": 8192, "num_gpu": 1, "num_thread": 8, "num_batch": 2, "use_mmap": True}
    asked = chat(
        options={**load, "tfs_z": 1, "temperature": 0.5},
        keep_alive="5m",
        width=3,
        truncate=True,
        shift=True,
        top_logprobs=3,
    )
    assert asked.body == {"messages": [USER], "temperature": 0.5}
    names = [f"options.{name}" for name in (*load, "tfs_z")]
    assert asked.ignored == tuple(sorted([*names, "width", "truncate", "shift", "top_logprobs"]))
    assert chat(truncate=False, shift=False).ignored == ()
    assert told(CHAT, messages=[{**USER, "mood": 1}]).ignored == ("messages.mood",)
    assert generate(context=[1, 2]).ignored == ("context",)
    assert generate(raw=True, think=True).ignored == ("think",)
    assert generate(suffix="x", system="s").ignored == ("system",)


@given(st.lists(st.text(), max_size=50))
def test_names_of_the_ignored_fit_a_header(names: list[str]) -> None:
    unknown = {f"x{name}": 1 for name in [*names, "\r\nx-evil: 1", "\ud800"]}
    ignored = chat(**unknown).ignored
    assert len(ignored) <= 33
    for name in ignored:
        assert name.isascii()
        assert name.isprintable()
        assert len(name) <= 64


def test_images_are_data_urls_of_their_type() -> None:
    kinds = {
        "image/png": b"\x89PNG\r\n\x1a\n",
        "image/jpeg": b"\xff\xd8\xff\xe0",
        "image/gif": b"GIF89a",
        "image/webp": b"RIFF\0\0\0\0WEBPVP8 ",
        "image/bmp": b"BM\0\0",
    }
    texts = [base64.b64encode(start).decode() for start in kinds.values()]
    (message,) = told(CHAT, messages=[{**USER, "images": texts}]).body["messages"]
    text, *images = message["content"]
    assert text == {"type": "text", "text": "hi"}
    urls = [f"data:{kind};base64,{data}" for kind, data in zip(kinds, texts, strict=True)]
    assert images == [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    same = generate(images=[texts[0][:4] + "\r\n" + texts[0][4:]]).body["messages"][0]
    assert same["content"] == [text, images[0]]
    only = told(CHAT, messages=[{"role": "user", "images": texts[:1]}]).body["messages"][0]
    assert only["content"] == images[:1]


@pytest.mark.parametrize(
    ("start", "format"),
    [(b"RIFF\0\0\0\0WAVEfmt ", "wav"), (b"ID3\x04", "mp3"), (b"\xff\xfb\x90", "mp3")],
)
def test_sound_comes_as_an_image(start: bytes, format: str) -> None:
    data = base64.b64encode(start).decode()
    part = generate(images=[data]).body["messages"][0]["content"][1]
    assert part == {"type": "input_audio", "input_audio": {"data": data, "format": format}}


def call(name: str, id: str | None = None, **arguments: Any) -> dict[str, Any]:
    own = {"id": id} if id else {}
    return {**own, "function": {"name": name, "arguments": arguments}}


def said(*calls: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "tool_calls": list(calls), **more}


def result(content: str, **more: Any) -> dict[str, Any]:
    return {"role": "tool", "content": content, **more}


def test_results_find_their_calls() -> None:
    messages = [
        USER,
        {
            "role": "assistant",
            "thinking": "hm",
            "tool_calls": [call("a", x=1), call("b"), call("a")],
        },
        result("1", tool_name="b"),
        result("2", tool_name="a"),
        result("3"),
        said(call("c", "call00004"), call("c"), content="so"),
        result("4", tool_call_id="call00004", tool_name="c"),
        result("5", tool_name="c"),
        result("6", tool_name="nobody"),
    ]
    asked = told(CHAT, messages=messages).body["messages"]
    first, second = asked[1], asked[5]
    assert first["reasoning_content"] == "hm"
    assert first["content"] == ""
    assert [c["function"]["arguments"] for c in first["tool_calls"]] == ['{"x": 1}', "{}", "{}"]
    a, b, other_a = (c["id"] for c in first["tool_calls"])
    c, other_c = (c["id"] for c in second["tool_calls"])
    ids = [m["tool_call_id"] for m in asked if m["role"] == "tool"]
    assert ids[:-1] == [b, a, other_a, c, other_c]
    assert ids[-1] not in ids[:-1]
    assert len({*ids}) == len(ids)
    assert all(len(id) == 9 and id.isalnum() for id in ids)  # as Mistral's templates want them


def test_tools_and_arguments_that_are_missing() -> None:
    tool = {"function": {"name": "f", "parameters": {"type": "object"}}}
    assert chat(tools=[tool]).body["tools"] == [{"type": "function", **tool}]
    assert chat(tools=[]) == chat()
    for more in ({}, {"arguments": None}, {"arguments": ""}, {"arguments": {}}):
        call = {"function": {"name": "f", **more}}
        (message,) = told(CHAT, messages=[said(call)]).body["messages"]
        assert message["tool_calls"][0]["function"] == {"name": "f", "arguments": "{}"}


def test_formats() -> None:
    assert chat(format="json").body["response_format"] == {"type": "json_object"}
    schema = {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}
    assert chat(format=SCHEMA).body["response_format"] == schema
    assert chat(format="") == chat()
    assert generate(format=SCHEMA, raw=True).body["json_schema"] == SCHEMA
    assert generate(format="json", raw=True).body["json_schema"] == {"type": "object"}


@pytest.mark.parametrize(
    ("think", "expected"),
    [
        (True, {"chat_template_kwargs": {"enable_thinking": True}}),
        (False, {"chat_template_kwargs": {"enable_thinking": False}}),
        (
            "low",
            {
                "chat_template_kwargs": {"enable_thinking": True, "reasoning_effort": "low"},
                "reasoning_effort": "low",
            },
        ),
        (
            "max",
            {
                "chat_template_kwargs": {"enable_thinking": True, "reasoning_effort": "max"},
                "reasoning_effort": "high",
            },
        ),
    ],
)
def test_thinking(think: bool | str, expected: dict[str, Any]) -> None:
    assert chat(think=think).body == {"messages": [USER], **expected}
    assert generate(think=think).body == {"messages": [USER], **expected}


def test_generate_is_a_chat_unless_it_is_raw_or_fills_in() -> None:
    asked = generate(system="be brief", template="", suffix="")
    assert asked.path == CHAT_PATH
    assert asked.body == {"messages": [{"role": "system", "content": "be brief"}, USER]}
    raw = generate(raw=True, system="")
    assert (raw.path, raw.body) == (TEXT_PATH, {"prompt": "hi"})
    infill = generate(suffix="}")
    assert (infill.path, infill.body) == (TEXT_PATH, {"prompt": "hi", "suffix": "}"})


def test_logprobs() -> None:
    assert chat(logprobs=True).body["top_logprobs"] == 1
    assert chat(logprobs=True, top_logprobs=3).body["top_logprobs"] == 3
    assert generate(logprobs=True, top_logprobs=3, raw=True).body["logprobs"] == 3
    assert chat(logprobs=False) == chat()


def test_embeddings() -> None:
    asked = told(EMBED, input="a", dimensions=4, truncate=True, options={"num_ctx": 1, "seed": 2})
    assert asked.path == "/v1/embeddings"
    assert asked.body == {"input": ["a"], "encoding_format": "float", "dimensions": 4}
    assert asked.ignored == ("options.num_ctx", "options.seed", "truncate")
    assert told(EMBED, input=["a", "b"], truncate=False, dimensions=0).body["input"] == ["a", "b"]
    assert told(EMBEDDINGS, prompt="a").body["input"] == ["a"]


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        (0, 0),
        (0.0, 0),
        (300, 300),
        (1.5, 1.5),
        (-1, math.inf),
        (-0.5, math.inf),
        (10**400, math.inf),
        (1e300, math.inf),
        ("0", 0),
        ("0s", 0),
        ("5m", 300),
        ("+5m", 300),
        ("1h30m", 5400),
        ("1.5h", 5400),
        (".5s", 0.5),
        ("1.s", 1),
        ("250ms", 0.25),
        ("1h1m1s1ms", 3661.001),
        ("-1m", math.inf),
        ("-0s", 0),
        ("3us", 3e-6),
        ("3µs", 3e-6),
        ("9999999h", math.inf),
        ("24h", 86400),
    ],
)
def test_keep_alive(value: object, seconds: float | None) -> None:
    found = keep_alive_seconds(value)
    assert found == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    "value",
    [
        *("", "5", "300", "-1", "m", "5 m", "5d", "1h30", "5m ", "m5", "1..5s", ".s", "--5m", "٣m"),
        *(True, False, [], {}, "5m" * 100),
    ],
)
def test_keep_alives_that_are_none(value: object) -> None:
    with pytest.raises(InvalidRequest) as caught:
        keep_alive_seconds(value)
    assert caught.value.param == "keep_alive"


@given(st.lists(st.tuples(st.integers(0, 10**6), st.sampled_from(["h", "m", "s", "ms"]))))
def test_durations_add_up(parts: list[tuple[int, str]]) -> None:
    worth = {"h": 3600, "m": 60, "s": 1, "ms": 1e-3}
    text = "".join(f"{n}{unit}" for n, unit in parts)
    if not 0 < len(text) <= 100:
        return
    total = sum(n * worth[unit] for n, unit in parts)
    assert keep_alive_seconds(text) == pytest.approx(total if total < (1 << 63) / 1e9 else math.inf)
    assert keep_alive_seconds(f"-{text}") == (math.inf if total else 0)


@given(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text())
def test_any_keep_alive_is_a_time_or_refused(value: object) -> None:
    with contextlib.suppress(InvalidRequest):
        seconds = keep_alive_seconds(value)
        assert seconds is None or seconds >= 0


@pytest.mark.parametrize(
    ("path", "asks", "said"),
    [
        (CHAT, "messages", {"message": {"role": "assistant", "content": ""}}),
        (GENERATE, "prompt", {"response": ""}),
        (EMBED, "input", None),
        (EMBEDDINGS, "prompt", None),
    ],
)
def test_nothing_asked_is_a_load(path: str, asks: str, said: dict[str, Any] | None) -> None:
    for nothing in ({}, {asks: None}, {asks: [] if path == CHAT else ""}):
        assert is_load_only(path, {"model": "m", "keep_alive": 0, **nothing})
    assert not is_load_only(path, {asks: [USER] if path == CHAT else "a"})
    with pytest.raises(InvalidRequest):
        is_load_only(path, {"keep_alive": "soon"})
    with pytest.raises(InvalidRequest):
        is_load_only(path, {asks: 3})
    answer = load_answer(path, "m", "unload", 1_500_000_000_123_456_789)
    if said is None:
        assert answer in ({"model": "m", "embeddings": []}, {"embedding": []})
        return
    assert answer == {
        "model": "m",
        "created_at": "2017-07-14T02:40:00.123456Z",
        **said,
        "done": True,
        "done_reason": "unload",
    }


@pytest.mark.parametrize("path", BODIES)
def test_there_is_nothing_to_translate_in_a_load(path: str) -> None:
    with pytest.raises(InvalidRequest, match="is required"):
        translate(path, {"model": "m"}, lambda: 0)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
roles = st.sampled_from(["system", "user", "assistant", "tool"])
texts = st.none() | st.text(max_size=5)
calls = st.builds(call, st.text(min_size=1, max_size=3), st.none() | st.just("x"))
messages = st.lists(
    st.fixed_dictionaries(
        {"role": roles},
        optional={
            "content": texts,
            "thinking": texts,
            "images": st.lists(st.just(PNG), max_size=1),
            "tool_calls": st.lists(calls, max_size=2),
            "tool_name": texts,
            "tool_call_id": texts,
        },
    ),
    min_size=1,
    max_size=5,
)


@given(st.sampled_from(sorted(BODIES)), st.data())
def test_any_body_is_refused_or_told_in_words_that_are_openais(
    path: str, data: st.DataObject
) -> None:
    names = st.sampled_from(sorted(BODIES[path]["properties"]))
    body = data.draw(st.dictionaries(names | st.text(max_size=8), values, max_size=4))
    if data.draw(st.booleans()):
        body |= {"messages": data.draw(messages), "prompt": "hi", "input": ["hi"]}
    with contextlib.suppress(InvalidRequest):
        asked = translate(path, body, lambda: 0).told
        json.dumps(asked.body)
        assert asked.body.keys().isdisjoint({"model", "stream", "stream_options"})
        if asked.path in openai.BODIES:
            openai.check_request(asked.path, asked.body)


@given(messages)
def test_any_conversation_is_one_of_openais(conversation: list[dict[str, Any]]) -> None:
    asked = told(CHAT, messages=conversation)
    checked = openai.check_request(asked.path, asked.body)
    assert len(checked.body["messages"]) == len(conversation)
    for message in asked.body["messages"]:
        assert message["role"] != "tool" or message["tool_call_id"]
