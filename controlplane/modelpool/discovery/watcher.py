"""``python -m modelpool.discovery.watcher``: tells of changes in folders, for ``watching``.

In a process of its own: to begin to watch a folder walks through it, which may hang, and what
watches costs the manager nothing. watchdog waits in a read; watchfiles would wake twenty times a
second.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

from watchdog.events import (
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer

from modelpool.jobs.child import Tell, main

# Not those of opening and reading: the pool's own looks are no change.
EVENTS: list[type[FileSystemEvent]] = [
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
]
# A download writes thousands of times.
TELL_SECONDS = 1.0
FOREVER_SECONDS = 86_400.0


class _Changes(FileSystemEventHandler):
    """Tells that a root has changed, once a second at most."""

    def __init__(self, root: str, tell: Tell) -> None:
        self._root = root
        self._tell = tell
        self._told_at = float("-inf")

    def on_any_event(self, event: FileSystemEvent) -> None:
        """One is as good as many."""
        now = time.monotonic()
        if now - self._told_at >= TELL_SECONDS:
            self._told_at = now
            self._tell({"changed": self._root})


def _watch(root: str, tell: Tell) -> None:
    observer = Observer()
    try:
        observer.schedule(_Changes(root, tell), root, recursive=True, event_filter=EVENTS)
        observer.start()
    except OSError as e:
        tell({"unwatched": root, "reason": e.strerror or str(e)})
        return
    tell({"watched": root})


def work(request: Mapping[str, Any], tell: Tell) -> None:
    """Watch ``request["roots"]``, each by a thread of its own: one may hang."""
    lock = threading.Lock()

    def tell_alone(message: Mapping[str, Any]) -> None:
        with lock:
            tell(message)

    for root in request["roots"]:
        threading.Thread(target=_watch, args=(root, tell_alone), daemon=True).start()
    while True:
        time.sleep(FOREVER_SECONDS)


if __name__ == "__main__":
    main(work)
