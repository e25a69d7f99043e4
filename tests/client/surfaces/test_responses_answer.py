"""What chat completions answer is told as responses: whole, in a stream however it is cut, and when
it goes wrong; and what is kept of them is told again."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelpool_client import errors
from modelpool_client.surfaces.responses import (
    COUNT_PATH,
    deleted,
    input_items,
    replayed,
    translate,
)
from openai.types.responses import InputTokenCountResponse, ResponseError, ResponseItemList
from support.messages import calling, chunk, used, whole
from support.responses import (
    NOW,
    SHELL,
    WEATHER,
    answered,
    asking,
    both,
    events,
    made,
    put_together,
    stream,
)

USAGE = {
    "input_tokens": 9,
    "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 0},
    "output_tokens": 5,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 14,
}
FULL = [
    chunk(role="assistant", content=None),
    chunk(reasoning_content="h"),
    chunk(reasoning_content="m"),
    chunk(content="So: "),
    calling(0, "", id="a", name="weather"),
    calling(0, '{"place"'),
    calling(0, ': "Ribe"}'),
    calling(1, "", id="b", name="clock"),
    calling(2, '{"input": "ls\\n"}', id="c", name="shell"),
    chunk("tool_calls"),
    used(),
]


def text_of(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def test_a_response() -> None:
    chunks = [chunk(role="assistant", content=None), chunk(content="Hel"), chunk(content="lo")]
    data = asking(instructions="be kind", temperature=0.5, metadata={"a": "b"}, top_p=None)
    response = both(data, [*chunks, chunk("stop"), used()])
    assert response["output"] == [
        {
            "id": "msg_u_2",
            "type": "message",
            "status": "completed",
            "role": "assistant",
            "content": [text_of("Hello")],
        }
    ]
    assert response["usage"] == USAGE
    expected = {
        "id": "resp_u",
        "object": "response",
        "created_at": int(NOW),
        "completed_at": int(NOW),
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "instructions": "be kind",
        "metadata": {"a": "b"},
        "model": "m",
        "store": True,
        "temperature": 0.5,
        "top_p": None,
        "tools": [],
        "tool_choice": "auto",
        "parallel_tool_calls": True,
        "truncation": "disabled",
    }
    assert {key: response[key] for key in expected} == expected


def test_what_was_asked_is_said_again() -> None:
    wanted = {"type": "json_schema", "name": "x", "schema": {"type": "object"}}
    more = {
        "max_output_tokens": 7.0,
        "parallel_tool_calls": False,
        "reasoning": {"effort": "low", "summary": "auto"},
        "store": False,
        "text": {"format": wanted, "verbosity": "low"},
        "tool_choice": {"type": "function", "name": "weather"},
        "tools": [WEATHER, SHELL],
        "top_logprobs": 3,
        "user": "u",
    }
    response = both(asking(**more), [chunk("stop", content="{}"), used()])
    expected = more | {
        "max_output_tokens": 7,
        "reasoning": {"effort": "low", "summary": None},
        "tools": [WEATHER, SHELL | {"format": {"type": "text"}}],
    }
    assert {key: response[key] for key in expected} == expected


def test_who_names_no_model_learns_which_it_is() -> None:
    data = {"input": "hi"}
    assert both(data, [chunk("stop", content="x"), used()])["model"] == "file.gguf"


def test_reasoning_text_and_calls_in_their_order() -> None:
    response = both(asking(tools=[WEATHER, SHELL]), FULL)
    reasoning, message, *calls = response["output"]
    assert reasoning["summary"] == []
    assert reasoning["content"] == [{"type": "reasoning_text", "text": "hm"}]
    assert message["content"] == [text_of("So: ")]
    assert [c["type"] for c in calls] == ["function_call", "function_call", "custom_tool_call"]
    assert [c["call_id"] for c in calls] == ["a", "b", "c"]
    assert [c.get("arguments") for c in calls] == ['{"place": "Ribe"}', "{}", None]
    assert calls[2]["input"] == "ls\n"
    assert {item["status"] for item in response["output"]} == {"completed"}
    assert len({item["id"] for item in response["output"]}) == 5


def test_an_item_of_text_is_done_before_the_next_item_begins() -> None:
    told = events(stream(asking(tools=[WEATHER, SHELL]), FULL))
    items = [
        (e["type"].rpartition(".")[2], e["item"]["type"])
        for e in told
        if e["type"].startswith("response.output_item")
    ]
    assert items[:5] == [
        ("added", "reasoning"),
        ("done", "reasoning"),
        ("added", "message"),
        ("done", "message"),
        ("added", "function_call"),
    ]


def test_newer_servers_call_it_reasoning() -> None:
    told = put_together(events(stream(asking(), [chunk(reasoning="hm"), used()])))
    assert told["output"][0]["content"][0]["text"] == "hm"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ('{"input": "ls"}', "ls"),
        ('{"input": ""}', ""),
        ('{"input": "l', '{"input": "l'),
        ('{"command": "ls"}', '{"command": "ls"}'),
        ('{"input": 5}', '{"input": 5}'),
        ('{"input": "\\ud800"}', '{"input": "\\ud800"}'),
        ("ls -l", "ls -l"),
        ("", ""),
    ],
)
def test_the_input_of_a_custom_tool(arguments: str, expected: str) -> None:
    chunks = [calling(0, arguments, id="c", name="shell"), chunk("tool_calls"), used()]
    (call,) = both(asking(tools=[SHELL]), chunks)["output"]
    assert (call["type"], call["input"]) == ("custom_tool_call", expected)


@pytest.mark.parametrize(("said", "expected"), [("", "{}"), (" \n", " \n{}"), ("{", "{")])
def test_no_arguments_are_an_empty_object(said: str, expected: str) -> None:
    chunks = [calling(0, said, id="c", name="weather"), chunk("tool_calls"), used()]
    (call,) = both(asking(tools=[WEATHER]), chunks)["output"]
    assert call["arguments"] == expected


@pytest.mark.parametrize(
    ("finish", "status", "reason"),
    [
        ("stop", "completed", None),
        (None, "completed", None),
        ("tool_calls", "completed", None),
        ("of_a_later_version", "completed", None),
        ("length", "incomplete", "max_output_tokens"),
        ("content_filter", "incomplete", "content_filter"),
    ],
)
def test_why_it_stopped(finish: str | None, status: str, reason: str | None) -> None:
    thought = chunk(reasoning_content="hm")
    response = both(asking(), [thought, chunk(finish, content="x"), used()])
    assert response["status"] == status
    assert response["incomplete_details"] == (reason and {"reason": reason})
    assert (response["completed_at"] is None) is (status == "incomplete")
    assert [item["status"] for item in response["output"]] == ["completed", status]


@pytest.mark.parametrize("chunks", [[], [chunk("stop"), used()], [chunk(content="")], [used()]])
def test_an_empty_answer_is_an_empty_message(chunks: list[dict[str, Any]]) -> None:
    response = put_together(events(stream(asking(), chunks)))
    assert [item["content"] for item in response["output"]] == [[text_of("")]]


def test_an_answer_without_a_choice_is_an_empty_message() -> None:
    response = made(asking()).whole({"choices": []})
    assert response["output"][0]["content"] == [text_of("")]
    assert response["usage"] is None


def test_what_is_refused_is_a_part_of_its_own() -> None:
    chunks = [chunk(content="Hm. "), chunk(refusal="I "), chunk(refusal="won't"), chunk("stop")]
    response = put_together(events(stream(asking(), chunks)))
    parts = response["output"][0]["content"]
    assert parts == [text_of("Hm. "), {"type": "refusal", "refusal": "I won't"}]
    choice = {"message": {"content": "Hm. ", "refusal": "I won't"}, "finish_reason": "stop"}
    answer = {"model": "x", "choices": [choice]}
    assert made(asking()).whole(answer)["output"] == response["output"]


LOGPROB = {"token": "é", "logprob": -0.5, "bytes": None, "top_logprobs": []}
SHOWN = {"token": "é", "logprob": -0.5, "bytes": [195, 169], "top_logprobs": []}


@pytest.mark.parametrize(
    "more", [{"include": ["message.output_text.logprobs"]}, {"top_logprobs": 1}, {}]
)
def test_log_probabilities_where_they_are_asked_for(more: dict[str, Any]) -> None:
    top = {**LOGPROB, "top_logprobs": [{"token": "e", "logprob": -1.0, "bytes": [101]}]}
    first, last = chunk(content="é"), chunk("stop", content="é")
    first["choices"][0]["logprobs"] = {"content": [LOGPROB]}
    last["choices"][0]["logprobs"] = {"content": [top]}
    expected = [SHOWN, {**SHOWN, "top_logprobs": top["top_logprobs"]}] if more else []
    told = events(stream(asking(**more), [first, last, used()]))
    deltas = [e["logprobs"] for e in told if e["type"] == "response.output_text.delta"]
    assert [one for delta in deltas for one in delta] == expected
    (item,) = put_together(told)["output"]
    assert item["content"][0]["logprobs"] == expected
    answer = whole([first, last, used()])
    answer["choices"][0]["logprobs"] = {"content": [LOGPROB, top]}
    assert made(asking(**more)).whole(answer)["output"] == [item]


@pytest.mark.parametrize("ids", [("a", "a"), ("", ""), (None, None)])
def test_every_call_has_an_id_of_its_own(ids: tuple[str | None, str | None]) -> None:
    chunks = [calling(i, "{}", id=one, name="weather") for i, one in enumerate(ids)]
    response = both(asking(tools=[WEATHER]), [*chunks, chunk("tool_calls"), used()])
    found = [item["call_id"] for item in response["output"]]
    assert all(found)
    assert len(set(found)) == 2


def test_calls_without_an_index_begin_with_a_name() -> None:
    chunks = [
        calling(0, '{"a":', id="a", name="x"),
        calling(0, "1}"),
        calling(1, "{}", id="b", name="y"),
    ]
    for one in chunks:
        del one["choices"][0]["delta"]["tool_calls"][0]["index"]
    told = put_together(events(stream(asking(), chunks)))
    assert [(c["call_id"], c["arguments"]) for c in told["output"]] == [
        ("a", '{"a":1}'),
        ("b", "{}"),
    ]


def test_a_call_waits_for_its_name() -> None:
    chunks = [calling(0, '{"a"', id="a"), calling(0, ": 1}", name="x"), calling(1, "{}", id="b")]
    first, second = put_together(events(stream(asking(), chunks)))["output"]
    assert (first["name"], first["arguments"]) == ("x", '{"a": 1}')
    assert (second["name"], second["arguments"]) == ("", "{}")


def test_tokens_of_reasoning_are_counted_where_they_are_known() -> None:
    last = used()
    last["usage"]["completion_tokens_details"] = {"reasoning_tokens": 3}
    usage = both(asking(), [chunk("stop", content="x"), last])["usage"]
    assert usage["output_tokens_details"] == {"reasoning_tokens": 3}


PIECES = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), max_size=4)
VALUES = st.dictionaries(st.text(max_size=3), st.text(max_size=5), max_size=3)
CALLS = st.lists(
    st.tuples(VALUES, st.booleans(), st.sampled_from(["weather", "shell"])), max_size=3
)
FINISHES = st.sampled_from(["stop", "length", "content_filter"])


def cut(text: str, data: st.DataObject) -> list[str]:
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=4)))
    return [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]


@given(PIECES, PIECES, CALLS, FINISHES, st.data())
def test_however_an_answer_is_cut_it_is_the_same_response(
    thoughts: list[str],
    texts: list[str],
    calls: list[tuple[dict[str, str], bool, str]],
    finish: str,
    data: st.DataObject,
) -> None:
    chunks = [chunk(reasoning_content=t) for t in thoughts] + [chunk(content=t) for t in texts]
    pieces = []
    for index, (value, is_broken, name) in enumerate(calls):
        text = json.dumps(value)[: -1 if is_broken else None]
        first, *rest = cut(text, data)
        chunks.append(calling(index, first, id=f"c{index}", name=name))
        pieces += [(index, piece) for piece in rest]
    # The pieces of one call stay in their order; those of several may be mixed.
    order = data.draw(st.permutations([index for index, _ in pieces]))
    waiting = {i: iter([p for j, p in pieces if j == i]) for i in range(len(calls))}
    chunks += [calling(index, next(waiting[index])) for index in order]
    chunks += [chunk(finish), used()]

    response = both(asking(tools=[WEATHER, SHELL]), chunks)
    said = [p["text"] for item in response["output"] for p in item.get("content", ())]
    assert "".join(said) == "".join([*thoughts, *texts])
    kinds = [item["type"] for item in response["output"]]
    assert kinds.count("reasoning") == bool("".join(thoughts))
    assert kinds.count("custom_tool_call") == sum(name == "shell" for *_, name in calls)


@given(
    st.lists(
        st.one_of(
            st.builds(lambda t: chunk(content=t), st.text(max_size=3)),
            st.builds(lambda t: chunk(refusal=t), st.text(max_size=3)),
            st.builds(lambda t: chunk(reasoning_content=t), st.text(max_size=3)),
            st.builds(lambda i: calling(i, '{"a":1}', name="weather"), st.integers(0, 2)),
            st.just(used()),
            st.just(chunk("length")),
        ),
        max_size=12,
    ),
)
def test_in_any_order_items_follow_the_rules_and_nothing_is_lost(
    chunks: list[dict[str, Any]],
) -> None:
    response = put_together(events(stream(asking(tools=[WEATHER]), chunks)))
    deltas = [c["delta"] for one in chunks for c in one["choices"]]
    parts = [p for item in response["output"] for p in item.get("content", ())]
    for kind, name, key in (
        ("output_text", "text", "content"),
        ("refusal", "refusal", "refusal"),
        ("reasoning_text", "text", "reasoning_content"),
    ):
        found = "".join(p[name] for p in parts if p["type"] == kind)
        assert found == "".join(delta.get(key, "") for delta in deltas)
    arguments = "".join(item.get("arguments", "") for item in response["output"])
    assert arguments == '{"a":1}' * sum("tool_calls" in delta for delta in deltas)


@pytest.mark.parametrize("count", range(len(FULL)))
@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.WorkerFailed("it died"), "server_error"),
        (errors.ContextLengthExceeded("too long", param="input"), "invalid_prompt"),
    ],
)
def test_an_error_in_a_stream(error: errors.ModelPoolError, code: str, count: int) -> None:
    translation = made(asking(tools=[WEATHER, SHELL], stream=True))
    raw = translation.begin() + b"".join(map(translation.chunk, FULL[:count]))
    told = events(raw + translation.failed(error))
    event, last = told[-2:]
    assert (event["type"], event["code"]) == ("error", error.code)
    assert event["error"] == error.body()["error"]
    assert last["type"] == "response.failed"
    assert last["response"]["error"]["code"] == code
    ResponseError.model_validate(last["response"]["error"])
    assert {item["status"] for item in last["response"]["output"]} <= {"incomplete"}


def test_who_has_told_no_response_tells_the_error_alone() -> None:
    """As a gateway, to which its worker's stream is bytes."""
    (event,) = events(made(asking(stream=True)).failed(errors.WorkerFailed("it died")))
    assert (event["type"], event["message"]) == ("error", "it died")


