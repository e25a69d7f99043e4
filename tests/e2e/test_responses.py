"""OpenAI's Responses API by its own package: llama.cpp and an engine that chats only, the gateway
and a worker's port, loaded and not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from pydantic import BaseModel

from e2e.helpers import fake
from e2e.support import PoolProcess

pytestmark = pytest.mark.e2e
DEMO = Path(__file__).parents[2] / "configs" / "models" / "pool-demo.gguf"
WAYS = [(model, way) for model in ("demo", "echo") for way in ("gateway", "worker", "cold")]
LOOK: Any = {
    "type": "function",
    "name": "look",
    "parameters": {
        "type": "object",
        "properties": {"far": {"type": "boolean"}},
        "required": ["far"],
    },
    "strict": False,
}


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PoolProcess]:
    entries = [
        {
            "model_id": "demo",
            "engine": "llama.cpp",
            "source": str(DEMO),
            "options": {"threads": 1, "parallel": 2, "temperature": 0},
        },
        fake("echo"),
        fake("cold"),
        fake("other"),
        fake("slow", options={"tokens_per_second": 2, "tokens": 4}),
        fake("dies", options={"tokens": 4, "die_after_tokens": 2}),
        {**fake("embedder"), "capabilities": ["embeddings"]},
    ]
    with PoolProcess(
        tmp_path_factory.mktemp("responses"), entries, stream_ping_seconds=0.1
    ) as pool:
        yield pool
        pool.assert_no_bugs()


@pytest.fixture
def client(pool: PoolProcess, request: pytest.FixtureRequest) -> Iterator[openai.OpenAI]:
    model, way = getattr(request, "param", ("echo", "gateway"))
    url = pool.url
    if way == "worker":
        url = pool.http.get(f"/models/{model}/endpoint?wait=60").json()["endpoint"]
    elif way == "cold":
        pool.http.post(f"/models/{model}/unload", json={"force": True})
        pool.wait_for(model, "COLD")
    with openai.OpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0, timeout=60) as made:
        yield made


every_way = pytest.mark.parametrize(
    ("client", "model"), [(w, w[0]) for w in WAYS], indirect=["client"]
)


@every_way
def test_a_response_streamed_and_not(client: openai.OpenAI, model: str) -> None:
    whole = client.responses.create(model=model, input="hello there", instructions="be kind")
    assert (whole.status, whole.object, whole.model) == ("completed", "response", model)
    assert whole.output_text
    assert whole.usage is not None
    assert whole.usage.total_tokens == whole.usage.input_tokens + whole.usage.output_tokens
    with client.responses.stream(
        model=model, input="hello there", instructions="be kind"
    ) as stream:
        events = list(stream)
        final = stream.get_final_response()
    assert final.output_text == whole.output_text
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[0].type == "response.created"
    assert events[-1].type == "response.completed"
    said = "".join(e.delta for e in events if e.type == "response.output_text.delta")
    assert said == whole.output_text


@every_way
def test_a_conversation_goes_on(client: openai.OpenAI, pool: PoolProcess, model: str) -> None:
    first = client.responses.create(model=model, input="hello there")
    # Whoever kept it may be gone.
    pool.http.post(f"/models/{model}/unload", json={"force": True})
    pool.wait_for(model, "COLD")
    direct = openai.OpenAI(base_url=f"{pool.url}/v1", api_key="x", max_retries=0)
    with direct:
        second = direct.responses.create(
            model=model, input="and then?", previous_response_id=first.id
        )
        assert second.previous_response_id == first.id
        assert second.usage is not None
        assert first.usage is not None
        alone = direct.responses.create(model=model, input="and then?").usage
        assert alone is not None
        if model == "demo":  # the other one reads only what is said last
            assert second.usage.input_tokens > alone.input_tokens
        items = direct.responses.input_items.list(second.id, order="asc").data
        assert [item.type for item in items] == ["message"]
        assert direct.responses.retrieve(first.id).output_text == first.output_text
        direct.responses.delete(first.id)
        with pytest.raises(openai.NotFoundError, match="not kept"):
            direct.responses.retrieve(first.id)
        with pytest.raises(openai.BadRequestError, match="not kept"):
            direct.responses.create(model=model, input="x", previous_response_id=first.id)
        third = direct.responses.create(model=model, input="?", previous_response_id=second.id)
        assert third.status == "completed"


@pytest.mark.parametrize("client", [("echo", "gateway"), ("echo", "worker")], indirect=True)
def test_another_key_finds_nothing(client: openai.OpenAI, pool: PoolProcess) -> None:
    kept = client.responses.create(model="echo", input="hello there")
    other = client.with_options(api_key="y")
    for stranger in (other, client.with_options(base_url=f"{pool.url}/v1", api_key="y")):
        with pytest.raises(openai.NotFoundError):
            stranger.responses.retrieve(kept.id)
        with pytest.raises(openai.NotFoundError):
            stranger.responses.delete(kept.id)
        with pytest.raises(openai.BadRequestError, match="not kept"):
            stranger.responses.create(model="echo", input="x", previous_response_id=kept.id)
    url, key = f"{client.base_url}responses/{kept.id}", {"x-api-key": "x"}
    assert httpx.get(url, timeout=60).status_code == 404
    said = {"x-modelpool-owner": "x", **key}
    assert httpx.get(url, headers=said, timeout=60).status_code == 200
    more = client.responses.create(model="echo", input="?", previous_response_id=kept.id)
    assert more.previous_response_id == kept.id


def test_without_a_key_all_find_it(client: openai.OpenAI) -> None:
    url = f"{client.base_url}responses"
    body = {"model": "echo", "input": "hello there"}
    kept = httpx.post(url, json=body, timeout=60).json()["id"]
    assert client.responses.retrieve(kept).output_text == "hello there"
    assert httpx.get(f"{url}/{kept}", timeout=60).status_code == 200


@pytest.mark.parametrize("client", [("echo", "worker")], indirect=True)
def test_a_worker_tells_what_was_kept(client: openai.OpenAI) -> None:
    kept = client.responses.create(model="echo", input="hello there")
    assert client.responses.retrieve(kept.id).output_text == "hello there"
    with client.responses.retrieve(kept.id, stream=True) as stream:
        assert [event.type for event in stream][-1] == "response.completed"
    with pytest.raises(openai.BadRequestError, match="background"):
        client.responses.cancel(kept.id)
    client.responses.delete(kept.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(kept.id)


def test_what_is_not_to_be_kept_is_not(client: openai.OpenAI) -> None:
    made = client.responses.create(model="echo", input="hello there", store=False)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(made.id)


def test_a_stream_is_found_when_its_end_is_told(client: openai.OpenAI) -> None:
    with client.responses.create(model="echo", input="hello there", stream=True) as stream:
        for event in stream:
            if event.type == "response.completed":
                assert client.responses.retrieve(event.response.id).output_text == "hello there"
                return
    pytest.fail("it never completed")


@pytest.mark.parametrize("client", [("echo", "gateway"), ("echo", "worker")], indirect=True)
def test_what_was_answered_is_found_at_once(client: openai.OpenAI, pool: PoolProcess) -> None:
    """By manager, its own worker and another one: hardly any of these are on the disk by then."""
    url = pool.http.get("/models/other/endpoint?wait=60").json()["endpoint"]
    with openai.OpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0, timeout=60) as other:
        for ask in [client, client.with_options(base_url=f"{pool.url}/v1"), other] * 4:
            made = client.responses.create(model="echo", input="hello there")
            assert ask.responses.retrieve(made.id).output_text == "hello there"
            made = client.responses.create(model="echo", input="hello there")
            assert ask.responses.input_items.list(made.id).data
            made = client.responses.create(model="echo", input="hello there")
            model = "other" if ask is other else "echo"
            more = ask.responses.create(model=model, input="?", previous_response_id=made.id)
            assert more.previous_response_id == made.id
            made = client.responses.create(model="echo", input="hello there")
            ask.responses.delete(made.id)
            for seeks in (client, ask):
                with pytest.raises(openai.NotFoundError):
                    seeks.responses.retrieve(made.id)


def test_tools_are_called_and_answered(client: openai.OpenAI) -> None:
    asked = client.responses.create(
        model="demo", input="what is over there?", tools=[LOOK], tool_choice="required"
    )
    (call,) = [item for item in asked.output if item.type == "function_call"]
    assert call.name == "look"
    told = client.responses.create(
        model="demo",
        previous_response_id=asked.id,
        input=[{"type": "function_call_output", "call_id": call.call_id, "output": "a hill"}],
        tools=[LOOK],
        tool_choice="none",
    )
    assert told.output_text


def test_an_answer_of_a_shape(client: openai.OpenAI) -> None:
    class Where(BaseModel):
        far: bool

    parsed = client.responses.parse(model="demo", input="how far is it?", text_format=Where)
    assert isinstance(parsed.output_parsed, Where)


def test_tokens_are_counted(client: openai.OpenAI) -> None:
    counted = client.responses.input_tokens.count(model="demo", input="hello there")
    made = client.responses.create(model="demo", input="hello there")
    assert made.usage is not None
    assert counted.input_tokens == made.usage.input_tokens


def test_limits(client: openai.OpenAI) -> None:
    short = client.responses.create(model="demo", input="hello there", max_output_tokens=16)
    long = client.responses.create(model="demo", input="hello there")
    assert long.usage is not None
    if long.usage.output_tokens > 16:
        assert short.status == "incomplete"
        assert short.incomplete_details is not None
        assert short.incomplete_details.reason == "max_output_tokens"


def test_a_silent_stream_is_pinged(pool: PoolProcess) -> None:
    body = {"model": "slow", "input": "hello there", "stream": True}
    with pool.http.stream("POST", "/v1/responses", json=body) as answer:
        text = "".join(answer.iter_text())
    assert "\n: " in text or text.startswith(": ")
    assert "event: response.completed" in text


def test_an_engine_that_dies_is_told(client: openai.OpenAI, pool: PoolProcess) -> None:
    body = {"model": "dies", "input": "hello there", "stream": True}
    text = pool.http.post("/v1/responses", json=body).text
    assert "event: response.failed" in text
    assert "event: response.completed" not in text
    pool.wait_for("dies", "FAILED")
    pool.load("dies")  # without waiting for its back-off
    with (
        pytest.raises(openai.APIError, match="the engine died"),
        client.responses.stream(model="dies", input="hello there") as stream,
    ):
        list(stream)


def test_what_is_wrong_loads_nothing(client: openai.OpenAI, pool: PoolProcess) -> None:
    wrong: list[dict[str, Any]] = [
        {"input": 3},
        {"input": "x", "temperature": "hot"},
        {"input": "x", "background": True},
        {"input": "x", "tools": [{"type": "web_search"}]},
        {"input": "x", "previous_response_id": "resp_nobody"},
    ]
    for body in wrong:
        with pytest.raises(openai.BadRequestError):
            client.responses.create(model="cold", **body)
    with pytest.raises(openai.BadRequestError, match="it can do: embeddings"):
        client.responses.create(model="embedder", input="x")
    half = rb'{"model": "cold", "input": "x", "metadata": {"k": "\ud800"}}'
    assert pool.http.post("/v1/responses", content=half).status_code == 400
    assert pool.model("cold")["state"] == "COLD"
