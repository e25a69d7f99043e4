"""An estimate of how far a load is, seen from outside: what the child has read of its file.

llama.cpp's server core reports nothing while it loads and holds the child's interpreter meanwhile.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable

from modelpool_client.wire import Progress

from .proc import bytes_read, descendants, mapped_bytes

SAMPLE_SECONDS = 0.5
# What an interpreter reads, about, before it comes to the model.
_OWN_BYTES = 4 << 20


class LoadEstimate:
    """Bytes that the process ``pid``, with those below it, has read or mapped, over the size of its
    source."""

    def __init__(self, pid: int, source: str) -> None:
        self._pid = pid
        self._parts = parts_of(source)
        self._total = source_bytes(self._parts)

    def sample(self, elapsed: float) -> Progress | None:
        """The estimate after ``elapsed`` seconds; None where nothing can be known."""
        read = bytes_read(self._pid)
        if read is None or not self._total:
            return None
        below = descendants(self._pid)
        read += sum(bytes_read(pid) or 0 for pid in below)
        mapped = max(mapped_bytes(pid, self._parts) for pid in (self._pid, *below))
        done = max(0, read - _OWN_BYTES, mapped)
        return estimate(min(done, self._total), self._total, elapsed)


def estimate(done: int, total: int, elapsed: float) -> Progress:
    """PURE. Progress of ``done`` of ``total`` bytes in ``elapsed`` seconds at an even rate."""
    left = (total - done) * elapsed / done if done else None
    return Progress("weights", done / total, done, total, left, estimated=True)


def parts_of(source: str) -> list[str]:
    """A model file as the kernel calls it, with all its parts if it is one of
    ``…-00001-of-00003.gguf``; empty where there is no such file."""
    # Before links are followed: what they lead to in a cache is named by its hash.
    pattern = re.sub(r"-\d{5}-of-(\d{5})", r"-*-of-\1", glob.escape(source))
    return sorted(os.path.realpath(p) for p in glob.glob(pattern) if os.path.isfile(p))


def source_bytes(parts: Iterable[str]) -> int:
    """Size of all these files together; 0 where one cannot be read."""
    try:
        return sum(os.path.getsize(p) for p in parts)
    except OSError:
        return 0
