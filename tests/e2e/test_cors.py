"""Pages of other origins, as a browser asks for them: at the manager and at a worker."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.bare_client import connected
from support.raw_answers import RawAnswer, Reader

from e2e.conftest import MakePool
from e2e.helpers import assert_error, chat, fake, until
from e2e.support import PoolProcess

CHAT = "/v1/chat/completions"
PAGE = "http://localhost:5173"
# As OpenAI's package for browsers makes a browser ask.
WANTED = (
    "authorization,content-type,x-stainless-arch,x-stainless-lang,x-stainless-os,"
    "x-stainless-package-version,x-stainless-retry-count,x-stainless-runtime,"
    "x-stainless-runtime-version,x-stainless-timeout"
)


@pytest.fixture(params=["gateway", "port"])
def port(request: pytest.FixtureRequest, pool: PoolProcess) -> int:
    view = pool.load("plain")
    return pool.port if request.param == "gateway" else int(view["port"])


def ask(
    port: int, method: str, path: str, body: Any = None, host: str = "", **fields: str
) -> RawAnswer:
    """Over a bare socket, so that a header that comes twice is seen."""
    data = json.dumps(body).encode() if body is not None else b""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host or f'127.0.0.1:{port}'}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
    if body is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(data)}"]
    with connected(port) as sock:
        sock.sendall("\r\n".join([*lines, "", ""]).encode() + data)
        return Reader(sock).answer(has_body=method != "OPTIONS")


def preflight(port: int, path: str = CHAT, origin: str = PAGE, **more: str) -> RawAnswer:
    return ask(
        port,
        "OPTIONS",
        path,
        accept="*/*",
        access_control_request_method="POST",
        access_control_request_headers=WANTED,
        origin=origin,
        sec_fetch_mode="cors",
        sec_fetch_site="cross-site",
        sec_fetch_dest="empty",
        **more,
    )


def is_let_in(port: int, origin: str) -> bool:
    """As a browser understands the answer to its preflight."""
    answer = preflight(port, origin=origin)
    assert answer.status == 200
    return answer.fields.get("access-control-allow-origin") == origin


def test_a_preflight(port: int) -> None:
    answer = preflight(port, access_control_request_private_network="true")
    assert answer.status == 200
    assert answer.fields.pop("x-request-id")
    assert answer.fields == {
        "access-control-allow-origin": PAGE,
        "access-control-expose-headers": "*",
        "vary": "Origin",
        "access-control-allow-methods": "GET, POST, DELETE, OPTIONS",
        "access-control-allow-headers": WANTED,
        "access-control-allow-private-network": "true",
        "access-control-max-age": "7200",
        "content-length": "0",
    }


def test_a_connection_goes_on_after_a_preflight(port: int) -> None:
    head = f"OPTIONS {CHAT} HTTP/1.1\r\nHost: localhost\r\nOrigin: {PAGE}\r\n"
    with connected(port) as sock:
        reader = Reader(sock)
        for _ in range(3):
            sock.sendall(f"{head}Access-Control-Request-Method: POST\r\n\r\n".encode())
            status, _ = reader.head()
            assert status == 200


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_may_be_read(port: int, stream: bool) -> None:
    body = chat("plain", stream=stream)
    answer = ask(port, "POST", CHAT, body, origin=PAGE, sec_fetch_site="cross-site")
    assert answer.status == 200
    assert answer.fields["access-control-allow-origin"] == PAGE
    assert answer.fields["access-control-expose-headers"] == "*"
    assert answer.fields["vary"] == "Origin"
    assert answer.body.endswith(b"data: [DONE]\n\n") == stream


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", CHAT, {"model": "plain", "messages": []}, 400),
        ("POST", CHAT, {**chat("plain"), "temperature": "x"}, 400),
        ("GET", CHAT, None, 405),
        ("GET", "/v1/nothing", None, 404),
        ("GET", "/nothing", None, 404),
        ("POST", "/v1/moderations", {}, 501),
    ],
)
def test_an_error_may_be_read(port: int, method: str, path: str, body: Any, status: int) -> None:
    answer = ask(port, method, path, body, origin=PAGE)
    assert answer.status == status
    assert answer.fields["access-control-allow-origin"] == PAGE
    assert answer.fields["x-modelpool-code"] == answer.json["error"]["code"]


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://localhost.evil.example", "file://"]
)
def test_another_page_is_told_nothing_but_the_key(port: int, origin: str) -> None:
    plain = ask(port, "POST", CHAT, chat("plain"), origin=origin)
    asked = preflight(port, origin=origin)
    assert (plain.status, asked.status) == (403, 200)
    for answer in (plain, asked):
        assert not [name for name in answer.fields if name.startswith("access-control")]
        assert answer.fields["x-modelpool-code"] == "forbidden"
    assert "allowed_origins" in plain.json["error"]["message"]
    rebound = ask(port, "GET", "/v1/models", host="evil.example")
    assert rebound.status == 403
    assert "allowed_hosts" in rebound.json["error"]["message"]


def test_who_does_not_come_from_a_page_gets_nothing_more(port: int) -> None:
    answer = ask(port, "POST", CHAT, chat("plain"))
    assert answer.status == 200
    assert not {name for name in answer.fields if name.startswith("access-control")}
    assert "vary" not in answer.fields


def test_a_preflight_starts_nothing_and_is_no_use(pool: PoolProcess) -> None:
    pool.http.post("/models/org/slashed:7b/unload", json={"force": True})
    pool.wait_for("org/slashed:7b", "COLD")
    for path in (CHAT, "/models/org/slashed:7b/load", "/models/org/slashed:7b/endpoint?wait=1"):
        assert preflight(pool.port, path).status == 200
    assert pool.state_of("org/slashed:7b") == "COLD"
    view = pool.load("plain")
    served = pool.http.get(f"{view['endpoint']}/health").json()["requests_served"]
    assert preflight(view["port"]).status == 200
    assert pool.http.get(f"{view['endpoint']}/health").json()["requests_served"] == served


def test_what_a_waiting_stream_says_may_be_read(make_pool: MakePool) -> None:
    """Its head is written before there is a worker; what comes then is an error."""
    pool = make_pool(fake("m", options={"load_seconds": 1, "fail_load": "oom"}))
    answer = ask(pool.port, "POST", CHAT, chat("m", stream=True), origin=PAGE)
    assert answer.status == 200
    assert b'"code":"oom"' in answer.body
    assert answer.fields["access-control-allow-origin"] == PAGE


def test_lists_count_at_once_and_workers_follow(make_pool: MakePool) -> None:
    pool = make_pool(fake("m"), allowed_origins=["https://first.example"])
    port = pool.load("m")["port"]
    listed = {"allowed_origins": ["https://*.second.example"], "allowed_hosts": ["pool.example"]}

    def status(at: int, origin: str = "", host: str = "") -> int:
        more = {"origin": origin} if origin else {}
        return ask(at, "GET", "/v1/models", host=host, **more).status

    for at in (pool.port, port):
        assert status(at, "https://first.example") == 200
        assert status(at, "https://a.second.example") == 403
        assert status(at, host="pool.example") == 403
    answer = pool.http.patch("/config", json=listed)
    assert answer.json()["changed"] == listed
    assert status(pool.port, "https://a.second.example") == 200
    until(lambda: status(port, "https://a.second.example") == 200, "the worker to follow")
    for at in (pool.port, port):
        assert status(at, "https://first.example") == 403
        assert status(at, host="pool.example") == 200
        assert status(at, "https://pool.example", "pool.example") == 200, "its own page"
        assert status(at, "https://pool.example") == 403
    later = pool.load("m")["port"]
    assert is_let_in(later, "https://b.second.example")
    bad = pool.http.patch("/config", json={"allowed_origins": ["second.example"]})
    assert_error(bad, 400, "invalid_request", param="allowed_origins[0]")
    assert status(pool.port, "https://a.second.example") == 200, "nothing was changed"


def test_a_worker_that_is_adopted_follows_the_new_manager(make_pool: MakePool) -> None:
    pool = make_pool(fake("m"))
    port = pool.load("m")["port"]
    assert not is_let_in(port, "app://obsidian.md")
    pool.kill()
    said = json.loads(pool.config.read_text())
    pool.config.write_text(json.dumps({**said, "allowed_origins": ["app://obsidian.md"]}))
    pool.start()
    until(lambda: is_let_in(port, "app://obsidian.md"), "the worker to follow")
