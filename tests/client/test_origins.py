"""What is an origin, what is a host, and which patterns allow which."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelpool_client.origins import (
    ANY,
    OPAQUE,
    Origin,
    host_patterns,
    origin_patterns,
    read_host,
    read_host_pattern,
    read_origin,
    read_origin_pattern,
)


def allows(pattern: str, origin: str) -> bool:
    read = read_origin(origin.encode("utf-8", "surrogatepass"))
    return read is not None and read_origin_pattern(pattern) in origin_patterns(read)


def serves(pattern: str, host: str) -> bool:
    read = read_host(host.encode("utf-8", "surrogatepass"))
    return read is not None and read_host_pattern(pattern) in host_patterns(read)


@pytest.mark.parametrize(
    ("value", "origin"),
    [
        (b"https://app.example", Origin("https", "app.example")),
        (b"HTTPS://App.Example:443", Origin("https", "app.example")),
        (b"http://app.example:443", Origin("http", "app.example", 443)),
        (b"http://[::1]:3000", Origin("http", "::1", 3000)),
        (b"http://[0:0:0:0:0:0:0:1]", Origin("http", "::1")),
        (b"app://obsidian.md", Origin("app", "obsidian.md")),
        (b"safari-web-extension://E3A8-F8", Origin("safari-web-extension", "e3a8-f8")),
        (b"file://", Origin("file", "")),
        (b"null", OPAQUE),
        (b"", None),
        (b"app.example", None),
        (b"//app.example", None),
        (b"https://", None),
        (b"https:///", None),
        (b"https://app.example/", None),
        (b"https://app.example?x", None),
        (b"https://app.example#x", None),
        (b"https://me@app.example", None),
        (b"https://app.example:", None),
        (b"https://app.example:65536", None),
        (b"https://app..example", None),
        (b"https://.app.example", None),
        (b"https://*", None),
        (b"https://*.example", None),
        (b"*", None),
        (b"https://a.example https://b.example", None),
        (b"https://a.example, https://b.example", None),
        (b" https://app.example", None),
        (b"https://app.example\n", None),
        (b"http://[::1", None),
        (b"http://[evil.example]", None),
        (b"http://[::1]evil.example", None),
        ("https://b\u00fccher.example".encode(), None),
        (b"https://\xff", None),
    ],
)
def test_origins(value: bytes, origin: Origin | None) -> None:
    assert read_origin(value) == origin


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        (
            "https://app.example",
            ["https://app.example", "https://APP.example", "https://app.example:443"],
            [
                "http://app.example",
                "https://app.example:8443",
                "https://app.example.",
                "https://app.example.evil.example",
                "https://evil.example/app.example",
                "https://app.example@evil.example",
                "https://sub.app.example",
                "https://xapp.example",
                "null",
            ],
        ),
        ("HTTPS://App.Example:443", ["https://app.example"], ["http://app.example:443"]),
        ("http://10.0.0.5:3000", ["http://10.0.0.5:3000"], ["http://10.0.0.5", "http://10.0.0.50"]),
        ("http://[FD00:0::5]", ["http://[fd00::5]"], ["http://[fd00::6]"]),
        (
            "http://xn--bcher-kva.example",
            ["http://xn--bcher-kva.example"],
            ["http://bucher.example"],
        ),
        (
            "https://*.example.org",
            ["https://a.example.org", "https://a.b.example.org"],
            [
                "https://example.org",
                "https://aexample.org",
                "http://a.example.org",
                "https://a.example.org:8443",
                "https://a.example.org.",
                "https://a.example.org.evil",
            ],
        ),
        ("https://*.example.org:8443", ["https://a.example.org:8443"], ["https://a.example.org"]),
        ("app://obsidian.md", ["app://obsidian.md"], ["https://obsidian.md", "app://obsidian"]),
        ("chrome-extension://abc", ["chrome-extension://abc"], ["chrome-extension://abd"]),
        ("vscode-webview://*", ["vscode-webview://0a1b2c"], ["vscode-file://0a1b2c", "null"]),
        ("https://*", ["https://a.example:8443"], ["http://a.example"]),
        ("file://", ["file://"], ["file://x", "null"]),
        ("null", ["null"], ["https://null", "null://x", "file://"]),
        ("*", ["https://a.example", "app://x", "file://"], ["null", "nonsense", "https://a@b"]),
    ],
)
def test_patterns_of_origins(pattern: str, yes: list[str], no: list[str]) -> None:
    assert [o for o in yes if not allows(pattern, o)] == []
    assert [o for o in no if allows(pattern, o)] == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "app.example",
        "https://",
        "https://app.example/",
        "https://app.example/*",
        "https://app.example:*",
        "https://a.*.example",
        "https://*example.org",
        "https://*.",
        "https://*.0.0.1",
        "http://*.[::1]",
        "*://app.example",
        "*.example.org",
        "https://b\u00fccher.example",
        "https://\u212aelvin.example",
        "**",
        "Null.",
    ],
)
def test_what_is_no_pattern_of_origins(text: str) -> None:
    with pytest.raises(ValueError, match="should be an origin"):
        read_origin_pattern(text)


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        (
            "pool.example",
            ["pool.example", "POOL.example:8443"],
            ["pool.example.", "a.pool.example", "me@pool.example", "pool.example:x", "", "evil"],
        ),
        ("*.example.org", ["a.example.org", "a.b.example.org:1"], ["example.org", "aexample.org"]),
        ("10.0.0.5", ["10.0.0.5:80"], ["10.0.0.50"]),
        ("[FD00::5]", ["[fd00::5]:8050"], ["fd00::5", "[fd00::5"]),
    ],
)
def test_patterns_of_hosts(pattern: str, yes: list[str], no: list[str]) -> None:
    assert [h for h in yes if not serves(pattern, h)] == []
    assert [h for h in no if serves(pattern, h)] == []


@pytest.mark.parametrize(
    "text", ["", "*", "*.", "*.0.0.1", "*.[::1]", "pool.example:8050", "http://x", "\u212aool"]
)
def test_what_is_no_pattern_of_hosts(text: str) -> None:
    with pytest.raises(ValueError, match="should be a host"):
        read_host_pattern(text)


# -- whatever is written --------------------------------------------------------------------------

LABEL = st.text(string.ascii_lowercase + string.digits + "-", min_size=1, max_size=4)
NAME = st.lists(LABEL, min_size=1, max_size=3).map(".".join)
SCHEME = st.sampled_from(["http", "https", "app", "chrome-extension"])
PORT = st.sampled_from(["", ":80", ":443", ":3000"])
ORIGIN = st.tuples(SCHEME, NAME, PORT).map(lambda p: f"{p[0]}://{p[1]}{p[2]}")
# What might be mistaken for another origin.
TWISTS = [
    lambda o: o.upper(),
    lambda o: f"{o}.",
    lambda o: f"{o}/",
    lambda o: f"{o}:3001",
    lambda o: f"{o}@evil.example",
    lambda o: o.replace("://", "://me@"),
    lambda o: o.replace("://", "://evil."),
    lambda o: o.replace("://", "://xn--"),
    lambda o: o.replace("://", "://*."),
    lambda o: f"{o}.evil.example",
    lambda o: o.replace("k", "\u212a").replace("s", "\u017f"),
    lambda o: o.replace(".", "\u3002"),
    lambda o: o.replace("a", "%61"),
    lambda o: f"{o}\t",
]
TWISTED = st.tuples(ORIGIN, st.lists(st.sampled_from(TWISTS), max_size=2))


def twisted(pair: tuple[str, list[object]]) -> str:
    origin, twists = pair
    for twist in twists:
        origin = twist(origin)  # type: ignore[operator]
    return origin


ASKED = st.one_of(TWISTED.map(twisted), st.text(max_size=30), st.just("null"))
DEFAULTS = {"http": ":80", "https": ":443"}


def canonical(origin: str) -> str:
    """Case and default port aside: what two texts for one origin have in common."""
    lower = origin.translate(str.maketrans(string.ascii_uppercase, string.ascii_lowercase))
    default = DEFAULTS.get(lower.partition("://")[0])
    return lower.removesuffix(default) if default else lower


@given(ORIGIN, ASKED)
def test_an_exact_pattern_allows_itself_and_nothing_else(pattern: str, asked: str) -> None:
    assert allows(pattern, pattern)
    assert allows(pattern, asked) == (canonical(asked) == canonical(pattern))


@given(SCHEME, NAME.filter(lambda n: not n.rpartition(".")[2].isdigit()), ASKED, LABEL)
def test_a_wildcard_allows_what_lies_below_and_nothing_else(
    scheme: str, name: str, asked: str, label: str
) -> None:
    pattern = f"{scheme}://*.{name}"
    assert allows(pattern, f"{scheme}://{label}.{name}")
    assert not allows(pattern, f"{scheme}://{name}")
    if allows(pattern, asked):
        assert canonical(asked).startswith(f"{scheme}://")
        assert canonical(asked).endswith(f".{name}")
        assert "@" not in asked


@given(ORIGIN, ASKED)
def test_null_is_allowed_by_itself_only(pattern: str, asked: str) -> None:
    assert allows("null", asked) == (asked.lower() == "null")
    assert not allows(pattern, "null")
    assert ANY not in origin_patterns(OPAQUE)


@given(NAME, st.one_of(NAME, st.text(max_size=20)), PORT)
def test_a_host_serves_itself_and_nothing_else(pattern: str, asked: str, port: str) -> None:
    assert serves(pattern, f"{pattern}{port}")
    name = asked.rpartition(":")[0] or asked
    if serves(pattern, asked):
        assert canonical(name) == pattern
