"""PURE. Which failures of one model another is to be asked after."""

from __future__ import annotations

from collections.abc import Collection

# Of the whole pool: the next model would be told the same.
OF_THE_POOL = frozenset({"pool_stopping", "pool_restarting"})
# Though their status is one of the client's mistakes, they are of this model alone.
OF_THE_MODEL = frozenset({"missing_capability", "model_not_found", "being_deleted"})


def moves_on(status: int, code: str, also_on: Collection[str] = ()) -> bool:
    """Whether another model may do better: this one could not be loaded, has no room, is shut out
    by its breaker, has failed or is overloaded. Never after what the client itself has got wrong,
    but for the codes that somebody names in ``also_on``."""
    if code in OF_THE_POOL:
        return False
    return status >= 500 or status == 429 or code in OF_THE_MODEL or code in also_on
