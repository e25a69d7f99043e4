"""Embeddings and reranking by real GGUF models that are made here; llama.cpp's own routes."""

from __future__ import annotations

import base64
import json
import math
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from modelpool_client.surfaces.families import FAMILIES
from modelpool_client.surfaces.routes import SURFACES
from modelpool_client.surfaces.schema import check

from e2e.helpers import free_block, give_back, until
from e2e.support import PoolProcess

pytestmark = pytest.mark.e2e
MAKE = Path(__file__).parents[2] / "scripts" / "make_bench_gguf.py"
SHAPE = "--layers=2 --hidden=64 --ffn=192 --heads=4 --kv=2 --vocab=1024 --ctx=512"
TEXTS = ["hello", "the port of the pool", "a b c " * 40]
OPTIONS = {"threads": 1, "parallel": 2}
BARE = """
import os, sys, xllamacpp
p = xllamacpp.CommonParams()
p.model.path, p.hostnames, p.port = sys.argv[1], ["127.0.0.1"], int(sys.argv[2])
p.embedding, p.warmup, p.n_parallel, p.n_ctx, p.cpuparams.n_threads = True, False, 2, 1024, 1
p.n_batch = p.n_ubatch = 512
server = xllamacpp.Server(p)
print("ready", flush=True)
sys.stdin.read()
os._exit(0)
"""


def made(path: Path, pooling: str = "") -> Path:
    more = [f"--pooling={pooling}"] if pooling else []
    command = [sys.executable, MAKE, path, *SHAPE.split(), *more]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("embeddings")
    kinds = {"embed": "mean", "last": "last", "rank": "rank", "chat": ""}
    return {name: made(folder / f"{name}.gguf", kind) for name, kind in kinds.items()}


