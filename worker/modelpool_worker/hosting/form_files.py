"""PURE. Forms with their files whole."""

from __future__ import annotations

from typing import Any

from modelpool_client.surfaces import forms
from modelpool_client.surfaces.schema import Schema
from python_multipart.multipart import MultipartParser, parse_options_header


def read_form(
    content_type: bytes, body: bytes, table: Schema
) -> tuple[dict[str, Any], dict[str, list[bytes]]]:
    """The fields of a form by the types of ``table``, and the files by the names of their fields.

    Raises:
        InvalidRequest: it is none.
    """
    fields = forms.typed(forms.decode(content_type, body), table)
    files = _Files()
    boundary = parse_options_header(content_type)[1][b"boundary"]
    parser = MultipartParser(boundary, files.callbacks())
    parser.write(body)
    parser.finalize()
    return fields, files.found


class _Files:
    """What the parser tells of the files of a form that is known to be right."""

    def __init__(self) -> None:
        self.found: dict[str, list[bytes]] = {}
        self._begin()

    def callbacks(self) -> Any:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._on_name,
            "on_header_value": self._on_value,
            "on_header_end": self._on_header,
            "on_part_data": self._on_data,
            "on_part_end": self._on_part,
        }

    def _begin(self) -> None:
        self._name, self._value, self._disposition = b"", b"", b""
        self._parts: list[bytes] = []

    def _on_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header(self) -> None:
        if self._name.lower() == b"content-disposition":
            self._disposition = self._value
        self._name, self._value = b"", b""

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        self._parts.append(data[start:end])

    def _on_part(self) -> None:
        options = parse_options_header(self._disposition)[1]
        if b"filename" in options:
            name = options.get(b"name", b"").decode().removesuffix("[]")
            self.found.setdefault(name, []).append(b"".join(self._parts))
