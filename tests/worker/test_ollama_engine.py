"""A worker whose model a server of Ollama holds. The other side is the fake of
``support.ollama``, for no real one can be had here."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import ollama
import openai
import pytest
from support.ollama import FakeModel, FakeOllama, Fault, fake_ollama, until_left

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

ALL = ("completion", "tools", "insert", "vision", "thinking")
PNG = "iVBORw0KGgo="
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}


@pytest.fixture
def server() -> Iterator[FakeOllama]:
    models = {
        "llama:latest": FakeModel(),
        "wise:1b": FakeModel(ALL, parameters="temperature 0.5\nnum_ctx 2048"),
        "bert:latest": FakeModel(("embedding",), architecture="bert"),
    }
    with fake_ollama(models) as fake:
        yield fake


@pytest.fixture
def other() -> Iterator[FakeOllama]:
    with fake_ollama({"llama:latest": FakeModel()}) as fake:
        yield fake


@pytest.fixture
def started(worker: Callable[..., Any], server: FakeOllama) -> Callable[..., Any]:
    """A worker of a model of the server, to be started."""

    def make(source: str = "llama", *others: FakeOllama, **options: Any) -> Any:
        servers = [fake.url for fake in (server, *others)]
        options = {"servers": servers, **options}
        return worker(options, engine="ollama", model_id="mine", source=source, beat_seconds=0.05)

    return make


def asks(worker: Any, **body: Any) -> httpx.Response:
    """A chat that is not looked at yet."""
    return worker.chat(body.pop("text", "one two"), **body)


def stream_of(worker: Any, text: str) -> Any:
    body = {"messages": [{"role": "user", "content": text}], "stream": True}
    return worker.http.stream("POST", "/v1/chat/completions", json=body)


# -- loaded and unloaded ---------------------------------------------------------------------------


def test_a_load_and_an_unload_are_the_servers(started: Any, server: FakeOllama) -> None:
    one = started().ready()
    assert server.loads == {"llama:latest": 1}
    assert server.loaded["llama:latest"].keep_alive == -1
    assert server.loaded["llama:latest"].options == {"num_ctx": 4096}
    facts = one.live_facts()
    assert (facts["engine_pid"], facts["context_length"]) == (None, 4096)
    assert "runs Ollama 0.33.0" in one.log
    server.unload_gate.clear()
    one.internal("POST", "drain", json={"reason": "the test"})
    assert one.process.poll() is None, "it ends when the model is gone"
    server.unload_gate.set()
    assert one.wait_exit() == 0
    assert server.unloads == {"llama:latest": 1}


def test_no_request_loads_it_anew(started: Any, server: FakeOllama) -> None:
    one = started("wise:1b", batch_size=64, gpu_layers=3).ready()
    body = {"messages": [{"role": "user", "content": "a b"}], "keep_alive": None, "stream": False}
    body["options"] = {"num_ctx": 99, "temperature": 0.1, "top_p": None}
    answer = one.http.post("/api/chat", json=body)
    assert answer.status_code == 200, answer.text
    assert asks(one, max_tokens=1).status_code == 200
    assert one.http.post("/v1/completions", json={"prompt": "a"}).status_code == 200
    assert server.loads == {"wise:1b": 1}
    options = server.asked("/api/chat")[0]["options"]
    assert options == {"num_ctx": 2048, "num_batch": 64, "num_gpu": 3, "temperature": 0.1}


def test_memory_is_the_servers_and_counts(started: Any, server: FakeOllama, until: Any) -> None:
    server.models["llama:latest"].on_gpu = 0.75
    one = started(device="cuda:0", context_length=1000).ready()
    size = 50_000_000 + 1000 * 1000

    def shown() -> bool:
        return bool(one.live_facts()["device_memory_bytes"])

    until(shown, "memory of the device")
    facts = one.live_facts()
    assert facts["device_memory_bytes"] == {"cuda:0": size * 3 // 4}
    assert facts["memory_bytes"] > size // 4
    assert facts["memory_held_bytes"] > size // 4


@pytest.mark.parametrize(
    ("source", "text"),
    [("nobody", "poolctl pull ollama-server:nobody"), ("nobody:1b", "ollama pull nobody:1b")],
)
def test_a_model_that_nobody_pulled(started: Any, source: str, text: str) -> None:
    failed = started(source).start()
    assert failed.wait_exit() == 3
    assert text in failed.record["message"]


def test_nobody_there(worker: Any) -> None:
    options = {"servers": ["127.0.0.1:9"]}
    failed = worker(options, engine="ollama", model_id="mine", source="llama").start()
    assert failed.wait_exit() == 3
    assert "127.0.0.1:9" in failed.record["message"]
    assert "ollama serve" in failed.record["message"]


def test_a_load_that_runs_out_of_memory(started: Any, server: FakeOllama) -> None:
    text = "model requires more system memory (9.9 GiB) than is available (1.0 GiB)"
    server.faults["/api/generate"].append(Fault(500, text))
    failed = started().start()
    assert failed.wait_exit() == 3
    assert failed.record["code"] == "oom"
    assert "9.9 GiB" in failed.record["message"]


def test_a_server_that_is_busy_is_asked_again(started: Any, server: FakeOllama) -> None:
    busy = Fault(503, "server busy, please try again. maximum pending requests exceeded")
    server.faults["/api/generate"] += [busy, busy]
    started().ready()
    assert server.loads == {"llama:latest": 1}


def test_versions(started: Any, server: FakeOllama) -> None:
    server.version = "0.1.30"
    failed = started().start()
    assert failed.wait_exit() == 3
    assert "at least 0.2.6 is needed" in failed.record["message"]
    server.version = "0.5.1"  # says nothing of capabilities
    server.models["wise:1b"].template = "{{ .Tools }}"
    one = started("wise:1b").ready()
    assert "without a word" in one.log
    refused = asks(one, logprobs=True)
    assert refused.status_code == 400
    assert "0.12.11" in refused.json()["error"]["message"]
    assert asks(one, text="call", tools=[TOOL]).json()["choices"][0]["message"]["tool_calls"]


# -- answers ---------------------------------------------------------------------------------------


def test_the_openai_package(started: Any, server: FakeOllama) -> None:
    one = started("wise:1b").ready()
    with openai.OpenAI(base_url=f"http://127.0.0.1:{one.port}/v1", api_key="none") as client:
        messages: Any = [{"role": "user", "content": "one two"}]
        whole = client.chat.completions.create(
            model="mine", messages=messages, logprobs=True, top_logprobs=2
        )
        assert whole.choices[0].message.content == "one two"
        assert whole.choices[0].message.model_extra["reasoning_content"] == "hm"
        assert whole.usage is not None
        assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (2, 3)
        logprobs = whole.choices[0].logprobs
        assert logprobs is not None
        assert logprobs.content is not None
        assert [t.token for t in logprobs.content] == ["one", " two"]
        assert [len(t.top_logprobs) for t in logprobs.content] == [2, 2]
        chunks = list(
            client.chat.completions.create(
                model="mine", messages=messages, stream=True, stream_options={"include_usage": True}
            )
        )
        assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "one two"
        assert chunks[-1].usage is not None
        called = client.chat.completions.create(
            model="mine", messages=[{"role": "user", "content": "call"}], tools=[TOOL]
        ).choices[0]
        assert called.finish_reason == "tool_calls"
        (call,) = called.message.tool_calls
        assert (call.function.name, json.loads(call.function.arguments)) == ("add", {"a": 1})
        more = [
            {"role": "user", "content": "call"},
            called.message.model_dump(exclude_none=True),
            {"role": "tool", "tool_call_id": call.id, "content": "three"},
        ]
        answer = client.chat.completions.create(model="mine", messages=more, tools=[TOOL])
        assert answer.choices[0].message.content == "three"
        assert server.asked("/api/chat")[-1]["messages"][-1]["tool_name"] == "add"
        text = client.completions.create(model="mine", prompt="a b c", max_tokens=2)
        assert (text.choices[0].text, text.choices[0].finish_reason) == ("a b", "length")


def test_what_a_chat_says_besides(started: Any, server: FakeOllama) -> None:
    one = started("wise:1b").ready()
    picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
    parts = [{"type": "text", "text": "see"}, picture]
    body = {
        "messages": [{"role": "user", "content": parts}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {}}},
        "reasoning_effort": "high",
        "stop": "x",
        "seed": 7,
    }
    answer = one.http.post("/v1/chat/completions", json=body)
    assert json.loads(answer.json()["choices"][0]["message"]["content"]) == {"a": 1}
    told = server.asked("/api/chat")[-1]
    assert told["messages"] == [{"role": "user", "content": "see", "images": [PNG]}]
    assert (told["think"], told["truncate"], told["keep_alive"]) == ("high", False, -1)
    assert told["options"]["stop"] == ["x"]
    assert told["options"]["repeat_penalty"] == 1.0
    picture["image_url"] = {"url": "https://example.com/a.png"}
    assert "data URL" in one.http.post("/v1/chat/completions", json=body).text
    forced = asks(one, text="call", tools=[TOOL], tool_choice="required")
    assert forced.status_code != 400, forced.text


def test_a_gap_is_filled(started: Any) -> None:
    body = {"prompt": "a", "suffix": "b"}
    assert (
        started("wise:1b")
        .ready()
        .http.post("/v1/completions", json=body)
        .json()["choices"][0]["text"]
        == "a b"
    )
    refused = started().ready().http.post("/v1/completions", json=body)
    assert "cannot fill in" in refused.json()["error"]["message"]


def test_the_ollama_package(started: Any, server: FakeOllama) -> None:
    one = started("wise:1b").ready()
    messages = [{"role": "user", "content": "one two"}]
    with ollama.Client(f"http://127.0.0.1:{one.port}") as client:
        told = list(client.chat("mine", messages, stream=True, keep_alive="5m"))
        assert "".join(part.message.content or "" for part in told) == "one two"
        assert {part.model for part in told} == {"mine"}
        assert told[-1].done
        assert server.loaded["wise:1b"].keep_alive == -1
        whole = client.generate("mine", "a b", raw=True, think=False)
        assert (whole.response, whole.model, whole.eval_count) == ("a b", "mine", 2)
        assert one.live_facts()["tokens_total"] == 5
        with pytest.raises(ollama.ResponseError, match="does not answer embeddings"):
            client.embed("mine", "text")


def test_vectors(started: Any, server: FakeOllama) -> None:
    one = started("bert").ready()
    answer = one.http.post("/v1/embeddings", json={"input": ["ab", "c"]}).json()
    assert [item["embedding"] for item in answer["data"]] == [[1.0, 0.0, 2.0], [1.0, 0.0, 1.0]]
    assert answer["usage"]["prompt_tokens"] == 2
    with ollama.Client(f"http://127.0.0.1:{one.port}") as client:
        assert client.embed("mine", "abc").embeddings == [[1.0, 0.0, 3.0]]
        assert client.embeddings("mine", "abc").embedding == [1.0, 0.0]
    assert asks(one).status_code == 501
    long = one.http.post("/v1/embeddings", json={"input": "a " * 5000})
    assert long.json()["error"]["code"] == "context_length_exceeded"


def test_nothing_is_cut_off_a_prompt(started: Any) -> None:
    answer = asks(started(context_length=3).ready(), text="a b c d")
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "context_length_exceeded"


# -- what goes wrong -------------------------------------------------------------------------------

# Longer than whoever does not hang may be kept waiting by a busy machine.
HANG_SECONDS = 2
BROKEN = [
    (Fault(after=1, line=b'{"error":"an error was encountered"}\n'), "an error was encountered"),
    (Fault(after=1), "without saying that it is done"),
    (Fault(after=1, line=b"<html>\n"), "no JSON object"),
    (Fault(after=1, breaks=True), "lost in the middle"),
    (Fault(after=1, hangs=True), f"said nothing for {HANG_SECONDS} s"),
]


@pytest.mark.parametrize(("fault", "text"), BROKEN)
def test_a_stream_that_breaks(started: Any, server: FakeOllama, fault: Fault, text: str) -> None:
    one = started(timeout_seconds=HANG_SECONDS).ready()
    server.faults["/api/chat"] += [fault] * 3
    with stream_of(one, "one two three") as answer:
        told = answer.read().decode()
    assert '"one"' in told
    assert text in told
    assert "[DONE]" not in told
    whole = asks(one, text="one two three")
    assert whole.status_code == 502
    assert text in whole.json()["error"]["message"]
    body = {"model": "mine", "messages": [{"role": "user", "content": "one two three"}]}
    lines = one.http.post("/api/chat", json=body).text.splitlines()
    assert text in json.loads(lines[-1])["error"]
    assert asks(one).status_code == 200, "the next one is answered"


def test_a_hang_before_the_first_word(started: Any, server: FakeOllama) -> None:
    one = started(timeout_seconds=HANG_SECONDS).ready()
    server.faults["/api/chat"].append(Fault(hangs=True))
    answer = asks(one)
    assert answer.status_code == 502
    assert f"said nothing for {HANG_SECONDS} s" in answer.json()["error"]["message"]
    assert until_left(server, 1)


def test_a_model_that_ollama_has_evicted(started: Any, server: FakeOllama, until: Any) -> None:
    one = started().ready()
    with server.lock:
        server.loaded.clear()
    until(lambda: "has unloaded llama" in one.log)
    assert asks(one).status_code == 200
    assert server.loads["llama:latest"] == 2
    assert server.loaded["llama:latest"].keep_alive == -1


def test_a_server_that_is_started_again(started: Any, server: FakeOllama, until: Any) -> None:
    one = started().ready()
    server.stop()
    answer = asks(one)
    assert answer.status_code == 502
    assert f"127.0.0.1:{server.port}" in answer.json()["error"]["message"]
    server.start()
    until(lambda: "is back" in one.log)
    until(lambda: server.loads["llama:latest"] == 2, "it is loaded again")
    assert asks(one).status_code == 200


# -- several servers -------------------------------------------------------------------------------


def test_requests_are_shared(started: Any, server: FakeOllama, other: FakeOllama) -> None:
    one = started("llama", other).ready()
    assert server.loads == other.loads == {"llama:latest": 1}
    assert one.http is one.http, "one client for all threads"
    with ThreadPoolExecutor(8) as threads:
        answers = [threads.submit(asks, one, text="wait") for _ in range(8)]
        until_busy((server, other), 8)
        assert (server.busy, other.busy) == (4, 4)
        server.gate.set()
        other.gate.set()
        assert {a.result().status_code for a in answers} == {200}
    one.internal("POST", "drain", json={})
    assert one.wait_exit() == 0
    assert server.unloads == other.unloads == {"llama:latest": 1}


@pytest.mark.parametrize(
    "fault",
    [Fault(503, "server busy"), Fault(404, "model 'llama' not found"), Fault(after=0, breaks=True)],
)
def test_another_answers(started: Any, server: FakeOllama, other: FakeOllama, fault: Fault) -> None:
    one = started("llama", other).ready()
    server.faults["/api/chat"].append(fault)
    answers = [asks(one) for _ in range(2)]
    assert [a.status_code for a in answers] == [200, 200]
    assert server.faults["/api/chat"] == type(server.faults["/api/chat"])()


def test_a_server_that_dies_and_is_back(
    started: Any, server: FakeOllama, other: FakeOllama, until: Any
) -> None:
    one = started("llama", other).ready()
    server.stop()
    assert [asks(one).status_code for _ in range(3)] == [200] * 3
    server.start()
    until(lambda: "llama:latest" in server.loaded, "it is loaded again")
    until(lambda: asks(one).status_code == 200 and server.asked("/api/chat"), "it is asked again")


def test_one_that_is_down_at_the_load(
    started: Any, server: FakeOllama, other: FakeOllama, until: Any
) -> None:
    server.stop()
    one = started("llama", other).ready()
    assert asks(one).status_code == 200
    server.start()
    until(lambda: "llama:latest" in server.loaded, "it is loaded, too")


def until_busy(servers: tuple[FakeOllama, ...], count: int) -> None:
    import time

    end = time.monotonic() + 60
    while sum(s.busy for s in servers) < count:
        assert time.monotonic() < end
        time.sleep(0.005)


# -- clients who leave -----------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/chat"])
@pytest.mark.parametrize("window", ["before", "within", "whole"])
def test_who_leaves_frees_the_server(
    started: Any, server: FakeOllama, until: Any, path: str, window: str
) -> None:
    one = started().ready()
    text = "slow two" if window == "within" else "wait"
    body: dict[str, Any] = {"messages": [{"role": "user", "content": text}], "model": "mine"}
    body["stream"] = window != "whole"
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {len(data)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", one.port), timeout=60) as client:
        client.sendall(head.encode() + data)
        until(lambda: server.busy == 1)  # beside it others may just be looking
        told = b""
        while window == "within" and b'"slow"' not in told:
            told += client.recv(1 << 16)
    assert until_left(server, 1)
    until(lambda: server.busy == 0)
    until(lambda: one.live_facts()["in_flight"] == 0)
    assert server.loads == {"llama:latest": 1}
