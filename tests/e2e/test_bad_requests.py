"""Bad requests to the gateway and to a worker's own port: the same clear answers from both."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from e2e.helpers import assert_error, chat, fake
from e2e.support import PoolProcess

CHAT = "/v1/chat/completions"
JSON = {"content-type": "application/json"}
PLAIN = chat("plain")
WAYS = ("gateway", "port")


@pytest.fixture(params=WAYS)
def server(request: pytest.FixtureRequest, pool: PoolProcess) -> Any:
    """A client of the gateway, then one of the worker."""
    view = pool.load("plain")
    url = pool.url if request.param == "gateway" else view["endpoint"]
    with httpx.Client(base_url=url, timeout=60, trust_env=False, verify=False) as client:
        yield client


WRONG = [
    ("model", 5),
    ("model", []),
    ("messages", None),
    ("messages", "x"),
    ("messages", []),
    ("messages", [1]),
    ("messages", [{"role": "nobody", "content": "x"}]),
    ("messages", [{"role": "user", "content": 5}]),
    ("temperature", "hot"),
    ("temperature", -1),
    ("temperature", 1e9),
    ("temperature", True),
    ("max_tokens", -5),
    ("max_tokens", 0),
    ("max_tokens", 1.5),
    ("n", 0),
    ("n", 10**9),
    ("stream", "yes"),
    ("stream", 1),
    ("stop", {}),
    ("top_p", -1),
    ("seed", "x"),
    ("logit_bias", []),
    ("stream_options", 5),
    ("response_format", "x"),
    ("tools", "x"),
]


@pytest.mark.parametrize(("key", "value"), WRONG, ids=lambda v: f"{v!r}"[:24])
def test_a_wrong_parameter_is_named(server: httpx.Client, key: str, value: Any) -> None:
    answer = server.post(CHAT, json={**PLAIN, key: value})
    message = assert_error(answer, 400, "invalid_request")
    assert str(answer.json()["error"]["param"]).startswith(key)
    assert key in message


COLD = {"model": "cold", "messages": [{"role": "user", "content": "x"}]}
REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("/v1/embeddings", {"model": "cold", "input": "x"}),
    ("/v1/responses", {"model": "cold", "input": 5}),
    ("/v1/images/variations", {"model": "cold"}),
    ("/v1/moderations", {"model": "cold", "input": "x"}),
    ("/v1/completions", {"model": "cold", "prompt": 5}),
    *((CHAT, {**COLD, key: value}) for key, value in WRONG if key != "model"),
]


def test_what_can_only_be_refused_loads_nothing_and_is_told_alike(make_pool: Any) -> None:
    """A cold model answers as a loaded one, to the last byte, and another that fills the pool
    stays."""
    pool = make_pool(fake("cold"), fake("other"), max_concurrent_models=1)
    pool.load("other")
    with httpx.Client(base_url=pool.url, timeout=60, trust_env=False, verify=False) as client:

        def answers() -> list[tuple[int, bytes, dict[str, str]]]:
            found = [client.post(path, json=body) for path, body in REFUSED]
            own = {"date", "x-request-id"}
            return [
                (a.status_code, a.content, {k: v for k, v in a.headers.items() if k not in own})
                for a in found
            ]

        cold = answers()
        assert {status for status, _, _ in cold} == {400, 501}
        assert (pool.state_of("cold"), pool.state_of("other")) == ("COLD", "HOT")
        pool.load("cold")
        assert answers() == cold


BODIES = {
    "broken": b'{"model": "plain"',
    "empty": b"",
    "not utf-8": b'{"model": "\xff"}',
    "a list": b"[]",
    "null": b"null",
    "NaN": b'{"model":"plain","messages":[{"role":"user","content":"x"}],"temperature":NaN}',
    "infinite": b'{"model":"plain","messages":[{"role":"user","content":"x"}],"temperature":1e999}',
    "deep list": b"[" * 100_000,
    "deep object": b'{"a":' * 50_000,
    "digits": b'{"model":"plain","max_tokens":1' + b"0" * 5000 + b"}",
    "half a pair": b'{"model":"plain","messages":[{"role":"user","content":"\\ud800"}]}',
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_a_body_that_is_no_json_object(server: httpx.Client, body: bytes) -> None:
    answer = server.post(CHAT, content=body, headers=JSON)
    assert_error(answer, 400, "invalid_request", "body")


def test_a_body_that_is_too_large(server: httpx.Client) -> None:
    body = b'{"model":"plain","x":"' + b"a" * (70 << 20) + b'"}'
    assert_error(server.post(CHAT, content=body, headers=JSON), 413, "payload_too_large")
    assert server.post(CHAT, json=PLAIN).status_code == 200


def test_an_unknown_model(server: httpx.Client) -> None:
    message = assert_error(server.post(CHAT, json=chat("plian")), 404, "model_not_found", "model")
    assert "plain" in message


def test_a_context_that_is_too_long_is_refused_not_cut(server: httpx.Client) -> None:
    answer = server.post(CHAT, json=chat("plain", "word " * 5000))
    message = assert_error(answer, 400, "context_length_exceeded", "messages")
    assert "5000" in message
    assert "4096" in message


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"content-type": "application/json; charset=utf-8"}, 200),
        ({"content-type": "application/x-www-form-urlencoded"}, 200),  # curl's own
        ({"content-type": "application/x-www-form-urlencoded", "sec-fetch-site": "none"}, 415),
        ({"content-type": "application/json", "origin": "http://127.0.0.1:1"}, 200),
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "multipart/form-data; boundary=x"}, 415),
        ({**JSON, "origin": "http://elsewhere.example"}, 403),
        ({**JSON, "origin": "null"}, 403),
        ({**JSON, "host": "elsewhere.example"}, 403),
        ({**JSON, "host": "127.0.0.1.elsewhere.example"}, 403),
        ({**JSON, "host": ""}, 403),
        ({**JSON, "host": "localhost:1"}, 200),
    ],
    ids=str,
)
def test_who_may_ask(server: httpx.Client, headers: dict[str, str], status: int) -> None:
    answer = server.post(CHAT, content=json.dumps(PLAIN), headers=headers)
    assert answer.status_code == status, answer.text
    if status != 200:
        assert_error(answer, status, "forbidden" if status == 403 else "unsupported_media_type")


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
def test_another_method(server: httpx.Client, method: str) -> None:
    answer = server.request(method, CHAT, headers=JSON)
    assert "POST" in assert_error(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "POST"


@pytest.mark.parametrize("path", [f"/{CHAT}", f"{CHAT}/", "//v1//chat/completions//"])
def test_slashes_too_many_reach_the_route(server: httpx.Client, path: str) -> None:
    assert server.post(f"{server.base_url}{path}", json=PLAIN).status_code == 200


def test_a_name_with_latest(server: httpx.Client) -> None:
    assert server.post(CHAT, json={**PLAIN, "model": "plain:latest"}).status_code == 200


def test_the_models_and_their_aliases(pool: PoolProcess) -> None:
    """A worker lists its model as the manager does, so that clients may ask either."""
    endpoint = pool.load("plain")["endpoint"]
    own = httpx.get(f"{endpoint}/v1/models/", trust_env=False, verify=False, timeout=60).json()[
        "data"
    ]
    known = pool.http.get("/v1/models/").json()["data"]
    ids = {m["id"]: (m["root"], m["aliases"]) for m in known}
    assert [m["id"] for m in own] == ["plain", "standing-in"]
    for model in own:
        assert ids[model["id"]] == (model["root"], model["aliases"])
        assert pool.http.get(f"/v1/models/{model['id']}").json()["id"] == model["id"]


@pytest.mark.parametrize("path", ["/nothing", "/v1/nothing", "/v1", "/v1/chat"])
def test_no_such_route(server: httpx.Client, path: str) -> None:
    assert_error(server.get(path), 404, "not_found")


def test_a_route_that_no_engine_has_yet(server: httpx.Client) -> None:
    answer = server.post("/v1/embeddings", json={"model": "plain", "input": "x"})
    assert_error(answer, 501, "missing_capability")


@pytest.mark.parametrize("secret", ["", "Bearer wrong", "Basic x", "Bearer \N{SNOWMAN}"])
def test_what_is_between_manager_and_worker_needs_the_secret(
    pool: PoolProcess, secret: str
) -> None:
    endpoint = pool.load("plain")["endpoint"]
    headers = {"authorization": secret.encode()}
    for method, path in (("GET", "/internal/facts"), ("POST", "/internal/drain")):
        answer = httpx.request(
            method, endpoint + path, headers=headers, trust_env=False, verify=False, timeout=60
        )
        assert_error(answer, 403, "forbidden")
    assert pool.state_of("plain") == "HOT"