@pytest.mark.parametrize("asked", ["timings_per_token", "return_progress"])
def test_telemetry_of_llama_cpp_where_it_is_asked_for(asked: str) -> None:
    progress, timings = {"total": 8, "processed": 4, "cache": 0}, {"predicted_per_second": 5.0}
    chunks = [
        chunk() | {"prompt_progress": progress},
        chunk(content="a") | {"timings": timings},
        chunk("stop"),
        used() | {"timings": timings},
    ]
    told = events(stream(asking(stream=True, **{asked: True}), chunks))
    assert [e["prompt_progress"] for e in told if "prompt_progress" in e] == [progress]
    deltas = [e for e in told if e["type"] == "response.output_text.delta"]
    assert [e["timings"] for e in (*deltas, told[-1])] == [timings] * 2
    plain = events(stream(asking(stream=True), chunks))
    assert not any({"timings", "prompt_progress"} & e.keys() for e in plain)


def test_pings_are_comments() -> None:
    translation = made(asking(stream=True))
    assert events(translation.ping()) == []
    assert translation.ping().startswith(b":")
    assert translation.ping().endswith(b"\n\n")
    assert translation.stream_type.startswith(b"text/event-stream")


def test_what_is_kept_of_a_stream_is_the_response_that_it_ends_with() -> None:
    translation = made(asking(stream=True, tools=[WEATHER, SHELL]))
    assert (translation.store, translation.response_id) == (True, "resp_u")
    raw = translation.begin() + b"".join(map(translation.chunk, FULL))
    kept = translation.kept()
    assert json.loads(json.dumps(kept)) == kept
    raw += translation.end()
    assert put_together(events(raw)) == kept["response"]
    assert kept["input"][0]["content"] == [{"type": "input_text", "text": "hi"}]
    assert kept["context"] == [*kept["input"], *kept["response"]["output"]]


