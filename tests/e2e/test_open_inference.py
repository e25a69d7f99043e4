"""Triton's own package against the pool: what server and models are, and the repository of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio

from e2e.helpers import fake
from e2e.support import PoolProcess

pytestmark = pytest.mark.e2e
SLASHED = "org/slashed:7b"


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PoolProcess]:
    models = [
        fake("plain", aliases=["standing-in"]),
        fake(SLASHED, capabilities=["embeddings"]),
        fake("failing", options={"fail_load": "oom"}),
        fake("kept", pinned=True),
    ]
    with PoolProcess(tmp_path_factory.mktemp("triton"), models, failed_retry_seconds=60) as pool:
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
