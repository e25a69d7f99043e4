"""Reads answers off a socket, one after the other, by the letter of HTTP/1.1."""

from __future__ import annotations

import io
import json
import socket
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class RawAnswer:
    """A whole one."""

    status: int
    fields: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Reader:
    """What comes over one connection."""

    def __init__(self, sock: socket.socket) -> None:
        self._file: io.BufferedReader | io.BytesIO = sock.makefile("rb")

    @classmethod
    def over(cls, data: io.BytesIO) -> Reader:
        """Of bytes instead of a connection."""
        reader = cls.__new__(cls)
        reader._file = data
        return reader

    def has_more(self) -> bool:
        """Of bytes only."""
        assert isinstance(self._file, io.BytesIO)
        return self._file.tell() < len(self._file.getbuffer())

    def line(self) -> bytes:
        line = self._file.readline()
        assert line.endswith(b"\r\n"), f"the connection ended: {line!r}"
        return line[:-2]

    def head(self) -> tuple[int, dict[str, str]]:
        status = int(self.line().split()[1])
        fields = {}
        while line := self.line():
            name, _, value = line.decode("latin-1").partition(": ")
            name = name.lower()  # they have no case
            assert name not in fields, f"{name} twice"
            fields[name] = value
        return status, fields

    def answer(self, *, has_body: bool = True) -> RawAnswer:
        status, fields = self.head()
        if not has_body:
            return RawAnswer(status, fields, b"")
        if "content-length" in fields:
            return RawAnswer(status, fields, self._file.read(int(fields["content-length"])))
        body = b""
        while size := int(self.line(), 16):
            body += self._file.read(size)
            assert self.line() == b""
        assert self.line() == b""
        return RawAnswer(status, fields, body)


def answers_in(data: bytes) -> list[RawAnswer]:
    """Every answer of ``data``, which holds nothing else."""
    reader = Reader.over(io.BytesIO(data))
    found = []
    while reader.has_more():
        found.append(reader.answer())
    return found
