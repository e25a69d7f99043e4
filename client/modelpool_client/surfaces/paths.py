"""PURE. The path of a request, however many slashes a client put between its words."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from urllib.parse import unquote

# What follows is a model's name. Two slashes within one are no slip of the pen: no name has them.
BEFORE_A_NAME = frozenset(
    {("models",), ("v1", "models"), ("v2", "models"), ("v2", "repository", "models")}
    | {("virtual-models",), ("presets",)}
)

MOST_WORDS = max(map(len, BEFORE_A_NAME))


def route_path(path: str, raw_path: bytes | None = None, verbs: Collection[str] = ()) -> str:
    """``path`` without doubled slashes and without one at its end, but for those in a model's name.

    Args:
        path: decoded.
        raw_path: the same as it was sent: a coded slash is part of a name.
        verbs: words that end a route below a model's name.
    """
    if "//" not in path and not path.endswith("/"):  # nearly always
        return path
    raw = path if raw_path is None else raw_path.decode("ascii", "replace")
    words = raw.strip("/").split("/")
    head = _before_a_name(words)
    name = "/".join(words[head:]).lstrip("/")
    if name.rpartition("/")[2] in verbs:
        before, _, verb = name.rpartition("/")
        name = f"{before.rstrip('/')}/{verb}" if before else verb
    tidy = "/".join(filter(None, [*words[:head], name]))
    return "/" + (tidy if raw_path is None else unquote(tidy))


def _before_a_name(words: Sequence[str]) -> int:
    """How many of the words are none of a model's name; all, where there is no name."""
    seen: tuple[str, ...] = ()
    for count, word in enumerate(words, 1):
        seen = (*seen, word) if word else seen
        if seen in BEFORE_A_NAME:
            return count
        if len(seen) > MOST_WORDS:
            break
    return len(words)
