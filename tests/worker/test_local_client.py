"""What an engine child asks of a server on this machine, over a connection that is kept."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest
from modelpool_worker.engines.local_client import LocalClient

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
# What it sends over each connection in turn, an answer per request; then it closes that.
Script: TypeAlias = list[list[bytes]]


class Scripted:
    """Listens on a unix socket, and notes what comes."""

    def __init__(self, path: Path, script: Script) -> None:
        self.path, self.heard, self.connections = str(path), list[bytes](), 0
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve, args=(script,), daemon=True)
        self._thread.start()

    def _serve(self, script: Script) -> None:
        for answers in script:
            connection, _ = self._listener.accept()
            self.connections += 1
            with connection:
                for answer in answers:
                    self.heard.append(connection.recv(1 << 16))
                    connection.sendall(answer)

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[[Script], Scripted]]:
    servers: list[Scripted] = []

    def start(script: Script) -> Scripted:
        servers.append(Scripted(tmp_path / f"{len(servers)}.sock", script))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def test_one_connection_carries_all_that_is_asked(serve: Callable[[Script], Scripted]) -> None:
    chunked = b"HTTP/1.1 503 Loading\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nnot\r\n0\r\n\r\n"
    server = serve([[chunked, OK, OK]])
    with LocalClient(server.path) as client:
        assert client.ask("GET", "/health", 5) == (503, b"not")
        assert client.ask("GET", "/health", 5) == (200, b"hi")
        assert client.ask("POST", "/v1", 5, headers={"X-A": "b"}, body=b"{}") == (200, b"hi")
    assert server.connections == 1
    assert server.heard[0] == b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    assert server.heard[2].endswith(
        b"X-A: b\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
    )


def test_one_that_the_server_has_closed_is_made_anew(
    serve: Callable[[Script], Scripted],
) -> None:
    until_close = b"HTTP/1.0 200 OK\r\n\r\nall of it"
    server = serve([[OK], [OK.replace(b"200", b"201")], [until_close]])
    client = LocalClient(server.path)
    found = [client.ask("GET", "/", 5) for _ in range(3)]
    assert found == [(200, b"hi"), (201, b"hi"), (200, b"all of it")]
    assert server.connections == 3


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"", "without an answer"),
        (b"SSH-2.0\r\n\r\n", "does not speak HTTP"),
        (b"HTTP/1.1 200 OK\r\n", "broke off"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", "broke off"),
    ],
)
def test_what_is_no_answer_is_said(
    serve: Callable[[Script], Scripted], answer: bytes, why: str
) -> None:
    server = serve([[answer], [OK]])
    with LocalClient(server.path) as client:
        with pytest.raises(OSError, match=why):
            client.ask("GET", "/", 5)
        assert client.ask("GET", "/", 5)[0] == 200


def test_an_answer_has_its_time(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as listener, LocalClient(path) as client:
        listener.bind(path)
        with pytest.raises(OSError):  # nobody listens yet
            client.ask("GET", "/", 5)
        listener.listen()
        with pytest.raises(TimeoutError):
            client.ask("GET", "/", 0.05)