@pytest.fixture(scope="module")
def pool(files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[PoolProcess]:
    both = {"both": ("chat", {"pooling_type": "mean"})}
    models = {name: (name, {}) for name in files} | both
    entries = [
        {
            "model_id": name,
            "engine": "llama.cpp",
            "source": str(files[file]),
            "options": OPTIONS | more,
        }
        for name, (file, more) in models.items()
    ]
    with PoolProcess(tmp_path_factory.mktemp("pool"), entries) as pool:
        yield pool
        pool.assert_no_bugs()


@pytest.fixture
def client(pool: PoolProcess) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{pool.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def post(pool: PoolProcess, path: str, **body: Any) -> httpx.Response:
    return pool.http.post(path, json=body)


def floats(coded: str) -> list[float]:
    data = base64.b64decode(coded)
    return list(struct.unpack(f"<{len(data) // 4}f", data))


def test_the_same_numbers_as_the_bare_engine(
    pool: PoolProcess, client: openai.OpenAI, files: dict[str, Path]
) -> None:
    port = free_block(1)
    command = [sys.executable, "-c", BARE, str(files["embed"]), str(port)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as bare:
        assert bare.stdout is not None
        assert bare.stdout.readline() == b"ready\n"
        url = f"http://127.0.0.1:{port}/v1/embeddings"
        answer = httpx.post(url, json={"input": TEXTS}, timeout=60, trust_env=False).json()
        assert bare.stdin is not None
        bare.stdin.close()
        bare.wait(60)
    give_back(port)
    expected = [item["embedding"] for item in answer["data"]]
    found = [item.embedding for item in client.embeddings.create(model="embed", input=TEXTS).data]
    assert len(found) == len(TEXTS)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-6)


def test_formats_and_dimensions(pool: PoolProcess, client: openai.OpenAI) -> None:
    plain = client.embeddings.create(model="embed", input="hello", encoding_format="float")
    numbers = plain.data[0].embedding
    assert len(numbers) == 64
    assert math.fsum(x * x for x in numbers) == pytest.approx(1, abs=1e-4)
    coded = post(pool, "/v1/embeddings", model="embed", input="hello", encoding_format="base64")
    assert floats(coded.json()["data"][0]["embedding"]) == pytest.approx(numbers, abs=1e-6)
    length = math.sqrt(math.fsum(x * x for x in numbers[:16]))
    expected = [x / length for x in numbers[:16]]
    for kind in ("float", "base64"):
        short = post(
            pool,
            "/v1/embeddings",
            model="embed",
            input="hello",
            dimensions=16,
            encoding_format=kind,
        ).json()["data"][0]["embedding"]
        found = floats(short) if kind == "base64" else short
        assert found == pytest.approx(expected, abs=1e-6)
    tokens = post(pool, "/tokenize", model="embed", content="hello").json()["tokens"]
    by_tokens = client.embeddings.create(model="embed", input=[tokens, tokens])
    assert [d.index for d in by_tokens.data] == [0, 1]
    assert by_tokens.data[1].embedding == pytest.approx(numbers, abs=1e-6)
    assert plain.usage.prompt_tokens == len(tokens)


def test_null_stands_for_not_given(pool: PoolProcess) -> None:
    nulls = {"dimensions": None, "encoding_format": None, "user": None}
    answer = post(pool, "/v1/embeddings", model="embed", input="hello", **nulls)
    assert answer.status_code == 200, answer.text
    plain = post(pool, "/v1/embeddings", model="embed", input="hello").json()
    assert answer.json() | {"id": ""} == plain | {"id": ""}
    nulls = {"top_n": None, "return_documents": None}
    answer = post(pool, "/v1/rerank", model="rank", query="a", documents=["b"], **nulls)
    assert answer.status_code == 200, answer.text


def test_on_the_worker_port_and_by_the_last_token(pool: PoolProcess) -> None:
    endpoint = pool.http.get("/models/last/endpoint?wait=30").json()["endpoint"]
    answer = httpx.post(
        f"{endpoint.rsplit('/v1', 1)[0]}/v1/embeddings", json={"input": TEXTS}, timeout=60
    )
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["data"]) == 3


def test_what_is_unknown_is_named(pool: PoolProcess) -> None:
    answer = post(pool, "/v1/embeddings", model="embed", input="a", user="me", n_ctx=1, foo=1)
    assert answer.status_code == 200
    assert answer.headers["x-modelpool-ignored"] == "foo, n_ctx"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "input"),
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": [[]]}, "input[0]"),
        ({"input": [""]}, "input[0]"),
        ({"input": {"a": 1}}, "input.prompt_string"),
        ({"input": [1, 1.5]}, "input[1]"),
        ({"input": "a", "encoding_format": "hex"}, "encoding_format"),
        ({"input": "a", "dimensions": 0}, "dimensions"),
        ({"input": "a", "dimensions": 65}, "dimensions"),
        ({"input": "word " * 3000}, "input"),
    ],
)
def test_wrong_inputs(pool: PoolProcess, body: dict[str, Any], param: str) -> None:
    answer = post(pool, "/v1/embeddings", model="embed", **body)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error["param"] == param, error
    if body.get("input", "") == "word " * 3000:
        assert error["code"] == "context_length_exceeded"
        assert "512" in error["message"]


@pytest.mark.parametrize("path", ["/v1/rerank", "/rerank", "/v1/reranking", "/v2/rerank"])
def test_reranking(pool: PoolProcess, path: str) -> None:
    documents = ["a", {"text": "the port"}, "c"]
    answer = post(
        pool,
        path,
        model="rank",
        query="which port",
        documents=documents,
        top_n=2,
        return_documents=True,
    )
    assert answer.status_code == 200, answer.text
    results = answer.json()["results"]
    assert len(results) == 2
    scores = [r["relevance_score"] for r in results]
    assert scores == sorted(scores, reverse=True)
    for result in results:
        given = documents[result["index"]]
        assert result["document"] == (given if isinstance(given, dict) else {"text": given})


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"documents": ["a"]}, "query"),
        ({"query": "a", "documents": []}, "documents"),
        ({"query": "a", "documents": [1]}, "documents[0]"),
        ({"query": "a", "documents": [{}]}, "documents[0].text"),
        ({"query": "a", "documents": ["a"], "top_n": 0}, "top_n"),
    ],
)
def test_wrong_rankings(pool: PoolProcess, body: dict[str, Any], param: str) -> None:
    answer = post(pool, "/v1/rerank", model="rank", **body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), answer.text


