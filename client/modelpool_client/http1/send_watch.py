"""Whether a client still takes what it is sent."""

from __future__ import annotations

import asyncio
import fcntl
import struct
import sys

_SIOCOUTQ = 0x5411  # linux/sockios.h: what of the sent the other side has not taken


class SendWatch:
    """Looks at one connection now and then."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._unsent: tuple[int, float] | None = None

    def is_stuck(self, now: float, seconds: float, *, is_pressed: bool) -> bool:
        """Its client has taken nothing of what it was sent for so long. ``is_pressed``: nothing is
        added to what it has to take, so that it can only get less."""
        if not self._transport.get_write_buffer_size():
            self._unsent = None
            return False
        unsent = self._transport.get_write_buffer_size() + self._in_the_kernel()
        if self._unsent is None or unsent < self._unsent[0] or not is_pressed:
            self._unsent = (unsent, now)
        return now - self._unsent[1] >= seconds

    def _in_the_kernel(self) -> int:
        # The buffer of ours alone moves in steps that a slow reader may need minutes for.
        sock = self._transport.get_extra_info("socket")
        if sys.platform != "linux" or sock is None:
            return 0
        try:
            answer = fcntl.ioctl(sock.fileno(), _SIOCOUTQ, b"\0" * 4)
        except OSError:
            return 0
        return int(struct.unpack("i", answer)[0])
