"""The other side of ``process``: a program that does the work of one job and tells of it."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from modelpool_client.errors import ModelPoolError

Tell: TypeAlias = Callable[[Mapping[str, Any]], None]


def main(work: Callable[[Mapping[str, Any], Tell], Any]) -> None:
    """Read the request, do ``work(request, tell)``, write its result or its error, and exit."""
    request = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with_manager, daemon=True).start()
    try:
        _tell({"result": work(request, _tell)})
    except ModelPoolError as e:
        _tell({"status": e.status, **e.body()})
    # Threads of libraries, or a disk that hangs, are not waited for.
    sys.stdout.flush()
    os._exit(0)


def _tell(message: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def _end_with_manager() -> None:
    sys.stdin.buffer.read()
    os._exit(1)
