"""PURE. Which requests a browser page must not make: the Host, Origin, Sec-Fetch and Content-Type
rules.

A page can send requests to loopback addresses, by DNS rebinding even with readable answers; it
cannot forge these headers. What is allowed besides loopback is written in ``allowed_origins`` and
``allowed_hosts``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from functools import lru_cache
from typing import TypeVar

from .errors import Forbidden, Source, UnsupportedMediaType
from .http1.cors import ORIGIN
from .http1.message import Headers, Request
from .origins import (
    ANY,
    WEB_PORTS,
    host_patterns,
    origin_patterns,
    read_host,
    read_host_pattern,
    read_origin,
    read_origin_pattern,
)
from .wire import Allowlist

Pattern = TypeVar("Pattern")

LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
# Of hosts and of origins that were looked at last; a client sends the same ones.
REMEMBERED = 64
NOBODY = Allowlist()


class Guard:
    """Says who may ask a server bound to ``bound``: by a loopback host, pages of loopback origins
    on any port, and whom the allowlist names.

    Attributes:
        allowlist: what is in force; its texts are patterns of ``origins``.
    """

    allowlist: Allowlist

    def __init__(self, bound: str, allowlist: Allowlist = NOBODY, source: Source = "pool") -> None:
        self._own = LOOPBACK_HOSTS | {bound.lower()}
        self._source: Source = source
        self.allow(allowlist)

    def __repr__(self) -> str:
        return f"<Guard of {', '.join(sorted(self._own))}; {self.allowlist}>"

    def allow(self, allowlist: Allowlist) -> None:
        """Another allowlist is in force from now on. A text of it that is no pattern, as a manager
        of another version may send one, allows nobody."""
        own = self._own
        hosts = own | _understood(read_host_pattern, allowlist.hosts)
        origins = _understood(read_origin_pattern, allowlist.origins)

        @lru_cache(REMEMBERED)
        def serves(value: bytes) -> bool:
            host = read_host(value)
            return host is not None and any(pattern in hosts for pattern in host_patterns(host))

        @lru_cache(REMEMBERED)
        def admits(value: bytes) -> bool:
            origin = read_origin(value)
            if origin is None:  # of a program, not of a page: no other text would let it in
                return ANY in origins
            is_own = origin.scheme in WEB_PORTS and origin.host in own
            return is_own or any(pattern in origins for pattern in origin_patterns(origin))

        self.allowlist, self._serves, self._admits = allowlist, serves, admits

    def check(self, request: Request, *, is_page: bool = False) -> bytes | None:
        """Refuse a request by a Host or from an Origin that is not allowed, and one that a page
        from elsewhere makes without an Origin, as for an image. ``is_page``: a link may lead there.

        Returns:
            The origin of the page that asks; None where none says that it does.

        Raises:
            Forbidden: naming the header, its value and the key that would allow it.
        """
        fields = request.fields
        if len(fields) != len(request.headers):
            self._check_single(request.headers)
        host, origin = fields.get(b"host"), fields.get(b"origin")
        if host is None:
            raise Forbidden("one Host header is needed", source=self._source)
        if not self._serves(host):
            raise self._unknown_host(host)
        if origin is None:
            if fields.get(b"sec-fetch-site") == b"cross-site":
                self._check_link(request, is_page=is_page)
            return None
        if not (self._admits(origin) or _is_same_origin(request, origin, host)):
            raise Forbidden(
                f"Origin {_shown(origin)} is not allowed here; to let its pages in, add it to"
                " allowed_origins in the pool's configuration",
                param=ORIGIN,
                source=self._source,
            )
        return origin

    def _check_single(self, headers: Headers) -> None:
        counts = Counter(name for name, _ in headers)
        if counts[b"host"] > 1 or counts[b"origin"] > 1:
            text = "one Host header is needed, and no more than one Origin"
            raise Forbidden(text, source=self._source)

    def _check_link(self, request: Request, *, is_page: bool) -> None:
        if not (is_page and request.fields.get(b"sec-fetch-dest") == b"document"):
            raise Forbidden(
                "a web page from elsewhere may not ask here (Sec-Fetch-Site is cross-site);"
                " open the address by itself",
                source=self._source,
            )

    def _unknown_host(self, value: bytes) -> Forbidden:
        served = ", ".join(sorted({*self._own, *self.allowlist.hosts}))
        return Forbidden(
            f"Host {_shown(value)} is not served here; these are: {served}; use one of them, or add"
            " it to allowed_hosts in the pool's configuration",
            source=self._source,
        )


def _understood(read: Callable[[str], Pattern], texts: Iterable[str]) -> frozenset[Pattern]:
    found = set()
    for text in texts:
        with suppress(ValueError):
            found.add(read(text))
    return frozenset(found)


def _is_same_origin(request: Request, origin: bytes, host: bytes) -> bool:
    """The page came from the host that is asked, which is allowed. Browsers say where it is not so
    although the names are the same: the page was read without TLS, by whoever is in between."""
    scheme, _, authority = origin.lower().partition(b"://")
    is_web = scheme in (b"http", b"https")
    site = request.fields.get(b"sec-fetch-site", b"same-origin")
    return is_web and authority == host.lower() and site == b"same-origin"


def check_json(
    headers: Collection[tuple[bytes, bytes]],
    source: Source = "pool",
    others: Collection[bytes] = (),
) -> None:
    """Refuse a body that does not say it is JSON.

    No Content-Type, the one curl sends by itself, or one of ``others`` will do where no browser is
    at work: those always send Origin or Sec-Fetch-Site with a POST.

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
    if is_browser or kind not in (b"", b"application/x-www-form-urlencoded", *others):
        raise UnsupportedMediaType(
            f"Content-Type must be application/json, not {_shown(kind)}",
            param="content-type",
            source=source,
        )


_JSON = (b"content-type", b"application/json")
_CONTENT_HEADERS = frozenset({b"content-type", b"origin", b"sec-fetch-site"})


def _shown(value: bytes) -> str:
    return repr(value[:100].decode("ascii", "replace"))
