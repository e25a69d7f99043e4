"""How many examples property tests draw: a part in ``make test``, which everybody waits for, all of
them in ``make test-examples``."""

from __future__ import annotations

import os

ALL = "TEST_EXAMPLES"
PART = 4


def examples(count: int) -> int:
    """``count`` where the environment says ``TEST_EXAMPLES=all``, else a quarter of it."""
    return count if os.environ.get(ALL) == "all" else max(1, count // PART)
