"""PURE. Heads of requests and answers, and which of their fields a relay passes on."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from http import HTTPStatus
from typing import TypeAlias
from urllib.parse import unquote

Headers: TypeAlias = list[tuple[bytes, bytes]]  # names in lower case, in the order of the wire

# They concern one connection only (RFC 9110, 7.6.1), or are made anew for the next.
HOP_HEADERS = frozenset(
    {b"connection", b"keep-alive", b"transfer-encoding", b"upgrade", b"te", b"trailer"}
    | {b"proxy-authenticate", b"proxy-authorization", b"proxy-connection"}
    | {b"host", b"content-length", b"expect"}
)
# How a body is to be read.
_DESCRIBING = frozenset(
    {b"content-type", b"content-disposition", b"inference-header-content-length"}
)
BODILESS = frozenset({204, 304})


class Request:
    """The head of a request.

    Attributes:
        raw_path: as it was sent, without the query.
        query: without its question mark.
        fields: the last header of each name.
        is_1_0: HTTP/1.0, which knows no chunks.
    """

    __slots__ = ("fields", "headers", "is_1_0", "method", "query", "raw_path")

    def __init__(
        self, method: str, raw_path: bytes, query: bytes, headers: Headers, *, is_1_0: bool = False
    ) -> None:
        self.method = method
        self.raw_path = raw_path
        self.query = query
        self.headers = headers
        self.fields = dict(headers)
        self.is_1_0 = is_1_0

    @property
    def path(self) -> str:
        """Decoded."""
        path = self.raw_path.decode("ascii", "replace")
        return unquote(path) if "%" in path else path

    def drop(self, name: bytes) -> None:
        """Forget the headers of that name."""
        self.headers = [pair for pair in self.headers if pair[0] != name]
        self.fields.pop(name, None)


def split_target(target: bytes) -> tuple[bytes, bytes]:
    """Path and query of a request's target, which may be a whole URL (RFC 9112, 3.2.2)."""
    if b"://" in target and not target.startswith(b"/"):
        rest = target.partition(b"://")[2]
        at = min((i for i in (rest.find(b"/"), rest.find(b"?")) if i >= 0), default=len(rest))
        target = rest[at:] if rest[at : at + 1] == b"/" else b"/" + rest[at:]
    path, _, query = target.partition(b"?")
    return path, query


def end_to_end(headers: Headers, drop: frozenset[bytes] = HOP_HEADERS) -> Headers:
    """What of ``headers`` is for who stands at the other end: without ``drop``, and without what
    ``Connection`` names."""
    kept = [pair for pair in headers if pair[0] not in drop]
    if len(kept) == len(headers):
        return kept
    named = {
        name.strip().lower()
        for key, value in headers
        if key == b"connection"
        for name in value.split(b",")
    } - {b"close", b"keep-alive"}
    return [pair for pair in kept if pair[0] not in named] if named else kept


def request_head(
    method: str, target: bytes, host: bytes, headers: Iterable[tuple[bytes, bytes]], length: int
) -> bytes:
    """``target`` and ``headers`` are written as they are; host and length are added."""
    return b"%b %b HTTP/1.1\r\nhost: %b\r\n%bcontent-length: %d\r\n\r\n" % (
        method.encode("ascii"),
        target,
        host,
        b"".join([b"%b: %b\r\n" % pair for pair in headers]),
        length,
    )


def head_to_length(
    method: str, target: bytes, host: bytes, headers: Iterable[tuple[bytes, bytes]]
) -> bytes:
    """The same up to the digits of its length, for requests that differ in nothing else."""
    return request_head(method, target, host, headers, 0).removesuffix(b"0\r\n\r\n")


@lru_cache(maxsize=256)
def status_line(status: int) -> bytes:
    """``HTTP/1.1 200 OK`` and its line's end."""
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Status"
    return b"HTTP/1.1 %d %b\r\n" % (status, phrase.encode("ascii"))


@lru_cache(maxsize=1024)
def host_header(host: str, port: int) -> bytes:
    """With brackets where the host is an IPv6 address."""
    return (f"[{host}]:{port}" if ":" in host else f"{host}:{port}").encode("ascii")


def describing(headers: Headers) -> Headers:
    """Of a request's or answer's headers those that say how its body is to be read."""
    return [pair for pair in headers if pair[0] in _DESCRIBING]
