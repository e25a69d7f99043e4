"""OpenAI's own package against the pool for chats and texts: llama.cpp and an engine that chats
only, the gateway and a worker's port, loaded and not. Its other APIs have files of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from e2e.helpers import fake
from e2e.support import PoolProcess

pytestmark = pytest.mark.e2e
DEMO = Path(__file__).parents[2] / "configs" / "models" / "pool-demo.gguf"
ASK: Any = [{"role": "user", "content": "hello there"}]
WAYS = [(model, way) for model in ("demo", "echo") for way in ("gateway", "worker", "cold")]
LOOK: Any = {
    "type": "function",
    "function": {
        "name": "look",
        "parameters": {
            "type": "object",
            "properties": {"far": {"type": "boolean"}},
            "required": ["far"],
        },
    },
}


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PoolProcess]:
    options = {"threads": 1, "parallel": 2, "temperature": 0}
    entries = [
        {"model_id": "demo", "engine": "llama.cpp", "source": str(DEMO), "options": options},
        fake("echo", aliases=["gpt-4o"]),
    ]
    with PoolProcess(tmp_path_factory.mktemp("openai"), entries) as pool:
        yield pool
        pool.assert_no_bugs()


@pytest.fixture
def url(pool: PoolProcess, request: pytest.FixtureRequest) -> str:
    model, way = getattr(request, "param", ("echo", "gateway"))
    if way == "worker":
        found = pool.http.get(f"/models/{model}/endpoint?wait=60").json()["endpoint"]
        return f"{found}/v1"
    if way == "cold":
        pool.http.post(f"/models/{model}/unload", json={"force": True})
        pool.wait_for(model, "COLD")
    return f"{pool.url}/v1"


@pytest.fixture
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0, timeout=60) as made:
        yield made


every_way = pytest.mark.parametrize(("url", "model"), [(w, w[0]) for w in WAYS], indirect=["url"])


@every_way
def test_a_chat_streamed_and_not(client: openai.OpenAI, model: str) -> None:
    whole = client.chat.completions.create(model=model, messages=ASK, max_tokens=20)
    choice = whole.choices[0]
    assert (whole.object, whole.model, choice.message.role) == (
        "chat.completion",
        model,
        "assistant",
    )
    assert choice.message.content
    assert whole.usage is not None
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
    chunks = list(
        client.chat.completions.create(
            model=model,
            messages=ASK,
            max_tokens=20,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    said = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert said == choice.message.content
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert {c.id for c in chunks} == {chunks[0].id}


@every_way
def test_a_text_streamed_and_not(client: openai.OpenAI, model: str) -> None:
    whole = client.completions.create(model=model, prompt=["hello there", "and"], max_tokens=3)
    assert [choice.index for choice in whole.choices] == [0, 1]
    chunks = list(
        client.completions.create(
            model=model, prompt=["hello there", "and"], max_tokens=3, stream=True
        )
    )
    for choice in whole.choices:
        said = [c for chunk in chunks for c in chunk.choices if c.index == choice.index]
        assert "".join(c.text for c in said) == choice.text


@every_way
def test_without_waiting(url: str, model: str) -> None:
    async def ask() -> tuple[str | None, str]:
        async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
            whole = client.chat.completions.create(model=model, messages=ASK, max_tokens=20)
            async with client.chat.completions.stream(
                model=model, messages=ASK, max_tokens=20
            ) as stream:
                final = await stream.get_final_completion()
            content = (await whole).choices[0].message.content
            return content, final.choices[0].message.content or ""

    whole, streamed = asyncio.run(ask())
    assert whole == streamed


@pytest.mark.parametrize("url", [("demo", "gateway"), ("demo", "worker")], indirect=True)
def test_tools_shapes_and_probabilities(client: openai.OpenAI) -> None:
    class Where(BaseModel):
        far: bool

    for choice in ("required", {"type": "function", "function": {"name": "look"}}):
        called = client.chat.completions.create(
            model="demo",
            messages=ASK,
            tools=[LOOK],
            tool_choice=choice,  # type: ignore[arg-type]
        ).choices[0]
        assert called.finish_reason == "tool_calls"
        assert called.message.tool_calls is not None
        assert called.message.tool_calls[0].function.name == "look"  # type: ignore[union-attr]
    parsed = client.chat.completions.parse(model="demo", messages=ASK, response_format=Where)
    assert isinstance(parsed.choices[0].message.parsed, Where)
    told = client.chat.completions.create(
        model="demo", messages=ASK, logprobs=True, top_logprobs=2, max_tokens=2
    ).choices[0]
    assert told.logprobs is not None
    assert [len(token.top_logprobs) for token in told.logprobs.content or ()] == [2, 2]
    with pytest.raises(openai.BadRequestError, match="maximum context length") as caught:
        client.chat.completions.create(
            model="demo", messages=[{"role": "user", "content": "long " * 9000}]
        )
    assert caught.value.code == "context_length_exceeded"


@pytest.mark.parametrize("url", [("echo", "gateway"), ("echo", "worker")], indirect=True)
def test_models_and_errors(client: openai.OpenAI) -> None:
    assert {"echo", "gpt-4o"} <= {model.id for model in client.models.list()}
    assert client.models.retrieve("gpt-4o").owned_by == "modelpool"
    aliased = client.chat.completions.create(model="gpt-4o", messages=ASK)
    assert aliased.choices[0].message.content == "hello there"
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="nobody", messages=ASK)
    with pytest.raises(openai.BadRequestError, match="temperature"):
        client.chat.completions.create(model="echo", messages=ASK, temperature=9)
    with pytest.raises(openai.BadRequestError, match="response_format"):
        client.chat.completions.create(
            model="echo", messages=ASK, response_format={"type": "json_object"}
        )
