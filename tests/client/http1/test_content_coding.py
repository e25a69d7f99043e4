"""Compressed bodies: what is decoded, what is refused, and that no bomb goes off."""

from __future__ import annotations

import contextlib
import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelpool_client.errors import InvalidRequest, PayloadTooLarge, UnsupportedMediaType
from modelpool_client.http1.content_coding import decoder

LIMIT = 1 << 16


def raw_deflate(data: bytes) -> bytes:
    made = zlib.compressobj(wbits=-15)
    return made.compress(data) + made.flush()


def decoded(name: bytes, data: bytes, limit: int = LIMIT) -> bytes:
    decode = decoder(name)
    assert decode is not None
    return decode(data, limit)


@given(st.binary(max_size=5000), st.binary(max_size=50))
def test_what_was_compressed_comes_back(data: bytes, more: bytes) -> None:
    assert decoded(b"gzip", gzip.compress(data, mtime=0)) == data
    assert decoded(b"X-GZip", gzip.compress(data, mtime=0) + gzip.compress(more)) == data + more
    assert decoded(b"deflate", zlib.compress(data)) == data
    assert decoded(b"deflate", raw_deflate(data)) == data


@pytest.mark.parametrize("value", [None, b"", b"identity", b"identity, Identity"])
def test_a_plain_body_needs_no_decoder(value: bytes | None) -> None:
    assert decoder(value) is None


@pytest.mark.parametrize("value", [b"br", b"zstd", b"gzip, gzip", b"compress", b"\xff"])
def test_others_are_refused_with_what_is_understood(value: bytes) -> None:
    with pytest.raises(UnsupportedMediaType, match="gzip, deflate") as caught:
        decoder(value)
    assert caught.value.param == "content-encoding"
    assert caught.value.headers()["accept-encoding"] == "gzip, deflate, identity"


@pytest.mark.parametrize("name", [b"gzip", b"deflate"])
def test_what_is_broken_is_refused(name: bytes) -> None:
    whole = gzip.compress(b"hello", mtime=0) if name == b"gzip" else zlib.compress(b"hello")
    for wrong in (whole[:-3], whole[:3], b"{}", whole[:-5] + bytes([whole[-5] ^ 1]) + whole[-4:]):
        with pytest.raises(InvalidRequest):
            decoded(name, wrong)


@given(st.sampled_from([b"gzip", b"deflate"]), st.binary(max_size=200))
def test_any_bytes_are_decoded_or_refused(name: bytes, data: bytes) -> None:
    with contextlib.suppress(InvalidRequest):
        assert len(decoded(name, data)) <= LIMIT


def test_a_bomb_stops_at_the_limit() -> None:
    for bomb in (gzip.compress(bytes(LIMIT + 1), mtime=0), gzip.compress(bytes(LIMIT // 2)) * 3):
        with pytest.raises(PayloadTooLarge):
            decoded(b"gzip", bomb)
    assert decoded(b"gzip", gzip.compress(bytes(LIMIT), mtime=0)) == bytes(LIMIT)
