"""A file system that really is full soon, for a program that is run in it.

A tmpfs in a namespace of its own, which any user may have; where the kernel or a container forbids
that, what is left of a small /dev/shm. Where neither can be had the test fails, and is not skipped.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

SHARED = Path("/dev/shm")
# Containers have 64 MB. What others may need is not taken.
MOST_TO_FILL = 256_000_000

Run = Callable[[list[str]], str]


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[tuple[Path, Run]]:
    """A folder with room for ``size`` bytes, and what runs a command that sees it so."""
    unshared = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
    mount = f'mount -t tmpfs -o size={size} none "{folder}"'
    if subprocess.run([*unshared, mount], capture_output=True, check=False).returncode == 0:
        yield folder, lambda command: _said([*unshared, f'{mount} && exec "$@"', "sh", *command])
        return
    free = shutil.disk_usage(SHARED).free
    if free > MOST_TO_FILL:
        raise AssertionError("no small file system: unshare is forbidden, /dev/shm is large")
    with TemporaryDirectory(dir=SHARED) as place:
        with (Path(place) / "filler").open("wb") as filler:
            os.posix_fallocate(filler.fileno(), 0, max(1, free - size))
        yield Path(place), _said


def _said(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
