"""What the host could give: read from folders that look like a kernel's."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Mapping
from pathlib import Path

import psutil
import pytest
from modelpool.pool.memory import HostMemory, Pressure, read_pressure

MIB = 1 << 20
HOST = {
    "proc/meminfo": f"MemTotal: {8 * 1024**2} kB\nMemFree: 5 kB\nMemAvailable: {6 * 1024**2} kB\n",
    "proc/pressure/memory": "some avg10=1.50 avg60=0.00 avg300=0.00 total=7\nfull avg10=9.00\n",
}
GIB = 1 << 30


def fake_root(folder: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def group(name: str, limit: str, current: int, stat: str = "", **more: str) -> dict[str, str]:
    folder = f"sys/fs/cgroup/{name}".rstrip("/")
    files = {"memory.max": limit, "memory.current": str(current), "memory.stat": stat}
    named = {file.replace("_", ".", 1): text for file, text in more.items()}
    return {f"{folder}/{file}": f"{text}\n" for file, text in (files | named).items()}


IN_GROUP = {**HOST, "proc/self/cgroup": "0::/slice/pool\n"}
ROOTS = {
    "no group": (HOST, Pressure(6 * GIB, 8 * GIB, 1.5)),
    "a group without a limit": (
        {**IN_GROUP, **group("slice/pool", "max", 3)},
        Pressure(6 * GIB, 8 * GIB, 1.5),
    ),
    "a group with a limit": (
        {**IN_GROUP, **group("slice/pool", str(2 * GIB), GIB)},
        Pressure(GIB, 2 * GIB, 1.5),
    ),
    "pages of files are given back": (
        {
            **IN_GROUP,
            **group("slice/pool", str(2 * GIB), GIB, f"inactive_file {MIB}\nactive_file {2 * MIB}"),
        },
        Pressure(GIB + 3 * MIB, 2 * GIB, 1.5),
    ),
    "a group further up is the tighter one": (
        {
            **IN_GROUP,
            **group("slice/pool", str(4 * GIB), GIB),
            **group("slice", str(3 * GIB), 2 * GIB),
            **group("", "max", 5),
        },
        Pressure(GIB, 3 * GIB, 1.5),
    ),
    "it slows down before its limit": (
        {**IN_GROUP, **group("slice/pool", str(4 * GIB), GIB, memory_high=str(2 * GIB))},
        Pressure(GIB, 2 * GIB, 1.5),
    ),
    "a group over its limit gives nothing": (
        {**IN_GROUP, **group("slice/pool", str(GIB), 2 * GIB)},
        Pressure(0, GIB, 1.5),
    ),
    "the group waits more than the host": (
        {
            **IN_GROUP,
            **group("slice/pool", str(GIB), 0, memory_pressure="some avg10=42.00 avg60=1.00"),
        },
        Pressure(GIB, GIB, 42.0),
    ),
    "a container that sees only its own group": (
        {**HOST, "proc/self/cgroup": "0::/\n", **group("", str(GIB), 0)},
        Pressure(GIB, GIB, 1.5),
    ),
    "a container that sees the host's name of its group": (
        {**HOST, "proc/self/cgroup": "0::/docker/abc\n", **group("", str(GIB), 0)},
        Pressure(GIB, GIB, 1.5),
    ),
    "the older hierarchy": (
        {
            **HOST,
            "proc/self/cgroup": "5:cpu:/x\n4:memory,hugetlb:/pool\n0::/\n",
            "sys/fs/cgroup/memory/pool/memory.limit_in_bytes": f"{2 * GIB}",
            "sys/fs/cgroup/memory/pool/memory.usage_in_bytes": f"{GIB}",
            "sys/fs/cgroup/memory/pool/memory.stat": f"inactive_file 1\ntotal_active_file {MIB}",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
            "sys/fs/cgroup/memory/memory.usage_in_bytes": "5",
        },
        Pressure(GIB + MIB, 2 * GIB, 1.5),
    ),
    "a kernel that does not tell who waits": (
        {"proc/meminfo": HOST["proc/meminfo"]},
        Pressure(6 * GIB, 8 * GIB, None),
    ),
}


@pytest.mark.parametrize("name", ROOTS)
def test_a_reading(name: str, tmp_path: Path) -> None:
    files, expected = ROOTS[name]
    assert read_pressure(fake_root(tmp_path, files)) == expected


def test_garbage_is_as_good_as_nothing(tmp_path: Path) -> None:
    files = dict.fromkeys(ROOTS["the older hierarchy"][0], "\x00 :\n::\nsome\nsome avg10\n")
    pressure = read_pressure(fake_root(tmp_path, files))
    assert pressure.total == psutil.virtual_memory().total
    assert pressure.some_avg10 is None


def test_without_proc_psutil_is_asked(tmp_path: Path) -> None:
    pressure = read_pressure(tmp_path)
    assert pressure.total == psutil.virtual_memory().total
    assert 0 < pressure.available <= pressure.total


def test_this_machine_has_memory() -> None:
    pressure = read_pressure()
    assert 0 < pressure.available <= psutil.virtual_memory().total
    assert pressure.available <= pressure.total


def test_what_was_read_last_is_remembered(tmp_path: Path) -> None:
    fake_root(tmp_path, HOST)
    memory = HostMemory(lambda: read_pressure(tmp_path))
    assert memory.available() == 6 * GIB
    fake_root(tmp_path, {"proc/meminfo": "MemTotal: 8 kB\nMemAvailable: 4 kB\n"})
    assert memory.available() == 6 * GIB
    assert asyncio.run(memory.refresh()) == memory.now == Pressure(4096, 8192, 1.5)


@pytest.mark.parametrize("hidden", ["proc/meminfo", "memory.max"])
def test_out_of_descriptors_the_last_figure_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, hidden: str
) -> None:
    """A limit that could not be read is still one."""
    files, expected = ROOTS["a group with a limit"]
    fake_root(tmp_path, files)
    memory = HostMemory(lambda: read_pressure(tmp_path))
    real = Path.read_bytes

    def read_bytes(path: Path) -> bytes:
        if str(path).endswith(hidden):
            raise OSError(errno.EMFILE, "Too many open files")
        return real(path)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", read_bytes)
        for _ in range(3):
            assert asyncio.run(memory.refresh()) == expected
    assert caplog.text.count("cannot be read") == 1
    fake_root(tmp_path, {"proc/meminfo": "MemTotal: 8 kB\nMemAvailable: 4 kB\n"})
    assert asyncio.run(memory.refresh()).available == 4096
