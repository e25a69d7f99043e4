"""Who may come in, and who answers: before anything is read or run."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from modelpool.entry import Entry
from modelpool_client.guard import Guard
from modelpool_client.http1.exchange import Exchange
from modelpool_client.wire import Allowlist
from support.upstream import Client

HOST = (b"host", b"127.0.0.1:8050")
JSON = (b"content-type", b"application/json")
FORM = (b"content-type", b"application/x-www-form-urlencoded")
PAGE = (b"origin", b"https://evil.example")
OWN_PAGE = (b"origin", b"http://localhost:8050")


class Room:
    """Answers with its name and what it was given."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.headers: list[tuple[bytes, bytes]] = []
        self.body: bytes | None = None
        self.kinds: list[str] = []
        self.paths: list[str] = []

    async def manage(self, exchange: Exchange, path: str, headers: Any, body: bytes) -> None:
        self.kinds.append("http")
        self.paths.append(path)
        self.headers, self.body = list(headers), body
        exchange.send_json(200, {"room": self.name})

    async def hear(self, exchange: Exchange, path: str, worker_id: str) -> None:
        await self.manage(exchange, path, [], worker_id.encode())

    async def infer(self, exchange: Exchange, path: str) -> None:
        body = await exchange.read_body(10**9)
        await self.manage(exchange, path, exchange.request.headers, body)


class House:
    def __init__(self, limit: int = 1000) -> None:
        self.api, self.gateway = Room("api"), Room("gateway")
        self.reports = Room("reports")
        self.door = Entry(
            self.api.manage,
            self.gateway.infer,
            Guard("127.0.0.1", Allowlist(("https://app.example",))),
            limit,
            self.reports.hear,
        )

    def ask(self, method: str, path: str, *headers: tuple[bytes, bytes], **more: Any) -> Client:
        client = Client(method=method, path=path, headers=list(headers), **more)
        asyncio.run(client.ask(self.door))
        return client


@pytest.mark.parametrize(
    ("path", "room"),
    [
        ("/v1/chat/completions", "gateway"),
        ("/v1/models", "gateway"),
        ("/internal/workers/w1/facts", "reports"),
        ("/internal//workers/w1/facts", "reports"),
        ("/internal/workers/w1", "api"),
        ("/internal/workers/w1/w2/facts", "api"),
        ("/v1", "api"),
        ("/v10/x", "api"),
        ("/models", "api"),
        ("/", "api"),
        ("/models/v1/x", "api"),
        ("//v1/chat/completions", "gateway"),
        ("//v1//models//", "gateway"),
        ("/v1/", "api"),
        ("/models/v1/", "api"),
    ],
)
def test_who_answers(path: str, room: str) -> None:
    assert json.loads(House().ask("GET", path, HOST).text) == {"room": room}


def test_slashes_too_many_are_left_out_for_whoever_answers() -> None:
    house = House()
    for path in ("//v1//models/", "//models/a%2Fb//load/", "//docs/"):
        house.ask("GET", path, HOST)
    assert house.gateway.paths == ["/v1/models"]
    assert house.api.paths == ["/models/a/b/load", "/docs"]


@pytest.mark.parametrize("path", ["/v1/models", "/models"])
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ((HOST,), 200),
        (((b"host", b"localhost"),), 200),
        (((b"host", b"[::1]:8050"),), 200),
        ((HOST, OWN_PAGE), 200),
        ((), 403),
        (((b"host", b"evil.example"),), 403),
        (((b"host", b"127.0.0.1.evil.example"),), 403),
        ((HOST, (b"host", b"evil.example")), 403),
        ((HOST, PAGE), 403),
        ((HOST, (b"origin", b"null")), 403),
        ((HOST, OWN_PAGE, PAGE), 403),
    ],
)
def test_host_and_origin(path: str, headers: Any, status: int) -> None:
    house = House()
    client = house.ask("GET", path, *headers)
    assert client.status == status
    if status == 403:
        assert client.error["code"] == "forbidden"
        assert not house.api.kinds + house.gateway.kinds, "somebody was asked all the same"