def test_a_client_learns_that_its_response_could_not_be_kept() -> None:
    streamed = made(asking(stream=True))
    raw = streamed.begin() + streamed.chunk(chunk("stop", content="x"))
    streamed.kept()
    streamed.not_stored()
    assert put_together(events(raw + streamed.end()))["store"] is False
    once = made(asking())
    response = once.whole(whole([chunk("stop", content="x")]))
    assert response["store"] is True
    once.kept()
    once.not_stored()
    assert response["store"] is once.store is False


@pytest.mark.parametrize(("given_store", "store"), [(None, True), (True, True), (False, False)])
def test_whether_it_is_to_be_kept(given_store: bool | None, store: bool) -> None:
    assert made(asking(store=given_store)).store is store


def test_ids_are_drawn_anew_for_each_response() -> None:
    made_ids = {
        translate("/v1/responses", asking(), None, lambda: NOW).response_id for _ in range(8)
    }
    assert len(made_ids) == 8


@pytest.mark.parametrize("after", [None, 0, 1, 12, 1000])
def test_a_replay_tells_the_response_again(after: int | None) -> None:
    kept = answered(asking(tools=[WEATHER, SHELL]), *FULL)
    full = events(replayed(kept, None))
    assert put_together(full) == kept["response"]
    assert full[0]["response"]["status"] == "in_progress"
    rest = [event for event in full if event["sequence_number"] > (-1 if after is None else after)]
    assert events(replayed(kept, after), 0 if after is None else after + 1) == rest


