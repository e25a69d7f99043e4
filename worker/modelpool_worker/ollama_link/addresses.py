"""PURE. Where servers of Ollama are, as their users write it: ``host``, ``host:port`` or a URL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

DEFAULT_PORT = 11434
DEFAULT = f"http://127.0.0.1:{DEFAULT_PORT}"
# What Ollama's own programs read. A server is told there where to listen, too.
HOST_VARIABLE = "OLLAMA_HOST"
_ANY_HOST = ("0.0.0.0", "::", "")


@dataclass(frozen=True)
class Address:
    """``prefix`` is the path that its API stands below, empty as a rule."""

    host: str
    port: int
    is_tls: bool = False
    prefix: str = ""

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """Without a slash at its end."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.is_tls else 'http'}://{host}:{self.port}{self.prefix}"

    @property
    def is_here(self) -> bool:
        """It is on this machine, whose memory it takes."""
        if self.host == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False


def address_of(text: str) -> Address:
    """Read one; without a port it is Ollama's, or that of the scheme where one is written.

    Raises:
        ValueError: it is none.
    """
    has_scheme = "://" in text
    parts = urlsplit(text if has_scheme else f"http://{text}")
    if parts.scheme not in ("http", "https"):
        raise ValueError(f"{text!r} is no http or https URL")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError(f"{text!r} holds more than a host, a port and a path")
    is_tls = parts.scheme == "https"
    usual = 443 if is_tls else 80
    port = parts.port or (usual if has_scheme and parts.port != 0 else DEFAULT_PORT)
    # A server listens everywhere there; it is asked here.
    host = "127.0.0.1" if parts.hostname in (*_ANY_HOST, None) else parts.hostname
    return Address(host or "", port, is_tls, parts.path.rstrip("/"))


def addresses_of(options: Mapping[str, Any], environment: Mapping[str, str]) -> list[Address]:
    """Those of a model, each once: its option ``servers``, else OLLAMA_HOST, else this machine's.

    Raises:
        ValueError: one is no address.
    """
    told: Sequence[str] = options.get("servers") or [environment.get(HOST_VARIABLE) or DEFAULT]
    return list(dict.fromkeys(address_of(text) for text in told))