PREFLIGHT = (b"access-control-request-method", b"POST")
ASKED = b"authorization,content-type,x-stainless-lang,x-stainless-retry-count"


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/models/m/load", "/nowhere"])
@pytest.mark.parametrize("origin", [b"http://localhost:3000", b"https://app.example"])
def test_a_preflight_is_answered_here(path: str, origin: bytes) -> None:
    house = House()
    asked = (b"access-control-request-headers", ASKED)
    cross_site = (b"sec-fetch-site", b"cross-site")
    client = house.ask("OPTIONS", path, HOST, (b"origin", origin), PREFLIGHT, asked, cross_site)
    assert (client.status, client.text) == (200, b"")
    headers = dict(client.answer_headers)
    assert headers.pop("x-request-id")
    assert headers == {
        "access-control-allow-origin": origin.decode(),
        "access-control-expose-headers": "*",
        "vary": "Origin",
        "access-control-allow-methods": "GET, POST, DELETE, OPTIONS"
        if path.startswith("/v1/")
        else "GET, POST, PUT, PATCH, DELETE, OPTIONS",
        "access-control-max-age": "7200",
        "access-control-allow-headers": ASKED.decode(),
        "content-length": "0",
    }
    assert not house.api.kinds + house.gateway.kinds, "somebody was asked all the same"


def test_a_preflight_from_the_internet_asks_for_more() -> None:
    private = (b"access-control-request-private-network", b"true")
    client = House().ask("OPTIONS", "/models", HOST, OWN_PAGE, PREFLIGHT, private)
    assert client.answer_headers["access-control-allow-private-network"] == "true"
    assert "access-control-allow-headers" not in client.answer_headers


@pytest.mark.parametrize(
    ("headers", "status", "key"),
    [
        # The headers that are not there say no, and every browser goes by them.
        ((HOST, PAGE, PREFLIGHT), 200, "allowed_origins"),
        ((HOST, (b"origin", b"null"), PREFLIGHT), 200, "allowed_origins"),
        (((b"host", b"evil.example"), OWN_PAGE, PREFLIGHT), 403, "allowed_hosts"),
        ((HOST, OWN_PAGE, PAGE, PREFLIGHT), 403, "Origin"),
        ((PAGE, PREFLIGHT), 403, "Host"),
    ],
)
def test_a_preflight_that_is_refused_allows_a_page_nothing(
    headers: Any, status: int, key: str
) -> None:
    house = House()
    client = house.ask("OPTIONS", "/v1/chat/completions", *headers)
    assert client.status == status
    assert client.answer_headers["x-modelpool-code"] == "forbidden"
    assert key in client.error["message"]
    assert not [name for name in client.answer_headers if name.startswith("access-control")]
    assert not house.api.kinds + house.gateway.kinds


@pytest.mark.parametrize("headers", [(HOST, OWN_PAGE), (HOST, PREFLIGHT)])
def test_options_of_another_kind_are_no_preflight(headers: Any) -> None:
    house = House()
    assert house.ask("OPTIONS", "/models", *headers).status == 200
    assert house.api.kinds == ["http"]


@pytest.mark.parametrize(
    ("headers", "status"), [((JSON,), 200), (((b"content-type", b"text/plain"),), 415)]
)
def test_a_page_may_read_what_it_is_answered(headers: Any, status: int) -> None:
    client = House().ask("POST", "/models/m/load", HOST, OWN_PAGE, *headers, body=b"{}")
    assert client.status == status
    assert client.answer_headers["access-control-allow-origin"] == "http://localhost:8050"
    assert client.answer_headers["access-control-expose-headers"] == "*"
    assert client.answer_headers["vary"] == "Origin"


def test_without_a_page_nothing_is_added() -> None:
    answer = House().ask("GET", "/models", HOST).answer_headers
    assert set(answer) == {"content-type", "content-length", "x-request-id"}


