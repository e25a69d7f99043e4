"""What a collector of traces gets of requests that went through a real pool: one tree each, from
the client's own span to the engine's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.otlp import Collector, Seen, collecting
from support.providers.openai import OpenAIApi
from support.providers.server import KEY, FakeProvider

from e2e.conftest import MakePool
from e2e.helpers import chat, fake, until
from e2e.support import PoolProcess

TRACE, CLIENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED, UNSAMPLED = f"00-{TRACE}-{CLIENT}-01", f"00-{TRACE}-{CLIENT}-00"
POST = "POST /v1/chat/completions"
ATTEMPT = {"attempt": {POST: {"chat m": {}}}}
ENSEMBLE = {"kind": "ensemble", "members": ["m", "n"]}
CASCADE = {"kind": "cascade", "targets": ["m", "n"], "must_contain": ["nowhere to be found"]}


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[FakeProvider]:
    provider = FakeProvider(OpenAIApi())
    yield provider
    provider.stop()


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


@pytest.fixture(scope="module")
def pool(
    tmp_path_factory: pytest.TempPathFactory, collector: Collector, elsewhere: FakeProvider
) -> Iterator[PoolProcess]:
    folder = tmp_path_factory.mktemp("tracing")
    (folder / "key").write_text(KEY)
    away = {
        "base_url": f"{elsewhere.url}/v1",
        "api_key_file": str(folder / "key"),
        "models": ["gpt-4o"],
    }
    models = [
        fake("cold", options={"load_seconds": 2, "load_steps": 8}),
        fake("m"),
        fake("n"),
        fake("flaky", min_replicas=2, options={"fail_every": 2, "fail_how": "error"}),
        fake("broken", options={"fail_load": "bad_file", "message": "a torn file"}),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        patch.setenv("OTEL_SERVICE_NAME", "house")
        patch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-collector-key=secret")
        with PoolProcess(
            folder,
            models,
            traces="otlp",
            traces_endpoint=collector.url,
            providers={"away": away},
            virtual_models={"both": ENSEMBLE, "stairs": CASCADE},
        ) as pool:
            for model in ("m", "n"):
                pool.load(model)
            yield pool


@pytest.fixture(autouse=True)
def nothing_before(collector: Collector) -> None:
    collector.spans.clear()


def ask(url: str, model: str, traceparent: str = "", **more: Any) -> httpx.Response:
    headers = {"traceparent": traceparent, "tracestate": "vendor=1"} if traceparent else {}
    said = chat(model, **more)
    return httpx.post(f"{url}/v1/chat/completions", json=said, headers=headers, timeout=60)


def traced(collector: Collector, name: str, tree: dict[str, Any]) -> list[Seen]:
    """What there is of the one trace with a span of that name, once it is that tree: gateway and
    worker send what they have of it each by itself."""

    def traces() -> set[str]:
        return {span.trace for span in collector.named(name)}

    until(lambda: [collector.tree(trace) for trace in traces()] == [tree], f"{tree}")
    (trace,) = traces()
    return [span for span in collector.spans if span.trace == trace]


def one(spans: list[Seen], name: str, service: str = "") -> Seen:
    (found,) = [s for s in spans if s.name == name and s.service.startswith(service)]
    return found


def test_a_cold_stream_is_one_tree_below_its_client(
    pool: PoolProcess, collector: Collector
) -> None:
    answer = ask(pool.url, "cold", SAMPLED, text="one two", stream=True)
    assert answer.status_code == 200
    wanted = {"wait", "load cold", "start worker", "weights", "attempt", "chat cold"}

    def is_whole() -> bool:
        named = {span.name for span in collector.spans}
        return wanted <= named and any(span.parent == CLIENT for span in collector.spans)

    until(is_whole, "the spans of gateway, worker and load")
    spans = [span for span in collector.spans if span.trace == TRACE]
    tree = collector.tree(TRACE)
    assert list(tree) == [POST]
    phases = tree[POST]["wait"]["load cold"]
    assert next(iter(phases)) == "start worker"
    assert "weights" in phases, "what the engine says of its load"
    assert tree[POST]["attempt"] == {POST: {"chat cold": {}}}

    wait, root = one(spans, "wait"), next(s for s in spans if s.parent == CLIENT)
    worker = next(s for s in spans if s.service == "house-worker" and s.name == POST)
    engine = one(spans, "chat cold")
    assert (root.kind, worker.kind, engine.kind, wait.kind) == (
        *("server", "server", "client"),
        "internal",
    )
    assert root.state == "vendor=1"
    assert all(span.begin <= span.end for span in spans)
    assert root.begin <= wait.begin <= wait.end <= root.end
    assert root["http.response.status_code"] == worker["http.response.status_code"] == 200
    assert root["modelpool.request.id"] == worker["modelpool.request.id"]
    assert root["modelpool.request.id"] == answer.headers["x-request-id"]
    assert root["gen_ai.operation.name"] == engine["gen_ai.operation.name"] == "chat"
    assert root["gen_ai.request.model"] == engine["gen_ai.request.model"] == "cold"
    assert engine["gen_ai.provider.name"] == "fake"
    assert engine["gen_ai.request.stream"] is True
    assert engine["gen_ai.usage.output_tokens"] == 2
    assert engine["gen_ai.usage.input_tokens"] > 0
    assert engine.events == ("first token",)
    assert not any(span.is_error for span in spans)
    assert collector.headers[-1]["x-collector-key"] == "secret"


def test_what_is_hot_waits_for_nothing(pool: PoolProcess, collector: Collector) -> None:
    assert ask(pool.url, "m").status_code == 200
    spans = traced(collector, "chat m", {POST: ATTEMPT})
    assert one(spans, "chat m").events == ()
    assert one(spans, "chat m")["gen_ai.usage.output_tokens"] == 2


def test_a_client_may_say_that_it_is_not_traced(pool: PoolProcess, collector: Collector) -> None:
    for traceparent in (UNSAMPLED, SAMPLED):
        assert ask(pool.url, "m", traceparent).status_code == 200
    spans = traced(collector, "chat m", {POST: ATTEMPT})
    (root,) = [s for s in spans if s.parent == CLIENT]
    assert root.trace == TRACE


@pytest.mark.parametrize("said", ["00-xyz-1-01", f"ff-{TRACE}-{CLIENT}-01", f"00-{TRACE}-{CLIENT}"])
def test_what_is_no_traceparent_is_none(pool: PoolProcess, collector: Collector, said: str) -> None:
    assert ask(pool.url, "m", said).status_code == 200
    spans = traced(collector, "chat m", {POST: ATTEMPT})
    assert spans[0].trace != TRACE


def test_each_try_of_a_retried_one_is_a_span(pool: PoolProcess, collector: Collector) -> None:
    answers = [ask(pool.url, "flaky") for _ in range(4)]
    retried = [a for a in answers if "x-modelpool-retried" in a.headers]
    assert retried
    wanted = retried[0].headers["x-request-id"]

    below = {POST: {"chat flaky": {}}}

    def tries() -> list[Seen]:
        roots = [s for s in collector.spans if s["modelpool.request.id"] == wanted]
        trace = next((s.trace for s in roots), "")
        tree = collector.tree(trace)
        tree.get(POST, {}).pop("wait", None)
        is_whole = tree == {POST: {"attempt": below, "attempt 2": below}}
        return [s for s in collector.spans if s.trace == trace] if is_whole else []

    spans = until(tries, "both tries")
    first, second = [s for s in spans if s.name == "attempt"]
    assert (first.is_error, second.is_error) == (True, False)
    assert first["http.response.status_code"] >= 500
    assert second["http.request.resend_count"] == 1


def test_a_plan_s_questions_are_asked_below_its_request(
    pool: PoolProcess, collector: Collector
) -> None:
    assert ask(pool.url, "both").status_code == 200
    each = {f"ask {name}": {"attempt": {POST: {f"chat {name}": {}}}} for name in ("m", "n")}
    spans = traced(collector, "chat m", {POST: each})
    root = next(span for span in spans if not span.parent)
    assert root["modelpool.virtual_model"].startswith("both@")

    collector.spans.clear()
    assert ask(pool.url, "stairs").status_code == 200
    spans = traced(collector, "chat m", {POST: each})
    first, second = one(spans, "ask m"), one(spans, "ask n")
    assert first.end <= second.begin


def root_of(collector: Collector, answer: httpx.Response) -> Seen:
    """Its request's first span, which is the last to be sent."""
    request_id = answer.headers["x-request-id"]

    def found() -> list[Seen]:
        return [s for s in collector.named(POST) if s["modelpool.request.id"] == request_id]

    (root,) = until(found, "the request")
    return root


