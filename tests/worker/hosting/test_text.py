"""Chat and text completions of hosted models, of each of the three kinds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from e2e.helpers import until
from modelpool_worker.hosting.contract import Hosted, TextRequest, Token
from support.toy_models import END, Bytes, Continuously, OneByOne, SideBySide, leaving, noticed

CHAT = "/v1/chat/completions"
TEXT = "/v1/completions"
KINDS = [OneByOne, SideBySide, Continuously]


def said(text: str, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], **more}


def events(answer: httpx.Response) -> list[dict[str, Any]]:
    lines = [line for line in answer.text.split("\n\n") if line]
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


@pytest.mark.parametrize("kind", KINDS)
def test_answers_whole_and_streamed(kind: type[Bytes], serve: Any) -> None:
    client = serve(Hosted(text=kind(slots=4)))
    whole = client.post(CHAT, json=said("grüße")).json()
    choice = whole["choices"][0]
    assert choice["message"] == {"role": "assistant", "content": "GRüßE"}
    assert choice["finish_reason"] == "stop"
    usage = {"prompt_tokens": 7, "completion_tokens": 7, "total_tokens": 14}
    assert whole["usage"] == usage
    body = said("grüße", stream=True, stream_options={"include_usage": True})
    chunks = events(client.post(CHAT, json=body))
    deltas = [c["choices"][0]["delta"] for c in chunks[:-1]]
    assert "".join(d.get("content", "") for d in deltas) == "GRüßE"
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    assert chunks[-1]["usage"] == usage


@pytest.mark.parametrize("prompt", [[257], [[1], [1, 1 << 30]]])
def test_tokens_that_the_model_has_not_are_refused(prompt: Any, serve: Any) -> None:
    model = OneByOne()
    answer = serve(Hosted(text=model)).post(TEXT, json={"prompt": prompt})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "prompt"
    assert model.asked == []


@pytest.mark.parametrize("kind", KINDS)
def test_sixteen_at_once(kind: type[Bytes], serve: Any) -> None:
    client = serve(Hosted(text=kind(slots=4)), batch_policy="greedy")

    def ask(i: int) -> Any:
        return client.post(CHAT, json=said(f"number {i}", stream=i % 2 == 0))

    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(ask, range(16)))
    for i, answer in enumerate(answers):
        if i % 2:
            text = answer.json()["choices"][0]["message"]["content"]
        else:
            deltas = [c["choices"][0]["delta"] for c in events(answer)]
            text = "".join(d.get("content") or "" for d in deltas)
        assert text == f"NUMBER {i}"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("steps", [0, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_who_leaves_ends_the_work(kind: type[Bytes], serve: Any, steps: int, stream: bool) -> None:
    """Before the first token, in a stream, and while an answer in one piece is computed."""
    model = kind()
    model.gate.allow(steps)
    client = serve(Hosted(text=model))
    with leaving(client, CHAT, said("x" * 500, stream=stream)):
        until(lambda: model.asked and model.gate.passed == steps, "the steps")
        assert client.get("/health").json() == {"status": "ok"}
    until(lambda: model.asked[0].cancel.is_set, "the cancellation")
    model.gate.allow(float("inf"))
    until(lambda: model.ended, "the end")
    assert model.gate.passed <= steps + 2
    assert client.post(CHAT, json=said("next")).json()["choices"][0]["message"]["content"] == "NEXT"


def test_who_waits_and_leaves_is_never_computed(serve: Any) -> None:
    model = OneByOne()
    model.gate.allow(0)
    client = serve(Hosted(text=model))
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(client.post, CHAT, json=said("first"))
        until(lambda: model.asked, "the request")
        with leaving(client, CHAT, said("second")):
            noticed(client)
        noticed(client)
        model.gate.allow(float("inf"))
        assert first.result().status_code == 200
        assert client.post(CHAT, json=said("third")).status_code == 200
    assert [bytes(r.prompt) for r in model.asked] == [b"first", b"third"]


def test_a_stop_text_ends_it_for_the_engine_too(serve: Any) -> None:
    model = OneByOne()
    client = serve(Hosted(text=model))
    answer = client.post(CHAT, json=said("abcdef" + "x" * 900, stop=["CDE", "Q"])).json()
    assert answer["choices"][0]["message"]["content"] == "AB"
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["choices"][0]["stop_reason"] == "CDE"
    assert answer["usage"]["completion_tokens"] == 5
    until(lambda: model.ended, "the end")
    assert model.gate.passed < 900


class Silent(OneByOne):
    def answer(self, request: TextRequest) -> Iterator[Token]:
        yield self.token(request, END)


def test_an_empty_answer_is_one(serve: Any) -> None:
    client = serve(Hosted(text=Silent()))
    assert client.post(CHAT, json=said("abc")).json()["choices"][0]["message"]["content"] == ""
    chunks = events(client.post(CHAT, json=said("abc", stream=True)))
    first, last = [chunk["choices"][0] for chunk in chunks]
    assert first["delta"] == {"role": "assistant", "content": ""}
    assert last["finish_reason"] == "stop"


def test_a_stream_says_what_stopped_it(serve: Any) -> None:
    client = serve(Hosted(text=OneByOne()))
    body = said("abcdef", stop=["CDE"], stream=True)
    last = events(client.post(CHAT, json=body))[-1]["choices"][0]
    assert (last["finish_reason"], last["stop_reason"]) == ("stop", "CDE")


def test_room(serve: Any) -> None:
    client = serve(Hosted(text=OneByOne(context_length=10)))
    answer = client.post(CHAT, json=said("12345678")).json()
    assert answer["choices"][0] == {
        "index": 0,
        "message": {"role": "assistant", "content": "12"},
        "logprobs": None,
        "finish_reason": "length",
    }
    refused = client.post(CHAT, json=said("1234567890"))
    assert refused.status_code == 400
    error = refused.json()["error"]
    assert error["type"] == "exceed_context_size_error"
    assert (error["n_prompt_tokens"], error["n_ctx"]) == (10, 10)
    short = client.post(TEXT, json={"prompt": "abcd", "max_tokens": 2}).json()
    assert short["choices"][0]["text"] == "AB"
    assert short["choices"][0]["finish_reason"] == "length"


def test_several_choices_and_prompts(serve: Any) -> None:
    model = OneByOne(slots=2)
    client = serve(Hosted(text=model))
    body = {"prompt": ["a", [98, 98]], "n": 2, "seed": -1, "max_tokens": 5}
    answer = client.post(TEXT, json=body).json()
    assert [c["text"] for c in answer["choices"]] == ["A", "A", "BB", "BB"]
    assert [c["index"] for c in answer["choices"]] == [0, 1, 2, 3]
    assert answer["usage"] == {"prompt_tokens": 3, "completion_tokens": 6, "total_tokens": 9}
    assert {r.sampling.seed for r in model.asked} == {2**31 - 1, 0}


def test_log_probabilities(serve: Any) -> None:
    client = serve(Hosted(text=OneByOne()))
    body = said("é", logprobs=True, top_logprobs=2)
    told = client.post(CHAT, json=body).json()["choices"][0]["logprobs"]["content"]
    assert [t["bytes"] for t in told] == [[0xC3], [0xA9]]
    assert told[0]["logprob"] == -0.5
    assert told[0]["top_logprobs"][1] == {"token": "A", "logprob": -1.0, "bytes": [65]}


def test_a_schema_is_followed(serve: Any) -> None:
    client = serve(Hosted(text=OneByOne(reply=b"rubbish")))
    schema = {"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"]}
    schema["additionalProperties"] = False
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    body = said("?", response_format=wanted, max_tokens=7)
    assert client.post(CHAT, json=body).json()["choices"][0]["message"]["content"] == '{"a":1}'
    wanted["json_schema"]["schema"] = {"type": "nonsense"}
    assert client.post(CHAT, json=body).status_code == 400


def test_calls_of_tools(serve: Any) -> None:
    call = b'I look.<tool_call>{"name": "look", "arguments": {"at": "it"}}</tool_call>'
    client = serve(Hosted(text=OneByOne(reply=call)))
    tools = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]
    choice = client.post(CHAT, json=said("?", tools=tools)).json()["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] == "I look."
    function = choice["message"]["tool_calls"][0]["function"]
    assert function == {"name": "look", "arguments": '{"at": "it"}'}
    chunks = events(client.post(CHAT, json=said("?", tools=tools, stream=True)))
    deltas = [c["choices"][0]["delta"] for c in chunks]
    assert "".join(d.get("content") or "" for d in deltas) == "I look."
    assert [d["tool_calls"][0]["function"] for d in deltas if "tool_calls" in d] == [function]


def test_an_engine_that_fails_is_told(serve: Any, capsys: Any) -> None:
    class Broken(OneByOne):
        def answer(self, request: Any) -> Any:
            raise RuntimeError("no such luck")

    client = serve(Hosted(text=Broken()))
    for stream in (False, True):
        answer = client.post(CHAT, json=said("x", stream=stream))
        assert answer.status_code == 502
        assert "no such luck" in answer.json()["error"]["message"]
    assert client.get("/health").status_code == 200
