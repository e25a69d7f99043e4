"""PURE. Forms that the pool itself fills in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelpool.routing.plan import File

# Our own, and in no file that anybody makes by chance.
BOUNDARY = "modelpool-4f1c1d0e7a934a6fb6b5c4e5d2a8b793"
FORM_TYPE = f"multipart/form-data; boundary={BOUNDARY}".encode()


def form_of(fields: Mapping[str, Any], files: Mapping[str, File]) -> bytes:
    """The body of a form with these fields, as texts, and files."""
    parts = []
    for name, value in fields.items():
        head = f'Content-Disposition: form-data; name="{name}"'
        parts.append(f"--{BOUNDARY}\r\n{head}\r\n\r\n{value}\r\n".encode())
    for name, file in files.items():
        head = f'Content-Disposition: form-data; name="{name}"; filename="{file.name}"'
        kind = f"Content-Type: {file.content_type}"
        parts.append(f"--{BOUNDARY}\r\n{head}\r\n{kind}\r\n\r\n".encode() + file.content + b"\r\n")
    return b"".join([*parts, f"--{BOUNDARY}--\r\n".encode()])
