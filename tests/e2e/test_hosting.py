"""Engines that compute in Python, through a whole pool: streams, sixteen at once, cancellation,
batches."""

from __future__ import annotations

import asyncio
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.plugins import stranger

from e2e.conftest import MakePool
from e2e.helpers import WAIT_SECONDS, chat, content, until, until_busy
from e2e.support import PoolProcess

# Its source is a folder, in which it tells what it does, and waits for what it is told.
CODE = '''
import os, time
from modelpool_worker.batching.options import OPTIONS
from modelpool_worker.engine import Engine, Usable
from modelpool_worker.hosting.contract import Hosted, Token
from modelpool_worker.hosting.parameters import text_honours
from modelpool_client.surfaces.routes import BASIC, EMBEDDINGS_PATH

class Stranger(Engine):
    name = "told"
    formats = ("none",)
    capabilities = ("chat", "completion", "embeddings", "streaming")
    options = {**OPTIONS, "writes": {"type": "boolean"}}
    surfaces = (*BASIC, EMBEDDINGS_PATH)
    honours = text_honours(())

    def probe(self):
        return Usable(True)

    def memory_bytes(self, source, options):
        return 1 << 20

    def serve(self, job, status):
        from modelpool_worker.hosting.server import serve
        model = Model(job.source)
        text = model if job.options.get("writes", True) else None
        serve(job, status, Hosted(text=text, embeddings=model))

class Model:
    context_length, slots, end_tokens = 1000, 16, [256]

    def __init__(self, folder):
        self.folder = folder

    def tell(self, name, line):
        with open(os.path.join(self.folder, name), "a") as f:
            f.write(f"{line}\\\\n")

    def held(self, step):
        """Steps from that on are held back while a file says so."""
        try:
            return step >= int(open(os.path.join(self.folder, "hold")).read())
        except (OSError, ValueError):
            return False

    def encode(self, text):
        self.tell("heard", text)
        return list(text.encode())

    def chat_prompt(self, messages, tools, settings):
        return self.encode(messages[-1]["content"])

    def generate(self, request):
        self.tell("begun", request.id)
        for step, byte in enumerate(request.prompt):
            while self.held(step):
                time.sleep(0.005)
                if request.cancel.is_set:
                    self.tell("cancelled", step)
                    return
            self.tell("steps", step)
            yield Token(byte, bytes([byte]).upper())

    def embed(self, batch):
        self.tell("batches", len(batch))
        self.tell("computed", "".join(map(chr, batch[0])))
        while self.held(0):
            time.sleep(0.005)
        return [[float(len(tokens)), float(tokens[-1])] for tokens in batch]
'''.replace("\\\\n", "\\n")

pytestmark = pytest.mark.slow


class Told:
    """A pool with such an engine, and its folder."""

    def __init__(self, pool: PoolProcess, folder: Path) -> None:
        self.pool = pool
        self.folder = folder

    def lines(self, name: str) -> list[str]:
        path = self.folder / name
        return path.read_text().split() if path.exists() else []

    def forget(self) -> None:
        for path in self.folder.iterdir():
            path.unlink()

    def hold(self, step: int | None) -> None:
        path = self.folder / "hold"
        if step is None:
            path.unlink()
        else:
            path.write_text(str(step))


@pytest.fixture
def told(site: Path, tmp_path: Path, make_pool: MakePool) -> Told:
    folder = tmp_path / "told"
    folder.mkdir()
    stranger("told", CODE, site)
    engine = {"engine": "told", "source": str(folder)}
    vectors = {"model_id": "vectors", "options": {"writes": False, "max_batch_size": 32}}
    pool = make_pool({"model_id": "m", **engine}, {**vectors, **engine})
    return Told(pool, folder)


