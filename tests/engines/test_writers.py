"""The demo model by onnxruntime-genai and mlx-lm, in a real pool: as llama.cpp writes it."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import httpx
import pytest
from demo_formats import gguf_file
from e2e.helpers import Stream, content, until
from e2e.support import PoolProcess
from support import converted

# The first test waits for all the conversions.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
QUESTIONS = json.loads(converted.QUESTIONS.read_text())[::26]
END = "2"  # the token that ends an answer
FORMATS = ("genai-fp32", "genai-int4", "mlx-plain", "mlx-4")
PLAIN = ("genai-fp32", "mlx-plain")
AGAIN = "genai-fp32-again", "mlx-plain-again"


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PoolProcess]:
    folder = tmp_path_factory.mktemp("writers")
    gguf_file(converted.DEMO_FOLDER, folder / "demo-f16.gguf", "f16")
    sources = {
        "genai-fp32": ("onnx", converted.genai("fp32")),
        "genai-int4": ("onnx", converted.genai("int4")),
        "mlx-plain": ("mlx", converted.mlx(None)),
        "mlx-4": ("mlx", converted.mlx(4)),
    }
    models: list[dict[str, Any]] = [
        {"model_id": name, "engine": engine, "source": str(source)}
        for name, (engine, source) in sources.items()
    ]
    models += [
        {**models[FORMATS.index(name)], "model_id": f"{name}-again", "options": {"parallel": 2}}
        for name in PLAIN
    ]
    gguf = {"model_id": "gguf", "engine": "llama.cpp", "source": str(folder / "demo-f16.gguf")}
    with PoolProcess(folder, [*models, gguf], ports=10) as pool:
        yield pool
        # Kernels that MLX has compiled, which it keeps for the next process.
        shutil.rmtree(pool.tmp / "mlx", ignore_errors=True)


def body(model: str, messages: Any, **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": messages, "max_tokens": 64, "temperature": 0, **more}


def ask(http: httpx.Client, question: Any, model: str, **more: Any) -> str:
    answer = http.post(
        "/v1/chat/completions", json=body(model, question["messages"], **more), timeout=120
    )
    assert answer.status_code == 200, answer.text
    return content(answer)


def streamed(http: httpx.Client, question: Any, model: str, **more: Any) -> str:
    asked = body(model, question["messages"], stream=True, **more)
    with http.stream("POST", "/v1/chat/completions", json=asked, timeout=120) as answer:
        return Stream(answer.iter_lines()).text


def direct(pool: PoolProcess, model: str) -> httpx.Client:
    pool.http.post(f"/models/{model}/load", params={"wait": 120}, timeout=130)
    endpoint = pool.http.get(f"/models/{model}").json()["endpoint"]
    return httpx.Client(base_url=endpoint.removesuffix("/v1"), timeout=120, trust_env=False)


@pytest.mark.parametrize("model", FORMATS)
def test_questions_are_answered_right_in_every_way(pool: PoolProcess, model: str) -> None:
    expected = [question["answer"] for question in QUESTIONS]
    assert [ask(pool.http, q, model) for q in QUESTIONS] == expected
    assert [streamed(pool.http, q, model) for q in QUESTIONS] == expected
    with direct(pool, model) as worker:
        assert [ask(worker, q, model) for q in QUESTIONS] == expected
        assert [streamed(worker, q, model) for q in QUESTIONS] == expected


@pytest.mark.parametrize("model", FORMATS)
def test_sixteen_at_once(pool: PoolProcess, model: str) -> None:
    with ThreadPoolExecutor(16) as threads:
        answers = threads.map(lambda q: ask(pool.http, q, model), QUESTIONS)
        assert list(answers) == [question["answer"] for question in QUESTIONS]


@pytest.mark.parametrize("model", PLAIN)
def test_what_is_not_quantised_writes_as_llama_cpp_does_token_by_token(
    pool: PoolProcess, model: str
) -> None:
    def tokens(name: str, question: Any) -> list[str]:
        asked = body(name, question["messages"], logprobs=True, top_logprobs=1)
        answer = pool.http.post("/v1/chat/completions", json=asked, timeout=120).json()
        return [token["token"] for token in answer["choices"][0]["logprobs"]["content"]]

    for question in QUESTIONS[::2]:
        reference = [token for token in tokens("gguf", question) if token != "<|im_end|>"]
        assert tokens(model, question) == [t for t in reference if t]


@pytest.mark.parametrize("model", ["genai-fp32", "mlx-plain"])
def test_what_else_a_request_may_ask(pool: PoolProcess, model: str) -> None:
    question = QUESTIONS[5]
    warm: dict[str, Any] = {"temperature": 1.5, "top_p": 0.95, "logit_bias": {END: -100}}
    drawn = [ask(pool.http, question, model, seed=seed, **warm) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    schema = {"type": "object", "properties": {"a": {"enum": ["x", "y"]}}, "required": ["a"]}
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    schema["additionalProperties"] = False
    found = json.loads(ask(pool.http, question, model, response_format=form))
    assert found["a"] in ("x", "y")
    answer = question["answer"]
    assert (
        ask(pool.http, question, model, stop=[answer[4:6]]) == answer[: answer.index(answer[4:6])]
    )
    asked = body(model, question["messages"], n=2, max_tokens=3)
    told = pool.http.post("/v1/chat/completions", json=asked).json()
    assert [c["finish_reason"] for c in told["choices"]] == ["length", "length"]
    assert told["usage"]["completion_tokens"] == 6
    long = [{"role": "user", "content": "ping " * 2000}]
    refused = pool.http.post("/v1/chat/completions", json=body(model, long))
    assert refused.json()["error"]["code"] == "context_length_exceeded"


@pytest.mark.parametrize("window", ["before the first token", "in a stream", "without a stream"])
@pytest.mark.parametrize("model", AGAIN)
def test_a_client_that_leaves_frees_its_place(pool: PoolProcess, model: str, window: str) -> None:
    """Two places: of two long answers the longer one is dropped, so that a third is begun, and has
    ended before the first one has, which it could not were the second still written. The engine is
    held but for the moment in which both are begun, so that it is not ahead of who leaves."""
    question = QUESTIONS[0]
    endless: dict[str, Any] = {"logit_bias": {END: -100}, "temperature": 0.5, "seed": 1}
    kept, longer = ({**endless, "max_tokens": most} for most in (800, 950))
    dropped = body(model, question["messages"], stream=window == "in a stream", **longer)
    with direct(pool, model) as worker, ThreadPoolExecutor(2) as threads:
        (front,) = pool.fronts(model)
        (engine,) = front.children()
        engine.suspend()
        try:
            first = threads.submit(streamed, worker, question, model, **kept)
            until(lambda: _in_flight(worker) == 1, "the first to be there")
            with socket.create_connection(("127.0.0.1", worker.base_url.port)) as leaving:
                _send(leaving, dropped)
                until(lambda: _in_flight(worker) == 2, "the second to be there")
                if window != "before the first token":
                    engine.resume()
                    if window == "in a stream":
                        until(lambda: b"content" in leaving.recv(1 << 16), "a token")
                    else:
                        until(lambda: _busy(worker) == 2, "the second to be worked at")
                    engine.suspend()
            until(lambda: _in_flight(worker) == 1, "the second to have left")
            third = threads.submit(ask, worker, question, model)
            until(lambda: _in_flight(worker) == 2, "the third to be there")
        finally:
            engine.resume()
        done, _ = wait((first, third), return_when=FIRST_COMPLETED)
        assert done == {third}
        assert third.result() == question["answer"]
        assert first.result()


def _send(client: socket.socket, asked: dict[str, Any]) -> None:
    data = json.dumps(asked).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {len(data)}"
    client.sendall(f"{head}\r\n\r\n".encode() + data)


def _in_flight(worker: httpx.Client) -> int:
    return int(worker.get("/health").json()["in_flight"])


def _busy(worker: httpx.Client) -> int:
    """What the engine works on, whether or not anybody waits for it."""
    mark = "modelpool_engine_busy{"
    return sum(int(x.split()[-1]) for x in worker.get("/metrics").text.splitlines() if mark in x)


@pytest.mark.parametrize("model", ["genai-int4", "mlx-4"])
def test_memory_is_back_after_each_round(pool: PoolProcess, model: str) -> None:
    peaks = []
    for _ in range(5):
        assert ask(pool.http, QUESTIONS[3], model) == QUESTIONS[3]["answer"]
        (front,) = pool.fronts(model)
        processes = [front, *front.children(recursive=True)]
        peaks.append(sum(process.memory_info().rss for process in processes))
        assert pool.http.post(f"/models/{model}/unload").status_code == 200
        until(lambda: not any(p.is_running() for p in processes), "the end of the worker")  # noqa: B023
        assert pool.http.get(f"/models/{model}").json()["memory"]["current_mb"] is None
    assert max(peaks) < 1.2 * min(peaks)


def test_damaged_models_say_why(pool: PoolProcess, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(converted.genai("fp32"), broken)
    entry = {"model_id": "broken", "engine": "onnx", "source": str(broken)}
    assert pool.http.post("/models/register", json=entry).status_code == 201
    (broken / "model.onnx.data").unlink()
    answer = pool.http.post("/models/broken/load", params={"wait": 60}, timeout=70)
    assert answer.status_code >= 400
    assert answer.json()["error"]["code"] == "bad_file", answer.text
