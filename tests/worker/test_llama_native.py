"""What llama.cpp's own server answers, a worker answers: the same requests to both."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

pytestmark = pytest.mark.e2e
MAKE = Path(__file__).parents[2] / "scripts" / "make_bench_gguf.py"
SHAPE = "--layers=2 --hidden=64 --ffn=192 --heads=4 --kv=2 --vocab=1024 --ctx=512"
CONTEXT, SLOTS = 512, 2
OPTIONS = {"threads": 1, "parallel": SLOTS, "seed": 7}
# The bare engine with what a worker gives it; ``pooling`` is one of llama.cpp's numbers.
BARE = """
import json, os, sys, xllamacpp
given = json.loads(sys.argv[1])
p = xllamacpp.CommonParams()
p.model.path, p.hostnames, p.port = given["file"], ["127.0.0.1"], given["port"]
p.model_alias = {"demo"}
p.n_parallel, p.n_ctx = given["slots"], given["slots"] * given["context"]
p.cpuparams.n_threads = p.cpuparams_batch.n_threads = 1
p.warmup, p.cache_ram_mib, p.sampling.seed = False, 0, 7
p.endpoint_metrics = True
p.n_batch, p.verbosity = 256, 1
if given["pooling"]:
    p.embedding, p.n_batch, p.n_ubatch = True, given["context"], given["context"]
    p.pooling_type = getattr(xllamacpp.llama_pooling_type, given["pooling"])
