"""On the path of a pool's processes: their wall clock is that of the machine plus what a file says.

A real step of the clock needs root and hits everybody. This one also moves the time of boot that
the kernel derives from the clock, as a real one does.
"""

import os
import sys
import time

_FILE = os.environ.get("CHAOS_CLOCK", "")
_real = time.time


def _offset() -> float:
    try:
        with open(_FILE) as f:
            return float(f.read() or 0)
    except (OSError, ValueError):  # being written
        return 0.0


def _stepped() -> float:
    return _real() + _offset()


if _FILE:
    time.time = _stepped
    if "modelpool" in sys.orig_argv:  # the manager, or its command: nobody else asks psutil
        import psutil

        _boot_time = psutil._psplatform.boot_time
        psutil._psplatform.boot_time = lambda: _boot_time() + _offset()