def test_who_cannot_is_not_loaded_for_it(pool: PoolProcess) -> None:
    for model, path, body in (
        ("chat", "/v1/embeddings", {"input": "a"}),
        ("chat", "/v1/rerank", {"query": "a", "documents": ["a"]}),
        ("rank", "/v1/embeddings", {"input": "a"}),
        ("embed", "/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}]}),
    ):
        pool.http.post(f"/models/{model}/unload", json={"force": True})
        pool.wait_for(model, "COLD")
        answer = post(pool, path, model=model, **body)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (400, "missing_capability"), answer.text
        assert "it can do: " in error["message"]
        assert pool.state_of(model) == "COLD"


def test_a_worker_refuses_what_its_model_is_not_for(pool: PoolProcess) -> None:
    endpoint = pool.http.get("/models/embed/endpoint?wait=30").json()["endpoint"]
    url = f"{endpoint.rsplit('/v1', 1)[0]}/v1/chat/completions"
    body = {"messages": [{"role": "user", "content": "a"}]}
    answer = httpx.post(url, json=body, timeout=60)
    assert (answer.status_code, answer.json()["error"]["code"]) == (501, "missing_capability")
    assert "/v1/embeddings" in answer.json()["error"]["message"]


def test_one_that_writes_may_embed_as_well(pool: PoolProcess, client: openai.OpenAI) -> None:
    assert len(client.embeddings.create(model="both", input="hello").data[0].embedding) == 64
    assert pool.chat("both", max_tokens=3).status_code == 200
    assert set(pool.model("both")["capabilities"]) >= {"chat", "completion", "embeddings"}
    assert pool.model("rank")["capabilities"] == ["rerank"]


def test_an_embedding_model_passes_its_probe(pool: PoolProcess) -> None:
    post(pool, "/v1/embeddings", model="embed", input="a")
    before = pool.model("embed")["worker_pid"]
    health = until(lambda: pool.http.get("/models/embed").json(), "its health")
    assert (health["state"], health["worker_pid"]) == ("HOT", before)


def test_llama_cpps_own_routes(pool: PoolProcess) -> None:
    assert post(pool, "/tokenize", model="chat", content="hello").json()["tokens"]
    text = post(pool, "/detokenize", model="chat", tokens=[300, 301]).json()["content"]
    assert isinstance(text, str)
    messages = [{"role": "user", "content": "x"}]
    prompt = post(pool, "/apply-template", model="chat", messages=messages).json()["prompt"]
    assert "<|im_start|>user" in prompt
    whole = post(pool, "/completion", model="chat", prompt="a", n_predict=4, ignore_eos=True)
    assert whole.json()["tokens_predicted"] == 4
    body = {"model": "chat", "prompt": "a", "n_predict": 4, "ignore_eos": True, "stream": True}
    with pool.http.stream("POST", "/completion", json=body) as stream:
        lines = [json.loads(line[6:]) for line in stream.iter_lines() if line.startswith("data: ")]
    assert lines[-1]["stop"] is True
    infill = post(pool, "/infill", model="chat", input_prefix="a", input_suffix="b")
    assert infill.status_code == 501, infill.text
    assert "Infill is not supported by this model" in infill.json()["error"]["message"]
    for path in ("/props", "/slots", "/lora-adapters"):
        assert pool.http.get(f"{path}?model=chat").status_code == 200
    told = pool.http.post("/lora-adapters?model=chat", json=[])
    assert (told.status_code, told.json()) == (200, {"success": True}), told.text
    none = pool.http.post("/slots/0?action=erase&model=chat", json={})
    assert (none.status_code, "slot_save_path" in none.text) == (501, True), none.text
    over = {"model": "chat", "id": "none", "action": "reasoning_end"}
    assert post(pool, "/v1/chat/completions/control", **over).status_code == 200


def test_looks_load_nothing(pool: PoolProcess) -> None:
    pool.http.post("/models/chat/unload", json={"force": True})
    pool.wait_for("chat", "COLD")
    answer = pool.http.get("/props?model=chat")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "model_not_loaded")
    assert pool.state_of("chat") == "COLD"
    missing = pool.http.get("/slots")
    assert (missing.status_code, missing.json()["error"]["param"]) == (400, "model")


