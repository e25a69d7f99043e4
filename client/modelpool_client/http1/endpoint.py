"""PURE. Where a server is reached."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from .message import host_header

# Longest path a unix socket may have: 104 bytes on macOS, 108 on Linux, one for the final zero.
MAX_SOCKET_PATH = 103


class LocalEndpoint(NamedTuple):
    """A server on this machine that may listen on a unix socket as well: what goes over that passes
    no network stack, which is a third of what a relayed request costs the system.

    Attributes:
        path: of the socket; empty where there is none.
    """

    host: str
    port: int
    path: str


# Host and port, with the path of a unix socket beside them; or such a path alone.
Endpoint: TypeAlias = tuple[str, int] | LocalEndpoint | str


def host_of(endpoint: Endpoint) -> bytes:
    """By what name it is asked for; behind a unix socket alone an engine stands."""
    return b"engine" if isinstance(endpoint, str) else host_header(endpoint[0], endpoint[1])


def front_socket(runtime_dir: str, port: int) -> str:
    """The path of the socket that a worker serves beside its port, for the gateway; empty where
    there is none: without a folder of its own, or where that has too long a name."""
    path = f"{runtime_dir}/front-{port}.sock" if runtime_dir else ""
    return path if len(path.encode("utf-8", "surrogateescape")) <= MAX_SOCKET_PATH else ""
