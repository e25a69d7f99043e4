"""Files of a model on their way into the page cache while the room for it is still being made."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterable
from typing import TypeAlias

log = logging.getLogger(__name__)

# Finds paths; to find them may wait for the disk too.
Files: TypeAlias = Callable[[], Iterable[str]]


class ReadAhead:
    """One model at a time: two that are read at once from one disk are both late. It never makes
    anybody wait, a folder on a network that hangs included, and its trouble is nobody's: the load
    itself will say what is wrong with a file."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None

    def start(self, files: Files) -> bool:
        """Begin with these, unless others are still under way; whether it did."""
        if not hasattr(os, "posix_fadvise") or self.is_busy:
            return False
        self._thread = threading.Thread(target=lambda: _advise(files()), daemon=True)
        self._thread.start()
        return True

    @property
    def is_busy(self) -> bool:
        """The kernel has not been told of all of them."""
        return self._thread is not None and self._thread.is_alive()


def _advise(paths: Iterable[str]) -> None:
    for path in paths:
        try:
            # A pipe would wait for a writer.
            file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        except OSError as e:
            log.debug("%s is not read ahead: %s", path, e)
            continue
        try:
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_WILLNEED)
        except OSError as e:
            log.debug("%s is not read ahead: %s", path, e)
        finally:
            os.close(file)
