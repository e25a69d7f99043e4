"""PURE. Streams that have a JSON object on each line (NDJSON), as servers elsewhere send them."""

from __future__ import annotations

from collections.abc import Callable

# A line that grows beyond this is none.
LONGEST_LINE_BYTES = 16 << 20


class JsonLines:
    """Cuts a byte stream, in pieces of any size, into lines."""

    def __init__(self, failed: Callable[[str], Exception]) -> None:
        """``failed``: the error of whoever has done what a text says."""
        self._failed = failed
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Every line that ``data`` completes, but for empty ones.

        Raises:
            Exception: of ``failed``: one has no end.
        """
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > LONGEST_LINE_BYTES:
            limit = f"{LONGEST_LINE_BYTES >> 20} MB"
            raise self._failed(f"sent a line of more than {limit} in its stream")
        return [line for line in map(bytes.strip, lines) if line]

    def end(self) -> list[bytes]:
        """What has come since the last line's end: the last need not have one."""
        rest, self._rest = self._rest.strip(), b""
        return [rest] if rest else []