@pytest.mark.parametrize("text", ["", "ls", '{"input": "ls"}'])
def test_a_replay_of_a_custom_tool(text: str) -> None:
    arguments = json.dumps({"input": text})
    kept = answered(asking(tools=[SHELL]), calling(0, arguments, id="c", name="shell"), used())
    (item,) = put_together(events(replayed(kept, None)))["output"]
    assert item["input"] == text


def test_a_replay_of_what_was_refused_or_cut_off() -> None:
    for finish in ("stop", "length"):
        translation = made(asking(stream=True))
        translation.begin()
        for one in (chunk(content="a"), chunk(refusal="b"), chunk(finish)):
            translation.chunk(one)
        kept = translation.kept()
        assert put_together(events(replayed(kept, None))) == kept["response"]


ITEMS = [
    {"role": "developer", "content": "be brief"},
    {"role": "user", "content": [{"type": "input_image", "image_url": "http://h/p.png"}]},
    {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}]},
    {"role": "assistant", "content": "ok"},
    {"type": "function_call", "call_id": "a", "name": "weather", "arguments": ""},
    {"type": "function_call_output", "call_id": "a", "output": "rain"},
    {"type": "custom_tool_call", "call_id": "b", "name": "shell", "input": "ls"},
    {"type": "custom_tool_call_output", "call_id": "b", "output": "x"},
]


