"""Which requests come in: by Host, Origin, Sec-Fetch-Site and Content-Type."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelpool_client.errors import Forbidden, UnsupportedMediaType
from modelpool_client.guard import Guard, check_json
from modelpool_client.http1.message import Request
from modelpool_client.wire import Allowlist

LISTED = Allowlist(
    origins=("https://app.example", "chrome-extension://abc", "https://*.apps.example"),
    hosts=("pool.example", "*.pools.example"),
)


def headers(**values: str) -> list[tuple[bytes, bytes]]:
    return [(k.replace("_", "-").encode(), v.encode()) for k, v in values.items()]


def check(guard: Guard, **values: str) -> bytes | None:
    return guard.check(Request("GET", b"/", b"", headers(**values)))


@pytest.mark.parametrize(
    "good",
    [
        {"host": "localhost"},
        {"host": "127.0.0.1:8051"},
        {"host": "[::1]:8051"},
        {"host": "LOCALHOST:1"},
        {"host": "localhost", "origin": "http://localhost:3000"},
        {"host": "localhost", "origin": "https://127.0.0.1"},
        {"host": "localhost", "origin": "http://[::1]:3000"},
    ],
)
def test_loopback_passes(good: dict[str, str]) -> None:
    assert check(Guard("127.0.0.1"), **good) == (good["origin"].encode() if len(good) > 1 else None)


@pytest.mark.parametrize(
    "bad",
    [
        {},
        {"host": ""},
        {"host": "evil.example"},
        {"host": "localhost.evil.example"},
        {"host": "localhost."},
        {"host": "127.0.0.1.evil.example:8051"},
        {"host": "localhost@evil.example"},
        {"host": "evil.example@localhost"},
        {"host": "[::1"},
        {"host": "localhost", "origin": "http://evil.example"},
        {"host": "localhost", "origin": "null"},
        {"host": "localhost", "origin": "file://"},
        {"host": "localhost", "origin": "file://localhost"},
        {"host": "localhost", "origin": "app://localhost"},
        {"host": "localhost", "origin": "http://localhost."},
        {"host": "localhost", "origin": "http://evil@localhost"},
        {"host": "localhost", "origin": "http://localhost/"},
        {"host": "localhost", "origin": "http://localhost.evil.example"},
        {"host": "evil.example", "origin": "http://evil.example"},
        {"host": "evil.example", "origin": "http://evil.example", "sec_fetch_site": "same-origin"},
    ],
)
def test_nobody_else_passes(bad: dict[str, str]) -> None:
    with pytest.raises(Forbidden):
        check(Guard("127.0.0.1"), **bad)


@pytest.mark.parametrize("name", ["host", "origin"])
def test_none_of_them_comes_twice(name: str) -> None:
    twice = [*headers(host="localhost"), *headers(**{name: "http://localhost"})]
    given = [*twice, *headers(origin="http://localhost"), *headers(**{name: "localhost"})]
    with pytest.raises(Forbidden, match="one Host header"):
        Guard("127.0.0.1").check(Request("GET", b"/", b"", given))


def test_other_headers_may() -> None:
    given = [*headers(host="localhost"), *headers(cookie="a"), *headers(cookie="b")]
    assert Guard("127.0.0.1").check(Request("GET", b"/", b"", given)) is None


SAME = {"host": "pool.example:8443", "origin": "https://pool.example:8443"}


@pytest.mark.parametrize(
    ("values", "passes"),
    [
        ({"host": "pool.example"}, True),
        ({"host": "a.pools.example:1"}, True),
        ({"host": "pools.example"}, False),
        ({"host": "localhost", "origin": "https://app.example"}, True),
        ({"host": "pool.example", "origin": "https://app.example"}, True),
        ({"host": "localhost", "origin": "http://app.example"}, False),
        ({"host": "localhost", "origin": "chrome-extension://abc"}, True),
        ({"host": "localhost", "origin": "https://a.apps.example"}, True),
        ({"host": "app.example", "origin": "https://app.example"}, False),
        # Its own page, as it is read behind a proxy.
        (SAME, True),
        ({**SAME, "sec_fetch_site": "same-origin"}, True),
        ({**SAME, "origin": "http://pool.example:8443", "sec_fetch_site": "cross-site"}, False),
        ({**SAME, "sec_fetch_site": "same-site"}, False),
        ({**SAME, "origin": "https://pool.example:8444"}, False),
        ({**SAME, "origin": "https://pool.example"}, False),
        ({**SAME, "origin": "app://pool.example:8443"}, False),
        ({"host": "a.pools.example", "origin": "https://b.pools.example"}, False),
    ],
)
def test_whom_the_lists_name(values: dict[str, str], passes: bool) -> None:
    guard = Guard("127.0.0.1", LISTED)
    if passes:
        check(guard, **values)
    else:
        with pytest.raises(Forbidden):
            check(guard, **values)


def test_whoever_is_listed_as_anybody_may_send_what_is_no_origin() -> None:
    guard = Guard("127.0.0.1", Allowlist(("*",)))
    for origin in ("https://app.example", "localhost", "app.example"):
        assert check(guard, host="localhost", origin=origin) == origin.encode()
    for listed in ((), ("https://app.example",)):
        with pytest.raises(Forbidden):
            check(Guard("127.0.0.1", Allowlist(listed)), host="localhost", origin="localhost")
    with pytest.raises(Forbidden):  # sandboxed pages are named by themselves
        check(guard, host="localhost", origin="null")


def test_a_refusal_names_the_key() -> None:
    guard = Guard("127.0.0.1", LISTED, "worker")
    with pytest.raises(Forbidden, match=r"'https://x\.example'.* allowed_origins") as caught:
        check(guard, host="localhost", origin="https://x.example")
    assert caught.value.source == "worker"
    with pytest.raises(Forbidden, match=r"'x\.example'.*\*\.pools\.example.* allowed_hosts"):
        check(guard, host="x.example")


def test_another_list_counts_at_once() -> None:
    guard, asks = Guard("127.0.0.1"), {"host": "localhost", "origin": "https://app.example"}
    for _ in range(2):
        with pytest.raises(Forbidden):
            check(guard, **asks)
        guard.allow(LISTED)
        assert check(guard, **asks) == b"https://app.example"
        guard.allow(Allowlist())


def test_a_pattern_of_another_version_allows_nobody() -> None:
    guard = Guard("127.0.0.1", Allowlist(("https://[new]", "https://app.example"), ("?", "*")))
    assert check(guard, host="localhost", origin="https://app.example")
    with pytest.raises(Forbidden):
        check(guard, host="x.example")


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_what_is_not_listed_never_passes(host: bytes, origin: bytes) -> None:
    guard = Guard("127.0.0.1", LISTED)
    request = Request("GET", b"/", b"", [(b"host", host), (b"origin", origin)])
    with pytest.raises(Forbidden):
        guard.check(request)


FORM = "application/x-www-form-urlencoded"


@pytest.mark.parametrize(
    ("given", "passes"),
    [
        ({"content_type": "application/json"}, True),
        ({"content_type": "Application/JSON; charset=utf-8"}, True),
        ({}, True),
        ({"content_type": FORM}, True),
        ({"content_type": FORM, "origin": "http://localhost"}, False),
        ({"content_type": FORM, "sec_fetch_site": "same-origin"}, False),
        ({"sec_fetch_site": "cross-site"}, False),
        ({"content_type": "application/json", "origin": "http://localhost"}, True),
        ({"content_type": "text/plain"}, False),
        ({"content_type": "multipart/form-data"}, False),
    ],
)
def test_content_types(given: dict[str, str], passes: bool) -> None:
    if passes:
        check_json(headers(**given))
    else:
        with pytest.raises(UnsupportedMediaType):
            check_json(headers(**given))
