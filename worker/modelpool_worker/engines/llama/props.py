"""What llama.cpp's server says of the model that it has loaded: asked from within its process."""

from __future__ import annotations

import contextlib
import json
import sys
from typing import Any

from modelpool_worker.engines.local_client import LocalClient


def template_capabilities(server: LocalClient, timeout: float) -> dict[str, Any]:
    """What the chat template has a place for; empty where it cannot be known. ``timeout`` is in
    seconds."""
    with _told("its chat template"):
        found = json.loads(server.ask("GET", "/props", timeout)[1])["chat_template_caps"]
        return dict(found)
    return {}


def can_fill_in(server: LocalClient, timeout: float) -> bool:
    """Whether the model has the tokens for it; True where it cannot be known, for the server says
    so with every request."""
    with _told("fill in the middle"):
        # It looks for the tokens before it reads what it is asked.
        return server.ask("POST", "/infill", timeout, body=b"{}")[0] != 501
    return True


@contextlib.contextmanager
def _told(what: str) -> Any:
    """Whatever goes wrong with a question, the load goes on."""
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, IndexError) as e:
        print(f"llama.cpp does not tell of {what}: {e!r}", file=sys.stderr, flush=True)