def test_whole_numbers_may_be_written_with_a_point(pool: PoolProcess) -> None:
    answer = post(pool, "/v1/embeddings", model="embed", input="a", dimensions=2.0)
    assert len(answer.json()["data"][0]["embedding"]) == 2
    answer = post(pool, "/v1/rerank", model="rank", query="a", documents=TEXTS, top_n=2.0)
    assert len(answer.json()["results"]) == 2


@pytest.mark.parametrize("name", ["other", ""])
def test_a_worker_that_is_looked_at_answers_for_its_own_model(pool: PoolProcess, name: str) -> None:
    url = pool.load("chat")["endpoint"]
    answer = httpx.get(f"{url}/props", params={"model": name}, trust_env=False, timeout=60)
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "model_not_found"
    assert (
        httpx.get(f"{url}/props", params={"model": "chat"}, trust_env=False, timeout=60).status_code
        == 200
    )


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/embeddings", {"model": "embed", "input": TEXTS}),
        ("/v1/embeddings", {"model": "embed", "input": "a", "encoding_format": "base64"}),
        ("/v1/rerank", {"model": "rank", "query": "a", "documents": TEXTS}),
        ("/api/embed", {"model": "embed", "input": TEXTS}),
        ("/api/embeddings", {"model": "embed", "prompt": "a"}),
        ("/v1/completions", {"model": "chat", "prompt": "a", "max_tokens": 2}),
        ("/api/generate", {"model": "chat", "prompt": "a", "stream": False}),
    ],
)
def test_answers_are_as_the_documents_say(
    pool: PoolProcess, path: str, body: dict[str, Any]
) -> None:
    answer = post(pool, path, **body)
    assert answer.status_code == 200, answer.text
    contract = FAMILIES[SURFACES[path].family].describe().routes[path]
    check(contract.answer, answer.json())


def test_one_that_comes_later_is_as_good(pool: PoolProcess, files: dict[str, Path]) -> None:
    """A model registered while the pool runs is known for what it is."""
    entry = {"model_id": "e", "engine": "llama.cpp", "source": str(files["embed"])}
    made = pool.http.post("/models/register", json=entry)
    assert made.status_code == 201, made.text
    assert pool.model("e")["capabilities"] == ["embeddings"]
    assert post(pool, "/v1/embeddings", model="e", input="a").status_code == 200
    assert pool.http.delete("/models/e").status_code == 200


def ended(pool: PoolProcess, job_id: str) -> dict[str, Any]:
    """The job, once it is over."""
    job: dict[str, Any] = pool.http.get(f"/jobs/{job_id}", params={"wait": 30}).json()
    return job if job["ended_at"] else {}


