"""A worker's ordinary life: real processes, real HTTP, a fake engine."""

from __future__ import annotations

import gzip
import http.client
import json
import os
import subprocess
import sys
import zlib
from typing import Any

import psutil
import pytest
from modelpool_client.surfaces.routes import SURFACES
from modelpool_worker.engines.fake import Fake

pytestmark = pytest.mark.e2e

CHAT = "/v1/chat/completions"


def sse(text: str) -> list[Any]:
    lines = [line[6:] for line in text.splitlines() if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


# Answers.


def test_a_chat(echo: Any) -> None:
    answer = echo.chat("one two three")
    assert answer.status_code == 200
    body = answer.json()
    assert body["object"] == "chat.completion"
    assert body["model"] == "demo"
    assert body["choices"][0]["message"] == {"role": "assistant", "content": "one two three"}
    assert body["usage"] == {"prompt_tokens": 3, "completion_tokens": 3, "total_tokens": 6}


def test_a_streamed_chat(echo: Any) -> None:
    answer = echo.chat("one two", stream=True)
    assert answer.headers["content-type"].startswith("text/event-stream")
    deltas = [c["choices"][0]["delta"].get("content") or "" for c in sse(answer.text)]
    assert "".join(deltas) == "one two"


def test_a_text_completion_with_choices(echo: Any) -> None:
    answer = echo.http.post("/v1/completions", json={"prompt": "a b c", "n": 2, "max_tokens": 2})
    choices = answer.json()["choices"]
    assert [(c["index"], c["text"], c["finish_reason"]) for c in choices] == [
        (0, "a b", "length"),
        (1, "a b", "length"),
    ]


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_a_compressed_body(echo: Any, coding: str) -> None:
    body = json.dumps({"messages": [{"role": "user", "content": "hi"}]}).encode()
    data = gzip.compress(body) if coding == "gzip" else zlib.compress(body)
    headers = {"content-type": "application/json", "content-encoding": coding}
    answer = echo.http.post(CHAT, content=data, headers=headers)
    assert answer.json()["choices"][0]["message"]["content"] == "hi"


@pytest.mark.parametrize("coding", ["br", "zstd"])
def test_a_body_compressed_otherwise_is_told_what_is_understood(echo: Any, coding: str) -> None:
    headers = {"content-type": "application/json", "content-encoding": coding}
    answer = echo.http.post(CHAT, content=b"whatever", headers=headers)
    assert (answer.status_code, answer.json()["error"]["param"]) == (415, "content-encoding")
    assert answer.headers["accept-encoding"] == "gzip, deflate, identity"


def test_a_curl_without_a_content_type(echo: Any) -> None:
    form = {"content-type": "application/x-www-form-urlencoded"}
    body = json.dumps({"messages": [{"role": "user", "content": "hi"}]})
    assert echo.http.post(CHAT, content=body, headers=form).status_code == 200
    page = {**form, "origin": "http://localhost"}
    assert echo.http.post(CHAT, content=body, headers=page).status_code == 415


def test_ignored_load_options_are_named(echo: Any) -> None:
    answer = echo.chat(num_ctx=99, keep_alive=0)
    assert answer.headers["x-modelpool-ignored"] == "keep_alive, num_ctx"


@pytest.mark.parametrize("name", ["demo", "nick", None])
def test_own_names(echo: Any, name: str | None) -> None:
    assert echo.chat(model=name).status_code == 200


def test_another_model_is_not_found(echo: Any) -> None:
    answer = echo.chat(model="other")
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["source"]) == (
        404,
        "model_not_found",
        "worker",
    )
    assert "demo, nick" in error["message"]


def test_too_long_a_prompt_is_the_clients_mistake(echo: Any) -> None:
    error = echo.chat("word " * 2000).json()["error"]
    assert (error["code"], error["source"]) == ("context_length_exceeded", "engine")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("POST", "/v1/embeddings", 501, "missing_capability"),
        ("GET", CHAT, 405, "method_not_allowed"),
        ("DELETE", "/health", 405, "method_not_allowed"),
        ("OPTIONS", CHAT, 405, "method_not_allowed"),
        ("GET", "/internal/facts", 403, "forbidden"),
        ("POST", "/internal/drain", 403, "forbidden"),
    ],
)
def test_refused_routes(echo: Any, method: str, path: str, status: int, code: str) -> None:
    answer = echo.http.request(method, path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert answer.headers["x-modelpool-code"] == code
    assert answer.headers["x-modelpool-source"] == "worker"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", CHAT, "POST"),
        ("POST", "/v1/models", "GET, HEAD"),
        ("DELETE", "/health", "GET, HEAD"),
        ("GET", "/internal/drain", "POST"),
    ],
)
def test_a_405_says_what_is_allowed(echo: Any, method: str, path: str, allowed: str) -> None:
    answer = echo.http.request(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)


