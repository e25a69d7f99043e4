"""What each method sends, to the byte, and that both clients have the same methods."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from modelpool_client import AsyncPoolClient, PoolClient, RetryPolicy, errors
from modelpool_client import _calls as calls

URL = "http://127.0.0.1:1"
M = {"model": {"model_id": "m"}}

# What is called, and what should be sent: method, raw path, body.
SENT: list[tuple[Callable[[Any], Any], str, str, Any]] = [
    (lambda p: p.health(), "GET", "/health", None),
    (lambda p: p.engines(), "GET", "/engines", None),
    (lambda p: p.devices(), "GET", "/devices", None),
    (lambda p: p.statistics(), "GET", "/statistics", None),
    (lambda p: p.metrics(), "GET", "/metrics", None),
    (lambda p: p.config(), "GET", "/config", None),
    (lambda p: p.configure(auto_unload=False), "PATCH", "/config", {"auto_unload": False}),
    (lambda p: p.reload_config(), "POST", "/config/reload", {}),
    (
        lambda p: p.find_best(model_type="llm", tags=["t"]),
        "POST",
        "/models/find_best",
        {"model_type": "llm", "tags": ["t"]},
    ),
    (lambda p: p.versions("a/b:7b"), "GET", "/models/a/b:7b/versions", None),
    (lambda p: p.rollback("m", 2), "POST", "/models/m/versions/2/rollback", {}),
    (lambda p: p.plan("a/b:7b"), "GET", "/models/a/b:7b/plan", None),
    (lambda p: p.plan_set(["m", "n"]), "POST", "/models/plan", {"models": ["m", "n"]}),
    (
        lambda p: p.load_set(["m", "n"]),
        "POST",
        "/models/load?wait=300",
        {"models": ["m", "n"]},
    ),
    (lambda p: p.load_set(["m"], wait=False), "POST", "/models/load", {"models": ["m"]}),
    (lambda p: p.history("m"), "GET", "/models/m/history?limit=50", None),
    (lambda p: p.history("m", 5, 77), "GET", "/models/m/history?limit=5&before=77", None),
    (lambda p: p.requests(), "GET", "/requests", None),
    (
        lambda p: p.requests(model="m", status="4xx", before=None),
        "GET",
        "/requests?model=m&status=4xx",
        None,
    ),
    (lambda p: p.alerts(), "GET", "/alerts", None),
    (
        lambda p: p.silence_alerts({"model": "m"}, 5, comment="why"),
        "POST",
        "/alerts/silences",
        {"matchers": {"model": "m"}, "minutes": 5, "comment": "why"},
    ),
    (
        lambda p: p.silence_alerts({"alertname": "*"}, ends_at="2030-01-01"),
        "POST",
        "/alerts/silences",
        {"matchers": {"alertname": "*"}, "ends_at": "2030-01-01", "comment": ""},
    ),
    (lambda p: p.end_silence("a/b"), "DELETE", "/alerts/silences/a%2Fb", None),
    (lambda p: p.try_alert_targets("ops"), "POST", "/alerts/test", {"target": "ops"}),
    (lambda p: p.usage_csv("day"), "GET", "/usage?by=day&format=csv", None),
    (lambda p: p.usage(), "GET", "/usage?by=model%2Cday", None),
    (
        lambda p: p.usage("hour", "2030-01-01", model="m"),
        "GET",
        "/usage?by=hour&since=2030-01-01&model=m",
        None,
    ),
    (lambda p: p.registry(), "GET", "/registry", None),
    (
        lambda p: p.import_registry({"models": [{"model_id": "m"}]}),
        "POST",
        "/registry",
        {"models": [{"model_id": "m"}], "replace": False},
    ),
    (
        lambda p: p.import_registry([], replace=True),
        "POST",
        "/registry",
        {"models": [], "replace": True},
    ),
    (lambda p: p.models(), "GET", "/models?limit=1000&offset=0", None),
    (lambda p: p.awake_models(), "GET", "/models?state=awake&limit=1000", None),
    (lambda p: p.model("a/b:7b"), "GET", "/models/a/b:7b", None),
    (lambda p: p.model("ü ?#%2F"), "GET", "/models/%C3%BC%20%3F%23%252F", None),
    (
        lambda p: p.register("m", engine="fake", source="x", tags=["t"]),
        "POST",
        "/models/register",
        {"model_id": "m", "engine": "fake", "source": "x", "tags": ["t"]},
    ),
    (
        lambda p: p.register("m", engine=None, source="/x.gguf"),
        "POST",
        "/models/register",
        {"model_id": "m", "source": "/x.gguf"},
    ),
    (lambda p: p.config_file(), "GET", "/config/file", None),
    (lambda p: p.delete("a/b"), "DELETE", "/models/a/b", None),
    (lambda p: p.load("m"), "POST", "/models/m/load?wait=300", None),
    (lambda p: p.load("m", wait=2.5), "POST", "/models/m/load?wait=2.5", None),
    (lambda p: p.load("m", wait=False), "POST", "/models/m/load", None),
    (lambda p: p.unload("m"), "POST", "/models/m/unload", {"force": False}),
    (lambda p: p.unload("m", True, False), "POST", "/models/m/unload?wait=0", {"force": True}),
    (lambda p: p.extend("m", 30), "POST", "/models/m/extend-ttl", {"minutes": 30}),
    (lambda p: p.endpoint("m"), "GET", "/models/m/endpoint?wait=300", None),
    (lambda p: p.endpoint("m", wait=0), "GET", "/models/m/endpoint?wait=0", None),
    (lambda p: p.model_health("m"), "GET", "/models/m/health", None),
    (
        lambda p: p.chat("m", "hi", temperature=0),
        "POST",
        "/v1/chat/completions",
        {
            "temperature": 0,
            "model": "m",
            "messages": [{"role": "user", "content": "hi"}],
            "stream": False,
        },
    ),
    (
        lambda p: p.generate("m", "once", max_tokens=3),
        "POST",
        "/v1/completions",
        {"max_tokens": 3, "model": "m", "prompt": "once", "stream": False},
    ),
    (
        lambda p: p.embed("m", ("a", "b"), 8),
        "POST",
        "/v1/embeddings",
        {"model": "m", "input": ["a", "b"], "encoding_format": "float", "dimensions": 8},
    ),
    (
        lambda p: p.rerank("m", "q", ["a"]),
        "POST",
        "/v1/rerank",
        {"model": "m", "query": "q", "documents": ["a"]},
    ),
    (lambda p: p.openai_models(), "GET", "/v1/models", None),
]


@pytest.mark.parametrize(("use", "method", "path", "body"), SENT)
def test_what_is_sent(use: Callable[[Any], Any], method: str, path: str, body: Any) -> None:
    seen = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent = json.loads(request.content) if request.content else None
        seen.append((request.method, request.url.raw_path.decode(), sent))
        return httpx.Response(200, json=M)

    async def use_async() -> None:
        async with AsyncPoolClient(URL, transport=httpx.MockTransport(answer)) as pool:
            await use(pool)

    with PoolClient(URL, transport=httpx.MockTransport(answer)) as pool:
        use(pool)
    asyncio.run(use_async())
    assert seen == [(method, path, body)] * 2


def test_speech_is_sent_as_a_file_of_a_form() -> None:
    seen = []

    def answer(request: httpx.Request) -> httpx.Response:
        kind, _, boundary = request.headers["content-type"].partition("; boundary=")
        seen.append((request.url.path, kind, request.content.replace(boundary.encode(), b"B")))
        return httpx.Response(200, json={"text": "hello"})

    async def use_async() -> Any:
        async with AsyncPoolClient(URL, transport=httpx.MockTransport(answer)) as pool:
            return await pool.transcribe("m", b"RIFF", "a.mp3", language="en")

    with PoolClient(URL, transport=httpx.MockTransport(answer)) as pool:
        found = pool.transcribe("m", b"RIFF", "a.mp3", language="en")
    assert found == asyncio.run(use_async()) == {"text": "hello"}
    assert seen[0] == seen[1]
    path, kind, body = seen[0]
    assert (path, kind) == ("/v1/audio/transcriptions", "multipart/form-data")
    for part in (b'name="model"\r\n\r\nm', b'name="language"\r\n\r\nen', b"\r\n\r\nRIFF\r\n"):
        assert part in body
    assert b'name="file"; filename="a.mp3"' in body


def answering_a_restart(requests: list[str], runs: list[Any]) -> httpx.MockTransport:
    """``runs`` are what ``/health`` says, one after the other; an error means nobody answers."""

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(f"{request.method} {request.url.path} {request.content.decode()}".strip())
        worker = {"state": "HOT", "port": 8051, "worker_pid": 7}
        if request.url.path == "/restart":
            gone = {**worker, "model_id": "n", "port": 8052, "worker_pid": 8}
            left = [{**worker, "model_id": "m"}, gone]
            return httpx.Response(202, json={"run": "a", "wait_seconds": 30, "workers": left})
        if request.url.path == "/models":
            return httpx.Response(200, json={"models": [{"model_id": "m", "replicas": [worker]}]})
        run = runs.pop(0)
        if run is None:
            raise httpx.ConnectError("refused")
        return httpx.Response(200, json={"run": run})

    return httpx.MockTransport(answer)


class Time:
    """A clock that only sleeping moves."""

    now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    async def asleep(self, seconds: float) -> None:
        self.now += seconds


def restarted(transport: httpx.MockTransport, seconds: float | None, time: Time) -> Any:
    with PoolClient(URL, transport=transport, clock=time, sleep=time.sleep) as pool:
        return pool.restart(seconds)


def restarted_async(transport: httpx.MockTransport, seconds: float | None, time: Time) -> Any:
    async def use() -> Any:
        async with AsyncPoolClient(URL, transport=transport, clock=time, sleep=time.asleep) as pool:
            return await pool.restart(seconds)

    return asyncio.run(use())


@pytest.mark.parametrize("use", [restarted, restarted_async])
@pytest.mark.parametrize(("seconds", "body"), [(None, {}), (2.5, {"wait_seconds": 2.5})])
def test_a_restart_is_over_when_another_manager_answers(
    use: Callable[..., Any], seconds: float | None, body: dict[str, float]
) -> None:
    requests: list[str] = []
    done = use(answering_a_restart(requests, ["a", None, "b"]), seconds, Time())
    assert json.loads(requests[0].removeprefix("POST /restart ")) == body
    assert requests[1:] == ["GET /health"] * 3 + ["GET /models"]
    assert (done.run, [w.model_id for w in done.adopted]) == ("b", ["m"])
    assert [(w.model_id, w.worker_pid) for w in done.lost] == [("n", 8)]
    assert 0 < done.seconds < 1


@pytest.mark.parametrize("use", [restarted, restarted_async])
@pytest.mark.parametrize(
    ("runs", "text"), [(["a"] * 3000, "old manager"), ([None] * 3000, "nobody answers")]
)
def test_a_restart_that_does_not_come_back(
    use: Callable[..., Any], runs: list[Any], text: str
) -> None:
    time = Time()
    with pytest.raises(errors.PoolUnreachable, match=text):
        use(answering_a_restart([], list(runs)), None, time)
    assert 90 < time.now < 95, "what the requests may take, and a minute"


def test_every_call_has_a_method_and_the_twins_agree() -> None:
    sync, twin = _methods(PoolClient), _methods(AsyncPoolClient)
    assert sync == twin
    its_calls = {n for n, f in vars(calls).items() if str(_returns(f)).startswith("Call[")}
    assert its_calls <= {"chat", "models_from", *sync}


def _methods(cls: type) -> dict[str, list[tuple[str, Any, Any]]]:
    found = {n: f for n, f in vars(cls).items() if not n.startswith("_") and callable(f)}
    return {
        name: [(p.name, p.kind, p.default) for p in inspect.signature(f).parameters.values()]
        for name, f in found.items()
    }


def _returns(thing: object) -> Any:
    return getattr(thing, "__annotations__", {}).get("return")


@pytest.mark.parametrize("name", sorted(_methods(PoolClient)))
def test_documented(name: str) -> None:
    assert getattr(PoolClient, name).__doc__
    assert getattr(AsyncPoolClient, name).__doc__


@pytest.mark.parametrize("model_id", ["", "/x", "x/", "a//b", "..", "../config", "a/./b"])
def test_ids_that_would_reach_another_route(model_id: str) -> None:
    for call in (calls.model, calls.delete, calls.load):
        with pytest.raises(errors.InvalidModelId):
            call(model_id)


@pytest.mark.parametrize("url", ["127.0.0.1:8050", "ftp://x", "http://", "x", "file:///"])
def test_urls_that_are_none(url: str) -> None:
    with pytest.raises(errors.InvalidRequest) as caught:
        PoolClient(url)
    assert caught.value.param == "base_url"


def test_where_the_pool_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MODELPOOL_URL", raising=False)
    with PoolClient() as pool:
        assert repr(pool) == "<PoolClient http://127.0.0.1:8050>"
    monkeypatch.setenv("MODELPOOL_URL", "https://pool.example/prefix/")
    with PoolClient() as pool:
        assert pool.base_url == "https://pool.example/prefix"


def answering(response: httpx.Response) -> PoolClient:
    once = RetryPolicy(attempts=1)
    return PoolClient(URL, retry=once, transport=httpx.MockTransport(lambda _: response))


@pytest.mark.parametrize(
    ("response", "error"),
    [
        (httpx.Response(200, text="<html>"), errors.BadGateway),
        (httpx.Response(200, json=[1]), errors.BadGateway),
        (httpx.Response(200, json={"models": 3}), errors.BadGateway),
        (httpx.Response(200, json={"models": [{"port": "x"}]}), errors.BadGateway),
        (httpx.Response(404, text="nginx"), errors.NotFound),
        (httpx.Response(302), errors.ModelPoolError),
        (httpx.Response(500, text="oops"), errors.ModelPoolError),
        (httpx.Response(507, json=errors.CannotFit("too big").body()), errors.CannotFit),
        (httpx.Response(503, json=errors.LoadFailed("x", code="oom").body()), errors.LoadFailed),
    ],
)
def test_answers_that_are_none(response: httpx.Response, error: type[Exception]) -> None:
    with answering(response) as pool, pytest.raises(error):
        pool.models()


def test_errors_of_other_modules_are_not_ours_to_make() -> None:
    class Elsewhere(errors.InvalidRequest):
        default_code = "bad_config"

        def __init__(self) -> None:
            super().__init__("of another make")

    Elsewhere.__module__ = "elsewhere"
    found = errors.from_response(400, Elsewhere().body())
    assert (type(found), found.code) == (errors.InvalidRequest, "bad_config")


def test_how_long_it_waits() -> None:
    seen = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.extensions["timeout"]["read"])
        return httpx.Response(200, json=M)

    with PoolClient(URL, timeout=5, transport=httpx.MockTransport(answer)) as pool:
        pool.health()
        pool.load("m", wait=100)
        pool.chat("m", "hi")
        list(pool.logs("m"))
        with pytest.raises(errors.PoolUnreachable, match="the log ended"):
            list(pool.logs("m", follow=True))
    assert seen == [5, 105, 605, 5, None]
