"""The socket beside a worker's port."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from modelpool_client.http1.endpoint import MAX_SOCKET_PATH, front_socket
from modelpool_worker.binding import bound_beside


def test_it_takes_connections_and_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "front-1.sock"
    with bound_beside(str(path)) as [sock], socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        sock.accept()[0].close()
    assert not path.exists()


def test_a_dead_ones_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "front-1.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    with bound_beside(str(path)) as [_], socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


@pytest.mark.parametrize("path", ["", "no/such/folder/s", "x" * 200])
def test_a_worker_does_without(tmp_path: Path, path: str) -> None:
    with bound_beside(path and str(tmp_path / path)) as socks:
        assert socks == ()


def test_its_path() -> None:
    assert front_socket("/run/m-1", 8051) == "/run/m-1/front-8051.sock"
    assert front_socket("", 8051) == ""
    longest = "/" + "x" * (MAX_SOCKET_PATH - len("//front-8051.sock"))
    assert len(front_socket(longest, 8051)) == MAX_SOCKET_PATH
    assert front_socket(longest + "x", 8051) == ""
