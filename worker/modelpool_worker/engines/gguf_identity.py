"""What tells a GGUF model from another one, without reading all of it."""

from __future__ import annotations

import glob
import hashlib
import os
import re

_PART = re.compile(r"(.*)-\d{5}-of-(\d{5})\.gguf", re.DOTALL)
# A file that was put in the place of another may have its size and time: images of containers are
# made with one time for all. Weights that differ do so nearly everywhere.
SAMPLES = 16
SAMPLE_BYTES = 1 << 12


def identity(path: str) -> str:
    """A hash over all parts of the model: sizes, times of change, and samples of what they hold.

    Raises:
        OSError: one cannot be read.
    """
    digest = hashlib.sha256()
    for part in _parts(path):
        stat = os.stat(part)
        digest.update(f"{stat.st_size} {stat.st_mtime_ns}\n".encode())
        with open(part, "rb", buffering=0) as f:
            for number in range(SAMPLES):
                f.seek(stat.st_size * number // SAMPLES)
                digest.update(f.read(SAMPLE_BYTES))
    return digest.hexdigest()


def _parts(path: str) -> list[str]:
    match = _PART.fullmatch(path)
    if match is None:
        return [path]
    return sorted(glob.glob(f"{glob.escape(match[1])}-?????-of-{match[2]}.gguf")) or [path]
