"""PURE. By which names a model answers: its own, and as Ollama spells one that has no tag."""

from __future__ import annotations

from collections.abc import Collection

LATEST = ":latest"


def other_spelling(name: str) -> str | None:
    """``m:latest`` for ``m`` and the reverse; None for a name with another tag."""
    base = name.removesuffix(LATEST)
    if not base or ":" in base.rpartition("/")[2]:
        return None
    return base if base != name else name + LATEST


def answers_to(names: Collection[str], name: str) -> bool:
    """Whether a model of these names is meant by ``name``."""
    return name in names or other_spelling(name) in names


def spellings(names: Collection[str]) -> list[str]:
    """Every name that ``answers_to`` takes."""
    return list(dict.fromkeys([*names, *(o for n in names if (o := other_spelling(n)))]))
