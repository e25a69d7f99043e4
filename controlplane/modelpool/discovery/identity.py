"""Whether two files have the same content, told without reading them.

A model has gigabytes, so a digest of all of it would take as long as loading it from a cold disk.
The identity is a SHA-256 over the size, the first ``HEAD_BYTES``, where every format keeps what
tells one model from another, the last block, and ``SAMPLES`` blocks spread evenly over the rest:
weights of two models differ nearly everywhere. What two stores call by different digests is never
taken for the same, see ``merge``.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

HEAD_BYTES = 65_536
BLOCK_BYTES = 4096
SAMPLES = 15
DIGEST_CHARACTERS = 32


class Identities:
    """Of the files of one scan; links to one file are read once."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], bytes] = {}

    def of(self, files: Iterable[Path]) -> str:
        """Of all files of a model together, whatever they are called.

        Raises:
            OSError: one cannot be read.
        """
        whole = hashlib.sha256()
        for part in sorted(map(self._of_file, files)):
            whole.update(part)
        return whole.hexdigest()[:DIGEST_CHARACTERS]

    def _of_file(self, path: Path) -> bytes:
        with path.open("rb", buffering=0) as file:
            stat = os.fstat(file.fileno())
            key = (stat.st_dev, stat.st_ino)
            if key not in self._known:
                self._known[key] = _sampled(file.fileno(), stat.st_size)
            return self._known[key]


def _sampled(descriptor: int, size: int) -> bytes:
    digest = hashlib.sha256(size.to_bytes(8, "big"))
    digest.update(os.pread(descriptor, HEAD_BYTES, 0))
    for offset in sample_offsets(size):
        digest.update(os.pread(descriptor, BLOCK_BYTES, offset))
    return digest.digest()


def sample_offsets(size: int) -> list[int]:
    """PURE. Where blocks are read of a file with so many bytes, beyond its first ones."""
    rest = size - HEAD_BYTES - BLOCK_BYTES
    if rest <= SAMPLES * BLOCK_BYTES:
        return list(range(HEAD_BYTES, size, BLOCK_BYTES))
    return [HEAD_BYTES + rest * i // SAMPLES for i in range(1, SAMPLES + 1)]
