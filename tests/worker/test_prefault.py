"""Room that is made ahead of a load, in real processes."""

from __future__ import annotations

import json
import mmap
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from modelpool_worker.engines.llama import prefault
from modelpool_worker.engines.llama.prefault import Note, bytes_ahead, note_of, pieces

MB = 1 << 20
# A load that takes 40 MB, once the room is there or after two seconds. Afterwards malloc is used as
# ever. A process that may have one more file only gets no use of an io_uring.
LOAD = """
import ctypes, json, os, resource, sys, time
from modelpool_worker.engines.llama.prefault import Note, prefaulted

path, room, delay, is_refused = sys.argv[1], *json.loads(sys.argv[2])
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, (ctypes.c_size_t,)
libc.free.argtypes = (ctypes.c_void_p,)
libc.sbrk.restype, libc.sbrk.argtypes = ctypes.c_void_p, (ctypes.c_ssize_t,)
libc.memset.argtypes = ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t

def written():
    with open("/proc/self/statm") as f:
        fields = f.read().split()
    return (int(fields[1]) - int(fields[2])) * resource.getpagesize()

def end_of_heap():
    return libc.sbrk(0)

def take(size):
    address = libc.malloc(size)
    libc.memset(address, 1, size)
    return address

before, heap = written(), end_of_heap()
usual = resource.getrlimit(resource.RLIMIT_NOFILE)
if is_refused:
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + 1, usual[1]))
with prefaulted(Note(path, "demo"), 2, delay):
    resource.setrlimit(resource.RLIMIT_NOFILE, usual)
    end = time.monotonic() + 2
    while written() - before < room and time.monotonic() < end:
        time.sleep(0.01)
    ahead, kept = written() - before, end_of_heap() - heap
    first = take(40 << 20)
    loaded = written() - before
after = written() - before
large = take(64 << 20)
libc.free(large)
print(json.dumps([kept, ahead, loaded, after, written() - before]))
"""
TAKEN = 40 * MB
# Of what the interpreter takes besides.
SLACK = 4 * MB


def load(path: Path, room: int, *, delay: float = 0.0, is_refused: bool = False) -> list[int]:
    """By how much the heap had grown, and what was there: ahead, with the load, after it, and after
    more was taken and given back."""
    path.write_text(json.dumps({"demo": room}))
    told = json.dumps([room, delay, is_refused])
    done = subprocess.run(
        [sys.executable, "-c", LOAD, path, told], capture_output=True, text=True, check=True
    )
    assert not done.stderr
    return list(json.loads(done.stdout))


def makes_pages() -> bool:
    """Whether this kernel does what it is asked, and lets us."""
    with open("/proc/sys/kernel/io_uring_disabled") as f:
        return f.read().strip() == "0"


on_linux = pytest.mark.skipif(sys.platform != "linux", reason="of the kernel of Linux")


def test_room_is_made_where_it_pays() -> None:
    cases = [
        (0, 4, 900 * MB, 0),
        (prefault.MIN_BYTES - 1, 4, 900 * MB, 0),
        (prefault.MIN_BYTES, 4, 900 * MB, prefault.MIN_BYTES),
        (900 * MB, 2, 900 * MB, 900 * MB),
        (900 * MB, 1, 900 * MB, 0),
        (900 * MB, 2, 899 * MB, 0),
        (900 * MB, 2, 0, 0),
    ]
    for taken, cores, available, expected in cases:
        assert bytes_ahead(taken, cores, available) == expected


@pytest.mark.parametrize("size", [0, 1, prefault.PIECE_BYTES, 40 * MB + 17, 9 << 30])
@pytest.mark.parametrize("offset", [0, 16, mmap.PAGESIZE - 1])
def test_pieces_lie_within_the_room(size: int, offset: int) -> None:
    address = (1 << 40) + offset
    parts = pieces(address, size)
    assert len(parts) <= prefault.MAX_PIECES
    end = address
    for at, each in parts:
        assert at % mmap.PAGESIZE == each % mmap.PAGESIZE == 0
        assert at >= end
        end = at + each
    assert end <= address + size
    covered = sum(each for _, each in parts)
    assert size - covered < (parts[0][1] if parts else prefault.PIECE_BYTES) + mmap.PAGESIZE