def test_what_fails_says_why(pool: PoolProcess, collector: Collector) -> None:
    answer = ask(pool.url, "broken")
    assert answer.status_code >= 500
    root = root_of(collector, answer)
    until(lambda: collector.named("load broken"), "its load")
    assert list(collector.tree(root.trace)[POST]) == ["wait"]
    assert "torn file" in one(collector.spans, "load broken").message
    assert root.is_error
    assert root["error.type"] == "bad_file"

    answer = ask(pool.url, "nobody")
    assert answer.status_code == 404
    root = root_of(collector, answer)
    assert not root.is_error, "that is its client's making"
    assert (root["http.response.status_code"], root["error.type"]) == (404, "model_not_found")


def test_what_comes_straight_to_a_worker(pool: PoolProcess, collector: Collector) -> None:
    worker = pool.http.get("/models/m").json()["endpoint"]
    assert ask(worker, "m", SAMPLED).status_code == 200
    direct = {POST: {"chat m": {}}}
    spans = traced(collector, "chat m", direct)
    assert (spans[0].trace, one(spans, POST).parent) == (TRACE, CLIENT)
    collector.spans.clear()
    assert ask(worker, "m").status_code == 200
    spans = traced(collector, "chat m", direct)
    assert one(spans, POST)["modelpool.direct"] is True


