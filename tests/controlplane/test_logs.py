"""A followed log: from its last lines or a byte on, and nothing is left out."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from modelpool.api.logs import beginning, follow
from modelpool.pool.exit_record import LOG_TAIL_BYTES


@pytest.mark.parametrize(
    ("log", "lines", "offset", "first"),
    [
        ("a\nb\nc\n", 2, None, "b\nc\n"),
        ("a\nb\nc\n", 0, None, ""),
        ("a\nb\nc\n", 9, None, "a\nb\nc\n"),
        ("a\nb\nbegun", 2, None, "b\nbegun"),
        ("a\nb\nc\n", 9, 2, ""),
        ("a\nb\nc\n", 9, 6, ""),
        ("a\nb\nc\n", 9, 7, ""),
        ("", 9, None, ""),
    ],
)
def test_where_it_begins(
    tmp_path: Path, log: str, lines: int, offset: int | None, first: str
) -> None:
    path = tmp_path / "m.log"
    path.write_text(log)
    is_rotated = offset is not None and offset > len(log)
    at = 0 if is_rotated else offset if offset is not None else len(log) - len(first)
    assert beginning(path, lines, offset) == (first.encode(), at)


def test_of_a_long_one_only_the_end(tmp_path: Path) -> None:
    path = tmp_path / "m.log"
    path.write_text("x" * 99 + "\n" + "line\n" * LOG_TAIL_BYTES)
    first, at = beginning(path, 10_000, None)
    assert (len(first), at) == (LOG_TAIL_BYTES, path.stat().st_size - LOG_TAIL_BYTES)


def test_what_is_written_after_the_beginning_was_read_follows(tmp_path: Path) -> None:
    path = tmp_path / "m.log"
    over: list[bool] = []

    async def scene() -> bytes:
        assert beginning(path, 5, None) == (b"", 0), "there is none yet"
        path.write_text("one\ntwo\n")
        first, at = beginning(path, 1, None)
        with path.open("a") as log:
            log.write("three\n")
        got = b""
        async for chunk in follow(path, first, at + len(first), lambda: bool(over)):
            got += chunk
            if got.endswith(b"three\n"):
                with path.open("a") as log:
                    log.write("four\n")
            if got.endswith(b"four\n"):
                over.append(True)
        return got

    assert asyncio.run(scene()) == b"two\nthree\nfour\n"
