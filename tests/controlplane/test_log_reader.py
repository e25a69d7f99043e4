"""A followed log: from its last lines or a byte on, and nothing is left out."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelpool.log_reader import TAIL_BYTES, beginning, follow, tail
from modelpool_client.log_file import rotate
from modelpool_client.wire import LogLimits


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
    path.write_text("x" * 99 + "\n" + "line\n" * TAIL_BYTES)
    first, at = beginning(path, 10_000, None)
    assert (len(first), at) == (TAIL_BYTES, path.stat().st_size - TAIL_BYTES)


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


ALL_FILES = LogLimits(1, 100)


def whole(path: Path) -> bytes:
    """All its files, the oldest first."""
    numbers = sorted(int(f.suffix[1:]) for f in path.parent.glob(f"{path.name}.*"))
    files = [path.with_name(f"{path.name}.{n}") for n in reversed(numbers)]
    return b"".join(f.read_bytes() for f in [*files, path])


def rest(path: Path, position: int, size: int) -> bytes:
    """The ``size`` bytes that a follower gets from ``position`` on."""

    async def scene() -> bytes:
        got = bytearray()
        async for chunk in follow(path, b"", position, lambda: len(got) >= size):
            got.extend(chunk)
        return bytes(got)

    return asyncio.run(scene())


@given(st.lists(st.one_of(st.none(), st.binary(min_size=1, max_size=40)), max_size=30), st.data())
def test_a_rotated_log_is_read_as_one(written: list[bytes | None], data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.log"
        path.touch()
        for piece in written:
            if piece is None:
                rotate(str(path), ALL_FILES)
            else:
                with path.open("ab") as log:
                    log.write(piece)
        log_bytes = whole(path)
        lines = data.draw(st.integers(0, 40))
        last = log_bytes.splitlines(keepends=True)[-lines:] if lines else []
        first, at = beginning(path, lines, None)
        assert (first, at + len(first)) == (b"".join(last), len(log_bytes))
        offset = data.draw(st.integers(0, len(log_bytes)))
        assert beginning(path, 5, offset) == (b"", offset)
        assert rest(path, offset, len(log_bytes) - offset) == log_bytes[offset:]
        said = tuple(log_bytes.decode(errors="replace").splitlines())
        assert tail(path, lines) == (said[-lines:] if lines else ())


def test_what_was_rotated_away_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "m.log"
    for text in ("one\n", "two\n", "three\n"):
        with path.open("a") as log:
            log.write(text)
        rotate(str(path), LogLimits(1, 2))
    kept = whole(path)
    assert b"one" not in kept
    assert b"three" in kept
    first, at = beginning(path, 0, 2)
    assert (first, at > 2) == (b"", True), "the next byte that there is"
    assert rest(path, at, len(kept)) == kept


def test_a_follower_goes_on_over_rotations(tmp_path: Path) -> None:
    path = tmp_path / "m.log"
    path.touch()

    async def scene() -> bytes:
        got, number = bytearray(), 0
        async for chunk in follow(path, b"", 0, lambda: b"line 20\n" in got):
            got.extend(chunk)
            number += 1
            with path.open("a") as log:
                log.write(f"line {number}\n")
            if number % 3 == 0:
                rotate(str(path), ALL_FILES)
                rotate(str(path), ALL_FILES)
        return bytes(got)

    got = asyncio.run(scene()).decode().splitlines()
    assert [line for line in got if line.startswith("line")] == [f"line {n}" for n in range(1, 21)]


def test_what_a_late_process_adds_to_a_rotated_file_moves_no_place(tmp_path: Path) -> None:
    path = tmp_path / "m.log"
    path.write_text("one\n")
    rotate(str(path), ALL_FILES)
    with (tmp_path / "m.log.1").open("a") as log:
        log.write("late\n")
    with path.open("a") as log:
        log.write("two\n")
    assert rest(path, 4, 33).endswith(b"\ntwo\n")
    assert beginning(path, 1, None) == (b"two\n", 4 + len("-- this log continues at byte 4\n"))
