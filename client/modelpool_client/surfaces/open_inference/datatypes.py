"""PURE. The datatypes of tensors: which values they hold, and how these lie in raw data.

Raw data are little-endian and without gaps; an element of BYTES is its length in four bytes and
then itself: https://github.com/triton-inference-server/server, docs/protocol,
extension_binary_data.md.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_LENGTH = struct.Struct("<I")


@dataclass(frozen=True)
class Datatype:
    """One of them.

    Attributes:
        holds: bool, int, float or bytes.
        code: of an element in ``struct``; empty where elements differ in size.
        low: the least number; of floats, the least finite one.
        high: the greatest.
    """

    name: str
    holds: type
    code: str = ""
    low: float = 0
    high: float = 0

    @property
    def size(self) -> int:
        """Bytes of an element; 0 where they differ."""
        return struct.calcsize(f"<{self.code}")


def _integer(name: str, code: str) -> Datatype:
    bits = 8 * struct.calcsize(f"<{code}")
    low, high = (0, 2**bits - 1) if code.isupper() else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return Datatype(name, int, code, low, high)


def _float(name: str, code: str, high: float) -> Datatype:
    return Datatype(name, float, code, -high, high)


BF16 = _float("BF16", "H", (2 - 2**-7) * 2.0**127)
BYTES = Datatype("BYTES", bytes)
DATATYPES: Mapping[str, Datatype] = {
    one.name: one
    for one in (
        Datatype("BOOL", bool, "?"),
        *(
            _integer(f"UINT{bits}", code)
            for bits, code in zip((8, 16, 32, 64), "BHIQ", strict=True)
        ),
        *(_integer(f"INT{bits}", code) for bits, code in zip((8, 16, 32, 64), "bhiq", strict=True)),
        _float("FP16", "e", 65504.0),
        _float("FP32", "f", (2 - 2**-23) * 2.0**127),
        _float("FP64", "d", math.inf),
        BF16,
        BYTES,
    )
}


def checked(datatype: Datatype, values: Sequence[Any]) -> list[Any]:
    """The elements that JSON values stand for: text is bytes, 2.0 is the integer 2.

    Raises:
        ValueError: the text says which of them is none of this datatype.
    """
    if _are_plain(datatype, values):
        return list(map(datatype.holds, values))
    convert = _CONVERT[datatype.holds]
    found = []
    for i, value in enumerate(values):
        try:
            found.append(convert(datatype, value))
        except ValueError as e:
            raise ValueError(f"is {datatype.name}, and element {i} {e}") from None
    return found


def unpack(datatype: Datatype, raw: bytes) -> list[Any]:
    """The elements of raw data.

    Raises:
        ValueError: they end within an element.
    """
    if datatype is BYTES:
        return _split(raw)
    count, rest = divmod(len(raw), datatype.size)
    if rest:
        raise ValueError(f"has {len(raw)} bytes, which is no multiple of {datatype.size}")
    values = struct.unpack(f"<{count}{datatype.code}", raw)
    if datatype is BF16:  # the upper half of an FP32
        return list(
            struct.unpack(f"<{count}f", struct.pack(f"<{count}I", *(v << 16 for v in values)))
        )
    return list(values)


def pack(datatype: Datatype, values: Sequence[Any]) -> bytes:
    """Raw data of elements that ``checked`` would give."""
    if datatype is BYTES:
        return b"".join(part for value in values for part in (_LENGTH.pack(len(value)), value))
    if datatype is BF16:
        bits = struct.unpack(f"<{len(values)}I", struct.pack(f"<{len(values)}f", *values))
        values = [_upper_half(b) for b in bits]
    return struct.pack(f"<{len(values)}{datatype.code}", *values)


# What JSON has for each, as it nearly always comes. Finite numbers only: all at once they are
# checked ten times as fast as one by one, and one tensor may be millions of them.
_PLAIN: Mapping[type, frozenset[type]] = {
    bool: frozenset({bool}),
    int: frozenset({int}),
    float: frozenset({int, float}),
    bytes: frozenset({bytes}),
}
_FINITE = 2.0**1023


def _are_plain(datatype: Datatype, values: Sequence[Any]) -> bool:
    if not values or not _PLAIN[datatype.holds].issuperset(map(type, values)):
        return False
    if datatype.holds in (bool, bytes):
        return True
    # A NaN, which any float may be, hides no other number; as the first it is within nothing.
    low, high = max(datatype.low, -_FINITE), min(datatype.high, _FINITE)
    return bool(low <= min(values) and max(values) <= high)


def _split(raw: bytes) -> list[bytes]:
    found: list[bytes] = []
    at = 0
    while at < len(raw):
        if at + _LENGTH.size > len(raw):
            raise ValueError(f"ends within the length of element {len(found)}")
        (length,) = _LENGTH.unpack_from(raw, at)
        at += _LENGTH.size + length
        if at > len(raw):
            raise ValueError(f"ends within element {len(found)}, which is to have {length} bytes")
        found.append(raw[at - length : at])
    return found


def _upper_half(bits: int) -> int:
    """The BF16 that is nearest to an FP32, of two the even one."""
    is_nan = bits & 0x7FFFFFFF > 0x7F800000
    return bits >> 16 | 0x40 if is_nan else bits + 0x7FFF + (bits >> 16 & 1) >> 16


def _bool(datatype: Datatype, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("is neither true nor false")
    return value


def _int(datatype: Datatype, value: Any) -> int:
    is_whole = isinstance(value, float) and value.is_integer()
    if isinstance(value, bool) or not (isinstance(value, int) or is_whole):
        raise ValueError("is no integer")
    return int(_within(datatype, value))


def _real(datatype: Datatype, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError("is no number")
    if isinstance(value, float) and not math.isfinite(value):
        return value
    try:
        return float(_within(datatype, value))
    except OverflowError:
        raise ValueError("is too large") from None


def _bytes(datatype: Datatype, value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str):
        raise ValueError("is no string")
    try:
        return value.encode()
    except UnicodeEncodeError:
        raise ValueError("holds half a surrogate pair") from None


def _within(datatype: Datatype, value: float) -> float:
    if not datatype.low <= value <= datatype.high:
        raise ValueError(f"is not between {datatype.low} and {datatype.high}")
    return value


_CONVERT: Mapping[type, Callable[[Datatype, Any], Any]] = {
    bool: _bool,
    int: _int,
    float: _real,
    bytes: _bytes,
}
