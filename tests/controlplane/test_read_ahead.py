"""Files of the next model are brought into the page cache while its room is still being made."""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
import threading
import time
from pathlib import Path

import pytest
from modelpool.launchers.read_ahead import ReadAhead

PAGES = 2048
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="the page cache is asked about")


def in_cache(path: Path) -> float:
    """The share of a file's pages."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as mapped:
        found = (ctypes.c_ubyte * PAGES)()
        held = ctypes.c_char.from_buffer(mapped)
        libc = ctypes.CDLL(None, use_errno=True)
        asked = libc.mincore(
            ctypes.c_void_p(ctypes.addressof(held)), ctypes.c_size_t(len(mapped)), found
        )
        del held
        assert asked == 0
        return sum(byte & 1 for byte in found) / PAGES


@on_linux
def test_a_file_comes_into_the_page_cache(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"x" * PAGES * mmap.PAGESIZE)
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if in_cache(path) > 0.5:
        pytest.skip("this file system keeps its files in memory")
    assert ReadAhead().start(lambda: [str(tmp_path / "gone"), str(path)])
    end = time.monotonic() + 60
    while in_cache(path) < 1:
        assert time.monotonic() < end
        time.sleep(0.01)


@on_linux
def test_nobody_waits_for_a_disk_that_hangs(tmp_path: Path) -> None:
    ahead, goes_on, found = ReadAhead(), threading.Event(), threading.Event()

    def hangs() -> list[str]:
        found.set()
        goes_on.wait(60)
        return [str(tmp_path)]

    assert ahead.start(hangs)
    assert found.wait(60)
    assert not ahead.start(list)
    goes_on.set()
    end = time.monotonic() + 60
    while ahead.is_busy:
        assert time.monotonic() < end
        time.sleep(0.01)
    assert ahead.start(list)


@on_linux
def test_what_cannot_be_opened_is_let_be(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    ahead = ReadAhead()
    assert ahead.start(lambda: [str(tmp_path / "pipe"), str(tmp_path), "/a\0b"[:2]])
    end = time.monotonic() + 60
    while ahead.is_busy:
        assert time.monotonic() < end
        time.sleep(0.01)
