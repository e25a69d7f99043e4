"""What a newcomer gets: the shipped configuration, its model, and the tools that they know."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import openai
import pytest

from e2e.helpers import assert_error, chat, content, streamed
from e2e.support import PoolProcess

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "configs" / "pool.yaml"
QUESTIONS = ROOT / "configs" / "models" / "pool-demo.questions.json"
MODEL = "pool-demo"
QUESTION = "Which port does the pool manager listen on?"
WAYS = ("gateway", "port")


class ShippedPool(PoolProcess):
    """``modelpool up`` with the shipped file, on other ports and with its state elsewhere."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.config = CONFIG

    @property
    def environment(self) -> dict[str, str]:
        return super().environment | {
            "MODELPOOL_PORT": str(self.port),
            "MODELPOOL_PORT_RANGE__START": str(self.ports[0]),
            "MODELPOOL_PORT_RANGE__END": str(self.ports[-1]),
            "MODELPOOL_STATE_DIR": str(self.state),
        }


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PoolProcess]:
    pool = ShippedPool(tmp_path_factory.mktemp("demo"))
    try:
        up = pool.run("up")
        assert up.returncode == 0, up.stdout + up.stderr
        assert f"{MODEL}  HOT" in up.stdout
        assert "make down" in up.stdout
        yield pool
    finally:
        pool.close()


@pytest.fixture
def urls(demo: PoolProcess) -> dict[str, str]:
    return {"gateway": demo.url, "port": f"http://127.0.0.1:{demo.ports[0]}"}


def test_the_list_of_models(demo: PoolProcess) -> None:
    (model,) = demo.http.get("/models").json()["models"]
    known = {
        "model_id": MODEL,
        "display_name": "Pool demo",
        "model_type": "general",
        "port": demo.ports[0],
        "state": "HOT",
        "ttl_remaining_minutes": 0,
        "warmup": True,
        "endpoint": f"http://127.0.0.1:{demo.ports[0]}",
        "priority": "normal",
        "tags": ["demo", "small"],
    }
    assert {key: model[key] for key in known} == known
    assert model["memory_estimate_mb"] > 0
    assert model["memory_measured_mb"] > 0
    health = demo.http.get("/health").json()
    assert (health["status"], health["active_models"], health["total_models"]) == ("healthy", 1, 1)
    assert health["available_ports"] == len(demo.ports) - 1


def test_the_workers_own_health(demo: PoolProcess, urls: dict[str, str]) -> None:
    health = httpx.get(f"{urls['port']}/health", trust_env=False, verify=False, timeout=60).json()
    assert (health["model"], health["status"], health["port"]) == (MODEL, "ready", demo.ports[0])
    assert health["uptime_seconds"] > 0
    assert "requests_served" in health


@pytest.mark.parametrize("way", WAYS)
def test_the_question(urls: dict[str, str], way: str) -> None:
    answer = httpx.post(
        f"{urls[way]}/v1/chat/completions",
        json=chat(MODEL, QUESTION),
        timeout=60,
        trust_env=False,
        verify=False,
    )
    assert "8050" in content(answer)
    assert answer.json()["usage"]["completion_tokens"] > 0
    stream = streamed(urls[way], chat(MODEL, QUESTION))
    assert stream.is_done
    assert stream.text == content(answer)


@pytest.mark.parametrize("way", WAYS)
def test_openais_own_client(urls: dict[str, str], way: str) -> None:
    messages: Any = [{"role": "user", "content": QUESTION}]
    with openai.OpenAI(base_url=f"{urls[way]}/v1", api_key="none") as client:
        assert MODEL in [m.id for m in client.models.list()]
        whole = client.chat.completions.create(model=MODEL, messages=messages)
        assert "8050" in (whole.choices[0].message.content or "")
        with client.chat.completions.create(model=MODEL, messages=messages, stream=True) as parts:
            text = "".join(p.choices[0].delta.content or "" for p in parts if p.choices)
        assert text == whole.choices[0].message.content
        legacy = client.completions.create(model=MODEL, prompt="The pool", max_tokens=4)
        assert legacy.choices[0].finish_reason in ("length", "stop")
        with pytest.raises(openai.NotFoundError) as unknown:
            client.chat.completions.create(model="pool-dmo", messages=messages)
        assert unknown.value.code == "model_not_found"


def test_openais_asynchronous_client(urls: dict[str, str]) -> None:
    messages: Any = [{"role": "user", "content": QUESTION}]

    async def ask() -> str:
        async with openai.AsyncOpenAI(base_url=f"{urls['gateway']}/v1", api_key="x") as client:
            stream = await client.chat.completions.create(
                model=MODEL, messages=messages, stream=True
            )
            parts = [part async for part in stream]
        return "".join(p.choices[0].delta.content or "" for p in parts if p.choices)

    assert "8050" in asyncio.run(ask())


def test_a_context_that_is_too_long_is_refused_not_cut(demo: PoolProcess) -> None:
    length = demo.model(MODEL)["context_length"]
    answer = demo.chat(MODEL, "port " * (length + 10))
    assert_error(answer, 400, "context_length_exceeded", "messages")
    assert answer.headers["x-modelpool-source"] == "engine"


def test_every_question_is_answered_right(demo: PoolProcess) -> None:
    asked = json.loads(QUESTIONS.read_text(encoding="utf-8"))
    busy = asyncio.Semaphore(8)

    async def said(session: aiohttp.ClientSession, messages: Any) -> str:
        body = {"model": MODEL, "messages": messages, "temperature": 0}
        async with busy, session.post("/v1/chat/completions", json=body) as answer:
            assert answer.status == 200, await answer.text()
            return str((await answer.json())["choices"][0]["message"]["content"])

    async def exam() -> list[str]:
        timeout = aiohttp.ClientTimeout(total=60)
        async with aiohttp.ClientSession(demo.url, timeout=timeout) as session:
            return await asyncio.gather(*(said(session, q["messages"]) for q in asked))

    pairs = zip(asked, asyncio.run(exam()), strict=True)
    wrong = [(q["messages"][-1]["content"], q["answer"], s) for q, s in pairs if s != q["answer"]]
    assert not wrong, f"{len(wrong)} of {len(asked)}, such as {wrong[:5]}"