server = xllamacpp.Server(p)
print("ready", flush=True)
sys.stdin.read()
os._exit(0)
"""
# What is another at every request, or tells of the machine.
VOLATILE = frozenset({"created", "id", "id_slot", "prompt_progress", "timings"})
EXACT = {"temperature": 0, "seed": 1, "cache_prompt": False, "ignore_eos": True}
CHAT = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 6, **EXACT}
TEXT = {"prompt": "hello there", "n_predict": 6, **EXACT}
LETTERS = 'root ::= "a"{5,5}'
Ask = Callable[..., httpx.Response]


@pytest.fixture(scope="module")
def asks(
    tmp_path_factory: pytest.TempPathFactory, manager: Any, running: Any
) -> Iterator[Callable[[str], tuple[Ask, Ask]]]:
    """For a kind of model how the bare engine is asked, and how a worker is."""
    folder = tmp_path_factory.mktemp("native")
    closing: list[Callable[[], Any]] = []
    made: dict[str, tuple[Ask, Ask]] = {}

    def both(kind: str) -> tuple[Ask, Ask]:
        if kind not in made:
            file = folder / f"{kind}.gguf"
            more = [] if kind == "chat" else [f"--pooling={kind}"]
            command = [sys.executable, str(MAKE), str(file), *SHAPE.split(), *more]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            bare, close = _bare(file, kind)
            closing.append(close)
            one = running(manager, folder, engine="llama.cpp", source=str(file), options=OPTIONS)
            closing.append(one.close)
            made[kind] = (bare, one.ready().http.request)
        return made[kind]

    yield both
    for close in closing:
        close()


def _bare(file: Path, kind: str) -> tuple[Ask, Callable[[], None]]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    pooling = "" if kind == "chat" else f"LLAMA_POOLING_TYPE_{kind.upper()}"
    told = {"file": str(file), "port": port, "context": CONTEXT, "slots": SLOTS, "pooling": pooling}
    command = [sys.executable, "-c", BARE, json.dumps(told)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    # Its server closes a connection that rests, without looking whether a request is on its way.
    client = httpx.Client(
        base_url=f"http://127.0.0.1:{port}",
        headers={"connection": "close"},
        timeout=60,
        trust_env=False,
    )

    def close() -> None:
        client.close()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        process.wait(30)
        process.stdout.close()

    return client.request, close


def steady(part: Any) -> Any:
    """Without what no two answers have in common, and what they leave out or say is null."""
    if isinstance(part, list):
        return [steady(one) for one in part]
    return rounded({k: v for k, v in part.items() if k not in VOLATILE})


def rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: rounded(v) for k, v in value.items() if v is not None}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return round(value, 4) if isinstance(value, float) else value


def parts(answer: httpx.Response) -> list[Any]:
    """The events of a stream, or the one answer."""
    if not answer.headers["content-type"].startswith("text/event-stream"):
        return [answer.json()]
    data = [line[6:] for line in answer.text.splitlines() if line.startswith("data: ")]
    return [json.loads(text) for text in data if text != "[DONE]"]


SAME = [
    ("chat", "/completion", TEXT),
    ("chat", "/completion", TEXT | {"stream": True}),
    ("chat", "/completions", TEXT | {"prompt": [5, 6, "hello", 7], "return_tokens": True}),
    ("chat", "/completion", TEXT | {"prompt": ["hello", [5, 6]]}),
    ("chat", "/completion", TEXT | {"n_probs": 3, "post_sampling_probs": True}),
    ("chat", "/completion", TEXT | {"n_probs": 3, "stream": True}),
    ("chat", "/completion", TEXT | {"grammar": LETTERS, "samplers": ["top_k"], "top_k": 5}),
    ("chat", "/completion", TEXT | {"json_schema": {"const": "42"}, "ignore_eos": False}),
    ("chat", "/completion", TEXT | {"response_fields": ["content", "generation_settings/seed"]}),
    ("chat", "/completion", TEXT | {"return_progress": True, "stream": True}),
    ("chat", "/chat/completions", CHAT),
    ("chat", "/v1/chat/completions", CHAT | {"stream": True}),
    ("chat", "/chat/completions", CHAT | {"grammar": LETTERS, "ignore_eos": False}),
    ("chat", "/chat/completions", CHAT | {"n": 2, "logprobs": True, "top_logprobs": 2}),
    ("chat", "/chat/completions", CHAT | {"json_schema": {"const": "42"}, "ignore_eos": False}),
    (
        "chat",
        "/chat/completions",
        CHAT | {"response_format": {"type": "json_object", "schema": {"const": "4"}}},
    ),
    ("chat", "/v1/chat/completions", CHAT | {"return_progress": True, "stream": True}),
    ("chat", "/v1/completions", TEXT | {"stream": True}),
    ("chat", "/v1/completions", TEXT),
    ("chat", "/chat/completions/input_tokens", CHAT),
    ("chat", "/apply-template", CHAT),
    ("chat", "/tokenize", {"content": "hello there", "add_special": True, "with_pieces": True}),
    ("chat", "/detokenize", {"tokens": [300, 301]}),
    ("mean", "/v1/embeddings", {"input": ["hello", [5, 6], {"prompt_string": "a"}]}),
    ("mean", "/v1/embeddings", {"input": [5, "hello", 6]}),
    ("mean", "/v1/embeddings", {"input": {"content": [{"type": "text", "text": "hello"}]}}),
    ("mean", "/embeddings", {"input": ["hello", "there"]}),
    ("mean", "/embedding", {"content": "hello", "embd_normalize": 2}),
    ("rank", "/rerank", {"query": "a", "documents": ["b", "c d"]}),
    ("rank", "/v1/rerank", {"query": "a", "texts": ["b", "c d"], "top_n": 1}),
    ("rank", "/rerank", {"query": "a", "texts": ["b", "c d"], "return_text": True}),
]


@pytest.mark.parametrize(("kind", "path", "body"), SAME)
def test_the_same_answer(asks: Any, kind: str, path: str, body: dict[str, Any]) -> None:
    bare, worker = asks(kind)
    expected, found = bare("POST", path, json=body), worker("POST", path, json=body)
    assert expected.status_code == 200, expected.text
    assert found.status_code == 200, found.text
    assert "x-modelpool-ignored" not in found.headers
    assert steady(parts(found)) == steady(parts(expected))


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/completion", {"prompt": "a", "grammar": "(((("}, "grammar"),
        ("/completion", {"prompt": {"content": 1}}, "prompt"),
        ("/chat/completions", CHAT | {"grammar": "(((("}, "grammar"),
        ("/completion", {"prompt": "word " * 3000}, "exceeds the available context size"),
        ("/chat/completions", {"messages": "hello"}, "messages"),
    ],
)
def test_what_is_wrong_is_wrong_for_both(
    asks: Any, path: str, body: dict[str, Any], words: str
) -> None:
    bare, worker = asks("chat")
    assert bare("POST", path, json=body).status_code in (400, 500)
    answer = worker("POST", path, json=body)
    assert answer.status_code == 400, answer.text
    assert words in answer.json()["error"]["message"]


# A red dot.
PICTURE = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJg"
    "gg=="
)


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        (
            "/v1/chat/completions",
            {"messages": [{"role": "user", "content": [
                {"type": "text", "text": "?"},
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PICTURE}"}},
            ]}]},
            "messages[0].content[1]",
        ),
        (
            "/v1/messages",
            {"max_tokens": 4, "messages": [{"role": "user", "content": [
                {"type": "image", "source": {
                    "type": "base64", "media_type": "image/png", "data": PICTURE}},
            ]}]},
            "messages[0].content[0]",
        ),
        (
            "/v1/responses",
            {"input": [{"role": "user", "content": [
                {"type": "input_image", "image_url": f"data:image/png;base64,{PICTURE}"},
            ]}]},
            "input[0].content[0]",
        ),
    ],
)  # fmt: skip
def test_a_picture_for_a_model_that_does_not_see(
    asks: Any, path: str, body: dict[str, Any], param: str
) -> None:
    _, worker = asks("chat")
    answer = worker("POST", path, json=body)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert "image input is not supported" in error["message"]
    assert answer.headers["x-modelpool-code"] == "missing_capability"
    assert error["param"] == param


def test_what_it_says_of_itself(asks: Any) -> None:
    bare, worker = asks("chat")
    for path in ("/props", "/slots", "/lora-adapters"):
        expected, found = bare("GET", path).json(), worker("GET", path).json()
        assert type(found) is type(expected)
        if isinstance(found, dict):
            assert found.keys() == expected.keys()
    names = {model["id"] for model in worker("GET", "/models").json()["data"]}
    assert {model["id"] for model in bare("GET", "/models").json()["data"]} <= names
    assert worker("GET", "/v1/health").json()["status"] == "ready"


def test_its_metrics_stand_beside_the_workers_own(asks: Any) -> None:
    bare, worker = asks("chat")
    assert worker("POST", "/completion", json=TEXT).status_code == 200
    expected, answer = bare("GET", "/metrics"), worker("GET", "/metrics")
    names = [line for line in expected.text.splitlines() if line.startswith("# TYPE ")]
    assert names
    assert set(names) <= set(answer.text.splitlines())
    assert "modelpool_worker_completions_total" in answer.text
    assert int(answer.headers["process-start-time-unix"]) > 0


@pytest.mark.parametrize(("path", "body"), [("/slots", []), ("/props", {})])
def test_what_would_change_it_for_everybody_is_refused(asks: Any, path: str, body: Any) -> None:
    _, worker = asks("chat")
    answer = worker("POST", path, json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (405, "method_not_allowed")


def test_a_model_made_for_embeddings_gives_a_vector_a_token_if_told(
    worker: Any, tmp_path: Path
) -> None:
    file = tmp_path / "embeds.gguf"
    command = [sys.executable, str(MAKE), str(file), *SHAPE.split(), "--pooling=mean"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    options = {**OPTIONS, "pooling_type": "none"}
    one = worker(options, engine="llama.cpp", source=str(file)).ready()
    body = {"content": "hello there"}
    tokens = one.http.post("/tokenize", json=body).json()["tokens"]
    (found,) = one.http.post("/embedding", json=body).json()
    assert [len(vector) for vector in found["embedding"]] == [64] * len(tokens)
    refused = one.http.post("/v1/embeddings", json={"input": "hello there"})
    assert (refused.status_code, "none" in refused.text) == (400, True)
    assert one.chat("hi").status_code == 501
