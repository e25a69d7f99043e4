"""Ollama's own package against the pool: llama.cpp and an engine that chats only, the gateway and a
worker's port, loaded and not."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import ollama
import pytest
from modelpool.catalog.formats.gguf_header import read_header

from e2e.helpers import fake, free_block, until
from e2e.support import PoolProcess

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).parents[2]
DEMO = ROOT / "configs" / "models" / "pool-demo.gguf"
MAKE = ROOT / "scripts" / "make_bench_gguf.py"
SHAPE = "--layers=2 --hidden=64 --ffn=192 --heads=4 --kv=2 --vocab=1024 --ctx=512 --pooling=mean"
ASK = [{"role": "user", "content": "hello there"}]
WAYS = [(model, way) for model in ("demo", "echo") for way in ("gateway", "worker", "cold")]


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PoolProcess]:
    folder = tmp_path_factory.mktemp("ollama")
    embedder = folder / "embedder.gguf"
    command = [sys.executable, MAKE, embedder, *SHAPE.split()]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    options = {"threads": 1, "parallel": 2}
    entries = [
        {
            "model_id": "demo",
            "engine": "llama.cpp",
            "source": str(DEMO),
            "options": {**options, "temperature": 0},
        },
        {
            "model_id": "embedder",
            "engine": "llama.cpp",
            "source": str(embedder),
            "options": options,
        },
        fake("echo"),
        fake("slow", options={"load_seconds": 1}),
        fake("gone"),
    ]
    own_port = free_block(1)
    with PoolProcess(folder, entries, stream_ping_seconds=0.1, ollama_port=own_port) as pool:
        yield pool
        pool.assert_no_bugs()


@pytest.fixture
def client(pool: PoolProcess, request: pytest.FixtureRequest) -> Iterator[ollama.Client]:
    model, way = getattr(request, "param", ("echo", "gateway"))
    url = pool.url
    if way == "own port":
        url = f"http://127.0.0.1:{pool.http.get('/config').json()['ollama_port']}"
    elif way == "worker":
        found = pool.http.get(f"/models/{model}/endpoint?wait=60").json()["endpoint"]
        url = found.rsplit("/v1", 1)[0]
    elif way == "cold":
        unload(pool, model)
    made = ollama.Client(host=url, timeout=60, trust_env=False)
    yield made
    made._client.close()


def unload(pool: PoolProcess, model: str) -> None:
    pool.http.post(f"/models/{model}/unload", json={"force": True})
    pool.wait_for(model, "COLD")


def left(pool: PoolProcess, model: str) -> float:
    """Seconds of its lease."""
    return float(pool.model(model)["ttl_remaining_minutes"]) * 60


def lines(pool: PoolProcess, path: str, **body: Any) -> list[dict[str, Any]]:
    with pool.http.stream("POST", path, json=body) as answer:
        assert answer.headers["content-type"] == "application/x-ndjson"
        return [json.loads(line) for line in answer.iter_lines()]


@pytest.mark.parametrize(("client", "model"), [(w, w[0]) for w in WAYS], indirect=["client"])
def test_chat_and_generate_streamed_and_not(client: ollama.Client, model: str) -> None:
    whole = client.chat(model=model, messages=ASK)
    parts = list(client.chat(model=model, messages=ASK, stream=True))
    assert "".join(part.message.content or "" for part in parts) == whole.message.content
    assert (whole.done, whole.done_reason) == (True, "stop")
    assert parts[-1].done_reason == "stop"
    assert whole.eval_count == parts[-1].eval_count
    assert (whole.eval_count or 0) > 0
    assert (whole.total_duration or 0) > 0
    text = client.generate(model=model, prompt="hello there").response
    streamed = client.generate(model=model, prompt="hello there", stream=True)
    assert "".join(part.response for part in streamed) == text == whole.message.content


@pytest.mark.parametrize("client", [("demo", "gateway"), ("demo", "worker")], indirect=True)
def test_a_model_shows_the_template_of_its_file(client: ollama.Client) -> None:
    shown = client.show("demo")
    assert shown.template == read_header(DEMO).values["tokenizer.chat_template"]


def test_a_model_without_a_file_has_no_template(pool: PoolProcess) -> None:
    assert pool.http.post("/api/show", json={"model": "echo"}).json()["template"] == ""


def test_a_wish_to_think_is_named_where_it_is_in_vain(pool: PoolProcess) -> None:
    assert "thinking" not in pool.model("demo")["capabilities"]
    for path, body in (("/api/chat", {"messages": ASK}), ("/api/generate", {"prompt": "hi"})):
        for think in (True, "high", False, None):
            asked = {"model": "demo", **body, "think": think, "stream": False}
            answer = pool.http.post(path, json={**asked, "options": {"num_predict": 2}})
            assert answer.status_code == 200
            assert answer.headers.get("x-modelpool-ignored") == ("think" if think else None)


def test_options_that_would_need_another_load_are_named(pool: PoolProcess) -> None:
    body = {"model": "demo", "messages": ASK, "stream": False}
    options = {"num_ctx": 99, "num_predict": 2, "num_gpu": 1}
    answer = pool.http.post("/api/chat", json={**body, "options": options})
    assert answer.headers["x-modelpool-ignored"] == "options.num_ctx, options.num_gpu"
    assert answer.json()["done_reason"] == "length"
    assert answer.json()["eval_count"] == 2


def test_what_is_ignored_is_named_once_however_the_model_was(pool: PoolProcess) -> None:
    body = {"model": "demo", "messages": ASK, "n_ctx": 9, "max_tokens": 2}
    for _ in range(2):
        answer = pool.http.post("/v1/chat/completions", json=body)
        assert answer.headers.get_list("x-modelpool-ignored") == ["n_ctx"]
        unload(pool, "demo")


def test_a_cold_stream_is_kept_alive_by_empty_lines(pool: PoolProcess) -> None:
    unload(pool, "slow")
    found = lines(pool, "/api/chat", model="slow", messages=ASK)
    assert found[0]["message"]["content"] == ""
    assert found[0]["done"] is False
    assert "".join(part["message"]["content"] for part in found) == "hello there"


def test_embeddings(client: ollama.Client, pool: PoolProcess) -> None:
    both = client.embed(model="embedder", input=["hello", "there"]).embeddings
    assert [len(vector) for vector in both] == [64, 64]
    assert math.fsum(x * x for x in both[0]) == pytest.approx(1, abs=1e-4)
    one = client.embed(model="embedder", input="hello", dimensions=16).embeddings[0]
    length = math.sqrt(math.fsum(x * x for x in both[0][:16]))
    assert one == pytest.approx([x / length for x in both[0][:16]], abs=1e-5)
    assert client.embeddings(model="embedder", prompt="hello").embedding == pytest.approx(
        both[0], abs=1e-6
    )
    with pytest.raises(ollama.ResponseError, match="it can do: embeddings"):
        client.chat(model="embedder", messages=ASK)


@pytest.mark.parametrize("client", [("demo", "worker"), ("echo", "worker")], indirect=True)
def test_a_worker_tells_of_its_one_model(
    client: ollama.Client, request: pytest.FixtureRequest
) -> None:
    model = request.node.callspec.params["client"][0]
    assert [m.model for m in client.list().models] == [f"{model}:latest"]
    (running,) = client.ps().models
    assert (running.model, running.expires_at is not None) == (f"{model}:latest", True)
    shown = client.show(f"{model}:latest")
    assert "completion" in (shown.capabilities or ())
    assert ("temperature" in (shown.parameters or "")) == (model == "demo")
    with pytest.raises(ollama.ResponseError, match="is not served here") as raised:
        client.show("nope")
    assert raised.value.status_code == 404


def test_a_worker_says_that_it_speaks_ollama(pool: PoolProcess) -> None:
    endpoint = pool.http.get("/models/echo/endpoint?wait=60").json()["endpoint"]
    url = endpoint.rsplit("/v1", 1)[0]
    assert httpx.get(f"{url}/", trust_env=False, timeout=60).text == "Ollama is running"
    assert httpx.head(f"{url}/", trust_env=False, timeout=60).status_code == 200
    version = httpx.get(f"{url}/api/version", trust_env=False, timeout=60).json()
    assert version == pool.http.get("/api/version").json()
    refused = httpx.get(f"{url}/api/show", trust_env=False, timeout=60)
    assert (refused.status_code, refused.headers["allow"]) == (405, "POST")
    assert "POST" in refused.json()["error"]


def test_models_are_listed_and_shown(client: ollama.Client, pool: PoolProcess) -> None:
    assert {"demo:latest", "embedder:latest"} <= {m.model for m in client.list().models}
    shown = client.show("demo")
    assert shown.capabilities == ["completion"]
    assert shown.details is not None
    assert (shown.details.format, shown.details.family) == ("gguf", "llama")
    assert client.show("embedder").capabilities == ["embedding"]
    pool.load("demo")

    def running() -> Any:
        (found,) = [m for m in client.ps().models if m.model == "demo:latest"]
        return found if found.size else None

    assert until(running, "its memory is measured").context_length > 0


def test_a_copy_is_another_name_for_the_same_file(client: ollama.Client, pool: PoolProcess) -> None:
    client.copy("echo", "echo-2:latest")
    assert client.chat("echo-2", ASK).message.content == "hello there"
    with pytest.raises(ollama.ResponseError, match="already"):
        client.copy("demo", "echo-2")
    with pytest.raises(ollama.ResponseError, match="no model"):
        client.copy("nobody", "other")
    with pytest.raises(ollama.ResponseError, match="model_id"):
        client.copy("echo", "../echo")
    client.delete("echo-2")
    assert client.chat("echo", ASK).message.content == "hello there"


def test_keep_alive_acts_on_the_lease(client: ollama.Client, pool: PoolProcess) -> None:
    assert client.generate(model="echo", prompt="").done_reason == "load"
    before = left(pool, "echo")
    client.chat(model="echo", messages=ASK, keep_alive="45m")
    assert left(pool, "echo") == pytest.approx(2700, abs=60)
    assert before < 2600
    client.chat(model="echo", messages=ASK, keep_alive="1s")  # never shorter for others
    assert left(pool, "echo") > 2600
    client.chat(model="echo", messages=ASK, keep_alive=0)
    pool.wait_for("echo", "COLD")
    assert client.generate(model="echo", prompt="", keep_alive=-1).done_reason == "load"
    assert left(pool, "echo") > 2700
    body = {"model": "echo", "messages": ASK, "keep_alive": -1}
    assert pool.http.post("/api/chat", json=body).headers["x-modelpool-keep-alive"] == "3600"
    assert client.generate(model="echo", prompt="", keep_alive=0).done_reason == "unload"
    assert pool.state_of("echo") == "COLD"
    assert client.generate(model="echo", prompt="", keep_alive=0).done_reason == "unload"
    with pytest.raises(ollama.ResponseError, match="keep_alive"):
        client.chat(model="echo", messages=ASK, keep_alive="soon")
    assert pool.state_of("echo") == "COLD"


def test_errors(client: ollama.Client, pool: PoolProcess) -> None:
    with pytest.raises(ollama.ResponseError, match="nobody") as missing:
        client.chat(model="nobody", messages=ASK)
    assert missing.value.status_code == 404
    answer = pool.http.post("/api/chat", json={"model": "echo", "messages": "hello"})
    assert (answer.status_code, list(answer.json())) == (400, ["error"])
    assert "messages must be a list" in answer.json()["error"]
    assert pool.http.post("/api/chat", content=b"{").json().keys() == {"error"}
    assert pool.http.get("/api/chat").status_code == 405
    assert pool.http.post("/api/tags").status_code == 405


def test_what_is_there_needs_no_pull(client: ollama.Client) -> None:
    assert client.pull("demo").status == "success"
    assert [p.status for p in client.pull("demo", stream=True)][-1] == "success"
    with pytest.raises(ollama.ResponseError, match="does not answer"):
        client.pull("nobody")


def test_delete(client: ollama.Client, pool: PoolProcess) -> None:
    pool.load("gone")
    assert client.delete("gone").status == "success"
    assert pool.http.get("/models/gone").status_code == 404
    until(lambda: not pool.fronts("gone"), "the end of its worker")


def test_probes(pool: PoolProcess) -> None:
    assert pool.http.get("/api/version").json()["version"].count(".") == 2
    assert httpx.head(f"{pool.url}/", trust_env=False, timeout=60).status_code == 200


@pytest.mark.parametrize("client", [("echo", "own port")], indirect=True)
def test_a_port_where_tools_look_for_ollama(client: ollama.Client) -> None:
    assert client.chat("echo", ASK).message.content == "hello there"
    assert client._client.get("/").text == "Ollama is running"
