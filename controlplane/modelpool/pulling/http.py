"""Requests of those who fetch: small answers, sent for again where that may help."""

from __future__ import annotations

import base64
import binascii
import re
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

import httpx
from modelpool_client import __version__
from modelpool_client.errors import (
    BadGateway,
    Forbidden,
    ModelPoolError,
    NotFound,
    Unavailable,
)

from .addresses import refuse_host, refuse_peer
from .retry import PASSING, RetryPolicy, retry_after

T = TypeVar("T")

TIMEOUT = httpx.Timeout(60.0, connect=20.0)
HEADERS = {"user-agent": f"modelpool/{__version__}", "accept-encoding": "identity"}
# Of servers that do not answer HEAD.
NO_HEAD = (400, 403, 404, 405, 501)
# Somebody waits to hear whether there is such a model at all.
SMALL_ATTEMPTS = 4
_DIGITS = re.compile(r"[0-9]{1,18}")
_QUERY = re.compile(r"\?\S+")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def new_client(*, public_only: bool = False) -> httpx.Client:
    """Follows redirects; what authorizes it goes to the first host only, as httpx does.

    Args:
        public_only: addresses of this machine and its networks are not asked, wherever they come
            from.
    """
    hooks: dict[str, list[Callable[..., object]]] = {}
    if public_only:
        hooks = {"request": [refuse_host], "response": [refuse_peer]}
    return httpx.Client(timeout=TIMEOUT, headers=HEADERS, follow_redirects=True, event_hooks=hooks)


class Http:
    """Whole answers of origins. ``public_only`` is that of ``new_client``, ``sleep`` takes
    seconds."""

    def __init__(
        self,
        policy: RetryPolicy | None = None,
        sleep: Callable[[float], object] = time.sleep,
        *,
        public_only: bool = False,
    ) -> None:
        self._public_only = public_only
        self._policy = policy or RetryPolicy(attempts=SMALL_ATTEMPTS)
        self._sleep = sleep

    def get(self, url: str, most: int, headers: Mapping[str, str] | None = None) -> bytes:
        """The body.

        Raises:
            ModelPoolError: there is none, it is larger than ``most`` bytes, or nobody answers.
        """
        return self._again(lambda: self._get(url, most, headers or {}))

    def head(self, url: str) -> httpx.Response | None:
        """The answer to HEAD; None from a server that answers none.

        Raises:
            ModelPoolError: nobody answers, or it says no.
        """

        def ask() -> httpx.Response | None:
            with new_client(public_only=self._public_only) as client:
                response = client.head(url)
            if response.status_code in NO_HEAD:
                return None
            refuse(response)
            return response

        return self._again(ask)

    def _get(self, url: str, most: int, headers: Mapping[str, str]) -> bytes:
        client = new_client(public_only=self._public_only)
        with client, client.stream("GET", url, headers=dict(headers)) as response:
            refuse(response)
            body = b""
            for piece in response.iter_raw():
                body += piece
                if len(body) > most:
                    text = f"{shown(url)} is larger than the {most} bytes that it may have"
                    raise BadGateway(text, source="upstream")
            return body

    def _again(self, ask: Callable[[], T]) -> T:
        failures = 0
        while True:
            try:
                return ask()
            except httpx.TransportError as e:
                error: ModelPoolError = unreachable(e)
            except (httpx.TooManyRedirects, httpx.InvalidURL) as e:
                raise unusable(e) from None
            except Unavailable as e:
                error = e
            failures += 1
            delay = self._policy.delay(failures, error.retry_after)
            if delay is None:
                raise error
            self._sleep(delay)


def unreachable(error: httpx.TransportError) -> Unavailable:
    """Nobody answers, or the connection broke."""
    where = shown(str(error.request.url)) if has_request(error) else "the server"
    said = _QUERY.sub("", str(error)) or type(error).__name__
    return Unavailable(f"{where} does not answer: {said}", code="unreachable", source="upstream")


def unusable(error: httpx.TooManyRedirects | httpx.InvalidURL) -> BadGateway:
    """What is asked sends in circles, or to where there is nothing."""
    text = f"the server cannot be asked: {_QUERY.sub('', str(error))}"
    return BadGateway(text, code="bad_redirect", source="upstream")


def whole_number(text: str) -> int | None:
    """A number as headers have it; None for anything else. PURE."""
    return int(text) if _DIGITS.fullmatch(text) else None


def has_request(error: httpx.TransportError) -> bool:
    """httpx raises where an error's request is asked for and was not set."""
    try:
        return error.request is not None
    except RuntimeError:
        return False


def refuse(response: httpx.Response) -> None:
    """Let through what is an answer.

    Raises:
        ModelPoolError: it is none; ``Unavailable`` where another attempt may help.
    """
    hops = [each.url for each in (*response.history, response)]
    plain = next((url for url in hops if url.scheme != "https"), None)
    if hops[0].scheme == "https" and plain is not None:
        text = f"{shown(str(hops[0]))} sends on to {shown(str(plain))}, which is not safe"
        raise BadGateway(text, source="upstream", code="unsafe_redirect")
    status, where = response.status_code, shown(str(response.url))
    if 200 <= status < 300:
        return
    if status in (401, 403):
        text = f"{where} answers {status}: it wants to know who asks, or forbids it"
        raise Forbidden(text, source="upstream")
    if status in (404, 410):
        raise NotFound(f"{where} answers {status}: there is no such thing", source="upstream")
    text = f"{where} answers {status}"
    if status in PASSING:
        wait = retry_after(response.headers, time.time())
        asked = "" if wait is None else f" and asks to wait {wait:.0f} s"
        raise Unavailable(text + asked, code="upstream_busy", source="upstream", retry_after=wait)
    raise BadGateway(text, source="upstream")


def header_digest(response: httpx.Response) -> str:
    """The digest that an answer announces for the whole file; empty for none.

    ``X-Linked-Etag`` of the hub is a SHA-256 where the file is in its large file storage;
    ``Repr-Digest`` is RFC 9530's, ``Content-MD5`` RFC 1864's.
    """
    for each in (*response.history, response):
        etag = each.headers.get("x-linked-etag", "").strip('"').casefold()
        if _SHA256.fullmatch(etag):
            return f"sha256:{etag}"
    named = re.search(r"sha-256=:([^:]+):", response.headers.get("repr-digest", ""))
    if named and (value := _hex(named[1], 32)):
        return f"sha256:{value}"
    if response.status_code == 206:  # then it is that of the part
        return ""
    value = _hex(response.headers.get("content-md5", ""), 16)
    return f"md5:{value}" if value else ""


def shown(url: str) -> str:
    """A URL without its query, which may be a key of a content network, and without a password."""
    scheme, mark, rest = url.partition("?")[0].partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{mark}{host.rpartition('@')[2]}{slash}{path}"[:300]


def _hex(text: str, size: int) -> str:
    try:
        value = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return ""
    return value.hex() if len(value) == size else ""