def test_servers_elsewhere_are_not_told(
    pool: PoolProcess, collector: Collector, elsewhere: FakeProvider
) -> None:
    assert ask(pool.url, "away:gpt-4o", SAMPLED).status_code == 200
    name = "chat away:gpt-4o"
    (engine,) = until(lambda: collector.named(name), "what was asked there")
    assert engine["gen_ai.provider.name"] == "openai"
    said = json.dumps([{k.lower(): v for k, v in a.headers.items()} for a in elsewhere.asked])
    assert TRACE not in said
    assert "traceparent" not in said


def test_servers_elsewhere_are_told_if_that_is_asked_for(
    make_pool: MakePool, collector: Collector, elsewhere: FakeProvider, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text(KEY)
    away = {"base_url": f"{elsewhere.url}/v1", "api_key_file": str(tmp_path / "key")}
    pool = make_pool(
        traces="otlp",
        traces_endpoint=collector.url,
        traces_sample_ratio=0,
        traces_to_remote=True,
        providers={"away": {**away, "models": ["gpt-4o"]}},
    )
    elsewhere.asked.clear()
    assert ask(pool.url, "away:gpt-4o").status_code == 200
    assert ask(pool.url, "away:gpt-4o", SAMPLED).status_code == 200
    (engine,) = until(lambda: collector.named("chat away:gpt-4o"), "what was asked there")
    asked = [{k.lower(): v for k, v in a.headers.items()} for a in elsewhere.asked]
    told = [a["traceparent"] for a in asked if "traceparent" in a]
    assert told == [f"00-{TRACE}-{engine.id}-01"]
    assert [a["tracestate"] for a in asked if "tracestate" in a] == ["vendor=1"]
    assert {span.trace for span in collector.spans} == {TRACE}, "one in none is none"


@pytest.mark.parametrize("is_there", [False, True], ids=["dead", "hanging"])
def test_a_collector_that_does_not_answer_costs_nobody_anything(
    tmp_path: Path, is_there: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "4")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    with collecting(is_held=True) as collector:
        endpoint = collector.url if is_there else "http://127.0.0.1:9/v1/traces"
        keys = {"traces": "otlp", "traces_endpoint": endpoint}
        with PoolProcess(tmp_path, [fake("m")], **keys) as pool:
            for _ in range(20):
                assert ask(pool.url, "m", stream=True).status_code == 200
            until(lambda: "spans could not be sent" in pool.log(), "a word of it")
            for _ in range(20):
                assert ask(pool.url, "m").status_code == 200
        assert pool.log().count("could not be sent") == 1
        assert endpoint in pool.log()
