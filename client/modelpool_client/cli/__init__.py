"""``poolctl``: the pool from a terminal, over the same client that programs use."""

# ruff: noqa: E402

import gc
import sys

# What is imported stays: to look for garbage in it takes a quarter of the time of the imports.
was_enabled = gc.isenabled()
gc.disable()
# httpx has a command line of its own, which takes as long to import as the rest of it: what it says
# where rich and click are missing serves as well.
if "httpx" not in sys.modules:
    sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]

from modelpool_client.cli.app import app, main

if was_enabled:
    gc.enable()

__all__ = ["app", "main"]
