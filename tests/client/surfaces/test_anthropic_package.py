"""The ``anthropic`` package, as it is, reads what is told, and what it sends is understood."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest
from modelpool_client import errors
from modelpool_client.surfaces.anthropic import COUNT_PATH, error_body, translate
from modelpool_client.surfaces.translation import Translation
from pydantic import BaseModel
from support.lazy import Lazy
from support.messages import WEATHER, calling, chunk, used, whole

anthropic = Lazy("anthropic")
Told = Callable[[Translation], Iterator[bytes]]
ASK: Any = {"model": "m", "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}]}


class Engine:
    """Answers requests as a worker would whose engine says these chunks."""

    def __init__(self, *chunks: dict[str, Any], told: Told | None = None) -> None:
        self.chunks = chunks
        self.told = told or self._told
        self.asked: list[dict[str, Any]] = []
        self.ignored: tuple[str, ...] = ()

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        try:
            translation = translate(request.url.path, json.loads(request.content))
        except errors.ModelPoolError as e:
            return httpx2.Response(e.status, headers=e.headers(), json=error_body(e))
        self.asked.append(translation.told.body)
        self.ignored = translation.told.ignored
        if not translation.told.stream:
            return httpx2.Response(200, json=translation.whole(whole(self.chunks)))
        content_type = {"content-type": translation.stream_type.decode()}
        return httpx2.Response(200, headers=content_type, content=b"".join(self.told(translation)))

    def _told(self, translation: Translation) -> Iterator[bytes]:
        """With a ping wherever there may be one."""
        yield translation.ping()
        yield translation.begin()
        for one in self.chunks:
            yield translation.chunk(one)
            yield translation.ping()
        yield translation.end()

    def client(self) -> anthropic.Anthropic:
        transport = httpx2.Client(transport=httpx2.MockTransport(self))
        return anthropic.Anthropic(
            api_key="k", base_url="http://pool", http_client=transport, max_retries=0
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
    chunk("tool_calls"),
    used(prompt=20, cached=12, completion=9),
)


def check_full(message: anthropic.types.Message) -> None:
    thinking, text, first, second = message.content
    assert isinstance(thinking, anthropic.types.ThinkingBlock)
    assert thinking.thinking == "Let me see."
    assert isinstance(text, anthropic.types.TextBlock)
    assert text.text == "I'll look — 🌦"
    assert isinstance(first, anthropic.types.ToolUseBlock)
    assert (first.id, first.name, first.input) == ("a", "weather", {"place": "Ærø"})
    assert isinstance(second, anthropic.types.ToolUseBlock)
    assert second.input == {}
    assert (message.id, message.model, message.role) == ("msg_7", "m", "assistant")
    assert (message.stop_reason, message.stop_sequence) == ("tool_use", None)
    usage = message.usage
    assert (usage.input_tokens, usage.cache_read_input_tokens, usage.output_tokens) == (8, 12, 9)


def test_a_whole_answer() -> None:
    with Engine(*FULL).client() as client:
        check_full(client.messages.create(**ASK, tools=[WEATHER]))


def test_a_stream_and_its_helpers() -> None:
    with (
        Engine(*FULL).client() as client,
        client.messages.stream(**ASK, tools=[WEATHER]) as stream,
    ):
        told = list(stream)
        check_full(stream.get_final_message())
    texts = [event.text for event in told if event.type == "text"]
    assert texts == ["I'll look", " — 🌦"]
    assert [e.thinking for e in told if e.type == "thinking"] == ["Let me", " see."]
    inputs = [event.snapshot for event in told if event.type == "input_json"]
    assert inputs == [{"place": "Ærø"}]
    stops = [event for event in told if event.type == "content_block_stop"]
    assert [event.index for event in stops] == [0, 1, 2, 3]
    assert stops[1].content_block.type == "text"


def test_the_text_alone() -> None:
    with (
        Engine(*FULL).client() as client,
        client.messages.stream(**ASK) as stream,
    ):
        assert "".join(stream.text_stream) == "I'll look — 🌦"


def test_raw_events() -> None:
    with Engine(*FULL).client() as client:
        told = list(client.messages.create(**ASK, stream=True))
    assert told[0].type == "message_start"
    assert told[-1].type == "message_stop"
    assert isinstance(told[-2], anthropic.types.RawMessageDeltaEvent)


async def stream_async(engine: Engine) -> anthropic.types.Message:
    transport = httpx2.AsyncClient(transport=httpx2.MockTransport(engine))
    async with (
        anthropic.AsyncAnthropic(
            api_key="k", base_url="http://pool", http_client=transport
        ) as client,
        client.messages.stream(**ASK) as stream,
    ):
        return await stream.get_final_message()


def test_the_asynchronous_client() -> None:
    import asyncio

    check_full(asyncio.run(stream_async(Engine(*FULL))))


@pytest.mark.parametrize("arguments", ['{"place": "Ri', "[1]", "no JSON", '{"a": NaN}', "\\ud800"])
@pytest.mark.parametrize("streams", [False, True])
def test_broken_arguments_reach_the_client(arguments: str, streams: bool) -> None:
    engine = Engine(calling(0, arguments, id="a", name="weather"), chunk("tool_calls"), used())
    with engine.client() as client:
        if streams:
            with client.messages.stream(**ASK, tools=[WEATHER]) as stream:
                message: anthropic.types.Message = stream.get_final_message()
        else:
            message = client.messages.create(**ASK, tools=[WEATHER])
    (block,) = message.content
    assert isinstance(block, anthropic.types.ToolUseBlock)
    assert block.input == {"INVALID_JSON": arguments}


def test_an_eager_tool() -> None:
    tool: Any = WEATHER | {"eager_input_streaming": True}
    with (
        Engine(*FULL).client() as client,
        client.messages.stream(**ASK, tools=[tool]) as stream,
    ):
        inputs = [event.partial_json for event in stream if event.type == "input_json"]
        check_full(stream.get_final_message())
    assert inputs == ['{"place": ', '"Ærø"}']


def test_a_stream_whose_first_chunk_never_comes() -> None:
    with Engine().client() as client, client.messages.stream(**ASK) as stream:
        message = stream.get_final_message()
    assert (message.content, message.stop_reason) == ([], "end_turn")


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
        Engine(told=failing_after(*chunks, error=error)).client() as client,
        pytest.raises(anthropic.APIStatusError) as raised,
        client.messages.stream(**ASK) as stream,
    ):
        stream.until_done()
    assert isinstance(raised.value.body, dict)
    told = raised.value.body["error"]
    assert (told["type"], told["code"]) == ("api_error", "worker_failed")
    assert told["message"] == "the worker died"


def test_what_is_refused_is_the_packages_own_error() -> None:
    tool: Any = {"type": "web_search_20250305", "name": "web_search"}
    with Engine().client() as client, pytest.raises(anthropic.BadRequestError) as raised:
        client.messages.create(**ASK, tools=[tool])
    assert isinstance(raised.value.body, dict)
    told = raised.value.body["error"]
    assert (told["type"], told["param"]) == ("invalid_request_error", "tools[0].type")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (errors.ModelNotFound("x"), "NotFoundError"),
        (errors.Forbidden("x"), "PermissionDeniedError"),
        (errors.PoolBusy("x", retry_after=3), "InternalServerError"),
    ],
)
def test_errors_are_the_packages_own(error: errors.ModelPoolError, expected: str) -> None:
    transport = httpx2.MockTransport(
        lambda _: httpx2.Response(error.status, headers=error.headers(), json=error_body(error))
    )
    with (
        anthropic.Anthropic(
            api_key="k",
            base_url="http://pool",
            http_client=httpx2.Client(transport=transport),
            max_retries=0,
        ) as client,
        pytest.raises(getattr(anthropic, expected)),
    ):
        client.messages.create(**ASK)


def test_an_answer_goes_back_as_history() -> None:
    """What the package makes of an answer, with results of its tools, is understood."""
    engine = Engine(*FULL)
    with engine.client() as client:
        answer = client.messages.create(**ASK, tools=[WEATHER])
        result = {"type": "tool_result", "tool_use_id": "a", "content": "rain"}
        missing = {"type": "tool_result", "tool_use_id": "b", "content": "?", "is_error": True}
        history: Any = [
            *ASK["messages"],
            {"role": "assistant", "content": answer.content},
            {"role": "user", "content": [result, missing, {"type": "text", "text": "So?"}]},
        ]
        client.messages.create(**ASK | {"messages": history}, tools=[WEATHER])
    assert engine.ignored == ("messages.content.signature",)
    _, assistant, *rest = engine.asked[1]["messages"]
    assert assistant["reasoning_content"] == "Let me see."
    assert [c["function"]["arguments"] for c in assistant["tool_calls"]] == [
        '{"place": "Ærø"}',
        "{}",
    ]
    assert [m["role"] for m in rest] == ["tool", "tool", "user"]


class Place(BaseModel):
    name: str


def test_structured_output() -> None:
    engine = Engine(chunk("stop", content='{"name": "Ribe"}'), used())
    with engine.client() as client:
        parsed = client.messages.parse(**ASK, output_format=Place)
    assert parsed.parsed_output == Place(name="Ribe")
    schema = engine.asked[0]["response_format"]["json_schema"]["schema"]
    assert schema["required"] == ["name"]


def test_counting() -> None:
    engine = Engine(chunk("length", content="x"), used(prompt=31))
    with engine.client() as client:
        counted = client.messages.count_tokens(
            model="m", messages=ASK["messages"], system="s", tools=[WEATHER]
        )
    assert counted.input_tokens == 31
    assert engine.asked[0]["max_tokens"] == 1
    assert translate(COUNT_PATH, {"messages": ASK["messages"]}).told.body != engine.asked[0]
