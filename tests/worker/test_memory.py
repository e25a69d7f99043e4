"""What a worker takes: measured on real processes, device figures from a tool that is made up."""

from __future__ import annotations

import asyncio
import mmap
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from modelpool_worker import memory
from modelpool_worker.memory import MemoryMeter, Share, share_of, shares_of
from modelpool_worker.proc import descendants

MIB = 1 << 20
DEMO = Path(__file__).parents[2] / "configs" / "models" / "pool-demo.gguf"
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")

HOLDS = """
import mmap, sys
kind, size = sys.argv[1], 64 << 20
if kind == "own":
    held = bytearray(b"x") * size
elif kind == "file":
    f = open(sys.argv[2], "rb")
    held = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)
    sum(held[i] for i in range(0, len(held), 4096))
print("there", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder() -> Iterator[Callable[..., int]]:
    """Starts processes that hold 64 MiB of a kind; gives their pids."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str) -> int:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        process = subprocess.Popen([sys.executable, "-c", HOLDS, *arguments], **pipes)  # type: ignore[call-overload]
        started.append(process)
        assert process.stdout.readline() == b"there\n"
        return int(process.pid)

    yield start
    for process in started:
        process.communicate()


def known(pid: int) -> Share:
    share = share_of(pid)
    assert share is not None
    return share


@on_linux
def test_memory_of_its_own_comes_back_only_with_its_end(holder: Callable[..., int]) -> None:
    empty, full = known(holder("nothing")), known(holder("own"))
    assert 60 * MIB < full.total - empty.total < 70 * MIB
    assert 60 * MIB < full.held - empty.held < 70 * MIB


@on_linux
def test_a_file_that_two_map_counts_once(holder: Callable[..., int], tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    weights.write_bytes(os.urandom(MIB) * 64)
    empty, pids = known(holder("nothing")), [holder("file", str(weights)) for _ in range(2)]
    both = sum(shares_of(pids), Share(0, 0))
    assert 55 * MIB < both.total - 2 * empty.total < 75 * MIB
    assert both.held - 2 * empty.held < 5 * MIB


def test_who_is_gone_takes_nothing() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert shares_of([process.pid]) == []
    assert descendants(process.pid) == []


@on_linux
def test_a_kernel_without_proportional_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "read", {"/proc/7/statm": "900 500 200 1 0 300 0\n"}.get)
    page = mmap.PAGESIZE
    assert share_of(7) == Share(500 * page, 300 * page)


def test_a_system_without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    """What ``ps`` says, as on macOS."""
    monkeypatch.setattr(memory, "read", lambda path: None)
    (mine,) = shares_of([os.getpid()])
    assert mine.total == mine.held > 10 * MIB


@on_linux
def test_what_was_swapped_out_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "x [rollup]\nRss: 9 kB\nPss: 10 kB\nPss_Anon: 4 kB\nPss_Shmem: 1 kB\nSwapPss: 100 kB\n"
    monkeypatch.setattr(memory, "read", {"/proc/7/smaps_rollup": text}.get)
    assert share_of(7) == Share(110 * 1024, 105 * 1024)


def test_the_peak_stays(holder: Callable[..., int]) -> None:
    pid, devices = holder("own"), iter([{"cuda:0": 5}, {}])
    answered = [0]
    meter = MemoryMeter(pid, lambda pids: next(devices), answered=lambda: answered[0])
    asyncio.run(meter.measure())
    assert meter.latest is not None
    first, answered[0] = meter.latest, 3
    assert first.total == first.peak > first.held > 60 * MIB
    assert first.devices == {"cuda:0": 5}
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    meter._engine_pid = ended.pid
    asyncio.run(meter.measure())
    assert meter.latest.total < first.peak == meter.latest.peak
    assert (first.requests, meter.latest.requests) == (0, 3)


@on_linux
def test_the_peak_of_what_sleeps_is_that_of_before(holder: Callable[..., int]) -> None:
    """Nothing that it takes asleep raises it; without any other figure that is the best there
    is."""
    meter = MemoryMeter(holder("own"), lambda pids: {})
    meter.counts_peak = False
    asyncio.run(meter.measure())
    assert meter.latest is not None
    first = meter.latest
    assert first.peak == first.total
    meter._engine_pid = os.getpid()
    asyncio.run(meter.measure())
    assert meter.latest.peak == first.peak


@on_linux
def test_resident_memory_is_known_before_anything_was_measured(
    holder: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And takes one look at who is below the engine, until one of them is gone."""
    looks = []
    look = memory.descendants
    monkeypatch.setattr(memory, "descendants", lambda pid: looks.append(pid) or look(pid))
    engine = holder("own")
    meter = MemoryMeter(engine, lambda pids: {})
    for _ in range(2):
        assert (meter.resident() or 0) > 60 * MIB
    assert looks == [engine]
    os.kill(engine, signal.SIGKILL)
    os.waitpid(engine, 0)
    assert (meter.resident() or 0) > 0
    assert looks == [engine] * 2


# -- a whole worker --------------------------------------------------------------------------------


@pytest.mark.e2e
@on_linux
def test_a_worker_says_what_it_takes(worker: Any, until: Any) -> None:
    one = worker({"memory_mb": 64}, beat_seconds=0.2).ready()
    facts = until(lambda: (one.facts["memory_held_bytes"] or 0) > 64 * MIB and one.facts)
    assert facts["memory_peak_bytes"] >= facts["memory_bytes"] > facts["memory_held_bytes"]
    assert facts["memory_bytes"] < facts["rss_bytes"] * 1.1
    assert facts["device_memory_bytes"] == {}


@pytest.mark.e2e
@on_linux
def test_the_measure_is_there_before_the_next_beat(worker: Any, until: Any) -> None:
    one = worker({"memory_mb": 64}, beat_seconds=600).ready()
    until(lambda: (one.facts["memory_held_bytes"] or 0) > 64 * MIB)


@pytest.mark.e2e
@on_linux
@pytest.mark.parametrize(
    ("options", "most"),
    [
        ({"parallel": 1, "context_length": 512}, 4),
        ({"parallel": 8, "context_length": 16384}, 1.6),
        ({"parallel": 8, "context_length": 16384, "cache_type_k": "f32"}, 1.5),
        ({"parallel": 8, "context_length": 16384, "draft_model": str(DEMO)}, 1.5),
    ],
)
def test_the_estimate_of_llama_cpp(
    options: dict[str, Any], most: float, worker: Any, until: Any
) -> None:
    """A small model is mostly the worker around it, of which others share what they can; with a
    large cache the estimate is close."""
    from modelpool.catalog.estimator import Estimator
    from modelpool.catalog.model import Model

    one = worker(
        options | {"threads": 1}, engine="llama.cpp", source=str(DEMO), beat_seconds=0.2
    ).ready()
    assert one.chat("hello", max_tokens=4).status_code == 200
    model, estimator = Model("demo", "llama.cpp", str(DEMO), options=options), Estimator()
    asyncio.run(estimator.describe(model))
    estimate = estimator(model)
    # Measured now and then: the peak of the request may come a little later than its end.
    until(lambda: (one.facts["memory_peak_bytes"] or 0) >= estimate / most)
    assert one.facts["memory_peak_bytes"] <= estimate
