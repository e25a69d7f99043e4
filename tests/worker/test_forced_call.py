"""Calls that are forced by a schema: what the engine is asked, and what its text is read as."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from modelpool_worker.surfaces.forced_call import ForcedCall, calls_schema, read_call

WHOLE = '{ "name": "look",\n "arguments": {"far": true, "at": "a \\" b"}}'


def tool(name: str, **parameters: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


def test_references_find_what_they_refer_to_of_their_own_tool() -> None:
    point = {"$ref": "#/$defs/Point"}
    tools = [
        tool(
            "a", properties={"p": point}, **{"$defs": {"Point": {"type": "string", "next": point}}}
        ),
        tool("b", properties={"p": point}, **{"$defs": {"Point": {"type": "integer"}}}),
    ]
    schema = calls_schema(tools)
    assert set(schema["$defs"]) == {"0_Point", "1_Point"}
    assert schema["$defs"]["0_Point"]["next"] == {"$ref": "#/$defs/0_Point"}
    referred = [c["properties"]["arguments"]["properties"]["p"]["$ref"] for c in schema["anyOf"]]
    assert referred == ["#/$defs/0_Point", "#/$defs/1_Point"]


def test_the_question_names_only_what_may_be_called() -> None:
    choice = {"type": "function", "function": {"name": "b"}}
    body = {"messages": [], "tools": [tool("a"), tool("b")], "tool_choice": choice, "seed": 1}
    asked = ForcedCall.question(body, shows_tools=True)
    assert (asked["tool_choice"], asked["tools"], asked["seed"]) == ("none", body["tools"], 1)
    schema = asked["response_format"]["json_schema"]["schema"]
    assert schema["properties"]["name"] == {"const": "b"}
    assert "tools" not in ForcedCall.question(body, shows_tools=False)


def test_a_whole_call() -> None:
    call, is_whole = read_call(WHOLE)
    assert is_whole
    assert call is not None
    assert json.loads(call["arguments"]) == {"far": True, "at": 'a " b'}


@given(st.integers(0, len(WHOLE) - 1))
def test_a_call_that_was_cut_has_what_came(cut: int) -> None:
    call, is_whole = read_call(WHOLE[:cut])
    assert not is_whole
    if call is not None:
        assert call["name"] == "look"
        assert call["arguments"] in WHOLE


def test_each_choice_is_a_call_of_its_own() -> None:
    reshape, told = ForcedCall(), []

    def say(index: int, text: str | None, reason: str | None = None, **more: Any) -> None:
        delta = {} if text is None else {"content": text}
        choice = {"index": index, "delta": delta, "finish_reason": reason}
        told.extend(reshape.chunk({"id": "c", "choices": [choice], **more}))

    say(0, WHOLE[:9])
    say(1, WHOLE[:30])
    say(0, WHOLE[9:])
    say(0, None, "stop")
    say(1, None, "length", timings={"predicted_n": 3})
    choices = [c for chunk in told for c in chunk["choices"]]
    assert [(c["index"], c["finish_reason"]) for c in choices] == [
        (0, None),
        (0, "tool_calls"),
        (1, None),
        (1, "length"),
    ]
    calls = [c["delta"]["tool_calls"][0] for c in choices if c["delta"]]
    assert [c["id"] for c in calls] == ["call_c_0", "call_c_1"]
    assert [chunk.get("timings") for chunk in told] == [None, None, None, {"predicted_n": 3}]