CROSS_SITE = (b"sec-fetch-site", b"cross-site")
LINK = (b"sec-fetch-dest", b"document")
FRAME = (b"sec-fetch-dest", b"iframe")


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/models/m/endpoint?wait=30", (CROSS_SITE, (b"sec-fetch-dest", b"image")), 403),
        ("/models/m/endpoint?wait=30", (CROSS_SITE, LINK), 403),
        ("/models/m/endpoint?wait=30", ((b"sec-fetch-site", b"none"), LINK), 200),
        ("/models", ((b"sec-fetch-site", b"same-site"), OWN_PAGE), 200),
        ("/models", (CROSS_SITE, OWN_PAGE), 200),  # from localhost to 127.0.0.1
        ("/v1/models", (CROSS_SITE,), 403),
        ("/docs", (CROSS_SITE, LINK), 200),
        ("/docs", (CROSS_SITE, FRAME), 403),
        ("/", (CROSS_SITE, LINK), 200),
    ],
)
def test_what_a_page_from_elsewhere_may_not_ask(path: str, headers: Any, status: int) -> None:
    """An image or a link needs no Origin, and some GETs load models."""
    house = House()
    client = house.ask("GET", path, HOST, *headers)
    assert client.status == status
    if status == 403:
        assert not house.api.kinds + house.gateway.kinds, "somebody was asked all the same"


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/models/m/load"])
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ((JSON,), 200),
        (((b"content-type", b"Application/JSON; charset=utf-8"),), 200),
        ((), 200),
        ((FORM,), 200),  # curl's own, and no browser
        (((b"content-type", b"text/plain"),), 415),
        ((FORM, OWN_PAGE), 415),
        (((b"sec-fetch-site", b"cross-site"),), 403),
        (((b"sec-fetch-site", b"same-origin"),), 415),
        ((FORM, PAGE), 403),
    ],
)
def test_content_type(path: str, method: str, headers: Any, status: int) -> None:
    house = House()
    client = house.ask(method, path, HOST, *headers, body=b"{}")
    assert client.status == status
    if status == 415:
        assert client.error["param"] == "content-type"


def test_what_nobody_serves_may_be_of_any_type() -> None:
    """An upload is told that there is no such surface, not that it should have been JSON."""
    house = House()
    upload = (b"content-type", b"multipart/form-data; boundary=x")
    assert house.ask("POST", "/v1/images/variations", HOST, upload, body=b"x").status == 200
    assert house.gateway.paths == ["/v1/images/variations"]
    assert house.ask("POST", "/v1/images/variations", HOST, upload, PAGE).status == 403


def test_an_upload_is_a_form() -> None:
    house = House()
    upload = (b"content-type", b"multipart/form-data; boundary=x")
    assert house.ask("POST", "/v1/audio/transcriptions", HOST, upload, body=b"x").status == 200
    without = (b"content-type", b"multipart/form-data")
    for kind in (JSON, FORM, without):
        assert house.ask("POST", "/v1/audio/transcriptions", HOST, kind, body=b"x").status == 415


@pytest.mark.parametrize("method", ["GET", "DELETE", "HEAD", "OPTIONS"])
def test_what_has_no_body_needs_no_type(method: str) -> None:
    assert House().ask(method, "/models/m", HOST, (b"content-type", b"text/plain")).status == 200


def test_the_api_is_told_that_it_is_json_and_the_gateway_gets_what_was_sent() -> None:
    house = House()
    house.ask("POST", "/models/m/load", HOST, FORM, body=b'{"wait":1}')
    assert [v for k, v in house.api.headers if k == b"content-type"] == [b"application/json"]
    assert house.api.body == b'{"wait":1}'
    house.ask("POST", "/v1/completions", HOST, FORM, body=b"not json")
    assert FORM in house.gateway.headers
    assert house.gateway.body == b"not json"


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        (b"", 200, None),
        (b" null ", 200, None),
        (b'{"a": 1}', 200, None),
        (b"{", 400, "body"),
        (b"[]", 400, "body"),
        (b'{"a": "\xff"}', 400, "body"),
        (b'{"a": "' + b"x" * 1000 + b'"}', 413, None),
    ],
)
def test_bodies_for_the_api(body: bytes, status: int, param: str | None) -> None:
    house = House(limit=1000)
    client = house.ask("POST", "/models/m/load", HOST, JSON, parts=[body[:3], body[3:]])
    assert client.status == status
    if status == 200:
        assert house.api.body == body
    else:
        assert client.error["param"] == param
        assert not house.api.kinds


def test_who_leaves_while_sending_is_not_answered() -> None:
    async def scene() -> None:
        house = House()
        client = Client(path="/models/m/load", headers=[HOST, JSON], parts=[])
        client.gone.set()
        await client.ask(house.door)
        assert client.sent == []
        assert not house.api.kinds

    asyncio.run(scene())
