"""The ``openai`` package, as it is, reads what is told, and what it sends is understood."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs

import httpx2
import openai
import pytest
from modelpool_client import errors
from modelpool_client.surfaces import responses
from modelpool_client.surfaces.translation import Translation
from openai.lib.streaming.responses import ResponseTextDoneEvent
from openai.types.responses import (
    ParsedResponse,
    Response,
    ResponseCompletedEvent,
    ResponseCustomToolCall,
    ResponseFunctionToolCall,
    ResponseOutputMessage,
    ResponseReasoningItem,
)
from pydantic import BaseModel
from support.messages import calling, chunk, used, whole
from support.responses import NOW, SHELL, WEATHER

Told = Callable[[Translation], Iterator[bytes]]
PATH = responses.RESPONSES_PATH
ASK: Any = {"model": "m", "input": "hi"}
TOOLS: Any = [WEATHER, SHELL]


class Server:
    """Answers requests as a pool would whose engine says these chunks, and keeps the responses."""

    def __init__(self, *chunks: dict[str, Any], told: Told | None = None) -> None:
        self.chunks = chunks
        self.told = told or self._told
        self.asked: list[dict[str, Any]] = []
        self.kept: dict[str, responses.Kept] = {}
        self._count = itertools.count()

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        try:
            answer = self._post if request.method == "POST" else self._look
            return answer(request)
        except errors.ModelPoolError as e:
            return httpx2.Response(e.status, headers=e.headers(), json=e.body())

    def _post(self, request: httpx2.Request) -> httpx2.Response:
        path, data = request.url.path, json.loads(request.content)
        earlier = self.kept.get(data.get("previous_response_id"))
        unique = lambda: f"u{next(self._count)}"  # noqa: E731
        translation = responses.translate(path, data, earlier, lambda: NOW, unique)
        self.asked.append(translation.told.body)
        if translation.told.stream:
            kind = {"content-type": translation.stream_type.decode()}
            return httpx2.Response(200, headers=kind, content=b"".join(self.told(translation)))
        body = translation.whole(whole(self.chunks))
        self._keep(translation)
        return httpx2.Response(200, json=body)

    def _look(self, request: httpx2.Request) -> httpx2.Response:
        name, _, rest = request.url.path.removeprefix(f"{PATH}/").partition("/")
        if name not in self.kept:
            raise errors.NotFound(f"no response {name!r} is kept here")
        query = parse_qs(request.url.query.decode())
        if request.method == "DELETE":
            del self.kept[name]
            return httpx2.Response(200, json=responses.deleted(name))
        if rest:
            return httpx2.Response(200, json=responses.input_items(self.kept[name], query))
        if query.get("stream") == ["true"]:
            after = int(query["starting_after"][0]) if "starting_after" in query else None
            raw = responses.replayed(self.kept[name], after)
            return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=raw)
        return httpx2.Response(200, json=self.kept[name]["response"])

    def _told(self, translation: Translation) -> Iterator[bytes]:
        """With a ping wherever there may be one."""
        yield translation.ping()
        yield translation.begin()
        for one in self.chunks:
            yield translation.chunk(one)
            yield translation.ping()
        self._keep(translation)
        yield translation.end()

    def _keep(self, translation: Translation) -> None:
        if isinstance(translation, responses.ResponseTranslation) and translation.store:
            self.kept[translation.response_id] = translation.kept()

    def client(self) -> openai.OpenAI:
        transport = httpx2.Client(transport=httpx2.MockTransport(self))
        return openai.OpenAI(
            api_key="k", base_url="http://pool/v1", http_client=transport, max_retries=0
        )


FULL = (
    chunk(role="assistant", content=None),
    chunk(reasoning_content="Let me"),
    chunk(reasoning_content=" see."),
    chunk(content="I'll look"),
    chunk(content=" — 🌦"),
    calling(0, "", id="a", name="weather"),
    calling(0, '{"place": '),
    calling(0, '"Ærø"}'),
    calling(1, "", id="b", name="weather"),
    calling(2, '{"input": "ls"}', id="c", name="shell"),
    chunk("tool_calls"),
    used(prompt=20, cached=12, completion=9),
)


def check_full(response: Response) -> None:
    reasoning, message, first, second, custom = response.output
    assert isinstance(reasoning, ResponseReasoningItem)
    assert reasoning.content is not None
    assert [part.text for part in reasoning.content] == ["Let me see."]
    assert isinstance(message, ResponseOutputMessage)
    assert isinstance(first, ResponseFunctionToolCall)
    assert (first.call_id, first.name, first.arguments) == ("a", "weather", '{"place": "Ærø"}')
    assert isinstance(second, ResponseFunctionToolCall)
    assert second.arguments == "{}"
    assert isinstance(custom, ResponseCustomToolCall)
    assert (custom.call_id, custom.name, custom.input) == ("c", "shell", "ls")
    assert response.output_text == "I'll look — 🌦"
    assert (response.model, response.status) == ("m", "completed")
    assert response.usage is not None
    assert response.usage.input_tokens_details.cached_tokens == 12
    assert (response.usage.input_tokens, response.usage.total_tokens) == (20, 29)


def test_a_whole_response() -> None:
    with Server(*FULL).client() as client:
        check_full(client.responses.create(**ASK, tools=TOOLS))


def test_a_stream_and_its_helper() -> None:
    with (
        Server(*FULL).client() as client,
        client.responses.stream(**ASK, tools=TOOLS) as stream,
    ):
        told = list(stream)
        final = stream.get_final_response()
    check_full(final)
    texts = [e for e in told if e.type == "response.output_text.delta"]
    assert [(e.delta, e.snapshot) for e in texts] == [
        ("I'll look", "I'll look"),
        (" — 🌦", "I'll look — 🌦"),
    ]
    arguments = [e for e in told if e.type == "response.function_call_arguments.delta"]
    assert [e.snapshot for e in arguments if e.output_index == 2] == [
        '{"place": ',
        '{"place": "Ærø"}',
    ]
    assert [e.sequence_number for e in told] == list(range(len(told)))
    calls = [item for item in final.output if item.type == "function_call"]
    assert [call.parsed_arguments for call in calls] == [{"place": "Ærø"}, {}]


def test_raw_events() -> None:
    with Server(*FULL).client() as client:
        told = list(client.responses.create(**ASK, tools=TOOLS, stream=True))
    assert [e.type for e in told[:2]] == ["response.created", "response.in_progress"]
    assert isinstance(told[-1], ResponseCompletedEvent)
    check_full(told[-1].response)


async def stream_async(server: Server) -> Response:
    transport = httpx2.AsyncClient(transport=httpx2.MockTransport(server))
    async with (
        openai.AsyncOpenAI(api_key="k", base_url="http://pool/v1", http_client=transport) as client,
        client.responses.stream(**ASK, tools=TOOLS) as stream,
    ):
        return await stream.get_final_response()


def test_the_asynchronous_client() -> None:
    check_full(asyncio.run(stream_async(Server(*FULL))))


class Place(BaseModel):
    name: str


def test_structured_output() -> None:
    server = Server(chunk(content='{"name":'), chunk("stop", content=' "Ribe"}'), used())
    with server.client() as client:
        parsed = client.responses.parse(**ASK, text_format=Place)
        with client.responses.stream(**ASK, text_format=Place) as stream:
            told = list(stream)
            final: ParsedResponse[Place] = stream.get_final_response()
    assert parsed.output_parsed == final.output_parsed == Place(name="Ribe")
    (done,) = [e for e in told if isinstance(e, ResponseTextDoneEvent)]
    assert done.parsed == Place(name="Ribe")
    for asked in server.asked:
        assert asked["response_format"]["json_schema"]["schema"]["required"] == ["name"]
        assert asked["response_format"]["json_schema"]["strict"] is True


def test_a_tool_of_the_package() -> None:
    class Weather(BaseModel):
        place: str

    tool = openai.pydantic_function_tool(Weather, name="weather")["function"]
    server = Server(calling(0, '{"place": "Ribe"}', id="a", name="weather"), chunk("tool_calls"))
    flat: Any = {"type": "function", **tool}
    with server.client() as client:
        parsed = client.responses.parse(**ASK, tools=[flat])
    (call,) = parsed.output
    assert call.type == "function_call"
    assert call.parsed_arguments == {"place": "Ribe"}


@pytest.mark.parametrize(("finish", "reason"), [("length", "max_output_tokens")])
def test_what_was_cut_off(finish: str, reason: str) -> None:
    server = Server(chunk(content="x"), chunk(finish), used())
    with server.client() as client:
        response = client.responses.create(**ASK)
        (*_, last) = client.responses.create(**ASK, stream=True)
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == reason
    assert last.type == "response.incomplete"
    assert last.response.output_text == "x"


def failing_after(*chunks: dict[str, Any], error: errors.ModelPoolError) -> Told:
    def told(translation: Translation) -> Iterator[bytes]:
        yield translation.ping()
        if chunks:
            yield translation.begin()
            yield from map(translation.chunk, chunks)
        yield translation.failed(error)

    return told


@pytest.mark.parametrize("chunks", [(), FULL[:2], FULL[:8]])
def test_an_error_in_a_stream_is_raised(chunks: tuple[dict[str, Any], ...]) -> None:
    error = errors.WorkerFailed("the worker died", source="worker")
    with (
        Server(told=failing_after(*chunks, error=error)).client() as client,
        pytest.raises(openai.APIError, match="the worker died") as raised,
        client.responses.stream(**ASK) as stream,
    ):
        stream.until_done()
    assert isinstance(raised.value.body, dict)
    assert raised.value.body["code"] == "worker_failed"
    assert raised.value.body["source"] == "worker"


def test_what_is_refused_is_the_packages_own_error() -> None:
    with Server().client() as client, pytest.raises(openai.BadRequestError) as raised:
        client.responses.create(**ASK, tools=[{"type": "web_search"}])
    assert raised.value.param == "tools[0].type"
    assert raised.value.type == "invalid_request_error"


def test_a_conversation_by_the_id_of_the_response_before() -> None:
    server = Server(*FULL)
    with server.client() as client:
        first = client.responses.create(**ASK, tools=TOOLS, instructions="be kind")
        results: Any = [
            {"type": "function_call_output", "call_id": "a", "output": "rain"},
            {"type": "function_call_output", "call_id": "b", "output": "?"},
            {"type": "custom_tool_call_output", "call_id": "c", "output": "file"},
        ]
        with client.responses.stream(
            model="m", input=results, previous_response_id=first.id, tools=TOOLS
        ) as stream:
            second = stream.get_final_response()
        client.responses.create(model="m", input="So?", previous_response_id=second.id)
    assert second.previous_response_id == first.id
    roles = [[m["role"] for m in asked["messages"]] for asked in server.asked]
    assert roles[0] == ["system", "user"]
    assert roles[1] == ["user", "assistant", "tool", "tool", "tool"]
    assert roles[2] == [*roles[1], "assistant", "user"]
    assistant = server.asked[1]["messages"][1]
    assert assistant["reasoning_content"] == "Let me see."
    arguments = [call["function"]["arguments"] for call in assistant["tool_calls"]]
    assert arguments == ['{"place": "Ærø"}', "{}", '{"input": "ls"}']


def test_an_answer_goes_back_as_history() -> None:
    """What the package makes of a response, with results of its tools, is understood; so the same
    is told as by the id of the response."""
    server = Server(*FULL)
    results: Any = [
        {"type": "function_call_output", "call_id": "a", "output": "rain"},
        {"type": "function_call_output", "call_id": "b", "output": "?"},
        {"type": "custom_tool_call_output", "call_id": "c", "output": "file"},
    ]
    with server.client() as client:
        first = client.responses.create(**ASK, tools=TOOLS)
        history: Any = [{"role": "user", "content": "hi"}, *first.output, *results]
        client.responses.create(model="m", input=history, tools=TOOLS)
        given: Any = {"input": results, "previous_response_id": first.id}
        client.responses.create(model="m", **given, tools=TOOLS)
    assert server.asked[1] == server.asked[2]


def test_kept_responses() -> None:
    server = Server(*FULL)
    items: Any = [{"role": "user", "content": f"part {i}"} for i in range(45)]
    with server.client() as client:
        made = client.responses.create(model="m", input=items, metadata={"a": "b"})
        found = client.responses.retrieve(made.id)
        assert found == made
        listed = list(client.responses.input_items.list(made.id, order="asc", limit=20))
        texts = [item.content[0].text for item in listed]  # type: ignore[union-attr]
        assert texts == [f"part {i}" for i in range(45)]
        with client.responses.stream(response_id=made.id) as stream:
            again = stream.get_final_response()
        assert (again.output_text, again.usage) == (made.output_text, made.usage)
        assert [item.id for item in again.output] == [item.id for item in made.output]
        with client.responses.stream(response_id=made.id, starting_after=4) as stream:
            numbers = [event.sequence_number for event in stream]
        assert numbers[0] == 5
        client.responses.delete(made.id)
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve(made.id)
        with pytest.raises(openai.BadRequestError) as raised:
            client.responses.create(**ASK, previous_response_id=made.id)
    assert raised.value.code == "previous_response_not_found"


def test_what_is_not_to_be_kept_is_not() -> None:
    server = Server(chunk("stop", content="x"), used())
    with server.client() as client:
        client.responses.create(**ASK, store=False)
    assert server.kept == {}


def test_counting() -> None:
    server = Server(chunk("length", content="x"), used(prompt=31))
    with server.client() as client:
        counted = client.responses.input_tokens.count(**ASK, tools=[WEATHER], instructions="s")
    assert counted.input_tokens == 31
    assert server.asked[0]["max_tokens"] == 1