@pytest.mark.parametrize("path", ["//v1/models", "/v1/models/", "//v1//models//"])
def test_slashes_too_many(echo: Any, path: str) -> None:
    assert status_of(echo, path) == 200


def test_the_secret_is_wanted_however_the_path_is_written(echo: Any) -> None:
    assert status_of(echo, "//internal//facts/") == 403


def status_of(worker: Any, path: str) -> int:
    """Of a GET with the path as it stands; other clients take two slashes for a host."""
    connection = http.client.HTTPConnection("127.0.0.1", worker.port, timeout=60)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.parametrize("name", ["demo:latest", "nick:latest"])
def test_its_name_with_latest(echo: Any, name: str) -> None:
    body = {"model": name, "messages": [{"role": "user", "content": "x"}]}
    assert echo.http.post(CHAT, json=body).status_code == 200
    other = {**body, "model": "demo:8b"}
    assert echo.http.post(CHAT, json=other).status_code == 404


@pytest.mark.parametrize("path", ["/health", "/metrics", "/v1/models", CHAT])
def test_a_strange_host_or_origin_is_forbidden(echo: Any, path: str) -> None:
    assert echo.http.get(path, headers={"host": "evil.example"}).status_code == 403
    assert echo.http.get(path, headers={"origin": "http://evil.example"}).status_code == 403


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[]", b'{"messages": 3}'])
def test_bad_bodies(echo: Any, body: bytes) -> None:
    answer = echo.http.post(CHAT, content=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_a_huge_body(echo: Any) -> None:
    answer = echo.http.post(CHAT, content=b" " * (65 << 20))
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "payload_too_large")


# Views.


def test_health(echo: Any) -> None:
    health = echo.http.get("/health").json()
    assert health["model"] == "demo"
    assert health["status"] == "ready"
    assert health["port"] == echo.port
    assert health["worker_id"] == echo.id
    assert psutil.Process(health["engine_pid"]).ppid() == echo.process.pid


def test_models(echo: Any) -> None:
    models = echo.http.get("/v1/models").json()["data"]
    assert [m["id"] for m in models] == ["demo", "nick"]
    assert [(m["root"], m["aliases"]) for m in models] == [("demo", ["nick"])] * 2
    named = echo.http.get("/v1/models/nick").json()
    assert (named["id"], named["root"]) == ("nick", "demo")


def test_metrics(echo: Any) -> None:
    echo.chat("a b")
    text = echo.http.get("/metrics").text
    assert 'modelpool_worker_engine_up{model="demo"} 1' in text
    assert f'route="{CHAT}",status="200"' in text
    for line in text.splitlines():
        assert line.startswith("#") or float(line.rpartition(" ")[2]) >= 0


def test_the_description_names_every_public_route(echo: Any) -> None:
    document = echo.http.get("/openapi.json").json()
    answered = {path for path, surface in SURFACES.items() if surface.is_answered(Fake.surfaces)}
    of_worker = {"/v1/models", "/v1/ws", "/health", "/metrics", "/openapi.json", "/v2"}
    assert document["paths"].keys() >= answered | of_worker
    assert {CHAT, "/v1/completions", "/v1/messages", "/api/chat"} <= answered


def test_facts(echo: Any) -> None:
    facts = echo.live_facts()
    assert facts["phase"] == "ready"
    assert facts["pid"] == echo.process.pid
    assert facts["port"] == echo.port
    since_boot = psutil.Process(facts["engine_pid"]).create_time() - psutil.boot_time()
    assert facts["engine_started"] == pytest.approx(since_boot, abs=0.02)
    assert facts["rss_bytes"] > 10 << 20
    assert echo.live_facts()["sequence"] > facts["sequence"]


