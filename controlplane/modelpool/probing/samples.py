"""The smallest picture and sound that a model can be given. PURE."""

from __future__ import annotations

import base64
import struct
import zlib

SIDE_PIXELS = 8
RED = b"\xff\x00\x00"
RATE_HERTZ = 16_000
SECONDS = 0.5


def picture() -> bytes:
    """A red square as PNG, https://www.w3.org/TR/png-3/: 8 bits, true colour, no filter."""
    head = struct.pack(">IIBBBBB", SIDE_PIXELS, SIDE_PIXELS, 8, 2, 0, 0, 0)
    rows = (b"\0" + RED * SIDE_PIXELS) * SIDE_PIXELS
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*chunk) for chunk in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def silence() -> bytes:
    """Half a second of it as WAV: 16 bits, one channel."""
    samples = b"\0\0" * int(RATE_HERTZ * SECONDS)
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, RATE_HERTZ, 2 * RATE_HERTZ, 2, 16)
    data = b"WAVE" + form + struct.pack("<4sI", b"data", len(samples)) + samples
    return b"RIFF" + struct.pack("<I", len(data)) + data


def picture_url() -> str:
    """The picture as a data URL."""
    return f"data:image/png;base64,{base64.b64encode(picture()).decode()}"


def silence_text() -> str:
    """The sound in base64."""
    return base64.b64encode(silence()).decode()
