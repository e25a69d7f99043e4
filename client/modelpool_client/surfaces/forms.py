"""PURE. Bodies of ``multipart/form-data`` (RFC 7578): what they say beside their files.

Parsed by ``python-multipart``; the files stay where they are in the body, which is passed on as it
came.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from modelpool_client.errors import InvalidRequest, Source, UnsupportedMediaType
from modelpool_client.http1.message import Headers
from modelpool_client.surfaces.schema import Schema

MEDIA_TYPE = b"multipart/form-data"
# Of one form: a file or two, and some dozen texts.
MOST_PARTS = 1000
LONGEST_TEXT_BYTES = 1 << 20


def check(headers: Headers, source: Source = "pool") -> None:
    """Refuse a body that does not say it is a form.

    Raises:
        UnsupportedMediaType: naming what was sent.
    """
    kind, options = parse_options_header(dict(headers).get(b"content-type"))
    if kind != MEDIA_TYPE or not options.get(b"boundary"):
        shown = kind[:100].decode("ascii", "replace")
        raise UnsupportedMediaType(
            f"Content-Type must be multipart/form-data with a boundary, not {shown!r}",
            param="content-type",
            source=source,
        )


def decode(content_type: bytes, body: bytes) -> dict[str, Any]:
    """The fields of a form by their names: texts as they are, files as ``{"filename",
    "content_type", "size"}`` with the size in bytes, and a list where the name ends in ``[]``,
    which it loses, or comes again.

    Raises:
        InvalidRequest: it is no such form.
    """
    form = _Form()
    try:
        boundary = parse_options_header(content_type)[1][b"boundary"]
        parser = MultipartParser(boundary, form.callbacks())
        parser.write(body)
        parser.finalize()
    except FormParserError as e:
        raise InvalidRequest(f"the body is not a valid form: {e}", param="body") from None
    if not form.is_complete:
        raise InvalidRequest("the body is not a valid form: it ends early", param="body")
    return form.fields


def with_text(content_type: bytes, body: bytes, name: str, value: str) -> bytes:
    """A form that ``decode`` takes, with another text in its parts of that name; of the rest every
    byte is where it was."""
    mark = b"\r\n--" + parse_options_header(content_type)[1][b"boundary"]
    parts = (b"\r\n" + body).split(mark)
    for i, part in enumerate(parts):
        head, gap, _ = part.partition(b"\r\n\r\n")
        if i and gap and _is_called(head, name.encode()):
            parts[i] = head + gap + value.encode()
    return mark.join(parts)[2:]


def _is_called(head: bytes, name: bytes) -> bool:
    lines = (line.partition(b":") for line in head.split(b"\r\n"))
    said = {key.strip().lower(): value.strip() for key, _, value in lines}
    return parse_options_header(said.get(b"content-disposition"))[1].get(b"name") == name


def typed(fields: Mapping[str, Any], table: Schema) -> dict[str, Any]:
    """The same with numbers and booleans where ``table``, of the JSON that it could have been, has
    them; what is none stays a text."""
    known = table["properties"]
    return {name: _typed(value, known.get(name, {})) for name, value in fields.items()}


def _typed(value: Any, schema: Schema) -> Any:
    kinds = schema.get("type", ())
    if "array" in kinds and not isinstance(value, list):
        value = [value]
    if not isinstance(value, str):
        return value
    if "boolean" in kinds and value.lower() in ("true", "false"):
        return value.lower() == "true"
    if "number" in kinds or "integer" in kinds:
        try:
            number = float(value) if "number" in kinds else int(value)
        except ValueError:
            return value
        return number if math.isfinite(number) else value  # as JSON has it
    return value


class _Form:
    """What the parser tells of a form."""

    def __init__(self) -> None:
        self.fields: dict[str, Any] = {}
        self.is_complete = False
        self._parts = 0
        self._begin()

    def callbacks(self) -> Any:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._on_name,
            "on_header_value": self._on_value,
            "on_header_end": self._on_header,
            "on_part_data": self._on_data,
            "on_part_end": self._on_part,
            "on_end": self._on_end,
        }

    def _begin(self) -> None:
        self._header, self._value = b"", b""
        self._headers: dict[bytes, bytes] = {}
        self._text: list[bytes] = []
        self._size = 0

    def _on_name(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header(self) -> None:
        self._headers[self._header.lower()] = self._value
        self._header, self._value = b"", b""

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        self._size += end - start
        if self._size <= LONGEST_TEXT_BYTES:
            self._text.append(data[start:end])

    def _on_part(self) -> None:
        self._parts += 1
        if self._parts > MOST_PARTS:
            raise InvalidRequest(f"the form has more than {MOST_PARTS} parts", param="body")
        options = parse_options_header(self._headers.get(b"content-disposition"))[1]
        name = _text(options.get(b"name", b""), "a name")
        if not name:
            raise InvalidRequest("a part of the form has no name", param="body")
        self._add(name, self._content(name, options))

    def _content(self, name: str, options: Mapping[bytes, bytes]) -> Any:
        if b"filename" in options:
            kind = self._headers.get(b"content-type", b"application/octet-stream")
            return {
                "filename": options[b"filename"].decode("utf-8", "replace"),
                "content_type": kind.decode("ascii", "replace"),
                "size": self._size,
            }
        if self._size > LONGEST_TEXT_BYTES:
            raise InvalidRequest(f"{name[:100]} is over {LONGEST_TEXT_BYTES} bytes", param=name)
        return _text(b"".join(self._text), name)

    def _add(self, name: str, value: Any) -> None:
        if name.endswith("[]"):
            self.fields.setdefault(name.removesuffix("[]"), [])
            name = name.removesuffix("[]")
        if name not in self.fields:
            self.fields[name] = value
        elif isinstance(self.fields[name], list):
            self.fields[name].append(value)
        else:
            self.fields[name] = [self.fields[name], value]

    def _on_end(self) -> None:
        self.is_complete = True


def _text(data: bytes, name: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise InvalidRequest(f"{name[:100]} is not valid UTF-8", param="body") from None