def test_sixteen_at_once(told: Told) -> None:
    def ask(i: int) -> str:
        body = chat("m", f"number {i}", stream=i % 2 == 0)
        answer = told.pool.http.post("/v1/chat/completions", json=body)
        if i % 2:
            return content(answer)
        lines = [line for line in answer.text.split("\n\n") if line.startswith("data: ")]
        assert lines[-1] == "data: [DONE]"
        return "".join(_text(line) for line in lines[:-1])

    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(ask, range(16)))
    assert answers == [f"NUMBER {i}" for i in range(16)]


def _text(line: str) -> str:
    (choice,) = json.loads(line.removeprefix("data: "))["choices"]
    return str(choice["delta"].get("content") or "")


def test_a_client_that_leaves(told: Told) -> None:
    """Before the first token, in a stream, and while an answer in one piece is computed."""
    told.pool.load("m")
    for base in (told.pool.url, told.pool.model("m")["endpoint"]):
        for hold, stream in ((0, True), (5, True), (5, False)):
            _leave(told, base, hold, stream)


def _leave(told: Told, base: str, hold: int, stream: bool) -> None:
    told.forget()
    told.hold(hold)
    leave = threading.Event()

    async def ask() -> None:
        async with httpx.AsyncClient(base_url=base, timeout=60, trust_env=False) as client:
            body = chat("m", "x" * 500, stream=stream)
            asking = asyncio.create_task(client.post("/v1/chat/completions", json=body))
            await asyncio.to_thread(leave.wait, WAIT_SECONDS)
            asking.cancel()

    thread = threading.Thread(target=lambda: asyncio.run(ask()))
    thread.start()
    until(lambda: len(told.lines("steps")) == hold and told.lines("begun"), "the steps")
    until_busy(told.pool, "m")
    leave.set()
    until(lambda: told.lines("cancelled") == [str(hold)], "the cancellation")
    thread.join()
    told.hold(None)
    assert told.pool.ask("m", "next") == "NEXT"


def test_embeddings_of_many_requests_are_batches(told: Told) -> None:
    """A hundred take no more than a ninth of as many batches."""
    told.pool.load("vectors")
    told.hold(0)

    async def ask() -> list[Any]:
        limits = httpx.Limits(max_connections=100)
        async with httpx.AsyncClient(
            base_url=told.pool.url, timeout=60, limits=limits, trust_env=False
        ) as client:
            bodies = [{"model": "vectors", "input": "x" * i} for i in range(1, 101)]
            asking = [client.post("/v1/embeddings", json=body) for body in bodies]
            waiting = asyncio.gather(*asking)
            # The front has them a little earlier.
            await asyncio.to_thread(until, lambda: len(told.lines("heard")) == 100, "all of them")
            told.hold(None)
            return [answer.json() for answer in await waiting]

    answers = asyncio.run(ask())
    assert [a["data"][0]["embedding"][0] for a in answers] == [float(i) for i in range(1, 101)]
    sizes = list(map(int, told.lines("batches")))
    assert sum(sizes) == 100
    assert len(sizes) <= 100 / 9


def test_who_is_urgent_goes_first_in_the_engine(told: Told) -> None:
    """``X-Priority`` comes to it through gateway and front."""
    told.pool.http.patch("/models/vectors/options", json={"max_batch_size": 1})
    told.pool.load("vectors")
    told.hold(0)

    def ask(text: str, priority: str) -> int:
        headers = {"x-priority": priority}
        body = {"model": "vectors", "input": text}
        return told.pool.http.post("/v1/embeddings", json=body, headers=headers).status_code

    with ThreadPoolExecutor(4) as threads:
        asked = []
        for count, (text, priority) in enumerate(
            [("first", "low"), ("low", "low"), ("normal", "normal"), ("high", "high")], 1
        ):
            asked.append(threads.submit(ask, text, priority))
            until(lambda count=count: len(told.lines("heard")) == count, "it to reach the engine")  # type: ignore[misc]
            until(lambda: told.lines("computed"), "the first batch")
        told.hold(None)
        assert [one.result() for one in asked] == [200] * 4
    assert told.lines("computed") == ["first", "high", "normal", "low"]
