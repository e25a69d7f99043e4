"""The thin client of a model pool: resolve endpoints, load and unload, chat.

    with PoolClient() as pool:
        print(pool.chat("qwen2.5-coder:7b", "Why is the sky blue?"))

``AsyncPoolClient`` is the same, awaited. What goes wrong is a ``ModelPoolError`` (see ``errors``).
"""

from __future__ import annotations

import importlib

TYPE_CHECKING = False  # typing's own takes 9 ms to come by, in every process of a pool
if TYPE_CHECKING:
    from modelpool_client._async import AsyncPoolClient
    from modelpool_client._connection import RetryPolicy
    from modelpool_client._sync import PoolClient
    from modelpool_client.errors import ModelPoolError, PoolUnreachable
    from modelpool_client.types import Endpoint, Event, ModelView, PoolHealth, Reply

__version__ = "0.1.0"

__all__ = [
    "AsyncPoolClient",
    "Endpoint",
    "Event",
    "ModelPoolError",
    "ModelView",
    "PoolClient",
    "PoolHealth",
    "PoolUnreachable",
    "Reply",
    "RetryPolicy",
    "__version__",
]

# Loaded when first asked for: a worker imports only ``wire`` and ``errors``, and should not pay
# the memory and the start-up time of an HTTP client for them.
_HOMES = {
    "AsyncPoolClient": "_async",
    "Endpoint": "types",
    "Event": "types",
    "ModelPoolError": "errors",
    "ModelView": "types",
    "PoolClient": "_sync",
    "PoolHealth": "types",
    "PoolUnreachable": "errors",
    "Reply": "types",
    "RetryPolicy": "_connection",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
