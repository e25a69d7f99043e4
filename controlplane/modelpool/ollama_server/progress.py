"""PURE. How far a server's pull is, by the lines that it tells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

DONE = "success"


class PullProgress:
    """Its layers come side by side, and what is fetched of one may become less when it is tried
    again; all of them together are told. ``where`` is told, too, unless it is empty."""

    def __init__(self, where: str = "") -> None:
        self.is_done = False
        self._where = where
        self._layers: dict[str, tuple[int, int]] = {}  # fetched and all bytes, by digest

    def take(self, said: Mapping[str, Any]) -> dict[str, Any]:
        """One line: what ``Context.progress`` is told."""
        status = str(said.get("status") or "")
        self.is_done = self.is_done or status == DONE
        if digest := said.get("digest"):
            known = self._layers.get(digest, (0, 0))
            total = int(said.get("total") or known[1])
            self._layers[digest] = (min(int(said.get("completed") or 0), total), total)
        text = f"{status} {self._where}".strip()
        if not self._layers:
            return {"done": 0, "text": text}
        done, total = (sum(each[i] for each in self._layers.values()) for i in (0, 1))
        return {"done": done, "total": total, "unit": "bytes", "text": text}
