"""Triton's own package against the pool: what server and models are, and the repository of them."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio

from e2e.helpers import fake
from e2e.support import PoolProcess

pytestmark = pytest.mark.e2e
SLASHED, SLASHED_TENSORS = "org/slashed:7b", "org/tensors:1b"
ROOT = Path(__file__).parents[2]
DEMO = ROOT / "configs" / "models" / "pool-demo.gguf"
MAKE = ROOT / "scripts" / "make_bench_gguf.py"
SHAPE = "--layers=2 --hidden=64 --ffn=192 --heads=4 --kv=2 --vocab=1024 --ctx=512 --pooling=mean"
LLAMA = {"engine": "llama.cpp", "options": {"threads": 1, "parallel": 2, "temperature": 0}}


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PoolProcess]:
    folder = tmp_path_factory.mktemp("triton")
    embedder = folder / "embedder.gguf"
    command = [sys.executable, MAKE, embedder, *SHAPE.split()]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    models = [
        fake("plain", aliases=["standing-in"]),
        fake(SLASHED, capabilities=["embeddings"]),
        fake("failing", options={"fail_load": "oom"}),
        fake("kept", pinned=True),
        fake("never"),
        fake(SLASHED_TENSORS, options={"tensors": True}, capabilities=["tensor_inference"]),
        {"model_id": "demo", "source": str(DEMO), **LLAMA},
        {"model_id": "embedder", "source": str(embedder), **LLAMA},
    ]
    with PoolProcess(folder, models, failed_retry_seconds=60) as pool:
        yield pool


@pytest.fixture
def client(pool: PoolProcess) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(f"127.0.0.1:{pool.port}") as made:
        yield made


def states(client: triton.InferenceServerClient) -> dict[str, str]:
    return {entry["name"]: entry["state"] for entry in client.get_model_repository_index()}


def test_the_server(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    metadata = client.get_server_metadata()
    assert metadata["name"] == "modelpool"
    assert "binary_tensor_data" in metadata["extensions"]


@pytest.mark.parametrize("name", ["plain", "standing-in"])
@pytest.mark.parametrize("version", ["", "1"])
def test_a_model(client: triton.InferenceServerClient, name: str, version: str) -> None:
    metadata = client.get_model_metadata(name, version)
    assert (metadata["name"], metadata["versions"]) == (name, ["1"])
    assert metadata["platform"] == "fake"
    assert metadata["inputs"][0]["name"] == "text_input"
    assert [t["name"] for t in metadata["outputs"]] == ["text_output", "finish_reason"]
    config = client.get_model_config(name, version)
    assert config["max_batch_size"] == 0
    assert config["output"][0]["data_type"] == "TYPE_STRING"
    assert client.is_model_ready(name, version)


def test_names_with_slashes_coded_or_not(pool: PoolProcess, client: Any) -> None:
    assert client.get_model_metadata(SLASHED)["outputs"][0]["name"] == "embedding"
    for name in (SLASHED, quote(SLASHED), quote(SLASHED, safe="")):
        answer = pool.http.get(f"/v2/models/{name}/versions/1")
        assert answer.json()["name"] == SLASHED
        assert pool.http.head(f"/v2/models/{name}/ready").status_code == 200


def test_load_and_unload(pool: PoolProcess, client: triton.InferenceServerClient) -> None:
    for name in ("plain", SLASHED):
        assert states(client)[name] == "UNAVAILABLE"
        assert client.is_model_ready(name)  # the first request would load it
        client.load_model(name)
        assert pool.state_of(name) == "HOT"
        assert states(client)[name] == "READY"
        client.load_model(name)
        ready = pool.http.post("/v2/repository/index", json={"ready": True}).json()
        assert [(e["name"], e["version"]) for e in ready] == [(name, "1")]
        client.unload_model(name)
        assert pool.state_of(name) == "COLD"


def test_a_load_that_fails(pool: PoolProcess, client: triton.InferenceServerClient) -> None:
    with pytest.raises(triton.InferenceServerException) as caught:
        client.load_model("failing")
    assert caught.value.status() == "503"
    assert pool.state_of("failing") == "FAILED"
    assert not client.is_model_ready("failing")
    (entry,) = [e for e in client.get_model_repository_index() if e["name"] == "failing"]
    assert entry["state"] == "UNAVAILABLE"
    assert entry["reason"]
    answer = pool.http.get("/v2/models/failing/ready")
    assert (answer.status_code, answer.json()["ready"]) == (503, False)


def test_options_are_no_business_of_a_load(
    pool: PoolProcess, client: triton.InferenceServerClient
) -> None:
    with pytest.raises(triton.InferenceServerException, match=r"parameters\.config is refused"):
        client.load_model("plain", config="{}")
    assert pool.state_of("plain") == "COLD"
    body = {"parameters": {"unload_dependents": True}}
    answer = pool.http.post("/v2/repository/models/plain/unload", json=body)
    assert answer.headers["x-modelpool-ignored"] == "unload_dependents"


def test_what_is_protected_is_not_unloaded(
    pool: PoolProcess, client: triton.InferenceServerClient
) -> None:
    client.load_model("kept")
    with pytest.raises(triton.InferenceServerException, match="pinned"):
        client.unload_model("kept")
    assert pool.state_of("kept") == "HOT"
    pool.http.post("/models/kept/unload", json={"force": True})


def test_the_asynchronous_client(pool: PoolProcess) -> None:
    """It calls what it sends text/plain."""

    async def ask() -> None:
        async with triton_aio.InferenceServerClient(f"127.0.0.1:{pool.port}") as client:
            assert await client.is_server_ready()
            await client.load_model("plain")
            index = await client.get_model_repository_index()
            assert "READY" in [e["state"] for e in index if e["name"] == "plain"]
            await client.unload_model("plain")

    asyncio.run(ask())


def test_pages_may_not_use_what_the_client_uses(pool: PoolProcess) -> None:
    headers = {"content-type": "text/plain", "origin": pool.url}
    answer = pool.http.post("/v2/repository/models/plain/load", content="{}", headers=headers)
    assert answer.status_code == 415


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/models/nobody", 404),
        ("GET", "/v2/models/nobody/ready", 404),
        ("GET", "/v2/models/plain/versions/2", 400),
        ("POST", "/v2/models/plain", 405),
        ("GET", "/v2/repository/index", 405),
        ("GET", "/v2/repository/models/plain/load", 405),
        ("POST", "/v2/repository/models/nobody/load", 404),
        ("GET", "/v2/models/plain/stats", 501),
        ("GET", "/v2/models/stats", 501),
        ("GET", "/v2/systemsharedmemory/status", 501),
        ("GET", "/v2/nothing", 404),
    ],
)
def test_errors_are_the_protocols_own(
    pool: PoolProcess, method: str, path: str, status: int
) -> None:
    answer = pool.http.request(method, path)
    assert answer.status_code == status
    assert list(answer.json()) == ["error"]
    assert answer.headers["x-modelpool-code"]
    assert answer.headers["x-modelpool-source"] == "pool"


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"ready": 1}', b'{"ready": true'])
def test_a_body_that_is_none(pool: PoolProcess, body: bytes) -> None:
    answer = pool.http.post("/v2/repository/index", content=body)
    assert (answer.status_code, list(answer.json())) == (400, ["error"])


def asked(text: str | list[str], *, binary: bool = True) -> list[triton.InferInput]:
    texts = np.array([text] if isinstance(text, str) else text, dtype=np.object_)
    tensor = triton.InferInput("text_input", list(texts.shape), "BYTES")
    tensor.set_data_from_numpy(texts, binary_data=binary)
    return [tensor]


WAYS = [(m, way) for m in ("demo", "plain") for way in ("gateway", "worker", "cold")]


@pytest.fixture
def way(pool: PoolProcess, request: pytest.FixtureRequest) -> Iterator[tuple[str, Any]]:
    model, how = request.param
    address = f"127.0.0.1:{pool.port}"
    if how == "worker":
        found = pool.http.get(f"/models/{quote(model, safe='')}/endpoint?wait=60").json()
        address = found["endpoint"].removeprefix("http://")
    elif how == "cold":
        pool.http.post(f"/models/{quote(model, safe='')}/unload", json={"force": True})
        pool.wait_for(model, "COLD")
    with triton.InferenceServerClient(address, network_timeout=60) as made:
        yield model, made


@pytest.mark.parametrize("way", WAYS, indirect=True, ids=lambda w: "-".join(w))
@pytest.mark.parametrize("binary", [True, False])
def test_texts_are_continued(way: tuple[str, Any], binary: bool) -> None:
    model, client = way
    assert client.is_model_ready(model)
    outputs = [triton.InferRequestedOutput("text_output", binary_data=binary)]
    result = client.infer(
        model,
        asked(["hello there", "and more"], binary=binary),
        outputs=outputs,
        request_id="7",
        parameters={"max_tokens": 4},
    )
    head = result.get_response()
    assert (head["model_name"], head["model_version"], head["id"]) == (model, "1", "7")
    told = result.as_numpy("text_output")
    texts = [text.decode() if binary else text for text in told]
    assert [text.startswith(said) for text, said in zip(texts, ("hello", "and"), strict=True)]
    assert len(texts) == 2


@pytest.mark.parametrize(
    "way",
    [("embedder", "gateway"), ("embedder", "worker"), ("embedder", "cold")],
    indirect=True,
    ids=lambda w: "-".join(w),
)
def test_texts_are_embedded(way: tuple[str, Any], pool: PoolProcess) -> None:
    model, client = way
    found = client.infer(model, asked(["hello", "there"])).as_numpy("embedding")
    body = {"model": model, "input": ["hello", "there"]}
    plain = pool.http.post("/v1/embeddings", json=body).json()["data"]
    assert found.shape == (2, 64)
    assert np.allclose(found, [entry["embedding"] for entry in plain], atol=1e-6)


@pytest.mark.parametrize("way", WAYS, indirect=True, ids=lambda w: "-".join(w))
def test_generate(way: tuple[str, Any], pool: PoolProcess) -> None:
    model, client = way
    address = f"http://{client._parsed_url.netloc}" if hasattr(client, "_parsed_url") else pool.url
    body = {"text_input": "hello there", "max_tokens": 4}
    with httpx.Client(base_url=address, trust_env=False, timeout=60) as http:
        whole = http.post(f"/v2/models/{model}/generate", json=body).json()
        assert whole["text_output"].startswith("hello there")
        streamed = http.post(f"/v2/models/{model}/versions/1/generate_stream", json=body)
    assert streamed.headers["content-type"].startswith("text/event-stream")
    events = [line for line in streamed.text.splitlines() if line.startswith("data: ")]
    told = [json.loads(event.removeprefix("data: ")) for event in events]
    assert "".join(part["text_output"] for part in told) in whole["text_output"]


def test_tensors_of_a_loaded_model_are_told(pool: PoolProcess, client: Any) -> None:
    client.load_model(SLASHED_TENSORS)
    told = client.get_model_metadata(SLASHED_TENSORS)
    port = pool.http.get(f"/models/{SLASHED_TENSORS}").json()["port"]
    name = quote(SLASHED_TENSORS, safe="")
    direct = pool.http.get(f"http://127.0.0.1:{port}/v2/models/{name}").json()
    assert (told["inputs"], told["outputs"]) == (direct["inputs"], direct["outputs"])
    assert told["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, -1]}]


def test_tensors_that_the_engine_knows_itself_go_through(pool: PoolProcess, client: Any) -> None:
    values = np.arange(100_000, dtype=np.float32).reshape(100, 1000)
    tensor = triton.InferInput("x", list(values.shape), "FP32")
    tensor.set_data_from_numpy(values, binary_data=False)
    outputs = [triton.InferRequestedOutput("x", binary_data=False)]
    result = client.infer(SLASHED_TENSORS, [tensor], outputs=outputs)
    assert np.array_equal(result.as_numpy("x"), values)


@pytest.mark.parametrize(
    "body",
    [
        {"inputs": [{"name": "x", "shape": [2], "datatype": "FP8", "data": [1]}]},
        {"inputs": [{"name": "x", "shape": [3], "datatype": "FP32", "data": [1]}]},
        {"inputs": 5},
        {},
        b"{",
    ],
)
def test_what_an_engine_knows_itself_it_refuses_itself(pool: PoolProcess, body: Any) -> None:
    """Loaded or not, the same."""
    name = quote(SLASHED_TENSORS, safe="")
    said = {"content": body} if isinstance(body, bytes) else {"json": body}
    pool.http.post(f"/models/{name}/unload", json={"force": True})
    pool.wait_for(SLASHED_TENSORS, "COLD")
    cold, hot = (pool.http.post(f"/v2/models/{name}/infer", **said) for _ in range(2))
    assert (cold.status_code, cold.content) == (hot.status_code, hot.content)


def test_a_sampled_answer_is_its_clients_own(pool: PoolProcess) -> None:
    """Though the model's own temperature is 0, which makes others shared."""
    body = {"text_input": "hello there", "temperature": 1.5, "max_tokens": 4}
    with ThreadPoolExecutor(3) as several:
        asked = [
            several.submit(pool.http.post, "/v2/models/demo/generate", json=body) for _ in range(3)
        ]
        assert not any("x-modelpool-coalesced" in a.result().headers for a in asked)
        chats = {"messages": [{"role": "user", "content": "hi"}], "stream": False}
        chats |= {"model": "demo", "options": {"temperature": 1.5, "num_predict": 4}}
        asked = [several.submit(pool.http.post, "/api/chat", json=chats) for _ in range(3)]
        assert not any("x-modelpool-coalesced" in a.result().headers for a in asked)


