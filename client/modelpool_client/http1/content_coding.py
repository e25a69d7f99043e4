"""PURE. Bodies that come compressed (``Content-Encoding``, RFC 9110, 8.4), made plain."""

from __future__ import annotations

import zlib
from collections.abc import Callable

from modelpool_client.errors import InvalidRequest, PayloadTooLarge, UnsupportedMediaType

HEADER = b"content-encoding"
# What zlib calls the container: 16 and more is gzip's, less is zlib's own, negative is none.
_GZIP, _ZLIB, _RAW = 31, 15, -15
# By the names that clients send; all that the standard library of every Python here decodes.
_CODINGS = {b"gzip": _GZIP, b"x-gzip": _GZIP, b"deflate": _ZLIB}
UNDERSTOOD = ("gzip", "deflate", "identity")

Decode = Callable[[bytes, int], bytes]


def decoder(value: bytes | None) -> Decode | None:
    """What makes a body plain that came with such a Content-Encoding; None where it is plain.

    The decoder takes the body and the most bytes that it may become, and raises InvalidRequest or
    PayloadTooLarge. It never holds more than that many.

    Raises:
        UnsupportedMediaType: naming what is understood.
    """
    if value is None:
        return None
    names = [name.strip().lower() for name in value.split(b",")]
    codings = [name for name in names if name not in (b"", b"identity")]
    if not codings:
        return None
    if len(codings) > 1 or codings[0] not in _CODINGS:
        raise UnsupportedMediaType.of_coding(value.decode("latin-1")[:100], UNDERSTOOD)
    name = codings[0].decode()
    container = _CODINGS[codings[0]]
    return lambda data, limit: _decoded(name, container, data, limit)


def _decoded(name: str, container: int, data: bytes, limit: int) -> bytes:
    # Many clients mean raw deflate by "deflate", which is wrong and usual.
    if container == _ZLIB and not _is_zlib(data):
        container = _RAW
    parts, size = [], 0
    while data:
        inflater = zlib.decompressobj(container)
        try:
            part = inflater.decompress(data, limit - size + 1)
        except zlib.error as e:
            raise InvalidRequest(f"the body is not valid {name}: {e}", param="body") from None
        size += len(part)
        if size > limit:
            text = f"the body is larger than {limit:,} bytes when it is decompressed"
            raise PayloadTooLarge(text)
        if not inflater.eof:
            raise InvalidRequest(f"the body is not valid {name}: it ends early", param="body")
        parts.append(part)
        # Only gzip may be several members, one after the other (RFC 1952, 2.2).
        data = inflater.unused_data if container == _GZIP else b""
    return b"".join(parts)


def _is_zlib(data: bytes) -> bool:
    """The first two bytes of zlib's container check each other (RFC 1950, 2.2)."""
    return len(data) >= 2 and data[0] & 0x0F == 8 and (data[0] << 8 | data[1]) % 31 == 0
