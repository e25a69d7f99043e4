"""Keys as they are pressed, while something is shown that changes by itself."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import time
from collections.abc import Callable, Iterator

MOST_BYTES = 64


@contextlib.contextmanager
def pressed_keys() -> Iterator[Callable[[float], str]]:
    """A function that waits for so many seconds, or until a key is pressed, which it gives; "" for
    none. Nothing that is typed is shown meanwhile; Ctrl-C interrupts as ever, and so does a
    terminal that goes away.

    Where keys cannot be had (no terminal, Windows) it only waits.
    """
    try:
        import termios
        import tty

        fd = sys.stdin.fileno()
        before = termios.tcgetattr(fd)
    except (ImportError, OSError, ValueError, termios.error):
        yield _wait
        return

    def wait_for_key(seconds: float) -> str:
        if not select.select([fd], [], [], seconds)[0]:
            return ""
        try:
            pressed = os.read(fd, MOST_BYTES)
        except OSError:
            pressed = b""
        if not pressed:
            raise KeyboardInterrupt
        return pressed.decode(errors="replace")

    tty.setcbreak(fd, termios.TCSANOW)
    try:
        yield wait_for_key
    finally:
        with contextlib.suppress(termios.error):
            termios.tcsetattr(fd, termios.TCSAFLUSH, before)


def _wait(seconds: float) -> str:
    time.sleep(seconds)
    return ""
