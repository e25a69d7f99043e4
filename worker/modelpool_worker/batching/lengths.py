"""PURE. Which texts of a batch are computed in one call: a call pads all of them to its longest."""

from __future__ import annotations

from collections.abc import Sequence

# Tokens of padding that take as long as one more call.
CALL_TOKENS = 128


def groups_of(lengths: Sequence[int]) -> list[list[int]]:
    """Indices of texts by their lengths in tokens: the longest first, a group for each call, none
    of which has more padding than a further call would take."""
    groups: list[list[int]] = []
    longest = padding = 0
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        padding += longest - lengths[i]
        if not groups or padding > CALL_TOKENS:
            groups.append([])
            longest, padding = lengths[i], 0
        groups[-1].append(i)
    return groups