@pytest.mark.parametrize(("model", "form"), [("embed", "embeddings"), ("rank", "rerank")])
def test_a_profile_says_how_fast_texts_are_read(pool: PoolProcess, model: str, form: str) -> None:
    asked = {"testCount": 1, "streams": [1, 2], "texts": [1, 8], "wait_seconds": 60}
    begun = pool.http.post(f"/models/{model}/profile", json=asked).json()
    done = until(lambda: ended(pool, begun["job_id"]), "the end of the profile", 200)
    assert done["state"] == "succeeded", (done["reason"], done["log"])
    profile = done["result"]["profile"]
    assert profile["form"] == form
    levels = profile["levels"]
    assert [(each["streams"], each["texts"]) for each in levels] == [(1, 1), (2, 1), (1, 8)]
    for each in levels:
        assert each["texts_per_second"]["median"] > 0
        assert each["tokens_per_second"]["median"] > each["texts_per_second"]["median"]
        assert each["latency_ms"]["count"] == each["streams"]
        assert each["output_per_second"] is None
    assert 60 < profile["prompt_tokens"] < 256
    assert profile["requests"] == 4
    assert profile["memory_bytes"]["host"] > 0
    assert profile["load_seconds"] > 0
    wrong = pool.http.post("/models/chat/profile", json={"texts": [1]})
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "texts")


def test_tei_and_cohere_and_vllm(pool: PoolProcess, client: openai.OpenAI) -> None:
    plain = [item.embedding for item in client.embeddings.create(model="embed", input=TEXTS).data]
    # Clients of TEI name no model.
    tei = pool.http.post("/embed?model=embed", json={"inputs": TEXTS})
    assert np.allclose(tei.json(), plain, atol=1e-6)
    url = f"http://127.0.0.1:{pool.model('embed')['port']}"
    with httpx.Client(base_url=url, trust_env=False, timeout=60) as worker:
        assert np.allclose(worker.post("/embed", json={"inputs": TEXTS}).json(), plain, atol=1e-6)
    cohere = post(pool, "/v2/embed", model="embed", texts=TEXTS, input_type="search_query")
    assert np.allclose(cohere.json()["embeddings"]["float"], plain, atol=1e-6)
    assert cohere.headers["x-modelpool-ignored"] == "input_type"
    scores = post(pool, "/v1/score", model="embed", text_1=TEXTS[0], text_2=TEXTS).json()["data"]
    assert scores[0]["score"] == pytest.approx(1)
    ranked = post(pool, "/v1/rerank", model="rank", query="a", documents=TEXTS).json()["results"]
    scores = post(pool, "/score", model="rank", text_1="a", text_2=TEXTS).json()["data"]
    by_index = {item["index"]: item["relevance_score"] for item in ranked}
    assert {item["index"]: item["score"] for item in scores} == pytest.approx(by_index)


@pytest.mark.parametrize(
    ("path", "body", "shape"),
    [
        ("/embed", {"inputs": ""}, {"error", "error_type"}),
        ("/v2/embed", {"texts": []}, {"message"}),
        ("/score", {"text_1": "a"}, {"error"}),
    ],
)
def test_errors_are_theirs(pool: PoolProcess, path: str, body: Any, shape: set[str]) -> None:
    answer = pool.http.post(f"{path}?model=embed", json=body)
    assert answer.status_code == 400
    assert answer.json().keys() == shape


def test_fim_of_a_model_that_cannot_is_refused(pool: PoolProcess) -> None:
    body = {"model": "chat", "prompt": "a", "max_tokens": 2}
    answer = post(pool, "/v1/fim/completions", **body)
    assert answer.json()["choices"][0]["message"]["role"] == "assistant"
    refused = post(pool, "/v1/fim/completions", **body, suffix="b")
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "suffix"


def test_the_query_may_name_the_model(pool: PoolProcess) -> None:
    tokens = pool.http.post("/tokenize?model=chat", json={"content": "a b"}).json()["tokens"]
    assert tokens == post(pool, "/tokenize", model="chat", content="a b").json()["tokens"]
    unknown = pool.http.post("/tokenize?model=nobody", json={"content": "a"})
    assert (unknown.status_code, unknown.json()["error"]["param"]) == (404, "model")
    missing = pool.http.post("/tokenize?model=", json={"content": "a"})
    assert missing.status_code == 404
