"""Identical deterministic requests through real HTTP: what the worker counts says how many were
computed."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from typing import Any

import httpx
import pytest

from e2e.conftest import WithModels
from e2e.helpers import chat, fake, in_background, result, until
from e2e.support import PoolProcess

CLIENTS = 100
SLOW = fake("m", options={"tokens": 4, "tokens_per_second": 4})


def computed(pool: PoolProcess) -> int:
    port = pool.model("m")["port"]
    text = httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False, timeout=60).text
    [count] = re.findall(r'modelpool_worker_completions_total\{model="m"\} (\d+)', text)
    return int(count)


async def ask_all(pool: PoolProcess, body: dict[str, Any]) -> list[httpx.Response]:
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(limits=limits, timeout=60, trust_env=False, verify=False) as http:
        url = f"{pool.url}/v1/chat/completions"
        return await asyncio.gather(*(http.post(url, json=body) for _ in range(CLIENTS)))


@pytest.mark.parametrize("stream", [False, True])
def test_one_computation_and_an_answer_for_everybody(with_models: WithModels, stream: bool) -> None:
    # Cold: they wait for the load together, which stands still until all of them do.
    pool = with_models(fake("m", options={"load_seconds": 2, **SLOW["options"]}))
    body = chat("m", temperature=0, stream=stream)
    asking = in_background(lambda: asyncio.run(ask_all(pool, body)))
    engine = until(lambda: pool.model("m")["engine_pid"], "its engine")
    os.kill(engine, signal.SIGSTOP)
    joined_all = f'modelpool_coalesced_requests_total{{model="m"}} {CLIENTS - 1}.0'
    until(lambda: joined_all in pool.http.get("/metrics").text, "all to have joined")
    os.kill(engine, signal.SIGCONT)
    answers = result(asking)
    assert {a.status_code for a in answers} == {200}
    texts = {_without_comments(a.text) for a in answers}
    assert len(texts) == 1
    assert computed(pool) == 1
    joined = [a for a in answers if a.headers.get("x-modelpool-coalesced") == "joined"]
    assert len(joined) == CLIENTS - 1
    assert joined_all in pool.http.get("/metrics").text


def test_what_is_not_deterministic_or_not_to_be_shared_is_computed_for_each(
    with_models: WithModels,
) -> None:
    pool = with_models(SLOW, fake("off", coalesce="off", options=SLOW["options"]))
    pool.load("m")
    answers = asyncio.run(ask_all(pool, chat("m")))
    assert {a.status_code for a in answers} == {200}
    assert computed(pool) == CLIENTS
    assert pool.model("off")["coalesce"] == "off"


def _without_comments(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.startswith(":")).strip()
