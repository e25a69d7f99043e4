"""PURE. Texts that end an answer, found across the borders of tokens."""

from __future__ import annotations

from collections.abc import Sequence


class StopFinder:
    """Takes a text piece by piece, and gives it back up to the first stop text.

    What might be the begin of one is held back until more is known. The one that ends first counts,
    of several that end at the same place the longest: so it does not matter how a text was cut.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = [stop for stop in stops if stop]
        self._held = ""
        self.found: str | None = None

    def feed(self, text: str) -> str:
        """What of it and of what was held back is certain; nothing once one was found."""
        if self.found is not None:
            return ""
        if not self._stops:
            return text
        self._held += text
        begins = [(self._held.find(stop), stop) for stop in self._stops]
        ends = [(at + len(stop), at, stop) for at, stop in begins if at >= 0]
        if ends:
            _, at, self.found = min(ends)
            told, self._held = self._held[:at], ""
            return told
        keep = max(_overlap(self._held, stop) for stop in self._stops)
        at = len(self._held) - keep
        told, self._held = self._held[:at], self._held[at:]
        return told

    def end(self) -> str:
        """What was held back: there is no more."""
        told, self._held = self._held, ""
        return told


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of the text may begin the stop text."""
    for size in range(min(len(stop) - 1, len(text)), 0, -1):
        if text.endswith(stop[:size]):
            return size
    return 0
