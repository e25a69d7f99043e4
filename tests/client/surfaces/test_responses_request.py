"""What the Responses API is asked is told as chat completions; what cannot be is refused by name or
named as ignored."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelpool_client.errors import InvalidRequest
from modelpool_client.surfaces.openai import check_request
from modelpool_client.surfaces.parameter_rules import Disposition
from modelpool_client.surfaces.responses import (
    BODIES,
    COUNT_PATH,
    RESPONSES_PATH,
    RULES,
    Kept,
    count_request,
    translate,
)
from modelpool_client.surfaces.responses.tables import INCLUDES
from modelpool_client.surfaces.routes import CHAT_PATH
from modelpool_client.surfaces.schema import Schema
from openai.types.responses import response_create_params
from support.messages import chunk
from support.responses import NOW, SHELL, WEATHER, answered, asking, made, told

URL = "data:image/png;base64,iVBORw0="
SOUND = {"data": "UklGRg==", "format": "wav"}


def text(said: str, kind: str = "input_text") -> dict[str, Any]:
    return {"type": kind, "text": said}


def message(role: str, *parts: Any) -> dict[str, Any]:
    content = parts[0] if len(parts) == 1 and isinstance(parts[0], str) else list(parts)
    return {"role": role, "content": content}


def call(call_id: str = "a", arguments: str = "{}", **more: Any) -> dict[str, Any]:
    head = {"type": "function_call", "call_id": call_id, "name": "weather"}
    return {**head, "arguments": arguments, **more}


def output(call_id: str = "a", said: Any = "rain", **more: Any) -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": call_id, "output": said, **more}


def called(call_id: str = "a", arguments: str = "{}", name: str = "weather") -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"id": call_id, "type": "function", "function": function}


def thought(*texts: str, **more: Any) -> dict[str, Any]:
    content = [text(one, "reasoning_text") for one in texts]
    return {"type": "reasoning", "id": "rs_1", "summary": [], "content": content, **more}


CUSTOM = {"type": "custom_tool_call", "call_id": "c", "name": "shell", "input": 'say "Ærø"'}
HI = {"role": "user", "content": "hi"}


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        ("hi", [HI]),
        ([message("user", "hi")], [HI]),
        ([message("user", text("a"), text("b"))], [{"role": "user", "content": "a\nb"}]),
        (["a", "b"], [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]),
        (
            [message("developer", "be brief"), message("system", "be kind"), "hi"],
            [{"role": "system", "content": "be brief\n\nbe kind"}, HI],
        ),
        (
            ["hi", message("developer", "be brief")],
            [HI, {"role": "system", "content": "be brief"}],
        ),
        (
            [
                message(
                    "user",
                    text("see"),
                    {"type": "input_image", "image_url": URL, "detail": "auto"},
                    {"type": "input_audio", "input_audio": SOUND},
                )
            ],
            [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "see"},
                        {"type": "image_url", "image_url": {"url": URL}},
                        {"type": "input_audio", "input_audio": SOUND},
                    ],
                }
            ],
        ),
        (
            [
                thought("h", "m"),
                message("assistant", text("Sure", "output_text"), text(", that", "output_text")),
                call(arguments='{"place": "Ribe"}'),
                CUSTOM,
                output(),
                {"type": "custom_tool_call_output", "call_id": "c", "output": "done"},
                message("assistant", "So"),
            ],
            [
                {
                    "role": "assistant",
                    "content": "Sure, that",
                    "reasoning_content": "h\nm",
                    "tool_calls": [
                        called(arguments='{"place": "Ribe"}'),
                        called("c", '{"input": "say \\"Ærø\\""}', "shell"),
                    ],
                },
                {"role": "tool", "tool_call_id": "a", "content": "rain"},
                {"role": "tool", "tool_call_id": "c", "content": "done"},
                {"role": "assistant", "content": "So"},
            ],
        ),
        (
            [{"type": "reasoning", "summary": [text("hm", "summary_text")]}, "hi"],
            [{"role": "assistant", "content": "", "reasoning_content": "hm"}, HI],
        ),
        (
            [message("assistant", {"type": "refusal", "refusal": "No."}), "hi"],
            [{"role": "assistant", "content": "No."}, HI],
        ),
        (
            [call(), output(said=[text("a"), text("b")])],
            [
                {"role": "assistant", "content": "", "tool_calls": [called()]},
                {"role": "tool", "tool_call_id": "a", "content": "a\nb"},
            ],
        ),
        (
            [call(), output(said=[{"type": "input_image", "image_url": URL}])],
            [
                {"role": "assistant", "content": "", "tool_calls": [called()]},
                {
                    "role": "tool",
                    "tool_call_id": "a",
                    "content": [{"type": "image_url", "image_url": {"url": URL}}],
                },
            ],
        ),
    ],
)
def test_items(items: Any, expected: list[Any]) -> None:
    if isinstance(items, list):
        items = [message("user", item) if isinstance(item, str) else item for item in items]
    assert told(asking(items))["messages"] == expected


@pytest.mark.parametrize("given_arguments", ["", " \n", None, ...])
def test_a_call_of_the_history_without_arguments_has_none(given_arguments: Any) -> None:
    item = {k: v for k, v in (call() | {"arguments": given_arguments}).items() if v is not ...}
    (said,) = told(asking([item]))["messages"]
    assert said["tool_calls"][0]["function"]["arguments"] == "{}"


def test_instructions_come_first_and_are_not_carried_over() -> None:
    data = asking([message("developer", "be brief"), HI], instructions="be kind")
    first, second = told(data)["messages"]
    assert (first["content"], second) == ("be kind\n\nbe brief", HI)
    kept = answered(data, chunk("stop", content="x"))
    later = told(asking("so?", previous_response_id="resp_u", instructions="be sly"), kept)
    assert [m["content"] for m in later["messages"]] == ["be sly\n\nbe brief", "hi", "x", "so?"]


def earlier() -> Kept:
    return answered(asking("hi"), chunk("stop", content="hello"))


def test_a_response_goes_on_from_the_one_before() -> None:
    kept = earlier()
    data = asking("so?", previous_response_id="resp_u")
    expected = [HI, {"role": "assistant", "content": "hello"}, {"role": "user", "content": "so?"}]
    assert told(data, kept)["messages"] == expected
    after = answered(data, chunk("stop", content="yes"), earlier=kept, unique=lambda: "v")
    assert len(after["input"]) == 1
    assert len({item["id"] for item in after["context"]}) == len(after["context"]) == 4
    only = told({"previous_response_id": "resp_v"}, after)["messages"]
    assert only == [*expected, {"role": "assistant", "content": "yes"}]


def test_a_response_that_is_not_kept_cannot_be_gone_on_from() -> None:
    for path in BODIES:
        with pytest.raises(InvalidRequest, match="send its items as input") as raised:
            translate(path, asking(previous_response_id="resp_x"), None, lambda: NOW)
        error = raised.value
        assert (error.param, error.code) == ("previous_response_id", "previous_response_not_found")


@pytest.mark.parametrize("kind", [{}, {"type": None}, {"type": "item_reference"}])
def test_a_reference_is_the_item_that_it_means(kind: dict[str, Any]) -> None:
    kept = earlier()
    said = kept["response"]["output"][0]
    data = asking([{"id": said["id"], **kind}, HI], previous_response_id="resp_u")
    translation = made(data, kept)
    roles = [m["role"] for m in translation.told.body["messages"]]
    assert roles == ["user", "assistant", "user"], "neighbours of one turn are one message"
    translation.whole({})
    assert translation.kept()["input"][0] == said
    mine = asking([{**HI, "id": "mine"}, {"id": "mine"}])
    assert told(mine)["messages"] == [HI, HI]


def test_references_do_not_multiply_what_is_told() -> None:
    long = {"role": "user", "content": "x" * 1_500_000}
    with pytest.raises(InvalidRequest, match="already") as caught:
        told(asking([{**HI, "id": "mine"}, {"id": "mine"}, {"id": "mine"}]))
    assert caught.value.param == "input[2].id"
    items = [{**long, "id": f"i{n}"} for n in range(4)]
    with pytest.raises(InvalidRequest, match="more than") as caught:
        told(asking([*items, *({"id": f"i{n}"} for n in range(4))]))
    assert caught.value.param == "input[6].id"


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, {}),
        ({"temperature": 0.5, "top_p": 1}, {"temperature": 0.5, "top_p": 1}),
        ({"max_output_tokens": 7}, {"max_tokens": 7}),
        ({"user": "u", "prompt_cache_key": "k"}, {"user": "u", "prompt_cache_key": "k"}),
        ({"top_logprobs": 2}, {"logprobs": True, "top_logprobs": 2}),
        ({"top_logprobs": 0}, {}),
        (
            {"include": ["message.output_text.logprobs"]},
            {"logprobs": True, "top_logprobs": 0},
        ),
        (
            {"reasoning": {"effort": "none"}},
            {
                "chat_template_kwargs": {"enable_thinking": False},
                "reasoning_effort": "none",
            },
        ),
        *(
            (
                {"reasoning": {"effort": effort}},
                {
                    "chat_template_kwargs": {"reasoning_effort": word},
                    "reasoning_effort": word,
                },
            )
            for effort, word in [
                ("minimal", "low"),
                ("low", "low"),
                ("medium", "medium"),
                ("high", "high"),
                ("xhigh", "high"),
                ("max", "high"),
            ]
        ),
        ({"text": {"verbosity": "low"}}, {"verbosity": "low"}),
        ({"text": {"format": {"type": "text"}}}, {}),
        (
            {"text": {"format": {"type": "json_object"}}},
            {"response_format": {"type": "json_object"}},
        ),
        (
            {
                "text": {
                    "format": {"type": "json_schema", "name": "x", "schema": {}, "strict": None}
                }
            },
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "x", "schema": {}},
                }
            },
        ),
        ({"tool_choice": "auto", "parallel_tool_calls": True, "tools": []}, {}),
        ({"metadata": {"a": "b"}, "store": False, "stream": False}, {}),
    ],
)
def test_options(more: dict[str, Any], expected: dict[str, Any]) -> None:
    translation = made(asking(**more))
    assert translation.told.body == {"messages": [HI]} | expected
    assert translation.told.ignored == ()


def test_tools_are_functions() -> None:
    bare = {"type": "function", "name": "x", "parameters": None, "strict": None}
    tools = told(asking(tools=[WEATHER, bare, SHELL]))["tools"]
    function = {k: v for k, v in WEATHER.items() if k != "type"}
    properties = {"input": {"type": "string"}}
    shape = {"type": "object", "properties": properties, "required": ["input"]}
    assert [tool["function"] for tool in tools] == [
        function,
        {"name": "x"},
        {
            "name": "shell",
            "description": "runs a command",
            "parameters": {**shape, "additionalProperties": False},
        },
    ]


def named(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("auto", "auto"),
        ("none", "none"),
        ("required", "required"),
        ({"type": "function", "name": "weather"}, named("weather")),
        ({"type": "custom", "name": "shell"}, named("shell")),
        (
            {
                "type": "allowed_tools",
                "mode": "required",
                "tools": [{"type": "custom", "name": "shell"}],
            },
            {
                "type": "allowed_tools",
                "allowed_tools": {"mode": "required", "tools": [named("shell")]},
            },
        ),
    ],
)
def test_tool_choice(choice: Any, expected: Any) -> None:
    body = told(asking(tools=[WEATHER, SHELL], tool_choice=choice, parallel_tool_calls=False))
    assert body["tool_choice"] == expected
    assert body["parallel_tool_calls"] is False
    check_request(CHAT_PATH, body)


PART = "input[0].content[0]"
FILE = {"type": "input_file", "file_data": "data:application/pdf;base64,"}


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": 7}, "input"),
        ({"input": ["hi"]}, "input[0]"),
        ({"input": [{}]}, "input[0].id"),
        ({"input": [{"type": "web_search_call", "id": "x"}]}, "input[0].type"),
        ({"input": [{"type": "message", "content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "user"}]}, "input[0].content"),
        ({"input": [{"role": "tool", "content": "x"}]}, "input[0].role"),
        ({"input": [message("user", text("x", "output_text"))]}, f"{PART}.type"),
        ({"input": [message("assistant", {"type": "input_image"})]}, f"{PART}.type"),
        ({"input": [message("user", {"type": "input_text"})]}, f"{PART}.text"),
        ({"input": [message("user", {"type": "input_image"})]}, f"{PART}.image_url"),
        (
            {"input": [message("user", {"type": "input_image", "file_id": "f"})]},
            f"{PART}.file_id",
        ),
        (
            {"input": [message("user", {"type": "input_image", "detail": "huge"})]},
            f"{PART}.detail",
        ),
        ({"input": [message("user", {"type": "input_audio"})]}, f"{PART}.input_audio"),
        (
            {"input": [message("user", {"type": "input_audio", "input_audio": {"data": "x"}})]},
            f"{PART}.input_audio.format",
        ),
        ({"input": [message("user", FILE)]}, f"{PART}.type"),
        ({"input": [call(), output(said=[FILE])]}, "input[1].output[0].type"),
        ({"input": [call(call_id=None)]}, "input[0].call_id"),
        ({"input": [call(name=None)]}, "input[0].name"),
        ({"input": [output()]}, "input[0].call_id"),
        ({"input": [output(), call()]}, "input[0].call_id"),
        ({"input": [CUSTOM, output("c")]}, "input[1].call_id"),
        ({"input": [call(), output(output=None)]}, "input[1].output"),
        ({"input": [thought(content=[text("x")])]}, f"{PART}.type"),
        ({"input": [{"type": "item_reference"}]}, "input[0].id"),
        ({"input": [{"id": "msg_nobody"}]}, "input[0].id"),
        ({"model": 7}, "model"),
        ({"instructions": ["x"]}, "instructions"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": {"include_obfuscation": False}}, "stream_options"),
        ({"temperature": 2.5}, "temperature"),
        ({"top_p": -1}, "top_p"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"top_logprobs": 21}, "top_logprobs"),
        ({"metadata": {"a": 1}}, "metadata.a"),
        ({"metadata": {"a": "b" * 513}}, "metadata.a"),
        ({"metadata": {str(i): "" for i in range(17)}}, "metadata"),
        ({"metadata": {"k" * 65: ""}}, "metadata." + "k" * 64 + "..."),
        ({"include": ["everything"]}, "include[0]"),
        ({"truncation": "sometimes"}, "truncation"),
        ({"service_tier": "cheap"}, "service_tier"),
        ({"reasoning": {"effort": "huge"}}, "reasoning.effort"),
        ({"reasoning": {"summary": "no"}}, "reasoning.summary"),
        ({"text": {"verbosity": "none"}}, "text.verbosity"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type"),
        ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format.schema"),
        ({"text": {"format": {"type": "json_schema", "schema": {}}}}, "text.format.name"),
        ({"tools": [{"name": "x"}]}, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"tools": [{"type": "web_search"}, {"type": "local_shell"}]}, "tools[0].type"),
        ({"tools": [{"type": "web_search"}, {"type": "function"}]}, "tools[1].name"),
        ({"tools": [WEATHER, SHELL | {"name": "weather"}]}, "tools[1].name"),
        (
            {"tools": [SHELL | {"format": {"type": "grammar", "syntax": "lark"}}]},
            "tools[0].format.type",
        ),
        ({"tool_choice": "any"}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": {"type": "function", "name": "x"}}, "tool_choice.name"),
        ({"tools": [SHELL], "tool_choice": {"type": "function"}}, "tool_choice.name"),
        (
            {"tools": [SHELL], "tool_choice": {"type": "function", "name": "shell"}},
            "tool_choice.name",
        ),
        ({"tools": [SHELL], "tool_choice": {"type": "file_search"}}, "tool_choice.type"),
        (
            {
                "tools": [WEATHER, {"type": "web_search"}],
                "tool_choice": {
                    "type": "allowed_tools",
                    "mode": "auto",
                    "tools": [{"type": "web_search"}],
                },
            },
            "tool_choice.tools[0].name",
        ),
        ({"tool_choice": {"type": "allowed_tools", "tools": [{}]}}, "tool_choice.mode"),
        ({"tool_choice": {"type": "allowed_tools", "mode": "auto"}}, "tool_choice.tools"),
        (
            {"tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{}]}},
            "tool_choice.tools[0].name",
        ),
    ],
)
def test_what_is_wrong_is_refused_by_name(wrong: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        made(asking() | wrong)
    assert raised.value.param == param
    assert param in raised.value.message


def test_tools_that_openai_runs_are_left_out_beside_the_clients_own() -> None:
    """What Codex sends with every request."""
    hosted: list[dict[str, Any]] = [
        {"type": "web_search", "external_web_access": True},
        {"type": "local_shell"},
        {"type": "namespace", "name": "mcp__x", "description": "d", "tools": [WEATHER]},
        {"type": "image_generation", "output_format": "png"},
        SHELL | {"name": "apply_patch", "format": {"type": "grammar", "syntax": "lark"}},
    ]
    data = asking(tools=[hosted[0], WEATHER, *hosted[1:], SHELL], tool_choice="auto")
    translation = made(data)
    assert translation.told.body == told(asking(tools=[WEATHER, SHELL], tool_choice="auto"))
    named = {f"tools.{tool['type']}" for tool in hosted}
    assert named <= {*translation.told.ignored}
    assert [tool["type"] for tool in answered(data, chunk("stop"))["response"]["tools"]] == [
        "function",
        "custom",
    ]


@pytest.mark.parametrize(
    "kind",
    [
        "apply_patch",
        "code_interpreter",
        "computer",
        "computer_use_preview",
        "file_search",
        "image_generation",
        "local_shell",
        "mcp",
        "namespace",
        "shell",
        "tool_search",
        "web_search",
        "web_search_preview",
        "of_a_later_version",
    ],
)
def test_a_hosted_tool_is_refused_with_what_to_do(kind: str) -> None:
    with pytest.raises(InvalidRequest, match=rf"'{kind}' .*type function, or of type custom"):
        made(asking(tools=[{"type": kind}]))


# What asks for something, where the schema alone does not say it.
VALUES: dict[str, Any] = {
    "tools": [WEATHER],
    "tool_choice": "none",
    "text": {"verbosity": "low"},
    "include": ["message.output_text.logprobs"],
    "truncation": "auto",
    "service_tier": "flex",
}


def value_of(name: str, schema: Schema) -> Any:
    """Something that a parameter may be, and that is none of its neutral values."""
    option = schema.get("anyOf", (schema,))[0]
    kind = next(iter([option["type"]] if isinstance(option["type"], str) else option["type"]))
    others = {"object": {"a": "b"}, "array": [1], "boolean": True, "integer": 1, "number": 0.5}
    value = VALUES.get(name) or others.get(kind) or option.get("enum", ["x"])[0]
    assert value not in RULES[name].neutral
    return value


@pytest.mark.parametrize(
    ("path", "name", "schema"),
    [(path, *one) for path, body in BODIES.items() for one in body["properties"].items()],
)
def test_every_parameter_is_honoured_or_refused_or_named(
    path: str, name: str, schema: Schema
) -> None:
    rule, ignored, refused = RULES[name], tuple[str, ...](), None
    data = asking(tools=[WEATHER], stream=True) | {name: value_of(name, schema)}
    before = json.dumps(data)
    try:
        ignored = translate(path, data, earlier(), lambda: NOW).told.ignored
    except InvalidRequest as e:
        refused = e
    assert (refused is not None) is (rule.how is Disposition.REFUSED)
    assert refused is None or (refused.param == name and rule.why in refused.message)
    assert (name in ignored) is (rule.how is Disposition.IGNORED)
    assert json.dumps(data) == before


def test_every_parameter_of_the_package_has_a_rule() -> None:
    base = response_create_params.ResponseCreateParamsBase.__annotations__
    assert not {*base, "stream"} - RULES.keys()
    assert not {name for body in BODIES.values() for name in body["properties"]} - RULES.keys()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (name, value)
        for name, rule in RULES.items()
        for value in (*rule.neutral, None)
        if name in BODIES[RESPONSES_PATH]["properties"] and name != "input"
    ],
)
def test_what_asks_for_nothing_is_not_named(name: str, value: Any) -> None:
    assert made(asking(**{name: value})).told.ignored == ()


@pytest.mark.parametrize(
    ("more", "names"),
    [
        ({"seed": 4, "min_p": 0.1, "a": None}, ("min_p", "seed")),
        ({"truncation": "auto", "max_tool_calls": 3}, ("max_tool_calls", "truncation")),
        ({"reasoning": {"summary": "auto", "effort": "low"}}, ("reasoning.summary",)),
        ({"reasoning": {"generate_summary": "auto"}}, ("reasoning.generate_summary",)),
        ({"reasoning": {"context": "auto", "mode": "standard"}}, ()),
        ({"stream": True, "stream_options": {"include_obfuscation": False}}, ()),
        (
            {"stream": True, "stream_options": {"include_obfuscation": True}},
            ("stream_options.include_obfuscation",),
        ),
        (
            {"include": ["reasoning.encrypted_content", "file_search_call.results"]},
            ("include.file_search_call.results", "include.reasoning.encrypted_content"),
        ),
        ({"include": ["message.input_image.image_url", "message.output_text.logprobs"]}, ()),
        ({"tools": [WEATHER | {"defer_loading": True}] * 2}, ("tools.defer_loading",)),
        ({"tools": [WEATHER | {"defer_loading": False, "strict": True}]}, ()),
        # What a schema says is the client's own, and what stands in a text is no parameter.
        ({"tools": [WEATHER | {"parameters": {"properties": {"phase": {}}}}]}, ()),
        ({"input": "phase", "instructions": "truncation"}, ()),
        ({"input": [thought("x", encrypted_content="…")]}, ("input.encrypted_content",)),
        (
            {
                "input": [
                    message("user", {"type": "input_image", "image_url": URL, "detail": "low"})
                ]
            },
            ("input.content.detail",),
        ),
        (
            {"input": [{**message("assistant", "x"), "phase": "commentary", "x": 1}]},
            ("input.phase", "input.x"),
        ),
        (
            {
                "input": [
                    message(
                        "assistant", text("x", "output_text") | {"annotations": [], "logprobs": [1]}
                    )
                ]
            },
            ("input.content.logprobs",),
        ),
    ],
)
def test_what_means_nothing_here_is_named(more: dict[str, Any], names: tuple[str, ...]) -> None:
    assert made(asking() | more).told.ignored == names


def test_all_that_can_be_included_has_a_rule() -> None:
    for name in INCLUDES:
        ignored = made(asking(include=[name])).told.ignored
        rule = RULES.get(f"include.{name}")
        assert ignored == ((f"include.{name}",) if rule else ())


@pytest.mark.parametrize(
    "more", [{}, {"tools": [WEATHER]}, {"reasoning": {"effort": "none"}}, {"instructions": "s"}]
)
def test_counting_asks_for_the_same_prompt(more: dict[str, Any]) -> None:
    data = asking("so?", previous_response_id="resp_u", **more)
    prompt = count_request(data, earlier())
    assert told(data, earlier()) == prompt
    counting = translate(COUNT_PATH, data, earlier(), lambda: NOW).told
    assert counting.body == prompt | {"max_tokens": 1}
    assert (counting.stream, counting.ignored) == (False, ())


@pytest.mark.parametrize(("name", "schema"), BODIES[COUNT_PATH]["properties"].items())
def test_counting_takes_what_a_response_takes(name: str, schema: Schema) -> None:
    assert name == "personality" or BODIES[RESPONSES_PATH]["properties"][name] == schema


TEXTS = st.text(max_size=8)
CONTENTS = st.one_of(TEXTS, st.lists(st.builds(text, TEXTS), max_size=3))
ITEMS = st.lists(
    st.one_of(
        st.builds(
            lambda r, c: {"role": r, "content": c}, st.sampled_from(["user", "system"]), CONTENTS
        ),
        st.builds(lambda c: {"role": "assistant", "content": c}, CONTENTS),
        st.builds(thought, TEXTS),
        st.builds(call, st.sampled_from("ab"), TEXTS),
        st.builds(output, st.sampled_from("ab"), CONTENTS),
    ),
    max_size=8,
)


@given(ITEMS)
def test_what_is_asked_is_a_chat_completion_in_the_same_order(items: list[Any]) -> None:
    data = asking([message("user", "hi"), call("a"), call("b"), *items])
    before = json.dumps(data)
    translation = made(data)
    body = translation.told.body
    assert json.dumps(data) == before, "the request is left as it is"
    check_request(CHAT_PATH, body)
    said = body["messages"]
    outputs = [i["call_id"] for i in items if i.get("type") == "function_call_output"]
    assert [m["tool_call_id"] for m in said if m["role"] == "tool"] == outputs
    calls = [c for m in said for c in m.get("tool_calls", ())]
    assert len(calls) == 2 + sum(i.get("type") == "function_call" for i in items)
    translation.whole({})
    kept = translation.kept()
    again = told(asking(kept["input"]))
    assert again == body, "items in their full form say the same"


ANY = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["type", "text", "content", "id", "name", "call_id", "role", "output"]),
            st.one_of(
                inner, st.sampled_from(["input_text", "function_call", "custom", "user", "message"])
            ),
            max_size=4,
        ),
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(sorted(BODIES[RESPONSES_PATH]["properties"])), ANY), ANY)
def test_whatever_is_sent_is_translated_or_refused(wrong: dict[str, Any], given_input: Any) -> None:
    refused = None
    try:
        json.dumps(told(asking(given_input) | wrong))
    except InvalidRequest as e:
        refused = e
    assert refused is None or refused.param
