"""A pool whose models servers of Ollama hold: found, loaded, asked, unloaded and pulled there. The
servers are the fake of ``support.ollama``."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import ollama
import openai
import pytest
from modelpool_client.cli import app
from support.ollama import FakeModel, FakeOllama, Fault, fake_ollama
from typer.testing import CliRunner

from e2e.helpers import until
from e2e.support import PoolProcess

SIZE = 40_000_000
CHAT = [{"role": "user", "content": "one two"}]


MODELS = {
    "llama3.2:3b": FakeModel(("completion", "tools"), size=SIZE),
    "bert:latest": FakeModel(("embedding",), architecture="bert"),
    "big:cloud": FakeModel(size=300),
}


@pytest.fixture(scope="module")
def server() -> Iterator[FakeOllama]:
    with fake_ollama(MODELS) as fake:
        yield fake


@pytest.fixture(scope="module")
def one_pool(server: FakeOllama, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PoolProcess]:
    keys = {"ollama_base_url": server.url, "discovery_interval_seconds": 1}
    with PoolProcess(tmp_path_factory.mktemp("pool"), **keys) as pool:
        yield pool


@pytest.fixture
def pool(server: FakeOllama, one_pool: PoolProcess) -> PoolProcess:
    """With what the server had at first, and nothing loaded."""
    server.models = dict(MODELS)
    until(lambda: ids(one_pool) == {"llama3.2:3b", "bert"}, "the models of the server")
    for name in ids(one_pool):
        assert one_pool.http.post(f"/models/{name}/unload").status_code == 200
    server.loads.clear()
    return one_pool


def ids(pool: PoolProcess) -> set[str]:
    return {model["model_id"] for model in pool.http.get("/models").json()["models"]}


def model(pool: PoolProcess, name: str) -> dict[str, Any]:
    found: dict[str, Any] = pool.http.get(f"/models/{name}").json()
    return found


def test_from_the_server_to_a_client_and_back(server: FakeOllama, pool: PoolProcess) -> None:
    assert ids(pool) == {"llama3.2:3b", "bert"}
    found = model(pool, "llama3.2:3b")
    assert {"chat", "tools"} <= set(found["capabilities"])
    assert found["size_mb"] == SIZE / 1e6
    # Its weights, and 4096 tokens of context of 2 KiB each; a worker by itself is taken for 120.
    assert found["memory_estimate_mb"] == pytest.approx(120 + (SIZE + 4096 * 4096 // 2) / 1e6, 0.1)
    with openai.OpenAI(base_url=f"{pool.url}/v1", api_key="none") as client:
        messages: Any = CHAT
        for name in ("llama3.2:3b", "ollama:llama3.2:3b", "ollama_llama3.2:3b"):
            said = client.chat.completions.create(model=name, messages=messages)
            assert said.choices[0].message.content == "one two"
        vectors = client.embeddings.create(model="bert", input=["a", "bc"])
        assert [d.embedding for d in vectors.data] == [[1.0, 0.0, 1.0], [1.0, 0.0, 2.0]]
    with ollama.Client(pool.url) as client:
        told = list(client.chat("llama3.2:3b", CHAT, stream=True, keep_alive="1h"))
        assert "".join(part.message.content or "" for part in told) == "one two"
        assert told[-1].eval_count == 2
    assert server.loads == {"llama3.2:3b": 1, "bert:latest": 1}
    # What the server holds is the worker's memory; without a model it would be some 30 MB.
    until(lambda: memory_mb(pool, "llama3.2:3b") > SIZE / 1e6, "the server's memory")
    assert pool.http.post("/models/llama3.2:3b/unload").status_code == 200
    assert set(server.loaded) == {"bert:latest"}


def memory_mb(pool: PoolProcess, name: str) -> float:
    return float(model(pool, name)["memory_measured_mb"] or 0)


def test_what_is_gone_there_goes(server: FakeOllama, pool: PoolProcess) -> None:
    del server.models["bert:latest"]
    server.models["new:1b"] = FakeModel()
    until(lambda: ids(pool) == {"llama3.2:3b", "new:1b"}, "what is there now")
    server.stop()
    done = pool.http.post("/jobs", json={"kind": "ollama"}, params={"wait": "60"}).json()
    assert done["state"] == "succeeded", done
    assert "does not answer" in done["result"]["servers"][server.url]
    assert ids(pool) == {"llama3.2:3b", "new:1b"}, "a server that is down has lost nothing"
    server.start()


def test_a_server_pulls(server: FakeOllama, pool: PoolProcess) -> None:
    layer = {"status": "pulling 0123456789ab", "digest": "sha256:01", "total": 200}
    server.pulls["tiny:1b"] = [
        {"status": "pulling manifest"},
        layer,
        {**layer, "completed": 150},
        {"status": "verifying sha256 digest"},
        {"status": "success"},
    ]
    server.pulls["cut:latest"] = [{"status": "pulling manifest"}, layer]
    run = CliRunner().invoke(app, ["--url", pool.url, "pull", "ollama-server:tiny:1b"])
    assert run.exit_code == 0, run.output
    assert "tiny:1b" in ids(pool)
    assert pool.http.delete("/models/tiny:1b").status_code == 200
    (job,) = pool.http.get("/jobs", params={"kind": "pull"}).json()["jobs"]
    assert job["progress"]["total"] == 200
    for source, text in (
        ("ollama-server:nobody", "there is no 'nobody"),
        ("ollama-server:cut", "ended the pull of cut:latest early"),
    ):
        body = {"source": source}
        failed = pool.http.post("/models/pull", json=body, params={"wait": "60"}).json()
        assert failed["state"] == "failed"
        assert text in failed["reason"]


def test_a_stream_that_fails_at_the_server(server: FakeOllama, pool: PoolProcess) -> None:
    fault = Fault(after=1, line=b'{"error":"llama runner process has terminated"}\n')
    server.faults["/api/chat"] += [fault, fault]
    body = {"model": "llama3.2:3b", "messages": CHAT, "stream": True}
    told = pool.http.post("/v1/chat/completions", json=body).text
    assert '"one"' in told
    assert "llama runner process has terminated" in told
    with ollama.Client(pool.url) as client:
        stream = client.chat("llama3.2:3b", CHAT, stream=True)
        with pytest.raises(ollama.ResponseError, match="has terminated"):
            list(stream)


def test_a_worker_that_is_killed(server: FakeOllama, pool: PoolProcess) -> None:
    body = {"model": "llama3.2:3b", "messages": CHAT}
    assert pool.http.post("/v1/chat/completions", json=body).status_code == 200
    os.kill(model(pool, "llama3.2:3b")["worker_pid"], signal.SIGKILL)
    until(
        lambda: pool.http.post("/v1/chat/completions", json=body).status_code == 200,
        "the model is served again",
    )
    assert pool.http.post("/models/llama3.2:3b/unload").status_code == 200
    assert not server.loaded
