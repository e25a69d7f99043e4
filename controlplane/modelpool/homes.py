"""``~`` and ``~user`` at the beginning of a path that somebody wrote."""

from __future__ import annotations

import os


def expanded(text: str) -> str:
    """The path with that home in place of it; any other path as it is.

    Raises:
        ValueError: there is no such home here; for the end of a sentence.
    """
    path = os.path.expanduser(text)
    user, slash, _ = path.partition("/")
    if slash and user.startswith("~"):
        raise ValueError(f"begins with the home of a user that there is not: {user[:100]}")
    return path