@pytest.mark.parametrize("verb", ["generate", "generate_stream"])
def test_a_body_of_another_type_loads_nothing(pool: PoolProcess, verb: str) -> None:
    kind = {"content-type": "text/plain"}
    answer = pool.http.post(f"/v2/models/never/{verb}", content=b"{}", headers=kind)
    assert answer.status_code == 415
    assert pool.state_of("never") == "COLD"


def test_doubled_slashes_are_slips(pool: PoolProcess) -> None:
    answer = pool.http.post("/v2//models/plain//generate", json={"text_input": "hello"})
    assert answer.json()["model_name"] == "plain"


@pytest.mark.parametrize("name", ["never", "never:latest"])
def test_what_is_wrong_loads_nothing(pool: PoolProcess, client: Any, name: str) -> None:
    with pytest.raises(triton.InferenceServerException, match="data is required"):
        client.infer(name, [triton.InferInput("text_inputs", [1], "BYTES")])
    wrong: list[tuple[str, dict[str, Any]]] = [
        ("infer", {}),
        ("infer", {"inputs": [{"name": "text_input", "shape": [2], "datatype": "BYTES"}]}),
        ("generate", {"text_input": 3}),
        ("versions/2/generate", {"text_input": "x"}),
    ]
    for verb, body in wrong:
        answer = pool.http.post(f"/v2/models/{name}/{verb}", json=body)
        assert answer.status_code == 400, answer.text
        assert isinstance(answer.json()["error"], str)
    assert pool.state_of("never") == "COLD"


@pytest.mark.parametrize("way", [("plain", "worker")], indirect=True, ids=lambda w: "-".join(w))
def test_a_worker_tells_of_itself(way: tuple[str, Any]) -> None:
    model, client = way
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.get_server_metadata()["name"] == "modelpool"
    assert client.get_model_metadata(model)["inputs"][0]["name"] == "text_input"
    assert client.get_model_config(model)["name"] == model
    with pytest.raises(triton.InferenceServerException, match="not served here"):
        client.get_model_metadata("another")
