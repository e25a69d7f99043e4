"""The kit in this process, and clients of httpx."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from modelpool_worker.hosting.contract import Hosted
from support.served import served

Serve = Callable[..., httpx.Client]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Serve what is hosted until the test ends; a client of it."""
    with ExitStack() as stack:

        def begin(hosted: Hosted, **options: Any) -> httpx.Client:
            path = os.path.relpath(tmp_path / "engine.sock")  # no longer than one may be
            stack.enter_context(served(hosted, path, **options))
            transport = httpx.HTTPTransport(uds=path)
            client = httpx.Client(base_url="http://engine", transport=transport, timeout=60)
            return stack.enter_context(client)

        yield begin
