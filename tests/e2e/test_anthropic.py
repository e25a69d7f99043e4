"""Anthropic's own package against the pool: llama.cpp and an engine that chats only, the gateway
and a worker's port, loaded and not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.lazy import Lazy

from e2e.helpers import fake
from e2e.support import PoolProcess

anthropic = Lazy("anthropic")

pytestmark = pytest.mark.e2e
DEMO = Path(__file__).parents[2] / "configs" / "models" / "pool-demo.gguf"
ASK: dict[str, Any] = {"max_tokens": 24, "messages": [{"role": "user", "content": "hello there"}]}
WAYS = [(model, way) for model in ("demo", "echo") for way in ("gateway", "worker", "cold")]


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
        fake("slow", options={"tokens_per_second": 2, "tokens": 4}),
        {**fake("embedder"), "capabilities": ["embeddings"]},
    ]
    folder = tmp_path_factory.mktemp("anthropic")
    with PoolProcess(folder, entries, stream_ping_seconds=0.1) as pool:
        yield pool
        pool.assert_no_bugs()


@pytest.fixture
def client(pool: PoolProcess, request: pytest.FixtureRequest) -> Iterator[anthropic.Anthropic]:
    model, way = getattr(request, "param", ("echo", "gateway"))
    url = pool.url
    if way == "worker":
        found = pool.http.get(f"/models/{model}/endpoint?wait=30").json()["endpoint"]
        url = found.rsplit("/v1", 1)[0]
    elif way == "cold":
        pool.http.post(f"/models/{model}/unload", json={"force": True})
        pool.wait_for(model, "COLD")
    with anthropic.Anthropic(base_url=url, api_key="none", max_retries=0, timeout=60) as made:
        yield made


@pytest.mark.parametrize(("client", "model"), [(w, w[0]) for w in WAYS], indirect=["client"])
def test_a_message_streamed_and_not(client: anthropic.Anthropic, model: str) -> None:
    whole = client.messages.create(model=model, system="be kind", **ASK)
    assert whole.stop_reason == "end_turn"
    assert (whole.type, whole.role, whole.model) == ("message", "assistant", model)
    assert whole.usage.input_tokens > 0
    assert whole.usage.output_tokens > 0
    assert isinstance(whole.content[0], anthropic.types.TextBlock)
    with client.messages.stream(model=model, system="be kind", **ASK) as stream:
        events = list(stream)
        kinds = [event.type for event in events]
        final = stream.get_final_message()
    assert [block.text for block in final.content if block.type == "text"] == [
        whole.content[0].text
    ]
    assert (final.stop_reason, final.usage.output_tokens) == (
        whole.stop_reason,
        whole.usage.output_tokens,
    )
    assert events[0].type == "message_start"
    if model == "demo":  # the other engine says how long a prompt was at the end only
        first = events[0].message.usage
        assert first.input_tokens + (first.cache_read_input_tokens or 0) > 0
    assert kinds[-1] == "message_stop"


@pytest.mark.parametrize(("client", "model"), [(w, w[0]) for w in WAYS], indirect=["client"])
def test_tokens_are_counted_as_they_are_charged(client: anthropic.Anthropic, model: str) -> None:
    counted = client.messages.count_tokens(model=model, messages=ASK["messages"])
    message = client.messages.create(model=model, **ASK)
    cached = message.usage.cache_read_input_tokens or 0
    assert counted.input_tokens == message.usage.input_tokens + cached


def test_limits_and_stops(client: anthropic.Anthropic) -> None:
    short = client.messages.create(model="demo", **{**ASK, "max_tokens": 2})
    assert (short.stop_reason, short.usage.output_tokens) == ("max_tokens", 2)
    whole = client.messages.create(model="demo", **ASK)
    assert isinstance(whole.content[0], anthropic.types.TextBlock)
    word = whole.content[0].text.split()[2]
    stopped = client.messages.create(model="demo", stop_sequences=[word], **ASK)
    assert isinstance(stopped.content[0], anthropic.types.TextBlock)
    assert word not in stopped.content[0].text


def test_a_silent_stream_is_pinged(client: anthropic.Anthropic) -> None:
    body = {"model": "slow", "stream": True, **ASK}
    with client.with_streaming_response.messages.create(**body) as answer:
        text = b"".join(answer.iter_bytes())
    assert b"event: ping" in text
    assert text.rstrip().endswith(b'{"type":"message_stop"}')


def test_errors_are_the_packages_own(client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError) as missing:
        client.messages.create(model="nobody", **ASK)
    assert missing.value.body["error"]["type"] == "not_found_error"  # type: ignore[index]
    with pytest.raises(anthropic.BadRequestError, match="max_tokens"):
        client.messages.create(model="echo", **{**ASK, "max_tokens": 0})
    with pytest.raises(anthropic.BadRequestError, match="it can do: embeddings"):
        client.messages.create(model="embedder", **ASK)
    with pytest.raises(anthropic.BadRequestError, match="messages"):
        client.messages.create(model="echo", max_tokens=3, messages="hello")  # type: ignore[arg-type]


def test_what_has_no_meaning_is_named(client: anthropic.Anthropic) -> None:
    raw = client.messages.with_raw_response.create(
        model="echo", service_tier="auto", extra_body={"n_ctx": 9}, **ASK
    )
    assert raw.headers["x-modelpool-ignored"] == "n_ctx, service_tier"


@pytest.mark.parametrize("client", [("echo", "gateway"), ("echo", "worker")], indirect=True)
def test_the_list_of_models(client: anthropic.Anthropic) -> None:
    found = {model.id: model for model in client.models.list()}
    one = client.models.retrieve("echo")
    assert one.created_at.year >= 2025
    assert found["echo"].display_name == one.display_name
    with pytest.raises(anthropic.NotFoundError):
        client.models.retrieve("nobody")
