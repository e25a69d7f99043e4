"""PURE. The source of models that come with their engine."""

from __future__ import annotations

from modelpool_client.errors import LoadFailed

BUILTIN = "builtin"


def check_source(engine: str, source: str, others: str = "") -> None:
    """Whether it is that word.

    Raises:
        LoadFailed: code ``bad_file``: it is not. ``others``: what it might be besides.
    """
    if source != BUILTIN:
        either = f"{BUILTIN}{f' or {others}' if others else ''}"
        text = f"{engine}: source must be {either}, not {source[:200]!r}"
        raise LoadFailed(text, code="bad_file", param="source", source="engine")
