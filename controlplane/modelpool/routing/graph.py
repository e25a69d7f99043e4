"""PURE. Which virtual models point at which: circles, depth, and names that nobody has."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TypeAlias

from .plan import MOST_DEEP
from .virtual_model import VirtualModel

# The virtual model that a name is one of, None where it is a model's or nobody's.
Find: TypeAlias = Callable[[str], VirtualModel | None]


def circle(new: VirtualModel, find: Find) -> tuple[str, ...]:
    """The names on the way from a virtual model back to itself, should it be written; empty where
    there is none. Patterns are followed by the names that they are asked by."""
    return _way(new, (new.name,), find, new.name)


def _way(at: VirtualModel, way: tuple[str, ...], find: Find, end: str) -> tuple[str, ...]:
    for name in at.targets:
        found = find(name)
        if found is None:
            continue
        if found.name == end:
            return (*way, name)
        if found.name not in way and len(way) <= MOST_DEEP:
            further = _way(found, (*way, found.name), find, end)
            if further:
                return further
    return ()


def way_to(names: Collection[str], name: str, find: Find) -> tuple[str, ...]:
    """The names on the way from one to another of ``names``; empty where it does not lead there.
    Virtual models stand in no circles among themselves."""
    if name in names:
        return (name,)
    found = find(name)
    for target in found.targets if found is not None else ():
        further = way_to(names, target, find)
        if further:
            return (name, *further)
    return ()


def depth(new: VirtualModel, find: Find) -> int:
    """How many virtual models stand one behind the other, the first one counted; there are no
    circles."""
    behind = (found for name in new.targets if (found := find(name)) is not None)
    return 1 + max((depth(each, find) for each in behind), default=0)


def missing(new: VirtualModel, find: Find, is_model: Callable[[str], bool]) -> tuple[str, ...]:
    """Those of its targets that are nobody's names."""
    return tuple(name for name in new.targets if not is_model(name) and find(name) is None)