def test_input_items_have_the_package_s_form() -> None:
    kept = answered(asking(ITEMS), chunk("stop", content="x"))
    listed = input_items(kept, {"order": ["asc"]})
    ResponseItemList.model_validate(listed)
    assert listed["data"] == kept["input"]
    assert [item["type"] for item in listed["data"]] == [i.get("type", "message") for i in ITEMS]
    assert len({item["id"] for item in listed["data"]}) == len(ITEMS)
    assert (listed["first_id"], listed["has_more"]) == (kept["input"][0]["id"], False)
    assert listed["last_id"] == kept["input"][-1]["id"]


@pytest.mark.parametrize("order", [None, "asc", "desc"])
@pytest.mark.parametrize("limit", [1, 3, 8, 100])
def test_pages_of_input_items(order: str | None, limit: int) -> None:
    kept = answered(asking(ITEMS), chunk("stop", content="x"))
    query, found = {"limit": [str(limit)]} | ({"order": [order]} if order else {}), []
    while True:
        page = input_items(kept, query)
        assert len(page["data"]) <= limit
        found += page["data"]
        if not page["has_more"]:
            break
        query = {**query, "after": [page["last_id"]]}
    assert found == (kept["input"] if order == "asc" else kept["input"][::-1])
    last = input_items(kept, {"after": [found[-1]["id"]], **({"order": [order]} if order else {})})
    assert (last["data"], last["has_more"]) == ([], False)


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({"limit": ["0"]}, "limit"),
        ({"limit": ["101"]}, "limit"),
        ({"limit": ["9" * 9999]}, "limit"),
        ({"limit": ["²"]}, "limit"),
        ({"limit": ["-1"]}, "limit"),
        ({"order": ["random"]}, "order"),
        ({"after": ["msg_nobody"]}, "after"),
        ({"include": ["everything"]}, "include"),
        ({"include[]": ["everything"]}, "include"),
    ],
)
def test_input_items_that_cannot_be_listed(query: dict[str, list[str]], param: str) -> None:
    kept = answered(asking(ITEMS), chunk("stop", content="x"))
    with pytest.raises(errors.InvalidRequest) as raised:
        input_items(kept, query)
    assert raised.value.param == param


def test_deleted() -> None:
    assert deleted("resp_1") == {"id": "resp_1", "object": "response", "deleted": True}


def test_what_a_prompt_counts() -> None:
    counting = translate(COUNT_PATH, {"input": "hi", "personality": "kind"}, None, lambda: NOW)
    body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
    assert (counting.told.body, counting.told.ignored) == (body, ("personality",))
    counted = counting.whole(whole([used(prompt=31)]))
    assert InputTokenCountResponse.model_validate(counted).input_tokens == 31
    with pytest.raises(errors.EngineFailed, match="does not say how many tokens"):
        counting.whole({"choices": []})
    (event,) = events(counting.failed(errors.WorkerFailed("it died")))
    assert event["code"] == "worker_failed"
