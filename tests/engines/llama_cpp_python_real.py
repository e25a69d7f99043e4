"""The engine llama-cpp-python with the package itself, which takes long to build: not among the
tests that are collected, ``make test-llama-cpp-python`` runs them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from e2e.helpers import alive, chat, content, until
from e2e.support import PoolProcess

MODELS = Path(__file__).parents[2] / "configs" / "models"
DEMO = MODELS / "pool-demo.gguf"


def entry(model_id: str, **options: Any) -> dict[str, Any]:
    source = str(DEMO)
    return {
        "model_id": model_id,
        "engine": "llama-cpp-python",
        "source": source,
        "options": options,
    }


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PoolProcess]:
    reference = {"model_id": "reference", "engine": "llama.cpp", "source": str(DEMO)}
    models = [entry("demo", batch_size=16), entry("vectors", pooling_type="mean"), reference]
    with PoolProcess(tmp_path_factory.mktemp("real"), models) as pool:
        yield pool
        pool.assert_no_bugs()


def test_it_answers_as_llama_cpp_does(pool: PoolProcess) -> None:
    asked = json.loads((MODELS / "pool-demo.questions.json").read_text())
    for each in asked[::80]:
        answers = []
        for model in ("demo", "reference"):
            body = {"model": model, "messages": each["messages"], "temperature": 0}
            answers.append(pool.http.post("/v1/chat/completions", json=body))
        assert [content(answer) for answer in answers] == [each["answer"]] * 2
        usages = [answer.json()["usage"] for answer in answers]
        assert usages[0]["prompt_tokens"] == usages[1]["prompt_tokens"]


def test_seeds_repeat_and_vectors_are_of_unit_length(pool: PoolProcess) -> None:
    body = chat("demo", "hello", seed=5, temperature=1.5, max_tokens=20)
    answers = {content(pool.http.post("/v1/chat/completions", json=body)) for _ in range(3)}
    assert len(answers) == 1
    told = pool.http.post("/v1/embeddings", json={"model": "vectors", "input": ["a b", "c"]})
    for each in told.json()["data"]:
        assert sum(x * x for x in each["embedding"]) == pytest.approx(1, abs=1e-3)


def test_a_client_that_leaves_frees_the_only_slot_and_memory_comes_back(pool: PoolProcess) -> None:
    endless = {"model": "demo", "prompt": "two and " * 300, "temperature": 2, "n": 16}
    endless["stream"] = True
    for _ in range(3):
        with pool.http.stream("POST", "/v1/completions", json=endless) as stream:
            next(stream.iter_lines())
    with pytest.raises(httpx.ReadTimeout):
        pool.http.post("/v1/completions", json={**endless, "stream": False}, timeout=0.05)
    answer = pool.http.post("/v1/chat/completions", json=chat("demo", "hello", max_tokens=3))
    assert answer.status_code == 200
    pid = pool.model("demo")["worker_pid"]
    assert pool.http.post("/models/demo/unload", json={}).status_code == 200
    until(lambda: not alive(pid), "the end of the worker")
