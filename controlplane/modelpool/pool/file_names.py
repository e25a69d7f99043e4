"""PURE: names of files that belong to a model."""

from __future__ import annotations

import hashlib


def file_name(model_id: str) -> str:
    """One that a reader recognises, and that no other id has."""
    safe = "".join(c if c.isalnum() or c in ".-_" else "_" for c in model_id)
    digest = hashlib.sha256(model_id.encode()).hexdigest()[:8]
    return f"{safe[:80]}-{digest}"
