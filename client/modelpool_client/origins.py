"""PURE. Origins and hosts as browsers write them (https://html.spec.whatwg.org, 7.1.1), and the
patterns that allow them.

Whatever is not written as a browser would write it is no origin: no userinfo, no path, names in
ASCII only. Case, and a port that is the scheme's own, make no difference.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from typing import NamedTuple

WEB_PORTS = {"http": 80, "https": 443}

_NAME = r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*\.?"
_AUTHORITY = re.compile(rf"(?:({_NAME})|\[([0-9a-f:.]+)\])(?::([0-9]{{1,5}}))?")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")


class Origin(NamedTuple):
    """``port`` is None where it is the scheme's own, or none is named. In a pattern the host may be
    ``*``, or ``*.`` and a name, and stand for many."""

    scheme: str
    host: str
    port: int | None = None


ANY = Origin("*", "*")
# What sandboxed frames, files and redirected requests send.
OPAQUE = Origin("null", "")


def read_origin(value: bytes | str) -> Origin | None:
    """An Origin header; None where no browser sends such a one."""
    text = _plain(value)
    if text == "null":
        return OPAQUE
    scheme, _, authority = text.partition("://")
    if not _SCHEME.fullmatch(scheme):
        return None
    if not authority:  # as file://
        return Origin(scheme, "") if f"{scheme}://" == text and scheme not in WEB_PORTS else None
    found = _read_authority(authority)
    if found is None:
        return None
    host, port = found
    return Origin(scheme, host, None if port == WEB_PORTS.get(scheme) else port)


def read_host(value: bytes | str) -> str | None:
    """The name in a Host header, without its port: ``[::1]:8050`` gives ``::1``."""
    found = _read_authority(_plain(value))
    return found[0] if found is not None else None


def read_origin_pattern(text: str) -> Origin:
    """One of ``allowed_origins``: an origin, or a pattern for many.

    Raises:
        ValueError: it is neither; the text says what would be.
    """
    if text == "*":
        return ANY
    scheme, _, authority = _plain(text).partition("://")
    if authority == "*" and _SCHEME.fullmatch(scheme):
        return Origin(scheme, "*")
    is_wild = authority.startswith("*.")
    origin = read_origin(f"{scheme}://{authority[2:]}" if is_wild else text)
    if origin is None or (is_wild and not _is_name(origin.host)):
        raise ValueError(
            "should be an origin as browsers send it, without a path and in ASCII"
            " (https://app.example, http://10.0.0.5:3000, app://obsidian.md),"
            " https://*.app.example, app://*, null or *"
        )
    return origin._replace(host=f"*.{origin.host}") if is_wild else origin


def read_host_pattern(text: str) -> str:
    """One of ``allowed_hosts``: a host, or ``*.`` and a name for all below it.

    Raises:
        ValueError: it is neither; the text says what would be.
    """
    plain = _plain(text)
    is_wild = plain.startswith("*.")
    found = _read_authority(plain[2:] if is_wild else plain)
    if found is None or found[1] is not None or (is_wild and not _is_name(found[0])):
        raise ValueError(
            "should be a host without a port and in ASCII"
            " (pool.example, *.pool.example, 10.0.0.5, [fd00::5])"
        )
    return f"*.{found[0]}" if is_wild else found[0]


def origin_patterns(origin: Origin) -> Iterator[Origin]:
    """All that, written as a pattern, allow the origin."""
    yield origin
    if origin == OPAQUE:
        return
    yield ANY
    yield Origin(origin.scheme, "*")
    for parent in _parents(origin.host):
        yield origin._replace(host=parent)


def host_patterns(host: str) -> Iterator[str]:
    """All that, written as a pattern, allow the host."""
    yield host
    yield from _parents(host)


def _plain(value: bytes | str) -> str:
    """In lower case, empty if it is not ASCII: beyond that, what is another letter in lower case
    may be one of ours (``K``, the sign for kelvin)."""
    if not value.isascii():
        return ""
    return (value if isinstance(value, str) else value.decode("ascii")).lower()


def _read_authority(text: str) -> tuple[str, int | None] | None:
    match = _AUTHORITY.fullmatch(text)
    if match is None:
        return None
    name, address, digits = match.groups()
    port = int(digits) if digits is not None else None
    if port is not None and port > 65_535:
        return None
    if address is None:
        return name, port
    try:
        return str(ipaddress.IPv6Address(address)), port
    except ValueError:
        return None


def _is_name(host: str) -> bool:
    """It is no address: what ends in a number is one (https://url.spec.whatwg.org, 3.5)."""
    last = host.removesuffix(".").rpartition(".")[2]
    return bool(last) and ":" not in host and not last.isdigit()


def _parents(host: str) -> Iterator[str]:
    _, dot, rest = host.partition(".")
    while dot and rest:
        yield f"*.{rest}"
        _, dot, rest = rest.partition(".")
