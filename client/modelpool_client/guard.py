"""PURE. Which requests a browser page must not make: the Host, Origin, Sec-Fetch and Content-Type
rules.

A page can send requests to loopback addresses, by DNS rebinding even with readable answers; it
cannot forge these headers. Headers are as in an ASGI scope: pairs of bytes, names in lower case.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache
from urllib.parse import urlsplit

from .errors import Forbidden, Source, UnsupportedMediaType

LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})

Headers = Collection[tuple[bytes, bytes]]


def hosts_for(bound: str) -> frozenset[str]:
    """The host names that requests may use towards a server bound to ``bound``."""
    return LOOPBACK_HOSTS | {bound.lower()}


def check_headers(
    headers: Headers, hosts: Collection[str], source: Source = "pool", *, is_page: bool = False
) -> None:
    """Refuse a request whose Host or Origin is none of ``hosts`` (on any port), and one that a page
    from elsewhere makes without an Origin, as for an image. ``is_page``: a link may lead there.

    Raises:
        Forbidden: naming the header and its value.
    """
    named: list[bytes] = []
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        if name == b"host":
            named.append(value)
        elif name == b"origin" and _origin_host(value) not in hosts:
            raise Forbidden(f"Origin {_shown(value)} is not allowed here", source=source)
        elif name in _BROWSER_HEADERS:
            found[name] = value
    if found.get(b"sec-fetch-site") == b"cross-site" and b"origin" not in found:
        is_link = found.get(b"sec-fetch-dest") == b"document"
        if not (is_page and is_link):
            raise Forbidden(
                "a web page from elsewhere may not ask here (Sec-Fetch-Site is cross-site);"
                " open the address by itself",
                source=source,
            )
    if len(named) != 1:
        raise Forbidden("one Host header is needed", source=source)
    if _host(named[0]) not in hosts:
        allowed = ", ".join(sorted(hosts))
        raise Forbidden(
            f"Host {_shown(named[0])} is not served here; these are: {allowed}", source=source
        )


def check_json(headers: Headers, source: Source = "pool") -> None:
    """Refuse a body that does not say it is JSON.

    No Content-Type, or the one curl sends by itself, will do where no browser is at work: those
    always send Origin or Sec-Fetch-Site with a POST.

    Raises:
        UnsupportedMediaType: naming what was sent.
    """
    if _JSON in headers:  # nearly always
        return
    found = {name: value for name, value in headers if name in _CONTENT_HEADERS}
    kind = found.get(b"content-type", b"").split(b";")[0].strip().lower()
    if kind == b"application/json":
        return
    is_browser = b"origin" in found or b"sec-fetch-site" in found
    if is_browser or kind not in (b"", b"application/x-www-form-urlencoded"):
        raise UnsupportedMediaType(
            f"Content-Type must be application/json, not {_shown(kind)}",
            param="content-type",
            source=source,
        )


_JSON = (b"content-type", b"application/json")
_BROWSER_HEADERS = frozenset({b"origin", b"sec-fetch-site", b"sec-fetch-dest"})
_CONTENT_HEADERS = frozenset({b"content-type", b"origin", b"sec-fetch-site"})


@lru_cache(maxsize=64)
def _host(value: bytes) -> str | None:
    """The name in a Host header, without its port: ``[::1]:8050`` gives ``::1``."""
    try:
        return urlsplit(f"//{value.decode('ascii')}").hostname
    except ValueError:
        return None


def _origin_host(value: bytes) -> str | None:
    try:
        parts = urlsplit(value.decode("ascii"))
    except ValueError:
        return None
    return parts.hostname if parts.scheme in ("http", "https") else None


def _shown(value: bytes) -> str:
    return repr(value[:100].decode("ascii", "replace"))
