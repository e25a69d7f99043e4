"""A client on a bare socket: it sends half of something, or does not read."""

from __future__ import annotations

import socket

CHAT = "/v1/chat/completions"
# So that little is under way, and who does not read is soon noticed.
SMALL_BUFFER = 4096


def connected(port: int | str) -> socket.socket:
    """To that port on this machine, or to the unix socket of that path."""
    sock = socket.socket(socket.AF_UNIX if isinstance(port, str) else socket.AF_INET)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
    sock.connect(port if isinstance(port, str) else ("127.0.0.1", port))
    sock.settimeout(60)
    return sock


def request(port: int, body: bytes, length: int | None = None, path: str = CHAT) -> bytes:
    """A POST of JSON; ``length`` is what it says of its body, if that is not true."""
    size = len(body) if length is None else length
    head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {size}\r\n\r\n".encode() + body


def answer_to(sock: socket.socket, path: str) -> bytes:
    """The whole answer to a GET; the connection is kept."""
    port = sock.getpeername()[1]
    sock.sendall(f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n\r\n".encode())
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += sock.recv(65536)
    head, _, body = answer.partition(b"\r\n\r\n")
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    while len(body) < int(fields[b"content-length"]):
        body += sock.recv(65536)
    return head + b"\r\n\r\n" + body


def until_closed(sock: socket.socket) -> bytes:
    """Everything that comes until the other side closes."""
    answer = b""
    try:
        while chunk := sock.recv(65536):
            answer += chunk
    except ConnectionResetError:
        pass
    return answer