@on_linux
def test_the_load_finds_its_room_made_and_what_it_does_not_need_is_given_back(
    tmp_path: Path,
) -> None:
    _, ahead, loaded, after, later = load(tmp_path / "note", 96 * MB)
    if makes_pages():
        assert abs(ahead - 96 * MB) < SLACK
        assert loaded - ahead < SLACK  # it was written where the room is
    assert abs(after - TAKEN) < SLACK
    assert abs(later - TAKEN) < SLACK
    assert json.loads((tmp_path / "note").read_text())["demo"] == pytest.approx(TAKEN, abs=SLACK)


@on_linux
def test_room_of_gigabytes_is_no_more_than_addresses_until_it_is_written(tmp_path: Path) -> None:
    kept, ahead, *sizes = load(tmp_path / "note", 3 << 30, delay=60.0)
    is_made = makes_pages() and prefault._available_bytes() > 4 << 30
    assert not is_made or kept > (3 << 30) - SLACK
    assert ahead < SLACK
    assert all(abs(size - TAKEN) < SLACK for size in sizes)


@on_linux
@pytest.mark.parametrize("noted", [1 << 44, 1 << 62, (1 << 64) + (64 << 20), 1 << 80])
def test_a_note_of_more_than_there_is_makes_no_room(tmp_path: Path, noted: int) -> None:
    kept, ahead, *sizes = load(tmp_path / "note", noted)
    assert max(kept, ahead) < SLACK
    assert all(abs(size - TAKEN) < SLACK for size in sizes)


@on_linux
def test_without_proc_a_load_does_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefault, "read", lambda path: None)
    note = Note(str(tmp_path / "note"), "demo")
    with prefault.prefaulted(note, 2, 0.0):
        pass
    assert note.read() == 0


@on_linux
def test_where_the_kernel_refuses_a_load_does_without(tmp_path: Path) -> None:
    _, ahead, *sizes = load(tmp_path / "note", 96 * MB, is_refused=True)
    assert ahead < SLACK
    assert all(abs(size - TAKEN) < SLACK for size in sizes)


@on_linux
def test_a_load_that_fails_notes_nothing(tmp_path: Path) -> None:
    note = Note(str(tmp_path / "note"), "demo")
    with pytest.raises(RuntimeError), prefault.prefaulted(note, 2, 0.0):
        raise RuntimeError
    assert not (tmp_path / "note").exists()


class TestNotes:
    def test_each_source_and_what_the_load_depends_on(self, tmp_path: Path) -> None:
        source, other = tmp_path / "a.gguf", tmp_path / "b.gguf"
        for path in (source, other):
            path.write_bytes(b"GGUF")
        folder = tmp_path / "notes"

        def note(path: Path = source, **options: Any) -> Note:
            found = note_of(folder, str(path), {"options": options})
            assert found is not None
            return found

        note(parallel=2).write(50)
        assert note(parallel=2).read() == 50
        assert [note(parallel=3).read(), note(other, parallel=2).read()] == [0, 0]
        source.write_bytes(b"GGUF2")
        assert note(parallel=2).read() == 0

    def test_none_without_a_folder_or_a_source(self, tmp_path: Path) -> None:
        (tmp_path / "a.gguf").write_bytes(b"GGUF")
        assert note_of(None, str(tmp_path / "a.gguf"), {}) is None
        assert note_of(tmp_path, str(tmp_path / "b.gguf"), {}) is None

    def test_the_newest_are_kept(self, tmp_path: Path) -> None:
        path = str(tmp_path / "note")
        count = prefault.MAX_NOTES + 3
        for number in range(count):
            Note(path, str(number)).write(1 + number)
        known = [n for n in range(count) if Note(path, str(n)).read()]
        assert known == list(range(3, count))

    @pytest.mark.parametrize(
        "text",
        [
            *("", "{", "[]", 100_000 * "[", '{"demo": "much"}', '{"demo": null}'),
            *('{"demo": Infinity}', '{"demo": -9}', '{"demo": true}'),
        ],
    )
    def test_one_that_is_none_is_written_anew(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "note"
        path.write_text(text)
        note = Note(str(path), "demo")
        assert note.read() == 0
        note.write(7)
        assert note.read() == 7

    def test_what_cannot_be_written_is_left(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        note = Note(str(tmp_path / "file" / "note"), "demo")
        note.write(7)
        assert note.read() == 0
