"""The engine ``transformers`` through a whole pool, by the gateway and by the worker's own port."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from demo_formats import DEMO_FOLDER, gguf_file
from e2e.helpers import alive, assert_error, chat, content, streamed, until
from e2e.support import PoolProcess
from support.tiny_transformers import bert, sentence_modules

# Libraries warn of themselves.
pytestmark = [pytest.mark.slow, pytest.mark.e2e, pytest.mark.filterwarnings("default")]
LOAD_SECONDS = 200
QUESTIONS = json.loads((DEMO_FOLDER.parent / "pool-demo.questions.json").read_text())
SAMPLE = random.Random(4).sample(QUESTIONS, 60)
TEXTS = ["the red fox runs", "a blue bird flies and the dog is not", "sky"]


def entry(model: str, source: Path, engine: str = "transformers", **options: Any) -> dict[str, Any]:
    return {"model_id": model, "engine": engine, "source": str(source), "options": options}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def pool(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PoolProcess]:
    gguf_file(DEMO_FOLDER, folder / "demo-f16.gguf", "f16")
    bert(folder / "mean")
    sentence_modules(folder / "mean", "mean_tokens")
    bert(folder / "ranks", "BertForSequenceClassification", num_labels=1)
    labels = {0: "animal", 1: "place", 2: "other"}
    bert(folder / "sorts", "BertForSequenceClassification", id2label=labels)
    models = [
        entry("demo", DEMO_FOLDER, parallel=16),
        entry("from-gguf", folder / "demo-f16.gguf"),
        entry("llama", folder / "demo-f16.gguf", "llama.cpp"),
        entry("mean", folder / "mean"),
        entry("cls", folder / "mean", pooling="cls", normalize=False),
        entry("ranks", folder / "ranks"),
        entry("sorts", folder / "sorts"),
    ]
    with PoolProcess(tmp_path_factory.mktemp("pool"), models, default_ttl_minutes=60) as pool:
        yield pool


@contextmanager
def hot(pool: PoolProcess, *models: str) -> Iterator[None]:
    """They are loaded, and not left behind."""
    for model in models:
        begun = pool.http.post(f"/models/{model}/load", json={})
        assert begun.status_code in (200, 202), begun.text
        pool.wait_for(model, "HOT", LOAD_SECONDS)
    try:
        yield
    finally:
        for model in models:
            pool.http.post(f"/models/{model}/unload", json={})


@pytest.fixture(scope="module")
def demo(pool: PoolProcess) -> Iterator[str]:
    with hot(pool, "demo"):
        yield "demo"


def url_of(pool: PoolProcess, model: str) -> str:
    return f"http://127.0.0.1:{pool.model(model)['port']}"


# -- text ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["gateway", "port"])
def test_questions_plain_and_streamed(pool: PoolProcess, demo: str, way: str) -> None:
    url = pool.url if way == "gateway" else url_of(pool, demo)
    with httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
        for question in SAMPLE:
            body = {"model": demo, "messages": question["messages"], "temperature": 0}
            answer = client.post("/v1/chat/completions", json=body)
            assert answer.status_code == 200, answer.text
            assert content(answer) == question["answer"]
            assert streamed(url, body).text == question["answer"]


def test_the_same_tokens_as_llama_cpp(pool: PoolProcess, demo: str) -> None:
    with hot(pool, "llama"):
        for question in SAMPLE[:20]:
            said = []
            for model in (demo, "llama"):
                body = {"model": model, "messages": question["messages"], "temperature": 0}
                answer = pool.http.post("/v1/chat/completions", json={**body, "logprobs": True})
                choice = answer.json()["choices"][0]
                tokens = [entry["token"] for entry in choice["logprobs"]["content"]]
                said.append((choice["message"]["content"], [t for t in tokens if t[:2] != "<|"]))
            assert said[0] == said[1]


def test_sixteen_at_once(pool: PoolProcess, demo: str) -> None:
    def ask(question: dict[str, Any]) -> str:
        body = {"model": demo, "messages": question["messages"], "temperature": 0}
        return content(pool.http.post("/v1/chat/completions", json=body))

    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(ask, SAMPLE))
    assert answers == [question["answer"] for question in SAMPLE]


def test_who_leaves_is_worked_for_no_more(pool: PoolProcess, demo: str) -> None:
    bias = {"2": -100}  # it never ends by itself
    for stream in (False, True):
        for _ in range(4):
            with httpx.Client(base_url=pool.url, timeout=0.2, trust_env=False) as client:
                body = chat(demo, "Ping", stream=stream, max_tokens=900, logit_bias=bias)
                try:
                    with client.stream("POST", "/v1/chat/completions", json=body) as answer:
                        next(answer.iter_raw())
                except httpx.TimeoutException:
                    pass
    assert pool.ask(demo, "Ping", temperature=0) == "Pong!"
    until(lambda: pool.model(demo)["in_flight"] == 0, "nobody to be worked for")


def test_answers_follow_a_schema(pool: PoolProcess, demo: str) -> None:
    schema = {
        "type": "object",
        "properties": {
            "kind": {"enum": ["red", "green"]},
            "sure": {"type": "boolean"},
            "sizes": {
                "type": "array",
                "items": {"type": "integer", "minimum": 0, "maximum": 9},
                "maxItems": 3,
            },
        },
        "required": ["kind", "sure", "sizes"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}

    def ask(seed: int) -> dict[str, Any]:
        return dict(json.loads(pool.ask(demo, "Ping", seed=seed, response_format=form)))

    with ThreadPoolExecutor(8) as threads:
        for said in threads.map(ask, range(40)):
            assert said.keys() == {"kind", "sure", "sizes"}
            assert said["kind"] in ("red", "green")
            assert isinstance(said["sure"], bool)
            assert len(said["sizes"]) <= 3
            assert all(0 <= size <= 9 for size in said["sizes"])


def test_choices_stops_seeds_and_limits(pool: PoolProcess, demo: str) -> None:
    # Of a chat the demo is certain, whatever the temperature.
    hot: dict[str, Any] = {"n": 3, "temperature": 2, "seed": 5, "max_tokens": 12}
    body = {"model": demo, "prompt": [7, 9, 11], **hot}
    several, again = (pool.http.post("/v1/completions", json=body).json() for _ in range(2))
    said = [choice["text"] for choice in several["choices"]]
    assert said == [choice["text"] for choice in again["choices"]]
    assert len(set(said)) > 1
    stopped = pool.chat(demo, "1+1", temperature=0, stop=" is").json()["choices"][0]
    assert (stopped["message"]["content"], stopped["finish_reason"]) == ("1 plus 1", "stop")
    short = pool.chat(demo, "1+1", temperature=0, max_tokens=2).json()
    assert short["choices"][0]["finish_reason"] == "length"
    assert short["usage"]["completion_tokens"] == 2
    long = pool.chat(demo, "Ping " * 2000)
    assert_error(long, 400, "context_length_exceeded")
    refused = pool.chat(demo, "hi", tools=[{"type": "function", "function": {"name": "f"}}])
    assert refused.status_code == 400 or "ignored" in str(refused.headers)


def test_gguf(pool: PoolProcess) -> None:
    with hot(pool, "from-gguf"):
        for question in SAMPLE[:10]:
            body = {"model": "from-gguf", "messages": question["messages"], "temperature": 0}
            answer = pool.http.post("/v1/chat/completions", json=body)
            assert content(answer) == question["answer"]


# -- vectors, scores, classes ----------------------------------------------------------------------


def own(folder: Path, kind: str, *texts: Any) -> Any:
    """What the library itself computes, one text at a time."""
    import torch
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = getattr(transformers, kind).from_pretrained(folder).eval()
    with torch.inference_mode():
        return [model(**tokenizer(*text, return_tensors="pt")) for text in texts]


def test_embeddings(pool: PoolProcess, folder: Path) -> None:
    outputs = own(folder / "mean", "AutoModel", *[(text,) for text in TEXTS])
    with hot(pool, "mean", "cls"):
        found = {}
        for model in ("mean", "cls"):
            answer = pool.http.post("/v1/embeddings", json={"model": model, "input": TEXTS})
            assert answer.status_code == 200, answer.text
            found[model] = [item["embedding"] for item in answer.json()["data"]]
    for i, output in enumerate(outputs):
        states = output.last_hidden_state[0]
        mean = states.mean(0)
        assert found["mean"][i] == pytest.approx((mean / mean.norm()).tolist(), abs=1e-5)
        assert found["cls"][i] == pytest.approx(states[0].tolist(), abs=1e-4)


def test_rerank(pool: PoolProcess, folder: Path) -> None:
    kind = "AutoModelForSequenceClassification"
    outputs = own(folder / "ranks", kind, *[("what is red", text) for text in TEXTS])
    expected = [float(output.logits[0, 0].sigmoid()) for output in outputs]
    with hot(pool, "ranks"):
        body = {"model": "ranks", "query": "what is red", "documents": TEXTS}
        results = pool.http.post("/v1/rerank", json=body).json()["results"]
    scores = {result["index"]: result["relevance_score"] for result in results}
    assert [scores[i] for i in range(3)] == pytest.approx(expected, abs=1e-5)
    assert [result["index"] for result in results] == sorted(range(3), key=lambda i: -expected[i])


def test_classification(pool: PoolProcess, folder: Path) -> None:
    kind = "AutoModelForSequenceClassification"
    outputs = own(folder / "sorts", kind, *[(text,) for text in TEXTS])
    with hot(pool, "sorts"):
        body = {"model": "sorts", "input": TEXTS}
        data = pool.http.post("/v1/classify", json=body).json()["data"]
    names = ["animal", "place", "other"]
    for item, output in zip(data, outputs, strict=True):
        expected = output.logits[0].softmax(-1)
        assert item["probs"] == pytest.approx(expected.tolist(), abs=1e-5)
        assert item["label"] == names[int(expected.argmax())]


# -- loads -----------------------------------------------------------------------------------------


def test_five_rounds_leave_nothing(pool: PoolProcess) -> None:
    for _ in range(5):
        with hot(pool, "mean"):
            pid = pool.model("mean")["engine_pid"]
            assert alive(pid)
        pool.wait_for("mean", "COLD", 60)
        assert not alive(pid)


def broken(folder: Path, name: str, **changes: Any) -> Path:
    """A copy of the demo with another configuration; ``files`` are changed, too."""
    copy = folder / name
    copy.mkdir()
    for path in DEMO_FOLDER.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, **changes}))
    return copy


@pytest.mark.parametrize(
    ("changes", "options", "code", "words"),
    [
        (
            {"model_type": "unheard", "architectures": ["UnheardForCausalLM"]},
            {},
            "unsupported_arch",
            "UnheardForCausalLM",
        ),
        (
            {"model_type": "own", "auto_map": {"AutoModelForCausalLM": "own.Own"}},
            {},
            "unsupported_arch",
            "trust_remote_code",
        ),
        ({"num_hidden_layers": 5}, {}, "bad_file", "missing"),
        ({}, {"quantization": "bitsandbytes-4bit"}, "missing_dependency", "pip install"),
        ({}, {"device": "cuda:40"}, "bad_config", "device"),
    ],
)
def test_why_a_load_fails(
    pool: PoolProcess,
    tmp_path: Path,
    changes: dict[str, Any],
    options: dict[str, Any],
    code: str,
    words: str,
) -> None:
    source = broken(tmp_path, "broken", **changes)
    added = pool.http.post("/models/register", json=entry("broken", source, **options))
    assert added.status_code == 201, added.text
    try:
        pool.http.post("/models/broken/load", json={})
        failed = pool.wait_for("broken", "FAILED", LOAD_SECONDS)
        assert failed["failure"]["code"] == code
        assert words in failed["failure"]["message"]
    finally:
        pool.http.delete("/models/broken")
