"""PURE. Whether a conversation's cache is worth the time that a load and an unload last longer.

What it takes is certain, what it gives is not: a conversation may never come back. With T tokens in
B bytes, P tokens/s of prefill, W and R bytes/s of writing and reading, and seconds per file F:

    saved     if  (F + B/W) + (F + B/R)  <  RETURNS · T/P   and   F + B/W  fits into what is left
    restored  if              (F + B/R)  <  RETURNS · T/P   and   F + B/R  fits into what is left

P is what the engine measured on its own requests, W and R what was measured on the files before in
the same load or unload; the first one goes by ``DISK_RATE``.
"""

from __future__ import annotations

from dataclasses import dataclass

# Of conversations that are held when a model goes, how many are taken up again after it has come
# back. A guess on the careful side: for each that returns, three may have cost something in vain.
RETURNS = 0.25
# Of a file however small, to write or to read: calls and names. 1 to 4 ms were measured.
FILE_SECONDS = 0.005
# Bytes per second until there is a measurement: an SSD behind SATA. Files of 30 MB were written and
# checked with 0.5 to 0.8 GB/s, checked and read with 1.4, through the page cache of a busy machine.
DISK_RATE = 500e6
# Smaller ones tell how long a call takes, not how fast the disk is.
MEASURED_BYTES = 1 << 20


@dataclass
class Throughput:
    """Bytes per second of writing, or of reading, so far."""

    size: int = 0
    seconds: float = 0.0

    def add(self, size: int, seconds: float) -> None:
        """One file took so long."""
        if size >= MEASURED_BYTES:
            self.size += size
            self.seconds += seconds

    @property
    def rate(self) -> float:
        """Measured, or ``DISK_RATE``."""
        return self.size / self.seconds if self.seconds > 0 else DISK_RATE

    def seconds_for(self, size: int) -> float:
        """That a file of so many bytes will take."""
        return FILE_SECONDS + size / self.rate


def is_worth_saving(
    tokens: int, prefill_rate: float, write_seconds: float, read_seconds: float, left: float
) -> bool:
    """Whether to write it.

    Args:
        prefill_rate: tokens per second; not above 0 where nothing was measured.
        write_seconds, read_seconds: that its file will take.
        left: seconds that there are for it.
    """
    gain = _gain(tokens, prefill_rate)
    return write_seconds <= left and write_seconds + read_seconds < gain


def is_worth_restoring(tokens: int, prefill_rate: float, read_seconds: float, left: float) -> bool:
    """Whether to read it; arguments as above."""
    return read_seconds <= left and read_seconds < _gain(tokens, prefill_rate)


def _gain(tokens: int, prefill_rate: float) -> float:
    return RETURNS * tokens / prefill_rate if prefill_rate > 0 else 0.0
