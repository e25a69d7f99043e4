"""Walk a protobuf message in a file without its classes, and without reading what is passed over.

Nothing in the file is believed: no field goes past the message that it is in, and there is an end
to how many are looked at. The encoding: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from .json_values import Wrong

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
MAX_VARINT_BYTES = 10
# A graph with 50,000 nodes has some hundred thousand of those that are looked at.
MAX_FIELDS = 1_000_000
MAX_TEXT_BYTES = 65_536
MAX_PAIR_BYTES = 4096
MAX_PACKED = 4096


@dataclass(frozen=True)
class Field:
    """One field: its number, how it is encoded, and a number or the place of its bytes."""

    number: int
    wire: int
    value: int = 0
    begin: int = 0
    end: int = 0


class Wire:
    """A file of one message."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._size = size
        self._looked_at = 0

    def fields(self, within: Field | None = None) -> Iterator[Field]:
        """The fields of the file's message, or of one within it, in their order. Others may be
        read between two steps.

        Raises:
            Wrong: they are truncated, corrupt or too many.
        """
        at, end = (0, self._size) if within is None else (within.begin, within.end)
        if within is not None and within.wire != BYTES:
            raise Wrong("is corrupt: a number stands where a message should")
        while at < end:
            field, at = self._field(at, end)
            yield field

    def number(self, field: Field) -> int:
        """A field's number, as protobuf's int64."""
        if field.wire != VARINT:
            raise Wrong("is corrupt: a number is none")
        return field.value - 2**64 if field.value >= 2**63 else field.value

    def numbers(self, field: Field) -> list[int]:
        """Numbers that stand together in a field, or the only one of it; at most 4,096."""
        if field.wire == VARINT:
            return [self.number(field)]
        found: list[int] = []
        at = field.begin
        while at < field.end and len(found) < MAX_PACKED:
            value, at = self._varint(at, field.end)
            found.append(value - 2**64 if value >= 2**63 else value)
        return found

    def text(self, field: Field, most: int = MAX_TEXT_BYTES) -> str:
        """A field's text, no longer than so many bytes."""
        if field.wire != BYTES:
            raise Wrong("is corrupt: a number stands where a text should")
        self._file.seek(field.begin)
        return self._file.read(min(field.end - field.begin, most)).decode(errors="replace")

    def pair(self, whole: Field) -> tuple[str, str]:
        """A text and its key, which stand in fields 1 and 2, as in every map of texts; empty where
        it is too long to be of use."""
        key = value = ""
        for part in self.fields(whole):
            if part.number == 1:
                key = self.text(part, MAX_PAIR_BYTES)
            elif part.number == 2 and part.end - part.begin <= MAX_PAIR_BYTES:
                value = self.text(part)
        return key, value

    def _field(self, at: int, end: int) -> tuple[Field, int]:
        self._looked_at += 1
        if self._looked_at > MAX_FIELDS:
            raise Wrong(f"is corrupt, or larger than any known model: over {MAX_FIELDS} fields")
        key, at = self._varint(at, end)
        number, wire = key >> 3, key & 7
        if not 0 < number < 2**29:
            raise Wrong(f"is corrupt, or of another format: a field has the number {number}")
        if wire == VARINT:
            value, at = self._varint(at, end)
            return Field(number, wire, value), at
        if wire == BYTES:
            length, at = self._varint(at, end)
        elif wire in (FIXED64, FIXED32):
            length = 8 if wire == FIXED64 else 4
        else:
            raise Wrong(f"is corrupt, or of another format: a field is encoded as {wire}")
        if length > end - at:
            raise Wrong(f"is truncated or corrupt: a field goes on after its {end} bytes")
        return Field(number, wire, 0, at, at + length), at + length

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        self._file.seek(at)
        data = self._file.read(min(MAX_VARINT_BYTES, end - at))
        value = 0
        for index, byte in enumerate(data):
            value |= (byte & 0x7F) << (7 * index)
            if byte < 0x80:
                return value & (2**64 - 1), at + index + 1
        raise Wrong("is truncated or corrupt: a number does not end")
