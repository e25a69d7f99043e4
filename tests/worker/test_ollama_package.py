"""Ollama's own Python package, unchanged, reads what the surface answers."""

from __future__ import annotations

import asyncio
import itertools
import json
import math
from collections.abc import Iterator
from typing import Any

import httpx
import ollama
import pytest
from modelpool_client.errors import InvalidRequest, ModelPoolError, WorkerFailed
from modelpool_client.surfaces.body import parse_object
from modelpool_client.surfaces.ollama import (
    BODIES,
    PULL_BEGINS,
    PULL_ENDS,
    Details,
    Listed,
    Running,
    asked_model,
    error_body,
    is_load_only,
    keep_alive_seconds,
    load_answer,
    ps_body,
    pull_progress,
    show_body,
    tags_body,
    translate,
)
from modelpool_client.surfaces.translation import Told

MODEL = Listed(
    "demo", 4096, 1_500_000_000_000_000_000, "", Details("gguf", "llama", 10**9, "Q8_0"), ("chat",)
)
PNG = b"\x89PNG\r\n\x1a\n and so on"
USAGE = {"prompt_tokens": 7, "completion_tokens": 3}


class Server:
    """Answers as a worker does, with an engine that says what it was asked.

    ``fails`` breaks off its streams after the first word.
    """

    def __init__(self, *, fails: bool = False) -> None:
        self.told: list[Told] = []
        self._fails = fails
        self._ticks = itertools.count(0, 1_000_000)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        try:
            return self._answer(request)
        except ModelPoolError as e:
            return httpx.Response(e.status, json=error_body(e))

    def _answer(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if path == "/api/tags":
            return httpx.Response(200, json=tags_body([MODEL]))
        if path == "/api/ps":
            return httpx.Response(200, json=ps_body([Running(MODEL, 8192, context_length=512)]))
        data = parse_object(request.content)
        if path == "/api/show":
            assert asked_model(path, data) == "demo"
            return httpx.Response(200, json=show_body(MODEL, parameters={"num_ctx": 512}))
        if path == "/api/pull":
            progress = pull_progress("sha256:0123456789abcdef", 10, 5)
            if data.get("stream"):
                return httpx.Response(200, content=PULL_BEGINS + progress + PULL_ENDS)
            return httpx.Response(200, content=PULL_ENDS)
        if path in BODIES:
            return self._generate(path, data)
        assert path in ("/api/copy", "/api/delete")
        return httpx.Response(200)

    def _generate(self, path: str, data: dict[str, Any]) -> httpx.Response:
        if is_load_only(path, data):
            reason = "unload" if keep_alive_seconds(data.get("keep_alive")) == 0 else "load"
            return httpx.Response(200, json=load_answer(path, data["model"], reason, 0))
        translation = translate(path, data, lambda: next(self._ticks))
        told = translation.told
        self.told.append(told)
        if not told.stream:
            return httpx.Response(200, json=translation.whole(_whole(told)))
        parts = [translation.ping(), translation.begin()]
        for chunk in _chunks(told):
            parts.append(translation.chunk(chunk))
            if self._fails and parts[-1]:
                parts.append(translation.failed(WorkerFailed("the worker died", source="worker")))
                break
        else:
            parts.append(translation.end())
        headers = {"content-type": translation.stream_type.decode()}
        return httpx.Response(200, content=b"".join(parts), headers=headers)


def _whole(told: Told) -> dict[str, Any]:
    if told.path == "/v1/embeddings":
        data = [{"index": i, "embedding": [3.0, 4.0]} for i in range(len(told.body["input"]))]
        return {"data": data, "usage": {"prompt_tokens": len(data)}}
    if told.path == "/v1/completions":
        return {"choices": [{"text": _echo(told), "finish_reason": "stop"}], "usage": USAGE}
    if tools := told.body.get("tools"):
        name = tools[0]["function"]["name"]
        call = {"id": "x", "type": "function", "function": {"name": name, "arguments": '{"a": 1}'}}
        message: dict[str, Any] = {"role": "assistant", "content": None, "tool_calls": [call]}
        return {"choices": [{"message": message, "finish_reason": "tool_calls"}], "usage": USAGE}
    message = {"role": "assistant", "content": _echo(told), "reasoning_content": "hm"}
    logprobs = {"content": [{"token": "h", "logprob": -0.5, "bytes": [104], "top_logprobs": []}]}
    choice = {"message": message, "finish_reason": "stop", "logprobs": logprobs}
    return {"choices": [choice], "usage": USAGE}


def _chunks(told: Told) -> Iterator[dict[str, Any]]:
    (choice,) = _whole(told)["choices"]
    is_text = told.path == "/v1/completions"
    message = {"content": choice["text"]} if is_text else choice["message"]
    for text in message["content"] or "":
        yield {"choices": [{"text": text} if is_text else {"delta": {"content": text}}]}
    for i, call in enumerate(message.get("tool_calls", ())):
        function = {"name": call["function"]["name"], "arguments": ""}
        yield {"choices": [{"delta": {"tool_calls": [{**call, "index": i, "function": function}]}}]}
        for text in call["function"]["arguments"]:
            piece = {"index": i, "function": {"arguments": text}}
            yield {"choices": [{"delta": {"tool_calls": [piece]}}]}
    yield {"choices": [{"delta": {}, "finish_reason": choice["finish_reason"]}]}
    yield {"choices": [], "usage": USAGE}


def _echo(told: Told) -> str:
    return json.dumps(told.body["prompt"] if "prompt" in told.body else told.body["messages"])


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def client(server: Server) -> Iterator[ollama.Client]:
    with ollama.Client("http://127.0.0.1", transport=httpx.MockTransport(server)) as client:
        yield client


def test_chat(client: ollama.Client) -> None:
    messages = [{"role": "user", "content": "hi"}]
    whole = client.chat("demo", messages, think=True, logprobs=True)
    assert json.loads(whole.message.content or "") == messages
    assert whole.message.thinking == "hm"
    assert (whole.model, whole.done, whole.done_reason) == ("demo", True, "stop")
    assert (whole.prompt_eval_count, whole.eval_count) == (7, 3)
    assert whole.logprobs is not None
    assert whole.logprobs[0].token == "h"
    *parts, last = client.chat("demo", messages, stream=True)
    assert "".join(part.message.content or "" for part in parts) == whole.message.content
    assert last.done_reason == "stop"
    assert (last.prompt_eval_count, last.eval_count) == (7, 3)
    assert last.total_duration


def test_options_and_images(client: ollama.Client, server: Server) -> None:
    options = ollama.Options(temperature=0.5, num_ctx=1, num_predict=3, stop=["x"])
    message = {"role": "user", "content": "what?", "images": [PNG]}
    client.chat("demo", [message], options=options, format="json", keep_alive="5m")
    (told,) = server.told
    assert (told.body["temperature"], told.body["max_tokens"], told.body["stop"]) == (0.5, 3, ["x"])
    assert told.ignored == ("options.num_ctx",)
    image = told.body["messages"][0]["content"][1]["image_url"]["url"]
    assert image.startswith("data:image/png;base64,")


def test_tools_there_and_back(client: ollama.Client, server: Server) -> None:
    def weather(a: int) -> str:
        """How it is.

        Args:
            a: where
        """
        return str(a)

    messages: list[Any] = [{"role": "user", "content": "hi"}]
    whole = client.chat("demo", messages, tools=[weather])
    *_, called, _ = client.chat("demo", messages, tools=[weather], stream=True)
    for found in (whole.message, called.message):
        (call,) = found.tool_calls or ()
        assert call.function.name == "weather"
        assert call.function.arguments == {"a": 1}
    messages += [whole.message, {"role": "tool", "content": "1", "tool_name": "weather"}]
    client.chat("demo", messages)
    _, said, result = server.told[-1].body["messages"]
    assert said["tool_calls"][0]["function"]["arguments"] == '{"a": 1}'
    assert result["tool_call_id"] == said["tool_calls"][0]["id"]


def test_generate(client: ollama.Client, server: Server) -> None:
    whole = client.generate("demo", "hi", system="be")
    assert [m["role"] for m in json.loads(whole.response or "")] == ["system", "user"]
    assert whole.thinking == "hm"
    *parts, last = client.generate("demo", "a(", suffix=")", stream=True)
    assert json.loads("".join(part.response or "" for part in parts)) == "a("
    assert last.done
    assert server.told[-1].body == {"prompt": "a(", "suffix": ")"}
    assert client.generate("demo", "hi", raw=True).response == '"hi"'


def test_load_and_unload(client: ollama.Client, server: Server) -> None:
    assert client.generate("demo").done_reason == "load"
    assert client.generate("demo", keep_alive=0).done_reason == "unload"
    assert client.chat("demo", []).done_reason == "load"
    (only,) = client.chat("demo", [], keep_alive=0, stream=True)
    assert only.done_reason == "unload"
    assert server.told == []


def test_embeddings(client: ollama.Client) -> None:
    found = client.embed("demo", ["a", "b"], dimensions=2)
    assert [math.hypot(*vector) for vector in found.embeddings] == pytest.approx([1, 1])
    assert found.prompt_eval_count == 2
    assert len(client.embed("demo", "a").embeddings) == 1
    assert client.embeddings("demo", "a").embedding == [3.0, 4.0]


def test_models(client: ollama.Client) -> None:
    (listed,) = client.list().models
    assert (listed.model, listed.size) == ("demo:latest", 4096)
    assert listed.modified_at is not None
    assert listed.modified_at.year == 2017
    assert listed.details is not None
    assert listed.details.parameter_size == "1B"
    shown = client.show("demo")
    assert shown.capabilities == ["completion"]
    assert shown.modelinfo is not None
    assert shown.modelinfo["general.architecture"] == "llama"
    (running,) = client.ps().models
    assert (running.name, running.context_length) == ("demo:latest", 512)
    assert running.expires_at is not None
    assert running.expires_at.year == 2262
    assert running.digest == listed.digest


def test_pull_copy_delete(client: ollama.Client) -> None:
    assert client.pull("demo").status == "success"
    statuses = [(p.status, p.completed) for p in client.pull("demo", stream=True)]
    expected = [("pulling manifest", None), ("pulling 0123456789ab", 5), ("success", None)]
    assert statuses == expected
    assert client.copy("demo", "other").status == "success"
    assert client.delete("demo").status == "success"


def test_errors(client: ollama.Client) -> None:
    with pytest.raises(ollama.ResponseError, match=r"options\.top_p must be") as caught:
        client.chat("demo", [{"role": "user", "content": "hi"}], options={"top_p": 3})
    assert caught.value.status_code == InvalidRequest.status
    server = httpx.MockTransport(Server(fails=True))
    with ollama.Client("http://127.0.0.1", transport=server) as failing:
        stream = failing.generate("demo", "hi", stream=True)
        with pytest.raises(ollama.ResponseError, match="the worker died"):
            list(stream)


def test_the_async_client(server: Server) -> None:
    async def ask() -> str:
        transport = httpx.MockTransport(server)
        async with ollama.AsyncClient("http://127.0.0.1", transport=transport) as client:
            stream = await client.generate("demo", "hi", raw=True, stream=True)
            return "".join([part.response or "" async for part in stream])

    assert asyncio.run(ask()) == '"hi"'
