"""``python -m modelpool.discovery.scanner``: looks through one folder, for ``jobs.process``."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

from modelpool.discovery.findings import Finding
from modelpool.discovery.scan import Same, Scan, ScanRequest
from modelpool.jobs.child import Tell, main

BATCH = 64
TELL_SECONDS = 0.5


class _Messages:
    """What was found, a few at a time; and now and then that it goes on."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._found: list[Finding | Same] = []
        self._told_at = 0.0

    def add(self, found: Finding | Same) -> None:
        self._found.append(found)
        if len(self._found) == BATCH:
            self.flush()

    def progress(self, folders: int, entries: int, models: int) -> None:
        now = time.monotonic()
        if now - self._told_at >= TELL_SECONDS:
            self._told_at = now
            self._tell({"progress": {"folders": folders, "entries": entries, "models": models}})

    def flush(self) -> None:
        found = [f for f in self._found if isinstance(f, Finding)]
        same = [f for f in self._found if isinstance(f, Same)]
        self._found = []
        self._tell(
            {
                "found": [f.as_dict() for f in found],
                "same": [{"path": f.path, "about": f.about} for f in same],
            }
        )


def work(request: Mapping[str, Any], tell: Tell) -> Mapping[str, Any]:
    """Look through ``request["root"]``; what is found is told as it is found."""
    messages = _Messages(tell)
    scan = Scan(ScanRequest(**request), messages.progress)
    for found in scan.run():
        messages.add(found)
    messages.flush()
    device = os.stat(request["root"]).st_dev
    return {"source": scan.source, "device": device, **scan.counts}


if __name__ == "__main__":
    main(work)