def test_posts_carry_the_secret_and_go_to_the_right_place(echo: Any, manager: Any) -> None:
    posts = [p for p in manager.posts if p[2]["worker_id"] == echo.id]
    assert {secret for _, secret, _ in posts} == {f"Bearer {echo.secret}"}
    assert {body["path"] for _, _, body in posts} == {f"/internal/workers/{echo.id}/facts"}
    numbers = [body["sequence"] for _, _, body in posts]
    assert numbers == sorted(set(numbers))


# The load.


def test_progress_is_reported_and_requests_wait_outside(worker: Any, until: Any) -> None:
    one = worker({"load_seconds": 6, "load_steps": 60}).start()
    until(lambda: one.facts["progress"])
    health = one.http.get("/health")
    assert (health.status_code, health.json()["status"]) == (503, "loading")
    refused = one.chat()
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "model_loading")
    assert int(refused.headers["retry-after"]) >= 1
    one.wait_phase("ready")
    fractions = [f["progress"]["fraction"] for f in one.manager.facts(one.id) if f["progress"]]
    assert fractions == sorted(fractions)
    assert one.live_facts()["progress"] is None
    assert one.chat().status_code == 200


def test_the_engine_sees_no_secret_and_stands_in_the_group(echo: Any) -> None:
    engine = psutil.Process(echo.http.get("/health").json()["engine_pid"])
    environment = engine.environ()
    assert environment["MODELPOOL_WORKER_ID"] == echo.id
    assert "SOME_API_KEY" not in environment
    assert echo.secret not in str(environment)
    assert os.getpgid(engine.pid) == os.getpgid(echo.process.pid) == echo.process.pid
    assert engine.nice() == psutil.Process(echo.process.pid).nice() + 5


def test_activity_is_posted_on_the_edges(worker: Any, own_manager: Any, until: Any) -> None:
    one = worker({"tokens": 3}, manager=own_manager, beat_seconds=3600.0).ready()
    before = len(own_manager.posts)
    one.chat()
    until(lambda: len(own_manager.posts) > before)
    until(lambda: one.facts["in_flight"] == 0 and one.facts["requests_total"] == 1)
    assert one.facts["tokens_total"] == 3


def test_describe() -> None:
    command = [sys.executable, "-m", "modelpool_worker", "describe"]
    engines = json.loads(subprocess.check_output(command))["engines"]
    by_name = {e["name"]: e for e in engines}
    assert by_name["fake"]["usable"] is True
    assert by_name["llama.cpp"]["formats"] == ["gguf"]
    one = [*command, "--engine", "fake", "--options", '{"tokens": "x"}']
    answer = json.loads(subprocess.check_output(one))
    assert answer["usable"] is False
    assert "options.tokens" in answer["reason"]


def test_what_the_manager_says_of_pages_later_counts(
    worker: Any, own_manager: Any, until: Any
) -> None:
    told = {"origins": ["https://app.example"], "hosts": []}
    one = worker(manager=own_manager, beat_seconds=0.05, allowlist=told).ready()

    def status(origin: str) -> int:
        return int(one.http.get("/health", headers={"origin": origin}).status_code)

    assert status("https://app.example") == 200
    assert status("https://other.example") == 403
    own_manager.reply["allowlist"] = {"origins": ["https://other.example"], "hosts": ["pool.x"]}
    until(lambda: status("https://other.example") == 200)
    assert status("https://app.example") == 403
    assert one.http.get("/health", headers={"host": "pool.x"}).status_code == 200


def test_the_scripted_engine_sleeps(worker: Any, until: Any) -> None:
    """What it holds is given back; who asks it behind the front's back meanwhile kills it."""
    made = worker({"sleeps": 2, "memory_mb": 40}).ready()
    # As it is now: what was told last may be of the begin of the load.
    held = made.internal("POST", "facts").json()["memory_held_bytes"]
    assert made.internal("POST", "sleep", json={"if_idle_for": 0}).json()["drained"]
    until(lambda: made.live_facts()["phase"] == "asleep", "its sleep")
    facts = made.live_facts()
    assert facts["sleep_level"] == 2
    assert facts["memory_held_bytes"] < held - 30 * (1 << 20)
    assert made.chat("hi").status_code == 503
    made.internal("POST", "wake")
    until(lambda: made.live_facts()["phase"] == "ready", "that it is awake")
    assert made.chat("hi").status_code == 200
