"""What chat completions answer is told as messages: whole, in a stream however it is cut, and when
it goes wrong."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelpool_client import errors
from modelpool_client.surfaces.anthropic import (
    COUNT_PATH,
    MESSAGES_PATH,
    error_body,
    translate,
)
from modelpool_client.surfaces.anthropic.answers import INVALID_JSON, tool_input
from support.messages import (
    WEATHER,
    asking,
    calling,
    chunk,
    events,
    put_together,
    stream,
    used,
    whole,
)

USAGE = {
    "input_tokens": 5,
    "cache_creation_input_tokens": 0,
    "cache_read_input_tokens": 4,
    "output_tokens": 5,
}


def both(data: dict[str, Any], chunks: list[dict[str, Any]]) -> dict[str, Any]:
    """The message, which is the same of a whole answer as of a stream."""
    message = translate(MESSAGES_PATH, data).whole(whole(chunks))
    assert put_together(events(stream(data, chunks))) == message
    return message


def test_a_message() -> None:
    chunks = [chunk(role="assistant", content=None), chunk(content="Hel"), chunk(content="lo")]
    assert both(asking(), [*chunks, chunk("stop"), used()]) == {
        "id": "msg_7",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [{"type": "text", "text": "Hello"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": USAGE,
    }


def test_who_names_no_model_learns_which_it_is() -> None:
    data = asking(model=None)
    assert both(data, [chunk("stop", content="x"), used()])["model"] == "file.gguf"


def test_thinking_text_and_tools_in_their_order() -> None:
    chunks = [
        chunk(reasoning_content="h"),
        chunk(reasoning_content="m"),
        chunk(content="So: "),
        calling(0, "", id="a", name="weather"),
        calling(0, '{"place"'),
        calling(0, ': "Ribe"}'),
        calling(1, "", id="b", name="clock"),
        chunk("tool_calls"),
        used(),
    ]
    message = both(asking(tools=[WEATHER]), chunks)
    assert message["stop_reason"] == "tool_use"
    assert message["content"] == [
        {"type": "thinking", "thinking": "hm", "signature": ""},
        {"type": "text", "text": "So: "},
        {"type": "tool_use", "id": "a", "name": "weather", "input": {"place": "Ribe"}},
        {"type": "tool_use", "id": "b", "name": "clock", "input": {}},
    ]


def test_newer_servers_call_it_reasoning() -> None:
    data = {**asking(), "stream": True}
    translation = translate(MESSAGES_PATH, data)
    told = translation.chunk(chunk(reasoning="hm")) + translation.end()
    assert put_together(events(told))["content"][0]["thinking"] == "hm"


def test_thinking_that_is_not_wanted_is_left_out() -> None:
    data = asking(thinking={"type": "adaptive", "display": "omitted"})
    chunks = [chunk(reasoning_content="hm"), chunk("stop", content="x"), used()]
    assert both(data, chunks)["content"] == [{"type": "text", "text": "x"}]


@pytest.mark.parametrize(
    ("finish", "more", "reason", "sequence"),
    [
        ("stop", {}, "end_turn", None),
        (None, {}, "end_turn", None),
        ("length", {}, "max_tokens", None),
        ("content_filter", {}, "refusal", None),
        ("of_a_later_version", {}, "end_turn", None),
        ("stop", {"stop_reason": "END"}, "stop_sequence", "END"),  # vLLM
        ("stop", {"matched_stop": "END"}, "stop_sequence", "END"),  # SGLang
        ("stop", {"stop_reason": 128009}, "end_turn", None),
        ("stop", {"stop_reason": "nobody's"}, "end_turn", None),
        ("length", {"stop_reason": "END"}, "max_tokens", None),
    ],
)
def test_why_it_stopped(
    finish: str | None, more: dict[str, Any], reason: str, sequence: str | None
) -> None:
    data, last = asking(stop_sequences=["END"]), chunk(finish, content="x")
    last["choices"][0] |= more
    answer = whole([last])
    answer["choices"][0] |= more
    message = translate(MESSAGES_PATH, data).whole(answer)
    assert (message["stop_reason"], message["stop_sequence"]) == (reason, sequence)
    told = put_together(events(stream(data, [last])))
    assert (told["stop_reason"], told["stop_sequence"]) == (reason, sequence)


def test_a_call_ends_a_turn_whatever_the_engine_says() -> None:
    chunks = [calling(0, "{}", name="weather"), chunk("stop"), used()]
    message = both(asking(tools=[WEATHER]), chunks)
    assert message["stop_reason"] == "tool_use"
    assert message["content"] == [
        {"type": "tool_use", "id": "toolu_0", "name": "weather", "input": {}}
    ]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (None, {}),
        ("", {}),
        (" \n", {}),
        ("{}", {}),
        ('{"a": 1}', {"a": 1}),
        *((broken, {INVALID_JSON: broken}) for broken in ('{"a": ', "x", "[1]", '{"a": NaN}')),
        *((broken, {INVALID_JSON: broken}) for broken in ('{"a": 1e999}', '{"a": "\\ud800"}')),
        *((broken, {INVALID_JSON: broken}) for broken in ("[" * 99_999, "\ud800", "9" * 9_999)),
    ],
)
def test_arguments_that_are_no_object_are_shown_as_they_are(
    arguments: str | None, expected: dict[str, Any]
) -> None:
    assert tool_input(arguments) == expected
    json.dumps(expected, allow_nan=False)


def test_broken_arguments_are_told_in_a_stream_too() -> None:
    chunks = [calling(0, '{"place": "Ri', id="a", name="weather"), chunk("length"), used()]
    message = both(asking(tools=[WEATHER]), chunks)
    assert message["content"][0]["input"] == {INVALID_JSON: '{"place": "Ri'}
    assert message["stop_reason"] == "max_tokens"


def test_an_eager_tool_hears_its_input_as_it_comes() -> None:
    data = asking(tools=[WEATHER | {"eager_input_streaming": True}], stream=True)
    translation = translate(MESSAGES_PATH, data)
    start, delta = events(translation.chunk(calling(0, '{"pla', id="a", name="weather")))[1:]
    assert start["content_block"]["name"] == "weather"
    assert delta["delta"] == {"type": "input_json_delta", "partial_json": '{"pla'}
    assert translation.chunk(chunk(content="by the way")) == b""
    assert translation.chunk(calling(1, "{}", id="b", name="weather")) == b""
    (more,) = events(translation.chunk(calling(0, 'ce": 1}')))
    assert more["delta"]["partial_json"] == 'ce": 1}'
    rest = events(translation.chunk(chunk("tool_calls")) + translation.end())
    shown = [e["content_block"] for e in rest if e["type"] == "content_block_start"]
    assert [block["type"] for block in shown] == ["text", "tool_use"]
    assert shown[1]["id"] == "b"


def test_calls_without_an_index_begin_with_a_name() -> None:
    chunks = [
        calling(0, '{"a":', id="a", name="x"),
        calling(0, "1}"),
        calling(1, "{}", id="b", name="y"),
    ]
    for one in chunks:
        del one["choices"][0]["delta"]["tool_calls"][0]["index"]
    told = put_together(events(stream(asking(), chunks)))
    assert [(b["id"], b["input"]) for b in told["content"]] == [("a", {"a": 1}), ("b", {})]


@pytest.mark.parametrize("chunks", [[], [chunk("stop"), used()], [chunk(content="")], [used()]])
def test_an_empty_answer_is_a_message_without_content(chunks: list[dict[str, Any]]) -> None:
    told = events(stream(asking(), chunks))
    assert [e["type"] for e in told] == ["message_start", "message_delta", "message_stop"]
    assert put_together(told)["content"] == []


def test_an_answer_without_a_choice_is_an_empty_message() -> None:
    message = translate(MESSAGES_PATH, asking()).whole({"choices": []})
    assert (message["content"], message["stop_reason"]) == ([], "end_turn")
    assert message["usage"]["input_tokens"] == 0


def test_tokens_of_thinking_are_counted_where_they_are_known() -> None:
    last = used()
    last["usage"]["completion_tokens_details"] = {"reasoning_tokens": 3}
    usage = both(asking(), [chunk("stop", content="x"), last])["usage"]
    assert usage == USAGE | {"output_tokens_details": {"thinking_tokens": 3}}


def test_a_cache_that_counts_more_than_the_prompt_makes_nothing_negative() -> None:
    usage = both(asking(), [chunk("stop", content="x"), used(prompt=3, cached=4)])["usage"]
    assert usage["input_tokens"] == 0


def test_pings_are_events_of_their_own_at_any_place() -> None:
    translation = translate(MESSAGES_PATH, asking(stream=True))
    assert events(translation.ping()) == [{"type": "ping"}]
    assert translation.stream_type.startswith(b"text/event-stream")


PIECES = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), max_size=4)
VALUES = st.dictionaries(st.text(max_size=3), st.text(max_size=5), max_size=3)
ANSWERS = st.tuples(PIECES, PIECES, st.lists(st.tuples(VALUES, st.booleans()), max_size=3))


def cut(text: str, data: st.DataObject) -> list[str]:
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=4)))
    return [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]


@given(ANSWERS, st.data())
def test_however_an_answer_is_cut_it_is_the_same_message(
    answer: tuple[list[str], list[str], list[tuple[dict[str, str], bool]]], data: st.DataObject
) -> None:
    thoughts, texts, calls = answer
    chunks = [chunk(reasoning_content=t) for t in thoughts] + [chunk(content=t) for t in texts]
    pieces = []
    for index, (value, is_broken) in enumerate(calls):
        text = json.dumps(value)[: -1 if is_broken else None]
        first, *rest = cut(text, data)
        chunks.append(calling(index, first, id=f"c{index}", name=f"n{index}"))
        pieces += [(index, piece) for piece in rest]
    # The pieces of one call stay in their order; those of several may be mixed.
    order = data.draw(st.permutations([index for index, _ in pieces]))
    waiting = {i: iter([p for j, p in pieces if j == i]) for i in range(len(calls))}
    chunks += [calling(index, next(waiting[index])) for index in order]
    chunks += [chunk("tool_calls" if calls else "stop"), used()]

    message = both(asking(), chunks)
    assert "".join(b["text"] for b in message["content"] if b["type"] == "text") == "".join(texts)
    inputs = [b["input"] for b in message["content"] if b["type"] == "tool_use"]
    shown = [{INVALID_JSON: json.dumps(v)[:-1]} if broken else v for v, broken in calls]
    assert inputs == shown


@given(
    st.lists(
        st.one_of(
            st.builds(lambda t: chunk(content=t), st.text(max_size=3)),
            st.builds(lambda t: chunk(reasoning_content=t), st.text(max_size=3)),
            st.builds(lambda i: calling(i, '{"a":1}', name="weather"), st.integers(0, 2)),
            st.just(used()),
        ),
        max_size=12,
    ),
    st.booleans(),
)
def test_in_any_order_blocks_follow_each_other_and_nothing_is_lost(
    chunks: list[dict[str, Any]], is_eager: bool
) -> None:
    seen = dict[int, int]()
    for one in chunks:
        for call in one["choices"][0]["delta"].get("tool_calls", ()) if one["choices"] else ():
            seen[call["index"]] = seen.get(call["index"], 0) + 1
    data = asking(tools=[WEATHER | {"eager_input_streaming": is_eager}])
    raw = stream(data, chunks)
    if is_eager and any(n > 1 for n in seen.values()):
        events(raw)  # its input is no JSON, as an eager client expects
        return
    message = put_together(events(raw))
    for kind, key in (("text", "content"), ("thinking", "reasoning_content")):
        told = "".join(b[kind] for b in message["content"] if b["type"] == kind)
        deltas = [c["delta"] for one in chunks for c in one["choices"]]
        assert told == "".join(delta.get(key, "") for delta in deltas)
    assert len([b for b in message["content"] if b["type"] == "tool_use"]) == len(seen)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (errors.InvalidRequest("x", param="tools"), "invalid_request_error"),
        (errors.ContextLengthExceeded("x"), "invalid_request_error"),
        (errors.Forbidden("x"), "permission_error"),
        (errors.ModelNotFound("x"), "not_found_error"),
        (errors.MethodNotAllowed("x"), "invalid_request_error"),
        (errors.Conflict("x"), "invalid_request_error"),
        (errors.PayloadTooLarge("x"), "request_too_large"),
        (errors.InternalError("x"), "api_error"),
        (errors.NotSupported("x"), "api_error"),
        (errors.EngineFailed("x", source="engine"), "api_error"),
        (errors.PoolBusy("x", details={"waiting": 7}), "overloaded_error"),
        (errors.LoadTimeout("x"), "timeout_error"),
        (errors.CannotFit("x"), "api_error"),
    ],
)
def test_an_error_in_the_shape_of_the_api_says_what_ours_says(
    error: errors.ModelPoolError, kind: str
) -> None:
    body = error_body(error)
    assert body["type"] == "error"
    assert body["error"] == error.body()["error"] | {"type": kind}
    assert errors.from_response(error.status, body).code == error.code


@pytest.mark.parametrize("path", [MESSAGES_PATH, COUNT_PATH])
def test_an_error_in_a_stream_is_its_last_event(path: str) -> None:
    data = {"messages": [{"role": "user", "content": "hi"}]}
    translation = translate(path, data if path == COUNT_PATH else asking(stream=True))
    error = errors.WorkerFailed("it died")
    (told,) = events(translation.failed(error))
    assert told == {"type": "error", "error": error_body(error)["error"]}


def test_what_a_prompt_counts() -> None:
    counting = translate(COUNT_PATH, {"messages": [{"role": "user", "content": "hi"}]})
    assert counting.whole(whole([used(prompt=31)])) == {"input_tokens": 31}
    with pytest.raises(errors.EngineFailed, match="does not say how many tokens"):
        counting.whole({"choices": []})
