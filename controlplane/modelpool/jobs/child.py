"""The other side of ``process``: a program that does the work of one job and tells of it."""

from __future__ import annotations

import json
import os
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from modelpool_client.errors import InternalError, ModelPoolError

Tell: TypeAlias = Callable[[Mapping[str, Any]], None]


def main(
    work: Callable[[Mapping[str, Any], Tell], Any],
    hear: Callable[[Mapping[str, Any]], object] = len,
) -> None:
    """Read the request, do ``work(request, tell)``, write its result or its error, and exit.

    ``hear`` is given what the manager says meanwhile, in a thread of its own.
    """
    request = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_listen, args=(hear,), daemon=True).start()
    try:
        _tell({"result": work(request, _tell)})
    except ModelPoolError as e:
        _tell({"status": e.status, **e.body()})
    except Exception as e:
        traceback.print_exc()
        error = InternalError(f"a bug in the pool: {type(e).__name__} where {_place(e)}")
        _tell({"status": error.status, **error.body()})
    # Threads of libraries, or a disk that hangs, are not waited for.
    sys.stdout.flush()
    os._exit(0)


def _place(error: Exception) -> str:
    """Where it was raised; not what it says, which may hold a key or a token."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{os.path.basename(frame.filename)}:{frame.lineno} does {frame.name}"


def _tell(message: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def _listen(hear: Callable[[Mapping[str, Any]], object] | None) -> None:
    """Until the manager is gone, and this with it."""
    for line in sys.stdin.buffer:
        if hear is not None:
            hear(json.loads(line))
    os._exit(1)
