"""Whose a kept answer is: the same key is the same owner, in whichever header it comes."""

from __future__ import annotations

import pytest
from modelpool_client.http1.message import Request
from modelpool_client.owners import NOBODY, is_owned_by, owner_of


def of(*headers: tuple[bytes, bytes]) -> str:
    return owner_of(Request("GET", b"/", b"", list(headers)))


KEY = of((b"authorization", b"Bearer sk-1"))


@pytest.mark.parametrize(
    "header",
    [
        (b"authorization", b"bearer  sk-1 "),
        (b"authorization", b"sk-1"),
        (b"x-api-key", b"sk-1"),
    ],
)
def test_the_same_key(header: tuple[bytes, bytes]) -> None:
    assert of(header) == KEY
    assert "sk-1" not in KEY


@pytest.mark.parametrize(
    "headers", [[], [(b"authorization", b"")], [(b"authorization", b"Bearer ")]]
)
def test_nobody(headers: list[tuple[bytes, bytes]]) -> None:
    assert of(*headers) == NOBODY


def test_another_key() -> None:
    other = of((b"authorization", b"Bearer sk-2"))
    assert other not in (KEY, NOBODY)
    assert is_owned_by({"owner": KEY}, KEY)
    assert is_owned_by({}, other)
    assert not is_owned_by({"owner": KEY}, other)
    assert not is_owned_by({"owner": KEY}, NOBODY)
