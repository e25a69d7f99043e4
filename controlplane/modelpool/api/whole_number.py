"""Numbers in a query that must be whole, and are written so."""

from __future__ import annotations

import re

from pydantic import BeforeValidator


def _whole(value: object) -> object:
    if isinstance(value, str) and not re.fullmatch(r"[+-]?[0-9]+", value):
        raise ValueError("should be a whole number")
    return value


# pydantic takes 1.0 for one, which no schema of an integer in a query allows.
WHOLE = BeforeValidator(_whole)
